//! Request content on its way to a script: states of this half of a run, content waiting in memory
//! and in files, and the pipe to standard input.
//!
//! The header of `run.rs` lists the transitions. Must not know how the script responds.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::features::cgi::process::{PIECE_BYTES, Pipe};
use crate::handler::Context;
use crate::handler::offload::{Offloaded, Producer};
use crate::handler::spool::{DropOffLoop, Spooled};
use crate::http::open_file::OpenFile;
use crate::http::{BodySource, FillStatus};

/// State of the half of a run that passes request content on to the script.
pub(super) enum Input {
    /// The connection passes content on as it arrives.
    Feeding(Unwritten),
    /// The limit of pending content is reached. The connection waits until all of it is written.
    Draining(Unwritten),
    /// The script writes without reading. The connection spools the rest of the content to a file.
    Spooling(Unwritten),
    /// All content has arrived. The connection waits for the response.
    Rest(Unwritten),
    /// The pipe is closed, but the connection still brings content, which is discarded.
    Unwanted,
    /// The pipe is closed, and the connection waits for the response.
    Closed,
}

/// Error: spooled content cannot be read back.
pub(super) struct ContentLost;

impl Input {
    /// The first state. A request without content has no pipe.
    pub(super) fn new(stdin: Option<OwnedFd>, content: Initial, cx: &Context<'_>) -> Self {
        let Some(stdin) = stdin else { return Input::Closed };
        let mut unwritten = Unwritten::new(stdin);
        match content {
            Initial::Part(content) => {
                unwritten.queue(content, cx);
                Input::Draining(unwritten)
            }
            Initial::Whole(content) => {
                if let Some(content) = content {
                    unwritten.queue(content, cx);
                }
                Input::Rest(unwritten)
            }
        }
    }

    fn unwritten(&self) -> Option<&Unwritten> {
        match self {
            Input::Feeding(unwritten)
            | Input::Draining(unwritten)
            | Input::Spooling(unwritten)
            | Input::Rest(unwritten) => Some(unwritten),
            Input::Unwanted | Input::Closed => None,
        }
    }

    fn unwritten_mut(&mut self) -> Option<&mut Unwritten> {
        match self {
            Input::Feeding(unwritten)
            | Input::Draining(unwritten)
            | Input::Spooling(unwritten)
            | Input::Rest(unwritten) => Some(unwritten),
            Input::Unwanted | Input::Closed => None,
        }
    }

    pub(super) fn pipe(&self) -> Option<&Pipe> {
        self.unwritten().map(|unwritten| &unwritten.pipe)
    }

    pub(super) fn pipe_mut(&mut self) -> Option<&mut Pipe> {
        self.unwritten_mut().map(|unwritten| &mut unwritten.pipe)
    }

    /// Length of the content in memory that the pipe has not accepted, in bytes.
    pub(super) fn pending_bytes(&self) -> usize {
        self.unwritten().map_or(0, |unwritten| unwritten.pending.rest().len())
    }

    /// Moves to a state that the connection causes: `next` with the same content, or `Closed` if
    /// the pipe is closed.
    pub(super) fn move_to(&mut self, next: fn(Unwritten) -> Input) {
        *self = match std::mem::replace(self, Input::Closed) {
            Input::Feeding(unwritten)
            | Input::Draining(unwritten)
            | Input::Spooling(unwritten)
            | Input::Rest(unwritten) => next(unwritten),
            Input::Unwanted | Input::Closed => Input::Closed,
        };
    }

    /// Queues spooled content after the content that is already waiting. Drops it if the pipe is
    /// closed.
    pub(super) fn queue(&mut self, content: Spooled, cx: &Context<'_>) {
        if let Some(unwritten) = self.unwritten_mut() {
            unwritten.queue(content, cx);
        }
    }

    /// Writes as much content as the pipe accepts. Closes the pipe after the last content, and if
    /// the script has closed its end. After an error the pipe is open: kill the script, then close
    /// the pipe.
    pub(super) fn feed(&mut self) -> Result<(), ContentLost> {
        let Some(unwritten) = self.unwritten_mut() else { return Ok(()) };
        match unwritten.write()? {
            Wrote::All if matches!(self, Input::Rest(_)) => *self = Input::Closed,
            Wrote::Part | Wrote::All => {}
            Wrote::Refused => self.close_pipe(),
        }
        Ok(())
    }

    /// Closes the pipe and discards waiting content.
    pub(super) fn close_pipe(&mut self) {
        *self = match self {
            Input::Feeding(_) | Input::Spooling(_) | Input::Unwanted => Input::Unwanted,
            Input::Draining(_) | Input::Rest(_) | Input::Closed => Input::Closed,
        };
    }
}

/// Content that has arrived when a script is started.
pub(crate) enum Initial {
    /// All content, if there is any.
    Whole(Option<Spooled>),
    /// The first part. The rest is read once the script has received it.
    Part(Spooled),
}

/// Content that waits for the script, and the pipe that it is written to.
pub(super) struct Unwritten {
    pipe: Pipe,
    /// Content in memory that is written next.
    pending: Pending,
    /// Content after that: content collected before the start, and content spooled while the script
    /// did not read.
    rest: VecDeque<DropOffLoop<Box<dyn BodySource>>>,
}

/// Result of writing content.
enum Wrote {
    /// Content remains. The pipe is full, or the content is still being read back.
    Part,
    /// No content remains.
    All,
    /// The script has closed its standard input: it has read enough, or has ended.
    Refused,
}

/// Result of loading content.
enum Loaded {
    Bytes,
    /// The source wakes the connection when it has more.
    Later,
    Nothing,
}

impl Unwritten {
    fn new(stdin: OwnedFd) -> Self {
        // A new pipe is writable.
        Unwritten { pipe: Pipe::new(stdin, true), pending: Pending::default(), rest: VecDeque::new() }
    }

    /// Returns true if no content is waiting.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.rest().is_empty() && self.rest.is_empty()
    }

    /// Returns true if the pipe is known to accept content.
    pub(super) fn has_room(&self) -> bool {
        self.pipe.is_ready
    }

    /// Appends a piece of content.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.pending.push(piece);
    }

    fn write(&mut self) -> Result<Wrote, ContentLost> {
        loop {
            if self.pending.rest().is_empty() {
                match self.load()? {
                    Loaded::Bytes => {}
                    Loaded::Later => return Ok(Wrote::Part),
                    Loaded::Nothing => return Ok(Wrote::All),
                }
            }
            if !self.pipe.is_ready {
                return Ok(Wrote::Part);
            }
            match rustix::io::write(&*self.pipe.fd, self.pending.rest()) {
                Ok(bytes) => self.pending.handed_on(bytes),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.pipe.is_ready = false,
                Err(_) => return Ok(Wrote::Refused),
            }
        }
    }

    /// Loads content into memory, which holds none.
    fn load(&mut self) -> Result<Loaded, ContentLost> {
        let pending = self.pending.emptied();
        while pending.is_empty() {
            let Some(rest) = self.rest.front_mut().and_then(DropOffLoop::get) else {
                return Ok(Loaded::Nothing);
            };
            match rest.fill(pending, PIECE_BYTES) {
                FillStatus::More => {}
                FillStatus::Later if pending.is_empty() => return Ok(Loaded::Later),
                FillStatus::Later => return Ok(Loaded::Bytes),
                FillStatus::End => drop(self.rest.pop_front()),
                FillStatus::Failed => {
                    log::warn!(target: "cgi", "content cannot be read back from its file");
                    return Err(ContentLost);
                }
            }
        }
        Ok(Loaded::Bytes)
    }

    /// Queues spooled content after the content that is already waiting.
    fn queue(&mut self, mut content: Spooled, cx: &Context<'_>) {
        let file = content.take_file();
        let memory = content.take_memory();
        let source: Box<dyn BodySource> = match file {
            None if self.rest.is_empty() => return self.pending.push(&memory),
            None => Box::new(Tail(memory)),
            Some((file, bytes)) => {
                Box::new(Offloaded::new(Reader { file, at: 0, bytes, behind: memory }, cx))
            }
        };
        self.rest.push_back(DropOffLoop::new(source, cx.spawner()));
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
    fn fill(&mut self, out: &mut Vec<u8>, _: usize) -> FillStatus {
        out.append(&mut self.0);
        FillStatus::End
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
    fn produce(&mut self, out: &mut Vec<u8>) -> FillStatus {
        let left = usize::try_from(self.bytes - self.at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        if left == 0 {
            out.append(&mut self.behind);
            return FillStatus::End;
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
        if got == 0 { FillStatus::Failed } else { FillStatus::More }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_closed_when_the_connection_waits_and_the_script_reads_no_more() {
        type Next = fn(Unwritten) -> Input;
        for (state, is_unwanted) in [
            (Input::Feeding as Next, true),
            (Input::Spooling, true),
            (Input::Draining, false),
            (Input::Rest, false),
        ] {
            let (reader, writer) = std::io::pipe().unwrap();
            let mut unwritten = Unwritten::new(writer.into());
            unwritten.push(b"content");
            let mut input = state(unwritten);
            drop(reader);
            assert!(input.feed().is_ok());
            assert_eq!(matches!(input, Input::Unwanted), is_unwanted);
            assert!(input.pipe().is_none());
            input.move_to(Input::Rest);
            assert!(matches!(input, Input::Closed));
        }
    }

    #[test]
    fn the_pipe_is_closed_after_the_last_content() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let mut input = Input::Feeding(Unwritten::new(writer.into()));
        assert!(input.feed().is_ok());
        assert!(matches!(input, Input::Feeding(_)), "more content can arrive");
        input.move_to(Input::Rest);
        assert!(matches!(input, Input::Rest(_)));
        assert!(input.feed().is_ok());
        assert!(matches!(input, Input::Closed));
    }

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
