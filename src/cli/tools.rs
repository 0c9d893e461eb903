//! Tools: words that start something else than a server, as in `whirligig sim`.
//!
//! A word counts only as the first argument. A folder of the same name is served as `./sim`, and
//! everywhere else, such as in a configuration file, the name is that of a folder. To add a tool,
//! add its [`Tool`] to [`TOOLS`]. This file must not know what a tool does.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as Kind;

use crate::cli::args::Surroundings;
use crate::cli::exit::{Exit, first_line};
use crate::cli::sim;

/// A word and what it starts.
pub(super) struct Tool {
    pub(super) word: &'static str,
    /// What the word names, for a reader who expected a folder.
    pub(super) noun: &'static str,
    /// Runs the tool. The first argument is `whirligig WORD`.
    pub(super) run: fn(&[OsString], &Surroundings) -> Result<ExitCode, Exit>,
}

/// All tools.
const TOOLS: [Tool; 1] = [sim::TOOL];

/// Returns the word of each tool, and what it names.
pub(super) fn words() -> impl Iterator<Item = (&'static str, &'static str)> {
    TOOLS.iter().map(|tool| (tool.word, tool.noun))
}

/// Runs the tool that the first argument names. Returns `None` if it names none. `argv` includes
/// the name of the program.
pub fn run_tool(argv: &[OsString], surroundings: &Surroundings) -> Option<Result<ExitCode, Exit>> {
    let word = argv.get(1)?;
    let tool = TOOLS.iter().find(|tool| word == tool.word)?;
    if Path::new(word).is_dir() {
        let Tool { word, noun, .. } = tool;
        let note = format!("whirligig: '{word}' is {noun}; to serve the folder write ./{word}\n");
        // The tool runs even if nobody can read the note.
        let _ = io::stderr().lock().write_all(note.as_bytes());
    }
    let name = OsString::from(format!("whirligig {}", tool.word));
    let args: Vec<OsString> = std::iter::once(name).chain(argv[2..].iter().cloned()).collect();
    Some((tool.run)(&args, surroundings))
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
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Exit::runtime("cannot write to standard output", error, "make room for it"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
