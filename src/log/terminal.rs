//! Diagnostics on a terminal: escaped, coloured, one line each.
//!
//! This file must not know the queue. It prints, so only the writer thread may call [`print`].

use crate::text::is_bidi_control;
use log::{Level, Log as _, Record};
use simple_logger::SimpleLogger;

pub(super) fn print(logger: &SimpleLogger, level: Level, target: &str, text: &str) {
    // Messages of the writer do not pass through the `log` macros, so the level is checked here.
    if level > log::max_level() {
        return;
    }
    logger.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
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
