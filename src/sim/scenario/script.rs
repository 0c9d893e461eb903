//! The parts of a scenario after parsing: clients with their actions, routes, faults, expectations.
//!
//! Plain data with units in the names. This file must not know the text form or the runner.

use crate::config::{Limits, Timeouts};
use crate::driver::decision::Decision;
use crate::driver::outcome::Signal;
use crate::http::CloseReason;
use crate::observe::step::Holder;

/// A scenario: one page of text that describes clients, limits, faults, a question and the expected
/// result. [`Scenario::parse`] reads one.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Name of the scenario: that of its file without `.txt`.
    pub name: String,
    /// Name of the file for messages.
    pub file: String,
    /// The whole text.
    pub text: String,
    /// One line that describes the scenario.
    pub title: String,
    /// The question to the reader.
    pub question: String,
    /// Answers to choose from.
    pub guesses: Vec<String>,
    /// Index of the right guess.
    pub answer: usize,
    /// Explanation of the answer.
    pub because: String,
    /// Limits of the server in this scenario.
    pub limits: Limits,
    /// Timeouts of the server in this scenario.
    pub timeouts: Timeouts,
    /// Effects of named bugs on this scenario.
    pub bugs: Vec<BugNote>,
    pub(super) sockets_max: usize,
    pub(super) socket_bytes: usize,
    pub(super) workers: usize,
    pub(super) until_ns: Option<u64>,
    pub(super) turns_max: u32,
    pub(super) routes: Vec<Route>,
    pub(super) clients: Vec<ClientScript>,
    pub(super) signals: Vec<(u64, Signal)>,
    pub(super) faults: Vec<(u64, Fault)>,
    pub(super) expectations: Vec<Expectation>,
}

/// The effect of a named bug on a scenario, as its text describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BugNote {
    /// Name of the bug.
    pub bug: String,
    /// The decision that the bug makes wrongly.
    pub decision: Decision,
    /// True if the scenario fails with the bug.
    pub fails: bool,
    /// First symptom if the scenario fails, otherwise the reason why it does not.
    pub text: String,
    /// Line of the note in the file.
    pub line: usize,
}

/// A path of the simulated site.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) path: String,
    pub(super) work: Work,
    pub(super) body: RouteBody,
    /// True if the connection closes after the response.
    pub(super) closes: bool,
}

/// The work of a handler before it responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    None,
    /// The handler itself takes this long, in nanoseconds. The loop waits meanwhile.
    Inline(u64),
    /// A job takes this long, in nanoseconds, on a worker.
    Job(u64),
}

/// Content of a response.
#[derive(Debug, Clone)]
pub(super) enum RouteBody {
    Text(String),
    Bytes(usize),
    /// The content of the request.
    Echo,
}

/// A client with its actions.
#[derive(Debug, Clone)]
pub(super) struct ClientScript {
    pub(super) name: String,
    pub(super) actions: Vec<Action>,
}

/// One action of a client. Actions happen in their order, each no earlier than its time.
#[derive(Debug, Clone)]
pub(super) struct Action {
    pub(super) when: When,
    pub(super) does: Does,
}

/// The earliest time of an action, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Since the start of the run.
    At(u64),
    /// After the client has received a response to every request so far.
    Answered(u64),
}

/// An action of a client.
#[derive(Debug, Clone)]
pub(super) enum Does {
    Connects,
    Sends {
        bytes: Vec<u8>,
        /// Number of whole requests in `bytes`.
        requests: usize,
    },
    /// Shuts the sending side: FIN.
    Shuts,
    Resets,
    /// Reads this many bytes once.
    Reads(usize),
    /// Reads everything from now on, or nothing.
    ReadsAll(bool),
}

/// A fault that the scenario requests.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// An event for this client without a cause.
    Spurious(usize),
    /// The next read is interrupted by a signal.
    Interrupts(usize),
    /// The next read returns at most this many bytes; the others arrive later.
    ShortRead(usize, usize),
    /// The next write would block although there is room.
    WriteBlocks(usize),
    /// This many wake-ups fail.
    WakeUps(u32),
}

/// One expectation.
#[derive(Debug, Clone)]
pub(super) struct Expectation {
    /// True if it holds under every seed. Others describe the run without a seed.
    pub(super) always: bool,
    pub(super) what: Expected,
}

/// An expected fact.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    /// The next response of this client.
    Response {
        client: usize,
        status: u16,
        body: ExpectedBody,
        after_ns: u64,
        before_ns: u64,
    },
    /// No response at all for this client.
    Nothing(usize),
    IsReset(usize),
    IsClosed(usize, CloseReason),
    IsOpen(usize),
    Carried(usize, Count),
    HasId(usize, String),
    Stale(Holder, Count),
    Turns(Count),
    Stopped,
}

/// Expected content of a response.
#[derive(Debug, Clone)]
pub(super) enum ExpectedBody {
    Any,
    Text(String),
    Bytes(usize),
}

/// An expected number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Exactly(u64),
    AtLeast(u64),
    AtMost(u64),
}

impl Count {
    pub(super) fn fits(self, count: u64) -> bool {
        match self {
            Count::Exactly(wanted) => count == wanted,
            Count::AtLeast(least) => count >= least,
            Count::AtMost(most) => count <= most,
        }
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Count::Exactly(wanted) => write!(f, "{wanted}"),
            Count::AtLeast(least) => write!(f, "at least {least}"),
            Count::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}
