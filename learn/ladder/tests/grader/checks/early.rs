//! Checks of stages 1 to 3: real sockets on loopback.

use std::thread;
use std::time::Duration;

use crate::grader::server::Server;
use crate::grader::{Subject, Verdict, ensure, lesson};

pub fn a_client_gets_back_what_it_sends(subject: &Subject) -> Verdict {
    let server = Server::start(subject)?;
    let mut alice = server.connect("alice")?;
    alice.echoes("hello\n", "the server sends back what it receives")?;
    let why = "a client may send more than once, so the server reads again, until a read returns 0";
    alice.echoes("and again\n", why)?;
    alice.leaves("a closed connection: a read returned 0, so the client has ended its side")
}

pub fn the_server_outlives_its_clients(subject: &Subject) -> Verdict {
    let server = Server::start(subject)?;
    for name in ["alice", "bob", "carol"] {
        let mut client = server.connect(name)?;
        client.echoes("hello\n", "after one client has left, the next one is served")?;
        if name == "bob" {
            client.resets()?;
            continue;
        }
        client.leaves("a closed connection, because the client has ended its side")?;
    }
    Ok(())
}

pub fn a_silent_client_delays_nobody(subject: &Subject) -> Verdict {
    let server = Server::start(subject)?;
    let mut alice = server.connect("alice")?;
    let mut bob = server.connect("bob")?;
    bob.echoes("hello\n", "alice is connected and silent, and bob must not wait for her")?;
    alice.echoes("I was thinking\n", "alice was silent for a while, and she is still connected")?;
    bob.echoes("hello again\n", "bob is still connected")?;
    drop(alice);
    bob.echoes("where is alice?\n", "alice has left, and bob is still connected")
}

pub fn many_clients_take_turns(subject: &Subject) -> Verdict {
    const CLIENTS: usize = 20;
    let server = Server::start(subject)?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.connect("one of 20 clients")?);
    }
    for client in clients.iter_mut().rev() {
        client.echoes("hello\n", "each client is registered with the poll, and each event is used")?;
    }
    clients.truncate(CLIENTS / 2);
    let mut late = server.connect("a late client")?;
    late.echoes("hello\n", "the listener is registered, and its event leads to accept()")?;
    clients[0].echoes("hello again\n", "a client that stays is served after others have left")
}

pub fn a_server_without_work_waits(subject: &Subject) -> Verdict {
    const LOOKS: usize = 40;
    const PAUSE: Duration = Duration::from_millis(10);
    /// A process that is ready counts as running, so this holds on a busy machine, too.
    const RUNNING_MAX: usize = 10;
    const SLEEPS_MAX: u64 = 20;
    let server = Server::start(subject)?;
    let mut alice = server.connect("alice")?;
    alice.echoes("hello\n", "the server sends back what it receives")?;
    let look = || {
        server.look().ok_or_else(|| lesson("the server has ended, or this is no Linux", "its state in /proc"))
    };
    let (_, before) = look()?;
    let mut running = 0;
    for _ in 0..LOOKS {
        thread::sleep(PAUSE);
        running += usize::from(look()?.0);
    }
    let sleeps = look()?.1 - before;
    let why = "a poll without limit: the thread waits in it until an event comes, and uses no processor";
    let what =
        format!("nobody sent anything, and the server was busy: it ran in {running} of {LOOKS} looks at it");
    ensure(running <= RUNNING_MAX, what, why)?;
    let what = format!("nobody sent anything, and the server woke up {sleeps} times in {LOOKS} looks at it");
    ensure(sleeps <= SLEEPS_MAX, what, why)?;
    alice.echoes("hello again\n", "an event ends the wait")
}

pub fn a_signal_does_not_end_the_server(subject: &Subject) -> Verdict {
    let server = Server::start(subject)?;
    let mut alice = server.connect("alice")?;
    alice.echoes("hello\n", "the server sends back what it receives")?;
    ensure(
        server.comes_to('S'),
        "nobody sent anything, and the server does not wait",
        "a poll without limit",
    )?;
    ensure(server.pause(), "the server could not be stopped and continued", "a process that runs")?;
    let why = "a signal, such as Ctrl-Z, interrupts the poll. The error has the kind Interrupted, and the loop goes on";
    alice.echoes("hello again\n", why)
}
