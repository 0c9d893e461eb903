//! Scenarios of the benchmark with their load, including those in which threads are faster.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::Fallible;
use super::load::{Ask, Crowd, Expected, Habit, pattern};
use super::server::{FAN_OUT_EVERY, HELLO, computed};
use super::words::grouped;

/// Number of files in the scenario with varying requests.
const VARIED_FILES: usize = 64;
/// Number of different requests in that scenario.
const VARIED_ASKS: usize = 256;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Rate of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: each response is followed by the next request.
    Closed,
    /// Open loop: this share of the responses per second of the slower model in `hello`, closed
    /// loop.
    Share(f64),
    /// The server sends, and clients only listen.
    Listen,
}

/// Mode from which on a scenario is part of a run.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Depth {
    /// Part of every run.
    Quick,
    /// Part of runs without `--quick`.
    Usual,
    /// Only part of runs with `--full`.
    Full,
}

/// One scenario, which is one line of the report.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Short name, for `--filter`.
    pub name: String,
    /// Description in plain words.
    pub title: String,
    /// Rate of requests.
    pub pace: Pace,
    /// Number of connections that send requests.
    pub connections: u32,
    /// Use of each connection between responses.
    pub habit: Habit,
    /// Requests, sent in rotation.
    pub asks: Vec<Ask>,
    /// Background connections.
    pub crowd: Option<Crowd>,
    /// Mode from which on the scenario is part of a run.
    pub depth: Depth,
    /// True if plain files are sufficient, so that a peer can take part.
    pub files_only: bool,
    /// True for scenarios in the curves over the number of connections.
    pub on_ladder: bool,
    /// True if every run counts the system calls.
    pub is_counted: bool,
    /// Threads of the reactor's worker pool, if not the default.
    pub job_threads: Option<usize>,
}

impl Scenario {
    fn new(name: impl Into<String>, title: impl Into<String>, connections: u32, asks: Vec<Ask>) -> Scenario {
        Scenario {
            name: name.into(),
            title: title.into(),
            pace: Pace::Closed,
            connections,
            habit: Habit::Keep { depth: 1 },
            asks,
            crowd: None,
            depth: Depth::Quick,
            files_only: false,
            on_ladder: false,
            is_counted: false,
            job_threads: None,
        }
    }

    fn usual(self) -> Scenario {
        Scenario { depth: Depth::Usual, ..self }
    }

    fn files(self) -> Scenario {
        Scenario { files_only: true, ..self }
    }

    fn rung(self) -> Scenario {
        Scenario { on_ladder: true, ..self }
    }

    fn counted(self) -> Scenario {
        Scenario { is_counted: true, ..self }
    }

    fn job_threads(self, count: usize) -> Scenario {
        Scenario { job_threads: Some(count), ..self }
    }

    fn habit(self, habit: Habit) -> Scenario {
        Scenario { habit, ..self }
    }

    fn crowd(self, crowd: Crowd) -> Scenario {
        Scenario { crowd: Some(crowd), ..self }
    }

    fn pace(self, pace: Pace) -> Scenario {
        Scenario { pace, ..self }
    }

    /// Returns whether its main figure is a latency at a fixed rate instead of a rate.
    pub fn is_open(&self) -> bool {
        self.pace != Pace::Closed
    }
}

/// Returns all scenarios in the order of the report.
pub fn all() -> Vec<Scenario> {
    let hello = || vec![get("/hello", Expected::Text(HELLO.to_owned()))];
    let mut all = vec![
        Scenario::new("hello", "a 13-byte response, 64 connections", 64, hello()).files().rung().counted(),
    ];
    for (name, bytes, connections) in [("1k", KIB, 64), ("100k", 100 * KIB, 32), ("10m", 10 * MIB, 8)] {
        let title = format!("a file of {}, {connections} connections", size(bytes));
        let asks = vec![get(&format!("/{name}"), Expected::Pattern(bytes))];
        all.push(Scenario::new(format!("file-{name}"), title, connections, asks).files().counted());
    }
    all.push(varied());
    let close = vec![closing_get("/hello", Expected::Text(HELLO.to_owned()))];
    all.extend([
        Scenario::new("close", "a new connection for each response, 64 at once", 64, close)
            .habit(Habit::Close)
            .files()
            .counted(),
        Scenario::new("pipelined", "pipelined: 16 requests in one write, 16 connections", 16, hello())
            .habit(Habit::Keep { depth: 16 })
            .files()
            .counted(),
    ]);
    for (connections, depth) in [
        (1, Depth::Quick),
        (8, Depth::Usual),
        (256, Depth::Usual),
        (1_000, Depth::Quick),
        (4_000, Depth::Full),
        (10_000, Depth::Full),
    ] {
        let plural = if connections == 1 { "" } else { "s" };
        let title = format!("a 13-byte response, {} connection{plural}", grouped(f64::from(connections)));
        let scenario = Scenario::new(format!("connections-{connections}"), title, connections, hello());
        all.push(Scenario { depth, ..scenario.files().rung() });
    }
    all.extend(crowds(&hello));
    all.extend(handlers(&hello));
    all.extend(open(&hello));
    all
}

/// Returns the scenario with this name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

fn varied() -> Scenario {
    let asks = (0..VARIED_ASKS).map(|number| {
        let file = number * 37 % VARIED_FILES;
        let mut head = format!("GET /varied/{file}?n={} HTTP/1.1\r\nHost: localhost\r\n", number * 7919);
        let _ = write!(
            head,
            "User-Agent: client/{}.{}\r\nAccept: text/html;q=0.{}, */*\r\n",
            number % 9,
            number,
            number % 10
        );
        let _ = write!(
            head,
            "X-Request-Id: {:016x}\r\n\r\n",
            (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        );
        Ask { head, content_bytes: 0, expected: Expected::Pattern(KIB) }
    });
    let title = "files of 1 KiB, every request different";
    Scenario::new("varied", title, 64, asks.collect()).files()
}

/// A few active connections among many background connections.
fn crowds(hello: &dyn Fn() -> Vec<Ask>) -> [Scenario; 3] {
    [
        Scenario::new("idle", "16 active among 2,000 idle connections", 16, hello())
            .crowd(Crowd::Idle(2_000))
            .files(),
        Scenario::new("slow-readers", "16 active among 200 readers at 80 KiB/s", 16, hello())
            .crowd(Crowd::SlowReaders(200))
            .files(),
        Scenario::new("slow-senders", "16 active among 200 senders at 1.3 KB/s", 16, hello())
            .crowd(Crowd::SlowSenders(200))
            .usual(),
    ]
}

/// Effects of slow or blocking handlers on a loop.
fn handlers(hello: &dyn Fn() -> Vec<Ask>) -> [Scenario; 6] {
    let blocking = |path: &str| {
        let mut asks: Vec<Ask> = (0..49).flat_map(|_| hello()).collect();
        asks.push(get(path, Expected::Text(HELLO.to_owned())));
        asks
    };
    let upload = Ask {
        head: format!("POST /drain HTTP/1.1\r\n{FIELDS}Content-Length: {}\r\n\r\n", 64 * KIB),
        content_bytes: 64 * KIB,
        expected: Expected::Text(format!("{}\n", 64 * KIB)),
    };
    let listeners = 1_000;
    let per_second = 1_000 / FAN_OUT_EVERY.as_millis();
    [
        Scenario::new(
            "cpu",
            "a handler that computes for 0.1 ms, 64 connections",
            64,
            vec![get("/cpu", Expected::Text(format!("{:020}\n", computed())))],
        ),
        Scenario::new("block", "a handler that blocks 10 ms on 2 % of requests", 64, blocking("/block")),
        Scenario::new(
            "block-job",
            "the same blocking, as jobs on a pool of 4 threads",
            64,
            blocking("/block-job"),
        ),
        Scenario::new(
            "block-jobs-64",
            "the same blocking, as jobs on a pool of 64 threads",
            64,
            blocking("/block-job"),
        )
        .job_threads(64),
        Scenario::new("upload", "uploads of 64 KiB, discarded, 16 connections", 16, vec![upload]),
        Scenario::new(
            "fan-out",
            format!("one source, {per_second} lines/s to each of 1,000 listeners"),
            listeners,
            vec![get("/fan-out", Expected::Pattern(0))],
        )
        .pace(Pace::Listen),
    ]
}

/// Latency at a fixed rate.
fn open(hello: &dyn Fn() -> Vec<Ask>) -> Vec<Scenario> {
    let shares = [
        (30, Depth::Usual),
        (50, Depth::Quick),
        (70, Depth::Usual),
        (80, Depth::Quick),
        (90, Depth::Usual),
        (100, Depth::Full),
        (110, Depth::Full),
    ];
    shares
        .into_iter()
        .map(|(percent, depth)| {
            let title = format!("a 13-byte response at {percent} % load, 64 connections");
            let scenario = Scenario::new(format!("open-{percent}"), title, 64, hello());
            Scenario { depth, ..scenario.pace(Pace::Share(f64::from(percent) / 100.0)).files() }
        })
        .collect()
}

const FIELDS: &str = "Host: localhost\r\nUser-Agent: versus\r\nAccept: */*\r\n";

fn get(path: &str, expected: Expected) -> Ask {
    Ask { head: format!("GET {path} HTTP/1.1\r\n{FIELDS}\r\n"), content_bytes: 0, expected }
}

fn closing_get(path: &str, expected: Expected) -> Ask {
    let head = format!("GET {path} HTTP/1.1\r\n{FIELDS}Connection: close\r\n\r\n");
    Ask { head, content_bytes: 0, expected }
}

fn size(bytes: usize) -> String {
    if bytes >= MIB { format!("{} MiB", bytes / MIB) } else { format!("{} KiB", bytes / KIB) }
}

/// Writes all files that scenarios request.
pub fn write_docroot(root: &Path) -> Fallible<()> {
    fs::write(root.join("hello"), HELLO)?;
    for (name, bytes) in [("1k", KIB), ("100k", 100 * KIB), ("10m", 10 * MIB)] {
        fs::write(root.join(name), pattern(bytes))?;
    }
    fs::create_dir(root.join("varied"))?;
    for file in 0..VARIED_FILES {
        fs::write(root.join("varied").join(file.to_string()), pattern(KIB))?;
    }
    Ok(())
}
