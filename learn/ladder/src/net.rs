//! The names of mio, from stage 4 on: [`Poll`], [`Events`], [`TcpListener`], [`TcpStream`].
//!
//! Every call goes to mio, or in tests to a [`Kernel`], which can be made to read short, to write
//! short, and to move its clock. The server has a trait for this purpose, too: `Os` in
//! `src/reactor/os.rs`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use mio::{Interest, Token};

/// A source of events that a [`Kernel`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Listener,
    /// A connection, by its number.
    Socket(usize),
    /// Results of jobs.
    Jobs,
}

/// An operating system in the place of the real one.
pub trait Kernel {
    fn poll(&self, timeout: Option<Duration>) -> io::Result<Vec<Token>>;
    fn now(&self) -> Instant;
    fn register(&self, source: Source, token: Token, interest: Interest) -> io::Result<()>;
    /// Returns the number of the connection.
    fn accept(&self) -> io::Result<usize>;
    fn read(&self, socket: usize, into: &mut [u8]) -> io::Result<usize>;
    fn write(&self, socket: usize, bytes: &[u8]) -> io::Result<usize>;
    fn close(&self, socket: usize);
    fn start_job(&self, job: u64, response: Vec<u8>);
    fn results(&self) -> Vec<(u64, Vec<u8>)>;
}

/// Like [`mio::Poll`], and it has the clock.
pub struct Poll(pub(crate) PollOf);

pub(crate) enum PollOf {
    Mio(mio::Poll),
    Test(Rc<dyn Kernel>),
}

impl Poll {
    pub fn new() -> io::Result<Poll> {
        Ok(Poll(PollOf::Mio(mio::Poll::new()?)))
    }

    pub fn of(kernel: Rc<dyn Kernel>) -> Poll {
        Poll(PollOf::Test(kernel))
    }

    pub fn registry(&self) -> Registry<'_> {
        Registry(&self.0)
    }

    /// Waits for the first event, at most for `timeout`. `None` is without limit.
    pub fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.list.clear();
        match &mut self.0 {
            PollOf::Mio(poll) => {
                poll.poll(&mut events.mio, timeout)?;
                events.list.extend(events.mio.iter().map(|event| Event(event.token())));
            }
            PollOf::Test(kernel) => events.list.extend(kernel.poll(timeout)?.into_iter().map(Event)),
        }
        Ok(())
    }

    /// Reads the clock.
    pub fn now(&self) -> Instant {
        match &self.0 {
            PollOf::Mio(_) => Instant::now(),
            PollOf::Test(kernel) => kernel.now(),
        }
    }
}

/// Like [`mio::Registry`].
pub struct Registry<'p>(&'p PollOf);

impl Registry<'_> {
    pub fn register(&self, source: &mut impl Pollable, token: Token, interest: Interest) -> io::Result<()> {
        match self.0 {
            PollOf::Mio(poll) => match source.mio() {
                Some(source) => poll.registry().register(source, token, interest),
                None => Err(io::ErrorKind::InvalidInput.into()),
            },
            PollOf::Test(kernel) => kernel.register(source.source(), token, interest),
        }
    }
}

/// Something that can be registered.
pub trait Pollable {
    fn mio(&mut self) -> Option<&mut dyn mio::event::Source>;
    fn source(&self) -> Source;
}

/// Like [`mio::Events`].
pub struct Events {
    mio: mio::Events,
    list: Vec<Event>,
}

impl Events {
    pub fn with_capacity(capacity: usize) -> Events {
        Events { mio: mio::Events::with_capacity(capacity), list: Vec::new() }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.list.iter()
    }
}

/// Like [`mio::event::Event`], without the kind of readiness: a loop that tries everything needs
/// only the token.
#[derive(Clone, Copy)]
pub struct Event(Token);

impl Event {
    pub fn token(&self) -> Token {
        self.0
    }
}

/// Like [`mio::net::TcpListener`].
pub struct TcpListener(ListenerOf);

enum ListenerOf {
    Mio(mio::net::TcpListener),
    Test(Rc<dyn Kernel>),
}

impl TcpListener {
    pub fn from_std(listener: std::net::TcpListener) -> TcpListener {
        TcpListener(ListenerOf::Mio(mio::net::TcpListener::from_std(listener)))
    }

    pub fn of(kernel: Rc<dyn Kernel>) -> TcpListener {
        TcpListener(ListenerOf::Test(kernel))
    }

    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.0 {
            ListenerOf::Mio(listener) => {
                let (stream, address) = listener.accept()?;
                Ok((TcpStream(StreamOf::Mio(stream)), address))
            }
            ListenerOf::Test(kernel) => {
                let number = kernel.accept()?;
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
                Ok((TcpStream(StreamOf::Test(Rc::clone(kernel), number)), address))
            }
        }
    }
}

impl Pollable for TcpListener {
    fn mio(&mut self) -> Option<&mut dyn mio::event::Source> {
        match &mut self.0 {
            ListenerOf::Mio(listener) => Some(listener),
            ListenerOf::Test(_) => None,
        }
    }

    fn source(&self) -> Source {
        Source::Listener
    }
}

/// Like [`mio::net::TcpStream`]. Dropping it closes the connection.
pub struct TcpStream(StreamOf);

enum StreamOf {
    Mio(mio::net::TcpStream),
    Test(Rc<dyn Kernel>, usize),
}

impl Read for TcpStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            StreamOf::Mio(stream) => stream.read(into),
            StreamOf::Test(kernel, number) => kernel.read(*number, into),
        }
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            StreamOf::Mio(stream) => stream.write(bytes),
            StreamOf::Test(kernel, number) => kernel.write(*number, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        if let StreamOf::Test(kernel, number) = &self.0 {
            kernel.close(*number);
        }
    }
}

impl Pollable for TcpStream {
    fn mio(&mut self) -> Option<&mut dyn mio::event::Source> {
        match &mut self.0 {
            StreamOf::Mio(stream) => Some(stream),
            StreamOf::Test(..) => None,
        }
    }

    fn source(&self) -> Source {
        match &self.0 {
            StreamOf::Mio(_) => Source::Socket(usize::MAX),
            StreamOf::Test(_, number) => Source::Socket(*number),
        }
    }
}
