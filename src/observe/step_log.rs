//! The log of steps (`-vvv`): writes the steps of each turn to the diagnostics after the turn.
//!
//! Within the turn they are only kept, so that the phases of the turn are not measured with the
//! time that writing takes.

use crate::clock::Instant;
use crate::config::LOG_QUEUE_MAX;
use crate::observe::step::{Step, TimedStep};
use crate::observe::stopwatch::{Stopwatch, clock};
use crate::observe::{Detail, Recorder, Ring, StepSink};

/// Largest number of steps of one turn that are written. The queue of the log takes no more at
/// once.
const TURN_STEPS_MAX: usize = LOG_QUEUE_MAX;

/// Sink that writes steps to the log at the end of each turn.
#[derive(Debug)]
pub struct StepLog {
    began: Instant,
    turn: Ring,
}

/// Observer that counts, measures activities, and can log every step.
pub type LoggedSteps = Recorder<StepLog, Stopwatch>;

impl LoggedSteps {
    /// Creates an observer that logs this much.
    #[must_use]
    pub fn of(detail: Detail) -> Self {
        Recorder::new(Stopwatch::default(), StepLog::default(), detail)
    }
}

impl Default for StepLog {
    fn default() -> Self {
        StepLog { began: clock(), turn: Ring::new(TURN_STEPS_MAX) }
    }
}

impl StepSink for StepLog {
    fn now_ns(&mut self) -> u64 {
        self.at_ns(clock())
    }

    fn at_ns(&mut self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    fn put(&mut self, step: TimedStep) {
        self.turn.push(step);
        if !matches!(step.step, Step::TurnEnd(_)) {
            return;
        }
        if self.turn.dropped() > 0 {
            log::trace!(target: "step", "{} earlier steps of this turn are not written", self.turn.dropped());
        }
        for step in self.turn.iter() {
            log::trace!(target: "step", "{}", step.text(&[]));
        }
        self.turn.clear();
    }
}
