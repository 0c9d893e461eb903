//! The acceptor: waits on the listening sockets and for signals, and starts a thread for each new
//! connection. This file must not know HTTP, apart from one fixed 503 response.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::SendFlags;

use crate::clock::read_clocks;
use crate::config::{INBOX_LOOK, KIB};
use crate::conn_id::Peer;
use crate::driver::outcome::{Outcome, Signal};
use crate::driver::signals::Signals;
use crate::http::{CloseReason, Status};
use crate::jobs::pace::LeastRate;
use crate::observe::Observer as _;
use crate::observe::step::{Step, Transfer};
use crate::shortage;
use crate::sync::lock;
use crate::threads::Twin;
use crate::threads::reaper::Shared;
use crate::threads::socket::{SharedConn, Socket};
use crate::threads::worker::Worker;

/// Stack size of a worker, in bytes. The memory is reserved, not resident. Unoptimised code needs
/// more.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 512 * KIB } else { 128 * KIB };

/// How long the acceptor leaves clients in the listen queue when descriptors have run out.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How long a graceful stop waits before it counts the connections. A worker that has just sent a
/// response becomes idle within this time, and a user who pressed Ctrl-C does not notice the delay.
const STOP_SETTLE: Duration = Duration::from_millis(20);

/// A non-blocking listening socket. The acceptor waits in `poll`, not in `accept`.
#[derive(Debug)]
pub enum ListenSocket {
    /// Over IP.
    Tcp(TcpListener),
    /// Over a path on this machine.
    Unix(UnixListener),
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            ListenSocket::Tcp(listener) => listener.as_fd(),
            ListenSocket::Unix(listener) => listener.as_fd(),
        }
    }
}

impl ListenSocket {
    fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            ListenSocket::Tcp(listener) => {
                listener.accept().map(|(stream, addr)| (Socket::Tcp(stream), Peer::from_addr(addr)))
            }
            ListenSocket::Unix(listener) => {
                listener.accept().map(|(stream, _)| (Socket::Unix(stream), Peer::Unix))
            }
        }
    }
}

/// The acceptor and everything that its thread owns.
pub(super) struct Acceptor {
    pub(super) twin: Arc<Twin>,
    pub(super) shared: Arc<Shared>,
    pub(super) signals: Signals,
    pub(super) ended: UnixStream,
    pub(super) busy_rate: Option<LeastRate>,
    /// When the last search found no connection to evict.
    pub(super) search_failed_at: Option<Instant>,
    /// True during a stop: all clients in the listen queues are accepted.
    pub(super) takes_all: bool,
}

impl Acceptor {
    /// Accepts clients until a signal requests a stop, then stops.
    pub(super) fn run(mut self, sockets: Vec<ListenSocket>) -> io::Result<Outcome> {
        let mut retry = None;
        loop {
            let (mut signals, ready) = self.wait(if retry.is_some() { &[] } else { &sockets }, retry)?;
            while let Some(signal) = signals.pop_front() {
                match signal {
                    Signal::Reopen => self.reopen_log(),
                    Signal::Report => report_is_for_loops(),
                    Signal::Interrupt | Signal::Terminate | Signal::Quit | Signal::TerminalClosed => {
                        return self.stop(sockets, signal, signals);
                    }
                }
            }
            retry = None;
            for (socket, _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
                if !self.accept_from(socket) {
                    retry = Some(RETRY_AFTER);
                }
            }
        }
    }

    fn reopen_log(&self) {
        if let Some(log) = &self.twin.log {
            log.reopen();
        }
    }

    /// Waits for a signal, a client, or the end of a connection. Returns the signals, and for each
    /// socket whether a client waits. Returns at least every [`INBOX_LOOK`], because the byte for
    /// the end of a connection may not have been written.
    fn wait(
        &mut self,
        sockets: &[ListenSocket],
        timeout: Option<Duration>,
    ) -> io::Result<(VecDeque<Signal>, Vec<bool>)> {
        let timeout = timeout.unwrap_or(INBOX_LOOK).min(INBOX_LOOK);
        let timeout = rustix::event::Timespec::try_from(timeout).ok();
        let mut fds = vec![PollFd::new(&self.ended, PollFlags::IN)];
        fds.extend(sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
        fds.extend(self.signals.sources().map(|source| PollFd::new(&*source, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (has_ended, rest) = ready.split_first().unwrap_or((&false, &[]));
        let (clients, signals) = rest.split_at(sockets.len());
        if *has_ended {
            // If bytes are left, the next wait returns at once.
            drop(io::Read::read(&mut &self.ended, &mut [0; 64]));
        }
        let came = if signals.contains(&true) { self.signals.take() } else { Vec::new() };
        Ok((came.into(), clients.to_vec()))
    }

    /// Returns true if no further thread may be started.
    fn is_full(&self) -> bool {
        self.shared.open.load(Ordering::SeqCst) >= self.twin.config.limits.threads_max
    }

    /// Returns true if a client waits at this socket and should go on waiting, because a thread
    /// will soon be free.
    fn leaves_waiting(&mut self, socket: &ListenSocket) -> bool {
        if self.takes_all || !self.is_full() || !has_client(socket) {
            return false;
        }
        let now = read_clocks().mono;
        if self.search_failed_at.is_some_and(|at| now.saturating_duration_since(at) < RETRY_AFTER) {
            return false;
        }
        let threads_max = self.twin.config.limits.threads_max;
        if !self.shared.make_room(now, self.busy_rate.as_ref(), threads_max) {
            self.search_failed_at = Some(now);
            return false;
        }
        self.shared.wants_thread.store(true, Ordering::SeqCst);
        // A thread may have ended before the flag was set.
        self.is_full()
    }

    /// Accepts until would-block. Returns false when descriptors or threads have run out.
    fn accept_from(&mut self, socket: &ListenSocket) -> bool {
        loop {
            if self.leaves_waiting(socket) {
                return false;
            }
            match socket.accept() {
                Ok((stream, peer)) => self.adopt(stream, peer),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return true,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        log::warn!("cannot accept: {error}");
                        shortage::report_in(&error);
                        return false;
                    }
                },
            }
        }
    }

    /// Starts a thread for a connection, or sends it a 503 response if that fails.
    fn adopt(&self, socket: Socket, peer: Peer) {
        let open = self.shared.open.fetch_add(1, Ordering::SeqCst);
        let conn = Arc::new(SharedConn::new(socket));
        let id = self.shared.register(&conn);
        let mut tally = self.shared.tally(id);
        tally.step(|| Step::Accept { listener: 0, accepted: Ok(id) });
        let started = if open < self.twin.config.limits.threads_max {
            let (twin, shared, conn) = (Arc::clone(&self.twin), Arc::clone(&self.shared), Arc::clone(&conn));
            std::thread::Builder::new()
                .name("whirligig-conn".into())
                .stack_size(STACK_BYTES)
                .spawn(move || Worker::new(&twin, &shared, conn, id, peer).run())
                .map(drop)
        } else {
            Err(io::Error::other("all threads are in use"))
        };
        if let Err(error) = started {
            log::warn!("cannot serve a connection: {error}");
            // Without a thread there is no protocol, so the client gets one fixed response. A new
            // socket always has room for it.
            const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let sent = rustix::net::send(&conn.socket, BUSY, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            let sent = sent.map_err(io::Error::from);
            tally.step(|| Step::Write(Transfer::written(id, BUSY.len() as u64, &sent)));
            tally.step(|| Step::Respond { id, method: None, status: Status::SERVICE_UNAVAILABLE });
            tally.step(|| Step::Close { id, reason: CloseReason::Evicted });
            self.shared.unregister(id);
        }
    }

    /// Stops gracefully: closes the listeners and idle connections, and waits for the responses of
    /// the others. `signals` arrived together with the signal that requested the stop.
    fn stop(
        mut self,
        sockets: Vec<ListenSocket>,
        signal: Signal,
        mut signals: VecDeque<Signal>,
    ) -> io::Result<Outcome> {
        self.takes_all = true;
        for socket in &sockets {
            self.accept_from(socket);
        }
        drop(sockets);
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.release_idle();
        let cut_at = read_clocks().mono + self.twin.config.timeouts.drain;
        signals.extend(self.wait(&[], Some(STOP_SETTLE))?.0);
        lock(&self.twin.on_stop)(signal, &self.shared.under_way());
        loop {
            let open = self.shared.open.load(Ordering::SeqCst);
            if open == 0 {
                return Ok(Outcome::Stopped);
            }
            while let Some(signal) = signals.pop_front() {
                match signal {
                    Signal::Reopen => self.reopen_log(),
                    Signal::Report => report_is_for_loops(),
                    // Shell and kernel may both send SIGHUP for a closed terminal, so the second
                    // one does not mean that the user is in a hurry.
                    Signal::TerminalClosed => {}
                    Signal::Interrupt | Signal::Terminate | Signal::Quit => {
                        return Ok(Outcome::Killed(signal));
                    }
                }
            }
            let left = cut_at.saturating_duration_since(read_clocks().mono);
            if left.is_zero() {
                return Ok(Outcome::Cut(open));
            }
            signals.extend(self.wait(&[], Some(left))?.0);
        }
    }
}

/// Returns true if a client waits to be accepted.
fn has_client(socket: &ListenSocket) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&rustix::event::Timespec::default())), Ok(1..))
}

/// Answers SIGUSR2.
fn report_is_for_loops() {
    log::warn!("SIGUSR2: only the reactor model lists the requests under way");
}
