//! Environment of a CGI script or a WSGI application, built from a request (RFC 3875, PEP 3333).
//!
//! Run `cargo run --example cgi_environ` and open the printed address with any path and query.
//! `--model threads` selects the twin. This example starts no script. It shows which part of a
//! request becomes which variable. `whirligig --cgi` runs real scripts.

mod common;

use std::collections::BTreeMap;

use whirligig::{Call, Response, Route, Server};

fn environ(call: &Call<'_>, port: u16) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut environ = BTreeMap::new();
    let mut set = |name: &str, value: String| environ.insert(name.to_owned(), value);
    set("GATEWAY_INTERFACE", "CGI/1.1".into());
    set("SERVER_SOFTWARE", concat!("whirligig/", env!("CARGO_PKG_VERSION")).into());
    set("SERVER_PROTOCOL", format!("HTTP/1.{}", call.minor_version()));
    set("SERVER_NAME", "localhost".into());
    set("SERVER_PORT", port.to_string());
    set("REQUEST_METHOD", call.method().name().into());
    set("SCRIPT_NAME", "/app".into());
    set(
        "PATH_INFO",
        match call.param("path") {
            "" => String::new(),
            path => format!("/{path}"),
        },
    );
    set("QUERY_STRING", text(call.request().query().unwrap_or_default()));
    set("REMOTE_ADDR", call.peer().ip().map_or_else(String::new, |ip| ip.to_string()));
    set("CONTENT_TYPE", text(call.header("content-type").unwrap_or_default()));
    set(
        "CONTENT_LENGTH",
        if call.content().is_empty() { String::new() } else { call.content().len().to_string() },
    );
    set("wsgi.url_scheme", "http".into());
    set("wsgi.version", "(1, 0)".into());
    set("wsgi.multithread", "True".into());
    for (name, value) in call.headers().iter() {
        // Programs started by a script would read HTTP_PROXY as a setting, so the header `Proxy` is
        // left out (httpoxy).
        let is_left_out =
            ["content-type", "content-length", "proxy"].contains(&name.to_ascii_lowercase().as_str());
        // A name with an underscore would become the same variable as one with a hyphen.
        if is_left_out || name.contains('_') {
            continue;
        }
        let variable = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        // A header on several lines becomes one list (RFC 3875 section 4.1.18).
        environ
            .entry(variable)
            .and_modify(|list| *list += &format!(", {}", text(value)))
            .or_insert_with(|| text(value));
    }
    environ
}

fn page(call: &Call<'_>, port: u16) -> Response {
    let lines: String = environ(call, port).iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    if !call.wants_html() {
        return Response::text(lines);
    }
    Response::html(format!("<!doctype html><title>environ</title><pre>{}</pre>", common::escape(&lines)))
}

fn main() -> common::Outcome {
    let port = std::sync::Arc::new(std::sync::OnceLock::new());
    let known = std::sync::Arc::clone(&port);
    let answer = move |call: &Call<'_>| page(call, known.get().copied().unwrap_or_default());
    let server = Server::builder()
        .get("/", |_| Response::redirect(whirligig::Status::FOUND, "/app/some/path?x=1&y=%20"))
        .route("/app/{path*}", Route::new().get(answer.clone()).post(answer.clone()).put(answer))
        .model(common::model())
        .bind("127.0.0.1:0")?;
    port.get_or_init(|| server.local_addr().map_or(0, |addr| addr.port()));
    common::run(server)
}
