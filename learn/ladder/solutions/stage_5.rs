//! Stage 5: partial writes. A socket takes a part of a response, or nothing.

use std::io::{self, ErrorKind, Read, Write};

use slab::Slab;

use crate::net::{Events, Interest, Poll, TcpListener, TcpStream, Token};
use crate::protocol;

/// Token of the listener. The token of a client is its slot, and slots count from 0.
const LISTENER: Token = Token(usize::MAX);
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

struct Client {
    socket: TcpStream,
    /// Bytes that have arrived, and have no response yet.
    input: Vec<u8>,
    /// Bytes of responses that the socket has not taken yet.
    output: Vec<u8>,
}

pub struct Loop {
    poll: Poll,
    listener: TcpListener,
    clients: Slab<Client>,
}

impl Loop {
    pub fn new(poll: Poll, mut listener: TcpListener) -> io::Result<Loop> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Loop { poll, listener, clients: Slab::new() })
    }

    /// Waits for events and serves them.
    pub fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()), // by a signal
            result => result?,
        }
        for event in events.iter() {
            match event.token() {
                LISTENER => self.accept()?,
                Token(slot) => self.pump(slot),
            }
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
            entry.insert(Client { socket, input: Vec::new(), output: Vec::new() });
        }
    }

    /// Serves the client in a slot. Removes it if it is finished, which closes its socket.
    fn pump(&mut self, slot: usize) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if !client.pump().unwrap_or(false) {
            self.clients.remove(slot);
        }
    }
}

impl Client {
    /// Moves bytes until only an event can help. Returns false if the client is finished.
    ///
    /// It writes before it reads. So a client that takes no responses has no more requests read:
    /// they remain in the kernel, and TCP makes the client wait.
    fn pump(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        loop {
            self.answer();
            if !self.flush()? {
                return Ok(true);
            }
            if self.input.len() > REQUEST_BYTES_MAX {
                return Ok(false);
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

    /// Answers each whole request of the input. The rest remains there.
    fn answer(&mut self) {
        while let Some(request) = protocol::first_request(&self.input) {
            self.input.drain(..request.bytes);
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
