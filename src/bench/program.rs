//! This program, started again as a server or as the load generator, and the lines that it prints.
//!
//! Each wait has a limit and ends at once when the run is to stop. Must not know what a child does.

use std::io::{self, BufRead as _, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ChildStdout, Command};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Fallible;

/// Maximum wait for a line. Longer than the longest run with all its connections.
const LINE_MAX: Duration = Duration::from_secs(120);

/// Text of the error after a stop.
pub const INTERRUPTED: &str = "interrupted";

/// The executable with the words that lead to a part.
#[derive(Debug)]
pub struct Program {
    file: PathBuf,
    words: Vec<&'static str>,
    /// Readable once the run is to stop.
    stop: Option<OwnedFd>,
}

impl Program {
    /// Takes the executable of this process. `words` come before the name of a part.
    ///
    /// # Errors
    /// If the path of the executable is unknown.
    pub fn new(words: &[&'static str]) -> io::Result<Program> {
        Ok(Program { file: std::env::current_exe()?, words: words.to_vec(), stop: None })
    }

    /// Makes all waits fail once `stop` is readable.
    #[must_use]
    pub fn stopped_by(self, stop: impl Into<OwnedFd>) -> Program {
        Program { stop: Some(stop.into()), ..self }
    }

    /// Returns the command that starts a part.
    pub(super) fn command(&self, part: &str) -> Command {
        let mut command = Command::new(&self.file);
        command.args(&self.words).arg(part);
        command
    }

    /// Describes a failed start.
    pub(super) fn not_started(&self, error: &io::Error) -> String {
        format!("cannot start {}: {error}", self.file.display())
    }

    /// Waits for `span`. Returns true as soon as the run is to stop.
    #[must_use]
    pub fn stops_within(&self, span: Duration) -> bool {
        self.wait(None, span).is_err()
    }

    /// Reads a line without its end. Returns `None` at the end of the input.
    pub(super) fn line(&self, from: &mut BufReader<ChildStdout>) -> Fallible<Option<String>> {
        let mut line = Vec::new();
        loop {
            if from.buffer().is_empty() && !self.wait(Some(from.get_ref().as_fd()), LINE_MAX)? {
                return Err(format!("no line for {} s", LINE_MAX.as_secs()).into());
            }
            let piece = from.fill_buf()?;
            let end = memchr::memchr(b'\n', piece);
            line.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
            let (is_last, used) = (piece.is_empty(), end.map_or(piece.len(), |end| end + 1));
            from.consume(used);
            if end.is_some() || is_last {
                let is_line = end.is_some() || !line.is_empty();
                return Ok(is_line.then(|| String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }

    /// Waits until `input` is readable. Returns false if it is not within `span`, and an error once
    /// the run is to stop.
    fn wait(&self, input: Option<BorrowedFd<'_>>, span: Duration) -> Fallible<bool> {
        let stop = self.stop.as_ref().map(AsFd::as_fd);
        let mut waits: Vec<PollFd<'_>> = [stop, input]
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let limit = Timespec::try_from(span)?;
        loop {
            match poll(&mut waits, Some(&limit)) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) if stop.is_some() && !waits[0].revents().is_empty() => return Err(INTERRUPTED.into()),
                Ok(ready) => return Ok(ready > 0),
            }
        }
    }
}
