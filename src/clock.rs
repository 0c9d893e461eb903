//! The clocks, and the one place in the product code that reads them.
//!
//! Everything below the drivers takes time as an argument. This file must not know what a time is
//! compared with.

use std::time::{Duration, Instant, SystemTime};

/// One moment on both clocks, read together once a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For deadlines: never goes back.
    pub mono: Instant,
    /// For people: time since 1970-01-01 UTC.
    pub wall: Duration,
}

impl Now {
    /// Whole seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_secs(&self) -> u64 {
        self.wall.as_secs()
    }
}

/// The one place where drivers read the clocks.
#[expect(clippy::disallowed_methods, reason = "drivers: once or twice a turn, and before further batches")]
pub(crate) fn read_clocks() -> Now {
    Now { mono: Instant::now(), wall: read_wall_clock() }
}

/// One of them alone, for what is logged.
#[expect(
    clippy::disallowed_methods,
    reason = "drivers: with the other one, and for each line of the access log"
)]
pub(crate) fn read_wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
