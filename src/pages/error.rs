//! Error pages: the status and one sentence, for browsers.
//!
//! The driver renders each problem here, once, when it queues the response. This file must not know
//! why an error happened.

use crate::http::{Request, Response};
use crate::pages::html::{HEAD, Home, STYLE_COMMON, escape_html, escape_name, mark, push};

/// Form of an error response.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum ErrorForm {
    /// A line of text.
    #[default]
    Text,
    /// A page with a link to the top of the site.
    Page(Home),
}

impl ErrorForm {
    /// Returns a page if the client prefers HTML to text. Browsers name HTML in `Accept`.
    ///
    /// Out of line, because few requests have a problem.
    #[inline(never)]
    #[must_use]
    pub(crate) fn of(request: &Request<'_>) -> ErrorForm {
        match request.wants_html() {
            true => ErrorForm::Page(Home::of(request)),
            false => ErrorForm::Text,
        }
    }

    /// Returns this form for a request whose path was rewritten: links are absolute.
    pub(crate) fn rewritten(self) -> ErrorForm {
        match self {
            ErrorForm::Text => ErrorForm::Text,
            ErrorForm::Page(_) => ErrorForm::Page(Home::Root),
        }
    }
}

/// Renders a problem in this form. Returns other responses as they are.
///
/// `title` is the name of the site, if it has one. `live_tag` is appended to pages of errors, but
/// not of redirects: with `--live-reload`, a browser then loads a missing page as soon as it
/// exists.
#[must_use]
pub(crate) fn render(response: Response, form: ErrorForm, title: Option<&str>, live_tag: &[u8]) -> Response {
    let ErrorForm::Page(home) = form else { return response.rendered_as_text() };
    response.rendered("text/html; charset=utf-8", |status, sentence| {
        let mut page = Vec::new();
        error_html((status.code(), status.reason()), sentence, title, home, &mut page);
        if status.code() >= 400 {
            page.extend_from_slice(live_tag);
        }
        page
    })
}

const STYLE: &str = include_str!("error.css");

/// Appends the page for an error status: the number, its reason phrase, and a sentence of
/// explanation.
///
/// `detail` may be empty, and `title` is the name of the site. All texts are escaped.
pub(crate) fn error_html(
    (status, reason): (u16, &str),
    detail: &str,
    title: Option<&str>,
    home: Home,
    out: &mut Vec<u8>,
) {
    push(out, HEAD);
    push(out, "<meta name=\"robots\" content=\"noindex\">\n<title>");
    push(out, &status.to_string());
    push(out, " ");
    escape_html(reason.as_bytes(), out);
    if let Some(title) = title {
        push(out, " - ");
        escape_name(title.as_bytes(), out);
    }
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
    push(out, "\">Start page</a><span>");
    escape_name(title.unwrap_or("whirligig").as_bytes(), out);
    push(out, "</span></footer>\n</main>\n</body>\n</html>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::html::tests::{check_whole, written};

    #[test]
    fn a_page_shows_status_and_sentence() {
        let page = written(|out| error_html((404, "Not Found"), "No <such> file", None, Home::Root, out));
        assert!(page.starts_with("<!DOCTYPE html>"));
        assert!(page.contains("<title>404 Not Found</title>"));
        assert!(page.contains("<p>No &lt;such&gt; file</p>"));
        assert!(page.ends_with("</html>\n"));
        assert!(!written(|out| error_html((404, "Not Found"), "", None, Home::Root, out)).contains("<p>"));
        let turned = written(|out| error_html((404, "x"), "no \u{202e}eman\u{2069}", None, Home::Root, out));
        assert!(turned.contains("no \\u{202e}eman\\u{2069}"), "{turned}");
    }

    #[test]
    fn pages_are_whole_in_themselves() {
        check_whole(&written(|out| error_html((400, "Bad Request"), "x", None, Home::Root, out)));
    }

    #[test]
    fn the_name_of_the_site_is_text() {
        let title = Some("<b>Ours</b> \u{202e}\x07");
        let page = written(|out| error_html((404, "Not Found"), "", title, Home::Root, out));
        let shown = "&lt;b&gt;Ours&lt;/b&gt; \\u{202e}\u{fffd}";
        assert!(page.contains(&format!("<title>404 Not Found - {shown}</title>")), "{page}");
        assert!(page.contains(&format!("<span>{shown}</span></footer>")), "{page}");
        check_whole(&page);
    }

    #[test]
    fn pages_lead_home() {
        for (home, href) in [(Home::Root, "/"), (Home::Above(0), "./"), (Home::Above(2), "../../")] {
            let page = written(|out| error_html((404, "Not Found"), "", None, home, out));
            assert_eq!(page.matches(&format!(" href=\"{href}\"")).count(), 2, "{page}");
        }
    }
}
