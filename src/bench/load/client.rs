//! One connection of the generator: sends a batch of requests and reads the responses. Also
//! background connections that are only open.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use super::answer::{Answer, Fault, Took, Wanted};
use super::job::{Crowd, Kind};
use super::{Batch, Fallible};

/// Length of a line of the fan-out stream: a number and the time at which the line was due, in
/// nanoseconds.
pub(crate) const LISTEN_LINE_BYTES: usize = 32;

/// A connection that sends requests.
pub(crate) struct Client {
    stream: TcpStream,
    /// The current batch, and the number of bytes sent and of responses received.
    batch: usize,
    sent_bytes: usize,
    answered: usize,
    is_asking: bool,
    /// Time at which the batch was due, in nanoseconds.
    pub(crate) asked_ns: u64,
    answer: Answer,
    /// Bytes read after the end of a response. Pipelined responses arrive together.
    rest: std::ops::Range<usize>,
    held: Vec<u8>,
    /// The server has to close the connection now. The response is complete only after that.
    pub(crate) awaits_end: bool,
    /// Reads lines of an endless stream instead of responses.
    pub(crate) listens: bool,
    line: Vec<u8>,
    heard: Option<u64>,
    /// Time at which the last received line was due.
    pub(crate) heard_due_ns: Option<u64>,
    pub(crate) has_been_answered: bool,
    /// A short read has emptied the socket. The next event reports new input.
    pub(crate) is_drained: bool,
    /// Content bytes received since the last time this count was taken.
    pub(crate) came_bytes: u64,
}

/// Outcome of one step of a client.
pub(crate) enum Progress {
    /// Nothing to do until the next event.
    Waits,
    /// Received one complete response.
    Answered { batch_is_complete: bool },
    /// The server has closed the connection, as expected.
    Ended,
    /// Received lines of a stream. `stamps_ns` contains the time at which each was due.
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

    /// Starts a batch. `send` sends it.
    pub(crate) fn ask(&mut self, batch: usize, due: u64) {
        (self.batch, self.sent_bytes, self.answered) = (batch, 0, 0);
        (self.is_asking, self.asked_ns) = (true, due);
    }

    /// Returns whether a response is outstanding.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_asking && !(self.listens && self.has_been_answered)
    }

    /// Sends as much as the socket accepts. To be called again after the next event.
    pub(crate) fn send(&mut self, batches: &[Batch]) -> Result<(), Fault> {
        let bytes = &batches[self.batch].bytes;
        while self.is_asking && self.sent_bytes < bytes.len() {
            match self.stream.write(&bytes[self.sent_bytes..]) {
                Ok(count) => self.sent_bytes += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Not connected yet. An event will report the connection.
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

    /// Reads input up to the end of the next response. To be called again until it returns `Waits`,
    /// because an edge-triggered event comes only once.
    pub(crate) fn take(
        &mut self,
        batches: &[Batch],
        wanted: &[Wanted],
        scratch: &mut [u8],
    ) -> Result<Progress, Fault> {
        loop {
            if !self.rest.is_empty() {
                // Bytes that an earlier step has kept: responses after the first one of a read.
                let held = std::mem::take(&mut self.held);
                let taken = self.take_piece(&held[self.rest.clone()], batches, wanted);
                self.held = held;
                if let Some((progress, used)) = taken? {
                    self.rest.start += used;
                    return Ok(progress);
                }
                self.rest = 0..0;
            }
            // Content and the end of the connection can arrive with one event. So if the server has
            // to close the connection, a short read does not mean that the socket is empty.
            if self.is_drained && !self.awaits_end && !self.listens {
                return Ok(Progress::Waits);
            }
            match self.stream.read(scratch) {
                Ok(0) if self.awaits_end => return Ok(Progress::Ended),
                Ok(0) if !self.is_asking => return Err((Kind::Reset, "closed between requests".to_owned())),
                Ok(0) => return Err((Kind::Short, "closed before the response was complete".to_owned())),
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

    /// Processes a piece of input. Returns the number of bytes used and the progress once there is
    /// any to report.
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
            return Err((Kind::Framing, "received bytes without a request".to_owned()));
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

    /// Reads lines of the stream. Each must be complete and in order.
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
    let fault = || (Kind::Content, "received a malformed line".to_owned());
    let text = std::str::from_utf8(line).map_err(|_| fault())?.strip_suffix('\n').ok_or_else(fault)?;
    let (number, stamp) = text.split_once(' ').ok_or_else(fault)?;
    Ok((number.parse().map_err(|_| fault())?, stamp.parse().map_err(|_| fault())?))
}

/// A background connection: idle or slow.
pub(crate) struct Backdrop {
    stream: std::net::TcpStream,
    crowd: Crowd,
    is_lost: bool,
}

impl Backdrop {
    /// Connects and sends the first bytes, if any.
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

    /// Reads the first response of an idle connection, because idle means between two requests. The
    /// response is short enough for one read. To be called after all connections of a group are
    /// open.
    pub(crate) fn settle(&mut self) -> Fallible<()> {
        if let Crowd::Idle(_) = self.crowd {
            self.stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
            if self.stream.read(&mut [0; 1024])? == 0 {
                return Err("a background connection was closed at once".into());
            }
        }
        Ok(self.stream.set_nonblocking(true)?)
    }

    /// Reads or writes a small amount. Returns an error once if the connection was closed.
    pub(crate) fn step(&mut self, scratch: &mut [u8]) -> Result<(), Fault> {
        let moved = match self.crowd {
            Crowd::SlowReaders(_) if !self.is_lost => self.stream.read(&mut scratch[..4096]),
            Crowd::SlowSenders(_) if !self.is_lost => self.stream.write(&[b'.'; 64]),
            Crowd::Idle(_) | Crowd::SlowReaders(_) | Crowd::SlowSenders(_) => return Ok(()),
        };
        self.judge(moved)
    }

    /// Checks that the connection is still open.
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
