//! Lines of text for people: steps, states, questions and answers.
//!
//! A line has a kind, which a terminal may show in colour, and an indent for the rest of a line
//! that is too wide. This file must not know terminals. Control characters of a scenario are still
//! in the lines, and the code that shows a line escapes them.

use crate::conn_id::ConnId;
use crate::observe::step::{SocketReport, Step, TurnPhase};
use crate::sim::bugs::BUGS;
use crate::sim::kernel::End;
use crate::sim::scenario::{Scenario, all};
use crate::sim::stepper::command::HELP;
use crate::sim::stepper::explain::{is_remarkable, sentence};
use crate::sim::stepper::holders::holders;
use crate::sim::stepper::recording::{Recording, ms};
use crate::sim::stepper::source::place_of;
use crate::sim::stepper::state::{Connection, State};

/// Kind of a line, for colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ordinary text.
    Plain,
    /// A title.
    Heading,
    /// The beginning or the end of a turn.
    Turn,
    /// A phase of a turn.
    Phase,
    /// An event or an operation.
    Operation,
    /// A fact about clients, kernel or workers.
    Fact,
    /// A name without an owner, a close, a panic or a symptom.
    Alarm,
    /// An explanation.
    Note,
    /// Something that is as expected.
    Good,
}

impl Kind {
    /// Returns the word for the kind, for programs that read lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Heading => "heading",
            Kind::Turn => "turn",
            Kind::Phase => "phase",
            Kind::Operation => "operation",
            Kind::Fact => "fact",
            Kind::Alarm => "alarm",
            Kind::Note => "note",
            Kind::Good => "good",
        }
    }
}

/// A line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Kind of the line.
    pub kind: Kind,
    /// The text, without a line end.
    pub text: String,
    /// Columns by which further lines are indented if the text is too wide.
    pub indent: usize,
}

impl Line {
    pub(super) fn new(kind: Kind, indent: usize, text: impl Into<String>) -> Line {
        Line { kind, text: text.into(), indent }
    }

    /// Returns a line of ordinary text.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Line {
        Line::new(Kind::Plain, 0, text)
    }
}

/// Columns before the text of a step: number and time.
const STEP_INDENT: usize = 17;

/// Columns before an explanation.
const NOTE_INDENT: usize = 7;

/// Largest number of steps that one move shows. Of more, the last ones are shown.
const SHOWN_MAX: usize = 40;
const SHOWN_OF_MORE: usize = 15;

/// Returns the list of the scenarios of the program, with their questions.
#[must_use]
pub fn scenario_lines() -> Vec<Line> {
    let mut lines = vec![
        Line::plain("Each scenario asks a question about the event loop, and its run has the answer."),
        Line::plain(""),
    ];
    for scenario in all() {
        lines.push(Line::new(Kind::Heading, 0, scenario.name));
        lines.push(Line::new(Kind::Plain, 4, format!("    {}", scenario.question)));
    }
    lines.extend([Line::plain(""), Line::plain("Begin with: whirligig step stale-answer")]);
    lines
}

/// Returns title, question and guesses.
pub(super) fn question_lines(scenario: &Scenario, run: &Recording) -> Vec<Line> {
    let title = if scenario.title.is_empty() { &scenario.name } else { &scenario.title };
    let mut lines = vec![Line::new(Kind::Heading, 0, title), Line::plain("")];
    if !scenario.question.is_empty() {
        lines.extend([Line::plain(&scenario.question), Line::plain("")]);
    }
    for (at, guess) in scenario.guesses.iter().enumerate() {
        lines.push(Line::new(Kind::Plain, 5, format!("  {}  {guess}", at + 1)));
    }
    if !scenario.guesses.is_empty() {
        lines.push(Line::plain(""));
    }
    lines.push(Line::plain(format!(
        "The run is recorded: {} steps in {} turns.",
        run.len(),
        run.report.turns
    )));
    lines
}

/// Returns the line of one step. `at` is its index.
pub(super) fn step_line(run: &Recording, at: usize) -> Line {
    let Some(step) = run.report.steps.get(at) else { return Line::plain("") };
    let Line { kind, indent: depth, text } = bare_line(run, at);
    let text = format!("{:>5} {:>9}  {:depth$}{text}", at + 1, ms(step.at_ns), "", depth = 2 * depth);
    Line::new(kind, STEP_INDENT + 2 * depth + 2, text)
}

/// Returns the line of one step without its number and time. `indent` is the depth: 0 for turns, 1
/// for their phases and events, 2 for operations. `at` is the index of the step.
pub(super) fn bare_line(run: &Recording, at: usize) -> Line {
    let Some(step) = run.report.steps.get(at) else { return Line::plain("") };
    let text = step.text(&run.report.names).to_string();
    let (_, text) = text.split_once(" ms  ").unwrap_or(("", &text));
    let (kind, depth) = match step.step {
        Step::TurnStart { .. } | Step::TurnEnd(_) => (Kind::Turn, 0),
        Step::Event(_) => (Kind::Operation, 1),
        Step::Phase(_) => (Kind::Phase, 1),
        Step::Fact(_) if !run.moment(at).is_in_turn => (Kind::Fact, 0),
        Step::Fact(_) => (Kind::Fact, 2),
        Step::Stale { .. } | Step::Close { .. } | Step::Panic { .. } => (Kind::Alarm, 2),
        _ => (Kind::Operation, 2),
    };
    Line::new(kind, depth, text)
}

/// Returns the sentence for the step before a position.
pub(super) fn note_line(run: &Recording, position: usize) -> Line {
    Line::new(Kind::Note, NOTE_INDENT, format!("{:NOTE_INDENT$}{}", "", sentence(run, position)))
}

/// Returns the steps that a move passes, and an explanation of the last one. Stale names are
/// explained in passing.
pub(super) fn moved_lines(run: &Recording, from: usize, to: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let first = if to - from > SHOWN_MAX { to - SHOWN_OF_MORE } else { from };
    if first > from {
        lines.push(Line::new(
            Kind::Note,
            NOTE_INDENT,
            format!("       {} steps are not shown; the option --print prints them all", first - from),
        ));
    }
    for at in first..to {
        lines.push(step_line(run, at));
        if at + 1 == to || is_remarkable(run, at) {
            lines.push(note_line(run, at + 1));
        }
        if let Step::TurnEnd(end) = run.report.steps[at].step {
            lines.extend(symptom_line(run, end.number));
            if at + 1 < to {
                lines.push(Line::plain(""));
            }
        }
    }
    lines
}

/// Returns the first symptom if it was noticed after this turn and the run went on.
fn symptom_line(run: &Recording, turn: u32) -> Option<Line> {
    let symptom =
        run.report.symptom.as_ref().filter(|found| found.turn == turn && turn < run.report.turns)?;
    let text = format!("{:NOTE_INDENT$}Here something is wrong: {}", "", symptom.what);
    Some(Line::new(Kind::Alarm, NOTE_INDENT, text))
}

/// Returns the lines for a position that was reached by a move back.
pub(super) fn back_lines(run: &Recording, position: usize) -> Vec<Line> {
    match position.checked_sub(1) {
        None => vec![Line::plain("Before the first step.")],
        Some(at) => vec![step_line(run, at), note_line(run, position)],
    }
}

/// Returns the state at a position: the loop, the kernel, and the workers.
pub(super) fn state_lines(run: &Recording, position: usize) -> Vec<Line> {
    let state = State::at(run, position);
    let moment = state.moment;
    let place = match (moment.turn, moment.is_in_turn, moment.phase) {
        (0, false, _) => "before turn 1".to_owned(),
        (turn, false, _) => format!("after turn {turn}"),
        (turn, true, None) => format!("in turn {turn}"),
        (turn, true, Some(phase)) => format!("in turn {turn}, phase {}", phase.name()),
    };
    let mut lines = vec![Line::plain(format!(
        "State after step {position} of {}, {}, {place}",
        run.len(),
        ms(state.at_ns)
    ))];
    lines.push(Line::new(Kind::Heading, 0, "our side: what the loop remembers"));
    let mut rows =
        vec![["name", "client", "phase", "ready", "carried", "queued", "deadline"].map(str::to_owned)];
    rows.extend(state.connections.iter().map(|one| connection_row(run, one)));
    lines.extend(table(&rows));
    if rows.len() == 1 {
        lines.push(Line::plain("  no connection"));
    } else if moment.is_in_turn {
        let text = match state.seen_in {
            0 => "  Phase, queue and deadline are known at the end of a turn.".to_owned(),
            turn => format!("  Phase, queue and deadline are those at the end of turn {turn}."),
        };
        lines.push(Line::new(Kind::Note, 2, text));
    }
    lines.push(Line::new(Kind::Heading, 0, "the kernel: what it knows and the loop may not"));
    let mut rows = vec![
        ["client", "to server", "to client", "its side", "our side", "next poll reports"].map(str::to_owned),
    ];
    rows.extend(state.sockets.iter().enumerate().filter(|(_, socket)| socket.has_connected).map(
        |(client, socket)| {
            [
                run.client(client as u32).to_owned(),
                format!("{} bytes", socket.unread),
                format!("{} bytes", socket.untaken),
                end_name(socket.client_end).to_owned(),
                end_name(socket.server_end).to_owned(),
                report_text(socket.pending),
            ]
        },
    ));
    lines.extend(table(&rows));
    if rows.len() == 1 {
        lines.push(Line::plain("  no client has connected"));
    }
    let names: Vec<&str> = state.backlog.iter().map(|client| run.client(*client as u32)).collect();
    if !names.is_empty() {
        lines.push(Line::new(
            Kind::Plain,
            4,
            format!("  in the queue of the listener: {}", names.join(", ")),
        ));
    }
    lines.extend(worker_lines(run, &state));
    lines
}

fn worker_lines(run: &Recording, state: &State) -> Vec<Line> {
    let mut lines = vec![Line::new(Kind::Heading, 0, "workers and inbox")];
    for (id, ends) in &state.jobs_running {
        let ends = ends.map_or_else(String::new, |ns| format!(", until {}", ms(ns)));
        lines.push(Line::plain(format!("  a worker is busy for {}{ends}", run.named(*id))));
    }
    for id in &state.jobs_waiting {
        lines.push(Line::plain(format!("  the job of {} waits for a worker", run.named(*id))));
    }
    for id in &state.inbox {
        lines.push(Line::plain(format!("  the inbox has a result for {}", run.named(*id))));
    }
    if lines.len() == 1 {
        lines.push(Line::plain("  nothing"));
    }
    lines
}

fn connection_row(run: &Recording, one: &Connection) -> [String; 7] {
    let flags = [(one.is_readable, "read"), (one.is_writable, "write"), (one.is_read_closed, "read-closed")];
    let flags: Vec<&str> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    let ready = if flags.is_empty() { "no".to_owned() } else { flags.join(",") };
    let seen = one.seen.as_ref();
    let phase = match (one.closed, seen) {
        (Some(reason), _) => format!("closed: {}", reason.name()),
        (None, Some(seen)) => seen.phase.name().to_owned(),
        (None, None) => "new".to_owned(),
    };
    let unknown = || "-".to_owned();
    [
        one.id.to_string(),
        run.client(one.client as u32).to_owned(),
        phase,
        ready,
        if one.is_carried { "yes" } else { "no" }.to_owned(),
        seen.map_or_else(unknown, |seen| format!("{} bytes", seen.queued_bytes)),
        seen.and_then(|seen| seen.deadline_ns).map_or_else(unknown, ms),
    ]
}

pub(super) fn end_name(end: End) -> &'static str {
    match end {
        End::Open => "open",
        End::Shut => "shut",
        End::Closed => "closed",
        End::Reset => "reset",
    }
}

/// Writes the readiness that a poll will report.
pub(super) fn report_text(report: SocketReport) -> String {
    let flags = [
        (report.readable, "readable"),
        (report.writable, "writable"),
        (report.read_closed, "read-closed"),
        (report.hung_up, "hung-up"),
    ];
    let flags: Vec<&str> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    if flags.is_empty() { "nothing".to_owned() } else { flags.join(", ") }
}

/// Aligns the columns of a table. The first row has the headings.
fn table<const N: usize>(rows: &[[String; N]]) -> Vec<Line> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut lines = Vec::new();
    if rows.len() > 1 {
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let text = format!("  {}", cells.collect::<Vec<_>>().join("  "));
            let kind = if number == 0 { Kind::Note } else { Kind::Plain };
            lines.push(Line::new(kind, 4, text.trim_end()));
        }
    }
    lines
}

/// Returns the places that hold a name.
pub(super) fn holder_lines(run: &Recording, id: ConnId, position: usize) -> Vec<Line> {
    let mut lines =
        vec![Line::new(Kind::Heading, 0, format!("The name {} after step {position}", run.named(id)))];
    for place in holders(run, id, position) {
        let (mark, kind) = if place.holds { ("held", Kind::Fact) } else { ("-", Kind::Plain) };
        lines.push(Line::new(kind, 18, format!("  {:<10}{mark:<6}{}", place.name, place.text)));
    }
    lines
}

/// Returns the line of the source that made the step before a position, with its neighbours.
pub(super) fn source_lines(run: &Recording, position: usize) -> Vec<Line> {
    let Some(step) = run.step_at(position) else { return vec![Line::plain("No step has happened yet.")] };
    let Some(place) = place_of(step) else {
        return vec![Line::plain(
            "Clients, kernel and workers are simulated: the scenario determines this step, not the loop.",
        )];
    };
    let mut lines = vec![Line::new(Kind::Heading, 0, format!("{}:{}", place.file, place.line))];
    for (number, text) in place.around() {
        let (mark, kind) = if number == place.line { ('>', Kind::Fact) } else { (' ', Kind::Plain) };
        lines.push(Line::new(kind, 8, format!("{mark}{number:>5}  {text}")));
    }
    lines
}

/// Returns the bugs, with their effect on this scenario as its text describes it.
pub(super) fn bug_lines(scenario: &Scenario) -> Vec<Line> {
    let mut lines = vec![
        Line::plain("bug NAME makes one decision of the loop wrongly; bug none is the real loop."),
        Line::plain(""),
    ];
    for bug in &BUGS {
        lines.push(Line::new(Kind::Heading, 0, bug.name));
        lines.push(Line::new(Kind::Plain, 4, format!("    {}", bug.does)));
        if let Some(note) = scenario.bugs.iter().find(|note| note.bug == bug.name) {
            let text = if note.fails { "This scenario fails with it.".to_owned() } else { note.text.clone() };
            lines.push(Line::new(Kind::Note, 4, format!("    {text}")));
        }
    }
    lines
}

/// Words of the log and of the state that a reader needs first.
const WORDS: [(&str, &str); 6] = [
    ("stale", "a name whose connection is closed; the result or event that has the name is dropped"),
    ("drained", "nothing more to read or accept at this moment; an event reports the next"),
    ("carried", "out of budget; the next turn continues with this connection, without an event"),
    ("job", "work on a worker thread; its result comes back through the inbox of the loop"),
    ("deadline", "when a connection gives up waiting; a queue has one entry for each connection"),
    ("ready", "reported by the kernel, and not yet drained (read) or full (write)"),
];

/// Returns the explanation of the commands and the first words.
pub(super) fn help_lines() -> Vec<Line> {
    let mut lines = vec![Line::plain("Several commands may stand in one line: t t b")];
    for (word, effect) in HELP {
        lines.push(Line::new(Kind::Plain, 14, format!("  {word:<12}{effect}")));
    }
    let names = [
        "A name such as 0.1 is slot 0 and connection 1 of this loop. Slots are used again, the number behind the \
         dot never.",
    ];
    lines.extend(names.map(Line::plain));
    let phases: Vec<&str> = TurnPhase::WORK.iter().map(|phase| phase.name()).collect();
    lines.push(Line::plain(format!(
        "A turn is one pass of the loop, from one poll to the next. Its seven phases: wait, {}.",
        phases.join(", ")
    )));
    for (word, meaning) in WORDS {
        lines.push(Line::new(Kind::Plain, 14, format!("  {word:<12}{meaning}")));
    }
    lines.push(Line::plain("More words: docs/stepper.md"));
    lines
}
