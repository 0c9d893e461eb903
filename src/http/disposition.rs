//! `Content-Disposition`: file names for content that is saved, not shown (RFC 6266, RFC 8187).
//!
//! Names come from disks and programs, and are shown to other people. This file must not know their
//! origin.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::text::is_bidi_control;

/// Value of `Content-Disposition` that makes clients save the content as `name`.
///
/// Some characters become `_`: control characters, backslashes (a separator on other systems),
/// marks that change the direction of writing (`exe.txt` for `txt.exe`), and bytes that are not
/// UTF-8. If the result is not plain ASCII, the value contains it twice, as in RFC 6266 appendix D:
/// in UTF-8, and in ASCII for old programs.
pub(crate) fn attachment(name: &[u8]) -> Vec<u8> {
    let exact = harmless(name);
    let plain: String = exact.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut value = format!("attachment; filename=\"{plain}\"");
    if plain != exact {
        value.push_str("; filename*=UTF-8''");
        value.extend(percent_encode(exact.as_bytes(), ATTR_ENCODED));
    }
    value.into_bytes()
}

fn harmless(name: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(name);
    text.chars().map(|c| if is_harmful(c) { '_' } else { c }).collect()
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || is_bidi_control(c)
        || matches!(c, '\\' | '/' | '\u{2028}' | '\u{2029}' | char::REPLACEMENT_CHARACTER)
}

/// True for a character of the quoted form: no quote, and no percent sign, because some clients
/// would decode it.
fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') && !matches!(c, '"' | '%')
}

/// Bytes that are encoded in an extended parameter: all except `attr-char` (RFC 8187 section
/// 3.2.1).
const ATTR_ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_said_so_that_nobody_misreads_them() {
        let cases: &[(&[u8], &str)] = &[
            (b"a.txt", "filename=\"a.txt\""),
            (b"with space; and=more.txt", "filename=\"with space; and=more.txt\""),
            (b"say \"hi\".txt", "filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt"),
            (b"100%41.txt", "filename=\"100_41.txt\"; filename*=UTF-8''100%2541.txt"),
            (b"a\\b.txt", "filename=\"a_b.txt\""),
            (b"a\r\nX: y\x7f", "filename=\"a__X: y_\""),
            (b"caf\xe9", "filename=\"caf_\""),
            ("é🎡.txt".as_bytes(), "filename=\"__.txt\"; filename*=UTF-8''%C3%A9%F0%9F%8E%A1.txt"),
            ("gpj\u{202e}exe".as_bytes(), "filename=\"gpj_exe\""),
            ("\u{61c}a\u{2069}".as_bytes(), "filename=\"_a_\""),
            (b"it's (1)*!.txt", "filename=\"it's (1)*!.txt\""),
            (
                "é'()*,/:;<=>?@[]{}".as_bytes(),
                "filename=\"_'()*,_:;<=>?@[]{}\"; \
                filename*=UTF-8''%C3%A9%27%28%29%2A%2C_%3A%3B%3C%3D%3E%3F%40%5B%5D%7B%7D",
            ),
        ];
        for (name, expected) in cases {
            let value = attachment(name);
            let value = String::from_utf8_lossy(&value);
            assert_eq!(value, format!("attachment; {expected}"), "{}", name.escape_ascii());
        }
    }
}
