//! Errors as responses: the status and one sentence, in the form the client reads.
//!
//! A browser gets a page, everybody else a line of text. The markup is in `pages/mod.rs`; this file
//! must not know why an error happened.

use crate::config::LIVE_TAG;
use crate::http::negotiate;
use crate::http::refusal::Refusal;
use crate::http::target::CLIMB_MAX;
use crate::http::{Body, Request, Response, Status};
use crate::pages;
use crate::pages::Home;

/// The form of an error response that suits a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ErrorForm {
    /// A line of text.
    Text,
    /// A page with a link to the top of the site.
    Page(Home),
}

impl ErrorForm {
    /// A page if the client would rather have one than text.
    #[must_use]
    pub(crate) fn of(request: &Request<'_>) -> ErrorForm {
        match wants_html(request) {
            true => ErrorForm::Page(home_of(request)),
            false => ErrorForm::Text,
        }
    }
}

/// The top of the site, as seen from the page that a request asks for.
pub(crate) fn home_of(request: &Request<'_>) -> Home {
    let base = request.base().map(|path| memchr::memchr_iter(b'/', path).count() - 1);
    base.filter(|folders| *folders <= CLIMB_MAX).map_or(Home::Root, Home::Above)
}

/// An error response in the form that `Accept` prefers. `detail` is one sentence of ours; what it
/// repeats of the request is escaped.
///
/// Caches need to know that the form depends on the request (RFC 9110 section 12.5.5). For
/// responses that are text whatever the request prefers, see [`text_error`].
#[must_use]
pub(crate) fn error(status: Status, detail: &str, form: ErrorForm) -> Response {
    let response = match form {
        ErrorForm::Page(home) => {
            let mut body = Vec::new();
            pages::error_html(status.code(), status.reason(), detail, home, &mut body);
            with_body(status, "text/html; charset=utf-8", body)
        }
        ErrorForm::Text => text_error(status, detail),
    };
    response.with_field("Vary", "Accept")
}

/// An error response as a line of text, whatever the request prefers.
#[must_use]
pub(crate) fn text_error(status: Status, detail: &str) -> Response {
    let mut body = Vec::new();
    pages::error_text(status.code(), status.reason(), detail, &mut body);
    with_body(status, "text/plain; charset=utf-8", body)
}

/// The 413 of content larger than `bytes_max`. It states the limit, because a client cannot know
/// it.
#[must_use]
pub(crate) fn too_large(bytes_max: u64) -> Response {
    text_error(Status::CONTENT_TOO_LARGE, &over(bytes_max, "content"))
}

/// One sentence: `subject` is larger than `bytes_max`.
pub(crate) fn over(bytes_max: u64, subject: &str) -> String {
    match pages::human_size(bytes_max) {
        size if bytes_max < 1024 => format!("the {subject} is larger than {size}"),
        size => format!("the {subject} is larger than {size} ({bytes_max} bytes)"),
    }
}

fn with_body(status: Status, content_type: &'static str, body: Vec<u8>) -> Response {
    let response = Response::new(status)
        .by_server()
        .with_field("Content-Type", content_type)
        .with_body(Body::Bytes(body));
    match status {
        Status::SERVICE_UNAVAILABLE => response.with_field("Retry-After", "1"),
        _ => response,
    }
}

/// Adds the script of `--live-reload` to a response that is an error page of ours. The browser then
/// loads the missing page as soon as it is written.
pub(crate) fn reloading(response: Response) -> Response {
    let page = match response.body() {
        Body::Bytes(page) if response.status().code() >= 400 && pages::is_ours(page) => page,
        _ => return response,
    };
    let page = [page, LIVE_TAG].concat();
    response.with_body(Body::Bytes(page))
}

/// Whether the client would rather have a page than text: browsers ask for HTML by name.
#[must_use]
pub(crate) fn wants_html(request: &Request<'_>) -> bool {
    negotiate::preferred(request.fields().all("accept"), &["text/plain", "text/html"]) == Some(1)
}

/// True if the client accepts a page and prefers no other type that it names. Unlike browsers, many
/// clients accept anything (`*/*`, no `Accept`).
#[must_use]
pub(crate) fn takes_html(request: &Request<'_>) -> bool {
    negotiate::is_first_choice(request.fields().all("accept"), "text/html")
}

impl From<Refusal> for Response {
    /// The refusal as a line of text.
    fn from(refusal: Refusal) -> Self {
        text_error(refusal.status(), refusal.reason())
    }
}
