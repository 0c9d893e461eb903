//! A session: a recorded run, a position in it, and the guess of the reader.
//!
//! Commands in, lines or JSON out. This file must not know where commands come from.

use crate::sim::bugs::Bug;
use crate::sim::scenario::{Scenario, Setup, embedded};
use crate::sim::stepper::command::{Command, Way};
use crate::sim::stepper::link::Link;
use crate::sim::stepper::recording::{Choice, Recording};
use crate::sim::stepper::text::{
    Kind, Line, back_lines, bug_lines, help_lines, holder_lines, moved_lines, question_lines, source_lines,
    state_lines, step_line,
};

/// A reader's way through a run.
#[derive(Debug, Clone)]
pub struct Session {
    /// The scenario as it is written, without the limits of the choice.
    base: Scenario,
    /// True for a scenario of the program, which a link can name.
    is_embedded: bool,
    pub(super) scenario: Scenario,
    pub(super) choice: Choice,
    pub(super) run: Recording,
    pub(super) position: usize,
    pub(super) guess: Option<usize>,
    /// The move that an empty line repeats.
    again: Command,
}

/// The result of commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Text for the reader.
    pub lines: Vec<Line>,
    /// True if the reader wants to leave.
    pub quits: bool,
}

impl Reply {
    /// Returns the lines as text.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| line.text.clone() + "\n").collect()
    }
}

impl Session {
    /// Runs a scenario and stands before its first step. An error is one line of text.
    pub fn open(scenario: Scenario, choice: Choice) -> Result<Session, String> {
        let base = scenario;
        let scenario = choice.applied_to(&base)?;
        let run = Recording::of(&scenario, &choice);
        let again = Command::Move(Way::Step, 1);
        let is_embedded = embedded(&base.name).is_some_and(|own| own.text == base.text);
        Ok(Session { base, is_embedded, scenario, choice, run, position: 0, guess: None, again })
    }

    /// Opens a link to a step of a scenario of the program.
    pub fn open_link(link: &str) -> Result<Session, String> {
        let link = Link::decode(link)?;
        let scenario = embedded(&link.scenario).ok_or_else(|| {
            let name: String = link.scenario.chars().take(40).collect();
            format!("unknown scenario '{name}' in the link; allowed: {}", names())
        })?;
        let mut session = Session::open(scenario, link.choice)?;
        let (count, steps) = (session.scenario.guesses.len(), session.run.len());
        if link.guess.is_some_and(|guess| guess >= count) {
            return Err(format!("the guess in the link does not exist; allowed: g=1 to g={count}"));
        }
        if link.position > steps {
            return Err(format!("the run has no step {}; allowed: n=0 to n={steps}", link.position));
        }
        (session.guess, session.position) = (link.guess, link.position);
        Ok(session)
    }

    /// Returns the run.
    #[must_use]
    pub fn run(&self) -> &Recording {
        &self.run
    }

    /// Returns the scenario, with the limits of the choice.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Returns the choices of the reader.
    #[must_use]
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Returns the variation of the scenario that the run is.
    #[must_use]
    pub fn setup(&self) -> Setup {
        Setup { wrong: self.run.wrong(), seed: self.choice.seed }
    }

    /// Returns the number of steps that have happened.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Returns the index of the guess.
    #[must_use]
    pub fn guess(&self) -> Option<usize> {
        self.guess
    }

    /// Returns the number of the turn at the position.
    #[must_use]
    pub fn turn(&self) -> u32 {
        self.run.moment(self.position).turn
    }

    /// Returns title, question and guesses.
    #[must_use]
    pub fn question(&self) -> Vec<Line> {
        let mut lines = question_lines(&self.scenario, &self.run);
        if let Some(bug) = self.choice.bug {
            lines.push(Line::new(Kind::Alarm, 0, format!("Bug {}: {}", bug.name, bug.does)));
        }
        lines
    }

    /// Returns the step before the position with its explanation, and the answer at the end.
    #[must_use]
    pub fn here(&self) -> Vec<Line> {
        let mut lines = back_lines(&self.run, self.position);
        lines.extend(self.end_lines());
        lines
    }

    /// Returns the whole run as lines.
    pub fn log(&self) -> impl Iterator<Item = Line> + '_ {
        (0..self.run.len()).map(|at| step_line(&self.run, at))
    }

    /// Returns the number of turns and operations, and the hash of the run, in one line.
    #[must_use]
    pub fn hash_line(&self) -> String {
        let report = &self.run.report;
        format!("turns {} operations {} sha256 {}", report.turns, self.run.operations(), report.hash())
    }

    /// Returns the address of the position. Scenarios from files have none.
    pub fn link(&self) -> Result<String, String> {
        if !self.is_embedded {
            return Err("a scenario from a file has no link; allowed: scenarios of the program".to_owned());
        }
        let (scenario, choice) = (self.base.name.clone(), self.choice.clone());
        Ok(Link { scenario, choice, guess: self.guess, position: self.position }.encode())
    }

    /// Obeys all commands of a line. An empty line repeats the last move. An error is one line of
    /// text; the commands before the wrong word are not obeyed either.
    pub fn obey_all(&mut self, line: &str) -> Result<Reply, String> {
        let mut commands = Command::parse_all(line, &self.run)?;
        if commands.is_empty() {
            commands.push(self.again.clone());
        }
        let mut reply = Reply::default();
        for command in commands {
            if reply.quits {
                break;
            }
            let is_move = matches!(command, Command::Move(..) | Command::Until(_));
            reply.lines.extend(self.obey(&command)?);
            reply.quits = command == Command::Quit;
            if is_move {
                self.again = command;
            }
        }
        Ok(reply)
    }

    /// Obeys one command.
    pub fn obey(&mut self, command: &Command) -> Result<Vec<Line>, String> {
        let (run, position) = (&self.run, self.position);
        Ok(match command {
            Command::Move(way, times) => self.move_by(*way, *times),
            Command::Until(condition) => match condition.find(run, position) {
                Some(found) => self.move_to(found),
                None => vec![Line::plain(format!("No step after {position} meets: {}", condition.text()))],
            },
            Command::At(position) => {
                self.position = (*position).min(run.len());
                self.here()
            }
            Command::State => state_lines(run, position),
            Command::Who(id) => holder_lines(run, *id, position),
            Command::Source => source_lines(run, position),
            Command::Bugs => bug_lines(&self.scenario),
            Command::Bug(bug) => self.run_with(*bug),
            Command::Guess(index) => self.take_guess(*index)?,
            Command::Question => self.question(),
            Command::Link => vec![Line::plain(self.link()?)],
            Command::Help => help_lines(),
            Command::Quit => Vec::new(),
        })
    }

    /// Notes a guess.
    fn take_guess(&mut self, index: usize) -> Result<Vec<Line>, String> {
        let count = self.scenario.guesses.len();
        match self.scenario.guesses.get(index) {
            Some(guess) => {
                let text = format!("Your guess: {guess}. The end of the run has the answer.");
                self.guess = Some(index);
                Ok(vec![Line::plain(text)])
            }
            None if count == 0 => Err("this scenario has no guesses".to_owned()),
            None => Err(format!("this guess does not exist; allowed: 1 to {count}")),
        }
    }

    fn move_by(&mut self, way: Way, times: u32) -> Vec<Line> {
        let (from, run) = (self.position, &self.run);
        let mut to = from;
        for _ in 0..times {
            let next = match way {
                Way::Step => (to + 1).min(run.len()),
                Way::Event => run.event_after(to),
                Way::Turn => run.turn_after(to),
                Way::Back => to.saturating_sub(1),
                Way::TurnBack => run.turn_before(to),
            };
            if next == to {
                break;
            }
            to = next;
        }
        match way {
            Way::Step | Way::Event | Way::Turn => self.move_to(to),
            Way::Back | Way::TurnBack => {
                self.position = to;
                back_lines(&self.run, to)
            }
        }
    }

    /// Moves forward and shows the steps on the way.
    fn move_to(&mut self, to: usize) -> Vec<Line> {
        let from = self.position;
        self.position = to;
        if from == to {
            return self.end_lines();
        }
        let mut lines = moved_lines(&self.run, from, to);
        lines.extend(self.end_lines());
        lines
    }

    /// Returns guess, answer and explanation if the position is the end of the run.
    fn end_lines(&self) -> Vec<Line> {
        if self.position < self.run.len() {
            return Vec::new();
        }
        let turns = self.run.report.turns;
        let mut lines = vec![
            Line::plain(""),
            Line::new(Kind::Heading, 0, format!("End of the run, after {turns} turns.")),
        ];
        let scenario = &self.scenario;
        if let Some(symptom) = &self.run.report.symptom {
            let blame = self.choice.bug.map_or_else(
                || "An expectation of the scenario is not met:".to_owned(),
                |bug| format!("With the bug {} this went wrong first:", bug.name),
            );
            lines.push(Line::new(Kind::Alarm, 2, format!("{blame} {symptom}")));
            if let Some(consequence) = &self.run.report.consequence {
                lines.push(Line::new(Kind::Alarm, 2, format!("In the end: {consequence}")));
            }
        } else if let Some(bug) = self.choice.bug {
            let note = scenario.bugs.iter().find(|note| note.bug == bug.name && !note.fails);
            let reason = note.map_or_else(String::new, |note| format!(" {}", note.text));
            lines.push(Line::new(
                Kind::Good,
                0,
                format!("Nothing went wrong in spite of the bug {}.{reason}", bug.name),
            ));
        }
        let Some(answer) = scenario.guesses.get(scenario.answer) else { return lines };
        let real = if self.choice.bug.is_some() { "The real loop: " } else { "The answer:    " };
        let guess = self.guess.and_then(|guess| scenario.guesses.get(guess));
        if let Some(guess) = guess {
            lines.push(Line::new(Kind::Plain, 15, format!("Your guess:    {guess}")));
        }
        let mark = match self.guess {
            Some(guess) if guess == scenario.answer => "  (you were right)",
            _ => "",
        };
        lines.push(Line::new(Kind::Good, 15, format!("{real}{answer}{mark}")));
        lines.push(Line::plain(&scenario.because));
        let broken = scenario.bugs.iter().find(|note| note.fails);
        let next = match (self.choice.bug, broken) {
            (Some(_), _) => "The real loop again: bug none".to_owned(),
            (None, Some(note)) => format!("Break it: bug {}", note.bug),
            (None, None) => "Break it: bug lists decisions that can be made wrongly".to_owned(),
        };
        lines.push(Line::new(Kind::Note, 0, next));
        lines
    }

    /// Runs again with another bug. The position stays as long as both runs have the same steps.
    fn run_with(&mut self, bug: Option<&'static Bug>) -> Vec<Line> {
        let choice = Choice { bug, ..self.choice.clone() };
        let run = Recording::of(&self.scenario, &choice);
        let common = self.run.common_with(&run);
        let old = std::mem::replace(&mut self.run, run);
        let name = |choice: &Choice| match choice.bug {
            Some(bug) => format!("with {}", bug.name),
            None => "the real loop".to_owned(),
        };
        let (before, after) = (name(&self.choice), name(&choice));
        self.choice = choice;
        let mut lines = vec![match bug {
            Some(bug) => Line::new(Kind::Alarm, 0, format!("Bug {}: {}", bug.name, bug.does)),
            None => Line::new(Kind::Good, 0, "The real loop again, without a bug."),
        }];
        let (run, is_same) = (&self.run, common == self.run.len() && common == old.len());
        lines.push(Line::plain(format!("The run has {} steps in {} turns.", run.len(), run.report.turns)));
        if is_same {
            lines.push(Line::plain("Both runs have the same steps."));
            return lines;
        }
        lines.push(Line::plain(format!("Both runs are equal until step {common}. Then:")));
        for (name, run) in [(before, &old), (after, run)] {
            let line = match common < run.len() {
                true => step_line(run, common),
                false => Line::plain("      (the end)"),
            };
            lines.push(Line::new(Kind::Note, 0, format!("{name}:")));
            lines.push(line);
        }
        self.position = self.position.min(common);
        lines.push(Line::plain(format!("You are at step {} of the new run.", self.position)));
        lines
    }
}

/// Returns the names of all scenarios of the program.
pub(super) fn names() -> String {
    let names: Vec<String> = crate::sim::scenario::all().into_iter().map(|scenario| scenario.name).collect();
    names.join(", ")
}
