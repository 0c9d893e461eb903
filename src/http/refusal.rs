//! Why a handler will not take a request: a status and one sentence for the client.
//!
//! The protocol's own refusals are `error.rs`; these are what typed access to a request says when
//! the request is well-formed HTTP and still not what was expected. It must not know how the
//! sentence is shown.

use std::borrow::Cow;

use crate::http::error::ProtocolError;
use crate::http::status::Status;

/// A request that a handler cannot take: status and reason. `?` in a handler turns it into the
/// answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: Status,
    reason: Cow<'static, str>,
}

impl Refusal {
    /// With any status; `reason` is a sentence for a human, and is shown to the client.
    #[must_use]
    pub fn new(status: Status, reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal { status, reason: reason.into() }
    }

    /// 400: the request cannot be understood (RFC 9110 section 15.5.1).
    #[must_use]
    pub fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::BAD_REQUEST, reason)
    }

    /// 403: understood, and not allowed, whoever asks (RFC 9110 section 15.5.4).
    #[must_use]
    pub fn forbidden(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::FORBIDDEN, reason)
    }

    /// 404: there is nothing of that name (RFC 9110 section 15.5.5).
    #[must_use]
    pub fn not_found(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::NOT_FOUND, reason)
    }

    /// 422: understood, and makes no sense (RFC 9110 section 15.5.21).
    #[must_use]
    pub fn unprocessable(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::UNPROCESSABLE_CONTENT, reason)
    }

    /// 500: our own fault. The client is told `reason`, so it should say little.
    #[must_use]
    pub fn failed(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::INTERNAL_SERVER_ERROR, reason)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The sentence.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status.code(), self.status.reason(), self.reason)
    }
}

impl std::error::Error for Refusal {}

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        Refusal::new(error.status, error.reason)
    }
}
