//! The twin: one blocking thread per connection, on the same pump, protocol, handler and files as
//! the reactor.
//!
//! A fair opponent. A worker makes the same two calls per request as the loop does, a read and a
//! write; no socket timeout is changed and no clock but the one after the read is asked. Deadlines
//! are the reaper's: a worker publishes when its phase gives up in an atomic, and when that time
//! has come the reaper shuts the socket's reading half (both, when output is stuck), so that the
//! worker wakes and does what the protocol says.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{RecvFlags, SendFlags};

use crate::config::{Config, INBOX_LOOK, KIB};
use crate::conn_id::{ConnId, WatchId};
use crate::docroot::cache::FileCache;
use crate::driver::Driver;
use crate::driver::client::Client;
use crate::driver::deadline::DeadlineQueue;
use crate::driver::eviction::{EVICTION_IDLE_MIN, LEAVING_SHARE, RELIEF_CONNECTIONS, RELIEF_INTERVAL};
use crate::driver::exchange::Exchange;
use crate::driver::outcome::{OnStop, Outcome, Phases};
use crate::driver::pump;
use crate::driver::pump::Pumped;
use crate::driver::signals::{Signal, Signals};
use crate::driver::socket::{send_file, write_slices};
use crate::driver::stream::{FilePart, SentFile, Stream};
use crate::features::metrics::Metrics;
use crate::files::Files;
use crate::handler::watch::{Descriptor, Ready, Watched};
use crate::handler::{Handler, Now, Peer};
use crate::http::{CloseReason, Phase, Status};
use crate::jobs::pace::{LeastRate, Pace};
use crate::jobs::{
    Done, Errands, Inbox, InlineDesk, Job, JobDesk, Lane, Pool, RouteName, StillBusy, Ticket, lock,
};
use crate::log::{AccessBuffer, LogQueue};
use crate::observe::{Counters, Gauges, Observer, TwinTally};
use crate::reactor::os::{read_clocks, read_wall_clock};
use crate::shortage;
use crate::shortage::Relief;

/// A worker's stack, in bytes. Reserved, not resident; unoptimised code needs more of it.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 512 * KIB } else { 128 * KIB };

/// How long the acceptor leaves clients waiting when descriptors have run out.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How long a graceful stop waits before it counts the connections: a worker that has just sent a
/// response is idle a moment later. Nobody who presses Ctrl-C notices.
const STOP_SETTLE: Duration = Duration::from_millis(20);

/// How often the reaper looks at the file cache at the least: it is not told when the cache begins
/// to fill.
const SWEEP_LOOK: Duration = Duration::from_secs(10);

/// How often it looks for jobs whose answers are late at the most.
const LATE_LOOK_MIN: Duration = Duration::from_millis(100);

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// Beside a phase: nothing is under way, so a graceful stop may let the connection go.
const MAY_GO: u8 = 0x80;

/// The socket's reading half was not shut by us.
const OPEN: u8 = 0;

/// The reaper has shut it, because the deadline passed.
const EXPIRED: u8 = 1;

/// We have shut it, because its thread, or the place of its content, is needed.
const GIVES_WAY: u8 = 2;

/// Sets of counters that the threads count into, each thread into one of them. One for all would be
/// a cache line that every processor wants with every request; one for each thread would be memory
/// for each connection.
const TALLIES: usize = 16;

/// What the twin runs on.
pub struct Twin {
    pub(crate) config: Arc<Config>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) files: Arc<Mutex<FileCache>>,
    pub(crate) access: Option<LogQueue>,
    pub(crate) log: Option<LogQueue>,
    pub(crate) metrics: Arc<Metrics>,
    /// Workers for shared work that is long.
    pub(crate) pool: Arc<Pool>,
    pub(crate) on_stop: Mutex<OnStop>,
}

impl std::fmt::Debug for Twin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Twin").finish_non_exhaustive()
    }
}

/// A listening socket, non-blocking: the acceptor waits in `poll`, not in `accept`.
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

#[derive(Debug)]
enum Socket {
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
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        }
    }
}

/// What a worker and the reaper share of one connection.
#[derive(Debug)]
struct Line {
    socket: Socket,
    /// When the present phase gives up, in nanoseconds since the twin began.
    due: AtomicU64,
    /// For when the reaper has it in its queue; `NEVER` while it decides.
    armed: AtomicU64,
    /// The phase it waits in, as its place in [`Phase::ALL`], with `MAY_GO` where that holds. While
    /// a worker works it stands at `Handling`.
    phase: AtomicU8,
    /// When that phase began, in nanoseconds since the twin began.
    since: AtomicU64,
    /// How fast content comes, while it waits for that.
    pace: Mutex<Option<Pace>>,
    /// The job that its thread is busy with, if it answers in time.
    job: Mutex<Option<TimedJob>>,
    /// Why we have shut the socket's reading half: `OPEN`, `EXPIRED` or `GIVES_WAY`.
    shut_for: AtomicU8,
    /// Rung when a body source has something to say, or when the server stops.
    woken: Woken,
}

impl Line {
    fn new(socket: Socket) -> Self {
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
    fn give_way(&self) {
        self.shut_for.store(GIVES_WAY, Ordering::SeqCst);
        drop(self.socket.shutdown(Shutdown::Read));
    }

    /// True once for a deadline that has passed.
    fn take_expired(&self) -> bool {
        let (old, new) = (EXPIRED, OPEN);
        self.shut_for.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn is_leaving(&self) -> bool {
        self.shut_for.load(Ordering::SeqCst) == GIVES_WAY
    }
}

/// A job that a thread is busy with.
#[derive(Debug)]
struct TimedJob {
    /// When its answer is late, in nanoseconds since the twin began.
    due: u64,
    route: RouteName,
    is_counted: bool,
}

/// Does jobs on the connection's own thread. Nothing can be answered in their place meanwhile, but
/// the reaper counts those that take too long. It looks now and then: to wake it for each job would
/// cost more than most jobs do.
struct TwinDesk {
    inner: InlineDesk,
    shared: Arc<Shared>,
    line: Arc<Line>,
    answer_timeout: Option<Duration>,
}

impl JobDesk for TwinDesk {
    fn submit(&mut self, id: ConnId, lane: Lane, route: RouteName, job: Job) -> Result<Ticket, Job> {
        let Some(timeout) = self.answer_timeout else { return self.inner.submit(id, lane, route, job) };
        let due = self.shared.nanoseconds(read_clocks().mono + timeout);
        *lock(&self.line.job) = Some(TimedJob { due, route: route.clone(), is_counted: false });
        // A job that panics is over, too.
        let _at_end = JobEnd(&self.line);
        self.inner.submit(id, lane, route, job)
    }

    fn cancel(&mut self, id: ConnId) -> Option<StillBusy> {
        self.inner.cancel(id)
    }

    fn inbox(&self) -> &Arc<Inbox> {
        self.inner.inbox()
    }

    fn errands(&self) -> Arc<dyn Errands> {
        self.inner.errands()
    }
}

struct JobEnd<'a>(&'a Line);

impl Drop for JobEnd<'_> {
    fn drop(&mut self) {
        *lock(&self.0.job) = None;
    }
}

/// What all threads of the twin share.
#[derive(Debug)]
struct Shared {
    began: Instant,
    reaper: Mutex<Reaper>,
    /// Rung when the earliest deadline moved forward, or when the twin ends.
    bell: Condvar,
    stopping: Arc<AtomicBool>,
    open: AtomicUsize,
    files: Arc<Mutex<FileCache>>,
    tallies: [Arc<Counters>; TALLIES],
    /// The acceptor waits for a thread to end.
    wants_thread: AtomicBool,
    /// How often the reaper looks for late jobs and unused files at the least.
    late_look: Duration,
    /// Before this, in nanoseconds since the twin began, no more idle connections are closed
    /// because descriptors have run out.
    relief_due: AtomicU64,
    /// A byte through here wakes the acceptor when a thread ends that it waits for, any or the
    /// last.
    ended: UnixStream,
}

#[derive(Debug, Default)]
struct Reaper {
    queue: DeadlineQueue,
    lines: slab::Slab<(u32, Arc<Line>)>,
    generation: u32,
    /// Until when it sleeps. Nothing that is due later has to wake it, even if nothing else is in
    /// the queue.
    sleeps_until: Option<Instant>,
    over: bool,
}

impl Shared {
    fn nanoseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(NEVER - 1)
    }

    /// Notes when a worker's phase gives up. Costs two atomics unless the time is earlier than the
    /// reaper knows.
    fn publish(&self, id: ConnId, line: &Line, phase: u8, due: Option<Instant>) {
        line.phase.store(phase, Ordering::SeqCst);
        let due = due.map_or(NEVER, |due| self.nanoseconds(due));
        line.due.store(due, Ordering::SeqCst);
        if due < line.armed.load(Ordering::SeqCst) {
            let mut reaper = lock(&self.reaper);
            line.armed.store(due, Ordering::SeqCst);
            let at = self.began + Duration::from_nanos(due);
            reaper.queue.arm(id, at);
            if reaper.sleeps_until.is_some_and(|until| at < until) {
                // Once is enough: it looks at all there is before it sleeps again.
                reaper.sleeps_until = None;
                self.bell.notify_one();
            }
        }
    }

    fn enlist(&self, line: &Arc<Line>) -> ConnId {
        let mut reaper = lock(&self.reaper);
        reaper.generation = reaper.generation.wrapping_add(1).max(1);
        let generation = reaper.generation;
        let slot = reaper.lines.insert((generation, Arc::clone(line)));
        ConnId::new(generation, u32::try_from(slot).unwrap_or(u32::MAX))
    }

    fn dismiss(&self, id: ConnId) {
        let mut reaper = lock(&self.reaper);
        reaper.queue.remove(id);
        reaper.lines.try_remove(id.slot());
        drop(reaper);
        let was_last = self.open.fetch_sub(1, Ordering::SeqCst) == 1;
        let is_waited_for = self.wants_thread.swap(false, Ordering::SeqCst);
        if is_waited_for || (was_last && self.stopping.load(Ordering::SeqCst)) {
            drop(io::Write::write(&mut &self.ended, b"."));
        }
    }

    /// Wakes the connections that have been idle for longest, to be closed.
    fn close_idlest(&self, count: usize) {
        let now = read_clocks().mono;
        let reaper = lock(&self.reaper);
        let lines = reaper.lines.iter().map(|(_, (_, line))| line);
        let idle = lines.filter(|line| !line.is_leaving());
        let mut idle: Vec<_> = idle.filter_map(|line| Some((self.rank(line, now, None)?, line))).collect();
        idle.sort_unstable_by_key(|(rank, _)| *rank);
        for (_, line) in idle.iter().take(count) {
            line.give_way();
        }
    }

    /// Has the idlest connection give up its thread, or else the slowest sender below the least
    /// rate. False if there is neither, and no other is leaving.
    fn make_room(&self, now: Instant, rate: Option<&LeastRate>, threads_max: usize) -> bool {
        let reaper = lock(&self.reaper);
        let lines = || reaper.lines.iter().map(|(_, (_, line))| line);
        let leaving = lines().filter(|line| line.is_leaving()).count();
        if leaving >= (threads_max / LEAVING_SHARE).max(1) {
            return true;
        }
        let ranked = lines().filter_map(|line| Some((self.rank(line, now, rate)?, line)));
        match ranked.min_by_key(|(rank, _)| *rank) {
            Some((_, line)) => {
                line.give_way();
                true
            }
            None => leaving > 0,
        }
    }

    /// In which order connections give up their threads: idle ones first, by age; then slow
    /// senders, by the bytes they have brought lately. `None` for all others.
    fn rank(&self, line: &Line, now: Instant, rate: Option<&LeastRate>) -> Option<(u8, u64)> {
        let since = line.since.load(Ordering::SeqCst);
        let waited = Duration::from_nanos(self.nanoseconds(now).saturating_sub(since));
        let phase = line.phase.load(Ordering::SeqCst) & !MAY_GO;
        if phase == Phase::Idle as u8 {
            return (waited >= EVICTION_IDLE_MIN).then_some((0, since));
        }
        if phase == Phase::ReceivingHead as u8 {
            return rate.filter(|rate| waited >= rate.window()).map(|_| (1, 0));
        }
        let pace = lock(&line.pace).filter(|_| phase == Phase::ReceivingBody as u8)?;
        rate?.missed_by(&pace, now).map(|brought| (1, brought))
    }

    /// Lets idle workers go: they wake with the end of input. Requests that were received are still
    /// served. Who waits for content that never ends looks up.
    fn release_idle(&self) {
        let reaper = lock(&self.reaper);
        for (_, (_, line)) in &reaper.lines {
            if line.phase.load(Ordering::SeqCst) & MAY_GO != 0 {
                drop(line.socket.shutdown(Shutdown::Read));
            }
            line.woken.ring();
        }
    }

    /// The connections that a graceful stop waits for, by phase. Idle ones have been released.
    fn under_way(&self) -> Phases {
        let mut phases = [0; Phase::ALL.len()];
        for (_, (_, line)) in &lock(&self.reaper).lines {
            let phase = line.phase.load(Ordering::SeqCst);
            if let Some(count) = phases.get_mut(usize::from(phase)).filter(|_| phase & MAY_GO == 0) {
                *count += 1;
            }
        }
        phases
    }

    /// What all threads hold. Their buffers are their own affair.
    fn gauges(&self) -> Gauges {
        let mut gauges = Gauges { file_cache_bytes: lock(&self.files).bytes() as u64, ..Gauges::default() };
        for (_, (_, line)) in &lock(&self.reaper).lines {
            let phase = line.phase.load(Ordering::Relaxed) & !MAY_GO;
            gauges.phases[usize::from(phase)] += 1;
        }
        gauges
    }

    /// Counts and logs jobs whose answers are late, each once.
    fn count_late_jobs(&self, reaper: &Reaper, now: Instant) {
        let now = self.nanoseconds(now);
        for (slot, (_, line)) in &reaper.lines {
            let mut job = lock(&line.job);
            if let Some(job) = job.as_mut().filter(|job| job.due <= now && !job.is_counted) {
                job.is_counted = true;
                TwinTally::of(Arc::clone(&self.tallies[slot % TALLIES])).answer_timed_out(true);
                StillBusy { route: job.route.clone() }.log("no response yet");
            }
        }
    }

    fn tally(&self, id: ConnId) -> TwinTally {
        TwinTally::of(Arc::clone(&self.tallies[id.slot() % TALLIES]))
    }

    /// The reaper's thread: sleeps until the earliest deadline, looks whether it still holds, acts.
    fn reap(&self) {
        let mut reaper = lock(&self.reaper);
        while !reaper.over {
            let now = read_clocks().mono;
            while let Some(id) = reaper.queue.pop_due(now) {
                let Some((_, line)) =
                    reaper.lines.get(id.slot()).filter(|(generation, _)| *generation == id.generation())
                else {
                    continue;
                };
                let line = Arc::clone(line);
                // From here on a worker that publishes asks for the lock, so neither of us can miss
                // the other.
                line.armed.store(NEVER, Ordering::SeqCst);
                let due = line.due.load(Ordering::SeqCst);
                let at = self.began + Duration::from_nanos(due.min(NEVER / 2));
                if at > now {
                    if due != NEVER {
                        line.armed.store(due, Ordering::SeqCst);
                        reaper.queue.arm(id, at);
                    }
                    continue;
                }
                line.shut_for.store(EXPIRED, Ordering::SeqCst);
                let sending = line.phase.load(Ordering::SeqCst) == Phase::Sending as u8;
                drop(line.socket.shutdown(if sending { Shutdown::Both } else { Shutdown::Read }));
            }
            self.count_late_jobs(&reaper, now);
            // It wakes now and then anyway, so it also lets go of files that nobody asks for.
            let sweep = {
                let mut files = lock(&self.files);
                files.sweep(now);
                files.next_sweep()
            };
            let due = reaper.queue.next().into_iter().chain(sweep).min();
            let look = self.late_look;
            let wait = due.map_or(look, |due| due.saturating_duration_since(now).min(look));
            reaper.sleeps_until = Some(now + wait);
            reaper = self.bell.wait_timeout(reaper, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Relief for Shared {
    fn relieve(&self) {
        let now = self.nanoseconds(read_clocks().mono);
        let due = self.relief_due.load(Ordering::SeqCst);
        let next = now.saturating_add(u64::try_from(RELIEF_INTERVAL.as_nanos()).unwrap_or(NEVER));
        let takes = || self.relief_due.compare_exchange(due, next, Ordering::SeqCst, Ordering::SeqCst);
        // Of several threads that run out at once, one acts.
        if now >= due && takes().is_ok() {
            self.close_idlest(RELIEF_CONNECTIONS);
        }
    }
}

impl Twin {
    /// Serves until a signal stops it.
    pub fn run(self, sockets: Vec<ListenSocket>, signals: Signals) -> io::Result<Outcome> {
        let (tell_end, ended) = UnixStream::pair()?;
        ended.set_nonblocking(true)?;
        // It is full only if the acceptor has enough to wake up for.
        tell_end.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            began: read_clocks().mono,
            reaper: Mutex::default(),
            bell: Condvar::new(),
            stopping: Arc::default(),
            open: AtomicUsize::new(0),
            files: Arc::clone(&self.files),
            tallies: std::array::from_fn(|_| Arc::default()),
            wants_thread: AtomicBool::new(false),
            late_look: self
                .config
                .timeouts
                .answer
                .map_or(SWEEP_LOOK, |answer| answer.clamp(LATE_LOOK_MIN, SWEEP_LOOK)),
            relief_due: AtomicU64::new(0),
            ended: tell_end,
        });
        shortage::register(&shared);
        let seen = Arc::clone(&shared);
        self.metrics.watch_threads(shared.tallies.iter().cloned(), move || seen.gauges());
        let reaper = Arc::clone(&shared);
        std::thread::Builder::new().name("whirligig-reaper".into()).spawn(move || reaper.reap())?;
        let busy_rate = LeastRate::of(&self.config.limits, &self.config.timeouts);
        let acceptor = Acceptor {
            twin: Arc::new(self),
            shared: Arc::clone(&shared),
            signals,
            ended,
            busy_rate,
            looked: None,
            takes_all: false,
        };
        let outcome = acceptor.run(sockets);
        lock(&shared.reaper).over = true;
        shared.bell.notify_one();
        outcome
    }
}

struct Acceptor {
    twin: Arc<Twin>,
    shared: Arc<Shared>,
    signals: Signals,
    ended: UnixStream,
    busy_rate: Option<LeastRate>,
    /// When nobody was found to give way last.
    looked: Option<Instant>,
    /// A stop has begun: all clients that wait are answered now.
    takes_all: bool,
}

impl Acceptor {
    fn run(mut self, sockets: Vec<ListenSocket>) -> io::Result<Outcome> {
        let mut retry = None;
        loop {
            let (mut signals, ready) = self.wait(if retry.is_some() { &[] } else { &sockets }, retry)?;
            while let Some(signal) = signals.pop_front() {
                match signal {
                    Signal::Reopen => self.reopen_log(),
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

    /// Waits for a signal, the end of a connection or a client. Returns the signals that came, and
    /// which sockets have a client. Returns at least every [`INBOX_LOOK`]: the byte for the end of
    /// a connection may not have been written.
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
            // Whatever is left makes the next wait short.
            drop(io::Read::read(&mut &self.ended, &mut [0; 64]));
        }
        let came = if signals.contains(&true) { self.signals.take() } else { Vec::new() };
        Ok((came.into(), clients.to_vec()))
    }

    fn is_full(&self) -> bool {
        self.shared.open.load(Ordering::SeqCst) >= self.twin.config.limits.threads_max
    }

    /// True if a client waits at this socket, and had better go on waiting: a thread will be free
    /// soon.
    fn leaves_waiting(&mut self, socket: &ListenSocket) -> bool {
        if self.takes_all || !self.is_full() || !has_client(socket) {
            return false;
        }
        let now = read_clocks().mono;
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < RETRY_AFTER) {
            return false;
        }
        let threads_max = self.twin.config.limits.threads_max;
        if !self.shared.make_room(now, self.busy_rate.as_ref(), threads_max) {
            self.looked = Some(now);
            return false;
        }
        self.shared.wants_thread.store(true, Ordering::SeqCst);
        // One may have ended before it could tell.
        self.is_full()
    }

    /// Accepts until would-block; false when descriptors or threads have run out.
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

    fn adopt(&self, socket: Socket, peer: Peer) {
        let open = self.shared.open.fetch_add(1, Ordering::SeqCst);
        let line = Arc::new(Line::new(socket));
        let id = self.shared.enlist(&line);
        let mut tally = self.shared.tally(id);
        tally.accepted();
        let started = if open < self.twin.config.limits.threads_max {
            let (twin, shared, line) = (Arc::clone(&self.twin), Arc::clone(&self.shared), Arc::clone(&line));
            std::thread::Builder::new()
                .name("whirligig-conn".into())
                .stack_size(STACK_BYTES)
                .spawn(move || Worker::new(&twin, &shared, line, id, peer).run())
                .map(drop)
        } else {
            Err(io::Error::other("all threads are in use"))
        };
        if let Err(error) = started {
            log::warn!("cannot serve a connection: {error}");
            // No thread, no protocol: the one fixed answer, which a fresh socket always has room
            // for.
            const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let sent = rustix::net::send(&line.socket, BUSY, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            tally.wrote(sent.unwrap_or(0) as u64);
            tally.answered(None, Status::SERVICE_UNAVAILABLE);
            tally.closed(CloseReason::Evicted);
            self.shared.dismiss(id);
        }
    }

    /// A graceful stop: no new clients, idle ones are let go, the others get their answer.
    /// `signals` came together with the one that asked for it.
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
                    // Shell and kernel may both report it; only a person's second signal is a
                    // hurry.
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

/// One connection's thread.
struct Worker {
    shared: Arc<Shared>,
    line: Arc<Line>,
    id: ConnId,
    client: Client,
    stream: TwinStream,
    driver: Driver<TwinTally>,
    /// What is watched for this connection, and what of earlier requests is not over yet.
    watched: Vec<Arc<dyn Watched>>,
    /// Both sides of the socket are shut: nothing we send arrives.
    is_alone: bool,
}

/// Set by a body source's waker; the worker waits for it while the source has nothing to say.
#[derive(Debug, Default)]
struct Woken {
    flag: Mutex<bool>,
    changed: Condvar,
    /// Readable while the flag is set. Only there once somebody had to wait for other things, too.
    event: OnceLock<OwnedFd>,
}

impl Woken {
    fn ring(&self) {
        let mut flag = lock(&self.flag);
        *flag = true;
        if let Some(event) = self.event.get() {
            // This may fail. A worker that polls for it looks at the flag every `INBOX_LOOK`, too.
            let _ = rustix::io::write(event, &1u64.to_ne_bytes());
        }
        drop(flag);
        self.changed.notify_one();
    }

    /// What to poll in place of a wait, followed by [`Woken::take`]. `None` if it cannot be had.
    fn event(&self) -> Option<&OwnedFd> {
        // With the flag held, so that it says the same from the start.
        let flag = lock(&self.flag);
        if self.event.get().is_none() {
            let event = eventfd(u32::from(*flag), EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
            let _ = self.event.set(event);
        }
        self.event.get()
    }

    /// Whether it was rung since the last look or wait.
    fn take(&self) -> bool {
        self.lower(&mut lock(&self.flag))
    }

    fn lower(&self, flag: &mut bool) -> bool {
        if let Some(event) = self.event.get() {
            let _ = rustix::io::read(event, &mut [0; 8]);
        }
        std::mem::take(flag)
    }

    /// Waits for it to be rung, unless that has happened since the last wait.
    fn wait(&self) {
        let mut flag = lock(&self.flag);
        while !*flag {
            flag = self.changed.wait(flag).unwrap_or_else(PoisonError::into_inner);
        }
        self.lower(&mut flag);
    }
}

impl Worker {
    /// On the heap, and out of line: what is moved about while it is made must not stay on the
    /// thread's stack.
    #[inline(never)]
    fn new(twin: &Twin, shared: &Arc<Shared>, line: Arc<Line>, id: ConnId, peer: Peer) -> Box<Self> {
        // A waker of this connection must not keep its socket open.
        let (bell, interrupted) = (Arc::downgrade(&line), Arc::downgrade(&line));
        let inbox = Inbox::new(Box::new(move || {
            if let Some(line) = bell.upgrade() {
                line.woken.ring();
            }
            Ok(())
        }));
        let inbox = Arc::new(inbox.interrupted_by(move || {
            if let Some(line) = interrupted.upgrade() {
                line.give_way();
            }
        }));
        let now = read_clocks();
        let access = twin.access.clone().map(|queue| AccessBuffer::new(queue, twin.config.log_format));
        let mut driver = Driver::new(
            Arc::clone(&twin.config),
            Arc::clone(&twin.handler),
            Files::Shared(Arc::clone(&twin.files)),
            Box::new(TwinDesk {
                inner: InlineDesk::new(inbox, Arc::clone(&twin.pool)),
                shared: Arc::clone(shared),
                line: Arc::clone(&line),
                answer_timeout: twin.config.timeouts.answer,
            }),
            access,
            shared.tally(id),
            now,
        );
        driver.stopping = Arc::clone(&shared.stopping);
        driver.scratch_is_shared = false;
        Box::new(Worker {
            shared: Arc::clone(shared),
            id,
            client: Client::new(peer, now.mono),
            stream: TwinStream { line: Arc::clone(&line), may_wait: false, woke_at: None },
            line,
            driver,
            watched: Vec::new(),
            is_alone: false,
        })
    }

    fn run(mut self: Box<Self>) {
        let mut wait = Pumped::Blocked;
        let reason = loop {
            let phase = self.client.phase();
            // Whoever waits for a first byte may go when the server stops, like any idle one.
            let idle = self.client.conn.is_idle() && !self.client.is_queued();
            let shown = phase as u8 | if idle { MAY_GO } else { 0 };
            self.show_pace(phase);
            self.shared.publish(self.id, &self.line, shown, self.client.deadline(&self.driver.config));
            if idle && self.shared.stopping.load(Ordering::SeqCst) {
                break CloseReason::Shutdown;
            }
            self.stream.may_wait = false;
            if wait == Pumped::Blocked && phase == Phase::Lingering && !self.wants_read() {
                self.wait_for_hang_up();
                match pump::expire(&mut self.client, &mut self.stream, &mut self.driver, self.id) {
                    Pumped::Closed(reason) => break reason,
                    Pumped::Blocked | Pumped::Yielded => continue,
                }
            }
            if wait == Pumped::Blocked {
                self.wait_for(phase);
            }
            if self.client.is_waiting() && self.line.take_expired() {
                // The answer is late. The pump would only notice at the next read or write.
                self.client.ready.writable = true;
                wait = pump::expire(&mut self.client, &mut self.stream, &mut self.driver, self.id);
                match wait {
                    Pumped::Closed(reason) => break reason,
                    Pumped::Blocked | Pumped::Yielded => continue,
                }
            }
            let is_served_for = matches!(phase, Phase::Handling | Phase::Streaming);
            if self.is_alone && (is_served_for || self.client.is_waiting()) {
                break CloseReason::PeerReset;
            }
            self.client.ready.readable = !self.client.ready.ended;
            self.client.ready.writable = true;
            wait = pump::pump(&mut self.client, &mut self.stream, &mut self.driver, self.id);
            if let Some(access) = &mut self.driver.access {
                // This thread may sleep next; its lines must not.
                access.flush_early();
            }
            if let Pumped::Closed(reason) = wait {
                break reason;
            }
            if self.tend() {
                wait = Pumped::Yielded;
            }
        };
        log::debug!("{} closed: {}", self.id, reason.name());
        self.driver.observer.closed(reason);
        Exchange::new(&mut self.client, &mut self.driver, self.id, 0).log_answers(true, read_wall_clock);
        if let Some(access) = &mut self.driver.access {
            access.flush_early();
        }
        self.shared.dismiss(self.id);
        let watched = std::mem::take(&mut self.watched);
        // The peer sees the end at once, whatever goes on without it.
        drop(self);
        see_out(watched);
    }

    /// Shows since when it waits, and how fast content comes: for those who need a thread.
    fn show_pace(&self, phase: Phase) {
        let since = self.shared.nanoseconds(self.client.conn.since());
        self.line.since.store(since, Ordering::SeqCst);
        if phase == Phase::ReceivingBody {
            *lock(&self.line.pace) = self.client.pace();
        }
    }

    /// Begins to watch what the connection has newly got, and has all that is watched advance. True
    /// if there is news.
    fn tend(&mut self) -> bool {
        if let Some(watch) = self.client.watch().filter(|watch| watch.name.is_none()) {
            // The list is its own name here: nobody else could be meant.
            watch.name = Some(WatchId::new(0, 0));
            self.watched.push(Arc::clone(&watch.watched));
        }
        self.driver.let_go.clear();
        if self.watched.is_empty() {
            return false;
        }
        self.advance(&[]).1
    }

    /// Has all that is watched advance, each with what has become ready of it. Returns when the
    /// first of them wants to be looked at, and whether there is something for the connection or
    /// more to do at once.
    fn advance(&mut self, ready: &[Ready]) -> (Option<Instant>, bool) {
        let Advance { due, again, done } = advance(&mut self.watched, ready, self.driver.now.mono);
        let is_news = again || !done.is_empty();
        for done in done {
            Exchange::new(&mut self.client, &mut self.driver, self.id, 1).complete(done);
        }
        (due, is_news)
    }

    /// Waits for the socket, as the phase has it, for all that is watched, and for the bell of a
    /// source that is not of that: what an earlier answer has left to be watched must not keep
    /// events from coming, nor the other way round.
    fn wait_beside(&mut self, phase: Phase) {
        let socket = match phase {
            Phase::Sending => PollFlags::OUT,
            Phase::ReceivingBody if !self.client.is_waiting() => PollFlags::IN,
            Phase::Idle | Phase::ReceivingHead | Phase::Lingering => PollFlags::IN,
            // A peer that has shut its side still gets its response. Only a reset matters, and poll
            // always reports that.
            Phase::ReceivingBody | Phase::Handling | Phase::Streaming | Phase::Closed => PollFlags::empty(),
        };
        let (due, is_news) = self.advance(&[]);
        if is_news {
            return;
        }
        let line = Arc::clone(&self.line);
        let rings = self.rings(phase);
        let bell = if rings { line.woken.event() } else { None };
        let mut others = vec![(line.socket.as_fd(), socket)];
        others.extend(bell.map(|bell| (bell.as_fd(), PollFlags::IN)));
        let look = rings.then(|| read_clocks().mono + INBOX_LOOK);
        let (said, ready) = poll_watched(&self.watched, &others, due.into_iter().chain(look).min());
        self.driver.now = read_clocks();
        self.advance(&ready);
        if rings && line.woken.take() {
            self.hear_bell();
        }
        // No longer idle: a stop must leave the reading half alone from here on.
        self.line.phase.store(Phase::Handling as u8, Ordering::SeqCst);
        self.is_alone = said[0].intersects(PollFlags::HUP | PollFlags::ERR);
    }

    /// The one place where a worker waits, other than the read that the pump makes.
    fn wait_for(&mut self, phase: Phase) {
        let rings = self.rings(phase);
        let can_poll = !rings || self.line.woken.event().is_some();
        // A result may come before its watch is looked at. That is over then, but the bell was
        // rung.
        let is_beside = !self.watched.is_empty() || (rings && phase != Phase::Streaming);
        if is_beside && (can_poll || phase != Phase::Streaming) {
            return self.wait_beside(phase);
        }
        match phase {
            Phase::Sending => {
                let mut fds = [PollFd::new(&self.line.socket, PollFlags::OUT)];
                // Interrupted or not, the pump finds out what is what.
                let _ = poll(&mut fds, None);
                self.driver.now = read_clocks();
            }
            Phase::Streaming => {
                self.line.woken.wait();
                self.driver.now = read_clocks();
                self.hear_bell();
            }
            Phase::Idle
            | Phase::ReceivingHead
            | Phase::ReceivingBody
            | Phase::Handling
            | Phase::Lingering
            | Phase::Closed => self.stream.may_wait = true,
        }
    }

    fn wants_read(&self) -> bool {
        self.client.conn.wants_read(&self.driver.config.limits)
    }

    /// Waits until the peer has gone or the reaper has shut the reading half: behind a refusal
    /// enough was read and dropped, and nothing is waited for but the end.
    fn wait_for_hang_up(&mut self) {
        let mut fds = [PollFd::new(&self.line.socket, PollFlags::RDHUP)];
        while poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
        self.driver.now = read_clocks();
    }

    /// Returns true if the bell rings for the next step of the answer: for a source that has more
    /// content, or for a result of shared work. Otherwise a watched thing brings that step.
    fn rings(&mut self, phase: Phase) -> bool {
        let brings_answer = self.client.watch().map(|watch| watch.watched.brings_answer());
        match phase {
            Phase::Streaming => brings_answer != Some(true),
            _ if self.client.is_waiting() => brings_answer == Some(false),
            Phase::Idle
            | Phase::ReceivingHead
            | Phase::ReceivingBody
            | Phase::Handling
            | Phase::Sending
            | Phase::Lingering
            | Phase::Closed => false,
        }
    }

    fn hear_bell(&mut self) {
        let mut done = Vec::new();
        lock_inbox(&self.driver, &mut done);
        for (id, result) in done {
            Exchange::new(&mut self.client, &mut self.driver, id, 1).complete(result);
        }
        if self.shared.stopping.load(Ordering::SeqCst) {
            Exchange::new(&mut self.client, &mut self.driver, self.id, 0).end_endless();
        }
    }
}

/// What came of an advance of all that is watched.
struct Advance {
    /// When the first of them wants to be looked at.
    due: Option<Instant>,
    /// One of them has more to do at once.
    again: bool,
    /// For the connection.
    done: Vec<Done>,
}

/// Has all that is watched advance, each with what has become ready of it, and forgets what is
/// over.
fn advance(watched: &mut Vec<Arc<dyn Watched>>, ready: &[Ready], now: Instant) -> Advance {
    let mut all = Advance { due: None, again: false, done: Vec::new() };
    let mut ready = ready.iter().copied();
    watched.retain(|watched| {
        let advanced = Arc::clone(watched).advance(ready.next().unwrap_or_default(), now);
        all.again |= advanced.again;
        all.done.extend(advanced.done);
        if !advanced.is_over {
            all.due = all.due.into_iter().chain(advanced.due).min();
        }
        !advanced.is_over
    });
    all
}

/// Waits until one of `others` is ready, or something watched, or until `due`. Returns what was
/// said of each.
fn poll_watched(
    watched: &[Arc<dyn Watched>],
    others: &[(BorrowedFd<'_>, PollFlags)],
    due: Option<Instant>,
) -> (Vec<PollFlags>, Vec<Ready>) {
    let descriptors: Vec<(usize, Descriptor)> = (0..)
        .zip(watched)
        .flat_map(|(at, watched)| watched.descriptors().into_iter().map(move |descriptor| (at, descriptor)))
        .filter(|(_, descriptor)| !descriptor.is_ready)
        .collect();
    let mut fds: Vec<PollFd<'_>> =
        others.iter().map(|(other, flags)| PollFd::from_borrowed_fd(*other, *flags)).collect();
    fds.extend(descriptors.iter().map(|(_, descriptor)| {
        PollFd::new(&*descriptor.fd, if descriptor.writes { PollFlags::OUT } else { PollFlags::IN })
    }));
    let wait = due.map(|due| due.saturating_duration_since(read_clocks().mono));
    let timeout = wait.and_then(|wait| rustix::event::Timespec::try_from(wait).ok());
    // Interrupted or not, what follows finds out what is what.
    let _ = poll(&mut fds, timeout.as_ref());
    let (said, of_watched) = fds.split_at(others.len());
    let mut ready = vec![Ready::default(); watched.len()];
    for ((at, descriptor), fd) in descriptors.iter().zip(of_watched) {
        if !fd.revents().is_empty() {
            ready[*at] = ready[*at].with(descriptor.number);
        }
    }
    (said.iter().map(PollFd::revents).collect(), ready)
}

/// The connection is gone; sees what was watched for it to its end.
fn see_out(mut watched: Vec<Arc<dyn Watched>>) {
    let mut ready = Vec::new();
    loop {
        let Advance { due, again, .. } = advance(&mut watched, &ready, read_clocks().mono);
        if watched.is_empty() {
            return;
        }
        ready.clear();
        if !again {
            ready = poll_watched(&watched, &[], due).1;
        }
    }
}

fn lock_inbox(driver: &Driver<TwinTally>, done: &mut Vec<(ConnId, Done)>) {
    driver.desk.inbox().take(done);
}

/// True if a client waits to be accepted.
fn has_client(socket: &ListenSocket) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&rustix::event::Timespec::default())), Ok(1..))
}

/// A blocking socket that lets the pump wait in a read, where the worker said so, and nowhere else.
struct TwinStream {
    line: Arc<Line>,
    may_wait: bool,
    woke_at: Option<Now>,
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
