//! `--open`: shows the server in a browser.
//!
//! A thread of its own starts the command and waits for it, so that neither the start nor a browser
//! that stays in the foreground delays a client. This file must not know which address is best.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Opens `url` in a browser. A failure is a warning in the log.
pub fn open(url: &str) {
    let (url, commands) = (url.to_owned(), std::env::var("BROWSER").unwrap_or_default());
    let started = std::thread::Builder::new().name("whirligig-open".into()).spawn(move || {
        match start(&commands, &url) {
            Ok((command, mut child)) => {
                // The wait fails if the process is PID 1, which reaps all its children elsewhere.
                if let Ok(status) = child.wait()
                    && !status.success()
                {
                    log::warn!("--open: '{command}' ended with {}", ending(status));
                }
            }
            Err((command, error)) => log::warn!("--open: cannot start '{command}': {error}"),
        }
    });
    if let Err(error) = started {
        log::warn!("--open: {error}");
    }
}

/// Starts the first command of the variable `BROWSER` that can be started, or `xdg-open` if there
/// is none. Colons separate commands, and `%s` stands for the URL, as in Python and xdg-open.
pub(super) fn start(commands: &str, url: &str) -> Result<(String, Child), (String, io::Error)> {
    let mut failure = None;
    for command in commands.split(':').chain(["xdg-open"]) {
        let words: Vec<String> = command.split_whitespace().map(|word| word.replace("%s", url)).collect();
        let Some((program, arguments)) = words.split_first() else { continue };
        let is_placed = command.contains("%s");
        let mut child = Command::new(program);
        child.args(arguments).args((!is_placed).then_some(url));
        child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C in the terminal must not end the browser.
        match child.process_group(0).spawn() {
            Ok(child) => return Ok((program.clone(), child)),
            Err(error) => failure = failure.or(Some((program.clone(), error))),
        }
    }
    Err(failure.unwrap_or_else(|| (String::new(), io::ErrorKind::NotFound.into())))
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}
