//! A folder as a site: index pages, listings, types, ranges, validators, on an address of one's
//! choice.
//!
//! `cargo run --example static_site -- [FOLDER [ADDRESS]]` serves `www/` on any free port of this
//! machine, or e.g. `-- ~/Pictures 0.0.0.0:8081` for everybody in the network; `--model threads`
//! for the twin.

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
