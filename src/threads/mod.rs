//! The twin: one blocking thread per connection, on the same pump, protocol, handler and files as
//! the reactor.
//!
//! A fair opponent. A worker makes the same two calls per request as the loop does, a read and a
//! write; no socket timeout is changed and no clock but the one after the read is asked. Deadlines
//! are the reaper's: a worker publishes when its phase gives up in an atomic, and when that time
//! has come the reaper shuts the socket's reading half (both, when output is stuck), so that the
//! worker wakes and does what the protocol says.

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

/// How often the reaper looks at the file cache at the least: it is not told when the cache begins
/// to fill.
const SWEEP_LOOK: Duration = Duration::from_secs(10);

/// How often it looks for jobs whose answers are late at the most.
const LATE_LOOK_MIN: Duration = Duration::from_millis(100);

/// Returns what all threads of the twin hold.
pub(crate) type GaugesNow = Box<dyn Fn() -> Gauges + Send + Sync>;

/// What the twin runs on.
pub struct Twin {
    pub(crate) config: Arc<Config>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) files: Arc<Mutex<FileCache>>,
    pub(crate) access: Option<LogQueue>,
    pub(crate) log: Option<LogQueue>,
    /// Workers for shared work that is long.
    pub(crate) pool: Arc<Pool>,
    pub(crate) on_stop: Mutex<OnStop>,
}

impl std::fmt::Debug for Twin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Twin").finish_non_exhaustive()
    }
}

impl Twin {
    /// Serves until a signal stops it. Calls `on_start` before the first connection, with the
    /// counters of all threads and a function that returns what they hold and does not block.
    pub(crate) fn run(
        self,
        sockets: Vec<ListenSocket>,
        signals: Signals,
        on_start: impl FnOnce(&[Arc<Counters>], GaugesNow),
    ) -> io::Result<Outcome> {
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
            looked: None,
            takes_all: false,
        };
        let outcome = acceptor.run(sockets);
        lock(&shared.reaper).over = true;
        shared.bell.notify_one();
        outcome
    }
}
