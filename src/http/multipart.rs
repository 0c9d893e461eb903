//! Incremental parser for forms with files, `multipart/form-data` (RFC 7578, RFC 2046 section 5.1).
//!
//! [`Multipart`] takes bytes, cut anywhere, and reports events: a part begins, content of the part,
//! the part ends. It stores no content, only the head of a part while that arrives, up to a limit.
//! Line ends are CRLF, and a form with two readings is an error. This file must not know the use of
//! the parts.

use crate::http::error::ProtocolError;
use crate::http::field_lines::{FieldLine, FieldLineVec, take_lines, trim_ows};
use crate::http::status::Status;

/// Parser for one form.
#[derive(Clone, Debug)]
pub struct Multipart {
    /// CRLF, two dashes and the boundary.
    delimiter: Vec<u8>,
    state: State,
    /// Head of a part, as far as it has arrived.
    head: Vec<u8>,
    parts: usize,
    parts_max: usize,
    /// Bytes so far that belong to no part.
    around: usize,
}

impl Multipart {
    /// Parser for content with this `Content-Type` and at most `parts_max` parts.
    ///
    /// Fails with 415 if the type is not `multipart/form-data`, and with 400 if it has no valid
    /// boundary.
    pub fn new(content_type: &[u8], parts_max: usize) -> Result<Self, ProtocolError> {
        let (kind, parameters) = cut(content_type, b';');
        if !trim_ows(kind).eq_ignore_ascii_case(b"multipart/form-data") {
            return Err(ProtocolError::new(
                Status::UNSUPPORTED_MEDIA_TYPE,
                "the content is not multipart/form-data",
            ));
        }
        let boundary = parameter(parameters, b"boundary")?
            .filter(|boundary| is_boundary(boundary))
            .ok_or(ProtocolError::bad_request("the form has no valid boundary"))?;
        let delimiter = [b"\r\n--", boundary.as_slice()].concat();
        // The form may begin with its first delimiter, as if a line had ended before it.
        let state = State::Preamble { matched: 2 };
        Ok(Multipart { delimiter, state, head: Vec::new(), parts: 0, parts_max, around: 0 })
    }

    /// Parses the next piece of the form, and calls `each` with the events in it. Do not use the
    /// parser after an error, of the form or of `each`.
    pub fn push<E: From<ProtocolError>>(
        &mut self,
        mut input: &[u8],
        mut each: impl FnMut(MultipartEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(&byte) = input.first() {
            let mut used = 1;
            match self.state {
                State::Preamble { matched } => {
                    used = self.skip(input, matched);
                    self.pass(used)?;
                }
                State::Content { matched } => used = self.content(input, matched, &mut each)?,
                State::Head => used = self.head(input, &mut each)?,
                State::End => return Ok(self.pass(input.len())?),
                State::Delimited if byte == b'-' => self.state = State::Dash,
                State::Delimited | State::Padding if matches!(byte, b' ' | b'\t') => {
                    self.state = State::Padding;
                    self.pass(1)?;
                }
                State::Delimited | State::Padding if byte == b'\r' => self.state = State::LineEnd,
                State::LineEnd if byte == b'\n' => self.begin_head()?,
                State::Dash if byte == b'-' => {
                    self.state = State::End;
                    each(MultipartEvent::End)?;
                }
                State::Delimited | State::Padding | State::LineEnd | State::Dash => {
                    return Err(ProtocolError::bad_request(
                        "a boundary of the form is followed by other bytes",
                    )
                    .into());
                }
            }
            input = &input[used..];
        }
        Ok(())
    }

    /// Fails if the form is incomplete. Call this when the content has ended.
    pub fn finish(&self) -> Result<(), ProtocolError> {
        match self.state {
            State::End => Ok(()),
            _ => Err(ProtocolError::bad_request("the form is incomplete")),
        }
    }

    /// Counts bytes that belong to no part.
    fn pass(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        self.around = self.around.saturating_add(bytes);
        match self.around > AROUND_BYTES_MAX {
            true => Err(ProtocolError::bad_request("the form has too many bytes outside of its parts")),
            false => Ok(()),
        }
    }

    /// Skips bytes before the first delimiter. Returns the number of bytes of `input` used.
    fn skip(&mut self, input: &[u8], matched: usize) -> usize {
        let (_, used, matched) = self.look_for_delimiter(input, matched);
        self.state = match matched == self.delimiter.len() {
            true => State::Delimited,
            false => State::Preamble { matched },
        };
        used
    }

    fn content<E>(
        &mut self,
        input: &[u8],
        matched: usize,
        each: &mut impl FnMut(MultipartEvent<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let (plain, used, now_matched) = self.look_for_delimiter(input, matched);
        // The bytes that looked like a delimiter at the end of the last piece are none.
        if now_matched < matched {
            each(MultipartEvent::PartData(&self.delimiter[..matched]))?;
        }
        if !plain.is_empty() {
            each(MultipartEvent::PartData(plain))?;
        }
        self.state = State::Content { matched: now_matched };
        if now_matched == self.delimiter.len() {
            self.state = State::Delimited;
            each(MultipartEvent::PartEnd)?;
        }
        Ok(used)
    }

    /// Splits `input` into bytes that are not part of a delimiter, and bytes that may be.
    ///
    /// Returns the former, the number of bytes used for both, and the bytes of a delimiter that are
    /// matched then. With `matched` > 0 the result may be that those bytes were no delimiter: then
    /// no byte of `input` is used.
    fn look_for_delimiter<'b>(&self, input: &'b [u8], matched: usize) -> (&'b [u8], usize, usize) {
        let common = |rest: &[u8], expected: &[u8]| {
            rest.iter().zip(expected).take_while(|(one, other)| one == other).count()
        };
        if matched > 0 {
            let more = common(input, &self.delimiter[matched..]);
            let is_open = more == input.len() || matched + more == self.delimiter.len();
            // A CR occurs only at the start of a delimiter, so a match that broke off contains no
            // other start.
            return match is_open {
                true => (&[], more, matched + more),
                false if more == 0 => (&[], 0, 0),
                false => (&input[..more], more, 0),
            };
        }
        for at in memchr::memchr_iter(b'\r', input) {
            let found = common(&input[at..], &self.delimiter);
            if found == self.delimiter.len() || at + found == input.len() {
                return (&input[..at], at + found, found);
            }
        }
        (input, input.len(), 0)
    }

    fn begin_head(&mut self) -> Result<(), ProtocolError> {
        self.parts += 1;
        if self.parts > self.parts_max {
            return Err(ProtocolError::new(Status::CONTENT_TOO_LARGE, "the form has too many parts"));
        }
        // As if a line had ended before it, so that a head without field lines ends like the
        // others.
        self.head.clear();
        self.head.extend_from_slice(b"\r\n");
        self.state = State::Head;
        Ok(())
    }

    fn head<E: From<ProtocolError>>(
        &mut self,
        input: &[u8],
        each: &mut impl FnMut(MultipartEvent<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let before = self.head.len();
        let room = (PART_HEAD_BYTES_MAX + 1).saturating_sub(before).min(input.len());
        self.head.extend_from_slice(&input[..room]);
        let from = before.saturating_sub(3);
        let Some(at) = memchr::memmem::find(&self.head[from..], b"\r\n\r\n") else {
            if self.head.len() > PART_HEAD_BYTES_MAX {
                return Err(ProtocolError::bad_request("the head of a part of the form is too long").into());
            }
            return Ok(room);
        };
        let end = from + at + 4;
        let head = part_head(&self.head[2..end])?;
        self.state = State::Content { matched: 0 };
        each(MultipartEvent::PartBegin(head))?;
        Ok(end - before)
    }
}

/// Event in the bytes of a form.
#[derive(Debug, PartialEq, Eq)]
pub enum MultipartEvent<'b> {
    /// A part begins.
    PartBegin(PartHead),
    /// Content of the part, never empty. More may follow.
    PartData(&'b [u8]),
    /// The part is complete.
    PartEnd,
    /// The form is complete. Bytes after it are ignored.
    End,
}

/// Head of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartHead {
    /// Name of the form field.
    pub name: String,
    /// Name of the file, as sent by the client: it may contain slashes, dots and control
    /// characters. `None` for an ordinary form field.
    pub filename: Option<String>,
    /// Media type, if there is one. Without one, RFC 7578 section 4.4 assumes `text/plain`.
    pub content_type: Option<String>,
}

/// Position of the parser in the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter; `matched` bytes of one were found.
    Preamble { matched: usize },
    /// After a delimiter: line end, white space or the first dash of the end is due.
    Delimited,
    /// White space after a delimiter (RFC 2046: transport padding).
    Padding,
    /// After the CR of the delimiter line.
    LineEnd,
    /// After the first of the two dashes that mark the end.
    Dash,
    /// In the head of a part.
    Head,
    /// In the content of a part; `matched` bytes of a delimiter were found.
    Content { matched: usize },
    /// After the last delimiter.
    End,
}

/// Bytes of the head of one part, at most.
pub const PART_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Field lines of the head of one part, at most.
const PART_FIELDS_MAX: usize = 32;

/// Bytes outside of parts, at most: before the first part, after the last one, and white space
/// after delimiters. RFC 2046 section 5.1.1 makes parsers ignore them, and no browser sends any.
const AROUND_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a boundary, at most (RFC 2046 section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

/// True for a boundary by RFC 2046 section 5.1.1: `bchars`, and no space at the end.
fn is_boundary(boundary: &[u8]) -> bool {
    (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
        && boundary.iter().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte))
        && !boundary.ends_with(b" ")
}

/// Parses the head of a part, with its empty line.
fn part_head(lines: &[u8]) -> Result<PartHead, ProtocolError> {
    let bad = ProtocolError::bad_request("the head of a part of the form is malformed");
    let mut fields = FieldLineVec::new();
    take_lines(lines, PART_FIELDS_MAX, &mut fields).ok_or(bad)?;
    let only = |name: &str| {
        let mut values = fields.iter().filter(|field| field.name().eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (found, None) => Ok(found.map(FieldLine::value)),
            _ => Err(bad),
        }
    };
    let disposition = only("content-disposition")?.ok_or(bad)?;
    let (kind, parameters) = cut(disposition, b';');
    if !trim_ows(kind).eq_ignore_ascii_case(b"form-data") {
        return Err(bad);
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| bad);
    let decoded = |name: &[u8]| parameter(parameters, name)?.map(|value| text(unescaped(&value))).transpose();
    let content_type = only("content-type")?.map(|value| text(value.to_vec())).transpose()?;
    Ok(PartHead { name: decoded(b"name")?.ok_or(bad)?, filename: decoded(b"filename")?, content_type })
}

/// Value of a parameter in the bytes after the first semicolon, unquoted. A parameter that occurs
/// twice is an error.
///
/// In quotes a backslash escapes a quote or a backslash, and is kept otherwise: some clients send
/// whole Windows paths, and no client escapes other characters.
fn parameter(mut rest: &[u8], name: &[u8]) -> Result<Option<Vec<u8>>, ProtocolError> {
    const BAD: ProtocolError = ProtocolError::bad_request("a parameter is malformed");
    let mut found = None;
    while !trim_ows(rest).is_empty() {
        let at = memchr::memchr2(b'=', b';', rest).unwrap_or(rest.len());
        let this = trim_ows(&rest[..at]);
        if rest.get(at) != Some(&b'=') {
            // No specification allows an empty element, but some clients send one.
            if !this.is_empty() {
                return Err(BAD);
            }
            rest = rest.get(at + 1..).unwrap_or_default();
            continue;
        }
        let (value, behind) = match trim_ows(&rest[at + 1..]).strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted).ok_or(BAD)?,
            None => {
                let (value, behind) = cut(&rest[at + 1..], b';');
                (trim_ows(value).to_vec(), behind)
            }
        };
        if this.eq_ignore_ascii_case(name) && found.replace(value).is_some() {
            return Err(BAD);
        }
        rest = behind;
    }
    Ok(found)
}

/// Bytes before and after the first `separator`. The second part is empty if there is none.
fn cut(value: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(separator, value) {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, b""),
    }
}

/// Content of a quoted string after its first quote, and the bytes after its semicolon.
fn unquote(quoted: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match (quoted.get(at)?, quoted.get(at + 1)) {
            (b'"', _) => break,
            (b'\\', Some(next @ (b'"' | b'\\'))) => {
                value.push(*next);
                at += 2;
            }
            (byte, _) => {
                value.push(*byte);
                at += 1;
            }
        }
    }
    match trim_ows(&quoted[at + 1..]) {
        [] => Some((value, b"")),
        [b';', rest @ ..] => Some((value, rest)),
        _ => None,
    }
}

/// Decodes the three escapes that browsers write in a name (HTML, multipart/form-data encoding
/// algorithm). Browsers escape no other bytes, so all other percent signs are kept.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut at = 0;
    while at < value.len() {
        let byte = match value.get(at..at + 3) {
            Some(b"%22") => Some(b'"'),
            Some(b"%0D" | b"%0d") => Some(b'\r'),
            Some(b"%0A" | b"%0a") => Some(b'\n'),
            _ => None,
        };
        out.push(byte.unwrap_or(value[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests;
