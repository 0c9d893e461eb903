//! A simulated kernel for the stages: the sockets of the simulator, an edge-triggered poll, and a
//! clock that only a poll moves.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::panic;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ladder::net::{Interest, Kernel, Source, Token};
use whirligig::inside::sim::kernel::{End, KernelSocket};

use super::{Lesson, lesson};

/// Calls in one turn that no stage needs. Beyond that some loop has no end.
const CALLS_MAX: usize = 20_000;

/// One connection and its faults.
pub struct Connection {
    pub socket: KernelSocket,
    registered: Option<(Token, Interest)>,
    /// Largest number of bytes that a read returns.
    pub read_max: usize,
    /// Largest number of bytes that a write takes.
    pub write_max: usize,
    /// Reads and writes that a signal interrupts.
    pub interrupts: usize,
    /// Writes that would block although there is room.
    pub refused_writes: usize,
    /// Bytes that the server has read.
    pub bytes_read: usize,
}

/// Everything that the clients, the kernel and the loop share.
pub struct World {
    pub connections: Vec<Connection>,
    waiting: VecDeque<usize>,
    listener: Option<Token>,
    listener_edge: bool,
    inbox: Option<Token>,
    inbox_edge: bool,
    /// Jobs that have begun.
    pub jobs: Vec<(u64, Vec<u8>)>,
    results: Vec<(u64, Vec<u8>)>,
    pub now: Instant,
    /// The poll does not move the clock beyond this time.
    pub until: Instant,
    /// Timeout of the last poll.
    pub timeout: Option<Duration>,
    /// True if the last poll had no event and would have waited.
    pub is_quiet: bool,
    calls: usize,
}

impl World {
    pub fn new() -> World {
        let now = Instant::now();
        World {
            connections: Vec::new(),
            waiting: VecDeque::new(),
            listener: None,
            listener_edge: false,
            inbox: None,
            inbox_edge: false,
            jobs: Vec::new(),
            results: Vec::new(),
            now,
            until: now,
            timeout: None,
            is_quiet: false,
            calls: 0,
        }
    }

    /// A client enters the queue of the listener. Returns the number of its connection.
    pub fn connect(&mut self, capacity: usize) -> usize {
        self.connections.push(Connection {
            socket: KernelSocket::new(capacity),
            registered: None,
            read_max: usize::MAX,
            write_max: usize::MAX,
            interrupts: 0,
            refused_writes: 0,
            bytes_read: 0,
        });
        self.waiting.push_back(self.connections.len() - 1);
        self.listener_edge = true;
        self.connections.len() - 1
    }

    /// The oldest job ends.
    pub fn finish_job(&mut self) {
        if !self.jobs.is_empty() {
            self.results.push(self.jobs.remove(0));
            self.inbox_edge = true;
        }
    }

    /// A new turn begins.
    pub fn begin_turn(&mut self) {
        self.calls = 0;
        self.is_quiet = false;
    }

    /// Counts a call, and ends the thread of the check if the loop never ends.
    fn count(&mut self, call: &str) {
        self.calls += 1;
        if self.calls > CALLS_MAX {
            let what = format!("one turn made {CALLS_MAX} calls, and the last one was {call}");
            let why = "a turn that ends: a loop on a socket ends at would-block, at the end of input or by an error";
            let lesson: Lesson = lesson(what, why);
            panic::resume_unwind(Box::new(lesson)); // without the message of a panic
        }
    }

    /// Takes the events that exist: the listener first, then the sockets, then the results.
    fn take_events(&mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        if let Some(listener) = self.listener
            && std::mem::take(&mut self.listener_edge)
        {
            tokens.push(listener);
        }
        for connection in &mut self.connections {
            let Some((token, interest)) = connection.registered else { continue };
            let Some(report) = connection.socket.take_report(false) else { continue };
            let readable = report.readable || report.read_closed || report.hung_up;
            if (readable && interest.is_readable()) || (report.writable && interest.is_writable()) {
                tokens.push(token);
            }
        }
        if let Some(inbox) = self.inbox
            && std::mem::take(&mut self.inbox_edge)
        {
            tokens.push(inbox);
        }
        tokens
    }
}

/// The side of the kernel that the loop sees.
pub struct SimKernel(pub Rc<RefCell<World>>);

impl Kernel for SimKernel {
    fn poll(&self, timeout: Option<Duration>) -> io::Result<Vec<Token>> {
        let mut world = self.0.borrow_mut();
        world.count("poll");
        world.timeout = timeout;
        let tokens = world.take_events();
        if tokens.is_empty() && timeout != Some(Duration::ZERO) {
            // No client does anything, so only the clock can end the wait. A wait beyond `until` is
            // interrupted here, before the clock has moved: the loop must not notice the time.
            match timeout.map(|timeout| world.now + timeout).filter(|due| *due <= world.until) {
                Some(due) => world.now = due,
                None => world.is_quiet = true,
            }
        }
        Ok(tokens)
    }

    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn register(&self, source: Source, token: Token, interest: Interest) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        match source {
            Source::Listener => {
                world.listener = Some(token);
                world.listener_edge |= !world.waiting.is_empty();
            }
            Source::Jobs => world.inbox = Some(token),
            Source::Socket(number) => {
                let connection = &mut world.connections[number];
                if connection.registered.is_some() {
                    return Err(ErrorKind::AlreadyExists.into());
                }
                connection.registered = Some((token, interest));
                connection.socket.register();
            }
        }
        Ok(())
    }

    fn accept(&self) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        world.count("accept");
        world.waiting.pop_front().ok_or(ErrorKind::WouldBlock.into())
    }

    fn read(&self, socket: usize, into: &mut [u8]) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        world.count("read");
        let connection = &mut world.connections[socket];
        if connection.interrupts > 0 {
            connection.interrupts -= 1;
            return Err(ErrorKind::Interrupted.into());
        }
        let most = into.len().min(connection.read_max);
        let got = connection.socket.read(&mut into[..most])?;
        connection.bytes_read += got;
        Ok(got)
    }

    fn write(&self, socket: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        world.count("write");
        let connection = &mut world.connections[socket];
        if connection.interrupts > 0 {
            connection.interrupts -= 1;
            return Err(ErrorKind::Interrupted.into());
        }
        if connection.refused_writes > 0 {
            connection.refused_writes -= 1;
            connection.socket.block_write();
            return Err(ErrorKind::WouldBlock.into());
        }
        connection.socket.write(&bytes[..bytes.len().min(connection.write_max)])
    }

    fn close(&self, socket: usize) {
        let mut world = self.0.borrow_mut();
        let connection = &mut world.connections[socket];
        connection.registered = None;
        connection.socket.server_closes(false);
    }

    fn start_job(&self, job: u64, response: Vec<u8>) {
        self.0.borrow_mut().jobs.push((job, response));
    }

    fn results(&self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(&mut self.0.borrow_mut().results)
    }
}

/// True if the server has closed the connection, in order or by a reset.
pub fn is_closed(connection: &Connection) -> bool {
    matches!(connection.socket.server_end(), End::Closed | End::Reset)
}
