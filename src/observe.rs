//! Watching the loop without slowing it: counters, and a stopwatch for who wants one.
//!
//! [`Observer`] is a type parameter of the reactor and the pump. Every method has an empty body, so [`Silent`]
//! compiles to nothing. [`Counters`] adds integers; [`Stopwatch`] also reads the clock at each change of
//! activity, about ten times a turn, which is why it is only used when asked for (`-vv`).

use std::time::Instant;

use crate::http::{CloseReason, Status};

/// What a loop spends its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// In the poll, for the kernel.
    Waiting,
    /// In `read`.
    Reading,
    /// In a handler, a continuation, a body source, or our own parsing.
    Handling,
    /// In `write` and `sendfile`.
    Writing,
    /// Everything else: accepts, deadlines, bookkeeping.
    Keeping,
}

impl Activity {
    const COUNT: usize = 5;
}

/// Told of everything a loop does. All methods are called on the loop: they must be short and must not block.
pub trait Observer: Default + Send + 'static {
    /// A turn begins with this many events.
    fn turn(&mut self, _events: usize) {}
    /// The loop goes over to another activity.
    fn enter(&mut self, _activity: Activity) {}
    /// A read took this many bytes.
    fn read(&mut self, _bytes: usize) {}
    /// A write or sendfile gave the socket this many bytes.
    fn wrote(&mut self, _bytes: u64) {}
    /// A connection was accepted.
    fn accepted(&mut self) {}
    /// A request got this answer.
    fn answered(&mut self, _status: Status) {}
    /// A connection ran out of its budget and goes on in the next turn.
    fn carried(&mut self) {}
    /// Something named a connection that is gone.
    fn stale(&mut self) {}
    /// A handler panicked.
    fn panicked(&mut self) {}
    /// A connection was closed.
    fn closed(&mut self, _reason: CloseReason) {}
    /// What was counted so far, if anything was.
    fn counters(&self) -> Option<&Counters> {
        None
    }
    /// Nanoseconds spent in each activity, in the order of [`Activity`], if they were measured.
    fn nanoseconds(&self) -> Option<[u64; 5]> {
        None
    }
}

/// Watches nothing and costs nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// How often each thing happened since the start. Counts only grow.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Turns of the loop.
    pub turns: u64,
    /// Events from the kernel.
    pub events: u64,
    /// Reads that took something.
    pub reads: u64,
    /// Writes that gave something.
    pub writes: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Requests answered, by the hundreds of the status: `[0]` is 1xx.
    pub answered: [u64; 5],
    /// Times a connection was carried into the next turn.
    pub carried: u64,
    /// Names of connections that were gone.
    pub stale: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Closes, in the order of [`CloseReason::ALL`].
    pub closed: [u64; CloseReason::ALL.len()],
}

impl Counters {
    /// How often connections were closed for this reason.
    #[must_use]
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// Connections closed.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }

    /// Requests answered.
    #[must_use]
    pub fn answered_total(&self) -> u64 {
        self.answered.iter().sum()
    }
}

impl Observer for Counters {
    fn turn(&mut self, events: usize) {
        self.turns += 1;
        self.events += events as u64;
    }

    fn read(&mut self, bytes: usize) {
        self.reads += 1;
        self.bytes_read += bytes as u64;
    }

    fn wrote(&mut self, bytes: u64) {
        self.writes += 1;
        self.bytes_written += bytes;
    }

    fn accepted(&mut self) {
        self.accepted += 1;
    }

    fn answered(&mut self, status: Status) {
        self.answered[usize::from(status.code() / 100 - 1).min(4)] += 1;
    }

    fn carried(&mut self) {
        self.carried += 1;
    }

    fn stale(&mut self) {
        self.stale += 1;
    }

    fn panicked(&mut self) {
        self.panicked += 1;
    }

    fn closed(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }

    fn counters(&self) -> Option<&Counters> {
        Some(self)
    }
}

/// Counts, and measures where the time goes.
#[derive(Debug)]
pub struct Stopwatch {
    counters: Counters,
    nanoseconds: [u64; Activity::COUNT],
    activity: Activity,
    since: Instant,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Stopwatch {
            counters: Counters::default(),
            nanoseconds: [0; Activity::COUNT],
            activity: Activity::Keeping,
            since: clock(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a stopwatch is for reading the clock, and is off unless asked for"
)]
fn clock() -> Instant {
    Instant::now()
}

impl Observer for Stopwatch {
    fn turn(&mut self, events: usize) {
        self.counters.turn(events);
    }

    fn enter(&mut self, activity: Activity) {
        let now = clock();
        self.nanoseconds[self.activity as usize] +=
            u64::try_from(now.duration_since(self.since).as_nanos()).unwrap_or(u64::MAX);
        (self.activity, self.since) = (activity, now);
    }

    fn read(&mut self, bytes: usize) {
        self.counters.read(bytes);
    }

    fn wrote(&mut self, bytes: u64) {
        self.counters.wrote(bytes);
    }

    fn accepted(&mut self) {
        self.counters.accepted();
    }

    fn answered(&mut self, status: Status) {
        self.counters.answered(status);
    }

    fn carried(&mut self) {
        self.counters.carried();
    }

    fn stale(&mut self) {
        self.counters.stale();
    }

    fn panicked(&mut self) {
        self.counters.panicked();
    }

    fn closed(&mut self, reason: CloseReason) {
        self.counters.closed(reason);
    }

    fn counters(&self) -> Option<&Counters> {
        Some(&self.counters)
    }

    fn nanoseconds(&self) -> Option<[u64; 5]> {
        Some(self.nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let mut counters = Counters::default();
        for reason in CloseReason::ALL {
            counters.closed(reason);
            assert_eq!(counters.closed_for(reason), 1, "{}", reason.name());
        }
        assert_eq!(counters.closed_total(), CloseReason::ALL.len() as u64);
    }
}
