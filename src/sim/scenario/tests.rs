//! Tests of runs: hashes, seeds, bounds, faults and sets of bugs.

use super::*;
use crate::driver::decision::Decision;
use crate::observe::step::Stop;

fn own(text: &str) -> Scenario {
    Scenario::parse("own.txt", text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn two_runs_have_the_same_hash_for_every_scenario_and_bug() {
    for scenario in all() {
        let wrong = crate::sim::bugs::BUGS.iter().map(|bug| bug.wrong());
        for wrong in std::iter::once(WrongDecisions::NONE).chain(wrong) {
            for seed in [None, Some(1)] {
                let setup = Setup { wrong, seed };
                let [one, other] = [(), ()].map(|()| Run::of(&scenario, setup).finish());
                assert_eq!(one.hash(), other.hash(), "{} {setup:?}", scenario.name);
                assert_eq!(one.snapshots, other.snapshots, "{} {setup:?}", scenario.name);
                assert_eq!(one.symptom, other.symptom);
            }
        }
    }
}

#[test]
fn seeds_give_other_runs() {
    let scenario = embedded("edge-comes-once").unwrap();
    let hash = |seed| Run::of(&scenario, Setup { seed, ..Setup::default() }).finish().hash();
    assert_ne!(hash(None), hash(Some(1)));
    assert_ne!(hash(Some(1)), hash(Some(2)));
}

#[test]
fn a_run_is_bounded() {
    let endless = "turns 50\nroute /a responds \"a\"\nclient alice\n  0ms connects\n".to_owned()
        + &"  then 1ms sends GET /a\n".repeat(200)
        + &"expect alice receives 200 \"a\"\n".repeat(60);
    let report = Run::of(&own(&endless), Setup::default()).finish();
    assert_eq!(report.turns, 50);
    assert!(report.symptom.unwrap().what.contains("the loop spins: 50 turns without an end"));
}

#[test]
fn faults_happen_as_requested() {
    let report = Run::of(
        &own("route /a responds \"a\"\nroute /j job 5ms responds \"j\"\n\
            client alice\n  0ms connects\n  1ms sends GET /a\n  9ms sends GET /j\n\
            fault 0ms short-read alice 5\nfault 0ms interrupts alice\nfault 3ms spurious alice\n\
            fault 0ms write-blocks alice\nfault 10ms wake-ups 3\n\
            expect alice receives 200 \"a\" before 3ms\n\
            expect alice receives 200 \"j\" after 1s before 1100ms\n"),
        Setup::default(),
    )
    .finish();
    assert_eq!(report.symptom, None);
    let reads = report.steps.iter().filter(|step| step.step.stop() == Some(Stop::Interrupted)).count();
    assert_eq!(reads, 1);
}

/// Freeing slots in mid-turn is a bug that nothing catches while generations are compared. Without
/// both protections, Bob is sent the response for Alice all the same.
#[test]
fn a_set_of_bugs_runs_together() {
    let scenario = embedded("stale-answer").unwrap();
    let early = WrongDecisions::NONE.with(Decision::FreeSlotsLate);
    let symptom = |wrong| Run::of(&scenario, Setup { wrong, seed: None }).first_symptom();
    assert_eq!(symptom(early), None);
    assert!(symptom(early.with(Decision::CompareGenerations)).is_some());
}
