//! The engine: recorded runs by number, and the operations on them.
//!
//! A run never changes after it was opened. This file must not know where requests come from.

use std::collections::BTreeMap;

use whirligig::inside::driver::decision::WrongDecisions;
use whirligig::inside::sim::bugs::Bug;
use whirligig::inside::sim::fate::{FUTURES, FateLine, Point, failing_futures};
use whirligig::inside::sim::scenario::{Run, Scenario, Setup, all, embedded};
use whirligig::inside::sim::stepper::{
    Choice, Command, Link, Session, bugs_json, lines_json, scenario_with_answer_json,
};
use whirligig::inside::sim::zoo::hash_line;

use crate::request::Request;

/// Largest number of runs that are open at once. A page shows two.
const RUNS_MAX: usize = 32;

/// Largest number of seeds of one request. A page calls again, so that it can show progress.
const SEEDS_MAX: u64 = 10_000;

/// Recorded runs and their numbers.
#[derive(Debug, Default)]
pub struct Engine {
    runs: BTreeMap<usize, Session>,
    opened: usize,
}

impl Engine {
    /// Returns an engine without runs.
    #[must_use]
    pub const fn new() -> Engine {
        Engine { runs: BTreeMap::new(), opened: 0 }
    }

    /// Obeys a request. Returns JSON; an error is one line of text.
    pub fn obey(&mut self, request: &Request) -> Result<String, String> {
        match request.get("op").unwrap_or_default() {
            "scenarios" => Ok(array(all().iter().map(scenario_with_answer_json))),
            "bugs" => Ok(bugs_json()),
            "open" => self.open(request),
            "at" => self.at(request),
            "step" => {
                let (session, n) = (self.run(request)?, request.needed("n")?);
                session.step_json(n).ok_or_else(|| no_step(session, n, 1))
            }
            "lines" => {
                let (from, to) = (request.needed("from")?, request.needed("to")?);
                Ok(self.run(request)?.steps_json(from..to))
            }
            "command" => self.command(request),
            "seeds" => seeds(request),
            "fate" => self.fate(request),
            "futures" => self.futures(request),
            "hashes" => hashes(request),
            "link" => link(request),
            "close" => {
                self.runs.remove(&request.needed("id")?);
                Ok("null".to_owned())
            }
            other => Err(format!("unknown operation '{other}'")),
        }
    }

    fn open(&mut self, request: &Request) -> Result<String, String> {
        if self.runs.len() >= RUNS_MAX {
            return Err(format!("{RUNS_MAX} runs are open; close one"));
        }
        let mut session = Session::open(scenario(request)?, choice(request)?)?;
        if let Some(guess) = request.number("guess")? {
            let count = session.scenario().guesses.len();
            if guess == 0 || guess > count as u64 {
                return Err(format!("the guess {guess} does not exist; allowed: 1 to {count}"));
            }
            session.obey_all(&format!("g {guess}"))?;
        }
        self.opened += 1;
        let (run, id) = (session.run(), self.opened);
        let reply = format!(
            "{{\"id\":{id},\"steps\":{},\"hash\":\"{}\",\"turns\":{},\"operations\":{}}}",
            run.len(),
            run.report.hash(),
            run.report.turns,
            run.operations()
        );
        self.runs.insert(id, session);
        Ok(reply)
    }

    fn at(&mut self, request: &Request) -> Result<String, String> {
        let n = request.needed("n")?;
        let session = self.run(request)?;
        go_to(session, n)?;
        Ok(session.json())
    }

    /// Obeys commands at a step. Commands that change the run, or note a guess, change a copy: the
    /// position names the run that the page may open.
    fn command(&mut self, request: &Request) -> Result<String, String> {
        let n = request.needed("n")?;
        let line = request.get("commands").unwrap_or_default();
        let session = self.run(request)?;
        go_to(session, n)?;
        let mut copy;
        let changes = |command: &Command| matches!(command, Command::Bug(_) | Command::Guess(_));
        let session = if Command::parse_all(line, session.run())?.iter().any(changes) {
            copy = session.clone();
            &mut copy
        } else {
            session
        };
        let reply = session.obey_all(line)?;
        Ok(format!("{{\"position\":{},\"reply\":{}}}", session.json(), lines_json(&reply.lines)))
    }

    /// Returns what the examined steps of a failing run show, and the step to examine next.
    fn fate(&mut self, request: &Request) -> Result<String, String> {
        let report = &self.run(request)?.run().report;
        if report.symptom.is_none() {
            return Err("this run does not fail, so no step decides it".to_owned());
        }
        let mut line = FateLine::of(&report.steps);
        for point in request.all("point") {
            let numbers = point.split_once(' ');
            let found = numbers.and_then(|(step, failed)| {
                Some(Point { step: step.parse().ok()?, failed: failed.parse().ok()? })
            });
            let shown: String = point.chars().take(40).collect();
            line.add(found.ok_or_else(|| format!("point is '{shown}'; allowed: a step and a number"))?);
        }
        Ok(line.json())
    }

    /// Runs some futures of a run at a step. Returns how many fail.
    fn futures(&mut self, request: &Request) -> Result<String, String> {
        let (n, from, count) = (request.needed("n")?, request.needed("from")?, request.needed("count")?);
        let session = self.run(request)?;
        if n > session.run().len() {
            return Err(no_step(session, n, 0));
        }
        let to = from.saturating_add(count);
        if to > FUTURES as usize {
            return Err(format!("the run has no future {to}; allowed: {FUTURES} futures from 0"));
        }
        let failed = failing_futures(session.scenario(), session.setup(), n, from as u32..to as u32);
        Ok(failed.to_string())
    }

    fn run(&mut self, request: &Request) -> Result<&mut Session, String> {
        let id = request.needed("id")?;
        self.runs.get_mut(&id).ok_or_else(|| format!("the run {id} is not open"))
    }
}

fn go_to(session: &mut Session, n: usize) -> Result<(), String> {
    if n > session.run().len() {
        return Err(no_step(session, n, 0));
    }
    session.obey(&Command::At(n)).map(drop)
}

fn no_step(session: &Session, n: usize, first: usize) -> String {
    format!("the run has no step {n}; allowed: {first} to {}", session.run().len())
}

/// Returns the scenario of the request: its own text, or one of the program.
fn scenario(request: &Request) -> Result<Scenario, String> {
    let name = request.get("scenario").unwrap_or("own");
    if let Some(text) = request.get("text") {
        return Scenario::parse(&format!("{name}.txt"), text).map_err(|error| error.to_string());
    }
    embedded(name).ok_or_else(|| {
        let name: String = name.chars().take(40).collect();
        let names: Vec<String> = all().into_iter().map(|scenario| scenario.name).collect();
        format!("no scenario '{name}'; allowed: {}", names.join(", "))
    })
}

fn choice(request: &Request) -> Result<Choice, String> {
    let sets = request.all("set").map(str::to_owned).collect();
    Choice::new(request.get("bug"), request.number("seed")?, sets)
}

/// Returns the range of seeds of a request.
fn seed_range(request: &Request) -> Result<std::ops::Range<u64>, String> {
    let from = request.number("from")?.unwrap_or(1);
    let count = request.number("count")?.unwrap_or(1);
    if count > SEEDS_MAX {
        return Err(format!("{count} seeds are too many for one call; allowed: {SEEDS_MAX}"));
    }
    Ok(from..from.saturating_add(count))
}

/// Runs a scenario with some seeds, each until its first symptom.
fn seeds(request: &Request) -> Result<String, String> {
    let choice = choice(request)?;
    let scenario = choice.applied_to(&scenario(request)?)?;
    let wrong = choice.bug.map_or(WrongDecisions::NONE, Bug::wrong);
    let (mut failed, mut first) = (0, None);
    for seed in seed_range(request)? {
        let setup = Setup { wrong, seed: Some(seed) };
        if let Some(symptom) = Run::of(&scenario, setup).first_symptom() {
            failed += 1;
            first.get_or_insert((seed, symptom.to_string()));
        }
    }
    Ok(match first {
        Some((seed, symptom)) => {
            format!("{{\"failed\":{failed},\"first\":{seed},\"symptom\":{}}}", string(&symptom))
        }
        None => "{\"failed\":0,\"first\":null,\"symptom\":null}".to_owned(),
    })
}

/// Returns the hashes of runs, for a comparison with those of `whirligig zoo hashes`. The run
/// without a seed is number 0.
fn hashes(request: &Request) -> Result<String, String> {
    let (scenario, choice) = (scenario(request)?, choice(request)?);
    let line = |seed| string(&hash_line(&scenario, choice.bug, (seed > 0).then_some(seed)));
    Ok(array(seed_range(request)?.map(line)))
}

/// Reads a link to a step. Refuses one that names no step with the sentence of the terminal.
fn link(request: &Request) -> Result<String, String> {
    let text = request.get("link").unwrap_or_default();
    let session = Session::open_link(text)?;
    let link = Link::decode(text)?;
    let optional = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
    Ok(format!(
        "{{\"scenario\":{},\"bug\":{},\"seed\":{},\"set\":{},\"guess\":{},\"n\":{}}}",
        string(&link.scenario),
        string(link.choice.bug_name()),
        optional(link.choice.seed.map(|seed| string(&seed.to_string()))),
        array(link.choice.sets.iter().map(|set| string(set))),
        optional(link.guess.map(|guess| (guess + 1).to_string())),
        session.position()
    ))
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// Writes text as a JSON string.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a request of these fields.
    fn ask(engine: &mut Engine, fields: &[(&str, &str)]) -> Result<String, String> {
        let field = |(key, value): &(&str, &str)| format!("{key} {}\n{value}", value.len());
        let bytes: String = fields.iter().map(field).collect();
        engine.obey(&Request::parse(bytes.as_bytes()).unwrap())
    }

    #[test]
    fn a_run_is_opened_entered_and_closed() {
        let mut engine = Engine::new();
        let opened = ask(&mut engine, &[("op", "open"), ("scenario", "stale-answer")]).unwrap();
        assert!(opened.starts_with("{\"id\":1,\"steps\":"), "{opened}");
        let found =
            ask(&mut engine, &[("op", "command"), ("id", "1"), ("n", "0"), ("commands", "u stale")]).unwrap();
        assert!(found.contains("result dropped") && found.contains("\"reply\":["), "{found}");
        let step = ask(&mut engine, &[("op", "step"), ("id", "1"), ("n", "1")]).unwrap();
        assert!(step.contains("\"n\":1") && step.contains("\"sentence\":"), "{step}");
        ask(&mut engine, &[("op", "close"), ("id", "1")]).unwrap();
        let error = ask(&mut engine, &[("op", "at"), ("id", "1"), ("n", "0")]).unwrap_err();
        assert_eq!(error, "the run 1 is not open");
    }

    #[test]
    fn commands_leave_the_open_run_as_it_is() {
        let mut engine = Engine::new();
        let run = [("op", "open"), ("scenario", "stale-answer")];
        ask(&mut engine, &run).unwrap();
        let bug = [("op", "command"), ("id", "1"), ("n", "9"), ("commands", "bug no-generations")];
        assert!(ask(&mut engine, &bug).unwrap().contains("\"bug\":\"no-generations\""));
        let at = [("op", "at"), ("id", "1"), ("n", "9")];
        assert!(ask(&mut engine, &at).unwrap().contains("\"bug\":\"none\""));
    }

    #[test]
    fn the_fate_of_a_run_is_found_in_pieces() {
        let mut engine = Engine::new();
        let run = [("op", "open"), ("scenario", "listen-queue"), ("bug", "accept-once")];
        ask(&mut engine, &run).unwrap();
        let begun = ask(&mut engine, &[("op", "fate"), ("id", "1")]).unwrap();
        assert!(begun.contains("\"next\":0,\"decided_at\":null"), "{begun}");
        let count = |engine: &mut Engine, from: &str, count: &str| -> u32 {
            let fields = [("op", "futures"), ("id", "1"), ("n", "0"), ("from", from), ("count", count)];
            ask(engine, &fields).unwrap().parse().unwrap()
        };
        let failed = count(&mut engine, "0", "50");
        assert_eq!(failed, count(&mut engine, "0", "20") + count(&mut engine, "20", "30"));
        let fields = [("op", "fate"), ("id", "1"), ("point", &format!("0 {failed}"))];
        let line = ask(&mut engine, &fields).unwrap();
        assert!(line.contains(&format!("[{{\"step\":0,\"failed\":{failed}}},")), "{line}");
        assert!(ask(&mut engine, &[("op", "fate"), ("id", "1"), ("point", "x")]).is_err());
    }

    #[test]
    fn errors_are_one_line() {
        let mut engine = Engine::new();
        ask(&mut engine, &[("op", "open"), ("scenario", "eviction")]).unwrap();
        for fields in [
            &[("op", "nix")][..],
            &[("op", "open"), ("scenario", "nix")],
            &[("op", "open"), ("text", "nonsense")],
            &[("op", "open"), ("scenario", "eviction"), ("bug", "nix")],
            &[("op", "open"), ("scenario", "eviction"), ("set", "batch=many")],
            &[("op", "open"), ("scenario", "eviction"), ("guess", "99")],
            &[("op", "link"), ("link", "#s=eviction&n=99999999")],
            &[("op", "seeds"), ("scenario", "eviction"), ("count", "9999999")],
            &[("op", "fate"), ("id", "1")],
            &[("op", "futures"), ("id", "1"), ("n", "0"), ("from", "20"), ("count", "31")],
            &[("op", "futures"), ("id", "1"), ("n", "99999"), ("from", "0"), ("count", "1")],
        ] {
            let error = ask(&mut engine, fields).unwrap_err();
            assert!(!error.contains('\n') && error.len() > 10, "{error}");
        }
    }
}
