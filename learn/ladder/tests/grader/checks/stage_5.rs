//! Checks of stage 5: a socket takes what it has room for.

use crate::grader::sim::{CAPACITY, simulate};
use crate::grader::{Subject, Verdict, ensure};

/// So many lines of 100 bytes, each with its number.
fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| format!("{number:099}\n").into_bytes()).collect()
}

pub fn a_slow_reader_gets_every_byte(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect_with("alice", 1000)?;
        let sent = lines(50);
        let mut got = Vec::new();
        // Alice sends as much as fits, and takes 300 bytes at a time.
        let mut rest = &sent[..];
        for _ in 0..200 {
            let count = sim.connection(alice).socket.client_sends(rest);
            rest = &rest[count..];
            sim.settle()?;
            got.extend(sim.connection(alice).socket.client_takes(300));
        }
        let same = got.iter().zip(&sent).take_while(|(got, sent)| got == sent).count();
        let what = format!(
            "alice sent {} bytes and took the responses slowly. She received {}, of which {same} were right",
            sent.len(),
            got.len()
        );
        let why = "every byte, once and in order. A write takes what the socket has room for, and the rest waits in the client";
        ensure(got == sent, what, why)
    })
}

pub fn room_for_more_is_an_event(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        sim.connection(alice).refused_writes = 1;
        sim.sends(alice, b"one\n");
        sim.settle()?;
        let why = "the write would block, and an event reported room for it later. \
                   Only a socket that is registered for WRITABLE gets this event";
        sim.receives(alice, b"one\n", why)?;
        sim.connection(alice).interrupts = 2;
        sim.connection(alice).write_max = 3;
        sim.sends(alice, b"in pieces\n");
        sim.settle()?;
        sim.receives(
            alice,
            b"in pieces\n",
            "each write took three bytes. The socket still has room, so no event comes",
        )
    })
}

pub fn a_client_that_reads_nothing_is_not_read(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        const ROUNDS: usize = 200;
        const MOST: usize = 2 * CAPACITY + 16_384;
        let alice = sim.connect("alice")?;
        let piece = lines(100);
        for _ in 0..ROUNDS {
            sim.connection(alice).socket.client_sends(&piece);
            sim.settle()?;
        }
        let read = sim.connection(alice).bytes_read;
        let what = format!(
            "alice took no response, and the server read {read} bytes of her requests and kept the responses"
        );
        let why =
            "no reads while her output waits. Then her requests remain in the kernel, and TCP makes her wait";
        ensure(read <= MOST, what, why)
    })
}

pub fn a_slow_reader_delays_nobody(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect_with("alice", 1000)?;
        let bob = sim.connect("bob")?;
        for _ in 0..5 {
            sim.connection(alice).socket.client_sends(&lines(10));
            sim.settle()?;
        }
        sim.sends(bob, b"hello\n");
        sim.settle()?;
        sim.receives(bob, b"hello\n", "alice takes nothing, and the loop must not wait for her")
    })
}

pub fn a_client_that_ends_its_side_gets_its_responses(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect_with("alice", 1000)?;
        let sent = lines(10);
        sim.sends(alice, &sent);
        sim.settle()?;
        sim.sends(alice, &sent);
        sim.connection(alice).socket.client_shuts();
        let mut got = Vec::new();
        for _ in 0..20 {
            sim.settle()?;
            got.extend(sim.connection(alice).socket.client_takes(300));
        }
        let what = format!("alice sent 2000 bytes, ended her side, and received {} bytes", got.len());
        ensure(
            got == [&sent[..], &sent[..]].concat(),
            what,
            "2000 bytes: the end of input does not end the output",
        )?;
        ensure(
            sim.is_closed(alice),
            "alice has everything, and her connection is open",
            "a closed connection",
        )
    })
}
