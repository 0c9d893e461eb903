//! Errors of the peer, and reasons why a connection ends.
//!
//! A [`ProtocolError`] is always the fault of the peer, and contains the status to respond with.
//! The driver closes the connection after it, and `Connection::refuse` takes the [`CloseReason`].
//! A [`Refusal`](crate::http::Refusal) responds to a valid request and is no reason to close.
//! Faults of the server are assertions or 500s, and "not yet" is a value elsewhere. This file must
//! not know how the response is sent.

use crate::http::status::Status;

/// A violation of the protocol by the peer. `status` is that of the response, `reason` a sentence
/// for people that contains no bytes of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolError {
    /// Status of the response.
    pub status: Status,
    /// Description of the fault in fixed words: safe to log and to show.
    pub reason: &'static str,
}

impl ProtocolError {
    /// An error with any status.
    #[must_use]
    pub const fn new(status: Status, reason: &'static str) -> Self {
        ProtocolError { status, reason }
    }

    /// An error with the usual status, 400.
    #[must_use]
    pub const fn bad_request(reason: &'static str) -> Self {
        ProtocolError::new(Status::BAD_REQUEST, reason)
    }
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status.code(), self.reason)
    }
}

impl std::error::Error for ProtocolError {}

/// Reason why a connection was closed. Each close has one. They are counted and logged under these
/// names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer shut down its side while no response was due: the ordinary end.
    PeerClosed,
    /// The peer shut down its side in the middle of a request.
    PeerTruncated,
    /// The peer reset the connection, or the socket reported an error.
    PeerReset,
    /// The request required it: `Connection: close`, or HTTP/1.0 without keep-alive.
    Requested,
    /// The handler requested it.
    Handler,
    /// A request broke the protocol. An error response was sent if possible.
    ProtocolError,
    /// Content was refused, and the rest of it was too large to read.
    BodyRefused,
    /// A kept-alive connection had no request for too long.
    IdleTimeout,
    /// No complete request head arrived in time.
    HeaderTimeout,
    /// Request content arrived too slowly.
    BodyTimeout,
    /// The client took the response too slowly, or not at all.
    SendTimeout,
    /// A response was not made in time.
    AnswerTimeout,
    /// The file that was being sent became shorter or unreadable.
    FileFailed,
    /// A handler, job or body source failed after the head was sent.
    HandlerFailed,
    /// Closed to free memory or a slot: too many connections, or no buffer for an incomplete
    /// request.
    Evicted,
    /// The server is stopping.
    Shutdown,
}

impl CloseReason {
    /// All reasons, in counting order.
    pub const ALL: [CloseReason; 16] = [
        CloseReason::PeerClosed,
        CloseReason::PeerTruncated,
        CloseReason::PeerReset,
        CloseReason::Requested,
        CloseReason::Handler,
        CloseReason::ProtocolError,
        CloseReason::BodyRefused,
        CloseReason::IdleTimeout,
        CloseReason::HeaderTimeout,
        CloseReason::BodyTimeout,
        CloseReason::SendTimeout,
        CloseReason::AnswerTimeout,
        CloseReason::FileFailed,
        CloseReason::HandlerFailed,
        CloseReason::Evicted,
        CloseReason::Shutdown,
    ];

    /// Name of the reason in logs and statistics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::PeerTruncated => "peer_truncated",
            CloseReason::PeerReset => "peer_reset",
            CloseReason::Requested => "requested",
            CloseReason::Handler => "handler",
            CloseReason::ProtocolError => "protocol_error",
            CloseReason::BodyRefused => "body_refused",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::HeaderTimeout => "header_timeout",
            CloseReason::BodyTimeout => "body_timeout",
            CloseReason::SendTimeout => "send_timeout",
            CloseReason::AnswerTimeout => "answer_timeout",
            CloseReason::FileFailed => "file_failed",
            CloseReason::HandlerFailed => "handler_failed",
            CloseReason::Evicted => "evicted",
            CloseReason::Shutdown => "shutdown",
        }
    }
}
