//! Headers of handlers, wrappers and scripts: none of them changes the framing or starts a line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;
use whirligig::Builder;
use whirligig::inside::http::headers::Headers;
use whirligig::inside::http::prepared::Prepared;
use whirligig::{Answer, Context, When};
use whirligig::{Body, BodySource, Cookie, FillStatus, Request};
use whirligig::{Feed, Refusal, Response, Server, Status};

use crate::docroot::{Docroot, HELLO};
use crate::harness::{self, on_both, until};
use crate::library::InProcess;
use crate::wire::{self, Client, End};

/// Cases of a property, each with two requests and at most one connection.
const CASES: u32 = 150;

/// Ways to set a header.
#[derive(Clone, Copy, Debug)]
enum Way {
    Set,
    Add,
    WrapperSets,
    WrapperAdds,
    WrapperAddsOnSuccess,
    WrapperAddsIfAbsent,
}

type Given = (Way, String, Vec<u8>);

/// Content of a handler's response.
#[derive(Clone, Copy, Debug)]
enum Content {
    Empty,
    Bytes,
    Static,
    Prepared,
    Source,
    Sized,
    Sequence,
}

/// One request and the response of its handler.
#[derive(Clone, Debug)]
struct Case {
    method: &'static str,
    version: &'static str,
    status: u16,
    content: Content,
    given: Vec<Given>,
}

const FRAMING: [&str; 10] = [
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Keep-Alive",
    "Upgrade",
    "TE",
    "Trailer",
    "Date",
    "Proxy-Connection",
    "content-length",
];

fn any_given() -> impl Strategy<Value = Given> {
    let way = proptest::sample::select(&[
        Way::Set,
        Way::Add,
        Way::WrapperSets,
        Way::WrapperAdds,
        Way::WrapperAddsOnSuccess,
        Way::WrapperAddsIfAbsent,
    ]);
    (way, any_name(), any_value())
}

fn any_name() -> impl Strategy<Value = String> {
    let others = [
        "Server",
        "Content-Type",
        "Location",
        "Set-Cookie",
        "Vary",
        "ETag",
        "X-A",
        "x-a",
        "X B",
        "X\r\nY",
        "",
    ];
    let names: Vec<&str> = FRAMING.iter().chain(&others).copied().collect();
    proptest::sample::select(names).prop_map(str::to_owned)
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let values: &[&[u8]] = &[
        b"0",
        b"5",
        b"18446744073709551616",
        b"chunked",
        b"close",
        b"keep-alive, Close",
        b"upgrade",
        b"a/b",
        b"a\r\nContent-Length: 3",
        b"a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"a\nb",
        b"\0",
        b"\x7f\x01",
        b"\tx",
        b"",
    ];
    proptest::sample::select(values).prop_map(<[u8]>::to_vec)
}

fn any_case() -> impl Strategy<Value = Case> {
    let content = proptest::sample::select(&[
        Content::Empty,
        Content::Bytes,
        Content::Static,
        Content::Prepared,
        Content::Source,
        Content::Sized,
        Content::Sequence,
    ]);
    (
        proptest::sample::select(&["GET", "HEAD", "POST"]),
        proptest::sample::select(&["1.1", "1.1", "1.0"]),
        proptest::sample::select(&[200, 200, 204, 205, 302, 304, 404, 500]),
        content,
        proptest::collection::vec(any_given(), 0..6),
    )
        .prop_map(|(method, version, status, content, given)| Case {
            method,
            version,
            status,
            content,
            given,
        })
}

const TEXT: &str = "0123456789";

/// A source of ten bytes in two pieces.
struct Pieces(u8);

impl BodySource for Pieces {
    fn fill(&mut self, out: &mut Vec<u8>, _: usize) -> FillStatus {
        let from = usize::from(self.0) * 5;
        out.extend_from_slice(&TEXT.as_bytes()[from..from + 5]);
        self.0 += 1;
        if self.0 == 2 { FillStatus::End } else { FillStatus::More }
    }
}

impl Content {
    fn body(self) -> Body {
        let bytes = |text: &str| Body::Bytes(text.as_bytes().to_vec());
        match self {
            Content::Empty => Body::Empty,
            Content::Bytes => bytes(TEXT),
            Content::Static => Body::Static(TEXT.as_bytes()),
            Content::Prepared => {
                let mut headers = Headers::new();
                headers.set("Content-Type", b"text/plain");
                headers.set("X-A", b"prepared");
                Body::Prepared(Arc::new(Prepared::new(&headers, TEXT.as_bytes())))
            }
            Content::Source => Body::Source(Box::new(Pieces(0))),
            Content::Sized => Body::Sized { source: Box::new(Pieces(0)), len: TEXT.len() as u64 },
            Content::Sequence => Body::Sequence(vec![bytes("01234"), Body::Empty, bytes("56789")]),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Content::Empty => "",
            Content::Bytes
            | Content::Static
            | Content::Prepared
            | Content::Source
            | Content::Sized
            | Content::Sequence => TEXT,
        }
    }
}

/// Returns a server whose `/odd` responds as the case defines, through a wrapper that also changes
/// it.
fn odd(case: &Arc<Mutex<Case>>) -> Builder {
    let (handled, wrapped) = (Arc::clone(case), Arc::clone(case));
    let answer = move |_: &Request<'_>, _: &mut Context<'_>| -> Answer {
        let case = handled.lock().unwrap().clone();
        let mut response = Response::new(Status::OK).with_body(case.content.body());
        response = response.with_status(Status::from_code(case.status).unwrap());
        for (way, name, value) in case.given {
            response = match way {
                Way::Set => response.with_header(&name, value),
                Way::Add => response.with_added_header(&name, value),
                Way::WrapperSets
                | Way::WrapperAdds
                | Way::WrapperAddsOnSuccess
                | Way::WrapperAddsIfAbsent => response,
            };
        }
        response.into()
    };
    Server::builder().mount("/odd", answer).get("/plain", |_| "plain").wrap(|inner| {
        move |request: &Request<'_>, cx: &mut Context<'_>| {
            let given =
                if request.path() == b"/odd" { wrapped.lock().unwrap().given.clone() } else { vec![] };
            for (way, name, value) in given {
                match way {
                    Way::Set | Way::Add => {}
                    Way::WrapperSets => cx.set_header(When::Always, &name, value),
                    Way::WrapperAdds => cx.add_header(When::Always, &name, value),
                    Way::WrapperAddsOnSuccess => cx.add_header(When::Success, &name, value),
                    Way::WrapperAddsIfAbsent => cx.add_header(When::IfAbsent, &name, value),
                }
            }
            inner.handle(request, cx)
        }
    })
}

/// Sends `request`, directly followed by one for `path`. The first response must be well-formed,
/// and then either the connection ends or the second response follows.
fn ask_twice(port: u16, method: &str, request: &[u8], path: &str, other: &[u8]) -> wire::Response {
    let mut client = Client::connect(port);
    client.send([request, &wire::get(path)].concat());
    let response = client.response_to(method);
    let framing = ["keep-alive", "upgrade", "te", "trailer", "proxy-connection"];
    assert!(response.fields.iter().all(|(name, _)| !framing.contains(&&name[..])), "{response:?}");
    for name in ["connection", "content-type", "server", "location", "vary", "etag"] {
        let lines = response.fields.iter().filter(|(field, _)| field == name).count();
        assert!(lines <= 1, "{name} {lines} times in {response:?}");
    }
    match client.try_response("GET") {
        Ok(next) => drop(next.expect(200).with_body(other)),
        Err(end) => assert!(response.says_close() && end == End::Fin, "{end:?} behind {response:?}"),
    }
    response
}

/// Runs a property test.
fn check_cases<S: Strategy>(cases: u32, strategy: &S, check: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let ran = TestRunner::new(config).run(strategy, |case| {
        check(case);
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn no_header_of_a_handler_or_wrapper_changes_the_framing() {
    on_both(|model| {
        let first =
            Case { method: "GET", version: "1.1", status: 200, content: Content::Empty, given: vec![] };
        let case = Arc::new(Mutex::new(first));
        let server = InProcess::start(model, odd(&case));
        check_cases(CASES, &any_case(), |asked| {
            *case.lock().unwrap() = asked.clone();
            let kept = if asked.version == "1.0" { "Connection: keep-alive\r\n" } else { "" };
            let content = if asked.method == "POST" { "Content-Length: 3\r\n\r\nabc" } else { "\r\n" };
            let head = format!("{} /odd HTTP/{}\r\nHost: a\r\n{kept}{content}", asked.method, asked.version);
            let has_content = asked.method != "HEAD" && ![204, 205, 304].contains(&asked.status);
            let body = if has_content { asked.content.text().as_bytes() } else { b"" };
            let got = ask_twice(server.port, asked.method, head.as_bytes(), "/plain", b"plain");
            assert_eq!((got.status, &got.body[..]), (asked.status, body), "{got:?}");
        });
    });
}

/// Fewer cases, because each script starts a process.
const SCRIPTS: u32 = 40;

#[test]
fn no_header_of_a_script_changes_the_framing() {
    let names: Vec<&str> = FRAMING.iter().chain(&["X-A", "x-a", "Vary", "Server", "ETag"]).copied().collect();
    let values = ["10", "chunked", "close", "upgrade", "a, b", "x\rContent-Length: 3", "x\0", "x\r\rabc", ""];
    let header = (proptest::sample::select(names), proptest::sample::select(values.to_vec()));
    let heads = proptest::collection::vec(header, 0..5);
    on_both(|model| {
        let docroot = Docroot::new();
        let folder = TempDir::with_prefix("whirligig-cgi-").unwrap();
        let flag = format!("/cgi={}", folder.path().display());
        let server = harness::Server::start(model, &docroot.root(), &["--cgi", &flag]);
        let (script, output) = (folder.path().join("odd.sh"), folder.path().join("output"));
        fs::write(&script, format!("#!/bin/sh\ncat '{}'\n", output.display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        check_cases(SCRIPTS, &heads, |given| {
            let lines: String = given.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            fs::write(&output, format!("Content-Type: text/plain\n{lines}\n{TEXT}")).unwrap();
            let got = ask_twice(server.port, "GET", &wire::get("/cgi/odd.sh"), "/hello.txt", HELLO);
            let is_whole = got.status == 200 && got.body == TEXT.as_bytes();
            assert!(is_whole || got.status == 502, "{given:?}: {got:?}");
        });
    });
}

/// A handler repeats text of a client. The text must not become a header, a cookie or a host.
#[test]
fn text_of_a_client_never_becomes_a_header() {
    on_both(|model| {
        let feed = Feed::new();
        let (joined, told) = (feed.clone(), feed.clone());
        let odd = "x\r\nX-Injected: 1\n\n\0\x7f; Path=/a";
        let builder = Server::builder()
            .get("/cookie", move |_| {
                Response::text("").with_cookie(&Cookie::new(odd, odd).path(odd).domain(odd))
            })
            .get("/redirect", move |_| Response::redirect(Status::FOUND, odd))
            .get("/backslash", |_| Response::redirect(Status::FOUND, "/\\evil.example/\t/"))
            .get("/type", move |_| Response::bytes(odd, "x"))
            .get("/name", move |_| Response::text("x").as_download(odd))
            .get("/reason", move |_| Err::<Response, _>(Refusal::new(Status::CONFLICT, odd)))
            .get("/events", move |call| Response::events(joined.join(call)))
            .get("/tell", move |_| {
                told.send_named(odd, odd);
                told.close();
                "told"
            });
        let server = InProcess::start(model, builder);
        for path in ["/cookie", "/redirect", "/backslash", "/type", "/name", "/reason"] {
            let mut client = Client::connect(server.port);
            client.send([wire::get(path), wire::get(path)].concat());
            for _ in 0..2 {
                let got = client.response();
                assert!(got.field("x-injected").is_none(), "{got:?}");
                let cookies = got.fields.iter().filter(|(name, _)| name == "set-cookie").count();
                assert_eq!(cookies, usize::from(path == "/cookie"), "{got:?}");
            }
        }
        let location = |path| Client::connect(server.port).get(path).must("location").to_owned();
        assert_eq!(location("/redirect"), "x%0D%0AX-Injected:%201%0A%0A%00%7F;%20Path=/a");
        assert_eq!(location("/backslash"), "/%5Cevil.example/%09/");
        let cookie = Client::connect(server.port).get("/cookie");
        assert_eq!(cookie.must("set-cookie").matches("; Path=").count(), 1, "{cookie:?}");
        let mut listener = Client::connect(server.port);
        listener.send(wire::get("/events"));
        until("the listener has joined", || feed.listeners() == 1);
        Client::connect(server.port).get("/tell").expect(200);
        let events = listener.response().expect(200);
        let expected =
            "event: xX-Injected: 1; Path=/a\ndata: x\ndata: X-Injected: 1\ndata: \ndata: \u{fffd}\u{7f}";
        assert!(events.text().contains(expected), "{:?}", events.text());
    });
}

/// A source that treats the whole queue as its own.
struct Careless(u8);

impl BodySource for Careless {
    fn fill(&mut self, out: &mut Vec<u8>, _: usize) -> FillStatus {
        match self.0 {
            0 => out.clear(),
            1 => out.truncate(out.len() - 1),
            _ => {
                out.clear();
                out.extend_from_slice(&[b'x'; 200]);
            }
        }
        FillStatus::More
    }
}

/// Earlier bytes in the queue may belong to another response. A source that removed them once
/// crashed the loop.
#[test]
fn a_source_that_removes_foreign_bytes_ends_only_its_own_connection() {
    on_both(|model| {
        let builder = Server::builder().get("/plain", |_| "plain").get("/careless/{how}", |call| {
            let how = call.parsed_param::<u8>("how")?;
            Ok::<_, Refusal>(Response::stream("text/plain", Careless(how)))
        });
        let server = InProcess::start(model, builder);
        for how in 0..3 {
            for version in ["1.1", "1.0"] {
                let mut client = Client::connect(server.port);
                client.send(format!("GET /careless/{how} HTTP/{version}\r\nHost: a\r\n\r\n"));
                let (bytes, end) = client.rest();
                assert_eq!(
                    (bytes.escape_ascii().to_string(), end),
                    (String::new(), End::Reset),
                    "{how} {version}"
                );
                Client::connect(server.port).get("/plain").expect(200).with_body("plain");
            }
        }
    });
}

/// A body with another length than it claims would change the framing.
#[test]
fn a_body_that_cannot_be_framed_is_a_500() {
    on_both(|model| {
        let shared = |start, end| {
            let data = Arc::new(Prepared::new(&Headers::new(), TEXT.as_bytes()));
            Response::new(Status::OK).with_body(Body::Shared { data, start, end })
        };
        let builder = Server::builder()
            .get("/plain", |_| "plain")
            .get("/part", move |_| shared(2, 4))
            .get("/beyond", move |_| shared(2, 11))
            .get("/backwards", move |_| shared(4, 2))
            .get("/among", |_| {
                let parts = vec![Body::Static(b"x"), Body::Source(Box::new(Pieces(0)))];
                Response::new(Status::OK).with_body(Body::Sequence(parts))
            })
            .get("/nested", |_| {
                let inner = Body::Sequence(vec![Body::Source(Box::new(Pieces(0)))]);
                Response::new(Status::OK).with_body(Body::Sequence(vec![inner]))
            })
            .get("/sized-among", |_| {
                let sized = Body::Sized { source: Box::new(Pieces(0)), len: 10 };
                Response::new(Status::OK).with_body(Body::Sequence(vec![sized]))
            });
        let server = InProcess::start(model, builder);
        let ask = |path: &str| ask_twice(server.port, "GET", &wire::get(path), "/plain", b"plain");
        ask("/part").expect(200).with_body("23");
        for path in ["/beyond", "/backwards", "/among", "/nested", "/sized-among"] {
            ask(path).expect(500);
        }
    });
}

/// A source that produces more or less than its length must not shift the next response.
#[test]
fn a_source_of_another_length_than_its_body_shifts_no_response() {
    on_both(|model| {
        let sized = |len| {
            let source = Box::new(Pieces(0));
            Response::new(Status::OK).with_body(Body::Sized { source, len })
        };
        let mut builder = Server::builder().get("/plain", |_| "plain");
        for len in [0, 4, 9, 10, 11, 1 << 40, u64::MAX] {
            builder = builder.get(&format!("/{len}"), move |_| sized(len));
        }
        let server = InProcess::start(model, builder);
        for len in [0, 4, 9, 10] {
            let got = ask_twice(server.port, "GET", &wire::get(&format!("/{len}")), "/plain", b"plain");
            got.expect(200).with_body(&TEXT[..len]);
        }
        for len in ["11", "1099511627776", "18446744073709551615"] {
            let mut client = Client::connect(server.port);
            client.send([wire::get(&format!("/{len}")), wire::get("/plain")].concat());
            let (all, _) = client.rest();
            let text = String::from_utf8(all).unwrap();
            assert!(text.to_ascii_lowercase().contains(&format!("content-length: {len}\r\n")), "{text}");
            assert!(text.ends_with(&format!("\r\n\r\n{TEXT}")), "{text}");
        }
    });
}

/// Returns the values of a header, in order.
fn all<'r>(response: &'r wire::Response, name: &str) -> Vec<&'r str> {
    response.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

/// Handlers that set and add headers, and a wrapper that does the same for all of them.
fn headed(root: &Path) -> Builder {
    Server::builder()
        .get("/set", |_| {
            Response::text("x")
                .with_header("Content-Type", "text/x-own")
                .with_header("X-A", "1")
                .with_header("x-a", "2")
                .with_header("Cache-Control", "no-store")
                .with_header("Cache-Control", "max-age=1")
                .with_header("Server", "own")
        })
        .get("/added", |_| {
            Response::text("x")
                .with_added_header("X-A", "1")
                .with_added_header("X-A", "2")
                .with_added_header("Content-Type", "text/x-own")
                .with_header("Set-Cookie", "a=1")
                .with_cookie(&Cookie::new("b", "2"))
                .with_header("Link", "<a>")
                .with_header("Link", "<b>")
                .with_header("WWW-Authenticate", "Basic")
                .with_header("WWW-Authenticate", "Own")
                .with_header("Vary", "Accept")
                .with_header("Vary", "origin, accept")
        })
        .get("/nothing", |_| Response::new(Status::NOT_FOUND))
        .files(root)
        .wrap(|inner| {
            move |request: &Request<'_>, cx: &mut Context<'_>| {
                cx.set_header(When::Always, "X-Wrapped", "1");
                cx.set_header(When::Always, "X-Wrapped", "2");
                cx.add_header(When::Always, "X-Wrapped", "3");
                cx.set_header(When::Success, "X-Good", "yes");
                cx.set_header(When::IfAbsent, "X-A", "unsaid");
                cx.set_header(When::Always, "ETag", "\"own\"");
                cx.add_header(When::Always, "Vary", "Cookie");
                inner.handle(request, cx)
            }
        })
}

#[test]
fn setting_a_header_replaces_it_and_adding_does_not() {
    on_both(|model| {
        let root = Docroot::empty();
        root.write("page.html", "<p>page");
        root.write("big.html", "<p>page".repeat(20_000));
        let server = InProcess::start(model, headed(&root.root()));
        let mut client = Client::connect(server.port);
        let set = client.get("/set").expect(200);
        assert_eq!(all(&set, "content-type"), ["text/x-own"]);
        assert_eq!((all(&set, "x-a"), all(&set, "cache-control")), (vec!["2"], vec!["max-age=1"]));
        assert_eq!((all(&set, "server"), all(&set, "x-wrapped")), (vec!["own"], vec!["2", "3"]));
        let added = client.get("/added").expect(200);
        assert_eq!((all(&added, "x-a"), all(&added, "content-type")), (vec!["1", "2"], vec!["text/x-own"]));
        assert_eq!(all(&added, "set-cookie").len(), 2);
        assert_eq!(
            (all(&added, "link"), all(&added, "www-authenticate")),
            (vec!["<a>", "<b>"], vec!["Basic", "Own"])
        );
        assert_eq!(all(&added, "vary"), ["Accept, origin, Cookie"]);
        let nothing = client.get("/nothing").expect(404);
        assert_eq!((all(&nothing, "x-good"), all(&nothing, "x-a")), (vec![], vec!["unsaid"]));
        // A file with a prepared head, one without, and a 304.
        for path in ["/page.html", "/big.html"] {
            for field in [&[][..], &["If-None-Match: *"]] {
                for method in ["GET", "HEAD"] {
                    let got = client.ask(method, path, field, b"");
                    assert_eq!(got.status, if field.is_empty() { 200 } else { 304 }, "{path}");
                    assert_eq!(
                        (all(&got, "etag"), all(&got, "x-wrapped")),
                        (vec!["\"own\""], vec!["2", "3"]),
                        "{got:?}"
                    );
                    assert_eq!(all(&got, "vary"), ["Accept-Encoding, Cookie"], "{got:?}");
                }
            }
        }
    });
}

/// A rule applies to the server's own headers. Handlers and wrappers have priority, like scripts.
#[test]
fn a_rule_of_the_builder_leaves_headers_of_handlers_and_wrappers() {
    on_both(|model| {
        let root = Docroot::empty();
        root.write("page.html", "<p>page");
        let file = root.root().join("page.html");
        let builder = Server::builder()
            .get("/own", |_| {
                Response::text("x").with_header("X-A", "own").with_header("Cache-Control", "own")
            })
            .get("/bare", |_| "x")
            .get("/file", move |call| call.file(&file).map(|got| got.with_header("X-A", "own")))
            .get("/refused", |_| Err::<Response, _>(Refusal::forbidden("no")))
            .files(root.root())
            .header("/**", "X-A", "rule")
            .header("/**", "Server", "rule")
            .cache_control("/**", "max-age=3")
            .wrap(|inner| {
                move |request: &Request<'_>, cx: &mut Context<'_>| {
                    cx.set_header(When::Success, "X-B", "wrapper");
                    inner.handle(request, cx)
                }
            })
            .header("/**", "X-B", "rule");
        let server = InProcess::start(model, builder);
        let mut client = Client::connect(server.port);
        for (path, status, a, b, cached) in [
            ("/own", 200, "own", "wrapper", &["own"][..]),
            ("/bare", 200, "rule", "wrapper", &["max-age=3"]),
            ("/file", 200, "own", "wrapper", &["max-age=3"]),
            ("/page.html", 200, "rule", "wrapper", &["max-age=3"]),
            ("/refused", 403, "rule", "rule", &[]),
            ("/nosuch", 404, "rule", "rule", &[]),
        ] {
            let got = client.get(path).expect(status);
            assert_eq!((all(&got, "x-a"), all(&got, "x-b")), (vec![a], vec![b]), "{path}");
            assert_eq!(
                (all(&got, "cache-control"), all(&got, "server")),
                (cached.to_vec(), vec!["rule"]),
                "{path}"
            );
        }
    });
}
