//! Field lines of a head: taking them apart, looking one up by name, splitting its value.
//!
//! All of it borrows from the head; it copies and allocates nothing. It must not know what any
//! single field means (each has its own file) nor where the bytes came from.

use smallvec::SmallVec;

use crate::http::error::ProtocolError;
use crate::http::target::is_token_byte;
use crate::text;

/// The field lines of one head, in the order they were received.
///
/// A lookup is a walk over the lines. Heads have about twenty of them, so a walk that compares
/// lengths first is faster than any table that would have to be built for it.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    lines: &'a [FieldLine<'a>],
    names: NameFilter,
}

impl<'a> Fields<'a> {
    /// A view of these lines.
    #[must_use]
    pub fn new(lines: &'a [FieldLine<'a>]) -> Self {
        let names = lines.iter().fold(0, |bits, line| bits | line.key.bit());
        Fields { lines, names: NameFilter(names) }
    }

    /// Whether none of these names is there. False says nothing.
    #[must_use]
    pub fn lack(&self, names: NameFilter) -> bool {
        self.names.0 & names.0 == 0
    }

    /// How many field lines there are; a name that came twice counts twice.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are no field lines at all.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Name and value of every line, in the order received. Names have the case they were sent in.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.lines.iter().map(|line| (line.name(), line.value))
    }

    /// The lines themselves.
    pub(super) fn lines(&self) -> &'a [FieldLine<'a>] {
        self.lines
    }

    /// The value of the first line of this name, whatever its case (RFC 9110 section 5.1).
    ///
    /// For fields that may come once only; use [`Fields::all`] where several lines make one list.
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        if self.lack(NameFilter::of(&[name])) {
            return None;
        }
        self.lines.iter().find(|line| line.is_named(name)).map(|line| line.value)
    }

    /// The value of a header that may come once (RFC 9110 section 5.3).
    ///
    /// # Errors
    /// 400 if there are several lines of this name. Another program on the way could go by another
    /// one of them.
    pub fn only(&self, name: &str) -> Result<Option<&'a [u8]>, ProtocolError> {
        let mut lines = self.all(name);
        match (lines.next(), lines.next()) {
            (first, None) => Ok(first),
            (_, Some(_)) => Err(ProtocolError::bad_request("a header that may come once came twice")),
        }
    }

    /// The values of all lines of this name, whatever its case, in the order received. Together
    /// they are one list (RFC 9110 section 5.3).
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.lines.iter().filter(move |line| line.is_named(name)).map(|line| line.value)
    }
}

/// One field line, taken apart: a token, and a value without control characters or white space
/// around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLine<'a> {
    name: &'a [u8],
    value: &'a [u8],
    key: NameKey,
}

impl<'a> FieldLine<'a> {
    /// The name, in the case it was sent in.
    #[must_use]
    pub fn name(&self) -> &'a str {
        std::str::from_utf8(self.name).unwrap_or_default()
    }

    /// The same as bytes, which costs no look at them.
    pub(super) fn name_bytes(&self) -> &'a [u8] {
        self.name
    }

    /// The value as it was sent, without white space around it.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    fn new(name: &'a [u8], value: &'a [u8]) -> Self {
        FieldLine { name, value, key: NameKey::of(name) }
    }

    /// Compares keys first: nearly all others are dismissed by them.
    fn is_named(&self, name: &str) -> bool {
        self.key == NameKey::of(name.as_bytes()) && text::eq_ignore_case(self.name, name.as_bytes())
    }
}

impl<'a> From<httparse::Header<'a>> for FieldLine<'a> {
    fn from(line: httparse::Header<'a>) -> Self {
        FieldLine::new(line.name.as_bytes(), line.value)
    }
}

/// The lines of one head. There is room on the stack for as many as browsers send, which is about
/// twenty. Every page of a larger table would be touched by the guard of the stack, and stay
/// resident in each thread of the twin.
pub(super) type FieldLines<'b> = SmallVec<[FieldLine<'b>; 24]>;

/// Takes the field lines at the beginning of `block` apart, up to the empty line behind them, and
/// says how many bytes that were.
///
/// None if any of it is not plainly right (RFC 9112 section 5), not there yet, or more than
/// `lines_max`. [httparse] then reads the head once more, and knows what is wrong with it.
pub(super) fn take_lines<'b>(block: &'b [u8], lines_max: usize, lines: &mut FieldLines<'b>) -> Option<usize> {
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

/// Takes one line apart. Also says what is behind it.
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
        // As nearly everybody writes it.
        [b' ', b'!'..=0xff, .., b'!'..=0xff] => &value[1..],
        other => trim_ows(other),
    };
    (!name.is_empty()).then(|| (FieldLine::new(name, value), behind))
}

/// How long the token is that these bytes begin with. Out of line, for names that are not of
/// letters and hyphens, or long.
#[inline(never)]
fn token_len(bytes: &[u8]) -> usize {
    text::span(bytes, |block| text::letters(block) | text::equal(block, b'-'), is_token_byte)
}

/// A Bloom filter of field names, with one bit for each. Most of what is asked of a head is whether
/// it has a field that it does not have, and nearly always this alone says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameFilter(u64);

impl NameFilter {
    /// Of these names, in any case.
    #[must_use]
    pub const fn of(names: &[&str]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < names.len() {
            bits |= NameKey::of(names[at].as_bytes()).bit();
            at += 1;
        }
        NameFilter(bits)
    }

    /// Whether the name of this line may be one of them. False is certain.
    pub(super) fn may_have(self, line: &FieldLine<'_>) -> bool {
        self.0 & line.key.bit() != 0
    }
}

/// A number below 64 that a field name has in any case, and few others share with it. Most names
/// are told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NameKey(u8);

impl NameKey {
    /// By length, first and last letter, weighted so that of the names that browsers send none
    /// shares its key with a condition or `Range`.
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

/// Cuts optional whitespace (space and tab, RFC 9110 section 5.6.3) off both ends. Nothing else
/// counts as whitespace: a vertical tab or form feed that hides a token would be seen differently
/// by the next hop.
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

/// The elements of one line of a comma-separated list (RFC 9110 section 5.6.1): whitespace trimmed,
/// empty elements skipped.
///
/// Commas inside quoted strings separate as well, so this is for lists of tokens and ranges only.
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// Whether any element of these lines is this token, whatever its case. For lists such as
/// `Connection`.
pub fn has_token<'a>(lines: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    lines.flat_map(list_elements).any(|element| text::eq_ignore_case(element, token.as_bytes()))
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> FieldLines<'static> {
        let block =
            b"Host: a.test\r\nACCEPT:text/html\r\naccept: */* \r\nX-Empty:\r\nAccept-Encoding:\tgzip\r\n\r\n";
        let mut lines = FieldLines::new();
        assert_eq!(take_lines(block, 5, &mut lines), Some(block.len()));
        lines
    }

    #[test]
    fn names_are_found_in_any_case_and_whole() {
        let lines = lines();
        let fields = Fields::new(&lines);
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
            assert_eq!(fields.first(name), *expected, "{name:?}");
        }
    }

    #[test]
    fn all_lines_of_a_name_come_in_order() {
        let lines = lines();
        let fields = Fields::new(&lines);
        assert_eq!(fields.all("Accept").collect::<Vec<_>>(), [&b"text/html"[..], b"*/*"]);
        assert_eq!(fields.all("Cookie").count(), 0);
        assert_eq!(fields.only("Host"), Ok(Some(&b"a.test"[..])));
        assert_eq!(fields.only("Cookie"), Ok(None));
        assert!(fields.only("Accept").is_err());
        assert_eq!(fields.len(), 5);
        assert!(!fields.is_empty());
        assert!(Fields::new(&[]).is_empty());
        assert_eq!(fields.iter().next(), Some(("Host", &b"a.test"[..])));
        assert_eq!(fields.iter().count(), 5);
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
