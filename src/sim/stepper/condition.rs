//! Conditions that a step can meet, as in `u stale` or `u conn=0.2 op=read`.
//!
//! This file must not know how a session moves.

use crate::conn_id::ConnId;
use crate::observe::step::{Event, Fact, Holder, Step, Stop, TurnPhase};
use crate::sim::stepper::recording::Recording;

/// Words of steps that `op=` takes, in addition to the reasons of a stop.
const OPS: [&str; 21] = [
    "turn", "phase", "event", "accept", "read", "write", "sendfile", "register", "respond", "job", "result",
    "advance", "deadline", "carry", "panic", "shut", "close", "free", "stale", "turn-end", "fact",
];

const PHASES: [TurnPhase; 7] = [
    TurnPhase::Wait,
    TurnPhase::Results,
    TurnPhase::Ready,
    TurnPhase::Carried,
    TurnPhase::Deadlines,
    TurnPhase::Accept,
    TurnPhase::Free,
];

const HOLDERS: [Holder; 4] = [Holder::Event, Holder::Result, Holder::Deadline, Holder::Carried];

/// Forms of a condition, for messages and help.
pub(super) const FORMS: &str = "stale, stale=KIND, closed, closed(NAME), sent, sent(NAME), conn=SLOT.NUMBER, \
    conn=NAME, op=WORD, stopped=REASON, turn=N, phase=NAME";

/// One or more tests, all of which a step must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    tests: Vec<Test>,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Stale(Option<Holder>),
    Conn(ConnId),
    Client(u32),
    Op(&'static str),
    Stopped(Stop),
    Turn(u32),
    Phase(TurnPhase),
    Closed(Option<u32>),
    Sent(Option<u32>),
}

/// True if a word can only be a condition, so that it continues the condition before it.
pub(super) fn is_condition(word: &str) -> bool {
    word.contains(['=', '(']) || ["stale", "closed", "sent"].contains(&word)
}

impl Condition {
    /// Reads the words of a condition. An error names the allowed words.
    pub fn parse(words: &[&str], run: &Recording) -> Result<Condition, String> {
        if words.is_empty() {
            return Err(format!("a condition is missing; allowed: {FORMS}"));
        }
        let tests = words.iter().map(|word| test(word, run)).collect::<Result<_, _>>()?;
        Ok(Condition { tests, text: words.join(" ") })
    }

    /// Returns the condition as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the position after the first step at or after `position` that meets the condition.
    #[must_use]
    pub fn find(&self, run: &Recording, position: usize) -> Option<usize> {
        let mut moment = run.moment(position);
        for (at, step) in run.report.steps.iter().enumerate().skip(position) {
            match step.step {
                Step::TurnStart { turn, .. } => {
                    (moment.turn, moment.is_in_turn, moment.phase) = (turn.number, true, None);
                }
                Step::Phase(phase) => moment.phase = Some(phase),
                _ => {}
            }
            let turn = moment.is_in_turn.then_some(moment.turn);
            if self.tests.iter().all(|test| test.is_met(&step.step, turn, moment.phase, run)) {
                return Some(at + 1);
            }
            if matches!(step.step, Step::TurnEnd(_)) {
                (moment.is_in_turn, moment.phase) = (false, None);
            }
        }
        None
    }
}

impl Test {
    fn is_met(self, step: &Step, turn: Option<u32>, phase: Option<TurnPhase>, run: &Recording) -> bool {
        let is_of = |id: ConnId, client: Option<u32>| client.is_none_or(|one| run.owner(id) == Some(one));
        match (self, *step) {
            (Test::Stale(wanted), Step::Stale { holder, .. }) => wanted.is_none_or(|one| one == holder),
            (Test::Closed(client), Step::Close { id, .. }) => is_of(id, client),
            (Test::Sent(client), Step::Write(moved) | Step::Sendfile(moved)) => {
                moved.got > 0 && is_of(moved.id, client)
            }
            (Test::Stale(_) | Test::Closed(_) | Test::Sent(_), _) => false,
            (Test::Conn(id), step) => step.conn() == Some(id),
            (Test::Client(client), Step::Fact(fact)) if client_of(fact) == Some(client) => true,
            (Test::Client(client), step) => step.conn().is_some_and(|id| run.owner(id) == Some(client)),
            (Test::Op(word), step) => {
                step.word() == word || step.stop().is_some_and(|stop| stop.name() == word)
            }
            (Test::Stopped(stop), step) => step.stop() == Some(stop),
            (Test::Turn(number), _) => turn == Some(number),
            (Test::Phase(wanted), step) => phase == Some(wanted) && !matches!(step, Step::TurnEnd(_)),
        }
    }
}

/// Returns the client that a fact is about.
pub(super) fn client_of(fact: Fact) -> Option<u32> {
    match fact {
        Fact::Connects(client)
        | Fact::Is(client, _)
        | Fact::Sends(client, _)
        | Fact::Reads(client, _)
        | Fact::Shuts(client)
        | Fact::Resets(client) => Some(client),
        Fact::JobBegins(_) | Fact::JobEnds(_) | Fact::WakeUpFails | Fact::InboxChecked | Fact::Fault(_) => {
            None
        }
    }
}

/// True for an event of the kernel about this connection.
pub(super) fn is_event_of(step: &Step, wanted: ConnId) -> bool {
    matches!(step, Step::Event(Event::Ready { id, .. }) if *id == wanted)
}

/// Reads one test.
fn test(word: &str, run: &Recording) -> Result<Test, String> {
    let shown: String = word.chars().take(40).collect();
    let unknown = || format!("unknown condition '{shown}'; allowed: {FORMS}");
    if let Some((name, value)) = word.split_once('=') {
        return match name {
            "stale" => one_of(value, &HOLDERS, Holder::name).map(|holder| Test::Stale(Some(holder))),
            "conn" => match id_of(value) {
                Some(id) => Ok(Test::Conn(id)),
                None => client(value, run).map(Test::Client),
            },
            "op" => {
                let stops = Stop::ALL.map(Stop::name);
                let words: Vec<&'static str> = OPS.iter().chain(&stops).copied().collect();
                one_of(value, &words, |word| word).map(Test::Op)
            }
            "stopped" => one_of(value, &Stop::ALL, Stop::name).map(Test::Stopped),
            "turn" => {
                value.parse().map(Test::Turn).map_err(|_| format!("'{shown}': allowed: turn=N with a number"))
            }
            "phase" => one_of(value, &PHASES, TurnPhase::name).map(Test::Phase),
            _ => Err(unknown()),
        };
    }
    match word.strip_suffix(')').and_then(|word| word.split_once('(')) {
        Some(("sent", name)) => Ok(Test::Sent(Some(client(name, run)?))),
        Some(("closed", name)) => Ok(Test::Closed(Some(client(name, run)?))),
        Some(_) => Err(unknown()),
        None => match word {
            "stale" => Ok(Test::Stale(None)),
            "closed" => Ok(Test::Closed(None)),
            "sent" => Ok(Test::Sent(None)),
            _ => Err(unknown()),
        },
    }
}

/// Reads the name of a connection: `0.2` is slot 0, second connection of the loop.
pub(super) fn id_of(word: &str) -> Option<ConnId> {
    let (slot, generation) = word.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(slot) || !is_number(generation) {
        return None;
    }
    Some(ConnId::new(generation.parse().ok()?, slot.parse().ok()?))
}

/// Returns the number of the client with this name.
fn client(name: &str, run: &Recording) -> Result<u32, String> {
    run.client_named(name).ok_or_else(|| {
        let name: String = name.chars().take(40).collect();
        format!(
            "unknown name '{name}'; allowed: {}, or a connection such as 0.1",
            run.report.names.join(", ")
        )
    })
}

fn one_of<T: Copy>(word: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, String> {
    all.iter().copied().find(|one| name(*one) == word).ok_or_else(|| {
        let word: String = word.chars().take(40).collect();
        let allowed: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        format!("unknown word '{word}'; allowed: {}", allowed.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario::all;
    use crate::sim::stepper::Choice;

    #[test]
    fn every_word_of_a_step_can_be_searched_for() {
        for scenario in all() {
            let run = Recording::of(&scenario, &Choice::default());
            for step in &run.report.steps {
                assert!(OPS.contains(&step.step.word()), "{}", step.step.word());
            }
        }
    }

    #[test]
    fn names_of_connections_are_slot_and_number() {
        assert_eq!(id_of("0.2"), Some(ConnId::new(2, 0)));
        for bad in ["0", "0.", ".2", "0.-1", "a.b", "0.1.2", "0.99999999999", "+0.1"] {
            assert_eq!(id_of(bad), None, "{bad}");
        }
    }
}
