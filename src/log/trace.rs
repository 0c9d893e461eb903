//! A backtrace whose addresses are collected on one thread and resolved to names on another.
//!
//! This file must not know the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::sync::atomic::{AtomicBool, Ordering};

/// Lines of one backtrace that are written.
const TRACE_LINES_MAX: usize = 100;

/// A trace waits to be resolved. Until that is done the standard library holds a lock that the next
/// one to collect addresses would wait for.
static IS_UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// A backtrace without names. There is one at a time.
pub(super) struct Trace(Backtrace);

impl Trace {
    /// The calls that led here, if `RUST_BACKTRACE` asks for them and no other trace is under way.
    pub(super) fn collect() -> Option<Trace> {
        if IS_UNDER_WAY.swap(true, Ordering::AcqRel) {
            return None;
        }
        let trace = Trace(Backtrace::capture());
        (trace.0.status() == BacktraceStatus::Captured).then_some(trace)
    }

    /// A trace of this place, whatever `RUST_BACKTRACE` is set to.
    #[cfg(test)]
    pub(super) fn forced() -> Trace {
        assert!(!IS_UNDER_WAY.swap(true, Ordering::AcqRel));
        Trace(Backtrace::force_capture())
    }

    /// Whether a trace has been collected and not been dropped.
    #[cfg(test)]
    pub(super) fn is_under_way() -> bool {
        IS_UNDER_WAY.load(Ordering::Acquire)
    }

    /// The lines of the trace, with names. Takes a tenth of a second and more.
    pub(super) fn lines(self) -> Vec<String> {
        self.0.to_string().lines().take(TRACE_LINES_MAX).map(str::to_owned).collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        IS_UNDER_WAY.store(false, Ordering::Release);
    }
}
