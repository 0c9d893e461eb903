//! The text form of steps: one line for each, for people.
//!
//! `docs/manual.md` explains the words. This file must not know who prints the lines.

use std::fmt::{self, Display, Formatter};

use crate::observe::step::{
    Event, Fact, Name, Step, TimedStep, Transfer, TurnEnd, TurnPhase, TurnStart, WaitUntil,
};

/// Steps as text. A simulation has names for its clients; others have numbers.
#[derive(Clone, Copy, Debug)]
pub struct StepText<'a> {
    step: &'a TimedStep,
    clients: &'a [String],
    has_time: bool,
}

impl TimedStep {
    /// Returns the step as one line of text, without a line end. `clients` are the names of the
    /// clients of a simulation by number.
    #[must_use]
    pub fn text<'a>(&'a self, clients: &'a [String]) -> StepText<'a> {
        StepText { step: self, clients, has_time: true }
    }

    /// Returns the step as [`TimedStep::text`] does, but without its time.
    pub(super) fn text_without_time(&self) -> StepText<'_> {
        StepText { step: self, clients: &[], has_time: false }
    }
}

impl Display for StepText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.has_time {
            let at_us = self.step.at_ns / 1000;
            write!(f, "{:>8}.{:03} ms  ", at_us / 1000, at_us % 1000)?;
        }
        match self.step.step {
            Step::TurnStart { turn, waited_ns } => turn_start(f, &turn, waited_ns),
            Step::Phase(phase) => write!(f, "phase {}: {}", phase.name(), about(phase)),
            Step::Event(event) => write_event(f, event),
            Step::Accept { listener, accepted: Ok(id) } => {
                write!(f, "accept {id}: done, listener {listener}")
            }
            Step::Accept { listener, accepted: Err(stop) } => {
                write!(f, "accept: {}, listener {listener}", stop.name())
            }
            Step::Read(transfer) | Step::Write(transfer) | Step::Sendfile(transfer) => {
                let Transfer { id, asked, got, stop } = transfer;
                write!(f, "{} {id}: {got} of {asked} bytes, {}", self.step.step.word(), stop.name())
            }
            Step::Register { name, stop } => write!(f, "register {name}: {}", stop.name()),
            Step::Respond { id, method, status } => {
                let method = method.map_or("no request", |method| method.name());
                write!(f, "respond {id}: {method}, {}", status.code())
            }
            Step::Job { id } => write!(f, "job {id}: the request waits for it"),
            Step::Result { id, kind } => write!(f, "result {id}: {}", kind.name()),
            Step::Advance { id, conn } => write!(f, "advance w{id}: for {conn}"),
            Step::Deadline { id, found } => write!(f, "deadline {id}: {}", found.name()),
            Step::Carry { id } => write!(f, "carry {id}: budget"),
            Step::Panic { id } => write!(f, "panic {id}: the handler panicked"),
            Step::Shut { id, stop } => write!(f, "shut {id}: {}", stop.name()),
            Step::Close { id, reason } => write!(f, "close {id}: {}", reason.name()),
            Step::Free { id } => write!(f, "free {id}: slot {}", id.slot()),
            Step::Stale { name, holder } => {
                let ended = if matches!(name, Name::Conn(_)) { "is closed" } else { "is over" };
                write!(f, "stale {name}: {} dropped, {name} {ended}", holder.name())
            }
            Step::TurnEnd(end) => turn_end(f, &end),
            Step::Fact(fact) => write_fact(f, fact, self.clients),
        }
    }
}

fn turn_start(f: &mut Formatter<'_>, turn: &TurnStart, waited_ns: u64) -> fmt::Result {
    let events = match turn.events {
        1 => "1 event".to_owned(),
        events => format!("{events} events"),
    };
    write!(f, "turn {}: {events} after {}", turn.number, Span(waited_ns))?;
    match turn.timeout_ns {
        None => f.write_str(" (no limit)"),
        Some(_) if turn.until == WaitUntil::Carried => f.write_str(" (no wait: work was carried)"),
        Some(timeout_ns) => {
            write!(f, " (at most {}: ", Span(timeout_ns))?;
            match turn.until {
                WaitUntil::Event | WaitUntil::Carried => f.write_str("no reason"),
                WaitUntil::Deadline(id) => write!(f, "deadline of {id}"),
                WaitUntil::WatchDeadline(id) => write!(f, "deadline of w{id}"),
                WaitUntil::Accept => f.write_str("accepting continues"),
                WaitUntil::LogFlush => f.write_str("the access log is flushed"),
                WaitUntil::CacheSweep => f.write_str("the file cache is swept"),
                WaitUntil::Stop => f.write_str("the drain timeout ends"),
                WaitUntil::Frame => f.write_str("the next frame of the live view"),
            }?;
            f.write_str(")")
        }
    }
}

fn turn_end(f: &mut Formatter<'_>, end: &TurnEnd) -> fmt::Result {
    write!(f, "turn {} end: {}, {} open", end.number, Span(end.took_ns), end.open)?;
    let spent = TurnPhase::WORK.iter().zip(end.phases_ns).filter(|(_, spent_ns)| *spent_ns > 0);
    for (number, (phase, spent_ns)) in spent.enumerate() {
        let before = if number == 0 { "; " } else { ", " };
        write!(f, "{before}{} {}", phase.name(), Span(spent_ns))?;
    }
    Ok(())
}

fn about(phase: TurnPhase) -> &'static str {
    match phase {
        TurnPhase::Wait => "the poll waits",
        TurnPhase::Results => "results of jobs, watched objects, signals",
        TurnPhase::Ready => "connections with an event",
        TurnPhase::Carried => "connections carried from the last turn or with a result",
        TurnPhase::Deadlines => "deadlines that have passed",
        TurnPhase::Accept => "new clients",
        TurnPhase::Free => "slots of closed connections",
    }
}

fn write_event(f: &mut Formatter<'_>, event: Event) -> fmt::Result {
    match event {
        Event::Ready { id, ready } => {
            write!(f, "event {id}: ")?;
            let flags = [
                (ready.readable, "readable"),
                (ready.writable, "writable"),
                (ready.read_closed, "read-closed"),
                (ready.hung_up, "hung-up"),
            ];
            let mut before = "";
            for (_, flag) in flags.iter().filter(|(is_set, _)| *is_set) {
                write!(f, "{before}{flag}")?;
                before = ", ";
            }
            if before.is_empty() { f.write_str("nothing") } else { Ok(()) }
        }
        Event::Watched(id) => write!(f, "event w{id}: ready"),
        Event::Listener(number) => write!(f, "event listener {number}: clients wait"),
        Event::Inbox => f.write_str("event inbox: results wait"),
        Event::Signal(signal) => write!(f, "event signal: {signal}"),
    }
}

fn write_fact(f: &mut Formatter<'_>, fact: Fact, clients: &[String]) -> fmt::Result {
    let client = |number: u32| Client(number, clients.get(number as usize));
    match fact {
        Fact::Connects(number) => write!(f, "{} connects", client(number)),
        Fact::Is(number, id) => write!(
            f,
            "{} is {id}: slot {}, connection {} of this loop",
            client(number),
            id.slot(),
            id.generation()
        ),
        Fact::Sends(number, bytes) => write!(f, "{} sends {bytes} bytes", client(number)),
        Fact::Reads(number, bytes) => write!(f, "{} reads {bytes} bytes", client(number)),
        Fact::Shuts(number) => write!(f, "{} shuts its sending side", client(number)),
        Fact::Resets(number) => write!(f, "{} resets", client(number)),
        Fact::JobBegins(id) => write!(f, "a worker begins the job of {id}"),
        Fact::JobEnds(id) => write!(f, "the job of {id} ends"),
        Fact::WakeUpFails => f.write_str("a wake-up fails"),
        Fact::InboxChecked => f.write_str("the loop checks its inbox without a wake-up"),
        Fact::Fault(name) => write!(f, "fault: {name}"),
    }
}

/// A client by name, or else by number.
struct Client<'a>(u32, Option<&'a String>);

impl Display for Client<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(name) => f.write_str(name),
            None => write!(f, "client {}", self.0),
        }
    }
}

/// A duration in nanoseconds, written in its largest unit with three decimals at most.
struct Span(u64);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (unit_ns, unit) = match self.0 {
            0..1_000 => return write!(f, "{} ns", self.0),
            1_000..1_000_000 => (1_000, "us"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let thousandths = u128::from(self.0) * 1000 / unit_ns;
        let (whole, rest) = (thousandths / 1000, thousandths % 1000);
        match rest {
            0 => write!(f, "{whole} {unit}"),
            _ => write!(f, "{} {unit}", format!("{whole}.{rest:03}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::step::tests::samples;

    #[test]
    fn each_kind_of_step_has_one_line() {
        let clients = ["alice".to_owned()];
        let lines: Vec<String> = samples().iter().map(|step| step.text(&clients).to_string()).collect();
        let expected = include_str!("step/samples.txt");
        assert_eq!(lines.join("\n") + "\n", expected);
    }

    #[test]
    fn durations_have_a_unit_that_fits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1 us"),
            (1_204_000, "1.204 ms"),
            (15_200, "15.2 us"),
            (999_999_999, "999.999 ms"),
            (9_998_000_000, "9.998 s"),
            (u64::MAX, "18446744073.709 s"),
        ] {
            assert_eq!(Span(ns).to_string(), text);
        }
    }
}
