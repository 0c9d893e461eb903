//! Sinks, which receive content in pieces, and responses that handlers must not send.

use whirligig::Builder;
use whirligig::Request;
use whirligig::config::Limits;
use whirligig::{Answer, BodySink, Context, SinkStatus};
use whirligig::{Response, Route, Server, Status};

use crate::docroot::pattern;
use crate::harness::on_both;
use crate::library::InProcess;
use crate::wire::{Client, chunked, get, request};

const BODY_BYTES_MAX: u64 = 1000;
const SINK_BYTES_MAX: u64 = 100_000;

/// A sink that counts bytes up to its own limit.
struct Count {
    bytes: usize,
    bytes_max: Option<u64>,
    interim: Option<u16>,
}

impl BodySink for Count {
    fn write(&mut self, piece: &[u8], _: &mut Context<'_>) -> SinkStatus {
        self.bytes += piece.len();
        // Returns `Full` now and then, which sends the sink through a job.
        if self.bytes.is_multiple_of(3) { SinkStatus::Full } else { SinkStatus::More }
    }

    fn drain(self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        cx.job_then(move || Box::new(move |_| Answer::Sink(self)))
    }

    fn finish(self: Box<Self>, _: &mut Context<'_>) -> Answer {
        Response::text(self.bytes.to_string()).into()
    }

    fn bytes_max(&self, limits: &Limits) -> u64 {
        self.bytes_max.unwrap_or(limits.body_bytes_max)
    }

    fn interim(&mut self) -> Option<Response> {
        let status = Status::from_code(self.interim?)?;
        Some(Response::new(status).with_header("X-Interim", "yes").with_header("Content-Length", "3"))
    }
}

/// Builds a server that receives content in several ways. Its sinks send `interim`.
fn server(interim: Option<u16>) -> Builder {
    let sink = move |bytes_max| {
        move |_: &Request<'_>, _: &mut Context<'_>| -> Answer {
            Answer::Sink(Box::new(Count { bytes: 0, bytes_max, interim }))
        }
    };
    Server::builder()
        .limits(|limits| limits.body_bytes_max = BODY_BYTES_MAX)
        .mount("/large", sink(Some(SINK_BYTES_MAX)))
        .mount("/small", sink(Some(10)))
        .mount("/usual", sink(None))
        .route("/collected", Route::new().post(|call| call.content().len().to_string()).content_max(50_000))
        .mount("/careless", |_: &Request<'_>, _: &mut Context<'_>| -> Answer { "not read".into() })
        .get("/plain", |_| "plain")
}

/// Returns the status of a POST with this much content, with a length or in chunks. A response
/// before the end of the content ends it.
fn post(port: u16, path: &str, bytes: u64, is_chunked: bool) -> (u16, String) {
    let content = pattern(usize::try_from(bytes).unwrap());
    let mut client = Client::connect(port);
    match is_chunked {
        true => {
            client.send(request("POST", path, &["Transfer-Encoding: chunked"], b""));
            client.send_if_open(chunked(&content, 4000));
        }
        false => client.send_if_open(request("POST", path, &[], &content)),
    }
    let got = client.response();
    (got.status, got.text().to_owned())
}

#[test]
fn a_sink_sets_its_own_limit() {
    on_both(|model| {
        let server = InProcess::start(model, server(None));
        for (path, taken) in [
            ("/large", SINK_BYTES_MAX),
            ("/small", 10),
            ("/usual", BODY_BYTES_MAX),
            ("/collected", BODY_BYTES_MAX),
        ] {
            for is_chunked in [false, true] {
                let whole = post(server.port, path, taken, is_chunked);
                assert_eq!(whole, (200, taken.to_string()), "{path} {is_chunked}");
                let over = post(server.port, path, taken + 1, is_chunked);
                assert_eq!(over.0, 413, "{path} {is_chunked}");
            }
        }
    });
}

/// Too long a length is refused before any content has arrived, and without a 100.
#[test]
fn an_announced_length_is_checked_at_once() {
    on_both(|model| {
        let server = InProcess::start(model, server(None));
        for expect in ["", "Expect: 100-continue\r\n"] {
            for (path, bytes, status) in [
                ("/large", SINK_BYTES_MAX + 1, 413),
                ("/usual", BODY_BYTES_MAX + 1, 413),
                ("/collected", BODY_BYTES_MAX + 1, 413),
                ("/collected", u64::MAX, 413),
                ("/small", 11, 413),
                ("/careless", u64::MAX, 200),
                ("/nosuch", u64::MAX, 404),
                ("/plain", u64::MAX, 405),
            ] {
                let mut client = Client::connect(server.port);
                client.send(format!(
                    "POST {path} HTTP/1.1\r\nHost: a\r\n{expect}Content-Length: {bytes}\r\n\r\n"
                ));
                let got = client.response().expect(status);
                assert!(got.interim.is_empty() && got.says_close(), "{path}: {got:?}");
            }
        }
    });
}

#[test]
fn a_final_response_has_a_final_status() {
    on_both(|model| {
        let of = |code: u16| Response::text("content").with_status(Status::from_code(code).unwrap());
        let builder = Server::builder()
            .get("/now/{code}", move |call| of(call.parsed_param("code").unwrap_or(500)))
            .route(
                "/late/{code}",
                Route::new().get(move |call| of(call.parsed_param("code").unwrap_or(500))).blocking(),
            )
            .post("/content/{code}", move |call| of(call.parsed_param("code").unwrap_or(500)))
            .mount("/mounted", move |_: &Request<'_>, _: &mut Context<'_>| -> Answer { of(101).into() })
            .get("/plain", |_| "plain");
        let server = InProcess::start(model, builder);
        for code in [100, 101, 102, 103, 104, 199] {
            for version in ["1.1", "1.0"] {
                for (start, content) in
                    [("GET /now", ""), ("GET /late", ""), ("POST /content", "abc"), ("HEAD /now", "")]
                {
                    let mut client = Client::connect(server.port);
                    let kept = format!("Connection: keep-alive\r\nContent-Length: {}", content.len());
                    client
                        .send(format!("{start}/{code} HTTP/{version}\r\nHost: a\r\n{kept}\r\n\r\n{content}"));
                    client.send(get("/plain"));
                    let method = start.split(' ').next().unwrap();
                    let got = client.response_to(method).expect(500);
                    assert!(got.interim.is_empty(), "{got:?}");
                    client.response().expect(200).with_body("plain");
                }
            }
        }
        Client::connect(server.port).get("/mounted").expect(500);
        Client::connect(server.port).get("/now/200").expect(200).with_body("content");
    });
}

#[test]
fn an_interim_response_is_interim_and_has_no_framing() {
    on_both(|model| {
        for (code, is_sent) in
            [(103, true), (104, true), (199, true), (101, false), (200, false), (404, false)]
        {
            let server = InProcess::start(model, server(Some(code)));
            let mut client = Client::connect(server.port);
            client.send([request("POST", "/large", &[], b"abcd"), get("/plain")].concat());
            let got = client.response().expect(200).with_body("4");
            let expected: &[u16] = if is_sent { &[code] } else { &[] };
            assert_eq!(got.interim, expected, "{code}");
            client.response().expect(200).with_body("plain");
            // HTTP/1.0 has no interim responses.
            let mut client = Client::connect(server.port);
            client.send("POST /large HTTP/1.0\r\nContent-Length: 2\r\n\r\nab");
            assert_eq!(client.response().expect(200).with_body("2").interim, [0; 0]);
        }
    });
}

#[test]
fn statuses_have_the_reasons_of_the_registry() {
    on_both(|model| {
        let builder = Server::builder().get("/{code}", |call| {
            Response::new(Status::from_code(call.parsed_param("code").unwrap_or(500)).unwrap_or(Status::OK))
        });
        let server = InProcess::start(model, builder);
        for (code, line) in [
            (203, "203 Non-Authoritative Information"),
            (205, "205 Reset Content"),
            (402, "402 Payment Required"),
            (425, "425 Too Early"),
            (428, "428 Precondition Required"),
            (451, "451 Unavailable For Legal Reasons"),
            (511, "511 Network Authentication Required"),
            (418, "418 "),
            (599, "599 "),
        ] {
            let mut client = Client::connect(server.port);
            client.send(format!("GET /{code} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
            let (bytes, _) = client.rest();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(text.lines().next(), Some(&*format!("HTTP/1.1 {line}")));
        }
    });
}
