//! The stepper in a page (`www/learn/step.html`): it shows the state that `whirligig step` prints.

use std::io::Write as _;
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
    browser.until(&format!("{text} == 'this run does not fail, so no step decides it'"));
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// Compares the page after a move with the terminal, which moves from the same step.
fn compare_move(browser: &mut Browser, link: &str, word: &str) -> String {
    let mut child =
        bare_command().args(["step", link, "--json"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(word.as_bytes()).unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let moved: Value = serde_json::from_str(output.lines().next_back().unwrap()).unwrap();
    press(browser, &format!("[data-move={word}]"));
    let link = moved["link"].as_str().unwrap().to_owned();
    compare(browser, &link);
    link
}

/// From a file, and where a policy forbids the engine, the page steps through recordings.
#[test]
fn recordings_take_the_place_of_the_engine() {
    let Some(chromium) = chromium() else { return };
    let www = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    let policy = ["--header", "/**: Content-Security-Policy: script-src 'self' 'unsafe-inline'"];
    let server = Server::start("reactor", &www, &policy);
    let mut browser = Browser::start(&chromium);
    let from_file = format!("file://{}/learn/step.html", www.display());
    for page in [from_file, format!("{}learn/step.html", server.url)] {
        for (scenario, bug) in [
            ("stale-answer", "none"),
            ("stale-answer", "no-generations"),
            ("two-results", "lost-wake-up"),
            ("slow-reader", "unsent-dropped"),
            ("partial-head", "none"),
        ] {
            let mut link = format!("#s={scenario}&bug={bug}&n=20");
            browser.open(&format!("{page}{link}"));
            compare(&mut browser, &link);
            for word in ["t", "T", "T", "b", "e", "n", "t", "t", "t", "t", "t", "t", "e"] {
                link = compare_move(&mut browser, &link, word);
            }
        }
        browser.until("document.querySelector('.only-recorded').getClientRects().length > 0");
        browser.value("slider.value = 7, slider.dispatchEvent(new Event('input'))");
        compare(&mut browser, "#s=partial-head&bug=none&n=7");

        // Whatever needs another run leaves a sentence, and the page goes on.
        let says = |browser: &mut Browser, act: &str, id: &str, start: &str| {
            browser.value(act);
            let text = format!(
                "{start} needs the engine, which browsers load only from a server. Start 'whirligig www'"
            );
            browser.until(&format!("document.getElementById({id:?}).textContent.startsWith({text:?})"));
        };
        says(
            &mut browser,
            "bug.value = 'read-once', bug.dispatchEvent(new Event('change'))",
            "message",
            "The bug read-once",
        );
        says(&mut browser, "seed.value = 3, choices.requestSubmit()", "message", "A seed");
        says(&mut browser, "batch.value = 3, choices.requestSubmit()", "message", "Another limit");
        says(&mut browser, "seeds.click()", "seeds-text", "A run with a seed");
        says(&mut browser, "fate.click()", "fate-text", "A run with other seeds");
        says(&mut browser, "document.getElementById('run-text').click()", "text-error", "A text of your own");
        says(&mut browser, "document.querySelector('#until button').click()", "found", "A condition");
        says(&mut browser, "location.hash = '#s=eviction&seed=1&n=3'", "message", "A seed");
        browser.open(&format!("{page}#s=eviction&bug=none&n=9"));
        compare(&mut browser, "#s=eviction&bug=none&n=9");
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}
