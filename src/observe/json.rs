//! The JSON form of steps: one object on each line, for programs.
//!
//! `docs/steps.md` has the schema. A change that an existing reader could misunderstand needs a new
//! [`SCHEMA_VERSION`]. This file must not know who reads the lines.

use std::fmt::Write as _;

use crate::observe::step::{
    Event, Fact, Step, TimedStep, Transfer, TurnEnd, TurnPhase, TurnStart, WaitUntil,
};
use crate::text::push_json_string;

/// Version of the schema of the JSON form.
pub const SCHEMA_VERSION: u32 = 1;

/// Returns the first line of a record: what it is, the version of its schema, and the names of the
/// clients of a simulation by number.
#[must_use]
pub fn json_header(clients: &[String]) -> String {
    let mut object = Object::new();
    object.text("record", "whirligig-steps").number("version", SCHEMA_VERSION.into());
    let mut names = String::from("[");
    for (number, client) in clients.iter().enumerate() {
        if number > 0 {
            names.push(',');
        }
        push_json_string(client, &mut names);
    }
    object.raw("clients", &(names + "]"));
    object.end()
}

impl TimedStep {
    /// Returns the step as one JSON object, without a line end.
    #[must_use]
    pub fn json(&self) -> String {
        let mut object = Object::new();
        object.number("at_ns", self.at_ns).text("step", self.step.word());
        match self.step {
            Step::TurnStart { turn, waited_ns } => turn_start(&mut object, &turn, waited_ns),
            Step::Phase(phase) => _ = object.text("phase", phase.name()),
            Step::Event(event) => write_event(&mut object, event),
            Step::Accept { listener, accepted } => {
                object.number("listener", listener.into());
                match accepted {
                    Ok(id) => object.text("id", &id.to_string()).text("stop", "done"),
                    Err(stop) => object.text("stop", stop.name()),
                };
            }
            Step::Read(transfer) | Step::Write(transfer) | Step::Sendfile(transfer) => {
                let Transfer { id, asked, got, stop } = transfer;
                object.text("id", &id.to_string()).number("asked", asked).number("got", got);
                object.text("stop", stop.name());
            }
            Step::Register { name, stop } => {
                object.text("id", &name.to_string()).text("stop", stop.name());
            }
            Step::Respond { id, method, status } => {
                object.text("id", &id.to_string());
                match method {
                    Some(method) => object.text("method", method.name()),
                    None => object.raw("method", "null"),
                };
                object.number("status", status.code().into());
            }
            Step::Result { id, kind } => _ = object.text("id", &id.to_string()).text("kind", kind.name()),
            Step::Advance { id, conn } => {
                object.text("id", &format!("w{id}")).text("conn", &conn.to_string());
            }
            Step::Deadline { id, found } => {
                object.text("id", &id.to_string()).text("found", found.name());
            }
            Step::Carry { id } => _ = object.text("id", &id.to_string()).text("stop", "budget"),
            Step::Job { id } | Step::Panic { id } | Step::Free { id } => {
                object.text("id", &id.to_string());
            }
            Step::Shut { id, stop } => _ = object.text("id", &id.to_string()).text("stop", stop.name()),
            Step::Close { id, reason } => {
                object.text("id", &id.to_string()).text("reason", reason.name());
            }
            Step::Stale { name, holder } => {
                object.text("id", &name.to_string()).text("holder", holder.name());
            }
            Step::TurnEnd(end) => turn_end(&mut object, &end),
            Step::Fact(fact) => write_fact(&mut object, fact),
        }
        object.text("source", &self.place());
        object.end()
    }

    /// Returns file and line of the source that reported the step: `src/reactor/mod.rs:208`.
    #[must_use]
    pub fn place(&self) -> String {
        // A build of another package has an absolute path before `src`.
        let file = self.source.file();
        let file = file.rfind("src/").map_or(file, |at| &file[at..]);
        format!("{file}:{}", self.source.line())
    }
}

fn turn_start(object: &mut Object, turn: &TurnStart, waited_ns: u64) {
    object.number("turn", turn.number.into()).number("events", turn.events.into());
    object.number("waited_ns", waited_ns);
    match turn.timeout_ns {
        Some(timeout_ns) => object.number("timeout_ns", timeout_ns),
        None => object.raw("timeout_ns", "null"),
    };
    let (until, id) = match turn.until {
        WaitUntil::Event => ("event", None),
        WaitUntil::Carried => ("carried", None),
        WaitUntil::Deadline(id) => ("deadline", Some(id.to_string())),
        WaitUntil::WatchDeadline(id) => ("deadline", Some(format!("w{id}"))),
        WaitUntil::Accept => ("accept", None),
        WaitUntil::LogFlush => ("log-flush", None),
        WaitUntil::CacheSweep => ("cache-sweep", None),
        WaitUntil::Stop => ("stop", None),
        WaitUntil::Frame => ("frame", None),
    };
    object.text("until", until);
    if let Some(id) = id {
        object.text("id", &id);
    }
}

fn turn_end(object: &mut Object, end: &TurnEnd) {
    object.number("turn", end.number.into()).number("open", end.open.into()).number("took_ns", end.took_ns);
    let mut phases = Object::new();
    for (phase, spent_ns) in TurnPhase::WORK.iter().zip(end.phases_ns) {
        phases.number(phase.name(), spent_ns);
    }
    object.raw("phases_ns", &phases.end());
}

fn write_event(object: &mut Object, event: Event) {
    match event {
        Event::Ready { id, ready } => {
            object.text("kind", "ready").text("id", &id.to_string());
            object.flag("readable", ready.readable).flag("writable", ready.writable);
            object.flag("read_closed", ready.read_closed).flag("hung_up", ready.hung_up);
        }
        Event::Watched(id) => _ = object.text("kind", "watched").text("id", &format!("w{id}")),
        Event::Listener(number) => _ = object.text("kind", "listener").number("listener", number.into()),
        Event::Inbox => _ = object.text("kind", "inbox"),
        Event::Signal(signal) => _ = object.text("kind", "signal").text("signal", signal),
    }
}

fn write_fact(object: &mut Object, fact: Fact) {
    let client = |object: &mut Object, kind, client: u32| {
        object.text("kind", kind).number("client", client.into());
    };
    match fact {
        Fact::Connects(number) => client(object, "connects", number),
        Fact::Is(number, id) => {
            client(object, "is", number);
            object.text("id", &id.to_string());
        }
        Fact::Sends(number, bytes) => {
            client(object, "sends", number);
            object.number("bytes", bytes);
        }
        Fact::Reads(number, bytes) => {
            client(object, "reads", number);
            object.number("bytes", bytes);
        }
        Fact::Shuts(number) => client(object, "shuts", number),
        Fact::Resets(number) => client(object, "resets", number),
        Fact::JobBegins(id) => _ = object.text("kind", "job-begins").text("id", &id.to_string()),
        Fact::JobEnds(id) => _ = object.text("kind", "job-ends").text("id", &id.to_string()),
        Fact::WakeUpFails => _ = object.text("kind", "wake-up-fails"),
        Fact::InboxChecked => _ = object.text("kind", "inbox-checked"),
        Fact::Fault(name) => _ = object.text("kind", "fault").text("fault", name),
    }
}

/// A JSON object that is being written. Keys are words of the program and need no escapes.
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        Object(String::from("{"))
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "\"{key}\":");
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        push_json_string(value, &mut self.0);
        self
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) -> &mut Self {
        self.raw(key, &value.to_string())
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.raw(key, if value { "true" } else { "false" })
    }

    /// Adds a value that is JSON already.
    pub(crate) fn raw(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        self.0.push_str(value);
        self
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::step::tests::samples;
    use serde_json::Value;

    #[test]
    fn each_kind_of_step_is_one_object() {
        let lines: Vec<String> = samples().iter().map(TimedStep::json).collect();
        let without_source = |line: &String| {
            let mut object: Value = serde_json::from_str(line).unwrap();
            let source = object.as_object_mut().unwrap().remove("source").unwrap();
            assert!(source.as_str().unwrap().starts_with("src/observe/step"), "{source}");
            let cut = line.find(",\"source\":").unwrap();
            format!("{}}}\n", &line[..cut])
        };
        let lines: String = lines.iter().map(without_source).collect();
        assert_eq!(lines, include_str!("step/samples.jsonl"));
    }

    #[test]
    fn names_of_clients_are_escaped() {
        let header = json_header(&["a\"\\\n\u{202e}b".to_owned(), String::new()]);
        let parsed: Value = serde_json::from_str(&header).unwrap();
        assert_eq!(parsed["version"], 1);
        assert_eq!(parsed["clients"], serde_json::json!(["a\"\\\n\u{202e}b", ""]));
        assert!(!header.contains('\n') && !header.contains('\u{202e}'), "{header}");
    }
}
