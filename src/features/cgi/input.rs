//! Request content on its way to a script: content waiting in memory and in files, and the pipe to
//! standard input.
//!
//! Must not know how the script responds.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::config::KIB;
use crate::features::cgi::process::Pipe;
use crate::handler::Context;
use crate::handler::offload::{Offloaded, Producer};
use crate::handler::spool::{Beside, Spooled};
use crate::http::send_queue::OpenFile;
use crate::http::{BodySource, Filled};

/// Amount of waiting content that is read at a time, in bytes: the capacity of a pipe.
pub(super) const PIECE_BYTES: usize = 64 * KIB;

/// Request content and the pipe it is written to.
pub(super) struct Input {
    pub(super) stdin: Option<Pipe>,
    /// Content in memory that is written next.
    pending: Pending,
    /// Content after that: content collected before the start, and content spooled while the script
    /// did not read.
    rest: VecDeque<Beside<Box<dyn BodySource>>>,
    has_ended: bool,
}

/// Error: spooled content cannot be read back.
pub(super) struct ContentLost;

impl Input {
    pub(super) fn new(stdin: Option<OwnedFd>) -> Self {
        Input {
            // A new pipe is writable.
            stdin: stdin.map(|fd| Pipe::new(fd, true)),
            pending: Pending::default(),
            rest: VecDeque::new(),
            has_ended: false,
        }
    }

    /// Returns true if no content is waiting.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.rest().is_empty() && self.rest.is_empty()
    }

    /// Length of the content in memory that the pipe has not accepted, in bytes.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.rest().len()
    }

    /// Appends a piece of content.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.pending.push(piece);
    }

    /// Marks the end of the content.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    /// Writes as much content as the pipe accepts.
    pub(super) fn feed(&mut self) -> Result<(), ContentLost> {
        loop {
            if self.stdin.is_none() || (self.pending.rest().is_empty() && !self.refill()?) {
                return Ok(());
            }
            let Some(stdin) = self.stdin.as_mut().filter(|stdin| stdin.is_ready) else { return Ok(()) };
            match rustix::io::write(&*stdin.fd, self.pending.rest()) {
                Ok(bytes) => self.pending.handed_on(bytes),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => stdin.is_ready = false,
                // The script closed its end: it has read enough, or has ended.
                Err(_) => self.close(),
            }
        }
    }

    /// Loads more content. Closes the pipe at the end of the content.
    fn refill(&mut self) -> Result<bool, ContentLost> {
        let pending = self.pending.emptied();
        while pending.is_empty() {
            let Some(rest) = self.rest.front_mut().and_then(Beside::get) else {
                if self.has_ended {
                    self.close();
                }
                return Ok(false);
            };
            match rest.fill(pending, PIECE_BYTES) {
                Filled::More => {}
                // The source wakes the connection when it has more.
                Filled::Later => return Ok(!pending.is_empty()),
                Filled::End => drop(self.rest.pop_front()),
                Filled::Failed => {
                    log::warn!(target: "cgi", "content cannot be read back from its file");
                    self.close();
                    return Err(ContentLost);
                }
            }
        }
        Ok(true)
    }

    /// Closes the pipe and discards waiting content.
    pub(super) fn close(&mut self) {
        self.stdin = None;
        self.rest.clear();
        self.pending = Pending::default();
    }

    /// Queues spooled content after the content that is already waiting.
    pub(super) fn queue(&mut self, mut content: Spooled, cx: &Context<'_>) {
        if self.stdin.is_none() {
            return;
        }
        let file = content.take_file();
        let memory = content.take_memory();
        let source: Box<dyn BodySource> = match file {
            None if self.rest.is_empty() => return self.pending.push(&memory),
            None => Box::new(Tail(memory)),
            Some((file, bytes)) => {
                Box::new(Offloaded::new(Reader { file, at: 0, bytes, behind: memory }, cx))
            }
        };
        self.rest.push_back(Beside::new(source, cx.spawner()));
    }
}

/// Content in memory. The bytes before `at` have been written.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    at: usize,
}

impl Pending {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Appends a piece.
    ///
    /// Written bytes are removed, or a script that always leaves some content would make us keep
    /// everything. At most as many bytes are moved as were written, because otherwise small pieces
    /// after a long rest would move that rest again and again.
    fn push(&mut self, piece: &[u8]) {
        if self.at >= self.rest().len() {
            self.bytes.drain(..std::mem::take(&mut self.at));
        }
        self.bytes.extend_from_slice(piece);
    }

    fn handed_on(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Clears the buffer and returns it for reuse.
    fn emptied(&mut self) -> &mut Vec<u8> {
        self.at = 0;
        self.bytes.clear();
        &mut self.bytes
    }
}

/// Content in memory that follows other content.
struct Tail(Vec<u8>);

impl BodySource for Tail {
    fn fill(&mut self, out: &mut Vec<u8>, _: usize) -> Filled {
        out.append(&mut self.0);
        Filled::End
    }
}

/// Reads spooled content back: the file, then the bytes after it. Blocks: for worker threads.
struct Reader {
    file: OpenFile,
    at: u64,
    bytes: u64,
    behind: Vec<u8>,
}

impl Producer for Reader {
    fn produce(&mut self, out: &mut Vec<u8>) -> Filled {
        let left = usize::try_from(self.bytes - self.at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        if left == 0 {
            out.append(&mut self.behind);
            return Filled::End;
        }
        let before = out.len();
        out.resize(before + left, 0);
        let got = loop {
            match rustix::io::pread(self.file.fd(), &mut out[before..], self.at) {
                Err(Errno::INTR) => {}
                got => break got.unwrap_or(0),
            }
        };
        out.truncate(before + got);
        self.at += got as u64;
        if got == 0 { Filled::Failed } else { Filled::More }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: for a script that read small amounts and never everything, all content that it
    /// had read was kept.
    #[test]
    fn content_that_was_handed_on_is_not_kept() {
        let mut pending = Pending::default();
        pending.push(&[1; 1000]);
        for round in 0..1000 {
            let value = pending.rest()[0];
            pending.handed_on(1000);
            pending.push(&[value.wrapping_add(1); 1000]);
            pending.push(&[]);
            assert_eq!(pending.rest(), [value.wrapping_add(1); 1000], "round {round}");
            pending.handed_on(1);
            pending.push(&[value.wrapping_add(1)]);
        }
        assert!(pending.bytes.capacity() < 10_000, "{} bytes", pending.bytes.capacity());
        pending.emptied().push(7);
        assert_eq!(pending.rest(), [7]);
    }
}
