//! Simple-data routes below `/api/`.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::docroot::{Docroot, pattern};
use crate::harness::{Server, on_both, wall_clock};
use crate::wire::{Client, chunked, request};

const MIB: usize = 1024 * 1024;

#[test]
fn the_time_is_text_or_json() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (accept, json) in [
            ("*/*", false),
            ("text/plain", false),
            ("application/json", true),
            ("application/json, text/plain;q=0.5", true),
            ("application/json;q=0.1, text/plain", false),
            ("text/html;q=0.2, application/*", true),
        ] {
            let got = client.ask("GET", "/api/time", &[&format!("Accept: {accept}")], b"").expect(200);
            let kind = got.must("content-type");
            assert_eq!(kind.starts_with("application/json"), json, "{accept} brought {kind}");
            assert_eq!(kind.starts_with("text/plain"), !json, "{accept} brought {kind}");
            if json {
                let value: Value = serde_json::from_slice(&got.body).expect("JSON");
                assert!(value.is_object(), "{value}");
            }
            let vary = got.must("vary").to_ascii_lowercase();
            assert!(vary.contains("accept"), "a cache needs Vary: {vary}");
        }
        let plain = client.get("/api/time").expect(200);
        assert!(plain.must("content-type").starts_with("text/plain"), "{plain:?}");
        // The year is part of every form.
        let year = &httpdate::fmt_http_date(wall_clock())[12..16];
        assert!(plain.text().contains(year), "{plain:?}");
        let head = client.ask("HEAD", "/api/time", &[], b"").expect(200);
        assert!(head.body.is_empty());
        let post = client.ask("POST", "/api/time", &[], b"x").expect(405);
        assert!(post.must("allow").contains("GET"), "{post:?}");
    });
}

#[test]
fn an_echo_returns_content_and_type() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for method in ["POST", "PUT", "PATCH"] {
            for length in [0, 1, 13, 16 * 1024, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, MIB] {
                let content = pattern(length);
                let got = client.ask(method, "/api/echo", &["Content-Type: Text/X-Test;a=\"b\""], &content);
                let got = got.expect(200).with_body(&content);
                if length > 0 {
                    assert_eq!(got.must("content-type"), "Text/X-Test;a=\"b\"", "{method} {length}");
                }

                let head = request(method, "/api/echo", &["Transfer-Encoding: chunked"], b"");
                client.send([head, chunked(&content, 1 + length / 7)].concat());
                client.response().expect(200).with_body(&content);
            }
        }
        assert!((200..300).contains(&client.ask("POST", "/api/echo", &["Content-Length: 0"], b"").status));
    });
}

/// A client that reads nothing before it has sent everything fills every buffer in between. So the
/// server must read the body even while the client does not read the response.
#[test]
fn an_echo_of_32_mib_sent_before_anything_is_read_does_not_deadlock() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let content = pattern(32 * MIB);
        for coded in [false, true] {
            let mut client = Client::connect(server.port);
            let mut writer = client.sender();
            let send = if coded {
                let head = request("POST", "/api/echo", &["Transfer-Encoding: chunked"], b"");
                [head, chunked(&content, 100_000)].concat()
            } else {
                request("POST", "/api/echo", &[], &content)
            };
            thread::scope(|scope| scope.spawn(|| writer.send(send)).join().unwrap());
            client.response().expect(200).with_body(&content);
        }
    });
}

#[test]
fn content_beyond_the_limit_is_refused() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--max-body", "1000"]);
        let mut client = Client::connect(server.port);
        client.ask("POST", "/api/echo", &[], &pattern(1000)).expect(200).with_body(pattern(1000));
        client.ask("POST", "/api/echo", &[], &pattern(1001)).expect(413);

        let head = request("POST", "/api/echo", &["Transfer-Encoding: chunked"], b"");
        for size in [1, 400, 1001] {
            let mut client = Client::connect(server.port);
            client.send([head.clone(), chunked(&pattern(1000), size)].concat());
            client.response().expect(200).with_body(pattern(1000));
            client.send([head.clone(), chunked(&pattern(1001), size)].concat());
            client.response().expect(413);
        }
        // A chunk that is only announced counts like a received one.
        let mut client = Client::connect(server.port);
        client.send([head, b"FFFFFFF\r\n".to_vec()].concat());
        client.response().expect(413);
    });
}

#[test]
fn the_headers_are_returned_as_received() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let got = client
            .ask("GET", "/api/headers", &["X-Twice: one", "x-TWICE:   two ", "X-Empty:"], b"")
            .expect(200);
        assert!(got.must("content-type").starts_with("text/plain"), "{got:?}");
        let lines: Vec<&str> = got.text().lines().map(str::trim_end).collect();
        let at = |line: &str| {
            lines.iter().position(|seen| *seen == line).unwrap_or_else(|| panic!("{line:?} in {lines:?}"))
        };
        assert!(at("Host: localhost") < at("X-Twice: one"));
        assert!(at("X-Twice: one") < at("x-TWICE:   two"));
        at("X-Empty:");
        let got =
            client.ask("GET", "/api/headers", &["X: <script>alert(1)</script>", "Accept: text/html"], b"");
        assert!(!got.must("content-type").contains("html") || !got.text().contains("<script>"), "{got:?}");
    });
}

#[test]
fn an_echo_never_renders_as_a_page_of_the_site() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let content = b"<script>alert(1)</script>";
        for (field, expected) in [
            ("Content-Type: text/html", "text/plain"),
            ("Content-Type: TEXT/HTML;charset=utf-7", "text/plain"),
            ("Content-Type: application/xhtml+xml", "text/plain"),
            ("Content-Type: image/svg+xml", "text/plain"),
            ("Content-Type: text/xml", "text/plain"),
            ("Content-Type: application/xml ; a=b", "text/plain"),
            ("Content-Type: application/atom+xml", "text/plain"),
            ("Content-Type: text/xsl", "text/plain"),
            ("Content-Type: multipart/x-mixed-replace; boundary=b", "text/plain"),
            ("Content-Type: multipart/form-data; boundary=b", "text/plain"),
            ("Content-Type: message/rfc822", "text/plain"),
            ("Content-Type: application/pdf", "text/plain"),
            // A browser would treat each of these as a page, or would guess the type.
            ("Content-Type: image/png, text/html", "application/octet-stream"),
            ("Content-Type: image/png\r\nContent-Type: text/html", "application/octet-stream"),
            ("Content-Type: text /html", "application/octet-stream"),
            ("Content-Type: text", "application/octet-stream"),
            ("Content-Type: */*", "*/*"),
            ("Content-Type:", "application/octet-stream"),
            ("X: y", "application/octet-stream"),
            ("Content-Type: text/plain; charset=utf-16", "text/plain; charset=utf-16"),
            ("Content-Type: application/json", "application/json"),
            ("Content-Type: image/png", "image/png"),
        ] {
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                let got = Client::connect(server.port).ask(method, "/api/echo", &[field], content);
                let got = got.expect(200).with_body(content);
                assert_eq!(got.must("content-type"), expected, "{field}");
                assert_eq!(got.must("x-content-type-options"), "nosniff", "{field}");
                assert_eq!(got.must("content-security-policy"), "default-src 'none'; sandbox", "{field}");
            }
        }
        let mut client = Client::connect(server.port);
        for path in ["/api/query/%3Cscript%3E?%3Cscript%3E", "/api/headers", "/plain/?json", "/plain/?text"] {
            let got = client.get(path).expect(200);
            assert_eq!(got.must("x-content-type-options"), "nosniff", "{path}");
        }
    });
}

#[test]
fn the_headers_are_returned_without_secrets() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let secrets = [
            "Cookie: sid=SECRET1",
            "cookie:SECRET2=a; b=c",
            "COOKIE: x",
            "Authorization: Basic SECRET3",
            "aUTHORIZATION: Bearer SECRET4",
            "Proxy-Authorization: Basic SECRET5",
        ];
        let fields = ["X-First: 1", secrets[0], secrets[1], "X-Cookie: shown", secrets[2], secrets[3]];
        let fields = [&fields[..], &[secrets[4], "Cookies: shown", secrets[5], "X-Last: 2"]].concat();
        let got = Client::connect(server.port).ask("GET", "/api/headers", &fields, b"").expect(200);
        let text = got.text();
        assert!(!text.contains("SECRET") && !text.contains("COOKIE"), "{text}");
        let shown = "Host: localhost\nX-First: 1\nX-Cookie: shown\nCookies: shown\nX-Last: 2\n";
        assert_eq!(text.split_once('\n').unwrap(), ("GET /api/headers HTTP/1.1", shown));
    });
}

/// Returns every string of a JSON value, including keys.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, value)| [vec![key.clone()], strings(value)].concat()).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

#[test]
fn path_and_query_are_returned_decoded() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let path =
            "/api/query?plain=1&with+space=a%20b%26c&%E6%B1%89=%E5%AD%97&quote=%22%5C%0A&empty=&bare&plain=2";
        let got = client.get(path).expect(200);
        assert!(got.must("content-type").starts_with("application/json"), "{got:?}");
        let value: Value = serde_json::from_slice(&got.body).expect("JSON");
        let seen = strings(&value);
        for expected in [
            "/api/query",
            "plain",
            "1",
            "2",
            "with space",
            "a b&c",
            "汉",
            "字",
            "quote",
            "\"\\\n",
            "empty",
            "bare",
        ] {
            assert!(seen.iter().any(|text| text == expected), "{expected:?} in {value}");
        }
        // Bytes that are not text must still produce JSON, and no query must be an empty one.
        for path in ["/api/query", "/api/query?", "/api/query?&&=&", "/api/query?a=%FF%00%zz%"] {
            let got = client.get(path);
            if got.status == 200 {
                serde_json::from_slice::<Value>(&got.body).unwrap_or_else(|error| panic!("{path}: {error}"));
            } else {
                got.expect(400);
            }
        }
    });
}

#[test]
fn health_is_served_unless_switched_off() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--no-api"]);
        let mut client = Client::connect(server.port);
        client.get("/_whirligig/health").expect(200).with_body("ok\n");
        client.get("/api/time").expect(404);
        let silent = Server::start(model, &docroot.root(), &["--no-health"]);
        Client::connect(silent.port).get("/_whirligig/health").expect(404);
    });
}

#[test]
fn files_and_a_flag_replace_the_routes() {
    let docroot = Docroot::new();
    let with_api = Docroot::new();
    with_api.write("api/time", b"a file");
    on_both(|model| {
        let paths = ["/api/time", "/api/echo", "/api/headers", "/api/query"];
        let off = Server::start(model, &docroot.root(), &["--no-api"]);
        let mut client = Client::connect(off.port);
        for path in paths {
            client.get(path).expect(404);
        }

        let own = Server::start(model, &with_api.root(), &[]);
        let mut client = Client::connect(own.port);
        client.get("/api/time").expect(200).with_body("a file");
        client.get("/api/headers").expect(404);

        let asked_for = Server::start(model, &with_api.root(), &["--api"]);
        let mut client = Client::connect(asked_for.port);
        client.get("/api/headers").expect(200);
        client.get("/api/nothing").expect(404);
        client.get("/apitime").expect(404);
    });
}

/// A body that is still arriving delays no other client, however long it is.
#[test]
fn others_are_served_while_content_arrives() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let content = pattern(MIB);
        let mut slow = Client::connect(server.port);
        let send = request("POST", "/api/echo", &[], &content);
        let (first, second) = send.split_at(send.len() / 2);
        slow.send(first);
        let mut other = Client::connect(server.port);
        for _ in 0..100 {
            other.get("/hello.txt").expect(200);
        }
        assert!(slow.is_quiet_for(Duration::from_millis(1)), "no response before the end of the body");
        slow.send(second);
        slow.response().expect(200).with_body(&content);
    });
}
