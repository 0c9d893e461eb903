//! A backtrace whose addresses are collected on one thread and resolved to names on another.
//!
//! This file must not know the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::sync::atomic::{AtomicBool, Ordering};

/// Largest number of lines written for one backtrace.
const TRACE_LINES_MAX: usize = 100;

/// True while a trace waits to be resolved. Resolving holds a lock of the standard library, and the
/// next thread to collect addresses would wait for it.
static IS_UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// A backtrace without names. At most one exists at a time.
pub(super) struct Trace(Backtrace);

impl Trace {
    /// Collects the current backtrace, if `RUST_BACKTRACE` is set and no other trace exists.
    pub(super) fn collect() -> Option<Trace> {
        if IS_UNDER_WAY.swap(true, Ordering::AcqRel) {
            return None;
        }
        let trace = Trace(Backtrace::capture());
        (trace.0.status() == BacktraceStatus::Captured).then_some(trace)
    }

    /// Collects the current backtrace even if `RUST_BACKTRACE` is not set.
    #[cfg(test)]
    pub(super) fn forced() -> Trace {
        assert!(!IS_UNDER_WAY.swap(true, Ordering::AcqRel));
        Trace(Backtrace::force_capture())
    }

    /// True while a trace exists.
    #[cfg(test)]
    pub(super) fn is_under_way() -> bool {
        IS_UNDER_WAY.load(Ordering::Acquire)
    }

    /// Resolves the names and returns the lines. Takes a tenth of a second or more.
    pub(super) fn lines(self) -> Vec<String> {
        self.0.to_string().lines().take(TRACE_LINES_MAX).map(str::to_owned).collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        IS_UNDER_WAY.store(false, Ordering::Release);
    }
}
