//! Uploads from a browser: a multipart form with a progress bar.
//!
//! Run `cargo run --example upload` and open the printed address. `--model threads` selects the
//! twin. The handler receives the whole form, up to 16 MiB, and only reports its parts: name, type,
//! size and a checksum. To store files or accept larger ones, read them in pieces with
//! `http::multipart::Multipart` in a `BodySink`, or run `whirligig --upload`.

mod common;

use whirligig::{Call, Refusal, Response, Route, Server};

const BYTES_MAX: u64 = 16 << 20;

const PAGE: &str = "<!doctype html><meta charset=utf-8><title>Upload</title>
<form id=form method=post enctype='multipart/form-data'>
<input name=note placeholder=Note> <input id=file type=file name=file multiple required> <button id=send>Send</button>
</form><progress id=progress value=0 max=1></progress><pre id=answer></pre>
<script>
form.onsubmit = event => {
  event.preventDefault();
  const request = new XMLHttpRequest();
  request.upload.onprogress = step => { progress.max = step.total; progress.value = step.loaded; };
  request.onload = () => { answer.textContent = request.status + '\\n' + request.responseText; };
  request.onerror = () => { answer.textContent = 'The upload failed.'; };
  request.open('POST', '/');
  request.send(new FormData(form));
};
</script>";

fn take(call: &Call<'_>) -> Result<String, Refusal> {
    let mut report = String::new();
    for part in call.multipart()? {
        let size = part.content.len();
        // Adler-32 is sufficient to compare the received bytes with those sent.
        let (a, b) = part.content.iter().fold((1u32, 0u32), |(a, b), &byte| {
            let a = (a + u32::from(byte)) % 65521;
            (a, (b + a) % 65521)
        });
        report += &match &part.filename {
            Some(name) => {
                let kind = part.content_type.as_deref().unwrap_or("no type");
                format!("file {name:?} ({kind}), {size} bytes, adler32 {:08x}\n", b << 16 | a)
            }
            None => format!("field {:?} = {:?}\n", part.name, part.text()),
        };
    }
    Ok(report)
}

fn main() -> common::Outcome {
    let route = Route::new().get(|_| Response::html(PAGE)).post(take).content_max(BYTES_MAX).blocking();
    let server = Server::builder().route("/", route).model(common::model()).bind("127.0.0.1:0")?;
    common::run(server)
}
