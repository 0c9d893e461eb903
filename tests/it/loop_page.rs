//! `/_whirligig/loop` in a browser: its figures are those of the frames and of the metrics, a
//! handler that blocks is named, and a recording shows what it was saved from.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use serde_json::Value;
use whirligig::Server as Library;

use crate::browser::chromium;
use crate::devtools::Browser;
use crate::docroot::Docroot;
use crate::harness::{Server, pass};
use crate::library::InProcess;
use crate::wire::{Client, get};

const PAGE: &str = "_whirligig/loop";

/// A recording of the real loop, with slow requests. `docs/live.md` names it.
const RECORDING: &str = "www/learn/recordings/slow-handlers.jsonl";

/// All texts and tables that show the frame of the page.
const FIGURES: &str = "(() => {
    const text = id => document.getElementById(id).textContent;
    const rows = id => [...document.querySelectorAll(`#${id} tbody tr`)]
        .map(row => [...row.cells].map(cell => cell.textContent));
    const figures = {};
    for (const id of ['utilisation', 'turns', 'responses', 'received', 'sent', 'p50', 'p99', 'stalls', 'position',
        'strip-text', 'clock-text', 'turn-which', 'turn-start', 'steps-text', 'steps', 'stalls-text',
        'requests-text', 'calls-text']) figures[id] = text(id);
    for (const id of ['phases', 'stalls', 'requests', 'calls', 'taking', 'connections', 'own', 'counters'])
        figures[`${id}-table`] = rows(`${id}-table`);
    for (const id of ['strip', 'clock', 'history']) figures[`${id}-picture`] = document.getElementById(id).innerHTML;
    return figures;
})()";

/// Opens the page and waits for so many frames.
fn open(browser: &mut Browser, port: u16, frames: usize) {
    browser.open(&format!("http://127.0.0.1:{port}/{PAGE}"));
    browser.until(&format!("document.getElementById('slider').max >= {}", frames - 1));
}

fn press(browser: &mut Browser, key: &str, shift: bool) {
    browser.value(&format!(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: {key:?}, shiftKey: {shift}, bubbles: true}}))"
    ));
}

/// Stops the page at its newest frame, and returns its figures.
fn pause(browser: &mut Browser) -> Value {
    press(browser, " ", false);
    browser.until("document.getElementById('pause').textContent == 'Continue'");
    browser.value(FIGURES)
}

/// Returns the text of the file that the page saves.
fn saved(browser: &mut Browser) -> String {
    browser.value(
        "window.saved = null; URL.createObjectURL = blob => {
            blob.text().then(text => { window.saved = text }); return 'data:,' };
        document.getElementById('save').click()",
    );
    browser.until("window.saved");
    browser.value("window.saved").as_str().unwrap().to_owned()
}

fn frames_of(recording: &str) -> Vec<Value> {
    recording.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Opens a recording of the site, and waits until the page shows its last frame.
fn open_recording(browser: &mut Browser, server: &Server, path: &str, frames: usize) -> Value {
    browser.open(&format!("{}{PAGE}?log=/{path}", server.url));
    browser.until(&format!(
        "document.getElementById('position').textContent.startsWith('Frame {frames} of {frames},')"
    ));
    browser.value(FIGURES)
}

fn number(text: &Value) -> f64 {
    let text = text.as_str().unwrap().replace(',', "");
    text.trim_start_matches("≤ ").split(['%', '/', ' ']).next().unwrap().parse().unwrap()
}

/// The cells of a row that begins with this name.
fn row<'a>(figures: &'a Value, table: &str, name: &str) -> &'a Value {
    let rows = figures[table].as_array().unwrap();
    rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no {name} in {table}: {rows:?}"))
}

/// The difference of a sum between two frames.
fn since(last: &Value, base: &Value, keys: &[&str]) -> f64 {
    let of = |frame: &Value| keys.iter().fold(&frame["sums"], |value, key| &value[key]).as_f64().unwrap();
    of(last) - of(base)
}

fn message(browser: &mut Browser) -> String {
    browser.value("document.getElementById('message').innerText").as_str().unwrap_or_default().to_owned()
}

#[test]
fn figures_are_those_of_the_frames_and_of_the_metrics() {
    let Some(chromium) = chromium() else { return };
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &[]);
    let mut browser = Browser::start(&chromium);
    open(&mut browser, server.port, 2);
    let mut client = Client::connect(server.port);
    let frames = "Number(document.getElementById('slider').max)";
    while browser.value(frames).as_u64().unwrap() < 16 {
        for path in ["/hello.txt", "/missing", "/m5.bin"] {
            client.get(path);
        }
    }
    let metrics = client.get("/_whirligig/metrics").expect(200);
    let value = |name: &str| -> u64 {
        let lines = metrics.text().lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    // The metrics were written before their own response was counted. Nothing but frames follows.
    let counter = |name: &str| {
        format!(
            "[...document.querySelectorAll('#counters-table tr')].find(row => row.cells[0].textContent == \
             {name:?}).cells[1].textContent.replaceAll(',', '') == "
        )
    };
    let responses = value("whirligig_requests_total") + 1;
    browser.until(&format!("{}{responses}", counter("responses")));
    for (name, expected) in [
        ("reads", value("whirligig_reads_total")),
        ("bytes read", value("whirligig_received_bytes_total")),
        ("accepted", value("whirligig_connections_accepted_total")),
        ("closed", value("whirligig_connections_closed_total")),
    ] {
        browser.until(&format!("{}{expected}", counter(name)));
    }

    let shown = pause(&mut browser);
    let all = frames_of(&saved(&mut browser));
    let last = all.last().unwrap();
    let at = |frame: &Value| frame["at_ns"].as_f64().unwrap();
    let base = all.iter().rev().find(|frame| at(last) - at(frame) >= 1e9).expect("frames of a second");
    let (elapsed, of) = ((at(last) - at(base)) / 1e9, |keys: &[&str]| since(last, base, keys));
    let close = |text: &Value, expected: f64| {
        assert!((number(text) - expected).abs() <= 0.01 * expected + 0.06, "{text} instead of {expected}");
    };
    close(&shown["turns"], of(&["turns"]) / elapsed);
    close(&shown["responses"], of(&["responses"]) / elapsed);
    let busy = of(&["busy_ns"]);
    assert!((number(&shown["utilisation"]) - 100.0 * busy / (busy + of(&["waited_ns"]))).abs() <= 0.51);
    for call in ["poll", "read", "write"] {
        let cells = row(&shown, "calls-table", call);
        close(&cells[1], of(&["calls", call]) / of(&["responses"]));
        close(&cells[2], of(&["calls", call]));
        assert!(
            (number(&cells[3]) - 100.0 * of(&["would_block", call]) / of(&["calls", call])).abs() <= 0.51
        );
    }
    assert_eq!(
        number(&row(&shown, "connections-table", "idle")[1]),
        last["connections"]["idle"].as_f64().unwrap()
    );
    assert_eq!(row(&shown, "own-table", "viewers on this loop")[1], "1");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// Blocks the loop once while five clients wait, and moves through the recorded turns.
#[test]
fn a_handler_that_blocks_is_named_with_its_steps() {
    let Some(chromium) = chromium() else { return };
    let ((begin, begun), (release, released)) = (mpsc::channel(), mpsc::channel());
    let (begin, released) = (Mutex::new(begin), Mutex::new(released));
    let builder = Library::builder()
        .get("/slow", move |_| {
            begin.lock().unwrap().send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
            pass(Duration::from_millis(50));
            "slow\n"
        })
        .get("/quick", |_| "quick\n")
        .loop_page();
    let server = InProcess::start("reactor", builder);
    let mut browser = Browser::start(&chromium);
    open(&mut browser, server.port, 3);
    let mut others: Vec<Client> = (0..5).map(|_| Client::connect(server.port)).collect();
    others.iter_mut().for_each(|other| drop(other.get("/quick").expect(200)));
    let mut slow = Client::connect(server.port);
    slow.send(get("/slow?token=secret"));
    begun.recv().unwrap();
    others.iter_mut().for_each(|other| other.send(get("/quick")));
    release.send(()).unwrap();
    slow.response().expect(200);
    // On a busy machine other turns may be slow as well.
    let named = "[...document.querySelectorAll('#stalls-table tbody tr')].find(row => \
        row.cells[0].textContent.startsWith('GET /slow for '))";
    browser.until(named);
    let figures = pause(&mut browser);
    let stalls = figures["stalls-table"].as_array().unwrap();
    let stall = stalls.iter().find(|stall| stall[0].as_str().unwrap().starts_with("GET /slow for ")).unwrap();
    let took = stall[1].as_str().unwrap();
    let took_ms = took.strip_suffix(" ms").map_or(1000.0, |number| number.parse().unwrap());
    assert!(took_ms >= 50.0 && stall[0].as_str().unwrap().ends_with('s'), "{stall}");
    assert_eq!(stall[2], "5", "{stall}");
    assert_eq!(figures["stalls"], stalls.len().to_string());

    // Its button shows the steps of the turn, and the arrows move on from there.
    let turn = stall[3].as_str().unwrap().to_owned();
    browser.value(&format!("{named}.querySelector('button').click()"));
    browser.until(&format!(
        "document.getElementById('turn-which').textContent.startsWith('{turn}, your choice: ')"
    ));
    let steps = browser.value("document.getElementById('steps').textContent");
    let steps = steps.as_str().unwrap();
    assert!(steps.contains("ms until the next step"), "{steps}");
    assert!(steps.contains("src/driver/respond.rs:") && !steps.contains("secret"), "{steps}");
    let which = "document.getElementById('turn-which').textContent.split(',')[0]";
    press(&mut browser, "ArrowLeft", true);
    browser.until(&format!("{which} != '{turn}'"));
    press(&mut browser, "ArrowRight", true);
    browser.until(&format!("{which} == '{turn}'"));
    let position = "document.getElementById('position').textContent";
    let before = browser.value(position);
    press(&mut browser, "ArrowLeft", false);
    browser.until(&format!("{position} != {before}"));
    press(&mut browser, " ", false);
    browser.until("document.getElementById('state').textContent == 'Live'");
    // The frames of the pause are missing, and the page counts them.
    browser.until("/1 gap: \\d+ frames? skipped/.test(document.getElementById('kept').textContent)");
    drop((slow, others));
    server.stop();
    browser.until("document.getElementById('state').textContent.startsWith('The connection is lost.')");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_recording_shows_what_it_was_saved_from() {
    let Some(chromium) = chromium() else { return };
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &[]);
    let mut browser = Browser::start(&chromium);
    open(&mut browser, server.port, 2);
    let mut half = Client::connect(server.port);
    half.send("GET /half HTTP/1.1\r\nHost:");
    let mut client = Client::connect(server.port);
    for _ in 0..300 {
        client.get("/hello.txt").expect(200);
    }
    browser.until("document.getElementById('slider').max >= 12");
    let live = pause(&mut browser);
    assert_eq!(live["requests-table"][0][2], "receiving head");
    let text = saved(&mut browser);
    let frames = frames_of(&text).len();
    docroot.write("whole.jsonl", &text);
    assert_eq!(open_recording(&mut browser, &server, "whole.jsonl", frames), live);
    assert_eq!(message(&mut browser), "");

    // The file picker reads it as well.
    browser.open(&format!("{}{PAGE}", server.url));
    let file = docroot.outside("whole.jsonl");
    fs::write(&file, &text).unwrap();
    browser.choose("#file", &[&file]);
    browser
        .until("document.getElementById('state').textContent.startsWith('Recording: whole.jsonl, saved 2')");
    browser.until(&format!("document.getElementById('position').textContent == {}", live["position"]));
    assert_eq!(browser.value(FIGURES), live);

    // A recording that is cut in a frame: the frames before it are shown, with a sentence.
    let shown = frames - 2;
    let whole_bytes: usize = text.lines().take(shown + 1).map(|line| line.len() + 1).sum();
    docroot.write("cut.jsonl", &text[..whole_bytes + 50]);
    open_recording(&mut browser, &server, "cut.jsonl", shown);
    let note = message(&mut browser);
    assert!(note.contains("cut.jsonl is cut: its last line is not whole."), "{note}");
    assert!(note.contains(&format!("It has {shown} of {frames} frames.")), "{note}");

    let (header, rest) = text.split_once('\n').unwrap();
    let other = header.replace("\"version\":1", "\"version\":2");
    assert_ne!(other, header);
    let newer = rest.replacen("\"version\":1", "\"version\":2", 2);
    docroot.write("other.jsonl", format!("{other}\n{newer}"));
    open_recording(&mut browser, &server, "other.jsonl", frames - 2);
    let note = message(&mut browser);
    assert!(note.contains("other.jsonl is a recording of version 2; this page reads version 1."), "{note}");
    assert!(note.contains("2 frames of another version left out."), "{note}");

    // Frames that are missing are a gap, and not a quiet time.
    let kept = |at: usize| at + 3 < frames || at == frames;
    let with_gap: Vec<&str> =
        text.lines().enumerate().filter(|&(at, _)| kept(at)).map(|(_, line)| line).collect();
    docroot.write("gap.jsonl", with_gap.join("\n") + "\n");
    let shown = open_recording(&mut browser, &server, "gap.jsonl", frames - 3);
    assert!(shown["strip-text"].as_str().unwrap().ends_with("3 frames missing."), "{}", shown["strip-text"]);
    browser.until("document.getElementById('kept').textContent.includes('1 gap: 3 frames skipped, ')");

    docroot.write("none.jsonl", "<p>no recording\n");
    browser.open(&format!("{}{PAGE}?log=/none.jsonl", server.url));
    browser.until("document.getElementById('message').innerText.includes('There is nothing to show.')");
    browser.open(&format!("{}{PAGE}?log=/missing.jsonl", server.url));
    browser.until("document.getElementById('message').innerText == 'There is no recording at /missing.jsonl: 404 Not Found.'");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// The recording in the repository is as old as the schema, so it is also a test of its version.
#[test]
fn the_recording_of_the_repository_shows_its_slow_requests() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(home.join(RECORDING)).unwrap();
    assert!(text.len() < 150_000, "{} bytes", text.len());
    let Some(chromium) = chromium() else { return };
    let server = Server::start("reactor", &home.join("www"), &[]);
    let mut browser = Browser::start(&chromium);
    let path = RECORDING.strip_prefix("www/").unwrap();
    let figures = open_recording(&mut browser, &server, path, frames_of(&text).len());
    assert_eq!(message(&mut browser), "");
    let stalls = figures["stalls-table"].as_array().unwrap();
    assert!(
        stalls.iter().any(|stall| stall[0].as_str().unwrap().starts_with("GET /report for 5")),
        "{stalls:?}"
    );
    // It plays from the beginning to the end.
    press(&mut browser, " ", false);
    browser.until("document.getElementById('position').textContent.startsWith('Frame 3 of ')");
    press(&mut browser, " ", false);
    browser.until("document.getElementById('pause').textContent == 'Play'");
    browser.value("document.getElementById('slider').value = 99, document.getElementById('slider').dispatchEvent(new Event('input'))");
    browser.until(&format!("document.getElementById('position').textContent == {}", figures["position"]));
    assert_eq!(browser.value(FIGURES), figures);
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn the_page_is_for_this_machine_and_for_loops() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &[]);
    let mut client = Client::connect(server.port);
    let page = client.get("/_whirligig/loop").expect(200);
    let policy = page.must("content-security-policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    let twin = Server::start("threads", &docroot.root(), &[]);
    let mut other = Client::connect(twin.port);
    for (path, media_type) in [
        ("", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/draw.js", "text/javascript"),
        ("/figures.js", "text/javascript"),
        ("/frames.js", "text/javascript"),
        ("/units.js", "text/javascript"),
    ] {
        let path = format!("/_whirligig/loop{path}");
        let got = client.get(&path).expect(200);
        assert_eq!(got.must("content-type"), format!("{media_type}; charset=utf-8"));
        client.ask("GET", &path, &["X-Forwarded-For: 192.0.2.1"], b"").expect(403);
        assert!(other.get(&path).expect(404).text().contains("--model threads"), "{path}");
    }
}

/// Every figure names the file that makes it.
#[test]
fn places_on_the_page_exist() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(home.join("src/features/loop_page/page.html")).unwrap();
    let places: Vec<&str> =
        page.split("class=\"place\">").skip(1).map(|rest| rest.split('<').next().unwrap()).collect();
    assert!(places.len() > 18, "{places:?}");
    for place in places {
        assert!(home.join(place).is_file(), "{place}");
    }
}
