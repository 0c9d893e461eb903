//! CORS: pages of other sites that may read responses, and write to upload folders (WHATWG Fetch
//! section 3.2).
//!
//! Browsers ask for permission and enforce it; CORS does not restrict other clients. A preflight is
//! answered before passwords are checked, because browsers send it without credentials. In an
//! upload folder a preflight allows the requests that `features/upload/origin.rs` accepts.
//!
//! Must not know how uploads are stored.

use std::sync::Arc;

use crate::docroot::area_of;
use crate::features::allowed_hosts::AllowedHosts;
use crate::features::auth::guard::WriteGuards;
use crate::features::hosts::check_ascii;
use crate::features::upload::origin::Partners;
use crate::handler::{Answer, Context, Handler, When};
use crate::http::field_lines::{is_token, list_elements};
use crate::http::{Method, Request, Response, Status, target};

/// Response headers that scripts may read besides those that are always readable.
const EXPOSED: &str = "Accept-Ranges, Content-Disposition, Content-Encoding, Content-Range, Date, ETag, Location, \
                       Upload-Complete, Upload-Length, Upload-Limit, Upload-Offset";

/// Methods that a preflight allows. The response to the actual request shows whether the path
/// supports them.
const METHODS: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";

/// Methods that a preflight allows in an upload folder for pages that may write.
const METHODS_OF_UPLOADS: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE, MKCOL, MOVE";
/// Methods that a preflight allows in an upload folder for all other pages.
const METHODS_OF_READERS: &str = "GET, HEAD, OPTIONS";

/// Time for which a browser may cache a preflight, in seconds: one day. Most browsers use less.
const MAX_AGE: &str = "86400";

/// Longest list of header names that a preflight echoes, in bytes.
const NAMES_BYTES_MAX: usize = 1024;

struct Cors {
    allowed: Allowed,
    partners: Partners,
    writing: Writing,
    inner: Arc<dyn Handler>,
}

/// Upload rules. A preflight obeys the same rules as the request that follows it.
pub(crate) struct Writing {
    /// Folders that accept uploads.
    pub(crate) areas: Vec<String>,
    /// Host names of the server.
    pub(crate) names: Arc<AllowedHosts>,
    /// Paths where a password replaces the host name check.
    pub(crate) guards: WriteGuards,
}

enum Allowed {
    /// All origins.
    All,
    /// These origins, in the form that browsers send.
    These(Vec<String>),
}

/// Wraps `inner` so that pages from `origins` may read its responses.
pub(crate) fn wrap(origins: &[String], writing: Writing, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
    let allowed = match origins.iter().any(|origin| origin == "*") {
        true => Allowed::All,
        false => Allowed::These(origins.to_vec()),
    };
    Arc::new(Cors { allowed, partners: Partners::of(origins), writing, inner })
}

impl Handler for Cors {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        // If there are several Origin headers, none of them is trusted.
        let origin = request.headers().only("origin").ok().flatten();
        let allows = match (&self.allowed, origin) {
            (Allowed::All, _) => Some(&b"*"[..]),
            (Allowed::These(list), Some(origin)) => {
                list.iter().map(String::as_bytes).find(|allowed| *allowed == origin)
            }
            (Allowed::These(_), None) => None,
        };
        if let Some(allows) = allows {
            cx.set_own_header(When::Always, "Access-Control-Allow-Origin", allows);
        }
        // Refused origins get the header as well. Otherwise a cache could reuse that response for
        // an allowed origin.
        if matches!(self.allowed, Allowed::These(_)) {
            cx.set_own_header(When::Always, "Vary", "Origin");
        }
        let is_preflight = request.method() == Method::Options
            && origin.is_some()
            && request.header("access-control-request-method").is_some();
        if is_preflight {
            return preflight(request, allows.is_some(), self.methods(request, cx)).into();
        }
        if allows.is_some() {
            cx.set_own_header(When::Always, "Access-Control-Expose-Headers", EXPOSED);
        }
        self.inner.handle(request, cx)
    }
}

impl Cors {
    /// Methods that a page may use for this path.
    fn methods(&self, request: &Request<'_>, cx: &Context<'_>) -> &'static str {
        let Writing { areas, names, guards } = &self.writing;
        // An invalid path is refused with any method.
        let Ok(path) = target::normalize(request.path()) else { return METHODS };
        if area_of(areas, &path).is_none() {
            return METHODS;
        }
        let is_partner = request.header("origin").is_some_and(|origin| self.partners.have(origin));
        let may_write =
            is_partner && (names.permits_writing(request, cx.peer()) || guards.is_protected(&path));
        if may_write { METHODS_OF_UPLOADS } else { METHODS_OF_READERS }
    }
}

fn preflight(request: &Request<'_>, is_allowed: bool, methods: &str) -> Response {
    let response = Response::new(Status::NO_CONTENT).by_server();
    if !is_allowed {
        return response;
    }
    let response = response
        .with_header("Access-Control-Allow-Methods", methods)
        .with_header("Access-Control-Max-Age", MAX_AGE);
    match asked_names(request) {
        Some(names) => response.with_header("Access-Control-Allow-Headers", names),
        None => response,
    }
}

/// Header names that the page wants to send, if they are valid. The response echoes them, because
/// `*` would exclude `Authorization`.
fn asked_names(request: &Request<'_>) -> Option<Vec<u8>> {
    let mut names: Vec<u8> = Vec::new();
    for name in request.headers().all("access-control-request-headers").flat_map(list_elements) {
        if !name.iter().copied().all(is_token) || names.len() + name.len() > NAMES_BYTES_MAX {
            return None;
        }
        if !names.is_empty() {
            names.extend_from_slice(b", ");
        }
        names.extend_from_slice(name);
    }
    (!names.is_empty()).then_some(names)
}

/// Parses `*`, `null`, or an origin as browsers send it: scheme, host, and a port unless it is the
/// default of the scheme.
pub(crate) fn parse_origin(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    if matches!(text.as_str(), "*" | "null") {
        return Ok(text);
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return Err(
            "not an origin, such as https://example.org; a folder to serve goes before --cors".to_owned()
        );
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme || authority.is_empty() || authority.starts_with(':') {
        return Err("not an origin, such as https://example.org".to_owned());
    }
    check_ascii(authority)?;
    if !target::check_host(authority.as_bytes()) {
        return Err(
            "an origin must not have a path or a user, only a scheme, a host and an optional port".to_owned()
        );
    }
    let own_port = [("http", ":80"), ("https", ":443")].iter().find(|(own, _)| *own == scheme);
    match own_port.and_then(|(_, port)| authority.strip_suffix(port)) {
        // Browsers omit the default port, and origins are compared as text.
        Some(host) => Ok(format!("{scheme}://{host}")),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for (text, origin) in [
            ("*", "*"),
            ("null", "null"),
            ("https://Example.org", "https://example.org"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://a:80", "http://a"),
            ("https://a:443", "https://a"),
            ("https://a:80", "https://a:80"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("chrome-extension://abc", "chrome-extension://abc"),
        ] {
            assert_eq!(parse_origin(text).as_deref(), Ok(origin));
        }
        for text in [
            "",
            "site",
            "example.org",
            "https://",
            "https://a/",
            "https://a/b",
            "https://u@a",
            "://a",
            "http://:80",
            "a b://c",
        ] {
            assert!(parse_origin(text).is_err(), "{text}");
        }
    }
}
