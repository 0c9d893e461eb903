//! The banner: lines that the program prints when the server listens.
//!
//! This file must not know how a server is started.

use std::io::{self, Write as _};

use log::LevelFilter;

use crate::cli::args::{Args, Surroundings};
use crate::cli::value::name_of;
use crate::config::Config;
use crate::log::escape_control;

/// Lines that the program prints when the server listens: the folder and the model, then each URL
/// on a line of its own, so that terminals make it a link.
#[derive(Clone, Copy, Debug)]
pub struct Banner {
    /// True if the banner goes to standard error, because standard output is the access log.
    pub(super) on_stderr: bool,
    /// True if only the URLs are printed.
    is_quiet: bool,
    /// True if the banner goes to a terminal, where Ctrl-C reaches the server.
    is_for_terminal: bool,
    pub(super) color: bool,
}

impl Banner {
    pub(super) fn of(args: &Args, level: LevelFilter, surroundings: &Surroundings) -> Banner {
        // The access log that is on by default goes to a terminal, where a person reads it.
        let on_stderr = args.access_log.as_ref().is_some_and(|target| target == "-");
        let is_for_terminal =
            if on_stderr { surroundings.stderr_is_terminal } else { surroundings.stdout_is_terminal };
        Banner {
            on_stderr,
            is_quiet: level == LevelFilter::Error,
            is_for_terminal,
            color: args.color.resolve(is_for_terminal, surroundings.no_color),
        }
    }

    /// Returns the text for a server with these `urls`. `default_port_taken` is the configured port
    /// if the server uses another one.
    #[must_use]
    pub fn text(&self, urls: &[String], config: &Config, default_port_taken: Option<u16>) -> String {
        let (bold, link, dim, plain) =
            if self.color { ("\x1b[1m", "\x1b[36m", "\x1b[2m", "\x1b[0m") } else { ("", "", "", "") };
        let mut text = String::new();
        if !self.is_quiet {
            if let Some(port) = default_port_taken {
                text.push_str(&format!("port {port} is taken, so the next free one is used\n"));
            }
            let root = escape_control(&config.root.display().to_string());
            let (version, model) = (env!("CARGO_PKG_VERSION"), name_of(&config.model));
            text.push_str(&format!("{bold}whirligig {version}{plain} serving {root} ({model})\n"));
        }
        for url in urls {
            text.push_str(&format!("{link}{url}{plain}\n"));
        }
        if self.is_for_terminal && !self.is_quiet {
            text.push_str(&format!("{dim}press Ctrl-C to stop{plain}\n"));
        }
        text
    }

    /// Prints the text. Call it before the writer thread of the log starts, because from then on
    /// only that thread writes to standard error.
    pub fn print(&self, urls: &[String], config: &Config, default_port_taken: Option<u16>) {
        let text = self.text(urls, config, default_port_taken);
        // A closed or full stream must not keep the server from starting.
        let _ = match self.on_stderr {
            true => io::stderr().lock().write_all(text.as_bytes()),
            false => io::stdout().lock().write_all(text.as_bytes()),
        };
    }
}
