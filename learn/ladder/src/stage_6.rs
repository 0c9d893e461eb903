//! Stage 6: names with generations. A result that comes late must not reach the wrong client.

use std::io::{self, ErrorKind, Read, Write};

use slab::Slab;

use crate::jobs::Jobs;
use crate::net::{Events, Interest, Poll, TcpListener, TcpStream, Token};
use crate::protocol;

/// Tokens that are no slots. The token of a client is its slot, and slots count from 0.
const LISTENER: Token = Token(usize::MAX);
const JOBS: Token = Token(usize::MAX - 1);
/// Longest request, in bytes. A client that sends a longer one is closed.
pub const REQUEST_BYTES_MAX: usize = 8192;

/// Serves all clients in turns, for ever.
pub fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut event_loop = Loop::new(Poll::new()?, TcpListener::from_std(listener))?;
    let mut events = Events::with_capacity(256);
    loop {
        event_loop.turn(&mut events)?;
    }
}

/// Name of a client for a job.
// your code here: a slot gets new owners. A name needs something that is never used again.
type Id = usize;

struct Client {
    id: Id,
    socket: TcpStream,
    /// Bytes that have arrived, and have no response yet.
    input: Vec<u8>,
    /// Bytes of responses that the socket has not taken yet.
    output: Vec<u8>,
    /// A job makes the next response. Later requests wait in the input.
    is_owed: bool,
}

pub struct Loop {
    poll: Poll,
    listener: TcpListener,
    clients: Slab<Client>,
    jobs: Jobs<Id>,
}

impl Loop {
    pub fn new(poll: Poll, mut listener: TcpListener) -> io::Result<Loop> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let jobs = Jobs::new(&poll, JOBS)?;
        Ok(Loop { poll, listener, clients: Slab::new(), jobs })
    }

    /// Waits for events and serves them.
    pub fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()), // by a signal
            result => result?,
        }
        let mut may_accept = false;
        for event in events.iter() {
            match event.token() {
                LISTENER => may_accept = true,
                JOBS => {} // the results are taken below
                Token(slot) => self.pump(slot),
            }
        }
        for (id, response) in self.jobs.results() {
            self.deliver(id, &response);
        }
        // Last, so that no event of this turn meets a new owner of its slot.
        if may_accept {
            self.accept()?;
        }
        Ok(())
    }

    /// Accepts all clients that wait: the poll reports them once.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _address)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let entry = self.clients.vacant_entry();
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(entry.key()), both)?;
            // your code here: make a name that no client had before.
            let id = entry.key();
            entry.insert(Client { id, socket, input: Vec::new(), output: Vec::new(), is_owed: false });
        }
    }

    /// Gives the result of a job to its client. The slot may have a new owner, or none.
    fn deliver(&mut self, id: Id, response: &[u8]) {
        // your code here: this finds the present owner of the slot.
        let Some(client) = self.clients.get_mut(id) else { return };
        client.output.extend_from_slice(response);
        client.is_owed = false;
        self.pump(id); // no event comes for these bytes
    }

    /// Serves the client in a slot. Removes it if it is finished, which closes its socket.
    fn pump(&mut self, slot: usize) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if !client.pump(&mut self.jobs).unwrap_or(false) {
            self.clients.remove(slot);
        }
    }
}

impl Client {
    /// Moves bytes until only an event can help. Returns false if the client is finished.
    ///
    /// It writes before it reads. So a client that takes no responses has no more requests read:
    /// they remain in the kernel, and TCP makes the client wait.
    fn pump(&mut self, jobs: &mut Jobs<Id>) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        loop {
            self.answer(jobs);
            if !self.flush()? {
                return Ok(true);
            }
            if self.input.len() > REQUEST_BYTES_MAX {
                return Ok(self.is_owed); // whole requests may be in it
            }
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(false), // the end of input
                Ok(got) => self.input.extend_from_slice(&bytes[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {} // by a signal: repeat
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers each whole request of the input, up to a slow one. The rest remains there.
    fn answer(&mut self, jobs: &mut Jobs<Id>) {
        while !self.is_owed
            && let Some(request) = protocol::first_request(&self.input)
        {
            self.input.drain(..request.bytes);
            if request.is_slow {
                jobs.start(self.id, request.response);
                self.is_owed = true;
                return;
            }
            self.output.extend_from_slice(&request.response);
        }
    }

    /// Writes the output. Returns false if the socket would block before its end.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(got) => drop(self.output.drain(..got)), // the rest remains
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
