//! The type of the access log in builds without an operating system, where there is none.

use crate::clock::Instant;
use crate::log::AccessEntry;

/// An access log that cannot be created.
#[derive(Debug)]
pub enum AccessBuffer {}

impl AccessBuffer {
    /// Appends the line of a request.
    pub fn append(&mut self, _entry: &AccessEntry<'_>, _now: Instant) {
        match *self {}
    }

    /// When to flush.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match *self {}
    }

    /// Sends the gathered lines to the writer.
    pub fn flush(&mut self) {
        match *self {}
    }
}
