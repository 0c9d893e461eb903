//! Output of a script on its way to the client: states of this half of a run, and the pipe from
//! standard output.
//!
//! The header of `run.rs` lists the transitions. Must not know how the script gets its input, or
//! the connection that sends the response.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;

use crate::config::{CGI_GRACE, CGI_TURN_BYTES_MAX};
use crate::features::cgi::process::{Execution, PIECE_BYTES, Pipe};
use crate::handler::{Answer, Context};
use crate::http::{FillStatus, Response};

/// State of the half of a run that makes the response.
pub(super) enum Output {
    /// The response head is not complete. It is read when the connection waits for the response.
    Head { stdout: Stdout, redirect_handler: RedirectHandler },
    /// The head is complete. The content after it is not sent.
    Discarding(Discarding),
    /// The head is sent. The connection takes the content after it.
    Body(Content),
    /// The response is complete or abandoned. The script may still be running.
    Ended,
}

/// Produces the response for a local redirect.
pub(crate) type RedirectHandler = Box<dyn FnOnce(Vec<u8>, &mut Context<'_>) -> Answer + Send>;

impl Output {
    fn stdout(&self) -> Option<&Stdout> {
        match self {
            Output::Head { stdout, .. } => Some(stdout),
            Output::Discarding(discarding) => Some(&discarding.stdout),
            Output::Body(content) => Some(&content.stdout),
            Output::Ended => None,
        }
    }

    pub(super) fn pipe(&self) -> Option<&Pipe> {
        self.stdout()?.pipe.as_ref()
    }

    pub(super) fn pipe_mut(&mut self) -> Option<&mut Pipe> {
        match self {
            Output::Head { stdout, .. } => stdout.pipe.as_mut(),
            Output::Discarding(discarding) => discarding.stdout.pipe.as_mut(),
            Output::Body(content) => content.stdout.pipe.as_mut(),
            Output::Ended => None,
        }
    }

    /// Returns true if the script has written something, or has closed its standard output.
    pub(super) fn is_begun(&self) -> bool {
        self.pipe().is_none_or(|pipe| pipe.is_ready)
    }

    /// Deadline for the other of output and exit, if one of them has ended.
    pub(super) fn grace(&self) -> Option<Instant> {
        self.stdout()?.grace
    }

    /// Returns true if output remains to be discarded and no event will report it.
    pub(super) fn has_more_to_discard(&self) -> bool {
        match self {
            Output::Discarding(discarding) => discarding.stdout.is_ready(),
            Output::Head { .. } | Output::Body(_) | Output::Ended => false,
        }
    }
}

/// The pipe from standard output, and the bytes from it that were not used yet.
pub(super) struct Stdout {
    /// `None` after the end of the output.
    pipe: Option<Pipe>,
    pub(super) unread: Vec<u8>,
    /// Deadline for the other of output and exit, once one of them has ended.
    grace: Option<Instant>,
}

/// Result of reading output.
pub(super) enum Read {
    Bytes,
    Nothing,
    End,
}

impl Stdout {
    pub(super) fn new(stdout: OwnedFd) -> Self {
        Stdout { pipe: Some(Pipe::new(stdout, false)), unread: Vec::new(), grace: None }
    }

    fn is_ready(&self) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| pipe.is_ready)
    }

    /// Reads at most `bytes_max` bytes of output, if any is available.
    pub(super) fn read(&mut self, bytes_max: usize) -> Read {
        loop {
            let Some(pipe) = &mut self.pipe else { return Read::End };
            if !pipe.is_ready {
                return Read::Nothing;
            }
            let before = self.unread.len();
            self.unread.resize(before + bytes_max, 0);
            let got = rustix::io::read(&*pipe.fd, &mut self.unread[before..]);
            self.unread.truncate(before + got.unwrap_or(0));
            match got {
                Ok(0) => self.pipe = None,
                Ok(_) => return Read::Bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => pipe.is_ready = false,
                Err(_) => self.pipe = None,
            }
        }
    }

    /// Returns true if all output was read: output and exit have both ended, or one of them ended
    /// some time ago.
    pub(super) fn is_over(&mut self, execution: &Execution, now: Instant) -> bool {
        match (self.pipe.is_none(), execution.has_exited()) {
            (true, true) => true,
            (true, false) | (false, true) if !self.is_ready() => {
                *self.grace.get_or_insert(now + CGI_GRACE) <= now
            }
            (true, false) | (false, true) | (false, false) => false,
        }
    }
}

/// A `Content-Length` from the script, and the number of content bytes used so far.
pub(super) struct Length {
    declared: u64,
    used: u64,
}

impl Length {
    pub(super) fn new(declared: u64) -> Self {
        Length { declared, used: 0 }
    }

    /// Number of content bytes that are still to be used.
    fn left(&self) -> usize {
        usize::try_from(self.declared - self.used).unwrap_or(usize::MAX)
    }

    /// Logs that the script has written `used` bytes of content instead.
    fn log_mismatch(&self, used: u64, name: &str) {
        let declared = self.declared;
        log::warn!(target: "cgi", "{name}: {used} bytes of content, but a Content-Length of {declared}");
    }
}

/// A response that is sent when all output was read and discarded.
pub(super) struct Discarding {
    pub(super) stdout: Stdout,
    pub(super) length: Option<Length>,
    pub(super) response: Response,
    pub(super) surplus: Surplus,
}

/// Treatment of content that is not sent.
pub(super) enum Surplus {
    /// The request is HEAD, or the status has no content.
    Allowed,
    /// The head names no media type, so content is an error.
    Refused,
}

/// Result of discarding output.
pub(super) enum Discarded {
    /// More output can come.
    Part,
    /// The script has written content that it must not write.
    Refused,
    /// All output was read.
    All,
}

impl Discarding {
    /// Reads and discards output, up to the limit for one turn.
    pub(super) fn discard(&mut self, execution: &Execution, now: Instant) -> Discarded {
        let mut left = CGI_TURN_BYTES_MAX;
        loop {
            let bytes = self.stdout.unread.len();
            self.stdout.unread.clear();
            if let Some(length) = &mut self.length {
                length.used += bytes as u64;
            }
            match self.surplus {
                Surplus::Refused if bytes > 0 => return Discarded::Refused,
                Surplus::Refused | Surplus::Allowed => {}
            }
            left = left.saturating_sub(bytes);
            if left == 0 {
                return Discarded::Part;
            }
            match self.stdout.read(left) {
                Read::Bytes => {}
                Read::Nothing | Read::End if !self.stdout.is_over(execution, now) => return Discarded::Part,
                Read::Nothing | Read::End => return Discarded::All,
            }
        }
    }

    /// Returns true and logs it if the script has written content of another length than it
    /// promised.
    ///
    /// The script may send no content for HEAD although `Content-Length` describes that of GET.
    pub(super) fn has_wrong_length(&self, name: &str) -> bool {
        let Some(length) = &self.length else { return false };
        let is_wrong = length.used > 0 && length.used != length.declared;
        if is_wrong {
            length.log_mismatch(length.used, name);
        }
        is_wrong
    }
}

/// Content of a response whose head is sent.
pub(super) struct Content {
    stdout: Stdout,
    length: Option<Length>,
    flow: Flow,
}

/// State of response content.
enum Flow {
    /// The connection takes content when it has room.
    Open,
    /// The connection took all content. It is woken when there is more, or the end is known.
    Parked,
    /// All output was read. It is complete after the bytes that were not used yet.
    Complete,
    /// All output was read. It is incomplete after the bytes that were not used yet.
    Truncated,
}

impl Content {
    pub(super) fn new(stdout: Stdout, length: Option<Length>) -> Self {
        Content { stdout, length, flow: Flow::Open }
    }

    /// Returns true if the connection waits until it is woken.
    pub(super) fn is_parked(&self) -> bool {
        matches!(self.flow, Flow::Parked)
    }

    fn is_over(&self) -> bool {
        matches!(self.flow, Flow::Complete | Flow::Truncated)
    }

    /// Looks for news. Returns true if the connection waits for them: then it must be woken.
    pub(super) fn look(&mut self, execution: &Execution, now: Instant, name: &str) -> bool {
        let was_parked = self.is_parked();
        if self.stdout.is_over(execution, now) {
            self.judge(execution, name);
        } else if was_parked && self.stdout.is_ready() {
            self.flow = Flow::Open;
        }
        was_parked && !self.is_parked()
    }

    /// Takes content for the connection: see [`crate::http::BodySource::fill`].
    pub(super) fn fill(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        execution: &Execution,
        name: &str,
    ) -> FillStatus {
        if self.is_parked() {
            self.flow = Flow::Open;
        }
        let left = self.length.as_ref().map_or(usize::MAX, Length::left);
        if self.stdout.unread.is_empty() && !self.is_over() && left > 0 {
            self.stdout.read(room.clamp(1, PIECE_BYTES));
        }
        let bytes = room.max(1).min(self.stdout.unread.len()).min(left);
        out.extend(self.stdout.unread.drain(..bytes));
        if let Some(length) = &mut self.length {
            length.used += bytes as u64;
        }
        if bytes == left && !self.is_over() {
            self.complete(name);
        }
        if !self.stdout.unread.is_empty() {
            return FillStatus::More;
        }
        if self.stdout.pipe.is_none() && execution.has_exited() {
            self.judge(execution, name);
        }
        match self.flow {
            Flow::Complete => FillStatus::End,
            Flow::Truncated => FillStatus::Failed,
            Flow::Open | Flow::Parked if bytes > 0 => FillStatus::More,
            Flow::Open | Flow::Parked => {
                self.flow = Flow::Parked;
                FillStatus::Later
            }
        }
    }

    /// Decides how the content ends after all output was read, unless that is known.
    fn judge(&mut self, execution: &Execution, name: &str) {
        if self.is_over() {
            return;
        }
        let unread = self.stdout.unread.len();
        let missing = self.length.as_ref().filter(|length| unread < length.left());
        let is_broken = execution.is_broken();
        if let (Some(length), false) = (missing, is_broken) {
            length.log_mismatch(length.used + unread as u64, name);
        }
        self.flow = if missing.is_some() || is_broken { Flow::Truncated } else { Flow::Complete };
    }

    /// Ends the content after its promised length, even if the script writes more.
    fn complete(&mut self, name: &str) {
        let Some(Length { declared, .. }) = self.length else { return };
        if self.stdout.unread.is_empty() {
            self.stdout.read(1);
        }
        if !self.stdout.unread.is_empty() {
            log::warn!(target: "cgi", "{name}: more content than its Content-Length of {declared}");
            self.stdout.unread.clear();
        }
        self.flow = Flow::Complete;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::read_clocks;
    use crate::features::cgi::process::Exit;
    use std::io::{PipeWriter, Write as _, pipe};

    /// Standard output of a script that has written `text`, and the end that the script writes to.
    fn stdout(text: &str) -> (Stdout, PipeWriter) {
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        let reader = OwnedFd::from(reader);
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        (Stdout { pipe: Some(Pipe::new(reader, true)), unread: Vec::new(), grace: None }, writer)
    }

    fn running() -> Execution {
        Execution::new(OwnedFd::from(pipe().unwrap().0))
    }

    fn fill(content: &mut Content, execution: &Execution) -> (FillStatus, String) {
        let mut out = Vec::new();
        let filled = content.fill(&mut out, 100, execution, "test");
        (filled, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_parked_connection_is_woken_once_for_more_content() {
        let (stdout, mut writer) = stdout("");
        let mut content = Content::new(stdout, None);
        let (execution, now) = (running(), read_clocks().mono);
        assert!(!content.look(&execution, now, "test"), "the connection does not wait yet");
        assert_eq!(fill(&mut content, &execution), (FillStatus::Later, String::new()));
        assert!(!content.look(&execution, now, "test"), "there is no more content");
        writer.write_all(b"more").unwrap();
        content.stdout.pipe.as_mut().unwrap().is_ready = true;
        assert!(content.look(&execution, now, "test"));
        assert!(!content.look(&execution, now, "test"), "the connection is woken already");
        assert_eq!(fill(&mut content, &execution), (FillStatus::More, "more".to_owned()));
    }

    #[test]
    fn content_ends_after_a_grace_period_if_only_the_output_has_ended() {
        let (stdout, writer) = stdout("");
        let mut content = Content::new(stdout, None);
        let (execution, now) = (running(), read_clocks().mono);
        drop(writer);
        assert_eq!(fill(&mut content, &execution), (FillStatus::Later, String::new()));
        assert!(!content.look(&execution, now, "test"));
        assert_eq!(content.stdout.grace, Some(now + CGI_GRACE));
        assert!(content.look(&execution, now + CGI_GRACE, "test"));
        assert_eq!(fill(&mut content, &execution), (FillStatus::End, String::new()));
    }

    #[test]
    fn content_is_complete_by_its_length_and_the_exit_of_the_script() {
        let dying = || {
            let mut execution = running();
            execution.note_kill();
            execution
        };
        let exited = |exit| Execution::Exited(exit);
        for (declared, execution, expected) in [
            (None, exited(Exit::Code(0)), FillStatus::End),
            (None, exited(Exit::Code(1)), FillStatus::End),
            (None, exited(Exit::Unknown), FillStatus::End),
            (None, exited(Exit::Signal(9)), FillStatus::Failed),
            (None, Execution::Killed(Exit::Code(0)), FillStatus::Failed),
            (Some(5), exited(Exit::Code(0)), FillStatus::End),
            (Some(6), exited(Exit::Code(0)), FillStatus::Failed),
            // The promised bytes are a complete response, however the script ends.
            (Some(5), exited(Exit::Signal(9)), FillStatus::End),
            (Some(5), running(), FillStatus::End),
            (Some(2), running(), FillStatus::End),
            (Some(0), dying(), FillStatus::End),
        ] {
            let (stdout, writer) = stdout("hello");
            let mut content = Content::new(stdout, declared.map(Length::new));
            drop(writer);
            let mut all = String::new();
            let end = loop {
                let (filled, text) = fill(&mut content, &execution);
                all += &text;
                if filled != FillStatus::More {
                    break filled;
                }
            };
            assert_eq!(end, expected, "{declared:?}");
            assert_eq!(all.len() as u64, declared.unwrap_or(5).min(5));
        }
    }
}
