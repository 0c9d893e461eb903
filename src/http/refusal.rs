//! Refusals of handlers: a status and a sentence for the client.
//!
//! A [`Refusal`] responds to a request that is valid HTTP, but that its handler cannot carry out.
//! It is no reason to close the connection. A [`ProtocolError`] (`error.rs`) is a violation of the
//! protocol by the peer, and the connection closes with a `CloseReason`. In a handler that parses
//! content, the error of the parser becomes a refusal. This file must not know how the sentence is
//! shown.

use std::borrow::Cow;

use crate::http::error::ProtocolError;
use crate::http::response::Response;
use crate::http::status::Status;

/// A request that a handler cannot accept: status and reason. `?` in a handler turns it into the
/// response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: Status,
    reason: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with any status. `reason` is a sentence for people, and is shown to the client.
    #[must_use]
    pub fn new(status: Status, reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal { status, reason: reason.into() }
    }

    /// A refusal with a fixed sentence, for constants.
    #[must_use]
    pub const fn from_static(status: Status, reason: &'static str) -> Self {
        Refusal { status, reason: Cow::Borrowed(reason) }
    }

    /// 400: the request cannot be understood (RFC 9110 section 15.5.1).
    #[must_use]
    pub fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::BAD_REQUEST, reason)
    }

    /// 403: the request is understood, but not allowed for any client (RFC 9110 section 15.5.4).
    #[must_use]
    pub fn forbidden(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::FORBIDDEN, reason)
    }

    /// 404: nothing has this name (RFC 9110 section 15.5.5).
    #[must_use]
    pub fn not_found(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::NOT_FOUND, reason)
    }

    /// 422: the request is understood, but makes no sense (RFC 9110 section 15.5.21).
    #[must_use]
    pub fn unprocessable(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::UNPROCESSABLE_CONTENT, reason)
    }

    /// 500: a fault of the server. `reason` is shown to the client, so it should reveal little.
    #[must_use]
    pub fn failed(reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::INTERNAL_SERVER_ERROR, reason)
    }

    /// Status of the response.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Sentence for the client.
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

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Response::problem(refusal.status, refusal.reason)
    }
}

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        Refusal::new(error.status, error.reason)
    }
}
