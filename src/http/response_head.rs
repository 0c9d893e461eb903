//! The lines of a response head that the connection writes itself (RFC 9112 section 4).
//!
//! Status line, `Content-Length`, `Server` and `Date`, as bytes at the end of a buffer. This file
//! must not know which responses they belong to.

use std::ops::Range;

use crate::http::headers::Headers;
use crate::http::status::Status;
use crate::text;

/// Writes a status line. Always `HTTP/1.1`: that is what we speak, whatever the client does (RFC
/// 9110 section 2.5).
pub(crate) fn push_status_line(out: &mut Vec<u8>, status: Status) {
    if status == Status::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    text::push_decimal(out, u64::from(status.code()));
    out.push(b' ');
    out.extend_from_slice(status.reason().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes `Content-Length`.
pub(crate) fn push_content_length(out: &mut Vec<u8>, bytes: u64) {
    out.extend_from_slice(b"Content-Length: ");
    text::push_decimal(out, bytes);
    out.extend_from_slice(b"\r\n");
}

/// What every head ends with but for `Connection` and the empty line; the date is filled in.
const SERVER_AND_DATE: &[u8; 56] = b"Server: whirligig\r\nDate: Www, dd Mmm yyyy hh:mm:ss GMT\r\n";

/// The bytes of [`SERVER_AND_DATE`] before `Date`: left out where the headers have a `Server` of
/// their own.
const SERVER_BYTES: usize = 19;

/// Where the date stands in [`SERVER_AND_DATE`].
const DATE_AT: Range<usize> = 25..54;

/// Writes `Server`, unless `headers` have one, and `Date`.
pub(crate) fn push_server_and_date(out: &mut Vec<u8>, headers: &Headers, date: &[u8; 29]) {
    let mut tail = *SERVER_AND_DATE;
    tail[DATE_AT].copy_from_slice(date);
    let from = if headers.has(b"server") { SERVER_BYTES } else { 0 };
    out.extend_from_slice(&tail[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 4_294_967_296, u64::MAX] {
            let mut out = Vec::new();
            text::push_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
