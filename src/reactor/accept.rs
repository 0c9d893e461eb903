//! Accepting: which listeners have clients in their queues, and when those clients have to wait.
//!
//! An edge-triggered listener reports a client once. If the loop stops before would-block (because
//! of the limit of one turn, or for lack of descriptors or slots), no further event follows. So
//! [`Listeners`] remembers which listeners are not drained. This file must not know what a client
//! will request.

use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::clock::Instant;
use crate::conn_id::Peer;
use crate::driver::client::Client;
use crate::driver::decision::Decision;
use crate::observe::Observer;
use crate::observe::step::{Step, Stop};
use crate::reactor::Reactor;
use crate::reactor::os::Os;
use crate::reactor::slot::Slot;
use crate::shortage::{self, EMFILE, ENFILE};

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Accepts new clients and answers those whose request has arrived. Does nothing during a stop.
    pub(super) fn accept(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.accept_some();
        self.finish_batch();
    }

    /// Returns when to accept without any event, unless a stop has begun.
    pub(super) fn accept_due(&self) -> Option<Instant> {
        if self.stopping.is_some() { None } else { self.listeners.due(self.driver.now.mono) }
    }

    /// Accepts until would-block, up to `accepts_per_turn` clients.
    fn accept_some(&mut self) {
        let now = self.driver.now.mono;
        for _ in 0..self.driver.config.limits.accepts_per_turn {
            let Some(listener) = self.listeners.next(now) else { return };
            if self.slots.len() >= self.connections_max {
                // No connection is closed for a client that is not there.
                if !self.os.has_client(listener) {
                    self.listeners.drained(listener);
                    continue;
                }
                if !self.make_room() {
                    return self.listeners.pause(now);
                }
            }
            let accepted = self.os.accept(listener);
            if let Err(error) = &accepted {
                let stop = if is_exhaustion(error) { Stop::Exhausted } else { Stop::of(error) };
                let listener = listener as u32;
                self.driver.observer.step(|| Step::Accept { listener, accepted: Err(stop) });
            }
            match accepted {
                Ok((stream, peer)) => {
                    self.adopt(listener, stream, peer);
                    if self.os.is_wrong(Decision::AcceptUntilWouldBlock) {
                        self.listeners.drained(listener);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.listeners.drained(listener),
                // The connection that was idle longest makes room for the client that waits.
                Err(error) if is_exhaustion(&error) && self.close_idlest() => self.free_closed(),
                Err(error) if is_exhaustion(&error) => {
                    shortage::report();
                    if self.os.is_wrong(Decision::RetryAfterExhaustion) {
                        return self.listeners.drained(listener);
                    }
                    log::warn!("cannot accept: {error}; {} connections are open", self.slots.len());
                    return self.listeners.pause(now);
                }
                // This client closed before it was accepted, or a signal came. The next accept may
                // succeed.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
    }

    /// Stores a new connection of a listener in a slot and reads from it at once.
    fn adopt(&mut self, listener: usize, stream: S::Stream, peer: Peer) {
        let client = Client::new(peer, self.driver.now.mono);
        let id = self.slots.insert(Slot::new(client, stream));
        let listener = listener as u32;
        self.driver.observer.step(|| Step::Accept { listener, accepted: Ok(id) });
        self.admit(id, false);
    }

    /// Closes the idlest of a sample of idle connections, or else sends an error to a slow sender.
    /// Returns whether a slot is free now.
    fn make_room(&mut self) -> bool {
        if !self.close_idlest() {
            self.evict_slowest_sender(|_| true);
        }
        self.free_closed();
        self.slots.len() < self.connections_max
    }
}

/// How long accepting pauses when descriptors or slots have run out and no connection closes.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Which listeners have clients waiting, and whether accepting has paused. Makes no system calls.
#[derive(Debug)]
pub(super) struct Listeners {
    undrained: Vec<bool>,
    paused_until: Option<Instant>,
}

impl Listeners {
    /// Treats all listeners as undrained, because they were bound before the poll watched them.
    pub(super) fn new(count: usize) -> Self {
        Listeners { undrained: vec![true; count], paused_until: None }
    }

    /// Notes that the kernel reported a client.
    pub(super) fn ready(&mut self, listener: usize) {
        if let Some(undrained) = self.undrained.get_mut(listener) {
            *undrained = true;
        }
    }

    /// Notes that each listener may have a client.
    pub(super) fn ready_all(&mut self) {
        self.undrained.fill(true);
    }

    /// Notes that the next accept would block.
    pub(super) fn drained(&mut self, listener: usize) {
        if let Some(undrained) = self.undrained.get_mut(listener) {
            *undrained = false;
        }
    }

    /// Pauses accepting, because no descriptor or slot is left. The kernel sends no event when one
    /// is free again.
    fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + RETRY_AFTER);
    }

    /// Ends a pause, because a connection has closed.
    pub(super) fn resume(&mut self) {
        self.paused_until = None;
    }

    /// Returns a listener to accept from now, if any.
    pub(super) fn next(&self, now: Instant) -> Option<usize> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.undrained.iter().position(|&undrained| undrained)
    }

    /// Returns when to accept without any event; `None` if only an event can report a client.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.undrained.contains(&true) {
            return None;
        }
        Some(self.paused_until.unwrap_or(now))
    }
}

/// Returns true if descriptors or memory ran out. `ErrorKind` has no names for these errors
/// (accept(2)).
fn is_exhaustion(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM | ENOBUFS))
}
