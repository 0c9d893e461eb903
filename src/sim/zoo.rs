//! The zoo: runs every scenario with every bug, and with seeds.
//!
//! The real loop must meet all expectations, and each bug must do what the text of each scenario
//! claims: fail with this first symptom, or leave the scenario green. This file must not know the
//! command line.

use std::io;
use std::ops::Range;

use crate::driver::decision::WrongDecisions;
use crate::sim::bugs::{BUGS, Bug};
use crate::sim::scenario::{Run, Scenario, Setup, Symptom};
use crate::sim::{Simulation, Steps};

/// The effect of a bug on a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Name of the bug.
    pub bug: &'static str,
    /// Name of the scenario.
    pub scenario: String,
    /// First symptom of the run without a seed.
    pub symptom: Option<Symptom>,
    /// Number of seeds that were run.
    pub seeds: u64,
    /// Number of seeds that failed.
    pub failed: u64,
}

/// Runs a scenario with a bug, once as it is written and once with each seed from 1 to `seeds`.
#[must_use]
pub fn effect(bug: &Bug, scenario: &Scenario, seeds: u64) -> Effect {
    let wrong = bug.wrong();
    let symptom = Run::of(scenario, Setup { wrong, seed: None }).first_symptom();
    let failed = (1..=seeds)
        .filter(|&seed| Run::of(scenario, Setup { wrong, seed: Some(seed) }).first_symptom().is_some());
    let failed = failed.count() as u64;
    Effect { bug: bug.name, scenario: scenario.name.clone(), symptom, seeds, failed }
}

/// Returns the number of seeds from 1 to `seeds` in which the simulator finds this bug without any
/// scenario, and the first finding.
pub fn found_by_simulator(bug: &Bug, seeds: u64) -> io::Result<(u64, Option<String>)> {
    let (mut found, mut first) = (0, None);
    for seed in 1..=seeds {
        if let Err(failure) = Simulation::with(seed, Steps::Dropped, bug.wrong())?.run() {
            found += 1;
            first.get_or_insert(failure.what);
        }
    }
    Ok((found, first))
}

/// Returns the hash of a run in one line: scenario, bug, seed, number of turns, hash. Builds of the
/// same loop for other processors must print equal lines.
#[must_use]
pub fn hash_line(scenario: &Scenario, bug: Option<&Bug>, seed: Option<u64>) -> String {
    let wrong = bug.map_or(WrongDecisions::NONE, Bug::wrong);
    let report = Run::of(scenario, Setup { wrong, seed }).finish();
    let seed = seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
    let bug = bug.map_or("none", |bug| bug.name);
    format!("{} {bug} {seed} {} {}", scenario.name, report.turns, report.hash())
}

/// Checks a scenario as it is written: the real loop meets its expectations, two runs have the same
/// hash, and each bug does what the text claims. Returns one line for each error.
#[must_use]
pub fn check_script(scenario: &Scenario) -> Vec<String> {
    let mut errors = Vec::new();
    let report = Run::of(scenario, Setup::default()).finish();
    if report.hash() != Run::of(scenario, Setup::default()).finish().hash() {
        errors.push(format!("{}: two runs differ", scenario.file));
    }
    if let Some(symptom) = report.symptom {
        errors.push(format!("{}: the real loop: {symptom}", scenario.file));
    }
    errors.extend(BUGS.iter().filter_map(|bug| check_claim(bug, scenario)));
    errors
}

/// Checks that the real loop meets the expectations of a scenario with each of these seeds. Returns
/// the first error.
#[must_use]
pub fn check_seeds(scenario: &Scenario, mut seeds: Range<u64>) -> Option<String> {
    seeds.find_map(|seed| {
        let setup = Setup { wrong: WrongDecisions::NONE, seed: Some(seed) };
        let symptom = Run::of(scenario, setup).first_symptom()?;
        Some(format!("{}: the real loop with seed {seed}: {symptom}", scenario.file))
    })
}

/// Checks that the simulator finds nothing wrong with the real loop in these seeds. Returns the
/// first error.
pub fn check_simulator(seeds: Range<u64>) -> io::Result<Option<String>> {
    for seed in seeds {
        if let Err(failure) = Simulation::new(seed, Steps::Dropped)?.run() {
            return Ok(Some(format!("the simulator with seed {seed}: {}", failure.what)));
        }
    }
    Ok(None)
}

/// Checks what a scenario claims about a bug. Without a `bug` line it claims to stay green.
fn check_claim(bug: &Bug, scenario: &Scenario) -> Option<String> {
    let note = scenario.bugs.iter().find(|note| note.bug == bug.name);
    let symptom = Run::of(scenario, Setup { wrong: bug.wrong(), seed: None }).first_symptom();
    let place = match note {
        Some(note) => format!("{}:{}", scenario.file, note.line),
        None => scenario.file.clone(),
    };
    match (note.filter(|note| note.fails), symptom) {
        (Some(note), Some(symptom)) if symptom.what.contains(&note.text) => None,
        (Some(_), Some(symptom)) => Some(format!("{place}: {} fails otherwise: {symptom}", bug.name)),
        (Some(_), None) => Some(format!("{place}: {} does not fail", bug.name)),
        (None, Some(symptom)) => Some(format!("{place}: {} is not green: {symptom}", bug.name)),
        (None, None) => None,
    }
}
