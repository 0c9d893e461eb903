//! Output of a program that does not start: help and other text that was requested, or an error of
//! one line.
//!
//! Clap finds the error and its flag; its message of several lines becomes one line here. This file
//! must not know the meaning of any setting.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, ValueEnum as _};

use crate::cli::args::{Args, EXAMPLES, NOTES, Surroundings, with_whole_help};
use crate::cli::hint;
use crate::cli::setting::{is_secret, variable};
use crate::cli::value::Color;
use crate::config::LOG_FLUSH_MAX;
use crate::driver::outcome::Outcome;
use crate::log::{LogQueue, escape_control};
use crate::server::BindError;

/// Text to print instead of starting a server, and the exit code. `main` returns [`Exit::report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    code: u8,
    text: String,
}

impl Exit {
    /// Creates an error that another command line could not avoid, with exit code 1. Its text is
    /// `whirligig: what: why; hint`.
    pub fn runtime(what: &str, why: impl fmt::Display, hint: &str) -> Exit {
        Exit { code: 1, text: format!("whirligig: {}; {hint}\n", escape_control(&format!("{what}: {why}"))) }
    }

    /// Creates the error for a server of the folder `root` that could not be bound.
    pub fn cannot_bind(error: BindError, root: &str) -> Exit {
        match error {
            BindError::Root(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::Unsupported => {
                        "use Linux 5.12 or later, and no sandbox that forbids openat2"
                    }
                    io::ErrorKind::PermissionDenied => "make it readable for this user",
                    _ => "name an existing folder or regular file",
                };
                Exit::runtime(&format!("cannot serve '{root}'"), error, hint)
            }
            BindError::Site(why) => {
                Exit::runtime("cannot serve the site", why, "correct the file or the option")
            }
            BindError::Address(address, error) => Exit::cannot_listen(&address, &error),
        }
    }

    /// Creates the error for a listener at `address` that could not be opened.
    pub(super) fn cannot_listen(address: &str, error: &io::Error) -> Exit {
        let hint = match error.kind() {
            io::ErrorKind::AlreadyExists => "move the file away or choose another path with --bind",
            io::ErrorKind::AddrInUse if address.starts_with("unix:") => {
                "stop the other process or choose another path with --bind"
            }
            _ if address.starts_with("unix:") => "choose another path with --bind",
            io::ErrorKind::AddrInUse => {
                "stop the other server or choose another port with --port (0: any free one)"
            }
            io::ErrorKind::PermissionDenied => "choose a port from 1024 up with --port",
            io::ErrorKind::AddrNotAvailable => "choose an address of this machine with --bind",
            _ => "choose another address with --bind",
        };
        Exit::runtime(&format!("cannot listen on {address}"), error, hint)
    }

    /// Creates an exit that is no error: prints `text`.
    pub(super) fn done(text: String) -> Exit {
        Exit { code: 0, text }
    }

    pub(super) fn usage(message: &str) -> Exit {
        let message = escape_control(message);
        Exit { code: 2, text: format!("whirligig: {message}; try 'whirligig --help'\n") }
    }

    /// Creates the error for wrong arguments of a tool.
    pub(super) fn tool_usage(word: &str, message: &str) -> Exit {
        let message = escape_control(message);
        Exit { code: 2, text: format!("whirligig {word}: {message}; try 'whirligig {word} --help'\n") }
    }

    /// Exit code: 0 for help and other requested text, 1 for a runtime error, 2 for wrong usage.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Text to print, with its final line feed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Prints the text to standard output or standard error and returns the exit code. Call it
    /// before the writer thread of the log starts, because from then on only that thread writes to
    /// standard error.
    pub fn report(&self) -> ExitCode {
        // The stream may be closed or full. There is no other place for the message, and `println`
        // would panic.
        let _ = match self.code {
            0 => io::stdout().lock().write_all(self.text.as_bytes()),
            _ => io::stderr().lock().write_all(self.text.as_bytes()),
        };
        ExitCode::from(self.code)
    }
}

/// Logs why a server that ran came to its end, and returns the exit code of the program.
pub fn end(ended: io::Result<Outcome>, log: &LogQueue) -> ExitCode {
    match ended {
        Ok(Outcome::Stopped) => ExitCode::SUCCESS,
        Ok(Outcome::Cut(clients)) => {
            let clients =
                if clients == 1 { "1 client was".into() } else { format!("{clients} clients were") };
            log::error!("the drain timeout passed: {clients} cut off");
            ExitCode::FAILURE
        }
        Ok(Outcome::Killed(signal)) => {
            log.flush(LOG_FLUSH_MAX);
            // Threads of clients may still be running; the process exits without them.
            std::process::exit(i32::from(signal.exit_code()));
        }
        Err(error) => {
            log::error!("the server failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Converts a result of clap: help is printed as it is, an error becomes one line.
pub(super) fn exit_of(error: &clap::Error, argv: &[OsString], surroundings: &Surroundings) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let long = argv.iter().any(|word| word == "--help");
            let text = if long { long_help() } else { error.render() };
            let colored =
                color_asked_for(argv).resolve(surroundings.stdout_is_terminal, surroundings.no_color);
            Exit::done(if colored { text.ansi().to_string() } else { text.to_string() })
        }
        ErrorKind::UnknownArgument => Exit::usage(&unknown(error, argv)),
        _ => Exit::usage(&invalid(error, argv)),
    }
}

/// Returns the long help. Clap's own uses four lines for a flag; this one has the form of the short
/// help.
fn long_help() -> StyledStr {
    with_whole_help(Args::command()).after_help(format!("{EXAMPLES}\n{NOTES}")).render_help()
}

/// Finds the value of `--color`, because clap stops at `--help` before it reads that flag.
fn color_asked_for(argv: &[OsString]) -> Color {
    let words: Vec<_> = argv.iter().filter_map(|word| word.to_str()).collect();
    let next = words.windows(2).rev().find(|pair| pair[0] == "--color").map(|pair| pair[1]);
    let value = words.iter().rev().find_map(|word| word.strip_prefix("--color=")).or(next);
    value.and_then(|value| Color::from_str(value, false).ok()).unwrap_or(Color::Auto)
}

fn unknown(error: &clap::Error, argv: &[OsString]) -> String {
    let argument = context(error, ContextKind::InvalidArg).unwrap_or_default();
    if !argument.starts_with('-') {
        // Other servers take a port as an argument: `whirligig 8000 .` and `whirligig . 8000`.
        let words = argv.iter().skip(1).filter_map(|word| word.to_str());
        let port = [&*argument].into_iter().chain(words).find(|word| word.parse::<u16>().is_ok());
        return match port {
            Some(port) => {
                format!("'{argument}': only one folder can be served; for a port write --port {port}")
            }
            None => format!("'{argument}': only one folder can be served, and one is already given"),
        };
    }
    let flags = Args::command();
    let known: Vec<&str> = flags.get_arguments().filter_map(clap::Arg::get_long).collect();
    match (hint::foreign(&argument), hint::nearest(&argument, &known)) {
        (Some(advice), _) => format!("unknown option '{argument}': {advice}"),
        (None, Some(similar)) => format!("unknown option '{argument}': did you mean '--{similar}'?"),
        (None, None) => format!("unknown option '{argument}'"),
    }
}

/// Finds a long flag with one dash, as in `-port 80`. Clap reads that as `-p` with the value `ort`.
fn with_one_dash(argv: &[OsString]) -> Option<String> {
    let flags = Args::command();
    let words = argv.iter().skip(1).filter_map(|word| word.to_str()?.strip_prefix('-'));
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    words
        .map(name)
        .find(|name| name.len() > 1 && flags.get_arguments().any(|arg| arg.get_long() == Some(name)))
}

/// Returns `what: why` for an error about a value.
fn invalid(error: &clap::Error, argv: &[OsString]) -> String {
    if let Some(name) = with_one_dash(argv) {
        return format!("'-{name}': a long option begins with two dashes: --{name}");
    }
    let Some(flag) = flag_of(error) else { return first_line(error) };
    let flags = Args::command();
    let secret = flags
        .get_arguments()
        .any(|arg| arg.get_long() == Some(flag.trim_start_matches('-')) && is_secret(arg));
    match complaint(error, secret) {
        Some(complaint) => format!("{}{complaint}", name_used(&flag, argv)),
        None => first_line(error),
    }
}

/// Returns the flag that an error is about.
fn flag_of(error: &clap::Error) -> Option<String> {
    let argument = context(error, ContextKind::InvalidArg)?;
    argument.split([' ', '=', '.']).next().map(|flag| flag.trim_end_matches('[').to_owned())
}

/// Returns the part of the message after the name of the flag: the value and the reason. `None` if
/// the error is not about a value.
pub(super) fn complaint(error: &clap::Error, secret: bool) -> Option<String> {
    let value = context(error, ContextKind::InvalidValue)?;
    if value.is_empty() && error.kind() == ErrorKind::InvalidValue {
        return Some(": a value is missing".into());
    }
    let shown = if secret { String::new() } else { format!(" '{value}'") };
    if error.kind() == ErrorKind::TooManyValues {
        return Some(format!("{shown}: the option takes no value"));
    }
    let why = match (std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(choices))) => format!("must be one of {}", choices.join(", ")),
        (None, _) => "not a valid value".to_owned(),
    };
    Some(format!("{shown}: {why}"))
}

pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// Returns the name of the flag, or of its environment variable if the value came from there.
fn name_used(flag: &str, argv: &[OsString]) -> String {
    let long = flag.trim_start_matches('-');
    let short = Args::command()
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long))
        .and_then(clap::Arg::get_short);
    let given = argv.iter().skip(1).filter_map(|word| word.to_str()).any(|word| {
        word.split('=').next() == Some(flag)
            || short
                .is_some_and(|short| !word.starts_with("--") && word.starts_with('-') && word.contains(short))
    });
    if given || std::env::var_os(variable(long)).is_none() { flag.to_owned() } else { variable(long) }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    error.get(kind).map(ToString::to_string)
}
