//! One tool of the command line, and the parts that all tools share: arguments and output.
//!
//! This file must not know any particular tool.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as Kind;

use crate::cli::args::Surroundings;
use crate::cli::exit::{Exit, first_line};

/// A tool and the word that starts it.
pub(super) struct Tool {
    pub(super) word: &'static str,
    /// Name of the tool in a sentence, such as "the simulator".
    pub(super) noun: &'static str,
    /// Runs the tool. The first argument is `whirligig WORD`.
    pub(super) run: fn(&[OsString], &Surroundings) -> Result<ExitCode, Exit>,
}

/// Parses the arguments of a tool. An error becomes one line.
pub(super) fn parsed<A: Parser>(
    word: &str,
    args: &[OsString],
    surroundings: &Surroundings,
) -> Result<A, Exit> {
    A::try_parse_from(args).map_err(|error| match error.kind() {
        Kind::DisplayHelp | Kind::DisplayVersion => {
            let text = error.render();
            let colored = surroundings.stdout_is_terminal && !surroundings.no_color;
            Exit::done(if colored { text.ansi().to_string() } else { text.to_string() })
        }
        _ => Exit::tool_usage(word, &first_line(&error)),
    })
}

/// Prints the result of a tool on standard output. A reader that has seen enough is no error.
pub(super) fn print(text: &str) -> Result<(), Exit> {
    print_more(text).map(drop)
}

/// Prints a part of the result of a tool. Returns false if nobody reads any more.
pub(super) fn print_more(text: &str) -> Result<bool, Exit> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Exit::runtime("cannot write to standard output", error, "make room for it")),
    }
}
