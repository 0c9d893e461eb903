//! The record of a busy connection: output, held input, the task in hand, the source of its content.
//!
//! A driver keeps spare records and lends one to each connection that becomes busy. This file must
//! not know streams.

use std::collections::VecDeque;

use crate::conn_id::WatchId;
use crate::driver::access::{Line, Note};
use crate::driver::pool::Loan;
use crate::handler::watch::Watch;
use crate::handler::{BodySink, Extra, WithContent};
use crate::http::BodySource;
use crate::http::send_queue::SendQueue;
use crate::jobs::pace::Pace;

/// What only a busy connection needs. Taken from a list of spare ones, so a request costs no
/// allocation.
#[derive(Default)]
pub struct Work {
    pub(crate) out: SendQueue,
    pub(super) held: Held,
    pub(super) task: Task,
    pub(super) source: Source,
    /// Whether the file in front of the queue is in the kernel's memory.
    pub(super) warmth: Warmth,
    /// What its driver watches for it, beside its socket.
    pub(super) watch: Option<Watch>,
    /// Fields for the answer that is still to be made, and whose it is. Boxed like the note: both
    /// are rare or large.
    pub(super) extra: Option<Box<Extra>>,
    /// Lines for the access log, of answers that the client has not taken whole.
    pub(super) lines: VecDeque<Line>,
    pub(super) note: Option<Box<Note>>,
    /// One that has become a line, for the next request.
    pub(super) spare_note: Option<Box<Note>>,
    /// What the sink in hand still takes, in bytes, also while a job has it.
    pub(super) sink_room: Option<u64>,
    /// How fast content comes that is taken.
    pub(super) pace: Option<Pace>,
}

/// Input that was received and not used.
#[derive(Debug, Default)]
pub(super) enum Held {
    /// None.
    #[default]
    Nothing,
    /// Part of something: worth a look only when more has come.
    Partial(Loan),
    /// Whole requests may be among it: to be looked at when the connection can go on.
    Unread(Loan),
}

/// What becomes of the request in hand.
#[derive(Default)]
pub(super) enum Task {
    /// Nothing is under way.
    #[default]
    Nothing,
    /// Its content is collected in memory.
    Collecting { content: Vec<u8>, bytes_max: u64, then: WithContent },
    /// Its content goes into a sink.
    Sinking(Box<dyn BodySink>),
    /// A job is making the answer, or room in a sink that it took along.
    Waiting,
}

/// Where the content of the answer under way comes from.
#[derive(Default)]
pub(super) enum Source {
    /// It is all queued.
    #[default]
    Nothing,
    /// This can be asked for more.
    Ready(Box<dyn BodySource>),
    /// This has nothing at the moment and will have us woken.
    Resting(Box<dyn BodySource>),
}

/// What is known of the file part in front of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Warmth {
    /// Nothing: the kernel is asked before it is sent.
    #[default]
    Unknown,
    /// It is being read from the disk; sending waits.
    Warming,
    /// It was just read: send it, even if the kernel had to drop it again meanwhile.
    Warmed,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let task = match self.task {
            Task::Nothing => "nothing",
            Task::Collecting { .. } => "collecting",
            Task::Sinking(_) => "sinking",
            Task::Waiting => "waiting",
        };
        f.debug_struct("Work")
            .field("queued", &self.out.len())
            .field("held", &self.held)
            .field("task", &task)
            .finish()
    }
}

impl Work {
    pub(crate) fn take_held(&mut self) -> Option<Loan> {
        match std::mem::take(&mut self.held) {
            Held::Nothing => None,
            Held::Partial(loan) | Held::Unread(loan) => Some(loan),
        }
    }

    pub(crate) fn collected_bytes(&self) -> usize {
        match &self.task {
            Task::Collecting { content, .. } => content.len(),
            Task::Nothing | Task::Sinking(_) | Task::Waiting => 0,
        }
    }

    pub(crate) fn clear(&mut self, keep_bytes: usize) {
        self.out.reset(keep_bytes);
        self.task = Task::Nothing;
        self.source = Source::Nothing;
        self.warmth = Warmth::Unknown;
        self.extra = None;
        if !self.lines.is_empty() {
            self.lines.clear();
        }
        self.note = None;
        self.sink_room = None;
        self.pace = None;
    }

    /// Abandons what is watched, if anything is; returns its name.
    pub(crate) fn let_go(&mut self) -> Option<WatchId> {
        self.watch.take().and_then(|watch| watch.name)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.out.is_empty()
            && matches!(self.held, Held::Nothing)
            && matches!(self.task, Task::Nothing)
            && matches!(self.source, Source::Nothing)
    }

    /// Takes out a loan that waits for more input.
    pub(crate) fn take_partial(&mut self) -> Option<Loan> {
        match std::mem::take(&mut self.held) {
            Held::Partial(loan) => Some(loan),
            other => {
                self.held = other;
                None
            }
        }
    }

    pub(crate) fn holds_unread(&self) -> bool {
        matches!(self.held, Held::Unread(_))
    }

    /// Reports the pace of the content in hand to the places that it holds.
    pub(super) fn report_pace(&self) {
        if let (Task::Sinking(sink), Some(pace)) = (&self.task, self.pace) {
            report(&**sink, pace);
        }
    }

    /// True if the content in hand has lost one of its places.
    pub(super) fn gives_way(&self) -> bool {
        matches!(&self.task, Task::Sinking(sink) if sink.seats().iter().flatten().any(|seat| seat.gives_way()))
    }
}

/// Reports the pace of content to the places that its sink holds.
pub(super) fn report(sink: &dyn BodySink, pace: Pace) {
    for seat in sink.seats().into_iter().flatten() {
        seat.report(pace);
    }
}

/// Keeps the places of content that has come whole. False if one of them was lost before.
pub(super) fn settle(sink: &dyn BodySink) -> bool {
    sink.seats().into_iter().flatten().all(|seat| seat.settle())
}
