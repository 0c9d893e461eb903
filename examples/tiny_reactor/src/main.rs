//! An event loop in one file. Read it before the real one in `src/reactor/`.
//!
//! One thread serves all clients. It asks the kernel which sockets can move bytes now (`poll`),
//! moves the bytes that can be moved without waiting, and polls again. The loop never waits for a
//! single client, so a slow client costs a slot and not a thread. Four ideas carry this design:
//!
//! 1. **Readiness is an edge.** mio reports once that a socket *became* ready. A program that stops
//!    reading before the socket returns `WouldBlock` gets no second event, and its client hangs. So
//!    every loop on a socket drains.
//! 2. **Unfinished work is in the client's own struct.** Half a request is in `input`, and half a
//!    response is in `output`. A thread would keep both on its stack.
//! 3. **Order protects the events of a batch.** An event carries a slot, and slab gives the slot
//!    that was freed last to the next client. Suppose that a batch has three events: the worker,
//!    the listener, slot 0. The worker's result is the last response of slot 0, which closes. If a
//!    new client took slot 0 at once, the third event would reach a stranger. So no slot gets a new
//!    owner before the batch is done: accept comes last. Later batches are safe, because the kernel
//!    drops the events of a closed socket.
//! 4. **A name that is used once protects everything that outlives a turn.** No order helps a job
//!    on another thread, or a timer: some turns later the slot can have a new owner. Alice asks for
//!    `/slow` and leaves, Bob gets her slot, and then her result arrives. So a job carries an
//!    [`Id`], slot and generation: `0.1` is the first owner of slot 0, `0.2` the second. The result
//!    for `0.1` finds `0.2` in slot 0. This result is *stale*, and dropped.
//!
//! To see idea 4, run `TRACE=1 cargo run` in this folder. Use the printed URL:
//!
//! ```text
//! curl URL/slow         This is Alice, 0.1. Press Ctrl-C, and she leaves.
//! curl URL/slow         This is Bob, 0.2. He waits.
//! "for alice", Enter    Typed where the server runs. The trace shows that it is stale:
//!                       result 0.1: 10 bytes, stale, slot 0 is 0.2, dropped
//! "for bob", Enter      Bob receives it.
//! ```
//!
//! The real loop adds timers, budgets for each turn, shared buffers, files and request bodies. It
//! also lingers before a close, so that a client that is still sending can read the error response.

mod http;
mod trace;

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;
use std::{fmt, thread};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use crate::trace::trace;

/// Tokens that are no slots. Slab indexes count from zero and never reach them.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Bytes that one read asks for.
const READ_BYTES: usize = 4096;
/// Jobs that may wait for the worker. Beyond that, `/slow` is a 503.
const JOBS_MAX: usize = 64;
/// Longest time to the next attempt, if an accept failed because descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Name of a connection, never used again: `slot.generation`.
#[derive(Clone, Copy, PartialEq)]
struct Id {
    slot: usize,
    generation: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// One connection: its socket, and its unfinished input and output.
struct Client {
    id: Id,
    socket: TcpStream,
    /// Received bytes without a response.
    input: Vec<u8>,
    /// Response bytes that the socket has not accepted yet.
    output: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Open,
    /// A job makes the response. Later requests stay in `input`, because responses keep their
    /// order.
    Owing(http::Form),
    /// No further request is read. The connection closes once `output` is empty.
    Closing,
}

struct Reactor {
    poll: Poll,
    listener: TcpListener,
    /// The listener's edge came, and no accept has returned `WouldBlock` since.
    may_accept: bool,
    clients: Slab<Client>,
    /// Number of owners that each slot has had.
    generations: Vec<u64>,
    jobs: SyncSender<Id>,
    results: Receiver<(Id, String)>,
}

fn main() -> io::Result<()> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    writeln!(io::stdout(), "http://{}", listener.local_addr()?)?;
    let (jobs, queue) = mpsc::sync_channel(JOBS_MAX);
    let (done, results) = mpsc::channel();
    thread::spawn(move || work(&queue, &done, &waker));
    let (clients, generations) = (Slab::new(), Vec::new());
    let mut reactor = Reactor { poll, listener, may_accept: false, clients, generations, jobs, results };
    let mut events = Events::with_capacity(256);
    loop {
        reactor.turn(&mut events)?;
    }
}

/// The worker thread. Its work blocks: the result of a job is the next line of standard input.
///
/// A result is sent first, and the loop woken second. The reverse order could wake the loop before
/// the result is there. The loop would go back to sleep, and nothing would wake it again.
fn work(queue: &Receiver<Id>, done: &Sender<(Id, String)>, waker: &Waker) {
    for id in queue {
        let _ = writeln!(io::stdout(), "{id} waits for a line");
        let mut line = String::new();
        let _ = io::stdin().read_line(&mut line); // after the end of input all lines are empty
        if done.send((id, line)).is_err() || waker.wake().is_err() {
            return; // the loop has ended
        }
    }
}

impl Reactor {
    /// Runs one pass of the loop. Ideas 3 and 4 are the reasons for the order of its steps.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        // 1. Wait for the first event. If descriptors ran out, wait for a moment only.
        match self.poll.poll(events, self.may_accept.then_some(ACCEPT_PAUSE)) {
            // A signal interrupted the poll. This is no error.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        trace::TURN.fetch_add(1, Ordering::Relaxed);
        trace!("woken by {}", sources(events));
        // 2. Serve the batch. The kind of an event does not matter: `pump` tries everything, and a
        // useless attempt costs little. Events can be spurious, so no code may rely on their kind.
        for event in &*events {
            match event.token() {
                LISTENER => self.may_accept = true,
                WAKER => {} // step 3 looks for results anyway
                Token(slot) => self.pump(slot),
            }
        }
        // 3. Results belong to jobs of earlier turns. Their names protect them, not the order.
        while let Ok((id, content)) = self.results.try_recv() {
            self.deliver(id, &content);
        }
        // 4. Accept last. No event of the batch is left, so slots can have new owners.
        if self.may_accept {
            self.accept();
        }
        Ok(())
    }

    fn pump(&mut self, slot: usize) {
        let Some(client) = self.clients.get_mut(slot) else {
            return trace!("event for slot {slot}: nobody has it, dropped");
        };
        let why = match client.pump(&self.jobs) {
            Ok(None) => return,
            Ok(Some(why)) => why.to_owned(),
            Err(error) => error.to_string(),
        };
        // Frees the slot. Dropping the socket closes it.
        let client = self.clients.remove(slot);
        trace!("close {}: {why}", client.id);
    }

    /// Gives the result of a job to its client, but not to a later owner of the slot.
    fn deliver(&mut self, id: Id, content: &str) {
        let bytes = content.len();
        match self.clients.get_mut(id.slot) {
            None => return trace!("result {id}: {bytes} bytes, stale, nobody has slot {}, dropped", id.slot),
            Some(other) if other.id != id => {
                return trace!(
                    "result {id}: {bytes} bytes, stale, slot {} is {}, dropped",
                    id.slot, other.id
                );
            }
            Some(client) => {
                trace!("result {id}: {bytes} bytes");
                if let State::Owing(form) = client.state {
                    client.respond("200 OK", content, form);
                }
            }
        }
        self.pump(id.slot); // no event comes for these bytes
    }

    /// Accepts all waiting connections, because the listener's edge comes only once, too.
    fn accept(&mut self) {
        loop {
            match attempt(|| self.listener.accept()) {
                Ok(Some((socket, _))) => self.insert(socket),
                Ok(None) => {
                    self.may_accept = false;
                    return trace!("accept: stopped by would-block");
                }
                // This peer left while it was queued. Others still wait.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                // Usually EMFILE: no descriptor is free. A new attempt at once would spin. Waiting
                // for an event could hang those in the queue, because their edge is spent. So the
                // next turn tries again, and comes after a pause at the latest.
                Err(error) => return trace!("accept: stopped until the next turn: {error}"),
            }
        }
    }

    fn insert(&mut self, mut socket: TcpStream) {
        let entry = self.clients.vacant_entry();
        let slot = entry.key();
        // Register both directions once, for life. Interest in edges costs nothing while nothing
        // happens, and switching it on and off is a common source of bugs. Do not read now:
        // registering a ready socket produces an event for the next turn.
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut socket, Token(slot), both) {
            return trace!("accept: closed, because it cannot be registered: {error}");
        }
        self.generations.resize(self.generations.len().max(slot + 1), 0);
        self.generations[slot] += 1;
        let id = Id { slot, generation: self.generations[slot] };
        trace!("accept {id}: slot {slot}, owner {}", id.generation);
        entry.insert(Client { id, socket, input: Vec::new(), output: Vec::new(), state: State::Open });
    }
}

impl Client {
    /// Moves bytes until only the next event or result can help. Returns the reason if the
    /// connection is finished.
    fn pump(&mut self, jobs: &SyncSender<Id>) -> io::Result<Option<&'static str>> {
        let id = self.id;
        loop {
            self.answer(jobs);
            // Write before reading. A client that does not read its responses has no more requests
            // read. They stay in the kernel's buffer, and TCP makes the client wait.
            while !self.output.is_empty() {
                let asked = self.output.len();
                let Some(got) = attempt(|| self.socket.write(&self.output))? else {
                    trace!("write {id}: asked {asked}, stopped by would-block");
                    return Ok(None);
                };
                // A short write is normal. The rest follows here or after a writable edge.
                trace!("write {id}: asked {asked} got {got}");
                self.output.drain(..got);
            }
            let at_end = match self.state {
                State::Open => "end of input",
                State::Closing => return Ok(Some("last response sent")),
                // Reading goes on while a job runs, because only a read shows that the client left.
                // But the input has a limit. After the result `deliver` pumps again.
                State::Owing(_) if self.input.len() > http::HEAD_BYTES_MAX => {
                    trace!("read {id}: stopped by full input");
                    return Ok(None);
                }
                // A client that ends only its sending half looks like one that left. This loop
                // closes. The real one sends the response, and a failed write ends it.
                State::Owing(_) => "left before its response",
            };
            let mut bytes = [0; READ_BYTES];
            let Some(got) = attempt(|| self.socket.read(&mut bytes))? else {
                trace!("read {id}: asked {READ_BYTES}, stopped by would-block");
                return Ok(None);
            };
            trace!("read {id}: asked {READ_BYTES} got {got}");
            if got == 0 {
                return Ok(Some(at_end));
            }
            self.input.extend_from_slice(&bytes[..got]);
        }
    }

    /// Turns complete requests in `input` into responses in `output`, up to a request whose
    /// response takes time. `input` can contain half a request or ten requests.
    fn answer(&mut self, jobs: &SyncSender<Id>) {
        while matches!(self.state, State::Open)
            && let Some(request) = http::parse(&self.input)
        {
            self.input.drain(..request.used);
            let (status, content) = match request.is_slow.then(|| jobs.try_send(self.id)) {
                None => (request.status, "It turns.\n"),
                Some(Err(_)) => ("503 Service Unavailable", "Too many jobs wait.\n"),
                Some(Ok(())) => {
                    trace!("request {}: a job has this name", self.id);
                    self.state = State::Owing(request.form);
                    return;
                }
            };
            trace!("request {}: {}", self.id, &status[..3]);
            self.respond(status, content, request.form);
        }
    }

    fn respond(&mut self, status: &str, content: &str, form: http::Form) {
        self.output.extend_from_slice(http::response(status, content, form).as_bytes());
        self.state = if form.is_last { State::Closing } else { State::Open };
    }
}

/// Repeats a call that a signal interrupts. Returns `None` if the call would block.
fn attempt<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            result => return result.map(Some),
        }
    }
}

/// Names the sources of the events, for the trace.
fn sources(events: &Events) -> String {
    let name = |event: &mio::event::Event| match event.token() {
        LISTENER => "the listener".to_owned(),
        WAKER => "the worker".to_owned(),
        Token(slot) => format!("slot {slot}"),
    };
    let names: Vec<String> = events.iter().map(name).collect();
    if names.is_empty() { "the end of the pause".to_owned() } else { names.join(", ") }
}
