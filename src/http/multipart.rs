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

/// The most bytes of one part's head.
pub const PART_HEAD_BYTES_MAX: usize = 16 * 1024;

/// The most field lines in it.
const PART_FIELDS_MAX: usize = 32;

/// Bytes that may stand around the parts: before the first, behind the last, and white space
/// behind delimiters. RFC 2046 section 5.1.1 has all of it ignored, and no browser sends any.
const AROUND_BYTES_MAX: usize = 16 * 1024;

/// The longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

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

/// Cuts at the first `separator`; the rest is empty where there is none.
fn cut(value: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(separator, value) {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, b""),
    }
}

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
mod tests {
    use super::*;

    /// A part as the tests see it.
    #[derive(Debug, PartialEq, Eq)]
    struct Part {
        head: PartHead,
        content: Vec<u8>,
    }

    const TYPE: &[u8] = b"multipart/form-data; boundary=XyZ";

    /// Pushes the pieces and puts the parts together; also checks the order of events.
    fn parts_of(pieces: &[&[u8]]) -> Result<Vec<Part>, ProtocolError> {
        let mut parser = Multipart::new(TYPE, 10).unwrap();
        let (mut parts, mut is_open, mut has_ended) = (Vec::new(), false, false);
        for piece in pieces {
            parser.push(piece, |event| {
                assert!(!has_ended);
                match event {
                    MultipartEvent::PartBegin(head) => {
                        assert!(!std::mem::replace(&mut is_open, true));
                        parts.push(Part { head, content: Vec::new() });
                    }
                    MultipartEvent::PartData(data) => {
                        assert!(is_open && !data.is_empty());
                        parts.last_mut().unwrap().content.extend_from_slice(data);
                    }
                    MultipartEvent::PartEnd => assert!(std::mem::replace(&mut is_open, false)),
                    MultipartEvent::End => has_ended = true,
                }
                Ok::<(), ProtocolError>(())
            })?;
        }
        parser.finish()?;
        assert!(has_ended && !is_open);
        Ok(parts)
    }

    /// The same whole, at every cut and byte by byte.
    #[track_caller]
    fn check(input: &[u8], expected: &Result<Vec<Part>, ProtocolError>) {
        let shown = input.escape_ascii();
        assert_eq!(parts_of(&[input]), *expected, "whole: {shown}");
        for cut in 0..=input.len() {
            assert_eq!(parts_of(&[&input[..cut], &input[cut..]]), *expected, "cut at {cut}: {shown}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(parts_of(&bytes), *expected, "byte by byte: {shown}");
    }

    fn part(name: &str, filename: Option<&str>, content_type: Option<&str>, content: &[u8]) -> Part {
        let head = PartHead {
            name: name.into(),
            filename: filename.map(str::to_owned),
            content_type: content_type.map(str::to_owned),
        };
        Part { head, content: content.to_vec() }
    }

    /// A form with one file of this content.
    fn form(content: &[u8]) -> Vec<u8> {
        let head = b"--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\n";
        [head.as_slice(), content, b"\r\n--XyZ--\r\n"].concat()
    }

    #[test]
    fn a_form_comes_apart_however_it_is_cut() {
        let input = b"ignored\r\n--XyZ \t\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\r\n--XyZ\r\n\
            content-type: image/png\r\nCONTENT-DISPOSITION: Form-Data; filename=\"b.png\"; name=two\r\nX-Other: y\r\n\r\n\
            \x89PNG\r\n\x1a\n\r\n--XyZ\r\nContent-Disposition: form-data; name=\"\"; filename=\"\"\r\n\r\n\r\n--XyZ--\r\nignored";
        let expected = vec![
            part("one", None, None, b"1"),
            part("two", Some("b.png"), Some("image/png"), b"\x89PNG\r\n\x1a\n"),
            part("", Some(""), None, b""),
        ];
        check(input, &Ok(expected));
    }

    #[test]
    fn what_looks_like_a_delimiter_is_content() {
        let contents: &[&[u8]] = &[
            b"",
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\r\n",
            b"\r\n-",
            b"\r\n--",
            b"\r\n--Xy",
            b"\r\r\n--Xy\r\n--X",
            b"\r\n\r\n--xYZ\r\n",
            b"--XyZ",
            b"\r--XyZ\n--XyZ",
            b"a\r\n--Xy\r",
            b"\r\n--\r\n--\r\n--",
        ];
        for content in contents {
            check(&form(content), &Ok(vec![part("f", Some("a.txt"), None, content)]));
        }
    }

    #[test]
    fn an_empty_form_is_a_form_and_half_a_form_is_none() {
        check(b"--XyZ--", &Ok(Vec::new()));
        check(b"\r\n--XyZ--\r\n", &Ok(Vec::new()));
        let whole = form(b"content");
        let end = whole.len() - 2;
        for cut in 0..end {
            let cut_off = parts_of(&[&whole[..cut]]);
            assert_eq!(cut_off, Err(ProtocolError::bad_request("a form without its end")), "at {cut}");
        }
        assert!(parts_of(&[&whole[..end]]).is_ok());
    }

    /// Nothing of it is content, and a limit on content says little about it.
    #[test]
    fn what_stands_around_the_parts_is_bounded() {
        let around = ProtocolError::bad_request("a form with too much around its parts");
        let form = form(b"content");
        let text = String::from_utf8(form).unwrap();
        for (bytes, is_refused) in
            [(1000, false), (AROUND_BYTES_MAX - 200, false), (AROUND_BYTES_MAX + 1, true)]
        {
            let (letters, blanks) = ("x".repeat(bytes), " \t".repeat(bytes.div_ceil(2)));
            for input in [
                format!("{letters}\r\n{text}"),
                format!("{}\r\n{text}", "\r\n--Xy".repeat(bytes.div_ceil(6))),
                text.replace("--XyZ\r\n", &format!("--XyZ{blanks}\r\n")),
                format!("{text}{letters}"),
                format!("{}\r\n{text}{}", &letters[bytes / 2..], &letters[..bytes.div_ceil(2)]),
            ] {
                for size in [1, 1000, input.len()] {
                    let pieces: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
                    match is_refused {
                        true => assert_eq!(parts_of(&pieces), Err(around), "by {size}: {input:.40}"),
                        false => assert_eq!(parts_of(&pieces).unwrap().len(), 1, "by {size}: {input:.40}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_an_error() {
        let head = ProtocolError::bad_request("a part of a form with a malformed head");
        let parameter = ProtocolError::bad_request("a malformed parameter");
        let boundary = ProtocolError::bad_request("a boundary of a form with more behind it");
        let cases: &[(&[u8], ProtocolError)] = &[
            (b"--XyZ\nContent-Disposition: form-data; name=a\n\n", boundary),
            (b"--XyZW\r\n", boundary),
            (b"--XyZ-\r\n", boundary),
            (b"--XyZ\r \n", boundary),
            (b"--XyZ \x0b\r\n", boundary),
            (b"--XyZ\r\n\r\nno head", head),
            (b"--XyZ\r\nContent-Type: text/plain\r\n\r\n", head),
            (b"--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\n", head),
            (b"--XyZ\r\nContent-Disposition: form-data\r\n\r\n", head),
            (b"--XyZ\r\nContent-Disposition: form-data; filename=a\r\n\r\n", head),
            (b"--XyZ\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n", parameter),
            (b"--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\n", parameter),
            (b"--XyZ\r\nContent-Disposition: form-data; name=\"a\"b\r\n\r\n", parameter),
            (b"--XyZ\r\nContent-Disposition: form-data; name\r\n\r\n", parameter),
            (b"--XyZ\r\nContent-Disposition: form-data; name=\"\xff\"\r\n\r\n", head),
            (
                b"--XyZ\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n",
                head,
            ),
            (b"--XyZ\r\nContent-Disposition: form-data; name=a\nX: y\r\n\r\n", head),
            (b"--XyZ\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\n", head),
            (b"--XyZ\r\nContent-Disposition : form-data; name=a\r\n\r\n", head),
        ];
        for (input, expected) in cases {
            check(input, &Err(*expected));
        }
    }

    #[test]
    fn names_are_read_as_clients_write_them() {
        let cases: &[(&str, &str)] = &[
            ("\"a b.txt\"", "a b.txt"),
            ("a.txt", "a.txt"),
            ("\"a%22b.txt\"", "a\"b.txt"),
            ("\"100%25.txt\"", "100%25.txt"),
            ("\"a\\\"b.txt\"", "a\"b.txt"),
            ("\"a;b=c.txt\"", "a;b=c.txt"),
            ("\"C:\\dir\\a.txt\"", "C:\\dir\\a.txt"),
            ("\"a\\\\b\"", "a\\b"),
            ("\"%0d%0A\"", "\r\n"),
            ("\"\u{706f}.txt\" ; x=y;", "\u{706f}.txt"),
            // RFC 7578 section 4.2: it must not be used, and whoever does says `filename` as well.
            ("\"a\"; filename*=UTF-8''b", "a"),
        ];
        for (written, expected) in cases {
            let input = format!(
                "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename={written}\r\n\r\n.\r\n--XyZ--"
            );
            check(input.as_bytes(), &Ok(vec![part("f", Some(expected), None, b".")]));
        }
    }

    #[test]
    fn heads_and_parts_are_bounded() {
        let head = format!("--XyZ\r\nX: {}", "a".repeat(PART_HEAD_BYTES_MAX));
        let expected = ProtocolError::bad_request("a part of a form with too long a head");
        assert_eq!(parts_of(&[head.as_bytes()]), Err(expected));
        let bytes: Vec<&[u8]> = head.as_bytes().chunks(1).collect();
        assert_eq!(parts_of(&bytes), Err(expected));
        let one = "--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n";
        let ten = format!("{}--XyZ--", one.repeat(10));
        assert_eq!(parts_of(&[ten.as_bytes()]).unwrap().len(), 10);
        let status = parts_of(&[one.repeat(11).as_bytes()]).unwrap_err().status;
        assert_eq!(status, Status::CONTENT_TOO_LARGE);
    }

    #[test]
    fn the_type_says_the_boundary() {
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        let cases: &[(&[u8], Option<Status>)] = &[
            (b"multipart/form-data; boundary=a", None),
            (b"Multipart/Form-Data ;charset=utf-8; BOUNDARY=\"a b\"", None),
            (b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW", None),
            (b"multipart/form-data", Some(Status::BAD_REQUEST)),
            (b"multipart/form-data; boundary=", Some(Status::BAD_REQUEST)),
            (b"multipart/form-data; boundary=\"a \"", Some(Status::BAD_REQUEST)),
            (b"multipart/form-data; boundary=\"a\rb\"", Some(Status::BAD_REQUEST)),
            (b"multipart/form-data; boundary=a; boundary=b", Some(Status::BAD_REQUEST)),
            (long.as_bytes(), Some(Status::BAD_REQUEST)),
            (b"multipart/mixed; boundary=a", Some(Status::UNSUPPORTED_MEDIA_TYPE)),
            (b"application/x-www-form-urlencoded", Some(Status::UNSUPPORTED_MEDIA_TYPE)),
            (b"", Some(Status::UNSUPPORTED_MEDIA_TYPE)),
        ];
        for (content_type, expected) in cases {
            let found = Multipart::new(content_type, 1).err().map(|error| error.status);
            assert_eq!(found, *expected, "{}", content_type.escape_ascii());
        }
    }

    proptest::proptest! {
        /// Any content comes back, in any two pieces and byte by byte.
        #[test]
        fn any_content_comes_back(content in "[\r\nXyZ-]{0,40}", at in 0_usize..200) {
            proptest::prop_assume!(!format!("\r\n{content}").contains("\r\n--XyZ"));
            let input = form(content.as_bytes());
            let at = at.min(input.len());
            let expected = Ok(vec![part("f", Some("a.txt"), None, content.as_bytes())]);
            proptest::prop_assert_eq!(&parts_of(&[&input[..at], &input[at..]]), &expected);
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            proptest::prop_assert_eq!(&parts_of(&bytes), &expected);
        }
    }
}
