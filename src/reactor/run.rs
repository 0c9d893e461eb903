//! Running a loop until it ends, with the observer that its viewers need.
//!
//! The loop is compiled twice. While nobody looks, its observer is [`Unwatched`], whose steps cost
//! nothing. Between two turns it becomes the recording one, or becomes unwatched again. This file
//! must not know what a turn does.

use std::io;

use crate::driver::outcome::Outcome;
use crate::observe::{Observer, Unwatched};
use crate::reactor::Reactor;
use crate::reactor::os::Os;

impl<S: Os, O: Observer> Reactor<S, Unwatched<O>> {
    /// Runs turns until a signal stops the server and the last client is served. Records them
    /// while somebody looks.
    pub fn run(mut self) -> io::Result<Outcome> {
        crate::log::spare_this_thread();
        loop {
            if let Some(outcome) = self.run_while(|observer| !observer.is_wanted())? {
                return Ok(outcome);
            }
            let mut watched = self.with_observer(Unwatched::watched);
            if let Some(outcome) = watched.run_while(|observer| observer.is_wanted())? {
                return Ok(outcome);
            }
            self = watched.with_observer(|observer| observer.unwatched());
        }
    }
}

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Runs turns while `goes_on` is true. Returns `None` if the loop has not ended then.
    fn run_while(&mut self, goes_on: impl Fn(&O) -> bool) -> io::Result<Option<Outcome>> {
        while goes_on(&self.driver.observer) {
            self.turn()?;
            if let Some(outcome) = self.outcome() {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Replaces the observer. Everything else stays as it is.
    fn with_observer<P: Observer>(self, make: impl FnOnce(O) -> P) -> Reactor<S, P> {
        Reactor {
            os: self.os,
            driver: self.driver.with_observer(make),
            slots: self.slots,
            deadlines: self.deadlines,
            listeners: self.listeners,
            connections_max: self.connections_max,
            turn: self.turn,
            turn_began: self.turn_began,
            events: self.events,
            done: self.done,
            carried: self.carried,
            closed: self.closed,
            batch: self.batch,
            watches: self.watches,
            sample_from: self.sample_from,
            leaving: self.leaving,
            is_short: self.is_short,
            relieved: self.relieved,
            stopping: self.stopping,
            on_reopen: self.on_reopen,
            on_stop: self.on_stop,
        }
    }
}
