//! Field lines of a parsed head: looking one up by name, and splitting its value.
//!
//! A borrowed view over what httparse left behind; it copies and allocates nothing. It must not know what any
//! single field means (each has its own file) nor where the bytes came from.

use httparse::Header;

/// The field lines of one head, in the order they were received.
///
/// A lookup is a walk over the lines. Heads have about twenty of them, so a walk that compares lengths first
/// is faster than any table that would have to be built for it.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    lines: &'a [Header<'a>],
    lengths: NameLengths,
}

/// Lengths of field names, one bit each; the last bit stands for all from 31 on. Most of what is asked of a head is
/// whether it has a field that it does not have, and nearly always its length alone says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameLengths(u32);

impl NameLengths {
    /// The lengths of these names.
    #[must_use]
    pub const fn of(names: &[&str]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < names.len() {
            bits |= NameLengths::bit(names[at]);
            at += 1;
        }
        NameLengths(bits)
    }

    const fn bit(name: &str) -> u32 {
        1 << if name.len() < 31 { name.len() } else { 31 }
    }
}

impl<'a> Fields<'a> {
    /// A view of these lines. Unused entries (`httparse::EMPTY_HEADER`) must have been cut off.
    pub fn new(lines: &'a [Header<'a>]) -> Self {
        let lengths = lines.iter().fold(0, |bits, line| bits | NameLengths::bit(line.name));
        Fields { lines, lengths: NameLengths(lengths) }
    }

    /// Whether no line has a name of any of these lengths, so none of those names is there. False says nothing.
    #[must_use]
    pub fn lack(&self, names: NameLengths) -> bool {
        self.lengths.0 & names.0 == 0
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
        self.lines.iter().map(|line| (line.name, line.value))
    }

    /// The value of the first line of this name, whatever its case (RFC 9110 section 5.1).
    ///
    /// For fields that may come once only; use [`Fields::all`] where several lines make one list.
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        if self.lack(NameLengths::of(&[name])) {
            return None;
        }
        self.lines.iter().find(|line| is_named(line, name)).map(|line| line.value)
    }

    /// The values of all lines of this name, whatever its case, in the order received. Together they are one
    /// list (RFC 9110 section 5.3).
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.lines.iter().filter(move |line| is_named(line, name)).map(|line| line.value)
    }
}

/// Compares lengths before letters: most lines are dismissed without a look at their bytes.
fn is_named(line: &Header<'_>, name: &str) -> bool {
    line.name.len() == name.len() && line.name.eq_ignore_ascii_case(name)
}

/// Cuts optional whitespace (space and tab, RFC 9110 section 5.6.3) off both ends. Nothing else counts as
/// whitespace: a vertical tab or form feed that hides a token would be seen differently by the next hop.
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

/// The elements of one line of a comma-separated list (RFC 9110 section 5.6.1): whitespace trimmed, empty
/// elements skipped.
///
/// Commas inside quoted strings separate as well, so this is for lists of tokens and ranges only.
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// Whether any element of these lines is this token, whatever its case. For lists such as `Connection`.
pub fn has_token<'a>(lines: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    lines.flat_map(list_elements).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> [Header<'static>; 5] {
        [
            Header { name: "Host", value: b"a.test" },
            Header { name: "ACCEPT", value: b"text/html" },
            Header { name: "accept", value: b"*/*" },
            Header { name: "X-Empty", value: b"" },
            Header { name: "Accept-Encoding", value: b"gzip" },
        ]
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
