//! Forms with files, `multipart/form-data`, taken apart while they come (RFC 7578, RFC 2046 section
//! 5.1).
//!
//! [`Multipart`] is pushed bytes, cut anywhere, and says what they are: a part begins, content of
//! it, it ends. It keeps no content, only the head of a part while that arrives, and that is
//! bounded. Strict like the rest: line ends are CRLF, and where a form can be read in two ways it
//! is an error. It must not know what parts are for.

use crate::http::error::ProtocolError;
use crate::http::fields::{FieldLine, FieldLines, take_lines, trim_ows};
use crate::http::status::Status;

/// Takes one form apart.
#[derive(Clone, Debug)]
pub struct Multipart {
    /// CRLF, two dashes and the boundary.
    delimiter: Vec<u8>,
    state: State,
    /// The head of a part as far as it is here.
    head: Vec<u8>,
    parts: usize,
    parts_max: usize,
    /// Bytes so far that belong to no part.
    around: usize,
}

impl Multipart {
    /// A parser for content of this `Content-Type`, with at most `parts_max` parts. Fails with 415
    /// when it is no `multipart/form-data`, with 400 when it has no usable boundary.
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
            .ok_or(ProtocolError::bad_request("a form without a usable boundary"))?;
        let delimiter = [b"\r\n--", boundary.as_slice()].concat();
        // A form may begin with its first delimiter: as if a line had ended before it.
        let state = State::Preamble { matched: 2 };
        Ok(Multipart { delimiter, state, head: Vec::new(), parts: 0, parts_max, around: 0 })
    }

    /// Takes the next piece of the form and calls `each` with what it holds. After an error, of the
    /// form or of `each`, the parser must not be used again.
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
                    return Err(ProtocolError::bad_request("a boundary of a form with more behind it").into());
                }
            }
            input = &input[used..];
        }
        Ok(())
    }

    /// Called when the content has ended: whether the form had, too.
    pub fn finish(&self) -> Result<(), ProtocolError> {
        match self.state {
            State::End => Ok(()),
            _ => Err(ProtocolError::bad_request("a form without its end")),
        }
    }

    /// Counts bytes that belong to no part.
    fn pass(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        self.around = self.around.saturating_add(bytes);
        match self.around > AROUND_BYTES_MAX {
            true => Err(ProtocolError::bad_request("a form with too much around its parts")),
            false => Ok(()),
        }
    }

    /// Reads on in what stands before the first delimiter. Says how much of `input` it used.
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
        // What had looked like a delimiter in the last piece and is none.
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

    /// Divides `input` into what is not part of a delimiter and what may be: returns the former,
    /// how much was used of both together, and how many bytes of a delimiter are matched then. With
    /// `matched` > 0 it may also only find out that these were none: then it uses nothing.
    fn look_for_delimiter<'b>(&self, input: &'b [u8], matched: usize) -> (&'b [u8], usize, usize) {
        let common = |rest: &[u8], expected: &[u8]| {
            rest.iter().zip(expected).take_while(|(one, other)| one == other).count()
        };
        if matched > 0 {
            let more = common(input, &self.delimiter[matched..]);
            let is_open = more == input.len() || matched + more == self.delimiter.len();
            // A CR stands only at the beginning of a delimiter, so what broke off holds no other
            // beginning.
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
            return Err(ProtocolError::new(Status::CONTENT_TOO_LARGE, "a form with too many parts"));
        }
        // As if a line had ended before it, so that a head without any field ends like the others.
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
                return Err(ProtocolError::bad_request("a part of a form with too long a head").into());
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

/// What pushed bytes turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum MultipartEvent<'b> {
    /// A part begins.
    PartBegin(PartHead),
    /// Some of its content, never empty. More may follow.
    PartData(&'b [u8]),
    /// It is complete.
    PartEnd,
    /// The form is complete. What follows is ignored.
    End,
}

/// What a part says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHead {
    /// The name of the form's field.
    pub name: String,
    /// The name of the file, as the client sent it: it may hold slashes, dots and control
    /// characters. `None` for an ordinary field.
    pub filename: Option<String>,
    /// The media type, if one was said. RFC 7578 section 4.4 takes `text/plain` otherwise.
    pub content_type: Option<String>,
}

/// Where in the form the parser stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter; `matched` bytes of one were seen.
    Preamble { matched: usize },
    /// Behind a delimiter: line end, white space or the first dash of the end is due.
    Delimited,
    /// White space behind a delimiter (RFC 2046: transport padding).
    Padding,
    /// The CR of the delimiter's line was seen.
    LineEnd,
    /// Behind the first of the two dashes that say that this is the end.
    Dash,
    /// In a part's head.
    Head,
    /// In its content; `matched` bytes of a delimiter were seen.
    Content { matched: usize },
    /// Behind the last delimiter.
    End,
}

/// The most bytes of one part's head.
pub const PART_HEAD_BYTES_MAX: usize = 16 * 1024;

/// The most field lines in it.
const PART_FIELDS_MAX: usize = 32;

/// Bytes that may stand around the parts: before the first, behind the last, and white space
/// behind delimiters. RFC 2046 section 5.1.1 has all of it ignored, and no browser sends any.
const AROUND_BYTES_MAX: usize = 16 * 1024;

/// The longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

/// RFC 2046 section 5.1.1: `bchars`, and no space at the end.
fn is_boundary(boundary: &[u8]) -> bool {
    (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
        && boundary.iter().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte))
        && !boundary.ends_with(b" ")
}

/// Reads the head of a part, its empty line included.
fn part_head(lines: &[u8]) -> Result<PartHead, ProtocolError> {
    let bad = ProtocolError::bad_request("a part of a form with a malformed head");
    let mut fields = FieldLines::new();
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

/// The value of a parameter in what stands behind the first semicolon, unquoted. Twice is an error.
///
/// In quotes a backslash escapes a quote or a backslash and is itself otherwise: some clients send
/// whole Windows paths, and no client escapes anything else.
fn parameter(mut rest: &[u8], name: &[u8]) -> Result<Option<Vec<u8>>, ProtocolError> {
    const BAD: ProtocolError = ProtocolError::bad_request("a malformed parameter");
    let mut found = None;
    while !trim_ows(rest).is_empty() {
        let at = memchr::memchr2(b'=', b';', rest).unwrap_or(rest.len());
        let this = trim_ows(&rest[..at]);
        if rest.get(at) != Some(&b'=') {
            // An empty element is allowed by nobody and sent by some.
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

/// Cuts at the first `separator`; the rest is empty where there is none.
fn cut(value: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(separator, value) {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, b""),
    }
}

/// Content of a quoted string whose first quote is gone, and what comes behind its semicolon.
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

/// Browsers write these three bytes of a name as escapes, and no others (HTML, multipart/form-data
/// encoding algorithm), so every other per cent sign is one.
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
