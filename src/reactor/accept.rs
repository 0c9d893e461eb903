//! When to accept, and how: which listeners have clients waiting, and when to leave them waiting.
//!
//! An edge-triggered listener speaks once. If we stop before would-block (the turn's limit, no
//! descriptors, no slots) nobody will tell us again, so what is left undrained is remembered here.
//! Pure bookkeeping: the calls are the reactor's.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::conn_id::Peer;
use crate::driver::client::Client;
use crate::observe::Observer;
use crate::reactor::Reactor;
use crate::reactor::os::Os;
use crate::shortage;

impl<S: Os, O: Observer> Reactor<S, O> {
    pub(super) fn accept(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.accept_some();
        self.finish_batch();
    }

    pub(super) fn accept_some(&mut self) {
        let now = self.driver.now.mono;
        for _ in 0..self.driver.config.limits.accepts_per_turn {
            let Some(listener) = self.listeners.next(now) else { return };
            if self.slots.len() >= self.connections_max {
                // Nobody is sent away for a client that is not there.
                if !self.os.has_client(listener) {
                    self.listeners.drained(listener);
                    continue;
                }
                if !self.make_room() {
                    return self.listeners.pause(now);
                }
            }
            match self.os.accept(listener) {
                Ok((stream, peer)) => self.adopt(stream, peer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.listeners.drained(listener),
                // The idlest makes room for the client that waits.
                Err(error) if is_exhaustion(&error) && self.close_idlest() => self.free_closed(),
                Err(error) if is_exhaustion(&error) => {
                    shortage::report();
                    log::warn!("cannot accept: {error}; {} connections are open", self.slots.len());
                    return self.listeners.pause(now);
                }
                // That client has gone again, or a signal came: the next may be fine.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
    }

    pub(super) fn adopt(&mut self, stream: S::Stream, peer: Peer) {
        let client = Client::new(peer, self.driver.now.mono);
        let id = self.slots.insert(client, stream);
        self.driver.observer.accepted();
        self.admit(id, false);
    }

    /// Closes the idlest of a few idle connections, or else sends away a slow sender. False if
    /// there is no room yet.
    pub(super) fn make_room(&mut self) -> bool {
        if !self.close_idlest() {
            self.evict_slowest_sender(|_| true);
        }
        self.free_closed();
        self.slots.len() < self.connections_max
    }
}

/// How long to wait before another try when descriptors or slots have run out and no connection
/// closes.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What is known of the listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    undrained: Vec<bool>,
    paused_until: Option<Instant>,
}

impl Listeners {
    /// All may have clients waiting: they were bound before the poll knew them.
    pub(super) fn new(count: usize) -> Self {
        Listeners { undrained: vec![true; count], paused_until: None }
    }

    /// The kernel reported a client.
    pub(super) fn ready(&mut self, listener: usize) {
        if let Some(undrained) = self.undrained.get_mut(listener) {
            *undrained = true;
        }
    }

    /// Accepting from it would block.
    pub(super) fn drained(&mut self, listener: usize) {
        if let Some(undrained) = self.undrained.get_mut(listener) {
            *undrained = false;
        }
    }

    /// No descriptor or no slot is left: no edge will come when there is one again.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + RETRY_AFTER);
    }

    /// A connection has closed: worth another try.
    pub(super) fn resume(&mut self) {
        self.paused_until = None;
    }

    /// A listener to accept from now, if any.
    pub(super) fn next(&self, now: Instant) -> Option<usize> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.undrained.iter().position(|&undrained| undrained)
    }

    /// When there is something to accept without any event; `None` if only an event can tell.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.undrained.contains(&true) {
            return None;
        }
        Some(self.paused_until.unwrap_or(now))
    }
}

/// Descriptors or memory ran out. `ErrorKind` has no name for these (accept(2)).
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
