//! The buffer that collects the access lines of one loop or thread before they go to the queue.
//!
//! This file must not know the log file or the writer thread.

use std::time::Instant;

use crate::config::{LOG_BUFFER_AGE, LOG_BUFFER_BYTES, LogFormat};
use crate::log::entry::{AccessEntry, format_entry};
use crate::log::writer::{LogQueue, Message};

/// Access lines of one loop, or of one thread of the twin, before they go to the queue. The buffer
/// allocates about 24 KiB with its first line and keeps that memory.
pub struct AccessBuffer {
    queue: LogQueue,
    format: LogFormat,
    lines: Vec<u8>,
    oldest: Option<Instant>,
}

impl AccessBuffer {
    /// Creates an empty buffer that sends its lines to `queue`.
    pub fn new(queue: LogQueue, format: LogFormat) -> AccessBuffer {
        AccessBuffer { queue, format, lines: Vec::new(), oldest: None }
    }

    /// Appends one line, and sends all lines when they fill the buffer. Otherwise call
    /// [`AccessBuffer::flush`] at [`AccessBuffer::due`].
    pub fn append(&mut self, entry: &AccessEntry<'_>, now: Instant) {
        if self.lines.capacity() == 0 {
            // Half as much again, so that the line that exceeds the limit seldom makes the buffer
            // grow.
            self.lines.reserve(LOG_BUFFER_BYTES + LOG_BUFFER_BYTES / 2);
        }
        self.oldest.get_or_insert(now);
        format_entry(self.format, entry, &mut self.lines);
        if self.lines.len() >= LOG_BUFFER_BYTES {
            self.flush();
        }
    }

    /// Returns the time at which the oldest line must be sent; `None` if there is no line.
    pub fn due(&self) -> Option<Instant> {
        self.oldest.map(|oldest| oldest + LOG_BUFFER_AGE)
    }

    /// Sends all lines. Call it when due, and once more when the loop ends.
    pub fn flush(&mut self) {
        self.hand_over(Message::Access);
    }

    /// Sends all lines before they are due. The writer collects them with lines of other threads.
    /// For a thread that waits for its only client and could not call [`AccessBuffer::flush`] in
    /// time.
    pub fn flush_early(&mut self) {
        self.hand_over(Message::Gather);
    }

    fn hand_over(&mut self, message: fn(Vec<u8>) -> Message) {
        self.oldest = None;
        if !self.lines.is_empty() {
            let lines = std::mem::take(&mut self.lines);
            self.lines = self.queue.hand_over(lines, message).unwrap_or_default();
        }
    }
}

impl Drop for AccessBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogTarget;
    use crate::log::file::{AccessLog, count_lines, open_access_log};
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn entry() -> AccessEntry<'static> {
        AccessEntry {
            peer: None,
            user: None,
            clf_time: b"-",
            request_line: b"GET / HTTP/1.1",
            host: None,
            refused: None,
            status: 200,
            body_bytes: 1,
            referer: None,
            user_agent: None,
            duration_us: 1,
        }
    }

    fn queue(access: AccessLog) -> LogQueue {
        LogQueue::with_print(Some(access), Box::new(|_, _, _| Ok(())))
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn some_instant() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_buffer_goes_when_it_is_full_or_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let queue = queue(open_access_log(&LogTarget::File(path.clone())).unwrap());
        let mut buffer = AccessBuffer::new(queue.clone(), LogFormat::Common);
        let start = some_instant();
        assert_eq!(buffer.due(), None);
        buffer.append(&entry(), start);
        buffer.append(&entry(), start + Duration::from_millis(50));
        assert_eq!(buffer.due(), Some(start + LOG_BUFFER_AGE), "the oldest line counts");
        buffer.flush();
        assert_eq!(buffer.due(), None);
        assert!(queue.flush(PATIENCE));
        assert_eq!(count_lines(&std::fs::read(&path).unwrap()), 2);

        let mut appended = 2;
        loop {
            buffer.append(&entry(), start);
            appended += 1;
            if buffer.due().is_none() {
                break;
            }
        }
        assert!(queue.flush(PATIENCE));
        let written = std::fs::read(&path).unwrap();
        assert_eq!(count_lines(&written), appended);
        assert!(written.len() > LOG_BUFFER_BYTES);

        buffer.append(&entry(), start);
        drop(buffer);
        assert!(queue.flush(PATIENCE));
        assert_eq!(count_lines(&std::fs::read(&path).unwrap()), appended + 1);
    }

    #[test]
    fn a_line_that_no_other_joins_is_written_in_time() {
        let (reader, file) = UnixDatagram::pair().unwrap();
        reader.set_read_timeout(Some(PATIENCE)).unwrap();
        let queue = queue(AccessLog::over(file));
        let mut buffer = AccessBuffer::new(queue, LogFormat::Common);
        for _ in 0..2 {
            buffer.append(&entry(), some_instant());
            buffer.flush_early();
            assert!(reader.recv(&mut [0; 1024]).unwrap() > 0);
        }
    }
}
