//! What every example does the same way: take its model from the command line, say where it is, and run.

use std::io::Write;

use whirligig::{Model, Server};

/// What an example ends with.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The model that was asked for: the poll loop, or with `--model threads` a thread for each connection.
pub(crate) fn model() -> Model {
    let mut words = std::env::args().skip_while(|word| word != "--model").skip(1);
    if words.next().as_deref() == Some("threads") { Model::Threads } else { Model::Reactor }
}

/// Prints the URL alone on a line, then serves until Ctrl-C.
pub(crate) fn run(server: Server) -> Outcome {
    writeln!(std::io::stdout(), "{}", server.urls().join("\n"))?;
    server.run()?;
    Ok(())
}
