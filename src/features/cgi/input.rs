//! The way of request content to a program: what waits in memory and in files, and its standard
//! input.
//!
//! Must not know what the program does with it, or answers.

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

/// Content that waits is handed on by this much at a time, in bytes: what a pipe holds.
pub(super) const PIECE_BYTES: usize = 64 * KIB;

/// Request content, and the pipe that it goes through.
pub(super) struct Input {
    pub(super) stdin: Option<Pipe>,
    /// Content on its way in.
    pending: Pending,
    /// Content behind that: what was here at the start, and what was kept while the program did not
    /// read.
    rest: VecDeque<Beside<Box<dyn BodySource>>>,
    has_ended: bool,
}

/// Content that was kept in a file cannot be read back.
pub(super) struct ContentLost;

impl Input {
    pub(super) fn new(stdin: Option<OwnedFd>) -> Self {
        Input {
            // A fresh pipe has room.
            stdin: stdin.map(|fd| Pipe::new(fd, true)),
            pending: Pending::default(),
            rest: VecDeque::new(),
            has_ended: false,
        }
    }

    /// True if no content waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.rest().is_empty() && self.rest.is_empty()
    }

    /// Content in memory that the pipe has not taken, in bytes.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.rest().len()
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        self.pending.push(piece);
    }

    /// No more content comes.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    /// Hands on as much content as its pipe takes.
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
                // It has shut its end: it has read enough, or is gone.
                Err(_) => self.close(),
            }
        }
    }

    /// Has more content at hand; closes the pipe at its end.
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
                // The connection is woken when there is more, and we are asked again.
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

    pub(super) fn close(&mut self) {
        self.stdin = None;
        self.rest.clear();
        self.pending = Pending::default();
    }

    /// Puts content behind what is on its way in already.
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
        self.rest.push_back(Beside::new(source, cx.errands()));
    }
}

/// Content on its way in: what stands before `at` has been handed on.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    at: usize,
}

impl Pending {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Adds a piece. A program that always leaves some would have us keep all that it has read; but
    /// no more is moved than was handed on, or small pieces behind a long rest would move that
    /// again and again.
    fn push(&mut self, piece: &[u8]) {
        if self.at >= self.rest().len() {
            self.bytes.drain(..std::mem::take(&mut self.at));
        }
        self.bytes.extend_from_slice(piece);
    }

    fn handed_on(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Its room, for another piece: nothing in it is needed any more.
    fn emptied(&mut self) -> &mut Vec<u8> {
        self.at = 0;
        self.bytes.clear();
        &mut self.bytes
    }
}

/// Content in memory that stands behind other content.
struct Tail(Vec<u8>);

impl BodySource for Tail {
    fn fill(&mut self, out: &mut Vec<u8>, _: usize) -> Filled {
        out.append(&mut self.0);
        Filled::End
    }
}

/// Reads kept content back: what is in the file, then what stands behind it. Blocks: for the
/// workers.
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

    /// A program that read a little at a time and was never done with all of it had all that it had
    /// read kept, too.
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
