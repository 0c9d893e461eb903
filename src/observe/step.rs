//! The steps of a loop: one small record for each fact about a turn.
//!
//! A loop reports [`Step`]s to its observer: why it waits, what the kernel reported, each operation
//! with its bytes and the reason why it stopped, and each name that no longer has an owner. `text`
//! and `json` write them. A simulation adds [`Fact`]s about clients and the kernel, so that one
//! record has both sides in order. This file must not know who reads the steps.

use std::io::{self, ErrorKind};

use crate::conn_id::{ConnId, WatchId};
use crate::http::method::MethodLabel;
use crate::http::{CloseReason, Status};

/// A step with its time, in nanoseconds since the recording began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedStep {
    /// Nanoseconds since the recording began.
    pub at_ns: u64,
    /// The step.
    pub step: Step,
    /// Line of the source that reported the step.
    pub source: &'static std::panic::Location<'static>,
}

/// One fact about a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The poll has returned, and a turn begins.
    TurnStart {
        /// How the turn began.
        turn: TurnStart,
        /// Time that the poll waited, in nanoseconds.
        waited_ns: u64,
    },
    /// A phase of the turn begins.
    Phase(TurnPhase),
    /// The kernel reported an event.
    Event(Event),
    /// A client was accepted, or the listener had none.
    Accept {
        /// Number of the listener.
        listener: u32,
        /// The new connection, or why there is none.
        accepted: Result<ConnId, Stop>,
    },
    /// A read from the socket of a connection.
    Read(Transfer),
    /// A write to the socket of a connection.
    Write(Transfer),
    /// A part of a file sent to the socket of a connection.
    Sendfile(Transfer),
    /// A connection or a watched object was registered with the poll.
    Register {
        /// The connection or object.
        name: Name,
        /// [`Stop::Done`], or an error.
        stop: Stop,
    },
    /// A response was queued.
    Respond {
        /// The connection.
        id: ConnId,
        /// Method of the request; `None` if the bytes never became a request.
        method: Option<MethodLabel>,
        /// Status of the response.
        status: Status,
    },
    /// A request waits for a job.
    Job {
        /// The connection.
        id: ConnId,
    },
    /// The inbox had a result for a connection.
    Result {
        /// The connection.
        id: ConnId,
        /// Kind of the result.
        kind: ResultKind,
    },
    /// A watched object advanced.
    Advance {
        /// The object.
        id: WatchId,
        /// The connection that waits for it.
        conn: ConnId,
    },
    /// The entry of a connection in the queue of deadlines came up.
    Deadline {
        /// The connection.
        id: ConnId,
        /// State of the deadline of the connection.
        found: DeadlineFound,
    },
    /// The budget of a connection is used up, so that it is carried to the next turn.
    Carry {
        /// The connection.
        id: ConnId,
    },
    /// A handler, a continuation or a body source panicked.
    Panic {
        /// The connection that it worked for.
        id: ConnId,
    },
    /// The sending side of a connection was shut, because its last response is out.
    Shut {
        /// The connection.
        id: ConnId,
        /// [`Stop::Done`], or an error.
        stop: Stop,
    },
    /// A connection was closed. Its slot stays occupied until the end of the turn.
    Close {
        /// The connection.
        id: ConnId,
        /// Why it was closed.
        reason: CloseReason,
    },
    /// The slot of a closed connection was freed, and its socket closed.
    Free {
        /// The connection that had the slot.
        id: ConnId,
    },
    /// A name had no owner any more, so that what came for it was dropped.
    Stale {
        /// The name.
        name: Name,
        /// The entry, event or result that still had the name.
        holder: Holder,
    },
    /// A turn has ended.
    TurnEnd(TurnEnd),
    /// A fact that only a simulation knows.
    Fact(Fact),
}

/// The beginning of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TurnStart {
    /// Number of the turn, from 1.
    pub number: u32,
    /// Number of events that the kernel reported.
    pub events: u32,
    /// Longest wait that the loop asked for, in nanoseconds; `None` is without limit.
    pub timeout_ns: Option<u64>,
    /// Reason of that limit.
    pub until: WaitUntil,
}

/// The end of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TurnEnd {
    /// Number of the turn.
    pub number: u32,
    /// Number of open connections.
    pub open: u32,
    /// Duration since the poll returned, in nanoseconds.
    pub took_ns: u64,
    /// Duration of each phase after the wait, in nanoseconds and in the order of
    /// [`TurnPhase::WORK`].
    pub phases_ns: [u64; TurnPhase::WORK.len()],
}

/// Reason why the wait of a poll has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitUntil {
    /// Nothing: the loop waits for an event.
    Event,
    /// Work was carried, so the poll only asks for events and does not wait.
    Carried,
    /// The deadline of a connection.
    Deadline(ConnId),
    /// The deadline of a watched object.
    WatchDeadline(WatchId),
    /// Accepting goes on: at once if a listener is not drained, or at the end of a pause.
    Accept,
    /// The access log is flushed.
    LogFlush,
    /// The file cache is swept.
    CacheSweep,
    /// The drain timeout of a graceful stop ends.
    Stop,
    /// The next frame of the live view is due.
    Frame,
}

/// One of the phases of a turn, in the order of `Reactor::turn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnPhase {
    /// 1: waits in the poll.
    Wait,
    /// 2: applies results, advances watched objects and acts on signals.
    Results,
    /// 3: reads, answers and writes connections with an event.
    Ready,
    /// 4: pumps connections that were carried or have a result.
    Carried,
    /// 5: acts on deadlines.
    Deadlines,
    /// 6: accepts clients.
    Accept,
    /// 7: frees slots and does periodic work.
    Free,
}

impl TurnPhase {
    /// The phases after the wait, in their order.
    pub const WORK: [TurnPhase; 6] = [
        TurnPhase::Results,
        TurnPhase::Ready,
        TurnPhase::Carried,
        TurnPhase::Deadlines,
        TurnPhase::Accept,
        TurnPhase::Free,
    ];

    /// Returns the name of the phase in both forms of a step.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TurnPhase::Wait => "wait",
            TurnPhase::Results => "results",
            TurnPhase::Ready => "ready",
            TurnPhase::Carried => "carried",
            TurnPhase::Deadlines => "deadlines",
            TurnPhase::Accept => "accept",
            TurnPhase::Free => "free",
        }
    }
}

/// Readiness of a socket, as a poll reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketReport {
    /// Bytes, the end of input, or an error can be read.
    pub readable: bool,
    /// A write would take bytes or fail at once.
    pub writable: bool,
    /// The peer has shut its sending side, or has sent an urgent byte (tcp(7)). A read stops before
    /// either, so a short read does not mean that the socket is drained.
    pub read_closed: bool,
    /// Both sides are shut: nothing that is sent arrives.
    pub hung_up: bool,
}

/// An event, as the kernel reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Readiness of a connection.
    Ready {
        /// Name of the connection, which may be closed already.
        id: ConnId,
        /// Readiness of its socket.
        ready: SocketReport,
    },
    /// Readiness of a watched object.
    Watched(WatchId),
    /// A listener has clients waiting.
    Listener(u32),
    /// The inbox contains results or wake-ups.
    Inbox,
    /// A signal was received.
    Signal(&'static str),
}

/// One call that moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// The connection.
    pub id: ConnId,
    /// Bytes that the call asked for.
    pub asked: u64,
    /// Bytes that it moved.
    pub got: u64,
    /// Why it moved no more.
    pub stop: Stop,
}

impl Transfer {
    /// Describes a read of at most `asked` bytes. 0 bytes are the end of input.
    #[must_use]
    pub fn read(id: ConnId, asked: usize, got: &io::Result<usize>) -> Self {
        let stop = match got {
            Ok(0) => Stop::EndOfInput,
            Ok(bytes) if bytes < &asked => Stop::Short,
            Ok(_) => Stop::Done,
            Err(error) => Stop::of(error),
        };
        Transfer { id, asked: asked as u64, got: got.as_ref().map_or(0, |&bytes| bytes as u64), stop }
    }

    /// Describes a write of at most `asked` bytes.
    #[must_use]
    pub fn written(id: ConnId, asked: u64, sent: &io::Result<usize>) -> Self {
        let got = sent.as_ref().map_or(0, |&bytes| bytes as u64);
        let stop = match sent {
            Ok(_) if got < asked => Stop::Short,
            Ok(_) => Stop::Done,
            Err(error) => Stop::of(error),
        };
        Transfer { id, asked, got, stop }
    }
}

/// Why an operation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The call did everything that it was asked for.
    Done,
    /// The call moved fewer bytes than asked: a read has drained the socket, a write has filled it.
    Short,
    /// The kernel had nothing to give or no room. An event follows when that changes.
    WouldBlock,
    /// The peer has shut its sending side, or a file ended.
    EndOfInput,
    /// The budget of this turn is used up.
    Budget,
    /// A signal interrupted the call. The loop calls again.
    Interrupted,
    /// The part of the file is not in memory, and the loop must not wait for the disk.
    NotInMemory,
    /// No descriptor or slot is left.
    Exhausted,
    /// The peer has reset the connection.
    Reset,
    /// Another error.
    Error,
}

impl Stop {
    /// All reasons.
    pub const ALL: [Stop; 10] = [
        Stop::Done,
        Stop::Short,
        Stop::WouldBlock,
        Stop::EndOfInput,
        Stop::Budget,
        Stop::Interrupted,
        Stop::NotInMemory,
        Stop::Exhausted,
        Stop::Reset,
        Stop::Error,
    ];

    /// Returns the reason that an error of a call stands for.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock => Stop::WouldBlock,
            ErrorKind::Interrupted => Stop::Interrupted,
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected => Stop::Reset,
            _ => Stop::Error,
        }
    }

    /// Returns the name of the reason in both forms of a step.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stop::Done => "done",
            Stop::Short => "short",
            Stop::WouldBlock => "would-block",
            Stop::EndOfInput => "end-of-input",
            Stop::Budget => "budget",
            Stop::Interrupted => "interrupted",
            Stop::NotInMemory => "not-in-memory",
            Stop::Exhausted => "exhausted",
            Stop::Reset => "reset",
            Stop::Error => "error",
        }
    }
}

/// Name of a connection or of a watched object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// A connection.
    Conn(ConnId),
    /// A watched object.
    Watch(WatchId),
}

impl std::fmt::Display for Name {
    /// A watched object has its own slots, so its name begins with `w`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Conn(id) => write!(f, "{id}"),
            Name::Watch(id) => write!(f, "w{id}"),
        }
    }
}

/// A result from the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResultKind {
    /// A job has ended.
    Finished,
    /// A job panicked.
    Panicked,
    /// A body source has more, or a task is done.
    Woken,
    /// The permit of the connection may have moved to another client.
    Evicted,
}

impl ResultKind {
    /// Returns the name of the kind in both forms of a step.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ResultKind::Finished => "finished",
            ResultKind::Panicked => "panicked",
            ResultKind::Woken => "woken",
            ResultKind::Evicted => "evicted",
        }
    }
}

/// The state of a connection whose entry in the queue of deadlines came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadlineFound {
    /// The deadline has passed.
    Due,
    /// The deadline has moved to a later time.
    Early,
    /// The connection waits for nothing that has a deadline.
    Nothing,
}

impl DeadlineFound {
    /// Returns the name of the state in both forms of a step.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeadlineFound::Due => "due",
            DeadlineFound::Early => "early",
            DeadlineFound::Nothing => "nothing",
        }
    }
}

/// The place that still held a name whose owner was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An event of the kernel.
    Event,
    /// A result of a job, or a wake-up.
    Result,
    /// An entry in the queue of deadlines.
    Deadline,
    /// The list of carried connections.
    Carried,
}

impl Holder {
    /// Returns the name of the holder in both forms of a step.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Holder::Event => "event",
            Holder::Result => "result",
            Holder::Deadline => "deadline",
            Holder::Carried => "carried",
        }
    }
}

/// A fact about the clients and the kernel of a simulation, which a server cannot observe. Clients
/// have numbers, and the record of the simulation has their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// A client connects.
    Connects(u32),
    /// The loop has given this connection to the client.
    Is(u32, ConnId),
    /// A client sends bytes.
    Sends(u32, u64),
    /// A client reads bytes.
    Reads(u32, u64),
    /// A client shuts its sending side.
    Shuts(u32),
    /// A client resets its connection.
    Resets(u32),
    /// A worker begins the job of a connection.
    JobBegins(ConnId),
    /// The job of a connection ends, and its result is on the way.
    JobEnds(ConnId),
    /// A wake-up of the loop fails.
    WakeUpFails,
    /// The loop checks its inbox without a wake-up.
    InboxChecked,
    /// The operating system does something that is rare and allowed; the name of the fault.
    Fault(&'static str),
}

impl Step {
    /// Returns the connection that the step is about.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        match *self {
            Step::Event(Event::Ready { id, .. })
            | Step::Accept { accepted: Ok(id), .. }
            | Step::Read(Transfer { id, .. })
            | Step::Write(Transfer { id, .. })
            | Step::Sendfile(Transfer { id, .. })
            | Step::Register { name: Name::Conn(id), .. }
            | Step::Respond { id, .. }
            | Step::Job { id }
            | Step::Result { id, .. }
            | Step::Advance { conn: id, .. }
            | Step::Deadline { id, .. }
            | Step::Carry { id }
            | Step::Panic { id }
            | Step::Shut { id, .. }
            | Step::Close { id, .. }
            | Step::Free { id }
            | Step::Stale { name: Name::Conn(id), .. }
            | Step::Fact(Fact::Is(_, id) | Fact::JobBegins(id) | Fact::JobEnds(id)) => Some(id),
            Step::Event(Event::Watched(_) | Event::Listener(_) | Event::Inbox | Event::Signal(_))
            | Step::Accept { accepted: Err(_), .. }
            | Step::Register { name: Name::Watch(_), .. }
            | Step::Stale { name: Name::Watch(_), .. }
            | Step::TurnStart { .. }
            | Step::Phase(_)
            | Step::TurnEnd(_)
            | Step::Fact(
                Fact::Connects(_)
                | Fact::Sends(..)
                | Fact::Reads(..)
                | Fact::Shuts(_)
                | Fact::Resets(_)
                | Fact::WakeUpFails
                | Fact::InboxChecked
                | Fact::Fault(_),
            ) => None,
        }
    }

    /// Returns why the operation stopped, if the step is one that stops.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        match *self {
            Step::Accept { accepted, .. } => Some(accepted.err().unwrap_or(Stop::Done)),
            Step::Read(transfer) | Step::Write(transfer) | Step::Sendfile(transfer) => Some(transfer.stop),
            Step::Register { stop, .. } | Step::Shut { stop, .. } => Some(stop),
            Step::Carry { .. } => Some(Stop::Budget),
            Step::TurnStart { .. }
            | Step::Phase(_)
            | Step::Event(_)
            | Step::Respond { .. }
            | Step::Job { .. }
            | Step::Result { .. }
            | Step::Advance { .. }
            | Step::Deadline { .. }
            | Step::Panic { .. }
            | Step::Close { .. }
            | Step::Free { .. }
            | Step::Stale { .. }
            | Step::TurnEnd(_)
            | Step::Fact(_) => None,
        }
    }

    /// Returns the word for the step in both forms.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Step::TurnStart { .. } => "turn",
            Step::Phase(_) => "phase",
            Step::Event(_) => "event",
            Step::Accept { .. } => "accept",
            Step::Read(_) => "read",
            Step::Write(_) => "write",
            Step::Sendfile(_) => "sendfile",
            Step::Register { .. } => "register",
            Step::Respond { .. } => "respond",
            Step::Job { .. } => "job",
            Step::Result { .. } => "result",
            Step::Advance { .. } => "advance",
            Step::Deadline { .. } => "deadline",
            Step::Carry { .. } => "carry",
            Step::Panic { .. } => "panic",
            Step::Shut { .. } => "shut",
            Step::Close { .. } => "close",
            Step::Free { .. } => "free",
            Step::Stale { .. } => "stale",
            Step::TurnEnd(_) => "turn-end",
            Step::Fact(_) => "fact",
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
