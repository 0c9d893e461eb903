//! One connection of the generator: sends a batch of requests, takes their answers. Also those that
//! are only there.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use super::answer::{Answer, Fault, Took, Wanted};
use super::job::{Crowd, Kind};
use super::{Batch, Fallible};

/// A line of the stream that many listen to: number and the moment it was due, in nanoseconds.
pub(crate) const LISTEN_LINE_BYTES: usize = 32;

/// A connection that asks.
pub(crate) struct Client {
    stream: TcpStream,
    /// The batch under way, and how much of it is sent and answered.
    batch: usize,
    sent_bytes: usize,
    answered: usize,
    is_asking: bool,
    /// When the batch was due.
    pub(crate) asked_ns: u64,
    answer: Answer,
    /// What was read behind an answer: pipelined ones come together.
    rest: std::ops::Range<usize>,
    held: Vec<u8>,
    /// The server is to close it now; that it does is part of the answer.
    pub(crate) awaits_end: bool,
    /// Takes lines for ever rather than answers.
    pub(crate) listens: bool,
    line: Vec<u8>,
    heard: Option<u64>,
    /// When the last line that was heard was due.
    pub(crate) heard_due_ns: Option<u64>,
    pub(crate) has_been_answered: bool,
    /// A short read has emptied the socket: the next edge says when there is more.
    pub(crate) is_drained: bool,
    /// Content that has come since somebody took this count.
    pub(crate) came_bytes: u64,
}

/// What a step of a client brought.
pub(crate) enum Progress {
    /// Nothing more for now.
    Waits,
    /// One answer.
    Answered { batch_is_complete: bool },
    /// The server has closed it, as it should.
    Ended,
    /// Lines of a stream: when each of them was due.
    Heard { stamps_ns: Vec<u64> },
}

impl Client {
    pub(crate) fn connect(poll: &Poll, port: u16, number: usize, now: u64) -> Fallible<Client> {
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .map_err(|error| format!("cannot connect: {error}"))?;
        poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        drop(stream.set_nodelay(true));
        Ok(Client {
            stream,
            batch: 0,
            sent_bytes: 0,
            answered: 0,
            is_asking: false,
            asked_ns: now,
            answer: Answer::default(),
            rest: 0..0,
            held: Vec::new(),
            awaits_end: false,
            listens: false,
            line: Vec::new(),
            heard: None,
            heard_due_ns: None,
            has_been_answered: false,
            is_drained: false,
            came_bytes: 0,
        })
    }

    /// Begins a batch; `send` carries it out.
    pub(crate) fn ask(&mut self, batch: usize, due: u64) {
        (self.batch, self.sent_bytes, self.answered) = (batch, 0, 0);
        (self.is_asking, self.asked_ns) = (true, due);
    }

    /// Whether an answer is owed to it.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_asking && !(self.listens && self.has_been_answered)
    }

    /// Sends what the socket takes. An event or the next call goes on.
    pub(crate) fn send(&mut self, batches: &[Batch]) -> Result<(), Fault> {
        let bytes = &batches[self.batch].bytes;
        while self.is_asking && self.sent_bytes < bytes.len() {
            match self.stream.write(&bytes[self.sent_bytes..]) {
                Ok(count) => self.sent_bytes += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Not connected yet: the event that says so is on its way.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Err((Kind::Connect, error.to_string()));
                }
                Err(error) => return Err((Kind::Reset, format!("while sending: {error}"))),
            }
        }
        Ok(())
    }

    /// Takes answers up to the next that is complete. To be called again until it waits: an edge
    /// comes once.
    pub(crate) fn take(
        &mut self,
        batches: &[Batch],
        wanted: &[Wanted],
        scratch: &mut [u8],
    ) -> Result<Progress, Fault> {
        loop {
            if !self.rest.is_empty() {
                // Put back by a step before: the answers behind the first of one read.
                let held = std::mem::take(&mut self.held);
                let taken = self.take_piece(&held[self.rest.clone()], batches, wanted);
                self.held = held;
                if let Some((progress, used)) = taken? {
                    self.rest.start += used;
                    return Ok(progress);
                }
                self.rest = 0..0;
            }
            // Content and the end can come with one edge, so where an end is due a short read says
            // nothing.
            if self.is_drained && !self.awaits_end && !self.listens {
                return Ok(Progress::Waits);
            }
            match self.stream.read(scratch) {
                Ok(0) if self.awaits_end => return Ok(Progress::Ended),
                Ok(0) if !self.is_asking => return Err((Kind::Reset, "closed between requests".to_owned())),
                Ok(0) => return Err((Kind::Short, "closed before the answer was complete".to_owned())),
                Ok(count) => {
                    self.is_drained = count < scratch.len();
                    let Some((progress, used)) = self.take_piece(&scratch[..count], batches, wanted)? else {
                        continue;
                    };
                    if used < count {
                        self.held.clear();
                        self.held.extend_from_slice(&scratch[used..count]);
                        self.rest = 0..count - used;
                    }
                    return Ok(progress);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(Progress::Waits);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Err((Kind::Connect, error.to_string()));
                }
                Err(error) => return Err((Kind::Reset, error.to_string())),
            }
        }
    }

    /// Takes a piece of input; `Some` with how much of it was used when there is something to tell.
    fn take_piece(
        &mut self,
        piece: &[u8],
        batches: &[Batch],
        wanted: &[Wanted],
    ) -> Result<Option<(Progress, usize)>, Fault> {
        if self.listens {
            return self.listen(piece).map(|progress| progress.map(|progress| (progress, piece.len())));
        }
        if !self.is_asking {
            return Err((Kind::Framing, "bytes that nobody asked for".to_owned()));
        }
        let asks = &batches[self.batch].asks;
        let wanted = &wanted[asks[self.answered]];
        let came_bytes = &mut self.came_bytes;
        let mut count = |content: &[u8]| {
            *came_bytes += content.len() as u64;
            Ok(())
        };
        match self.answer.take(piece, Some(wanted), &mut count)? {
            Took::All => Ok(None),
            Took::Complete(used) => {
                self.answered += 1;
                let batch_is_complete = self.answered == asks.len();
                self.is_asking = !batch_is_complete;
                self.has_been_answered |= batch_is_complete;
                Ok(Some((Progress::Answered { batch_is_complete }, used)))
            }
        }
    }

    /// Takes lines, each whole and in order.
    fn listen(&mut self, piece: &[u8]) -> Result<Option<Progress>, Fault> {
        let (line, heard, mut stamps_ns) = (&mut self.line, &mut self.heard, Vec::new());
        let mut lines = |content: &[u8]| {
            line.extend_from_slice(content);
            let whole = line.len() / LISTEN_LINE_BYTES * LISTEN_LINE_BYTES;
            for text in line[..whole].chunks(LISTEN_LINE_BYTES) {
                let (number, stamp) = parse_line(text)?;
                if heard.is_some_and(|before| before + 1 != number) {
                    return Err((Kind::Content, format!("line {number} is out of order")));
                }
                *heard = Some(number);
                stamps_ns.push(stamp);
            }
            line.drain(..whole);
            Ok(())
        };
        match self.answer.take(piece, None, &mut lines)? {
            Took::Complete(_) => return Err((Kind::Short, "the stream has ended".to_owned())),
            Took::All => {}
        }
        self.has_been_answered |= self.heard.is_some();
        Ok((!stamps_ns.is_empty()).then_some(Progress::Heard { stamps_ns }))
    }
}

fn parse_line(line: &[u8]) -> Result<(u64, u64), Fault> {
    let fault = || (Kind::Content, "a line that is none".to_owned());
    let text = std::str::from_utf8(line).map_err(|_| fault())?.strip_suffix('\n').ok_or_else(fault)?;
    let (number, stamp) = text.split_once(' ').ok_or_else(fault)?;
    Ok((number.parse().map_err(|_| fault())?, stamp.parse().map_err(|_| fault())?))
}

/// A connection in the background: silent, or slow.
pub(crate) struct Backdrop {
    stream: std::net::TcpStream,
    crowd: Crowd,
    is_lost: bool,
}

impl Backdrop {
    /// Connects and says what it has to say at first.
    pub(crate) fn connect(port: u16, crowd: Crowd) -> Fallible<Backdrop> {
        let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(match crowd {
            Crowd::Idle(_) => b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n".as_slice(),
            Crowd::SlowReaders(_) => b"GET /10m HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Crowd::SlowSenders(_) => {
                b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
            }
        })?;
        Ok(Backdrop { stream, crowd, is_lost: false })
    }

    /// After all of a group have connected: idle means between two requests, so it has had one
    /// answer, which is short enough for one read.
    pub(crate) fn settle(&mut self) -> Fallible<()> {
        if let Crowd::Idle(_) = self.crowd {
            self.stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
            if self.stream.read(&mut [0; 1024])? == 0 {
                return Err("a background connection was closed at once".into());
            }
        }
        Ok(self.stream.set_nonblocking(true)?)
    }

    /// Moves a little. Says once that it was cut off.
    pub(crate) fn step(&mut self, scratch: &mut [u8]) -> Result<(), Fault> {
        let moved = match self.crowd {
            Crowd::SlowReaders(_) if !self.is_lost => self.stream.read(&mut scratch[..4096]),
            Crowd::SlowSenders(_) if !self.is_lost => self.stream.write(&[b'.'; 64]),
            Crowd::Idle(_) | Crowd::SlowReaders(_) | Crowd::SlowSenders(_) => return Ok(()),
        };
        self.judge(moved)
    }

    /// Whether it is still connected.
    pub(crate) fn look(&mut self) -> Result<(), Fault> {
        if self.is_lost {
            return Ok(());
        }
        let seen = self.stream.peek(&mut [0]);
        self.judge(seen)
    }

    fn judge(&mut self, moved: std::io::Result<usize>) -> Result<(), Fault> {
        let fault = match moved {
            Ok(0) => (Kind::Short, "a background connection was closed".to_owned()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                (Kind::Reset, format!("a background connection: {error}"))
            }
            Ok(_) | Err(_) => return Ok(()),
        };
        self.is_lost = true;
        Err(fault)
    }
}
