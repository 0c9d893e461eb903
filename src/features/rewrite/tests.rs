//! Tests of redirects and rewrites.

use super::*;
use proptest::prelude::*;
use proptest::sample;

fn judged(rules: &str, path: &str, query: Option<&str>) -> String {
    let rules = Rules::parse(rules).unwrap_or_else(|why| panic!("{rules}: {why}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match rules.judge(path.as_bytes(), query.map(str::as_bytes), 100) {
        Verdict::Same => "same".into(),
        Verdict::Gone => "gone".into(),
        Verdict::TooLong => "too long".into(),
        Verdict::Redirect(status, location) => format!("{} {}", status.code(), text(location)),
        Verdict::Rewritten(target) => text(target),
    }
}

#[test]
fn the_first_redirect_ends_it_and_rewrites_go_on() {
    let rules = "
        # comment
        redirect 301 /old/** /new/$1
        redirect /two/*/* /$2/$1?fixed
        redirect 308 /out/** https://example.org/in/$1
        gone /gone/**
        rewrite /app/** /index.html?page=$1
        rewrite /a/* /b/$1
        rewrite /b/* /c/$1/
        redirect 307 /c/end/ /the-end
        redirect /loop/** /loop/$1
        redirect /login/** /in//?to=http://host//$1&also=//x
        redirect /part/* /new#$1
        redirect /parts/** /new//?b#//x$1
        redirect /café/** /bücher/$1?für#ö
        redirect /host https://a.example#top
        redirect /here /here#top
        redirect /hier/é /hier/%C3%A9#top
        rewrite /lesen/* /bücher/$1?für
    ";
    for (path, query, expected) in [
        ("/else", None, "same"),
        ("/old/x y/z", None, "301 /new/x%20y/z"),
        ("/old/x", Some("q=1"), "301 /new/x?q=1"),
        ("/two/a/b", Some("q=1"), "302 /b/a?fixed"),
        ("/out/p", Some(""), "308 https://example.org/in/p?"),
        ("/gone/", None, "gone"),
        ("/app/x/y", Some("q"), "/index.html?page=x/y"),
        ("/a/x", Some("q"), "/c/x/?q"),
        ("/b/x", None, "/c/x/"),
        ("/a/end", None, "307 /the-end"),
        ("/loop/x", Some("q"), "same"),
        ("/login/a/b", None, "302 /in/?to=http://host//a/b&also=//x"),
        ("/part/1", None, "302 /new#1"),
        ("/part/a#b%?", Some("q=1"), "302 /new?q=1#a%23b%25%3F"),
        ("/parts/a/b", Some("q=1"), "302 /new/?b#//xa/b"),
        ("/café/x", None, "302 /b%C3%BCcher/x?f%C3%BCr#%C3%B6"),
        ("/host", Some("q"), "302 https://a.example?q#top"),
        ("/here", None, "same"),
        ("/hier/é", Some("q"), "same"),
        ("/lesen/x", None, "/b%C3%BCcher/x?f%C3%BCr"),
    ] {
        assert_eq!(judged(rules, path, query), expected, "{path}");
    }
    let long = "rewrite /** /$1/$1/$1\nrewrite /** /$1/$1/$1\nrewrite /** /$1/$1/$1";
    assert_eq!(judged(long, "/aaaaaa", None), "too long");
}

#[test]
fn no_wildcard_leads_to_another_host_or_line() {
    for (rules, path, expected) in [
        ("redirect /a** /$1", "/a/evil.example", "302 /evil.example"),
        ("redirect /a** $1x", "/a", "error"),
        ("redirect /** /$1", "/\\evil.example", "same"),
        ("redirect /x/** /$1", "/x/\\evil.example", "302 /%5Cevil.example"),
        ("redirect /x/** /$1", "/x/a\r\nSet-Cookie: b", "302 /a%0D%0ASet-Cookie:%20b"),
        ("redirect /x/** /y?z=$1", "/x/a&b#c?d", "302 /y?z=a%26b%23c%3Fd"),
        ("redirect /x/** https://a.example/$1", "/x/.../@evil", "302 https://a.example/.../@evil"),
        ("rewrite /x/** /y/$1", "/x/a?b", "/y/a%3Fb"),
    ] {
        match Rules::parse(rules) {
            Ok(_) => assert_eq!(judged(rules, path, None), expected, "{rules} {path}"),
            Err(_) => assert_eq!(expected, "error", "{rules}"),
        }
    }
}

/// A capture can be one or two dots, and a target can put a slash on both sides of it.
#[test]
fn no_wildcard_makes_a_dot_segment() {
    for (rules, path, expected) in [
        ("rewrite /img-*/** /images/$1/$2", "/img-a/b", "/images/a/b"),
        ("rewrite /img-*/** /images/$1/$2", "/img-/b", "/images/b"),
        ("rewrite /img-*/** /images/$1/$2", "/img-.../b", "/images/.../b"),
        ("rewrite /img-*/** /images/$1/$2", "/img-..a/b", "/images/..a/b"),
        ("rewrite /img-*/** /images/$1/$2", "/img-%2e%2e/b", "/images/%252e%252e/b"),
        ("rewrite /img-*/** /images/$1/$2", "/img-../private/x", "same"),
        ("rewrite /img-*/** /images/$1/$2", "/img-./x", "same"),
        ("rewrite /img-** /images/$1", "/img-../private/x", "same"),
        ("rewrite *-x /images/$1/y", "/a/..-x", "same"),
        ("rewrite /*-*/x /a/$1$2/y", "/.-./x", "same"),
        ("rewrite /a*/x /b/.$1/y", "/a./x", "same"),
        ("rewrite /a*/x /b/.$1/y", "/a/x", "same"),
        ("rewrite /a*/x /b/.$1/y", "/ab/x", "/b/.b/y"),
        ("rewrite /a*/x /b/%2E$1/y", "/a./x", "same"),
        ("rewrite /a*/x /b/$1%2e", "/a./x", "same"),
        ("rewrite /a* /b/$1", "/a..", "same"),
        ("rewrite /a* /b/x.$1", "/a.", "/b/x.."),
        ("rewrite /a/** /b/../c/$1", "/a/x", "/c/x"),
        ("rewrite /a-** /b/../c/$1", "/a-..", "same"),
        ("redirect /a-*/** /b/$1/$2", "/a-../x", "same"),
        ("redirect /a-*/** https://b.example/c/$1/$2", "/a-../x", "same"),
        ("redirect /a-* /b?c=/$1/d", "/a-..", "302 /b?c=/../d"),
        // The rules below are still tried.
        ("rewrite /a-*/** /b/$1/$2\ngone /a-../**", "/a-../x", "gone"),
    ] {
        assert_eq!(judged(rules, path, None), expected, "{rules} {path}");
    }
}

proptest! {
    #[test]
    fn rewrites_stay_in_the_folder_of_their_target(
        path in "/[ab.]{0,3}-?([.%2e/-]|ab){0,12}",
        rule in sample::select(vec![
            "/*-* /in/$1/$2",
            "/** /in/$1",
            "/a** /in/$1",
            "/*-** /in/.$1/.$2",
            "/**-** /in/$1/$2./x",
            "*.* /in/x/$1$2",
            "/*.*/** /in/$1$2/$3",
        ]),
    ) {
        let rules = Rules::parse(&format!("rewrite {rule}")).unwrap();
        let Ok(asked) = normalize(path.as_bytes()) else { return Ok(()) };
        match rules.judge(&asked, None, 1000) {
            Verdict::Same => {}
            Verdict::Rewritten(target) => {
                let normal = normalize(&target).unwrap();
                prop_assert!(normal.starts_with(b"/in/"), "{path} {}", target.escape_ascii());
                prop_assert_eq!(count_dot_segments(&target), 0);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn redirects_and_rewrites_take_no_longer_path_than_a_file_has() {
    let rules = Rules::parse("redirect /r/** /s\nrewrite /w/** /v\ngone /g/**\nrewrite /x/** /r/$1").unwrap();
    let path = |start: &str, bytes: usize| format!("{start}{}", "x".repeat(bytes - start.len())).into_bytes();
    let judge = |path: &[u8]| rules.judge(path, None, 16_384);
    assert_eq!(judge(&path("/r/", PATH_BYTES_MAX)), Verdict::Redirect(Status::FOUND, b"/s".to_vec()));
    assert_eq!(judge(&path("/w/", PATH_BYTES_MAX)), Verdict::Rewritten(b"/v".to_vec()));
    for start in ["/r/", "/w/", "/x/"] {
        assert_eq!(judge(&path(start, PATH_BYTES_MAX + 1)), Verdict::Same, "{start}");
    }
    // `gone` applies to paths of any length, because a script path can have any suffix.
    for bytes in [PATH_BYTES_MAX, PATH_BYTES_MAX + 1, 3 * PATH_BYTES_MAX] {
        assert_eq!(judge(&path("/g/", bytes)), Verdict::Gone);
    }
    // A target that repeats long captures is abandoned before it grows large.
    let long = Rules::parse(&format!("rewrite /** /{}", "$1".repeat(10_000))).unwrap();
    assert_eq!(long.judge(&path("/", PATH_BYTES_MAX), None, 16_384), Verdict::TooLong);
}

#[test]
fn what_is_wrong_is_told_by_its_line() {
    for (line, why) in [
        ("redirect /a", "not 'redirect [CODE] PATTERN TARGET', 'rewrite PATTERN TARGET' or 'gone PATTERN'"),
        ("redirect 200 /a /b", "the code of a redirect must be 301, 302, 303, 307 or 308"),
        ("redirect /a //evil.example/", "a target with two slashes is another host"),
        ("redirect /* https://$1/", "the host of a target must be a name without wildcards"),
        ("redirect /* https://a.example$1", "the host of a target must be a name without wildcards"),
        ("redirect /* https:///x", "the host of a target must be a name without wildcards"),
        ("redirect /* /$2", "$2: the pattern has 1 wildcards"),
        ("redirect /a b", "the target must be a path or an http URL: the target does not begin with a slash"),
        (
            "redirect /a javascript:x",
            "the target must be a path or an http URL: the target does not begin with a slash",
        ),
        ("redirect /a /b\\c", "the target must be a path or an http URL: the target has a backslash"),
        ("redirect /** /b/$1/../c", "the target has a dot segment behind a wildcard"),
        ("rewrite /** /b/.$1/%2E%2e", "the target has a dot segment behind a wildcard"),
        ("rewrite /** /b/../$1/.", "the target has a dot segment behind a wildcard"),
        ("redirect /a /b#c#d", "the fragment of the target has a character that must be percent-encoded"),
        ("redirect /** //evil.example#$1", "a target with two slashes is another host"),
        ("redirect /* https://a.example$1#b", "the host of a target must be a name without wildcards"),
        ("redirect /a https://#b", "the host of a target must be a name without wildcards"),
        (
            "redirect /a https://b\u{fc}cher.example/",
            "write a name outside ASCII as browsers send it, with xn--: xn--mller-kva.example for \
             m\u{fc}ller.example",
        ),
        ("rewrite /a /b#c", "the target of a rewrite must not have a fragment: only clients use it"),
        ("rewrite /a https://b.example/", "the target of a rewrite must be a path of this server"),
        ("rewrite /a /b%2fc", "the path has an encoded slash"),
        ("gone a/b", "a pattern with a slash must begin with a slash"),
    ] {
        let error = Rules::parse(&format!("# one\n\n{line}\n")).unwrap_err();
        assert_eq!(error, format!("line 3: {why}"), "{line}");
    }
}
