//! Checks of stage 6: results of jobs that come when their client has left.

use crate::grader::sim::simulate;
use crate::grader::{Subject, Verdict, ensure};

pub fn a_slow_request_blocks_nobody(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let (alice, bob) = (sim.connect("alice")?, sim.connect("bob")?);
        sim.sends(alice, b"slow one\n");
        sim.settle()?;
        ensure(sim.world().jobs.len() == 1, "alice sent a slow request, and no job was started", "one job")?;
        sim.receives(alice, b"", "her job has not ended")?;
        sim.sends(bob, b"hello\n");
        sim.settle()?;
        sim.receives(bob, b"hello\n", "bob does not wait for the job of alice")?;
        sim.world().finish_job();
        sim.settle()?;
        sim.receives(alice, b"slow one\n", "her job has ended")
    })
}

pub fn a_late_result_does_not_reach_the_next_client(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        sim.sends(alice, b"slow: the secret of alice\n");
        sim.settle()?;
        sim.connection(alice).socket.client_resets();
        sim.settle()?;
        ensure(
            sim.is_closed(alice),
            "alice left while her job ran, and her connection is open",
            "a closed connection",
        )?;
        let bob = sim.connect("bob")?;
        sim.sends(bob, b"slow: a question of bob\n");
        sim.settle()?;
        sim.world().finish_job();
        sim.settle()?;
        let why = "alice left, and bob got her slot. The result of her job must not reach him. \
                   The number of a slot is no name, because it is used again";
        sim.receives(bob, b"", why)?;
        sim.world().finish_job();
        sim.settle()?;
        sim.receives(bob, b"slow: a question of bob\n", "the result of his own job")
    })
}

pub fn a_late_result_for_nobody_is_dropped(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        sim.sends(alice, b"slow\n");
        sim.settle()?;
        sim.connection(alice).socket.client_shuts();
        sim.settle()?;
        sim.world().finish_job();
        sim.settle()?; // nobody has the slot
        let bob = sim.connect("bob")?;
        sim.sends(bob, b"hello\n");
        sim.settle()?;
        sim.receives(bob, b"hello\n", "the result for alice was dropped, and the loop goes on")
    })
}

pub fn responses_keep_their_order(subject: &Subject) -> Verdict {
    simulate(subject, |sim| {
        let alice = sim.connect("alice")?;
        sim.sends(alice, b"one\nslow two\nthree\nslow four\nfive\n");
        sim.settle()?;
        sim.receives(
            alice,
            b"one\n",
            "the second request is slow, and the third one waits for its response",
        )?;
        sim.sends(alice, b"six\n");
        sim.settle()?;
        sim.receives(alice, b"", "the job has not ended. A request that comes meanwhile waits, too")?;
        sim.world().finish_job();
        sim.settle()?;
        sim.receives(
            alice,
            b"slow two\nthree\n",
            "no event comes for requests that wait in the input: deliver() serves the client",
        )?;
        sim.world().finish_job();
        sim.settle()?;
        sim.receives(alice, b"slow four\nfive\nsix\n", "the responses have the order of the requests")
    })
}
