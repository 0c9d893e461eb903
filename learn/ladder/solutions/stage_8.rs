//! Stage 8: budget and carry. A client with many requests must not keep the others waiting.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::jobs::Jobs;
use crate::net::{Events, Interest, Poll, TcpListener, TcpStream, Token};
use crate::protocol;

/// Tokens that are no slots. The token of a client is its slot, and slots count from 0.
const LISTENER: Token = Token(usize::MAX);
const JOBS: Token = Token(usize::MAX - 1);
/// Longest request, in bytes. A client that sends a longer one is closed.
pub const REQUEST_BYTES_MAX: usize = 8192;
/// Requests of one client that are answered in one turn.
const REQUESTS_PER_TURN: usize = 16;
/// Longest time between two steps of a client. A step is a whole request, or bytes that the client
/// takes. Bytes of half a request are no step, or one byte a second would be enough for ever.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves all clients in turns, for ever.
pub fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut event_loop = Loop::new(Poll::new()?, TcpListener::from_std(listener))?;
    let mut events = Events::with_capacity(256);
    loop {
        event_loop.turn(&mut events)?;
    }
}

/// Name of a client, never used again: the client with number `generation`, in slot `slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    slot: usize,
    generation: u64,
}

struct Client {
    id: Id,
    socket: TcpStream,
    /// Bytes that have arrived, and have no response yet.
    input: Vec<u8>,
    /// Bytes of responses that the socket has not taken yet.
    output: Vec<u8>,
    /// A job makes the next response. Later requests wait in the input.
    is_owed: bool,
    /// Time at which the loop gives the client up.
    deadline: Instant,
    /// Number of the turn in which the client was served last, and requests left for it.
    turn: u64,
    budget: usize,
}

/// The reason why a client is not served further in this turn.
enum Pumped {
    /// An event or a result will come.
    Blocked,
    /// The budget is used up. No event will come for the rest.
    OutOfBudget,
    /// The client is finished.
    Finished,
}

pub struct Loop {
    poll: Poll,
    listener: TcpListener,
    clients: Slab<Client>,
    /// Number of clients so far.
    accepted: u64,
    jobs: Jobs<Id>,
    /// One entry for each client, the earliest on top. An entry may be early, never late.
    deadlines: BinaryHeap<Reverse<(Instant, Id)>>,
    /// Number of this turn.
    turn: u64,
    /// Clients that are out of budget. The next turn continues with them, and does not wait.
    carried: Vec<Id>,
}

impl Loop {
    pub fn new(poll: Poll, mut listener: TcpListener) -> io::Result<Loop> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let jobs = Jobs::new(&poll, JOBS)?;
        let deadlines = BinaryHeap::new();
        let (clients, carried) = (Slab::new(), Vec::new());
        Ok(Loop { poll, listener, clients, accepted: 0, jobs, deadlines, turn: 0, carried })
    }

    /// Waits for events and serves them.
    pub fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let due = self.deadlines.peek().map(|Reverse((due, _id))| *due);
        let mut timeout = due.map(|due| due.saturating_duration_since(self.poll.now()));
        if !self.carried.is_empty() {
            timeout = Some(Duration::ZERO);
        }
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()), // by a signal
            result => result?,
        }
        let now = self.poll.now();
        self.turn += 1;
        let carried = std::mem::take(&mut self.carried);
        let mut may_accept = false;
        for event in events.iter() {
            match event.token() {
                LISTENER => may_accept = true,
                JOBS => {} // the results are taken below
                Token(slot) => self.pump(slot, now),
            }
        }
        for (id, response) in self.jobs.results() {
            self.deliver(id, &response, now);
        }
        for id in carried {
            let is_due = |client: &Client| client.id == id && client.turn != self.turn;
            if self.clients.get(id.slot).is_some_and(is_due) {
                self.pump(id.slot, now);
            }
        }
        // After the reads, because bytes that came in time count.
        self.expire(now);
        // Last, so that no event of this turn meets a new owner of its slot.
        if may_accept {
            self.accept(now)?;
        }
        Ok(())
    }

    /// Accepts all clients that wait: the poll reports them once.
    fn accept(&mut self, now: Instant) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _address)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let entry = self.clients.vacant_entry();
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(entry.key()), both)?;
            self.accepted += 1;
            let id = Id { slot: entry.key(), generation: self.accepted };
            let deadline = now + STEP_TIMEOUT;
            self.deadlines.push(Reverse((deadline, id)));
            let (input, output) = (Vec::new(), Vec::new());
            entry.insert(Client { id, socket, input, output, is_owed: false, deadline, turn: 0, budget: 0 });
        }
    }

    /// Gives the result of a job to its client. The slot may have a new owner, or none.
    fn deliver(&mut self, id: Id, response: &[u8], now: Instant) {
        let Some(client) = self.clients.get_mut(id.slot) else { return };
        if client.id != id {
            return; // the result is stale
        }
        client.output.extend_from_slice(response);
        client.is_owed = false;
        self.pump(id.slot, now); // no event comes for these bytes
    }

    /// Closes the clients whose deadline has come.
    fn expire(&mut self, now: Instant) {
        while let Some(&Reverse((due, id))) = self.deadlines.peek()
            && due <= now
        {
            self.deadlines.pop();
            match self.clients.get(id.slot) {
                Some(client) if client.id != id => {} // the entry is stale: its client has left
                // The entry was early: the client has done something since.
                Some(client) if client.deadline > now => self.deadlines.push(Reverse((client.deadline, id))),
                Some(_) => drop(self.clients.remove(id.slot)),
                None => {}
            }
        }
    }

    /// Serves the client in a slot. Removes it if it is finished, which closes its socket.
    fn pump(&mut self, slot: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        (client.turn, client.budget) = (self.turn, REQUESTS_PER_TURN);
        match client.pump(&mut self.jobs, now).unwrap_or(Pumped::Finished) {
            Pumped::Blocked => {}
            Pumped::OutOfBudget => self.carried.push(client.id),
            Pumped::Finished => drop(self.clients.remove(slot)),
        }
    }
}

impl Client {
    /// Moves bytes until only an event can help, or the budget is used up.
    ///
    /// It writes before it reads. So a client that takes no responses has no more requests read:
    /// they remain in the kernel, and TCP makes the client wait.
    fn pump(&mut self, jobs: &mut Jobs<Id>, now: Instant) -> io::Result<Pumped> {
        let mut bytes = [0; 4096];
        loop {
            self.answer(jobs, now);
            if !self.flush(now)? {
                return Ok(Pumped::Blocked);
            }
            if self.budget == 0 {
                return Ok(Pumped::OutOfBudget);
            }
            if self.input.len() > REQUEST_BYTES_MAX {
                // Whole requests may be in it if the client is owed a response.
                return Ok(if self.is_owed { Pumped::Blocked } else { Pumped::Finished });
            }
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(Pumped::Finished), // the end of input
                Ok(got) => self.input.extend_from_slice(&bytes[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Pumped::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {} // by a signal: repeat
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers each whole request of the input, up to a slow one or the end of the budget. The rest
    /// remains there.
    fn answer(&mut self, jobs: &mut Jobs<Id>, now: Instant) {
        while !self.is_owed
            && self.budget > 0
            && let Some(request) = protocol::first_request(&self.input)
        {
            self.input.drain(..request.bytes);
            self.budget -= 1;
            self.deadline = now + STEP_TIMEOUT;
            if request.is_slow {
                jobs.start(self.id, request.response);
                self.is_owed = true;
                return;
            }
            self.output.extend_from_slice(&request.response);
        }
    }

    /// Writes the output. Returns false if the socket would block before its end.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(got) => {
                    self.output.drain(..got); // the rest remains
                    self.deadline = now + STEP_TIMEOUT;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
