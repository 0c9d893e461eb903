//! The trait that the pump requires of a stream. This file must not know which kinds of streams
//! there are.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::time::Duration;

use crate::clock::Now;
use crate::driver::SCRATCH_SMALL_BYTES;
use crate::driver::decision::Decision;
use crate::http::open_file::Fd;
use crate::http::send_queue::More;

/// A connected byte stream. In the reactor it never blocks; in the threads model, `read` may wait.
pub trait Stream {
    /// Reads available bytes. Returns 0 at the end of input.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Reads into uninitialised memory and returns the part that was read. Only the threads model
    /// overrides this: a loop clears its read buffer once, but a thread would clear its stack for
    /// each read.
    fn read_raw<'a>(&mut self, room: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a [u8]> {
        let mut into = [0; SCRATCH_SMALL_BYTES];
        let most = room.len().min(into.len());
        let bytes = self.read(&mut into[..most])?;
        Ok(room[..bytes].write_copy_of_slice(&into[..bytes]))
    }
    /// Writes the slices in order.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>], more: More) -> io::Result<usize>;
    /// Sends a part of a file without copying it to user space.
    fn send_file(&mut self, fd: &Fd, part: FilePart, if_cold: IfCold) -> io::Result<SentFile>;
    /// Shuts the sending side, so that the peer reads the end of input.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// Makes the coming close a reset, so that the kernel drops unsent bytes.
    fn reset_on_close(&mut self);
    /// Returns the current time since 1970 for a line of the access log. The time of the driver
    /// does not advance while a handler works.
    fn wall_clock(&mut self) -> Duration;
    /// Returns the time if the last read waited so long that the time of the driver is out of date.
    /// Only reads in the threads model wait.
    fn woke_at(&mut self) -> Option<Now> {
        None
    }
    /// Returns true if the pump must make this decision wrongly. Only the simulator does so.
    #[inline(always)]
    fn is_wrong(&self, _decision: Decision) -> bool {
        false
    }
}

/// Action of [`Stream::send_file`] for a part of a file that is not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfCold {
    /// Wait for the disk. The part is not checked.
    Wait,
    /// Send nothing and return [`SentFile::Cold`]. The threads model waits here, too.
    Return,
}

/// The result of [`Stream::send_file`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentFile {
    /// This number of bytes was sent. Fewer than requested do not mean that the socket is full:
    /// call again until would-block.
    Bytes(u64),
    /// The file ended before the range did.
    Ended,
    /// The part is not in memory, and the caller may not wait for the disk. Nothing was sent.
    Cold,
}

/// A part of a file to send.
#[derive(Clone, Copy, Debug)]
pub struct FilePart {
    /// Position of the first byte.
    pub offset: u64,
    /// Number of bytes for this call.
    pub len: u64,
    /// Number of bytes for this and all later calls.
    pub left: u64,
}

impl FilePart {
    /// Returns the byte range of this call.
    pub(super) fn range(self) -> Range<u64> {
        self.offset..self.offset + self.len
    }
}
