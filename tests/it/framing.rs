//! Message framing: ambiguous requests are refused, and no bytes after them count as a request.
//!
//! A server that finds other message boundaries than the proxy before it lets one client smuggle
//! requests in the name of another. So each case contains a second request directly after the
//! ambiguous one, and it must get no response.

use std::os::unix::fs::PermissionsExt;

use crate::docroot::{Docroot, HELLO};
use crate::harness::{Server, on_both};
use crate::wire::{Client, End, deliver, get, request};

/// Second request, which must not be processed. A response with this content would show that it
/// was.
const SECOND: &str = "POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nSMUGGLED";

/// Returns ambiguous requests with the allowed statuses.
fn doubtful() -> Vec<(&'static str, String, &'static [u16])> {
    let mut cases = Vec::new();
    for (name, fields) in DOUBTFUL_FIELDS {
        let text =
            format!("POST /api/echo HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        cases.push((*name, text, &[400, 413, 501][..]));
    }
    for (name, coded) in DOUBTFUL_CHUNKS {
        let head = "POST /api/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        cases.push((*name, format!("{head}{coded}"), &[400, 413, 431][..]));
    }
    for (name, head) in DOUBTFUL_HEADS {
        cases.push((*name, format!("{head}\r\n\r\n"), &[400][..]));
    }
    for (name, line) in [
        ("version 2.0", "GET / HTTP/2.0"),
        ("version 3.0", "GET / HTTP/3.0"),
        ("version 0.9", "GET / HTTP/0.9"),
        ("version 9.9", "GET / HTTP/9.9"),
    ] {
        cases.push((name, format!("{line}\r\nHost: localhost\r\n\r\n"), &[505][..]));
    }
    for (name, line) in [
        ("version 1,1", "GET / HTTP/1,1"),
        ("version a.b", "GET / HTTP/a.b"),
        ("version without digits", "GET / HTTP/"),
        ("version 257.1", "GET / HTTP/257.1"),
        ("version in lower case", "GET / http/1.1"),
        ("version 1.10", "GET / HTTP/1.10"),
        ("no version", "GET /"),
        ("another protocol", "GET / ICAP/1.0"),
    ] {
        cases.push((name, format!("{line}\r\nHost: localhost\r\n\r\n"), &[400, 505][..]));
    }
    cases
}

const DOUBTFUL_FIELDS: &[(&str, &str)] = &[
    ("length and coding", "Content-Length: 15\r\nTransfer-Encoding: chunked"),
    ("coding and length", "Transfer-Encoding: chunked\r\nContent-Length: 15"),
    ("coding and bad length", "Transfer-Encoding: chunked\r\nContent-Length: +15"),
    ("two lengths", "Content-Length: 5\r\nContent-Length: 6"),
    ("a list of lengths", "Content-Length: 5, 6"),
    ("length and empty length", "Content-Length: 5\r\nContent-Length:"),
    ("length +5", "Content-Length: +5"),
    ("length -1", "Content-Length: -1"),
    ("length -0", "Content-Length: -0"),
    ("length 0x5", "Content-Length: 0x5"),
    ("length 5e0", "Content-Length: 5e0"),
    ("length 5.0", "Content-Length: 5.0"),
    ("length 1_0", "Content-Length: 1_0"),
    ("length 1 0", "Content-Length: 1 0"),
    ("length 5;q=1", "Content-Length: 5;q=1"),
    ("length 5x", "Content-Length: 5x"),
    ("empty length", "Content-Length:"),
    ("length of 40 digits", "Content-Length: 9999999999999999999999999999999999999999"),
    ("length 2^64+5", "Content-Length: 18446744073709551621"),
    ("length with a vertical tab", "Content-Length: \x0b5"),
    ("length with other digits", "Content-Length: \u{0665}"),
    ("coding xchunked", "Transfer-Encoding: xchunked"),
    ("coding identity", "Transfer-Encoding: identity"),
    ("coding gzip", "Transfer-Encoding: gzip"),
    ("chunked is not last", "Transfer-Encoding: chunked, gzip"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked"),
    ("chunked on two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    ("chunked, then identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    ("chunked with a parameter", "Transfer-Encoding: chunked;a=b"),
    ("chunked after a vertical tab", "Transfer-Encoding: \x0bchunked"),
    ("chunked with a bare CR", "Transfer-Encoding: chunked\rX"),
    ("chunked on a folded line", "Transfer-Encoding:\r\n chunked"),
    ("empty coding", "Transfer-Encoding:"),
    ("space before a colon", "Content-Length : 5"),
    ("tab before a colon", "Transfer-Encoding\t: chunked"),
    ("no colon", "Content-Length 5"),
    ("a name on two lines", "Transfer-\r\nEncoding: chunked"),
    ("LF ends a field", "X: y\nTransfer-Encoding: chunked"),
];

const DOUBTFUL_CHUNKS: &[(&str, &str)] = &[
    ("chunk +5", "+5\r\nhello\r\n0\r\n\r\n"),
    ("chunk -5", "-5\r\nhello\r\n0\r\n\r\n"),
    ("chunk 0x5", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("chunk 5h", "5h\r\nhello\r\n0\r\n\r\n"),
    ("chunk of a letter", "g\r\nhello\r\n0\r\n\r\n"),
    ("chunk with a NUL", "5\0\r\nhello\r\n0\r\n\r\n"),
    ("chunk 5.0", "5.0\r\nhello\r\n0\r\n\r\n"),
    ("space before a chunk", " 5\r\nhello\r\n0\r\n\r\n"),
    ("chunk without size", "\r\nhello\r\n0\r\n\r\n"),
    ("chunk with extension only", ";a=b\r\nhello\r\n0\r\n\r\n"),
    ("chunk beyond 64 bits", "FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n"),
    ("chunk of 2^64", "10000000000000000\r\n\r\n"),
    ("chunk ends late", "5\r\nhelloXX0\r\n\r\n"),
    ("chunk ends early", "5\r\nhel\r\n0\r\n\r\n"),
    ("LF after a chunk", "5\r\nhello\n0\r\n\r\n"),
    ("LF after a size", "5\nhello\r\n0\r\n\r\n"),
    ("CR after a size", "5\rhello\r\n0\r\n\r\n"),
    ("CR in an extension", "5;a\rX\r\nhello\r\n0\r\n\r\n"),
    ("LF in an extension", "5;a\nhello\r\n0\r\n\r\n"),
    ("an empty line between chunks", "5\r\nhello\r\n\r\n0\r\n\r\n"),
    ("last chunk +0", "+0\r\n\r\n"),
    ("malformed trailer", "0\r\nthis is no field\r\n\r\n"),
    ("space in a trailer name", "0\r\nA : b\r\n\r\n"),
];

const DOUBTFUL_HEADS: &[(&str, &str)] = &[
    ("coding in 1.0", "POST /api/echo HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked"),
    ("no host", "GET / HTTP/1.1"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost"),
    ("host with a path", "GET / HTTP/1.1\r\nHost: localhost/x"),
    ("host with a user", "GET / HTTP/1.1\r\nHost: user@localhost"),
    ("host with words as port", "GET / HTTP/1.1\r\nHost: a:bc"),
    ("host with a space", "GET / HTTP/1.1\r\nHost: a b"),
    ("host in a list", "GET / HTTP/1.1\r\nHost: a, b"),
    ("host with a NUL", "GET / HTTP/1.1\r\nHost: a\0b"),
    ("absolute target without host", "GET http://localhost/ HTTP/1.1"),
    ("LF ends the request line", "GET / HTTP/1.1\nHost: localhost"),
    ("CR in a value", "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb"),
    ("NUL in a value", "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b"),
    ("ESC in a value", "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x1bb"),
    ("a folded line", "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b"),
    ("a folded first line", "GET / HTTP/1.1\r\n X: a\r\nHost: localhost"),
    ("an empty name", "GET / HTTP/1.1\r\nHost: localhost\r\n: 5"),
    ("space in a name", "GET / HTTP/1.1\r\nHost: localhost\r\nX Y: 5"),
    ("bracket in a name", "GET / HTTP/1.1\r\nHost: localhost\r\nX[Y: 5"),
    ("NUL in a name", "GET / HTTP/1.1\r\nHost: localhost\r\nX\0Y: 5"),
    ("bracket in a method", "GE(T / HTTP/1.1\r\nHost: localhost"),
    ("a relative target", "GET index.html HTTP/1.1\r\nHost: localhost"),
    ("a target with a fragment of the line", "GET / x HTTP/1.1\r\nHost: localhost"),
    ("a target with a raw tab", "GET /a\tb HTTP/1.1\r\nHost: localhost"),
    ("a bare CR between lines", "GET / HTTP/1.1\rHost: localhost"),
];

/// Expects one response with an allowed status, and nothing else until the end.
fn assert_refused(client: &mut Client, statuses: &[u16], what: &str) {
    let got = match client.try_response("GET") {
        Ok(got) => got,
        Err(end) => panic!("{what}: no response, but {end:?}"),
    };
    assert!(statuses.contains(&got.status), "{what}: {} instead of {statuses:?}", got.status);
    assert!(got.says_close(), "{what}: no Connection: close in {got:?}");
    let (rest, end) = client.rest();
    assert!(
        rest.is_empty(),
        "{what}: the second request got a response: {:?}",
        String::from_utf8_lossy(&rest)
    );
    assert_eq!(end, End::Fin, "{what}: a reset could have destroyed the response");
}

#[test]
fn an_ambiguous_request_is_refused_and_nothing_after_it_is_a_request() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for (name, text, statuses) in doubtful() {
            let mut client = Client::connect(server.port);
            client.send(format!("{text}{SECOND}"));
            assert_refused(&mut client, statuses, name);
            // The same after a valid request, which gets its response first.
            let mut client = Client::connect(server.port);
            client.send([get("/hello.txt"), text.into(), SECOND.into()].concat());
            client.response().expect(200).with_body(HELLO);
            assert_refused(&mut client, statuses, &format!("{name}, as the second"));
        }
        Client::connect(server.port).get("/hello.txt").expect(200);
    });
}

/// One byte per write, so that the refusal cannot depend on seeing everything at once.
#[test]
fn an_ambiguous_request_is_refused_byte_by_byte() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &[]);
    let cases: Vec<_> =
        doubtful().into_iter().map(|(name, text, statuses)| (name, text + SECOND, statuses)).collect();
    let bytes: Vec<Vec<&[u8]>> =
        cases.iter().map(|(_, text, _)| text.as_bytes().chunks(1).collect()).collect();
    for (client, (name, _, statuses)) in deliver(server.port, &bytes).iter_mut().zip(&cases) {
        let got = client.try_response("GET").unwrap_or_else(|end| panic!("{name}: no response, but {end:?}"));
        assert!(statuses.contains(&got.status), "{name}: {} instead of {statuses:?}", got.status);
        assert!(got.says_close(), "{name}");
        let (rest, _) = client.rest();
        assert!(rest.is_empty(), "{name}: the second request got a response");
    }
}

#[test]
fn unambiguous_requests_are_not_refused() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let coded = "5\r\nhello\r\n0\r\n\r\n";
        for (fields, content) in [
            ("Content-Length: 5", "hello"),
            ("Content-Length: 5 ", "hello"),
            ("content-LENGTH:5", "hello"),
            ("Transfer-Encoding: chunked", coded),
            ("Transfer-Encoding: cHuNkEd ", coded),
            ("Transfer-Encoding: chunked", "0005\r\nhello\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "5;a=b;c=\"d;\\\"e\"\r\nhello\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "1\r\nh\r\n4\r\nello\r\n000\r\n\r\n"),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX-Sum: abc\r\nX-Two:\r\n\r\n"),
        ] {
            let mut client = Client::connect(server.port);
            let head = format!("POST /api/echo HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n");
            client.send([head.as_bytes(), content.as_bytes(), SECOND.as_bytes()].concat());
            client.response().expect(200).with_body("hello");
            client.response().expect(200).with_body("SMUGGLED");
        }
        for host in ["localhost:", "localhost:80", "[::1]", "[::1]:8080", "127.0.0.1", "other.example"] {
            let mut client = Client::connect(server.port);
            client.send(format!("GET /hello.txt HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            client.response().expect(200);
        }
        for text in [
            "GET /hello.txt HTTP/1.0\r\n\r\n",
            "GET /hello.txt HTTP/1.9\r\nHost: localhost\r\n\r\n",
            "GET http://localhost/hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /hello.txt HTTP/1.1\r\nHost: localhost\r\nX: caf\u{e9}\r\n\r\n",
        ] {
            let mut client = Client::connect(server.port);
            client.send(text);
            client.response().expect(200).with_body(HELLO);
        }
    });
}

#[test]
fn unused_content_is_skipped_or_ends_the_connection() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for (line, fields, content) in [
            ("GET /hello.txt", "Content-Length: 39", "GET /hidden HTTP/1.1\r\nHost: hidden\r\n\r\n\r"),
            ("GET /hello.txt", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
            ("DELETE /hello.txt", "Content-Length: 5", "hello"),
            ("POST /hello.txt", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
            ("POST /nothing", "Content-Length: 5", "hello"),
            ("FOO /hello.txt", "Content-Length: 5", "hello"),
        ] {
            let mut client = Client::connect(server.port);
            client.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{content}{SECOND}"));
            let got = client.response();
            assert!(line.starts_with("GET") == (got.status == 200), "{line}: {}", got.status);
            if got.says_close() {
                client.assert_closed();
            } else {
                client.response().expect(200).with_body("SMUGGLED");
            }
        }
    });
}

/// Returns a chunked body with this chunk, repeated.
fn repeated(chunk: &str, times: usize) -> String {
    format!("{}0\r\n\r\n", chunk.repeat(times))
}

/// Chunks of one byte with more framing around them than a client needs: more than 16 KiB in all.
fn floods() -> Vec<(&'static str, String)> {
    vec![
        ("extensions", repeated(&format!("1;{}\r\nx\r\n", "e".repeat(1000)), 60)),
        ("short extensions", repeated("1;an=extension-of-30-bytes-each\r\nx\r\n", 2000)),
        ("quoted values", repeated(&format!("1;a=\"{}\"\r\nx\r\n", "\\\"".repeat(100)), 300)),
        ("leading zeros", repeated(&format!("{}1\r\nx\r\n", "0".repeat(50)), 1000)),
        ("white space", repeated(&format!("1{};a\r\nx\r\n", " \t".repeat(40)), 700)),
        (
            "more than the content",
            repeated(&format!("200;{}\r\n{}\r\n", "e".repeat(1500), "x".repeat(0x200)), 40),
        ),
        (
            "a trailer section",
            format!("{}0\r\n{}\r\n", "1;an-extension--\r\nx\r\n".repeat(5000), "X: y\r\n".repeat(600)),
        ),
    ]
}

/// A limit on the body does not limit chunk lines. A thousand bytes of extension for each byte of
/// content used to be read to the end, however the content was used.
#[test]
fn more_framing_than_content_is_refused() {
    let docroot = Docroot::new();
    on_both(|model| {
        let programs = tempfile::tempdir().unwrap();
        let program = programs.path().join("run.sh");
        std::fs::write(&program, "#!/bin/sh\ntouch \"$0.ran\"\nprintf 'Content-Type: text/plain\\n\\nran'\n")
            .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let area = docroot.path(&format!("up-{model}"));
        std::fs::create_dir(&area).unwrap();
        let (cgi, upload) = (format!("/cgi={}", programs.path().display()), format!("/up-{model}"));
        let server = Server::start(model, &docroot.root(), &["--cgi", &cgi, "--upload", &upload]);
        for (name, coded) in floods() {
            for line in ["POST /api/echo", &format!("PUT {upload}/file"), "POST /cgi/run.sh"] {
                let mut client = Client::connect(server.port);
                let head =
                    format!("{line} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
                client.send_if_open(format!("{head}{coded}{SECOND}"));
                assert_refused(&mut client, &[400], &format!("{name}: {line}"));
            }
            // Discarded content: the response is sent before the flood is noticed.
            let mut client = Client::connect(server.port);
            let head = "DELETE /hello.txt HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
            client.send_if_open(format!("{head}{coded}{SECOND}"));
            client.response();
            let (rest, _) = client.rest();
            assert!(rest.is_empty(), "{name}: {:?}", String::from_utf8_lossy(&rest));
        }
        assert!(!programs.path().join("run.sh.ran").exists(), "no program was started");
        assert_eq!(std::fs::read_dir(&area).unwrap().count(), 0, "no file was written");
        std::fs::remove_dir(&area).unwrap();
    });
}

/// A terminal sends single bytes, each in a chunk of its own.
#[test]
fn chunks_of_one_byte_are_no_flood() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for (chunk, times) in [
            ("1\r\nx\r\n", 50_000),
            ("00000001\r\nx\r\n", 10_000),
            ("1;a=b\r\nx\r\n", 10_000),
            ("1;an=extension-of-30-bytes-each\r\nx\r\n", 500),
        ] {
            let mut client = Client::connect(server.port);
            let mut sender = client.sender();
            let head = "POST /api/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
            sender.send(format!("{head}{}{SECOND}", repeated(chunk, times)));
            client.response().expect(200).with_body("x".repeat(times));
            client.response().expect(200).with_body("SMUGGLED");
        }
    });
}

#[test]
fn methods_have_their_own_responses() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for (method, statuses) in [
            ("POST", &[405][..]),
            ("PUT", &[405]),
            ("PATCH", &[405]),
            ("DELETE", &[405]),
            ("TRACE", &[405, 501]),
            ("CONNECT", &[400, 405, 501]),
            ("FOOBAR", &[501]),
            ("get", &[501]),
            ("PROPFIND", &[501]),
        ] {
            let mut client = Client::connect(server.port);
            let got = client.ask(method, "/hello.txt", &["X-Secret: 42"], b"");
            assert!(statuses.contains(&got.status), "{method}: {}", got.status);
            assert!(!got.text().contains("X-Secret"), "{method} reflects");
            if got.status == 405 {
                let allow = got.must("allow");
                assert!(allow.contains("GET") && allow.contains("HEAD"), "{method}: {allow}");
            }
            if !got.says_close() {
                client.get("/hello.txt").expect(200).with_body(HELLO);
            }
        }
        let got = Client::connect(server.port).ask("OPTIONS", "/hello.txt", &[], b"");
        assert!([200, 204, 405].contains(&got.status) && got.must("allow").contains("GET"), "{got:?}");
    });
}

#[test]
fn too_long_parts_are_refused_with_their_own_status() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--max-body", "1000"]);
        let many = |count: usize| "X-A: b\r\n".repeat(count);
        for (name, text, status) in [
            ("target", format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(17_000)), 414),
            ("target without end", format!("GET /{}", "a".repeat(300_000)), 414),
            (
                "value",
                format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(100_000)),
                431,
            ),
            (
                "value without end",
                format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "a".repeat(100_000)),
                431,
            ),
            ("fields", format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", many(1_000)), 431),
            ("fields in bytes", format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", many(10_000)), 431),
            (
                "content",
                "POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n".into(),
                413,
            ),
            (
                "content by far",
                format!("POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", u64::MAX),
                413,
            ),
        ] {
            let mut client = Client::connect(server.port);
            client.send_if_open(&text);
            let got =
                client.try_response("GET").unwrap_or_else(|end| panic!("{name}: no response, but {end:?}"));
            assert_eq!(got.status, status, "{name}");
            assert!(got.says_close(), "{name}");
            client.send_if_open(SECOND);
            client.assert_closed();
        }
        let mut client = Client::connect(server.port);
        client.get(&format!("/{}", "a".repeat(8_000))).expect(404);
        client.ask("GET", "/hello.txt", &[&format!("X: {}", "a".repeat(20_000))], b"").expect(200);
        client.ask("GET", "/hello.txt", &["X-A: b"; 100], b"").expect(200);
        client.send(request("POST", "/api/echo", &[], &[b'x'; 1000]));
        client.response().expect(200);
    });
}
