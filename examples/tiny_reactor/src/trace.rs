//! The trace: one line for each step on standard error, with the number of its turn, if the
//! variable `TRACE` is set.

use std::env;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;

pub static IS_ON: LazyLock<bool> = LazyLock::new(|| env::var_os("TRACE").is_some());
pub static TURN: AtomicU64 = AtomicU64::new(0);

/// Prints a step. Its arguments are evaluated only if the trace is on.
macro_rules! trace {
    ($($step:tt)*) => {
        if *crate::trace::IS_ON {
            let turn = crate::trace::TURN.load(std::sync::atomic::Ordering::Relaxed);
            let line = format!("turn {turn}: {}\n", format_args!($($step)*));
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        }
    };
}
pub(crate) use trace;
