//! The record of a whole run, with tables that find names, turns and facts in it.
//!
//! This file must not know commands or how a step is shown.

use crate::conn_id::ConnId;
use crate::driver::decision::WrongDecisions;
use crate::observe::step::{Event, Fact, Step, TimedStep, TurnPhase};
use crate::sim::bugs::{BUGS, Bug};
use crate::sim::scenario::{Report, Run, Scenario, Setup};

/// Choices of the reader: a bug, a seed, and limits that differ from those of the scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The decision that is made wrongly, if any.
    pub bug: Option<&'static Bug>,
    /// Seed for other pieces, times and orders.
    pub seed: Option<u64>,
    /// Limits, as in `batch=1`. Later ones override earlier ones.
    pub sets: Vec<String>,
}

/// Short names of limits, for the command line.
pub(super) const SHORT_LIMITS: [(&str, &str); 4] = [
    ("batch", "batch_connections_max"),
    ("budget", "turn_requests_max"),
    ("events", "events_per_poll"),
    ("accepts", "accepts_per_turn"),
];

/// Returns the bug with this name; `None` for the word `none`. An error names the allowed words.
pub(super) fn bug_named(name: &str) -> Result<Option<&'static Bug>, String> {
    if name == "none" {
        return Ok(None);
    }
    let name: String = name.chars().take(40).collect();
    Bug::named(&name).map(Some).ok_or_else(|| {
        let names = BUGS.map(|bug| bug.name).join(", ");
        format!("unknown bug '{name}'; allowed: none, {names}")
    })
}

impl Choice {
    /// Reads a choice. `bug` is the name of a bug or `none`. An error is one line of text.
    pub fn new(bug: Option<&str>, seed: Option<u64>, sets: Vec<String>) -> Result<Choice, String> {
        Ok(Choice { bug: bug_named(bug.unwrap_or("none"))?, seed, sets })
    }

    /// Returns the name of the bug, or `none`.
    #[must_use]
    pub fn bug_name(&self) -> &'static str {
        self.bug.map_or("none", |bug| bug.name)
    }

    /// Returns the scenario with the limits of this choice. An error is one line of text.
    pub fn applied_to(&self, scenario: &Scenario) -> Result<Scenario, String> {
        let mut scenario = scenario.clone();
        for set in &self.sets {
            let (name, value) = set.split_once('=').unwrap_or((set, ""));
            let long = SHORT_LIMITS.iter().find(|(short, _)| *short == name.trim());
            let name = long.map_or(name.trim(), |(_, long)| long);
            scenario.set(&format!("{name}={}", value.trim())).map_err(|error| {
                let shorts = SHORT_LIMITS.map(|(short, _)| short).join(", ");
                format!("'{set}': {error}; short names: {shorts}")
            })?;
        }
        Ok(scenario)
    }
}

/// A finished run that can be entered at each of its steps. Position `n` is the place after the
/// first `n` steps.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The report of the run.
    pub report: Report,
    wrong: WrongDecisions,
    /// Owners of names: client by connection, in order of the names.
    owners: Vec<(ConnId, u32)>,
    /// Positions after the end of each turn.
    turn_ends: Vec<usize>,
    /// Position of the step with which each client connects.
    connects: Vec<Option<usize>>,
    /// Position of the signal that closes the listener.
    stops: Option<usize>,
    /// Results in the inbox after each snapshot of the report.
    inboxes: Vec<Vec<ConnId>>,
}

impl Recording {
    /// Runs a scenario and keeps every step.
    #[must_use]
    pub fn of(scenario: &Scenario, choice: &Choice) -> Recording {
        let wrong = choice.bug.map_or(WrongDecisions::NONE, Bug::wrong);
        let report = Run::of(scenario, Setup { wrong, seed: choice.seed }).finish();
        let mut recording = Recording {
            owners: Vec::new(),
            turn_ends: Vec::new(),
            connects: vec![None; report.names.len()],
            stops: None,
            inboxes: Vec::with_capacity(report.snapshots.len()),
            wrong,
            report,
        };
        recording.index();
        recording
    }

    /// Fills the tables in one pass.
    fn index(&mut self) {
        let mut inbox: Vec<ConnId> = Vec::new();
        let mut snapshots = self.report.snapshots.iter().peekable();
        for (at, step) in self.report.steps.iter().enumerate() {
            match step.step {
                Step::Fact(Fact::Is(client, id)) => self.owners.push((id, client)),
                Step::Fact(Fact::Connects(client)) => {
                    if let Some(first) = self.connects.get_mut(client as usize) {
                        first.get_or_insert(at);
                    }
                }
                Step::Event(Event::Signal(name)) if name != "reopen" => _ = self.stops.get_or_insert(at),
                Step::TurnEnd(_) => self.turn_ends.push(at + 1),
                _ => {}
            }
            note_inbox(&mut inbox, &step.step);
            while snapshots.next_if(|snapshot| snapshot.steps <= at + 1).is_some() {
                self.inboxes.push(inbox.clone());
            }
        }
        self.owners.sort_unstable();
    }

    /// Number of steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.report.steps.len()
    }

    /// True if the run has no steps.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.report.steps.is_empty()
    }

    /// Returns the last step before a position.
    #[must_use]
    pub fn step_at(&self, position: usize) -> Option<&TimedStep> {
        self.report.steps.get(position.checked_sub(1)?)
    }

    /// Decisions that the run made wrongly.
    #[must_use]
    pub fn wrong(&self) -> WrongDecisions {
        self.wrong
    }

    /// Returns the number of the client that a connection belongs to.
    #[must_use]
    pub fn owner(&self, id: ConnId) -> Option<u32> {
        let at = self.owners.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.owners[at].1)
    }

    /// Iterates over the connections of the run.
    pub(super) fn connections(&self) -> impl Iterator<Item = ConnId> {
        self.owners.iter().map(|(id, _)| *id)
    }

    /// Returns the name of a client.
    #[must_use]
    pub fn client(&self, number: u32) -> &str {
        self.report.names.get(number as usize).map_or("a client", String::as_str)
    }

    /// Returns the number of the client with this name.
    #[must_use]
    pub fn client_named(&self, name: &str) -> Option<u32> {
        self.report.names.iter().position(|other| other == name).map(|at| at as u32)
    }

    /// Writes a connection with its client: `0.1 (alice)`.
    #[must_use]
    pub fn named(&self, id: ConnId) -> String {
        self.owner(id).map_or_else(|| id.to_string(), |client| format!("{id} ({})", self.client(client)))
    }

    /// Returns the position after the end of the turn that follows `position`, or the last one.
    pub(super) fn turn_after(&self, position: usize) -> usize {
        let next = self.turn_ends.partition_point(|end| *end <= position);
        self.turn_ends.get(next).copied().unwrap_or(self.len())
    }

    /// Returns the position after the end of the turn before `position`, or the first one.
    pub(super) fn turn_before(&self, position: usize) -> usize {
        let next = self.turn_ends.partition_point(|end| *end < position);
        next.checked_sub(1).map_or(0, |last| self.turn_ends[last])
    }

    /// Returns the position after the next event, or the last one.
    pub(super) fn event_after(&self, position: usize) -> usize {
        let rest = self.report.steps.iter().skip(position);
        let next = rest.take_while(|step| !matches!(step.step, Step::Event(_))).count();
        (position + next + 1).min(self.len())
    }

    /// Number of snapshots that are not newer than a position.
    pub(super) fn snapshots_until(&self, position: usize) -> usize {
        self.report.snapshots.partition_point(|snapshot| snapshot.steps <= position)
    }

    /// Results that were in the inbox after this snapshot.
    pub(super) fn inbox_after(&self, snapshot: usize) -> &[ConnId] {
        self.inboxes.get(snapshot).map_or(&[], Vec::as_slice)
    }

    /// True if the client has connected before this position.
    pub(super) fn has_connected(&self, client: usize, position: usize) -> bool {
        self.connects.get(client).copied().flatten().is_some_and(|at| at < position)
    }

    /// True if the signal that closes the listener came before this position.
    pub(super) fn is_stopping(&self, position: usize) -> bool {
        self.stops.is_some_and(|at| at < position)
    }

    /// Returns turn and phase of the place after `position` steps. Between two turns the phase is
    /// `None`.
    #[must_use]
    pub fn moment(&self, position: usize) -> Moment {
        let mut moment = Moment::default();
        for step in self.report.steps[..position.min(self.len())].iter().rev() {
            match step.step {
                Step::Phase(phase) if moment.phase.is_none() => moment.phase = Some(phase),
                Step::TurnStart { turn, .. } => {
                    return Moment { turn: turn.number, is_in_turn: true, ..moment };
                }
                Step::TurnEnd(end) => return Moment { turn: end.number, is_in_turn: false, phase: None },
                _ => {}
            }
        }
        moment
    }

    /// Number of operations: calls, results and deadlines.
    #[must_use]
    pub fn operations(&self) -> usize {
        let is_operation = |step: &&TimedStep| {
            !matches!(
                step.step,
                Step::TurnStart { .. } | Step::Phase(_) | Step::Event(_) | Step::TurnEnd(_) | Step::Fact(_)
            )
        };
        self.report.steps.iter().filter(is_operation).count()
    }

    /// Returns the number of steps that two runs have in common from their beginning.
    pub(super) fn common_with(&self, other: &Recording) -> usize {
        let pairs = self.report.steps.iter().zip(&other.report.steps);
        pairs.take_while(|(one, other)| (one.at_ns, one.step) == (other.at_ns, other.step)).count()
    }
}

/// Puts a result into the inbox or takes it out, as a step does.
pub(super) fn note_inbox(inbox: &mut Vec<ConnId>, step: &Step) {
    match *step {
        Step::Fact(Fact::JobEnds(id)) => inbox.push(id),
        Step::Result { id, .. } => {
            if let Some(at) = inbox.iter().position(|other| *other == id) {
                inbox.remove(at);
            }
        }
        _ => {}
    }
}

/// The place of a position in the turns of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// Number of the turn that is under way or has ended last; 0 before the first.
    pub turn: u32,
    /// True within a turn.
    pub is_in_turn: bool,
    /// Phase of the turn, if one has begun.
    pub phase: Option<TurnPhase>,
}

/// Writes a time of the simulated clock.
pub(super) fn ms(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000)
}
