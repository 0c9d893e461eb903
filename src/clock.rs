//! The clocks, and the only place in the product code that reads them.
//!
//! Everything below the drivers takes time as an argument. Without the feature `os` there is no
//! clock: then [`Instant`] counts from the beginning of a simulation. This file must not know what
//! a time is compared with.

use std::time::Duration;

#[cfg(feature = "os")]
pub use std::time::Instant;
#[cfg(not(feature = "os"))]
pub use without_os::Instant;

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

/// Reads both clocks. The one place where drivers do so.
#[cfg(feature = "os")]
#[expect(clippy::disallowed_methods, reason = "drivers: once or twice a turn, and before further batches")]
pub(crate) fn read_clocks() -> Now {
    Now { mono: Instant::now(), wall: read_wall_clock() }
}

/// Reads the time since 1970-01-01 UTC alone.
#[cfg(feature = "os")]
#[expect(
    clippy::disallowed_methods,
    reason = "drivers: together with the other clock, and for each line of the access log"
)]
pub(crate) fn read_wall_clock() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The instant at which a simulation or a test begins. All others of it are this one plus a time.
#[cfg(any(feature = "sim", test))]
pub(crate) fn origin() -> Instant {
    #[cfg(feature = "os")]
    return read_clocks().mono;
    #[cfg(not(feature = "os"))]
    Instant::ORIGIN
}

#[cfg(not(feature = "os"))]
mod without_os {
    use std::ops::{Add, AddAssign, Sub};
    use std::time::Duration;

    /// A time since the beginning of a simulation, with the operations of [`std::time::Instant`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Instant(Duration);

    impl Instant {
        /// The beginning. Late enough that an earlier time can be subtracted from it.
        pub const ORIGIN: Instant = Instant(Duration::from_secs(1 << 32));

        /// The time since `earlier`, or zero if `earlier` is later.
        #[must_use]
        pub fn duration_since(&self, earlier: Instant) -> Duration {
            self.0.saturating_sub(earlier.0)
        }

        /// The time since `earlier`, or zero if `earlier` is later.
        #[must_use]
        pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
            self.0.saturating_sub(earlier.0)
        }

        /// The time since `earlier`, or `None` if `earlier` is later.
        #[must_use]
        pub fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
            self.0.checked_sub(earlier.0)
        }

        /// This instant plus `duration`, or `None` if it cannot be represented.
        #[must_use]
        pub fn checked_add(&self, duration: Duration) -> Option<Instant> {
            self.0.checked_add(duration).map(Instant)
        }

        /// This instant minus `duration`, or `None` if it cannot be represented.
        #[must_use]
        pub fn checked_sub(&self, duration: Duration) -> Option<Instant> {
            self.0.checked_sub(duration).map(Instant)
        }
    }

    impl Add<Duration> for Instant {
        type Output = Instant;

        fn add(self, duration: Duration) -> Instant {
            Instant(self.0 + duration)
        }
    }

    impl AddAssign<Duration> for Instant {
        fn add_assign(&mut self, duration: Duration) {
            self.0 += duration;
        }
    }

    impl Sub<Duration> for Instant {
        type Output = Instant;

        fn sub(self, duration: Duration) -> Instant {
            Instant(self.0 - duration)
        }
    }

    impl Sub<Instant> for Instant {
        type Output = Duration;

        fn sub(self, earlier: Instant) -> Duration {
            self.duration_since(earlier)
        }
    }
}
