//! The loop is driven over real sockets, and its trace shows why each step stopped. No test sleeps:
//! each waits for lines of the trace.
#![cfg(test)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program with its trace. It ends with the test.
struct Server {
    child: Child,
    address: SocketAddr,
    lines: Receiver<String>,
    /// The trace so far.
    trace: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let from = self.trace.len().saturating_sub(60);
            let _ = writeln!(io::stderr(), "end of the trace:\n{}", self.trace[from..].join("\n"));
        }
    }
}

impl Server {
    fn start() -> Server {
        Server::launch(Command::new(env!("CARGO_BIN_EXE_tiny_reactor")))
    }

    fn launch(mut command: Command) -> Server {
        command.env("TRACE", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        let address = url.trim().strip_prefix("http://").unwrap().parse().unwrap();
        let (sender, lines) = mpsc::channel();
        let trace = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || trace.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Server { child, address, lines, trace: Vec::new() }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }

    /// Waits for the next line that contains `text`, and returns it.
    fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line with '{text}'"));
            self.trace.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Number of lines so far that contain `text`.
    fn count(&self, text: &str) -> usize {
        self.trace.iter().filter(|line| line.contains(text)).count()
    }

    /// Types a line where the server runs: the result of the job that waits longest.
    fn type_line(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends a signal and waits until it has taken effect.
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
        while name == "STOP" && process_state(&id) != "T" {
            thread::yield_now();
        }
    }
}

/// Returns the state of a process as proc(5) has it: `T` for one that is stopped.
fn process_state(id: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap()[..1].to_owned()
}

/// The number of the turn that a line belongs to.
fn turn(line: &str) -> u64 {
    line.strip_prefix("turn ").unwrap().split(':').next().unwrap().parse().unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: tiny\r\n\r\n")
}

fn send(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).unwrap();
}

/// Reads until the received text ends with `end`.
fn receive(client: &mut TcpStream, end: &str) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with(end) {
        assert_eq!(client.read(&mut byte).unwrap(), 1, "the end after {text:?}");
        text.push(byte[0] as char);
    }
    text
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let mut server = Server::start();
    let mut client = server.connect();
    server.until("accept 0.1: slot 0, owner 1");
    server.until("accept: stopped by would-block");
    server.until("read 0.1: asked 4096, stopped by would-block"); // registration makes an event
    let head = get("/");
    for at in 0..head.len() {
        send(&mut client, &head[at..=at]);
        server.until("read 0.1: asked 4096 got 1");
        assert_eq!(server.count("request"), 0);
    }
    server.until("request 0.1: 200");
    let line = server.until("write 0.1: asked ");
    let bytes = receive(&mut client, "It turns.\n").len();
    assert!(line.ends_with(&format!("asked {bytes} got {bytes}")), "{line}");
    drop(client);
    server.until("read 0.1: asked 4096 got 0");
    server.until("close 0.1: end of input");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut server = Server::start();
    let mut client = server.connect();
    send(&mut client, &[get("/"), get("/slow"), get("/none"), "PUT / HTTP/1.1\r\n\r\n".into()].concat());
    receive(&mut client, "It turns.\n");
    server.until("request 0.1: 200");
    server.until("request 0.1: a job has this name");
    server.until("stopped by would-block");
    assert_eq!(server.count("request"), 2, "the requests behind the slow one wait");
    server.type_line("typed");
    server.until("result 0.1: 6 bytes");
    assert!(receive(&mut client, "typed\n").contains("\r\nContent-Length: 6\r\n"));
    receive(&mut client, "It turns.\n");
    assert!(receive(&mut client, "It turns.\n").starts_with("HTTP/1.1 405 "));
    server.until("request 0.1: 405");
    server.until("close 0.1: last response sent");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_result_for_a_client_that_left_does_not_reach_the_next_owner_of_its_slot() {
    let mut server = Server::start();
    let mut alice = server.connect();
    send(&mut alice, &get("/slow"));
    server.until("request 0.1: a job has this name");
    drop(alice);
    server.until("close 0.1: left before its response");
    let mut bob = server.connect();
    send(&mut bob, &get("/slow"));
    server.until("accept 0.2: slot 0, owner 2");
    server.until("request 0.2: a job has this name");
    server.type_line("for alice");
    server.until("result 0.1: 10 bytes, stale, slot 0 is 0.2, dropped");
    server.type_line("for bob");
    server.until("result 0.2: 8 bytes");
    let response = receive(&mut bob, "for bob\n");
    assert!(!response.contains("alice"), "{response}");

    // A result without an owner of the slot is stale, too.
    send(&mut bob, &get("/slow"));
    server.until("request 0.2: a job has this name");
    drop(bob);
    server.until("close 0.2: left before its response");
    server.type_line("for nobody");
    server.until("result 0.2: 11 bytes, stale, nobody has slot 0, dropped");
}

#[test]
fn a_slot_gets_a_new_owner_only_after_the_batch() {
    let mut server = Server::start();
    let (mut leaves, mut stays) = (server.connect(), server.connect());
    server.until("accept 1.1");
    for client in [&mut leaves, &mut stays] {
        send(client, &get("/"));
        receive(client, "It turns.\n");
    }
    // The stopped program finds three events in one batch: the listener, slots 0 and 1.
    server.signal("STOP");
    let _new = server.connect();
    drop(leaves);
    send(&mut stays, &get("/"));
    server.signal("CONT");
    let closed = server.until("close 0.1: end of input");
    let accepted = server.until("accept 0.2: slot 0, owner 2");
    assert_eq!(turn(&closed), turn(&accepted), "one batch");
    let this_turn = format!("turn {}:", turn(&closed));
    let last_event = server.trace.iter().rposition(|line| line.contains("read 1.1")).unwrap();
    assert!(server.trace[last_event].starts_with(&this_turn) && last_event < server.trace.len() - 1);
}

#[test]
fn a_client_that_does_not_read_waits_and_loses_nothing() {
    const REQUESTS: usize = 60_000;
    let mut server = Server::start();
    let mut client = server.connect();
    let mut sender = client.try_clone().unwrap();
    let sending = thread::spawn(move || {
        send(&mut sender, &get("/").repeat(REQUESTS));
        sender.shutdown(Shutdown::Write).unwrap(); // responses to a half-closed client arrive
    });
    server.until("write 0.1: asked ");
    while !server.until(", stopped by would-block").contains("write 0.1") {}
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    sending.join().unwrap();
    assert_eq!(text.matches("It turns.\n").count(), REQUESTS);
    server.until("close 0.1: end of input");
    let short = |line: &&String| {
        let (asked, got) = line.split_once("write 0.1: asked ")?.1.split_once(" got ")?;
        (asked != got).then_some(())
    };
    assert!(server.trace.iter().any(|line| short(&line).is_some()), "a short write");
}

#[test]
fn a_client_may_not_fill_the_memory_while_a_job_runs() {
    let mut server = Server::start();
    let mut client = server.connect();
    send(&mut client, &[get("/slow"), get("/").repeat(1000)].concat());
    server.until("read 0.1: stopped by full input");
    server.type_line("typed");
    for end in ["typed\n"].into_iter().chain(["It turns.\n"; 1000]) {
        receive(&mut client, end);
    }
    send(&mut client, &format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(9000)));
    receive(&mut client, "\r\n\r\n");
    server.until("request 0.1: 431");
    server.until("close 0.1");
}

#[test]
fn a_reset_closes_the_connection() {
    let mut server = Server::start();
    let mut client = server.connect();
    send(&mut client, &get("/"));
    server.until("write 0.1: asked ");
    client.peek(&mut [0]).unwrap();
    drop(client); // unread bytes make the kernel send a reset
    let closed = server.until("close 0.1: ");
    assert!(closed.contains("reset"), "{closed}");
}

#[test]
fn a_loop_without_descriptors_does_not_spin() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 16; exec \"$0\"", env!("CARGO_BIN_EXE_tiny_reactor")]);
    let mut server = Server::launch(command);
    let began = Instant::now();
    let mut clients: Vec<TcpStream> = (0..24).map(|_| server.connect()).collect();
    let first = turn(&server.until("accept: stopped until the next turn"));
    for _ in 0..3 {
        server.until("woken by the end of the pause");
        server.until("accept: stopped until the next turn");
    }
    assert!(began.elapsed() >= Duration::from_millis(290), "three pauses in {:?}", began.elapsed());
    let turns = turn(server.trace.last().unwrap()) - first;
    assert!(turns < 40, "{turns} turns for 24 connections and three pauses");
    // Each client that leaves makes room for one that waits.
    for mut client in clients.drain(..) {
        send(&mut client, &get("/"));
        receive(&mut client, "It turns.\n");
    }
    for _ in 0..24 {
        server.until("end of input");
    }
}
