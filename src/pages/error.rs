//! Error responses: the status and one sentence, as a page or as text.
//!
//! A browser gets a page, and other clients a line of text. This file must not know why an error
//! happened.

use crate::config::LIVE_TAG;
use crate::http::refusal::Refusal;
use crate::http::target::CLIMB_MAX;
use crate::http::{Body, Request, Response, Status, negotiate};
use crate::pages::html;
use crate::pages::html::{HEAD, Home, STYLE_COMMON, escape_html, escape_name, mark, push};
use crate::text::{human_size, visible};

/// Form of an error response.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ErrorForm {
    /// A line of text.
    Text,
    /// A page with a link to the top of the site.
    Page(Home),
}

impl ErrorForm {
    /// Returns a page if the client prefers HTML to text.
    #[must_use]
    pub(crate) fn of(request: &Request<'_>) -> ErrorForm {
        match wants_html(request) {
            true => ErrorForm::Page(home_of(request)),
            false => ErrorForm::Text,
        }
    }
}

/// Returns the reference to the top of the site for the page that a request names.
pub(crate) fn home_of(request: &Request<'_>) -> Home {
    let base = request.base().map(|path| memchr::memchr_iter(b'/', path).count() - 1);
    base.filter(|folders| *folders <= CLIMB_MAX).map_or(Home::Root, Home::Above)
}

/// Returns an error response in the form that `Accept` prefers. `detail` is one sentence; parts of
/// the request in it are escaped.
///
/// `Vary` informs caches that the form depends on the request (RFC 9110 section 12.5.5). For
/// responses that are always text, see [`text_error`].
#[must_use]
pub(crate) fn error(status: Status, detail: &str, form: ErrorForm) -> Response {
    let response = match form {
        ErrorForm::Page(home) => {
            let mut body = Vec::new();
            error_html(status.code(), status.reason(), detail, home, &mut body);
            with_body(status, "text/html; charset=utf-8", body)
        }
        ErrorForm::Text => text_error(status, detail),
    };
    response.with_header("Vary", "Accept")
}

/// Returns an error response as a line of text, regardless of `Accept`.
#[must_use]
pub(crate) fn text_error(status: Status, detail: &str) -> Response {
    let mut body = Vec::new();
    error_text(status.code(), status.reason(), detail, &mut body);
    with_body(status, "text/plain; charset=utf-8", body)
}

/// Returns the 413 for a body larger than `bytes_max`. It contains the limit, because a client
/// cannot know it.
#[must_use]
pub(crate) fn too_large(bytes_max: u64) -> Response {
    text_error(Status::CONTENT_TOO_LARGE, &over(bytes_max, "content"))
}

/// Returns one sentence: `subject` is larger than `bytes_max`.
pub(crate) fn over(bytes_max: u64, subject: &str) -> String {
    match human_size(bytes_max) {
        size if bytes_max < 1024 => format!("the {subject} is larger than {size}"),
        size => format!("the {subject} is larger than {size} ({bytes_max} bytes)"),
    }
}

fn with_body(status: Status, content_type: &'static str, body: Vec<u8>) -> Response {
    let response = Response::new(status)
        .by_server()
        .with_header("Content-Type", content_type)
        .with_body(Body::Bytes(body));
    match status {
        Status::SERVICE_UNAVAILABLE => response.with_header("Retry-After", "1"),
        _ => response,
    }
}

/// Adds the script of `--live-reload` to an error page of this server. The browser then loads the
/// missing page as soon as it exists.
pub(crate) fn reloading(response: Response) -> Response {
    let page = match response.body() {
        Body::Bytes(page) if response.status().code() >= 400 && html::is_ours(page) => page,
        _ => return response,
    };
    let page = [page, LIVE_TAG].concat();
    response.with_body(Body::Bytes(page))
}

/// Returns true if the client prefers HTML to text. Browsers name HTML in `Accept`.
#[must_use]
pub(crate) fn wants_html(request: &Request<'_>) -> bool {
    negotiate::preferred(request.headers().all("accept"), &["text/plain", "text/html"]) == Some(1)
}

/// Returns true if the client accepts HTML and prefers no other type that it names. Unlike
/// browsers, many clients accept anything (`*/*`, no `Accept`).
#[must_use]
pub(crate) fn takes_html(request: &Request<'_>) -> bool {
    negotiate::is_first_choice(request.headers().all("accept"), "text/html")
}

impl From<Refusal> for Response {
    /// Converts the refusal to a line of text.
    fn from(refusal: Refusal) -> Self {
        text_error(refusal.status(), refusal.reason())
    }
}

const STYLE: &str = include_str!("error.css");

/// Appends the page for an error status: the number, its reason phrase, and a sentence of
/// explanation.
///
/// `detail` may be empty. Both texts are escaped.
pub fn error_html(status: u16, reason: &str, detail: &str, home: Home, out: &mut Vec<u8>) {
    push(out, HEAD);
    push(out, "<meta name=\"robots\" content=\"noindex\">\n<title>");
    push(out, &status.to_string());
    push(out, " ");
    escape_html(reason.as_bytes(), out);
    push(out, "</title>\n");
    push(out, "<style>\n");
    push(out, STYLE_COMMON);
    push(out, STYLE);
    push(out, "</style>\n</head>\n<body>\n<main>\n");
    mark(home, out);
    push(out, "<h1><b>");
    push(out, &status.to_string());
    push(out, "</b> ");
    escape_html(reason.as_bytes(), out);
    push(out, "</h1>\n");
    if !detail.is_empty() {
        push(out, "<p>");
        escape_name(detail.as_bytes(), out);
        push(out, "</p>\n");
    }
    push(out, "<footer><a href=\"");
    out.extend_from_slice(&home.folder(&[], 0));
    push(out, "\">Start page</a><span>whirligig</span></footer>\n</main>\n</body>\n</html>\n");
}

/// Appends the error as plain text, for clients that do not prefer HTML: one line, and a second one
/// if there is a detail.
pub fn error_text(status: u16, reason: &str, detail: &str, out: &mut Vec<u8>) {
    push(out, &status.to_string());
    push(out, " ");
    push(out, reason);
    push(out, "\n");
    if !detail.is_empty() {
        push(out, &visible(detail));
        push(out, "\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::html::tests::{check_whole, written};

    #[test]
    fn errors_say_what_happened_in_both_forms() {
        let page = written(|out| error_html(404, "Not Found", "No <such> file", Home::Root, out));
        assert!(page.starts_with("<!DOCTYPE html>"));
        assert!(page.contains("<title>404 Not Found</title>"));
        assert!(page.contains("<p>No &lt;such&gt; file</p>"));
        assert!(page.ends_with("</html>\n"));
        assert!(!written(|out| error_html(404, "Not Found", "", Home::Root, out)).contains("<p>"));
        assert_eq!(
            written(|out| error_text(404, "Not Found", "No such file", out)),
            "404 Not Found\nNo such file\n"
        );
        assert_eq!(written(|out| error_text(500, "Oops", "", out)), "500 Oops\n");
        let turned = "no \u{202e}eman\u{2069}";
        for page in [
            written(|out| error_html(404, "x", turned, Home::Root, out)),
            written(|out| error_text(404, "x", turned, out)),
        ] {
            assert!(page.contains("no \\u{202e}eman\\u{2069}"), "{page}");
        }
    }

    #[test]
    fn pages_are_whole_in_themselves() {
        check_whole(&written(|out| error_html(400, "Bad Request", "x", Home::Root, out)));
    }

    #[test]
    fn pages_lead_home() {
        for (home, href) in [(Home::Root, "/"), (Home::Above(0), "./"), (Home::Above(2), "../../")] {
            let page = written(|out| error_html(404, "Not Found", "", home, out));
            assert_eq!(page.matches(&format!(" href=\"{href}\"")).count(), 2, "{page}");
        }
    }
}
