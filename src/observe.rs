//! Observers of the loop: counters, and an optional stopwatch.
//!
//! [`Observer`] is a type parameter of the reactor and the pump. Every method has an empty default,
//! so [`Silent`] compiles to nothing. [`Tally`] adds to [`Counters`], which other threads may read.
//! [`Stopwatch`] also reads the clock at each change of activity, about ten times per turn, so it
//! is only used on request (`-vv`). This file must not know which code reads the numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(feature = "os")]
use crate::clock::Instant;
use crate::http::method::MethodLabel;
use crate::http::{CloseReason, Method, Phase, Status};

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
    Keeping,
}

impl Activity {
    /// All activities, in their order.
    pub const ALL: [Activity; 5] =
        [Activity::Waiting, Activity::Reading, Activity::Handling, Activity::Writing, Activity::Keeping];

    /// Returns the name of the activity in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Activity::Waiting => "waiting",
            Activity::Reading => "reading",
            Activity::Handling => "handling",
            Activity::Writing => "writing",
            Activity::Keeping => "keeping",
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
    fn turn(&mut self, _events: usize) {}
    /// Called when a turn ends, with its duration since the end of the wait.
    fn turned(&mut self, _took: Duration) {}
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

/// A number that only grows and that any thread may read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add<const SHARED: bool>(&self, by: u64) {
        if SHARED {
            self.0.fetch_add(by, Ordering::Relaxed);
        } else {
            // Only one thread writes, so a load and a store are enough, as for a plain integer.
            self.0.store(self.get().wrapping_add(by), Ordering::Relaxed);
        }
    }
}

impl Clone for Count {
    fn clone(&self) -> Self {
        Count(AtomicU64::new(self.get()))
    }
}

/// Counts of events since the start.
#[derive(Debug, Default, Clone)]
pub struct Counters {
    /// Turns of the loop.
    pub turns: Count,
    /// Events from the kernel.
    pub events: Count,
    /// Turns by duration, in the order of [`TURN_BOUNDS`]. The last element counts turns beyond all
    /// bounds.
    pub turns_taking: [Count; TURN_BOUNDS.len() + 1],
    /// Duration of all turns in nanoseconds, without the wait.
    pub turn_nanoseconds: Count,
    /// Nanoseconds spent in each activity, in the order of [`Activity::ALL`]. Only a [`Stopwatch`]
    /// measures them.
    pub activity_nanoseconds: [Count; Activity::ALL.len()],
    /// Reads that returned at least one byte.
    pub reads: Count,
    /// Writes that sent at least one byte.
    pub writes: Count,
    /// Bytes read.
    pub bytes_read: Count,
    /// Bytes written.
    pub bytes_written: Count,
    /// Connections accepted.
    pub accepted: Count,
    /// Responses. There is a row for each of [`Method::LABELS`], and a last row for bytes that
    /// never became a request. Each row is indexed by the class of the status, from `[0]` for 1xx.
    pub answered: [[Count; STATUS_CLASSES]; Method::LABELS.len() + 1],
    /// Responses that took too long, by [`LateWorker`].
    pub answers_timed_out: [Count; 2],
    /// Times a connection was carried into the next turn.
    pub carried: Count,
    /// Events that named a closed connection.
    pub stale: Count,
    /// Handlers that panicked.
    pub panicked: Count,
    /// Closes, in the order of [`CloseReason::ALL`].
    pub closed: [Count; CloseReason::ALL.len()],
}

/// Number of status classes, from 1xx to 5xx.
pub const STATUS_CLASSES: usize = 5;

/// Upper bounds of the classes of turns. A turn for one request takes tens of microseconds. A turn
/// of tens of milliseconds has delayed other clients.
pub const TURN_BOUNDS: [Duration; 16] = [
    Duration::from_micros(10),
    Duration::from_micros(25),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

impl Counters {
    /// Returns the number of connections closed for this reason.
    #[must_use]
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize].get()
    }

    /// Returns the number of closed connections.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().map(Count::get).sum()
    }

    /// Returns the number of responses.
    #[must_use]
    pub fn answered_total(&self) -> u64 {
        self.answered.iter().flatten().map(Count::get).sum()
    }
}

/// Values that a driver holds at the moment, in contrast to counts. They are computed on request,
/// and can be added up over several loops.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Gauges {
    /// Connections, in the order of [`Phase::ALL`].
    pub phases: [u64; Phase::ALL.len()],
    /// Buffers lent to incomplete requests.
    pub pool_loans: u64,
    /// Size of these buffers in bytes.
    pub pool_lent_bytes: u64,
    /// Largest total size of these buffers in bytes.
    pub pool_bytes_max: u64,
    /// Request bodies in memory, in bytes.
    pub collected_bytes: u64,
    /// Files in memory, in bytes.
    pub file_cache_bytes: u64,
}

impl Gauges {
    /// Adds the values of another loop.
    pub fn add(&mut self, other: &Gauges) {
        for (sum, connections) in self.phases.iter_mut().zip(other.phases) {
            *sum += connections;
        }
        self.pool_loans += other.pool_loans;
        self.pool_lent_bytes += other.pool_lent_bytes;
        self.pool_bytes_max += other.pool_bytes_max;
        self.collected_bytes += other.collected_bytes;
        self.file_cache_bytes += other.file_cache_bytes;
    }
}

/// Observer that counts into shared [`Counters`]. `SHARED` means that other threads add to the same
/// numbers.
#[derive(Debug, Default)]
pub struct Tally<const SHARED: bool>(Arc<Counters>);

/// Tally of a loop. No other thread writes to it, so counting costs as much as with plain integers.
pub type LoopTally = Tally<false>;

/// Tally for the threads of the twin, several of which add to the same numbers.
pub type TwinTally = Tally<true>;

impl TwinTally {
    /// Creates a tally that adds to these counters.
    #[must_use]
    pub fn of(counters: Arc<Counters>) -> Self {
        Tally(counters)
    }
}

impl<const SHARED: bool> Observer for Tally<SHARED> {
    fn turn(&mut self, events: usize) {
        self.0.turns.add::<SHARED>(1);
        self.0.events.add::<SHARED>(events as u64);
    }

    fn turned(&mut self, took: Duration) {
        let place = TURN_BOUNDS.partition_point(|bound| *bound < took);
        self.0.turns_taking[place].add::<SHARED>(1);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.turn_nanoseconds.add::<SHARED>(nanoseconds);
    }

    fn read(&mut self, bytes: usize) {
        self.0.reads.add::<SHARED>(1);
        self.0.bytes_read.add::<SHARED>(bytes as u64);
    }

    fn wrote(&mut self, bytes: u64) {
        self.0.writes.add::<SHARED>(1);
        self.0.bytes_written.add::<SHARED>(bytes);
    }

    fn accepted(&mut self) {
        self.0.accepted.add::<SHARED>(1);
    }

    fn answered(&mut self, method: Option<MethodLabel>, status: Status) {
        let row = method.map_or(Method::LABELS.len(), MethodLabel::place);
        let class = usize::from(status.code() / 100).clamp(1, STATUS_CLASSES) - 1;
        self.0.answered[row][class].add::<SHARED>(1);
    }

    fn answer_timed_out(&mut self, worker: LateWorker) {
        self.0.answers_timed_out[worker as usize].add::<SHARED>(1);
    }

    fn carried(&mut self) {
        self.0.carried.add::<SHARED>(1);
    }

    fn stale(&mut self) {
        self.0.stale.add::<SHARED>(1);
    }

    fn panicked(&mut self) {
        self.0.panicked.add::<SHARED>(1);
    }

    fn closed(&mut self, reason: CloseReason) {
        self.0.closed[reason as usize].add::<SHARED>(1);
    }

    fn counters(&self) -> Option<&Arc<Counters>> {
        Some(&self.0)
    }
}

#[cfg(feature = "os")]
/// Observer that counts and also measures the time of each activity.
#[derive(Debug)]
pub struct Stopwatch {
    tally: LoopTally,
    activity: Activity,
    since: Instant,
}

#[cfg(feature = "os")]
impl Default for Stopwatch {
    fn default() -> Self {
        Stopwatch { tally: LoopTally::default(), activity: Activity::Keeping, since: clock() }
    }
}

#[cfg(feature = "os")]
#[expect(
    clippy::disallowed_methods,
    reason = "a stopwatch is for reading the clock, and is off unless asked for"
)]
fn clock() -> Instant {
    Instant::now()
}

#[cfg(feature = "os")]
impl Observer for Stopwatch {
    fn turn(&mut self, events: usize) {
        self.tally.turn(events);
    }

    fn turned(&mut self, took: Duration) {
        self.tally.turned(took);
    }

    fn enter(&mut self, activity: Activity) {
        let now = clock();
        let nanoseconds = u64::try_from(now.duration_since(self.since).as_nanos()).unwrap_or(u64::MAX);
        self.tally.0.activity_nanoseconds[self.activity as usize].add::<false>(nanoseconds);
        (self.activity, self.since) = (activity, now);
    }

    fn read(&mut self, bytes: usize) {
        self.tally.read(bytes);
    }

    fn wrote(&mut self, bytes: u64) {
        self.tally.wrote(bytes);
    }

    fn accepted(&mut self) {
        self.tally.accepted();
    }

    fn answered(&mut self, method: Option<MethodLabel>, status: Status) {
        self.tally.answered(method, status);
    }

    fn answer_timed_out(&mut self, worker: LateWorker) {
        self.tally.answer_timed_out(worker);
    }

    fn carried(&mut self) {
        self.tally.carried();
    }

    fn stale(&mut self) {
        self.tally.stale();
    }

    fn panicked(&mut self) {
        self.tally.panicked();
    }

    fn closed(&mut self, reason: CloseReason) {
        self.tally.closed(reason);
    }

    fn counters(&self) -> Option<&Arc<Counters>> {
        self.tally.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let mut tally = LoopTally::default();
        for reason in CloseReason::ALL {
            tally.closed(reason);
            assert_eq!(tally.0.closed_for(reason), 1, "{}", reason.name());
        }
        assert_eq!(tally.0.closed_total(), CloseReason::ALL.len() as u64);
    }

    #[test]
    fn every_method_and_status_class_has_its_own_counter() {
        let mut tally = LoopTally::default();
        for method in Method::LABELS {
            tally.answered(Some(Method::parse(method).label()), Status::OK);
        }
        tally.answered(None, Status::BAD_REQUEST);
        let (requests, refused) = tally.0.answered.split_at(Method::LABELS.len());
        for row in requests {
            assert_eq!(row.each_ref().map(Count::get), [0, 1, 0, 0, 0]);
        }
        assert_eq!(refused[0].each_ref().map(Count::get), [0, 0, 0, 1, 0]);
        assert_eq!(tally.0.answered_total(), Method::LABELS.len() as u64 + 1);
    }

    #[test]
    fn a_turn_is_filed_under_the_least_bound_it_keeps() {
        let mut tally = LoopTally::default();
        let us = Duration::from_micros;
        for took in [us(0), us(10), us(10) + Duration::from_nanos(1), us(1_000_000), us(1_000_001)] {
            tally.turned(took);
        }
        let places = tally.0.turns_taking.each_ref().map(Count::get);
        let expected: Vec<u64> =
            (0..=TURN_BOUNDS.len()).map(|place| [2, 1].get(place).copied().unwrap_or(0)).collect();
        assert_eq!(places[..15], expected[..15]);
        assert_eq!(places[15..], [1, 1], "one second, and more");
        assert_eq!(tally.0.turn_nanoseconds.get(), 2_000_021_001);
        assert!(TURN_BOUNDS.is_sorted());
    }

    #[cfg(feature = "os")]
    #[test]
    fn a_stopwatch_files_time_under_what_it_was_spent_on() {
        let mut watch = Stopwatch::default();
        for activity in Activity::ALL {
            watch.enter(activity);
            let since = clock();
            while clock() == since {}
        }
        let spent = |watch: &Stopwatch| watch.tally.0.activity_nanoseconds.each_ref().map(Count::get);
        let before = spent(&watch);
        assert!(before[..4].iter().all(|nanoseconds| *nanoseconds > 0), "{before:?}");
        watch.enter(Activity::Reading);
        assert!(spent(&watch)[4] > before[4], "the last one ends when another begins");
    }

    #[test]
    fn threads_that_share_a_tally_lose_nothing() {
        let counters = Arc::new(Counters::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut tally = TwinTally::of(Arc::clone(&counters));
                scope.spawn(move || (0..10_000).for_each(|_| tally.read(3)));
            }
        });
        assert_eq!((counters.reads.get(), counters.bytes_read.get()), (40_000, 120_000));
    }
}
