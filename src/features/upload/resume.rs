//! Uploads that broke off and go on: Resumable Uploads for HTTP
//! (draft-ietf-httpbis-resumable-upload, interop version 8).
//!
//! `Upload-Complete` on a PUT asks for an upload that can be gone on with. It gets a place of its
//! own, the path of the file with `?resume=` and a token, so whatever guards the path guards that,
//! too. HEAD there tells how far it has come, PATCH goes on, DELETE gives it up. Must not know how
//! content reaches the disk.

use std::sync::Arc;

use crate::features::resume_token::is_token;
use crate::features::upload::partial::{Halt, Partial};
use crate::features::upload::refusal::Refusal;
use crate::features::upload::sink::Sink;
use crate::features::upload::{Ask, in_job};
use crate::handler::{Answer, Context};
use crate::http::fields::trim_ows;
use crate::http::request::Content;
use crate::http::{Body, Request, Response, Status};
use crate::jobs::Then;

/// The media type of a part that is appended.
pub(crate) const PARTIAL_TYPE: &str = "application/partial-upload";

/// The version of the draft that both sides must mean before an interim response is sent.
const INTEROP_VERSION: &[u8] = b"8";

const AMBIGUOUS: Refusal = Refusal::new(Status::BAD_REQUEST, "a header about the upload came twice");

/// The value of an `Upload-Limit` field.
pub(crate) fn limits(ask: &Ask) -> String {
    let partials = &ask.desk.partials;
    let bytes_max = ask.limits.upload_bytes_max.min(match partials.bytes_max() {
        // Then none can be resumed, and the others are as large as they may be.
        0 => u64::MAX,
        bytes => bytes,
    });
    match partials.keep() {
        Some(keep) => format!("max-size={bytes_max}, max-age={}", keep.as_secs()),
        None => format!("max-size={bytes_max}"),
    }
}

/// What a client says of its upload. Values that are none are as if they were not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Whether this request brings the end of it; `None` for an ordinary request.
    pub(crate) complete: Option<bool>,
    /// The length of the whole, in bytes.
    length: Option<u64>,
    offset: Option<u64>,
    /// Whether an interim response would be understood.
    takes_interim: bool,
    /// One of the fields came on several lines, so that it is in doubt how much of the file is
    /// there.
    is_ambiguous: bool,
}

impl Wish {
    pub(crate) fn of(request: &Request<'_>) -> Wish {
        let mut is_ambiguous = false;
        let mut bare = |name| {
            let value = request.fields().only(name).inspect_err(|_| is_ambiguous = true).ok()??;
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
        Wish { complete, length, offset, takes_interim, is_ambiguous }
    }

    /// The length of the whole as far as it is known, when `bytes` come at `offset`.
    pub(crate) fn length_with(&self, offset: u64, bytes: Option<u64>) -> Option<u64> {
        let by_content =
            bytes.filter(|_| self.complete == Some(true)).and_then(|bytes| offset.checked_add(bytes));
        self.complete.and(by_content.or(self.length))
    }

    /// Whether it contradicts itself in a first request.
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

/// An integer as in RFC 9651 section 3.3.1, not negative.
fn integer(digits: &[u8]) -> Option<u64> {
    if !(1..=15).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The interim response that tells a client where it could go on.
pub(crate) fn interim(
    writer: &crate::features::upload::partial::Writer,
    wish_takes_it: bool,
) -> Option<Response> {
    (wish_takes_it && writer.can_be_resumed()).then(|| {
        let response = Response::new(Status::UPLOAD_RESUMPTION_SUPPORTED)
            .with_field("Upload-Draft-Interop-Version", INTEROP_VERSION);
        writer.tell_where(response)
    })
}

impl Wish {
    pub(crate) fn takes_interim(&self) -> bool {
        self.takes_interim
    }
}

fn find(ask: &Ask, token: &str) -> Result<Arc<Partial>, Refusal> {
    let found = Some(token).filter(|token| is_token(token)).and_then(|token| ask.desk.partials.find(token));
    let found = found.filter(|partial| partial.is_for(ask));
    found.ok_or(Refusal::new(Status::NOT_FOUND, "no such upload is kept here"))
}

/// `HEAD`: how far the upload has come.
pub(crate) fn state(ask: Ask, token: String, cx: &mut Context<'_>) -> Answer {
    in_job(ask, cx, move |ask| {
        let progress = find(ask, &token)?.interrupt(ask.now.mono)?;
        let response = Response::new(Status::NO_CONTENT)
            .by_server()
            .with_field("Upload-Offset", progress.bytes.to_string())
            .with_field("Upload-Complete", if progress.is_complete { "?1" } else { "?0" })
            .with_field("Upload-Limit", limits(ask))
            .with_field("Cache-Control", "no-store");
        Ok(match progress.length {
            Some(length) => response.with_field("Upload-Length", length.to_string()),
            None => response,
        })
    })
}

/// `DELETE`: it will not be gone on with.
pub(crate) fn cancel(ask: Ask, token: String, cx: &mut Context<'_>) -> Answer {
    in_job(ask, cx, move |ask| {
        find(ask, &token)?.cancel()?;
        Ok(Response::new(Status::NO_CONTENT).by_server())
    })
}

/// `PATCH`: goes on with an upload.
pub(crate) fn append(ask: Ask, token: &str, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let wish = Wish::of(request);
    let bytes = match request.content() {
        Content::None => Some(0),
        Content::Length(bytes) => Some(bytes),
        Content::Chunked => None,
    };
    let checked = check_append(&ask, request, &wish, bytes)
        .and_then(|offset| Ok((offset, find(&ask, token)?, ask.take_place(cx)?)));
    let (offset, partial, taken) = match checked {
        Ok(checked) => checked,
        Err(refusal) => {
            let response = ask.refuse(refusal);
            return match refusal.status {
                Status::UNSUPPORTED_MEDIA_TYPE => response.with_field("Accept-Patch", PARTIAL_TYPE).into(),
                _ => response.into(),
            };
        }
    };
    let errands = cx.errands();
    cx.job_then(move || {
        let begun = partial.resume(&ask, &wish, offset, bytes);
        drop(partial);
        let then: Then = Box::new(move |_| match begun {
            Ok(writer) => Answer::Sink(Box::new(Sink::of_file(writer, Arc::new(ask), taken, errands, false))),
            Err(halt) => halted(&ask, &halt, offset).into(),
        });
        then
    })
}

fn check_append(ask: &Ask, request: &Request<'_>, wish: &Wish, bytes: Option<u64>) -> Result<u64, Refusal> {
    if wish.is_ambiguous {
        return Err(AMBIGUOUS);
    }
    let is_part = request.fields().only("content-type")?.is_some_and(|value| {
        let kind = value.split(|&byte| byte == b';').next().unwrap_or_default();
        trim_ows(kind).eq_ignore_ascii_case(PARTIAL_TYPE.as_bytes())
    });
    if !is_part {
        return Err(Refusal::new(
            Status::UNSUPPORTED_MEDIA_TYPE,
            "the content must be application/partial-upload",
        ));
    }
    let (Some(offset), Some(_)) = (wish.offset, wish.complete) else {
        return Err(Refusal::new(Status::BAD_REQUEST, "Upload-Offset and Upload-Complete are needed"));
    };
    ask.check_size(offset.checked_add(bytes.unwrap_or(0)).or(Some(u64::MAX)))?;
    Ok(offset)
}

/// The answer to a part that cannot be taken, in the words that the draft registers (RFC 9457).
fn halted(ask: &Ask, halt: &Halt, provided: u64) -> Response {
    let (status, kind, more, expected) = match halt {
        Halt::Refused(refusal) => return ask.refuse(*refusal),
        Halt::Complete => (Status::BAD_REQUEST, "completed-upload", String::new(), None),
        Halt::Length => (Status::BAD_REQUEST, "inconsistent-upload-length", String::new(), None),
        Halt::Offset(expected) => {
            let offsets = format!(",\"expected-offset\":{expected},\"provided-offset\":{provided}");
            (Status::CONFLICT, "mismatching-upload-offset", offsets, Some(*expected))
        }
    };
    let title = match halt {
        Halt::Complete => "upload is already completed",
        Halt::Length => "inconsistent length values for upload",
        Halt::Offset(_) | Halt::Refused(_) => "offset from request does not match offset of resource",
    };
    let body = format!(
        "{{\"type\":\"https://iana.org/assignments/http-problem-types#{kind}\",\"title\":\"{title}\"{more}}}\n"
    );
    let response = Response::new(status)
        .by_server()
        .with_field("Content-Type", "application/problem+json")
        .with_body(Body::Bytes(body.into_bytes()));
    match expected {
        Some(offset) => response.with_field("Upload-Offset", offset.to_string()),
        None => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::{FieldSlots, parse};

    fn wish(fields: &str) -> Wish {
        let head = format!("PUT /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut slots = FieldSlots::new();
        Wish::of(&parse(head.as_bytes(), &mut slots, &crate::config::Limits::default()).unwrap())
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
        for (fields, complete, length) in cases {
            let wish = wish(fields);
            assert_eq!((wish.complete, wish.length), (*complete, *length), "{fields:?}");
        }
    }

    #[test]
    fn lengths_are_known_from_either_end_and_must_agree() {
        let whole = wish("Upload-Complete: ?1\r\nUpload-Length: 10\r\n");
        assert_eq!(whole.length_with(0, Some(10)), Some(10));
        assert!(whole.check(Some(10)).is_ok() && whole.check(None).is_ok());
        assert!(whole.check(Some(9)).is_err());
        let begun = wish("Upload-Complete: ?0\r\nUpload-Length: 10\r\n");
        assert_eq!(begun.length_with(0, Some(4)), Some(10));
        assert!(begun.check(Some(4)).is_ok());
        assert!(begun.check(Some(11)).is_err());
        assert_eq!(wish("Upload-Complete: ?0\r\n").length_with(0, Some(4)), None);
        assert_eq!(wish("Upload-Complete: ?1\r\n").length_with(6, Some(4)), Some(10));
        assert_eq!(wish("Upload-Length: 3\r\n").length_with(0, Some(4)), None, "an ordinary request");
    }
}
