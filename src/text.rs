//! Text as bytes: scanned sixteen at a time, and numbers written.
//!
//! A few vector instructions test sixteen bytes at once: SSE2, which every x86-64 has, NEON on
//! aarch64, plain words elsewhere. The lines of a head are too short for algorithms that need a
//! setup. Must not know the meaning of the bytes.

use std::borrow::Cow;

use wide::u8x16;

/// Sixteen bytes. As a mask, each byte has all bits set or none.
pub(crate) type Block = u8x16;

const BLOCK_BYTES: usize = 16;

/// Marks the bytes that are equal to `byte`.
pub(crate) fn equal(block: Block, byte: u8) -> Block {
    block.simd_eq(Block::splat(byte))
}

/// Marks the letters of either case.
pub(crate) fn letters(block: Block) -> Block {
    within(block | Block::splat(0x20), b'a', b'z')
}

/// Marks the bytes from `first` to `last`, both included.
pub(crate) fn within(block: Block, first: u8, last: u8) -> Block {
    // A byte below `first` wraps around to a value above `last`.
    let above = block - Block::splat(first);
    above.min(Block::splat(last - first)).simd_eq(above)
}

/// Returns true for characters that change the direction of text (the Unicode property
/// `Bidi_Control`). In a name they can display `txt.exe` as `exe.txt`.
pub(crate) const fn is_bidi_control(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Returns true if the bytes contain such a character, also between bytes that are not UTF-8.
pub(crate) fn has_bidi_control(bytes: &[u8]) -> bool {
    memchr::memchr2_iter(0xd8, 0xe2, bytes).any(|at| {
        matches!(
            bytes[at..],
            [0xd8, 0x9c, ..] | [0xe2, 0x80, 0x8e | 0x8f | 0xaa..=0xae, ..] | [0xe2, 0x81, 0xa6..=0xa9, ..]
        )
    })
}

/// Escapes the characters that change the direction of text, as in `\u{202e}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !has_bidi_control(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_bidi_control(character) {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// Marks the control characters of ASCII except tab, which a field value must not contain (RFC 9110
/// section 5.5).
fn controls(block: Block) -> Block {
    (within(block, 0, 0x1f) & !equal(block, b'\t')) | equal(block, 0x7f)
}

/// Returns the first block of `bytes` and the number of bytes in it. The rest of the block is
/// filled with zeros.
#[inline]
pub(crate) fn first_block(bytes: &[u8]) -> (Block, usize) {
    if let Some(block) = bytes.first_chunk() {
        return (Block::new(*block), BLOCK_BYTES);
    }
    (Block::new(padded(bytes)), bytes.len())
}

/// Pads less than a block with zeros. Two loads that overlap replace a copy, whose length is
/// unknown at compile time.
#[inline]
fn padded(bytes: &[u8]) -> [u8; BLOCK_BYTES] {
    let len = bytes.len();
    let word = if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        let last = u128::from(u64::from_le_bytes(*last)) << 64;
        u128::from(u64::from_le_bytes(*first)) | last >> (8 * (BLOCK_BYTES - len))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let last = u64::from(u32::from_le_bytes(*last)) << 32;
        (u64::from(u32::from_le_bytes(*first)) | last >> (8 * (8 - len))).into()
    } else {
        bytes.iter().rev().fold(0, |word, byte| word << 8 | u128::from(*byte))
    };
    word.to_le_bytes()
}

/// Converts letters to lower case.
fn lower(block: Block) -> Block {
    block | (within(block, b'A', b'Z') & Block::splat(0x20))
}

/// Compares like [`slice::eq_ignore_ascii_case`], which tests the bytes one by one.
#[inline]
pub(crate) fn eq_ignore_case(some: &[u8], other: &[u8]) -> bool {
    if some.len() != other.len() {
        return false;
    }
    let same = |some: &[u8; BLOCK_BYTES], other: &[u8; BLOCK_BYTES]| {
        lower(Block::new(*some)) == lower(Block::new(*other))
    };
    let ((blocks, rest), (others, other_rest)) = (some.as_chunks(), other.as_chunks());
    blocks.iter().zip(others).all(|(block, other)| same(block, other))
        && (rest.is_empty() || same(&padded(rest), &padded(other_rest)))
}

/// Returns the number of bytes at the beginning that belong to a set. `belongs` decides for one
/// byte. `usual` marks bytes of a block that certainly belong, and may miss some.
#[inline]
pub(crate) fn span(bytes: &[u8], usual: impl Fn(Block) -> Block, belongs: impl Fn(u8) -> bool) -> usize {
    let mut at = 0;
    loop {
        let (block, len) = first_block(&bytes[at..]);
        let run = usual(block).to_bitmask().trailing_ones() as usize;
        if run < len {
            at += run;
            if !belongs(bytes[at]) {
                return at;
            }
            at += 1;
        } else if len < BLOCK_BYTES {
            return at + len;
        } else {
            at += BLOCK_BYTES;
        }
    }
}

/// Returns how many bytes at the beginning, up to sixteen, certainly belong to a set. Returns 0 if
/// there are fewer than sixteen bytes, for callers that handle those differently.
#[inline]
pub(crate) fn prefix(bytes: &[u8], usual: impl Fn(Block) -> Block) -> usize {
    bytes.first_chunk().map_or(0, |block| usual(Block::new(*block)).to_bitmask().trailing_ones() as usize)
}

/// Returns the number of bytes at the beginning that are text: no control characters except tab.
#[inline]
pub(crate) fn run_len(bytes: &[u8]) -> usize {
    let (mut rest, mut passed) = (bytes, 0);
    while let Some((block, behind)) = rest.split_first_chunk() {
        let stops = controls(Block::new(*block)).to_bitmask();
        if stops != 0 {
            return passed + stops.trailing_zeros() as usize;
        }
        (rest, passed) = (behind, passed + BLOCK_BYTES);
    }
    passed + short_run_len(rest)
}

/// Returns [`run_len`] for less than a block, at the end of the input.
#[inline(never)]
fn short_run_len(bytes: &[u8]) -> usize {
    span(bytes, |block| !controls(block), |_| false)
}

/// Returns the position of the first byte that is equal to `byte`.
#[inline]
pub(crate) fn find(bytes: &[u8], byte: u8) -> Option<usize> {
    let at = span(bytes, |block| !equal(block, byte), |_| false);
    (at < bytes.len()).then_some(at)
}

/// Appends a number in decimal without `fmt`.
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

/// Appends `text` as a JSON string (RFC 8259 section 7). Characters that change the direction of
/// text are escaped too, so that they are visible in the JSON.
pub(crate) fn push_json_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' || control == '\x7f' || is_bidi_control(control) => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Formats a size in powers of 1024: `17 B`, `1.5 KiB`, `250 MiB`. Has one decimal below 100 and
/// rounds to nearest.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let rounded = |scale: u128, shift: u32| (u128::from(bytes) * scale + (1 << shift >> 1)) >> shift;
    let mut shift = 10;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // A value that rounds to 1024 of one unit is shown as 1.0 of the next.
        if rounded(1, shift) < 1024 {
            break;
        }
        shift += 10;
        unit = next;
    }
    match rounded(10, shift) {
        tenths @ ..1000 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
        _ => format!("{} {unit}", rounded(1, shift)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the bytes that `ask` marks. Tries each of the 256 at each position of a block,
    /// between neighbours that could be confused with it.
    fn marked(ask: impl Fn(Block) -> Block) -> Vec<u8> {
        let is_marked = |byte: u8| {
            let seen: Vec<u8> = (0..16)
                .flat_map(|place| {
                    [0, byte.wrapping_sub(1), byte, byte.wrapping_add(1), 0xff].map(|other| (place, other))
                })
                .map(|(place, other)| {
                    let mut block = [other; 16];
                    block[place] = byte;
                    ask(Block::new(block)).to_array()[place]
                })
                .collect();
            assert!(
                matches!(seen[0], 0 | 0xff) && seen.iter().all(|is| *is == seen[0]),
                "{byte:#x} among others"
            );
            seen[0] == 0xff
        };
        (0..=255).filter(|byte| is_marked(*byte)).collect()
    }

    fn those(belongs: impl Fn(u8) -> bool) -> Vec<u8> {
        (0..=255).filter(|byte| belongs(*byte)).collect()
    }

    #[test]
    fn characters_that_change_the_direction_are_found_wherever_they_stand() {
        for character in ('\0'..=char::MAX).filter(|character| u32::from(*character) < 0x1_1000) {
            for text in [format!("{character}"), format!("a{character}"), format!("\u{e2}{character}\u{80}")]
            {
                let found = has_bidi_control(text.as_bytes());
                assert_eq!(found, text.chars().any(is_bidi_control), "{text:?}");
                assert!(!has_bidi_control(visible(&text).as_bytes()), "{text:?}");
            }
        }
        assert!(has_bidi_control(b"\xff\xe2\x80\xae\xe2"), "between bytes that are no text");
        assert!(!has_bidi_control(b"\xe2\x80") && !has_bidi_control(b"\xd8"));
        assert_eq!(visible("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn marks_are_exact() {
        assert_eq!(marked(|block| equal(block, b'\n')), [b'\n']);
        assert_eq!(marked(|block| equal(block, 0)), [0]);
        assert_eq!(marked(letters), those(|byte| byte.is_ascii_alphabetic()));
        assert_eq!(marked(|block| within(block, b'0', b'9')), those(|byte| byte.is_ascii_digit()));
        assert_eq!(marked(|block| within(block, 0, 0x7f)), those(|byte| byte.is_ascii()));
        assert_eq!(marked(|block| within(block, 0x80, 0xff)), those(|byte| !byte.is_ascii()));
        assert_eq!(marked(controls), those(|byte| byte != b'\t' && byte.is_ascii_control()));
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
    fn letters_alone_are_the_same_in_any_case() {
        for len in 0..40 {
            let some: Vec<u8> = b"Content-Md5~@[".iter().copied().cycle().take(len).collect();
            let same = |other: &[u8]| {
                assert_eq!(
                    eq_ignore_case(&some, other),
                    some.eq_ignore_ascii_case(other),
                    "{len}: {other:?}"
                );
                eq_ignore_case(&some, other)
            };
            assert!(same(&some.to_ascii_uppercase()) && same(&some.to_ascii_lowercase()));
            assert!(!same(&[&some[..], b"\0"].concat()) && (len == 0 || !same(&some[1..])));
            for at in 0..len {
                for bit in 0..8 {
                    let mut other = some.clone();
                    other[at] ^= 1 << bit;
                    same(&other);
                }
            }
        }
    }

    #[test]
    fn a_span_ends_at_the_first_that_does_not_belong() {
        for len in 0..40 {
            for end in 0..=len {
                let mut bytes = b"a1b-".repeat(10);
                bytes.truncate(len);
                if let Some(byte) = bytes.get_mut(end) {
                    *byte = b'!';
                }
                assert_eq!(span(&bytes, letters, |byte| byte != b'!'), end, "{end} of {len}");
                assert_eq!(find(&bytes, b'!'), (end < len).then_some(end), "{end} of {len}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_json_string_parses_to_its_text(text in ".*") {
            let mut json = String::new();
            push_json_string(&text, &mut json);
            prop_assert_eq!(serde_json::from_str::<String>(&json).ok(), Some(text));
        }
    }

    #[test]
    fn sizes_are_rounded_to_the_next_unit_in_time() {
        let cases: &[(u64, &str)] = &[
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1075, "1.0 KiB"),
            (1076, "1.1 KiB"),
            (1536, "1.5 KiB"),
            (102_348, "99.9 KiB"),
            (102_400, "100 KiB"),
            (1_048_063, "1023 KiB"),
            (1_048_064, "1.0 MiB"),
            (1 << 20, "1.0 MiB"),
            (250 << 20, "250 MiB"),
            (1 << 30, "1.0 GiB"),
            (1 << 40, "1.0 TiB"),
            (1 << 50, "1.0 PiB"),
            (1 << 60, "1.0 EiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(human_size(*bytes), *expected, "{bytes}");
        }
    }
}
