//! A request: a parsed head that has passed strict checks (RFC 9112 sections 3 and 6.3, RFC 9110
//! section 7.2).
//!
//! This file checks framing, `Host` and target. Each doubt is an error, never a guess. It must not
//! know how the head was found and parsed.

use crate::config::Limits;
use crate::http::error::ProtocolError;
use crate::http::field_lines::ReceivedHeaders;
use crate::http::framing::{Content, Expects, Framing};
use crate::http::method::Method;
use crate::http::negotiate;
use crate::http::status::Status;
use crate::http::target::{self, OriginForm};

/// A request head, borrowed from the input.
#[derive(Clone, Copy, Debug)]
pub struct Request<'b> {
    method: Method<'b>,
    pub(super) target: &'b [u8],
    path: &'b [u8],
    is_plain_path: bool,
    query: Option<&'b [u8]>,
    authority: Option<&'b [u8]>,
    minor: u8,
    headers: ReceivedHeaders<'b>,
    head: &'b [u8],
    content: Content,
    persistent: bool,
    expects_continue: bool,
    /// True if the target is not the one that the client sent.
    pub(super) is_rewritten: bool,
}

impl<'b> Request<'b> {
    /// Method of the request.
    #[must_use]
    pub fn method(&self) -> Method<'b> {
        self.method
    }

    /// True if the method is GET or HEAD.
    #[must_use]
    pub fn is_get_or_head(&self) -> bool {
        matches!(self.method, Method::Get | Method::Head)
    }

    /// Request target as received: ASCII, in any of its forms.
    #[must_use]
    pub fn target(&self) -> &'b str {
        std::str::from_utf8(self.target).unwrap_or_default()
    }

    /// Path as received: still percent-encoded, without the query. `*` for `OPTIONS *`.
    #[must_use]
    pub fn path(&self) -> &'b [u8] {
        self.path
    }

    /// Path, if references in the response may be relative to it. The client must have sent this
    /// path, and both sides must count the same folders in it.
    pub(crate) fn base(&self) -> Option<&'b [u8]> {
        (!self.is_rewritten && target::is_base(self.path)).then_some(self.path)
    }

    /// True if the path is its own normal form and no component of it begins with a dot; see
    /// [`target::normalize`]. That holds for nearly all paths, which need no further check.
    #[must_use]
    pub fn is_plain_path(&self) -> bool {
        self.is_plain_path
    }

    /// Query as received, without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&'b [u8]> {
        self.query
    }

    /// Authority that was requested: of an absolute-form target, or else of the `Host` header (RFC
    /// 9112 section 3.2.2).
    #[must_use]
    pub fn authority(&self) -> Option<&'b [u8]> {
        self.authority
    }

    /// Minor version: 0 for HTTP/1.0, 1 for HTTP/1.1 and all later versions with major version 1.
    #[must_use]
    pub fn minor_version(&self) -> u8 {
        self.minor
    }

    /// Headers of the request.
    #[must_use]
    pub fn headers(&self) -> ReceivedHeaders<'b> {
        self.headers
    }

    /// First value of a header, without white space around it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.headers.first(name)
    }

    /// True if the client prefers an HTML page to text: browsers request HTML by name (RFC 9110
    /// section 12.5.1).
    #[must_use]
    pub fn wants_html(&self) -> bool {
        negotiate::preferred(self.headers.all("accept"), &["text/plain", "text/html"]) == Some(1)
    }

    /// Whole head as received, with its empty line.
    #[must_use]
    pub fn head(&self) -> &'b [u8] {
        self.head
    }

    /// Framing of the content.
    #[must_use]
    pub fn content(&self) -> Content {
        self.content
    }

    /// True if the client accepts further responses on this connection (RFC 9112 section 9.3).
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// True if the client waits for `100 Continue` before it sends its content (RFC 9110 section
    /// 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Request line as received, without its line end. For logs.
    #[must_use]
    pub fn line(&self) -> &'b [u8] {
        let end = memchr::memchr(b'\r', self.head).unwrap_or(self.head.len());
        &self.head[..end]
    }
}

/// A parsed head that is not checked yet.
#[derive(Clone, Copy)]
pub(super) struct Head<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) method: Method<'b>,
    pub(super) target: &'b [u8],
    pub(super) minor: u8,
    pub(super) lines: ReceivedHeaders<'b>,
}

/// Checks a head, and makes a request of it. `locate` parses the target.
#[inline(always)]
pub(super) fn judge<'b>(
    head: Head<'b>,
    limits: &Limits,
    locate: impl FnOnce() -> Result<(OriginForm<'b>, Option<&'b [u8]>), ProtocolError>,
) -> Result<Request<'b>, ProtocolError> {
    let Head { bytes, method, target, minor, lines } = head;
    if target.len() > limits.target_bytes_max {
        return Err(ProtocolError::new(Status::URI_TOO_LONG, "the request target is too long"));
    }
    let mut framing = Framing::default();
    framing.gather(lines)?;
    // Framing comes first, because a request whose end is in doubt must not get the response of a
    // valid one.
    let content = framing.content(minor)?;
    match framing.host {
        Some(host) if !target::check_host(host) => {
            return Err(ProtocolError::bad_request("Host is malformed"));
        }
        None if minor >= 1 => return Err(ProtocolError::bad_request("Host is missing")),
        Some(_) | None => {}
    }
    let (OriginForm { path, query, is_plain }, authority) = locate()?;
    // A server must ignore the expectations of HTTP/1.0 (RFC 9110 section 10.1.1).
    let expects_continue = match framing.expects {
        Expects::Unknown if minor >= 1 => {
            return Err(ProtocolError::new(
                Status::EXPECTATION_FAILED,
                "the only supported expectation is 100-continue",
            ));
        }
        Expects::Continue if minor >= 1 => content != Content::None,
        Expects::Nothing | Expects::Continue | Expects::Unknown => false,
    };
    Ok(Request {
        method,
        target,
        path,
        is_plain_path: is_plain,
        query,
        authority: authority.or(framing.host),
        minor,
        headers: lines,
        head: bytes,
        content,
        persistent: !framing.closes && (minor >= 1 || framing.keeps),
        expects_continue,
        is_rewritten: false,
    })
}

/// Path, query and authority of a target in any of its four forms (RFC 9112 section 3.2).
pub(super) fn locate<'b>(
    method: Method<'b>,
    bytes: &'b [u8],
) -> Result<(OriginForm<'b>, Option<&'b [u8]>), ProtocolError> {
    if method == Method::Connect {
        return Err(ProtocolError::new(
            Status::NOT_IMPLEMENTED,
            "this server is not a proxy and does not support CONNECT",
        ));
    }
    if bytes.first() == Some(&b'/') {
        return Ok((read_origin_form(bytes)?, None));
    }
    if bytes == b"*" {
        return match method {
            Method::Options => Ok((OriginForm { path: bytes, query: None, is_plain: false }, None)),
            _ => Err(ProtocolError::bad_request("the target * is valid for OPTIONS only")),
        };
    }
    let Some(rest) = strip_scheme(bytes) else {
        return Err(ProtocolError::bad_request("the request target does not begin with a slash"));
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, mut tail) = rest.split_at(end);
    if authority.is_empty() || authority[0] == b':' || !target::check_host(authority) {
        return Err(ProtocolError::bad_request("the authority in the request target is malformed"));
    }
    if tail.is_empty() {
        tail = b"/";
    }
    if tail[0] == b'?' {
        // `http://host?query`: an empty path means `/` (RFC 9110 section 4.2.3).
        read_origin_form(&[b"/", tail].concat())?;
        return Ok((OriginForm { path: b"/", query: Some(&tail[1..]), is_plain: true }, Some(authority)));
    }
    Ok((read_origin_form(tail)?, Some(authority)))
}

fn read_origin_form(target: &[u8]) -> Result<OriginForm<'_>, ProtocolError> {
    target::read_origin_form(target).map_err(ProtocolError::bad_request)
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let head = target.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..])
    })
}
