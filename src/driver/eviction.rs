//! How both models choose the connections that make room for others, in numbers.

use std::time::Duration;

/// An idle connection is closed for a new one only after this long: younger ones are between two
/// requests.
pub(crate) const EVICTION_IDLE_MIN: Duration = Duration::from_secs(1);

/// One connection in so many may be on its way out because others wait: it gets its answer first.
pub(crate) const LEAVING_SHARE: usize = 16;

/// Idle connections that are closed when descriptors have run out, at most so many at a time and so
/// often: a program takes some eight to start, a listing two.
pub(crate) const RELIEF_CONNECTIONS: usize = 4;

pub(crate) const RELIEF_INTERVAL: Duration = Duration::from_millis(10);
