//! The recorder: an observer that gives each step its time and passes it to a sink.
//!
//! It also measures the phases of a turn. A base observer counts as before. Nothing is allocated
//! for a step. This file must not know where the steps go.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::observe::counters::Counters;
use crate::observe::step::{Step, TimedStep, TurnEnd, TurnPhase, TurnStart};
use crate::observe::{Activity, LateWorker, Observer};

/// Receives the steps of a recorder.
pub trait StepSink: Send + 'static {
    /// Returns the time in nanoseconds since the recording began.
    fn now_ns(&mut self) -> u64;
    /// Takes a step. Must not block.
    fn put(&mut self, step: TimedStep);
}

/// How much a recorder records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    Off,
    /// The beginning and the end of each turn.
    Turns,
    /// Every step.
    Operations,
}

/// Observer that records steps, on top of another observer.
#[derive(Debug)]
pub struct Recorder<S, O> {
    base: O,
    sink: S,
    detail: Detail,
    phase: TurnPhase,
    /// When the phase began.
    phase_ns: u64,
    /// Where the phase began, until its first step. A phase without steps is not recorded.
    unrecorded: Option<&'static Location<'static>>,
    /// Time spent in each phase of this turn, in the order of [`TurnPhase::WORK`].
    phases_ns: [u64; TurnPhase::WORK.len()],
    waited_ns: u64,
}

impl<S: StepSink, O: Observer> Recorder<S, O> {
    /// Creates a recorder that passes steps to `sink` and all calls to `base`.
    pub fn new(base: O, sink: S, detail: Detail) -> Self {
        Recorder {
            base,
            sink,
            detail,
            phase: TurnPhase::Wait,
            phase_ns: 0,
            unrecorded: None,
            phases_ns: [0; TurnPhase::WORK.len()],
            waited_ns: 0,
        }
    }

    /// Returns the sink.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Begins a phase now, and returns the time.
    fn switch(&mut self, phase: TurnPhase) -> u64 {
        let now_ns = self.sink.now_ns();
        let spent_ns = now_ns.saturating_sub(self.phase_ns);
        match TurnPhase::WORK.iter().position(|work| *work == self.phase) {
            Some(place) => self.phases_ns[place] += spent_ns,
            None => self.waited_ns = spent_ns,
        }
        (self.phase, self.phase_ns) = (phase, now_ns);
        now_ns
    }

    /// Records an operation, after the phase that it belongs to.
    fn put(&mut self, step: Step, source: &'static Location<'static>) {
        // All events of a turn came with the return of the poll.
        let at_ns = if matches!(step, Step::Event(_)) { self.phase_ns } else { self.sink.now_ns() };
        if let Some(source) = self.unrecorded.take() {
            self.sink.put(TimedStep { at_ns: self.phase_ns, step: Step::Phase(self.phase), source });
        }
        self.sink.put(TimedStep { at_ns, step, source });
    }
}

impl<S: StepSink, O: Observer> Observer for Recorder<S, O> {
    fn is_recording(&self) -> bool {
        self.detail != Detail::Off
    }

    fn phase(&mut self, phase: TurnPhase) {
        self.base.phase(phase);
        if self.detail != Detail::Off {
            self.switch(phase);
            self.unrecorded = Some(Location::caller());
        }
    }

    fn turn_started(&mut self, turn: TurnStart) {
        self.base.turn_started(turn);
        if self.detail == Detail::Off {
            return;
        }
        let at_ns = self.switch(TurnPhase::Results);
        self.unrecorded = None;
        self.phases_ns = [0; TurnPhase::WORK.len()];
        let step = Step::TurnStart { turn, waited_ns: self.waited_ns };
        self.sink.put(TimedStep { at_ns, step, source: Location::caller() });
    }

    fn turn_finished(&mut self, number: u32, took: Duration, open: usize) {
        self.base.turn_finished(number, took, open);
        if self.detail == Detail::Off {
            return;
        }
        let at_ns = self.switch(TurnPhase::Wait);
        self.unrecorded = None;
        let step = Step::TurnEnd(TurnEnd {
            number,
            open: open as u32,
            took_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            phases_ns: self.phases_ns,
        });
        self.sink.put(TimedStep { at_ns, step, source: Location::caller() });
    }

    fn enter(&mut self, activity: Activity) {
        self.base.enter(activity);
    }

    fn step(&mut self, make: impl FnOnce() -> Step) {
        let step = make();
        self.base.step(|| step);
        if self.detail == Detail::Operations {
            self.put(step, Location::caller());
        }
    }

    fn answer_timed_out(&mut self, worker: LateWorker) {
        self.base.answer_timed_out(worker);
    }

    fn counters(&self) -> Option<&Arc<Counters>> {
        self.base.counters()
    }
}
