//! Commands of the stepper, several in one line: `t t b`, `n 5`, `u conn=0.2 op=read`.
//!
//! This file must not know what a command does.

use crate::conn_id::ConnId;
use crate::sim::bugs::Bug;
use crate::sim::stepper::condition::{Condition, id_of, is_condition};
use crate::sim::stepper::recording::{Recording, bug_named};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Moves, so many times.
    Move(Way, u32),
    /// Moves to the next step that meets a condition.
    Until(Condition),
    /// Moves to a position.
    At(usize),
    /// Shows the state on the side of the loop and of the kernel.
    State,
    /// Shows where the name of a connection is still held.
    Who(ConnId),
    /// Shows the line of the source that made the step.
    Source,
    /// Lists the bugs.
    Bugs,
    /// Runs again with this bug, or with none.
    Bug(Option<&'static Bug>),
    /// Notes a guess, by its index.
    Guess(usize),
    /// Repeats the question.
    Question,
    /// Shows the address of this position.
    Link,
    /// Explains the commands.
    Help,
    /// Ends.
    Quit,
}

/// A direction and the size of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the next step.
    Step,
    /// To the next event.
    Event,
    /// To the end of this or the next turn.
    Turn,
    /// One step back.
    Back,
    /// Back to the end of the turn before.
    TurnBack,
}

/// Words of the commands, for messages.
const ALLOWED: &str = "n, e, t, b, T, u CONDITION, at N, s, w NAME, l, bug NAME, g N, question, link, ?, q";

/// Largest number of repetitions.
const TIMES_MAX: u32 = 1_000_000;

/// Explanation of the commands: word and effect.
pub(super) const HELP: [(&str, &str); 17] = [
    ("n", "next step: a turn, an event, an operation, or a fact about clients and kernel"),
    ("e", "to the next event of the kernel"),
    ("t", "to the end of this or the next turn"),
    ("b", "one step back"),
    ("T", "back to the end of the turn before"),
    ("n 5", "a number repeats a move; Enter alone repeats the last one"),
    ("at 37", "to step 37"),
    ("u stale", "to a stale name, whose connection is closed; u stale=result: to a late result"),
    ("u conn=0.2", "until a step about connection 0.2; conn=bob: about Bob or his connection"),
    ("u op=read", "until an operation, such as accept, write, job, or a reason, such as would-block"),
    (
        "u turn=7",
        "more conditions: stopped=budget, phase=ready, closed, closed(bob), sent(bob); several must all hold",
    ),
    ("s", "state: what the loop remembers beside what the kernel knows"),
    ("w 0.1", "the places that still hold the name 0.1, such as slot, poll, deadline, job and inbox"),
    ("l", "the line of the source that made this step"),
    ("bug NAME", "the same run with one decision made wrongly; bug: list them; bug none: the real loop"),
    ("g 2", "guess number 2; question: repeat the question"),
    ("link", "the address of this step, for whirligig step 'ADDRESS'; ?: this help; q: quit"),
];

impl Command {
    /// Reads all commands of a line. An error names the allowed words.
    pub fn parse_all(line: &str, run: &Recording) -> Result<Vec<Command>, String> {
        let words: Vec<&str> =
            line.split([' ', '\t', '\r', '\n', ';']).filter(|word| !word.is_empty()).collect();
        let mut words = &words[..];
        let mut commands = Vec::new();
        while let Some((first, rest)) = words.split_first() {
            words = rest;
            commands.push(one(first, &mut words, run)?);
        }
        Ok(commands)
    }
}

/// Reads one command, whose first word is taken already.
fn one(first: &str, words: &mut &[&str], run: &Recording) -> Result<Command, String> {
    let way = match first {
        "n" | "next" => Some(Way::Step),
        "e" | "event" => Some(Way::Event),
        "t" | "turn" => Some(Way::Turn),
        "b" | "back" => Some(Way::Back),
        "T" | "back-turn" => Some(Way::TurnBack),
        _ => None,
    };
    if let Some(way) = way {
        let is_number =
            words.first().is_some_and(|word| word.starts_with(|char: char| char.is_ascii_digit()));
        let times = if is_number { number(words, "a number of moves", TIMES_MAX as usize)? } else { 1 };
        return Ok(Command::Move(way, times as u32));
    }
    Ok(match first {
        "u" | "until" => {
            let more = words.iter().skip(1).take_while(|word| is_condition(word)).count();
            let count = if words.is_empty() { 0 } else { 1 + more };
            let condition = Condition::parse(&words[..count], run)?;
            *words = &words[count..];
            Command::Until(condition)
        }
        "at" => Command::At(number(words, "a step", run.len())?),
        "s" | "state" => Command::State,
        "w" | "who" => Command::Who(connection(words, run)?),
        "l" | "line" => Command::Source,
        "bug" | "bugs" => match words.split_first() {
            None => Command::Bugs,
            Some((name, rest)) => {
                *words = rest;
                Command::Bug(bug_named(name)?)
            }
        },
        "g" | "guess" => Command::Guess(number(words, "a guess", usize::MAX)?.wrapping_sub(1)),
        "question" => Command::Question,
        "link" => Command::Link,
        "?" | "h" | "help" => Command::Help,
        "q" | "quit" | "exit" => Command::Quit,
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(format!("unknown command '{other}'; allowed: {ALLOWED}"));
        }
    })
}

/// Takes a number of at most `most`.
fn number(words: &mut &[&str], what: &str, most: usize) -> Result<usize, String> {
    let Some((word, rest)) = words.split_first() else {
        return Err(format!("{what} is missing; allowed: a number"));
    };
    *words = rest;
    let found = word.parse().ok().filter(|number| *number <= most);
    found.ok_or_else(|| {
        let word: String = word.chars().take(40).collect();
        match most {
            usize::MAX => format!("'{word}' is not {what}; allowed: a number"),
            most => format!("'{word}' is not {what}; allowed: a number up to {most}"),
        }
    })
}

/// Takes the name of a connection, or that of a client, which stands for its last connection.
fn connection(words: &mut &[&str], run: &Recording) -> Result<ConnId, String> {
    let names = || {
        let ids: Vec<String> = run.connections().map(|id| run.named(id)).collect();
        format!("allowed: {}", ids.join(", "))
    };
    let Some((word, rest)) = words.split_first() else {
        return Err(format!("a name is missing; {}", names()));
    };
    *words = rest;
    let of_client = || {
        let client = run.client_named(word)?;
        run.connections().filter(|id| run.owner(*id) == Some(client)).last()
    };
    let found = id_of(word).filter(|id| run.owner(*id).is_some()).or_else(of_client);
    found.ok_or_else(|| {
        let word: String = word.chars().take(40).collect();
        format!("no connection '{word}' in this run; {}", names())
    })
}
