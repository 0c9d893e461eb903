//! When to accept: which listeners have clients waiting, and when to leave them waiting.
//!
//! An edge-triggered listener speaks once. If we stop before would-block (the turn's limit, no
//! descriptors, no slots) nobody will tell us again, so what is left undrained is remembered here.
//! Pure bookkeeping: the calls are the reactor's.

use std::time::{Duration, Instant};

/// How long to wait before another try when descriptors or slots have run out and no connection
/// closes.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What is known of the listeners.
#[derive(Debug)]
pub(crate) struct Listeners {
    undrained: Vec<bool>,
    paused_until: Option<Instant>,
}

impl Listeners {
    /// All may have clients waiting: they were bound before the poll knew them.
    pub(crate) fn new(count: usize) -> Self {
        Listeners { undrained: vec![true; count], paused_until: None }
    }

    /// The kernel reported a client.
    pub(crate) fn ready(&mut self, listener: usize) {
        if let Some(undrained) = self.undrained.get_mut(listener) {
            *undrained = true;
        }
    }

    /// Accepting from it would block.
    pub(crate) fn drained(&mut self, listener: usize) {
        if let Some(undrained) = self.undrained.get_mut(listener) {
            *undrained = false;
        }
    }

    /// No descriptor or no slot is left: no edge will come when there is one again.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + RETRY_AFTER);
    }

    /// A connection has closed: worth another try.
    pub(crate) fn resume(&mut self) {
        self.paused_until = None;
    }

    /// A listener to accept from now, if any.
    pub(crate) fn next(&self, now: Instant) -> Option<usize> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.undrained.iter().position(|&undrained| undrained)
    }

    /// When there is something to accept without any event; `None` if only an event can tell.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.undrained.contains(&true) {
            return None;
        }
        Some(self.paused_until.unwrap_or(now))
    }
}
