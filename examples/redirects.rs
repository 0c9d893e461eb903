//! Redirects and related status codes: 300, 301, 302, 303, 304 and 307.
//!
//! Run `cargo run --example redirects` and open the printed address, or use `curl -iL ADDRESS/old`.
//! `--model threads` selects the twin. RFC 9110 section 15.4 defines the method of the next
//! request.

mod common;

use whirligig::{Call, Response, Route, Server, Status};

const TAG: &str = "\"the-only-version\"";

/// 300: several representations of one resource, one of them preferred.
fn choices(_: &Call<'_>) -> Response {
    Response::html("<ul><li><a href=/new>the page</a><li><a href=/fresh>the fresh page</a></ul>")
        .with_status(Status::MULTIPLE_CHOICES)
        .with_header("Location", "/new")
}

/// 304: the client already has this version, as shown by its If-None-Match header (RFC 9110
/// section 13.1.2).
fn fresh(call: &Call<'_>) -> Response {
    let has_it = call.header("if-none-match").is_some_and(|tags| tags == TAG.as_bytes());
    let response = if has_it {
        Response::new(Status::NOT_MODIFIED)
    } else {
        Response::text("A second request with If-None-Match gets a 304.\n")
    };
    response.with_header("ETag", TAG).with_header("Cache-Control", "no-cache")
}

fn arrived(call: &Call<'_>) -> String {
    format!("{} with {} bytes of content\n", call.method().name(), call.content().len())
}

fn main() -> common::Outcome {
    let temporary = |_: &Call<'_>| Response::redirect(Status::TEMPORARY_REDIRECT, "/new");
    let server = Server::builder()
        .get("/", |_| Response::html("<a href=/choices>300</a> <a href=/old>301</a> <a href=/today>302</a>"))
        .get("/choices", choices)
        .get("/old", |_| Response::redirect(Status::MOVED_PERMANENTLY, "/new"))
        .get("/today", |_| Response::redirect(Status::FOUND, "/new"))
        .post("/send", |_| Response::redirect(Status::SEE_OTHER, "/new"))
        .get("/fresh", fresh)
        .route("/elsewhere", Route::new().get(temporary).post(temporary))
        .route("/new", Route::new().get(arrived).post(arrived))
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
