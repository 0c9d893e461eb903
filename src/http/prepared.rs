//! Whole 200 responses that are made once and sent many times: those of cached files.
//!
//! Head and content are one run of bytes, ready to be sent. This file must not know files. It must
//! not know the connection, which decides if the bytes can be sent as they are.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::KIB;
use crate::http::headers::Headers;
use crate::http::response_head::{push_content_length, push_server_and_date};

/// A 200 response made in advance: a cached file, shared by all requests for it.
///
/// The bytes are those for a client of HTTP/1.1 whose connection is kept, so nothing has to be put
/// together. Only the date changes. A copy with the current date is made at most once per second
/// and is shared, too.
pub struct Prepared {
    /// Status line, headers, `Content-Length`, `Server` and `Date`, the empty line, content.
    bytes: Vec<u8>,
    /// Start of `Content-Length`, which follows the other headers.
    length_at: usize,
    /// Start of the date.
    date_at: usize,
    body_at: usize,
    /// Those of its headers that come from a rule of the operator.
    pub(super) ruled: Arc<Headers>,
    /// Copy with the date that was requested last.
    dated: Mutex<Option<Arc<Prepared>>>,
}

impl Prepared {
    /// A 200 with these headers and this content.
    #[must_use]
    pub fn new(headers: &Headers, body: &[u8]) -> Self {
        const NO_DATE: &[u8; 29] = b"Www, dd Mmm yyyy hh:mm:ss GMT";
        let mut bytes = Vec::with_capacity(body.len() + headers.as_bytes().len() + 128);
        bytes.extend_from_slice(OK_LINE);
        bytes.extend_from_slice(headers.as_bytes());
        let length_at = bytes.len();
        push_content_length(&mut bytes, body.len() as u64);
        push_server_and_date(&mut bytes, headers, NO_DATE);
        let date_at = bytes.len() - NO_DATE.len() - 2;
        bytes.extend_from_slice(b"\r\n");
        let body_at = bytes.len();
        bytes.extend_from_slice(body);
        let ruled = Arc::default();
        Prepared { bytes, length_at, date_at, body_at, ruled, dated: Mutex::default() }
    }

    /// Records which headers come from a rule of the operator.
    pub(crate) fn ruled(self, ruled: &Arc<Headers>) -> Self {
        Prepared { ruled: Arc::clone(ruled), ..self }
    }

    /// Headers that were passed to [`Prepared::new`], as header lines.
    #[must_use]
    pub fn headers(&self) -> &[u8] {
        &self.bytes[OK_LINE.len()..self.length_at]
    }

    /// Head without `Connection` and the empty line. Its date is a placeholder.
    pub(crate) fn head(&self) -> &[u8] {
        &self.bytes[..self.body_at - 2]
    }

    /// Content of the response.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }

    /// Position of the content in the whole response.
    pub(crate) fn body_at(&self) -> usize {
        self.body_at
    }

    /// Whole response. The date is valid only in copies made by [`Prepared::dated`].
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Memory that the response takes, in bytes. Includes the dated copy if there may be one.
    pub(crate) fn cost(&self) -> usize {
        let copies = if self.bytes.len() > PREPARED_COPIED_BYTES_MAX { 2 } else { 1 };
        copies * self.bytes.len()
    }

    /// Position of the date in the whole response.
    pub(crate) fn date_at(&self) -> Range<usize> {
        self.date_at..self.date_at + 29
    }

    /// Appends the whole response with this date.
    pub(crate) fn push_dated(&self, out: &mut Vec<u8>, date: &[u8; 29]) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out[start..][self.date_at()].copy_from_slice(date);
    }

    /// Whole response with this date.
    pub(crate) fn dated(&self, date: &[u8; 29]) -> Arc<Prepared> {
        let mut dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = &mut *dated {
            if whole.bytes[self.date_at()] == *date {
                return Arc::clone(whole);
            }
            if let Some(unshared) = Arc::get_mut(whole) {
                unshared.set_date(date);
                return Arc::clone(whole);
            }
        }
        // There was no copy yet, or the copy of the previous second is still being sent.
        let Prepared { length_at, date_at, body_at, .. } = *self;
        let (bytes, ruled) = (self.bytes.clone(), Arc::clone(&self.ruled));
        let mut copy = Prepared { bytes, length_at, date_at, body_at, ruled, dated: Mutex::default() };
        copy.set_date(date);
        Arc::clone(dated.insert(Arc::new(copy)))
    }

    fn set_date(&mut self, date: &[u8; 29]) {
        let date_at = self.date_at();
        self.bytes[date_at].copy_from_slice(date);
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({} and {} bytes)", self.body_at, self.body().len())
    }
}

/// Status line of all prepared responses.
const OK_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// Largest prepared response that is copied into the send queue, in bytes. Several responses to the
/// requests of one read then form one piece. Larger responses are sent from their own memory.
pub(crate) const PREPARED_COPIED_BYTES_MAX: usize = 2 * KIB;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dated_copy_is_shared_for_its_second_and_then_used_again() {
        let (first, second) = (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:38 GMT");
        let whole = |date: &[u8; 29]| {
            let date = std::str::from_utf8(date).unwrap();
            let own = "A: b\r\nContent-Length: 7\r\nServer: whirligig";
            format!("HTTP/1.1 200 OK\r\n{own}\r\nDate: {date}\r\n\r\ncontent").into_bytes()
        };
        let mut headers = Headers::new();
        assert_eq!(headers.set("A", b"b"), None);
        let prepared = Prepared::new(&headers, b"content");
        assert_eq!((prepared.headers(), prepared.body()), (&b"A: b\r\n"[..], &b"content"[..]));
        let held = prepared.dated(first);
        assert_eq!(held.bytes(), whole(first));
        assert!(Arc::ptr_eq(&held, &prepared.dated(first)));
        // A client that still receives the old copy gets all of it.
        let next = prepared.dated(second);
        assert_eq!((held.bytes(), next.bytes()), (&whole(first)[..], &whole(second)[..]));
        let place = Arc::as_ptr(&next);
        drop(next);
        assert!(
            std::ptr::eq(place, Arc::as_ptr(&prepared.dated(first))),
            "a copy nobody holds was not used again"
        );
        assert_eq!(prepared.dated(first).bytes(), whole(first));
        let mut out = b"before".to_vec();
        prepared.push_dated(&mut out, second);
        assert_eq!(out, [b"before", &whole(second)[..]].concat());
    }
}
