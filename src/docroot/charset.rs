//! The charset that a text declares: a byte order mark, a `meta` element, or `@charset`.
//!
//! The charset of a response overrides all of these except the mark (WHATWG HTML section 13.2.3).
//! So a server that declares UTF-8 for every page garbles pages in other charsets. Like browsers,
//! this file examines the first KiB. Must not know names, other types or responses.

/// Number of bytes at the beginning of a text that are examined.
pub(crate) const LOOKED_AT_BYTES: usize = 1024;

/// Byte order marks and the encodings that they declare (WHATWG Encoding section 6).
const MARKS: [(&[u8], &[u8]); 3] =
    [(b"\xef\xbb\xbf", b"utf-8"), (b"\xfe\xff", b"utf-16be"), (b"\xff\xfe", b"utf-16le")];

/// Names of UTF-8 (WHATWG Encoding section 4.2).
const UTF_8_LABELS: [&[u8]; 6] =
    [b"utf-8", b"utf8", b"unicode-1-1-utf-8", b"unicode11utf8", b"unicode20utf8", b"x-unicode20utf8"];

/// Returns true if a text of this type that begins with `head` declares another charset than
/// `charset`.
pub(crate) fn is_contradicted(charset: &str, essence: &str, head: &[u8]) -> bool {
    let head = &head[..head.len().min(LOOKED_AT_BYTES)];
    let mark = MARKS.iter().find(|(mark, _)| head.starts_with(mark)).map(|(_, charset)| charset.to_vec());
    let declared = mark.or_else(|| match essence {
        "text/html" => of_html(head),
        "text/css" => of_css(head),
        _ => None,
    });
    declared.is_some_and(|declared| canonical(&declared) != canonical(charset.as_bytes()))
}

fn canonical(label: &[u8]) -> Vec<u8> {
    let label = label.trim_ascii().to_ascii_lowercase();
    if UTF_8_LABELS.contains(&&label[..]) { UTF_8_LABELS[0].to_vec() } else { label }
}

/// Reads `@charset "x";`, which has no other form (CSS Syntax level 3, section 3.2).
fn of_css(head: &[u8]) -> Option<Vec<u8>> {
    let rest = head.strip_prefix(b"@charset \"")?;
    let end = memchr::memchr(b'"', rest)?;
    rest[end..].starts_with(b"\";").then(|| ascii_compatible(&rest[..end]))
}

/// Runs the prescan of browsers (WHATWG HTML section 13.2.3.2).
fn of_html(head: &[u8]) -> Option<Vec<u8>> {
    let mut rest = head;
    while let Some(at) = memchr::memchr(b'<', rest) {
        rest = &rest[at..];
        rest = if rest.starts_with(b"<!--") {
            // In `<!-->`, the dashes also belong to the end of the comment.
            &rest[2 + memchr::memmem::find(&rest[2..], b"-->")? + 3..]
        } else if let Some((name, mut behind)) = tag(rest) {
            let declared = declared_by(&mut behind);
            // A tag that goes on after the examined bytes may have another charset there.
            if declared.is_some() && name.eq_ignore_ascii_case(b"meta") && !behind.is_empty() {
                return declared;
            }
            behind
        } else if matches!(rest, [b'<', b'!' | b'/' | b'?', ..]) {
            &rest[memchr::memchr(b'>', rest)?..]
        } else {
            &rest[1..]
        };
    }
    of_xml_declaration(head)
}

/// Returns the name of the tag that begins here, with its slash if it is an end tag, and the rest
/// after it.
fn tag(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = 1 + usize::from(rest.get(1) == Some(&b'/'));
    rest.get(start).filter(|first| first.is_ascii_alphabetic())?;
    let end = start + find(&rest[start..], |byte| is_space(byte) || matches!(byte, b'/' | b'>'));
    Some((&rest[1..end], &rest[end..]))
}

/// Reads `<?xml ... encoding="x"?>`, if no element declares a charset.
fn of_xml_declaration(head: &[u8]) -> Option<Vec<u8>> {
    let rest = head.strip_prefix(b"<?xml")?;
    let declaration = &rest[..memchr::memchr(b'>', rest)?];
    let at = memchr::memmem::find(declaration, b"encoding")?;
    let value = after_equals_sign(&declaration[at + b"encoding".len()..])?;
    let (&quote, value) = value.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
    Some(ascii_compatible(&value[..memchr::memchr(quote, value)?]))
}

/// Returns the charset that the attributes of a `meta` element declare. `rest` begins after the
/// name of the element, and is advanced past the attributes.
fn declared_by(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (mut names, mut is_pragma) = (Vec::new(), false);
    let (mut charset, mut in_content) = (None, None);
    while let Some((name, value)) = attribute(rest) {
        if names.contains(&name) {
            continue;
        }
        match &name[..] {
            b"http-equiv" => is_pragma = value.eq_ignore_ascii_case(b"content-type"),
            b"content" => in_content = of_content(&value),
            b"charset" => charset = Some(value),
            _ => {}
        }
        names.push(name);
    }
    let declared = charset.or(in_content.filter(|_| is_pragma))?;
    (!declared.trim_ascii().is_empty()).then(|| ascii_compatible(&declared))
}

/// Returns the charset in the `content` of a `meta` element: `text/html; charset=x`.
fn of_content(content: &[u8]) -> Option<Vec<u8>> {
    let lower = content.to_ascii_lowercase();
    let mut rest = &lower[..];
    loop {
        let at = memchr::memmem::find(rest, b"charset")?;
        rest = &rest[at + b"charset".len()..];
        let Some(value) = after_equals_sign(rest) else { continue };
        return match value {
            [quote @ (b'"' | b'\''), value @ ..] => Some(value[..memchr::memchr(*quote, value)?].to_vec()),
            _ => Some(value[..find(value, |byte| is_space(byte) || byte == b';')].to_vec()),
        };
    }
}

/// Returns the next attribute of an element, with its name in lower case. `None` after the last
/// one.
fn attribute(rest: &mut &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let all = &rest[find(rest, |byte| !is_space(byte) && byte != b'/')..];
    *rest = all;
    if matches!(all, [] | [b'>', ..]) {
        return None;
    }
    // An attribute name may begin with an equals sign, but contains no other one.
    let end = 1 + find(&all[1..], |byte| is_space(byte) || b"/>=".contains(&byte));
    let (name, behind) = (all[..end].to_ascii_lowercase(), &all[end..]);
    *rest = behind;
    let Some(value) = after_equals_sign(behind) else { return Some((name, Vec::new())) };
    let (value, behind) = match value {
        [quote @ (b'"' | b'\''), value @ ..] => match memchr::memchr(*quote, value) {
            Some(end) => (&value[..end], &value[end + 1..]),
            // The value ends after the examined bytes.
            None => (&[][..], &[][..]),
        },
        _ => value.split_at(find(value, |byte| is_space(byte) || byte == b'>')),
    };
    *rest = behind;
    Some((name, value.to_vec()))
}

/// Returns the rest after an equals sign at the beginning and the space around it.
fn after_equals_sign(rest: &[u8]) -> Option<&[u8]> {
    rest.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start)
}

/// Returns the encoding for a label that was read as ASCII. Such a text cannot be UTF-16, so
/// browsers read it as UTF-8.
fn ascii_compatible(label: &[u8]) -> Vec<u8> {
    match label.trim_ascii().to_ascii_lowercase() {
        label if label.starts_with(b"utf-16") => b"utf-8".to_vec(),
        label => label,
    }
}

fn find(bytes: &[u8], is_end: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| is_end(byte)).unwrap_or(bytes.len())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_declares_its_charset_as_browsers_read_it() {
        for (page, is_other) in [
            ("<!doctype html><meta charset=gbk>", true),
            ("<META CHARSET='Shift_JIS'>", true),
            ("<meta\n\tcharset = \"iso-8859-1\" />", true),
            ("<meta/charset=gbk/>", true),
            ("<meta name=a content='b'><meta charset=gbk>", true),
            ("<meta http-equiv=Content-Type content=\"text/html; charset=windows-1251\">", true),
            ("<meta content='text/html;charset=\"gbk\"' http-equiv='content-type'>", true),
            ("<title a='<meta'><meta charset=gbk>", true),
            ("<!-- <meta charset=utf-8> --><meta charset=gbk>", true),
            ("<!--><meta charset=gbk>", true),
            ("<a <meta charset=utf-8>><meta charset=gbk>", true),
            ("<?xml version='1.0' encoding='ISO-8859-1'?><html>", true),
            ("<?xml version='1.0' encoding='ISO-8859-1'?><meta charset=utf-8>", false),
            ("<meta charset=utf-8>", false),
            ("<meta charset=UTF8>", false),
            ("<meta charset=' utf-8 '>", false),
            // The page was read as ASCII, so it is not UTF-16.
            ("<meta charset=utf-16>", false),
            ("<meta charset=>", false),
            ("<meta charset>", false),
            ("<meta charset=utf-8 charset=gbk>", false),
            ("<metadata charset=gbk>", false),
            ("</meta charset=gbk>", false),
            ("<!-- <meta charset=gbk> -->", false),
            ("<!-- <meta charset=gbk>", false),
            ("<? <meta charset=gbk>", false),
            ("<meta http-equiv=refresh content='text/html; charset=gbk'>", false),
            ("<meta content='text/html; charset=gbk'>", false),
            ("<a b='<meta charset=gbk>'>", false),
            ("<p>charset=gbk", false),
            ("<meta charset='gbk", false),
            ("<", false),
            ("", false),
        ] {
            assert_eq!(is_contradicted("utf-8", "text/html", page.as_bytes()), is_other, "{page}");
        }
        let gbk = b"<meta charset=gbk>";
        assert!(!is_contradicted("GBK", "text/html", gbk) && !is_contradicted("utf-8", "text/plain", gbk));
        assert!(is_contradicted("gbk", "text/html", b"<meta charset=utf-8>"));
        let (near, far) = (LOOKED_AT_BYTES - gbk.len(), LOOKED_AT_BYTES - gbk.len() + 1);
        for (spaces, is_other) in [(near, true), (far, false)] {
            let page = [" ".repeat(spaces).as_bytes(), gbk].concat();
            assert_eq!(is_contradicted("utf-8", "text/html", &page), is_other, "behind {spaces} spaces");
        }
    }

    #[test]
    fn marks_and_style_sheets_declare_it_too() {
        for (essence, text, is_other) in [
            ("text/plain", &b"\xff\xfea\0"[..], true),
            ("text/csv", b"\xfe\xff\0a", true),
            ("text/html", b"\xff\xfe<\0", true),
            ("text/plain", b"\xef\xbb\xbfa", false),
            ("text/html", b"\xef\xbb\xbf<meta charset=gbk>", false),
            ("text/css", b"@charset \"gbk\"; a {}", true),
            ("text/css", b"@charset \"UTF-8\"; a {}", false),
            ("text/css", b"@charset 'gbk'; a {}", false),
            ("text/css", b" @charset \"gbk\"; a {}", false),
            ("text/css", b"@charset \"gbk\" a {}", false),
            ("text/html", b"@charset \"gbk\"; a {}", false),
        ] {
            assert_eq!(is_contradicted("utf-8", essence, text), is_other, "{}", text.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_page_breaks_the_look(
            pieces in proptest::collection::vec(
                proptest::sample::select(
                    &["<", ">", "/", "!", "--", "?", "meta", "charset", "=", "'", "\"", " ", "gbk", "content", "<?xml"][..]
                ),
                0..24,
            )
        ) {
            let _declared = is_contradicted("utf-8", "text/html", pieces.concat().as_bytes());
        }
    }
}
