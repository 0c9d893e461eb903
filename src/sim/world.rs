//! The simulated world: clients with their scripts, the bytes in transit, and the random generator.
//!
//! This file must not know what the server promises, because `verdict` and the checks after each
//! turn judge that.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use crate::config::KIB;
use crate::conn_id::{ConnId, WatchId};
use crate::driver::decision::{Decision, WrongDecisions};
use crate::driver::outcome::Signal;
use crate::handler::watch::Ready;
use crate::observe::step::{Fact, SocketReport, Step, TimedStep};
use crate::reactor::os::OsEvent;
use crate::sim::coverage::Coverage;
use crate::sim::kernel::{End, KernelListener, KernelSocket};
use crate::sim::record::Record;
use crate::sim::workers::{HasWorkers, InboxEvent, Workers};

/// Capacity of a simulated socket in each direction, in bytes.
pub(super) const PIPE_BYTES: usize = 24 * KIB;

/// Number of the descriptor for the output of a simulated program.
const STDOUT: u8 = 1;

/// Number of the descriptor that reports the exit of a simulated program.
const EXIT: u8 = 3;

/// Returns true if the file of this response fails after its first 1000 bytes.
pub(super) fn is_broken(id: u64) -> bool {
    id >> 20 != 0
}

/// A small random generator (SplitMix64, Steele and others 2014). Its state is one number, so a
/// seed determines a whole run.
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

    /// Returns a number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Returns true in `per_mille` of 1000 calls.
    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Returns a size from 1 to `max`.
    pub(super) fn size(&mut self, max: usize) -> usize {
        // Small and large sizes find more errors than medium ones.
        match self.below(4) {
            0 => 1 + self.below(3) as usize,
            1 => 1 + self.below(100) as usize,
            _ => 1 + self.below(max as u64) as usize,
        }
        .min(max)
        .max(1)
    }
}

/// Returns the byte at position `at` of the content of response `id`. The pattern identifies the
/// origin of any slice.
pub(super) fn pattern(id: u64, at: u64) -> u8 {
    (id.wrapping_mul(31).wrapping_add(at).wrapping_add(at >> 8) % 251) as u8
}

/// The behaviour of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Sends requests and reads responses.
    Plain,
    /// Sends requests, shuts its side, and reads responses.
    HalfCloser,
    /// Resets the connection at any time.
    Vanisher,
    /// Sends a part of a head and stops, or sends it slowly.
    Dripper,
    /// Announces content and does not send all of it.
    Miser,
    /// Sends requests and never reads.
    Staller,
    /// Sends bytes that are not HTTP.
    Babbler,
    /// Connects and sends nothing.
    Mute,
    /// Sends one request and leaves the connection idle.
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

/// A response that a client waits for.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) id: u64,
    pub(super) status: u16,
    pub(super) content: Content,
    /// True if the server must close after it.
    pub(super) last: bool,
    /// True if the server may close after it.
    pub(super) may_close: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// This number of bytes of the pattern.
    Pattern(u64),
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// Any content.
    Any,
    /// Content that must break off.
    Broken,
    /// No content, as for HEAD, independent of the length header.
    Nothing,
}

/// One simulated client with its socket.
#[derive(Debug)]
pub(super) struct SimConn {
    pub(super) manner: Manner,
    /// Bytes that the client has not sent yet.
    pub(super) to_send: VecDeque<u8>,
    /// Pairs of a position in the sent bytes and a number of responses. At that position the client
    /// waits until it has read that many responses.
    pub(super) send_marks: VecDeque<(usize, usize)>,
    pub(super) sent: usize,
    pub(super) socket: KernelSocket,
    /// Bytes that the client has read.
    pub(super) taken: Vec<u8>,
    /// Number of responses that have begun in these bytes.
    pub(super) answers_taken: usize,
    pub(super) expected: Vec<Expected>,
    /// Number of responses begun when the server received the stop signal. Later ones may close.
    pub(super) answers_at_stop: usize,
    /// The request lines of the client, for reports.
    pub(super) script: Vec<String>,
    pub(super) next_action_ns: u64,
    pub(super) reads: bool,
    pub(super) fin_when_sent: bool,
    pub(super) connected: bool,
    pub(super) accepted: bool,
    /// True if the client has found the end of input in place of a response.
    pub(super) has_left: bool,
    /// True if the server resets the connection when it closes it.
    pub(super) resets_on_close: bool,
    /// True if the run ended while the connection was open, because the drain timeout was over.
    pub(super) is_cut_off: bool,
    /// When the server shut its sending side, and lingered from then on.
    pub(super) shut_ns: Option<u64>,
    pub(super) id: Option<ConnId>,
    /// File bytes that the client was sent in this turn.
    pub(super) file_bytes: u64,
    /// Set if the connection was idle after the last turn: its deadline, and the number of bytes
    /// the client had sent.
    pub(super) idle: Option<(u64, usize)>,
    /// True if the server closed the idle connection before its deadline, although no new client
    /// needed the slot.
    pub(super) closed_for_nothing: bool,
    /// True if the server closed the connection too early after its last response, so that a reset
    /// destroyed a part of that response.
    pub(super) lost_last_response: bool,
}

/// The state of a simulated program in the world.
#[derive(Debug)]
pub(super) struct SimWatch {
    /// Name of the program, once the loop has registered it.
    pub(super) id: Option<WatchId>,
    pub(super) conn: ConnId,
    /// When the program acts next; `None` if it hangs.
    pub(super) due_ns: Option<u64>,
    /// Output that the program has written but the server has not read, and output still to be
    /// written.
    pub(super) said: u64,
    pub(super) left: u64,
    pub(super) has_exited: bool,
    pub(super) is_over: bool,
}

/// Everything that the server does not own.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now_ns: u64,
    pub(super) conns: Vec<SimConn>,
    pub(super) listener: KernelListener,
    pub(super) workers: Workers,
    pub(super) inbox_event: InboxEvent,
    /// Number of wake-ups that will fail.
    pub(super) wake_ups_failing: u64,
    /// How long a server lingers before it closes, in nanoseconds.
    pub(super) linger_ns: u64,
    /// True if a connection was carried after the last turn, so that the poll may not wait.
    pub(super) is_work_left: bool,
    /// Numbers of the requests that the handler has answered at once.
    pub(super) made: BTreeSet<u64>,
    pub(super) old_ids: Vec<ConnId>,
    pub(super) watches: Vec<SimWatch>,
    pub(super) signals: VecDeque<(u64, Signal)>,
    pub(super) coverage: Coverage,
    pub(super) record: Option<Record>,
    /// Index of the program whose descriptors were requested last. Programs have no real
    /// descriptors, so this identifies them.
    pub(super) asked_for: usize,
    /// Decisions that the loop and the kernel make wrongly.
    pub(super) wrong: WrongDecisions,
}

pub(super) type Shared = Arc<Mutex<World>>;

impl World {
    /// Decides whether a fault happens, and counts it.
    #[track_caller]
    pub(super) fn fault(&mut self, name: &'static str, per_mille: u64) -> bool {
        let hit = self.rng.chance(per_mille);
        if hit {
            self.coverage.note("fault", name);
            self.note(Fact::Fault(name));
        }
        hit
    }

    /// Returns when something will happen without the server.
    pub(super) fn next_due(&self) -> Option<u64> {
        let actions = self.conns.iter().filter(|conn| conn.has_plans()).map(|conn| conn.next_action_ns);
        let results = self.workers.next_end().into_iter().chain(self.inbox_event.look_ns());
        let signals = self.signals.iter().map(|(at, _)| *at);
        let watches = self.watches.iter().filter(|watch| watch.id.is_some() && !watch.is_over);
        let watches = watches.filter_map(|watch| watch.due_ns);
        actions.chain(results).chain(signals).chain(watches).min()
    }

    /// Wakes the loop for its results, or fails. Now and then one wake-up fails, and now and then
    /// several in a row.
    pub(super) fn wake_up(&mut self) -> io::Result<()> {
        if self.wake_ups_failing == 0 && self.fault("failed_wake_up", 30) {
            self.wake_ups_failing = 1 + self.rng.below(8);
        }
        if self.wake_ups_failing > 0 {
            self.wake_ups_failing -= 1;
            self.note(Fact::WakeUpFails);
            self.inbox_event.fail(self.now_ns);
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.inbox_event.wake();
        Ok(())
    }

    /// Looks into the inbox without a wake-up, once a second.
    pub(super) fn look(&mut self, has_news: bool) {
        if self.inbox_event.look(has_news, self.now_ns) {
            self.coverage.note("fault", "woken_by_look");
            self.note(Fact::InboxChecked);
        }
    }

    /// Takes the steps of all clients that are due.
    pub(super) fn act(&mut self) {
        for at in 0..self.conns.len() {
            if self.conns[at].has_plans() && self.conns[at].next_action_ns <= self.now_ns {
                self.act_client(at);
            }
        }
    }

    /// Takes one step of one client.
    fn act_client(&mut self, at: usize) {
        let pause = match self.rng.below(10) {
            0 => self.rng.below(300_000_000),
            1..=4 => self.rng.below(2_000_000),
            _ => self.rng.below(50_000),
        };
        let conn = &mut self.conns[at];
        conn.next_action_ns = self.now_ns + 1 + pause;
        if !std::mem::replace(&mut conn.connected, true) {
            // The first step of a client connects. The kernel makes the handshake, which always
            // succeeds.
            match self.listener.connect(at) {
                true => self.note(Fact::Connects(at as u32)),
                false => conn.socket.server_closes(true),
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
        let most = self.rng.size(PIPE_BYTES);
        let conn = &mut self.conns[at];
        let bytes = conn.socket.client_takes(most);
        if !bytes.is_empty() {
            conn.taken.extend_from_slice(&bytes);
            conn.answers_taken = answers_in(&conn.taken);
            self.note(Fact::Reads(at as u32, bytes.len() as u64));
        }
    }

    fn client_sends(&mut self, at: usize) {
        let size = self.rng.size(8 * KIB);
        let conn = &mut self.conns[at];
        if conn.socket.client_end() != End::Open {
            return;
        }
        // A client that waits for responses continues when it has something new to read.
        if let Some(&(mark, answers)) = conn.send_marks.front()
            && conn.sent >= mark
        {
            if conn.answers_taken < answers && conn.reads {
                // A client that waits for a response leaves at the end of input.
                conn.has_left = conn.socket.is_closed() && conn.socket.untaken() == 0;
                return;
            }
            conn.send_marks.pop_front();
        }
        let until = conn.send_marks.front().map_or(usize::MAX, |&(mark, _)| mark);
        let most = size.min(conn.to_send.len()).min(until.saturating_sub(conn.sent).max(1));
        let bytes: Vec<u8> = conn.to_send.range(..most).copied().collect();
        // Bytes for a closed socket lead to a reset.
        let is_lost = self.conns[at].socket.is_closed() && self.would_lose_last_response(at);
        let conn = &mut self.conns[at];
        let count = conn.socket.client_sends(&bytes);
        if count > 0 {
            conn.to_send.drain(..count);
            conn.sent += count;
            conn.lost_last_response |= is_lost;
            self.note(Fact::Sends(at as u32, count as u64));
        }
        let conn = &mut self.conns[at];
        if conn.to_send.is_empty() && conn.fin_when_sent {
            let merged = conn.socket.pending().readable;
            conn.socket.client_shuts();
            self.coverage.note("fault", "half_close");
            if merged {
                self.coverage.note("fault", "merged_fin");
            }
            self.note(Fact::Shuts(at as u32));
        }
    }

    fn client_resets(&mut self, at: usize) {
        if self.conns[at].socket.client_end() == End::Reset {
            return;
        }
        self.conns[at].socket.client_resets();
        self.coverage.note("fault", "reset");
        self.note(Fact::Resets(at as u32));
    }

    /// Returns true if a reset now would destroy a part of a response that announces the close, and
    /// the server has no excuse. The server must linger before it closes (RFC 9112 section 9.6).
    pub(super) fn would_lose_last_response(&self, at: usize) -> bool {
        let conn = &self.conns[at];
        let has_lingered = conn.shut_ns.is_some_and(|shut_ns| self.now_ns >= shut_ns + self.linger_ns);
        let is_excused = conn.resets_on_close || has_lingered || self.needs_room();
        !is_excused && conn.socket.untaken() > 0 && conn.announces_close()
    }

    /// Returns true if the server may close connections early: a client waits to be accepted, or
    /// the server stops.
    pub(super) fn needs_room(&self) -> bool {
        !self.listener.is_listening() || self.listener.has_client()
    }

    /// Takes the pending events, in an order that the seed determines.
    pub(super) fn take_events(&mut self, events: &mut Vec<OsEvent>) {
        let level = self.wrong.contains(Decision::ReportInputOnce);
        for at in 0..self.conns.len() {
            let conn = &mut self.conns[at];
            let Some(id) = conn.id.filter(|_| !conn.socket.is_closed()) else { continue };
            if self.rng.chance(10) {
                self.coverage.note("fault", "spurious_event");
                conn.socket.report_spuriously();
            }
            if let Some(ready) = conn.socket.take_report(level) {
                events.push(OsEvent::Ready { id, ready });
            }
        }
        self.take_watched(events);
        if self.listener.take_event() {
            events.push(OsEvent::Listener(0));
        }
        // Now and then the event of the inbox is left for the next poll.
        let is_late = self.inbox_event.is_pending() && self.fault("late_result", 50) && !events.is_empty();
        if !is_late && self.inbox_event.take() {
            events.push(OsEvent::Inbox);
        }
        while self.signals.front().is_some_and(|(at, _)| *at <= self.now_ns) {
            if let Some((_, signal)) = self.signals.pop_front() {
                let open = self.conns.iter_mut().filter(|conn| !conn.socket.is_closed());
                // If several signals come, the stop begins with the first one.
                for conn in open.filter(|conn| conn.answers_at_stop == usize::MAX) {
                    conn.answers_at_stop = conn.answers_begun();
                }
                events.push(OsEvent::Signal(signal));
            }
        }
        if !self.old_ids.is_empty() && self.fault("stale_event", 20) {
            let pick = self.rng.below(self.old_ids.len() as u64) as usize;
            let id = self.old_ids[pick];
            let ready = SocketReport { readable: true, writable: true, ..SocketReport::default() };
            events.push(OsEvent::Ready { id, ready });
        }
        for at in (1..events.len()).rev() {
            events.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
    }

    /// Takes the events of programs: output and exits when they are due, sometimes spurious events,
    /// and sometimes events of programs that are over.
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
                // The program writes all its output and then exits.
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

    /// Returns true if a watched program will bring an event for this connection, or will be
    /// abandoned in time.
    pub(super) fn is_watched_for(&self, id: ConnId) -> bool {
        self.watches.iter().any(|watch| watch.conn == id && !watch.is_over)
    }
}

impl HasWorkers for World {
    fn workers(&mut self) -> &mut Workers {
        &mut self.workers
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn set_clock(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    fn is_wrong(&self, decision: Decision) -> bool {
        self.wrong.contains(decision)
    }

    /// Records a fact about the clients or the kernel, if steps are recorded.
    #[track_caller]
    fn note(&mut self, fact: Fact) {
        if let Some(record) = &mut self.record {
            let source = std::panic::Location::caller();
            record.push(TimedStep { at_ns: self.now_ns, step: Step::Fact(fact), source });
        }
    }

    fn job_ns(&mut self) -> Option<u64> {
        if self.fault("refused_job", 20) {
            return None;
        }
        let is_late = self.fault("late_job", 60);
        Some(if is_late { 200_000_000 + self.rng.below(60_000_000_000) } else { self.rng.below(3_000_000) })
    }

    fn task_ns(&mut self) -> Option<u64> {
        if self.rng.chance(100) { None } else { Some(self.rng.below(30_000_000)) }
    }

    fn late_ns(&mut self) -> u64 {
        0
    }
}

impl SimConn {
    /// Returns true if the client will act again.
    fn has_plans(&self) -> bool {
        if self.socket.client_end() == End::Reset || self.has_left {
            return false;
        }
        let is_closed = self.socket.is_closed();
        let hears = self.reads && self.socket.untaken() > 0;
        // A client that does not know of the close yet sends its requests.
        let speaks = self.socket.server_end() != End::Reset
            && self.socket.client_end() == End::Open
            && (!self.to_send.is_empty() || self.fin_when_sent);
        let connects = !self.connected && !is_closed;
        hears || speaks || connects || (self.manner == Manner::Vanisher && !is_closed)
    }

    /// Returns true if the last response that the client receives announces the close.
    fn announces_close(&self) -> bool {
        let bytes = self.all_output();
        let Some(at) = memchr::memmem::rfind(&bytes, b"HTTP/1.1 ") else { return false };
        let head = bytes[at..].split(|&byte| byte == b'\r').take_while(|line| *line != b"\n");
        head.into_iter().any(|line| line == b"\nConnection: close")
    }

    /// Returns the bytes that the client has read, and those in transit to it.
    fn all_output(&self) -> Vec<u8> {
        self.taken.iter().copied().chain(self.socket.in_transit()).collect()
    }

    /// Counts responses that the client has read or that are in transit.
    fn answers_begun(&self) -> usize {
        answers_in(&self.all_output())
    }
}

/// Counts responses that have at least begun. No client requests interim responses.
fn answers_in(bytes: &[u8]) -> usize {
    memchr::memmem::find_iter(bytes, b"HTTP/1.1 ").count()
}
