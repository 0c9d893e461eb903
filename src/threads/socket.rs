//! The socket of one connection: the state that worker, reaper and acceptor share, and the stream
//! that the pump reads and writes. This file must not know HTTP.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};

use crate::clock::{Now, read_clocks, read_wall_clock};
use crate::driver::socket::{receive, send_file, write_slices};
use crate::driver::stream::{FilePart, IfCold, SentFile, Stream};
use crate::http::Phase;
use crate::http::send_queue::More;
use crate::jobs::RouteName;
use crate::jobs::pace::Pace;
use crate::threads::notify::Notify;

/// A deadline that never passes.
pub(super) const NEVER: u64 = u64::MAX;

/// Flag next to a phase: no request is in progress, so a graceful stop may close the connection.
pub(super) const MAY_CLOSE: u8 = 0x80;

/// Value of `shut_for`: the server has not shut the reading half of the socket.
const OPEN: u8 = 0;

/// Value of `shut_for`: the reaper has shut the reading half, because the deadline passed.
pub(super) const EXPIRED: u8 = 1;

/// Value of `shut_for`: the reading half was shut to evict the connection, because its thread or
/// the memory of its content is needed.
const EVICTED: u8 = 2;

/// The state of one connection that its worker and the reaper share.
#[derive(Debug)]
pub(super) struct SharedConn {
    /// The connected socket.
    pub(super) socket: Socket,
    /// Deadline of the current phase, in nanoseconds since the twin began.
    pub(super) due: AtomicU64,
    /// Deadline that the reaper has in its queue; `NEVER` while the reaper checks it.
    pub(super) armed: AtomicU64,
    /// The phase that the worker waits in, as its index in [`Phase::ALL`], possibly with
    /// `MAY_CLOSE`. While the worker is busy, the phase is `Handling`.
    pub(super) phase: AtomicU8,
    /// When that phase began, in nanoseconds since the twin began.
    pub(super) since: AtomicU64,
    /// How fast content arrives, while the worker waits for it.
    pub(super) pace: Mutex<Option<Pace>>,
    /// The job that the thread runs, if its response has a deadline.
    pub(super) job: Mutex<Option<TimedJob>>,
    /// Why the server has shut the reading half of the socket: `OPEN`, `EXPIRED` or `EVICTED`.
    pub(super) shut_for: AtomicU8,
    /// Set when a body source has content, and when the server stops.
    pub(super) wake_up: Notify,
}

impl SharedConn {
    pub(super) fn new(socket: Socket) -> Self {
        SharedConn {
            socket,
            due: AtomicU64::new(NEVER),
            armed: AtomicU64::new(NEVER),
            phase: AtomicU8::new(Phase::ReceivingHead as u8 | MAY_CLOSE),
            since: AtomicU64::new(NEVER),
            pace: Mutex::default(),
            job: Mutex::default(),
            shut_for: AtomicU8::new(OPEN),
            wake_up: Notify::default(),
        }
    }

    /// Evicts the connection: wakes its worker from the read, to make room for another client.
    pub(super) fn evict(&self) {
        self.shut_for.store(EVICTED, Ordering::SeqCst);
        drop(self.socket.shutdown(Shutdown::Read));
    }

    /// Returns true once for a deadline that has passed.
    pub(super) fn take_expired(&self) -> bool {
        let (old, new) = (EXPIRED, OPEN);
        self.shut_for.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Returns true if the connection is being evicted.
    pub(super) fn is_leaving(&self) -> bool {
        self.shut_for.load(Ordering::SeqCst) == EVICTED
    }
}

/// A job that a thread is running.
#[derive(Debug)]
pub(super) struct TimedJob {
    /// When its response is late, in nanoseconds since the twin began.
    pub(super) due: u64,
    pub(super) route: RouteName,
    /// True if the late job was counted and logged.
    pub(super) is_counted: bool,
}

/// A connected socket of either kind.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Socket {
    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        }
    }
}

/// A blocking socket. The pump may wait in a read only if the worker has allowed it.
pub(super) struct TwinStream {
    pub(super) conn: Arc<SharedConn>,
    pub(super) may_wait: bool,
    pub(super) woke_at: Option<Now>,
}

impl TwinStream {
    /// Returns an error if the server caused an end of input, and not the peer. The flag for an
    /// eviction stays set, because the thread will end.
    fn check_shut(&self) -> io::Result<()> {
        match self.conn.is_leaving() {
            true => Err(ErrorKind::ResourceBusy.into()),
            false => self.check_expired(),
        }
    }

    /// Returns an error if the reaper has shut the socket, and not the peer.
    fn check_expired(&self) -> io::Result<()> {
        if self.conn.take_expired() { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Reads, and waits for input if the worker has allowed that.
    fn receive<B: rustix::buffer::Buffer<u8>>(&mut self, into: B) -> io::Result<(B::Output, usize)> {
        let waits = std::mem::take(&mut self.may_wait);
        let flags = if waits { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let got = receive(&self.conn.socket, into, flags);
        if waits {
            // No longer idle. From here on a stop must not shut the reading half.
            self.conn.phase.store(Phase::Handling as u8, Ordering::SeqCst);
            self.woke_at = Some(read_clocks());
        }
        let (room, bytes) = got?;
        if bytes == 0 {
            self.check_shut()?;
        }
        Ok((room, bytes))
    }
}

impl Stream for TwinStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(self.receive(into)?.1)
    }

    fn read_raw<'a>(&mut self, room: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a [u8]> {
        let ((read, _), _) = self.receive(room)?;
        Ok(read)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>], more: More) -> io::Result<usize> {
        let sent = write_slices(&self.conn.socket, slices, more, SendFlags::DONTWAIT);
        if sent.is_err() {
            self.check_expired()?;
        }
        sent
    }

    /// A file that is not in memory only delays its own client here.
    fn send_file(&mut self, fd: &OwnedFd, part: FilePart, _if_cold: IfCold) -> io::Result<SentFile> {
        // sendfile has no flag for a single non-blocking call, so the socket is non-blocking during
        // the call.
        rustix::io::ioctl_fionbio(&self.conn.socket, true)?;
        let sent = send_file(&self.conn.socket, fd, part);
        rustix::io::ioctl_fionbio(&self.conn.socket, false)?;
        if sent.is_err() {
            self.check_expired()?;
        }
        sent
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.conn.socket.shutdown(Shutdown::Write)
    }

    fn reset_on_close(&mut self) {
        if let Socket::Tcp(stream) = &self.conn.socket {
            drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        }
    }

    fn wall_clock(&mut self) -> Duration {
        read_wall_clock()
    }

    fn woke_at(&mut self) -> Option<Now> {
        self.woke_at.take()
    }
}
