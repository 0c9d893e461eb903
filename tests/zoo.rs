//! Scenarios and bugs: the real loop meets every expectation, and each bug does what the scenarios
//! claim.
//!
//! `WHIRLIGIG_ZOO_SEEDS=N` sets the number of seeds for each scenario (100 by default).

#![cfg(test)]

use whirligig::inside::sim::bugs::BUGS;
use whirligig::inside::sim::scenario::all;
use whirligig::inside::sim::zoo::{check_script, check_seeds};

fn seeds() -> u64 {
    std::env::var("WHIRLIGIG_ZOO_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// A scenario that cannot be read would not be in the list.
#[test]
fn no_scenario_is_missing() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/www/learn/scenarios")).unwrap();
    assert_eq!(all().len(), files.count());
}

#[test]
fn every_scenario_does_what_its_text_claims() {
    let errors: Vec<String> = all().iter().flat_map(check_script).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn the_real_loop_meets_every_expectation_with_seeds() {
    let errors: Vec<String> =
        all().iter().filter_map(|scenario| check_seeds(scenario, 1..seeds() + 1)).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// Freeing slots in mid-turn is caught by nothing, because generations cover it. The scenario
/// `stale-answer` says so.
#[test]
fn every_bug_but_one_is_found_by_a_scenario() {
    let scenarios = all();
    let unfound: Vec<&str> = BUGS
        .iter()
        .map(|bug| bug.name)
        .filter(|name| {
            let notes = scenarios.iter().flat_map(|scenario| &scenario.bugs);
            !notes.into_iter().any(|note| note.fails && note.bug == *name)
        })
        .collect();
    assert_eq!(unfound, ["free-in-mid-turn"]);
}
