//! Access log: one true line per request, in a form that clients cannot forge.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both, until, wall_clock};
use crate::wire::{Client, request};

/// Request lines as logged, with the statuses and body lengths of their responses.
const KNOWN: [(&str, u16, u64); 7] = [
    ("GET /hello.txt HTTP/1.1", 200, 13),
    ("HEAD /hello.txt HTTP/1.1", 200, 0),
    ("GET /nothing?a=b HTTP/1.1", 404, 1),
    ("GET /k33.bin HTTP/1.1", 200, 33 * 1024),
    ("GET /m5.bin HTTP/1.1", 200, 5 * 1024 * 1024),
    ("POST /api/echo HTTP/1.1", 200, 5),
    ("DELETE /hello.txt HTTP/1.1", 405, 1),
];

/// Sends the known requests and the hostile ones, and returns the log lines of both.
fn logged(model: &str, format: &str) -> (Vec<String>, Vec<String>) {
    let docroot = Docroot::new();
    let log = docroot.outside("access.log");
    let server = Server::start(
        model,
        &docroot.root(),
        &["--access-log", log.to_str().unwrap(), "--log-format", format],
    );
    let mut client = Client::connect(server.port);
    let fields = ["Referer: http://localhost/from?x=1", "User-Agent: Test/1.0 (the one)"];
    for (line, status, _) in KNOWN {
        let (method, rest) = line.split_once(' ').unwrap();
        let content = if method == "POST" { "hello" } else { "" };
        let got = client.ask(method, rest.strip_suffix(" HTTP/1.1").unwrap(), &fields, content.as_bytes());
        assert_eq!(got.status, status, "{line}");
    }
    let known = lines(&log, KNOWN.len());

    for fields in [
        &["User-Agent: \"closing\" the quote\" FORGED"][..],
        &["User-Agent: back\\slash\\", "Referer: \\\" 200 5 \"FORGED"],
        &["User-Agent: caf\u{e9} 汉字 \u{7f}".trim_end_matches([' ', '\u{7f}'])],
        &["Referer: \ttab\tinside"],
    ] {
        client.ask("GET", "/x%0a127.0.0.1%20-%20-%20FORGED", fields, b"").expect(404);
    }
    for garbage in [&b"GET /a\x1b[31mb HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x1b[2J\x00\xff\r\n\r\n"] {
        let mut client = Client::connect(server.port);
        client.send(garbage);
        client.response().expect(400);
    }
    client.ask("GET", "/last", &[], b"").expect(404);
    until("the last line is written", || fs::read_to_string(&log).is_ok_and(|text| text.contains("/last")));
    let all = lines(&log, KNOWN.len() + 5);
    (known, all)
}

/// Waits for at least `count` lines and returns the lines of the log.
fn lines(log: &PathBuf, count: usize) -> Vec<String> {
    let read = || fs::read(log).unwrap_or_default();
    until("the log has its lines", || read().iter().filter(|byte| **byte == b'\n').count() >= count);
    let text = read();
    let odd = text.iter().find(|byte| !matches!(byte, b'\n' | b' '..=b'~'));
    assert!(odd.is_none(), "byte {odd:?} in {:?}", String::from_utf8_lossy(&text));
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

/// Splits `host - user [time] "request" status bytes` and the parts after it.
fn parts(line: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (open, close) = match rest.chars().next() {
            Some('"') => (1, "\""),
            Some('[') => (1, "]"),
            _ => (0, " "),
        };
        let end = rest[open..].find(close).map_or(rest.len(), |at| at + open);
        parts.push(rest[open..end].to_owned());
        rest = rest.get(end + open..).unwrap_or("").trim_start_matches(' ');
    }
    parts
}

fn check_known(parts: &[String], number: usize) {
    let (line, status, bytes) = KNOWN[number];
    assert_eq!(parts[..3], ["127.0.0.1", "-", "-"]);
    let (time, zone) = parts[3].split_once(' ').expect("a time and its zone");
    let date = httpdate::fmt_http_date(wall_clock());
    assert!(time.contains(&date[12..16]) && time.len() == 20 && zone.len() == 5, "{parts:?}");
    assert_eq!(parts[4], line);
    assert_eq!(parts[5], status.to_string());
    check_bytes(parts[6].parse().unwrap(), bytes, line);
}

/// Compares body lengths. The size of our own error pages is not fixed, so 1 stands for any length.
fn check_bytes(logged: u64, expected: u64, line: &str) {
    assert!(if expected == 1 { logged > 0 } else { logged == expected }, "{line}: {logged} bytes");
}

#[test]
fn common_lines_describe_the_request() {
    on_both(|model| {
        let (known, all) = logged(model, "common");
        assert_eq!(known.len(), KNOWN.len());
        for (number, line) in known.iter().enumerate() {
            let parts = parts(line);
            assert_eq!(parts.len(), 7, "{line}");
            check_known(&parts, number);
        }
        for line in &all {
            assert_eq!(parts(line).len(), 7, "{line}");
            assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        }
    });
}

#[test]
fn combined_lines_have_referrer_and_agent() {
    on_both(|model| {
        let (known, all) = logged(model, "combined");
        for (number, line) in known.iter().enumerate() {
            let parts = parts(line);
            check_known(&parts, number);
            assert_eq!(parts[7..], ["http://localhost/from?x=1", "Test/1.0 (the one)"]);
        }
        for line in &all {
            assert_eq!(parts(line).len(), 9, "{line}");
            assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        }
        let quoted = all.iter().find(|line| line.contains("closing")).expect("the line of the quotes");
        assert_eq!(parts(quoted)[8], "\\x22closing\\x22 the quote\\x22 FORGED");
    });
}

#[test]
fn json_lines_are_json() {
    on_both(|model| {
        let (known, all) = logged(model, "json");
        let values: Vec<Value> = all
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        assert_eq!(known.len(), KNOWN.len());
        for (value, (line, status, bytes)) in values.iter().zip(KNOWN) {
            let text = |name: &str| value[name].as_str().unwrap_or_default();
            assert_eq!(format!("{} {} {}", text("method"), text("target"), text("protocol")), line);
            assert_eq!(value["status"], status, "{value}");
            check_bytes(value["bytes"].as_u64().unwrap(), bytes, line);
            assert_eq!(text("peer"), "127.0.0.1");
            assert_eq!(text("referer"), "http://localhost/from?x=1");
            assert_eq!(text("user_agent"), "Test/1.0 (the one)");
            assert!(text("time").ends_with('Z'), "{value}");
        }
        let agents: Vec<&str> = values.iter().filter_map(|value| value["user_agent"].as_str()).collect();
        assert!(agents.contains(&"\"closing\" the quote\" FORGED"), "{agents:?}");
        assert!(agents.contains(&"back\\slash\\"), "{agents:?}");
    });
}

/// One line per request, even if many clients write at once and some leave in the middle.
#[test]
fn no_line_is_lost_or_torn() {
    const CLIENTS: usize = 20;
    const REQUESTS: usize = 50;
    on_both(|model| {
        let docroot = Docroot::new();
        let log = docroot.outside("access.log");
        let server = Server::start(model, &docroot.root(), &["--access-log", log.to_str().unwrap()]);
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(server.port)).collect();
        for number in 0..REQUESTS {
            for (who, client) in clients.iter_mut().enumerate() {
                client.send(request("GET", &format!("/hello.txt?{who}-{number}"), &[], b""));
            }
        }
        for client in &mut clients {
            for _ in 0..REQUESTS {
                client.response().expect(200);
            }
        }
        let lines = lines(&log, CLIENTS * REQUESTS);
        assert_eq!(lines.len(), CLIENTS * REQUESTS);
        for who in 0..CLIENTS {
            for number in 0..REQUESTS {
                let target = format!("\"GET /hello.txt?{who}-{number} HTTP/1.1\" 200 13");
                assert_eq!(lines.iter().filter(|line| line.contains(&target)).count(), 1, "{target}");
            }
        }
    });
}

#[test]
fn a_log_on_standard_output_is_written_line_by_line() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--access-log", "-"]);
        Client::connect(server.port).get("/hello.txt").expect(200);
        until("the line is written while the server runs", || {
            server.out.text().contains("GET /hello.txt HTTP/1.1")
        });
    });
}

/// Requests that no handler saw: their bytes, and the status, method, target, host and a part of
/// the reason in the log.
const REFUSED: [(&[u8], u16, [&str; 4]); 12] = [
    (b"GET /ask%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, ["GET", "/ask%zz", "x", "percent"]),
    (b"GET /a\\b HTTP/1.1\r\nHost: x:81\r\nConnection: close\r\n\r\n", 400, ["GET", "/a\\b", "x:81", ""]),
    (b"\r\n\r\nGET /blank\\lines HTTP/1.1\r\nHost: x\r\n\r\n", 400, ["GET", "/blank\\lines", "x", ""]),
    (b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501, ["CONNECT", "a:1", "x", ""]),
    (b"GET /two HTTP/2.0\r\nHost: x\r\n\r\n", 505, ["GET", "/two", "x", "HTTP/1.1"]),
    (b"GET /none HTTP/1.1\r\n\r\n", 400, ["GET", "/none", "", "Host"]),
    (
        b"GET /double HTTP/1.1\r\nHost: first\r\nHost: second\r\n\r\n",
        400,
        ["GET", "/double", "first", "Host"],
    ),
    (b"GET /bare HTTP/1.1\nHost: x\n\n", 400, ["GET", "/bare", "x", "LF"]),
    (
        b"POST /both HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        ["POST", "/both", "x", ""],
    ),
    (
        b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
        ["POST", "/api/echo", "localhost", "chunk"],
    ),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ["PRI", "*", "", ""]),
    (
        b"\x16\x03\x01\x02\x00 \x1b[31m\xe9\r\n\r\n",
        400,
        ["\u{16}\u{3}\u{1}\u{2}\u{0}", "\u{1b}[31m\u{e9}", "", ""],
    ),
];

#[test]
fn refused_requests_are_logged_with_all_that_was_read() {
    on_both(|model| {
        let docroot = Docroot::new();
        let log = docroot.outside("access.log");
        let flags = ["--access-log", log.to_str().unwrap(), "--log-format", "json"];
        let server = Server::start(model, &docroot.root(), &flags);
        for (number, (bytes, status, [method, target, host, why])) in REFUSED.into_iter().enumerate() {
            let mut client = Client::connect(server.port);
            client.send(bytes);
            client.response().expect(status);
            drop(client);
            let line = lines(&log, number + 1).remove(number);
            let value: Value = serde_json::from_str(&line).unwrap();
            let text = |name: &str| value[name].as_str().unwrap_or_default();
            assert_eq!((text("method"), text("target"), text("host")), (method, target, host), "{line}");
            assert_eq!(value["status"], status, "{line}");
            assert!(!text("refused").is_empty() && text("refused").contains(why), "{line}");
            assert!(value["us"].as_u64().unwrap() < 60_000_000, "a span, not a time of day: {line}");
        }
    });
}

/// Heads that stay incomplete, and a valid request before one that is refused.
#[test]
fn partial_and_pipelined_requests_are_logged_as_far_as_received() {
    on_both(|model| {
        let docroot = Docroot::new();
        let log = docroot.outside("access.log");
        let file = log.to_str().unwrap();
        let flags = ["--access-log", file, "--log-format", "json", "--header-timeout", "0.2"];
        let server = Server::start(model, &docroot.root(), &flags);
        let logged =
            |number: usize| -> Value { serde_json::from_str(&lines(&log, number + 1)[number]).unwrap() };

        let mut client = Client::connect(server.port);
        client.send("GET /slow HTTP/1.1\r\nHost: a.example\r\nUser-Agent: dri");
        client.response().expect(408);
        let value = logged(0);
        assert_eq!((&value["target"], &value["host"]), (&"/slow".into(), &"a.example".into()), "{value}");
        assert_eq!(value["user_agent"], Value::Null, "an incomplete value is not logged: {value}");
        let us = value["us"].as_u64().unwrap();
        assert!((150_000..60_000_000).contains(&us), "from the first byte on: {value}");

        let mut client = Client::connect(server.port);
        client.send("GET /hel");
        client.response().expect(408);
        let value = logged(1);
        assert_eq!((&value["method"], &value["target"]), (&"GET".into(), &"/hel".into()), "{value}");

        let mut client = Client::connect(server.port);
        client.send("GET /hello.txt HTTP/1.1\r\nHost: x\r\n\r\nGET /second%z HTTP/1.1\r\nHost: y\r\nReferer: /z\r\n\r\n");
        client.response().expect(200);
        client.response().expect(400);
        let (first, second) = (logged(2), logged(3));
        assert_eq!((&first["target"], &first["refused"]), (&"/hello.txt".into(), &Value::Null));
        assert_eq!((&second["target"], &second["host"]), (&"/second%z".into(), &"y".into()), "{second}");
        assert_eq!(second["referer"], "/z", "{second}");

        let mut client = Client::connect(server.port);
        client.send(format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "\u{e9}".repeat(15_000)));
        client.response();
        let long = logged(4);
        assert!(long["target"].as_str().unwrap().starts_with("/\u{e9}\u{e9}"), "{long}");
        assert!(lines(&log, 5)[4].len() < 8 * 1024, "a head of 30 KB is no line of 120");
    });
}

#[test]
fn hosts_are_logged_in_json_and_in_front_of_combined_lines() {
    on_both(|model| {
        let docroot = Docroot::new();
        for (format, host, expected) in [
            ("json", "Host: blog.example", "\"host\":\"blog.example\""),
            ("json", "Host: \"quoted\"", "\"host\":"),
            ("vhost-combined", "Host: blog.example", "blog.example:80 127.0.0.1 - - ["),
            ("vhost-combined", "Host: other.example:8080", "other.example:8080 127.0.0.1 - - ["),
            ("vhost-combined", "Host: [::1]", "[::1]:80 127.0.0.1 - - ["),
            ("vhost-combined", "Host: a b", "a\\x20b:80 127.0.0.1 - - ["),
        ] {
            let log = docroot.outside(&format!("{model}-{format}-{}.log", host.len()));
            let flags = ["--access-log", log.to_str().unwrap(), "--log-format", format];
            let server = Server::start(model, &docroot.root(), &flags);
            let mut client = Client::connect(server.port);
            client.send(format!("GET /hello.txt HTTP/1.1\r\n{host}\r\n\r\n"));
            client.response();
            let line = lines(&log, 1).remove(0);
            let place = line.find(expected).unwrap_or_else(|| panic!("{expected} in {line}"));
            assert!(format == "json" || place == 0, "{line}");
        }
        let log = docroot.outside("absolute.log");
        let flags = ["--access-log", log.to_str().unwrap(), "--log-format", "vhost-combined"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        client.send("GET http://by.target/hello.txt HTTP/1.1\r\nHost: by.header\r\n\r\n");
        client.response();
        client.send("\x1b[2J\r\n\r\n");
        client.response();
        let lines = lines(&log, 2);
        assert!(lines[0].starts_with("by.target:80 127.0.0.1 "), "the effective host: {}", lines[0]);
        assert!(lines[1].starts_with("-:- 127.0.0.1 - - ["), "{}", lines[1]);
        fs::remove_file(&log).unwrap();
    });
}
