//! The simulator: the reactor's own turns over an operating system made of a seed.
//!
//! [`SimOs`] stands where mio stands. Its clients send, read, stall, reset and lie as a seeded generator says; its
//! sockets give short reads and writes, would-block out of nowhere, interrupts and resets; its clock jumps. It
//! keeps the kernel's promises and no others: an edge comes once, a short read means drained *at that moment*.
//! After every turn the invariants are checked, and at the end every client must have got what it was owed:
//! each answer once, whole, in order. The same seed gives the same run, byte for byte.
//!
//! Here, and only here, several parties share one world behind a lock: it is a test bed, not the server.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::config::{Config, FileOptions, KIB};
use crate::conn_id::{ConnId, WatchId};
use crate::driver::Driver;
use crate::files::Files;
use crate::handler::{Answer, BodySink, Context, Handler, Now, Peer, Sunk};
use crate::http::response::OpenFile;
use crate::http::{Body, BodySource, CloseReason, Filled, Phase, Request, Response, Status};
use crate::jobs::{Done, Errand, Errands, Inbox, Job, JobDesk, Ran, Then, Ticket, TicketState, Waker, lock};
use crate::observe::LoopTally;
use crate::offload::{Offloaded, Producer};
use crate::pump::{SentFile, Stream};
use crate::reactor::os::{Os, OsEvent};
use crate::reactor::{Outcome, Reactor};
use crate::signals::Signal;
use crate::watch::{Advanced, Descriptor, Ready, Watched};

/// What the kernel holds in each direction of a simulated socket, in bytes.
const PIPE_BYTES: usize = 24 * KIB;

/// How soon a loop that could not accept has to try again.
const RETRY_WITHIN: Duration = Duration::from_millis(100);

/// A small generator (SplitMix64, Steele and others 2014): one number of state, so a seed is a whole run.
#[derive(Debug, Clone)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    fn size(&mut self, max: usize) -> usize {
        // Small and large sizes are more telling than middling ones.
        match self.below(4) {
            0 => 1 + self.below(3) as usize,
            1 => 1 + self.below(100) as usize,
            _ => 1 + self.below(max as u64) as usize,
        }
        .min(max)
        .max(1)
    }
}

/// The byte at `at` of the content of answer `id`: any slice shows where it came from.
fn pattern(id: u64, at: u64) -> u8 {
    (id.wrapping_mul(31).wrapping_add(at).wrapping_add(at >> 8) % 251) as u8
}

/// What a client is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Sends requests, reads answers.
    Plain,
    /// Sends requests, shuts its side, reads answers.
    HalfCloser,
    /// Resets in the middle of something.
    Vanisher,
    /// Begins a head and stops, or drips it.
    Dripper,
    /// Announces content and does not send it.
    Miser,
    /// Asks and never reads.
    Staller,
    /// Sends what is no HTTP.
    Babbler,
    /// Connects and says nothing.
    Mute,
    /// Asks once, keeps the connection and leaves it idle.
    Sleeper,
    /// Shuts its side in the middle of a request.
    Quitter,
}

const MANNERS: [Manner; 14] = [
    Manner::Plain,
    Manner::Plain,
    Manner::Plain,
    Manner::Plain,
    Manner::Plain,
    Manner::HalfCloser,
    Manner::Vanisher,
    Manner::Dripper,
    Manner::Miser,
    Manner::Staller,
    Manner::Babbler,
    Manner::Mute,
    Manner::Sleeper,
    Manner::Quitter,
];

/// An answer a client waits for.
#[derive(Debug, Clone)]
struct Expected {
    id: u64,
    status: u16,
    content: Content,
    /// The server closes after it.
    last: bool,
    /// The server may close after it.
    may_close: bool,
}

#[derive(Debug, Clone)]
enum Content {
    /// `len` bytes of the pattern.
    Pattern(u64),
    /// These very bytes.
    Bytes(Vec<u8>),
    /// Whatever it says.
    Any,
    /// It must break off.
    Broken,
    /// HEAD: none, whatever the length says.
    Nothing,
}

/// One simulated client with its socket.
#[derive(Debug)]
struct SimConn {
    manner: Manner,
    /// What it will still send.
    to_send: VecDeque<u8>,
    /// Positions in what it sends behind which it waits until it has read so many answers.
    send_marks: VecDeque<(usize, usize)>,
    sent: usize,
    /// On the way to the server.
    inbound: VecDeque<u8>,
    /// On the way to the client.
    outbound: VecDeque<u8>,
    /// Read by the client.
    taken: Vec<u8>,
    expected: Vec<Expected>,
    /// Answers it had been given when the server was told to stop: later ones may say that they are the last.
    answers_at_stop: usize,
    /// Its request lines, for reports.
    script: Vec<String>,
    next_action_ns: u64,
    reads: bool,
    fin_when_sent: bool,
    client_fin: bool,
    client_reset: bool,
    /// The server saw the reset as an error once.
    reset_told: bool,
    server_fin: bool,
    server_reset: bool,
    connected: bool,
    accepted: bool,
    server_closed: bool,
    id: Option<ConnId>,
    /// What the next event will say.
    edge_read: bool,
    edge_write: bool,
    edge_closed: bool,
    write_blocked: bool,
    /// If it was idle after the last turn: until when it may be, and how much it had sent.
    idle: Option<(u64, usize)>,
    /// It was idle, in its time, and nobody came for whom it had to go; the server closed it.
    closed_for_nothing: bool,
}

/// How often each kind of thing happened, over any number of runs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// By name: faults, phases and close reasons.
    pub counts: BTreeMap<String, u64>,
    /// The steps of one run, if they were recorded.
    pub steps: String,
}

impl Coverage {
    fn note(&mut self, kind: &str, what: &str) {
        *self.counts.entry(format!("{kind} {what}")).or_default() += 1;
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Coverage) {
        for (name, count) in &other.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
    }

    /// What a full run has to have seen; those seen fewer than `least` times.
    #[must_use]
    pub fn rare(&self, least: u64) -> Vec<String> {
        let faults = FAULTS.iter().map(|fault| format!("fault {fault}"));
        let phases = Phase::ALL.iter().filter(|phase| **phase != Phase::Closed);
        let phases = phases.map(|phase| format!("phase {}", phase.name()));
        let closes = CloseReason::ALL.iter().map(|reason| format!("close {}", reason.name()));
        faults
            .chain(phases)
            .chain(closes)
            .filter(|name| self.counts.get(name).copied().unwrap_or(0) < least)
            .collect()
    }
}

/// The faults the world can do, by the names they are counted under.
pub const FAULTS: [&str; 26] = [
    "short_read",
    "short_write",
    "would_block_read",
    "would_block_write",
    "interrupted_read",
    "interrupted_write",
    "merged_fin",
    "reset",
    "spurious_event",
    "stale_event",
    "no_descriptors",
    "accept_aborted",
    "late_job",
    "failed_job",
    "cold_file",
    "refused_job",
    "late_result",
    "file_shrank",
    "file_failed",
    "short_sendfile",
    "half_close",
    "watched_hangs",
    "watched_abandoned",
    "watched_outlives",
    "watched_stale_event",
    "watched_again",
];

/// What the world knows of something watched: a program that talks.
#[derive(Debug)]
struct SimWatch {
    /// Its name, once the loop watches it.
    id: Option<WatchId>,
    conn: ConnId,
    /// When it does something next; never, if it hangs.
    due_ns: Option<u64>,
    /// Said and not read, and still to be said.
    said: u64,
    left: u64,
    has_exited: bool,
    is_over: bool,
}

/// All that the server does not own.
#[derive(Debug)]
struct World {
    rng: Rng,
    now_ns: u64,
    conns: Vec<SimConn>,
    backlog: VecDeque<usize>,
    listener_edge: bool,
    listening: bool,
    open: usize,
    open_max: usize,
    jobs: Vec<PendingJob>,
    inbox_edge: bool,
    /// A connection was out of budget after the last turn: the poll may not wait.
    is_work_left: bool,
    /// Requests the handler has answered at once, by their numbers.
    made: BTreeSet<u64>,
    old_ids: Vec<ConnId>,
    watches: Vec<SimWatch>,
    signals: VecDeque<(u64, Signal)>,
    coverage: Coverage,
    log: Option<String>,
}

struct PendingJob {
    due_ns: u64,
    id: ConnId,
    work: PendingWork,
}

enum PendingWork {
    Job(Job),
    Errand(Errand),
}

impl std::fmt::Debug for PendingJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "job of {} due {}", self.id, self.due_ns)
    }
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "{:>10.3} ms  {}", self.now_ns as f64 / 1e6, line());
        }
    }

    fn fault(&mut self, name: &'static str, per_mille: u64) -> bool {
        let hit = self.rng.chance(per_mille);
        if hit {
            self.coverage.note("fault", name);
        }
        hit
    }

    /// When something will happen without the server's doing.
    fn next_due(&self) -> Option<u64> {
        let actions = self.conns.iter().filter(|conn| conn.has_plans()).map(|conn| conn.next_action_ns);
        let jobs = self.jobs.iter().map(|job| job.due_ns);
        let signals = self.signals.iter().map(|(at, _)| *at);
        let watches = self.watches.iter().filter(|watch| watch.id.is_some() && !watch.is_over);
        let watches = watches.filter_map(|watch| watch.due_ns);
        actions.chain(jobs).chain(signals).chain(watches).min()
    }

    fn act(&mut self) {
        for at in 0..self.conns.len() {
            if self.conns[at].has_plans() && self.conns[at].next_action_ns <= self.now_ns {
                self.act_client(at);
            }
        }
    }

    /// One step of one client.
    fn act_client(&mut self, at: usize) {
        let pause = match self.rng.below(10) {
            0 => self.rng.below(300_000_000),
            1..=4 => self.rng.below(2_000_000),
            _ => self.rng.below(50_000),
        };
        let conn = &mut self.conns[at];
        conn.next_action_ns = self.now_ns + 1 + pause;
        if !std::mem::replace(&mut conn.connected, true) {
            // Connecting is its first act; the handshake is the kernel's and always succeeds.
            if self.listening {
                self.backlog.push_back(at);
                self.listener_edge = true;
                let plan = format!("{:?}, asks {:?}", conn.manner, conn.script);
                self.tell(|| format!("client {at} connects: {plan}"));
            } else {
                conn.server_closed = true;
            }
            return;
        }
        if self.conns[at].reads {
            self.client_reads(at);
        }
        if self.conns[at].manner == Manner::Vanisher && self.rng.chance(60) {
            self.client_resets(at);
            return;
        }
        self.client_sends(at);
    }

    fn client_reads(&mut self, at: usize) {
        let take = self.rng.size(PIPE_BYTES);
        let conn = &mut self.conns[at];
        let take = take.min(conn.outbound.len());
        if take == 0 {
            return;
        }
        conn.taken.extend(conn.outbound.drain(..take));
        if conn.write_blocked && conn.outbound.len() <= PIPE_BYTES / 2 {
            conn.write_blocked = false;
            conn.edge_write = true;
        }
        self.tell(|| format!("client {at} reads {take}"));
    }

    fn client_sends(&mut self, at: usize) {
        let size = self.rng.size(8 * KIB);
        let conn = &mut self.conns[at];
        if conn.client_fin || conn.client_reset {
            return;
        }
        // A client that waits for answers goes on when it has something new to read.
        if let Some(&(mark, answers)) = conn.send_marks.front()
            && conn.sent >= mark
        {
            if conn.answers_taken() < answers && conn.reads {
                return;
            }
            conn.send_marks.pop_front();
        }
        let until = conn.send_marks.front().map_or(usize::MAX, |&(mark, _)| mark);
        let room = PIPE_BYTES.saturating_sub(conn.inbound.len());
        let count = size.min(conn.to_send.len()).min(until.saturating_sub(conn.sent).max(1)).min(room);
        if count > 0 {
            conn.inbound.extend(conn.to_send.drain(..count));
            conn.sent += count;
            conn.edge_read = true;
            self.tell(|| format!("client {at} sends {count}"));
        }
        let conn = &mut self.conns[at];
        if conn.to_send.is_empty() && conn.fin_when_sent {
            conn.client_fin = true;
            conn.edge_closed = true;
            let merged = conn.edge_read;
            conn.edge_read = true;
            self.coverage.note("fault", "half_close");
            if merged {
                self.coverage.note("fault", "merged_fin");
            }
            self.tell(|| format!("client {at} shuts its side"));
        }
    }

    fn client_resets(&mut self, at: usize) {
        let conn = &mut self.conns[at];
        if conn.client_reset {
            return;
        }
        conn.client_reset = true;
        conn.inbound.clear();
        conn.outbound.clear();
        (conn.edge_read, conn.edge_write, conn.edge_closed) = (true, true, true);
        self.coverage.note("fault", "reset");
        self.tell(|| format!("client {at} resets"));
    }

    /// Takes the events that have gathered, in an order of the seed's choosing.
    fn take_events(&mut self, events: &mut Vec<OsEvent>) {
        for at in 0..self.conns.len() {
            let Some(id) = self.conns[at].id.filter(|_| !self.conns[at].server_closed) else { continue };
            let conn = &mut self.conns[at];
            let spurious = self.rng.chance(10);
            if !(conn.edge_read || conn.edge_write || conn.edge_closed || spurious) {
                continue;
            }
            if spurious {
                self.coverage.note("fault", "spurious_event");
            }
            events.push(OsEvent::Ready {
                id,
                readable: conn.edge_read || conn.edge_closed || spurious,
                writable: conn.edge_write || spurious,
                read_closed: conn.client_fin || conn.client_reset,
                hung_up: conn.client_reset,
            });
            (conn.edge_read, conn.edge_write, conn.edge_closed) = (false, false, false);
        }
        self.take_watched(events);
        if self.listener_edge {
            self.listener_edge = false;
            events.push(OsEvent::Listener(0));
        }
        if self.inbox_edge {
            if self.fault("late_result", 50) && !events.is_empty() {
                // Left for the next poll.
            } else {
                self.inbox_edge = false;
                events.push(OsEvent::Inbox);
            }
        }
        while self.signals.front().is_some_and(|(at, _)| *at <= self.now_ns) {
            if let Some((_, signal)) = self.signals.pop_front() {
                self.tell(|| format!("signal {signal:?}"));
                for conn in self.conns.iter_mut().filter(|conn| !conn.server_closed) {
                    conn.answers_at_stop = conn.answers_taken() + conn.answers_queued();
                }
                events.push(OsEvent::Signal(signal));
            }
        }
        if !self.old_ids.is_empty() && self.fault("stale_event", 20) {
            let pick = self.rng.below(self.old_ids.len() as u64) as usize;
            let id = self.old_ids[pick];
            events.push(OsEvent::Ready {
                id,
                readable: true,
                writable: true,
                read_closed: false,
                hung_up: false,
            });
        }
        for at in (1..events.len()).rev() {
            events.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
    }

    /// What is watched talks and exits in its time, now and then for nothing, and now and then under a name that is
    /// gone.
    fn take_watched(&mut self, events: &mut Vec<OsEvent>) {
        let over: Vec<WatchId> =
            self.watches.iter().filter(|watch| watch.is_over).filter_map(|watch| watch.id).collect();
        if !over.is_empty() && self.fault("watched_stale_event", 20) {
            let pick = self.rng.below(over.len() as u64) as usize;
            events.push(OsEvent::Watched { id: over[pick], ready: Ready::of(STDOUT) });
        }
        for at in 0..self.watches.len() {
            let Some(id) = self.watches[at].id.filter(|_| !self.watches[at].is_over) else { continue };
            if self.watches[at].due_ns.is_some_and(|due| due <= self.now_ns) {
                let piece = self.rng.size(9000) as u64;
                let pause = self.rng.below(30_000_000);
                let watch = &mut self.watches[at];
                let piece = piece.min(watch.left);
                // First it says all it has to say, and then it exits.
                watch.has_exited = watch.left == 0;
                watch.said += piece;
                watch.left -= piece;
                watch.due_ns = (!watch.has_exited).then_some(self.now_ns + 1 + pause);
                let ready = Ready::of(if watch.has_exited { EXIT } else { STDOUT });
                events.push(OsEvent::Watched { id, ready });
            } else if self.rng.chance(10) {
                events.push(OsEvent::Watched { id, ready: Ready::of(STDOUT) });
            }
        }
    }

    /// Whether something watched for this connection will make itself heard, or is given up in time.
    fn is_watched_for(&self, id: ConnId) -> bool {
        self.watches.iter().any(|watch| watch.conn == id && !watch.is_over)
    }

    /// Whether a blocked connection is sure to be heard of again from the kernel.
    fn will_say_writable(&self, conn: usize) -> bool {
        let conn = &self.conns[conn];
        conn.edge_write || conn.write_blocked || conn.client_reset
    }
}

impl SimConn {
    fn has_plans(&self) -> bool {
        if self.client_reset {
            return false;
        }
        let hears = self.reads && (!self.outbound.is_empty());
        let speaks =
            !self.server_closed && !self.client_fin && (!self.to_send.is_empty() || self.fin_when_sent);
        let connects = !self.connected && !self.server_closed;
        hears || speaks || connects || (self.manner == Manner::Vanisher && !self.server_closed)
    }

    fn answers_taken(&self) -> usize {
        answers_in(&self.taken)
    }

    fn answers_queued(&self) -> usize {
        let queued: Vec<u8> = self.outbound.iter().copied().collect();
        answers_in(&queued)
    }
}

/// Answers that have at least begun, without interim ones.
fn answers_in(bytes: &[u8]) -> usize {
    let count = |start: &[u8]| memchr::memmem::find_iter(bytes, start).count();
    count(b"HTTP/1.1 ") - count(b"HTTP/1.1 102 ")
}

/// The operating system made of a seed.
#[derive(Debug)]
pub struct SimOs {
    world: Shared,
    origin: Instant,
    inbox: Arc<Inbox>,
}

impl SimOs {
    fn new(world: Shared, origin: Instant) -> Self {
        let bell = Arc::clone(&world);
        // Called with no lock of ours held: jobs and wakers run outside of the world's.
        let inbox = Arc::new(Inbox::new(Box::new(move || lock(&bell).inbox_edge = true)));
        SimOs { world, origin, inbox }
    }

    /// Runs jobs that are due; their results go through the inbox like any other.
    fn run_jobs(&mut self) {
        loop {
            let pending = {
                let mut world = lock(&self.world);
                let now = world.now_ns;
                let Some(at) = world.jobs.iter().position(|job| job.due_ns <= now) else { return };
                let pending = world.jobs.remove(at);
                world.tell(|| format!("job of {} ends", pending.id));
                pending
            };
            let id = pending.id;
            let done = match pending.work {
                PendingWork::Job(job) => std::panic::catch_unwind(std::panic::AssertUnwindSafe(job))
                    .map_or(Done::Panicked, Done::Finished),
                PendingWork::Errand(errand) => {
                    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(errand)));
                    Done::Woken
                }
            };
            self.inbox.put(id, done);
        }
    }
}

impl Os for SimOs {
    type Stream = SimStream;

    fn poll(&mut self, events: &mut Vec<OsEvent>, timeout: Option<Duration>) -> io::Result<()> {
        let limit = {
            let world = lock(&self.world);
            if world.is_work_left && timeout != Some(Duration::ZERO) {
                return Err(io::Error::other("the poll may wait although connections are carried"));
            }
            // A full house or a lack of descriptors is looked at again soon; no edge will tell.
            let comes_back = timeout.is_some_and(|wait| wait <= RETRY_WITHIN);
            if world.listening && !world.backlog.is_empty() && !world.listener_edge && !comes_back {
                return Err(io::Error::other("clients wait to be accepted and nothing will tell"));
            }
            timeout
                .map(|wait| world.now_ns.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
        };
        loop {
            self.run_jobs();
            let mut world = lock(&self.world);
            world.act();
            world.take_events(events);
            if !events.is_empty() || limit.is_some_and(|limit| world.now_ns >= limit) {
                // Every turn takes a little time.
                world.now_ns += 1000;
                return Ok(());
            }
            let due = world.next_due().map(|due| due.max(world.now_ns + 1));
            match (due, limit) {
                (Some(due), limit) => world.now_ns = due.min(limit.unwrap_or(u64::MAX)),
                (None, Some(limit)) => world.now_ns = limit,
                // Nothing will ever happen again: the harness looks whether that is right.
                (None, None) => return Ok(()),
            }
        }
    }

    fn now(&mut self) -> Now {
        let ns = lock(&self.world).now_ns;
        Now {
            mono: self.origin + Duration::from_nanos(ns),
            wall: Duration::from_secs(1_700_000_000) + Duration::from_nanos(ns),
        }
    }

    fn listeners(&self) -> usize {
        1
    }

    fn has_client(&mut self, _listener: usize) -> bool {
        !lock(&self.world).backlog.is_empty()
    }

    fn accept(&mut self, _listener: usize) -> io::Result<(SimStream, Peer)> {
        let mut world = lock(&self.world);
        if !world.listening || world.backlog.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if world.open >= world.open_max {
            world.coverage.note("fault", "no_descriptors");
            world.tell(|| "accept: no descriptors".into());
            return Err(rustix::io::Errno::MFILE.into());
        }
        if world.fault("accept_aborted", 10) {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let Some(at) = world.backlog.pop_front() else { return Err(ErrorKind::WouldBlock.into()) };
        world.open += 1;
        world.conns[at].accepted = true;
        world.tell(|| format!("server accepts client {at}"));
        Ok((SimStream { world: Arc::clone(&self.world), at }, Peer::V4([127, 0, 0, 1], at as u16)))
    }

    fn register(&mut self, stream: &mut SimStream, id: ConnId) -> io::Result<()> {
        let mut world = lock(&self.world);
        let conn = &mut world.conns[stream.at];
        conn.id = Some(id);
        let at = stream.at;
        // What is there already is reported, room to write included.
        conn.edge_read |= !conn.inbound.is_empty() || conn.client_fin || conn.client_reset;
        conn.edge_closed |= conn.client_fin || conn.client_reset;
        conn.edge_write |= !conn.write_blocked;
        world.tell(|| format!("client {at} is {id}"));
        Ok(())
    }

    fn watch(&mut self, watched: &dyn Watched, id: WatchId) -> io::Result<()> {
        let mut world = lock(&self.world);
        // It has no descriptors; it counts its place in the world in their stead.
        let at = watched.descriptors().len();
        debug_assert_eq!(at, 0, "nothing here is real");
        let Some(watch) = world.watches.iter_mut().find(|watch| watch.id.is_none() && !watch.is_over) else {
            return Err(io::Error::other("something is watched that is not there"));
        };
        watch.id = Some(id);
        world.tell(|| format!("the loop watches {id:?}"));
        Ok(())
    }

    fn close_listeners(&mut self) {
        let mut world = lock(&self.world);
        world.listening = false;
        let left: Vec<usize> = world.backlog.drain(..).collect();
        for at in left {
            world.conns[at].server_closed = true;
            world.conns[at].server_reset = true;
        }
    }

    fn desk(&mut self) -> Box<dyn JobDesk> {
        Box::new(SimDesk { world: Arc::clone(&self.world), inbox: Arc::clone(&self.inbox) })
    }
}

/// Takes jobs and errands and keeps them waiting for as long as the seed says.
#[derive(Clone)]
struct SimDesk {
    world: Shared,
    inbox: Arc<Inbox>,
}

impl JobDesk for SimDesk {
    fn submit(&mut self, id: ConnId, job: Job) -> Result<Ticket, Job> {
        let mut world = lock(&self.world);
        if world.fault("refused_job", 10) {
            return Err(job);
        }
        let late = world.fault("late_job", 60);
        let delay =
            if late { 200_000_000 + world.rng.below(60_000_000_000) } else { world.rng.below(3_000_000) };
        let due_ns = world.now_ns + delay;
        world.tell(|| format!("{id} hands in a job"));
        world.jobs.push(PendingJob { due_ns, id, work: PendingWork::Job(job) });
        Ok(Ticket(TicketState::Pending))
    }

    fn cancel(&mut self, id: ConnId) {
        lock(&self.world).jobs.retain(|job| job.id != id);
    }

    fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    fn errands(&self) -> Arc<dyn Errands> {
        Arc::new(self.clone())
    }
}

impl Errands for SimDesk {
    fn run(&self, id: ConnId, errand: Errand) -> Ran {
        let mut world = lock(&self.world);
        if world.rng.chance(100) {
            drop(world);
            errand();
            return Ran::Here;
        }
        let due_ns = world.now_ns + world.rng.below(30_000_000);
        world.tell(|| format!("{id} hands in an errand"));
        world.jobs.push(PendingJob { due_ns, id, work: PendingWork::Errand(errand) });
        Ran::Elsewhere
    }
}

/// The server's end of a simulated socket.
#[derive(Debug)]
pub struct SimStream {
    world: Shared,
    at: usize,
}

impl SimStream {
    /// Room for output; an error once the client has reset.
    fn room(world: &mut World, at: usize) -> io::Result<usize> {
        if world.fault("interrupted_write", 20) {
            return Err(ErrorKind::Interrupted.into());
        }
        let conn = &mut world.conns[at];
        if conn.client_reset {
            conn.reset_told = true;
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = PIPE_BYTES.saturating_sub(conn.outbound.len());
        if room == 0 {
            conn.write_blocked = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if world.fault("would_block_write", 50) {
            // The kernel was short of something; it will say when not.
            world.conns[at].edge_write = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if room > 1 && world.fault("short_write", 100) {
            return Ok(1 + world.rng.below(room as u64 - 1) as usize);
        }
        Ok(room)
    }

    /// After a write of `sent` of `asked`: a short one is followed by an edge when there is room.
    fn wrote(world: &mut World, at: usize, sent: usize, asked: usize) {
        if sent < asked {
            let conn = &mut world.conns[at];
            if conn.outbound.len() >= PIPE_BYTES / 2 {
                conn.write_blocked = true;
            } else {
                conn.edge_write = true;
            }
        }
    }
}

impl Stream for SimStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let mut world = lock(&self.world);
        if world.fault("interrupted_read", 20) {
            return Err(ErrorKind::Interrupted.into());
        }
        if world.conns[at].client_reset {
            let told = std::mem::replace(&mut world.conns[at].reset_told, true);
            return if told { Ok(0) } else { Err(ErrorKind::ConnectionReset.into()) };
        }
        let there = world.conns[at].inbound.len();
        if there == 0 {
            if !world.conns[at].client_fin {
                return Err(ErrorKind::WouldBlock.into());
            }
            world.tell(|| format!("server reads the end of client {at}"));
            return Ok(0);
        }
        if world.fault("would_block_read", 50) {
            world.conns[at].edge_read = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut take = there.min(into.len());
        if take > 1 && world.fault("short_read", 150) {
            // The rest comes a moment later, with an edge of its own unless the end was already told.
            take = 1 + world.rng.below(take as u64 - 1) as usize;
            let conn = &mut world.conns[at];
            if !conn.client_fin {
                conn.edge_read = true;
            }
        }
        for (byte, from) in into.iter_mut().zip(world.conns[at].inbound.drain(..take)) {
            *byte = from;
        }
        world.tell(|| format!("server reads {take} of {there} from client {at}"));
        Ok(take)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>], _more: bool) -> io::Result<usize> {
        let at = self.at;
        let mut world = lock(&self.world);
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        let sent = SimStream::room(&mut world, at)?.min(asked);
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).take(sent);
        world.conns[at].outbound.extend(bytes);
        SimStream::wrote(&mut world, at, sent, asked);
        world.tell(|| format!("server writes {sent} of {asked} to client {at}"));
        Ok(sent)
    }

    /// The file's content is the pattern of the answer it belongs to, which is told in the upper bits of the
    /// offset: the descriptor itself is never touched.
    fn send_file(&mut self, _fd: &OwnedFd, offset: u64, len: u64, may_wait: bool) -> io::Result<SentFile> {
        let at = self.at;
        let mut world = lock(&self.world);
        if !may_wait && world.fault("cold_file", 200) {
            world.tell(|| format!("the file for client {at} is cold"));
            return Ok(SentFile::Cold);
        }
        let (id, first) = (offset >> 40, offset & ((1 << 40) - 1));
        let room = SimStream::room(&mut world, at)?;
        if is_broken(id) && first >= 1000 {
            world.coverage.note("fault", if id % 2 == 0 { "file_shrank" } else { "file_failed" });
            return if id % 2 == 0 { Ok(SentFile::Ended) } else { Err(ErrorKind::Other.into()) };
        }
        let mut sent = room.min(usize::try_from(len).unwrap_or(usize::MAX));
        if is_broken(id) {
            sent = sent.min(1000 - first as usize);
        }
        if (sent as u64) < len {
            world.coverage.note("fault", "short_sendfile");
        }
        world.conns[at].outbound.extend((0..sent as u64).map(|step| pattern(id, first + step)));
        // Short or not, no edge is promised: only a would-block is followed by one.
        world.tell(|| format!("server sends {sent} of {len} file bytes to client {at}"));
        Ok(SentFile::Bytes(sent as u64))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = lock(&self.world);
        world.conns[self.at].server_fin = true;
        Ok(())
    }

    fn reset_on_close(&mut self) {
        lock(&self.world).conns[self.at].server_reset = true;
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        world.open -= 1;
        let at = self.at;
        let (now_ns, is_excused) = (world.now_ns, !world.listening || !world.backlog.is_empty());
        let conn = &mut world.conns[at];
        conn.server_closed = true;
        // Idle in its time, without a word since: it goes for a newcomer or at a stop, and for nothing else.
        let is_left_alone = conn.idle.is_some_and(|(until, sent)| now_ns < until && conn.sent == sent);
        conn.closed_for_nothing = is_left_alone && !conn.client_fin && !conn.client_reset && !is_excused;
        if conn.server_reset || !conn.inbound.is_empty() {
            // Closing with input unread resets; what the client has not taken may be lost.
            conn.server_reset = true;
        }
        if let Some(id) = conn.id {
            world.old_ids.push(id);
        }
        world.tell(|| format!("server closes client {at}"));
    }
}

/// Whether the file of this answer fails after its first 1000 bytes.
fn is_broken(id: u64) -> bool {
    id >> 20 != 0
}

/// Answers in every way there is; the path says which and how much: `/how/id/bytes`.
struct SimHandler {
    world: Shared,
    file: Arc<OpenFile>,
}

impl SimHandler {
    fn answer(id: u64, body: Body) -> Response {
        Response::new(Status::OK).with_field("X-Id", id.to_string()).with_body(body)
    }

    fn bytes(id: u64, len: u64) -> Body {
        Body::Bytes((0..len).map(|at| pattern(id, at)).collect())
    }
}

impl Handler for SimHandler {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let path = String::from_utf8_lossy(request.path()).into_owned();
        let mut words = path.trim_start_matches('/').split('/');
        let how = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let (id, len): (u64, u64) = (number(), number());
        if matches!(how, "now" | "file") {
            lock(&self.world).made.insert(id);
        }
        match how {
            "now" => SimHandler::answer(id, SimHandler::bytes(id, len)).into(),
            "bye" => SimHandler::answer(id, SimHandler::bytes(id, len)).closing().into(),
            "later" => cx.job(move || SimHandler::answer(id, SimHandler::bytes(id, len))),
            "fail" => {
                let world = Arc::clone(&self.world);
                cx.job(move || {
                    lock(&world).coverage.note("fault", "failed_job");
                    std::panic::resume_unwind(Box::new("a job that fails"))
                })
            }
            "panic" => std::panic::resume_unwind(Box::new("a handler that fails")),
            "collect" => Answer::Collect {
                bytes_max: 64 * KIB as u64,
                then: Box::new(move |content, _| SimHandler::answer(id, Body::Bytes(content)).into()),
            },
            "small" => Answer::Collect {
                bytes_max: 10,
                then: Box::new(move |content, _| SimHandler::answer(id, Body::Bytes(content)).into()),
            },
            "sink" => Answer::Sink(Box::new(SimSink { id, kept: Vec::new(), fresh: 0 })),
            "file" | "broken" => {
                let body = Body::File { file: Arc::clone(&self.file), offset: id << 40, len };
                SimHandler::answer(id, body).into()
            }
            "source" | "torn" => {
                let rest = if how == "torn" { Rest::Torn } else { Rest::Whole };
                let source =
                    SimSource { id, at: 0, len, rest, waker: cx.waker(), world: Arc::clone(&self.world) };
                SimHandler::answer(id, Body::Source(Box::new(source))).into()
            }
            "offloaded" => {
                let source = Offloaded::new(SimProducer { id, at: 0, len }, cx);
                SimHandler::answer(id, Body::Source(Box::new(source))).into()
            }
            "watched" | "hung" => {
                let talk = SimTalk::begin(id, len, how == "hung", &self.world, cx);
                cx.watch(talk);
                cx.promised()
            }
            _ => Response::new(Status::NOT_FOUND).with_field("X-Id", id.to_string()).into(),
        }
    }
}

/// Numbers of the descriptors that a talk would have.
const STDOUT: u8 = 1;
const EXIT: u8 = 3;

/// How long a talk may take.
const TALK_TIMEOUT: Duration = Duration::from_secs(20);

/// Something watched that talks: promises an answer, then its content, and has to be waited for when it ends.
struct SimTalk {
    id: u64,
    len: u64,
    world: Shared,
    /// Its place in the world.
    at: usize,
    state: Mutex<Talk>,
}

#[derive(Debug)]
struct Talk {
    has_answered: bool,
    /// What was said to the client.
    told: u64,
    rests: bool,
    is_abandoned: bool,
    /// Its time was up.
    is_late: bool,
    due: Instant,
}

impl SimTalk {
    fn begin(id: u64, len: u64, hangs: bool, world: &Shared, cx: &Context<'_>) -> Arc<SimTalk> {
        let mut seen = lock(world);
        let due_ns = seen.now_ns + seen.rng.below(10_000_000);
        if hangs {
            seen.coverage.note("fault", "watched_hangs");
        }
        seen.watches.push(SimWatch {
            id: None,
            conn: cx.id(),
            due_ns: (!hangs).then_some(due_ns),
            said: 0,
            left: len,
            has_exited: false,
            is_over: false,
        });
        let at = seen.watches.len() - 1;
        let due = cx.now().mono + TALK_TIMEOUT;
        let talk =
            Talk { has_answered: false, told: 0, rests: false, is_abandoned: false, is_late: false, due };
        Arc::new(SimTalk { id, len, world: Arc::clone(world), at, state: Mutex::new(talk) })
    }

    /// It is killed, and exits a moment later.
    fn kill(&self) {
        let mut world = lock(&self.world);
        let due = world.now_ns + world.rng.below(1_000_000);
        let watch = &mut world.watches[self.at];
        if !watch.has_exited {
            (watch.due_ns, watch.left) = (Some(due), 0);
        }
    }
}

impl Watched for SimTalk {
    fn descriptors(&self) -> Vec<Descriptor> {
        Vec::new()
    }

    fn advance(self: Arc<Self>, _: Ready, now: Instant) -> Advanced {
        let mut talk = lock(&self.state);
        let (said, has_exited) = {
            let world = lock(&self.world);
            let watch = &world.watches[self.at];
            (watch.said, watch.has_exited)
        };
        let mut done = None;
        if talk.is_abandoned {
            // Nothing it says is heard.
        } else if !talk.has_answered && talk.due <= now {
            talk.is_late = true;
            self.kill();
            let late = Response::new(Status::GATEWAY_TIMEOUT);
            talk.has_answered = true;
            done = Some(Done::Finished(Box::new(move |_| Answer::Now(late))));
        } else if !talk.has_answered && (said > 0 || has_exited) {
            talk.has_answered = true;
            let body = Body::Source(Box::new(SimTalkSource { talk: Arc::clone(&self) }));
            let response = SimHandler::answer(self.id, body);
            done = Some(Done::Finished(Box::new(move |_| Answer::Now(response))));
        } else if said > talk.told || has_exited {
            done = std::mem::take(&mut talk.rests).then_some(Done::Woken);
        }
        let is_done = talk.is_abandoned || talk.is_late;
        let is_over = has_exited && (is_done || talk.told == self.len);
        if is_over {
            lock(&self.world).watches[self.at].is_over = true;
        }
        // More than fits a turn, it says now and then.
        let again = !is_over && lock(&self.world).fault("watched_again", 100);
        Advanced { done, due: (!talk.has_answered).then_some(talk.due), again, is_over }
    }

    fn abandon(&self) {
        let mut talk = lock(&self.state);
        talk.is_abandoned = true;
        let is_told = talk.told == self.len;
        drop(talk);
        let mut world = lock(&self.world);
        let name = if is_told { "watched_outlives" } else { "watched_abandoned" };
        if !world.watches[self.at].has_exited {
            world.coverage.note("fault", name);
        }
        if world.watches[self.at].id.is_none() {
            // The loop never came to watch it.
            world.watches[self.at].is_over = true;
        }
        drop(world);
        self.kill();
    }
}

/// Its content.
struct SimTalkSource {
    talk: Arc<SimTalk>,
}

impl BodySource for SimTalkSource {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> Filled {
        let mut talk = lock(&self.talk.state);
        let said = lock(&self.talk.world).watches[self.talk.at].said;
        let end = said.min(talk.told + room.max(1) as u64);
        if end == talk.told && talk.told < self.talk.len {
            talk.rests = true;
            return Filled::Later;
        }
        out.extend((talk.told..end).map(|at| pattern(self.talk.id, at)));
        talk.told = end;
        if end == self.talk.len { Filled::End } else { Filled::More }
    }
}

/// Makes the pattern beside the loop.
struct SimProducer {
    id: u64,
    at: u64,
    len: u64,
}

impl Producer for SimProducer {
    fn produce(&mut self, out: &mut Vec<u8>) -> Filled {
        let end = (self.at + 5000).min(self.len);
        out.extend((self.at..end).map(|at| pattern(self.id, at)));
        self.at = end;
        if end == self.len { Filled::End } else { Filled::More }
    }
}

/// Keeps content and makes room through jobs, as `/api/echo` does.
struct SimSink {
    id: u64,
    kept: Vec<u8>,
    fresh: usize,
}

impl BodySink for SimSink {
    fn write(&mut self, piece: &[u8], _: &mut Context<'_>) -> Sunk {
        self.kept.extend_from_slice(piece);
        self.fresh += piece.len();
        if self.fresh > 2000 { Sunk::Full } else { Sunk::More }
    }

    fn drain(mut self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        cx.job_then(move || {
            self.fresh = 0;
            let then: Then = Box::new(move |_| Answer::Sink(self));
            then
        })
    }

    fn finish(self: Box<Self>, _: &mut Context<'_>) -> Answer {
        SimHandler::answer(self.id, Body::Bytes(self.kept)).into()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Whole,
    Torn,
}

/// Makes the pattern in pieces, resting now and then until it is woken.
struct SimSource {
    id: u64,
    at: u64,
    len: u64,
    rest: Rest,
    waker: Waker,
    world: Shared,
}

impl BodySource for SimSource {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> Filled {
        let until = match self.rest {
            Rest::Whole => self.len,
            Rest::Torn => self.len / 2,
        };
        if self.rest == Rest::Torn && self.at == until {
            return Filled::Failed;
        }
        let (piece, rests) = {
            let mut world = lock(&self.world);
            (world.rng.size(room.max(1)) as u64, world.rng.chance(300))
        };
        let end = (self.at + piece).min(until);
        out.extend((self.at..end).map(|at| pattern(self.id, at)));
        self.at = end;
        if self.at == self.len && self.rest == Rest::Whole {
            return Filled::End;
        }
        if rests {
            let waker = self.waker.clone();
            let mut world = lock(&self.world);
            let due_ns = world.now_ns + world.rng.below(20_000_000);
            // A job that belongs to nobody does the waking.
            let job: Job = Box::new(move || {
                waker.wake();
                let then: Then = Box::new(|_| Response::new(Status::OK).into());
                then
            });
            world.jobs.push(PendingJob { due_ns, id: ConnId::new(0, 0), work: PendingWork::Job(job) });
            return Filled::Later;
        }
        Filled::More
    }
}

/// One run.
pub struct Simulation {
    reactor: Reactor<SimOs, LoopTally>,
    world: Shared,
    origin: Instant,
    turns: u32,
    turns_min: u32,
    /// It is told to stop while clients come, not when all is quiet.
    stops_busy: bool,
    /// High water and the largest answer on top of it.
    queue_bytes_max: u64,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Simulation({} turns)", self.turns)
    }
}

/// A run that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was wrong, and when.
    pub what: String,
    /// The steps, if they were recorded.
    pub steps: String,
}

/// The least clients of a run.
pub const CLIENTS_MIN: usize = 8;

/// The least turns of a run.
pub const TURNS_MIN: u32 = 200;

/// More turns than this are a loop that spins.
const TURNS_MAX: u32 = 200_000;

impl Simulation {
    /// A run from a seed. `record` keeps its steps for a failure's report.
    pub fn new(seed: u64, record: bool) -> io::Result<Self> {
        let mut rng = Rng(seed);
        let config = config(&mut rng);
        let count = CLIENTS_MIN + rng.below(10) as usize;
        let tight = rng.chance(250);
        let stops_busy = rng.chance(600);
        let world = World {
            now_ns: 0,
            conns: Vec::new(),
            backlog: VecDeque::new(),
            listener_edge: false,
            listening: true,
            open: 0,
            open_max: if tight { 3 + rng.below(4) as usize } else { 1000 },
            jobs: Vec::new(),
            inbox_edge: false,
            is_work_left: false,
            made: BTreeSet::new(),
            old_ids: Vec::new(),
            watches: Vec::new(),
            signals: VecDeque::new(),
            coverage: Coverage::default(),
            log: record.then(String::new),
            rng,
        };
        let world = Arc::new(Mutex::new(world));
        let mut ids = 0;
        for _ in 0..count {
            add_client(&world, &mut ids);
        }
        let origin = crate::reactor::os::read_clocks().mono;
        let os = SimOs::new(Arc::clone(&world), origin);
        let file = Arc::new(OpenFile::new(std::fs::File::open("/dev/null")?.into()));
        let handler = Arc::new(SimHandler { world: Arc::clone(&world), file });
        let mut os = os;
        let now = os.now();
        let desk = os.desk();
        let files = Files::own(&FileOptions::default());
        let connections_max = config.limits.connections_max;
        let queue_bytes_max = config.limits.send_high_water_bytes as u64 + 70_000;
        let driver = Driver::new(Arc::new(config), handler, files, desk, None, LoopTally::default(), now);
        let reactor = Reactor::new(os, driver, connections_max);
        Ok(Simulation { reactor, world, origin, turns: 0, turns_min: TURNS_MIN, stops_busy, queue_bytes_max })
    }

    /// Turns until every client has what it was owed and the server has stopped. More clients are added until
    /// the run is long enough.
    pub fn run(mut self) -> Result<Coverage, Failure> {
        let mut ids = 1000;
        let mut stopping = false;
        loop {
            self.turn()?;
            let settled = {
                let world = lock(&self.world);
                world.next_due().is_none() && world.backlog.is_empty()
            };
            if self.stops_busy && !stopping && self.turns >= self.turns_min {
                // The signal will come among new clients: what it sets off meets their events.
                for _ in 0..6 {
                    add_client(&self.world, &mut ids);
                }
                stopping = true;
                self.signal_within(20_000_000);
                continue;
            }
            if settled && !stopping && self.turns < self.turns_min {
                add_client(&self.world, &mut ids);
                continue;
            }
            let empty = self.reactor.open() == 0;
            if !stopping && (settled || self.turns > 4 * self.turns_min) {
                stopping = true;
                self.signal_within(5_000_000);
                continue;
            }
            match self.reactor.outcome() {
                Some(Outcome::Stopped) if empty => break,
                Some(Outcome::Cut(_) | Outcome::Killed(_)) => {
                    if let Some(idle) = self.reactor.look().find(|seen| seen.phase == Phase::Idle) {
                        return Err(self.failure(&format!("{} was idle and had to be cut off", idle.id)));
                    }
                    for conn in &mut lock(&self.world).conns {
                        conn.server_reset |= !conn.server_closed;
                    }
                    break;
                }
                Some(Outcome::Stopped) | None => {}
            }
            if self.turns > TURNS_MAX {
                return Err(self.failure("the loop spins: too many turns"));
            }
        }
        self.judge()
    }

    fn signal_within(&self, ns: u64) {
        let mut world = lock(&self.world);
        let at = world.now_ns + 1 + world.rng.below(ns);
        world.signals.push_back((at, Signal::Terminate));
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.turns += 1;
        if let Err(error) = self.reactor.turn() {
            return Err(self.failure(&format!("the turn failed: {error}")));
        }
        if let Err(what) = self.check() {
            return Err(self.failure(&what));
        }
        Ok(())
    }

    /// A moment as the simulated clock counts.
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    fn failure(&self, what: &str) -> Failure {
        let mut world = lock(&self.world);
        let what = format!("turn {}: {what}", self.turns);
        Failure { what, steps: world.log.take().unwrap_or_default() }
    }

    /// What must hold after every turn.
    fn check(&self) -> Result<(), String> {
        let mut world = lock(&self.world);
        if world.open != self.reactor.open() {
            return Err(format!("{} sockets are open for {} slots", world.open, self.reactor.open()));
        }
        if let Some(at) = world.conns.iter().position(|conn| conn.closed_for_nothing) {
            return Err(format!("client {at} was idle and was closed before its time"));
        }
        let due = world.next_due();
        world.is_work_left = false;
        let mut phases = Vec::new();
        let mut loans = 0;
        let mut collected = 0;
        for seen in self.reactor.look() {
            phases.push(seen.phase);
            loans += usize::from(seen.holds_loan);
            collected += seen.collected_bytes;
            let at = self.check_one(&world, &seen, due)?;
            world.is_work_left |= seen.is_carried;
            // With nothing held that it could still be answered for.
            let is_idle = seen.phase == Phase::Idle && !seen.has_work && world.conns[at].inbound.is_empty();
            let until = seen.deadline.map_or(u64::MAX, |due| self.nanos(due));
            world.conns[at].idle = is_idle.then_some((until, world.conns[at].sent));
        }
        let (pool_loans, lent, budget, driver_collected) = self.reactor.memory();
        if loans != pool_loans || lent > budget {
            return Err(format!(
                "{loans} clients hold loans, the pool counts {pool_loans} ({lent} of {budget} bytes)"
            ));
        }
        if collected != driver_collected {
            return Err(format!("{collected} bytes are collected, {driver_collected} are counted"));
        }
        let watches = world.watches.iter().filter(|watch| watch.id.is_some() && !watch.is_over).count();
        if watches != self.reactor.watched() {
            return Err(format!("{watches} things are to be watched, {} are", self.reactor.watched()));
        }
        let carried = self.reactor.watched_carried();
        if carried > watches {
            return Err(format!("{carried} of {watches} watched things are carried: some of them twice"));
        }
        world.is_work_left |= carried > 0;
        if let Some(lost) = world.watches.iter().find(|watch| {
            !watch.is_over && !self.reactor.look().any(|seen| seen.id == watch.conn) && watch.due_ns.is_none()
        }) {
            return Err(format!("what was watched for {} will never be over", lost.conn));
        }
        let counters = self.reactor.counters();
        let told: u64 = self.reactor.gauges().phases.iter().sum();
        let accepted = counters.accepted.get() - counters.closed_total();
        if told != accepted || told != self.reactor.open() as u64 {
            return Err(format!("{told} connections are told of, {accepted} counted in and not out"));
        }
        if self.reactor.deadlines_len() > self.reactor.open() {
            return Err("a closed connection left its deadline behind".into());
        }
        for phase in phases {
            world.coverage.note("phase", phase.name());
        }
        Ok(())
    }

    fn check_one(
        &self,
        world: &World,
        seen: &crate::reactor::Look,
        due: Option<u64>,
    ) -> Result<usize, String> {
        let Peer::V4(_, at) = seen.peer else { return Err("a client of no number".into()) };
        let at = usize::from(at);
        let conn = &world.conns[at];
        let id = seen.id;
        if conn.server_closed {
            return Err(format!("{id} has a slot and no socket"));
        }
        match (seen.deadline, seen.armed) {
            (Some(deadline), Some(armed)) if armed > deadline => {
                return Err(format!("{id} ({}) would be looked at too late", seen.phase.name()));
            }
            (Some(_), None) => return Err(format!("{id} ({}) has no deadline armed", seen.phase.name())),
            _ => {}
        }
        if seen.phase == Phase::Idle && seen.has_work && !seen.is_carried {
            return Err(format!("{id} is idle and holds a record: {}", seen.work));
        }
        if seen.queued_bytes > self.queue_bytes_max {
            return Err(format!("{id} has {} bytes queued", seen.queued_bytes));
        }
        if seen.is_carried {
            return Ok(at);
        }
        if seen.is_resting {
            let is_coming = world.jobs.iter().any(|job| job.id == id || job.id == ConnId::new(0, 0))
                || world.is_watched_for(id);
            if !is_coming && !world.inbox_edge {
                return Err(format!("{id} rests and nothing will wake it"));
            }
        }
        let may_send = seen.queued_bytes > 0 && seen.is_sendable;
        if may_send && seen.ready.writable {
            return Err(format!("{id} owes {} bytes, may write and waits", seen.queued_bytes));
        }
        if may_send && !world.will_say_writable(at) {
            return Err(format!("{id} owes {} bytes and nothing will wake it", seen.queued_bytes));
        }
        if seen.can_use_held {
            return Err(format!("{id} holds requests it could answer, and waits"));
        }
        if seen.wants_input && seen.ready.readable {
            return Err(format!("{id} may read, wants to, and waits"));
        }
        let there = !conn.inbound.is_empty() || (conn.client_fin && !seen.ready.ended);
        if seen.wants_input && there && !conn.edge_read && !conn.edge_closed {
            return Err(format!("{id} has input in the kernel and nothing will tell it"));
        }
        if seen.phase == Phase::Handling && due.is_none() && !world.inbox_edge && !world.is_watched_for(id) {
            return Err(format!("{id} waits for an answer that nobody makes"));
        }
        Ok(at)
    }

    /// At the end: every client got what it was owed.
    fn judge(self) -> Result<Coverage, Failure> {
        let tight = self.reactor.memory().2 < 64 * KIB;
        let (what, mut coverage) = {
            let mut world = lock(&self.world);
            for at in 0..world.conns.len() {
                let conn = &mut world.conns[at];
                conn.taken.extend(conn.outbound.drain(..));
            }
            let what = (0..world.conns.len()).find_map(|at| {
                verdict(&world.conns[at], &world.made, tight)
                    .err()
                    .map(|why| format!("client {at} {:?}: {why}", world.conns[at].manner))
            });
            let mut coverage = std::mem::take(&mut world.coverage);
            if what.is_none() {
                coverage.steps = world.log.take().unwrap_or_default();
            }
            (what, coverage)
        };
        if let Some(what) = what {
            return Err(self.failure(&what));
        }
        let counters = self.reactor.counters();
        for reason in CloseReason::ALL {
            let name = format!("close {}", reason.name());
            *coverage.counts.entry(name).or_default() += counters.closed_for(reason);
        }
        *coverage.counts.entry("total turns".into()).or_default() += u64::from(self.turns);
        *coverage.counts.entry("total clients".into()).or_default() += lock(&self.world).conns.len() as u64;
        Ok(coverage)
    }
}

/// Small limits, so that they are met.
fn config(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    let limits = &mut config.limits;
    limits.connections_max = if rng.chance(300) { 6 } else { 1000 };
    limits.turn_bytes_max = 1 + rng.below(40_000) as usize;
    limits.turn_requests_max = 1 + rng.below(6) as usize;
    limits.accepts_per_turn = 1 + rng.below(4) as usize;
    limits.deadlines_per_turn = 1 + rng.below(3) as usize;
    limits.send_high_water_bytes = 2000 + rng.below(20_000) as usize;
    limits.send_low_water_bytes = 1000;
    limits.gather_bytes_max = 500;
    limits.file_slice_bytes_max = 7000;
    limits.discard_bytes_max = 3000;
    limits.body_bytes_max = 100_000;
    limits.collect_bytes_max = 30_000;
    limits.linger_bytes_max = 5000;
    limits.spare_records_max = 3;
    limits.pool_bytes_max = if rng.chance(300) { 6 * KIB } else { 1024 * KIB };
    config
}

/// Adds a client with its script to the world.
fn add_client(world: &Shared, ids: &mut u64) {
    let mut world = lock(world);
    let rng = &mut world.rng;
    let manner = MANNERS[rng.below(MANNERS.len() as u64) as usize];
    let mut conn = SimConn {
        manner,
        to_send: VecDeque::new(),
        send_marks: VecDeque::new(),
        sent: 0,
        inbound: VecDeque::new(),
        outbound: VecDeque::new(),
        taken: Vec::new(),
        expected: Vec::new(),
        answers_at_stop: usize::MAX,
        script: Vec::new(),
        next_action_ns: 0,
        reads: manner != Manner::Staller,
        fin_when_sent: matches!(manner, Manner::HalfCloser | Manner::Quitter | Manner::Plain),
        client_fin: false,
        client_reset: false,
        reset_told: false,
        server_fin: false,
        server_reset: false,
        connected: false,
        accepted: false,
        server_closed: false,
        id: None,
        edge_read: false,
        edge_write: false,
        edge_closed: false,
        write_blocked: false,
        idle: None,
        closed_for_nothing: false,
    };
    if manner == Manner::Plain && rng.chance(500) {
        // Half of them leave it to the server to end it.
        conn.fin_when_sent = false;
    }
    let requests = match manner {
        Manner::Mute => 0,
        Manner::Sleeper | Manner::Dripper | Manner::Miser | Manner::Quitter => rng.below(2),
        Manner::Staller => 40,
        Manner::Plain | Manner::HalfCloser | Manner::Vanisher | Manner::Babbler => 1 + rng.below(8),
    };
    let waits = rng.chance(400);
    for _ in 0..requests {
        *ids += 1;
        let last = add_request(rng, &mut conn, *ids);
        if waits {
            conn.send_marks.push_back((conn.to_send.len(), conn.expected.len()));
        }
        if last {
            break;
        }
    }
    let over = conn.expected.last().is_some_and(|expected| expected.last);
    if !over {
        add_ending(rng, &mut conn);
    }
    let pause = rng.below(20_000_000);
    conn.next_action_ns = world.now_ns + 1 + pause;
    world.conns.push(conn);
}

/// Appends one request; true when nothing can follow it.
fn add_request(rng: &mut Rng, conn: &mut SimConn, id: u64) -> bool {
    let len = if rng.chance(200) { rng.below(60_000) } else { rng.below(2000) };
    let content: Vec<u8> = (0..rng.below(6000)).map(|at| pattern(id, at)).collect();
    let ok = |content| Expected { id, status: 200, content, last: false, may_close: false };
    let get = |how: &str| format!("GET /{how}/{id}/{len} HTTP/1.1\r\nHost: sim\r\n\r\n").into_bytes();
    let (bytes, expected) = match rng.below(21) {
        0..=4 => (get("now"), ok(Content::Pattern(len))),
        5 | 6 => (get("later"), ok(Content::Pattern(len))),
        7 => (get("file"), ok(Content::Pattern(len))),
        8 => (get(["source", "offloaded"][rng.below(2) as usize]), ok(Content::Pattern(len))),
        9 => (post(rng, "collect", id, &content), ok(Content::Bytes(content))),
        10 | 11 => (post(rng, "sink", id, &content), ok(Content::Bytes(content))),
        // Content nobody asked for: read past, or the end.
        12 => {
            let expected = Expected { may_close: true, ..ok(Content::Pattern(0)) };
            (post(rng, "now", id, &content), expected)
        }
        13 => {
            let head = format!("HEAD /now/{id}/{len} HTTP/1.1\r\nHost: sim\r\n\r\n");
            (head.into_bytes(), ok(Content::Nothing))
        }
        14 => (get("bye"), Expected { last: true, ..ok(Content::Pattern(len)) }),
        15 => {
            let how = ["fail", "panic"][rng.below(2) as usize];
            (get(how), Expected { status: 500, last: true, ..ok(Content::Any) })
        }
        16 => match rng.below(3) {
            0 => {
                // Behind a small answer that is still queued when the content fails, as a rule.
                let first = id + (1 << 18);
                let line = format!("GET /now/{first}/5 HTTP/1.1");
                conn.to_send.extend(format!("{line}\r\nHost: sim\r\n\r\n").bytes());
                conn.script.push(line);
                conn.expected.push(Expected { id: first, ..ok(Content::Pattern(5)) });
                let torn = format!("GET /torn/{id}/{} HTTP/1.1\r\nHost: sim\r\n\r\n", len.min(300));
                (torn.into_bytes(), Expected { last: true, ..ok(Content::Broken) })
            }
            1 => {
                let id = id + (1 << 20);
                let path = format!("GET /broken/{id}/50000 HTTP/1.1\r\nHost: sim\r\n\r\n");
                (path.into_bytes(), Expected { id, last: true, ..ok(Content::Broken) })
            }
            _ => {
                let expected = Expected { status: 413, last: true, ..ok(Content::Any) };
                (post(rng, "small", id, &[b'x'; 4000]), expected)
            }
        },
        17 | 18 => (get("watched"), ok(Content::Pattern(len))),
        19 if rng.chance(200) => (get("hung"), Expected { status: 504, ..ok(Content::Any) }),
        _ => {
            let close = format!("GET /now/{id}/{len} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n");
            (close.into_bytes(), Expected { last: true, ..ok(Content::Pattern(len)) })
        }
    };
    let last = expected.last;
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    conn.script.push(String::from_utf8_lossy(line).into_owned());
    conn.to_send.extend(bytes);
    conn.expected.push(expected);
    last
}

fn post(rng: &mut Rng, how: &str, id: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("POST /{how}/{id}/0 HTTP/1.1\r\nHost: sim\r\n").into_bytes();
    if rng.chance(500) {
        bytes.extend(format!("Content-Length: {}\r\n\r\n", content.len()).bytes());
        bytes.extend_from_slice(content);
        return bytes;
    }
    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    let mut rest = content;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.size(rest.len()));
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
        rest = after;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// What a client does after its sound requests.
fn add_ending(rng: &mut Rng, conn: &mut SimConn) {
    match conn.manner {
        Manner::Babbler => {
            let words: [&[u8]; 4] = [
                b"\x16\x03\x01 no HTTP",
                b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                b"\r\n\n",
                b"GET /\x00 HTTP/1.1\r\n",
            ];
            conn.to_send.extend(words[rng.below(4) as usize]);
            conn.to_send.extend(std::iter::repeat_n(b'x', rng.below(9000) as usize));
            conn.expected.push(Expected {
                id: 0,
                status: 400,
                content: Content::Any,
                last: true,
                may_close: true,
            });
        }
        Manner::Dripper | Manner::Quitter if rng.chance(500) => {
            conn.to_send.extend(b"GET /now/1/1 HTTP/1.1\r\nHost: si");
        }
        Manner::Dripper => {
            // More than the small pools have.
            conn.to_send.extend(b"GET /now/1/1 HTTP/1.1\r\nX: ");
            conn.to_send.extend(std::iter::repeat_n(b'y', 1500));
        }
        Manner::Miser | Manner::Quitter => {
            conn.to_send
                .extend(b"POST /sink/1/0 HTTP/1.1\r\nHost: sim\r\nContent-Length: 500\r\n\r\nnot all of it");
        }
        Manner::Plain
        | Manner::HalfCloser
        | Manner::Vanisher
        | Manner::Staller
        | Manner::Mute
        | Manner::Sleeper => {}
    }
}

/// Compares what a client took with what it was owed.
fn verdict(conn: &SimConn, made: &BTreeSet<u64>, tight: bool) -> Result<(), String> {
    let mut rest = conn.taken.as_slice();
    let mut expected = conn.expected.iter();
    let mut missing = None;
    let mut over = false;
    // Content that was refused may turn out to be too long to be read past: then that answer was the last.
    let mut refused = false;
    for (number, wanted) in expected.by_ref().enumerate() {
        match take_answer(&mut rest, wanted, number >= conn.answers_at_stop)? {
            Taken::Whole => {}
            Taken::Busy => refused = true,
            Taken::Over => {
                over = true;
                break;
            }
            Taken::Cut => {
                missing = Some(wanted);
                break;
            }
        }
    }
    if !rest.is_empty() && missing.is_none() && !over {
        // A refusal at the end (408, 400 for the unfinished rest) is in order, an answer nobody asked for is not.
        let last = Expected { id: 0, status: 0, content: Content::Any, last: true, may_close: true };
        take_answer(&mut rest, &last, true)?;
        if !rest.is_empty() {
            return Err(format!("{} bytes behind the last answer", rest.len()));
        }
    }
    let Some(wanted) = missing else { return Ok(()) };
    let is_lossy = conn.client_reset || conn.server_reset || conn.manner == Manner::Staller;
    if made.contains(&wanted.id) && !is_lossy {
        return Err(format!("the answer to {} was made and is not there whole", wanted.id));
    }
    refused |= conn
        .expected
        .iter()
        .take_while(|expected| expected.id != wanted.id)
        .any(|expected| expected.may_close);
    let excused = conn.client_reset
        || refused
        || conn.server_reset
        || !conn.accepted
        || wanted.last
        || conn.manner == Manner::Staller
        || conn.manner == Manner::Vanisher
        // Stopping, evicting and timing out end a connection between two answers, never inside of one.
        // Without a buffer for requests behind the one in hand, its answer is the last.
        || (rest.is_empty() && conn.server_closed && (tight || !conn.fin_when_sent || conn.answers_at_stop != usize::MAX));
    if excused { Ok(()) } else { Err(format!("no whole answer to {}", wanted.id)) }
}

enum Taken {
    Whole,
    /// A 503 in its place, and the connection goes on.
    Busy,
    /// It, or a 4xx or 503 in its place, and with that the connection ends.
    Over,
    Cut,
}

/// Takes one answer off the front of `rest` and compares it.
fn take_answer(rest: &mut &[u8], wanted: &Expected, stopping: bool) -> Result<Taken, String> {
    while let Some(behind) = rest.strip_prefix(b"HTTP/1.1 102 Processing\r\n\r\n") {
        *rest = behind;
    }
    let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else { return Ok(Taken::Cut) };
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).ok_or("no status line")?;
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim_start_matches(": ").to_owned())
    };
    // Half a refusal in its place has its own content.
    let cut = |part: &[u8]| match status == wanted.status {
        true => check_part(part, wanted).map(|()| Taken::Cut),
        false => Ok(Taken::Cut),
    };
    let mut body = &rest[end + 4..];
    let mut content = Vec::new();
    if !matches!(wanted.content, Content::Nothing) || status != 200 {
        if field("Transfer-Encoding").is_some() {
            if !take_chunks(&mut body, &mut content)? {
                return cut(&content);
            }
        } else {
            let len: usize = field("Content-Length").and_then(|len| len.parse().ok()).unwrap_or(0);
            if body.len() < len {
                return cut(body);
            }
            content.extend_from_slice(&body[..len]);
            body = &body[len..];
        }
    }
    *rest = body;
    let closes = field("Connection").is_some_and(|value| value == "close");
    if status != wanted.status {
        let refusal = closes && matches!(status, 400 | 408 | 413 | 431 | 500 | 503);
        // A job that was refused is 503 and the connection goes on.
        if refusal || status == 503 {
            return Ok(if closes { Taken::Over } else { Taken::Busy });
        }
        return Err(format!("status {status} for {}, not {}", wanted.id, wanted.status));
    }
    if status == 200 && field("X-Id") != Some(wanted.id.to_string()) {
        return Err(format!("answer {:?} where {} is due", field("X-Id"), wanted.id));
    }
    if closes && !(wanted.last || wanted.may_close || stopping) {
        return Err(format!("the answer to {} closes for no reason", wanted.id));
    }
    let end = if closes { Taken::Over } else { Taken::Whole };
    match &wanted.content {
        Content::Pattern(len) if content.len() as u64 != *len => {
            Err(format!("{} bytes of {len} for {}", content.len(), wanted.id))
        }
        Content::Broken => Err(format!("{} should have broken off", wanted.id)),
        Content::Pattern(_) | Content::Bytes(_) => check_part(&content, wanted).map(|()| end),
        Content::Any | Content::Nothing => Ok(end),
    }
}

fn check_part(content: &[u8], wanted: &Expected) -> Result<(), String> {
    let right = match &wanted.content {
        Content::Bytes(bytes) => bytes.starts_with(content),
        Content::Pattern(_) => {
            content.iter().enumerate().all(|(at, &byte)| byte == pattern(wanted.id, at as u64))
        }
        Content::Any | Content::Broken | Content::Nothing => true,
    };
    if right { Ok(()) } else { Err(format!("wrong bytes in the answer to {}", wanted.id)) }
}

/// Takes chunks off the front of `body`; false when they are cut off.
fn take_chunks(body: &mut &[u8], content: &mut Vec<u8>) -> Result<bool, String> {
    loop {
        let Some(end) = memchr::memmem::find(body, b"\r\n") else { return Ok(false) };
        let digits = String::from_utf8_lossy(&body[..end]);
        let size = usize::from_str_radix(&digits, 16).map_err(|_| format!("bad chunk size {digits:?}"))?;
        let after = &body[end + 2..];
        if after.len() < size + 2 {
            content.extend_from_slice(&after[..after.len().min(size)]);
            return Ok(false);
        }
        content.extend_from_slice(&after[..size]);
        *body = &after[size + 2..];
        if size == 0 {
            return Ok(true);
        }
    }
}
