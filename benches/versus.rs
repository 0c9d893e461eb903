//! The loop against the twin: `cargo bench --bench versus`.
//!
//! Both models are this very program, started again with one word changed, each kept on the same
//! processor; a load generator on another one asks them in turn, in rounds whose order is drawn by
//! lot. Every answer is checked before anything is timed, and a server is compared with itself
//! before it is compared with the other. Options: `cargo bench --bench versus -- --help`; how to
//! read the figures: docs/performance.md.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

#[path = "versus/mod.rs"]
mod parts;

use parts::options::Options;

fn main() -> ExitCode {
    let ended = parts::process::play_part().unwrap_or_else(|| parts::run::run(&Options::parse()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "versus: {error}");
            ExitCode::FAILURE
        }
    }
}
