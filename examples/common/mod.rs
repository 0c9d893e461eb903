//! What the examples do the same way: read the command line, write text into pages, say where they
//! are, and run.

#![expect(dead_code, reason = "no example uses all of it")]

use std::io::Write;

use whirligig::{Model, Server};

/// What an example ends with.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The model that was asked for: the poll loop, or with `--model threads` a thread for each
/// connection.
pub(crate) fn model() -> Model {
    let mut words = std::env::args().skip_while(|word| word != "--model").skip(1);
    if words.next().as_deref() == Some("threads") { Model::Threads } else { Model::Reactor }
}

/// The other words of the command line.
pub(crate) fn words() -> impl Iterator<Item = String> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = words.iter().position(|word| word == "--model") {
        words.drain(at..words.len().min(at + 2));
    }
    words.into_iter()
}

/// Prints the URL alone on a line, then serves until Ctrl-C.
pub(crate) fn run(server: Server) -> Outcome {
    writeln!(std::io::stdout(), "{}", server.urls().join("\n"))?;
    server.run()?;
    Ok(())
}

/// Text as it must be written into a page: what a client sent is never markup.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// Text as it must be written into a segment of a path.
pub(crate) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
