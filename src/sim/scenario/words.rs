//! The words of a line of a scenario, and the message for a wrong one.
//!
//! A line consists of words separated by spaces. Text in double quotes is one word. This file must
//! not know the meaning of words.

use std::fmt;

/// The line of a scenario that cannot be used, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Name of the file.
    pub file: String,
    /// Number of the line, from 1; 0 for an error of the whole file.
    pub line: usize,
    /// The error, and the allowed words or values.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

impl std::error::Error for ParseError {}

/// A result whose error is one line of text without the place.
pub(super) type Parsed<T> = Result<T, String>;

/// Longest time in a scenario: one hour, in nanoseconds.
pub(super) const TIME_NS_MAX: u64 = 3600 * 1_000_000_000;

/// Units of times, the longest names first, in nanoseconds.
const UNITS: [(&str, u64); 4] = [("ns", 1), ("us", 1000), ("ms", 1_000_000), ("s", 1_000_000_000)];

/// The words of one line that are still to be read.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        Words { rest: line.trim() }
    }

    /// Returns everything that is left.
    pub(super) fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.rest)
    }

    /// Returns the next word without taking it; empty at the end.
    pub(super) fn peek(&self) -> &'a str {
        self.rest.split_whitespace().next().unwrap_or_default()
    }

    /// Takes the next word. `what` names it in the message if the line ends.
    pub(super) fn word(&mut self, what: &str) -> Parsed<&'a str> {
        let word = self.peek();
        if word.is_empty() {
            return Err(format!("the line ends where {what} is expected"));
        }
        self.skip(word.len());
        Ok(word)
    }

    /// Takes the next word if it is this one.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let is_next = self.peek() == word;
        if is_next {
            self.skip(word.len());
        }
        is_next
    }

    /// Takes this word, which must come next.
    pub(super) fn expect(&mut self, word: &str) -> Parsed<()> {
        match self.take(word) {
            true => Ok(()),
            false => Err(found(self.peek(), &[word])),
        }
    }

    /// Takes the next word, which must be one of `allowed`. Returns its index.
    pub(super) fn one_of(&mut self, allowed: &[&str]) -> Parsed<usize> {
        let next = self.peek();
        let index = allowed.iter().position(|word| *word == next).ok_or_else(|| found(next, allowed))?;
        self.skip(next.len());
        Ok(index)
    }

    /// Takes a number from `least` to `most`.
    pub(super) fn number(&mut self, what: &str, least: u64, most: u64) -> Parsed<u64> {
        let word = self.word(what)?;
        let number = word.replace('_', "").parse().ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("'{word}' is not {what}; allowed: a number from {least} to {most}"))
    }

    /// Takes a time, in nanoseconds: `5ms`.
    pub(super) fn time(&mut self) -> Parsed<u64> {
        let word = self.word("a time")?;
        time(word).ok_or_else(|| {
            format!("'{word}' is not a time; allowed: a number with ns, us, ms or s, at most 3600s")
        })
    }

    /// True if text in quotes comes next.
    pub(super) fn is_quoted(&self) -> bool {
        self.rest.starts_with('"')
    }

    /// Takes text in quotes. `\r \n \t \" \\ \0` and `\xHH` stand for bytes.
    pub(super) fn quoted(&mut self) -> Parsed<Vec<u8>> {
        let Some(inner) = self.rest.strip_prefix('"') else {
            return Err(found(self.peek(), &["text in double quotes"]));
        };
        let mut bytes = Vec::new();
        let mut chars = inner.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = inner[at + 1..].trim_start();
                    return Ok(bytes);
                }
                '\\' => {
                    let (_, escaped) = chars.next().unwrap_or((at, ' '));
                    let byte = match escaped {
                        'r' => b'\r',
                        'n' => b'\n',
                        't' => b'\t',
                        '0' => 0,
                        '"' => b'"',
                        '\\' => b'\\',
                        'x' => {
                            let digits = inner.get(at + 2..at + 4).unwrap_or_default();
                            let byte = u8::from_str_radix(digits, 16).map_err(|_| {
                                format!("'\\x{digits}' is not a byte; allowed: \\x00 to \\xff")
                            })?;
                            chars.nth(1);
                            byte
                        }
                        other => {
                            return Err(format!(
                                "unknown escape '\\{other}'; allowed: \\r \\n \\t \\0 \\\" \\\\ \\xHH"
                            ));
                        }
                    };
                    bytes.push(byte);
                }
                other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Err("text in double quotes has no end; allowed: it ends in the same line".into())
    }

    /// Ends the line: nothing may be left.
    pub(super) fn end(&mut self) -> Parsed<()> {
        match self.peek() {
            "" => Ok(()),
            left => Err(format!("'{left}' is left over; allowed: the end of the line")),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest[bytes..].trim_start();
    }
}

/// Returns a time in nanoseconds.
fn time(word: &str) -> Option<u64> {
    let (number, unit) = UNITS.iter().find_map(|(unit, ns)| Some((word.strip_suffix(unit)?, *ns)))?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let whole: u64 = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let part = match part {
        "" => 0,
        digits => digits.parse::<u64>().ok()?.checked_mul(unit)? / 10u64.pow(digits.len() as u32),
    };
    whole.checked_add(part).filter(|ns| *ns <= TIME_NS_MAX)
}

/// Returns the message for a word that is not allowed.
pub(super) fn found(word: &str, allowed: &[&str]) -> String {
    let allowed = allowed.join(", ");
    match word {
        "" => format!("the line ends too early; allowed: {allowed}"),
        word => {
            let word: String = word.chars().take(40).collect();
            format!("unknown word '{word}'; allowed: {allowed}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (word, ns) in
            [("0ms", 0), ("5ms", 5_000_000), ("1.5ms", 1_500_000), ("2s", 2_000_000_000), ("7us", 7000)]
        {
            assert_eq!(time(word), Some(ns), "{word}");
        }
        for word in
            ["5", "ms", "-5ms", "1.ms.", "5 ms", "3601s", "99999999999999999999s", "1.0000000001s", "1e3s"]
        {
            assert_eq!(time(word), None, "{word}");
        }
    }

    #[test]
    fn quoted_text_has_escapes() {
        let mut words = Words::of(r#"  sends "a\r\n\x00\"\\" end"#);
        assert!(words.take("sends") && words.is_quoted());
        assert_eq!(words.quoted().as_deref(), Ok(&b"a\r\n\0\"\\"[..]));
        assert!(words.take("end") && words.end().is_ok());
        for bad in [r#""abc"#, r#""\q""#, r#""\xg0""#, r#""\"#, r#""\xé""#] {
            assert!(Words::of(bad).quoted().is_err(), "{bad}");
        }
    }
}
