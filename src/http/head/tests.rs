//! Tests of head parsing: each head gets the same result, however it is read.

use super::*;
use proptest::prelude::*;

fn status(head: &str) -> u16 {
    let limits = Limits::default();
    let bytes: Vec<u8> = head.chars().map(|c| c as u8).collect();
    match scan(&bytes, 0, &limits) {
        Err(error) => error.status.code(),
        Ok(Scan::Partial(_)) => 0,
        Ok(Scan::Complete(end)) => {
            assert_eq!(end, bytes.len());
            let mut slots = FieldSlots::new();
            parse(&bytes, &mut slots, &limits).map_or_else(|error| error.status.code(), |_| 200)
        }
    }
}

#[test]
fn heads_and_their_verdicts() {
    let cases: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.9\r\nHost: a\r\nX: y\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\nZ:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\n", 400),
        ("GET / HTTP/11.1\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\nHost: a\r\n\r\n", 400),
        ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET HTTP://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://u:p@a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{ff}caf\u{e9}\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cHunked \r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nExpect: 100-continue\r\n\r\n", 417),
        ("GET / HTTP/1.1\r\nExpect: 100-continue\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: \r\n\r\n", 417),
        ("GET /a", 0),
        ("GET /a\u{1}", 400),
        ("\u{16}\u{3}\u{1}", 400),
    ];
    for (head, expected) in cases {
        assert_eq!(status(head), *expected, "{head:?}");
        let (whole, steps) = both_ways(head.as_bytes());
        assert!(whole.is_none_or(|whole| whole == steps), "{head:?} in one pass");
    }
}

/// Results of both ways to read a head: in one pass, if it is of the usual kind, and step by step.
fn both_ways(head: &[u8]) -> (Option<String>, String) {
    let limits = Limits { target_bytes_max: 64, head_bytes_max: 512, fields_max: 12, ..Limits::default() };
    let said = |request: Result<Request<'_>, ProtocolError>| format!("{request:?}");
    let (mut first, mut second) = (FieldSlots::new(), FieldSlots::new());
    let whole = WholeHead::read(head, &mut first, &limits).map(|whole| {
        let len = whole.len();
        format!("{len} {}", said(whole.judge(&first, &limits)))
    });
    let steps = match scan(head, 0, &limits) {
        Ok(Scan::Complete(end)) => format!("{end} {}", said(parse(&head[..end], &mut second, &limits))),
        other => format!("{other:?}"),
    };
    (whole, steps)
}

const USUAL: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /a/b.c?d=e HTTP/1.0\r\n\r\n",
    "GET /%41/..//.x HTTP/1.1\r\nHost: a.test:80\r\nX-Empty:\r\nRange:  bytes=0-1 \r\n\r\nGET /next",
    "POST /f HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nabcde",
    "PUT /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\nUser-Agent: \u{e9}\r\n\r\n",
];

#[test]
fn a_usual_head_is_read_in_one_pass() {
    for head in USUAL {
        let (whole, steps) = both_ways(head.as_bytes());
        assert_eq!(whole, Some(steps), "{head:?}");
    }
}

proptest! {
    #[test]
    fn one_pass_says_what_the_steps_say(
        usual in 0..USUAL.len(),
        changes in proptest::collection::vec((0usize..200, 0usize..4, proptest::sample::select(&b"\r\n\t\0 :/.%?#GHa1\x7f\xff"[..])), 0..4),
    ) {
        let mut head = USUAL[usual].as_bytes().to_vec();
        for (at, what, byte) in changes {
            let at = at % head.len().max(1);
            match what {
                0 => head.insert(at, byte),
                _ if head.is_empty() => {}
                1 => head[at] = byte,
                2 => drop(head.remove(at)),
                _ => head.truncate(at),
            }
        }
        let (whole, steps) = both_ways(&head);
        prop_assert!(whole.is_none_or(|whole| whole == steps), "{}", head.escape_ascii());
    }

    #[test]
    fn long_lines_and_many_are_as_much_too_long_in_one_pass(
        target in 55usize..75,
        lines in 0usize..16,
        value in 0usize..60,
    ) {
        let lines = format!("X: {}\r\n", "v".repeat(value)).repeat(lines);
        let head = format!("GET /{} HTTP/1.1\r\nHost: a\r\n{lines}\r\n", "a".repeat(target));
        let (whole, steps) = both_ways(head.as_bytes());
        prop_assert!(whole.is_none_or(|whole| whole == steps), "{head:?}");
    }
}

#[test]
fn too_much_has_the_right_name() {
    assert_eq!(status(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(20_000))), 414);
    assert_eq!(status(&format!("GET /{}", "a".repeat(20_000))), 414);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(40_000))), 431);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200))), 431);
}

#[test]
fn persistence_follows_version_and_options() {
    let cases: &[(&str, bool)] = &[
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: ,, CLOSE ,\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
    ];
    for (head, expected) in cases {
        let mut slots = FieldSlots::new();
        let request = parse(head.as_bytes(), &mut slots, &Limits::default()).unwrap();
        assert_eq!(request.is_persistent(), *expected, "{head:?}");
    }
}

#[test]
fn scanning_looks_at_each_byte_once() {
    let limits = Limits::default();
    let head = b"GET /abc HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nrest";
    let mut scanned = 0;
    for end in 1..=head.len() {
        match scan(&head[..end], scanned, &limits).unwrap() {
            Scan::Partial(next) => {
                assert_eq!(next, end, "everything up to here is settled");
                scanned = next;
            }
            Scan::Complete(at) => {
                assert_eq!((at, end), (head.len() - 4, head.len() - 4));
                return;
            }
        }
    }
    panic!("the end of the head was missed");
}
