//! Checks of stage 8: no client gets more than its budget, and no request is forgotten.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use crate::grader::server::Server;
use crate::grader::sim::simulate;
use crate::grader::{Subject, Verdict, ensure, lesson};

/// The budget of the stage.
const REQUESTS_PER_TURN: usize = 16;

pub fn a_client_with_many_requests_delays_nobody(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let (alice, bob) = (sim.connect("alice")?, sim.connect("bob")?);
        sim.sends(alice, &b"a\n".repeat(5000));
        sim.sends(bob, b"b\n");
        sim.turn()?;
        let count = sim.takes(alice).len() / 2;
        let what = format!(
            "alice sent 5000 requests at once, and {count} of them were answered before bob's only one"
        );
        ensure(count <= REQUESTS_PER_TURN, what, "at most 16 in one turn, then the others get theirs")?;
        ensure(count > 0, "alice received nothing in this turn", "up to 16 responses")?;
        sim.receives(bob, b"b\n", "bob is served in the same turn")
    })
}

pub fn work_that_is_left_needs_no_event(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let (alice, bob) = (sim.connect("alice")?, sim.connect("bob")?);
        sim.sends(alice, &b"a\n".repeat(1000));
        sim.settle()?;
        let count = sim.takes(alice).len() / 2;
        let what =
            format!("alice sent 1000 requests at once, received {count} responses, and the loop waits");
        let why = "1000. Her bytes are read, so no event will come for her. The loop remembers her, and its poll does not wait";
        ensure(count == 1000, what, why)?;
        // An event for a carried client, its end, and a new owner of its slot.
        sim.sends(alice, &b"a\n".repeat(100));
        sim.turn()?;
        sim.sends(alice, &b"a\n".repeat(100));
        sim.turn()?;
        let turns = sim.takes(alice).len() / 2;
        let what = format!("alice had {turns} requests answered in two turns");
        ensure(
            turns <= 2 * REQUESTS_PER_TURN,
            what,
            "at most 32: an event does not renew the budget of a turn",
        )?;
        sim.connection(alice).socket.client_resets();
        sim.sends(bob, b"b\n");
        sim.settle()?;
        sim.receives(bob, b"b\n", "alice left while she was carried, and the loop goes on")
    })
}

pub fn an_answered_client_is_not_carried(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        for count in [15, 16, 17, 32, 100] {
            sim.sends(alice, &b"a\n".repeat(count));
            sim.settle()?;
            sim.receives(alice, &b"a\n".repeat(count), "one response for each request")?;
            let timeout = sim.world().timeout;
            let what =
                format!("after {count} requests nothing is left, and the poll has the timeout {timeout:?}");
            ensure(timeout != Some(Duration::ZERO), what, "a poll that waits")?;
        }
        // A client out of budget that takes nothing waits for an event, not in the carried list.
        let bob = sim.connect_with("bob", 100)?;
        for _ in 0..20 {
            sim.connection(bob).socket.client_sends(&b"b\n".repeat(50));
            sim.settle()?;
        }
        sim.pass(Duration::from_secs(20))?;
        ensure(
            sim.is_closed(bob),
            "bob took nothing for 20 s, and he is still connected",
            "a closed connection",
        )
    })
}

pub fn it_works_with_real_sockets(subject: &Subject) -> Verdict {
    const LINES: usize = 40_000;
    let server = Server::start(subject)?;
    let (mut alice, mut bob) = (server.connect("alice")?, server.connect("bob")?);
    // Alice sends more than sockets hold, and takes nothing before bob has his response.
    let lines = format!("{}\n", "x".repeat(99)).repeat(LINES);
    let mut sender = alice.sender().map_err(|error| lesson(error.to_string(), "a second handle"))?;
    let sent = lines.clone();
    let sending = thread::spawn(move || sender.write_all(sent.as_bytes()));
    bob.send("GET /bob HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nYou requested /bob\n";
    bob.expect(response, "alice sends 4 MB and takes nothing, and bob is served")?;
    alice.expect(&lines, "all her lines, in order")?;
    let sent = sending.join().is_ok_and(|sent| sent.is_ok());
    ensure(sent, "alice could not send all her lines", "an open connection")?;
    bob.echoes("hello\n", "the loop goes on")?;
    bob.leaves("a closed connection, because the client has ended its side")
}
