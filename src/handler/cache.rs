//! A cache that a driver keeps for handlers from one request to the next, so that handlers hold no
//! lock.
//!
//! `docroot::cache` implements this for files. Must not know the cached values.

use std::any::Any;

use crate::clock::Instant;

/// A cache that a driver owns and lends to handlers through the
/// [`Context`](crate::handler::Context).
pub trait DriverCache: Any + Send {
    /// Returns when [`DriverCache::sweep`] is due. `None` while the cache is empty.
    fn next_sweep(&mut self) -> Option<Instant>;

    /// Drops entries that were not used for a while. Call it when [`DriverCache::next_sweep`] has
    /// passed.
    fn sweep(&mut self, now: Instant);

    /// Memory in use, in bytes.
    fn bytes(&self) -> usize;

    /// The cache as its own type, for the handlers that fill it.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// No cache: for drivers whose handlers serve no files.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

impl DriverCache for NoCache {
    fn next_sweep(&mut self) -> Option<Instant> {
        None
    }

    fn sweep(&mut self, _now: Instant) {}

    fn bytes(&self) -> usize {
        0
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
