//! Reports at the beginning of a turn: the wait and its reason, and the events.
//!
//! Events are converted only for an observer that keeps steps, because that takes time. Nothing
//! here changes the loop.

use std::time::Duration;

use crate::driver::outcome::Signal;
use crate::handler::continuation::Done;
use crate::observe::Observer;
use crate::observe::step::{Event, ResultKind, Step, TurnStart, WaitUntil};
use crate::reactor::Reactor;
use crate::reactor::os::{Os, OsEvent};

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Reports the beginning of the turn and its events.
    pub(super) fn report_start(&mut self, timeout: Option<Duration>, until: WaitUntil) {
        self.driver.observer.turn_started(TurnStart {
            number: self.turn,
            events: self.events.len() as u32,
            timeout_ns: timeout.map(|wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)),
            until,
        });
        if self.driver.observer.is_recording() {
            for event in &self.events {
                self.driver.observer.step(|| Step::Event(reported(event)));
            }
        }
    }
}

/// Converts an event to the record of it.
fn reported(event: &OsEvent) -> Event {
    match *event {
        OsEvent::Ready { id, ready } => Event::Ready { id, ready },
        OsEvent::Watched { id, ready: _ } => Event::Watched(id),
        OsEvent::Listener(number) => Event::Listener(number as u32),
        OsEvent::Inbox => Event::Inbox,
        OsEvent::Signal(signal) => Event::Signal(name(signal)),
    }
}

/// Returns the kind of a result that belongs to a connection.
pub(super) fn kind_of(done: &Done) -> Option<ResultKind> {
    match done {
        Done::Finished(_) => Some(ResultKind::Finished),
        Done::Panicked => Some(ResultKind::Panicked),
        Done::Woken => Some(ResultKind::Woken),
        Done::Evicted => Some(ResultKind::Evicted),
        Done::Inspect(_) | Done::ListRequests(_) | Done::Shortage => None,
    }
}

/// Returns the name of a signal by its action.
fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::Interrupt => "interrupt",
        Signal::Terminate => "terminate",
        Signal::Quit => "quit",
        Signal::TerminalClosed => "terminal-closed",
        Signal::Reopen => "reopen",
        Signal::Report => "report",
    }
}
