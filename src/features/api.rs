//! Sample endpoints below `/api/`: the time, an echo, the request as received, and its parameters;
//! and the health check.
//!
//! Small handlers on the public [`Router`], written as a library user would write them. `/api/echo`
//! shows a [`BodySink`] with bounded memory: it spills content to a file in jobs. A client that
//! sends everything before it reads therefore cannot exhaust memory or cause a deadlock.
//!
//! Must not know how connections are driven.

use std::sync::Arc;

use crate::handler::spool::{DropOffLoop, Spool, Spooled};
use crate::handler::{Answer, BodySink, Context, Holders, Methods, Router, SinkStatus};
use crate::http::field_lines::{is_token, trim_ows};
use crate::http::negotiate::preferred;
use crate::http::target::{normalize, query_pairs};
use crate::http::{Body, Request, Response, Status, date};
use crate::text::push_json_string;

/// Adds the routes below `/api/` to a router.
#[must_use]
pub(crate) fn routes(router: Router, spool: &Arc<Spool>) -> Router {
    let spool = Arc::clone(spool);
    router
        .route("/api/time", Methods(&["GET"]), time)
        .route("/api/headers", Methods(&["GET"]), headers)
        .route("/api/query/*", Methods(&["GET"]), query)
        .route(
            "/api/echo",
            Methods(&["POST", "PUT", "PATCH", "DELETE"]),
            move |request: &Request<'_>, cx: &mut Context<'_>| echo(request, cx, &spool),
        )
}

/// Path of the health check.
pub(crate) const HEALTH: &str = "/_whirligig/health";

/// Adds `/_whirligig/health`, for a supervisor or load balancer that checks whether the server
/// answers requests. A server that is stopping refuses new connections instead.
#[must_use]
pub(crate) fn health(router: Router) -> Router {
    let answer = |_: &Request<'_>, _: &mut Context<'_>| {
        Response::text("ok\n").by_server().with_header("Cache-Control", "no-store").into()
    };
    router.route(HEALTH, Methods(&["GET"]), answer)
}

/// `GET /api/time`: the current time as text, or as JSON if the client prefers it.
fn time(request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let now = cx.now();
    let iso = date::iso8601(now.unix_secs(), now.wall.subsec_millis());
    let wants_json =
        preferred(request.headers().all("accept"), &["text/plain", "application/json"]) == Some(1);
    let response = if wants_json {
        let ms = now.wall.as_millis();
        Response::json(format!("{{\"time\":\"{iso}\",\"unix_ms\":{ms}}}\n"))
    } else {
        Response::text(format!("{iso}\n"))
    };
    response.by_server().with_header("Vary", "Accept").with_header("Cache-Control", "no-store").into()
}

/// Headers that `/api/headers` omits. A script that may read this page must not see `HttpOnly`
/// cookies or passwords that the browser adds.
const SECRETS: [&str; 3] = ["cookie", "authorization", "proxy-authorization"];

/// `GET /api/headers`: the request head as received, one header per line, without [`SECRETS`].
fn headers(request: &Request<'_>, _: &mut Context<'_>) -> Answer {
    let is_secret = |line: &[u8]| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
    };
    let head = request.head().strip_suffix(b"\r\n").unwrap_or(request.head());
    let lines = head.split_inclusive(|&byte| byte == b'\n').filter(|line| !is_secret(line));
    plain(lines.flatten().copied().filter(|&byte| byte != b'\r').collect()).into()
}

/// Response with client-supplied text that browsers display only as plain text.
fn plain(bytes: Vec<u8>) -> Response {
    Response::new(Status::OK)
        .by_server()
        .with_header("Content-Type", "text/plain; charset=utf-8")
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Cache-Control", "no-store")
        .with_body(Body::Bytes(bytes))
}

/// `GET /api/query`: the decoded path and query parameters as JSON. Parameters keep their order and
/// can repeat.
fn query(request: &Request<'_>, _: &mut Context<'_>) -> Answer {
    let path = match normalize(request.path()) {
        Ok(path) => String::from_utf8_lossy(&path).into_owned(),
        Err(error) => return Response::plain_problem(Status::BAD_REQUEST, &error.to_string()).into(),
    };
    let mut json = String::from("{\"path\":");
    push_json_string(&path, &mut json);
    json.push_str(",\"parameters\":[");
    for (at, (name, value)) in query_pairs(request.query().unwrap_or_default()).enumerate() {
        json.push_str(if at == 0 { "[" } else { ",[" });
        push_json_string(&name, &mut json);
        json.push(',');
        push_json_string(&value, &mut json);
        json.push(']');
    }
    json.push_str("]}\n");
    Response::json(json)
        .by_server()
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Cache-Control", "no-store")
        .into()
}

/// Policy that stops a browser from running or loading anything in the echoed content. It
/// supplements [`returned_type`], because an operator can replace the Content-Type header.
const ECHO_POLICY: &str = "default-src 'none'; sandbox";

/// Parts of media types that browsers display as pages or search for pages: HTML, XHTML, SVG and
/// other XML, `multipart/x-mixed-replace`, MHTML, PDF.
const MARKUP: [&[u8]; 6] = [b"html", b"xml", b"xsl", b"multipart/", b"message/", b"pdf"];

/// Media type of the echoed content: that of the request, but `text/plain` for markup. A missing,
/// ambiguous or invalid type becomes `application/octet-stream`, which browsers save.
fn returned_type(request: &Request<'_>) -> Vec<u8> {
    let unknown = b"application/octet-stream";
    let Ok(Some(value)) = request.headers().only("content-type") else { return unknown.to_vec() };
    let essence = trim_ows(value.split(|&byte| byte == b';').next().unwrap_or_default()).to_ascii_lowercase();
    let names: Vec<&[u8]> = essence.split(|&byte| byte == b'/').collect();
    let is_type = |names: &[&[u8]]| names.len() == 2 && names.iter().all(|name| is_token_of(name));
    // Browsers use the last type of a list (WHATWG Fetch, "extract a MIME type").
    if !is_type(&names) || value.contains(&b',') {
        return unknown.to_vec();
    }
    match MARKUP.iter().any(|part| memchr::memmem::find(&essence, part).is_some()) {
        true => b"text/plain".to_vec(),
        false => value.to_vec(),
    }
}

fn is_token_of(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| is_token(byte))
}

/// `/api/echo`: returns the content after its end, with its media type unless that is markup.
fn echo(request: &Request<'_>, cx: &Context<'_>, spool: &Arc<Spool>) -> Answer {
    let content_type = returned_type(request);
    let content = DropOffLoop::new(Spooled::of(spool, cx), cx.spawner());
    Answer::Sink(Box::new(Echo { content_type, content }))
}

struct Echo {
    content_type: Vec<u8>,
    content: DropOffLoop<Spooled>,
}

impl BodySink for Echo {
    fn write(&mut self, piece: &[u8], cx: &mut Context<'_>) -> SinkStatus {
        self.content.take(piece, cx.now().mono)
    }

    fn drain(self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        let Echo { content_type, content } = *self;
        content.spill(cx, move |content| Answer::Sink(Box::new(Echo { content_type, content })))
    }

    fn finish(mut self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        if !self.content.get().is_some_and(|content| content.is_filed()) {
            return self.answer();
        }
        let Echo { content_type, content } = *self;
        content.spill(cx, move |content| Echo { content_type, content }.answer())
    }

    fn holders(&self) -> Holders<'_> {
        [self.content.holder(), None]
    }
}

impl Echo {
    fn answer(self) -> Answer {
        Response::new(Status::OK)
            .by_server()
            .with_header("Content-Type", &self.content_type)
            .with_header("X-Content-Type-Options", "nosniff")
            .with_header("Content-Security-Policy", ECHO_POLICY)
            .with_header("Cache-Control", "no-store")
            .with_body(self.content.into_body())
            .into()
    }
}
