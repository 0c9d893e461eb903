//! Response heads of scripts (RFC 3875 section 6): header lines and the response that they
//! describe.
//!
//! Lines end in LF or CR LF. Ambiguous lines are refused, because the server copies the headers
//! into its own response. "Non-parsed header" scripts (section 5) are not supported. They write the
//! whole response, so their first line is a status line and not a header.
//!
//! Must not know where the bytes came from.

use crate::http::Status;
use crate::http::field_lines::is_token;
use crate::http::headers::{Flaw, Headers};

/// Parsed and validated response head of a script.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) answer: Kind,
    /// Headers for the response, except `Content-Length` and headers that only the server may set.
    pub(crate) headers: Headers,
    /// True if the script sent `Connection: close`.
    pub(crate) closes: bool,
    /// Value of `Content-Length`. The response is sent with this length, so the script must write
    /// exactly this many bytes of content.
    pub(crate) content_bytes: Option<u64>,
}

/// Response that a head describes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Response with this status and the content that follows the head.
    Content(Status),
    /// Response with this status and no content. The status forbids content, or the head has no
    /// `Content-Type`.
    Bare(Status),
    /// Local redirect: the server responds as if the client had requested this path and query (RFC
    /// 3875 section 6.2.2).
    Local(Vec<u8>),
}

/// Parses the head at the start of `output`. Returns the head and its length in bytes.
///
/// Returns `None` if the head is incomplete: call again with the same bytes and those that follow.
///
/// # Errors
/// Returns the reason why the head is invalid.
pub(crate) fn take_head(output: &[u8]) -> Result<Option<(Head, usize)>, &'static str> {
    let mut draft = Draft::default();
    let mut at = 0;
    loop {
        let Some(end) = memchr::memchr(b'\n', &output[at..]) else { return Ok(None) };
        let line = &output[at..at + end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += end + 1;
        if line.is_empty() {
            return draft.judge().map(|head| Some((head, at)));
        }
        draft.add(line)?;
    }
}

/// Incomplete head: the values of the header lines that were parsed so far.
#[derive(Default)]
struct Draft {
    status: Option<Status>,
    location: Option<Vec<u8>>,
    content_bytes: Option<u64>,
    has_type: bool,
    headers: Headers,
    closes: bool,
}

impl Draft {
    /// Parses one header line, without its line end.
    fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let colon = memchr::memchr(b':', line).ok_or("a header line has no colon")?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let name = std::str::from_utf8(name).map_err(|_| "a header name is malformed")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("a header name is malformed");
        }
        if value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return Err("a header value has a control character");
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("status") {
            return once(self.status.is_some()).and_then(|()| {
                self.status = Some(status(value)?);
                Ok(())
            });
        }
        if is("content-length") {
            once(self.content_bytes.is_some())?;
            let digits =
                std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            self.content_bytes =
                Some(digits.and_then(|text| text.parse().ok()).ok_or("the Content-Length is not a number")?);
            return Ok(());
        }
        // `Server` names the software of this server, not of the script.
        if is("server") {
            return Ok(());
        }
        if is("location") {
            once(self.location.is_some())?;
            self.location = Some(value.to_vec());
        }
        if is("content-type") {
            once(self.has_type)?;
            self.has_type = true;
        }
        // `Headers` omits headers that belong to the connection, but reports `Connection: close`.
        self.closes |= self.headers.add(name, value) == Some(Flaw::Close);
        Ok(())
    }

    /// Selects the kind of response (RFC 3875 section 6.2) after the last header line.
    fn judge(self) -> Result<Head, &'static str> {
        let Draft { status, location, content_bytes, has_type, headers, closes } = self;
        // A location with a fragment is sent to the client, because a local redirect must not have
        // a fragment (RFC 3875 section 6.2.2).
        let is_local = |to: &[u8]| to.starts_with(b"/") && !to.starts_with(b"//") && !to.contains(&b'#');
        let answer = match (status, location, has_type) {
            (None, Some(to), false) if is_local(&to) => Kind::Local(to),
            (Some(status), ..) if status.is_bodiless() => Kind::Bare(status),
            (status, Some(_), true) => Kind::Content(status.unwrap_or(Status::FOUND)),
            (status, Some(_), false) => Kind::Bare(status.unwrap_or(Status::FOUND)),
            (status, None, true) => Kind::Content(status.unwrap_or(Status::OK)),
            (Some(status), None, false) => Kind::Bare(status),
            (None, None, false) => return Err("the head has no Content-Type, Location or Status"),
        };
        Ok(Head { answer, headers, closes, content_bytes })
    }
}

/// Returns an error if a header that must be unique already exists.
fn once(is_there: bool) -> Result<(), &'static str> {
    if is_there { Err("a header that must be unique is repeated") } else { Ok(()) }
}

/// Parses a `Status` value such as `404 Not Found`. The reason phrase is ignored. Informational
/// statuses (1xx) are refused, because a head describes a final response.
fn status(value: &[u8]) -> Result<Status, &'static str> {
    let digits = value.get(..3).filter(|_| value.get(3).is_none_or(|&byte| byte == b' '));
    let code = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|code| code.parse().ok());
    code.and_then(Status::from_code).filter(|status| status.code() >= 200).ok_or("the Status is invalid")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the parsed head with `expected`. Every shorter part of a valid head must be
    /// reported as incomplete.
    #[track_caller]
    fn check(output: &str, expected: Result<(&str, &str), &str>) {
        let got = take_head(output.as_bytes());
        let whole = match &got {
            Ok(Some((head, used))) => {
                for end in 0..*used {
                    assert_eq!(take_head(&output.as_bytes()[..end]), Ok(None), "{end} bytes of {output:?}");
                }
                let kind = match &head.answer {
                    Kind::Content(status) => format!("content {}", status.code()),
                    Kind::Bare(status) => format!("bare {}", status.code()),
                    Kind::Local(path) => format!("local {}", path.escape_ascii()),
                };
                Ok((kind, head.headers.as_bytes().escape_ascii().to_string()))
            }
            Ok(None) => Ok(("nothing".to_owned(), String::new())),
            Err(why) => Err(*why),
        };
        let expected = expected.map(|(kind, headers)| (kind.to_owned(), headers.to_owned()));
        assert_eq!(whole.map_err(|why| why.to_owned()), expected.map_err(|why| why.to_owned()), "{output:?}");
    }

    #[test]
    fn heads_and_what_they_make_of_the_answer() {
        let html = r"Content-Type: text/html\r\n";
        check("Content-Type: text/html\n\nhello", Ok(("content 200", html)));
        check("content-type:text/html\r\n\r\nhello", Ok(("content 200", r"content-type: text/html\r\n")));
        check("Status: 404 Gone fishing\nContent-Type: text/html\n\n", Ok(("content 404", html)));
        check("Status: 299\nContent-Type: text/html\n\n", Ok(("content 299", html)));
        check("Status: 204\nContent-Type: text/html\n\n", Ok(("bare 204", html)));
        check("Status: 403 No\n\n", Ok(("bare 403", "")));
        check("Location: /a?b\n\n", Ok(("local /a?b", r"Location: /a?b\r\n")));
        check("Location: /a?b#c\n\n", Ok(("bare 302", r"Location: /a?b#c\r\n")));
        check("Location: http://a/\n\n", Ok(("bare 302", r"Location: http://a/\r\n")));
        check("Location: //a/\n\n", Ok(("bare 302", r"Location: //a/\r\n")));
        check("Status: 303\nLocation: /a\n\n", Ok(("bare 303", r"Location: /a\r\n")));
        check(
            "Location: /a\nContent-Type: text/html\n\n",
            Ok(("content 302", r"Location: /a\r\nContent-Type: text/html\r\n")),
        );
        check(
            "Content-Type: text/html\nSet-Cookie: a\nSet-Cookie: b\nConnection: close\nDate: x\n\n",
            Ok(("content 200", r"Content-Type: text/html\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n")),
        );
        check("Content-Type: text/html\n", Ok(("nothing", "")));
    }

    #[test]
    fn heads_that_are_none() {
        check("\nhello", Err("the head has no Content-Type, Location or Status"));
        check("X: y\n\n", Err("the head has no Content-Type, Location or Status"));
        check("HTTP/1.1 200 OK\nContent-Type: a/b\n\n", Err("a header line has no colon"));
        check("Traceback (most recent call last):\n", Err("a header name is malformed"));
        check("Content-Type: a\n folded: b\n\n", Err("a header name is malformed"));
        check("Content-Type: a\rb\n\n", Err("a header value has a control character"));
        check("Content-Type: a\nContent-Type: b\n\n", Err("a header that must be unique is repeated"));
        for status in ["100", "99", "600", "abc", "20", "2000", "", "200OK"] {
            check(&format!("Status: {status}\n\n"), Err("the Status is invalid"));
        }
        check("Content-Length: +5\nContent-Type: a\n\n", Err("the Content-Length is not a number"));
        let head = take_head(b"Content-Length: 5\nContent-Type: a\n\nhello");
        assert_eq!(head.map(|head| head.and_then(|(head, _)| head.content_bytes)), Ok(Some(5)));
    }
}
