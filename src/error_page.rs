//! Errors as responses: the status and one sentence, in the form the client reads.
//!
//! A browser gets a page, everybody else a line of text. The markup is in `pages.rs`; this file must not know why
//! an error happened.

use crate::http::negotiate;
use crate::http::refusal::Refusal;
use crate::http::{Body, Request, Response, Status};
use crate::pages;

/// A response that tells of an error. `detail` is one sentence of ours, never bytes of the peer's.
#[must_use]
pub(crate) fn error(status: Status, detail: &str, html: bool) -> Response {
    let mut body = Vec::new();
    let content_type = if html {
        pages::error_html(status.code(), status.reason(), detail, &mut body);
        "text/html; charset=utf-8"
    } else {
        pages::error_text(status.code(), status.reason(), detail, &mut body);
        "text/plain; charset=utf-8"
    };
    let response = Response::new(status)
        .by_server()
        .with_field("Content-Type", content_type)
        .with_body(Body::Bytes(body));
    match status {
        Status::SERVICE_UNAVAILABLE => response.with_field("Retry-After", "1"),
        _ => response,
    }
}

/// Whether the client would rather have a page than text: browsers ask for HTML by name.
#[must_use]
pub(crate) fn wants_html(request: &Request<'_>) -> bool {
    negotiate::preferred(request.fields().all("accept"), &["text/plain", "text/html"]) == Some(1)
}

impl From<Refusal> for Response {
    /// The refusal as a line of text.
    fn from(refusal: Refusal) -> Self {
        error(refusal.status(), refusal.reason(), false)
    }
}
