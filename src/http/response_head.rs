//! The lines of a response head that the connection writes (RFC 9112 section 4).
//!
//! These are the status line, `Content-Length`, `Server` and `Date`, appended to a buffer as bytes.
//! This file must not know which response they belong to.

use std::ops::Range;

use crate::http::headers::Headers;
use crate::http::status::Status;
use crate::text;

/// Appends a status line. The version is always `HTTP/1.1`, whatever version the client sent (RFC
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

/// Appends `Content-Length`.
pub(crate) fn push_content_length(out: &mut Vec<u8>, bytes: u64) {
    out.extend_from_slice(b"Content-Length: ");
    text::push_decimal(out, bytes);
    out.extend_from_slice(b"\r\n");
}

/// Last lines of each head, before `Connection` and the empty line. The date is a placeholder.
const SERVER_AND_DATE: &[u8; 56] = b"Server: whirligig\r\nDate: Www, dd Mmm yyyy hh:mm:ss GMT\r\n";

/// Bytes of [`SERVER_AND_DATE`] before `Date`. They are left out if the headers contain a `Server`.
const SERVER_BYTES: usize = 19;

/// Position of the date in [`SERVER_AND_DATE`].
const DATE_AT: Range<usize> = 25..54;

/// Appends `Server`, unless `headers` contain one, and `Date`.
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
