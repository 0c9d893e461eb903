//! How a server ends, for both models: the signals that request it, and the outcome. This file
//! must not know sockets.

use crate::http::Phase;

/// The action that a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// SIGINT: a graceful stop; the second one stops at once.
    Interrupt,
    /// SIGTERM: a graceful stop; the second one stops at once.
    Terminate,
    /// SIGQUIT: a graceful stop; the second one stops at once.
    Quit,
    /// SIGHUP after the controlling terminal was closed: a graceful stop. Shell and kernel may both
    /// send it, so a second one has no effect.
    TerminalClosed,
    /// SIGUSR1, and SIGHUP otherwise: a log was rotated. The access log is reopened.
    Reopen,
    /// SIGUSR2: the requests under way are logged.
    Report,
}

impl Signal {
    /// Returns the exit code of a process that this signal ended: 128 plus the signal number.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
            Signal::Quit => 131,
            Signal::TerminalClosed | Signal::Reopen => 129,
            Signal::Report => 140,
        }
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
