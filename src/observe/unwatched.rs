//! The observer of a loop that nobody looks at.
//!
//! It and the recorder with a [`LiveSink`] become each other when the first viewer comes and the
//! last one leaves. The loop is compiled for both, so that a loop without viewers does not ask at
//! each step whether it is recorded. This file must not know how a loop changes its observer.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use crate::observe::counters::Counters;
use crate::observe::live::{Hub, LiveSink};
use crate::observe::step::{Step, TurnPhase, TurnStart};
use crate::observe::stopwatch::clock;
use crate::observe::{Activity, Detail, LateWorker, Live, Observer, Recorder};

/// Observer that passes everything to `O`, and has a [`Hub`] that viewers can join.
#[derive(Debug)]
pub struct Unwatched<O> {
    base: O,
    hub: Arc<Hub>,
    began: Instant,
}

impl<O: Observer> Unwatched<O> {
    /// Creates an observer with a hub of its own.
    pub fn new(base: O) -> Self {
        Unwatched { base, hub: Arc::default(), began: clock() }
    }

    /// Returns true if there is a viewer.
    pub fn is_wanted(&self) -> bool {
        self.hub.is_wanted()
    }

    /// Begins to record for the viewers.
    #[must_use]
    pub fn watched(self) -> Live<O> {
        Recorder::new(self.base, LiveSink::new(self.hub, self.began), Detail::Operations)
    }
}

impl<O: Observer> Live<O> {
    /// Returns true if there is a viewer.
    pub fn is_wanted(&self) -> bool {
        self.sink().hub().is_wanted()
    }

    /// Ends the recording.
    #[must_use]
    pub fn unwatched(self) -> Unwatched<O> {
        let (base, sink) = self.into_parts();
        let (hub, began) = sink.into_parts();
        Unwatched { base, hub, began }
    }
}

impl<O: Observer> Observer for Unwatched<O> {
    fn is_recording(&self) -> bool {
        self.base.is_recording()
    }

    #[inline(always)]
    fn phase(&mut self, phase: TurnPhase) {
        self.base.phase(phase);
    }

    fn wait_ended(&mut self, at: Instant) {
        self.base.wait_ended(at);
    }

    fn turn_started(&mut self, turn: TurnStart) {
        self.base.turn_started(turn);
    }

    fn turn_finished(&mut self, number: u32, took: Duration, open: usize) {
        self.base.turn_finished(number, took, open);
    }

    fn enter(&mut self, activity: Activity) {
        self.base.enter(activity);
    }

    #[inline(always)]
    fn step(&mut self, make: impl FnOnce() -> Step) {
        self.base.step(make);
    }

    fn answer_timed_out(&mut self, worker: LateWorker) {
        self.base.answer_timed_out(worker);
    }

    fn counters(&self) -> Option<&Arc<Counters>> {
        self.base.counters()
    }

    fn hub(&self) -> Option<&Arc<Hub>> {
        Some(&self.hub)
    }
}
