//! The places that still hold the name of a connection at a step: slot, poll, deadline, list of
//! carried connections, job and inbox.
//!
//! This file must not know how the places are shown.

use crate::conn_id::ConnId;
use crate::driver::decision::Decision;
use crate::observe::step::{Holder, Name, Step, Stop};
use crate::sim::scenario::ConnectionState;
use crate::sim::stepper::condition::is_event_of;
use crate::sim::stepper::recording::{Recording, ms};
use crate::sim::stepper::state::State;

/// One place that may hold a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: &'static str,
    /// True if the name is there now.
    pub(super) holds: bool,
    pub(super) text: String,
}

impl Place {
    fn new(name: &'static str, holds: bool, text: impl Into<String>) -> Place {
        Place { name, holds, text: text.into() }
    }
}

/// The life of a connection until a position.
#[derive(Debug, Default)]
struct Life {
    accepted: Option<u32>,
    is_registered: bool,
    closed: Option<(u32, &'static str)>,
    freed: Option<u32>,
    /// True if this turn has an event for the name.
    has_event: bool,
    stale: Vec<(u32, Holder)>,
}

fn life(run: &Recording, id: ConnId, position: usize) -> Life {
    let mut life = Life::default();
    let mut turn = 0;
    for step in &run.report.steps[..position] {
        match step.step {
            Step::TurnStart { turn: start, .. } => (turn, life.has_event) = (start.number, false),
            Step::TurnEnd(_) => life.has_event = false,
            Step::Accept { accepted: Ok(other), .. } if other == id => life.accepted = Some(turn),
            Step::Register { name: Name::Conn(other), stop: Stop::Done } if other == id => {
                life.is_registered = true;
            }
            Step::Close { id: other, reason } if other == id => life.closed = Some((turn, reason.name())),
            Step::Free { id: other } if other == id => life.freed = Some(turn),
            Step::Stale { name: Name::Conn(other), holder } if other == id => life.stale.push((turn, holder)),
            step if is_event_of(&step, id) => life.has_event = true,
            _ => {}
        }
    }
    life
}

/// Returns all places for a name at a position, the slot first.
pub(super) fn holders(run: &Recording, id: ConnId, position: usize) -> Vec<Place> {
    let state = State::at(run, position);
    let life = life(run, id, position);
    let Some(accepted) = life.accepted else {
        let text = format!("{} is not accepted yet; the name does not exist at this step", run.named(id));
        return vec![Place::new("slot", false, text)];
    };
    let mut places = vec![slot(run, id, &state, &life, accepted), poll(&state, run, id, &life)];
    places.push(deadline(run, id, &state, &life));
    let is_carried = state.connection(id).is_some_and(|one| one.is_carried);
    let carried =
        if is_carried { "the next turn continues with it without an event" } else { "not in the list" };
    places.push(Place::new("carried", is_carried, carried));
    places.push(job(id, &state));
    let results = state.inbox.iter().filter(|other| **other == id).count();
    places.push(match results {
        0 => Place::new("inbox", false, "no result"),
        _ => Place::new("inbox", true, "a result that the loop has not taken yet"),
    });
    for (turn, holder) in &life.stale {
        let text =
            format!("turn {turn}: the {} for this name found no connection, and was dropped", holder.name());
        places.push(Place::new("stale", false, text));
    }
    places
}

fn slot(run: &Recording, id: ConnId, state: &State, life: &Life, accepted: u32) -> Place {
    let slot = id.slot();
    let text = match (life.closed, life.freed) {
        (_, None) if life.closed.is_none() => format!("slot {slot}, since turn {accepted}"),
        (Some((turn, reason)), None) => {
            format!("slot {slot}: closed in turn {turn} ({reason}), occupied until the end of the turn")
        }
        (closed, freed) => {
            let closed = closed.map(|(turn, reason)| format!("closed in turn {turn} ({reason}), "));
            let freed = freed.unwrap_or_default();
            let owner = match state.in_slot(slot) {
                Some(owner) => format!("now {} has slot {slot}", run.named(owner.id)),
                None => format!("slot {slot} is empty"),
            };
            format!("{}freed in turn {freed}; {owner}", closed.unwrap_or_default())
        }
    };
    Place::new("slot", state.connection(id).is_some(), text)
}

fn poll(state: &State, run: &Recording, id: ConnId, life: &Life) -> Place {
    let pending = run.owner(id).and_then(|client| state.sockets.get(client as usize)).map(|one| one.pending);
    let is_pending =
        pending.is_some_and(|one| one.readable || one.writable || one.read_closed || one.hung_up);
    match (life.is_registered, life.freed.is_some()) {
        (_, true) if life.has_event => Place::new("poll", true, "an event of this turn has the name"),
        (_, true) => Place::new("poll", false, "the socket is closed, so the kernel has forgotten the name"),
        (false, false) => Place::new("poll", false, "not registered yet: no read would have blocked so far"),
        (true, false) if life.has_event => {
            Place::new("poll", true, "registered; an event of this turn has the name")
        }
        (true, false) if is_pending => Place::new("poll", true, "registered; the next poll reports it"),
        (true, false) => Place::new("poll", true, "registered; nothing to report"),
    }
}

fn deadline(run: &Recording, id: ConnId, state: &State, life: &Life) -> Place {
    let seen = state.connection(id).and_then(|one| one.seen.as_ref());
    let armed = seen.and_then(|seen| seen.armed_ns).map(ms);
    match armed {
        _ if life.closed.is_some() && run.wrong().contains(Decision::RemoveDeadline) => {
            Place::new("deadline", true, "its entry was left in the queue (bug deadline-not-removed)")
        }
        _ if life.closed.is_some() => Place::new("deadline", false, "its entry was removed at the close"),
        Some(at) => {
            Place::new("deadline", true, format!("an entry at {at}, seen after turn {}", state.seen_in))
        }
        None => Place::new("deadline", false, not_armed(seen)),
    }
}

/// Returns the reason why an open connection has no entry.
fn not_armed(seen: Option<&ConnectionState>) -> String {
    let Some(seen) = seen else { return "armed at the end of this turn".to_string() };
    // Only a bug of the loop leaves a connection without an entry for its deadline.
    match seen.deadline_ns {
        Some(at) => format!("no entry, although its deadline is {}", ms(at)),
        None => "it waits for nothing that has a deadline".to_string(),
    }
}

fn job(id: ConnId, state: &State) -> Place {
    if let Some((_, ends)) = state.jobs_running.iter().find(|(running, _)| *running == id) {
        let ends = ends.map_or_else(String::new, |ns| format!(" until {}", ms(ns)));
        return Place::new(
            "job",
            true,
            format!("a worker is busy with it{ends}, and nobody can call it back"),
        );
    }
    match state.jobs_waiting.contains(&id) {
        true => Place::new("job", true, "waits for a worker, and can still be removed"),
        false => Place::new("job", false, "no job"),
    }
}
