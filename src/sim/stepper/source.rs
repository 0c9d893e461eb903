//! The line of the source that made a step.
//!
//! Each step carries the place where it was reported, which the compiler writes. The texts of those
//! files are part of the program, so place and text always belong to the same build. This file must
//! not know what a step means.

use crate::observe::step::{Step, TimedStep};

/// Files of the loop that report steps, with their texts.
const SOURCES: [(&str, &str); 10] = [
    source!("driver/exchange.rs"),
    source!("driver/mod.rs"),
    source!("driver/pump.rs"),
    source!("driver/respond.rs"),
    source!("reactor/accept.rs"),
    source!("reactor/batch.rs"),
    source!("reactor/mod.rs"),
    source!("reactor/report.rs"),
    source!("reactor/stop.rs"),
    source!("reactor/watches.rs"),
];

/// Expands to the name and the text of a source file.
macro_rules! source {
    ($name:literal) => {
        (concat!("src/", $name), include_str!(concat!("../../", $name)))
    };
}
use source;

/// Lines that are shown before and after the line of a step.
const LINES_BEFORE: usize = 3;
const LINES_AFTER: usize = 2;

/// A place in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// File, as in `src/reactor/mod.rs`.
    pub file: &'static str,
    /// Number of the line, from 1.
    pub line: usize,
    text: &'static str,
}

impl Place {
    /// Returns the text of the line.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text.lines().nth(self.line - 1).unwrap_or_default()
    }

    /// Iterates over the numbers and texts of the line and its neighbours.
    pub fn around(&self) -> impl Iterator<Item = (usize, &'static str)> {
        let first = self.line.saturating_sub(LINES_BEFORE).max(1);
        let lines = (1..).zip(self.text.lines());
        lines.skip(first - 1).take(self.line + LINES_AFTER + 1 - first)
    }
}

/// Returns the place where the loop made a step. Facts about clients and kernel have none, because
/// the scenario determines them.
#[must_use]
pub fn place_of(step: &TimedStep) -> Option<Place> {
    if matches!(step.step, Step::Fact(_)) {
        return None;
    }
    let (file, line) = (step.source.file(), step.source.line() as usize);
    let (file, text) = SOURCES.iter().find(|(name, _)| file.ends_with(name))?;
    (1..=text.lines().count()).contains(&line).then_some(Place { file, line, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::bugs::BUGS;
    use crate::sim::scenario::all;
    use crate::sim::stepper::{Choice, Recording};

    /// A source that is not in the list, or a step that is reported on behalf of another line,
    /// fails here.
    #[test]
    fn every_step_of_the_loop_has_a_line_that_reports_it() {
        for scenario in all() {
            for bug in std::iter::once(None).chain(BUGS.iter().map(Some)) {
                let run = Recording::of(&scenario, &Choice { bug, ..Choice::default() });
                for step in run.report.steps.iter().filter(|step| !matches!(step.step, Step::Fact(_))) {
                    let place = place_of(step).unwrap_or_else(|| panic!("no source for {}", step.place()));
                    assert_eq!(format!("{}:{}", place.file, place.line), step.place());
                    let marks = ["observer", ".step(", ".phase(", "turn_started", "turn_finished"];
                    assert!(marks.iter().any(|mark| place.text().contains(mark)), "{}", step.place());
                    assert!(place.around().any(|(line, _)| line == place.line));
                }
            }
        }
    }
}
