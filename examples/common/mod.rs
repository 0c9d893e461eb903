//! Shared code of the examples: the command line, escaping of text, and running a server.

#![expect(dead_code, reason = "no example uses all of it")]

use std::io::Write;

use whirligig::{Model, Server};

/// Result of an example.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Returns the model selected on the command line: the poll loop, or with `--model threads` a
/// thread per connection.
pub(crate) fn model() -> Model {
    let mut words = std::env::args().skip_while(|word| word != "--model").skip(1);
    if words.next().as_deref() == Some("threads") { Model::Threads } else { Model::Reactor }
}

/// Returns the other arguments of the command line.
pub(crate) fn words() -> impl Iterator<Item = String> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = words.iter().position(|word| word == "--model") {
        words.drain(at..words.len().min(at + 2));
    }
    words.into_iter()
}

/// Prints each URL on a line, then serves until Ctrl-C.
pub(crate) fn run(server: Server) -> Outcome {
    writeln!(std::io::stdout(), "{}", server.urls().join("\n"))?;
    server.run()?;
    Ok(())
}

/// Escapes text for HTML, because text from a client must never become markup.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// Percent-encodes text for one segment of a path.
pub(crate) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
