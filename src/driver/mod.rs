//! The driver: everything that connections share. A loop has one driver, and each thread of the
//! threads model has one.
//!
//! The read buffer, the buffer pool, the date, the file cache, the job queue and the spare records
//! exist once a driver, not once a connection. So an idle connection needs little memory.
//!
//! `client` and `work` store the state of one connection. `exchange`, `content` and `respond` turn
//! input into requests and answers into output. `pump` moves bytes between a connection and its
//! `stream`. `slots` is the table of connections and of watched objects. This file must not know
//! sockets.

pub(crate) mod access;
pub mod client;
mod content;
pub mod deadline;
pub mod decision;
pub(crate) mod eviction;
pub(crate) mod exchange;
pub mod outcome;
pub mod pool;
pub mod pump;
mod respond;
#[cfg(feature = "os")]
pub mod signals;
pub mod slots;
#[cfg(feature = "os")]
pub(crate) mod socket;
pub mod stream;
pub mod work;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::clock::{Instant, Now};
use crate::config::{Config, KIB};
use crate::conn_id::{ConnId, Peer, WatchId};
use crate::driver::pool::{BufferPool, PooledBuffer};
use crate::driver::work::Work;
use crate::handler::cache::DriverCache;
use crate::handler::continuation::Continuation;
use crate::handler::pending::Pending;
use crate::handler::{Context, Handler};
use crate::http::Phase;
use crate::http::date::DateCache;
use crate::jobs::JobQueue;
use crate::jobs::pace::LeastRate;
use crate::log::AccessBuffer;
use crate::observe::step::Step;
use crate::observe::{Gauges, Observer};

/// Memory that a spare record may keep in its send queue, in bytes.
const SPARE_ROOM_BYTES: usize = 64 * KIB;

/// Size of the stack buffer that a driver of a single connection reads heads into, in bytes. Most
/// heads fit; the rest of a longer one takes a buffer of the pool.
pub(crate) const SCRATCH_SMALL_BYTES: usize = KIB + KIB / 2;

/// Everything that the connections of one loop or thread share.
pub struct Driver<O> {
    /// The time of this turn.
    pub(crate) now: Now,
    pub(crate) config: Arc<Config>,
    pub(crate) handler: Arc<dyn Handler>,
    /// The buffer for reads. Only input that cannot be used yet takes a buffer of the pool.
    pub(crate) scratch: Vec<u8>,
    /// True if many connections share this driver, so that a large read buffer is worth its memory.
    pub(crate) scratch_is_shared: bool,
    pub(crate) pool: BufferPool,
    pub(crate) date: DateCache,
    pub(crate) cache: Box<dyn DriverCache>,
    pub(crate) jobs: Box<dyn JobQueue<Continuation>>,
    pub(crate) observer: O,
    pub(crate) access: Option<AccessBuffer>,
    /// Abandoned objects. Each advances once more, because no further event may reach it.
    pub(crate) abandoned: Vec<WatchId>,
    /// Request content in memory, over all connections, in bytes.
    pub(crate) collected_bytes: usize,
    /// True if content was refused since the last turn because that memory ran out.
    pub(crate) is_short_of_memory: bool,
    /// Rate at which a sender must deliver content to keep a slot or buffer that others wait for.
    pub(crate) busy_rate: Option<LeastRate>,
    /// True during a graceful stop: every response is the last one of its connection. The threads
    /// of the threads model share the flag, because a worker that waits in a read must notice it
    /// when it wakes.
    pub(crate) stopping: Arc<AtomicBool>,
    #[expect(
        clippy::vec_box,
        reason = "boxes are handed to connections and come back: nothing is moved or allocated"
    )]
    spare: Vec<Box<Work>>,
    /// Connections that took a buffer for an incomplete head, oldest first. An entry may be out of
    /// date, so each connection is checked when it reaches the front. The list is swept when most
    /// of its entries must be out of date.
    head_waiters: VecDeque<ConnId>,
}

impl<O: Observer> Driver<O> {
    /// Creates a driver without connections.
    pub(crate) fn new(
        config: Arc<Config>,
        handler: Arc<dyn Handler>,
        cache: Box<dyn DriverCache>,
        jobs: Box<dyn JobQueue<Continuation>>,
        access: Option<AccessBuffer>,
        observer: O,
        now: Now,
    ) -> Self {
        let pool = BufferPool::new(config.limits.pool_bytes_max, config.limits.head_bytes_max);
        Driver {
            now,
            scratch: Vec::new(),
            scratch_is_shared: true,
            pool,
            date: DateCache::new(),
            cache,
            jobs,
            observer,
            access,
            abandoned: Vec::new(),
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

    /// Replaces the observer. Everything else stays as it is.
    #[cfg(feature = "os")]
    pub(crate) fn with_observer<P: Observer>(self, make: impl FnOnce(O) -> P) -> Driver<P> {
        Driver {
            now: self.now,
            config: self.config,
            handler: self.handler,
            scratch: self.scratch,
            scratch_is_shared: self.scratch_is_shared,
            pool: self.pool,
            date: self.date,
            cache: self.cache,
            jobs: self.jobs,
            observer: make(self.observer),
            access: self.access,
            abandoned: self.abandoned,
            collected_bytes: self.collected_bytes,
            is_short_of_memory: self.is_short_of_memory,
            busy_rate: self.busy_rate,
            stopping: self.stopping,
            spare: self.spare,
            head_waiters: self.head_waiters,
        }
    }

    /// Returns how much memory this driver has handed out and cached. The phases of the connections
    /// are left at zero.
    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            phases: [0; Phase::ALL.len()],
            pool_loans: self.pool.buffers_in_use() as u64,
            pool_lent_bytes: self.pool.bytes_in_use() as u64,
            pool_bytes_max: self.config.limits.pool_bytes_max as u64,
            collected_bytes: self.collected_bytes as u64,
            file_cache_bytes: self.cache.bytes() as u64,
        }
    }

    /// Returns true if the stack buffer is large enough for the next read: the driver serves one
    /// connection, and at most a head or a little content is expected.
    pub(crate) fn reads_little(&self, content_left: u64) -> bool {
        !self.scratch_is_shared && content_left <= SCRATCH_SMALL_BYTES as u64
    }

    /// Takes the read buffer, which has the size of the largest buffer of the pool. Put it back
    /// after the read. A thread of the threads model allocates one only when it receives large
    /// content.
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        if scratch.len() < self.pool.largest() {
            scratch.resize(self.pool.largest(), 0);
        }
        scratch
    }

    /// Returns a record for a connection that became busy, usually a spare one.
    pub(crate) fn take_record(&mut self) -> Box<Work> {
        self.spare.pop().unwrap_or_else(fresh_work)
    }

    /// Takes back the record of a connection that is idle or closed, and everything that the record
    /// holds.
    pub(crate) fn return_record(&mut self, mut work: Box<Work>) {
        if let Some(buffer) = work.take_held() {
            self.pool.put(buffer);
        }
        self.collected_bytes -= work.collected_bytes();
        self.abandoned.extend(work.abandon_watch());
        work.clear(SPARE_ROOM_BYTES);
        if self.spare.len() < self.config.limits.spare_records_max {
            self.spare.push(work);
        }
    }

    /// Copies `bytes` into a buffer and lists the connection as waiting for more input. Returns
    /// `None` if the pool has no buffer left.
    pub(crate) fn take_buffer(&mut self, id: ConnId, bytes: &[u8]) -> Option<PooledBuffer> {
        let buffer = self.pool.take(bytes)?;
        self.head_waiters.push_back(id);
        Some(buffer)
    }

    /// Removes and returns the connection that has waited longest for the rest of a head. It may
    /// have received the rest since.
    pub(crate) fn pop_head_waiter(&mut self) -> Option<ConnId> {
        self.head_waiters.pop_front()
    }

    /// Appends a connection to the list of waiting ones again, because it is not evicted yet.
    pub(crate) fn push_head_waiter(&mut self, id: ConnId) {
        self.head_waiters.push_back(id);
    }

    /// Returns true if the list of waiting connections is so much longer than the number of buffers
    /// that it should be swept.
    pub(crate) fn has_stale_waiters(&self) -> bool {
        self.head_waiters.len() > 2 * self.pool.buffers_in_use() + 64
    }

    /// Keeps only the waiting connections for which `still_waits` returns true.
    pub(crate) fn sweep_head_waiters(&mut self, still_waits: impl FnMut(&ConnId) -> bool) {
        self.head_waiters.retain(still_waits);
    }

    /// Calls a handler, or a function that a handler has left. Catches a panic, which then costs
    /// one connection and not the loop.
    pub(crate) fn call<T>(
        &mut self,
        caller: Caller<'_>,
        body: impl FnOnce(&dyn Handler, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let Caller { id, peer, pending, sent_before } = caller;
        let mut cx = Context {
            now: self.now,
            sent_before: sent_before.unwrap_or(self.now.mono),
            id,
            peer,
            limits: &self.config.limits,
            jobs: &mut *self.jobs,
            cache: &mut *self.cache,
            pending,
            route: None,
            hub: self.observer.hub(),
        };
        let handler = &*self.handler;
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(handler, &mut cx)));
        if called.is_err() {
            self.observer.step(|| Step::Panic { id });
        }
        called.ok()
    }
}

/// The connection and the request for which a handler is called.
pub(crate) struct Caller<'a> {
    pub(crate) id: ConnId,
    pub(crate) peer: &'a Peer,
    /// Changes that handlers requested for the response.
    pub(crate) pending: &'a mut Pending,
    /// Latest time at which the client can have sent the request, if that is earlier than now. A
    /// file that was checked after this time is fresh for the request.
    pub(crate) sent_before: Option<Instant>,
}

/// Allocates a record. Out of line, because the record is first built on the stack, and because
/// this is rare.
#[inline(never)]
fn fresh_work() -> Box<Work> {
    Box::default()
}
