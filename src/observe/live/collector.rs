//! The collector: counts and measures turns until the next frame.
//!
//! Every turn is counted, with its duration and its calls. A stall is a turn that took too long:
//! the collector names the request or the phase that took most of it. Of some turns it keeps every
//! step. Steps of viewers are counted apart, because a view should not show itself. Times are
//! arguments, in nanoseconds since the beginning of the loop.

use std::collections::VecDeque;

use crate::clock::Instant;
use crate::conn_id::ConnId;
use crate::http::Request;
use crate::observe::counters::TURN_BOUNDS;
use crate::observe::live::{Hub, RequestLabel, STALL};
use crate::observe::step::{Event, Step, Stop, TimedStep, TurnEnd, TurnPhase, TurnStart, WaitUntil};

/// Turns of the strip in one frame; the newest are kept.
pub(super) const STRIP_TURNS_MAX: usize = 200;

/// Turns whose steps are kept, in one frame.
pub(super) const RECORDS_MAX: usize = 64;

/// Steps that are kept of all these turns together, and of one of them.
const FRAME_STEPS_MAX: usize = 512;
const TURN_STEPS_MAX: usize = 128;

/// Stalls in one frame. Further ones are only counted.
pub(super) const STALLS_MAX: usize = 16;

/// Least time between the beginnings of two sampled turns.
const SAMPLE_INTERVAL_NS: u64 = 6_000_000;

/// Calls of the kernel that a loop makes, in the order of their counters.
pub(super) const CALLS: [&str; 6] = ["poll", "read", "write", "sendfile", "accept", "register"];

/// Sums since the recording began. A viewer that misses frames subtracts any two.
#[derive(Debug, Default, Clone)]
pub(super) struct Sums {
    pub(super) turns: u64,
    pub(super) busy_ns: u64,
    pub(super) waited_ns: u64,
    pub(super) phases_ns: [u64; TurnPhase::WORK.len()],
    pub(super) turns_taking: [u64; TURN_BOUNDS.len() + 1],
    pub(super) events: u64,
    pub(super) responses: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    pub(super) stale: u64,
    pub(super) carried: u64,
    pub(super) stalls: u64,
    /// Calls of the kernel, in the order of [`CALLS`].
    pub(super) calls: [u64; CALLS.len()],
    /// Those of them that would have blocked.
    pub(super) would_block: [u64; CALLS.len()],
    /// Turns that only served viewers. They are in no other number but the next two.
    pub(super) own_turns: u64,
    pub(super) own_ns: u64,
    /// Steps of viewers.
    pub(super) own_steps: u64,
}

/// A turn of the strip.
#[derive(Debug, Clone, Copy)]
pub(super) struct StripTurn {
    pub(super) number: u32,
    pub(super) began_ns: u64,
    pub(super) waited_ns: u64,
    pub(super) took_ns: u64,
    pub(super) events: u32,
    pub(super) requests: u32,
    pub(super) open: u32,
}

/// A turn with its steps.
#[derive(Debug)]
pub(super) struct TurnRecord {
    pub(super) start: TurnStart,
    pub(super) strip: StripTurn,
    pub(super) phases_ns: [u64; TurnPhase::WORK.len()],
    /// True if the clock was read for each step. Otherwise a step has the time of the last request
    /// or phase before it.
    pub(super) is_sampled: bool,
    pub(super) steps: Vec<TimedStep>,
    /// Steps that found no room.
    pub(super) steps_left_out: u32,
}

/// The thing that a loop worked on for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Phase(TurnPhase),
    Request(ConnId),
    Result(ConnId),
    /// A body source, and the sending of its bytes.
    Source(ConnId),
}

/// A turn that took longer than [`STALL`].
#[derive(Debug, Clone)]
pub(super) struct Stall {
    pub(super) turn: u32,
    pub(super) began_ns: u64,
    pub(super) took_ns: u64,
    /// The longest piece of work in the turn, and its duration.
    pub(super) by: String,
    pub(super) by_ns: u64,
    pub(super) conn: Option<ConnId>,
    /// Connections with an event that had to wait: those behind the work in its turn, and those
    /// whose event came meanwhile.
    pub(super) waiting: u32,
}

/// The label of the last request on a slot.
#[derive(Debug, Default, Clone)]
struct Known {
    id: Option<ConnId>,
    label: RequestLabel,
}

#[derive(Debug)]
pub(super) struct Collector {
    pub(super) sums: Sums,
    pub(super) strip: VecDeque<StripTurn>,
    pub(super) records: Vec<TurnRecord>,
    pub(super) slowest: Option<TurnRecord>,
    pub(super) stalls: Vec<Stall>,
    pub(super) frames: u64,
    pub(super) frame_began_ns: u64,
    /// Turns since the last frame that are not in the strip.
    pub(super) strip_left_out: u64,
    steps_kept: usize,
    /// Memory of turns that are no longer kept, for the next ones, so that no turn allocates.
    spare: Vec<Vec<TimedStep>>,

    turn: TurnRecord,
    turn_sums: Sums,
    is_foreign: bool,
    ready_events: u32,
    last: (u64, Work),
    longest: (u64, Work, u32),
    sample_due_ns: u64,
    /// A stall whose waiting connections are not known before the next turn has its events.
    unfinished: Option<Stall>,

    known: Vec<Known>,
    own: Vec<ConnId>,
    version: u64,
}

impl Collector {
    pub(super) fn new(now_ns: u64) -> Self {
        let nothing = Work::Phase(TurnPhase::Wait);
        Collector {
            sums: Sums::default(),
            strip: VecDeque::with_capacity(STRIP_TURNS_MAX),
            records: Vec::with_capacity(RECORDS_MAX),
            slowest: None,
            stalls: Vec::new(),
            frames: 0,
            frame_began_ns: now_ns,
            strip_left_out: 0,
            steps_kept: 0,
            spare: Vec::with_capacity(RECORDS_MAX),
            turn: TurnRecord::empty(),
            turn_sums: Sums::default(),
            is_foreign: false,
            ready_events: 0,
            last: (now_ns, nothing),
            longest: (0, nothing, 0),
            sample_due_ns: 0,
            unfinished: None,
            known: Vec::new(),
            own: Vec::new(),
            version: u64::MAX,
        }
    }

    /// Takes over the connections of the viewers, if they have changed.
    pub(super) fn follow(&mut self, hub: &Hub) {
        let version = hub.version();
        if version != self.version {
            (self.version, self.own) = (version, hub.own());
        }
    }

    pub(super) fn is_sampling(&self) -> bool {
        self.turn.is_sampled
    }

    /// Returns the last time that was read.
    pub(super) fn last_ns(&self) -> u64 {
        self.last.0
    }

    pub(super) fn phase_began(&mut self, phase: TurnPhase, now_ns: u64) {
        self.works_on(Work::Phase(phase), now_ns);
    }

    pub(super) fn request_started(&mut self, id: ConnId, request: &Request<'_>, now: Instant, now_ns: u64) {
        if self.is_own(id) {
            return;
        }
        self.works_on(Work::Request(id), now_ns);
        self.turn.strip.requests += 1;
        let known = self.known_at(id);
        known.id = Some(id);
        known.label.set(request, now);
    }

    /// The label is that of the connection, because the request may have begun before the
    /// recording.
    pub(super) fn source_started(&mut self, id: ConnId, label: &RequestLabel, now_ns: u64) {
        if self.is_own(id) {
            return;
        }
        self.works_on(Work::Source(id), now_ns);
        if self.known(id).is_none() {
            *self.known_at(id) = Known { id: Some(id), label: label.clone() };
        }
    }

    /// Returns the entry for the slot of a connection.
    fn known_at(&mut self, id: ConnId) -> &mut Known {
        if id.slot() >= self.known.len() {
            self.known.resize(id.slot() + 1, Known::default());
        }
        &mut self.known[id.slot()]
    }

    /// Ends the piece of work before, and begins another one.
    fn works_on(&mut self, work: Work, now_ns: u64) {
        let (since_ns, before) = self.last;
        let took_ns = now_ns.saturating_sub(since_ns);
        if took_ns > self.longest.0 && before != Work::Phase(TurnPhase::Wait) {
            self.longest = (took_ns, before, self.turn.strip.requests);
        }
        self.last = (now_ns, work);
    }

    fn is_own(&self, id: ConnId) -> bool {
        !self.own.is_empty() && self.own.contains(&id)
    }

    pub(super) fn put(&mut self, step: TimedStep) {
        match step.step {
            Step::TurnStart { turn, waited_ns } => self.begin(turn, waited_ns, step.at_ns),
            Step::TurnEnd(end) => self.end(end),
            other => {
                if let Some(id) = other.conn() {
                    if self.is_own(id) {
                        self.turn_sums.own_steps += 1;
                        return;
                    }
                    self.is_foreign = true;
                }
                self.count(&other);
                if let Step::Result { id, .. } = other {
                    self.works_on(Work::Result(id), step.at_ns);
                }
                match self.turn.steps.len() < TURN_STEPS_MAX {
                    true => self.turn.steps.push(step),
                    false => self.turn.steps_left_out += 1,
                }
            }
        }
    }

    fn count(&mut self, step: &Step) {
        let sums = &mut self.turn_sums;
        let call = match step {
            Step::Read(transfer) => {
                sums.bytes_read += transfer.got;
                1
            }
            Step::Write(transfer) | Step::Sendfile(transfer) => {
                sums.bytes_written += transfer.got;
                if matches!(step, Step::Write(_)) { 2 } else { 3 }
            }
            Step::Accept { .. } => {
                self.is_foreign = true;
                4
            }
            Step::Register { .. } => 5,
            Step::Event(event) => {
                // An event about room in the socket is no request that waits.
                self.ready_events += u32::from(matches!(event, Event::Ready { ready, .. } if ready.readable));
                // Results of jobs belong to connections; the wake-up itself belongs to none.
                self.is_foreign |= matches!(event, Event::Listener(_) | Event::Watched(_) | Event::Signal(_));
                return;
            }
            Step::Respond { .. } => {
                sums.responses += 1;
                return;
            }
            Step::Stale { .. } => {
                sums.stale += 1;
                return;
            }
            Step::Carry { .. } => {
                sums.carried += 1;
                return;
            }
            _ => return,
        };
        sums.calls[call] += 1;
        sums.would_block[call] += u64::from(step.stop() == Some(Stop::WouldBlock));
    }

    fn begin(&mut self, start: TurnStart, waited_ns: u64, at_ns: u64) {
        let mut steps = std::mem::take(&mut self.turn.steps);
        steps.clear();
        let strip = StripTurn {
            number: start.number,
            began_ns: at_ns,
            waited_ns,
            took_ns: 0,
            events: start.events,
            requests: 0,
            open: 0,
        };
        let is_sampled = at_ns >= self.sample_due_ns;
        self.turn = TurnRecord { start, strip, is_sampled, steps, ..TurnRecord::empty() };
        self.turn_sums = Sums::default();
        (self.is_foreign, self.ready_events) = (false, 0);
        self.last = (at_ns, Work::Phase(TurnPhase::Results));
        self.longest = (0, Work::Phase(TurnPhase::Wait), 0);
    }

    fn end(&mut self, end: TurnEnd) {
        self.works_on(Work::Phase(TurnPhase::Wait), self.turn.strip.began_ns + end.took_ns);
        self.turn.strip.took_ns = end.took_ns;
        self.turn.strip.open = end.open;
        self.turn.phases_ns = end.phases_ns;
        if let Some(mut stall) = self.unfinished.take() {
            stall.waiting += self.ready_events;
            self.keep_stall(stall);
        }
        self.sums.own_steps += self.turn_sums.own_steps;
        let is_for_frame = self.turn.start.until == WaitUntil::Frame && self.turn.start.events == 0;
        if !self.is_foreign && (self.turn_sums.own_steps > 0 || is_for_frame) {
            self.sums.own_turns += 1;
            self.sums.own_ns += end.took_ns;
            self.sums.waited_ns += self.turn.strip.waited_ns;
            return;
        }
        self.add_turn();
        if end.took_ns >= STALL.as_nanos() as u64 {
            self.unfinished = Some(self.stall());
        }
        if self.strip.len() == STRIP_TURNS_MAX {
            self.strip.pop_front();
            self.strip_left_out += 1;
        }
        self.strip.push_back(self.turn.strip);
        self.keep_turn();
    }

    fn add_turn(&mut self) {
        let Collector { sums, turn_sums, turn, .. } = self;
        let took_ns = turn.strip.took_ns;
        sums.turns += 1;
        sums.busy_ns += took_ns;
        sums.waited_ns += turn.strip.waited_ns;
        for (sum, ns) in sums.phases_ns.iter_mut().zip(turn.phases_ns) {
            *sum += ns;
        }
        let place = TURN_BOUNDS.partition_point(|bound| bound.as_nanos() < u128::from(took_ns));
        sums.turns_taking[place] += 1;
        sums.events += u64::from(turn.start.events);
        sums.responses += turn_sums.responses;
        sums.bytes_read += turn_sums.bytes_read;
        sums.bytes_written += turn_sums.bytes_written;
        sums.stale += turn_sums.stale;
        sums.carried += turn_sums.carried;
        sums.calls[0] += 1;
        for (sum, calls) in sums.calls.iter_mut().zip(turn_sums.calls) {
            *sum += calls;
        }
        for (sum, calls) in sums.would_block.iter_mut().zip(turn_sums.would_block) {
            *sum += calls;
        }
    }

    /// Describes the turn that has just ended as a stall.
    fn stall(&mut self) -> Stall {
        let (by_ns, work, requests_before) = self.longest;
        let conn = match work {
            Work::Phase(_) => None,
            Work::Request(id) | Work::Result(id) | Work::Source(id) => Some(id),
        };
        let label = conn.and_then(|id| self.label_of(id));
        let by = match (work, label) {
            (Work::Phase(phase), _) => format!("phase {}", phase.name()),
            (Work::Request(id), None) => format!("a request of {id}"),
            (Work::Request(_), Some(label)) => label,
            (Work::Result(id), None) => format!("a result of {id}"),
            (Work::Result(_), Some(label)) => format!("{label} (result of its job)"),
            (Work::Source(id), None) => format!("a body source of {id}"),
            (Work::Source(_), Some(label)) => format!("{label} (source of its content)"),
        };
        self.sums.stalls += 1;
        let strip = self.turn.strip;
        let waiting = self.ready_events.saturating_sub(requests_before);
        Stall {
            turn: strip.number,
            began_ns: strip.began_ns,
            took_ns: strip.took_ns,
            by,
            by_ns,
            conn,
            waiting,
        }
    }

    fn label_of(&self, id: ConnId) -> Option<String> {
        let known = self.known.get(id.slot())?;
        known.label.text().filter(|_| known.id == Some(id))
    }

    fn keep_stall(&mut self, stall: Stall) {
        if self.stalls.len() < STALLS_MAX {
            self.stalls.push(stall);
        }
    }

    /// Keeps the turn that has just ended, if it is a sample or the slowest so far.
    fn keep_turn(&mut self) {
        let is_slowest =
            self.slowest.as_ref().is_none_or(|slowest| slowest.strip.took_ns < self.turn.strip.took_ns);
        let has_room = self.records.len() + 1 < RECORDS_MAX
            && self.steps_kept + self.turn.steps.len() <= FRAME_STEPS_MAX;
        if self.turn.is_sampled && has_room {
            self.sample_due_ns = self.turn.strip.began_ns + SAMPLE_INTERVAL_NS;
            self.steps_kept += self.turn.steps.len();
            let mut steps = self.spare_steps();
            steps.extend_from_slice(&self.turn.steps);
            self.records.push(TurnRecord { steps, ..self.turn });
        }
        if is_slowest {
            // The room of the former one is used for the next turn.
            let former = self.slowest.take().map(|slowest| slowest.steps);
            let steps = former.unwrap_or_else(|| self.spare_steps());
            let turn = TurnRecord { steps, ..self.turn };
            self.slowest = Some(std::mem::replace(&mut self.turn, turn));
        }
    }

    /// Returns an empty list, with the memory of a former one if there is one.
    fn spare_steps(&mut self) -> Vec<TimedStep> {
        self.spare.pop().unwrap_or_default()
    }

    /// Forgets what belongs to the last frame.
    pub(super) fn begin_frame(&mut self, now_ns: u64) {
        self.strip.clear();
        for mut turn in self.records.drain(..).chain(self.slowest.take()) {
            turn.steps.clear();
            self.spare.push(turn.steps);
        }
        self.stalls.clear();
        (self.strip_left_out, self.steps_kept) = (0, 0);
        self.frames += 1;
        self.frame_began_ns = now_ns;
    }

    /// Returns the label of the last request on this connection since the recording began.
    pub(super) fn known(&self, id: ConnId) -> Option<&RequestLabel> {
        self.known.get(id.slot()).filter(|known| known.id == Some(id)).map(|known| &known.label)
    }

    /// Returns true if the connection belongs to a viewer.
    pub(super) fn is_viewer(&self, id: ConnId) -> bool {
        self.is_own(id)
    }
}

impl TurnRecord {
    fn empty() -> Self {
        TurnRecord {
            start: TurnStart { number: 0, events: 0, timeout_ns: None, until: WaitUntil::Event },
            strip: StripTurn {
                number: 0,
                began_ns: 0,
                waited_ns: 0,
                took_ns: 0,
                events: 0,
                requests: 0,
                open: 0,
            },
            phases_ns: [0; TurnPhase::WORK.len()],
            is_sampled: false,
            steps: Vec::new(),
            steps_left_out: 0,
        }
    }

    /// Returns the text of the beginning of the turn.
    pub(super) fn start_text(&self) -> String {
        let step = Step::TurnStart { turn: self.start, waited_ns: self.strip.waited_ns };
        let source = std::panic::Location::caller();
        TimedStep { at_ns: self.strip.began_ns, step, source }.text_without_time().to_string()
    }
}

#[cfg(test)]
mod tests;
