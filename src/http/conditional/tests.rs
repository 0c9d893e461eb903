//! Tests of preconditions.

use httparse::Header;

use super::Precondition::{Failed, NotModified, Proceed};
use super::*;
use crate::http::field_lines::FieldLine;

const MODIFIED: u64 = 784_111_777;
const NOW: u64 = MODIFIED + 86_400;
const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const FUTURE: &str = "Tue, 08 Nov 1994 08:49:38 GMT";
const STRONG: Validators<'static> = Validators { etag: b"\"abc\"", modified_secs: Some(MODIFIED) };
const WEAK: Validators<'static> = Validators { etag: b"W/\"abc\"", modified_secs: Some(MODIFIED) };
const NONE: Validators<'static> = Validators { etag: b"", modified_secs: None };

/// Evaluates lines written as `name: value`.
fn verdict(lines: &[&str], method: Method<'_>, validators: &Validators<'_>) -> Precondition {
    let headers: Vec<FieldLine<'_>> = lines
        .iter()
        .map(|line| line.split_once(": ").expect("a line has a colon"))
        .map(|(name, value)| Header { name, value: value.as_bytes() }.into())
        .collect();
    evaluate(ReceivedHeaders::new(&headers), method, validators, NOW)
}

fn check(method: Method<'_>, validators: &Validators<'_>, cases: &[(&[&str], Precondition)]) {
    for (lines, expected) in cases {
        assert_eq!(verdict(lines, method, validators), *expected, "{lines:?} {validators:?}");
    }
}

/// The filter must not take a browser's request for a file as a conditional one.
#[test]
fn what_browsers_send_is_not_taken_for_a_condition() {
    let range = NameFilter::of(&["range"]);
    let sent = "Host User-Agent Accept Accept-Language Accept-Encoding Connection Upgrade-Insecure-Requests \
                Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Priority Cookie Cache-Control Referer \
                DNT TE Pragma sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform Sec-GPC Origin";
    let line = |name| Header { name, value: b"x" }.into();
    for name in sent.split_whitespace() {
        assert!(!CONDITIONS.may_have(&line(name)) && !range.may_have(&line(name)), "{name}");
    }
    assert!(CONDITIONS.may_have(&line("IF-RANGE")) && range.may_have(&line("Range")));
}

#[test]
fn requests_without_conditions_proceed() {
    let cases: &[(&[&str], Precondition)] = &[
        (&[], Proceed),
        (&["Host: a", "If: x", "I: x", "Range: bytes=0-4"], Proceed),
        (&["If-Range: \"other\""], Proceed),
        (&["If-None-Matches: *", "If-Matc: \"x\""], Proceed),
    ];
    check(Method::Get, &STRONG, cases);
    check(Method::Put, &NONE, cases);
}

#[test]
fn if_none_match_compares_weakly() {
    let cases: &[(&[&str], Precondition)] = &[
        (&["If-None-Match: \"abc\""], NotModified),
        (&["if-NONE-match: W/\"abc\""], NotModified),
        (&["If-None-Match: *"], NotModified),
        (&["If-None-Match:  * "], NotModified),
        (&["If-None-Match: \"a\",\"abc\",\"b\""], NotModified),
        (&["If-None-Match: \"a\" ,\t\"abc\" , \"b\""], NotModified),
        (&["If-None-Match: ,, \"abc\""], NotModified),
        (&["If-None-Match: \"a,b\", \"abc\""], NotModified),
        (&["If-None-Match: \"a\\\", \"abc\""], NotModified),
        (&["If-None-Match: \"a\"", "If-None-Match: \"abc\""], NotModified),
        (&["If-None-Match: junk, \"abc\""], NotModified),
        (&["If-None-Match: \"a\"junk, \"abc\""], NotModified),
        (&["If-None-Match: \"\""], Proceed),
        (&["If-None-Match: "], Proceed),
        (&["If-None-Match: \"ABC\""], Proceed),
        (&["If-None-Match: \"abcd\""], Proceed),
        (&["If-None-Match: abc"], Proceed),
        (&["If-None-Match: 'abc'"], Proceed),
        (&["If-None-Match: \"abc"], Proceed),
        (&["If-None-Match: abc\""], Proceed),
        (&["If-None-Match: w/\"abc\""], Proceed),
        (&["If-None-Match: W/ \"abc\""], Proceed),
        (&["If-None-Match: \"abc\"x"], Proceed),
        (&["If-None-Match: x\"abc\""], Proceed),
        (&["If-None-Match: \"x,\"abc\",y\""], Proceed),
        (&["If-None-Match: \"a, \"abc\""], Proceed),
        (&["If-None-Match: **"], Proceed),
    ];
    check(Method::Get, &STRONG, cases);
    check(Method::Get, &WEAK, cases);
}

#[test]
fn if_none_match_on_other_methods_fails() {
    let cases: &[(&[&str], Precondition)] = &[
        (&["If-None-Match: \"abc\""], Failed),
        (&["If-None-Match: *"], Failed),
        (&["If-None-Match: \"other\""], Proceed),
    ];
    check(Method::Put, &STRONG, cases);
}

#[test]
fn if_match_compares_strongly() {
    let cases: &[(&[&str], Precondition)] = &[
        (&["If-Match: \"abc\""], Proceed),
        (&["If-Match: *"], Proceed),
        (&["If-Match: \"a\", \"abc\""], Proceed),
        (&["If-Match: \"a\"", "If-Match: \"abc\""], Proceed),
        (&["If-Match: W/\"abc\""], Failed),
        (&["If-Match: \"other\""], Failed),
        (&["If-Match: abc"], Failed),
        (&["If-Match: "], Failed),
    ];
    check(Method::Get, &STRONG, cases);
    check(Method::Put, &STRONG, cases);
    let weak: &[(&[&str], Precondition)] =
        &[(&["If-Match: \"abc\""], Failed), (&["If-Match: W/\"abc\""], Failed), (&["If-Match: *"], Proceed)];
    check(Method::Get, &WEAK, weak);
    check(Method::Get, &NONE, &[(&["If-Match: \"\""], Failed), (&["If-None-Match: \"\""], Proceed)]);
}

#[test]
fn dates_are_compared_to_the_second() {
    let ims = |date: &str| format!("If-Modified-Since: {date}");
    let ius = |date: &str| format!("If-Unmodified-Since: {date}");
    let cases: &[(String, Precondition)] = &[
        (ims(SAME), NotModified),
        (ims(AFTER), NotModified),
        (ims(BEFORE), Proceed),
        (ims("Sunday, 06-Nov-94 08:49:37 GMT"), NotModified),
        (ims("Sun Nov  6 08:49:37 1994"), NotModified),
        (ims(" Sun, 06 Nov 1994 08:49:37 GMT\t"), NotModified),
        (ims(FUTURE), Proceed),
        (ims("yesterday"), Proceed),
        (ims(""), Proceed),
        (ims(&format!("{SAME}, {SAME}")), Proceed),
        (ius(SAME), Proceed),
        (ius(AFTER), Proceed),
        (ius(FUTURE), Proceed),
        (ius(BEFORE), Failed),
        (ius("yesterday"), Proceed),
    ];
    for (line, expected) in cases {
        assert_eq!(verdict(&[line], Method::Get, &STRONG), *expected, "{line}");
        assert_eq!(verdict(&[line], Method::Get, &NONE), Proceed, "{line}");
        let other_method = if *expected == NotModified { Proceed } else { *expected };
        assert_eq!(verdict(&[line], Method::Put, &STRONG), other_method, "{line}");
    }
    assert_eq!(verdict(&[&ims(SAME), &ims(SAME)], Method::Get, &STRONG), Proceed);
    assert_eq!(verdict(&[&ius(BEFORE), &ius(BEFORE)], Method::Get, &STRONG), Proceed);
}

#[test]
fn tags_beat_dates_and_if_match_comes_first() {
    let ims_same = format!("If-Modified-Since: {SAME}");
    let ius_before = format!("If-Unmodified-Since: {BEFORE}");
    let cases: &[(&[&str], Precondition)] = &[
        (&["If-None-Match: \"other\"", &ims_same], Proceed),
        (&[&ims_same, "If-None-Match: \"other\""], Proceed),
        (&["If-None-Match: junk", &ims_same], Proceed),
        (&["If-Match: \"abc\"", &ius_before], Proceed),
        (&["If-Match: \"other\"", "If-None-Match: \"abc\""], Failed),
        (&["If-None-Match: \"abc\"", "If-Match: \"abc\""], NotModified),
        (&["If-Match: \"abc\"", &ims_same], NotModified),
        (&[&ius_before, "If-None-Match: \"abc\""], Failed),
        (&[&ius_before, &ims_same], Failed),
    ];
    check(Method::Get, &STRONG, cases);
}

#[test]
fn nothing_there_yet_fails_if_match_only() {
    let cases = [("If-Match", Failed), ("If-None-Match", Proceed), ("If-Unmodified-Since", Proceed)];
    for (name, expected) in cases {
        let headers = [Header { name, value: b"*" }.into()];
        assert_eq!(evaluate_absent(ReceivedHeaders::new(&headers)), expected, "{name}");
    }
    assert_eq!(evaluate_absent(ReceivedHeaders::new(&[])), Proceed);
}

#[test]
fn if_range_is_strong_and_exact() {
    let cases: &[(Option<&str>, bool)] = &[
        (None, true),
        (Some("\"abc\""), true),
        (Some(" \"abc\" "), true),
        (Some(SAME), true),
        (Some("Sun Nov  6 08:49:37 1994"), true),
        (Some(BEFORE), false),
        (Some(AFTER), false),
        (Some("W/\"abc\""), false),
        (Some("\"other\""), false),
        (Some("\"abc\", \"other\""), false),
        (Some("\"abc\"x"), false),
        (Some("\"abc"), false),
        (Some("abc"), false),
        (Some("*"), false),
        (Some("what"), false),
        (Some(""), false),
    ];
    for (value, expected) in cases {
        let value = value.map(str::as_bytes);
        assert_eq!(range_applies(value, &STRONG), *expected, "{value:?}");
        assert_eq!(range_applies(value, &NONE), value.is_none(), "{value:?}");
    }
    assert!(!range_applies(Some(b"\"abc\""), &WEAK));
    assert!(!range_applies(Some(b"W/\"abc\""), &WEAK));
    assert!(!range_applies(Some(SAME.as_bytes()), &WEAK));
    assert!(range_applies(None, &WEAK));
}
