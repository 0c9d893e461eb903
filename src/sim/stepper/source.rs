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
        (concat!("src/", $name), {
            const TEXT: &str = include_str!(concat!("../../", $name));
            #[cfg(not(target_family = "wasm"))]
            let shown = TEXT;
            // A page loads the texts with the program: the lines that no step shows stay empty.
            #[cfg(target_family = "wasm")]
            let shown = {
                const LENGTH: usize = excerpt::length(TEXT);
                const EXCERPT: [u8; LENGTH] = excerpt::bytes(TEXT);
                match str::from_utf8(&EXCERPT) {
                    Ok(text) => text,
                    Err(_) => "",
                }
            };
            shown
        })
    };
}
use source;

/// Lines that are shown before and after the line of a step.
const LINES_BEFORE: usize = 3;
const LINES_AFTER: usize = 2;

/// The lines around each report of a step, with empty lines in place of all others. Evaluated by
/// the compiler.
#[cfg(any(test, target_family = "wasm"))]
mod excerpt {
    use super::{LINES_AFTER, LINES_BEFORE};

    /// Lines that report a step contain one of these.
    pub(super) const MARKS: [&str; 5] = ["observer", ".step(", ".phase(", "turn_started", "turn_finished"];

    /// Number of lines of the longest file.
    const LINES_MAX: usize = 1000;

    /// Returns the length of the excerpt of a text in bytes.
    pub(super) const fn length(text: &str) -> usize {
        let (text, shown) = (text.as_bytes(), shown_lines(text));
        let (mut at, mut line, mut length) = (0, 0, 0);
        while at < text.len() {
            let is_end = text[at] == b'\n';
            length += (shown[line] || is_end) as usize;
            line += is_end as usize;
            at += 1;
        }
        length
    }

    /// Returns the excerpt of a text.
    pub(super) const fn bytes<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
        let (text, shown) = (text.as_bytes(), shown_lines(text));
        let (mut at, mut line, mut length) = (0, 0, 0);
        let mut out = [0; LENGTH];
        while at < text.len() {
            let is_end = text[at] == b'\n';
            if shown[line] || is_end {
                out[length] = text[at];
                length += 1;
            }
            line += is_end as usize;
            at += 1;
        }
        out
    }

    /// Returns which lines are at most as far from a mark as a place shows.
    const fn shown_lines(text: &str) -> [bool; LINES_MAX] {
        let text = text.as_bytes();
        let mut shown = [false; LINES_MAX];
        let (mut at, mut line) = (0, 0_usize);
        while at < text.len() {
            if text[at] == b'\n' {
                line += 1;
            } else if has_mark(text, at) {
                let mut near = line.saturating_sub(LINES_BEFORE);
                while near <= line + LINES_AFTER && near < LINES_MAX {
                    shown[near] = true;
                    near += 1;
                }
            }
            at += 1;
        }
        shown
    }

    const fn has_mark(text: &[u8], at: usize) -> bool {
        let mut mark = 0;
        while mark < MARKS.len() {
            let (bytes, mut same) = (MARKS[mark].as_bytes(), 0);
            while same < bytes.len() && at + same < text.len() && text[at + same] == bytes[same] {
                same += 1;
            }
            if same == bytes.len() {
                return true;
            }
            mark += 1;
        }
        false
    }
}

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

    #[test]
    fn an_excerpt_has_every_line_that_a_step_shows() {
        const TEXT: &str = include_str!("../../reactor/mod.rs");
        const LENGTH: usize = excerpt::length(TEXT);
        let excerpt = excerpt::bytes::<LENGTH>(TEXT);
        let excerpt: Vec<&str> = str::from_utf8(&excerpt).unwrap().lines().collect();
        let whole: Vec<&str> = TEXT.lines().collect();
        assert_eq!(excerpt.len(), whole.len());
        assert!(LENGTH < TEXT.len());
        for (at, line) in whole.iter().enumerate() {
            assert!(excerpt[at] == *line || excerpt[at].is_empty());
            if excerpt::MARKS.iter().any(|mark| line.contains(mark)) {
                let near = at.saturating_sub(LINES_BEFORE)..(at + LINES_AFTER + 1).min(whole.len());
                assert_eq!(excerpt[near.clone()], whole[near]);
            }
        }
    }

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
                    assert!(
                        excerpt::MARKS.iter().any(|mark| place.text().contains(mark)),
                        "{}",
                        step.place()
                    );
                    assert!(place.around().any(|(line, _)| line == place.line));
                }
            }
        }
    }
}
