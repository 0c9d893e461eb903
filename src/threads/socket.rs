//! The socket of one connection: what the worker, the reaper and the acceptor know of it, and the
//! stream that the pump reads and writes.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};

use crate::clock::Now;
use crate::clock::{read_clocks, read_wall_clock};
use crate::driver::socket::{send_file, write_slices};
use crate::driver::stream::{FilePart, SentFile, Stream};
use crate::http::Phase;
use crate::jobs::RouteName;
use crate::jobs::pace::Pace;
use crate::threads::notify::Woken;

/// A deadline that never comes.
pub(super) const NEVER: u64 = u64::MAX;

/// Beside a phase: nothing is under way, so a graceful stop may let the connection go.
pub(super) const MAY_GO: u8 = 0x80;

/// The socket's reading half was not shut by us.
pub(super) const OPEN: u8 = 0;

/// The reaper has shut it, because the deadline passed.
pub(super) const EXPIRED: u8 = 1;

/// We have shut it, because its thread, or the place of its content, is needed.
pub(super) const GIVES_WAY: u8 = 2;

/// What a worker and the reaper share of one connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) socket: Socket,
    /// When the present phase gives up, in nanoseconds since the twin began.
    pub(super) due: AtomicU64,
    /// For when the reaper has it in its queue; `NEVER` while it decides.
    pub(super) armed: AtomicU64,
    /// The phase it waits in, as its place in [`Phase::ALL`], with `MAY_GO` where that holds. While
    /// a worker works it stands at `Handling`.
    pub(super) phase: AtomicU8,
    /// When that phase began, in nanoseconds since the twin began.
    pub(super) since: AtomicU64,
    /// How fast content comes, while it waits for that.
    pub(super) pace: Mutex<Option<Pace>>,
    /// The job that its thread is busy with, if it answers in time.
    pub(super) job: Mutex<Option<TimedJob>>,
    /// Why we have shut the socket's reading half: `OPEN`, `EXPIRED` or `GIVES_WAY`.
    pub(super) shut_for: AtomicU8,
    /// Rung when a body source has something to say, or when the server stops.
    pub(super) woken: Woken,
}

impl Line {
    pub(super) fn new(socket: Socket) -> Self {
        Line {
            socket,
            due: AtomicU64::new(NEVER),
            armed: AtomicU64::new(NEVER),
            phase: AtomicU8::new(Phase::ReceivingHead as u8 | MAY_GO),
            since: AtomicU64::new(NEVER),
            pace: Mutex::default(),
            job: Mutex::default(),
            shut_for: AtomicU8::new(OPEN),
            woken: Woken::default(),
        }
    }

    /// Wakes its worker from the wait for input, to make place for another client.
    pub(super) fn give_way(&self) {
        self.shut_for.store(GIVES_WAY, Ordering::SeqCst);
        drop(self.socket.shutdown(Shutdown::Read));
    }

    /// True once for a deadline that has passed.
    pub(super) fn take_expired(&self) -> bool {
        let (old, new) = (EXPIRED, OPEN);
        self.shut_for.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.shut_for.load(Ordering::SeqCst) == GIVES_WAY
    }
}

/// A job that a thread is busy with.
#[derive(Debug)]
pub(super) struct TimedJob {
    /// When its answer is late, in nanoseconds since the twin began.
    pub(super) due: u64,
    pub(super) route: RouteName,
    pub(super) is_counted: bool,
}

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

/// A blocking socket that lets the pump wait in a read, where the worker said so, and nowhere else.
pub(super) struct TwinStream {
    pub(super) line: Arc<Line>,
    pub(super) may_wait: bool,
    pub(super) woke_at: Option<Now>,
}

impl TwinStream {
    /// Tells an end of input that we have made from one that the peer has. The flag for a place
    /// that is needed stays, because the thread is on its way out.
    fn check_shut(&self) -> io::Result<()> {
        match self.line.is_leaving() {
            true => Err(ErrorKind::ResourceBusy.into()),
            false => self.check_expired(),
        }
    }

    /// Tells a socket that the reaper has shut from one that the peer has.
    fn check_expired(&self) -> io::Result<()> {
        if self.line.take_expired() { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn receive<B: rustix::buffer::Buffer<u8>>(&mut self, into: B) -> io::Result<(B::Output, usize)> {
        let waits = std::mem::take(&mut self.may_wait);
        let flags = if waits { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let got = rustix::net::recv(&self.line.socket, into, flags);
        if waits {
            // No longer idle: a stop must leave the reading half alone from here on.
            self.line.phase.store(Phase::Handling as u8, Ordering::SeqCst);
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

    fn write_vectored(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        let sent = write_slices(&self.line.socket, slices, more, SendFlags::DONTWAIT);
        if sent.is_err() {
            self.check_expired()?;
        }
        sent
    }

    /// A cold file holds up nobody but its own client here.
    fn send_file(&mut self, fd: &OwnedFd, part: FilePart, _may_wait: bool) -> io::Result<SentFile> {
        // sendfile has no flag for a single call: the socket is made non-blocking for the duration
        // of a file.
        rustix::io::ioctl_fionbio(&self.line.socket, true)?;
        let sent = send_file(&self.line.socket, fd, part);
        rustix::io::ioctl_fionbio(&self.line.socket, false)?;
        if sent.is_err() {
            self.check_expired()?;
        }
        sent
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.line.socket.shutdown(Shutdown::Write)
    }

    fn reset_on_close(&mut self) {
        if let Socket::Tcp(stream) = &self.line.socket {
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
