//! Text as bytes: scanned eight at a time, and numbers written.
//!
//! A few instructions on a word tell for eight bytes what a loop would ask of each of them. The lines of a head are too
//! short for anything that first has to be set up. This knows bytes; what they mean its callers know.

/// Eight bytes, the first of them in the lowest place.
type Word = u64;

/// The same byte in every place.
const fn every(byte: u8) -> Word {
    Word::from_le_bytes([byte; 8])
}

/// The bit by which a byte is marked. No sum below carries beyond it, so each byte is told apart from its neighbours.
const MARK: Word = every(0x80);
const REST: Word = !MARK;

/// Marks the bytes that are this one.
pub(crate) const fn equal(word: Word, byte: u8) -> Word {
    // Zero now if it was this one. Adding to the rest reaches the mark unless it is zero.
    let differing = word ^ every(byte);
    !(((differing & REST) + REST) | differing) & MARK
}

/// Marks letters of either case.
pub(crate) const fn letters(word: Word) -> Word {
    within(word | every(0x20), b'a', b'z')
}

/// Marks the bytes from `first` to `last`, both of them ASCII.
pub(crate) const fn within(word: Word, first: u8, last: u8) -> Word {
    let rest = word & REST;
    let reaches = rest + every(0x80 - first);
    let exceeds = rest + every(0x7f - last);
    reaches & !exceeds & !word & MARK
}

/// Marks all but the control characters of ASCII.
pub(crate) const fn no_controls(word: Word) -> Word {
    let rest = word & REST;
    let is_printable = (rest + every(0x80 - b' ')) & !(rest + every(1));
    (is_printable | word) & MARK
}

/// The place of the first byte that is marked.
pub(crate) const fn first(marks: Word) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// How many bytes at the beginning belong to a kind. `belongs` decides; `usual` marks those that plainly do, a word at a
/// time, and may leave some of them out.
#[inline]
pub(crate) fn span(bytes: &[u8], usual: impl Fn(Word) -> Word, belongs: impl Fn(u8) -> bool) -> usize {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk() {
        let others = !usual(Word::from_le_bytes(*word)) & MARK;
        if others == 0 {
            at += 8;
            continue;
        }
        at += first(others);
        if !belongs(bytes[at]) {
            return at;
        }
        at += 1;
    }
    at + bytes[at..].iter().take_while(|byte| belongs(**byte)).count()
}

/// Tab and all that is no control character: what a field value is made of (RFC 9110 section 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// How many bytes at the beginning are text.
pub(crate) fn run_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    // Values are longer than names. Without a way out inside it, the compiler makes a few instructions of this.
    while let Some(sixteen) = bytes[at..].first_chunk::<16>()
        && sixteen.iter().fold(true, |all, byte| all & (*byte >= b' ') & (*byte != 0x7f))
    {
        at += 16;
    }
    at + span(&bytes[at..], no_controls, is_text)
}

/// Writes a number without going through `fmt`.
pub(crate) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that are marked in a word in which each of the 256 stands at each place, between neighbours that
    /// could be taken for it.
    fn marked(marks: impl Fn(Word) -> Word) -> Vec<u8> {
        let is_marked = |byte: u8| {
            let seen: Vec<bool> = (0..8)
                .flat_map(|place| {
                    [0, byte.wrapping_sub(1), byte, byte.wrapping_add(1), 0xff].map(|other| (place, other))
                })
                .map(|(place, other)| {
                    let mut word = [other; 8];
                    word[place] = byte;
                    marks(Word::from_le_bytes(word)).to_le_bytes()[place] == 0x80
                })
                .collect();
            assert!(seen.iter().all(|is| *is == seen[0]), "{byte:#x} among others");
            seen[0]
        };
        (0..=255).filter(|byte| is_marked(*byte)).collect()
    }

    fn those(belongs: impl Fn(u8) -> bool) -> Vec<u8> {
        (0..=255).filter(|byte| belongs(*byte)).collect()
    }

    #[test]
    fn marks_are_exact() {
        assert_eq!(marked(|word| equal(word, b'\n')), [b'\n']);
        assert_eq!(marked(|word| equal(word, 0)), [0]);
        assert_eq!(marked(letters), those(|byte| byte.is_ascii_alphabetic()));
        assert_eq!(marked(|word| within(word, b'0', b'9')), those(|byte| byte.is_ascii_digit()));
        assert_eq!(marked(|word| within(word, 0, 0x7f)), those(|byte| byte.is_ascii()));
        assert_eq!(marked(no_controls), those(|byte| !byte.is_ascii_control()));
    }

    #[test]
    fn text_ends_at_the_first_control_character_that_is_no_tab() {
        for end in 0..70 {
            for byte in 0..=255 {
                let mut bytes = [b'a'; 80];
                bytes[end / 2] = b'\t';
                bytes[end] = byte;
                let expected = if byte.is_ascii_control() && byte != b'\t' { end } else { 80 };
                assert_eq!(run_len(&bytes), expected, "{byte:#x} at {end}");
                assert_eq!(run_len(&bytes[..=end]), expected.min(end + 1), "{byte:#x} at {end}, the last");
            }
        }
    }

    #[test]
    fn a_span_ends_at_the_first_that_does_not_belong() {
        for len in 0..20 {
            for end in 0..=len {
                let mut bytes = b"a1b-".repeat(5);
                bytes.truncate(len);
                if let Some(byte) = bytes.get_mut(end) {
                    *byte = b'!';
                }
                assert_eq!(span(&bytes, letters, |byte| byte != b'!'), end, "{end} of {len}");
            }
        }
    }
}
