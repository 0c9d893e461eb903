//! Framing of request content, and the headers that decide it (RFC 9112 section 6.3).
//!
//! A case with more than one reading is an error. This file must not know the rest of a head.

use crate::http::error::ProtocolError;
use crate::http::field_lines::{NameFilter, ReceivedHeaders, list_elements, trim_ows};
use crate::http::status::Status;
use crate::text;

/// Framing of the content of a request (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// No content follows.
    None,
    /// So many bytes follow, at least one.
    Length(u64),
    /// Chunks follow.
    Chunked,
}

impl Content {
    /// Returns the number of bytes that follow; `None` if it is not known before the end.
    #[must_use]
    pub fn length(self) -> Option<u64> {
        match self {
            Content::None => Some(0),
            Content::Length(bytes) => Some(bytes),
            Content::Chunked => None,
        }
    }
}

/// Values of the headers that decide framing and persistence, gathered in one pass.
#[derive(Default)]
pub(super) struct Framing<'b> {
    pub(super) host: Option<&'b [u8]>,
    length: Option<&'b [u8]>,
    coding: Option<&'b [u8]>,
    pub(super) closes: bool,
    pub(super) keeps: bool,
    pub(super) expects: Expects,
}

impl<'b> Framing<'b> {
    #[inline(always)]
    pub(super) fn gather(&mut self, lines: ReceivedHeaders<'b>) -> Result<(), ProtocolError> {
        for line in lines.lines() {
            // A browser sends about twenty names. This leaves only a few of them for a comparison.
            if !FRAMING.may_have(line) {
                continue;
            }
            let (name, value) = (line.name_bytes(), line.value());
            let is = |known: &[u8]| text::eq_ignore_case(name, known);
            match name.len() {
                4 if is(b"host") => once(&mut self.host, value, "Host")?,
                6 if is(b"expect") => self.expects = self.expects.and(value),
                10 if is(b"connection") => {
                    for option in list_elements(value) {
                        self.closes |= text::eq_ignore_case(option, b"close");
                        self.keeps |= text::eq_ignore_case(option, b"keep-alive");
                    }
                }
                14 if is(b"content-length") => {
                    once(&mut self.length, value, "Content-Length")?;
                }
                17 if is(b"transfer-encoding") => {
                    once(&mut self.coding, value, "Transfer-Encoding")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Framing by RFC 9112 section 6.3. A case with more than one reading is an error.
    pub(super) fn content(&self, minor: u8) -> Result<Content, ProtocolError> {
        if let Some(coding) = self.coding {
            if self.length.is_some() {
                return Err(ProtocolError::bad_request(
                    "Transfer-Encoding and Content-Length are both present",
                ));
            }
            if minor == 0 {
                return Err(ProtocolError::bad_request("HTTP/1.0 has no Transfer-Encoding"));
            }
            let mut codings = list_elements(coding);
            return match (codings.next(), codings.next()) {
                (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(Content::Chunked),
                (None, _) => Err(ProtocolError::bad_request("Transfer-Encoding is empty")),
                _ => Err(ProtocolError::new(
                    Status::NOT_IMPLEMENTED,
                    "the only supported transfer coding is chunked",
                )),
            };
        }
        let Some(digits) = self.length.map(trim_ows) else { return Ok(Content::None) };
        match decimal(digits) {
            Some(0) => Ok(Content::None),
            Some(length) => Ok(Content::Length(length)),
            None if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                Err(ProtocolError::new(Status::CONTENT_TOO_LARGE, "the content is too large"))
            }
            None => Err(ProtocolError::bad_request("Content-Length is not a number")),
        }
    }
}

/// Names of the headers in [`Framing`].
const FRAMING: NameFilter =
    NameFilter::of(&["host", "expect", "connection", "content-length", "transfer-encoding"]);

/// Sum of all `Expect` lines, which form one list (RFC 9110 sections 5.3 and 10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expects {
    #[default]
    Nothing,
    Continue,
    /// An unknown expectation, perhaps together with `100-continue`.
    Unknown,
}

impl Expects {
    /// Adds one more line to the sum.
    fn and(self, line: &[u8]) -> Expects {
        let mut elements = list_elements(line).peekable();
        let is_known = elements.peek().is_some()
            && elements.all(|element| text::eq_ignore_case(element, b"100-continue"));
        if is_known && self != Expects::Unknown { Expects::Continue } else { Expects::Unknown }
    }
}

fn once<'b>(slot: &mut Option<&'b [u8]>, value: &'b [u8], name: &'static str) -> Result<(), ProtocolError> {
    if slot.replace(value).is_none() {
        return Ok(());
    }
    Err(ProtocolError::bad_request(match name {
        "Host" => "there is more than one Host",
        "Content-Length" => "there is more than one Content-Length",
        _ => "there is more than one Transfer-Encoding",
    }))
}

/// Value of a decimal number: digits only, without sign, white space or overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &byte| {
        let digit = (byte as char).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
