//! The phase of a connection, and its deadline: functions of the state, never stored.
//!
//! This file must not know how a connection gets from one state to the next.

use std::time::Duration;

use super::{Connection, Reading, Writing};
use crate::clock::Instant;
use crate::config::Timeouts;
use crate::http::error::{CloseReason, ProtocolError};
use crate::http::status::Status;

/// Readable name of the state of both halves. Deadlines, statistics and logs use only this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Kept alive between requests.
    Idle,
    /// A head is incomplete.
    ReceivingHead,
    /// Request content is due.
    ReceivingBody,
    /// The response is being made.
    Handling,
    /// Queued output waits for the client.
    Sending,
    /// The source of the response content has no bytes at the moment.
    Streaming,
    /// Reading and dropping input after the last response.
    Lingering,
    /// No byte is read or sent any more.
    Closed,
}

impl Phase {
    /// All phases.
    pub const ALL: [Phase; 8] = [
        Phase::Idle,
        Phase::ReceivingHead,
        Phase::ReceivingBody,
        Phase::Handling,
        Phase::Sending,
        Phase::Streaming,
        Phase::Lingering,
        Phase::Closed,
    ];

    /// Name of the phase in logs and statistics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::ReceivingHead => "receiving_head",
            Phase::ReceivingBody => "receiving_body",
            Phase::Handling => "handling",
            Phase::Sending => "sending",
            Phase::Streaming => "streaming",
            Phase::Lingering => "lingering",
            Phase::Closed => "closed",
        }
    }
}

/// The wait of a connection outside the protocol. The driver knows it, and the connection does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Nothing: the connection waits for its peer or its handler.
    Nothing,
    /// A job or a watched object has to finish before the request can continue.
    Job,
    /// Queued output waits for the socket. A job may be under way, too.
    Output,
}

/// Action that the driver must take for a connection whose deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// Send this error as the response and close.
    Refuse(ProtocolError, CloseReason),
    /// End the connection without a response.
    End(Teardown),
}

/// The end of a connection that gets no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teardown {
    /// Close the connection.
    Close(CloseReason),
    /// Close so that the kernel drops the bytes that it still holds.
    Reset(CloseReason),
}

impl Connection {
    /// The current phase.
    #[must_use]
    pub fn phase(&self, outside: Outside) -> Phase {
        if outside == Outside::Output {
            return Phase::Sending;
        }
        match (&self.writing, &self.reading) {
            (Writing::Body(_), _) => Phase::Streaming,
            (Writing::Owed(_), Reading::Body(_)) => Phase::ReceivingBody,
            (Writing::Owed(_), _) => Phase::Handling,
            (Writing::Broken(_), _) => Phase::Closed,
            (Writing::Idle | Writing::Done, Reading::Idle { .. }) => Phase::Idle,
            (Writing::Idle | Writing::Done, Reading::Head { .. }) => Phase::ReceivingHead,
            (Writing::Idle | Writing::Done, Reading::Body(_) | Reading::Discard(_)) => Phase::ReceivingBody,
            (Writing::Idle | Writing::Done, Reading::Lingering { .. }) => Phase::Lingering,
            (Writing::Idle | Writing::Done, Reading::Done | Reading::Closed) => Phase::Closed,
        }
    }

    /// End of the current phase; `None` if it may last for ever. Call again after each step.
    ///
    /// `rate_min` is the least rate in bytes per second, 0 for none.
    #[must_use]
    pub fn deadline(&self, outside: Outside, timeouts: &Timeouts, rate_min: u64) -> Option<Instant> {
        let Progress { since, bytes, .. } = self.progress;
        let last = || self.progress.last();
        // The timeout bounds the time without a byte. The least rate bounds the whole phase, so a
        // single byte now and then does not keep a connection for ever.
        let moving = |timeout: Option<Duration>| {
            let silence = timeout?;
            let silent_until = last() + silence;
            if rate_min == 0 {
                return Some(silent_until);
            }
            let earned = Duration::from_millis(u64::from(bytes) * 1000 / rate_min);
            Some(since.checked_add(silence + earned).map_or(silent_until, |until| until.min(silent_until)))
        };
        match self.phase(outside) {
            Phase::Idle => timeouts.idle.map(|idle| last() + idle),
            Phase::ReceivingHead => timeouts.header.map(|header| since + header),
            // The client is not slow while a job holds its content back.
            Phase::ReceivingBody | Phase::Handling if outside == Outside::Job => {
                timeouts.answer.map(|answer| last() + answer)
            }
            Phase::ReceivingBody => moving(timeouts.body),
            Phase::Sending => moving(timeouts.send),
            Phase::Lingering => Some(since + timeouts.linger),
            Phase::Handling => timeouts.answer.map(|answer| last() + answer),
            Phase::Streaming => None,
            Phase::Closed => Some(since + timeouts.linger),
        }
    }

    /// Action to take now that the deadline has passed.
    #[must_use]
    pub fn expired(&self, outside: Outside) -> Expired {
        let timed_out = |reason| ProtocolError::new(Status::REQUEST_TIMEOUT, reason);
        match self.phase(outside) {
            Phase::Idle => Expired::End(Teardown::Close(CloseReason::IdleTimeout)),
            // No byte arrived: browsers open connections in advance, and there is no request that a
            // 408 would belong to.
            Phase::ReceivingHead if self.is_idle() => {
                Expired::End(Teardown::Close(CloseReason::HeaderTimeout))
            }
            Phase::ReceivingHead => Expired::Refuse(
                timed_out("the request head did not arrive in time"),
                CloseReason::HeaderTimeout,
            ),
            Phase::ReceivingBody if outside == Outside::Job => Expired::Refuse(
                ProtocolError::new(Status::SERVICE_UNAVAILABLE, "the response took too long"),
                CloseReason::AnswerTimeout,
            ),
            Phase::ReceivingBody if self.is_owed() => Expired::Refuse(
                timed_out("the request content did not arrive in time"),
                CloseReason::BodyTimeout,
            ),
            Phase::ReceivingBody => Expired::End(Teardown::Close(CloseReason::BodyTimeout)),
            Phase::Handling => Expired::Refuse(
                ProtocolError::new(Status::SERVICE_UNAVAILABLE, "the response took too long"),
                CloseReason::AnswerTimeout,
            ),
            Phase::Sending | Phase::Streaming => Expired::End(Teardown::Reset(CloseReason::SendTimeout)),
            Phase::Lingering | Phase::Closed => Expired::End(Teardown::Close(self.close_reason())),
        }
    }

    /// Bytes that the peer has sent or taken in the current phase.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.progress.bytes.into()
    }

    /// Start of the current phase.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.progress.since
    }
}

/// Start of the phase, its last progress, and the bytes moved since its start. Small, because each
/// idle connection has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pub(super) since: Instant,
    bytes: u32,
    /// Milliseconds from `since` to the last progress: half the size of a second instant.
    moved_after_ms: u32,
}

impl Progress {
    pub(super) fn starting(now: Instant) -> Self {
        Progress { since: now, bytes: 0, moved_after_ms: 0 }
    }

    pub(super) fn moved(&mut self, bytes: u64, now: Instant) {
        let Some(bytes) = u32::try_from(bytes).ok().and_then(|bytes| self.bytes.checked_add(bytes)) else {
            // After 4 GiB the measurement of the least rate starts again.
            *self = Progress::starting(now);
            return;
        };
        self.bytes = bytes;
        let ms = now.saturating_duration_since(self.since).as_millis();
        self.moved_after_ms = u32::try_from(ms).unwrap_or(u32::MAX);
    }

    pub(super) fn last(&self) -> Instant {
        // Called for each request, as a rule without progress since the start. This test costs less
        // than the addition.
        if self.moved_after_ms == 0 {
            return self.since;
        }
        self.since + Duration::from_millis(u64::from(self.moved_after_ms))
    }
}
