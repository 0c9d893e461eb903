//! Tests of the delays that wrong passwords cost.

use super::*;
use crate::conn_id::Peer;

fn v4(last: u8, port: u16) -> Peer {
    Peer::V4([192, 0, 2, last], port)
}

fn v6(text: &str) -> Peer {
    let ip: std::net::Ipv6Addr = text.parse().unwrap();
    Peer::from_addr((ip, 1).into())
}

fn start() -> Instant {
    crate::clock::read_clocks().mono
}

fn guesses() -> Guesses {
    Guesses::new(&Limits::default())
}

/// Delay in milliseconds; 0 for none, `None` for too many.
fn cost(guesses: &Guesses, peer: &Peer, now: Instant) -> Option<u128> {
    match guesses.note(Origin::of(peer), now) {
        Penalty::Nothing => Some(0),
        Penalty::Delay(delay) => Some(delay.due.duration_since(now).as_millis()),
        Penalty::TooMany => None,
    }
}

fn count(guesses: &Guesses, origin: Origin, now: Instant) -> u32 {
    Guesses::count(&mut lock(&guesses.entries), origin, now).failures
}

#[test]
fn five_wrong_passwords_are_free_and_then_the_delay_doubles_up_to_eight_seconds() {
    let (guesses, now) = (guesses(), start());
    let peer = v4(1, 1);
    let costs = |now: Instant, count: u16| -> Vec<u128> {
        // Each connection has another port.
        (0..count).map(|port| cost(&guesses, &v4(1, port), now).unwrap()).collect()
    };
    assert_eq!(costs(now, 13), [0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
    let nearly = now + AUTH_FORGOTTEN_AFTER - Duration::from_millis(1);
    assert_eq!(costs(nearly, 1), [8000], "a failure later than the last renews it");
    assert_eq!(costs(nearly + AUTH_FORGOTTEN_AFTER, 6), [0, 0, 0, 0, 0, 250]);
    assert_eq!(cost(&guesses, &v4(2, 1), now), Some(0), "another address");
    assert_eq!(delay_after(u32::MAX), Some(AUTH_DELAY_MAX));
    assert_eq!(peer.ip().map(|ip| ip.to_string()).as_deref(), Some("192.0.2.1"));
}

#[test]
fn addresses_of_one_host_are_counted_together() {
    let of = |text: &str| Origin::of(&v6(text));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:1:2:3"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:192.0.2.1"), Origin::of(&v4(1, 9)), "IPv4 over a dual-stack socket");
    assert_eq!(Origin::of(&Peer::Unix), Origin::of(&Peer::Unix));
    let (guesses, now) = (guesses(), start());
    for host in 0..5 {
        let peer = v6(&format!("2001:db8::{host:x}"));
        assert_eq!(cost(&guesses, &peer, now), Some(0));
    }
    assert_eq!(cost(&guesses, &v6("2001:db8::ffff"), now), Some(250));
}

#[test]
fn a_full_table_forgets_nobody_who_guesses() {
    let (guesses, now) = (guesses(), start());
    let origin = |number: usize| Origin::of(&Peer::V6(Box::new((((number as u128) << 64).to_be_bytes(), 1))));
    for _ in 0..20 {
        count(&guesses, origin(0), now);
    }
    let later = now + Duration::from_secs(1);
    for round in 1..=3 {
        for number in 1..10 * AUTH_ORIGINS_MAX {
            count(&guesses, origin(number), later);
        }
        assert_eq!(lock(&guesses.entries).len(), AUTH_ORIGINS_MAX);
        assert!(count(&guesses, origin(0), later) >= 20 + round, "no count is ever too low");
    }
    // A guesser that always uses new addresses is slowed down as well.
    assert!(count(&guesses, origin(usize::MAX), later) > AUTH_FAILURES_FREE);
    // Old failures are forgotten, and their entries become free.
    let last = later + AUTH_FORGOTTEN_AFTER;
    assert_eq!(count(&guesses, origin(usize::MAX - 1), last), 1);
    assert_eq!(cost(&guesses, &v4(1, 1), last), Some(0));
}

#[test]
fn refusals_that_wait_are_bounded_and_come_back() {
    let now = start();
    for (threads_max, most) in [(4096, AUTH_DELAYED_MAX), (40, 10), (2, 1)] {
        let guesses = Guesses::new(&Limits { threads_max, ..Limits::default() });
        let note = |number: usize| {
            // Spreads the refusals over several origins.
            let number = u8::try_from(number / AUTH_DELAYED_EACH_MAX).unwrap();
            guesses.note(Origin::of(&v4(number, 1)), now)
        };
        for number in 0..most + 2 {
            (0..AUTH_FAILURES_FREE).for_each(|_| drop(note(number)));
        }
        lock(&guesses.entries).iter_mut().for_each(|entry| entry.delays.clear());
        let mut waiting = Vec::new();
        for number in 0..most {
            let Penalty::Delay(delay) = note(number) else { panic!("{number} of {most}") };
            waiting.push(delay);
        }
        assert!(matches!(note(most), Penalty::TooMany));
        assert!(matches!(note(most), Penalty::TooMany), "and stays so");
        waiting.pop();
        assert!(matches!(note(most), Penalty::Delay(_)));
    }
}

/// Regression: a guesser that closed its connection instead of waiting escaped its delay.
#[test]
fn delays_stay_with_the_address_until_they_are_over() {
    let (guesses, now) = (guesses(), start());
    let peer = v4(5, 1);
    for number in 0..AUTH_FAILURES_FREE as usize + AUTH_DELAYED_EACH_MAX {
        // Every other client disconnects before its wrong password is detected, the rest after it.
        match number % 2 {
            0 => guesses.note_gone(Origin::of(&peer), now),
            _ => assert!(cost(&guesses, &peer, now).is_some(), "{number}"),
        }
    }
    assert_eq!(guesses.delayed.held(), 0, "nobody waits");
    assert_eq!(cost(&guesses, &peer, now), None);
    assert_eq!(cost(&guesses, &v4(6, 1), now), Some(0), "another address");
    let nearly = now + AUTH_DELAY_FIRST - Duration::from_millis(1);
    assert_eq!(cost(&guesses, &peer, nearly), None);
    // The first and shortest of them is over.
    assert_eq!(cost(&guesses, &peer, now + AUTH_DELAY_FIRST), Some(8000));
    assert_eq!(cost(&guesses, &peer, now + AUTH_DELAY_FIRST), None);
    assert_eq!(cost(&guesses, &peer, now + 2 * AUTH_DELAY_MAX), Some(8000));
}

#[test]
fn a_delayed_response_comes_when_it_is_due_and_once() {
    let (guesses, now) = (guesses(), start());
    let delayed = || {
        let note = |_| match guesses.note(Origin::of(&v4(4, 1)), now) {
            Penalty::Delay(delay) => Some(delay),
            Penalty::Nothing | Penalty::TooMany => None,
        };
        let delay = (0..=AUTH_FAILURES_FREE).find_map(note).expect("a delay");
        Arc::new(Delayed { due: delay.due, rest: Mutex::new(Some((Response::text(""), delay))) })
    };
    let one = delayed();
    let due = one.due;
    let early = Arc::clone(&one).advance(Ready::default(), due - Duration::from_nanos(1));
    assert!(early.done.is_none() && early.due == Some(due) && !early.is_over);
    let then = Arc::clone(&one).advance(Ready::default(), due);
    assert!(matches!(then.done, Some(Done::Finished(_))) && then.is_over);
    let again = Arc::clone(&one).advance(Ready::default(), due);
    assert!(again.done.is_none() && again.is_over);
    assert_eq!(guesses.delayed.held(), 0);
    let gone = delayed();
    assert_eq!(guesses.delayed.held(), 1);
    gone.abandon();
    assert_eq!(guesses.delayed.held(), 0);
    assert!(gone.advance(Ready::default(), now).is_over);
}
