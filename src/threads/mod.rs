//! The threads model: one blocking thread per connection. It uses the same pump, protocol, handler
//! and file cache as the reactor, so benchmarks of both models compare only the loop. Comments call
//! this model the twin.
//!
//! The comparison has to be fair. A worker makes the same two system calls per request as the loop,
//! a read and a write. It sets no socket timeouts, and reads the clock only once, after the read.
//!
//! A worker publishes the deadline of its phase in an atomic. A single thread, the reaper, watches
//! all deadlines. When one passes, the reaper shuts the reading half of the socket, or both halves
//! if output is stuck. So the read of the worker returns, and the worker acts on the deadline as
//! the protocol requires.
//!
//! `acceptor` starts the threads, `worker` is the thread of one connection, `reaper` watches
//! deadlines, `socket` is the stream, `notify` wakes a worker, and `jobs` runs jobs. This folder
//! must not know the reactor or any feature.

pub mod acceptor;
mod jobs;
mod notify;
mod reaper;
mod socket;
mod worker;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::clock::read_clocks;
use crate::config::Config;
use crate::docroot::cache::FileCache;
use crate::driver::outcome::{OnStop, Outcome};
use crate::driver::signals::Signals;
use crate::handler::Handler;
use crate::handler::continuation::Pool;
use crate::jobs::pace::LeastRate;
use crate::log::LogQueue;
use crate::observe::{Counters, Gauges};
use crate::shortage;
use crate::sync::lock;
use crate::threads::acceptor::{Acceptor, ListenSocket};
use crate::threads::reaper::Shared;

/// Longest interval between two checks of the file cache by the reaper, which gets no event when
/// the cache begins to fill.
const SWEEP_LOOK: Duration = Duration::from_secs(10);

/// Shortest interval between two searches for late jobs.
const LATE_LOOK_MIN: Duration = Duration::from_millis(100);

/// A function that returns what all threads hold.
pub(crate) type GaugesNow = Box<dyn Fn() -> Gauges + Send + Sync>;

/// Everything that the threads model runs on.
pub struct Twin {
    pub(crate) config: Arc<Config>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) files: Arc<Mutex<FileCache>>,
    pub(crate) access: Option<LogQueue>,
    pub(crate) log: Option<LogQueue>,
    /// Worker threads for long jobs that several requests share.
    pub(crate) pool: Arc<Pool>,
    pub(crate) on_stop: Mutex<OnStop>,
}

impl std::fmt::Debug for Twin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Twin").finish_non_exhaustive()
    }
}

impl Twin {
    /// Serves clients until a signal stops the server. Before the first connection, calls
    /// `on_start` with the counters of all threads and a function that returns their gauges without
    /// blocking.
    pub(crate) fn run(
        self,
        sockets: Vec<ListenSocket>,
        signals: Signals,
        on_start: impl FnOnce(&[Arc<Counters>], GaugesNow),
    ) -> io::Result<Outcome> {
        let (end_sender, ended) = UnixStream::pair()?;
        ended.set_nonblocking(true)?;
        // The socket pair is full only if the acceptor has enough bytes to wake up for.
        end_sender.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            began: read_clocks().mono,
            reaper: Mutex::default(),
            reaper_wake_up: Condvar::new(),
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
            ended: end_sender,
        });
        shortage::register(&shared);
        let seen = Arc::clone(&shared);
        on_start(&shared.tallies, Box::new(move || seen.gauges()));
        let reaper = Arc::clone(&shared);
        std::thread::Builder::new().name("whirligig-reaper".into()).spawn(move || reaper.reap())?;
        let busy_rate = LeastRate::of(&self.config.limits, &self.config.timeouts);
        let acceptor = Acceptor {
            twin: Arc::new(self),
            shared: Arc::clone(&shared),
            signals,
            ended,
            busy_rate,
            search_failed_at: None,
            takes_all: false,
        };
        let outcome = acceptor.run(sockets);
        lock(&shared.reaper).has_ended = true;
        shared.reaper_wake_up.notify_one();
        outcome
    }
}
