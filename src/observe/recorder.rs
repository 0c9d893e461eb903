//! The recorder: an observer that gives each step its time and passes it to a sink.
//!
//! It also measures the phases of a turn. A base observer counts as before. Nothing is allocated
//! for a step. This file must not know where the steps go.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use crate::conn_id::ConnId;
use crate::http::Request;
use crate::observe::counters::Counters;
use crate::observe::live::{Hub, RequestLabel, Seen};
use crate::observe::step::{Step, TimedStep, TurnEnd, TurnPhase, TurnStart};
use crate::observe::{Activity, LateWorker, Observer};

/// Receives the steps of a recorder.
pub trait StepSink: Send + 'static {
    /// Returns the time in nanoseconds since the recording began.
    fn now_ns(&mut self) -> u64;
    /// Returns `at`, a time that the loop has read, as nanoseconds since the recording began. The
    /// default is for a simulated clock, which has not moved since.
    fn at_ns(&mut self, _at: Instant) -> u64 {
        self.now_ns()
    }
    /// Returns the time of a step within a phase. A sink may return an earlier reading instead.
    fn operation_ns(&mut self) -> u64 {
        self.now_ns()
    }
    /// Takes a step. Must not block.
    fn put(&mut self, step: TimedStep);
    /// Called when a phase of the turn begins.
    fn phase_began(&mut self, _phase: TurnPhase, _now_ns: u64) {}
    /// Called before the handler receives a request: [`Observer::request_started`].
    fn request_started(&mut self, _id: ConnId, _request: &Request<'_>) {}
    /// Called before a body source is asked for more: [`Observer::source_started`].
    fn source_started(&mut self, _id: ConnId, _label: &RequestLabel) {}
    /// Returns when to call `look` next: [`Observer::next_look`].
    fn next_look(&self) -> Option<Instant> {
        None
    }
    /// Shows the open connections: [`Observer::look`].
    fn look<'a>(
        &mut self,
        _now: Instant,
        _counters: Option<&Counters>,
        _connections: impl Iterator<Item = Seen<'a>>,
    ) {
    }
    /// Returns the hub with the viewers: [`Observer::hub`].
    fn hub(&self) -> Option<&Arc<Hub>> {
        None
    }
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
    /// When the turn began.
    turn_ns: u64,
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
            turn_ns: 0,
            unrecorded: None,
            phases_ns: [0; TurnPhase::WORK.len()],
            waited_ns: 0,
        }
    }

    /// Returns the sink.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Returns the base observer and the sink.
    pub fn into_parts(self) -> (O, S) {
        (self.base, self.sink)
    }

    /// Begins a phase.
    fn switch(&mut self, phase: TurnPhase, now_ns: u64) {
        let spent_ns = now_ns.saturating_sub(self.phase_ns);
        match TurnPhase::WORK.iter().position(|work| *work == self.phase) {
            Some(place) => self.phases_ns[place] += spent_ns,
            None => self.waited_ns = spent_ns,
        }
        (self.phase, self.phase_ns) = (phase, now_ns);
        self.sink.phase_began(phase, now_ns);
    }

    #[inline(never)]
    fn begin_phase(&mut self, phase: TurnPhase, source: &'static Location<'static>) {
        let now_ns = self.sink.now_ns();
        self.switch(phase, now_ns);
        self.unrecorded = Some(source);
    }

    /// The turn begins when the loop has read the clock after the poll. A later reading would leave
    /// the time between them to no phase.
    fn end_wait(&mut self, at: Instant) {
        self.turn_ns = self.sink.at_ns(at);
        self.switch(TurnPhase::Results, self.turn_ns);
        self.unrecorded = None;
        self.phases_ns = [0; TurnPhase::WORK.len()];
    }

    fn end_turn(&mut self, number: u32, took: Duration, open: usize, source: &'static Location<'static>) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let at_ns = self.turn_ns.saturating_add(took_ns);
        self.switch(TurnPhase::Wait, at_ns);
        self.unrecorded = None;
        let step = Step::TurnEnd(TurnEnd { number, open: open as u32, took_ns, phases_ns: self.phases_ns });
        self.sink.put(TimedStep { at_ns, step, source });
    }

    /// Records an operation, after the phase that it belongs to. Out of line, because each of the
    /// many places that report a step would contain a copy.
    #[inline(never)]
    fn put(&mut self, step: Step, source: &'static Location<'static>) {
        // All events of a turn came with the return of the poll.
        let at_ns = if matches!(step, Step::Event(_)) { self.phase_ns } else { self.sink.operation_ns() };
        if let Some(source) = self.unrecorded.take() {
            self.sink.put(TimedStep { at_ns: self.phase_ns, step: Step::Phase(self.phase), source });
        }
        self.sink.put(TimedStep { at_ns, step, source });
    }
}

impl<S: StepSink, O: Observer> Observer for Recorder<S, O> {
    fn is_recording(&self) -> bool {
        self.detail != Detail::Off || self.base.is_recording()
    }

    #[inline]
    fn phase(&mut self, phase: TurnPhase) {
        self.base.phase(phase);
        if self.detail != Detail::Off {
            self.begin_phase(phase, Location::caller());
        }
    }

    fn wait_ended(&mut self, at: Instant) {
        self.base.wait_ended(at);
        if self.detail != Detail::Off {
            self.end_wait(at);
        }
    }

    fn turn_started(&mut self, turn: TurnStart) {
        self.base.turn_started(turn);
        if self.detail != Detail::Off {
            let step = Step::TurnStart { turn, waited_ns: self.waited_ns };
            self.sink.put(TimedStep { at_ns: self.turn_ns, step, source: Location::caller() });
        }
    }

    fn turn_finished(&mut self, number: u32, took: Duration, open: usize) {
        self.base.turn_finished(number, took, open);
        if self.detail != Detail::Off {
            self.end_turn(number, took, open, Location::caller());
        }
    }

    fn enter(&mut self, activity: Activity) {
        self.base.enter(activity);
    }

    #[inline(always)]
    fn step(&mut self, make: impl FnOnce() -> Step) {
        if self.detail != Detail::Operations {
            return self.base.step(make);
        }
        let step = make();
        self.base.step(|| step);
        self.put(step, Location::caller());
    }

    fn answer_timed_out(&mut self, worker: LateWorker) {
        self.base.answer_timed_out(worker);
    }

    fn counters(&self) -> Option<&Arc<Counters>> {
        self.base.counters()
    }

    fn request_started(&mut self, id: ConnId, request: &Request<'_>) {
        self.sink.request_started(id, request);
    }

    fn source_started(&mut self, id: ConnId, label: &RequestLabel) {
        self.sink.source_started(id, label);
    }

    fn next_look(&self) -> Option<Instant> {
        self.sink.next_look()
    }

    fn look<'a>(&mut self, now: Instant, connections: impl Iterator<Item = Seen<'a>>) {
        let counters = self.base.counters().map(|counters| &**counters);
        self.sink.look(now, counters, connections);
    }

    fn hub(&self) -> Option<&Arc<Hub>> {
        self.sink.hub()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::origin;
    use crate::conn_id::ConnId;
    use crate::observe::LoopTally;
    use crate::observe::step::WaitUntil;

    /// A sink whose clock advances by 10 ns with each look.
    struct Kept {
        began: Instant,
        now_ns: u64,
        steps: Vec<TimedStep>,
    }

    impl StepSink for Kept {
        fn now_ns(&mut self) -> u64 {
            self.now_ns += 10;
            self.now_ns
        }

        fn at_ns(&mut self, at: Instant) -> u64 {
            at.duration_since(self.began).as_nanos() as u64
        }

        fn put(&mut self, step: TimedStep) {
            self.steps.push(step);
        }
    }

    /// Runs a turn that begins at 12 ns and takes 83 ns.
    fn one_turn(detail: Detail) -> Recorder<Kept, LoopTally> {
        let began = origin();
        let sink = Kept { began, now_ns: 0, steps: Vec::new() };
        let mut recorder = Recorder::new(LoopTally::default(), sink, detail);
        recorder.phase(TurnPhase::Wait);
        recorder.wait_ended(began + Duration::from_nanos(12));
        let turn = TurnStart { number: 1, events: 1, timeout_ns: None, until: WaitUntil::Event };
        recorder.turn_started(turn);
        let id = ConnId::new(1, 0);
        recorder.step(|| Step::Event(crate::observe::step::Event::Inbox));
        for phase in TurnPhase::WORK {
            recorder.phase(phase);
            if phase == TurnPhase::Carried {
                recorder.step(|| Step::Carry { id });
                recorder.step(|| Step::Carry { id });
            }
        }
        recorder.turn_finished(1, Duration::from_nanos(83), 2);
        recorder
    }

    #[test]
    fn a_phase_is_recorded_before_its_first_step_only() {
        let recorder = one_turn(Detail::Operations);
        assert!(recorder.is_recording());
        let steps = &recorder.sink().steps;
        let words: Vec<&str> = steps.iter().map(|step| step.step.word()).collect();
        assert_eq!(words, ["turn", "event", "phase", "carry", "carry", "turn-end"]);
        assert!(steps.is_sorted_by_key(|step| step.at_ns));
        assert!(steps.iter().all(|step| step.source.file().ends_with("recorder.rs")));
        let counters = Arc::clone(recorder.counters().unwrap());
        assert_eq!((counters.turns.get(), counters.events.get(), counters.carried.get()), (1, 1, 2));
    }

    #[test]
    fn phases_add_up_to_the_time_that_the_loop_has_measured() {
        let recorder = one_turn(Detail::Operations);
        let steps = &recorder.sink().steps;
        assert!(matches!(steps[0].step, Step::TurnStart { waited_ns: 2, .. }), "{steps:?}");
        let Step::TurnEnd(end) = steps[5].step else { panic!("{steps:?}") };
        assert_eq!((steps[0].at_ns, steps[5].at_ns), (12, 95));
        assert_eq!((end.open, end.took_ns), (2, 83));
        assert_eq!(end.phases_ns, [18, 10, 30, 10, 10, 5]);
    }

    #[test]
    fn less_detail_records_less_and_counts_the_same() {
        for (detail, recorded) in [(Detail::Off, 0), (Detail::Turns, 2)] {
            let recorder = one_turn(detail);
            assert_eq!((recorder.is_recording(), recorder.sink().steps.len()), (recorded > 0, recorded));
            assert_eq!(recorder.counters().unwrap().carried.get(), 2);
        }
    }
}
