//! Parts that all pages share: the head, colours and fonts, the logo, escaping.
//!
//! This file must not know which pages there are.

use crate::http::Request;
use crate::http::target::{self, CLIMB_MAX};
use crate::text::{has_bidi_control, visible};

/// Form of a page's reference to the top of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Home {
    /// An absolute path.
    Root,
    /// A relative path that many folders up from the page. It stays below a prefix that a proxy has
    /// removed from the path.
    Above(usize),
}

impl Home {
    /// Returns the reference for a page that is the response to a request.
    pub(crate) fn of(request: &Request<'_>) -> Home {
        let base = request.base().map(|path| memchr::memchr_iter(b'/', path).count() - 1);
        base.filter(|folders| *folders <= CLIMB_MAX).map_or(Home::Root, Home::Above)
    }

    /// Returns the reference to the folder of the first `depth` names in `names`.
    pub(super) fn folder(self, names: &[&[u8]], depth: usize) -> Vec<u8> {
        match self {
            Home::Above(folders) if depth < folders => b"../".repeat(folders - depth),
            Home::Above(_) => b"./".to_vec(),
            Home::Root => {
                let mut href = b"/".to_vec();
                for name in &names[..depth] {
                    target::encode_path(name, &mut href);
                    href.push(b'/');
                }
                href
            }
        }
    }
}

/// Start of every page. `data:,` keeps browsers from requesting a favicon that does not exist.
pub(super) const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
"#;

/// Colours and fonts of all pages. The contrast is at least 4.5 to 1 for all text, in both schemes.
pub(super) const STYLE_COMMON: &str = include_str!("common.css");

/// Logo: a pinwheel of one blade, repeated three times by rotation. It is a link to the top of the
/// site.
const MARK: &str = r##"" aria-label="Start page"><svg width="32" height="32" viewBox="-16 -16 32 32" aria-hidden="true"><defs><path id="v" d="M0 0V-14.5C5.5-13.5 10-10 10-5z"/></defs><use href="#v" fill="var(--a)"/><use href="#v" fill="var(--b)" transform="rotate(90)"/><use href="#v" fill="var(--c)" transform="rotate(180)"/><use href="#v" fill="var(--d)" transform="rotate(270)"/><circle r="2.2" fill="var(--card)"/></svg></a>
"##;

/// Appends a name, or a sentence that contains one, as HTML text. Characters that change the
/// direction of text appear as `\u{202e}`, so that a name cannot look like another.
pub(crate) fn escape_name(name: &[u8], out: &mut Vec<u8>) {
    if !has_bidi_control(name) {
        return escape_html(name, out);
    }
    escape_html(visible(&String::from_utf8_lossy(name)).as_bytes(), out);
}

/// Appends bytes as HTML text. Invalid UTF-8 and control characters, which HTML forbids, become
/// U+FFFD. The five characters that could end text or a quoted attribute become references.
pub(crate) fn escape_html(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'&' => push(out, "&amp;"),
                b'<' => push(out, "&lt;"),
                b'>' => push(out, "&gt;"),
                b'"' => push(out, "&quot;"),
                b'\'' => push(out, "&#39;"),
                b'\t' | b'\n' => out.push(byte),
                0..0x20 | 0x7f => push(out, "\u{fffd}"),
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            push(out, "\u{fffd}");
        }
    }
}

pub(super) fn mark(home: Home, out: &mut Vec<u8>) {
    push(out, "<a class=\"mark\" href=\"");
    out.extend_from_slice(&home.folder(&[], 0));
    push(out, MARK);
}

pub(super) fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns the text that `write` appends.
    pub(in crate::pages) fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("pages are UTF-8")
    }

    /// Checks that a page loads nothing from other sites and closes its elements.
    pub(in crate::pages) fn check_whole(page: &str) {
        for foreign in ["http:", "https:", "<script ", "@import", "url(", "src="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("href=\"data:,\""));
        assert!(page.len() < 10 * 1024, "{} bytes", page.len());
        for tag in ["main", "style", "head", "body", "html"] {
            let (opened, closed) = (format!("<{tag}>"), format!("</{tag}>"));
            assert_eq!(page.matches(&closed).count(), 1, "{tag}");
            assert!(tag == "html" || page.matches(&opened).count() == 1, "{tag}");
        }
    }

    #[test]
    fn text_cannot_leave_its_place() {
        let cases: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"plain", "plain"),
            (b"<a href=\"x\">'&'</a>", "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;"),
            ("\u{e9}\u{1f300}".as_bytes(), "\u{e9}\u{1f300}"),
            (b"a\xffb\xc3", "a\u{fffd}b\u{fffd}"),
            (b"\xf0\x9f<", "\u{fffd}&lt;"),
            (b"a\0\x1b\x7fb", "a\u{fffd}\u{fffd}\u{fffd}b"),
            (b"a\tb\nc", "a\tb\nc"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(|out| escape_html(text, out)), *expected);
        }
        for byte in 0..=255u8 {
            let escaped = written(|out| escape_html(&[byte], out));
            assert!(!escaped.contains(['<', '>', '"', '\'']), "{byte:#04x}");
        }
    }
}
