//! Recorded runs (`www/learn/logs`), which the stepper's page shows where browsers refuse its
//! engine: they are the runs of the program.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use whirligig::inside::sim::scenario::{Scenario, all};
use whirligig::inside::sim::stepper::{Choice, Command, Session, bugs_json, scenario_with_answer_json};

use crate::chapters::chapters;

/// Command that makes the recordings, for messages.
const AGAIN: &str = "run: node learn/logs.mjs (CONTRIBUTING.md, The engine for pages)";

/// Returns the value that a recording assigns.
fn recording(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("www/learn/logs/{name}.js"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}; {AGAIN}"));
    let (_, value) = text.split_once(" = ").unwrap();
    serde_json::from_str(value.trim_end().trim_end_matches(';')).unwrap()
}

/// Applies a change as `recorded.js` does: `[value]` replaces, an object changes values at keys.
fn apply(value: &mut Value, change: &Value) {
    if let Value::Array(whole) = change {
        *value = whole[0].clone();
        return;
    }
    for (key, part) in change.as_object().unwrap() {
        let at = match value {
            Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
            Value::Object(object) => &mut object[key],
            other => panic!("{other} has no {key}"),
        };
        apply(at, part);
    }
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

/// Returns what a recording has of a position and of its line in the log. Numbers of source lines
/// are left out, so that a line which only moves needs no new recording.
fn kept(session: &Session, n: usize) -> Value {
    let position = parsed(&session.json());
    let mut kept = Map::new();
    for key in ["turn", "in_turn", "phase", "state", "end", "sentence", "source"] {
        kept.insert(key.to_owned(), position[key].clone());
    }
    if let Some(source) = kept["source"].as_object_mut() {
        source.remove("line");
    }
    kept.insert("id".to_owned(), position["step"]["id"].clone());
    let lines = parsed(&session.steps_json(n..n + 1));
    let line = match lines.get(0) {
        None => Value::Null,
        Some(line) => {
            assert_eq!(line["at_ns"], position["state"]["at_ns"]);
            ["indent", "kind", "text"].iter().map(|key| ((*key).to_owned(), line[*key].clone())).collect()
        }
    };
    kept.insert("line".to_owned(), line);
    Value::Object(kept)
}

/// Puts the texts of a recorded position into the places of their numbers.
fn expanded(position: &Value, log: &Value) -> Value {
    let mut position = position.clone();
    let text = |list: &str, place: &Value| match place.as_u64() {
        Some(at) => log[list][at as usize].clone(),
        None => Value::Null,
    };
    position["sentence"] = text("sentences", &position["sentence"]);
    position["source"] = text("sources", &position["source"]);
    if let Some(source) = position["source"].as_object_mut() {
        source.remove("line");
    }
    position
}

/// Compares one recorded run with the one of the program.
fn compare(scenario: &Scenario, bug: &str, log: &Value) {
    let name = &scenario.name;
    let run = &log["runs"][bug];
    let choice = Choice::new(Some(bug), None, Vec::new()).unwrap();
    let mut session = Session::open(scenario.clone(), choice).unwrap();
    let hash = parsed(&session.hash_json());
    assert_eq!(run["hash"], hash["sha256"], "{name} with {bug} is another run; {AGAIN}");
    assert_eq!((&run["turns"], &run["operations"]), (&hash["turns"], &hash["operations"]));
    let positions = run["positions"].as_array().unwrap();
    assert_eq!(positions.len(), session.run().len() + 1);
    let mut now = Value::Object(Map::new());
    for (n, change) in positions.iter().enumerate() {
        apply(&mut now, change);
        session.obey(&Command::At(n)).unwrap();
        assert_eq!(expanded(&now, log), kept(&session, n), "{name} with {bug}, step {n}; {AGAIN}");
    }
}

#[test]
fn recordings_are_the_runs_of_the_program() {
    let scenarios = all();
    let index = recording("index");
    assert!(index["names"].as_array().unwrap().iter().eq(scenarios.iter().map(|one| one.name.as_str())));
    assert_eq!(index["bugs"], parsed(&bugs_json()), "{AGAIN}");
    let shown: Vec<(String, String)> = chapters().iter().flat_map(|page| page.shown_runs()).collect();
    for scenario in &scenarios {
        let log = recording(&scenario.name);
        assert_eq!(log["scenario"], parsed(&scenario_with_answer_json(scenario)), "{AGAIN}");
        let main = scenario.bugs.iter().find(|note| note.fails).map(|note| note.bug.as_str());
        let in_chapters =
            shown.iter().filter(|(name, _)| *name == scenario.name).map(|(_, bug)| bug.as_str());
        let bugs: HashSet<&str> = std::iter::once("none").chain(main).chain(in_chapters).collect();
        let runs = log["runs"].as_object().unwrap();
        assert!(runs.len() == bugs.len() && bugs.iter().all(|bug| runs.contains_key(*bug)), "{AGAIN}");
        for bug in bugs {
            compare(scenario, bug, &log);
        }
    }
}
