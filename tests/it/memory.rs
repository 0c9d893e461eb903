//! Memory and processor time of idle connections.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::docroot::Docroot;
use crate::harness::{PATIENCE, Server, skipped};
use crate::wire::{Client, get};

/// Number of connections of the documented limit.
const CONNECTIONS: u64 = 10_000;
/// Descriptors for everything else, in the test and in the server.
const RESERVE: u64 = 600;
const BYTES_EACH_MAX: u64 = 200;
/// Processor time per second that still counts as none. Less than one wake-up of a millisecond.
const IDLE_CPU: Duration = Duration::from_millis(1);

/// Reads one response and discards it.
fn take_answer(stream: &mut TcpStream) {
    let mut answer = [0; 1024];
    let mut taken = 0;
    while !answer[..taken].ends_with(crate::docroot::HELLO) {
        match stream.read(&mut answer[taken..]) {
            Ok(count @ 1..) => taken += count,
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&answer[..taken])),
        }
    }
}

fn open(port: u16, count: u64) -> Vec<TcpStream> {
    let mut open = Vec::new();
    while (open.len() as u64) < count {
        let mut batch: Vec<TcpStream> = (0..100)
            .map(|_| {
                let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream
            })
            .collect();
        for stream in &mut batch {
            stream.write_all(&get("/hello.txt")).unwrap();
        }
        for stream in &mut batch {
            take_answer(stream);
        }
        open.append(&mut batch);
    }
    open
}

#[test]
fn an_idle_connection_costs_at_most_200_bytes_and_no_time() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = CONNECTIONS.min(allowed.saturating_sub(RESERVE)) / 100 * 100;
    if count < CONNECTIONS {
        skipped(format_args!(
            "{CONNECTIONS} idle connections; the descriptor limit of {allowed} leaves {count}"
        ));
    }

    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &["--idle-timeout", "120"]);
    let mut control = Client::connect(server.port);
    control.get("/hello.txt").expect(200);
    // The first hundred connections have extra costs: code is paged in, and tables get their first
    // size.
    drop(open(server.port, 100));
    control.get("/hello.txt").expect(200);
    let before = server.resident_bytes();
    let mut streams = open(server.port, count);
    let grown = server.resident_bytes().saturating_sub(before);
    let each = grown / count;
    assert!(each <= BYTES_EACH_MAX, "{each} bytes for each of {count} idle connections, {grown} in all");

    // In one of three seconds the loop may check its deadlines, but not in every second.
    let spent = (0..3).map(|_| {
        let before = server.cpu();
        assert!(control.is_quiet_for(Duration::from_secs(1)));
        server.cpu() - before
    });
    let least = spent.min().unwrap();
    assert!(least < IDLE_CPU, "{least:?} of processor time in a second of {count} idle connections");

    // All connections are still open and served.
    for stream in streams.iter_mut().step_by(97) {
        stream.write_all(&get("/hello.txt")).unwrap();
        take_answer(stream);
    }
    for stream in &streams {
        stream.set_nonblocking(true).unwrap();
        let silent = stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(silent, "closed, or received bytes without a request");
    }
}

/// After much traffic, a connection costs as little as an unused one.
#[test]
fn buffers_are_returned() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &[]);
    let content = crate::docroot::pattern(60_000);
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(server.port)).collect();
    for client in &mut clients {
        client.get("/hello.txt").expect(200);
    }
    let mut all = || {
        for client in &mut clients {
            client.ask("POST", "/api/echo", &[], &content).expect(200).with_body(&content);
            let head = format!("GET /hello.txt HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n", "x".repeat(20_000));
            client.send(head);
            assert!(client.is_quiet_for(Duration::from_micros(100)));
            client.send("\r\n");
            client.response().expect(200);
        }
    };
    all();
    let before = server.resident_bytes();
    all();
    all();
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 512 * 1024, "{grown} bytes more after the same work again");
}
