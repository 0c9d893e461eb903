//! Server-sent events: a thousand listeners receive each event, and a listener that does not read
//! delays no other.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use whirligig::FeedOptions;
use whirligig::Outcome;
use whirligig::{Feed, Response};

use crate::examples;
use crate::harness::{MODELS, PATIENCE, now, on_both, pass, until};
use crate::library::InProcess;
use crate::wire::{Client, request};

/// Reads the head of an event stream, up to its first comment.
fn begin(client: &mut Client, fields: &[&str]) -> String {
    client.send(request("GET", "/events", fields, b""));
    read_until(client, String::new(), |text| text.contains(":\n\n"))
}

/// Reads until the received text is sufficient.
fn read_until(client: &mut Client, mut text: String, is_enough: impl Fn(&str) -> bool) -> String {
    let give_up = now() + PATIENCE;
    while !is_enough(&text) {
        assert!(now() < give_up, "not enough: {text}");
        let piece = client.read_some(64 * 1024);
        assert!(!piece.is_empty(), "the stream ended after: {text}");
        text += &String::from_utf8_lossy(&piece);
    }
    text
}

fn server(model: &str, options: FeedOptions) -> (InProcess, Feed) {
    let feed = Feed::with_options(options);
    let told = feed.clone();
    let builder = whirligig::Server::builder().get("/events", move |call| Response::events(told.join(call)));
    (InProcess::start(model, builder), feed)
}

#[test]
fn events_arrive_in_order_and_missed_ones_are_repeated() {
    on_both(|model| {
        let (server, feed) = server(model, FeedOptions::default());
        let mut client = Client::connect(server.port);
        let head = begin(&mut client, &["Accept: text/event-stream"]);
        assert!(
            head.contains("Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"),
            "{head}"
        );
        feed.send("one\ntwo");
        let text = read_until(&mut client, String::new(), |text| text.contains("data: one\ndata: two\n\n"));
        let id = text.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
        drop(client);
        until("no listener is left", || {
            feed.send("missed");
            feed.listeners() == 0
        });
        let mut client = Client::connect(server.port);
        let text = begin(&mut client, &[&format!("Last-Event-ID: {id}")]);
        let text = read_until(&mut client, text, |text| text.contains("data: missed"));
        assert!(!text.contains("data: one"));
        // Over HTTP/1.0 there are no chunks, and the body ends with the connection.
        let mut old = Client::connect(server.port);
        old.send("GET /events HTTP/1.0\r\n\r\n");
        read_until(&mut old, String::new(), |text| text.ends_with("\r\n\r\n:\n\n"));
        feed.close();
        read_until(&mut client, String::new(), |text| text.ends_with("0\r\n\r\n"));
        old.rest();
        assert_eq!(server.stop(), Outcome::Stopped);
    });
}

#[test]
fn a_graceful_stop_ends_listeners() {
    on_both(|model| {
        let (server, _feed) = server(model, FeedOptions::default());
        let mut client = Client::connect(server.port);
        begin(&mut client, &[]);
        assert_eq!(server.stop(), Outcome::Stopped, "a graceful stop cuts off no client");
        assert!(client.rest().0.ends_with(b"0\r\n\r\n"));
    });
}

#[test]
fn comments_reveal_listeners_that_left() {
    on_both(|model| {
        let mut options = FeedOptions::default();
        options.heartbeat = Duration::from_millis(20);
        let (server, feed) = server(model, options);
        let mut client = Client::connect(server.port);
        begin(&mut client, &[]);
        read_until(&mut client, String::new(), |text| text.matches(":\n\n").count() > 2);
        drop(client);
        until("the feed notices", || feed.listeners() == 0);
    });
}

#[test]
fn a_stuck_listener_is_dropped_at_its_limit_and_delays_no_other() {
    on_both(|model| {
        let (server, feed) = server(model, FeedOptions::default());
        let mut stuck = Client::connect_narrow(server.port);
        begin(&mut stuck, &[]);
        let mut lively: Vec<Client> = (0..10).map(|_| Client::connect(server.port)).collect();
        for client in &mut lively {
            begin(client, &[]);
        }
        let large = "x".repeat(4096);
        let mut slowest = Duration::ZERO;
        let mut told = 0;
        while feed.dropped() == 0 {
            assert!(told < 1000, "the stuck listener is dropped after about 4 MB at the latest");
            let began = now();
            feed.send(&format!("{large} {told}."));
            for client in &mut lively {
                read_until(client, String::new(), |text| text.contains(&format!(" {told}.\n\n")));
            }
            slowest = slowest.max(now() - began);
            told += 1;
        }
        assert_eq!((feed.listeners(), feed.dropped()), (10, 1));
        assert!(told > 16, "64 KiB may be queued: {told}");
        assert!(
            slowest < Duration::from_secs(1),
            "all others must receive events at once, not after {slowest:?}"
        );
        // Data in transit still arrives. Then the body ends without a last chunk, so the page
        // notices the error and reconnects.
        let (rest, _) = stuck.rest();
        assert!(!rest.ends_with(b"0\r\n\r\n"));
    });
}

const LISTENERS: usize = 1000;

#[test]
fn a_thousand_listeners_receive_each_event_in_constant_memory() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let server = examples::start("sse_clock", MODELS[0], &["100"]);
    let mut listeners: Vec<(TcpStream, String)> = (0..LISTENERS)
        .map(|_| {
            let mut client = Client::connect(server.port);
            client.send(request("GET", "/time", &[], b""));
            client.stream.set_nonblocking(true).unwrap();
            (client.stream, String::new())
        })
        .collect();
    // Waits until all listeners have `count` more events than before, without a gap.
    let mut hear = |count: usize| {
        let give_up = now() + PATIENCE * 3;
        let mut piece = [0; 16 * 1024];
        loop {
            let mut behind = 0;
            for (stream, text) in &mut listeners {
                match stream.read(&mut piece) {
                    Ok(0) => panic!("a listener was cut off after: {text}"),
                    Ok(bytes) => *text += &String::from_utf8_lossy(&piece[..bytes]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                behind += usize::from(text.matches("\n\n").count() < count + 1);
            }
            if behind == 0 {
                break;
            }
            assert!(now() < give_up, "{behind} have not received {count} events");
            pass(Duration::from_millis(5));
        }
        for (_, text) in &mut listeners {
            let ids = text
                .lines()
                .filter_map(|line| line.strip_prefix("id: ")?.rsplit('-').next()?.parse::<u64>().ok());
            let ids: Vec<u64> = ids.collect();
            assert!(ids.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{ids:?}");
            // The last event counts for the next round.
            let last = text.rfind("id: ").map_or(String::new(), |at| text[at..].to_owned());
            *text = last;
        }
    };
    hear(5);
    let before = server.resident_bytes();
    hear(30);
    let after = server.resident_bytes();
    assert!(
        after < before + (1 << 20),
        "{LISTENERS} listeners: {before} bytes before 30 events, {after} after"
    );
}
