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
use crate::cli::hint;
use crate::sim::bugs::BUGS;

/// Columns of the output. Terminals have at least as many.
pub(super) const WIDTH: usize = 80;

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

/// Returns the message about a bug that does not exist. `other` is allowed beside the names of
/// bugs.
pub(super) fn unknown_bug(name: &str, other: &str) -> String {
    let name: String = name.chars().take(40).collect();
    let known: Vec<&str> = [other].into_iter().chain(BUGS.iter().map(|bug| bug.name)).collect();
    hint::unknown(&format!("unknown bug '{name}'"), &name, &known)
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

/// Breaks a line at spaces. Words that are wider than a line are not broken.
pub(super) fn wrapped(text: &str, indent: usize, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text.to_owned();
    while rest.chars().count() > width {
        let end = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
        let lead = rest.len() - rest.trim_start().len();
        let at = if rest[end..].starts_with(' ') { Some(end) } else { rest[..end].rfind(' ') };
        // Not a space of its indent.
        let Some(at) = at.filter(|at| *at > lead.max(indent)) else { break };
        let tail = format!("{:indent$}{}", "", rest[at..].trim_start());
        rest.truncate(at);
        lines.push(rest.trim_end().to_owned());
        rest = tail;
    }
    lines.push(rest);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_at_spaces_and_keep_their_indent() {
        let text = format!("   12  {}", "word ".repeat(40));
        let lines = wrapped(text.trim_end(), 7, WIDTH);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:?}");
        assert!(lines[1].starts_with("       word"), "{lines:?}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&lines.join(" ")), words(&text));
        let long = "x".repeat(200);
        assert_eq!(wrapped(&long, 4, WIDTH), std::slice::from_ref(&long));
        assert_eq!(wrapped(&"ä".repeat(100), 0, WIDTH).len(), 1);
        assert_eq!(wrapped("", 3, WIDTH), [""]);
    }
}
