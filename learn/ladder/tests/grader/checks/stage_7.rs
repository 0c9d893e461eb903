//! Checks of stage 7: the clock moves only in a poll, so ten seconds take no time.

use std::time::Duration;

use crate::grader::sim::{CAPACITY, simulate};
use crate::grader::{Subject, Verdict, ensure};

/// The timeout of the stage, and times around it.
const TIMEOUT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(10);

const CLOSED: &str = "a closed connection: 10 s have passed without a step of the client";

pub fn a_silent_client_is_given_up(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        sim.pass(TIMEOUT)?;
        let alice = sim.connect("alice")?;
        sim.pass(TIMEOUT - MOMENT)?;
        ensure(!sim.is_closed(alice), "alice was closed before 10 s had passed", "an open connection")?;
        let turns = sim.pass(2 * MOMENT)?;
        let what = format!(
            "alice was silent for 10 s and is still connected. The last poll had the timeout {:?}",
            sim.world().timeout
        );
        let why = "a closed connection. Without an event only the timeout of the poll can end its wait";
        ensure(sim.is_closed(alice), what, why)?;
        ensure(turns <= 3, format!("the loop ran {turns} turns for one deadline"), "at most 3")?;
        let turns = sim.pass(1000 * SECOND)?;
        let what = format!("without any client the loop ran {turns} turns in 1000 s");
        ensure(turns <= 3, what, "none: no client is connected, so no deadline can come")
    })
}

pub fn bytes_of_half_a_request_do_not_count(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        for _ in 0..9 {
            sim.pass(SECOND)?;
            sim.sends(alice, b"x");
        }
        sim.pass(SECOND + MOMENT)?;
        let why = "a closed connection. Bytes are no step before they make a whole request, or a client could hold its slot for ever";
        ensure(
            sim.is_closed(alice),
            "alice sent a byte each second for 10 s, and she is still connected",
            why,
        )
    })
}

pub fn an_active_client_stays(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let (alice, bob) = (sim.connect("alice")?, sim.connect("bob")?);
        for round in 0..10 {
            sim.pass(6 * SECOND)?;
            sim.sends(alice, b"hello\n");
            sim.settle()?;
            let why = format!(
                "alice has sent a request every 6 s, this one after {} s. Her entry in the heap is early, and she stays",
                6 * (round + 1)
            );
            sim.receives(alice, b"hello\n", &why)?;
        }
        ensure(sim.is_closed(bob), "bob was silent for a minute, and he is still connected", CLOSED)?;
        sim.pass(TIMEOUT + MOMENT)?;
        ensure(sim.is_closed(alice), "then alice was silent for 10 s, and she is still connected", CLOSED)
    })
}

pub fn a_deadline_does_not_hit_the_next_client(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        sim.pass(9 * SECOND)?;
        sim.connection(alice).socket.client_shuts();
        sim.settle()?;
        let bob = sim.connect("bob")?; // in her slot
        sim.pass(2 * SECOND)?;
        let what = "bob was closed 2 s after he had connected, by the deadline of alice, who had the slot before him";
        ensure(!sim.is_closed(bob), what, "an open connection: the entry names alice, and she has left")?;
        sim.pass(8 * SECOND + MOMENT)?;
        ensure(sim.is_closed(bob), "bob was silent for 10 s, and he is still connected", CLOSED)
    })
}

pub fn bytes_that_came_in_time_count(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        sim.pass(TIMEOUT - MOMENT)?;
        // The loop was busy elsewhere: the next poll returns after the deadline, with the bytes.
        sim.sends(alice, b"in time\n");
        let late = sim.world().now + 2 * MOMENT;
        (sim.world().now, sim.world().until) = (late, late);
        sim.settle()?;
        sim.receives(
            alice,
            b"in time\n",
            "her bytes came before the deadline, so events go before deadlines",
        )?;
        sim.sends(alice, b"slow\n");
        sim.settle()?;
        sim.pass(TIMEOUT - MOMENT)?;
        sim.world().finish_job();
        sim.settle()?;
        sim.receives(alice, b"slow\n", "the job took less than 10 s")?;
        sim.pass(TIMEOUT - MOMENT)?;
        ensure(
            !sim.is_closed(alice),
            "alice was closed less than 10 s after the result of her job",
            "an open connection: the bytes of her response are a step",
        )
    })
}

pub fn a_client_that_takes_nothing_is_given_up(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect_with("alice", 1000)?;
        for _ in 0..2 {
            sim.connection(alice).socket.client_sends(format!("{}\n", "x".repeat(99)).repeat(10).as_bytes());
            sim.settle()?;
        }
        sim.pass(TIMEOUT - SECOND)?;
        let took = sim.connection(alice).socket.client_takes(600).len();
        sim.pass(2 * SECOND)?;
        ensure(
            !sim.is_closed(alice),
            format!("alice took {took} bytes after 9 s, and was closed 2 s later"),
            "an open connection: bytes that the client takes are a step",
        )?;
        sim.pass(TIMEOUT)?;
        ensure(sim.is_closed(alice), "alice took nothing for 10 s, and she is still connected", CLOSED)?;
        let bob = sim.connect_with("bob", CAPACITY)?;
        sim.sends(bob, b"hello\n");
        sim.settle()?;
        sim.receives(bob, b"hello\n", "the loop goes on")
    })
}
