//! Random links to steps: one page of the stepper shows each of them as `whirligig step` prints it.
//! It also counts failing seeds as the program does.
//!
//! `WHIRLIGIG_LINKS=N` sets the number of links, `WHIRLIGIG_LINKS_SEED=N` draws others.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use whirligig::inside::sim::bugs::{BUGS, Bug};
use whirligig::inside::sim::scenario::{Scenario, all, embedded};
use whirligig::inside::sim::zoo::effect;

use crate::browser::chromium;
use crate::devtools::Browser;
use crate::harness::{Server, bare_command, run};

/// Number of links without a variable.
const LINKS: u64 = 60;

/// Largest seed of a link.
const SEED_MAX: u64 = 1000;

/// Capacity of a socket of a scenario without a `socket` line, in bytes.
const SOCKET_BYTES: u64 = 24 * 1024;

/// Everything that the page shows of a position.
const SHOWN: &str = "(() => {
    const text = id => document.getElementById(id).textContent;
    const rows = (id, at) => [...document.querySelectorAll(`#${id} table`)[at].tBodies[0].rows]
        .map(row => [...row.cells].map(cell => cell.textContent));
    return {
        link: location.hash.replace(/&w=.*/, ''),
        message: text('message'),
        position: text('position'),
        sentence: text('sentence'),
        place: document.getElementById('source').hidden ? null : text('place').replace(/:\\d+$/, ''),
        line: document.getElementById('source').hidden ? null : text('line'),
        phase: document.querySelector('#phases .present b').textContent,
        log: [...document.querySelectorAll('#log .what')].map(one => one.textContent),
        present: document.querySelector('#log .present .what')?.textContent ?? null,
        slots: rows('slots-table', 0),
        sockets: rows('sockets-table', 0),
        queue: document.querySelector('#sockets-table p').textContent,
        name: document.querySelector('#names-table caption').textContent,
        places: rows('names-table', 0),
        workers: rows('names-table', 1),
        symptom: document.querySelector('#end .symptom')?.textContent ?? null,
    };
})()";

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A sequence of numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// One run of a scenario, as its link names it.
struct Drawn {
    scenario: Scenario,
    /// The link without its step.
    run: String,
    /// Texts of the steps.
    lines: Vec<String>,
}

impl Drawn {
    fn from(random: &mut Random, scenarios: &[Scenario]) -> Drawn {
        let scenario = scenarios[random.below(scenarios.len() as u64) as usize].clone();
        let bug = BUGS.get(random.below(BUGS.len() as u64 + 4) as usize).map_or("none", |bug| bug.name);
        let seed = match random.below(3) {
            0 => String::new(),
            _ => format!("&seed={}", 1 + random.below(SEED_MAX)),
        };
        let run = format!("#s={}&bug={bug}{seed}", scenario.name);
        let printed = stepped(&[&run, "--print"], "");
        let lines = printed.lines().map(|line| line.split_once(" ms  ").unwrap().1.trim_start().to_owned());
        Drawn { lines: lines.collect(), scenario, run }
    }
}

fn stepped(args: &[&str], commands: &str) -> String {
    let mut child = bare_command().arg("step").args(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// True if a time of the page, in milliseconds with three decimals, is this one.
fn is_time(shown: &str, ns: &Value) -> bool {
    match ns.as_f64() {
        None => shown == "none",
        Some(ns) => shown
            .strip_suffix(" ms")
            .and_then(|text| text.parse::<f64>().ok())
            .is_some_and(|ms| (ms - ns / 1e6).abs() <= 0.000_501),
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect()
}

fn objects(list: &Value) -> &[Value] {
    list.as_array().unwrap()
}

fn yes(value: &Value) -> &'static str {
    if value == true { "yes" } else { "no" }
}

/// Compares the page with the step that its link names.
fn compare(shown: &Value, expected: &Value, drawn: &Drawn, link: &str) {
    let n = expected["n"].as_u64().unwrap() as usize;
    assert_eq!(shown["link"], expected["link"]);
    assert_eq!(shown["message"], "", "{link}");
    let position = shown["position"].as_str().unwrap();
    let (step, time) = position.split_once(", ").unwrap();
    assert_eq!(step, format!("Step {n} of {}", drawn.lines.len()), "{link}");
    assert!(is_time(time, &expected["state"]["at_ns"]), "{link}: {position}");
    assert_eq!(shown["sentence"], expected["sentence"], "{link}");
    assert_eq!(shown["place"], expected["source"]["file"], "{link}");
    assert_eq!(shown["line"].as_str(), expected["source"]["text"].as_str().map(str::trim), "{link}");
    assert_eq!(shown["phase"], expected["phase"].as_str().unwrap_or("wait"), "{link}");
    let symptom = expected["end"]["symptom"]["what"].as_str().unwrap_or("");
    assert!(shown["symptom"].as_str().unwrap_or("").contains(symptom), "{link}: {symptom}");

    let is_end = |line: &&String| line.starts_with("turn ") && line.contains(" end: ");
    let before = &drawn.lines[..n.saturating_sub(1)];
    let from = before.iter().rposition(|line| is_end(&line)).map_or(0, |at| at + 1);
    assert_eq!(texts(&shown["log"]), drawn.lines[from.min(n)..n], "{link}");
    assert_eq!(shown["present"].as_str(), n.checked_sub(1).map(|at| drawn.lines[at].as_str()), "{link}");
    compare_slots(shown, expected, drawn, link);
    compare_sockets(shown, expected, drawn, link);
    compare_names(shown, expected, drawn, link);
}

/// Returns every connection that was accepted in the first `n` steps, with its name as it is shown.
fn accepted(drawn: &Drawn, n: usize) -> BTreeMap<(u64, u64), (String, String)> {
    let mut found = BTreeMap::new();
    for line in &drawn.lines[..n] {
        let id = line.strip_prefix("accept ").and_then(|rest| rest.split_once(": done")).map(|(id, _)| id);
        if let Some(id) = id {
            let (slot, count) = id.split_once('.').unwrap();
            let key = (slot.parse().unwrap(), count.parse().unwrap());
            found.insert(key, (id.to_owned(), id.to_owned()));
        }
        if let Some((client, rest)) = line.split_once(" is ")
            && let Some((id, _)) = rest.split_once(": slot ")
        {
            for (known, called) in found.values_mut().filter(|(known, _)| known == id) {
                *called = format!("{known} ({client})");
            }
        }
    }
    found
}

fn called(drawn: &Drawn, n: usize, id: &Value) -> String {
    let found = accepted(drawn, n).into_values().find(|(known, _)| known.as_str() == id.as_str().unwrap());
    found.map_or_else(|| id.as_str().unwrap().to_owned(), |(_, called)| called)
}

fn compare_slots(shown: &Value, expected: &Value, drawn: &Drawn, link: &str) {
    let n = expected["n"].as_u64().unwrap() as usize;
    let known = accepted(drawn, n);
    let slots = known.keys().map(|(slot, _)| slot + 1).max().unwrap_or(1);
    assert_eq!(objects(&shown["slots"]).len() as u64, slots, "{link}");
    for (slot, row) in objects(&shown["slots"]).iter().enumerate() {
        let row = texts(row);
        let is_here = |one: &&Value| one["id"].as_str().unwrap().starts_with(&format!("{slot}."));
        let one = objects(&expected["state"]["connections"]).iter().find(is_here);
        let before = known.iter().filter(|((other, _), (id, _))| {
            *other == slot as u64 && one.is_none_or(|one| one["id"] != id.as_str())
        });
        let before: Vec<&str> = before.map(|(_, (_, called))| called.as_str()).collect();
        assert_eq!((row[0], row[10]), (&*slot.to_string(), &*before.join(", ")), "{link}");
        let Some(one) = one else {
            assert_eq!(row[1], "free", "{link}");
            continue;
        };
        let seen = &one["seen"];
        assert_eq!(
            (row[1], row[2]),
            (one["id"].as_str().unwrap(), one["client"].as_str().unwrap()),
            "{link}"
        );
        assert_eq!(row[3], seen["phase"].as_str().unwrap_or(""), "{link}");
        assert_eq!(row[4].parse::<u64>().ok(), seen["queued_bytes"].as_u64(), "{link}");
        assert!(
            is_time(row[5], &seen["deadline_ns"]) && is_time(row[6], &seen["armed_ns"]),
            "{link}: {row:?}"
        );
        let flags = ["readable", "writable", "read_closed"].into_iter().filter(|flag| one[*flag] == true);
        let flags: Vec<String> = flags.map(|flag| flag.replace('_', "-")).collect();
        let flags = if flags.is_empty() { "nothing".to_owned() } else { flags.join(", ") };
        assert_eq!((row[7], row[8]), (&*flags, yes(&one["carried"])), "{link}");
        assert_eq!(row[9], one["closed"].as_str().unwrap_or(""), "{link}");
    }
}

fn compare_sockets(shown: &Value, expected: &Value, drawn: &Drawn, link: &str) {
    let line = drawn.scenario.text.lines().find(|line| line.starts_with("socket "));
    let capacity = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(SOCKET_BYTES);
    let state = &expected["state"];
    assert_eq!(objects(&shown["sockets"]).len(), objects(&state["sockets"]).len(), "{link}");
    for (row, socket) in objects(&shown["sockets"]).iter().zip(objects(&state["sockets"])) {
        let row = texts(row);
        let bytes = |column: usize| row[column].replace(',', "").parse::<u64>().ok();
        assert_eq!(
            (row[0], row[1]),
            (socket["client"].as_str().unwrap(), yes(&socket["connected"])),
            "{link}"
        );
        for (column, key) in [(2, "to_server"), (4, "to_client")] {
            let count = socket[key].as_u64();
            assert_eq!(bytes(column), count, "{link}: {row:?}");
            assert_eq!(
                bytes(column + 1),
                count.map(|count| capacity.saturating_sub(count)),
                "{link}: {row:?}"
            );
        }
        let ends = [(6, "client_end"), (7, "server_end"), (8, "next_poll")];
        assert!(ends.iter().all(|(column, key)| socket[*key] == row[*column]), "{link}: {row:?}");
    }
    let queue = texts(&state["listen_queue"]).join(", ");
    let queue = if queue.is_empty() { "empty" } else { &queue };
    assert_eq!(shown["queue"], format!("Listen queue: {queue}."), "{link}");
}

fn compare_names(shown: &Value, expected: &Value, drawn: &Drawn, link: &str) {
    let n = expected["n"].as_u64().unwrap() as usize;
    let state = &expected["state"];
    let mut workers: Vec<(String, &str, &Value)> = Vec::new();
    let name = |id: &Value| called(drawn, n, id);
    workers.extend(
        objects(&state["jobs_waiting"]).iter().map(|id| (name(id), "waits for a worker", &Value::Null)),
    );
    workers.extend(
        objects(&state["jobs_running"]).iter().map(|job| (name(&job["id"]), "a worker", &job["ends_ns"])),
    );
    workers.extend(objects(&state["inbox"]).iter().map(|id| (name(id), "inbox", &Value::Null)));
    let rows: Vec<Vec<&str>> = objects(&shown["workers"]).iter().map(texts).collect();
    if workers.is_empty() {
        assert_eq!(rows, [["none"]], "{link}");
    } else {
        assert_eq!(rows.len(), workers.len(), "{link}");
    }
    for (row, (name, place, until)) in rows.iter().zip(&workers) {
        assert_eq!((row[0], row[1]), (&**name, *place), "{link}");
        assert!(
            if *place == "a worker" { is_time(row[2], until) } else { row[2].is_empty() },
            "{link}: {row:?}"
        );
    }

    // The terminal names the places as well.
    let Some(who) = shown["name"].as_str().unwrap().strip_prefix("Places of the name ") else {
        assert!(accepted(drawn, n).is_empty(), "{link}");
        return;
    };
    let id = who.split(' ').next().unwrap();
    let printed = stepped(&[link], &format!("w {id}"));
    let (_, printed) = printed.split_once("The name ").unwrap();
    let row = |line: &str| {
        let mut words = line.strip_prefix("  ")?.split_whitespace();
        let (place, mark) = (words.next()?, words.next()?);
        ["held", "-"].contains(&mark).then(|| (place.to_owned(), mark == "held"))
    };
    let printed: Vec<(String, bool)> = printed.lines().filter_map(row).collect();
    let places: Vec<(String, bool)> =
        objects(&shown["places"]).iter().map(texts).map(|row| (row[0].to_owned(), row[1] == "yes")).collect();
    assert_eq!(places, printed, "{link} {who}");
}

#[test]
fn random_links_show_what_the_terminal_prints() {
    let Some(chromium) = chromium() else { return };
    let www = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    let server = Server::start("reactor", &www, &[]);
    let mut browser = Browser::start(&chromium);
    browser.open(&format!("{}learn/step.html", server.url));
    browser.until("document.querySelector('#guess-list input')");
    let mut random = Random(number("WHIRLIGIG_LINKS_SEED", 1));
    let scenarios = all();
    for _ in 0..number("WHIRLIGIG_LINKS", LINKS) {
        let drawn = Drawn::from(&mut random, &scenarios);
        let n = random.below(drawn.lines.len() as u64 + 1);
        let link = format!("{}&n={n}", drawn.run);
        let printed = run(bare_command().args(["step", &link, "--json"]));
        let expected: Value = serde_json::from_str(&printed.out).unwrap();
        // The page alone has a key for the name whose holders it shows.
        let known: Vec<String> = accepted(&drawn, n as usize).into_values().map(|(id, _)| id).collect();
        let who = known.get(random.below(known.len() as u64 + 1) as usize);
        let address = who.map_or_else(|| link.clone(), |id| format!("{link}&w={id}"));
        browser.value(&format!("location.hash = {address:?}"));
        // The page writes the link of the state that it has shown.
        let href = "document.getElementById('whole-page').getAttribute('href')";
        browser.until(&format!("{href} == 'step.html{address}'"));
        compare(&browser.value(SHOWN), &expected, &drawn, &link);
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn the_page_counts_the_seeds_that_fail() {
    const SEEDS: u64 = 500;
    let Some(chromium) = chromium() else { return };
    let www = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    let server = Server::start("reactor", &www, &[]);
    let mut browser = Browser::start(&chromium);
    for (scenario, bug) in [("stale-answer", "unsent-dropped"), ("stale-answer", "none")] {
        let found = Bug::named(bug).map(|bug| effect(bug, &embedded(scenario).unwrap(), SEEDS).failed);
        browser.open(&format!("{}learn/step.html#s={scenario}&bug={bug}&n=1", server.url));
        browser.until("document.getElementById('seeds').textContent == 'Run 500 seeds here'");
        browser.until("document.getElementById('position').textContent.startsWith('Step 1 of')");
        browser.value("seeds.click()");
        browser.until("document.getElementById('seeds-text').textContent != '' && document.getElementById('progress').hidden");
        let shown = browser.value("document.getElementById('seeds-text').textContent");
        let shown = shown.as_str().unwrap();
        match found {
            Some(failed) => {
                assert!(failed > 0, "the bug fails in no seed");
                let sentence =
                    format!("The loop with {bug} fails in {failed} of {SEEDS} seeds. First in seed ");
                assert!(shown.starts_with(&sentence), "{shown}");
            }
            None => assert_eq!(shown, format!("The real loop fails in none of {SEEDS} seeds.")),
        }
        assert_eq!(browser.value("document.getElementById('progress').value"), SEEDS);
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}
