//! Compressed answers: of a handler, of files on the fly, and of files that were compressed
//! beforehand.
//!
//! `cargo run --example gzip`, then `curl -i --compressed ADDRESS/report`; `--model threads` for
//! the twin. Files need no word about it: text of 1 KiB and more is compressed, and `app.js.gz`
//! beside `app.js` is sent in its place.

mod common;

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use whirligig::http::negotiate::{Coding, Codings};
use whirligig::{Call, Refusal, Response, Route, Server};

fn report(call: &Call<'_>) -> Result<Response, Refusal> {
    let text: String = (0..2000).map(|line| format!("{line}: round and round\n")).collect();
    let accepted = Codings::of(call.fields().all("accept-encoding"));
    let response = if accepted.choose(|coding| coding == Coding::Gzip).is_some() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(4));
        let packed = gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish());
        let packed = packed.map_err(|_| Refusal::failed("cannot compress"))?;
        Response::bytes("text/plain; charset=utf-8", packed).with_field("Content-Encoding", "gzip")
    } else {
        Response::text(text)
    };
    // A cache must not give the one form to who asked for the other (RFC 9110 section 12.5.5).
    Ok(response.with_field("Vary", "Accept-Encoding"))
}

fn main() -> common::Outcome {
    let server = Server::builder()
        .route("/report", Route::new().get(report).blocking())
        .files("www")
        .file_options(|options| options.compress_level = Some(9))
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
