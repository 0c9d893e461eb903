//! The simulated kernel: the listener with its queue of clients, and connections with two queues of
//! bytes and the readiness that the next poll reports.
//!
//! The rules are those of Linux for edge-triggered polling, and `tests/it/kernel.rs` compares them
//! with the real kernel. A rule may promise less than the real kernel, never more: the kernel may
//! report more events than this one. This file must not know scenarios, seeds or HTTP.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::clock::{Instant, Now};
use crate::observe::step::SocketReport;
use crate::shortage::EMFILE;

/// Within this time a loop that could not accept must try again, because no event reports slots or
/// descriptors.
const RETRY_WITHIN: Duration = Duration::from_millis(100);

/// Returns both clocks at a time of a simulation, in nanoseconds since its begin.
pub(super) fn clocks(now_ns: u64, origin: Instant) -> Now {
    let passed = Duration::from_nanos(now_ns);
    Now { mono: origin + passed, wall: Duration::from_secs(1_700_000_000) + passed }
}

/// The listener, and the number of sockets that the process may have open.
#[derive(Debug)]
pub struct KernelListener {
    /// Numbers of the clients that wait to be accepted.
    queue: VecDeque<usize>,
    is_listening: bool,
    /// True if the next poll reports the listener.
    is_pending: bool,
    open: usize,
    open_max: usize,
}

impl KernelListener {
    /// Creates a listener of a process that may have `open_max` sockets.
    #[must_use]
    pub fn new(open_max: usize) -> Self {
        KernelListener { queue: VecDeque::new(), is_listening: true, is_pending: false, open: 0, open_max }
    }

    /// Puts a client into the queue. Returns false if nothing listens any more.
    pub fn connect(&mut self, client: usize) -> bool {
        if self.is_listening {
            self.queue.push_back(client);
            self.is_pending = true;
        }
        self.is_listening
    }

    /// Accepts the client that waits longest.
    pub fn accept(&mut self) -> io::Result<usize> {
        let Some(&client) = self.queue.front() else { return Err(ErrorKind::WouldBlock.into()) };
        if self.open >= self.open_max {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.queue.pop_front();
        self.open += 1;
        Ok(client)
    }

    /// Notes that the server has closed a socket.
    pub fn closed(&mut self) {
        self.open -= 1;
    }

    /// Closes the listener. Returns the clients that were not accepted; their connections are
    /// reset.
    pub fn close(&mut self) -> Vec<usize> {
        self.is_listening = false;
        self.queue.drain(..).collect()
    }

    /// Returns true if a client could connect.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.is_listening
    }

    /// Returns the number of open sockets.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Iterates over the clients that wait to be accepted, the oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = usize> {
        self.queue.iter().copied()
    }

    /// Returns true if a client waits to be accepted.
    #[must_use]
    pub fn has_client(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns true if the next poll reports the listener.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Takes the event for a poll.
    pub fn take_event(&mut self) -> bool {
        std::mem::take(&mut self.is_pending)
    }

    /// Returns a client that waits to be accepted, if neither an event nor the end of this poll
    /// will make the loop accept.
    #[must_use]
    pub fn forgotten(&self, timeout: Option<Duration>) -> Option<usize> {
        let comes_back = timeout.is_some_and(|wait| wait <= RETRY_WITHIN);
        self.queue.front().copied().filter(|_| !self.is_pending && !comes_back)
    }
}

/// A connection between a client and the server, as the kernel sees it.
#[derive(Debug)]
pub struct KernelSocket {
    /// Capacity in each direction, in bytes.
    capacity: usize,
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    client_end: End,
    /// True if the server has received the reset as an error.
    reset_reported: bool,
    server_end: End,
    is_registered: bool,
    pending: SocketReport,
    /// True if a write found no room: an event follows when there is room again.
    write_blocked: bool,
}

/// The state of one side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The side sends and receives.
    Open,
    /// The side has shut its sending direction.
    Shut,
    /// The side has closed the connection in order.
    Closed,
    /// The side has reset the connection.
    Reset,
}

impl KernelSocket {
    /// Creates a connection that the client has opened and the server has not accepted.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        KernelSocket {
            capacity,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            client_end: End::Open,
            reset_reported: false,
            server_end: End::Open,
            is_registered: false,
            pending: SocketReport::default(),
            write_blocked: false,
        }
    }

    /// Returns the state of the client's side.
    #[must_use]
    pub fn client_end(&self) -> End {
        self.client_end
    }

    /// Returns the state of the server's side.
    #[must_use]
    pub fn server_end(&self) -> End {
        self.server_end
    }

    /// Returns the number of bytes that the server has not read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.to_server.len()
    }

    /// Returns the number of bytes that the client has not read.
    #[must_use]
    pub fn untaken(&self) -> usize {
        self.to_client.len()
    }

    /// Returns the readiness that the next poll reports.
    #[must_use]
    pub fn pending(&self) -> SocketReport {
        self.pending
    }

    /// True if the next poll reports this connection.
    #[must_use]
    pub fn has_report(&self) -> bool {
        self.is_registered && self.pending != SocketReport::default() && !self.is_closed()
    }

    /// True if there is room for bytes from the client.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.to_server.len() < self.capacity
    }

    /// True if an event about room to write will come without the server.
    #[must_use]
    pub fn will_report_writable(&self) -> bool {
        self.pending.writable || self.write_blocked || self.client_end == End::Reset
    }

    /// True if the server has closed its side.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.server_end, End::Closed | End::Reset)
    }

    /// Iterates over the bytes that the client has not read.
    pub fn in_transit(&self) -> impl Iterator<Item = u8> {
        self.to_client.iter().copied()
    }

    /// True if input or its end waits for the server.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.to_server.is_empty() || self.client_end != End::Open
    }

    /// Sends bytes from the client, as many as there is room for. Returns their number.
    pub fn client_sends(&mut self, bytes: &[u8]) -> usize {
        match (self.client_end, self.server_end) {
            (End::Open, End::Open | End::Shut) => {}
            // The server has closed: the bytes lead to a reset, which may erase what the client has
            // not read (RFC 9112 section 9.6).
            (End::Open, End::Closed | End::Reset) => {
                self.server_end = End::Reset;
                self.to_client.clear();
                return bytes.len();
            }
            (End::Shut | End::Closed | End::Reset, _) => return 0,
        }
        let count = bytes.len().min(self.capacity - self.to_server.len().min(self.capacity));
        self.to_server.extend(&bytes[..count]);
        if count > 0 {
            // Each arrival is an edge, also while older bytes are unread.
            self.pending.readable = true;
        }
        count
    }

    /// Shuts the sending side of the client: FIN.
    pub fn client_shuts(&mut self) {
        if self.client_end == End::Open {
            self.client_end = End::Shut;
            self.pending.readable = true;
            self.pending.read_closed = true;
        }
    }

    /// Resets the connection from the client. Bytes in both directions are lost.
    pub fn client_resets(&mut self) {
        if self.client_end == End::Reset {
            return;
        }
        self.client_end = End::Reset;
        self.to_server.clear();
        self.to_client.clear();
        self.pending = SocketReport { readable: true, writable: true, read_closed: true, hung_up: true };
    }

    /// Takes at most `most` bytes for the client. After a write that found no room, an event
    /// follows when half of the capacity is free.
    pub fn client_takes(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.to_client.len());
        let taken: Vec<u8> = self.to_client.drain(..count).collect();
        if count > 0 && self.write_blocked && self.to_client.len() <= self.capacity / 2 {
            self.write_blocked = false;
            self.pending.writable = true;
        }
        taken
    }

    /// Registers the server's side with the poll. Readiness that exists already is reported.
    pub fn register(&mut self) {
        self.is_registered = true;
        let is_over = self.client_end != End::Open;
        self.pending = SocketReport {
            readable: !self.to_server.is_empty() || is_over,
            writable: !self.write_blocked,
            read_closed: is_over,
            hung_up: self.client_end == End::Reset,
        };
    }

    /// Takes the readiness that a poll reports. `level` reports input as long as it is unread, as
    /// level-triggered polling does.
    pub fn take_report(&mut self, level: bool) -> Option<SocketReport> {
        if level && self.has_input() {
            self.pending.readable = true;
        }
        if !self.has_report() {
            return None;
        }
        let pending = std::mem::take(&mut self.pending);
        let is_over = self.client_end != End::Open;
        Some(SocketReport {
            // A closed side is part of every report.
            readable: pending.readable || pending.read_closed,
            writable: pending.writable,
            read_closed: is_over,
            hung_up: self.client_end == End::Reset,
        })
    }

    /// Reports an event without a cause.
    pub fn report_spuriously(&mut self) {
        self.pending.readable = true;
        self.pending.writable = true;
    }

    /// Reads for the server. Returns 0 at the end of input.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.client_end == End::Reset {
            let is_reported = std::mem::replace(&mut self.reset_reported, true);
            return if is_reported { Ok(0) } else { Err(ErrorKind::ConnectionReset.into()) };
        }
        if self.to_server.is_empty() {
            return if self.client_end == End::Open { Err(ErrorKind::WouldBlock.into()) } else { Ok(0) };
        }
        let count = self.to_server.len().min(into.len());
        let (front, back) = self.to_server.as_slices();
        let of_front = count.min(front.len());
        into[..of_front].copy_from_slice(&front[..of_front]);
        into[of_front..count].copy_from_slice(&back[..count - of_front]);
        self.to_server.drain(..count);
        Ok(count)
    }

    /// Makes the rest of the input arrive later, with an event of its own.
    pub fn delay_input(&mut self) {
        self.pending.readable = true;
    }

    /// Returns the room for a write of the server. If there is none, an event follows.
    pub fn room(&mut self) -> io::Result<usize> {
        if self.client_end == End::Reset {
            self.reset_reported = true;
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = self.capacity.saturating_sub(self.to_client.len());
        if room == 0 {
            self.write_blocked = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(room)
    }

    /// Writes for the server, as much as there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.room()?.min(bytes.len());
        self.to_client.extend(&bytes[..count]);
        self.write_blocked |= count < bytes.len();
        Ok(count)
    }

    /// Notes that a write was refused although there is room; an event follows.
    pub fn block_write(&mut self) {
        self.pending.writable = true;
    }

    /// Shuts the sending side of the server: FIN.
    pub fn server_shuts(&mut self) {
        if self.server_end == End::Open {
            self.server_end = End::Shut;
        }
    }

    /// Closes the server's side. Unread input makes it a reset, which destroys output that the
    /// client has not received.
    pub fn server_closes(&mut self, with_reset: bool) {
        if with_reset || !self.to_server.is_empty() {
            self.server_end = End::Reset;
            self.to_client.clear();
        } else {
            self.server_end = End::Closed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_comes_once_and_again_with_new_bytes() {
        let mut socket = KernelSocket::new(100);
        socket.register();
        assert!(socket.take_report(false).is_some_and(|report| report.writable && !report.readable));
        socket.client_sends(b"abc");
        assert!(socket.take_report(false).is_some_and(|report| report.readable));
        assert_eq!(socket.take_report(false), None, "unread bytes are not reported again");
        assert!(socket.take_report(true).is_some(), "unless the poll is level-triggered");
        socket.client_sends(b"d");
        assert!(socket.take_report(false).is_some_and(|report| report.readable));
    }

    #[test]
    fn a_reset_by_the_server_destroys_what_the_client_has_not_received() {
        let mut socket = KernelSocket::new(100);
        socket.client_sends(b"unread");
        assert_eq!(socket.write(b"response").ok(), Some(8));
        socket.server_closes(false);
        assert_eq!((socket.server_end(), socket.untaken()), (End::Reset, 0));
    }

    #[test]
    fn room_is_reported_after_a_short_write() {
        let mut socket = KernelSocket::new(10);
        socket.register();
        socket.take_report(false);
        assert_eq!(socket.write(&[0; 20]).ok(), Some(10));
        assert!(socket.will_report_writable());
        socket.client_takes(4);
        assert_eq!(socket.take_report(false), None);
        socket.client_takes(1);
        assert!(socket.take_report(false).is_some_and(|report| report.writable));
    }
}
