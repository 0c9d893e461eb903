//! Standard error of scripts, copied to the log line by line.
//!
//! Must not know how the script runs.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::config::{CGI_TURN_BYTES_MAX, CGI_TURN_LINES_MAX, KIB, LOG_MESSAGE_BYTES_MAX};
use crate::features::cgi::process::Pipe;

/// Reader that logs the standard error of one script.
pub(super) struct StderrLog {
    /// `None` after the end of standard error, a read error, or `finish`.
    pipe: Option<Pipe>,
    /// Incomplete last line, cut off after `LOG_MESSAGE_BYTES_MAX`.
    line: Vec<u8>,
    /// Number of lines logged in this turn.
    logged: usize,
    /// Number of lines omitted because of the limit for one turn, and not yet reported in the log.
    left_out: usize,
}

impl StderrLog {
    pub(super) fn new(stderr: OwnedFd) -> Self {
        StderrLog { pipe: Some(Pipe::new(stderr, false)), line: Vec::new(), logged: 0, left_out: 0 }
    }

    pub(super) fn pipe(&self) -> Option<&Pipe> {
        self.pipe.as_ref()
    }

    pub(super) fn pipe_mut(&mut self) -> Option<&mut Pipe> {
        self.pipe.as_mut()
    }

    /// Reads standard error and logs each line, prefixed with the script's `name`. Each turn has a
    /// limit of bytes and of lines. Returns true if the byte limit was reached: call again in the
    /// next turn.
    pub(super) fn read(&mut self, name: &str) -> bool {
        let mut piece = [0; 4 * KIB];
        let mut left = CGI_TURN_BYTES_MAX;
        self.logged = 0;
        while left > 0 {
            let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.is_ready) else { break };
            match rustix::io::read(&*pipe.fd, &mut piece) {
                Ok(0) => {
                    self.pipe = None;
                    self.log_line(name);
                }
                Ok(bytes) => {
                    left = left.saturating_sub(bytes);
                    self.log_lines(name, &piece[..bytes]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => pipe.is_ready = false,
                Err(_) => self.pipe = None,
            }
        }
        self.log_left_out(name);
        left == 0
    }

    /// Logs the incomplete last line and closes the pipe. Later output of processes that outlive
    /// the script is not logged.
    pub(super) fn finish(&mut self, name: &str) {
        self.log_line(name);
        self.log_left_out(name);
        self.pipe = None;
    }

    fn log_lines(&mut self, name: &str, text: &[u8]) {
        for part in text.split_inclusive(|&byte| byte == b'\n') {
            let room = LOG_MESSAGE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.log_line(name);
            }
        }
    }

    /// Logs and clears the current line. Lines over the limit for one turn are only counted.
    fn log_line(&mut self, name: &str) {
        let text = self.line.trim_ascii_end();
        if text.is_empty() {
            // Empty lines are not logged.
        } else if self.logged == CGI_TURN_LINES_MAX {
            self.left_out += 1;
        } else {
            self.logged += 1;
            log::warn!(target: "cgi", "{name}: {}", String::from_utf8_lossy(text));
        }
        self.line.clear();
    }

    /// Logs the number of omitted lines, and resets it.
    fn log_left_out(&mut self, name: &str) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            log::warn!(target: "cgi", "{name}: {left_out} more lines are left out");
        }
    }
}
