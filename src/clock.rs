//! The clocks. Product code reads them only here.
//!
//! All code below the drivers takes time as an argument. This file must not know what a time is
//! compared with.

use std::time::{Duration, Instant, SystemTime};

/// One moment on both clocks, read together once a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, for deadlines.
    pub mono: Instant,
    /// Wall-clock time since 1970-01-01 UTC, for people.
    pub wall: Duration,
}

impl Now {
    /// Returns whole seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_secs(&self) -> u64 {
        self.wall.as_secs()
    }
}

/// Reads both clocks, for drivers.
#[expect(clippy::disallowed_methods, reason = "drivers: once or twice a turn, and before further batches")]
pub(crate) fn read_clocks() -> Now {
    Now { mono: Instant::now(), wall: read_wall_clock() }
}

/// Reads the wall clock alone, for log lines.
#[expect(
    clippy::disallowed_methods,
    reason = "drivers: with the other one, and for each line of the access log"
)]
pub(crate) fn read_wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
