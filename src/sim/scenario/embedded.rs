//! The scenarios that are part of the program: the texts in `www/learn/scenarios`.
//!
//! This file must not know what is in them.

use crate::sim::scenario::script::Scenario;

/// File names and texts, in the order in which a reader meets them.
const TEXTS: [(&str, &str); 16] = [
    text!("stale-answer"),
    text!("edge-comes-once"),
    text!("short-read-and-fin"),
    text!("partial-head"),
    text!("pipelining"),
    text!("budget-and-carry"),
    text!("listen-queue"),
    text!("descriptor-exhaustion"),
    text!("slow-handler-inline"),
    text!("slow-handler-job"),
    text!("two-results"),
    text!("slow-reader"),
    text!("lingering-close"),
    text!("deadline-early-and-due"),
    text!("eviction"),
    text!("graceful-stop"),
];

/// Expands to the file name and the text of a scenario.
macro_rules! text {
    ($name:literal) => {
        (
            concat!("www/learn/scenarios/", $name, ".txt"),
            include_str!(concat!("../../../www/learn/scenarios/", $name, ".txt")),
        )
    };
}
use text;

/// Returns all scenarios of the program.
#[must_use]
pub fn all() -> Vec<Scenario> {
    TEXTS.iter().filter_map(|(file, text)| Scenario::parse(file, text).ok()).collect()
}

/// Returns the scenario of the program with this name.
#[must_use]
pub fn embedded(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_can_be_read_and_fits_a_page() {
        for (file, text) in TEXTS {
            let scenario = Scenario::parse(file, text).unwrap_or_else(|error| panic!("{error}"));
            assert!(!scenario.question.is_empty() && scenario.guesses.len() >= 2, "{file}");
            assert!(text.lines().count() <= 75, "{file} is longer than a page");
        }
    }
}
