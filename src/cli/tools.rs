//! Tools: words that start something else than a server, as in `whirligig sim`.
//!
//! A word counts only as the first argument. A folder of the same name is served as `./sim`, and
//! everywhere else, such as in a configuration file, the name is that of a folder. To add a tool,
//! add its [`Tool`] to [`TOOLS`]. This file must not know what a tool does.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::args::Surroundings;
use crate::cli::exit::Exit;
use crate::cli::tool::Tool;
use crate::cli::{race, sim, step, zoo};

/// All tools.
const TOOLS: [Tool; 4] = [sim::TOOL, step::TOOL, zoo::TOOL, race::TOOL];

/// Returns the word of each tool with its name.
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
