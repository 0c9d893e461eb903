//! One connection as its driver keeps it: the protocol's state, what is known about readiness, and
//! a [`Work`] record while it is busy.
//!
//! Everything here is a question about that state. This file must not know streams or handlers.

use std::time::Instant;

use crate::conn_id::Peer;
use crate::driver::work::{Held, Source, Task, Warmth, Work};
use crate::handler::watch::Watch;
use crate::http::{Connection, Phase};
use crate::jobs::pace::Pace;

/// What the kernel reported and nothing has denied since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read may find something: bytes, the end of input, or an error.
    pub readable: bool,
    /// A write may be taken.
    pub writable: bool,
    /// The peer has shut its side: the end of input is in the pipe, and no further event will say
    /// so.
    pub read_closed: bool,
    /// The end of input was read.
    pub ended: bool,
}

impl Readiness {
    /// Of a connection just accepted: nothing is known, so everything is worth a try.
    #[must_use]
    pub const fn fresh() -> Self {
        Readiness { readable: true, writable: true, read_closed: false, ended: false }
    }
}

/// One connection as its driver keeps it, without the stream.
#[derive(Debug)]
pub struct Client {
    pub(crate) conn: Connection,
    pub(crate) ready: Readiness,
    /// What only a busy connection needs.
    pub(crate) work: Option<Box<Work>>,
    pub(crate) peer: Peer,
}

impl Client {
    /// A connection accepted at the driver's present time.
    #[must_use]
    pub fn new(peer: Peer, now: Instant) -> Self {
        Client { conn: Connection::new(now), ready: Readiness::fresh(), work: None, peer }
    }

    /// Whether output waits for the socket.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !work.out.is_empty())
    }

    /// Output that waits for the socket, in bytes.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.out.len())
    }

    /// Whether a job holds the exchange up.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.task, Task::Waiting))
    }

    /// Whether all it needs is the next request, and there is something to read.
    pub(crate) fn is_ready_to_ask(&self) -> bool {
        self.ready.readable && self.work.is_none() && self.conn.awaits_request()
    }

    /// Whether it is between two requests, with nothing of either left.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.work.is_none() && self.conn.is_between_requests()
    }

    /// What is watched for it.
    pub(crate) fn watch(&mut self) -> Option<&mut Watch> {
        self.work.as_mut()?.watch.as_mut()
    }

    /// Whether part of its answer is being made elsewhere, and a wake-up will tell.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.work
            .as_ref()
            .is_some_and(|work| work.warmth == Warmth::Warming || matches!(work.source, Source::Resting(_)))
    }

    /// Whether output could be given to the socket: not while its next part is fetched from the
    /// disk.
    #[must_use]
    pub fn is_sendable(&self) -> bool {
        self.is_queued() && self.work.as_ref().is_some_and(|work| work.warmth != Warmth::Warming)
    }

    /// How fast its peer brings what it waits for: a head, or content. `None` if it waits for
    /// neither.
    pub(crate) fn pace(&self) -> Option<Pace> {
        match self.phase() {
            Phase::ReceivingHead => Some(Pace::since(self.conn.since(), 0)),
            Phase::ReceivingBody => {
                let known = self.work.as_ref().and_then(|work| work.pace);
                // Content that nobody takes is only counted.
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

    /// Whether it holds input on loan.
    #[must_use]
    pub fn holds_loan(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !matches!(work.held, Held::Nothing))
    }

    /// True if it holds part of something, and waits for the rest.
    pub(crate) fn holds_part(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.held, Held::Partial(_)))
    }

    /// True if its content is kept in memory as it comes.
    pub(crate) fn is_collecting(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.task, Task::Collecting { .. }))
    }

    /// The phase it is in.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.conn.phase(self.is_queued())
    }

    /// When that phase gives up.
    #[must_use]
    pub fn deadline(&self, config: &crate::config::Config) -> Option<Instant> {
        let watch = self.work.as_ref().and_then(|work| work.watch.as_ref());
        let is_timed = watch.is_some_and(|watch| watch.watched.brings_answer());
        if is_timed && self.is_waiting() && !self.is_queued() {
            // What is watched keeps its own time.
            return None;
        }
        let rate = config.limits.rate_min_bytes;
        self.conn.deadline(self.is_queued(), self.is_waiting(), &config.timeouts, rate)
    }
}
