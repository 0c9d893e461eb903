//! Headers of a received head: parsing field lines, finding one by name, splitting its value.
//!
//! `headers.rs` has the headers that are sent. All results borrow from the head; this file copies
//! and allocates nothing. It must not know the meaning of a field, which has its own file, or the
//! source of the bytes.

use smallvec::SmallVec;

use crate::http::error::ProtocolError;
use crate::http::target::is_token_byte;
use crate::text;

/// Headers of one received head, as field lines in the order received.
///
/// A lookup visits the lines one after another. Heads have about twenty of them, so comparing
/// lengths first is faster than building a table.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedHeaders<'a> {
    lines: &'a [FieldLine<'a>],
    names: NameFilter,
}

impl<'a> ReceivedHeaders<'a> {
    /// View of these lines.
    #[must_use]
    pub fn new(lines: &'a [FieldLine<'a>]) -> Self {
        let names = lines.iter().fold(0, |bits, line| bits | line.key.bit());
        ReceivedHeaders { lines, names: NameFilter(names) }
    }

    /// True if none of these names occurs. False is uncertain.
    #[must_use]
    pub fn lack(&self, names: NameFilter) -> bool {
        self.names.0 & names.0 == 0
    }

    /// Number of field lines. A name that occurs twice counts twice.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True if there are no field lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Name and value of each line, in the order received. Names keep their case.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.lines.iter().map(|line| (line.name(), line.value))
    }

    /// Field lines as a slice.
    pub(super) fn lines(&self) -> &'a [FieldLine<'a>] {
        self.lines
    }

    /// Value of the first line with this name, in any case (RFC 9110 section 5.1).
    ///
    /// Use this for headers that may occur once, and [`ReceivedHeaders::all`] if several lines form
    /// one list.
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        if self.lack(NameFilter::of(&[name])) {
            return None;
        }
        self.lines.iter().find(|line| line.is_named(name)).map(|line| line.value)
    }

    /// Value of a header that may occur once (RFC 9110 section 5.3).
    ///
    /// # Errors
    /// 400 if there are several lines with this name, because another program on the way could use
    /// another one of them.
    pub fn only(&self, name: &str) -> Result<Option<&'a [u8]>, ProtocolError> {
        let mut lines = self.all(name);
        match (lines.next(), lines.next()) {
            (first, None) => Ok(first),
            (_, Some(_)) => Err(ProtocolError::bad_request("a header that may occur once occurs twice")),
        }
    }

    /// Values of all lines with this name, in any case, in the order received. Together they form
    /// one list (RFC 9110 section 5.3).
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.lines.iter().filter(move |line| line.is_named(name)).map(|line| line.value)
    }
}

/// A parsed field line: a token, and a value without control characters and without white space
/// around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLine<'a> {
    name: &'a [u8],
    value: &'a [u8],
    key: NameKey,
}

impl<'a> FieldLine<'a> {
    /// Name of the line, in the case in which it was sent.
    #[must_use]
    pub fn name(&self) -> &'a str {
        std::str::from_utf8(self.name).unwrap_or_default()
    }

    /// Name of the line as bytes, which needs no UTF-8 check.
    pub(super) fn name_bytes(&self) -> &'a [u8] {
        self.name
    }

    /// Value as sent, without white space around it.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    fn new(name: &'a [u8], value: &'a [u8]) -> Self {
        FieldLine { name, value, key: NameKey::of(name) }
    }

    /// Compares keys first, because they differ for nearly all other names.
    fn is_named(&self, name: &str) -> bool {
        self.key == NameKey::of(name.as_bytes()) && text::eq_ignore_case(self.name, name.as_bytes())
    }
}

impl<'a> From<httparse::Header<'a>> for FieldLine<'a> {
    fn from(line: httparse::Header<'a>) -> Self {
        FieldLine::new(line.name.as_bytes(), line.value)
    }
}

/// Lines of one head. The stack has space for about as many as browsers send. With a larger table,
/// the stack guard would touch each of its pages, which would stay resident in each thread of the
/// threads model.
pub(super) type FieldLineVec<'b> = SmallVec<[FieldLine<'b>; 24]>;

/// Parses the field lines at the start of `block`, up to the empty line after them. Returns their
/// length in bytes.
///
/// `None` if a line is not clearly valid (RFC 9112 section 5) or not complete, or if there are more
/// than `lines_max`. [httparse] then reads the head again and finds the error.
pub(super) fn take_lines<'b>(
    block: &'b [u8],
    lines_max: usize,
    lines: &mut FieldLineVec<'b>,
) -> Option<usize> {
    lines.clear();
    let (mut rest, mut left) = (block, lines_max);
    loop {
        if let [b'\r', b'\n', behind @ ..] = rest {
            return Some(block.len() - behind.len());
        }
        left = left.checked_sub(1)?;
        let (line, behind) = take_line(rest)?;
        lines.push(line);
        rest = behind;
    }
}

/// Parses one line, and returns it with the bytes after it.
#[inline]
fn take_line(bytes: &[u8]) -> Option<(FieldLine<'_>, &[u8])> {
    let usual = |block| text::letters(block) | text::equal(block, b'-');
    let mut name_len = text::prefix(bytes, usual);
    if bytes.get(name_len) != Some(&b':') {
        name_len = token_len(bytes);
        if bytes.get(name_len) != Some(&b':') {
            return None;
        }
    }
    let (name, behind) = (bytes.get(..name_len)?, bytes.get(name_len + 1..)?);
    let (value, behind) = behind.split_at_checked(text::run_len(behind))?;
    let [b'\r', b'\n', behind @ ..] = behind else { return None };
    let value = match value {
        // The usual form: one space before the value, none after it.
        [b' ', b'!'..=0xff, .., b'!'..=0xff] => &value[1..],
        other => trim_ows(other),
    };
    (!name.is_empty()).then(|| (FieldLine::new(name, value), behind))
}

/// Length of the token at the start of `bytes`. Not inlined, because it is only for long names and
/// names with other characters than letters and hyphens.
#[inline(never)]
fn token_len(bytes: &[u8]) -> usize {
    text::span(bytes, |block| text::letters(block) | text::equal(block, b'-'), is_token)
}

/// Bloom filter of field names, with one bit for each. Most lookups are for a header that the head
/// does not contain, and nearly always the filter alone can answer those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameFilter(u64);

impl NameFilter {
    /// Filter for these names, in any case.
    #[must_use]
    pub const fn of(names: &[&str]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < names.len() {
            bits |= NameKey::of(names[at].as_bytes()).bit();
            at += 1;
        }
        NameFilter(bits)
    }

    /// True if the name of this line may be one of these. False is certain.
    pub(super) fn may_have(self, line: &FieldLine<'_>) -> bool {
        self.0 & line.key.bit() != 0
    }
}

/// Number below 64 that is equal for all cases of a field name, and different for most other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NameKey(u8);

impl NameKey {
    /// Key made of length, first and last letter. The weights keep the names that browsers send
    /// apart from the conditional headers and `Range`.
    #[inline]
    const fn of(name: &[u8]) -> Self {
        let ends = match (name.first(), name.last()) {
            (Some(first), Some(last)) => 6 * (*first & 0x1f) as usize + 3 * (*last & 0x1f) as usize,
            _ => 0,
        };
        NameKey(((name.len() + ends) % 64) as u8)
    }

    const fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}

/// Removes optional white space (space and tab, RFC 9110 section 5.6.3) from both ends. Nothing
/// else counts as white space: the next hop would treat a vertical tab or form feed differently.
pub fn trim_ows(value: &[u8]) -> &[u8] {
    let mut rest = value;
    while let [b' ' | b'\t', tail @ ..] = rest {
        rest = tail;
    }
    while let [head @ .., b' ' | b'\t'] = rest {
        rest = head;
    }
    rest
}

/// Elements of one line of a comma-separated list (RFC 9110 section 5.6.1). White space around them
/// and empty elements are removed.
///
/// Commas in quoted strings separate as well, so use this only for lists of tokens and ranges.
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// True if an element of these lines is this token, in any case. For lists such as `Connection`.
pub fn has_token<'a>(lines: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    lines.flat_map(list_elements).any(|element| text::eq_ignore_case(element, token.as_bytes()))
}

/// True for a byte of a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    is_token_byte(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> FieldLineVec<'static> {
        let block =
            b"Host: a.test\r\nACCEPT:text/html\r\naccept: */* \r\nX-Empty:\r\nAccept-Encoding:\tgzip\r\n\r\n";
        let mut lines = FieldLineVec::new();
        assert_eq!(take_lines(block, 5, &mut lines), Some(block.len()));
        lines
    }

    #[test]
    fn names_are_found_in_any_case_and_whole() {
        let lines = lines();
        let headers = ReceivedHeaders::new(&lines);
        let cases: &[(&str, Option<&[u8]>)] = &[
            ("host", Some(b"a.test")),
            ("HOST", Some(b"a.test")),
            ("accept", Some(b"text/html")),
            ("x-empty", Some(b"")),
            ("hos", None),
            ("hosts", None),
            ("", None),
            ("accept-encodinG", Some(b"gzip")),
        ];
        for (name, expected) in cases {
            assert_eq!(headers.first(name), *expected, "{name:?}");
        }
    }

    #[test]
    fn all_lines_of_a_name_come_in_order() {
        let lines = lines();
        let headers = ReceivedHeaders::new(&lines);
        assert_eq!(headers.all("Accept").collect::<Vec<_>>(), [&b"text/html"[..], b"*/*"]);
        assert_eq!(headers.all("Cookie").count(), 0);
        assert_eq!(headers.only("Host"), Ok(Some(&b"a.test"[..])));
        assert_eq!(headers.only("Cookie"), Ok(None));
        assert!(headers.only("Accept").is_err());
        assert_eq!(headers.len(), 5);
        assert!(!headers.is_empty());
        assert!(ReceivedHeaders::new(&[]).is_empty());
        assert_eq!(headers.iter().next(), Some(("Host", &b"a.test"[..])));
        assert_eq!(headers.iter().count(), 5);
    }

    #[test]
    fn only_space_and_tab_are_trimmed() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"", b""),
            (b" \t ", b""),
            (b" a ", b"a"),
            (b"\ta b\t", b"a b"),
            (b"\x0ba\x0c", b"\x0ba\x0c"),
            (b"\ra\n", b"\ra\n"),
            (b"\xa0a", b"\xa0a"),
        ];
        for (value, expected) in cases {
            assert_eq!(trim_ows(value), *expected, "{value:?}");
        }
    }

    #[test]
    fn lists_lose_whitespace_and_empty_elements() {
        let cases: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b", ,\t,", &[]),
            (b"a", &[b"a"]),
            (b"a,b , c\t,", &[b"a", b"b", b"c"]),
            (b",a b", &[b"a b"]),
            (b"\"a,b\"", &[b"\"a", b"b\""]),
        ];
        for (value, expected) in cases {
            assert_eq!(list_elements(value).collect::<Vec<_>>(), *expected, "{value:?}");
        }
    }

    #[test]
    fn tokens_are_whole_elements_of_any_line() {
        let cases: &[(&[&[u8]], bool)] = &[
            (&[], false),
            (&[b""], false),
            (&[b"close"], true),
            (&[b"CLOSE"], true),
            (&[b"keep-alive, Close"], true),
            (&[b"keep-alive", b"close"], true),
            (&[b"closed"], false),
            (&[b"close;x"], false),
            (&[b"\x0bclose"], false),
        ];
        for (values, expected) in cases {
            assert_eq!(has_token(values.iter().copied(), "close"), *expected, "{values:?}");
        }
    }
}
