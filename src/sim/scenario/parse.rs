//! The reader of scenarios: one word at the beginning of each line decides its meaning.
//!
//! `docs/scenarios.md` describes every word. An error names file, line and allowed words. Sizes
//! and counts are bounded, because a scenario may come from a stranger. This file must not know how
//! a scenario runs.

use crate::config::{KIB, Limits, MIB, Timeouts};
use crate::driver::outcome::Signal;
use crate::sim::bugs::BUGS;
use crate::sim::scenario::expect::{client, parse_expectation};
use crate::sim::scenario::script::{
    Action, BugNote, ClientScript, Does, Fault, Route, RouteBody, Scenario, When, Work,
};
use crate::sim::scenario::words::{ParseError, Parsed, TIME_NS_MAX, Words, found};

/// Largest scenario in bytes. A page has 4 KiB.
pub const SCENARIO_BYTES_MAX: usize = 64 * KIB;

/// Largest number of clients, routes, signals, faults, or lines of one kind.
const ITEMS_MAX: usize = 64;

/// Largest number of actions of one client.
const ACTIONS_MAX: usize = 256;

/// Bytes that all clients may send together.
const SENT_BYTES_MAX: usize = 8 * MIB;

/// Largest content of a response.
const BODY_BYTES_MAX: usize = MIB;

/// Largest number of turns that a scenario may ask for, and the number without a `turns` line.
const TURNS_MAX: u64 = 20_000;
const TURNS: u32 = 2000;

/// Capacity of a socket in each direction if the scenario sets none, in bytes.
const SOCKET_BYTES: usize = 24 * KIB;

/// The words that begin a line.
const LINES: [&str; 18] = [
    "title",
    "question",
    "guess",
    "answer",
    "because",
    "limit",
    "timeout",
    "sockets",
    "socket",
    "workers",
    "until",
    "turns",
    "route",
    "client",
    "signal",
    "fault",
    "expect, shows",
    "bug",
];

/// A scenario that is being read.
struct Reader {
    scenario: Scenario,
    answer: Option<String>,
    sent_bytes: usize,
}

impl Scenario {
    /// Reads a scenario. `file` is the name for messages; the scenario is named after its last part
    /// without `.txt`.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, ParseError> {
        let error = |line: usize, what: String| ParseError { file: file.to_owned(), line, what };
        if text.len() > SCENARIO_BYTES_MAX {
            let what = format!("the file has {} bytes; allowed: at most {SCENARIO_BYTES_MAX}", text.len());
            return Err(error(1, what));
        }
        let mut reader = Reader { scenario: empty(file, text), answer: None, sent_bytes: 0 };
        let mut last = 1;
        for (at, line) in text.lines().enumerate() {
            last = at + 1;
            reader.line(line, last).map_err(|what| error(last, what))?;
        }
        reader.finish().map_err(|what| error(last, what))
    }
}

fn empty(file: &str, text: &str) -> Scenario {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let limits = Limits { connections_max: 1000, ..Limits::default() };
    Scenario {
        name: name.strip_suffix(".txt").unwrap_or(name).to_owned(),
        file: file.to_owned(),
        text: text.to_owned(),
        title: String::new(),
        question: String::new(),
        guesses: Vec::new(),
        answer: 0,
        because: String::new(),
        limits,
        timeouts: Timeouts::default(),
        bugs: Vec::new(),
        sockets_max: 1000,
        socket_bytes: SOCKET_BYTES,
        workers: 4,
        until_ns: None,
        turns_max: TURNS,
        routes: Vec::new(),
        clients: Vec::new(),
        signals: Vec::new(),
        faults: Vec::new(),
        expectations: Vec::new(),
    }
}

impl Reader {
    fn line(&mut self, line: &str, number: usize) -> Parsed<()> {
        let is_indented = line.starts_with([' ', '\t']);
        let mut words = Words::of(line);
        let first = words.peek();
        if first.is_empty() || first.starts_with('#') {
            return Ok(());
        }
        if is_indented {
            return self.action(&mut words);
        }
        words.word("a word")?;
        let scenario = &mut self.scenario;
        match first {
            "title" => scenario.title = words.rest().to_owned(),
            "question" => append(&mut scenario.question, words.rest()),
            "because" => append(&mut scenario.because, words.rest()),
            "guess" => push(&mut scenario.guesses, words.rest().to_owned(), "guesses")?,
            "answer" => self.answer = Some(words.rest().to_owned()),
            "limit" => limit(&mut scenario.limits, &mut words)?,
            "timeout" => timeout(&mut scenario.timeouts, &mut words)?,
            "sockets" => scenario.sockets_max = words.number("a number of sockets", 1, 1000)? as usize,
            "socket" => {
                scenario.socket_bytes = words.number("a number of bytes", 1, MIB as u64)? as usize;
                words.expect("bytes")?;
            }
            "workers" => scenario.workers = words.number("a number of workers", 1, 64)? as usize,
            "until" => scenario.until_ns = Some(words.time()?),
            "turns" => scenario.turns_max = words.number("a number of turns", 1, TURNS_MAX)? as u32,
            "route" => {
                let route = route(&mut words)?;
                push(&mut scenario.routes, route, "routes")?;
            }
            "client" => {
                let name = words.word("the name of a client")?.to_owned();
                if scenario.clients.iter().any(|client| client.name == name) {
                    return Err(format!("a client {name} exists already; allowed: each name once"));
                }
                push(&mut scenario.clients, ClientScript { name, actions: Vec::new() }, "clients")?;
            }
            "signal" => {
                let signal = (words.time()?, SIGNALS[words.one_of(&SIGNALS.map(|(name, _)| name))?].1);
                push(&mut scenario.signals, signal, "signals")?;
            }
            "fault" => {
                let fault = (words.time()?, fault(&scenario.clients, &mut words)?);
                push(&mut scenario.faults, fault, "faults")?;
            }
            "expect" | "shows" => {
                let always = first == "expect";
                let one = parse_expectation(&scenario.clients, &mut words, always)?;
                push(&mut scenario.expectations, one, "expectations")?;
            }
            "bug" => {
                let bug = bug(&mut words, number)?;
                push(&mut scenario.bugs, bug, "bugs")?;
            }
            other => return Err(found(other, &LINES)),
        }
        words.end()
    }

    /// Reads an indented line: an action of the client above.
    fn action(&mut self, words: &mut Words<'_>) -> Parsed<()> {
        let Some(client) = self.scenario.clients.last_mut() else {
            return Err("an indented line without a client; allowed: actions below a client line".into());
        };
        let when = match words.take("then") {
            true => When::Answered(if starts_with_digit(words.peek()) { words.time()? } else { 0 }),
            false => When::At(words.time().map_err(|error| format!("{error}, or then"))?),
        };
        let does = does(words)?;
        words.end()?;
        if let Does::Sends { bytes, .. } = &does {
            self.sent_bytes += bytes.len();
        }
        if self.sent_bytes > SENT_BYTES_MAX {
            return Err(format!("all clients together send too much; allowed: {SENT_BYTES_MAX} bytes"));
        }
        if client.actions.len() >= ACTIONS_MAX {
            return Err(format!("too many actions; allowed: {ACTIONS_MAX} for each client"));
        }
        client.actions.push(Action { when, does });
        Ok(())
    }

    /// Checks the whole.
    fn finish(self) -> Parsed<Scenario> {
        let mut scenario = self.scenario;
        if scenario.clients.is_empty() {
            return Err("no client; allowed: at least one client line".into());
        }
        if let Some(answer) = self.answer {
            let right = scenario.guesses.iter().position(|guess| *guess == answer);
            scenario.answer = right.ok_or_else(|| {
                format!("the answer '{answer}' is no guess; allowed: the text of a guess line")
            })?;
        } else if !scenario.guesses.is_empty() {
            return Err("guesses without an answer; allowed: an answer line with one of them".into());
        }
        let is_unexpected =
            |at: &usize| !scenario.expectations.iter().any(|one| one.what.is_about_responses_of(*at));
        if let Some(at) = (0..scenario.clients.len()).find(is_unexpected) {
            let name = &scenario.clients[at].name;
            return Err(format!(
                "nothing is expected for {name}; allowed: expect {name} receives .. for each client"
            ));
        }
        Ok(scenario)
    }
}

fn append(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(line);
}

fn push<T>(items: &mut Vec<T>, item: T, what: &str) -> Parsed<()> {
    if items.len() >= ITEMS_MAX {
        return Err(format!("too many {what}; allowed: {ITEMS_MAX}"));
    }
    items.push(item);
    Ok(())
}

fn starts_with_digit(word: &str) -> bool {
    word.starts_with(|char: char| char.is_ascii_digit())
}

const SIGNALS: [(&str, Signal); 5] = [
    ("interrupt", Signal::Interrupt),
    ("terminate", Signal::Terminate),
    ("quit", Signal::Quit),
    ("hangup", Signal::TerminalClosed),
    ("reopen", Signal::Reopen),
];

const LIMITS: [&str; 14] = [
    "connections_max",
    "turn_bytes_max",
    "turn_requests_max",
    "accepts_per_turn",
    "deadlines_per_turn",
    "send_high_water_bytes",
    "send_low_water_bytes",
    "head_bytes_max",
    "body_bytes_max",
    "discard_bytes_max",
    "pool_bytes_max",
    "jobs_max",
    "events_per_poll",
    "batch_connections_max",
];

fn limit(limits: &mut Limits, words: &mut Words<'_>) -> Parsed<()> {
    let which = LIMITS[words.one_of(&LIMITS)?];
    let value = words.number("a limit", 1, 1 << 30)?;
    set_limit(limits, which, value);
    Ok(())
}

/// Sets the limit with this name, which is one of [`LIMITS`].
fn set_limit(limits: &mut Limits, which: &str, value: u64) {
    let size = value as usize;
    match which {
        "connections_max" => limits.connections_max = size,
        "turn_bytes_max" => limits.turn_bytes_max = size,
        "turn_requests_max" => limits.turn_requests_max = size,
        "accepts_per_turn" => limits.accepts_per_turn = size,
        "deadlines_per_turn" => limits.deadlines_per_turn = size,
        "send_high_water_bytes" => limits.send_high_water_bytes = size,
        "send_low_water_bytes" => limits.send_low_water_bytes = size,
        "head_bytes_max" => limits.head_bytes_max = size.max(KIB),
        "body_bytes_max" => limits.body_bytes_max = value,
        "discard_bytes_max" => limits.discard_bytes_max = value,
        "pool_bytes_max" => limits.pool_bytes_max = size,
        "jobs_max" => limits.jobs_max = size,
        "events_per_poll" => limits.events_per_poll = size,
        _ => limits.batch_connections_max = size,
    }
}

impl Scenario {
    /// Changes one limit as by a `limit` line: `turn_requests_max=1`.
    pub fn set(&mut self, assignment: &str) -> Result<(), String> {
        let (name, value) = assignment.split_once('=').ok_or_else(|| {
            format!("'{assignment}' sets nothing; allowed: NAME=NUMBER with a name of {LIMITS:?}")
        })?;
        let line = format!("{name} {value}");
        let mut words = Words::of(&line);
        limit(&mut self.limits, &mut words)?;
        words.end()
    }
}

const TIMEOUTS: [&str; 7] = ["header", "body", "send", "idle", "answer", "linger", "drain"];

fn timeout(timeouts: &mut Timeouts, words: &mut Words<'_>) -> Parsed<()> {
    let which = words.one_of(&TIMEOUTS)?;
    let value = match words.take("off") {
        true => None,
        false => Some(std::time::Duration::from_nanos(words.time()?)),
    };
    let always = value.unwrap_or(std::time::Duration::from_nanos(TIME_NS_MAX));
    match TIMEOUTS[which] {
        "header" => timeouts.header = value,
        "body" => timeouts.body = value,
        "send" => timeouts.send = value,
        "idle" => timeouts.idle = value,
        "answer" => timeouts.answer = value,
        "linger" => timeouts.linger = always,
        _ => timeouts.drain = always,
    }
    Ok(())
}

/// Reads a route: `/slow job 30ms responds "text" closing`.
fn route(words: &mut Words<'_>) -> Parsed<Route> {
    let path = words.word("a path")?.to_owned();
    if !path.starts_with('/') {
        return Err(format!("'{path}' is not a path; allowed: a word that begins with /"));
    }
    let work = match words.peek() {
        "job" | "works" => {
            let is_job = words.take("job");
            if !is_job {
                words.expect("works")?;
            }
            let ns = words.time()?;
            if is_job { Work::Job(ns) } else { Work::Inline(ns) }
        }
        _ => Work::None,
    };
    let body = match words.one_of(&["responds", "echoes"])? {
        0 if words.is_quoted() => RouteBody::Text(String::from_utf8_lossy(&words.quoted()?).into_owned()),
        0 => {
            let bytes = words.number("a number of bytes", 0, BODY_BYTES_MAX as u64)?;
            words.expect("bytes")?;
            RouteBody::Bytes(bytes as usize)
        }
        _ => RouteBody::Echo,
    };
    Ok(Route { path, work, body, closes: words.take("closing") })
}

const ACTIONS: [&str; 5] = ["connects", "sends", "shuts", "resets", "reads"];

/// Reads the action of a client.
fn does(words: &mut Words<'_>) -> Parsed<Does> {
    Ok(match words.one_of(&ACTIONS)? {
        0 => Does::Connects,
        1 => sends(words)?,
        2 => Does::Shuts,
        3 => Does::Resets,
        _ if words.take("nothing") => Does::ReadsAll(false),
        _ if words.take("everything") => Does::ReadsAll(true),
        _ => {
            let bytes = words
                .number("a number of bytes", 1, MIB as u64)
                .map_err(|error| format!("{error}, nothing, or everything"))?;
            words.expect("bytes")?;
            Does::Reads(bytes as usize)
        }
    })
}

/// Reads what a client sends: raw text, or a request that is written out.
fn sends(words: &mut Words<'_>) -> Parsed<Does> {
    if words.is_quoted() {
        return Ok(Does::Sends { bytes: words.quoted()?, requests: 0 });
    }
    let method =
        ["GET", "POST"][words.one_of(&["GET", "POST", "text in double quotes"]).map(|at| at.min(1))?];
    let path = words.word("a path")?;
    let mut one = format!("{method} {path} HTTP/1.1\r\nHost: sim\r\n").into_bytes();
    if method == "POST" {
        let len = words.number("a number of bytes", 0, MIB as u64)? as usize;
        words.expect("bytes")?;
        one.extend(format!("Content-Length: {len}\r\n").bytes());
        end_head(&mut one, words);
        one.extend((0..len).map(|at| b'a' + (at % 26) as u8));
    } else {
        end_head(&mut one, words);
    }
    let times = match starts_with_digit(words.peek()) {
        true => {
            let times = words.number("a number of times", 1, 10_000)?;
            words.expect("times")?;
            times as usize
        }
        false => 1,
    };
    if one.len().saturating_mul(times) > SENT_BYTES_MAX {
        return Err(format!(
            "{times} times {} bytes are too much; allowed: {SENT_BYTES_MAX} bytes",
            one.len()
        ));
    }
    Ok(Does::Sends { bytes: one.repeat(times), requests: times })
}

/// Ends a request head, with `Connection: close` if the line contains `closing`.
fn end_head(head: &mut Vec<u8>, words: &mut Words<'_>) {
    if words.take("closing") {
        head.extend_from_slice(b"Connection: close\r\n");
    }
    head.extend_from_slice(b"\r\n");
}

const FAULTS: [&str; 5] = ["spurious", "interrupts", "short-read", "write-blocks", "wake-ups"];

fn fault(clients: &[ClientScript], words: &mut Words<'_>) -> Parsed<Fault> {
    Ok(match words.one_of(&FAULTS)? {
        0 => Fault::Spurious(client(clients, words)?),
        1 => Fault::Interrupts(client(clients, words)?),
        2 => Fault::ShortRead(
            client(clients, words)?,
            words.number("a number of bytes", 1, MIB as u64)? as usize,
        ),
        3 => Fault::WriteBlocks(client(clients, words)?),
        _ => Fault::WakeUps(words.number("a number of wake-ups", 1, 100)? as u32),
    })
}

fn bug(words: &mut Words<'_>, line: usize) -> Parsed<BugNote> {
    let names = BUGS.map(|bug| bug.name);
    let bug = &BUGS[words.one_of(&names)?];
    let fails = words.one_of(&["fails", "green"])? == 0;
    let text = words.rest().to_owned();
    if text.is_empty() {
        return Err(
            "the line ends too early; allowed: the first symptom, or why the scenario stays green".into()
        );
    }
    Ok(BugNote { bug: bug.name.to_owned(), decision: bug.decision, fails, text, line })
}

#[cfg(test)]
mod tests;
