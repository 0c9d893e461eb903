//! Tests of media types: by name, by content, and by rules of the operator.

use super::*;

fn content_type(name: &str, head: &[u8]) -> String {
    of(&Types::default(), name, head).value.to_string()
}

fn of(types: &Types, name: &str, head: &[u8]) -> ContentType {
    types.of_file(types.by_name(name.as_bytes()), name.as_bytes(), head)
}

fn types(charset: Option<&str>, rules: &[&str]) -> Types {
    let types = rules.iter().map(|rule| parse_type_rule(rule).unwrap()).collect();
    let charset = charset.map(str::to_owned);
    Types::of(&FileOptions { charset, types, ..FileOptions::default() }).unwrap()
}

#[test]
fn the_list_is_whole_and_without_duplicates() {
    let mut seen = std::collections::HashSet::new();
    for (media_type, extension) in rows() {
        assert!(seen.insert(extension), "{extension} is there twice");
        assert_eq!(check_media_type(media_type), Ok(media_type));
        assert_eq!(essence(media_type), media_type, "{extension}");
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_+".contains(&byte);
        assert!(!extension.is_empty() && extension.bytes().all(is_plain), "{extension:?}");
        for name in [format!("a.{extension}"), format!("A.B.{}", extension.to_uppercase())] {
            assert_eq!(Types::default().by_name(name.as_bytes()), media_type);
        }
    }
    assert!(seen.len() > 1500, "{}", seen.len());
    assert_eq!(seen.iter().map(|extension| extension.len()).max(), Some(EXTENSION_BYTES_MAX));
    assert!(TEXT_NAMES.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn texts_have_a_charset_and_xml_has_none() {
    for (name, expected) in [
        ("index.html", "text/html; charset=utf-8"),
        ("/a.d/index.HTML", "text/html; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json; charset=utf-8"),
        ("a.ipynb", "application/x-ipynb+json; charset=utf-8"),
        ("a.webmanifest", "application/manifest+json; charset=utf-8"),
        ("a.svg", "image/svg+xml"),
        ("a.xml", "application/xml"),
        ("feed.atom", "application/atom+xml"),
        ("a.xhtml", "application/xhtml+xml"),
        ("a.dtd", "application/xml-dtd"),
        ("archive.tar.gz", "application/gzip"),
        ("a.wasm", "application/wasm"),
        ("README", "text/plain; charset=utf-8"),
        ("/docs/readme", "text/plain; charset=utf-8"),
        ("LICENSE-MIT", "text/plain; charset=utf-8"),
        ("Makefile", "text/plain; charset=utf-8"),
        ("whirligig", BYTES),
        ("READMEx", BYTES),
        ("a.b/c", BYTES),
        ("html", BYTES),
        (".html", BYTES),
        ("a.", BYTES),
        ("a.html/", BYTES),
        ("a.unknown", BYTES),
        ("a.webmanifestxxxxxxxxxxxxxxxxxxx", BYTES),
        ("a.\u{e4}", BYTES),
        (".", BYTES),
        ("", BYTES),
    ] {
        assert_eq!(content_type(name, b"x"), expected, "{name}");
    }
    assert_eq!(content_type("a.html", b"<meta charset=gbk>"), "text/html");
    assert_eq!(content_type("a.txt", b"\xff\xfea\0"), "text/plain");
}

#[test]
fn the_operator_chooses_types_and_charset() {
    let own = types(
        Some("iso-8859-1"),
        &[
            "log=text/x-log",
            ".TS=text/plain; charset=utf-8",
            "ts=a/b; c=\"d;e\"",
            "svg=text/plain",
            "html=text/html; level=1",
            "x=text/xml",
        ],
    );
    for (name, head, expected) in [
        ("a.log", &b""[..], "text/x-log; charset=iso-8859-1"),
        ("a.LOG", b"", "text/x-log; charset=iso-8859-1"),
        ("a.ts", b"", "a/b; c=\"d;e\""),
        ("a.svg", b"", "text/plain; charset=iso-8859-1"),
        ("a.html", b"", "text/html; level=1; charset=iso-8859-1"),
        ("a.html", b"<meta charset=utf-8>", "text/html; level=1"),
        ("a.x", b"", "text/xml"),
        ("a.json", b"", "application/json; charset=utf-8"),
        ("a.css", b"", "text/css; charset=iso-8859-1"),
    ] {
        assert_eq!(&*of(&own, name, head).value, expected, "{name}");
    }
    let off = types(None, &["log=text/plain; Charset=utf-8"]);
    assert_eq!(&*of(&off, "a.html", b"").value, "text/html");
    assert_eq!(&*of(&off, "a.json", b"").value, "application/json");
    assert_eq!(&*of(&off, "a.log", b"").value, "text/plain; Charset=utf-8");
    assert_eq!(
        of(&types(Some("utf-8"), &["log=text/plain; Charset=x"]), "a.log", b"").value,
        "text/plain; Charset=x".into()
    );
    for bad in [
        "",
        "log",
        "=text/plain",
        "a.b=text/plain",
        "*=a/b",
        "a/b=c/d",
        "log=",
        "log=text",
        "log=text/",
        "log=/plain",
        "log=a b/c",
        "log=a/b c",
        "log=a/b;",
        "log=a/b; c",
        "log=a/b; c=",
        "log=a/b; =d",
        "log=a/b; c=\"d",
        "log=a/b; c=d e",
        "log=a/b\r\nX: y",
        "log=a/b; c=\"\r\n\"",
        "log=a/b, c/d",
    ] {
        assert!(parse_type_rule(bad).is_err(), "{bad:?}");
    }
    for (charset, is_good) in
        [("utf-8", true), ("Shift_JIS", true), ("", false), ("a b", false), ("a;b", false)]
    {
        assert_eq!(check_charset(charset).is_ok(), is_good, "{charset}");
    }
    assert!(check_charset(&"a".repeat(41)).is_err());
}

#[test]
fn compressed_svg_has_a_coding_if_it_is_compressed() {
    let coding = |types: &Types, name: &str, head: &[u8]| of(types, name, head).coding;
    let plain = Types::default();
    assert_eq!(coding(&plain, "a.svgz", GZIP_MAGIC), Some(Coding::Gzip));
    assert_eq!(coding(&plain, "a.SVGZ", b"\x1f\x8b\x08\0"), Some(Coding::Gzip));
    assert_eq!(&*of(&plain, "a.svgz", GZIP_MAGIC).value, "image/svg+xml");
    for (name, head) in
        [("a.svgz", &b"<svg/>"[..]), ("a.svg", GZIP_MAGIC), ("a.gz", GZIP_MAGIC), ("a.svgz", b"")]
    {
        assert_eq!(coding(&plain, name, head), None, "{name}");
    }
    assert_eq!(coding(&types(None, &["svgz=application/gzip"]), "a.svgz", GZIP_MAGIC), None);
}

#[test]
fn only_what_becomes_smaller_is_compressed() {
    use Compressible::{No, Unknown, Yes};
    for (media_type, expected) in [
        ("text/plain", Yes),
        ("text/html; charset=utf-8", Yes),
        ("TEXT/X-Own", Yes),
        ("image/svg+xml", Yes),
        ("application/xml", Yes),
        ("application/x-ndjson; charset=utf-8", Yes),
        ("application/wasm", Yes),
        ("application/toml; a=b", Yes),
        (BYTES, Unknown),
        ("application/x-tar", Unknown),
        ("image/png", No),
        ("application/zip", No),
        ("model/vnd.usdz+zip", No),
    ] {
        assert_eq!(compressible(media_type), expected, "{media_type}");
    }
}
