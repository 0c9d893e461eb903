//! An open file as an opaque value that a response contains and a driver sends.
//!
//! [`Fd`] is the one name for a descriptor in the code that also compiles without an operating
//! system. This file must not know how files are opened or read.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// A file descriptor.
#[cfg(feature = "os")]
pub type Fd = std::os::fd::OwnedFd;

/// Stands for a file descriptor in builds without an operating system.
#[cfg(not(feature = "os"))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fd;

/// Time for which a range counts as still in memory. A cached file counts as fresh for the same
/// time.
const IN_MEMORY_FOR: Duration = Duration::from_millis(1);

/// An open file as an opaque value, with an optional lease that lives as long as the file is sent.
pub struct OpenFile {
    fd: Fd,
    _lease: Option<Box<dyn Send + Sync>>,
    /// Range that the kernel had in memory at the last check, and the time of that check.
    in_memory: Mutex<Option<(Range<u64>, Instant)>>,
}

impl OpenFile {
    /// A file without a lease.
    #[must_use]
    pub fn new(fd: Fd) -> Self {
        OpenFile { fd, _lease: None, in_memory: Mutex::default() }
    }

    /// A file with a lease. `lease` is dropped when no queue contains the file any more.
    #[must_use]
    pub fn leased(fd: Fd, lease: Box<dyn Send + Sync>) -> Self {
        OpenFile { fd, _lease: Some(lease), in_memory: Mutex::default() }
    }

    /// Descriptor of the file.
    #[must_use]
    pub fn fd(&self) -> &Fd {
        &self.fd
    }

    /// True if the kernel had `part` in memory a moment ago. So a file that is requested often need
    /// not be checked for each request.
    pub(crate) fn was_in_memory(&self, part: &Range<u64>, now: Instant) -> bool {
        let seen = self.in_memory.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().is_some_and(|(seen, at)| {
            seen.start <= part.start && part.end <= seen.end && now < *at + IN_MEMORY_FOR
        })
    }

    /// Records that the kernel has `part` in memory.
    pub(crate) fn note_in_memory(&self, part: Range<u64>, now: Instant) {
        *self.in_memory.lock().unwrap_or_else(PoisonError::into_inner) = Some((part, now));
    }
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenFile({:?})", self.fd)
    }
}
