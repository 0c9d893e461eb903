//! The reaper: one thread that watches the deadlines of all workers. Also contains the state that
//! all threads share. This file must not know what a worker does.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::read_clocks;
use crate::conn_id::{ConnId, ConnKind};
use crate::docroot::cache::FileCache;
use crate::driver::deadline::DeadlineQueue;
use crate::driver::eviction::{EVICTION_IDLE_MIN, LEAVING_SHARE, RELIEF_CONNECTIONS, RELIEF_INTERVAL};
use crate::driver::outcome::Phases;
use crate::driver::slots::Slots;
use crate::http::Phase;
use crate::jobs::StillBusy;
use crate::jobs::pace::LeastRate;
use crate::observe::{Counters, Gauges, LateWorker, Observer, TwinTally};
use crate::shortage::Relief;
use crate::sync::lock;
use crate::threads::socket::{EXPIRED, MAY_CLOSE, NEVER, SharedConn};

/// Number of counter sets. Each thread counts into one of them. A single set would be one cache
/// line that every processor needs for every request; a set for each thread would be memory for
/// each connection.
const TALLIES: usize = 16;

/// State that all threads of the twin share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) began: Instant,
    pub(super) reaper: Mutex<Reaper>,
    /// Notified when the earliest deadline moves forward, and when the twin ends.
    pub(super) reaper_wake_up: Condvar,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) open: AtomicUsize,
    pub(super) files: Arc<Mutex<FileCache>>,
    pub(super) tallies: [Arc<Counters>; TALLIES],
    /// True if the acceptor waits for a thread to end.
    pub(super) wants_thread: AtomicBool,
    /// Longest interval between two searches for late jobs and unused files.
    pub(super) late_look: Duration,
    /// Until then, in nanoseconds since the twin began, no further idle connections are closed for
    /// lack of descriptors.
    pub(super) relief_due: AtomicU64,
    /// One byte written here wakes the acceptor when a thread ends that it waits for: any thread,
    /// or the last one.
    pub(super) ended: UnixStream,
}

/// The deadlines and connections that the reaper watches.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    pub(super) queue: DeadlineQueue,
    pub(super) conns: Slots<ConnKind, Arc<SharedConn>>,
    /// When the reaper will wake. A deadline after that need not wake it.
    pub(super) sleeps_until: Option<Instant>,
    /// True when the twin ends.
    pub(super) has_ended: bool,
}

impl Shared {
    /// Returns a time in nanoseconds since the twin began.
    pub(super) fn nanoseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(NEVER - 1)
    }

    /// Publishes the deadline of a worker's phase. Costs two atomics, unless the deadline is
    /// earlier than the one that the reaper has.
    pub(super) fn publish(&self, id: ConnId, conn: &SharedConn, phase: u8, due: Option<Instant>) {
        conn.phase.store(phase, Ordering::SeqCst);
        let due = due.map_or(NEVER, |due| self.nanoseconds(due));
        conn.due.store(due, Ordering::SeqCst);
        if due < conn.armed.load(Ordering::SeqCst) {
            let mut reaper = lock(&self.reaper);
            conn.armed.store(due, Ordering::SeqCst);
            let at = self.began + Duration::from_nanos(due);
            reaper.queue.arm(id, at);
            if reaper.sleeps_until.is_some_and(|until| at < until) {
                // One notification is enough: before the reaper sleeps again, it checks everything.
                reaper.sleeps_until = None;
                self.reaper_wake_up.notify_one();
            }
        }
    }

    /// Registers a connection and returns its name.
    pub(super) fn register(&self, conn: &Arc<SharedConn>) -> ConnId {
        lock(&self.reaper).conns.insert(Arc::clone(conn))
    }

    /// Removes a connection, and wakes the acceptor if it waits for this.
    pub(super) fn unregister(&self, id: ConnId) {
        let mut reaper = lock(&self.reaper);
        reaper.queue.remove(id);
        reaper.conns.remove(id);
        drop(reaper);
        let was_last = self.open.fetch_sub(1, Ordering::SeqCst) == 1;
        let is_waited_for = self.wants_thread.swap(false, Ordering::SeqCst);
        if is_waited_for || (was_last && self.stopping.load(Ordering::SeqCst)) {
            drop(io::Write::write(&mut &self.ended, b"."));
        }
    }

    /// Closes the connections that have been idle longest.
    fn close_idlest(&self, count: usize) {
        let now = read_clocks().mono;
        let reaper = lock(&self.reaper);
        let conns = reaper.conns.iter().map(|(_, conn)| conn);
        let idle = conns.filter(|conn| !conn.is_leaving());
        let mut idle: Vec<_> = idle.filter_map(|conn| Some((self.rank(conn, now, None)?, conn))).collect();
        idle.sort_unstable_by_key(|(rank, _)| *rank);
        for (_, conn) in idle.iter().take(count) {
            conn.evict();
        }
    }

    /// Evicts the connection that has been idle longest, or else the slowest sender below the
    /// minimum rate. Returns false if there is neither and no eviction is in progress.
    pub(super) fn make_room(&self, now: Instant, rate: Option<&LeastRate>, threads_max: usize) -> bool {
        let reaper = lock(&self.reaper);
        let conns = || reaper.conns.iter().map(|(_, conn)| conn);
        let leaving = conns().filter(|conn| conn.is_leaving()).count();
        if leaving >= (threads_max / LEAVING_SHARE).max(1) {
            return true;
        }
        let ranked = conns().filter_map(|conn| Some((self.rank(conn, now, rate)?, conn)));
        match ranked.min_by_key(|(rank, _)| *rank) {
            Some((_, conn)) => {
                conn.evict();
                true
            }
            None => leaving > 0,
        }
    }

    /// Returns the order in which connections are evicted: idle ones first, by age, then slow
    /// senders, by the bytes they have sent lately. `None` means that the connection is not
    /// evicted.
    fn rank(&self, conn: &SharedConn, now: Instant, rate: Option<&LeastRate>) -> Option<(u8, u64)> {
        let since = conn.since.load(Ordering::SeqCst);
        let waited = Duration::from_nanos(self.nanoseconds(now).saturating_sub(since));
        let phase = conn.phase.load(Ordering::SeqCst) & !MAY_CLOSE;
        if phase == Phase::Idle as u8 {
            return (waited >= EVICTION_IDLE_MIN).then_some((0, since));
        }
        if phase == Phase::ReceivingHead as u8 {
            return rate.filter(|rate| waited >= rate.window()).map(|_| (1, 0));
        }
        let pace = lock(&conn.pace).filter(|_| phase == Phase::ReceivingBody as u8)?;
        rate?.missed_by(&pace, now).map(|brought| (1, brought))
    }

    /// Wakes idle workers by an end of input, so that they close. Requests that have arrived are
    /// still served. Workers that wait for content without an end also wake and check for the stop.
    pub(super) fn release_idle(&self) {
        let reaper = lock(&self.reaper);
        for (_, conn) in reaper.conns.iter() {
            if conn.phase.load(Ordering::SeqCst) & MAY_CLOSE != 0 {
                drop(conn.socket.shutdown(Shutdown::Read));
            }
            conn.wake_up.notify();
        }
    }

    /// Returns the connections that a graceful stop waits for, by phase. Idle connections have been
    /// released.
    pub(super) fn under_way(&self) -> Phases {
        let mut phases = [0; Phase::ALL.len()];
        for (_, conn) in lock(&self.reaper).conns.iter() {
            let phase = conn.phase.load(Ordering::SeqCst);
            if let Some(count) = phases.get_mut(usize::from(phase)).filter(|_| phase & MAY_CLOSE == 0) {
                *count += 1;
            }
        }
        phases
    }

    /// Returns what all threads hold, except for the buffers of single threads.
    pub(super) fn gauges(&self) -> Gauges {
        let mut gauges = Gauges { file_cache_bytes: lock(&self.files).bytes() as u64, ..Gauges::default() };
        for (_, conn) in lock(&self.reaper).conns.iter() {
            let phase = conn.phase.load(Ordering::Relaxed) & !MAY_CLOSE;
            gauges.phases[usize::from(phase)] += 1;
        }
        gauges
    }

    /// Counts and logs jobs whose responses are late, each once.
    fn count_late_jobs(&self, reaper: &Reaper, now: Instant) {
        let now = self.nanoseconds(now);
        for (id, conn) in reaper.conns.iter() {
            let mut job = lock(&conn.job);
            if let Some(job) = job.as_mut().filter(|job| job.due <= now && !job.is_counted) {
                job.is_counted = true;
                self.tally(id).answer_timed_out(LateWorker::Busy);
                StillBusy { route: job.route.clone() }.log("no response yet");
            }
        }
    }

    /// Returns the counters for the thread of a connection.
    pub(super) fn tally(&self, id: ConnId) -> TwinTally {
        TwinTally::of(Arc::clone(&self.tallies[id.slot() % TALLIES]))
    }

    /// Runs the thread of the reaper: sleeps until the earliest deadline, checks whether it still
    /// holds, and acts on it.
    pub(super) fn reap(&self) {
        let mut reaper = lock(&self.reaper);
        while !reaper.has_ended {
            let now = read_clocks().mono;
            while let Some(id) = reaper.queue.pop_due(now) {
                let Some(conn) = reaper.conns.get(id) else { continue };
                let conn = Arc::clone(conn);
                // From here on a worker that publishes a deadline takes the lock, so worker and
                // reaper cannot miss each other.
                conn.armed.store(NEVER, Ordering::SeqCst);
                let due = conn.due.load(Ordering::SeqCst);
                let at = self.began + Duration::from_nanos(due.min(NEVER / 2));
                if at > now {
                    if due != NEVER {
                        conn.armed.store(due, Ordering::SeqCst);
                        reaper.queue.arm(id, at);
                    }
                    continue;
                }
                conn.shut_for.store(EXPIRED, Ordering::SeqCst);
                let sending = conn.phase.load(Ordering::SeqCst) == Phase::Sending as u8;
                drop(conn.socket.shutdown(if sending { Shutdown::Both } else { Shutdown::Read }));
            }
            self.count_late_jobs(&reaper, now);
            // The reaper wakes periodically anyway, so it also closes unused files.
            let sweep = {
                let mut files = lock(&self.files);
                files.sweep(now);
                files.next_sweep()
            };
            let due = reaper.queue.next().map(|(due, _)| due).into_iter().chain(sweep).min();
            let look = self.late_look;
            let wait = due.map_or(look, |due| due.saturating_duration_since(now).min(look));
            reaper.sleeps_until = Some(now + wait);
            reaper = self.reaper_wake_up.wait_timeout(reaper, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Relief for Shared {
    fn relieve(&self) {
        let now = self.nanoseconds(read_clocks().mono);
        let due = self.relief_due.load(Ordering::SeqCst);
        let next = now.saturating_add(u64::try_from(RELIEF_INTERVAL.as_nanos()).unwrap_or(NEVER));
        let takes = || self.relief_due.compare_exchange(due, next, Ordering::SeqCst, Ordering::SeqCst);
        // If several threads run out of descriptors at once, only one acts.
        if now >= due && takes().is_ok() {
            self.close_idlest(RELIEF_CONNECTIONS);
        }
    }
}
