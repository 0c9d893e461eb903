//! Counters of a loop, and the gauges that a driver computes on request.
//!
//! [`Tally`] adds to [`Counters`], which other threads may read. This file must not know which code
//! reads the numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::http::method::MethodLabel;
use crate::http::{CloseReason, Method, Phase, Status};
use crate::observe::step::{Step, Stop, Transfer, TurnStart};
use crate::observe::{Activity, LateWorker, Observer};

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
    /// Nanoseconds spent in each activity, in the order of [`Activity::ALL`]. Only a stopwatch
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

impl LoopTally {
    /// Adds the time that was spent on an activity.
    pub(super) fn spent(&self, activity: Activity, nanoseconds: u64) {
        self.0.activity_nanoseconds[activity as usize].add::<false>(nanoseconds);
    }
}

impl<const SHARED: bool> Tally<SHARED> {
    fn answered(&self, method: Option<MethodLabel>, status: Status) {
        let row = method.map_or(Method::LABELS.len(), MethodLabel::place);
        let class = usize::from(status.code() / 100).clamp(1, STATUS_CLASSES) - 1;
        self.0.answered[row][class].add::<SHARED>(1);
    }

    fn wrote(&self, transfer: Transfer) {
        // A call that moved nothing is no write. A response without content is never written alone.
        if matches!(transfer.stop, Stop::Done | Stop::Short) {
            self.0.writes.add::<SHARED>(1);
            self.0.bytes_written.add::<SHARED>(transfer.got);
        }
    }
}

impl<const SHARED: bool> Observer for Tally<SHARED> {
    fn turn_started(&mut self, turn: TurnStart) {
        self.0.turns.add::<SHARED>(1);
        self.0.events.add::<SHARED>(u64::from(turn.events));
    }

    fn turn_finished(&mut self, _number: u32, took: Duration, _open: usize) {
        let place = TURN_BOUNDS.partition_point(|bound| *bound < took);
        self.0.turns_taking[place].add::<SHARED>(1);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.turn_nanoseconds.add::<SHARED>(nanoseconds);
    }

    /// Counts a step. The call and the step that it makes are inlined, so that only the counting of
    /// the one kind of step is left.
    #[inline(always)]
    fn step(&mut self, make: impl FnOnce() -> Step) {
        match make() {
            Step::Read(transfer) if transfer.got > 0 => {
                self.0.reads.add::<SHARED>(1);
                self.0.bytes_read.add::<SHARED>(transfer.got);
            }
            Step::Write(transfer) | Step::Sendfile(transfer) => self.wrote(transfer),
            Step::Accept { accepted: Ok(_), .. } => self.0.accepted.add::<SHARED>(1),
            Step::Respond { method, status, .. } => self.answered(method, status),
            Step::Carry { .. } => self.0.carried.add::<SHARED>(1),
            Step::Stale { .. } => self.0.stale.add::<SHARED>(1),
            Step::Panic { .. } => self.0.panicked.add::<SHARED>(1),
            Step::Close { reason, .. } => self.0.closed[reason as usize].add::<SHARED>(1),
            Step::Read(_)
            | Step::Accept { accepted: Err(_), .. }
            | Step::TurnStart { .. }
            | Step::Phase(_)
            | Step::Event(_)
            | Step::Register { .. }
            | Step::Job { .. }
            | Step::Result { .. }
            | Step::Advance { .. }
            | Step::Deadline { .. }
            | Step::Shut { .. }
            | Step::Free { .. }
            | Step::TurnEnd(_)
            | Step::Fact(_) => {}
        }
    }

    fn answer_timed_out(&mut self, worker: LateWorker) {
        self.0.answers_timed_out[worker as usize].add::<SHARED>(1);
    }

    fn counters(&self) -> Option<&Arc<Counters>> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn_id::ConnId;

    const ID: ConnId = ConnId::new(1, 0);

    #[test]
    fn every_reason_has_its_own_counter() {
        let mut tally = LoopTally::default();
        for reason in CloseReason::ALL {
            tally.step(|| Step::Close { id: ID, reason });
            assert_eq!(tally.0.closed_for(reason), 1, "{}", reason.name());
        }
        assert_eq!(tally.0.closed_total(), CloseReason::ALL.len() as u64);
    }

    #[test]
    fn every_method_and_status_class_has_its_own_counter() {
        let mut tally = LoopTally::default();
        for method in Method::LABELS {
            let method = Some(Method::parse(method).label());
            tally.step(|| Step::Respond { id: ID, method, status: Status::OK });
        }
        tally.step(|| Step::Respond { id: ID, method: None, status: Status::BAD_REQUEST });
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
            tally.turn_finished(1, took, 0);
        }
        let places = tally.0.turns_taking.each_ref().map(Count::get);
        let expected: Vec<u64> =
            (0..=TURN_BOUNDS.len()).map(|place| [2, 1].get(place).copied().unwrap_or(0)).collect();
        assert_eq!(places[..15], expected[..15]);
        assert_eq!(places[15..], [1, 1], "one second, and more");
        assert_eq!(tally.0.turn_nanoseconds.get(), 2_000_021_001);
        assert!(TURN_BOUNDS.is_sorted());
    }

    #[test]
    fn threads_that_share_a_tally_lose_nothing() {
        let counters = Arc::new(Counters::default());
        let read = Step::Read(Transfer::read(ID, 10, &Ok(3)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut tally = TwinTally::of(Arc::clone(&counters));
                scope.spawn(move || (0..10_000).for_each(|_| tally.step(|| read)));
            }
        });
        assert_eq!((counters.reads.get(), counters.bytes_read.get()), (40_000, 120_000));
    }
}
