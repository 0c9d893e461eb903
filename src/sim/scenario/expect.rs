//! Expectations: how a scenario writes them, and whether a run meets them.
//!
//! A response is judged as soon as it is complete, everything else at the end. This file must not
//! know how the server works.

use crate::http::CloseReason;
use crate::observe::step::Holder;
use crate::sim::scenario::responses::{Inbound, Received};
use crate::sim::scenario::script::{ClientScript, Count, Expectation, Expected, ExpectedBody};
use crate::sim::scenario::words::{Parsed, Words, found};

const BODY_BYTES_MAX: u64 = 1 << 30;

/// The possible holders of a stale name.
const HOLDERS: [Holder; 4] = [Holder::Event, Holder::Result, Holder::Deadline, Holder::Carried];

/// Reads the rest of an `expect` or `shows` line.
pub(super) fn parse_expectation(
    clients: &[ClientScript],
    words: &mut Words<'_>,
    always: bool,
) -> Parsed<Expectation> {
    let what = match words.peek() {
        "stale" => {
            words.word("stale")?;
            let holder = HOLDERS[words.one_of(&HOLDERS.map(Holder::name))?];
            Expected::Stale(holder, count(words)?)
        }
        "turns" => {
            words.word("turns")?;
            Expected::Turns(count(words)?)
        }
        "stopped" => {
            words.word("stopped")?;
            Expected::Stopped
        }
        other if clients.iter().any(|client| client.name == other) => {
            let at = client(clients, words)?;
            about_client(at, words)?
        }
        other => {
            let names = clients.iter().map(|client| &*client.name);
            let allowed: Vec<&str> = names.chain(["stale", "turns", "stopped"]).collect();
            return Err(found(other, &allowed));
        }
    };
    Ok(Expectation { always, what })
}

/// Takes the name of a client and returns its index.
pub(super) fn client(clients: &[ClientScript], words: &mut Words<'_>) -> Parsed<usize> {
    let names: Vec<&str> = clients.iter().map(|client| &*client.name).collect();
    words.one_of(&names)
}

fn about_client(client: usize, words: &mut Words<'_>) -> Parsed<Expected> {
    if words.take("receives") {
        return receives(client, words);
    }
    words.expect("is").map_err(|_| found(words.peek(), &["receives", "is"]))?;
    if words.peek().contains('.') {
        return Ok(Expected::HasId(client, words.word("a name")?.to_owned()));
    }
    match words.one_of(&["closed", "open", "reset", "carried"]) {
        Ok(0) => {
            let names = CloseReason::ALL.map(CloseReason::name);
            Ok(Expected::IsClosed(client, CloseReason::ALL[words.one_of(&names)?]))
        }
        Ok(1) => Ok(Expected::IsOpen(client)),
        Ok(2) => Ok(Expected::IsReset(client)),
        Ok(_) => Ok(Expected::Carried(client, count(words)?)),
        Err(error) => Err(format!("{error}, or a name like 0.1")),
    }
}

/// Reads `receives 200 "text" after 5ms before 9ms`.
fn receives(client: usize, words: &mut Words<'_>) -> Parsed<Expected> {
    if words.take("nothing") {
        return Ok(Expected::Nothing(client));
    }
    let status = words.number("a status", 200, 599)? as u16;
    let body = if words.is_quoted() {
        ExpectedBody::Text(String::from_utf8_lossy(&words.quoted()?).into_owned())
    } else if words.peek().starts_with(|char: char| char.is_ascii_digit()) {
        let bytes = words.number("a number of bytes", 0, BODY_BYTES_MAX)? as usize;
        words.expect("bytes")?;
        ExpectedBody::Bytes(bytes)
    } else {
        ExpectedBody::Any
    };
    let after_ns = if words.take("after") { words.time()? } else { 0 };
    let before_ns = if words.take("before") { words.time()? } else { u64::MAX };
    Ok(Expected::Response { client, status, body, after_ns, before_ns })
}

fn count(words: &mut Words<'_>) -> Parsed<Count> {
    let is_bound = words.take("at");
    let which = if is_bound { words.one_of(&["least", "most"])? } else { 2 };
    let number = words.number("a number", 0, 1 << 40)?;
    Ok([Count::AtLeast, Count::AtMost, Count::Exactly][which](number))
}

impl Expected {
    /// True if the expectation is about the responses of this client.
    pub(super) fn is_about_responses_of(&self, at: usize) -> bool {
        matches!(self, Expected::Response { client, .. } | Expected::Nothing(client) if *client == at)
    }
}

/// Facts about a run that expectations compare.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) clients: Vec<ClientFacts>,
    /// Stale names, in the order of [`HOLDERS`].
    pub(super) stale: [u64; 4],
    pub(super) turns: u64,
    pub(super) is_stopped: bool,
}

/// Facts about one client.
#[derive(Debug, Default, Clone)]
pub(super) struct ClientFacts {
    /// Name of its connection: `0.1`.
    pub(super) id: Option<String>,
    pub(super) closed: Option<CloseReason>,
    pub(super) is_reset: bool,
    pub(super) carried: u64,
}

impl Facts {
    /// Counts a stale name.
    pub(super) fn note_stale(&mut self, holder: Holder) {
        self.stale[place(holder)] += 1;
    }
}

fn place(holder: Holder) -> usize {
    HOLDERS.iter().position(|other| *other == holder).unwrap_or_default()
}

/// The responses that each client is expected to receive, in order.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    expectations: &'a [Expectation],
    names: Vec<&'a str>,
    /// True if the run has a seed, so that only facts count that always hold.
    is_seeded: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn new(expectations: &'a [Expectation], clients: &'a [ClientScript], is_seeded: bool) -> Self {
        Judge { expectations, names: clients.iter().map(|client| &*client.name).collect(), is_seeded }
    }

    /// Returns the expected responses of a client in order.
    fn responses(&self, at: usize) -> impl Iterator<Item = &'a Expectation> {
        let is_its =
            move |one: &&Expectation| matches!(one.what, Expected::Response { client, .. } if client == at);
        self.expectations.iter().filter(is_its)
    }

    /// True if an expectation counts in this run.
    fn counts(&self, one: &Expectation) -> bool {
        one.always || !self.is_seeded
    }

    /// Judges the response number `index` of a client.
    pub(super) fn response(&self, at: usize, index: usize, got: &Received) -> Result<(), String> {
        let name = self.names[at];
        let wanted_next = self.responses(at).nth(index).map(|one| &one.what);
        let Some(Expected::Response { status, body, after_ns, before_ns, .. }) = wanted_next else {
            return Err(format!("{name} received {}, and expects no further response", shown(got)));
        };
        let fits = match body {
            ExpectedBody::Any => true,
            ExpectedBody::Text(text) => got.body == text.as_bytes(),
            ExpectedBody::Bytes(bytes) => got.body.len() == *bytes,
        };
        if got.status != *status || !fits {
            return Err(format!("{name} received {} instead of {}", shown(got), wanted(*status, body)));
        }
        if got.at_ns < *after_ns || got.at_ns > *before_ns {
            let (at, bound) = (time(got.at_ns), if got.at_ns < *after_ns { after_ns } else { before_ns });
            let side = if got.at_ns < *after_ns { "not before" } else { "not after" };
            return Err(format!("{name} received {} at {at}, {side} {}", shown(got), time(*bound)));
        }
        Ok(())
    }

    /// Judges everything at the end of a run. Returns the first expectation that is not met.
    pub(super) fn end(&self, facts: &Facts, inbound: &[&Inbound]) -> Result<(), String> {
        for (at, received) in inbound.iter().enumerate() {
            let missing = self.responses(at).nth(received.responses.len()).filter(|one| self.counts(one));
            if let Some(Expected::Response { status, body, .. }) = missing.map(|one| &one.what) {
                let (name, wanted) = (self.names[at], wanted(*status, body));
                return Err(match received.incomplete() {
                    0 => format!("{name} never received {wanted}"),
                    bytes => format!("{name} received only {bytes} bytes of {wanted}"),
                });
            }
        }
        self.expectations
            .iter()
            .filter(|one| self.counts(one))
            .try_for_each(|one| self.fact(&one.what, facts))
    }

    /// Judges one fact about the whole run.
    fn fact(&self, what: &Expected, facts: &Facts) -> Result<(), String> {
        let client = |at: &usize| (self.names[*at], &facts.clients[*at]);
        let (holds, found) = match what {
            // Judged when they arrived.
            Expected::Response { .. } | Expected::Nothing(_) => return Ok(()),
            Expected::IsReset(at) => {
                let (name, client) = client(at);
                (client.is_reset, format!("{name} was not reset"))
            }
            Expected::IsClosed(at, reason) => {
                let (name, client) = client(at);
                let found = match client.closed {
                    Some(found) => format!("{name} was closed for {}, not {}", found.name(), reason.name()),
                    None => format!("{name} was never closed; {} was expected", reason.name()),
                };
                (client.closed == Some(*reason), found)
            }
            Expected::IsOpen(at) => {
                let (name, client) = client(at);
                let found = client.closed.map_or("not accepted", CloseReason::name);
                (client.id.is_some() && client.closed.is_none(), format!("{name} is not open: {found}"))
            }
            Expected::Carried(at, count) => {
                let (name, client) = client(at);
                let found = format!("{name} was carried {} times, not {count}", client.carried);
                (count.fits(client.carried), found)
            }
            Expected::HasId(at, id) => {
                let (name, client) = client(at);
                let found = client.id.as_deref().unwrap_or("not accepted");
                (client.id.as_ref() == Some(id), format!("{name} is {found}, not {id}"))
            }
            Expected::Stale(holder, count) => {
                let found = facts.stale[place(*holder)];
                let text = format!("{found} stale names of kind {}, not {count}", holder.name());
                (count.fits(found), text)
            }
            Expected::Turns(count) => {
                (count.fits(facts.turns), format!("{} turns, not {count}", facts.turns))
            }
            Expected::Stopped => (facts.is_stopped, "the server has not stopped".to_owned()),
        };
        if holds { Ok(()) } else { Err(found) }
    }
}

/// Longest text of a body in a message.
const SHOWN_BYTES_MAX: usize = 40;

fn shown(got: &Received) -> String {
    match std::str::from_utf8(&got.body) {
        Ok(text) if text.len() <= SHOWN_BYTES_MAX => format!("{} {text:?}", got.status),
        _ => format!("{} with {} bytes", got.status, got.body.len()),
    }
}

fn wanted(status: u16, body: &ExpectedBody) -> String {
    match body {
        ExpectedBody::Any => status.to_string(),
        ExpectedBody::Text(text) => format!("{status} {text:?}"),
        ExpectedBody::Bytes(bytes) => format!("{status} with {bytes} bytes"),
    }
}

/// Writes a time of the simulated clock.
pub(super) fn time(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}
