//! Fingerprints in file names: the content digests that build tools put there.
//!
//! A file with a fingerprint never changes under its name, so caches may reuse it without
//! revalidation. Every other file must be revalidated. A doubtful name counts as one without,
//! because a needless request costs little and an old page is an error. Must not know headers or
//! files.

/// The length of a fingerprint in bytes. Shorter parts are words and numbers, and no digest is
/// longer than the hexadecimal form of SHA-256.
const BYTES: std::ops::RangeInclusive<usize> = 8..=64;

/// Returns whether the last name of this path has a fingerprint as its last part before the
/// extension: `app.3f9a12bc.js`, `app-BvX3_k9Q.css`.
pub(crate) fn is_in(path: &[u8]) -> bool {
    let name = crate::docroot::location::last_name(path);
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else { return false };
    let (stem, extension) = (&name[..dot], &name[dot + 1..]);
    // A digest may contain a hyphen, so the part after each of the last separators is tried.
    let separators = stem.iter().enumerate().rev().filter(|(_, byte)| matches!(byte, b'.' | b'-'));
    let mut parts = separators.map(|(at, _)| &stem[at + 1..]).take_while(|part| part.len() <= *BYTES.end());
    !extension.is_empty() && parts.any(is_fingerprint)
}

fn is_fingerprint(part: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| part.iter().any(is);
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !BYTES.contains(&part.len()) || !part.iter().all(is_allowed) || !has(u8::is_ascii_digit) {
        return false;
    }
    let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let is_hexadecimal = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-' | b'_');
    let is_hexadecimal = part.iter().all(is_hexadecimal) && has(u8::is_ascii_lowercase);
    let has_one_piece = !has(|byte| matches!(byte, b'-' | b'_'));
    // `May-2024`, `Chapter12` and `2024-dec` have the characters of a digest, but are words and
    // numbers.
    (is_hexadecimal && has_one_piece) || ((is_mixed || is_hexadecimal) && !reads_as_words(part))
}

/// Returns whether all pieces between hyphens and underscores are words, numbers, or words followed
/// by a number.
fn reads_as_words(part: &[u8]) -> bool {
    let is_word = |piece: &[u8]| {
        let letters = piece.len() - piece.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (first, rest) = piece[..letters].split_at(letters.min(1));
        first.iter().all(u8::is_ascii_alphabetic)
            && (rest.iter().all(u8::is_ascii_lowercase)
                || piece[..letters].iter().all(u8::is_ascii_uppercase))
    };
    part.split(|byte| matches!(byte, b'-' | b'_')).all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_a_last_part_that_is_no_word() {
        for (name, expected) in [
            ("app.3f9a12bc.js", true),
            ("app-3f9a12bc.js", true),
            ("/assets/index-BvX3k9Qz.js", true),
            ("index-BxY-3_aQ.js", true),
            ("index.Ab-3_xYz.css", true),
            ("index--4_kQzR7.css", true),
            ("a.b-c.0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.woff2", true),
            ("photo-550e8400-e29b-41d4-a716-446655440000.jpg", true),
            ("-3f9a12bc.js", true),
            ("a.3f9a12bc.tar", true),
            // No part of its own, no extension, or another part after it.
            ("3f9a12bc.js", false),
            ("app_3f9a12bc.js", false),
            ("app-3f9a12bc", false),
            ("app.3f9a12bc", false),
            ("app-3f9a12bc.", false),
            ("app.3f9a12bc.js.map", false),
            ("app.3f9a12bc.min.js", false),
            ("app-3f9a12bc.d/index.html", false),
            // Too short, too long, other characters.
            ("app.3f9a12b.js", false),
            ("a.0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0.js", false),
            ("app-3f9a12b~.js", false),
            ("app-3f9a12b\u{e4}.js", false),
            ("app.3f 9a12bc.js", false),
            // No digit, no letter, letters of one case.
            ("index-DiwrgTda.js", false),
            ("defaced-deadbeef.js", false),
            ("report.20240501.pdf", false),
            ("main-5XQZ7Y2K.js", false),
            ("photo-3F9A12BC.jpg", false),
            ("lodash-4g17x21q.js", false),
            ("jquery-3.7.1.min.js", false),
            // Words and numbers.
            ("report-Chapter12.html", false),
            ("Annual-Report-2024.pdf", false),
            ("sales.May-2024.pdf", false),
            ("sales-Q3_Report.pdf", false),
            ("notes-2024-dec.txt", false),
            ("notes.dec-2024.txt", false),
            ("index.html", false),
            ("app.js", false),
            ("", false),
        ] {
            assert_eq!(is_in(name.as_bytes()), expected, "{name}");
        }
    }
}
