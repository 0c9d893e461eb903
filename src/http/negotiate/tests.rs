//! Tests of the choice between media types and between codings.

use super::*;

#[test]
fn codings_are_weighed() {
    use Coding::{Brotli, Gzip, Zstd};
    let all: &[Coding] = &[Brotli, Zstd, Gzip];
    // Header lines, offers, choice, and whether identity is refused.
    type Case<'a> = (&'a [&'a str], &'a [Coding], Option<Coding>, bool);
    let cases: &[Case<'_>] = &[
        (&["gzip, deflate, br, zstd"], all, Some(Brotli), false),
        (&["gzip, deflate, br, zstd"], &[Gzip], Some(Gzip), false),
        (&["gzip", "br;q=0.5"], all, Some(Gzip), false),
        (&["gzip;q=0.5, br;q=0.5"], all, Some(Brotli), false),
        (&["gzip;q=0.001"], all, Some(Gzip), false),
        (&["gzip;q=0"], all, None, false),
        (&["GZip ; Q=1.0"], all, Some(Gzip), false),
        (&["x-gzip"], all, Some(Gzip), false),
        (&["*"], all, Some(Brotli), false),
        (&["*;q=0"], all, None, true),
        (&["*;q=0, gzip"], all, Some(Gzip), true),
        (&["br;q=0, *"], all, Some(Zstd), false),
        (&["identity"], all, None, false),
        (&["identity, gzip;q=0.5"], all, None, false),
        (&["identity;q=0.5, gzip;q=0.5"], all, Some(Gzip), false),
        (&["identity;q=0"], all, None, true),
        (&["identity;q=0, *"], &[Zstd], Some(Zstd), true),
        (&["deflate, compress"], all, None, false),
        (&[""], all, None, false),
        (&["gzip;q=2, br;level=3, zstd;q="], all, None, false),
        (&[",, gzip ,"], all, Some(Gzip), false),
    ];
    for (lines, offered, chosen, refuses) in cases {
        let codings = Codings::of(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(codings.choose(|coding| offered.contains(&coding)), *chosen, "{lines:?}");
        assert_eq!(codings.refuses_identity(), *refuses, "{lines:?}");
    }
}

const OFFERS: &[&str] = &["text/html; charset=utf-8", "application/json", "text/plain"];
const HTML: Option<usize> = Some(0);
const JSON: Option<usize> = Some(1);
const TEXT: Option<usize> = Some(2);

fn check(cases: &[(&[&str], Option<usize>)]) {
    for (lines, expected) in cases {
        let found = preferred(lines.iter().map(|line| line.as_bytes()), OFFERS);
        assert_eq!(found, *expected, "{lines:?}");
    }
}

#[test]
fn who_asks_for_nothing_takes_the_first() {
    check(&[
        (&[], HTML),
        (&[""], HTML),
        (&[" , ,"], HTML),
        (&["garbage"], HTML),
        (&["text/html;q=banana"], HTML),
    ]);
    assert_eq!(preferred(std::iter::empty(), &[]), None);
    assert_eq!(preferred([&b"*/*"[..]].into_iter(), &[]), None);
}

#[test]
fn weights_decide_and_ties_go_to_the_first_offer() {
    check(&[
        (&["*/*"], HTML),
        (&["*"], HTML),
        (&["*; q=.2, */*; q=.2"], HTML),
        (&["application/json"], JSON),
        (&["APPLICATION/Json"], JSON),
        (&["text/plain, application/json"], JSON),
        (&["text/plain", "application/json"], JSON),
        (&["application/json;q=0.5, text/plain"], TEXT),
        (&["application/json;q=0.501 , text/plain ; q=0.5"], JSON),
        (&["application/json;q=0.5, text/plain;Q=0.501"], TEXT),
        (&["text/html;q=0.9,application/json;q=0.9"], HTML),
        (&["image/png, text/*;q=0.1"], HTML),
        (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], HTML),
        (&["application/json;q=1.000, */*;q=0.999"], JSON),
        (&["junk, application/json"], JSON),
        (&["text/html;q=2, application/json"], JSON),
    ]);
}

#[test]
fn a_named_type_beats_a_wildcard_of_equal_weight() {
    check(&[
        (&["application/json, text/plain, */*"], JSON),
        (&["*/*", "text/plain"], TEXT),
        (&["*/*;q=0.8, text/plain;q=0.8"], TEXT),
        (&["text/*, application/json"], JSON),
        (&["text/*, */*"], HTML),
        (&["application/*, */*"], JSON),
        (&["text/plain;charset=utf-8, */*"], HTML),
        (&["text/plain, text/html;charset=utf-8"], HTML),
        (&["*/*, text/plain;q=0.9"], HTML),
        (&["*/*;q=0, text/plain;q=0"], None),
    ]);
}

#[test]
fn the_most_specific_range_speaks_for_an_offer() {
    check(&[
        (&["text/*, text/html;q=0.1"], TEXT),
        (&["text/html;q=0, */*"], JSON),
        (&["*/*, text/html;q=0, application/json;q=0"], TEXT),
        (&["text/*;q=0, */*;q=0.1"], JSON),
        (&["*/*;q=0.1, text/*;q=0"], JSON),
        (&["text/html;q=0.2, text/html;charset=UTF-8;q=0.1, text/plain;q=0.15"], TEXT),
        (&["text/html;q=0.3, text/html;q=0.7, text/plain;q=0.5"], HTML),
    ]);
}

#[test]
fn parameters_must_be_there_and_extensions_do_not_count() {
    check(&[
        (&["text/html;level=1"], None),
        (&["text/html;level=1, text/plain;q=0.1"], TEXT),
        (&["text/html;charset=utf-8"], HTML),
        (&["text/html; charset=\"UTF-8\""], HTML),
        (&["text/html;charset=latin1"], None),
        (&["application/json;q=1;ext=1"], JSON),
        (&["application/json;q=1;ext=\"a,b;q=0\""], JSON),
        (&["text/plain;a=\"x,application/json;q=1,\\\"\";q=0.5"], None),
    ]);
}

#[test]
fn nothing_acceptable_is_none() {
    check(&[
        (&["image/png"], None),
        (&["application/x-nonsense"], None),
        (&["*/*;q=0"], None),
        (&["*/*;q=0.000"], None),
        (&["text/*;q=0, application/*;q=0"], None),
        (&["text/htm, text/htmlx, tex/html"], None),
    ]);
}

#[test]
fn what_cannot_be_read_says_nothing() {
    for element in ["*/html", "/", "text/", "/html", "text", "a/b/c", ";q=1", "text/html;q=", "text/html;q=."]
    {
        assert!(MediaRange::parse(element.as_bytes()).is_none(), "{element}");
    }
}

#[test]
fn weights_have_three_decimals() {
    let cases: &[(&str, Option<u16>)] = &[
        ("0", Some(0)),
        ("1", Some(1000)),
        ("0.", Some(0)),
        ("1.", Some(1000)),
        ("0.5", Some(500)),
        ("0.05", Some(50)),
        ("0.005", Some(5)),
        (".5", Some(500)),
        ("1.000", Some(1000)),
        ("1.001", None),
        ("0.0005", None),
        ("2", None),
        ("-1", None),
        ("+1", None),
        ("0.5x", None),
        ("0,5", None),
        ("", None),
        (".", None),
        ("1e0", None),
        ("01", None),
    ];
    for (value, expected) in cases {
        assert_eq!(parse_weight(value.as_bytes()), *expected, "{value:?}");
    }
}

#[test]
fn quotes_hide_separators() {
    let cases: &[(&str, &[&str])] = &[
        ("a, b,,c ,", &["a", "b", "c"]),
        ("a=\"x,y\",b", &["a=\"x,y\"", "b"]),
        ("a=\"x\\\",y\",b", &["a=\"x\\\",y\"", "b"]),
        ("a=\"x,b", &["a=\"x,b"]),
        ("a\\,b", &["a\\", "b"]),
    ];
    for (value, expected) in cases {
        let pieces: Vec<_> = split_unquoted(value.as_bytes(), b',').collect();
        let expected: Vec<_> = expected.iter().map(|piece| piece.as_bytes()).collect();
        assert_eq!(pieces, expected, "{value}");
    }
}
