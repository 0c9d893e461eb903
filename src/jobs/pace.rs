//! The pace of a sender, and the minimum rate while permits are scarce.
//!
//! A sender may hold a permit (for a program, an upload, a thread) as long as it likes while
//! permits are free. When all are held, the slowest sender below [`LeastRate`] is evicted in favour
//! of the next client. Pure: time is an argument. This file must not know what a permit is for.

use std::time::Duration;

use crate::clock::Instant;
use crate::config::{Limits, Timeouts};

/// The rate at which a sender must send content to keep a permit that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeastRate {
    /// Minimum bytes per `window`.
    bytes: u64,
    window: Duration,
}

impl LeastRate {
    /// Returns the rate of a configuration. `None` if no sender is ever evicted.
    #[must_use]
    pub fn of(limits: &Limits, timeouts: &Timeouts) -> Option<LeastRate> {
        let window = timeouts.busy.filter(|window| !window.is_zero())?;
        let bytes = u128::from(limits.busy_rate_min_bytes) * window.as_millis() / 1000;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        (bytes > 0).then_some(LeastRate { bytes, window })
    }

    /// Returns the time over which a sender is judged.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Returns the bytes that a sender has sent within the last window, if they are fewer than the
    /// minimum.
    #[must_use]
    pub fn missed_by(&self, pace: &Pace, now: Instant) -> Option<u64> {
        pace.brought(now, self.window).filter(|brought| *brought < self.bytes)
    }
}

/// The bytes of one sender over time, counted for the current window and the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Begin of the current window.
    began: Instant,
    bytes: u64,
    /// Bytes of the previous window; `None` in the first one.
    before: Option<u64>,
    /// Begin of a time without reads by the server, which does not count against the sender.
    held: Option<Instant>,
}

impl Pace {
    /// Creates the record of a sender that has not sent any bytes yet.
    #[must_use]
    pub fn starting(now: Instant) -> Self {
        Pace::since(now, 0)
    }

    /// Creates the record of a sender that has sent this number of bytes since `began`.
    #[must_use]
    pub fn since(began: Instant, bytes: u64) -> Self {
        Pace { began, bytes, before: None, held: None }
    }

    /// Records bytes that arrived.
    pub fn note(&mut self, bytes: u64, now: Instant, rate: &LeastRate) {
        self.roll(now, rate.window);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Records that the server stops reading.
    pub fn hold(&mut self, now: Instant) {
        self.held.get_or_insert(now);
    }

    /// Records that the server reads again.
    pub fn resume(&mut self, now: Instant) {
        if let Some(since) = self.held.take() {
            self.began += now.saturating_duration_since(since);
        }
    }

    /// Returns the bytes of the last `window`, as well as two counts can estimate them: the
    /// previous window counts by the part of it that still belongs to the last `window`. `None` if
    /// the sender cannot be judged, because it is new or the server does not read.
    fn brought(mut self, now: Instant, window: Duration) -> Option<u64> {
        if self.held.is_some() {
            return None;
        }
        self.roll(now, window);
        let before = u128::from(self.before?);
        let left = window.saturating_sub(now.saturating_duration_since(self.began));
        let counts = before * left.as_nanos() / window.as_nanos().max(1);
        Some(self.bytes.saturating_add(u64::try_from(counts).unwrap_or(u64::MAX)))
    }

    /// Begins the next window if the current one is over.
    fn roll(&mut self, now: Instant, window: Duration) {
        let passed = now.saturating_duration_since(self.began);
        if passed < window {
            return;
        }
        let is_next = passed < 2 * window;
        self.before = Some(if is_next { self.bytes } else { 0 });
        self.began = if is_next { self.began + window } else { now };
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::origin;

    const RATE: LeastRate = LeastRate { bytes: 160 * 1024, window: Duration::from_secs(10) };

    /// Sends at a rate for a number of milliseconds, in pieces every `every_ms`.
    fn send(pace: &mut Pace, from: Instant, for_ms: u64, every_ms: u64, rate: u64) -> Instant {
        let mut now = from;
        for _ in 0..for_ms / every_ms {
            now += Duration::from_millis(every_ms);
            pace.note(rate * every_ms / 1000, now, &RATE);
        }
        now
    }

    #[test]
    fn the_least_rate_is_what_is_configured_and_can_be_switched_off() {
        let rate = |bytes, busy| {
            let limits = Limits { busy_rate_min_bytes: bytes, ..Limits::default() };
            LeastRate::of(&limits, &Timeouts { busy, ..Timeouts::default() })
        };
        assert_eq!(LeastRate::of(&Limits::default(), &Timeouts::default()), Some(RATE));
        let half = Some(Duration::from_millis(500));
        assert_eq!(rate(1000, half), Some(LeastRate { bytes: 500, window: Duration::from_millis(500) }));
        assert_eq!([rate(0, half), rate(1000, None), rate(1000, Some(Duration::ZERO))], [None; 3]);
        assert_eq!(rate(u64::MAX, Some(crate::config::TIMEOUT_MAX)).map(|rate| rate.bytes), Some(u64::MAX));
    }

    #[test]
    fn a_sender_is_judged_after_one_window_and_by_the_last_one() {
        let start = origin();
        let mut pace = Pace::starting(start);
        let missed = |pace: &Pace, now| RATE.missed_by(pace, now);
        assert_eq!(missed(&pace, start + RATE.window - Duration::from_millis(1)), None);
        assert_eq!(missed(&pace, start + RATE.window), Some(0));
        // A burst at the beginning counts until it is older than a window.
        pace.note(1 << 20, start, &RATE);
        assert_eq!(missed(&pace, start + RATE.window), None);
        assert_eq!(missed(&pace, start + 2 * RATE.window), Some(0));
        let mut now = send(&mut pace, start, 10_000, 250, 20_000);
        assert_eq!(missed(&pace, now), None);
        now = send(&mut pace, now, 9_000, 250, 240);
        assert!(missed(&pace, now).is_some_and(|brought| brought < 200_000));
        now = send(&mut pace, now, 20_000, 10, 17 * 1024);
        assert_eq!(missed(&pace, now), None, "it is as fast as it must be");
        now = send(&mut pace, now, 20_000, 10, 15 * 1024);
        assert!(missed(&pace, now).is_some_and(|brought| (149 * 1024..151 * 1024).contains(&brought)));
    }

    /// A program that does not read its input, or a slow disk, is not the sender's fault.
    #[test]
    fn the_time_for_which_the_server_does_not_read_is_not_counted() {
        let start = origin();
        let mut pace = Pace::starting(start);
        let mut now = send(&mut pace, start, 12_000, 250, 20_000);
        let before = pace.brought(now, RATE.window);
        pace.hold(now);
        pace.hold(now + Duration::from_secs(5));
        now += Duration::from_secs(100);
        assert_eq!(RATE.missed_by(&pace, now), None);
        pace.resume(now);
        assert_eq!(pace.brought(now, RATE.window), before);
        pace.resume(now);
        assert_eq!(pace.brought(now, RATE.window), before, "it was resumed already");
        assert_eq!(RATE.missed_by(&pace, now + 2 * RATE.window), Some(0));
    }

    proptest! {
        /// A sender that keeps the rate is never judged slow, and one at half of it always is.
        #[test]
        fn an_even_sender_is_judged_by_its_rate(every_ms in 1_u64..500, seconds in 20_u64..60, late_ms in 0_u64..500) {
            let start = origin();
            for (rate, is_slow) in [(20 * 1024, false), (8 * 1024, true)] {
                let mut pace = Pace::starting(start);
                let now = send(&mut pace, start, seconds * 1000, every_ms, rate);
                let now = now + Duration::from_millis(late_ms);
                prop_assert_eq!(RATE.missed_by(&pace, now).is_some(), is_slow);
            }
        }
    }
}
