//! What the pump needs of a stream. This file must not know which kinds of streams there are.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::clock::Now;
use crate::driver::SCRATCH_SMALL_BYTES;

/// A byte stream between two sockets. Non-blocking in the reactor; in the twin, `read` may wait.
pub trait Stream {
    /// Reads what is there; 0 is the end of input.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// The same into room in which nothing is yet, and gives back what it has read. The twin has
    /// its own way to do that: a loop's room is cleared once for good, but a thread would clear its
    /// stack for each read.
    fn read_raw<'a>(&mut self, room: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a [u8]> {
        let mut into = [0; SCRATCH_SMALL_BYTES];
        let most = room.len().min(into.len());
        let bytes = self.read(&mut into[..most])?;
        Ok(room[..bytes].write_copy_of_slice(&into[..bytes]))
    }
    /// Writes the slices in order. `more` says that a file follows at once.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize>;
    /// Sends a part of a file, in the kernel. Says `Cold` where that would wait for the disk,
    /// unless it `may_wait`.
    fn send_file(&mut self, fd: &OwnedFd, part: FilePart, may_wait: bool) -> io::Result<SentFile>;
    /// Shuts the sending side: the peer reads the end of input.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// Makes the coming close a reset, so that the kernel drops what it still holds for the peer.
    fn reset_on_close(&mut self);
    /// The time as it is now, since 1970. A line of the access log asks: the driver's clock stands
    /// still while a handler works.
    fn wall_clock(&mut self) -> Duration;
    /// The time, if the last read waited so long that the driver's is out of date: only the twin's
    /// does.
    fn woke_at(&mut self) -> Option<Now> {
        None
    }
}

/// What a `send_file` call achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentFile {
    /// This many bytes. Fewer than asked for say nothing about the socket: ask again, until
    /// would-block.
    Bytes(u64),
    /// The file ended before the range did.
    Ended,
    /// The disk would have to be asked first, and the caller may not wait. Nothing was sent.
    Cold,
}

/// What to send of a file.
#[derive(Clone, Copy, Debug)]
pub struct FilePart {
    /// First byte.
    pub offset: u64,
    /// How many bytes in this call.
    pub len: u64,
    /// How many are to be sent in all, with those of later calls.
    pub left: u64,
}

impl FilePart {
    pub(super) fn range(self) -> Range<u64> {
        self.offset..self.offset + self.len
    }
}
