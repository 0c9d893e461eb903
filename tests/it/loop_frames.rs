//! `/_whirligig/loop/frames` and `/_whirligig/requests`: what a viewer receives, and access to it.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use whirligig::{BodySource, Call, FillStatus, Response, Server as Library};

use crate::docroot::Docroot;
use crate::harness::{Server, now, pass, until};
use crate::library::InProcess;
use crate::strace::{counts, traced};
use crate::wire::{Client, get};

const FRAMES: &str = "/_whirligig/loop/frames";

/// A client that reads frames.
struct Viewer {
    client: Client,
    bytes: Vec<u8>,
    events: VecDeque<(String, Value)>,
}

impl Viewer {
    /// Joins, and waits until the response has begun, so that the loop records from now on.
    #[track_caller]
    fn join(port: u16, query: &str) -> Viewer {
        let mut viewer = Viewer::ask(port, query);
        let (name, hello) = viewer.event();
        assert_eq!((name.as_str(), &hello["record"]), ("hello", &"whirligig-hello".into()));
        viewer
    }

    fn ask(port: u16, query: &str) -> Viewer {
        let mut client = Client::connect(port);
        client.send(get(&format!("{FRAMES}{query}")));
        Viewer { client, bytes: Vec::new(), events: VecDeque::new() }
    }

    /// Returns the name and the data of the next event.
    #[track_caller]
    fn event(&mut self) -> (String, Value) {
        while self.events.is_empty() {
            let some = self.client.read_some(1 << 16);
            assert!(!some.is_empty(), "the server has ended the frames");
            self.bytes.extend_from_slice(&some);
            self.take_events();
        }
        self.events.pop_front().unwrap()
    }

    /// Takes whole events out of the bytes. The lines between them are those of chunks.
    fn take_events(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        let Some(end) = text.rfind("\n\n") else { return };
        let mut name = None;
        for line in text[..end].lines() {
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.to_owned());
            } else if let (Some(data), Some(name)) = (line.strip_prefix("data: "), name.take()) {
                self.events.push_back((name, serde_json::from_str(data).unwrap()));
            }
        }
        self.bytes.drain(..end + 2);
    }

    #[track_caller]
    fn frame(&mut self) -> Value {
        loop {
            let (name, data) = self.event();
            if name == "frame" {
                return data;
            }
        }
    }

    /// Reads frames until one meets the condition.
    #[track_caller]
    fn frame_with(&mut self, condition: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..1000 {
            let frame = self.frame();
            if condition(&frame) {
                return frame;
            }
        }
        panic!("no frame of 1000 meets the condition");
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// A value of the metrics, without labels.
fn metric(client: &mut Client, name: &str) -> u64 {
    let got = client.get("/_whirligig/metrics").expect(200);
    let line = got.text().lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn frames_count_what_clients_do_and_leave_viewers_out() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &[]);
    let mut viewer = Viewer::join(server.port, "");
    let first = viewer.frame();
    assert_eq!(number(&first["version"]), 1);
    let mut client = Client::connect(server.port);
    for _ in 0..50 {
        client.get("/_whirligig/health").expect(200);
    }
    let responses = |frame: &Value| number(&frame["sums"]["responses"]);
    let frame = viewer.frame_with(|frame| responses(frame) >= 50);
    let sums = &frame["sums"];
    assert_eq!((responses(&frame), number(&frame["viewers"])), (50, 1));
    let calls = &sums["calls"];
    assert_eq!(number(&calls["write"]), 50, "the frames themselves are left out: {calls}");
    assert!((50..=101).contains(&number(&calls["read"])), "{calls}");
    assert_eq!(number(&calls["accept"]) - number(&sums["would_block"]["accept"]), 1, "{calls}");
    assert!(number(&sums["own_turns"]) >= 1 && number(&sums["own_steps"]) >= 1, "{sums}");
    assert_eq!(number(&frame["connections"]["idle"]), 1);
    for turn in frame["turns"].as_array().unwrap() {
        let phases: u64 = turn["phases_ns"].as_object().unwrap().values().map(number).sum();
        assert_eq!(phases, number(&turn["took_ns"]), "{turn}");
    }
    // The counters are those of the metrics. Nothing but frames happens meanwhile.
    let writes = number(&frame["counters"]["responses"]);
    let in_metrics = metric(&mut client, "whirligig_reads_total");
    let after = viewer.frame_with(|frame| number(&frame["counters"]["responses"]) == writes + 1);
    assert_eq!(number(&after["counters"]["reads"]), in_metrics);
}

#[test]
fn calls_in_frames_agree_with_strace() {
    const REQUESTS: u64 = 10_000;
    let docroot = Docroot::new();
    // The viewer does not read while requests are traced, which takes long on a busy machine.
    let server = Server::start("reactor", &docroot.root(), &["--send-timeout", "600"]);
    let mut viewer = Viewer::join(server.port, "");
    let mut client = Client::connect(server.port);
    let mut settled = 0;
    until("the file is in the cache", || {
        client.get("/hello.txt").expect(200);
        settled += 1;
        now().duration_since(server.started) > Duration::from_millis(100)
    });
    let responses = |frame: &Value| number(&frame["sums"]["responses"]);
    let before = viewer.frame_with(|frame| responses(frame) == settled);
    let traced = traced(&server, &docroot.outside("calls"), || {
        for _ in 0..REQUESTS {
            client.get("/hello.txt").expect(200);
        }
    });
    let Some((table, _)) = traced else { return };
    let after = viewer.frame_with(|frame| responses(frame) == settled + REQUESTS);
    let grown = |name: &str| {
        let sum = |frame: &Value| match name {
            "turn" => number(&frame["sums"]["turns"]) + number(&frame["sums"]["own_turns"]),
            _ => number(&frame["sums"]["calls"][name]),
        };
        sum(&after) - sum(&before)
    };
    let calls = counts(&table);
    for (name, system_calls) in
        [("read", &["recvfrom"][..]), ("write", &["sendto"]), ("turn", &["epoll_wait", "epoll_pwait"])]
    {
        let called: u64 = system_calls.iter().filter_map(|name| calls.get(*name)).sum();
        let difference = called.abs_diff(grown(name));
        assert!(difference <= called / 100, "{name}: {} in frames\n{table}", grown(name));
    }
}

#[test]
fn a_handler_that_blocks_the_loop_is_named_with_the_connections_that_waited() {
    let (begin, begun) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let ends = Mutex::new((begin, gone));
    let builder = Library::builder()
        .get("/slow", move |_| {
            let (begin, gone) = &*ends.lock().unwrap();
            begin.send(()).unwrap();
            gone.recv().unwrap();
            pass(Duration::from_millis(50));
            "slow\n"
        })
        .get("/quick", |_| "quick\n")
        .loop_page();
    let server = InProcess::start("reactor", builder);
    let mut viewer = Viewer::join(server.port, "");
    let mut others: Vec<Client> = (0..5).map(|_| Client::connect(server.port)).collect();
    for other in &mut others {
        other.get("/quick").expect(200);
    }
    let mut slow = Client::connect(server.port);
    slow.send(get("/slow?token=secret"));
    begun.recv().unwrap();
    for other in &mut others {
        other.send(get("/quick"));
    }
    go.send(()).unwrap();
    slow.response().expect(200);
    // On a busy machine other turns may be stalls as well.
    let of_slow = |frame: &Value| {
        frame["stalls"].as_array().unwrap().iter().find(|stall| stall["by"] == "GET /slow").cloned()
    };
    let frame = viewer.frame_with(|frame| of_slow(frame).is_some());
    let stall = of_slow(&frame).unwrap();
    assert_eq!(number(&stall["waiting"]), 5, "{stall}");
    assert!(number(&stall["by_ns"]) >= 50_000_000, "{stall}");
    assert!(!frame.to_string().contains("secret"));
    drop(viewer);
    server.stop();
}

/// Content that begins at once. The rest comes after a wake-up, and blocks the loop until the test
/// lets it go.
struct Blocking {
    has_begun: bool,
    begin: mpsc::Sender<()>,
    gone: mpsc::Receiver<()>,
}

impl BodySource for Blocking {
    fn fill(&mut self, out: &mut Vec<u8>, _room: usize) -> FillStatus {
        if !std::mem::replace(&mut self.has_begun, true) {
            out.extend_from_slice(b"begun, ");
            return FillStatus::Later;
        }
        self.begin.send(()).unwrap();
        self.gone.recv().unwrap();
        pass(Duration::from_millis(50));
        out.extend_from_slice(b"done");
        FillStatus::End
    }
}

#[test]
fn a_body_source_that_blocks_the_loop_is_named_by_its_request() {
    let (begin, begun) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let (give, waker) = mpsc::channel();
    let source = Mutex::new(Some(Blocking { has_begun: false, begin, gone }));
    let builder = Library::builder()
        .get("/report", move |call: &Call<'_>| {
            give.send(call.waker()).unwrap();
            Response::stream("text/plain", source.lock().unwrap().take().unwrap())
        })
        .get("/quick", |_| "quick\n")
        .loop_page();
    let server = InProcess::start("reactor", builder);
    // The request begins while nobody looks.
    let mut slow = Client::connect(server.port);
    slow.send(get("/report?token=secret"));
    let mut start = Vec::new();
    while !start.ends_with(b"begun, \r\n") {
        start.extend(slow.read_some(1000));
    }
    let mut viewer = Viewer::join(server.port, "");
    let mut other = Client::connect(server.port);
    other.get("/quick").expect(200);
    waker.recv().unwrap().wake();
    begun.recv().unwrap();
    other.send(get("/quick"));
    go.send(()).unwrap();
    let of_source = |frame: &Value| {
        let name = "GET /report (source of its content)";
        frame["stalls"].as_array().unwrap().iter().find(|stall| stall["by"] == name).cloned()
    };
    let frame = viewer.frame_with(|frame| of_source(frame).is_some());
    let stall = of_source(&frame).unwrap();
    assert_eq!(number(&stall["waiting"]), 1, "{stall}");
    assert!(number(&stall["by_ns"]) >= 50_000_000, "{stall}");
    assert!(!frame.to_string().contains("secret"));
    drop(viewer);
    server.stop();
}

#[test]
fn the_recording_ends_with_the_last_viewer() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &[]);
    let mut viewer = Viewer::join(server.port, "");
    viewer.frame_with(|frame| number(&frame["frame"]) >= 2);
    drop(viewer);
    let mut client = Client::connect(server.port);
    until("only the request for the list is under way", || {
        let got = client.get("/_whirligig/requests").expect(200);
        let json: Value = serde_json::from_str(got.text()).unwrap();
        json["loops"][0].as_array().unwrap().len() == 1
    });
    let frame = Viewer::join(server.port, "").frame();
    assert_eq!(number(&frame["frame"]), 0, "the frames of a new recording are counted anew");
}

/// Returns the bytes that are queued for the one viewer that waits for room in its socket.
fn queued_for_blocked(client: &mut Client) -> Option<u64> {
    let got = client.get("/_whirligig/requests").expect(200);
    let json: Value = serde_json::from_str(got.text()).unwrap();
    let all = json["loops"][0].as_array().unwrap();
    let blocked = all.iter().find(|one| one["waits_for"] == "room in the socket");
    blocked.map(|one| number(&one["queued_bytes"]))
}

#[test]
fn a_viewer_that_does_not_read_is_told_how_many_frames_it_missed() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &["--send-timeout", "600"]);
    let mut reading = Viewer::join(server.port, "");
    let mut client = Client::connect_narrow(server.port);
    client.send(get(FRAMES));
    let mut slow = Viewer { client, bytes: Vec::new(), events: VecDeque::new() };
    // Load makes the frames long, so that the slow viewer's socket fills up. Each frame that it
    // takes is queued for it. So it has missed one as soon as its queue stays as it is while three
    // are made: the first one may have been made before the first look.
    let mut load = Client::connect(server.port);
    let (mut queued, mut unchanged) = (None, 0);
    while unchanged < 3 {
        for _ in 0..200 {
            load.get("/_whirligig/health").expect(200);
        }
        reading.frame();
        let before = std::mem::replace(&mut queued, queued_for_blocked(&mut load));
        unchanged = if queued.is_some() && queued == before { unchanged + 1 } else { 0 };
    }
    let last = number(&reading.frame()["frame"]);
    let (mut expected, mut skipped) = (None, 0);
    loop {
        let (name, data) = slow.event();
        match name.as_str() {
            "skipped" => {
                skipped += number(&data);
                expected = expected.map(|next: u64| next + number(&data));
            }
            "frame" => {
                let frame = number(&data["frame"]);
                assert_eq!(frame, expected.unwrap_or(frame), "each missing frame is counted");
                expected = Some(frame + 1);
                if frame > last {
                    break;
                }
            }
            _ => {}
        }
    }
    assert!(skipped > 0, "the socket had room for all frames");
}

#[test]
fn viewers_are_bounded_and_a_stop_ends_them() {
    let docroot = Docroot::new();
    let mut server = Server::start("reactor", &docroot.root(), &[]);
    let mut viewers: Vec<Viewer> = (0..64).map(|_| Viewer::join(server.port, "")).collect();
    let frame = viewers[63].frame_with(|frame| number(&frame["viewers"]) == 64);
    assert_eq!(number(&frame["requests_total"]), 0, "viewers are no requests under way");
    let mut client = Client::connect(server.port);
    let refused = client.get(FRAMES).expect(503);
    assert!(refused.text().contains("too many viewers"), "{}", refused.text());
    drop(viewers.pop());
    until("the viewer has left", || {
        let mut next = Client::connect(server.port);
        next.send(get(FRAMES));
        next.read_some(15).starts_with(b"HTTP/1.1 200")
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn requests_under_way_are_listed_and_logged() {
    let docroot = Docroot::new();
    docroot.write("large.bin", vec![b'x'; 1 << 24]);
    let server = Server::start("reactor", &docroot.root(), &[]);
    let mut slow = Client::connect_narrow(server.port);
    slow.send(get("/large.bin?token=secret"));
    let mut half = Client::connect(server.port);
    half.send("GET /half HTTP/1.1\r\nHost:");
    let mut client = Client::connect(server.port);
    let mut listed = || {
        let got = client.get("/_whirligig/requests").expect(200);
        assert_eq!(got.must("content-type"), "application/json");
        assert!(!got.text().contains("secret"));
        serde_json::from_str::<Value>(got.text()).unwrap()
    };
    let mut json = Value::Null;
    until("both requests are under way", || {
        json = listed();
        json["loops"][0].as_array().unwrap().len() == 3
    });
    let of = |phase: &str| {
        let all = json["loops"][0].as_array().unwrap().iter();
        all.filter(|one| one["phase"] == phase).map(|one| one["request"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("receiving_head"), [Value::Null]);
    assert_eq!(of("handling"), ["GET /_whirligig/requests"]);
    assert_eq!(of("sending"), ["GET /large.bin"]);
    server.signal(Signal::USR2);
    until("the log has the requests", || {
        let log = server.err.text();
        log.contains("GET /large.bin: sending") && log.contains("2 requests are under way, on 3 open")
    });
    assert!(!server.err.text().contains("secret"));
}

#[test]
fn only_this_machine_may_look() {
    let docroot = Docroot::new();
    let socket = docroot.path("whirligig.sock");
    let bind = format!("unix:{}", socket.display());
    let server = Server::start("reactor", &docroot.root(), &["--bind", "127.0.0.1", "--bind", &bind]);
    let mut client = Client::connect(server.port);
    for path in ["/_whirligig/loop", FRAMES, "/_whirligig/requests"] {
        for field in ["Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"] {
            client.ask("GET", path, &[field], b"").expect(403);
        }
        client.send(format!("GET {path} HTTP/1.1\r\nHost: attacker.example\r\n\r\n"));
        client.response().expect(403);
    }
    let mut local = UnixStream::connect(&socket).unwrap();
    local.write_all(&get(FRAMES)).unwrap();
    let hello = BufReader::new(local).lines().map_while(Result::ok).find(|line| line.starts_with("data: "));
    assert!(hello.unwrap().contains("whirligig-hello"));
    let hidden = Server::start("reactor", &docroot.root(), &["--no-loop-page"]);
    Client::connect(hidden.port).get("/_whirligig/loop").expect(404);
    let open = Server::start("reactor", &docroot.root(), &["--loop-page"]);
    Client::connect(open.port)
        .ask("GET", "/_whirligig/loop", &["X-Forwarded-For: 192.0.2.1"], b"")
        .expect(200);
}

#[test]
fn a_viewer_may_choose_the_loop_and_the_twin_has_none() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &["--reactors", "2"]);
    for number in 0..2 {
        let mut viewer = Viewer::ask(server.port, &format!("?loop={number}"));
        let (_, hello) = viewer.event();
        assert_eq!((&hello["loop"], &hello["loops"]), (&number.into(), &2.into()));
        viewer.frame();
    }
    let mut client = Client::connect(server.port);
    for query in ["?loop=2", "?loop=", "?loop=-1", "?all"] {
        let refused = client.get(&format!("{FRAMES}{query}")).expect(400);
        assert!(refused.text().contains("loop=0 to loop=1"), "{}", refused.text());
    }
    let listed = client.get("/_whirligig/requests").expect(200);
    let json: Value = serde_json::from_str(listed.text()).unwrap();
    assert_eq!(json["loops"].as_array().unwrap().len(), 2);
    let twin = Server::start("threads", &docroot.root(), &[]);
    let mut client = Client::connect(twin.port);
    for path in ["/_whirligig/loop", FRAMES, "/_whirligig/requests"] {
        assert!(client.get(path).expect(404).text().contains("--model threads"));
    }
}
