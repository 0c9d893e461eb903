//! The chapters in a browser: guesses, pictures, keyboard, narrow and dark windows, bad links, and
//! pages from files, without scripts or without the engine.
//!
//! `WHIRLIGIG_AXE=FILE` names the script of axe-core, which checks the accessibility of each page;
//! without it that check is skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::browser::chromium;
use crate::chapters::{chapters, www};
use crate::devtools::Browser;
use crate::harness::{Server, left_out, run};

const READY: &str = "document.documentElement.dataset.ready == 'yes'";

/// Windows in which every chapter must be readable.
const LOOKS: [(u32, u32, &str); 4] =
    [(1280, 900, "light"), (1280, 900, "dark"), (380, 800, "light"), (380, 800, "dark")];

/// Makes each guess, opens each picture with its moves, and reads the state of the page. Returns
/// the errors.
const WALK: &str = "(() => {
    const errors = [], all = (selector, within = document) => [...within.querySelectorAll(selector)];
    const seen = element => element.getClientRects().length > 0;
    const fail = (isWrong, text) => { if (isWrong) errors.push(text); };
    for (const form of all('form.guess')) {
        const { key, answer } = form.dataset;
        const reveal = all('.reveal').find(one => one.dataset.for === key);
        fail(seen(reveal), `${key}: the answer is shown before the guess`);
        form.requestSubmit();
        fail(seen(reveal), `${key}: the answer is shown without a choice`);
        const [first] = all('input', form);
        first.checked = true;
        form.requestSubmit();
        fail(!seen(reveal), `${key}: the answer is hidden after the guess`);
        const choices = all('label', form).map(label => label.textContent.trim());
        const outcome = reveal.querySelector('.outcome')?.textContent ?? '';
        fail(!outcome.includes(choices[0]) || !outcome.includes(choices[answer - 1]), `${key}: ${outcome}`);
        fail(!location.hash.slice(1).split('&').includes(`${key}=1`), `${key} is not in ${location.hash}`);
        fail(!form.querySelector('fieldset').disabled, `${key}: the guess can be changed in secret`);
    }
    for (const figure of all('figure.loop')) {
        const name = figure.dataset.link, row = () => Number(figure.dataset.row);
        const press = move => figure.querySelector(`[data-move=${move}]`).click();
        const state = () => `${figure.dataset.row} ${figure.querySelector('.columns')?.textContent}`;
        fail(!figure.querySelector('.columns'), `${name}: no picture`);
        if (!figure.querySelector('.columns')) continue;
        for (let moves = Number(figure.dataset.moves ?? 0); moves > 0; moves -= 1) {
            const before = state();
            press('n');
            fail(state() === before, `${name}: a step changes nothing`);
        }
        let turns = 0, before;
        do { before = row(); press('t'); turns += 1; } while (row() > before && turns < 500);
        fail(turns === 500, `${name}: no end`);
        fail(figure.querySelector('[data-move=n]').getAttribute('aria-disabled') !== 'true', `${name}: the end is not shown`);
        let back = 0;
        do { before = row(); press('b'); back += 1; } while (row() < before && back < 5000);
        fail(figure.querySelector('[data-move=b]').getAttribute('aria-disabled') !== 'true', `${name}: the beginning is not shown`);
        for (const input of all('.bugs input', figure)) {
            input.click();
            fail(!figure.querySelector('.open').href.includes(`bug=${input.value}`), `${name}: no bug ${input.value}`);
        }
        fail(!figure.querySelector('.open').href.includes('step.html#s='), `${name}: no link to the stepper`);
    }
    return errors;
})()";

/// Elements that are wider than the window or than their box, and do not scroll.
const TOO_WIDE: &str = "(() => {
    const page = document.documentElement;
    const name = one => `${one.tagName}.${one.className}: ${one.textContent.slice(0, 40)}`;
    const boxes = [...document.querySelectorAll('main :is(p, li, dd, figcaption, div)')].filter(one => !one.parentElement.closest('.scroll'));
    const found = boxes.filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 1
        && getComputedStyle(one).overflowX === 'visible' && getComputedStyle(one).display !== 'inline');
    if (page.scrollWidth > page.clientWidth) {
        found.push(...[...document.querySelectorAll('main *')].filter(one => one.getBoundingClientRect().right > page.clientWidth + 1));
    }
    return found.slice(0, 5).map(name);
})()";

/// Texts of a page that are not shown although they belong to it.
const HIDDEN: &str =
    "[...document.querySelectorAll('.reveal, .reveal p, .screen > p:not(.waits), figcaption')]
    .filter(one => one.getClientRects().length === 0).map(one => one.textContent.slice(0, 60))";

fn served(chromium: &Path) -> (Server, Browser) {
    (Server::start("reactor", &www(), &[]), Browser::start(chromium))
}

fn none(browser: &mut Browser, expression: &str, what: &str) {
    let found = browser.value(expression);
    assert_eq!(found, serde_json::json!([]), "{what}");
}

#[test]
fn every_chapter_is_walked() {
    let Some(chromium) = chromium() else { return };
    let (server, mut browser) = served(&chromium);
    for page in chapters() {
        let url = format!("{}{}", server.url, page.path);
        browser.look_like(1280, 900, "light");
        browser.open(&url);
        browser.until(READY);
        none(&mut browser, WALK, &page.path);
        // The address keeps the guesses.
        let link = browser.value("location.href");
        browser.open("about:blank");
        browser.open(link.as_str().unwrap());
        browser.until(READY);
        let kept = "[...document.querySelectorAll('form.guess')].filter(form => !form.querySelector('fieldset').disabled)";
        none(&mut browser, &format!("{kept}.map(form => form.dataset.key)"), &page.path);
        // A guess can be changed.
        browser.value("document.querySelector('form.guess .again button').click()");
        browser.until("!document.querySelector('form.guess fieldset').disabled");
        // A link to a part of the page does not lose the other guesses.
        browser.value("location.hash = '#' + document.querySelector('.screen:last-of-type').id");
        browser.until("location.hash.includes('q1=1')");
        assert_eq!(browser.complaints, Vec::<String>::new(), "{}", page.path);
    }
}

#[test]
fn every_chapter_fits_its_window() {
    let Some(chromium) = chromium() else { return };
    let axe = axe();
    let (server, mut browser) = served(&chromium);
    for page in chapters() {
        for (at, (width, height, scheme)) in LOOKS.into_iter().enumerate() {
            // axe-core needs a second for a page, so it sees each window in one of two states.
            let [before, after] = [at % 3 == 0, at % 3 != 0].map(|is| axe.as_deref().filter(|_| is));
            let what = format!("{} {width} {scheme}", page.path);
            browser.look_like(width, height, scheme);
            browser.open("about:blank");
            browser.open(&format!("{}{}", server.url, page.path));
            browser.until(READY);
            none(&mut browser, TOO_WIDE, &what);
            check_accessibility(&mut browser, before, &what);
            browser.value(WALK);
            browser.value("for (const one of document.querySelectorAll('details')) one.open = true");
            none(&mut browser, TOO_WIDE, &format!("{what}, after the walk"));
            check_accessibility(&mut browser, after, &format!("{what}, after the walk"));
        }
    }
    browser.look_like(380, 800, "light");
    browser.open(&format!("{}loop.html", server.url));
    none(&mut browser, TOO_WIDE, "loop.html");
    check_accessibility(&mut browser, axe.as_deref(), "loop.html");
}

/// Returns the text of axe-core, if it is available.
fn axe() -> Option<String> {
    match std::env::var_os("WHIRLIGIG_AXE").map(PathBuf::from) {
        Some(file) => {
            Some(fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
        }
        None => {
            left_out("no axe-core (WHIRLIGIG_AXE)", "WHIRLIGIG_REQUIRE_AXE");
            None
        }
    }
}

fn check_accessibility(browser: &mut Browser, axe: Option<&str>, what: &str) {
    let Some(axe) = axe else { return };
    // The value of the script itself is no text.
    browser.value(&format!("window.axe ?? void eval({})", serde_json::to_string(axe).unwrap()));
    browser.value(
        "window.found = null; axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => { \
         window.found = violations.flatMap(({ id, nodes }) => nodes.map(node => `${id}: ${node.html.slice(0, 200)} ${node.failureSummary}`)) })",
    );
    browser.until("window.found !== null");
    none(browser, "window.found", what);
}

/// Focuses elements with Tab until `wanted` holds for the focused element.
fn tab_to(browser: &mut Browser, wanted: &str, what: &str) {
    for _ in 0..400 {
        if browser.value(&format!("(e => !!({wanted}))(document.activeElement)")) == true {
            return;
        }
        browser.press_key("Tab");
    }
    panic!("{what}: Tab does not lead to {wanted}");
}

#[test]
fn the_keyboard_is_enough() {
    let Some(chromium) = chromium() else { return };
    let (server, mut browser) = served(&chromium);
    browser.look_like(1280, 900, "light");
    for page in chapters() {
        browser.open(&format!("{}{}", server.url, page.path));
        browser.until(READY);
        tab_to(&mut browser, "e.matches('form.guess input')", &page.path);
        browser.press_key(" ");
        browser.press_key("ArrowDown");
        tab_to(&mut browser, "e.matches('form.guess button[type=submit]')", &page.path);
        browser.press_key("Enter");
        browser.until("/=2/.test(location.hash)");
        tab_to(&mut browser, "e.matches('.again button')", &page.path);
        tab_to(&mut browser, "e.matches('figure.loop [data-move=n]')", &page.path);
        let row = "Number(document.activeElement.closest('figure').dataset.row)";
        let before = browser.value(row).as_u64().unwrap();
        browser.press_key("Enter");
        browser.until(&format!("{row} === {}", before + 1));
        tab_to(&mut browser, "e.matches('figure.loop a.open')", &page.path);
        tab_to(&mut browser, "e.matches('main section:last-of-type a')", &page.path);
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_bad_link_leaves_a_sentence() {
    let Some(chromium) = chromium() else { return };
    let (server, mut browser) = served(&chromium);
    for page in chapters() {
        for bad in ["g=99", "nix=1", "no-such-part", "%E7%81", "g=2&g", "&&=&"] {
            browser.open("about:blank");
            browser.open(&format!("{}{}#{bad}", server.url, page.path));
            browser.until(READY);
            browser.until("document.getElementById('message').textContent.length > 20");
            // The page goes on.
            browser.value("document.querySelector('form.guess input').checked = true");
            browser.value("document.querySelector('form.guess').requestSubmit()");
            browser.until("document.querySelector('form.guess fieldset').disabled");
            browser.until("document.querySelector('figure.loop .columns')");
        }
        browser.open("about:blank");
        browser.open(&format!("{}{}#g=2&q1=1", server.url, page.path));
        browser.until(READY);
        browser.until("document.getElementById('message').hidden");
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// Copies `www` without the engine.
fn without_engine() -> (TempDir, PathBuf) {
    let scene = tempfile::tempdir().unwrap();
    let copied = run(Command::new("cp").arg("-r").arg(www()).arg(scene.path()));
    assert_eq!(copied.code, Some(0), "{}", copied.err);
    let copy = scene.path().join("www");
    fs::remove_file(copy.join("learn/loop.wasm")).unwrap();
    (scene, copy)
}

#[test]
fn recordings_take_the_place_of_the_engine() {
    let Some(chromium) = chromium() else { return };
    let (_scene, copy) = without_engine();
    let server = Server::start("reactor", &copy, &[]);
    let mut browser = Browser::start(&chromium);
    browser.look_like(1280, 900, "light");
    for page in chapters() {
        for url in
            [format!("file://{}/{}", copy.display(), page.path), format!("{}{}", server.url, page.path)]
        {
            browser.open(&url);
            browser.until(READY);
            none(&mut browser, WALK, &url);
            none(
                &mut browser,
                "[...document.querySelectorAll('figure.loop .note')].map(one => one.textContent)",
                &url,
            );
        }
        // The link of a picture leads to a run that is recorded.
        browser.open(&format!("file://{}/{}", copy.display(), page.path));
        browser.until(READY);
        browser.value("document.querySelector('figure.loop a.open').click()");
        browser.until("location.pathname.endsWith('/learn/step.html')");
        browser.until("document.querySelector('.only-recorded')?.getClientRects().length > 0");
        browser.until("document.getElementById('message').hidden");
    }
}

#[test]
fn the_text_is_complete_without_pictures_and_without_scripts() {
    let Some(chromium) = chromium() else { return };
    let (_scene, copy) = without_engine();
    fs::remove_dir_all(copy.join("learn/logs")).unwrap();
    let server = Server::start("reactor", &copy, &[]);
    let mut browser = Browser::start(&chromium);
    for page in chapters() {
        browser.look_like(1280, 900, "light");
        let url = format!("{}{}", server.url, page.path);
        for url in [&url, &format!("file://{}/{}", copy.display(), page.path)] {
            browser.open(url);
            browser.until(READY);
            browser.value("for (const form of document.querySelectorAll('form.guess')) form.querySelector('.acts [type=button]').click()");
            none(&mut browser, HIDDEN, url);
            let without = "[...document.querySelectorAll('figure.loop')].filter(one => !one.querySelector('.note')?.textContent.includes('whirligig step'))";
            none(&mut browser, &format!("{without}.map(one => one.dataset.link)"), url);
        }

        browser.run_scripts(false);
        browser.open(&format!("{url}?without"));
        none(&mut browser, HIDDEN, &format!("{} without scripts", page.path));
        browser.run_scripts(true);
    }
}
