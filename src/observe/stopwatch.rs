//! The stopwatch: an observer that counts, and measures the time that a loop spends on each
//! activity.
//!
//! It reads the clock at each change of activity, about ten times per turn, so it is only used on
//! request (`-vv`).

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use crate::observe::counters::{Counters, LoopTally};
use crate::observe::step::{Step, TurnStart};
use crate::observe::{Activity, LateWorker, Observer};

/// Observer that counts and also measures the time of each activity.
#[derive(Debug)]
pub struct Stopwatch {
    tally: LoopTally,
    activity: Activity,
    since: Instant,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Stopwatch { tally: LoopTally::default(), activity: Activity::Housekeeping, since: clock() }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a stopwatch is for reading the clock, and is off unless asked for"
)]
pub(super) fn clock() -> Instant {
    Instant::now()
}

impl Observer for Stopwatch {
    fn turn_started(&mut self, turn: TurnStart) {
        self.tally.turn_started(turn);
    }

    fn turn_finished(&mut self, number: u32, took: Duration, open: usize) {
        self.tally.turn_finished(number, took, open);
    }

    fn enter(&mut self, activity: Activity) {
        let now = clock();
        let nanoseconds = u64::try_from(now.duration_since(self.since).as_nanos()).unwrap_or(u64::MAX);
        self.tally.spent(self.activity, nanoseconds);
        (self.activity, self.since) = (activity, now);
    }

    fn step(&mut self, make: impl FnOnce() -> Step) {
        self.tally.step(make);
    }

    fn answer_timed_out(&mut self, worker: LateWorker) {
        self.tally.answer_timed_out(worker);
    }

    fn counters(&self) -> Option<&Arc<Counters>> {
        self.tally.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::counters::Count;

    #[test]
    fn a_stopwatch_files_time_under_what_it_was_spent_on() {
        let mut watch = Stopwatch::default();
        for activity in Activity::ALL {
            watch.enter(activity);
            let since = clock();
            while clock() == since {}
        }
        let spent = |watch: &Stopwatch| {
            let counters = watch.counters().unwrap();
            counters.activity_nanoseconds.each_ref().map(Count::get)
        };
        let before = spent(&watch);
        assert!(before[..4].iter().all(|nanoseconds| *nanoseconds > 0), "{before:?}");
        watch.enter(Activity::Reading);
        assert!(spent(&watch)[4] > before[4], "the last one ends when another begins");
    }
}
