//! Limits of eviction that both models share: when a connection may be closed to make room for
//! another.

use std::time::Duration;

/// How long a connection must have been idle before it may be closed for a new one. A younger one
/// is probably between two requests.
pub(crate) const EVICTION_IDLE_MIN: Duration = Duration::from_secs(1);

/// Fraction of connections that may be in eviction at a time: one in this number. An evicted client
/// receives its response before its slot is free.
pub(crate) const LEAVING_SHARE: usize = 16;

/// Idle connections that are closed at a time when descriptors have run out. Starting a program
/// needs about eight descriptors, a listing two.
pub(crate) const RELIEF_CONNECTIONS: usize = 4;

/// Shortest interval between two such closes.
pub(crate) const RELIEF_INTERVAL: Duration = Duration::from_millis(10);
