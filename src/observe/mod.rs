//! Observers of the loop: counters, and an optional stopwatch.
//!
//! [`Observer`] is a type parameter of the reactor and the pump. Every method has an empty default,
//! so [`Silent`] compiles to nothing. `counters` has the numbers that other threads may read, and
//! `stopwatch` measures activities. `step` has the facts that a loop reports. `recorder` passes
//! them to a sink, and `ring` keeps the newest. `text` and `json` write steps, `step_log` to the
//! log. `live` sums up turns for a page that shows the running loop, and `unwatched` is the
//! observer of a loop that nobody looks at. This folder must not know which code reads the numbers.

mod counters;
mod json;
pub mod live;
mod recorder;
mod ring;
pub mod step;
#[cfg(feature = "os")]
mod step_log;
#[cfg(feature = "os")]
mod stopwatch;
mod text;
#[cfg(feature = "os")]
mod unwatched;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use crate::conn_id::ConnId;
use crate::http::Request;
use live::{Hub, RequestLabel, Seen};
use step::{Step, TurnPhase, TurnStart};

pub use counters::{Count, Counters, Gauges, LoopTally, STATUS_CLASSES, TURN_BOUNDS, Tally, TwinTally};
#[cfg(feature = "sim")]
pub(crate) use json::Object;
pub use json::{SCHEMA_VERSION, json_header};
pub use recorder::{Detail, Recorder, StepSink};
pub use ring::Ring;
#[cfg(feature = "os")]
pub use step_log::{LoggedSteps, StepLog};
#[cfg(feature = "os")]
pub use stopwatch::Stopwatch;
pub use text::StepText;
#[cfg(feature = "os")]
pub use unwatched::Unwatched;

/// Observer of a loop with viewers: counts as `O` does, and shows the loop to them.
#[cfg(feature = "os")]
pub type Live<O> = Recorder<live::LiveSink, O>;

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

/// Receives the steps of a loop. All methods run on the loop, so they must be short and must not
/// block. The defaults do nothing and compile to nothing.
pub trait Observer: Send + 'static {
    /// Returns true if the observer keeps steps. The loop reports some steps only then, because
    /// they take time to find out: events and the reason of a wait.
    fn is_recording(&self) -> bool {
        false
    }
    /// Called when a phase of the turn begins.
    #[track_caller]
    fn phase(&mut self, _phase: TurnPhase) {}
    /// Called when the poll has returned, with the time that the loop has read then. The turn
    /// begins at this time.
    fn wait_ended(&mut self, _at: Instant) {}
    /// Called when a turn begins, after `wait_ended`.
    #[track_caller]
    fn turn_started(&mut self, _turn: TurnStart) {}
    /// Called when a turn ends, with its number, its duration since the end of the wait, and the
    /// number of open connections.
    #[track_caller]
    fn turn_finished(&mut self, _number: u32, _took: Duration, _open: usize) {}
    /// Called when the loop changes its activity.
    fn enter(&mut self, _activity: Activity) {}
    /// Called with every other step. An observer that ignores steps does not make them.
    #[track_caller]
    fn step(&mut self, _make: impl FnOnce() -> Step) {}
    /// Called when a response takes too long.
    fn answer_timed_out(&mut self, _worker: LateWorker) {}
    /// Called before the handler receives a request.
    fn request_started(&mut self, _id: ConnId, _request: &Request<'_>) {}
    /// Called before a body source is asked for more, with the label of its request.
    fn source_started(&mut self, _id: ConnId, _label: &RequestLabel) {}
    /// Returns when to call [`Observer::look`] next; `None` for never. The poll waits no longer.
    fn next_look(&self) -> Option<Instant> {
        None
    }
    /// Shows the open connections to an observer that wants to see them.
    fn look<'a>(&mut self, _now: Instant, _connections: impl Iterator<Item = Seen<'a>>) {}
    /// Returns the hub with the viewers of this loop, if it can have any.
    fn hub(&self) -> Option<&Arc<Hub>> {
        None
    }
    /// Returns the counters, if the observer counts.
    fn counters(&self) -> Option<&Arc<Counters>> {
        None
    }
}

/// Observer that does nothing and costs nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
