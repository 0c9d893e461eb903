//! Tests of the state machine. One oracle checks all input: whole, at every cut, and byte by byte.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::origin;
use crate::config::{KIB, Timeouts};
use crate::http::headers::Headers;
use crate::http::method::Method;
use crate::http::prepared::Prepared;
use crate::http::response::Response;
use crate::http::send_queue::{NextWrite, WRITE_SLICES};
use crate::http::status::Status;
use proptest::prelude::*;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// Feeds `pieces` to a new connection as a driver would. Each request gets an empty 200: GET and
/// HEAD at once, other methods when their content is complete. Returns the events in words, and the
/// bytes sent.
fn run(pieces: &[&[u8]], then_end: bool) -> (Vec<String>, String) {
    run_within(&Limits::default(), pieces, then_end)
}

/// Feeds `pieces` as `run` does, under other limits.
fn run_within(limits: &Limits, pieces: &[&[u8]], then_end: bool) -> (Vec<String>, String) {
    let now = origin();
    let mut conn = Connection::new(now);
    let (mut out, mut said, mut content) = (SendQueue::new(), Vec::new(), Vec::new());
    let mut input: Vec<u8> = Vec::new();
    let cx = RespondContext { now, date: DATE, limits };
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut at = 0;
        while conn.may_parse() {
            let mut slots = FieldSlots::new();
            let (used, event) = match conn.next_event(&input[at..], &mut slots, limits, now) {
                Ok(next) => next,
                Err(error) => {
                    said.push(format!("error {}", error.status.code()));
                    if conn.refuse(CloseReason::ProtocolError) {
                        conn.respond(Response::new(error.status), cx, &mut out);
                    }
                    break;
                }
            };
            at += used;
            match event {
                Event::NeedMore | Event::Paused => break,
                Event::Request(request) => {
                    said.push(format!("{} {}", request.method().name(), request.target()));
                    let at_once = matches!(request.method(), Method::Get | Method::Head);
                    if at_once || !conn.expects_content() {
                        conn.respond(Response::new(Status::OK), cx, &mut out);
                    } else {
                        conn.accept_content(Unused::Nothing, &mut out);
                    }
                }
                Event::Content(bytes) => content.extend_from_slice(bytes),
                Event::ContentEnd => {
                    said.push(format!("content {}", String::from_utf8_lossy(&content)));
                    content.clear();
                    conn.respond(Response::new(Status::OK), cx, &mut out);
                }
                Event::Discarded => {}
            }
            conn.start_next_cycle(now);
        }
        input.drain(..at);
    }
    if then_end {
        conn.receive_end();
    }
    said.push(format!("{:?}", conn.finish(Unused::Nothing)));
    let mut sent = Vec::new();
    out.gather(|bytes| sent.extend_from_slice(bytes));
    (said, String::from_utf8_lossy(&sent).into_owned())
}

/// Checks the events of `input` whole, at every cut, and byte by byte.
fn check(input: &[u8], then_end: bool, expected: &[&str]) {
    let (said, sent) = run(&[input], then_end);
    assert_eq!(said, expected, "{}", input.escape_ascii());
    for cut in 0..=input.len() {
        let got = run(&[&input[..cut], &input[cut..]], then_end);
        assert_eq!(got, (said.clone(), sent.clone()), "cut at {cut} of {}", input.escape_ascii());
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(run(&bytes, then_end), (said, sent), "byte by byte: {}", input.escape_ascii());
}

const OVER: &str = "Linger(ProtocolError)";

#[test]
fn requests_come_out_however_they_are_cut() {
    let get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    let post = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n";
    let close = "GET /z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    check(get.as_bytes(), false, &["GET /a", "NotYet"]);
    check(format!("\r\n{get}\r\n\r\n{get}").as_bytes(), false, &["GET /a", "GET /a", "NotYet"]);
    check(
        format!("{get}{post}{chunked}{get}").as_bytes(),
        false,
        &["GET /a", "POST /p", "content hello", "POST /c", "content abcde", "GET /a", "NotYet"],
    );
    check(format!("{get}{close}").as_bytes(), false, &["GET /a", "GET /z", "Close(Requested)"]);
    check(b"GET /o HTTP/1.0\r\n\r\n", false, &["GET /o", "Close(Requested)"]);
    check(b"GET /o HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false, &["GET /o", "NotYet"]);
}

#[test]
fn content_nobody_wants_is_read_past() {
    let rest = "GET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    let with = "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    check(format!("{with}{rest}").as_bytes(), false, &["GET /a", "GET /b", "NotYet"]);
    check(format!("{chunked}{rest}").as_bytes(), false, &["GET /a", "GET /b", "NotYet"]);
    let endless = "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\nhello";
    check(endless.as_bytes(), false, &["GET /a", "Linger(BodyRefused)"]);
    let broken = "GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno hex";
    check(broken.as_bytes(), false, &["GET /a", "Linger(BodyRefused)"]);
}

#[test]
fn what_breaks_the_protocol_is_answered_once_and_ends_it() {
    let get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    for (bad, status) in [
        ("GET /b HTTP/1.1\r\n\r\n", "error 400"),
        (
            "GET /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "error 400",
        ),
        ("GET /b HTTP/3.0\r\nHost: x\r\n\r\n", "error 505"),
        ("GET /b HTTP/1.1\nHost: x\r\n\r\n", "error 400"),
        ("\x16\x03\x01", "error 400"),
    ] {
        check(format!("{get}{bad}").as_bytes(), false, &["GET /a", status, OVER]);
    }
    let chunk = "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX";
    check(chunk.as_bytes(), false, &["POST /c", "error 400", OVER]);
}

#[test]
fn half_a_request_is_never_answered() {
    let whole = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    for end in 0..whole.len() {
        let (said, sent) = run(&[&whole[..end]], true);
        let reason = if end == 0 { "Close(PeerClosed)" } else { "Close(PeerTruncated)" };
        assert_eq!(said.last().map(String::as_str), Some(reason), "after {end} bytes");
        assert!(sent.is_empty(), "after {end} bytes: {sent}");
    }
    check(whole, true, &["POST /p", "content hello", "Close(PeerClosed)"]);
}

#[test]
fn phases_give_up_in_their_own_time() {
    let (limits, timeouts, start) = (Limits::default(), Timeouts::default(), origin());
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut conn = Connection::new(start);
    let due = |conn: &Connection| conn.deadline(Outside::Nothing, &timeouts, 64).map(|due| due - start);
    assert_eq!(due(&conn), timeouts.header, "a connection that never sends a byte");
    let feed = |conn: &mut Connection, bytes: &'static [u8], ms| {
        conn.next_event(bytes, &mut FieldSlots::new(), &limits, at(ms)).map(|(used, _)| used)
    };
    // Single bytes do not extend the deadline: it is fixed when the first byte arrives.
    assert_eq!(feed(&mut conn, b"POST /", 2000), Ok(0));
    assert_eq!(feed(&mut conn, b"POST /p HTTP", 9000), Ok(0));
    assert_eq!(due(&conn), timeouts.header);
    let head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    assert_eq!(feed(&mut conn, head, 9500), Ok(head.len()));
    assert_eq!(
        (conn.phase(Outside::Nothing), due(&conn)),
        (Phase::ReceivingBody, Some(Duration::from_millis(39_500)))
    );
    // Progress extends it, but only as far as the least rate allows: 64 bytes add one second.
    static PIECE: [u8; 64] = [b'x'; 64];
    assert_eq!(feed(&mut conn, &PIECE, 20_000), Ok(64));
    assert_eq!(due(&conn), Some(Duration::from_millis(9500 + 30_000 + 1000)));
    assert_eq!(conn.expired(Outside::Nothing), {
        let error = ProtocolError::new(Status::REQUEST_TIMEOUT, "the request content did not arrive in time");
        Expired::Refuse(error, CloseReason::BodyTimeout)
    });
}

/// Lingering protects a response from unread input. After the end of input there is none, and no
/// event would end the lingering before its deadline.
#[test]
fn a_connection_does_not_linger_after_the_end_of_input() {
    let (limits, now) = (Limits::default(), origin());
    let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for is_late in [false, true] {
        let mut conn = Connection::new(now);
        let (mut out, mut slots) = (SendQueue::new(), FieldSlots::new());
        assert!(matches!(conn.next_event(head, &mut slots, &limits, now), Ok((_, Event::Request(_)))));
        conn.receive_end();
        if is_late {
            assert!(conn.refuse(CloseReason::AnswerTimeout), "the response is still due");
        }
        let cx = RespondContext { now, date: DATE, limits: &limits };
        assert!(conn.respond(Response::text("late"), cx, &mut out).is_none());
        conn.drop_input();
        assert!(!conn.wants_read(&limits));
        for behind_request in [Unused::Nothing, Unused::Bytes] {
            assert_eq!(conn.finish(behind_request), Finish::Close(CloseReason::PeerClosed));
        }
    }
}

/// On a new connection, empty lines that arrived one at a time were not counted. And of several
/// faults in a head the last one to arrive could decide. So a client that sent slowly got another
/// response than a client that sent all at once.
#[test]
fn how_much_comes_at_once_decides_nothing() {
    let get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    check(format!("{}{get}", "\r\n".repeat(8)).as_bytes(), false, &["GET /a", "NotYet"]);
    check(format!("{}{get}", "\r\n".repeat(9)).as_bytes(), false, &["error 400", OVER]);
    check(format!("{get}{}{get}", "\r\n".repeat(9)).as_bytes(), false, &["GET /a", "error 400", OVER]);
    let limits = Limits { target_bytes_max: 20, ..tight() };
    let long = "x".repeat(100);
    for (head, status) in [
        (format!("GET /{long} HTTP/1.1\r\nX: \0\r\n\r\n"), "error 414"),
        (format!("GET /{long}\0 HTTP/1.1\r\n\r\n"), "error 414"),
        (format!("GET /\0{long} HTTP/1.1\r\n\r\n"), "error 400"),
        (format!("GET / HTTP/1.1\r\nX: {long}\0\r\n\r\n"), "error 431"),
        (format!("GET / HTTP/1.1\r\nX: \0{long}\r\n\r\n"), "error 400"),
        (format!("GET / HTTP/1.1\r\nX: \n{long}\0\r\n\r\n"), "error 400"),
    ] {
        let bytes: Vec<&[u8]> = head.as_bytes().chunks(1).collect();
        for pieces in [&[head.as_bytes()][..], &bytes] {
            assert_eq!(run_within(&limits, pieces, false).0, [status, OVER], "{head:?}");
        }
    }
}

/// Content in chunks of `size` bytes, with an extension or a trailer if requested.
fn in_chunks(content: &[u8], size: usize, extension: bool, trailer: bool) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in content.chunks(size) {
        let extension = if extension { ";a=\"b\\\"c\";d" } else { "" };
        coded.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(if trailer { b"0\r\nX: y\r\n\r\n" } else { b"0\r\n\r\n" });
    coded
}

/// A request, valid or not. Most invalid ones are valid ones in which a byte was replaced.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let method =
        proptest::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "FOO", "get"]);
    let target =
        proptest::sample::select(vec!["/", "/a?b=c", "*", "http://x/y", "/a b", "/%zz", "", "/\u{e9}"]);
    let version = proptest::sample::select(vec!["1.1", "1.1", "1.1", "1.0", "1.9", "2.0", "1.10"]);
    let field = proptest::sample::select(vec![
        "",
        "",
        "X: y\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Host: z\r\n",
        "Expect: 100-continue\r\n",
        "Expect: x\r\n",
        "X : y\r\n",
        " folded\r\n",
        "X: a\nY: b\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: gzip\r\n",
        "no colon\r\n",
        "\r\n",
        "Content-Length: 99999999\r\n",
    ]);
    let content =
        (0..3_u8, proptest::collection::vec(any::<u8>(), 0..40), 1..9_usize, any::<bool>(), any::<bool>());
    let blank_lines = prop_oneof![8 => Just(0), 2 => 1..11_usize];
    let exchange = proptest::option::weighted(0.3, (any::<usize>(), any::<u8>()));
    (blank_lines, method, target, version, field, content, exchange).prop_map(
        |(
            blank_lines,
            method,
            target,
            version,
            field,
            (framing, content, size, extension, trailer),
            exchange,
        )| {
            let (framing, content) = match framing {
                0 => (String::new(), Vec::new()),
                1 => (format!("Content-Length: {}\r\n", content.len()), content),
                _ => ("Transfer-Encoding: chunked\r\n".into(), in_chunks(&content, size, extension, trailer)),
            };
            let blank = "\r\n".repeat(blank_lines);
            let head = format!("{blank}{method} {target} HTTP/{version}\r\nHost: x\r\n{field}{framing}\r\n");
            let mut bytes = [head.into_bytes(), content].concat();
            if let Some((at, byte)) = exchange {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes
        },
    )
}

/// Cuts `input` at these positions. Each is a share of the whole length, in 65,536ths.
fn cut<'a>(input: &'a [u8], places: &[u16]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places.iter().map(|&place| usize::from(place) * input.len() / 65_536).collect();
    at.sort_unstable();
    at.push(input.len());
    let from = std::iter::once(0).chain(at.iter().copied());
    from.zip(&at).map(|(from, &to)| &input[from..to]).collect()
}

/// Limits that generated requests exceed now and then.
fn tight() -> Limits {
    Limits {
        head_bytes_max: 90,
        target_bytes_max: 8,
        fields_max: 3,
        chunk_line_bytes_max: 24,
        body_bytes_max: 30,
        discard_bytes_max: 20,
        ..Limits::default()
    }
}

proptest! {
    #[test]
    fn any_split_of_any_sequence_gives_the_same_answers(
        requests in proptest::collection::vec(any_request(), 1..6),
        places in proptest::collection::vec(any::<u16>(), 0..12),
        then_end: bool,
    ) {
        let input = requests.concat();
        for limits in [Limits::default(), tight()] {
            let whole = run_within(&limits, &[&input], then_end);
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            for pieces in [cut(&input, &places), bytes] {
                let got = run_within(&limits, &pieces, then_end);
                prop_assert_eq!(&got, &whole, "{}", input.escape_ascii());
            }
        }
    }
}

#[test]
fn one_connection_is_small() {
    assert!(size_of::<Connection>() <= 72, "{} bytes", size_of::<Connection>());
}

/// The bytes sent for a prepared response with this content to a request with this head.
fn sent_prepared(head: &str, body: &[u8], added: &[(&str, &str)]) -> Vec<u8> {
    let (limits, now) = (Limits::default(), origin());
    let mut conn = Connection::new(now);
    let (mut out, mut slots) = (SendQueue::new(), FieldSlots::new());
    assert!(matches!(conn.next_event(head.as_bytes(), &mut slots, &limits, now), Ok((_, Event::Request(_)))));
    let mut headers = Headers::new();
    assert_eq!(headers.set("X-Own", b"1"), None);
    let prepared = Response::prepared(Arc::new(Prepared::new(&headers, body)));
    let response = added.iter().fold(prepared, |made, (name, value)| made.with_header(name, value));
    assert!(conn.respond(response, RespondContext { now, date: DATE, limits: &limits }, &mut out).is_none());
    let mut sent = Vec::new();
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let NextWrite::Bytes { slices, .. } = out.next_write(&mut slices) else { panic!("bytes are queued") };
        let before = sent.len();
        slices.iter().for_each(|slice| sent.extend_from_slice(slice));
        out.sent((sent.len() - before) as u64);
    }
    sent
}

/// The client must receive the same bytes if they are copied, sent by reference, or put together.
#[test]
fn a_prepared_response_is_the_same_whichever_way_it_goes() {
    let date = std::str::from_utf8(DATE).unwrap();
    for len in [0, 13, 1800, 2 * KIB, 16 * KIB, 20 * KIB] {
        let body = vec![b'x'; len];
        let length = format!("Content-Length: {len}\r\n");
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (server, own) = ("Server: whirligig\r\n", "X-Own: 1\r\n");
        for (request, headers, first, server, last, content) in [
            (get, &[][..], own, server, "", &body[..]),
            (get, &[("A", "b")], "X-Own: 1\r\nA: b\r\n", server, "", &body[..]),
            (get, &[("x-own", "2")], "x-own: 2\r\n", server, "", &body[..]),
            (get, &[("Server", "s")], "X-Own: 1\r\nServer: s\r\n", "", "", &body[..]),
            ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &[], own, server, "", &[]),
            (
                "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                &[],
                own,
                server,
                "Connection: keep-alive\r\n",
                &body[..],
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                &[],
                own,
                server,
                "Connection: close\r\n",
                &body[..],
            ),
            (get, &[("Connection", "close")], own, server, "Connection: close\r\n", &body[..]),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{first}{length}{server}Date: {date}\r\n{last}\r\n");
            let expected = [head.as_bytes(), content].concat();
            assert!(
                sent_prepared(request, &body, headers) == expected,
                "{len} bytes to {request:?} {headers:?}"
            );
        }
    }
}
