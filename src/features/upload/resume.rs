//! Headers of resumable uploads (draft-ietf-httpbis-resumable-upload, interop version 8).
//!
//! A PUT with `Upload-Complete` creates a resumable upload. Its URL is the path of the file with
//! `?resume=` and a token, so the password of the path protects the upload as well. HEAD reports
//! the offset, PATCH resumes, DELETE discards.
//!
//! Must not know how content reaches the disk.

use crate::http::field_lines::trim_ows;
use crate::http::refusal::Refusal;
use crate::http::{Request, Status};

/// Media type of an appended part.
pub(super) const PARTIAL_TYPE: &str = "application/partial-upload";

/// Version of the IETF draft that client and server must share before an interim response is sent.
pub(super) const INTEROP_VERSION: &[u8] = b"8";

pub(super) const AMBIGUOUS: Refusal =
    Refusal::from_static(Status::BAD_REQUEST, "a header about the upload is repeated");

/// Resumption headers of a request. Malformed values count as missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResumeHeaders {
    /// True if this request completes the upload; `None` for an ordinary request.
    pub(crate) complete: Option<bool>,
    /// Length of the complete file, in bytes.
    length: Option<u64>,
    pub(super) offset: Option<u64>,
    /// True if the client understands the interim response.
    pub(super) takes_interim: bool,
    /// True if one of the headers is repeated, so the offset is in doubt.
    pub(super) is_ambiguous: bool,
}

impl ResumeHeaders {
    /// Parses the headers of a request.
    pub(crate) fn of(request: &Request<'_>) -> ResumeHeaders {
        let mut is_ambiguous = false;
        let mut bare = |name| {
            let value = request.headers().only(name).inspect_err(|_| is_ambiguous = true).ok()??;
            Some(trim_ows(value.split(|b| *b == b';').next().unwrap_or(value)))
        };
        let complete = match bare("upload-complete") {
            Some(b"?1") => Some(true),
            Some(b"?0") => Some(false),
            _ => None,
        };
        let length = bare("upload-length").and_then(integer);
        let offset = bare("upload-offset").and_then(integer);
        let takes_interim = bare("upload-draft-interop-version") == Some(INTEROP_VERSION);
        ResumeHeaders { complete, length, offset, takes_interim, is_ambiguous }
    }

    /// Length of the complete file, if known, when `bytes` arrive at `offset`.
    pub(crate) fn length_with(&self, offset: u64, bytes: Option<u64>) -> Option<u64> {
        let by_content =
            bytes.filter(|_| self.complete == Some(true)).and_then(|bytes| offset.checked_add(bytes));
        self.complete.and(by_content.or(self.length))
    }

    /// Checks that the headers of a first request are consistent.
    pub(crate) fn check(&self, bytes: Option<u64>) -> Result<(), Refusal> {
        if self.is_ambiguous {
            return Err(AMBIGUOUS);
        }
        let Some(complete) = self.complete else { return Ok(()) };
        let is_consistent = match (self.length, bytes) {
            (Some(length), Some(bytes)) if complete => length == bytes,
            (Some(length), Some(bytes)) => bytes <= length,
            _ => true,
        };
        match is_consistent {
            true => Ok(()),
            false => {
                Err(Refusal::new(Status::BAD_REQUEST, "the lengths of the upload contradict each other"))
            }
        }
    }
}

/// Parses a non-negative integer (RFC 9651 section 3.3.1).
fn integer(digits: &[u8]) -> Option<u64> {
    if !(1..=15).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{FieldSlots, parse};

    fn resume_headers(headers: &str) -> ResumeHeaders {
        let head = format!("PUT /a HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let mut slots = FieldSlots::new();
        ResumeHeaders::of(&parse(head.as_bytes(), &mut slots, &crate::config::Limits::default()).unwrap())
    }

    #[test]
    fn fields_that_say_nothing_are_as_if_they_were_not_there() {
        let cases: &[(&str, Option<bool>, Option<u64>)] = &[
            ("", None, None),
            ("Upload-Complete: ?1\r\nUpload-Length: 10\r\n", Some(true), Some(10)),
            ("Upload-Complete: ?0;a=b\r\n", Some(false), None),
            ("Upload-Complete: 1\r\nUpload-Length: 5\r\n", None, Some(5)),
            ("Upload-Length: -5\r\n", None, None),
            ("Upload-Length: 1234567890123456\r\n", None, None),
            ("Upload-Length: 5.0\r\n", None, None),
        ];
        for (headers, complete, length) in cases {
            let resume_headers = resume_headers(headers);
            assert_eq!((resume_headers.complete, resume_headers.length), (*complete, *length), "{headers:?}");
        }
    }

    #[test]
    fn lengths_are_known_from_either_end_and_must_agree() {
        let whole = resume_headers("Upload-Complete: ?1\r\nUpload-Length: 10\r\n");
        assert_eq!(whole.length_with(0, Some(10)), Some(10));
        assert!(whole.check(Some(10)).is_ok() && whole.check(None).is_ok());
        assert!(whole.check(Some(9)).is_err());
        let begun = resume_headers("Upload-Complete: ?0\r\nUpload-Length: 10\r\n");
        assert_eq!(begun.length_with(0, Some(4)), Some(10));
        assert!(begun.check(Some(4)).is_ok());
        assert!(begun.check(Some(11)).is_err());
        assert_eq!(resume_headers("Upload-Complete: ?0\r\n").length_with(0, Some(4)), None);
        assert_eq!(resume_headers("Upload-Complete: ?1\r\n").length_with(6, Some(4)), Some(10));
        assert_eq!(
            resume_headers("Upload-Length: 3\r\n").length_with(0, Some(4)),
            None,
            "an ordinary request"
        );
    }
}
