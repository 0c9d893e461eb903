//! Counts the allocations of requests on a persistent connection. Promised requests allocate
//! nothing.
//!
//! A separate program, because the counter covers the whole process. The client only writes and
//! reads, with memory that is allocated before the counting begins.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue should panic with the reason")]

use std::alloc::System;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use tempfile::TempDir;
use whirligig::Server;
use whirligig::config::{Bind, Config, FileOptions, LogTarget, Model, TurnLines};
use whirligig::inside::docroot::Docroot;
use whirligig::inside::files::StaticFiles;
use whirligig::inside::log::{AccessLog, LogQueue, open_access_log};
use whirligig::{Answer, Context, Methods, Router};
use whirligig::{Body, Request, Response, Status};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Held by each test, because the counter covers all of them.
static ALONE: Mutex<()> = Mutex::new(());

const WARM_UP: usize = 200;
const REQUESTS: usize = 500;

/// Starts a server of this model in this process. It runs until the process ends.
fn serve(model: Model, root: &TempDir, log: Option<AccessLog>) -> u16 {
    let docroot = Arc::new(Docroot::open(root.path(), FileOptions::default()).unwrap());
    let get = Methods(&["GET"]);
    let router = Router::new().route("/static", get, constant).route("/made", get, made);
    let router = router.fallback(StaticFiles::new(docroot));
    // Signals belong to the process, and the process has two servers.
    let server = Server::builder().model(model).signals(false).wrap(|_| router).bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || match log {
        None => server.run(),
        Some(log) => server.run_logged(Some(&LogQueue::new(Some(log)))),
    });
    port
}

fn constant(_: &Request<'_>, _: &mut Context<'_>) -> Answer {
    Response::new(Status::OK).with_body(Body::Static(b"Hello, World!")).into()
}

/// A handler that allocates once, to check that the counter works.
fn made(_: &Request<'_>, _: &mut Context<'_>) -> Answer {
    Response::new(Status::OK).with_body(Body::Bytes(b"Hello, World!".to_vec())).into()
}

/// Sends a request (or a pipelined batch) `times` times, one after the other. The length of
/// `answer` is that of the responses to one batch.
fn ask(stream: &mut TcpStream, request: &[u8], answer: &mut [u8], times: usize) {
    for _ in 0..times {
        stream.write_all(request).unwrap();
        stream.read_exact(answer).unwrap();
    }
}

/// Counts the allocations of `REQUESTS` of these requests, after warm-up requests that do not
/// count.
fn allocations(port: u16, request: &str, batch: usize) -> Stats {
    let request = request.repeat(batch);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The first responses determine the length of all, because lengths do not change and Date has a
    // fixed length.
    let mut answer = vec![0; length_of(&mut stream, request.as_bytes(), batch)];
    ask(&mut stream, request.as_bytes(), &mut answer, WARM_UP);
    let region = Region::new(COUNTED);
    ask(&mut stream, request.as_bytes(), &mut answer, REQUESTS);
    region.change()
}

/// Returns the length of the responses to one batch.
fn length_of(stream: &mut TcpStream, request: &[u8], batch: usize) -> usize {
    stream.write_all(request).unwrap();
    let (mut got, mut answers) = (Vec::new(), 0);
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap();
        assert_ne!(count, 0, "closed: {}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&piece[..count]);
        answers = got.windows(9).filter(|window| window == b"HTTP/1.1 ").count().max(answers);
        if answers == batch && is_whole(&got) {
            return got.len();
        }
    }
}

/// Returns whether the last response in `got` is complete.
fn is_whole(got: &[u8]) -> bool {
    let text = String::from_utf8_lossy(got);
    let Some((_, last)) = text.rsplit_once("HTTP/1.1 ") else { return false };
    let Some((head, content)) = last.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    length.is_none_or(|length| content.len() == length.parse::<usize>().unwrap())
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nAccept: */*\r\n{fields}\r\n")
}

/// Waits until a file that was just written is old enough for the memory cache. On a fast machine,
/// the warm-up requests would end earlier, and each later request would read the file.
fn wait_until_old(path: &Path) {
    let settled = Duration::from_millis(100);
    while fs::metadata(path).unwrap().modified().unwrap().elapsed().is_ok_and(|age| age < settled) {
        thread::yield_now();
    }
}

#[test]
fn a_kept_alive_request_does_not_allocate() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("hello.txt"), "Hello, World!").unwrap();
    fs::write(root.path().join("1k.bin"), vec![b'x'; 1024]).unwrap();
    wait_until_old(&root.path().join("1k.bin"));
    for model in [Model::Reactor, Model::Threads] {
        let port = serve(model, &root, None);
        for (path, fields, batch) in [
            ("/hello.txt", "", 1),
            ("/1k.bin", "", 1),
            ("/hello.txt?query=1", "Cookie: a=b\r\nReferer: http://localhost/\r\n", 1),
            ("/hello.txt", "", 16),
            ("/static", "", 1),
        ] {
            let change = allocations(port, &get(path, fields), batch);
            let count = change.allocations + change.reallocations;
            assert_eq!(count, 0, "{model:?}: {path} x {batch}, {REQUESTS} times: {change:?}");
        }
        let change = allocations(port, &get("/made", ""), 1);
        assert!(change.allocations >= REQUESTS, "the counter misses allocations of a handler: {change:?}");

        // Log lines do not allocate either, except when a buffer of them is handed to the writer.
        let target = LogTarget::File(root.path().join(format!("{model:?}.log")));
        let port = serve(model, &root, Some(open_access_log(&target).unwrap()));
        let change = allocations(port, &get("/hello.txt", "Referer: http://localhost/\r\n"), 1);
        let count = change.allocations + change.reallocations;
        assert!(count < REQUESTS / 20, "{model:?}, with the access log, {REQUESTS} times: {change:?}");
    }
}

/// Runs the server on a thread while `test` uses its port, and waits for its end.
fn while_running(server: Server, test: impl FnOnce(u16)) {
    let (port, handle) = (server.local_addr().unwrap().port(), server.handle());
    let running = thread::spawn(move || server.run());
    test(port);
    handle.shutdown();
    running.join().unwrap().unwrap();
}

#[test]
fn a_turn_whose_operations_are_recorded_does_not_allocate() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("hello.txt"), "Hello, World!").unwrap();
    wait_until_old(&root.path().join("hello.txt"));
    // All steps are recorded as with `-vvv`, but no logger writes them.
    let mut config = Config::default();
    config.root = root.path().into();
    config.binds = vec![Bind::Ip(Ipv4Addr::LOCALHOST.into(), Some(0))];
    config.turn_lines = TurnLines::Steps;
    while_running(Server::bind(config).unwrap(), |port| {
        for batch in [1, 16] {
            let change = allocations(port, &get("/hello.txt", ""), batch);
            assert_eq!(change.allocations + change.reallocations, 0, "x {batch}: {change:?}");
        }
    });
}

/// Turns that may allocate for one frame: one makes it, one queues it for the viewer, and one may
/// send the rest of it.
const TURNS_OF_A_FRAME: usize = 3;

#[test]
#[expect(clippy::disallowed_methods, reason = "the number of frames depends on real time")]
fn a_viewer_makes_no_turn_allocate_but_those_of_frames() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::builder().signals(false).loop_page().fallback(constant).bind("127.0.0.1:0").unwrap();
    while_running(server, |port| {
        let mut viewer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        viewer.write_all(get("/_whirligig/loop/frames", "").as_bytes()).unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let received = Arc::clone(&seen);
        let mut room = vec![0; 1 << 16];
        // Ends when the server stops, which ends the frames.
        thread::spawn(move || {
            while let Ok(bytes @ 1..) = viewer.read(&mut room) {
                received.fetch_add(bytes, Ordering::Relaxed);
            }
        });
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = get("/static", "");
        let mut answer = vec![0; length_of(&mut stream, request.as_bytes(), 1)];
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            ask(&mut stream, request.as_bytes(), &mut answer, 1);
        }
        let before = seen.load(Ordering::Relaxed);
        let (began, mut turns, mut allocating) = (Instant::now(), 0, 0);
        while turns < 20 * REQUESTS || began.elapsed() < Duration::from_secs(1) {
            let region = Region::new(COUNTED);
            ask(&mut stream, request.as_bytes(), &mut answer, 1);
            let change = region.change();
            turns += 1;
            allocating += usize::from(change.allocations + change.reallocations > 0);
        }
        let frames = began.elapsed().as_millis() as usize / 100 + 1;
        assert!(seen.load(Ordering::Relaxed) > before, "the viewer receives no frames");
        assert!(
            allocating <= frames * TURNS_OF_A_FRAME,
            "{allocating} of {turns} turns allocate, with at most {frames} frames"
        );
    });
}
