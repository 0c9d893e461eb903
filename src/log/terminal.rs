//! Diagnostics on a terminal: escaped, coloured, one line each.
//!
//! This file must not know the queue. It prints, so only the writer thread may call [`print`].

use std::io::{self, Write as _};

use log::Level;

use crate::clock::read_wall_clock;
use crate::http::date::iso8601;
use crate::text::is_bidi_control;

/// Colours of diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colors {
    /// Plain text.
    Off,
    /// Each line has the colour of its level.
    On,
}

/// Prints one line to standard error: time, level, target and text. No other thread of the process
/// can write between them. May panic instead of returning an error, as `eprintln` does.
pub(super) fn print(level: Level, target: &str, text: &str) -> io::Result<()> {
    // Messages of the writer do not pass through the `log` macros, so the level is checked here.
    if level > log::max_level() {
        return Ok(());
    }
    let now = read_wall_clock();
    let time = iso8601(now.as_secs(), now.subsec_millis());
    let mut stderr = io::stderr().lock();
    #[cfg(feature = "cli")]
    {
        use log::Log as _;
        stderr.write_all((time + " ").as_bytes())?;
        // The lock is reentrant (std::io::Stderr), so the logger can print.
        let logger = simple_logger::SimpleLogger::new();
        logger.log(&log::Record::builder().level(level).target(target).args(format_args!("{text}")).build());
        Ok(())
    }
    #[cfg(not(feature = "cli"))]
    stderr.write_all(format!("{time} {level:<5} [{target}] {text}\n").as_bytes())
}

/// Colours a line. `SimpleLogger` is not installed as the logger and would check whether standard
/// output is a terminal, while diagnostics go to standard error.
pub(super) fn paint(level: Level, text: &str) -> String {
    let color = match level {
        Level::Error => "31",
        Level::Warn => "33",
        Level::Info => "36",
        Level::Debug | Level::Trace => "2",
    };
    format!("\x1b[{color}m{text}\x1b[0m")
}

/// Escapes control characters, line separators and characters that change the direction of text.
/// Other letters stay, so that a path in Chinese remains readable.
pub(crate) fn escape_control(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\u{2028}' | '\u{2029}' => out.extend(letter.escape_default()),
            _ if letter.is_control() || is_bidi_control(letter) => out.extend(letter.escape_default()),
            _ => out.push(letter),
        }
    }
    out
}
