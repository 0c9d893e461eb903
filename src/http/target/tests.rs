//! Tests of targets and hosts: checks, normalised paths, decoding and encoding.

use super::*;
use proptest::prelude::*;

#[test]
fn references_are_relative_to_the_path_that_was_sent() {
    for (base, path, expected) in [
        ("/docs", "/docs/", "docs/"),
        ("/docs/deep", "/docs/deep/", "deep/"),
        ("/docs/deep/b.html", "/docs/deep/b", "b"),
        ("/docs/index.html", "/docs/", "./"),
        ("/index", "/", "./"),
        ("/contact/", "/contact", "../contact"),
        ("/a/b/", "/a/b", "../b"),
        ("/a/b/c", "/x/y", "../../x/y"),
        ("/a/b/c", "/", "../../"),
        ("/a", "/a", "a"),
        ("/a%20b", "/a b/", "a%20b/"),
        ("/%61", "/a/", "a/"),
        ("/c:x", "/c:x/", "./c:x/"),
        ("/evil:80", "/evil:80/", "./evil:80/"),
        ("/a/c%3Ax", "/a/c:x/", "./c:x/"),
        ("/a:/b/", "/a:/b", "../b"),
        ("/x/", "/c:x", "../c:x"),
        ("/a/b:c/", "/a/b:c/d:e", "./d:e"),
        ("/%5Cevil", "/\\evil/", "%5Cevil/"),
        ("/x%3Fy%23z", "/x?y#z/", "x%3Fy%23z/"),
        ("/aa/b", "/a/b", "../a/b"),
        ("/a/b", "/aa/b", "../aa/b"),
    ] {
        let got = reference(Some(base.as_bytes()), path.as_bytes());
        assert_eq!(String::from_utf8(got).unwrap(), expected, "{base} {path}");
    }
    assert_eq!(reference(None, b"/a b/"), b"/a%20b/");
    let deep = b"/a".repeat(CLIMB_MAX + 2);
    assert_eq!(reference(Some(&deep), b"/x"), b"/x");
}

#[test]
fn a_path_is_a_base_if_nobody_can_count_its_folders_otherwise() {
    for path in ["/", "/a", "/a/", "/a%20b/c", "/...", "/.a", "/a..", "/%2e%2e%2e", "/c:x", "/a%5C.."] {
        assert!(is_base(path.as_bytes()), "{path}");
    }
    for path in ["*", "", "//", "//a", "/a//b", "/.", "/./a", "/a/..", "/%2e", "/a/.%2E/b", "/.//x"] {
        assert!(!is_base(path.as_bytes()), "{path}");
    }
}

/// Resolves a reference without scheme, authority, query and fragment (RFC 3986 section 5.2).
fn resolved(base: &[u8], reference: &[u8]) -> Vec<u8> {
    if reference.starts_with(b"/") {
        return normalize(reference).unwrap().into_owned();
    }
    let folder = &base[..=memchr::memrchr(b'/', base).unwrap()];
    normalize(&[folder, reference].concat()).unwrap().into_owned()
}

proptest! {
    #[test]
    fn a_reference_leads_to_its_path_and_to_no_other_host(
        base in "(/(a|b|c:|%2e|%3A|\\.|//)?){1,6}",
        path in "(/[ab:.\\\\?#% é]{0,3}){1,6}",
    ) {
        let path = remove_dot_segments(path.as_bytes());
        let base = Some(base.as_bytes()).filter(|base| is_base(base));
        let got = reference(base, &path);
        prop_assert_eq!(&resolved(base.unwrap_or(b"/"), &got), &path);
        prop_assert!(!got.starts_with(b"//") && got.starts_with(b"/") == base.is_none());
        let first = got.split(|&byte| byte == b'/').next().unwrap_or_default();
        prop_assert!(!got.is_empty() && !first.contains(&b':') && got.is_ascii() && !got.contains(&b'\\'));
        prop_assert!(!got.contains(&b'?') && !got.contains(&b'#'));
        // A prefix that the client sees and the server does not.
        if let Some(base) = base {
            let below = [&b"/pre/fix"[..], base].concat();
            prop_assert_eq!(resolved(&below, &got), [&b"/pre/fix"[..], &path].concat());
        }
    }
}

#[test]
fn every_byte_of_a_path_and_a_query_is_judged() {
    let path_bytes = b"-._~!$&'()*+,;=:@/[]|^{}`";
    let query_extra = b"?%\\";
    for byte in 0..=255u8 {
        let in_path = byte.is_ascii_alphanumeric() || path_bytes.contains(&byte);
        let in_query = in_path || query_extra.contains(&byte);
        // A question mark is legal as well: it begins the query.
        let path = [b'/', b'a', byte, b'b'];
        let path = read_origin_form(&path);
        assert_eq!(path.is_ok(), in_path || byte == b'?', "path {byte:#04x}: {path:?}");
        let query = [b'/', b'?', byte];
        let query = read_origin_form(&query);
        assert_eq!(query.is_ok(), in_query, "query {byte:#04x}: {query:?}");
    }
}

#[test]
fn origin_form_is_an_absolute_path_with_sound_escapes() {
    let good =
        r"/ // /a%41b /%00 /%2f%2F /? /a?b?c /?% /?%zz&a[]=1 /?a={x} /a;b=c,d@e:f /[id] /a|b^c/{x}` /?a\b";
    for target in good.split(' ') {
        assert!(read_origin_form(target.as_bytes()).is_ok(), "{target}");
    }
    let ascii = r#"* a ? http://a/ /% /%4 /%4? /%zz /%4g /%g4 /a#b /?a#b /\ /[\] /" /?" /<a> /?<"#;
    let others: &[&[u8]] = &[b"", b"/a b", b"/?a b", b"/\x00", b"/?\x7f", b"/caf\xc3\xa9", b"/?\xff"];
    for target in ascii.split(' ').map(str::as_bytes).chain(others.iter().copied()) {
        assert!(read_origin_form(target).is_err(), "{:?}", String::from_utf8_lossy(target));
    }
}

#[test]
fn reasons_say_what_was_wrong() {
    let cases: &[(&[u8], &str)] = &[
        (b"index.html", "slash"),
        (b"/%", "percent"),
        (b"/a#b", "fragment"),
        (b"/a\\b", "backslash"),
        (b"/a b", "space"),
        (b"/\x01", "control"),
        (b"/\x80", "outside ASCII"),
        (b"/<", "must be percent-encoded"),
    ];
    for (target, word) in cases {
        let reason = read_origin_form(target).expect_err("must be refused");
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn a_target_is_split_at_its_first_question_mark() {
    type Parts<'a> = (&'a [u8], Option<&'a [u8]>);
    let cases: &[(&[u8], Parts<'_>)] = &[
        (b"/a", (b"/a", None)),
        (b"/a?", (b"/a", Some(b""))),
        (b"/a?b?c", (b"/a", Some(b"b?c"))),
        (b"/?/..", (b"/", Some(b"/.."))),
        (b"", (b"", None)),
    ];
    for (target, expected) in cases {
        assert_eq!(split(target), *expected);
        if let Ok(read) = read_origin_form(target) {
            assert_eq!((read.path, read.query), *expected);
        }
    }
}

#[test]
fn normal_paths_are_borrowed() {
    for path in r"/ /a /a/ /a/b.c /.well-known/x /... /..a /a../b /.a. /a. /a\b /a.. /....".split(' ') {
        match normalize(path.as_bytes()) {
            Ok(Cow::Borrowed(same)) => assert_eq!(same, path.as_bytes()),
            other => panic!("{path} became {other:?}"),
        }
    }
}

#[test]
fn paths_are_decoded_once_and_stay_below_the_root() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"//", b"/"),
        (b"///a//b///", b"/a/b/"),
        (b"/.", b"/"),
        (b"/./", b"/"),
        (b"/..", b"/"),
        (b"/../..", b"/"),
        (b"/../../etc/passwd", b"/etc/passwd"),
        (b"/a/.", b"/a/"),
        (b"/a/..", b"/"),
        (b"/a/../", b"/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/../c", b"/a/c"),
        (b"/a/./b", b"/a/b"),
        (b"/a//../b", b"/b"),
        (b"/%2e%2e/%2E/a", b"/a"),
        (b"/a/%2e%2e", b"/"),
        (b"/a/.%2e/b", b"/b"),
        (b"/a/%2e", b"/a/"),
        (b"/a%20b", b"/a b"),
        (b"/%41", b"/A"),
        (b"/%c3%a9", b"/\xc3\xa9"),
        (b"/%ff", b"/\xff"),
        (b"/%252e%252e/a", b"/%2e%2e/a"),
        (b"/%252f", b"/%2f"),
        (b"/%5c..%5cetc", b"/\\..\\etc"),
        (b"/..%5c..%5cetc", b"/..\\..\\etc"),
        (b"/....//....//etc", b"/..../..../etc"),
        (b"/%c0%ae%c0%ae/a", b"/\xc0\xae\xc0\xae/a"),
        (b"/a%0d%0ab", b"/a\r\nb"),
        (b"/a%3fb", b"/a?b"),
    ];
    for (path, expected) in cases {
        let shown = String::from_utf8_lossy(path);
        let normal = normalize(path).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(&*normal, *expected, "{shown}");
        assert!(matches!(normal, Cow::Owned(_)), "{shown} changed");
    }
}

#[test]
fn impossible_paths_are_refused() {
    let cases: &[(&[u8], PathError)] = &[
        (b"", PathError::Relative),
        (b"a/b", PathError::Relative),
        (b"*", PathError::Relative),
        (b"/a%00b", PathError::Nul),
        (b"/a\0b", PathError::Nul),
        (b"/a%2fb", PathError::EncodedSlash),
        (b"/..%2F..%2Fetc", PathError::EncodedSlash),
        (b"/%", PathError::BadEscape),
        (b"/%4", PathError::BadEscape),
        (b"/%zz", PathError::BadEscape),
        (b"/%4g", PathError::BadEscape),
        (b"/%+1", PathError::BadEscape),
    ];
    for (path, expected) in cases {
        assert_eq!(normalize(path), Err(*expected), "{:?}", String::from_utf8_lossy(path));
    }
}

/// The check of a block must accept the same bytes as the check of each byte.
#[test]
fn hosts_are_the_same_in_one_look_and_by_the_byte() {
    let by_the_byte = |host: &[u8]| {
        let (name, port) = host.split_at(memchr(b':', host).unwrap_or(host.len()));
        name.iter().all(|&byte| is_class(byte, NAME))
            && (port.len() <= 1 + PORT_DIGITS_MAX)
            && port.iter().skip(1).all(u8::is_ascii_digit)
    };
    for len in 0..=18 {
        for at in 0..len.max(1) {
            for colon in 0..=len {
                for byte in [b'a', b'.', b'-', b'_', b'7', b':', b'/', b' ', 0, 0x80] {
                    let mut host = vec![b'9'; len];
                    if let Some(byte) = host.get_mut(colon) {
                        *byte = b':';
                    }
                    if let Some(odd) = host.get_mut(at) {
                        *odd = byte;
                    }
                    assert_eq!(check_host(&host), by_the_byte(&host), "{}", host.escape_ascii());
                }
            }
        }
    }
}

#[test]
fn hosts_follow_the_grammar() {
    let good = "a a.test A.TEST:8080 127.0.0.1 127.0.0.1: :80 : a:99999 a:00000 a_b-c~d a!$&'()*+,;=b %41.test \
        [::1] [::1]:80 [::1]: [2001:db8::1.2.3.4] [v1.xx] [vF.a:b]:1 999.999.999.999";
    assert!(check_host(b""));
    for host in good.split(' ') {
        assert!(check_host(host.as_bytes()), "{host}");
    }
    let bad = r#"::1 a:bc a:80:80 a:123456 a:-1 a:+1 u@a u:p@a a/x a?x a#x a\b "a" http://a <a> % %4 %zz a%4
        [::1 ::1] [::1]x [::1]80 [] [a] [127.0.0.1] [::1%25eth0] [fe80::1%eth0] [v.x] [v1.] [vg.x] [v1x] [:::1]
        [::1]] a[ a] [::1]:x [::1]:123456"#;
    let others: &[&[u8]] =
        &[b"a b", b" a", b"a ", b"a\t", b"a: 80", b"a\0b", b"a\x7f", b"caf\xc3\xa9", b"[\xff]"];
    for host in bad.split_ascii_whitespace().map(str::as_bytes).chain(others.iter().copied()) {
        assert!(!check_host(host), "{:?}", String::from_utf8_lossy(host));
    }
    for byte in 0..=255u8 {
        let expected = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte);
        assert_eq!(check_host(&[b'a', byte]), expected, "{byte:#04x}");
    }
}

#[test]
fn forms_are_decoded() {
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&[u8], Pairs<'_>)] = &[
        (b"", &[]),
        (b"&&", &[]),
        (b"a", &[("a", "")]),
        (b"a=", &[("a", "")]),
        (b"=a", &[("", "a")]),
        (b"=", &[("", "")]),
        (b"a=1&b=2", &[("a", "1"), ("b", "2")]),
        (b"a=b=c", &[("a", "b=c")]),
        (b"a+b=c+d", &[("a b", "c d")]),
        (b"a=%2B+%20", &[("a", "+  ")]),
        (b"a=%26%3d", &[("a", "&=")]),
        (b"a=%", &[("a", "%")]),
        (b"a=%zz%4", &[("a", "%zz%4")]),
        (b"a=%c3%a9", &[("a", "\u{e9}")]),
        (b"a=%ff", &[("a", "\u{fffd}")]),
        (b"a=%ff+b", &[("a", "\u{fffd} b")]),
        (b"a=\xe9", &[("a", "\u{fffd}")]),
        (b"a&a&a", &[("a", ""), ("a", ""), ("a", "")]),
    ];
    for (query, expected) in cases {
        let pairs: Vec<_> = query_pairs(query).collect();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, *expected, "{:?}", String::from_utf8_lossy(query));
    }
    assert!(query_pairs(b"plain=value").all(|(n, v)| matches!((n, v), (Cow::Borrowed(_), Cow::Borrowed(_)))));
}

#[test]
fn encoding_leaves_nothing_that_ends_a_path_or_an_attribute() {
    for byte in 0..=255u8 {
        let mut out = Vec::new();
        encode_path(&[byte], &mut out);
        let plain = byte.is_ascii_alphanumeric() || b"/-._~!$()*+,=:@".contains(&byte);
        let expected = if plain { vec![byte] } else { format!("%{byte:02X}").into_bytes() };
        assert_eq!(out, expected, "{byte:#04x}");
    }
}

#[test]
fn an_encoded_path_is_a_valid_target_and_decodes_to_itself() {
    let mut path = b"/".to_vec();
    path.extend((1..=255u8).filter(|&byte| byte != b'/'));
    let mut encoded = Vec::new();
    encode_path(&path, &mut encoded);
    assert!(read_origin_form(&encoded).is_ok());
    assert_eq!(split(&encoded).1, None);
    assert_eq!(normalize(&encoded).as_deref(), Ok(&*path));
}

/// A browser sends some bytes unescaped. They name the same path as the escaped form.
#[test]
fn each_byte_of_a_path_means_its_escaped_form() {
    for byte in (1..=255u8).filter(|&byte| byte != b'/') {
        for raw in [vec![b'/', byte], vec![b'/', b'a', byte], [&b"/d/x"[..], &[byte], b"y/z"].concat()] {
            let escaped: Vec<u8> = raw
                .iter()
                .flat_map(|&b| if b == byte { format!("%{b:02x}").into_bytes() } else { vec![b] })
                .collect();
            let by_escape = read_origin_form(&escaped).map(|form| normalize(form.path).map(Cow::into_owned));
            let Ok(form) = read_origin_form(&raw) else { continue };
            if form.query.is_none() {
                let by_byte = normalize(form.path).map(Cow::into_owned);
                assert_eq!(Ok(by_byte), by_escape, "{}", raw.escape_ascii());
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn plain_paths_are_normal_and_name_nothing_hidden(path in "/[a.%/?2e]{0,12}") {
        if let Ok(read) = read_origin_form(path.as_bytes()) {
            let normal = normalize(read.path);
            let same = matches!(&normal, Ok(Cow::Borrowed(_)));
            let dotted = memchr::memmem::find(read.path, b"/.").is_some();
            proptest::prop_assert_eq!(read.is_plain, same && !dotted);
        }
    }

    #[test]
    fn normal_paths_are_absolute_and_stable(path in "/[a.%/2e5cF]{0,24}") {
        if let Ok(normal) = normalize(path.as_bytes()) {
            proptest::prop_assert!(normal.starts_with(b"/"));
            proptest::prop_assert!(!normal.windows(2).any(|pair| pair == b"//"));
            let dotted = normal.split(|&byte| byte == b'/').any(|segment| segment == b"." || segment == b"..");
            proptest::prop_assert!(!dotted);
            let mut encoded = Vec::new();
            encode_path(&normal, &mut encoded);
            proptest::prop_assert!(normalize(&encoded).is_ok_and(|again| again == normal));
        }
    }
}
