//! Request inspector: the request line and all headers as a page.
//!
//! Run `cargo run --example request_headers` and open the printed address. `--model threads`
//! selects the twin. `/raw` returns the head as text, exactly as received.

mod common;

use std::fmt::Write;

use whirligig::{Call, Response, Server};

fn page(call: &Call<'_>) -> Response {
    let line = String::from_utf8_lossy(call.line());
    let mut html = format!(
        "<!doctype html><title>Request</title><h1><code>{}</code></h1><table>",
        common::escape(&line)
    );
    for (name, value) in call.headers().iter() {
        let value = common::escape(&String::from_utf8_lossy(value));
        // Writing to a string cannot fail.
        let _ = write!(html, "<tr><th align=left>{name}<td><code>{value}</code>");
    }
    Response::html(html + "</table>")
}

fn raw(call: &Call<'_>) -> Response {
    Response::text(String::from_utf8_lossy(call.head())).with_header("X-Content-Type-Options", "nosniff")
}

fn main() -> common::Outcome {
    let server =
        Server::builder().get("/", page).get("/raw", raw).model(common::model()).bind("127.0.0.1:0")?;
    common::run(server)
}
