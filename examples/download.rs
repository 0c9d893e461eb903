//! Downloads with `Content-Disposition: attachment`, and an HTML page for files that do not exist.
//!
//! Run `cargo run --example download` and open the printed address. `--model threads` selects the
//! twin. Clients can resume downloads, because responses support ranges and validators. File names
//! come from a list made by the server, never from the client.

mod common;

use std::path::Path;

use whirligig::{Call, Response, Route, Server, Status};

const FOLDER: &str = "www/files";

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn list(_: &Call<'_>) -> Response {
    let rows: String = names()
        .iter()
        .map(|name| format!("<li><a href='/download/{}'>{}</a>", common::encode(name), common::escape(name)))
        .collect();
    Response::html(format!(
        "<!doctype html><title>Downloads</title><ul>{rows}<li><a href='/download/nothing'>nothing</a></ul>"
    ))
}

fn download(call: &Call<'_>) -> Response {
    let name = call.param("name");
    let found =
        names().into_iter().find(|known| known == name).map(|known| call.file(Path::new(FOLDER).join(known)));
    match found {
        Some(Ok(response)) => response.as_download(name),
        None | Some(Err(_)) => Response::html(format!(
            "<!doctype html><title>Not found</title><h1>The file does not exist</h1>\
             <p>There is no file {}. <a href='/'>All files</a>",
            common::escape(name)
        ))
        .with_status(Status::NOT_FOUND),
    }
}

fn main() -> common::Outcome {
    let server = Server::builder()
        .route("/", Route::new().get(list).blocking())
        .route("/download/{name}", Route::new().get(download).blocking())
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
