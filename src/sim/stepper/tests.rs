//! Tests of sessions: hashes, moves, states, links, and words that do not exist.

use super::*;
use crate::sim::bugs::BUGS;
use crate::sim::scenario::{Scenario, all, embedded};
use crate::sim::world::Rng;

fn session(name: &str, bug: Option<&str>, seed: Option<u64>) -> Session {
    let choice = Choice::new(bug, seed, Vec::new()).unwrap();
    Session::open(embedded(name).unwrap(), choice).unwrap()
}

/// A run of thousands of steps.
fn long() -> Scenario {
    let text =
        "turns 20000\nlimit turn_requests_max 2\nroute /a responds \"a\"\nclient alice\n  0ms connects\n"
            .to_owned()
            + &"  then 1ms sends GET /a 20 times\n".repeat(200)
            + "expect alice receives 200 \"a\"\n";
    Scenario::parse("long.txt", &text).unwrap()
}

/// `scenario::tests` compares two runs of every scenario with every bug.
#[test]
fn two_sessions_have_the_same_hash_for_every_scenario() {
    for scenario in all() {
        for (bug, seed) in [(None, None), (None, Some(3)), (Some("no-generations"), Some(3))] {
            let [one, other] = [(), ()].map(|()| session(&scenario.name, bug, seed).hash_line());
            assert_eq!(one, other, "{} {bug:?} {seed:?}", scenario.name);
        }
    }
}

#[test]
fn back_then_forward_restores_the_state_for_1000_random_pairs() {
    let mut rng = Rng(7);
    let sessions: Vec<Session> = all()
        .into_iter()
        .flat_map(|scenario| [None, Some("no-generations")].map(|bug| session(&scenario.name, bug, None)))
        .collect();
    for _ in 0..1000 {
        let mut session = sessions[rng.below(sessions.len() as u64) as usize].clone();
        let steps = session.run().len();
        let from = 1 + rng.below(steps as u64) as usize;
        let back = 1 + rng.below(from as u64) as usize;
        session.obey_all(&format!("at {from}")).unwrap();
        let (state, json) = (State::at(session.run(), from), session.json());
        session.obey_all(&format!("b {back}")).unwrap();
        assert_eq!(session.position(), from - back);
        session.obey_all(&format!("n {back}")).unwrap();
        assert_eq!((State::at(session.run(), from), session.json()), (state, json));
        // By turns, one comes back to the beginning or the end of this turn.
        session.obey_all("t T t").unwrap();
        assert!(session.position() >= from.min(steps));
    }
}

/// The steps of a turn, applied to the state after the turn before, give the state after the turn.
/// Only values that no step reports are left out.
#[test]
fn the_state_within_a_turn_is_that_of_the_kernel() {
    for scenario in all() {
        for bug in std::iter::once(None).chain(BUGS.iter().map(Some)) {
            for seed in [None, Some(1)] {
                let run = Recording::of(&scenario, &Choice { bug, seed, sets: Vec::new() });
                for (at, snapshot) in run.report.snapshots.iter().enumerate() {
                    let before = at.checked_sub(1).map_or(0, |last| run.report.snapshots[last].steps);
                    let mut state = State::at(&run, before);
                    for step in before..snapshot.steps {
                        state.apply(&run, step, Some(snapshot));
                    }
                    let exact = State::of(snapshot, run.inbox_after(at));
                    let place = format!("{} {bug:?} {seed:?} turn {}", scenario.name, snapshot.turn);
                    let names = |state: &State| {
                        state.connections.iter().map(|one| (one.id, one.client)).collect::<Vec<_>>()
                    };
                    assert_eq!(names(&state), names(&exact), "{place}");
                    assert_eq!(state.backlog, exact.backlog, "{place}");
                    assert_eq!(state.jobs_waiting, exact.jobs_waiting, "{place}");
                    assert_eq!(state.jobs_running, exact.jobs_running, "{place}");
                    let bytes = |state: &State| {
                        let sockets = state.sockets.iter();
                        sockets
                            .map(|one| (one.unread, one.untaken, one.client_end, one.server_end))
                            .collect::<Vec<_>>()
                    };
                    assert_eq!(bytes(&state), bytes(&exact), "{place}");
                }
            }
        }
    }
}

#[test]
fn a_newcomer_sees_the_stale_name_and_the_reason() {
    let mut session = session("stale-answer", None, None);
    let reply = session.obey_all("g 2 u stale").unwrap().text();
    assert!(reply.contains("stale 0.1: result dropped, 0.1 is closed"), "{reply}");
    assert!(reply.contains("Slot 0 belongs to 0.2 (bob) now"), "{reply}");
    let source = session.obey_all("l").unwrap().text();
    assert!(source.contains("src/reactor/mod.rs:") && source.contains("Step::Stale"), "{source}");
    let holders = session.obey_all("w 0.1").unwrap().text();
    assert!(holders.contains("now 0.2 (bob) has slot 0"), "{holders}");
    let end = session.obey_all("t 100").unwrap().text();
    assert!(end.contains("Your guess:    Bob\n") && end.contains("The answer:    nobody\n"), "{end}");
    assert!(end.contains("The lookup of 0.1 compares the generations"), "{end}");
    let broken = session.obey_all("bug no-generations").unwrap().text();
    assert!(broken.contains("Both runs are equal until step"), "{broken}");
    let end = session.obey_all("t 100").unwrap().text();
    assert!(end.contains("bob received 200 \"for Alice\" instead of 200 \"for Bob\""), "{end}");
}

#[test]
fn a_deadline_without_an_entry_is_named() {
    let bob = |bug| {
        let mut session = session("deadline-early-and-due", bug, None);
        session.obey_all("at 60 w 1.3").unwrap().text()
    };
    let (real, wrong) = (bob(None), bob(Some("deadline-not-removed")));
    assert!(real.contains("an entry at 150.001 ms"), "{real}");
    assert!(wrong.contains("no entry, although its deadline is 150.001 ms"), "{wrong}");
}

#[test]
fn each_client_is_named_once_and_each_step_has_a_sentence() {
    for scenario in all() {
        let session = session(&scenario.name, None, None);
        let log: Vec<String> = session.log().map(|line| line.text).collect();
        for name in &session.run().report.names {
            assert!(
                log.iter().filter(|line| line.contains(&format!(" {name} is 0."))).count() <= 1,
                "{name}"
            );
        }
        for position in 0..=session.run().len() {
            let sentence = explain::sentence(session.run(), position);
            assert!(sentence.ends_with('.') && sentence.len() > 20, "{sentence}");
            assert!(!sentence.contains('\n') && !sentence.contains("  "), "{sentence}");
        }
    }
}

#[test]
fn conditions_stop_where_they_are_met() {
    for (condition, line) in [
        ("stale", "stale 0.1"),
        ("stale=result", "stale 0.1"),
        ("conn=0.2", "accept 0.2"),
        ("conn=bob", "bob connects"),
        ("op=would-block", "accept: would-block"),
        ("op=job", "job 0.1"),
        ("turn=3", "turn 3:"),
        ("closed", "close 0.1"),
        ("closed(alice)", "close 0.1"),
        ("sent(bob)", "write 0.2"),
        ("conn=0.2 op=read", "read 0.2"),
        ("turn=3 conn=0.1", "event 0.1"),
        ("phase=accept op=accept", "accept 0.1"),
    ] {
        let mut session = session("stale-answer", None, None);
        session.obey_all(&format!("u {condition}")).unwrap();
        let last = session.log().nth(session.position() - 1).unwrap().text;
        assert!(last.contains(line), "{condition}: {last}");
    }
    let mut session = session("budget-and-carry", None, None);
    session.obey_all("u stopped=budget").unwrap();
    assert!(session.log().nth(session.position() - 1).unwrap().text.contains("carry 0.1"));
    let at = session.position();
    let reply = session.obey_all("u turn=1").unwrap().text();
    assert!(reply.contains("No step after") && session.position() == at, "{reply}");
}

#[test]
fn unknown_words_are_refused_in_one_line_with_the_allowed_ones() {
    let mut session = session("stale-answer", None, None);
    for (line, part) in [
        ("x", "unknown command 'x'; allowed: n, e, t, b, T"),
        ("u", "a condition is missing; allowed: stale"),
        ("u foo", "unknown condition 'foo'; allowed: stale"),
        ("u foo=1", "unknown condition 'foo=1'; allowed"),
        ("u op=nix", "allowed: turn, phase"),
        ("u stopped=nix", "allowed: done, short"),
        ("u conn=eve", "allowed: alice, bob"),
        ("u sent(eve)", "allowed: alice, bob"),
        ("u turn=x", "allowed: turn=N"),
        ("u phase=x", "allowed: wait"),
        ("w", "a name is missing; allowed: 0.1 (alice), 0.2 (bob)"),
        ("w 7.7", "allowed: 0.1 (alice), 0.2 (bob)"),
        ("bug nix", "allowed: none, no-generations"),
        ("at 100000", "allowed: a number up to"),
        ("n 99999999999999999999", "allowed: a number up to 1000000"),
        ("g 9", "allowed: 1 to 4"),
        ("g 0", "allowed: 1 to 4"),
        ("g", "a guess is missing"),
    ] {
        let error = session.obey_all(line).unwrap_err();
        assert!(error.contains(part) && !error.contains('\n'), "{line}: {error}");
        assert_eq!(session.position(), 0, "{line}");
    }
    for (bug, set, part) in [
        (Some("nix"), None, "allowed: none, no-generations"),
        (None, Some("nix=1"), "allowed: connections_max"),
        (None, Some("batch"), "batch"),
        (None, Some("batch=0"), "allowed: a number from 1"),
    ] {
        let choice = Choice::new(bug, None, set.into_iter().map(str::to_owned).collect());
        let error =
            choice.and_then(|choice| Session::open(embedded("stale-answer").unwrap(), choice)).unwrap_err();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn links_open_the_same_state() {
    let mut rng = Rng(3);
    let scenarios = all();
    for _ in 0..200 {
        let scenario = &scenarios[rng.below(scenarios.len() as u64) as usize];
        let bug = BUGS.get(rng.below(2 * BUGS.len() as u64) as usize);
        let seed = rng.chance(500).then(|| rng.next());
        let sets = if rng.chance(300) { vec!["batch=1".to_owned()] } else { Vec::new() };
        let mut session = Session::open(scenario.clone(), Choice { bug, seed, sets }).unwrap();
        let position = rng.below(session.run().len() as u64 + 1);
        session.obey_all(&format!("g 1 at {position}")).unwrap();
        let opened = Session::open_link(&session.link().unwrap()).unwrap();
        assert_eq!(opened.json(), session.json());
    }
    assert!(Session::open_link("#s=stale-answer&n=999").unwrap_err().contains("allowed: n=0 to n="));
    assert!(Session::open_link("#s=nix&n=0").unwrap_err().contains("allowed: stale-answer"));
    let own = Session::open(long(), Choice::default()).unwrap();
    assert!(own.link().is_err());
}

#[test]
fn a_batch_of_one_changes_the_run() {
    let scenario = embedded("listen-queue").unwrap();
    let hash = |sets: &[&str]| {
        let choice = Choice { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..Choice::default() };
        Session::open(scenario.clone(), choice).unwrap().run().report.hash()
    };
    assert_ne!(hash(&["accepts=1"]), hash(&[]));
    assert_eq!(hash(&["accepts=1", "accepts=2"]), hash(&[]), "the last one counts");
}

#[test]
fn each_json_object_can_be_read() {
    for bug in [None, Some("no-generations")] {
        let mut session = session("stale-answer", bug, None);
        for position in 0..=session.run().len() {
            session.obey_all(&format!("at {position}")).unwrap();
            let object: serde_json::Value = serde_json::from_str(&session.json()).unwrap();
            assert_eq!(object["n"], position);
            assert_eq!(object["end"].is_null(), position < session.run().len());
            assert!(object["state"]["connections"].is_array());
        }
        for line in session.log_json().lines().chain([&*session.hash_json()]) {
            drop(serde_json::from_str::<serde_json::Value>(line).unwrap());
        }
    }
}

/// The time of a step back from step 5,000. Ignored, because a time is no promise of a test.
#[test]
#[ignore = "measures a time: cargo test --lib stepper::tests::a_step_back -- --ignored --nocapture"]
#[expect(
    clippy::print_stdout,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a measurement"
)]
fn a_step_back_at_step_5000_is_quick() {
    let mut session = Session::open(long(), Choice::default()).unwrap();
    assert!(session.run().len() > 5000, "{}", session.run().len());
    session.obey_all("at 5000").unwrap();
    let began = std::time::Instant::now();
    for _ in 0..100 {
        session.obey_all("b").unwrap();
        drop(session.json());
    }
    println!("{} steps; one step back with its state: {:?}", session.run().len(), began.elapsed() / 100);
}
