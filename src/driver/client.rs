//! One connection as its driver stores it: the state of the protocol, the readiness of the socket,
//! and a [`Work`] record while the connection is busy.
//!
//! The methods only answer questions about that state. This file must not know streams or handlers.

use crate::clock::Instant;
use crate::config::Config;
use crate::conn_id::Peer;
use crate::driver::work::{Held, RequestState, Residency, Source, Work};
use crate::handler::watch::Watch;
use crate::http::connection::Outside;
use crate::http::{Connection, Phase};
use crate::jobs::pace::Pace;
use crate::observe::live::{RequestLabel, WaitsFor};

/// Readiness that the kernel reported, until a call returns would-block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read may return bytes, the end of input, or an error.
    pub readable: bool,
    /// A write may take bytes.
    pub writable: bool,
    /// The peer has shut its side, or has sent an urgent byte. The end of input, or further bytes,
    /// follow the bytes in the socket, and no further event reports them.
    pub read_closed: bool,
}

impl Readiness {
    /// Readiness of a connection that was just accepted. Nothing is known about it, so both
    /// directions are tried.
    #[must_use]
    pub const fn fresh() -> Self {
        Readiness { readable: true, writable: true, read_closed: false }
    }
}

/// One connection as its driver stores it, without the stream.
#[derive(Debug)]
pub struct Client {
    pub(crate) conn: Connection,
    pub(crate) ready: Readiness,
    /// State that only a busy connection needs.
    pub(crate) work: Option<Box<Work>>,
    pub(crate) peer: Peer,
}

impl Client {
    /// Creates the state of a connection that was accepted at the time `now`.
    #[must_use]
    pub fn new(peer: Peer, now: Instant) -> Self {
        Client { conn: Connection::new(now), ready: Readiness::fresh(), work: None, peer }
    }

    /// Returns true if output waits for the socket.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !work.out.is_empty())
    }

    /// Returns the output that waits for the socket, in bytes.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.out.len())
    }

    /// Returns true if a job or a watched object has to finish before the request can continue.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.work
            .as_ref()
            .is_some_and(|work| matches!(work.request, RequestState::Draining { .. } | RequestState::Waiting))
    }

    /// Returns true if the connection only waits for its next request, and a read may return input.
    pub(crate) fn is_ready_to_ask(&self) -> bool {
        self.ready.readable && self.work.is_none() && self.conn.awaits_request()
    }

    /// Returns true if the connection is between two requests and has no state of either.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.work.is_none() && self.conn.is_between_requests()
    }

    /// Returns the watched object of this connection, if there is one.
    pub(crate) fn watch(&mut self) -> Option<&mut Watch> {
        self.work.as_mut()?.watch.as_mut()
    }

    /// Returns true if a part of the response is made or read elsewhere, and a wake-up will report
    /// it.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.work.as_ref().is_some_and(|work| {
            work.residency == Residency::Fetching || matches!(work.source, Source::Resting(_))
        })
    }

    /// Returns true if output can be written to the socket. While its next part is read from the
    /// disk, it cannot.
    #[must_use]
    pub fn is_sendable(&self) -> bool {
        self.is_queued() && self.work.as_ref().is_some_and(|work| work.residency != Residency::Fetching)
    }

    /// Returns how fast the peer sends the head or the content that the connection waits for;
    /// `None` if it waits for neither.
    pub(crate) fn pace(&self) -> Option<Pace> {
        match self.phase() {
            Phase::ReceivingHead => Some(Pace::since(self.conn.since(), 0)),
            Phase::ReceivingBody => {
                let known = self.work.as_ref().and_then(|work| work.pace);
                // Discarded content has no measured pace, only a number of bytes.
                Some(known.unwrap_or_else(|| Pace::since(self.conn.since(), self.conn.received_bytes())))
            }
            Phase::Idle
            | Phase::Handling
            | Phase::Sending
            | Phase::Streaming
            | Phase::Lingering
            | Phase::Closed => None,
        }
    }

    /// Returns true if the connection holds input in a buffer.
    #[must_use]
    pub fn holds_buffer(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !matches!(work.held, Held::Nothing))
    }

    /// Returns true if the connection holds a part of a head or of a chunk line, and waits for the
    /// rest.
    pub(crate) fn holds_part(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.held, Held::Partial(_)))
    }

    /// Returns true if the content of the current request is collected in memory.
    pub(crate) fn is_collecting(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.request, RequestState::Collecting { .. }))
    }

    /// Returns the label of the request under way. Empty for a request that was answered at once.
    pub(crate) fn label(&self) -> Option<&RequestLabel> {
        self.work.as_ref().map(|work| &work.label)
    }

    /// Returns what the connection waits for outside the protocol.
    pub(crate) fn outside(&self) -> Outside {
        match &self.work {
            None => Outside::Nothing,
            Some(work) if !work.out.is_empty() => Outside::Output,
            Some(work) => match work.request {
                RequestState::Nothing | RequestState::Collecting { .. } | RequestState::Sinking { .. } => {
                    Outside::Nothing
                }
                RequestState::Draining { .. } | RequestState::Waiting => Outside::Job,
            },
        }
    }

    /// Returns what the connection waits for, for views of the loop.
    pub(crate) fn waits_for(&self) -> WaitsFor {
        match self.phase() {
            Phase::Idle => WaitsFor::Request,
            Phase::ReceivingHead => WaitsFor::Head,
            Phase::ReceivingBody => WaitsFor::Content,
            Phase::Lingering | Phase::Closed => WaitsFor::End,
            Phase::Handling => match self.work.as_ref().is_some_and(|work| work.watch.is_some()) {
                true => WaitsFor::Program,
                false => WaitsFor::Job,
            },
            Phase::Sending | Phase::Streaming => match &self.work {
                Some(work) if work.residency == Residency::Fetching => WaitsFor::Disk,
                Some(_) if self.is_queued() && !self.ready.writable => WaitsFor::Room,
                Some(work) if matches!(work.source, Source::Resting(_)) => WaitsFor::Source,
                Some(_) | None => WaitsFor::Turn,
            },
        }
    }

    /// Returns the current phase of the connection.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.conn.phase(self.outside())
    }

    /// Returns when the current phase times out; `None` if it has no deadline.
    #[must_use]
    pub fn deadline(&self, config: &Config) -> Option<Instant> {
        let outside = self.outside();
        let watch = self.work.as_ref().and_then(|work| work.watch.as_ref());
        if outside == Outside::Job && watch.is_some_and(|watch| watch.watched.brings_answer()) {
            // The watched object keeps its own deadline.
            return None;
        }
        self.conn.deadline(outside, &config.timeouts, config.limits.rate_min_bytes)
    }
}
