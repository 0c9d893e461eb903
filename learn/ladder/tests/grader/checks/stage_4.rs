//! Checks of stage 4: reads return what has arrived, and nothing else.

use crate::grader::sim::simulate;
use crate::grader::{Subject, Verdict, ensure};

pub fn a_request_in_pieces_gets_one_response(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        for at in 0..b"hello".len() {
            sim.sends(alice, &b"hello"[at..=at]);
            sim.settle()?;
        }
        let why = "the line has not ended, so it is no request yet. Its bytes wait in the client";
        sim.receives(alice, b"", why)?;
        sim.sends(alice, b"\n");
        sim.settle()?;
        sim.receives(alice, b"hello\n", "the line has ended. Its pieces came with six events")?;
        let head = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        let (first, second) = head.split_at(20);
        sim.sends(alice, first.as_bytes());
        sim.settle()?;
        sim.receives(alice, b"", "the head of an HTTP request ends with an empty line")?;
        sim.sends(alice, second.as_bytes());
        sim.settle()?;
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nYou requested /a\n";
        sim.receives(alice, response, "the head has ended")
    })
}

pub fn requests_in_one_piece_get_one_response_each(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        sim.sends(alice, b"one\ntwo\nthr");
        sim.settle()?;
        let why =
            "two requests came in one piece, and a part of the third. first_request() returns one at a time";
        sim.receives(alice, b"one\ntwo\n", why)?;
        sim.sends(alice, b"ee\n");
        sim.settle()?;
        sim.receives(alice, b"three\n", "the part of the third request was kept")
    })
}

pub fn one_event_may_stand_for_many_reads(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        let lines = format!("{}\n", "x".repeat(99)).repeat(120);
        sim.sends(alice, lines.as_bytes());
        sim.settle()?;
        let why = "12,000 bytes came with one event, and no further event will report the rest. \
                   A read gets at most 4096 of them, so it is repeated until it would block";
        sim.receives(alice, lines.as_bytes(), why)?;
        sim.connection(alice).read_max = 7;
        sim.sends(alice, b"short reads\nshort reads\n");
        sim.settle()?;
        let why = "each read returned seven bytes. A short read is not the end";
        sim.receives(alice, b"short reads\nshort reads\n", why)
    })
}

pub fn a_signal_may_interrupt_a_read(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        sim.connection(alice).interrupts = 1;
        sim.sends(alice, b"hello\n");
        sim.settle()?;
        let why = "a signal interrupted the read. That is no error of the client, so the read is repeated";
        sim.receives(alice, b"hello\n", why)?;
        // An event without a reason.
        sim.connection(alice).socket.report_spuriously();
        sim.settle()?;
        sim.sends(alice, b"again\n");
        sim.settle()?;
        sim.receives(
            alice,
            b"again\n",
            "an event came without a reason: the read would block, and nothing else happens",
        )
    })
}

pub fn a_client_that_leaves_is_closed(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let (alice, bob) = (sim.connect("alice")?, sim.connect("bob")?);
        sim.sends(alice, b"last words\nhalf");
        sim.connection(alice).socket.client_shuts();
        sim.settle()?;
        let got = sim.takes(alice);
        ensure(
            got == b"last words\n",
            format!("alice received {got:?}"),
            "her whole request came before the end of input, so it has a response",
        )?;
        ensure(
            sim.is_closed(alice),
            "alice ended her side, and her connection is open",
            "a closed connection, because a read returned 0",
        )?;
        sim.connection(bob).socket.client_resets();
        sim.settle()?;
        ensure(
            sim.is_closed(bob),
            "bob reset his connection, and it is open",
            "a closed connection, because a read returned an error",
        )?;
        let carol = sim.connect("carol")?;
        sim.sends(carol, b"hello\n");
        sim.settle()?;
        sim.receives(carol, b"hello\n", "the loop goes on")
    })
}

pub fn a_request_without_end_is_given_up(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        for _ in 0..100 {
            if sim.is_closed(alice) {
                return Ok(());
            }
            sim.sends(alice, &[b'x'; 1000]);
            sim.settle()?;
        }
        ensure(
            false,
            "alice sent 100,000 bytes without the end of a line, and the server kept them all",
            "a closed connection: the input of a client has a limit, REQUEST_BYTES_MAX",
        )
    })
}
