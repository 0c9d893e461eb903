//! The record of a simulated run: the steps of the loop and the facts about clients and kernel, in
//! the order in which they happened.
//!
//! This file must not know what a step means for the verdict.

use std::fmt::Write as _;

use crate::observe::step::{Fact, Step, TimedStep};
use crate::observe::{Ring, json_header};

/// Largest number of steps that a record keeps. An ordinary run has some ten thousand. Of a run
/// that spins, the last ones are of interest.
const STEPS_MAX: usize = 200_000;

/// The steps of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    steps: Ring,
    /// Behaviour and request lines of each client, by number.
    pub(super) plans: Vec<String>,
    /// The client whose connection the loop is accepting.
    pub(super) accepting: Option<u32>,
}

impl Record {
    pub(super) fn new() -> Self {
        Record { steps: Ring::new(STEPS_MAX), plans: Vec::new(), accepting: None }
    }

    pub(super) fn push(&mut self, step: TimedStep) {
        self.steps.push(step);
        if let Step::Accept { accepted: Ok(id), .. } = step.step
            && let Some(client) = self.accepting.take()
        {
            self.steps.push(TimedStep { step: Step::Fact(Fact::Is(client, id)), ..step });
        }
    }

    /// Iterates over the steps, oldest first.
    pub fn steps(&self) -> impl Iterator<Item = &TimedStep> {
        self.steps.iter()
    }

    /// Returns the steps as text, one line for each.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.steps.dropped() > 0 {
            let _ = writeln!(out, "{} earlier steps are not kept", self.steps.dropped());
        }
        for step in self.steps.iter() {
            let _ = write!(out, "{}", step.text(&[]));
            if let Step::Fact(Fact::Connects(client)) = step.step
                && let Some(plan) = self.plans.get(client as usize)
            {
                let _ = write!(out, ": {plan}");
            }
            out.push('\n');
        }
        out
    }

    /// Returns the steps as JSON, one object on each line, after the line that names the schema.
    #[must_use]
    pub fn json(&self) -> String {
        let mut out = json_header(&[]) + "\n";
        for step in self.steps.iter() {
            out.push_str(&step.json());
            out.push('\n');
        }
        out
    }
}
