//! How a server ends.

use crate::driver::signals::Signal;
use crate::http::Phase;

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every client was served to the end.
    Stopped,
    /// The drain timeout passed: so many were cut off.
    Cut(usize),
    /// A second signal.
    Killed(Signal),
}

impl Outcome {
    /// The outcome of two loops together: the worse one; who was cut off is added up.
    #[must_use]
    pub fn and(self, other: Outcome) -> Outcome {
        match (self, other) {
            (Outcome::Killed(signal), _) | (_, Outcome::Killed(signal)) => Outcome::Killed(signal),
            (Outcome::Cut(ours), Outcome::Cut(theirs)) => Outcome::Cut(ours + theirs),
            (Outcome::Cut(clients), Outcome::Stopped) | (Outcome::Stopped, Outcome::Cut(clients)) => {
                Outcome::Cut(clients)
            }
            (Outcome::Stopped, Outcome::Stopped) => Outcome::Stopped,
        }
    }
}

/// Called when a graceful stop has begun, with the connections that it waits for by their phase.
pub(crate) type OnStop = Box<dyn Fn(Signal, &Phases) + Send>;

/// Connections by phase, in the order of [`Phase::ALL`].
pub(crate) type Phases = [u64; Phase::ALL.len()];
