//! Header lines of a response, ready to be sent, and the rules for adding one.
//!
//! Names and values come from handlers, scripts and the operator. No line can end early, start
//! another line, or change the framing of the message (RFC 9110 section 5.5, RFC 9112 section 6).
//! This file must not know who gave a header.

use crate::http::field_lines::{is_token, list_elements, trim_ows};
use crate::text;

/// Header lines of a response. Each is a token, a colon, a space, a value without control
/// characters, CR and LF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    bytes: Vec<u8>,
}

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Headers { bytes: Vec::new() }
    }

    /// No headers, with capacity for `bytes` of them.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Headers { bytes: Vec::with_capacity(bytes) }
    }

    /// Sets a header, and replaces lines with this name. `Set-Cookie`, `Link` and
    /// `WWW-Authenticate` are added, and a `Vary` is joined with the existing line. Returns the
    /// reason if the header is not sent as given.
    pub fn set(&mut self, name: &str, value: &[u8]) -> Option<Flaw> {
        self.put(How::Set, name.as_bytes(), value)
    }

    /// Adds a header, and keeps lines with this name. For a header with a single value, such as
    /// `Content-Type`, the new line replaces the old one. Returns the reason if the header is not
    /// sent as given.
    pub fn add(&mut self, name: &str, value: &[u8]) -> Option<Flaw> {
        self.put(How::Add, name.as_bytes(), value)
    }

    /// Puts a header among the others; see [`Headers::set`].
    pub(crate) fn put(&mut self, how: How, name: &[u8], value: &[u8]) -> Option<Flaw> {
        if let Some(flaw) = flaw_of_name(name, value) {
            return Some(flaw);
        }
        if name.eq_ignore_ascii_case(b"vary") && self.has(name) {
            let written = written(name, value);
            self.join_vary(&written.value);
            return written.flaw;
        }
        if self.outranks(how, name, value) {
            return None;
        }
        if how == How::BesideSandbox
            && let Some(both) = self.with_sandbox(name, value)
        {
            return self.put(How::Set, name, &both);
        }
        if how == How::Directive
            && let Some(same) = self.lines().find(|line| line.is_named(name))
        {
            let both = [value, b", ", same.value()].concat();
            return self.put(How::Set, name, &both);
        }
        let adds = is_repeated(name) || (how == How::Add && !is_one_of(name, &SINGLE));
        if !adds {
            self.remove(name);
        }
        let is_uri = is_one_of(name, &URI_REFERENCES);
        if is_uri || text::run_len(value) != value.len() {
            let written = written(name, value);
            self.push_line(name, &written.value);
            return written.flaw;
        }
        self.push_line(name, value);
        None
    }

    /// True if an existing line with this name is kept instead of the new one.
    fn outranks(&self, how: How, name: &[u8], value: &[u8]) -> bool {
        let has = |directive: &[u8]| {
            let same = self.lines().filter(|line| line.is_named(name));
            same.flat_map(|line| list_elements(line.value())).any(|one| one.eq_ignore_ascii_case(directive))
        };
        match how {
            How::IfAbsent => self.has(name),
            How::SetUnlessNoStore => has(b"no-store"),
            How::Directive => has(b"no-store") || has(value),
            How::Set | How::Add | How::BesideSandbox => false,
        }
    }

    /// An existing policy with this name that contains `sandbox`, followed by `value`.
    fn with_sandbox(&self, name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let is_sandbox = |directive: &[u8]| {
            directive.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()) == Some(b"sandbox")
        };
        let mut same = self.lines().filter(|line| line.is_named(name));
        let policy = same.find(|line| line.value().split(|byte| b";,".contains(byte)).any(is_sandbox))?;
        Some([policy.value(), b", ", value].concat())
    }

    /// Puts a header before all others, unless there is one with this name. The value must be free
    /// of control characters.
    pub(crate) fn put_first(&mut self, name: &str, value: &str) {
        if !self.has(name.as_bytes()) {
            self.bytes.splice(0..0, [name, ": ", value, "\r\n"].concat().into_bytes());
        }
    }

    fn push_line(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Adds to the first `Vary` line the names that no `Vary` line contains (RFC 9110 section
    /// 12.5.5).
    fn join_vary(&mut self, value: &[u8]) {
        let mut joined: Vec<u8> = Vec::new();
        let lines = self.lines().filter(|line| line.is_named(b"vary"));
        let elements = lines.map(|line| line.value()).chain(std::iter::once(value)).flat_map(list_elements);
        let mut names: Vec<&[u8]> = Vec::new();
        for element in elements {
            if names.iter().all(|name| !name.eq_ignore_ascii_case(element)) {
                names.push(element);
            }
        }
        if names.contains(&&b"*"[..]) {
            names = vec![b"*"];
        }
        for (at, name) in names.iter().enumerate() {
            joined.extend_from_slice(if at == 0 { b"" } else { b", " });
            joined.extend_from_slice(name);
        }
        let Some(at) = self.lines().find(|line| line.is_named(b"vary")).map(|line| line.at) else { return };
        self.remove(b"vary");
        let line = [b"Vary: ", &joined[..], b"\r\n"].concat();
        self.bytes.splice(at..at, line);
    }

    /// Removes all lines with this name.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        while let Some(line) = self.lines().find(|line| line.is_named(name)) {
            let range = line.at..line.at + line.bytes.len();
            self.bytes.drain(range);
        }
    }

    /// True if there is a line with this name, in any case.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.lines().any(|line| line.is_named(name))
    }

    /// Lines in their order.
    pub(crate) fn lines(&self) -> Lines<'_> {
        lines(&self.bytes)
    }

    /// Lines as bytes, each with its CR and LF.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True if there are no headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends header lines whose names do not occur in these headers.
    pub(crate) fn append(&mut self, lines: &[u8]) {
        self.bytes.extend_from_slice(lines);
    }
}

/// Rule by which a header joins the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Replaces lines with the same name.
    Set,
    /// Follows lines with the same name.
    Add,
    /// Is left out if there is a line with the same name. A `Vary` is joined nevertheless.
    IfAbsent,
    /// Replaces lines with the same name, unless one of them forbids storing the response.
    SetUnlessNoStore,
    /// Replaces lines with the same name, but keeps a policy with `sandbox`. The new policy is then
    /// appended to it, because clients enforce each policy of a list (CSP level 3, section 8.1).
    /// The directive is recognised in lower case only, as the server writes it.
    BesideSandbox,
    /// Precedes the directives of a line with the same name. Left out if that line contains this
    /// directive or forbids storing the response.
    Directive,
}

/// Reason why a header is not sent as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The name is not a token (RFC 9110 section 5.6.2). The header is left out.
    Name,
    /// The value contained control characters. They became spaces; in a URI they were
    /// percent-encoded.
    Control,
    /// The name belongs to the connection. The header is left out.
    Framing,
    /// `Connection: close`. The header is left out, and the connection closes.
    Close,
}

impl Flaw {
    /// Sentence for the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Flaw::Name => "a header whose name is not a token was left out",
            Flaw::Control => "control characters in a header were replaced",
            Flaw::Framing => "a header that only the connection may write was left out",
            Flaw::Close => "a header requests to close the connection",
        }
    }
}

/// Header lines in bytes that were written before.
pub(crate) fn lines(written: &[u8]) -> Lines<'_> {
    Lines { bytes: written, at: 0 }
}

/// Iterator over written header lines.
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.bytes.get(self.at..)?;
        let end = memchr::memchr(b'\n', rest)? + 1;
        let line = Line { at: self.at, bytes: &rest[..end], name_len: memchr::memchr(b':', &rest[..end])? };
        self.at += end;
        Some(line)
    }
}

/// One written header line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Position of the line among all bytes.
    at: usize,
    /// Bytes of the line, with CR and LF.
    bytes: &'a [u8],
    name_len: usize,
}

impl<'a> Line<'a> {
    pub(crate) fn name(&self) -> &'a [u8] {
        &self.bytes[..self.name_len]
    }

    pub(crate) fn value(&self) -> &'a [u8] {
        let value = &self.bytes[self.name_len + 1..];
        trim_ows(value.strip_suffix(b"\r\n").unwrap_or(value))
    }

    pub(crate) fn is_named(&self, name: &[u8]) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }
}

/// Headers about one connection or about the framing of one message. Only the connection writes
/// them, because two values would give two readings of the same bytes.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// True if only the connection may write a header with this name.
pub(crate) fn is_framing(name: &[u8]) -> bool {
    is_one_of(name, &FRAMING)
}

/// Headers of which each line counts: setting one adds it.
const REPEATED: [&str; 4] = ["link", "set-cookie", "vary", "www-authenticate"];

/// True if each line with this name counts.
pub(crate) fn is_repeated(name: &[u8]) -> bool {
    is_one_of(name, &REPEATED)
}

/// Headers with a single value. Clients disagree about which of two lines counts, so a second one
/// replaces the first.
const SINGLE: [&str; 14] = [
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-origin",
    "access-control-max-age",
    "age",
    "content-disposition",
    "content-range",
    "content-type",
    "etag",
    "expires",
    "last-modified",
    "location",
    "retry-after",
    "server",
];

/// Headers whose value is a URI reference (RFC 9110 sections 8.7 and 10.2.2).
const URI_REFERENCES: [&str; 2] = ["content-location", "location"];

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Reason why a header with this name is left out, if it is.
fn flaw_of_name(name: &[u8], value: &[u8]) -> Option<Flaw> {
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Some(Flaw::Name);
    }
    if !is_framing(name) {
        return None;
    }
    let closes = name.eq_ignore_ascii_case(b"connection")
        && list_elements(value).any(|option| option.eq_ignore_ascii_case(b"close"));
    Some(if closes { Flaw::Close } else { Flaw::Framing })
}

/// A value without control characters.
struct Written {
    value: Vec<u8>,
    flaw: Option<Flaw>,
}

/// Value that may be sent. In a URI reference all bytes that no URI contains are percent-encoded.
/// This includes the backslash, because browsers take `/\host` for `//host`. They drop a tab
/// (WHATWG URL section 4.4).
fn written(name: &[u8], value: &[u8]) -> Written {
    let is_control = |byte: u8| (byte.is_ascii_control() && byte != b'\t') || byte == 0x7f;
    let flaw = value.iter().any(|&byte| is_control(byte)).then_some(Flaw::Control);
    if !is_one_of(name, &URI_REFERENCES) {
        let value = value.iter().map(|&byte| if is_control(byte) { b' ' } else { byte }).collect();
        return Written { value, flaw };
    }
    let mut encoded = Vec::with_capacity(value.len());
    for &byte in trim_ows(value) {
        if byte <= b' ' || byte >= 0x7f || byte == b'\\' {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            encoded.push(byte);
        }
    }
    Written { value: encoded, flaw }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Given = (How, &'static str, &'static str);

    /// Header lines made of `given`, and the flaws of those that have one.
    fn put(given: &[Given]) -> (String, Vec<Flaw>) {
        let mut headers = Headers::new();
        let flaws = given
            .iter()
            .filter_map(|(how, name, value)| headers.put(*how, name.as_bytes(), value.as_bytes()));
        let flaws = flaws.collect();
        (headers.as_bytes().escape_ascii().to_string().replace("\\r\\n", "|"), flaws)
    }

    #[test]
    fn a_header_is_set_once_or_added() {
        use How::{Add, BesideSandbox, Directive, IfAbsent, Set, SetUnlessNoStore};
        let cases: &[(&[Given], &str)] = &[
            (&[(Set, "A", "1"), (Set, "a", "2")], "a: 2|"),
            (&[(Set, "A", "1"), (Add, "a", "2"), (Set, "B", "3")], "A: 1|a: 2|B: 3|"),
            (&[(Add, "A", "1"), (Add, "A", "2"), (Set, "A", "3")], "A: 3|"),
            (&[(Set, "A", "1"), (IfAbsent, "a", "2"), (IfAbsent, "B", "")], "A: 1|B: |"),
            (&[(Add, "Content-Type", "a/b"), (Add, "content-type", "c/d")], "content-type: c/d|"),
            (
                &[(Add, "ETag", "1"), (Add, "ETAG", "2"), (Add, "Server", "a"), (Add, "server", "b")],
                "ETAG: 2|server: b|",
            ),
            (&[(Set, "Set-Cookie", "a=1"), (Set, "set-cookie", "b=2")], "Set-Cookie: a=1|set-cookie: b=2|"),
            (&[(Set, "Link", "<a>"), (Set, "Link", "<a>")], "Link: <a>|Link: <a>|"),
            (
                &[(Set, "WWW-Authenticate", "Basic"), (Set, "Www-Authenticate", "X")],
                "WWW-Authenticate: Basic|Www-Authenticate: X|",
            ),
            (&[(IfAbsent, "Link", "<a>"), (IfAbsent, "Link", "<b>")], "Link: <a>|"),
            (
                &[(Set, "vary", "Accept"), (Set, "X", "1"), (Add, "Vary", "origin, ACCEPT")],
                "Vary: Accept, origin|X: 1|",
            ),
            (&[(Set, "Vary", "Accept"), (IfAbsent, "Vary", "Origin")], "Vary: Accept, Origin|"),
            (&[(Set, "Vary", "Accept, Origin"), (Set, "Vary", "*")], "Vary: *|"),
            (&[(Set, "Vary", "Accept"), (Set, "Vary", "")], "Vary: Accept|"),
            (&[(Set, "A", "1"), (SetUnlessNoStore, "A", "2")], "A: 2|"),
            (&[(Set, "A", "x, No-Store"), (SetUnlessNoStore, "A", "2")], "A: x, No-Store|"),
            (&[(Set, "A", "no-stores"), (SetUnlessNoStore, "A", "2")], "A: 2|"),
            (&[(SetUnlessNoStore, "A", "no-store"), (Set, "A", "2")], "A: 2|"),
            (&[(Set, "A", "sandbox"), (BesideSandbox, "a", "b")], "a: sandbox, b|"),
            (
                &[(Set, "A", "x y; sandbox allow-forms"), (BesideSandbox, "A", "b")],
                "A: x y; sandbox allow-forms, b|",
            ),
            (&[(Set, "A", "x y, sandbox"), (BesideSandbox, "A", "b")], "A: x y, sandbox, b|"),
            (&[(Set, "A", "x sandbox; sandboxes"), (BesideSandbox, "A", "b")], "A: b|"),
            (&[(BesideSandbox, "A", "b"), (BesideSandbox, "B", "b")], "A: b|B: b|"),
            (&[(Directive, "A", "private")], "A: private|"),
            (&[(Set, "A", "no-cache"), (Directive, "a", "private")], "a: private, no-cache|"),
            (&[(Set, "A", "max-age=1, Private"), (Directive, "A", "private")], "A: max-age=1, Private|"),
            (&[(Set, "A", "No-Store"), (Directive, "A", "private")], "A: No-Store|"),
            (&[(Set, "A", "b"), (Directive, "A", "private"), (Directive, "A", "private")], "A: private, b|"),
        ];
        for (given, expected) in cases {
            assert_eq!(put(given), ((*expected).to_owned(), vec![]), "{given:?}");
        }
    }

    #[test]
    fn no_header_ends_its_line_or_frames_the_message() {
        use How::{Add, IfAbsent, Set};
        let cases: &[(Given, &str, Option<Flaw>)] = &[
            ((Set, "A", "1\r\nB: 2"), "A: 1  B: 2|", Some(Flaw::Control)),
            ((Add, "A", "\0\x01\x1f\x7f\t"), "A:     \\t|", Some(Flaw::Control)),
            ((Set, "Vary", "a\nb"), "Vary: a b|", Some(Flaw::Control)),
            ((Set, "Set-Cookie", "a=1\r\nX: y"), "Set-Cookie: a=1  X: y|", Some(Flaw::Control)),
            ((Set, "Location", "/a\r\nX: y"), "Location: /a%0D%0AX:%20y|", Some(Flaw::Control)),
            ((Set, "location", "/\t/host"), "location: /%09/host|", None),
            ((Set, "Location", "/\\host"), "Location: /%5Chost|", None),
            ((Set, "Content-Location", " /\u{e9} "), "Content-Location: /%C3%A9|", None),
            ((Set, "Location", "https://a/b?c=%20#d"), "Location: https://a/b?c=%20#d|", None),
            ((Set, "A\r\nB", "1"), "", Some(Flaw::Name)),
            ((Add, "A: b", "1"), "", Some(Flaw::Name)),
            ((Set, "", "1"), "", Some(Flaw::Name)),
            ((Set, "Content-Length ", "1"), "", Some(Flaw::Name)),
            ((Set, "Content-Length", "1"), "", Some(Flaw::Framing)),
            ((Add, "transfer-encoding", "chunked"), "", Some(Flaw::Framing)),
            ((IfAbsent, "KEEP-ALIVE", "timeout=1"), "", Some(Flaw::Framing)),
            ((Set, "Upgrade", "h2c"), "", Some(Flaw::Framing)),
            ((Set, "TE", "trailers"), "", Some(Flaw::Framing)),
            ((Set, "Trailer", "X"), "", Some(Flaw::Framing)),
            ((Set, "Date", "now"), "", Some(Flaw::Framing)),
            ((Set, "Connection", "keep-alive"), "", Some(Flaw::Framing)),
            ((Set, "connection", "X, Close"), "", Some(Flaw::Close)),
        ];
        for (given, expected, flaw) in cases {
            assert_eq!(put(&[*given]), ((*expected).to_owned(), flaw.iter().copied().collect()), "{given:?}");
        }
    }

    fn any_name() -> impl Strategy<Value = Vec<u8>> {
        let known =
            FRAMING.iter().chain(&REPEATED).chain(&SINGLE).chain(&["x-a", "X-A", "x-b", "Content-Location"]);
        let known: Vec<Vec<u8>> = known.map(|name| name.as_bytes().to_vec()).collect();
        prop_oneof![6 => proptest::sample::select(known), 1 => proptest::collection::vec(any::<u8>(), 0..6)]
    }

    fn any_value() -> impl Strategy<Value = Vec<u8>> {
        let pieces: &[&[u8]] = &[
            b"a", b"b", b", ", b"\r\n", b"\n", b"\r", b"\0", b"\t", b":", b" ", b"close", b"*", b"\x7f",
            b"\xff",
        ];
        proptest::collection::vec(proptest::sample::select(pieces), 0..6).prop_map(|pieces| pieces.concat())
    }

    fn any_how() -> impl Strategy<Value = How> {
        let all =
            [How::Set, How::Add, How::IfAbsent, How::SetUnlessNoStore, How::BesideSandbox, How::Directive];
        proptest::sample::select(all.to_vec())
    }

    proptest! {
        #[test]
        fn whatever_is_given_makes_whole_lines(
            given in proptest::collection::vec((any_how(), any_name(), any_value()), 0..12)
        ) {
            let mut headers = Headers::new();
            for (how, name, value) in &given {
                headers.put(*how, name, value);
            }
            let written = headers.as_bytes();
            prop_assert_eq!(headers.lines().map(|line| line.bytes.len()).sum::<usize>(), written.len());
            for line in headers.lines() {
                let text = line.bytes.escape_ascii().to_string();
                prop_assert!(line.bytes.ends_with(b"\r\n"), "{}", text);
                let content = &line.bytes[..line.bytes.len() - 2];
                prop_assert!(content.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)), "{}", text);
                prop_assert!(!line.name().is_empty() && line.name().iter().copied().all(is_token), "{}", text);
                prop_assert!(!is_framing(line.name()), "{}", text);
                let same = headers.lines().filter(|other| other.is_named(line.name())).count();
                let may_repeat = !is_one_of(line.name(), &SINGLE) && !line.is_named(b"vary");
                prop_assert!(same == 1 || may_repeat, "{} {} times", text, same);
            }
        }
    }
}
