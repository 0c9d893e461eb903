//! The simulated world: clients with their plans, what is under way to and from them, and the
//! generator behind all.
//!
//! It must not know what the server promises: that is judged elsewhere.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use crate::config::{INBOX_LOOK, KIB};
use crate::conn_id::{ConnId, WatchId};
use crate::driver::signals::Signal;
use crate::handler::continuation::Job;
use crate::handler::watch::Ready;
use crate::jobs::Errand;
use crate::reactor::os::OsEvent;
use crate::sim::coverage::Coverage;

/// What the kernel holds in each direction of a simulated socket, in bytes.
pub(super) const PIPE_BYTES: usize = 24 * KIB;

/// Numbers of the descriptors that a talk would have.
const STDOUT: u8 = 1;

const EXIT: u8 = 3;

/// Whether the file of this answer fails after its first 1000 bytes.
pub(super) fn is_broken(id: u64) -> bool {
    id >> 20 != 0
}

/// A small generator (SplitMix64, Steele and others 2014): one number of state, so a seed is a
/// whole run.
#[derive(Debug, Clone)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(super) fn size(&mut self, max: usize) -> usize {
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
pub(super) fn pattern(id: u64, at: u64) -> u8 {
    (id.wrapping_mul(31).wrapping_add(at).wrapping_add(at >> 8) % 251) as u8
}

/// What a client is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
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

pub(super) const MANNERS: [Manner; 14] = [
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
pub(super) struct Expected {
    pub(super) id: u64,
    pub(super) status: u16,
    pub(super) content: Content,
    /// The server closes after it.
    pub(super) last: bool,
    /// The server may close after it.
    pub(super) may_close: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
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
pub(super) struct SimConn {
    pub(super) manner: Manner,
    /// What it will still send.
    pub(super) to_send: VecDeque<u8>,
    /// Positions in what it sends behind which it waits until it has read so many answers.
    pub(super) send_marks: VecDeque<(usize, usize)>,
    pub(super) sent: usize,
    /// On the way to the server.
    pub(super) inbound: VecDeque<u8>,
    /// On the way to the client.
    pub(super) outbound: VecDeque<u8>,
    /// Read by the client.
    pub(super) taken: Vec<u8>,
    pub(super) expected: Vec<Expected>,
    /// Answers it had been given when the server was told to stop: later ones may say that they are
    /// the last.
    pub(super) answers_at_stop: usize,
    /// Its request lines, for reports.
    pub(super) script: Vec<String>,
    pub(super) next_action_ns: u64,
    pub(super) reads: bool,
    pub(super) fin_when_sent: bool,
    pub(super) client_fin: bool,
    pub(super) client_reset: bool,
    /// The server saw the reset as an error once.
    pub(super) reset_told: bool,
    pub(super) server_fin: bool,
    pub(super) server_reset: bool,
    pub(super) connected: bool,
    pub(super) accepted: bool,
    pub(super) server_closed: bool,
    pub(super) id: Option<ConnId>,
    /// What the next event will say.
    pub(super) edge_read: bool,
    pub(super) edge_write: bool,
    pub(super) edge_closed: bool,
    pub(super) write_blocked: bool,
    /// Bytes of files that it was sent in this turn.
    pub(super) file_bytes: u64,
    /// If it was idle after the last turn: until when it may be, and how much it had sent.
    pub(super) idle: Option<(u64, usize)>,
    /// It was idle, in its time, and nobody came for whom it had to go; the server closed it.
    pub(super) closed_for_nothing: bool,
}

/// What the world knows of something watched: a program that talks.
#[derive(Debug)]
pub(super) struct SimWatch {
    /// Its name, once the loop watches it.
    pub(super) id: Option<WatchId>,
    pub(super) conn: ConnId,
    /// When it does something next; never, if it hangs.
    pub(super) due_ns: Option<u64>,
    /// Said and not read, and still to be said.
    pub(super) said: u64,
    pub(super) left: u64,
    pub(super) has_exited: bool,
    pub(super) is_over: bool,
}

/// All that the server does not own.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now_ns: u64,
    pub(super) conns: Vec<SimConn>,
    pub(super) backlog: VecDeque<usize>,
    pub(super) listener_edge: bool,
    pub(super) listening: bool,
    pub(super) open: usize,
    pub(super) open_max: usize,
    pub(super) jobs: Vec<PendingJob>,
    pub(super) inbox_edge: bool,
    /// Wake-ups that will fail.
    pub(super) wake_ups_failing: u64,
    /// When the operating system looks for results that nobody was woken for.
    pub(super) look_ns: Option<u64>,
    /// A connection was out of budget after the last turn: the poll may not wait.
    pub(super) is_work_left: bool,
    /// Requests the handler has answered at once, by their numbers.
    pub(super) made: BTreeSet<u64>,
    pub(super) old_ids: Vec<ConnId>,
    pub(super) watches: Vec<SimWatch>,
    pub(super) signals: VecDeque<(u64, Signal)>,
    pub(super) coverage: Coverage,
    pub(super) log: Option<String>,
    /// Whose descriptors were asked for last: they have none, and this tells them apart.
    pub(super) asked_for: usize,
}

pub(super) struct PendingJob {
    pub(super) due_ns: u64,
    pub(super) id: ConnId,
    pub(super) work: PendingWork,
}

pub(super) enum PendingWork {
    Job(Job),
    Errand(Errand),
}

impl std::fmt::Debug for PendingJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "job of {} due {}", self.id, self.due_ns)
    }
}

pub(super) type Shared = Arc<Mutex<World>>;

impl World {
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "{:>10.3} ms  {}", self.now_ns as f64 / 1e6, line());
        }
    }

    pub(super) fn fault(&mut self, name: &'static str, per_mille: u64) -> bool {
        let hit = self.rng.chance(per_mille);
        if hit {
            self.coverage.note("fault", name);
        }
        hit
    }

    /// When something will happen without the server's doing.
    pub(super) fn next_due(&self) -> Option<u64> {
        let actions = self.conns.iter().filter(|conn| conn.has_plans()).map(|conn| conn.next_action_ns);
        let jobs = self.jobs.iter().map(|job| job.due_ns);
        let signals = self.signals.iter().map(|(at, _)| *at);
        let watches = self.watches.iter().filter(|watch| watch.id.is_some() && !watch.is_over);
        let watches = watches.filter_map(|watch| watch.due_ns);
        actions.chain(jobs).chain(signals).chain(watches).chain(self.look_ns).min()
    }

    /// The loop is woken for its results, or that fails: now and then for one try, now and then for
    /// many.
    pub(super) fn wake_up(&mut self) -> io::Result<()> {
        if self.wake_ups_failing == 0 && self.fault("failed_wake_up", 30) {
            self.wake_ups_failing = 1 + self.rng.below(8);
        }
        if self.wake_ups_failing > 0 {
            self.wake_ups_failing -= 1;
            self.tell(|| "a wake-up fails".into());
            // Unless the next try succeeds, the results wait for the look.
            self.look_ns.get_or_insert(self.now_ns.saturating_add(INBOX_LOOK.as_nanos() as u64));
            return Err(io::ErrorKind::Interrupted.into());
        }
        (self.look_ns, self.inbox_edge) = (None, true);
        Ok(())
    }

    /// Returns true if waiting results reach the loop without a further one.
    pub(super) fn will_hand_out_results(&self) -> bool {
        self.inbox_edge || self.look_ns.is_some()
    }

    /// Looks for results that nobody was woken for, once a second.
    pub(super) fn look(&mut self, has_news: bool) {
        if !has_news {
            self.look_ns = None;
        } else if self.look_ns.is_some_and(|look_ns| look_ns <= self.now_ns) {
            self.coverage.note("fault", "woken_by_look");
            self.tell(|| "the loop looks for results".into());
            (self.look_ns, self.inbox_edge) = (None, true);
        }
    }

    pub(super) fn act(&mut self) {
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
    pub(super) fn take_events(&mut self, events: &mut Vec<OsEvent>) {
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
                let open = self.conns.iter_mut().filter(|conn| !conn.server_closed);
                // Where several signals come, the stop begins with the first.
                for conn in open.filter(|conn| conn.answers_at_stop == usize::MAX) {
                    conn.answers_at_stop = conn.answers_begun();
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

    /// What is watched talks and exits in its time, now and then for nothing, and now and then
    /// under a name that is gone.
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

    /// Whether something watched for this connection will make itself heard, or is given up in
    /// time.
    pub(super) fn is_watched_for(&self, id: ConnId) -> bool {
        self.watches.iter().any(|watch| watch.conn == id && !watch.is_over)
    }

    /// Whether a blocked connection is sure to be heard of again from the kernel.
    pub(super) fn will_say_writable(&self, conn: usize) -> bool {
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

    /// Taken or on their way.
    fn answers_begun(&self) -> usize {
        let begun: Vec<u8> = self.taken.iter().chain(&self.outbound).copied().collect();
        answers_in(&begun)
    }
}

/// Counts responses that have at least begun. Interim ones are not expected: no client asks for
/// them.
fn answers_in(bytes: &[u8]) -> usize {
    memchr::memmem::find_iter(bytes, b"HTTP/1.1 ").count()
}
