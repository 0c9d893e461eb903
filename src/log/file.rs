//! The file of the access log: opens it, reopens it and writes whole lines.
//!
//! This file must not know the queue or the writer thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::{LOG_STALL_MAX, LogTarget};

/// An open access log.
pub struct AccessLog {
    target: LogTarget,
    file: File,
    /// True if the last write ended inside a line.
    torn: bool,
    /// Longest time for which a log that accepts no bytes, such as a pipe that is not read, may
    /// block the writer thread.
    stall: Duration,
}

/// Opens the access log for appending. Call it before the server starts, so that the user sees an
/// error for an unusable path at once.
pub fn open_access_log(target: &LogTarget) -> io::Result<AccessLog> {
    let file = match target {
        // A separate descriptor has no line buffering, and no lock that other output could hold.
        LogTarget::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        LogTarget::File(path) => open_for_append(path)?,
    };
    Ok(AccessLog { target: target.clone(), file, torn: false, stall: LOG_STALL_MAX })
}

fn open_for_append(path: &Path) -> io::Result<File> {
    // This flag matters only for a named pipe: without a reader, opening it fails instead of
    // waiting.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().append(true).create(true).custom_flags(nonblocking).open(path)
}

impl AccessLog {
    /// Creates an access log on any descriptor, with a stall limit of 1 ms.
    #[cfg(test)]
    pub(super) fn over(file: impl Into<std::os::fd::OwnedFd>) -> AccessLog {
        let stall = Duration::from_millis(1);
        AccessLog { target: LogTarget::Stdout, file: File::from(file.into()), torn: false, stall }
    }

    pub(super) fn name(&self) -> String {
        match &self.target {
            LogTarget::Stdout => "standard output".into(),
            LogTarget::File(path) => format!("'{}'", path.display()),
        }
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let LogTarget::File(path) = &self.target {
            self.file = open_for_append(path)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Writes whole lines. On failure returns the number of lost lines. If a full disk cut a line
    /// off, the next write ends that line first, so that no other line is damaged.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), (io::Error, u64)> {
        if self.torn {
            self.write_all(&mut &b"\n"[..]).map_err(|error| (error, count_lines(lines)))?;
        }
        let mut left = lines;
        self.write_all(&mut left).map_err(|error| (error, count_lines(left)))
    }

    fn write_all(&mut self, left: &mut &[u8]) -> io::Result<()> {
        let mut stalled = false;
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = left[written - 1] != b'\n';
                    *left = &left[written..];
                    stalled = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Standard output may be a pipe that another process has made non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stalled => {
                    self.wait_writable();
                    stalled = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_writable(&self) {
        let timeout = Timespec {
            tv_sec: self.stall.as_secs().cast_signed(),
            tv_nsec: self.stall.subsec_nanos().into(),
        };
        // The result does not matter, because the next write reports any error.
        let _ = poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&timeout));
    }
}

pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_is_an_error_at_once() {
        for path in ["/nonexistent/log", "/"] {
            assert!(open_access_log(&LogTarget::File(path.into())).is_err());
        }
    }

    #[test]
    fn a_named_pipe_without_a_reader_does_not_hold_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        assert!(open_access_log(&LogTarget::File(path)).is_err());
    }

    /// A disk fills up inside a line: the next line that fits must start on a line of its own.
    #[test]
    fn a_torn_line_spoils_no_other() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut log = AccessLog::over(writer);
        let long = [b"x".repeat(200_000), b"\n".to_vec()].concat();
        let (error, lost) = log.write(&long).unwrap_err();
        assert_eq!((error.kind(), lost), (io::ErrorKind::WouldBlock, 1));
        let mut reader = File::from(reader);
        let mut drained = vec![0; 1 << 20];
        let taken = io::Read::read(&mut reader, &mut drained).unwrap();
        assert!(drained[..taken].iter().all(|byte| *byte == b'x'));
        log.write(b"next\n").unwrap();
        let taken = io::Read::read(&mut reader, &mut drained).unwrap();
        assert_eq!(&drained[..taken], b"\nnext\n");
    }
}
