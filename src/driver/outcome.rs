//! How a server ends, for both models. This file must not know sockets.

use crate::driver::signals::Signal;
use crate::http::Phase;

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every client was served to the end.
    Stopped,
    /// The drain timeout passed. Contains the number of connections that were cut off.
    Cut(usize),
    /// The server received a second signal.
    Killed(Signal),
}

impl Outcome {
    /// Combines the outcomes of two loops into the worse one. Connections that were cut off are
    /// added up.
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

/// A function that is called when a graceful stop has begun, with the number of open connections by
/// phase.
pub(crate) type OnStop = Box<dyn Fn(Signal, &Phases) + Send>;

/// Number of connections by phase, in the order of [`Phase::ALL`].
pub(crate) type Phases = [u64; Phase::ALL.len()];
