//! [`MioOs`]: the operating system of a loop through mio, which is epoll on Linux.
//!
//! This file must not know HTTP.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Token};

use crate::clock::{Instant, Now, read_clocks, read_wall_clock};
use crate::config::INBOX_LOOK;
use crate::conn_id::{ConnId, Peer, WatchId};
use crate::driver::signals::Signals;
use crate::driver::socket::{is_cold, receive, send_file, write_slices};
use crate::driver::stream::{FilePart, IfCold, SentFile, Stream};
use crate::handler::continuation::{Continuation, Inbox, Pool};
use crate::handler::watch::{Ready, Watched};
use crate::http::send_queue::More;
use crate::jobs::JobQueue;
use crate::observe::step::SocketReport;
use crate::reactor::os::{Os, OsEvent};

/// Slot of the token for the inbox. Generation 0 marks tokens that are not connections.
const INBOX: u32 = u32::MAX;

/// Slot of the token for all signal sockets.
const SIGNALS: u32 = u32::MAX - 1;

/// A listening socket of either kind.
#[derive(Debug)]
pub enum Listener {
    /// Over IP.
    Tcp(mio::net::TcpListener),
    /// Over a path on this machine.
    Unix(mio::net::UnixListener),
}

/// A connected socket of either kind.
#[derive(Debug)]
pub enum Socket {
    /// Over IP.
    Tcp(mio::net::TcpStream),
    /// Over a path on this machine.
    Unix(mio::net::UnixStream),
}

/// The operating system through mio (epoll on Linux).
pub struct MioOs {
    poll: mio::Poll,
    events: mio::Events,
    listeners: Vec<Listener>,
    signals: Option<Signals>,
    pool: Arc<Pool>,
    inbox: Arc<Inbox>,
    /// The time that the loop read last.
    now: Instant,
    /// When the inbox was last checked without an event.
    looked: Instant,
}

impl std::fmt::Debug for MioOs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MioOs").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

impl MioOs {
    /// Creates a poll that watches these listeners and signals, and takes at most `events_per_poll`
    /// events from the kernel at once.
    pub fn new(
        listeners: Vec<Listener>,
        mut signals: Option<Signals>,
        pool: Arc<Pool>,
        events_per_poll: usize,
    ) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let mut listeners = listeners;
        for (number, listener) in listeners.iter_mut().enumerate() {
            let token = special(u32::try_from(number).unwrap_or(u32::MAX - 2));
            match listener {
                Listener::Tcp(listener) => poll.registry().register(listener, token, Interest::READABLE)?,
                Listener::Unix(listener) => poll.registry().register(listener, token, Interest::READABLE)?,
            }
        }
        if let Some(signals) = &mut signals {
            for source in signals.sources() {
                poll.registry().register(source, special(SIGNALS), Interest::READABLE)?;
            }
        }
        let waker = mio::Waker::new(poll.registry(), special(INBOX))?;
        let inbox = Arc::new(Inbox::new(Box::new(move || waker.wake())));
        let now = read_clocks().mono;
        Ok(MioOs {
            poll,
            events: mio::Events::with_capacity(events_per_poll.max(1)),
            listeners,
            signals,
            pool,
            inbox,
            now,
            looked: now,
        })
    }

    /// Waits for events, at most for `timeout`. Wakes every [`INBOX_LOOK`] to [check the
    /// inbox](MioOs::look).
    fn wait(&mut self, events: &mut Vec<OsEvent>, timeout: Option<Duration>) -> io::Result<()> {
        let mut left = timeout;
        loop {
            let wait = left.map_or(INBOX_LOOK, |left| left.min(INBOX_LOOK));
            self.poll.poll(&mut self.events, Some(wait))?;
            if !self.events.is_empty() {
                return Ok(());
            }
            if wait == INBOX_LOOK {
                self.look(events);
            }
            left = left.map(|left| left - wait);
            if !events.is_empty() || left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
        }
    }

    /// Checks for results whose wake-up failed, because no event reports them.
    fn look(&mut self, events: &mut Vec<OsEvent>) {
        self.looked = self.now;
        if self.inbox.has_news() {
            events.push(OsEvent::Inbox);
        }
    }
}

/// Returns the token of a source that is not a connection.
fn special(number: u32) -> Token {
    token(ConnId::new(0, number))
}

fn token(id: ConnId) -> Token {
    // Tokens are as wide as a pointer. The crate is for 64-bit systems, where nothing is lost.
    Token(id.to_token() as usize)
}

impl Os for MioOs {
    type Stream = Socket;

    fn poll(&mut self, events: &mut Vec<OsEvent>, timeout: Option<Duration>) -> io::Result<()> {
        match self.wait(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        if self.now.saturating_duration_since(self.looked) >= INBOX_LOOK {
            // A busy poll never times out, so the inbox is checked here.
            self.look(events);
        }
        for event in &self.events {
            let token = event.token().0 as u64;
            if let Some((id, number)) = WatchId::from_token(token) {
                events.push(OsEvent::Watched { id, ready: Ready::of(number) });
                continue;
            }
            let id = ConnId::from_token(token);
            if id.generation() != 0 {
                let ready = SocketReport {
                    // A hang-up or an error can come without the readable bit.
                    readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                    writable: event.is_writable() || event.is_write_closed() || event.is_error(),
                    // A read stops before an urgent byte, as it does before the end of input.
                    read_closed: event.is_read_closed() || event.is_error() || event.is_priority(),
                    hung_up: event.is_write_closed(),
                };
                events.push(OsEvent::Ready { id, ready });
                continue;
            }
            match id.slot() as u32 {
                INBOX => events.push(OsEvent::Inbox),
                SIGNALS => {
                    let signals = self.signals.iter_mut().flat_map(Signals::take);
                    events.extend(signals.map(OsEvent::Signal));
                }
                number => events.push(OsEvent::Listener(number as usize)),
            }
        }
        Ok(())
    }

    fn now(&mut self) -> Now {
        let now = read_clocks();
        self.now = now.mono;
        now
    }

    fn listeners(&self) -> usize {
        self.listeners.len()
    }

    fn has_client(&mut self, listener: usize) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let fd = match self.listeners.get(listener) {
            Some(Listener::Tcp(listener)) => listener.as_fd(),
            Some(Listener::Unix(listener)) => listener.as_fd(),
            None => return false,
        };
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&at_once)), Ok(1..))
    }

    fn accept(&mut self, listener: usize) -> io::Result<(Socket, Peer)> {
        match self.listeners.get(listener) {
            // Accepted sockets inherit the options of the listener (TCP_NODELAY,
            // TCP_NOTSENT_LOWAT), so accepting needs no further call.
            Some(Listener::Tcp(listener)) => {
                listener.accept().map(|(stream, addr)| (Socket::Tcp(stream), Peer::from_addr(addr)))
            }
            Some(Listener::Unix(listener)) => {
                listener.accept().map(|(stream, _)| (Socket::Unix(stream), Peer::Unix))
            }
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn register(&mut self, stream: &mut Socket, id: ConnId) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match stream {
            Socket::Tcp(stream) => {
                self.poll.registry().register(stream, token(id), both | Interest::PRIORITY)
            }
            Socket::Unix(stream) => self.poll.registry().register(stream, token(id), both),
        }
    }

    fn watch(&mut self, watched: &dyn Watched, id: WatchId) -> io::Result<()> {
        for descriptor in watched.descriptors() {
            let direction = if descriptor.writes { Interest::WRITABLE } else { Interest::READABLE };
            let token = Token(id.to_token(descriptor.number) as usize);
            let fd = descriptor.fd.as_raw_fd();
            self.poll.registry().register(&mut SourceFd(&fd), token, direction)?;
        }
        Ok(())
    }

    fn close_listeners(&mut self) {
        self.listeners.clear();
    }

    fn job_queue(&mut self) -> Box<dyn JobQueue<Continuation>> {
        Box::new(self.pool.job_queue(Arc::clone(&self.inbox)))
    }
}

impl Stream for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => Ok(receive(stream, into, rustix::net::RecvFlags::empty())?.0),
            Socket::Unix(stream) => stream.read(into),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>], more: More) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => {
                write_slices(stream.as_fd(), slices, more, rustix::net::SendFlags::empty())
            }
            Socket::Unix(stream) => stream.write_vectored(slices),
        }
    }

    fn send_file(&mut self, fd: &OwnedFd, part: FilePart, if_cold: IfCold) -> io::Result<SentFile> {
        if if_cold == IfCold::Return && is_cold(fd, part.offset, part.len) {
            return Ok(SentFile::Cold);
        }
        match self {
            Socket::Tcp(stream) => send_file(stream.as_fd(), fd, part),
            Socket::Unix(stream) => send_file(stream.as_fd(), fd, part),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        }
    }

    fn reset_on_close(&mut self) {
        if let Socket::Tcp(stream) = self {
            // Best effort. Without SO_LINGER the kernel keeps unsent bytes until its own timeouts.
            drop(socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)));
        }
    }

    fn wall_clock(&mut self) -> Duration {
        read_wall_clock()
    }
}
