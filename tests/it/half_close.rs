//! Incomplete requests get no response: at every cut, nothing arrives before the second half.
//!
//! A test cannot wait for an absence. So each half is checked three times. First, a later request
//! on another connection gets its response earlier, and then the second half gets its own. Second,
//! the 408 of the server's deadline must be the first response. Third, after the end of the sending
//! side nothing may arrive.
//!
//! A body that the resource does not use is different, because a server may respond to it early
//! (RFC 9110 section 15.5.14). So all cuts within a body are in requests to `/api/echo`.

use rustix::process::Signal;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, End, Response, deliver};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// A request in two halves, possibly after complete ones.
struct Case {
    name: String,
    half: String,
    other_half: String,
    /// Number of complete requests before the half.
    whole: usize,
    /// True if it expects a 100, which is an interim response.
    invited: bool,
    /// True if no byte of the request line is in the first half. Then the connection may end
    /// without a response.
    is_unbegun: bool,
}

/// Heads of requests for a file, cut at the bar.
const HEADS: &[(&str, &str)] = &[
    ("a letter of the method", "G|ET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a method", "GET| /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a method and its space", "GET |/hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("half a target", "GET /hello|.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("half an escape", "GET /hell%6|f.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("half a query", "GET /hello.txt?a=|b HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a line without version", "GET /hello.txt| HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("half a version", "GET /hello.txt HTTP/1.|1\r\nHost: localhost\r\n\r\n"),
    ("a line without its end", "GET /hello.txt HTTP/1.1|\r\nHost: localhost\r\n\r\n"),
    ("half the end of the line", "GET /hello.txt HTTP/1.1\r|\nHost: localhost\r\n\r\n"),
    ("a request line", "GET /hello.txt HTTP/1.1\r\n|Host: localhost\r\n\r\n"),
    ("half a name", "GET /hello.txt HTTP/1.1\r\nHo|st: a\r\n\r\n"),
    ("a name without value", "GET /hello.txt HTTP/1.1\r\nHost:|a\r\n\r\n"),
    ("half a value", "GET /hello.txt HTTP/1.1\r\nHost: localhost|b\r\n\r\n"),
    ("half the end of a field", "GET /hello.txt HTTP/1.1\r\nHost: localhost\r|\n\r\n"),
    ("a head without empty line", "GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n|\r\n"),
    ("half the empty line", "GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r|\n"),
    (
        "many fields without empty line",
        "GET /hello.txt HTTP/1.1\r\nHost: localhost\r\nX: 1\r\nX: 2\r\nX: 3\r\n|\r\n",
    ),
    ("a line in 1.0", "GET /hello.txt HTTP/1.0\r\n|\r\n"),
    ("an absolute target", "GET http://a/|hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("empty lines and half a line", "\r\n\r\nGET /hello.txt HTTP/1.1|\r\nHost: localhost\r\n\r\n"),
    ("an empty line", "\r\n|GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("half an empty line", "\r|\nGET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a request for options", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n|\r\n"),
    ("a listing", "GET /plain/?json HTTP/1.1\r\nHost: localhost\r\n|\r\n"),
    ("a range", "GET /k300.bin HTTP/1.1\r\nHost: localhost\r\nRange: bytes=5-9|9\r\n\r\n"),
    // The second half decides here: a server must not respond to the first half as it looks so far.
    ("a head that will be wrong", "GET /hello.txt HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n|\r\n"),
    ("a head without host", "GET /hello.txt HTTP/1.1\r\nX: y\r\n|\r\n"),
];

/// Bodies for `/api/echo` after these headers, cut at the bar.
const CONTENTS: &[(&str, &str, &str)] = &[
    ("no content", "Content-Length: 5", "|hello"),
    ("one byte of five", "Content-Length: 5", "h|ello"),
    ("content short by one", "Content-Length: 5", "hell|o"),
    (
        "content that looks like a request",
        "Content-Length: 44",
        "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n|12345678",
    ),
    ("no chunk", "Transfer-Encoding: chunked", "|5\r\nhello\r\n0\r\n\r\n"),
    ("half a chunk size", "Transfer-Encoding: chunked", "1|0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    ("a chunk size without its end", "Transfer-Encoding: chunked", "5|\r\nhello\r\n0\r\n\r\n"),
    ("half the end of a chunk size", "Transfer-Encoding: chunked", "5\r|\nhello\r\n0\r\n\r\n"),
    ("half a chunk extension", "Transfer-Encoding: chunked", "5;a=\"b|c\"\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size and nothing", "Transfer-Encoding: chunked", "5\r\n|hello\r\n0\r\n\r\n"),
    ("a chunk short by one", "Transfer-Encoding: chunked", "5\r\nhell|o\r\n0\r\n\r\n"),
    ("a chunk without its CRLF", "Transfer-Encoding: chunked", "5\r\nhello|\r\n0\r\n\r\n"),
    ("a chunk with half its CRLF", "Transfer-Encoding: chunked", "5\r\nhello\r|\n0\r\n\r\n"),
    ("no last chunk", "Transfer-Encoding: chunked", "5\r\nhello\r\n|0\r\n\r\n"),
    ("half a last chunk", "Transfer-Encoding: chunked", "5\r\nhello\r\n0|\r\n\r\n"),
    ("half the last chunk's CRLF", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r|\n\r\n"),
    ("no empty line after the chunks", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n|\r\n"),
    ("half the line after the chunks", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r|\n"),
    ("half a trailer", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX: y|z\r\n\r\n"),
    ("no empty line after trailers", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX: y\r\n|\r\n"),
    ("half the line after trailers", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX: y\r\n\r|\n"),
    ("an expectation", "Content-Length: 5\r\nExpect: 100-continue", "|hello"),
    (
        "an expectation of chunks",
        "Transfer-Encoding: chunked\r\nExpect: 100-continue",
        "|1\r\nx\r\n0\r\n\r\n",
    ),
    ("an announced close", "Content-Length: 5\r\nConnection: close", "hell|o"),
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, whole: &[&str], text: &str, invited: bool| {
        let (half, other_half) = text.split_once('|').expect("a bar where it is cut");
        cases.push(Case {
            name,
            half: whole.concat() + half,
            other_half: other_half.to_owned(),
            whole: whole.len(),
            invited,
            is_unbegun: half.trim().is_empty(),
        });
    };
    let get = "GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = "POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nfirst";
    let chunked = "PUT /api/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n";
    for (name, text) in HEADS {
        add((*name).to_owned(), &[], text, false);
        add(format!("{name}, behind a request"), &[get], text, false);
        add(format!("{name}, behind content"), &[chunked], text, false);
    }
    for (name, fields, content) in CONTENTS {
        let invited = fields.contains("Expect");
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let text = format!("{method} /api/echo HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{content}");
            add(format!("{method}: {name}"), &[], &text, invited);
            add(format!("{method}: {name}, behind three requests"), &[get, post, chunked], &text, invited);
        }
    }
    cases
}

/// Reads the responses to the complete requests, and the 100 if there is one.
#[track_caller]
fn take_what_is_due(client: &mut Client, case: &Case) {
    for _ in 0..case.whole {
        client.response().expect(200);
    }
    if case.invited {
        let mut got = Vec::new();
        while got.len() < CONTINUE.len() {
            let piece = client.read_some(CONTINUE.len() - got.len());
            assert!(!piece.is_empty(), "{}: the end instead of a 100", case.name);
            got.extend(piece);
        }
        assert_eq!(String::from_utf8_lossy(&got), CONTINUE, "{}", case.name);
    }
}

/// Returns a response without its date.
fn undated(got: Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let fields = got.fields.into_iter().filter(|(name, _)| name != "date").collect();
    (got.status, fields, got.body)
}

/// Returns the response to a case that is sent at once.
fn answer_to_the_whole(port: u16, case: &Case) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut client = Client::connect(port);
    client.send(format!("{}{}", case.half, case.other_half));
    for _ in 0..case.whole {
        client.response().expect(200);
    }
    undated(client.response())
}

#[test]
fn nothing_arrives_before_the_other_half() {
    let docroot = Docroot::new();
    let cases = cases();
    assert!(cases.len() >= 15, "at least fifteen cuts");
    let whole: Vec<Vec<&[u8]>> = cases.iter().map(|case| vec![case.half.as_bytes()]).collect();
    let bytes: Vec<Vec<&[u8]>> = cases.iter().map(|case| case.half.as_bytes().chunks(1).collect()).collect();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for pieces in [&whole, &bytes] {
            let mut clients = deliver(server.port, pieces);
            for (client, case) in clients.iter_mut().zip(&cases) {
                take_what_is_due(client, case);
            }
            // The server has read all halves before this request was sent. So a response to a half
            // would have arrived before the response to this one.
            Client::connect(server.port).get("/hello.txt").expect(200);
            for (client, case) in clients.iter_mut().zip(&cases) {
                assert!(client.has_nothing(), "half a request got a response: {}", case.name);
                client.send(&case.other_half);
                let got = undated(client.response());
                assert_eq!(got, answer_to_the_whole(server.port, case), "{}", case.name);
            }
        }
    });
}

#[test]
fn the_first_response_is_the_408_of_the_deadline() {
    let docroot = Docroot::new();
    let cases = cases();
    on_both(|model| {
        // An empty line between two requests does not start one, so there the idle timeout ends the
        // connection.
        let soon = ["--header-timeout", "0.6", "--body-timeout", "0.6", "--idle-timeout", "0.6"];
        let server = Server::start(model, &docroot.root(), &soon);
        let mut clients: Vec<Client> = cases.iter().map(|_| Client::connect(server.port)).collect();
        for (client, case) in clients.iter_mut().zip(&cases) {
            client.send(&case.half);
        }
        for (client, case) in clients.iter_mut().zip(&cases) {
            take_what_is_due(client, case);
            match client.try_response("GET") {
                Ok(got) => assert!(got.status == 408 && got.says_close(), "{}: {got:?}", case.name),
                Err(end) => assert!(case.is_unbegun, "{}: no 408 but {end:?}", case.name),
            }
            client.assert_closed();
        }
    });
}

#[test]
fn a_request_that_stays_incomplete_gets_no_response() {
    let docroot = Docroot::new();
    let cases = cases();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for case in &cases {
            let mut client = Client::connect(server.port);
            client.send(&case.half);
            client.finish();
            for _ in 0..case.whole {
                client.response().expect(200);
            }
            // No client is left to refuse. The server may have sent a 100 before it noticed the
            // end.
            let (rest, end) = client.rest();
            let text = String::from_utf8_lossy(&rest).into_owned();
            let rest = if case.invited { text.trim_start_matches(CONTINUE) } else { &text };
            assert!(rest.is_empty() && end == End::Fin, "{}: {rest:?}, then {end:?}", case.name);
        }
        Client::connect(server.port).get("/hello.txt").expect(200);
    });
}

/// A read stops before an urgent byte, so a short read does not mean that nothing follows.
#[test]
fn an_urgent_byte_does_not_hide_the_bytes_behind_it() {
    let docroot = Docroot::new();
    docroot.write("hello.txt", "hello");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        client.get("/hello.txt").expect(200);
        let request = b"GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for cut in 0..request.len() {
            // All bytes arrive before the server reads.
            server.signal(Signal::STOP);
            server.wait_stopped();
            client.send(&request[..cut]);
            client.send_urgent(b'!');
            client.send(&request[cut..]);
            server.signal(Signal::CONT);
            client.response().expect(200);
        }
    });
}
