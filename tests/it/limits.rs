//! Limits of a peer: time, memory, connections. Each test attacks one of them on purpose.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::docroot::{Docroot, HELLO, pattern};
use crate::harness::{Server, assert_took, now, on_both, until};
use crate::wire::{Client, get, request};

const MIB: u64 = 1024 * 1024;

/// A close may be this many seconds later than the timeout, but never earlier.
const LATE: f64 = 1.5;

#[test]
fn a_head_has_a_time_limit_that_single_bytes_do_not_extend() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--header-timeout", "0.4"]);
        for start in ["G", "GET /hello.txt HTTP/1.1\r\nHost: localhost\r\nX: "] {
            let since = now();
            let mut client = Client::connect(server.port);
            client.send(start);
            let got = client.response().expect(408);
            assert!(got.says_close() && !got.body.is_empty(), "{got:?}");
            client.assert_closed();
            assert_took("the 408", since, 0.39..0.4 + LATE);
        }

        let since = now();
        let mut client = Client::connect(server.port);
        client.send("GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n");
        while client.is_quiet_for(Duration::from_millis(50)) {
            client.send_if_open("X-Drip: drop\r\n");
        }
        assert_took("the 408 of a drip", since, 0.39..0.4 + LATE);
        client.response().expect(408);

        // From the second request on, the time counts from the first byte of its head.
        let mut client = Client::connect(server.port);
        client.get("/hello.txt").expect(200);
        assert!(client.is_quiet_for(Duration::from_millis(600)), "idle is not a slow head");
        let since = now();
        client.send("GET /hello.txt HTTP/1.1\r\n");
        client.response().expect(408);
        assert_took("the 408 of a second head", since, 0.39..0.4 + LATE);
    });
}

#[test]
fn a_silent_new_client_is_closed() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--header-timeout", "0.4"]);
        let since = now();
        let mut client = Client::connect(server.port);
        if let Ok(got) = client.try_response("GET") {
            got.expect(408);
        }
        assert_took("the close", since, 0.39..0.4 + LATE);
    });
}

#[test]
fn content_has_a_time_limit_that_progress_extends() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--body-timeout", "0.5"]);
        for field in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
            let mut client = Client::connect(server.port);
            let since = now();
            client.send(request("POST", "/api/echo", &[field], b""));
            client.send("5\r\nhel");
            let got = client.response().expect(408);
            assert!(got.says_close() && !got.body.is_empty(), "{got:?}");
            client.assert_closed();
            assert_took("the 408", since, 0.49..0.5 + LATE);
        }

        let content = pattern(1000);
        let mut client = Client::connect(server.port);
        client.send(request("POST", "/api/echo", &["Content-Length: 1000"], b""));
        let since = now();
        for piece in content.chunks(200) {
            assert!(client.is_quiet_for(Duration::from_millis(200)));
            client.send(piece);
        }
        client.response().expect(200).with_body(&content);
        assert_took("content in pieces", since, 0.99..10.0);
    });
}

/// Without a minimum rate, a byte now and then would count as progress and hold a connection for
/// ever.
#[test]
fn content_below_the_least_rate_is_cut_off() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--body-timeout", "0.5"]);
        let mut client = Client::connect(server.port);
        client.send(request("POST", "/api/echo", &["Content-Length: 1000"], b""));
        let since = now();
        while client.is_quiet_for(Duration::from_millis(100)) {
            client.send_if_open("x");
            assert!(now().duration_since(since).as_secs() < 8, "10 bytes per second must not be sufficient");
        }
        client.response().expect(408);
    });
}

#[test]
fn an_idle_connection_is_closed_without_a_response() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server =
            Server::start(model, &docroot.root(), &["--idle-timeout", "0.5", "--header-timeout", "5"]);
        let mut client = Client::connect(server.port);
        client.get("/hello.txt").expect(200);
        assert!(client.is_quiet_for(Duration::from_millis(300)));
        let since = now();
        client.get("/hello.txt").expect(200);
        client.assert_closed();
        assert_took("the close", since, 0.49..0.5 + LATE);
        // A longer header timeout must not extend the idle timeout after a request.
        let args = ["--idle-timeout", "0.5", "--header-timeout", "20", "--defer-accept", "0"];
        let server = Server::start(model, &docroot.root(), &args);
        let bare = server.descriptors();
        let mut client = Client::connect(server.port);
        until("the silent client is accepted", || server.descriptors() > bare);
        let since = now();
        client.get("/hello.txt").expect(200);
        client.assert_closed();
        assert_took("the close after a late request", since, 0.49..0.5 + LATE);
    });
}

#[test]
fn timeouts_can_be_switched_off() {
    let docroot = Docroot::new();
    on_both(|model| {
        let flags = [
            "--idle-timeout",
            "off",
            "--header-timeout",
            "off",
            "--body-timeout",
            "off",
            "--send-timeout",
            "off",
        ];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        client.send("GET /hello.txt HT");
        assert!(client.is_quiet_for(Duration::from_millis(500)));
        client.send("TP/1.1\r\nHost: localhost\r\n\r\n");
        client.response().expect(200).with_body(HELLO);
    });
}

#[test]
fn a_reader_that_stops_is_cut_off_and_a_slow_one_is_not() {
    let docroot = Docroot::new();
    let content = pattern(5 * MIB as usize);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--send-timeout", "0.6"]);
        // The descriptor of the file stays in the cache.
        let mut other = Client::connect(server.port);
        other.get("/m5.bin").expect(200).with_body(&content);
        let before = server.descriptors();
        let mut stalled = Client::connect_narrow(server.port);
        let since = now();
        stalled.send(get("/m5.bin"));
        until("the download holds descriptors", || server.descriptors() > before);
        until("the descriptors are closed", || server.descriptors() <= before);
        assert_took("the cut", since, 0.59..0.6 + LATE);
        let (taken, _) = stalled.rest();
        assert!(taken.len() < content.len(), "all {} bytes arrived", taken.len());

        // 100 KB every 100 ms: slow, but with progress.
        let mut slow = Client::connect_narrow(server.port);
        slow.send(get("/m5.bin"));
        let mut taken = Vec::new();
        for _ in 0..12 {
            while taken.len() % 100_000 < 90_000 {
                taken.extend(slow.read_some(10_000));
            }
            taken.extend(slow.read_some(10_000));
            crate::harness::pass(Duration::from_millis(100));
        }
        let end = 5 * MIB as usize + taken.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        while taken.len() < end {
            let piece = slow.read_some(end - taken.len());
            assert!(!piece.is_empty(), "ended after {} bytes", taken.len());
            taken.extend(piece);
        }
        assert!(taken.ends_with(&content), "the bytes differ from the file");
    });
}

#[test]
fn a_full_server_closes_the_idlest_connection() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &["--max-connections", "8"]);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(server.port)).collect();
    for client in &mut clients {
        client.get("/hello.txt").expect(200);
    }
    // No connection has been idle for a second: the ninth client waits until one has.
    let mut ninth = Client::connect(server.port);
    ninth.get("/hello.txt").expect(200).with_body(HELLO);
    let closed = clients
        .iter_mut()
        .filter_map(|client| client.is_quiet_for(Duration::from_millis(20)).then_some(()))
        .count();
    assert_eq!(closed, 7, "exactly one of the eight is closed");
    ninth.get("/hello.txt").expect(200);
}

#[test]
fn a_full_server_of_busy_clients_makes_new_ones_wait() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &["--max-connections", "8"]);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(server.port)).collect();
    for client in &mut clients {
        client.send("GET /hello.txt HTTP/1.1\r\n");
    }
    let mut ninth = Client::connect(server.port);
    ninth.send(get("/hello.txt"));
    assert!(ninth.is_quiet_for(Duration::from_millis(1500)), "no client is idle, so none may be closed");
    let before = server.cpu();
    assert!(ninth.is_quiet_for(Duration::from_millis(500)));
    assert!(server.cpu() - before < Duration::from_millis(100), "waiting costs nothing");
    clients[3].send("Host: localhost\r\nConnection: close\r\n\r\n");
    clients[3].response().expect(200);
    ninth.response().expect(200).with_body(HELLO);
    for (number, client) in clients.iter_mut().enumerate().filter(|(number, _)| *number != 3) {
        client.send("Host: localhost\r\n\r\n");
        assert_eq!(client.response().status, 200, "client {number}");
    }
}

/// The twin refuses or waits. In both cases it survives, and serves when there is room again.
#[test]
fn more_clients_than_threads_do_no_harm() {
    let docroot = Docroot::new();
    let mut server = Server::start("threads", &docroot.root(), &["--max-connections", "8"]);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(server.port)).collect();
    for client in &mut clients {
        client.get("/hello.txt").expect(200);
    }
    let mut more: Vec<Client> = (0..20).map(|_| Client::connect(server.port)).collect();
    for client in &mut more {
        client.send_if_open(get("/hello.txt"));
    }
    drop(clients);
    drop(more);
    until("there is room again", || {
        let mut client = Client::connect(server.port);
        client.send_if_open(get("/hello.txt"));
        client.try_response("GET").is_ok_and(|got| got.status == 200)
    });
    assert!(server.is_running());
}

/// Returns as much of a head as fits into the smallest buffer, with room for more bytes.
fn half_a_head() -> String {
    format!("GET /hello.txt HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(400))
}

/// Clients that send heads a few bytes at a time hold all memory for unfinished heads. A client
/// that sends complete requests must not notice.
#[test]
fn slow_senders_do_not_slow_other_clients() {
    const DRIPPERS: usize = 300;
    const REQUESTS: usize = 500;
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &["--max-pool", "64KiB"]);
    let mut drippers: Vec<Client> = (0..DRIPPERS).map(|_| Client::connect(server.port)).collect();
    for dripper in &mut drippers {
        dripper.send_if_open(half_a_head());
    }
    let mut healthy = Client::connect(server.port);
    // Other tests may load the machine. Noise only increases the time, so the best of three rounds
    // counts.
    let p99_us = (0..3).map(|_| {
        let mut latencies_us: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        for number in 0..REQUESTS {
            // If the server has closed a slow sender, another one replaces it, so that the pool
            // stays exhausted.
            let dripper = &mut drippers[number % DRIPPERS];
            if dripper.stream.write_all(b"x").is_err() {
                *dripper = Client::connect(server.port);
                dripper.send_if_open(half_a_head());
            }
            let since = now();
            healthy.get("/hello.txt").expect(200).with_body(HELLO);
            latencies_us.record(u64::try_from(now().duration_since(since).as_micros()).unwrap()).unwrap();
        }
        latencies_us.value_at_quantile(0.99)
    });
    let best_us = p99_us.min().unwrap();
    assert!(best_us < 10_000, "p99 of the healthy client: {best_us} us");
    // A request in two parts is normal too, and there must be room for its first half.
    healthy.send("GET /hello.txt HTTP/1.1\r\nHost: loc");
    assert!(healthy.is_quiet_for(Duration::from_millis(20)));
    healthy.send("alhost\r\n\r\n");
    healthy.response().expect(200).with_body(HELLO);
}

#[test]
fn a_client_that_does_not_read_costs_no_memory() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut control = Client::connect(server.port);
        control.get("/m5.bin").expect(200);
        let before = server.resident_bytes();
        let mut stalled: Vec<Client> = (0..10).map(|_| Client::connect_narrow(server.port)).collect();
        for client in &mut stalled {
            client.send(get("/m5.bin"));
            control.get("/hello.txt").expect(200);
        }
        assert!(control.is_quiet_for(Duration::from_millis(100)));
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < MIB, "{grown} bytes for ten clients that do not read");
    });
}

/// Endless requests without reading a response: the server must stop reading long before memory
/// runs out.
#[test]
fn a_pipeline_that_is_never_read_costs_no_memory() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut control = Client::connect(server.port);
        control.get("/k1.bin").expect(200);
        let before = server.resident_bytes();
        let mut flood = Client::connect_narrow(server.port);
        let mut sent = Vec::new();
        let batch = get("/k1.bin").repeat(100);
        flood.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let stopped = loop {
            match flood.stream.write(&batch[sent.len() % batch.len()..]) {
                Ok(count) => sent.resize(sent.len() + count, 0),
                Err(error) => break error.kind(),
            }
            assert!(sent.len() < 64 << 20, "the server reads requests without end");
        };
        assert!(matches!(stopped, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{stopped}");
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 2 * MIB, "{grown} bytes for {} bytes of requests", sent.len());
        control.get("/hello.txt").expect(200);
        // When the client finally reads, all responses arrive.
        let content = pattern(1024);
        for _ in 0..50 {
            flood.response().expect(200).with_body(&content);
        }
    });
}

/// Four clients have a thousand requests each in the server's buffers. Another client waits for one
/// turn, not for all of them.
#[test]
fn greedy_clients_do_not_slow_modest_ones() {
    const BATCH: usize = 1_000;
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &[]);
    let mut greedy: Vec<Client> = (0..4).map(|_| Client::connect(server.port)).collect();
    let batch = get("/hello.txt").repeat(BATCH);
    let mut modest = Client::connect(server.port);
    // Noise only increases the time, so the best of three counts here, too.
    let slowest = (0..3).map(|_| {
        let rounds = (0..5).map(|_| {
            for client in &mut greedy {
                client.send(&batch);
            }
            let since = now();
            modest.get("/hello.txt").expect(200);
            let took = now().duration_since(since);
            for client in &mut greedy {
                for _ in 0..BATCH {
                    client.response().expect(200);
                }
            }
            took
        });
        rounds.max().unwrap()
    });
    let best = slowest.min().unwrap();
    assert!(
        best < Duration::from_millis(20),
        "the slowest of five responses to the modest client took {best:?}"
    );
}

/// A client continues to send after a refusal without reading it. The server discards the bytes for
/// a while, then closes. The twin once read nothing any more, so nothing woke its thread at the
/// deadline, and it spun.
#[test]
fn a_refused_client_that_keeps_sending_is_closed() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for more in ["", "Connection: close\r\n"] {
            let since = now();
            let mut client = Client::connect(server.port);
            let head = "POST /hello.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n";
            client.send(format!("{head}{more}\r\n"));
            client.send_if_open(pattern(10_000_000));
            assert_took("the end of the sending", since, 0.0..2.0 + LATE);
        }
        let spent = server.cpu();
        assert!(spent < Duration::from_millis(500), "{spent:?} for dropping a MiB");
    });
}
