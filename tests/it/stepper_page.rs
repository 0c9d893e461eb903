//! The stepper in a page (`www/learn/step.html`): it shows the state that `whirligig step` prints.

use std::path::Path;

use serde_json::Value;

use crate::browser::chromium;
use crate::devtools::Browser;
use crate::harness::{Server, bare_command, run};

/// Parts of the page that have the form of the JSON of a position.
const SHOWN: &str = "(() => {
    const text = id => document.getElementById(id).textContent;
    const rows = id => [...document.querySelectorAll(`#${id} table:first-child tbody tr`)]
        .map(row => [...row.cells].map(cell => cell.textContent));
    return {
        link: location.hash,
        sentence: text('sentence'),
        place: document.getElementById('source').hidden ? null : text('place').replace(/:\\d+$/, ''),
        line: document.getElementById('source').hidden ? null : text('line'),
        phase: document.querySelector('#phases .present b').textContent,
        connections: rows('slots-table').map(row => row[1]).filter(name => name.includes('.')),
        polls: rows('sockets-table').map(row => row[8]),
    };
})()";

/// Returns the position of a link, as the program prints it.
fn position(link: &str) -> Value {
    let stepped = run(bare_command().args(["step", link, "--json"]));
    assert_eq!(stepped.code, Some(0), "{link}: {}", stepped.err);
    serde_json::from_str(stepped.out.lines().next_back().unwrap()).unwrap()
}

fn texts(objects: &Value, key: &str) -> Vec<Value> {
    objects.as_array().unwrap().iter().map(|object| object[key].clone()).collect()
}

/// Compares the open page with the position that its link names. The engine of the page may be
/// older than the program if lines of the source have moved since, so their numbers are left out.
fn compare(browser: &mut Browser, link: &str) {
    let expected = position(link);
    browser.until(&format!(
        "document.getElementById('position').textContent.startsWith('Step {} of {},')",
        expected["n"], expected["steps"]
    ));
    let shown = browser.value(SHOWN);
    assert_eq!(shown["link"], expected["link"]);
    assert_eq!(shown["sentence"], expected["sentence"], "{link}");
    assert_eq!(shown["place"], expected["source"]["file"], "{link}");
    assert_eq!(shown["line"].as_str(), expected["source"]["text"].as_str().map(str::trim), "{link}");
    assert_eq!(shown["phase"], expected["phase"].as_str().unwrap_or("wait"), "{link}");
    assert_eq!(shown["connections"], Value::from(texts(&expected["state"]["connections"], "id")), "{link}");
    assert_eq!(shown["polls"], Value::from(texts(&expected["state"]["sockets"], "next_poll")), "{link}");
}

/// Presses a button. The page scrolls smoothly, so a place on the screen may have moved on.
fn press(browser: &mut Browser, selector: &str) {
    browser.until(&format!("document.querySelector({selector:?})"));
    browser.value(&format!("document.querySelector({selector:?}).click()"));
}

/// Guesses, walks to the late result, makes the bug, and follows links of the terminal.
#[test]
fn the_page_shows_what_the_terminal_prints() {
    let Some(chromium) = chromium() else { return };
    let www = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    let server = Server::start("reactor", &www, &[]);
    let page = format!("{}learn/step.html", server.url);
    let mut browser = Browser::start(&chromium);

    // The question comes first.
    browser.open(&format!("{page}#s=stale-answer&bug=none&n=0"));
    browser.until("document.getElementById('run').hidden && document.querySelector('#guess-list input')");
    press(&mut browser, "#guess-list label:nth-child(2) input");
    press(&mut browser, "#begin");
    press(&mut browser, "#until button");
    compare(&mut browser, "#s=stale-answer&bug=none&g=2&n=46");
    press(&mut browser, "[data-move=b]");
    press(&mut browser, "[data-move=t]");
    compare(&mut browser, "#s=stale-answer&bug=none&g=2&n=47");

    // With the bug, the run goes on from the last step that both runs share.
    browser.value("bug.value = 'no-generations', bug.dispatchEvent(new Event('change'))");
    compare(&mut browser, "#s=stale-answer&bug=no-generations&g=2&n=45");
    press(&mut browser, "[data-move=t]");
    press(&mut browser, "[data-move=t]");
    browser.until("document.getElementById('end').textContent.includes('200 \"for Alice\" instead of')");

    for scenario in
        ["stale-answer", "slow-reader", "listen-queue", "eviction", "graceful-stop", "two-results"]
    {
        for choice in ["bug=none", "bug=no-generations", "bug=none&seed=7", "bug=none&set=batch=1"] {
            for n in [1, 7, 18, 23] {
                let link = format!("#s={scenario}&{choice}&n={n}");
                browser.open(&format!("{page}{link}"));
                compare(&mut browser, &link);
            }
        }
    }

    // A bad link leaves a sentence, and the page goes on working.
    browser.value("location.hash = '#s=stale-answer&bug=nix&n=3'");
    browser.until("document.getElementById('message').textContent.includes('allowed: none, no-generations')");
    browser.open(&format!("{page}#s=stale-answer&bug=none&n=13"));
    compare(&mut browser, "#s=stale-answer&bug=none&n=13");
    browser.until("document.getElementById('message').hidden");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// Returns the fate of a run, as the program prints it.
fn fate(args: &[&str]) -> Value {
    let found = run(bare_command().args(["zoo", "fate", "--json"]).args(args));
    assert_eq!(found.code, Some(0), "{args:?}: {}", found.err);
    serde_json::from_str(&found.out).unwrap()
}

#[test]
fn the_page_finds_the_step_that_decides_a_run() {
    let Some(chromium) = chromium() else { return };
    let www = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    let server = Server::start("reactor", &www, &[]);
    let page = format!("{}learn/step.html", server.url);
    let mut browser = Browser::start(&chromium);
    let text = "document.getElementById('fate-text').textContent";

    let expected = fate(&["two-results", "--bug", "lost-wake-up"]);
    let (fate_of, steps) = (&expected["fate"], &expected["steps"]);
    browser.open(&format!("{page}#s=two-results&bug=lost-wake-up&n={steps}"));
    press(&mut browser, "#end button");
    browser.until("document.getElementById('fate-link')");
    let shown = browser.value(text);
    let step = &fate_of["decided_at"];
    assert_eq!(shown, format!("{} Open step {step}", fate_of["sentence"].as_str().unwrap()));
    let rows = browser.value(
        "[...document.querySelectorAll('#fate-table tbody tr')].map(row => \
         ({ step: parseInt(row.cells[0].textContent), failed: Number(row.cells[1].textContent) }))",
    );
    assert_eq!(rows, fate_of["points"]);
    let drawn = browser.value("document.querySelectorAll('#fate-chart circle').length");
    assert_eq!(drawn, fate_of["points"].as_array().unwrap().len());
    press(&mut browser, "#fate-link");
    compare(&mut browser, &format!("#s=two-results&bug=lost-wake-up&n={step}"));
    browser.until(&format!("{text}.includes('Step {step} decides')"));

    // Another run has no result yet, and may be certain from its beginning.
    browser.open(&format!("{page}#s=stale-answer&bug=no-generations&n=1"));
    browser.until(&format!("{text} == '' && document.getElementById('fate-box').hidden"));
    press(&mut browser, "#fate");
    browser.until(&format!("{text}.includes('certain from the beginning')"));

    // The search can be stopped, and needs a run that fails.
    browser.open(&format!("{page}#s=slow-reader&bug=level-trigger&n=1"));
    browser.until("document.getElementById('position').textContent.startsWith('Step 1 of')");
    browser.value("fate.click(), fate.click()");
    browser.until(&format!("{text} == 'No step has been examined.'"));
    browser.open(&format!("{page}#s=slow-reader&bug=none&n=1"));
    browser.until(&format!("{text} == ''"));
    press(&mut browser, "#fate");
    browser.until(&format!("{text} == 'this run does not fail, so no step decides it.'"));
    assert_eq!(browser.complaints, Vec::<String>::new());
}
