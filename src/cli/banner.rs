//! The banner: lines that the program prints when the server listens.
//!
//! This file must not know how a server is started.

use std::io::{self, Write as _};
use std::path::Path;

use log::LevelFilter;
use rustix::termios::tcgetwinsize;

use crate::cli::args::{Args, Surroundings};
use crate::cli::config::one_of;
use crate::cli::exit::Exit;
use crate::cli::qr;
use crate::cli::sources::Sources;
use crate::cli::value::name_of;
use crate::config::Model;
use crate::log::escape_control;

/// A server that listens, as the banner shows it.
#[derive(Clone, Copy, Debug)]
pub struct Listening<'a> {
    /// URLs of the server, the best one for other machines first.
    pub urls: &'a [String],
    /// Folder that is served, links resolved.
    pub root: &'a Path,
    /// Model that drives connections.
    pub model: Model,
    /// True if only this machine can reach the server.
    pub is_private: bool,
    /// The configured port if it was taken, so that the server uses another one.
    pub port_taken: Option<u16>,
}

/// Size of a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Characters in a line.
    pub columns: usize,
    /// Lines on the screen.
    pub lines: usize,
}

/// Lines that the program prints when the server listens: the folder and the model, then each URL
/// on a line of its own, so that terminals make it a link, then a QR code.
#[derive(Clone, Copy, Debug)]
pub struct Banner {
    /// True if the banner goes to standard error, because standard output is the access log.
    pub(super) on_stderr: bool,
    /// True if only the first URL is printed.
    is_quiet: bool,
    /// True if the banner goes to a terminal, where Ctrl-C reaches the server.
    is_for_terminal: bool,
    pub(super) color: bool,
    /// True if a QR code is drawn, false if not. `None` decides by terminal and address.
    draws_code: Option<bool>,
}

impl Banner {
    pub(super) fn of(
        args: &Args,
        sources: &Sources,
        level: LevelFilter,
        surroundings: &Surroundings,
    ) -> Result<Banner, Exit> {
        // The access log that is on by default goes to a terminal, where a person reads it.
        let on_stderr = args.access_log.as_ref().is_some_and(|target| target == "-");
        let is_for_terminal =
            if on_stderr { surroundings.stderr_is_terminal } else { surroundings.stdout_is_terminal };
        Ok(Banner {
            on_stderr,
            is_quiet: level == LevelFilter::Error,
            is_for_terminal,
            color: args.color.resolve(is_for_terminal, surroundings.no_color),
            draws_code: one_of(sources, ("qr", args.qr), ("no_qr", args.no_qr))?,
        })
    }

    /// Returns the text for a server. `window` is the size of the terminal, if there is one and
    /// that is known.
    #[must_use]
    pub fn text(&self, server: &Listening<'_>, window: Option<Window>) -> String {
        let (bold, link, dim, plain) =
            if self.color { ("\x1b[1m", "\x1b[36m", "\x1b[2m", "\x1b[0m") } else { ("", "", "", "") };
        if self.is_quiet {
            return server.urls.first().map_or_else(String::new, |url| format!("{link}{url}{plain}\n"));
        }
        let mut text = String::new();
        if let Some(port) = server.port_taken {
            text.push_str(&format!("port {port} is taken, so the next free one is used\n"));
        }
        let root = escape_control(&server.root.display().to_string());
        let (version, model) = (env!("CARGO_PKG_VERSION"), name_of(&server.model));
        text.push_str(&format!("{bold}whirligig {version}{plain} serving {root} ({model})\n"));
        for url in server.urls {
            text.push_str(&format!("{link}{url}{plain}\n"));
        }
        text.push_str(&self.code(server, window));
        if self.is_for_terminal {
            text.push_str(&format!("{dim}press Ctrl-C to stop{plain}\n"));
        }
        text
    }

    /// Returns the QR code of the URL that a phone should open, or nothing.
    ///
    /// By default it is drawn where a person sees it and where it is of use. Without colours it
    /// would be right on some terminals only, so then it must be asked for.
    fn code(&self, server: &Listening<'_>, window: Option<Window>) -> String {
        let is_asked = self.draws_code == Some(true);
        let is_useful = self.is_for_terminal && self.color && !server.is_private;
        if self.draws_code == Some(false) || !(is_asked || is_useful) {
            return String::new();
        }
        let is_web = |url: &&String| url.starts_with("http://");
        let mut urls = server.urls.iter().filter(is_web);
        let best = urls.clone().find(|url| !is_of_loopback(url)).or_else(|| urls.next());
        let Some(drawing) = best.and_then(|url| qr::draw(url, self.color)) else { return String::new() };
        // Besides the code there are the URLs and two lines.
        let fits = |window: Window| {
            (window.columns >= drawing.columns, window.lines >= drawing.lines + server.urls.len() + 2)
        };
        match (window.map(fits), is_asked) {
            (None | Some((true, true)), _) | (Some((true, false)), true) => drawing.text,
            (Some((false, _)), true) => {
                format!("the QR code needs a terminal with {} columns\n", drawing.columns)
            }
            (Some(_), false) => String::new(),
        }
    }

    /// Prints the text. Call it before the writer thread of the log starts, because from then on
    /// only that thread writes to standard error.
    pub fn print(&self, server: &Listening<'_>) {
        let size = match self.on_stderr {
            true => tcgetwinsize(io::stderr()),
            false => tcgetwinsize(io::stdout()),
        };
        // A terminal of unknown size has zeros.
        let size = size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let window = size.map(|size| Window { columns: size.ws_col.into(), lines: size.ws_row.into() });
        let text = self.text(server, window);
        // A closed or full stream must not keep the server from starting.
        let _ = match self.on_stderr {
            true => io::stderr().lock().write_all(text.as_bytes()),
            false => io::stdout().lock().write_all(text.as_bytes()),
        };
    }
}

/// Returns the URL for a browser on this machine: that of a loopback address if there is one,
/// because no firewall applies to it. `None` if the server has Unix sockets only.
#[must_use]
pub fn local_url(urls: &[String]) -> Option<&str> {
    let urls = || urls.iter().map(String::as_str).filter(|url| url.starts_with("http://"));
    urls().find(|url| is_of_loopback(url)).or_else(|| urls().next())
}

fn is_of_loopback(url: &str) -> bool {
    url.starts_with("http://127.") || url.starts_with("http://[::1]")
}
