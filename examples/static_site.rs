//! A static site from a folder: index pages, listings, media types, ranges and validators.
//!
//! `cargo run --example static_site -- [FOLDER [ADDRESS]]` serves `www/` on a free port of this
//! machine. `-- ~/Pictures 0.0.0.0:8081` serves another folder to the whole network. `--model
//! threads` selects the twin.

mod common;

use whirligig::Server;

fn main() -> common::Outcome {
    let mut words = common::words();
    let folder = words.next().unwrap_or_else(|| "www".into());
    let address = words.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let server = Server::builder()
        .files(folder)
        .header("*.css", "Cache-Control", "max-age=3600")
        .model(common::model())
        .bind(address)?;
    common::run(server)
}
