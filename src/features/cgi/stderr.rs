//! A program's standard error, as log lines.
//!
//! Must not know how the program is run.

use rustix::io::Errno;

use crate::config::{CGI_TURN_BYTES_MAX, CGI_TURN_LINES_MAX, KIB, LOG_MESSAGE_BYTES_MAX};
use crate::features::cgi::process::Pipe;

/// What it says to standard error.
#[derive(Default)]
pub(super) struct Complaints {
    /// The line that it is writing.
    line: Vec<u8>,
    /// How many were logged in this turn, and how many are not, as there were too many.
    logged: usize,
    left_out: usize,
}

impl Complaints {
    /// Logs what it says to standard error, a line a message, as far as that fits a turn. True if
    /// there is more to read.
    pub(super) fn read(&mut self, stderr: &mut Option<Pipe>, name: &str) -> bool {
        let mut piece = [0; 4 * KIB];
        let mut left = CGI_TURN_BYTES_MAX;
        self.logged = 0;
        while left > 0 {
            let Some(pipe) = stderr.as_mut().filter(|pipe| pipe.is_ready) else { break };
            match rustix::io::read(&*pipe.fd, &mut piece) {
                Ok(0) => {
                    *stderr = None;
                    self.log_line(name);
                }
                Ok(bytes) => {
                    left = left.saturating_sub(bytes);
                    self.log_lines(name, &piece[..bytes]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => pipe.is_ready = false,
                Err(_) => *stderr = None,
            }
        }
        self.tell_left_out(name);
        left == 0
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

    pub(super) fn log_line(&mut self, name: &str) {
        let text = self.line.trim_ascii_end();
        if text.is_empty() {
            // An empty line says nothing.
        } else if self.logged == CGI_TURN_LINES_MAX {
            self.left_out += 1;
        } else {
            self.logged += 1;
            log::warn!(target: "cgi", "{name}: {}", String::from_utf8_lossy(text));
        }
        self.line.clear();
    }

    pub(super) fn tell_left_out(&mut self, name: &str) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            log::warn!(target: "cgi", "{name}: {left_out} more lines are left out");
        }
    }
}
