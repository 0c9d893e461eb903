//! The JSON form of a position, of a scenario and of a run, for programs and pages.
//!
//! Steps have the form of `docs/steps.md`; times are in nanoseconds. This file must not know who
//! reads the objects.

use std::ops::Range;

use crate::conn_id::ConnId;
use crate::observe::{Object, json_header};
use crate::sim::bugs::BUGS;
use crate::sim::fate::FateLine;
use crate::sim::scenario::{BugNote, Scenario};
use crate::sim::stepper::explain::sentence;
use crate::sim::stepper::session::Session;
use crate::sim::stepper::source::place_of;
use crate::sim::stepper::state::{Connection, Socket, State};
use crate::sim::stepper::text::{Line, bare_line, end_name, report_text};

/// Returns one object with name, title, question and guesses of a scenario, and not the answer.
#[must_use]
pub fn scenario_json(scenario: &Scenario) -> String {
    question_object(scenario).end()
}

fn question_object(scenario: &Scenario) -> Object {
    let mut object = Object::new();
    object.text("name", &scenario.name).text("title", &scenario.title);
    object.text("question", &scenario.question);
    object.raw("guesses", &array(scenario.guesses.iter().map(|guess| string(guess))));
    object
}

/// Returns one object with everything that a page shows of a scenario: also the answer from 1, its
/// reason, the effects of bugs, and the text.
#[must_use]
pub fn scenario_with_answer_json(scenario: &Scenario) -> String {
    let mut object = question_object(scenario);
    match scenario.guesses.is_empty() {
        true => object.raw("answer", "null"),
        false => object.number("answer", scenario.answer as u64 + 1),
    };
    object.text("because", &scenario.because);
    let note = |note: &BugNote| {
        let mut object = Object::new();
        object.text("bug", &note.bug).flag("fails", note.fails).text("text", &note.text);
        object.end()
    };
    object.raw("bugs", &array(scenario.bugs.iter().map(note)));
    object.text("file", &scenario.file).text("text", &scenario.text);
    object.end()
}

/// Returns an array with name, behaviour and public report of each bug.
#[must_use]
pub fn bugs_json() -> String {
    array(BUGS.iter().map(|bug| {
        let mut object = Object::new();
        object.text("name", bug.name).text("what", bug.does);
        object.text("title", bug.report.title).text("url", bug.report.url);
        if let Some(gloss) = bug.report.gloss {
            object.text("gloss", gloss);
        }
        object.end()
    }))
}

/// Returns lines as an array of objects.
#[must_use]
pub fn lines_json(lines: &[Line]) -> String {
    array(lines.iter().map(|line| {
        let mut object = Object::new();
        object.text("text", &line.text).text("kind", line.kind.name()).number("indent", line.indent as u64);
        object.end()
    }))
}

impl Session {
    /// Returns the position as one object: the step, its sentence and source, and the state.
    #[must_use]
    pub fn json(&self) -> String {
        let (run, position) = (&self.run, self.position);
        let moment = run.moment(position);
        let mut object = Object::new();
        object.text("scenario", &self.scenario.name).text("bug", self.choice.bug_name());
        optional(&mut object, "seed", self.choice.seed);
        object.raw("set", &array(self.choice.sets.iter().map(|set| string(set))));
        object.number("n", position as u64).number("steps", run.len() as u64);
        object.number("turn", moment.turn.into()).flag("in_turn", moment.is_in_turn);
        match moment.phase {
            Some(phase) => object.text("phase", phase.name()),
            None => object.raw("phase", "null"),
        };
        match run.step_at(position) {
            Some(step) => object.raw("step", &step.json()),
            None => object.raw("step", "null"),
        };
        object.text("sentence", &sentence(run, position));
        match run.step_at(position).and_then(place_of) {
            Some(place) => {
                let mut source = Object::new();
                source.text("file", place.file).number("line", place.line as u64).text("text", place.text());
                object.raw("source", &source.end());
            }
            None => _ = object.raw("source", "null"),
        }
        object.raw("state", &state_json(self, &State::at(run, position)));
        match self.link() {
            Ok(link) => object.text("link", &link),
            Err(_) => object.raw("link", "null"),
        };
        optional(&mut object, "guess", self.guess.map(|guess| guess as u64 + 1));
        match position == run.len() {
            true => object.raw("end", &self.end_json()),
            false => object.raw("end", "null"),
        };
        object.end()
    }

    /// Returns steps as an array of objects, each with number, time, turn, and its line of text.
    /// The numbers are those of `steps`, from 1; numbers without a step are left out.
    #[must_use]
    pub fn steps_json(&self, steps: Range<usize>) -> String {
        let steps = steps.start.max(1)..steps.end.min(self.run.len() + 1);
        array(steps.map(|number| self.log_object(number).end()))
    }

    /// Returns one step with its line of text and its sentence, without the state. `None` if the
    /// run has no step with this number, from 1.
    #[must_use]
    pub fn step_json(&self, number: usize) -> Option<String> {
        let step = self.run.step_at(number)?;
        let mut object = self.log_object(number);
        object.text("sentence", &sentence(&self.run, number)).raw("step", &step.json());
        Some(object.end())
    }

    fn log_object(&self, number: usize) -> Object {
        let mut object = Object::new();
        object.number("n", number as u64);
        if let Some(step) = self.run.step_at(number) {
            let line = bare_line(&self.run, number - 1);
            object.number("at_ns", step.at_ns).number("turn", self.run.moment(number).turn.into());
            object.number("indent", line.indent as u64);
            object.text("kind", line.kind.name()).text("text", &line.text);
        }
        object
    }

    /// Returns the answer and the symptom, for the end of the run.
    fn end_json(&self) -> String {
        let mut object = Object::new();
        match self.scenario.guesses.is_empty() {
            true => object.raw("answer", "null"),
            false => object.number("answer", self.scenario.answer as u64 + 1),
        };
        object.text("because", &self.scenario.because);
        object.raw("symptom", &self.symptom_json());
        object.end()
    }

    /// Returns the fate of the run as one object: the run, its first symptom, and the examined
    /// steps.
    #[must_use]
    pub fn fate_json(&self, line: &FateLine) -> String {
        let mut object = Object::new();
        object.text("scenario", &self.scenario.name).text("bug", self.choice.bug_name());
        optional(&mut object, "seed", self.choice.seed);
        object.raw("set", &array(self.choice.sets.iter().map(|set| string(set))));
        object.number("steps", self.run.len() as u64).raw("symptom", &self.symptom_json());
        object.raw("fate", &line.json());
        object.end()
    }

    fn symptom_json(&self) -> String {
        let Some(symptom) = &self.run.report.symptom else { return "null".to_owned() };
        let mut found = Object::new();
        found.number("turn", symptom.turn.into()).number("at_ns", symptom.at_ns);
        found.text("what", &symptom.what);
        found.end()
    }

    /// Returns the whole run: the line that names the schema, then one object for each step.
    #[must_use]
    pub fn log_json(&self) -> String {
        let mut out = json_header(&self.run.report.names) + "\n";
        for step in &self.run.report.steps {
            out.push_str(&step.json());
            out.push('\n');
        }
        out
    }

    /// Returns the number of turns and operations, and the hash of the run, as one object.
    #[must_use]
    pub fn hash_json(&self) -> String {
        let report = &self.run.report;
        let mut object = Object::new();
        object.text("scenario", &self.scenario.name).text("bug", self.choice.bug_name());
        optional(&mut object, "seed", self.choice.seed);
        object.number("turns", report.turns.into()).number("operations", self.run.operations() as u64);
        object.text("sha256", &report.hash());
        object.end()
    }
}

fn state_json(session: &Session, state: &State) -> String {
    let run = &session.run;
    let mut object = Object::new();
    object.number("at_ns", state.at_ns).number("seen_in", state.seen_in.into());
    object.raw("connections", &array(state.connections.iter().map(|one| connection_json(session, one))));
    let sockets = state.sockets.iter().enumerate();
    object.raw("sockets", &array(sockets.map(|(client, socket)| socket_json(session, client, socket))));
    let client = |client: &usize| string(run.client(*client as u32));
    object.raw("listen_queue", &array(state.backlog.iter().map(client)));
    let id = |id: &ConnId| string(&id.to_string());
    object.raw("jobs_waiting", &array(state.jobs_waiting.iter().map(id)));
    let running = state.jobs_running.iter().map(|(id, ends_ns)| {
        let mut job = Object::new();
        job.text("id", &id.to_string());
        optional(&mut job, "ends_ns", *ends_ns);
        job.end()
    });
    object.raw("jobs_running", &array(running));
    object.raw("inbox", &array(state.inbox.iter().map(id)));
    object.number("deadlines", state.deadlines as u64);
    object.end()
}

fn connection_json(session: &Session, one: &Connection) -> String {
    let mut object = Object::new();
    object.text("id", &one.id.to_string()).text("client", session.run.client(one.client as u32));
    object.flag("readable", one.is_readable).flag("writable", one.is_writable);
    object.flag("read_closed", one.is_read_closed).flag("carried", one.is_carried);
    match one.closed {
        Some(reason) => object.text("closed", reason.name()),
        None => object.raw("closed", "null"),
    };
    match &one.seen {
        None => _ = object.raw("seen", "null"),
        Some(seen) => {
            let mut kept = Object::new();
            kept.text("phase", seen.phase.name()).number("queued_bytes", seen.queued_bytes);
            optional(&mut kept, "deadline_ns", seen.deadline_ns);
            optional(&mut kept, "armed_ns", seen.armed_ns);
            object.raw("seen", &kept.end());
        }
    }
    object.end()
}

fn socket_json(session: &Session, client: usize, socket: &Socket) -> String {
    let mut object = Object::new();
    object.text("client", session.run.client(client as u32)).flag("connected", socket.has_connected);
    object.number("to_server", socket.unread as u64).number("to_client", socket.untaken as u64);
    object.text("client_end", end_name(socket.client_end)).text("server_end", end_name(socket.server_end));
    object.text("next_poll", &report_text(socket.pending));
    object.end()
}

fn string(text: &str) -> String {
    let mut out = String::new();
    crate::text::push_json_string(text, &mut out);
    out
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// Adds a number or null.
fn optional(object: &mut Object, key: &str, value: Option<u64>) {
    match value {
        Some(value) => object.number(key, value),
        None => object.raw(key, "null"),
    };
}
