//! Compressed responses: by a handler, of files on the fly, and of files compressed in advance.
//!
//! Run `cargo run --example gzip`, then `curl -i --compressed ADDRESS/report`. `--model threads`
//! selects the twin. Files need no code: text files of at least 1 KiB are compressed, and
//! `app.js.gz` next to `app.js` is sent instead of it.

mod common;

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use whirligig::{Call, Refusal, Response, Route, Server};
use whirligig::{Coding, Codings};

fn report(call: &Call<'_>) -> Result<Response, Refusal> {
    let text: String = (0..2000).map(|line| format!("{line}: round and round\n")).collect();
    let accepted = Codings::of(call.headers().all("accept-encoding"));
    let response = if accepted.choose(|coding| coding == Coding::Gzip).is_some() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(4));
        let packed = gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish());
        let packed = packed.map_err(|_| Refusal::failed("cannot compress"))?;
        Response::bytes("text/plain; charset=utf-8", packed).with_header("Content-Encoding", "gzip")
    } else {
        Response::text(text)
    };
    // A cache must not send the compressed form to clients that do not accept it (RFC 9110
    // section 12.5.5).
    Ok(response.with_header("Vary", "Accept-Encoding"))
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
