//! `whirligig race`: its verdicts, its page, and that it leaves nothing behind.
//!
//! All processes of a race have a variable in their environment, by which a test finds those that
//! were left over.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::browser::chromium;
use crate::devtools::Browser;
use crate::harness::{Finished, Process, bare_command, binary, run, run_within, until};

/// Maximum duration of a race in a test, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Variable that marks the processes of a race.
const MARK: &str = "RACE_OF_A_TEST";

/// A race with its own folder for temporary files, whose path also marks its processes.
struct Scene(TempDir);

impl Scene {
    fn new() -> Scene {
        Scene(TempDir::new().unwrap())
    }

    fn of(&self, mut command: Command, args: &[&str]) -> Command {
        command.arg("race").args(args).env(MARK, self.0.path()).env("TMPDIR", self.0.path());
        command
    }

    fn race(&self, args: &[&str]) -> Command {
        self.of(bare_command(), args)
    }

    /// Command lines of the processes of this race.
    fn processes(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", self.0.path().display());
        let is_marked = |folder: &Path| {
            let variables = fs::read(folder.join("environ")).unwrap_or_default();
            variables.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let folders = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let marked = folders.filter(|folder| is_marked(folder));
        marked.map(|folder| fs::read_to_string(folder.join("cmdline")).unwrap_or_default()).collect()
    }

    /// Asserts that no process and no file is left.
    fn is_clean(&self) {
        until("no process is left", || self.processes().is_empty());
        let files: Vec<_> = fs::read_dir(self.0.path()).unwrap().flatten().collect();
        assert!(files.is_empty(), "{files:?}");
    }

    /// Waits until the load generator runs.
    fn wait_for_load(&self) {
        until("the load generator runs", || {
            self.processes().iter().any(|line| line.contains("bench-generate"))
        });
    }
}

fn finish(process: Process) -> Finished {
    let mut process = process;
    let (out, err) = (process.0.stdout.take().unwrap(), process.0.stderr.take().unwrap());
    let reader = std::thread::spawn(move || io::read_to_string(err).unwrap());
    let out = io::read_to_string(out).unwrap();
    Finished { code: process.0.wait().unwrap().code(), out, err: reader.join().unwrap() }
}

/// Starts a race whose page waits for a viewer, and returns it with the address of the page.
fn with_page(mut command: Command) -> (Process, String) {
    let mut child: Child = command.spawn().unwrap();
    let url = first_line(child.stdout.as_mut().unwrap());
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    (Process(child), url)
}

/// Reads a line byte by byte, so that the rest stays in the pipe.
fn first_line(pipe: &mut impl io::Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while pipe.read(&mut byte).unwrap() == 1 && byte != [b'\n'] {
        line.extend_from_slice(&byte);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn a_quick_race_ends_with_verdicts_and_leaves_nothing_behind() {
    let scene = Scene::new();
    let ended = run_within(PATIENCE, &mut scene.race(&["--quick", "--no-page", "--rounds", "5"]));
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    for scenario in ["hello", "close", "cpu", "block"] {
        let line = ended.out.lines().find(|line| line.starts_with(&format!("{scenario} ")));
        let line = line.unwrap_or_else(|| panic!("no {scenario}: {}", ended.out));
        let words = [" times as fast", "no difference within the noise"];
        assert!(words.iter().any(|words| line.contains(words)) && !line.contains("ERRORS"), "{line}");
    }
    assert!(!ended.out.contains("http://") && ended.out.contains("the noise."), "{}", ended.out);
    scene.is_clean();
}

#[test]
fn a_signal_in_a_round_stops_a_race_and_its_processes() {
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let scene = Scene::new();
        let args = ["--no-page", "--scenario", "hello", "--rounds", "1000"];
        let process = Process(scene.race(&args).spawn().unwrap());
        scene.wait_for_load();
        kill_process(Pid::from_child(&process.0), signal).unwrap();
        let ended = finish(process);
        assert_eq!(ended.code, code, "{}{}", ended.out, ended.err);
        if signal == Signal::KILL {
            // Nobody could remove the folder.
            until("no process is left", || scene.processes().is_empty());
        } else {
            assert!(ended.err.ends_with("whirligig race: interrupted\n"), "{}", ended.err);
            scene.is_clean();
        }
    }
}

#[test]
fn a_server_that_dies_ends_the_race_with_one_line() {
    let scene = Scene::new();
    let process =
        Process(scene.race(&["--no-page", "--scenario", "hello", "--rounds", "1000"]).spawn().unwrap());
    scene.wait_for_load();
    let parent = process.0.id();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let serves = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains("bench-serve")
    };
    for pid in children.split_whitespace().filter(serves) {
        kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    let ended = finish(process);
    let lines: Vec<&str> = ended.err.lines().filter(|line| !line.contains("optimisation")).collect();
    assert_eq!((ended.code, lines.len()), (Some(1), 1), "{}", ended.err);
    assert!(lines[0].starts_with("whirligig: race: hello on "), "{}", ended.err);
    scene.is_clean();
}

#[test]
fn a_child_that_does_not_start_is_one_line() {
    let scene = Scene::new();
    let copy = TempDir::new().unwrap();
    let program = copy.path().join("whirligig");
    fs::copy(binary(), &program).unwrap();
    let mut command = Command::new(&program);
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let (process, url) = with_page(scene.of(command, &["--port", "0"]));
    // The race waits for a viewer, and by then its executable is gone.
    fs::remove_file(&program).unwrap();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut viewer = TcpStream::connect(address).unwrap();
    viewer.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let ended = finish(process);
    let last = ended.err.lines().last().unwrap_or_default();
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(last.starts_with("whirligig: race: cannot start ") && last.contains("No such file"), "{last}");
    scene.is_clean();
}

#[test]
fn wrong_arguments_are_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (args, code, expected) in [
        (vec!["--scenario", "helo"], 2, "unknown scenario 'helo': did you mean 'hello'?"),
        (vec!["--scenario", "open-50"], 2, "needs a rate that both models can hold"),
        (vec!["--rounds", "4"], 2, "4 is not in 5..=1000"),
        (vec!["--no-page", "--open"], 2, "--open"),
        (vec!["--port", &port], 1, "Address already in use"),
    ] {
        let ended = run(&mut Scene::new().race(&args));
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(expected) && ended.err.lines().count() == 1, "{args:?}: {}", ended.err);
    }
}

/// Number at the beginning of a cell such as `1,234` or `7.12 ms`.
fn shown(cell: &str) -> f64 {
    let (number, unit) = cell.split_once(' ').unwrap_or((cell, ""));
    let factor = match unit {
        "" | "µs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        unit => panic!("unknown unit {unit}"),
    };
    factor * number.replace(',', "").parse::<f64>().unwrap_or_else(|_| panic!("no number: {cell}"))
}

#[test]
fn the_page_asks_first_and_then_shows_the_figures_of_the_json() {
    let Some(chromium) = chromium() else { return };
    let mut browser = Browser::start(&chromium);
    let scene = Scene::new();
    let args =
        ["--port", "0", "--quick", "--rounds", "5", "--scenario", "hello", "--scenario", "block", "--json"];
    let mut child = scene.race(&args).spawn().unwrap();
    let mut url = String::new();
    while !url.starts_with("http://") {
        url = first_line(child.stderr.as_mut().unwrap());
    }
    let process = Process(child);
    browser.open(&url);
    let card = |name: &str| format!("document.querySelector('[data-scenario={name}]')");
    for name in ["hello", "block"] {
        browser.until(&format!("{}.querySelector('.result').hidden", card(name)));
    }
    browser.value(&format!("{}.querySelector('button.plain').click()", card("hello")));
    browser.click("[data-scenario=block] input[value=threads]");
    browser.type_into("[data-scenario=block] input[type=number]", "2");
    browser.press_key("Enter");
    browser.until(&format!("{}.textContent.includes('Your guess: threads 2 times as fast.')", card("block")));
    let ended = finish(process);
    browser.until("document.getElementById('state').textContent == 'The race is over'");
    let report: Value =
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {}", ended.out));
    assert_eq!((ended.code, &report["record"]), (Some(0), &"whirligig-race".into()), "{}", ended.err);
    for scenario in report["scenarios"].as_array().unwrap() {
        let card = card(scenario["name"].as_str().unwrap());
        let verdict = browser.value(&format!("{card}.querySelector('.verdict').textContent"));
        assert_eq!(verdict, scenario["words"]);
        for (place, side) in scenario["sides"].as_array().unwrap().iter().enumerate() {
            assert_eq!(side["runs"].as_array().unwrap().len(), 5);
            for key in ["rate", "p50_us", "p99_us", "cpu_us_each", "switches_each", "threads"] {
                let cell =
                    format!("{card}.querySelector('[data-figure={key}]').cells[{}].textContent", place + 1);
                let (cell, figure) = (browser.value(&cell), side[key].as_f64().unwrap());
                let shown = shown(cell.as_str().unwrap_or_default());
                // Times from 10 ms on have no decimals.
                let share = if key.starts_with('p') { 0.051 } else { 0.01 };
                assert!((shown - figure).abs() <= share * figure + 0.006, "{key}: {cell} and {figure}");
            }
        }
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
    scene.is_clean();
}
