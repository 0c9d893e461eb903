//! What one driver owns and lends to each connection it pumps: one per loop, one per thread of the
//! twin.
//!
//! The scratch buffer, the pool of loans, the date, the file cache, the desk for jobs and the spare
//! records are here once, not once a connection; that is why an idle connection costs next to
//! nothing. This file must not know sockets.

pub(crate) mod access;
pub mod client;
mod content;
pub mod deadline;
pub(crate) mod eviction;
pub(crate) mod exchange;
pub mod outcome;
pub mod pool;
pub mod pump;
mod respond;
pub mod signals;
pub(crate) mod socket;
pub mod stream;
pub mod work;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::clock::Now;
use crate::config::{Config, KIB};
use crate::conn_id::{ConnId, Peer, WatchId};
use crate::driver::pool::{BufferPool, Loan};
use crate::driver::work::Work;
use crate::files::Files;
use crate::handler::continuation::Then;
use crate::handler::watch::Change;
use crate::handler::{Context, Extra, Handler};
use crate::http::Phase;
use crate::http::date::DateCache;
use crate::jobs::JobDesk;
use crate::jobs::pace::LeastRate;
use crate::log::AccessBuffer;
use crate::observe::{Gauges, Observer};

/// Room a spare record may keep in its send queue, in bytes.
const SPARE_ROOM_BYTES: usize = 64 * KIB;

/// What a driver of a single connection reads heads into, in bytes. Most heads fit; the rest takes
/// a loan.
pub(crate) const SCRATCH_SMALL_BYTES: usize = KIB + KIB / 2;

/// The belongings of one driver.
pub struct Driver<O> {
    /// The time of this turn.
    pub(crate) now: Now,
    /// When the request that is read next was under way at the latest, where that is known to be
    /// before `now`. A file looked at since need not be looked at again for it.
    pub(crate) asked_by: Option<Instant>,
    pub(crate) config: Arc<Config>,
    pub(crate) handler: Arc<dyn Handler>,
    /// Everything is read into this first; only what cannot be used yet takes a loan.
    pub(crate) scratch: Vec<u8>,
    /// Whether many connections share this driver, so that a large buffer is worth its memory.
    pub(crate) scratch_is_shared: bool,
    pub(crate) pool: BufferPool,
    pub(crate) date: DateCache,
    pub(crate) files: Files,
    pub(crate) desk: Box<dyn JobDesk<Then>>,
    pub(crate) observer: O,
    pub(crate) access: Option<AccessBuffer>,
    /// What the answer to the request in hand is to say beside what its maker says.
    pub(crate) extra: Extra,
    /// What the connection in hand wants watched from now on.
    pub(crate) watch: Change,
    /// What is watched and was let go of: it is looked at once more, since nothing else may ever
    /// happen to it.
    pub(crate) let_go: Vec<WatchId>,
    /// Request content in memory, over all connections, in bytes.
    pub(crate) collected_bytes: usize,
    /// Content was refused since the last turn for want of that memory.
    pub(crate) is_short_of_memory: bool,
    /// The rate at which a sender must bring content to keep a place that others wait for.
    pub(crate) busy_rate: Option<LeastRate>,
    /// A graceful stop is under way: every answer is the connection's last.
    /// Shared by the threads of the twin: a worker that waits in a read must see it when it wakes.
    pub(crate) stopping: Arc<AtomicBool>,
    #[expect(
        clippy::vec_box,
        reason = "boxes are handed to connections and come back: nothing is moved or allocated"
    )]
    spare: Vec<Box<Work>>,
    /// Who took a loan for an incomplete head, oldest first. Names, not facts: each is asked again
    /// when its turn comes, and the list is swept when most of it must be out of date.
    head_waiters: VecDeque<ConnId>,
}

impl<O: Observer> Driver<O> {
    /// A driver with everything in place.
    pub(crate) fn new(
        config: Arc<Config>,
        handler: Arc<dyn Handler>,
        files: Files,
        desk: Box<dyn JobDesk<Then>>,
        access: Option<AccessBuffer>,
        observer: O,
        now: Now,
    ) -> Self {
        let pool = BufferPool::new(config.limits.pool_bytes_max, config.limits.head_bytes_max);
        Driver {
            now,
            asked_by: None,
            scratch: Vec::new(),
            scratch_is_shared: true,
            pool,
            date: DateCache::new(),
            files,
            desk,
            observer,
            access,
            extra: Extra::default(),
            watch: Change::Nothing,
            let_go: Vec::new(),
            collected_bytes: 0,
            is_short_of_memory: false,
            busy_rate: LeastRate::of(&config.limits, &config.timeouts),
            stopping: Arc::default(),
            spare: Vec::new(),
            head_waiters: VecDeque::new(),
            config,
            handler,
        }
    }

    /// What this driver lends and keeps, without its connections.
    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            phases: [0; Phase::ALL.len()],
            pool_loans: self.pool.loans() as u64,
            pool_lent_bytes: self.pool.lent_bytes() as u64,
            pool_bytes_max: self.config.limits.pool_bytes_max as u64,
            collected_bytes: self.collected_bytes as u64,
            file_cache_bytes: self.files.bytes() as u64,
        }
    }

    /// Whether a little room is enough to read into: for a driver of one connection, which expects
    /// a head.
    pub(crate) fn reads_little(&self, content_left: u64) -> bool {
        !self.scratch_is_shared && content_left <= SCRATCH_SMALL_BYTES as u64
    }

    /// Lends what is read into, of the size of the largest loan; to be put back. Only a thread of
    /// the twin that sees large content ever has one of its own.
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        if scratch.len() < self.pool.largest() {
            scratch.resize(self.pool.largest(), 0);
        }
        scratch
    }

    /// A fresh record for a connection that became busy: a spare one, as a rule.
    pub(crate) fn hire(&mut self) -> Box<Work> {
        self.spare.pop().unwrap_or_else(fresh_work)
    }

    /// Takes back the record of a connection that is idle or gone, with all it holds.
    pub(crate) fn release(&mut self, mut work: Box<Work>) {
        if let Some(loan) = work.take_held() {
            self.pool.give_back(loan);
        }
        self.collected_bytes -= work.collected_bytes();
        self.let_go.extend(work.let_go());
        work.clear(SPARE_ROOM_BYTES);
        if self.spare.len() < self.config.limits.spare_records_max {
            self.spare.push(work);
        }
    }

    /// A loan that holds `bytes`, noted under the name of who waits for the rest.
    pub(crate) fn lend(&mut self, id: ConnId, bytes: &[u8]) -> Option<Loan> {
        let loan = self.pool.lend(bytes)?;
        self.head_waiters.push_back(id);
        Some(loan)
    }

    /// Who has waited longest for the rest of a head, by name; it may have moved on since.
    pub(crate) fn pop_head_waiter(&mut self) -> Option<ConnId> {
        self.head_waiters.pop_front()
    }

    /// Puts a waiter at the end of the list again: it is not its turn yet.
    pub(crate) fn push_head_waiter(&mut self, id: ConnId) {
        self.head_waiters.push_back(id);
    }

    /// Whether the list of waiters has outgrown the loans it speaks of and should be swept.
    pub(crate) fn has_stale_waiters(&self) -> bool {
        self.head_waiters.len() > 2 * self.pool.loans() + 64
    }

    /// Keeps only the waiters that `still_waits` vouches for.
    pub(crate) fn sweep_head_waiters(&mut self, still_waits: impl FnMut(&ConnId) -> bool) {
        self.head_waiters.retain(still_waits);
    }

    /// Calls into code that is not ours. A panic in it is caught: it costs that connection, not the
    /// loop.
    pub(crate) fn call<T>(
        &mut self,
        id: ConnId,
        peer: &Peer,
        body: impl FnOnce(&dyn Handler, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let mut cx = Context {
            now: self.now,
            asked_by: self.asked_by.unwrap_or(self.now.mono),
            id,
            peer,
            limits: &self.config.limits,
            desk: &mut *self.desk,
            files: &mut self.files,
            extra: &mut self.extra,
            watch: &mut self.watch,
            route: None,
        };
        let handler = &*self.handler;
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(handler, &mut cx)));
        if called.is_err() {
            self.observer.panicked();
        }
        called.ok()
    }
}

/// Out of line: it is made on the stack, and rarely.
#[inline(never)]
fn fresh_work() -> Box<Work> {
    Box::default()
}
