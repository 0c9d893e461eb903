//! Stopping: the first signal starts a graceful stop, the second one ends the server at once.
//!
//! A graceful stop accepts every client that has already connected, closes the listeners, and lets
//! open requests finish within the drain timeout. This file must not know how signals are received.

use std::sync::atomic::Ordering;

use crate::clock::Instant;
use crate::conn_id::ConnId;
use crate::driver::exchange::Exchange;
use crate::driver::outcome::{Outcome, Signal};
use crate::http::CloseReason;
use crate::observe::Observer;
use crate::reactor::Reactor;
use crate::reactor::os::{Os, OsEvent};

/// A stop in progress.
#[derive(Debug)]
pub(super) struct Stopping {
    /// End of the drain timeout. Connections still open then are cut off.
    pub(super) cut_at: Instant,
    /// The second signal, if there was one.
    pub(super) killed_by: Option<Signal>,
}

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Acts on the signals of this turn.
    pub(super) fn take_signals(&mut self) {
        for at in 0..self.events.len() {
            if let OsEvent::Signal(signal) = self.events[at] {
                match signal {
                    Signal::Reopen => {
                        // Lines logged so far belong in the old file.
                        if let Some(access) = &mut self.driver.access {
                            access.flush();
                        }
                        (self.on_reopen)();
                    }
                    Signal::Report => self.log_requests(),
                    // Shell and kernel may both send SIGHUP for a closed terminal, so the second
                    // one does not mean that the user is in a hurry.
                    Signal::TerminalClosed if self.stopping.is_some() => {}
                    Signal::Interrupt | Signal::Terminate | Signal::Quit | Signal::TerminalClosed => {
                        self.stop(signal);
                    }
                }
            }
        }
    }

    /// Starts a graceful stop. A second call makes [`Reactor::run`] return at once.
    pub fn stop(&mut self, signal: Signal) {
        if let Some(stopping) = &mut self.stopping {
            stopping.killed_by = Some(signal);
            return;
        }
        let cut_at = self.driver.now.mono + self.driver.config.timeouts.drain;
        // Clients in the listen queue have connected. Accept all of them, because closing the
        // listener would reset them. Some may have connected since the poll, and the events of this
        // turn are read later.
        self.listeners.ready_all();
        let budget = 1 + self.connections_max / self.driver.config.limits.accepts_per_turn.max(1);
        for _ in 0..budget {
            if self.listeners.next(self.driver.now.mono).is_none() {
                break;
            }
            self.accept();
        }
        self.os.close_listeners();
        self.stopping = Some(Stopping { cut_at, killed_by: None });
        self.driver.stopping.store(true, Ordering::Relaxed);
        let all: Vec<ConnId> = self.slots.iter().map(|(id, _)| id).collect();
        for id in all {
            if let Some(slot) = self.slots.get_mut(id) {
                Exchange::new(&mut slot.client, &mut self.driver, id, 0).end_endless();
            }
            // A request that has already arrived is answered. A connection that is idle after that
            // is closed.
            self.pump_one(id);
            if self.slots.get(id).is_some_and(|slot| slot.client.conn.is_idle() && !slot.client.is_queued()) {
                self.close(id, CloseReason::Shutdown);
            }
        }
        (self.on_stop)(signal, &self.gauges().phases);
    }

    /// Returns how the server ended, or `None` while it has to go on.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let stopping = self.stopping.as_ref()?;
        if self.slots.is_empty() {
            return Some(Outcome::Stopped);
        }
        if let Some(signal) = stopping.killed_by {
            return Some(Outcome::Killed(signal));
        }
        (self.driver.now.mono >= stopping.cut_at).then(|| Outcome::Cut(self.slots.len()))
    }
}
