//! The order of names that people expect, and the comparison of letters for a search.
//!
//! `img2` is before `img10`, and neither case nor accents count: `é` is beside `e`, in either of
//! its two forms in Unicode. Only names that are equal in all this are compared by bytes. The order
//! is the same for every visitor, whatever their language.
//!
//! A crate for the decomposition of letters has half a megabyte of tables, most of them for forms
//! that names do not have. A test compares `marked_letters.txt` with unicode-normalization. Must
//! not know listings.

use std::cmp::Ordering;
use std::sync::LazyLock;

use smallvec::{SmallVec, smallvec};

/// A line for each letter without marks, followed by the same letter with marks. Syllables of
/// Korean are missing, because [`jamo`] computes their parts.
const MARKED_LETTERS: &str = include_str!("marked_letters.txt");

/// Pairs of a letter with marks and its form without them, sorted by the former.
static UNMARKED: LazyLock<Vec<(char, &'static str)>> = LazyLock::new(|| {
    let lines = MARKED_LETTERS.lines().filter_map(|line| line.split_once(' '));
    let mut pairs: Vec<(char, &str)> =
        lines.flat_map(|(plain, marked)| marked.chars().map(move |letter| (letter, plain))).collect();
    pairs.sort_unstable();
    pairs
});

/// Returns true for a mark that letters are composed with. Vowel signs, which are characters of
/// their own in many scripts, are none.
fn is_mark(character: char) -> bool {
    matches!(
        character,
        '\u{300}'..='\u{36f}'
            | '\u{653}'..='\u{655}'
            | '\u{93c}'
            | '\u{c56}'
            | '\u{dca}'
            | '\u{3099}'
            | '\u{309a}'
            | '\u{110ba}'
    )
}

/// The characters of one folded character, nearly always one.
type Few = SmallVec<[char; 4]>;

/// Splits a syllable of Korean into its two or three letters (Unicode, section 3.12). `None` for
/// other characters.
fn jamo(syllable: char) -> Option<Few> {
    const FIRST: u32 = 0xac00;
    let at = u32::from(syllable).checked_sub(FIRST).filter(|at| *at < 11_172)?;
    let letters = [0x1100 + at / 588, 0x1161 + at % 588 / 28, 0x11a7 + at % 28];
    let count = if at.is_multiple_of(28) { 2 } else { 3 };
    Some(letters[..count].iter().filter_map(|letter| char::from_u32(*letter)).collect())
}

/// Returns a character without marks and case. Upper case first, because `ß` is `SS` there.
fn fold_char(character: char) -> Few {
    if character.is_ascii() {
        return smallvec![character.to_ascii_lowercase()];
    }
    // Before case, because one mark has a letter as its upper case (U+0345).
    if is_mark(character) {
        return Few::new();
    }
    if let Some(letters) = jamo(character) {
        return letters;
    }
    let own = [character];
    let cased = |plain: &mut dyn Iterator<Item = char>| {
        plain.flat_map(char::to_uppercase).flat_map(char::to_lowercase).filter(|c| !is_mark(*c)).collect()
    };
    match UNMARKED.binary_search_by_key(&character, |(letter, _)| *letter) {
        Ok(at) => cased(&mut UNMARKED[at].1.chars()),
        Err(_) => cased(&mut own.into_iter()),
    }
}

/// Returns a text for comparison: without case, and without the marks of letters. Bytes that are
/// not UTF-8 become U+FFFD.
pub(super) fn folded(text: &[u8]) -> String {
    if text.is_ascii() {
        return String::from_utf8_lossy(text).to_ascii_lowercase();
    }
    String::from_utf8_lossy(text).chars().flat_map(fold_char).collect()
}

/// One step of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// Digits without leading zeros.
    Number(&'a [u8]),
    /// A folded character.
    Letter(char),
}

impl Token<'_> {
    fn compare(self, other: Token<'_>) -> Ordering {
        // A number is where its digits are among the characters.
        match (self, other) {
            (Token::Number(a), Token::Number(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Token::Number(_), Token::Letter(letter)) => '0'.cmp(&letter),
            (Token::Letter(letter), Token::Number(_)) => letter.cmp(&'0'),
            (Token::Letter(a), Token::Letter(b)) => a.cmp(&b),
        }
    }
}

/// The tokens of a name.
struct Tokens<'a> {
    rest: &'a [u8],
    /// Characters of the last character that are still to come, in reverse.
    pending: Few,
}

impl<'a> Tokens<'a> {
    fn of(name: &'a [u8]) -> Self {
        Tokens { rest: name, pending: Few::new() }
    }

    /// Takes the next character that is not ASCII.
    fn take_character(&mut self) {
        // No character has more than four bytes.
        let head = &self.rest[..self.rest.len().min(4)];
        let (character, bytes) = match head.utf8_chunks().next().map(|chunk| chunk.valid().chars().next()) {
            Some(Some(character)) => (character, character.len_utf8()),
            _ => (char::REPLACEMENT_CHARACTER, 1),
        };
        self.rest = &self.rest[bytes..];
        self.pending = fold_char(character);
        self.pending.reverse();
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            if let Some(letter) = self.pending.pop() {
                return Some(Token::Letter(letter));
            }
            let first = *self.rest.first()?;
            if first.is_ascii_digit() {
                let end = self.rest.iter().position(|byte| !byte.is_ascii_digit());
                let (digits, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                self.rest = rest;
                let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
                return Some(Token::Number(&digits[zeros..]));
            }
            if first.is_ascii() {
                self.rest = &self.rest[1..];
                return Some(Token::Letter(char::from(first.to_ascii_lowercase())));
            }
            // A mark alone folds to nothing.
            self.take_character();
        }
    }
}

/// Compares two names: numbers by value, letters without case and marks, and by bytes if all that
/// is equal.
pub(super) fn natural_order(a: &[u8], b: &[u8]) -> Ordering {
    let (mut left, mut right) = (Tokens::of(a), Tokens::of(b));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => a.compare(b),
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization as _;

    #[test]
    fn names_are_in_the_order_that_people_expect() {
        let sorted = [
            "",
            " space",
            "!",
            "0",
            "00",
            "01",
            "1",
            "2",
            "10",
            "a",
            "b",
            "Beta",
            "e",
            "e\u{301}",
            "\u{e9}",
            "E2",
            "e10",
            "f",
            "file 2 part 9",
            "file 2 part 10",
            "file 12",
            "img02.png",
            "img2.png",
            "img10.png",
            "img18446744073709551616.png",
            "img18446744073709551617.png",
            "README",
            "readme",
            "STRASSE",
            "strasse",
            "straße",
            "z",
            "\u{f8}",
            "\u{fffd}",
        ];
        let mut names = sorted.map(str::as_bytes).to_vec();
        names.push(b"\xff\xfe");
        for (at, a) in names.iter().enumerate() {
            for (other, b) in names.iter().enumerate() {
                assert_eq!(
                    natural_order(a, b),
                    at.cmp(&other),
                    "{:?} {:?}",
                    a.escape_ascii(),
                    b.escape_ascii()
                );
            }
        }
    }

    /// Characters that have another form in NFC, such as the sign for Kelvin, are not in the file.
    #[test]
    fn letters_lose_the_marks_that_unicode_gives_them() {
        for character in ('\0'..'\u{20000}').filter(|c| c.nfc().eq([*c])) {
            let apart: String = character.nfd().collect();
            let whole = folded(character.to_string().as_bytes());
            assert_eq!(whole, folded(apart.as_bytes()), "{}", character.escape_unicode());
        }
        let letters: Vec<char> = MARKED_LETTERS
            .lines()
            .filter_map(|line| line.split_once(' '))
            .flat_map(|(_, marked)| marked.chars())
            .collect();
        assert!(letters.len() > 900 && letters.iter().all(|letter| !letter.nfd().eq([*letter])));
    }

    #[test]
    fn text_is_compared_without_case_and_marks() {
        for (text, expected) in [
            ("ÀÉÎ", "aei"),
            ("Straße", "strasse"),
            ("ΟΔΟΣ οδος", "οδοσ οδοσ"),
            ("İstanbul", "istanbul"),
            ("走马灯", "走马灯"),
            ("が", "か"),
            ("한글", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}"),
            ("हिन्दी", "हिन्दी"),
        ] {
            assert_eq!(folded(text.as_bytes()), expected);
            assert_eq!(folded(text.nfd().collect::<String>().as_bytes()), expected);
        }
        assert_eq!(folded(b"a\xffB"), "a\u{fffd}b");
    }

    proptest! {
        /// Sorting needs a total order, or it may panic.
        #[test]
        fn the_order_is_total(names in prop::collection::vec(
            prop_oneof!["[a0bB1éÉ\u{301}ß. ]{0,6}".prop_map(String::into_bytes), any::<Vec<u8>>()], 3
        )) {
            let (a, b, c) = (&names[0], &names[1], &names[2]);
            prop_assert_eq!(natural_order(a, b), natural_order(b, a).reverse());
            prop_assert_eq!(natural_order(a, b).is_eq(), a == b);
            if natural_order(a, b).is_le() && natural_order(b, c).is_le() {
                prop_assert!(natural_order(a, c).is_le());
            }
        }
    }
}
