//! Stage 3: poll. The thread waits for the first event of all its clients.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// Token of the listener. The token of a client is its slot, and slots count from 0.
const LISTENER: Token = Token(usize::MAX);

/// Serves all clients in turns, for ever.
pub fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut event_loop = Loop::new(Poll::new()?, TcpListener::from_std(listener))?;
    let mut events = Events::with_capacity(256);
    loop {
        event_loop.turn(&mut events)?;
    }
}

pub struct Loop {
    poll: Poll,
    listener: TcpListener,
    clients: Slab<TcpStream>,
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
            self.poll.registry().register(&mut socket, Token(entry.key()), Interest::READABLE)?;
            entry.insert(socket);
        }
    }

    /// Serves the client in a slot. Removes it if it is finished, which closes its socket.
    fn pump(&mut self, slot: usize) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if !echo(client) {
            self.clients.remove(slot);
        }
    }
}

/// Sends back the bytes that are here now. Returns false if the client is finished.
fn echo(client: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    match client.read(&mut bytes) {
        Ok(0) => false, // the end of input
        Ok(got) => client.write_all(&bytes[..got]).is_ok(),
        Err(error) => error.kind() == ErrorKind::WouldBlock, // nothing is here
    }
}
