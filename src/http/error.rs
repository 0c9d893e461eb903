//! What can go wrong on the wire, and why a connection ends.
//!
//! A [`ProtocolError`] is always the peer's fault and knows the status that says so. Our own faults
//! are assertions or 500s; "not yet" is a value elsewhere. This file must not know who sends the
//! answer.

use crate::http::status::Status;

/// The peer broke a rule. `status` is what it should be told, `reason` one human sentence without
/// its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolError {
    /// The status of the answer.
    pub status: Status,
    /// What was wrong, in words of ours: safe to log and to show.
    pub reason: &'static str,
}

impl ProtocolError {
    /// An error with any status.
    #[must_use]
    pub const fn new(status: Status, reason: &'static str) -> Self {
        ProtocolError { status, reason }
    }

    /// The usual one: 400.
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

/// Why a connection was closed. Every close has one; they are counted and logged under these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// The peer shut its side while nothing was owed: the ordinary end.
    PeerClosed,
    /// The peer shut its side in the middle of a request.
    PeerTruncated,
    /// The peer reset the connection, or the socket reported an error.
    PeerReset,
    /// `Connection: close`, or HTTP/1.0 without keep-alive, was asked for and honoured.
    Requested,
    /// The handler asked for the close.
    Handler,
    /// A request broke the protocol; it was told so where possible.
    ProtocolError,
    /// Content was refused while more than we care to read was still coming.
    BodyRefused,
    /// A kept-alive connection without a request for too long.
    IdleTimeout,
    /// No complete request head in time.
    HeaderTimeout,
    /// Request content came too slowly.
    BodyTimeout,
    /// The answer was not taken, or too slowly.
    SendTimeout,
    /// A promised answer did not come in time.
    AnswerTimeout,
    /// The file that was being sent became shorter or unreadable.
    FileFailed,
    /// A handler, job or body source failed after the head was sent.
    HandlerFailed,
    /// Closed to make room: too many connections, or no buffer left for an incomplete request.
    Evicted,
    /// The server is stopping.
    Shutdown,
}

impl CloseReason {
    /// All of them, in counting order.
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

    /// Its name in logs and statistics.
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
