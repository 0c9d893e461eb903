//! Observers of the loop: counters, and an optional stopwatch.
//!
//! [`Observer`] is a type parameter of the reactor and the pump. Every method has an empty default,
//! so [`Silent`] compiles to nothing. `counters` has the numbers that other threads may read, and
//! `stopwatch` measures activities. This folder must not know which code reads the numbers.

mod counters;
#[cfg(feature = "os")]
mod stopwatch;

use std::sync::Arc;
use std::time::Duration;

use crate::http::method::MethodLabel;
use crate::http::{CloseReason, Status};

pub use counters::{Count, Counters, Gauges, LoopTally, STATUS_CLASSES, TURN_BOUNDS, Tally, TwinTally};
#[cfg(feature = "os")]
pub use stopwatch::Stopwatch;

/// Activity on which a loop spends time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Waiting in the poll for the kernel.
    Waiting,
    /// Reading from sockets.
    Reading,
    /// Running a handler, a continuation or a body source, or parsing.
    Handling,
    /// Writing with `write` and `sendfile`.
    Writing,
    /// Everything else: accepting, deadlines, bookkeeping.
    Housekeeping,
}

impl Activity {
    /// All activities, in their order.
    pub const ALL: [Activity; 5] =
        [Activity::Waiting, Activity::Reading, Activity::Handling, Activity::Writing, Activity::Housekeeping];

    /// Returns the name of the activity in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Activity::Waiting => "waiting",
            Activity::Reading => "reading",
            Activity::Handling => "handling",
            Activity::Writing => "writing",
            Activity::Housekeeping => "keeping",
        }
    }
}

/// State of the worker thread for a response that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateWorker {
    /// No worker thread runs for the request.
    Free,
    /// A worker thread still runs for the request.
    Busy,
}

/// Receives a call for every event of a loop. All methods run on the loop, so they must be short
/// and must not block.
pub trait Observer: Default + Send + 'static {
    /// Called when a turn begins, with its number of events.
    fn turn_started(&mut self, _events: usize) {}
    /// Called when a turn ends, with its duration since the end of the wait.
    fn turn_finished(&mut self, _took: Duration) {}
    /// Called when the loop changes its activity.
    fn enter(&mut self, _activity: Activity) {}
    /// Called after a read, with its number of bytes.
    fn read(&mut self, _bytes: usize) {}
    /// Called after a write or sendfile, with its number of bytes.
    fn wrote(&mut self, _bytes: u64) {}
    /// Called when a connection is accepted.
    fn accepted(&mut self) {}
    /// Called when a request receives a response. Without a method, the bytes never became a
    /// request.
    fn answered(&mut self, _method: Option<MethodLabel>, _status: Status) {}
    /// Called when a response takes too long.
    fn answer_timed_out(&mut self, _worker: LateWorker) {}
    /// Called when a connection has used up its budget and is carried to the next turn.
    fn carried(&mut self) {}
    /// Called when an event names a closed connection.
    fn stale(&mut self) {}
    /// Called when a handler panics.
    fn panicked(&mut self) {}
    /// Called when a connection is closed.
    fn closed(&mut self, _reason: CloseReason) {}
    /// Returns the counters, if the observer counts.
    fn counters(&self) -> Option<&Arc<Counters>> {
        None
    }
}

/// Observer that does nothing and costs nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
