//! The record of a busy connection: output, held input, the state of the current request, and the
//! source of the response content.
//!
//! A driver keeps spare records and lends one to each connection that becomes busy, so a request
//! costs no allocation. This file must not know streams.

use std::collections::VecDeque;

use crate::conn_id::WatchId;
use crate::driver::access::{Line, Note};
use crate::driver::pool::PooledBuffer;
use crate::handler::pending::Pending;
use crate::handler::watch::Watch;
use crate::handler::{BodySink, WithContent};
use crate::http::BodySource;
use crate::http::send_queue::SendQueue;
use crate::jobs::pace::Pace;
use crate::observe::live::RequestLabel;
use crate::pages::error::ErrorForm;

/// State that only a busy connection needs.
#[derive(Default)]
pub struct Work {
    pub(crate) out: SendQueue,
    pub(super) held: Held,
    pub(super) request: RequestState,
    pub(super) source: Source,
    /// Residency of the file part at the front of the queue.
    pub(super) residency: Residency,
    /// The object that is watched for this connection in addition to its socket.
    pub(super) watch: Option<Watch>,
    /// Changes that handlers requested for the response that is due.
    pub(super) pending: Pending,
    /// Form of the response to the current request, if that is an error. Valid unless the response
    /// came at once and was none.
    pub(super) error_form: ErrorForm,
    /// Access log lines of responses that are not sent completely.
    pub(super) lines: VecDeque<Line>,
    /// Note of the current request for the access log.
    pub(super) note: Option<Box<Note>>,
    /// A note of a finished request, reused for the next one.
    pub(super) spare_note: Option<Box<Note>>,
    /// The last request, while its response takes more than one step.
    pub(super) label: RequestLabel,
    /// How fast the content of the current request arrives.
    pub(super) pace: Option<Pace>,
}

/// Input that was received and not used.
#[derive(Debug, Default)]
pub(super) enum Held {
    /// No input.
    #[default]
    Nothing,
    /// A part of a head or of a chunk line. Parsing waits for more input.
    Partial(PooledBuffer),
    /// Input that may contain whole requests. Parsing continues when the connection may proceed.
    Unread(PooledBuffer),
}

/// State of the current request between its head and its response.
#[derive(Default)]
pub(super) enum RequestState {
    /// No content is expected and nothing is waited for.
    #[default]
    Nothing,
    /// The content is collected in memory.
    Collecting { content: Vec<u8>, bytes_max: u64, then: WithContent },
    /// The content goes into a sink, which still accepts `room` bytes.
    Sinking { sink: Box<dyn BodySink>, room: u64 },
    /// A job has the sink, to make room in its buffers. The sink still accepts `room` bytes.
    Draining { room: u64 },
    /// A job or a watched object makes the response.
    Waiting,
}

/// Source of the content of the current response.
#[derive(Default)]
pub(super) enum Source {
    /// All content is queued.
    #[default]
    Nothing,
    /// The source can be called for more content.
    Ready(Box<dyn BodySource>),
    /// The source has no content at the moment and will send a wake-up.
    Resting(Box<dyn BodySource>),
}

/// Residency of the file part at the front of the queue: whether the kernel has it in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Residency {
    /// Unknown. The kernel is asked before the part is sent.
    #[default]
    Unknown,
    /// A worker reads the part from the disk. Sending waits.
    Fetching,
    /// The part was just read. It is sent without another check, even if the kernel has dropped it
    /// again.
    Fetched,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.request {
            RequestState::Nothing => "nothing",
            RequestState::Collecting { .. } => "collecting",
            RequestState::Sinking { .. } => "sinking",
            RequestState::Draining { .. } => "draining",
            RequestState::Waiting => "waiting",
        };
        f.debug_struct("Work")
            .field("queued", &self.out.len())
            .field("held", &self.held)
            .field("request", &state)
            .finish()
    }
}

impl Work {
    /// Takes out the held input.
    pub(crate) fn take_held(&mut self) -> Option<PooledBuffer> {
        match std::mem::take(&mut self.held) {
            Held::Nothing => None,
            Held::Partial(buffer) | Held::Unread(buffer) => Some(buffer),
        }
    }

    /// Returns the size of the content collected in memory, in bytes.
    pub(crate) fn collected_bytes(&self) -> usize {
        match &self.request {
            RequestState::Collecting { content, .. } => content.len(),
            RequestState::Nothing
            | RequestState::Sinking { .. }
            | RequestState::Draining { .. }
            | RequestState::Waiting => 0,
        }
    }

    /// Resets the record for the next connection. The send queue keeps at most `keep_bytes` of
    /// memory.
    pub(crate) fn clear(&mut self, keep_bytes: usize) {
        self.out.reset(keep_bytes);
        self.request = RequestState::Nothing;
        self.source = Source::Nothing;
        self.residency = Residency::Unknown;
        self.label.clear();
        self.pending.clear();
        if !self.lines.is_empty() {
            self.lines.clear();
        }
        self.note = None;
        self.pace = None;
    }

    /// Ends the wait for a job. A job that has made room in a sink usually returns the sink, so its
    /// room is kept.
    pub(super) fn end_wait(&mut self) {
        if matches!(self.request, RequestState::Waiting) {
            self.request = RequestState::Nothing;
        }
    }

    /// Abandons the watched object, if there is one, and returns its name.
    pub(crate) fn abandon_watch(&mut self) -> Option<WatchId> {
        self.watch.take().and_then(|watch| watch.name)
    }

    /// Returns true if the record contains nothing that the connection needs.
    pub(super) fn is_spent(&self) -> bool {
        self.out.is_empty()
            && matches!(self.held, Held::Nothing)
            && matches!(self.request, RequestState::Nothing)
            && matches!(self.source, Source::Nothing)
    }

    /// Takes out a buffer whose input waits for more.
    pub(crate) fn take_partial(&mut self) -> Option<PooledBuffer> {
        match std::mem::take(&mut self.held) {
            Held::Partial(buffer) => Some(buffer),
            other => {
                self.held = other;
                None
            }
        }
    }

    /// Returns true if the held input may contain whole requests.
    pub(crate) fn holds_unread(&self) -> bool {
        matches!(self.held, Held::Unread(_))
    }

    /// Reports the pace of the current content to the permits that its sink holds.
    pub(super) fn report_pace(&self) {
        if let (RequestState::Sinking { sink, .. }, Some(pace)) = (&self.request, self.pace) {
            report(&**sink, pace);
        }
    }

    /// Returns true if the sink of the current content has lost one of its permits.
    pub(super) fn is_evicted(&self) -> bool {
        let RequestState::Sinking { sink, .. } = &self.request else { return false };
        sink.holders().iter().flatten().any(|holder| holder.is_evicted())
    }
}

/// Reports the pace of content to the permits that its sink holds.
pub(super) fn report(sink: &dyn BodySink, pace: Pace) {
    for holder in sink.holders().into_iter().flatten() {
        holder.report(pace);
    }
}

/// Keeps the permits of content that has arrived completely. Returns false if one of them was lost
/// before.
pub(super) fn settle(sink: &dyn BodySink) -> bool {
    sink.holders().into_iter().flatten().all(|holder| holder.settle())
}
