//! Request heads that are kept longer than their input, perhaps with another target.
//!
//! They are needed for responses that are made later. This file must not know the makers of those.

use crate::config::Limits;
use crate::http::head::{FieldSlots, parse};
use crate::http::method::Method;
use crate::http::request::Request;

/// A copy of a request head, for a response that is made later.
#[derive(Clone, Debug)]
pub struct KeptHead {
    head: Vec<u8>,
    /// True if a rewrite replaced the target that the client sent.
    is_rewritten: bool,
}

impl KeptHead {
    /// Copies the head. This allocates once; the hot path does not need it.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        KeptHead { head: request.head().to_vec(), is_rewritten: request.is_rewritten }
    }

    /// Copies the head with another target in origin-form. Use this to serve one path with the
    /// response of another. All readers of the copy see the new target. The authority of an
    /// absolute-form target is kept, because it overrides `Host`.
    #[must_use]
    pub fn with_target(request: &Request<'_>, target: &[u8]) -> Self {
        let line = request.line();
        let version = memchr::memrchr(b' ', line).map_or(line.len(), |space| space);
        let mut head = [request.method().name().as_bytes(), b" "].concat();
        if let (false, Some(authority)) = (request.target.starts_with(b"/"), request.authority()) {
            head.extend_from_slice(b"http://");
            head.extend_from_slice(authority);
        }
        head.extend_from_slice(target);
        head.extend_from_slice(&request.head()[version..]);
        KeptHead { head, is_rewritten: true }
    }

    /// Copies the head with another target in origin-form, as a GET, or as a HEAD if it was one.
    /// Header lines about content are left out. Use this to respond with the resource at another
    /// path (RFC 3875 section 6.2.2).
    #[must_use]
    pub fn as_get(request: &Request<'_>, target: &[u8]) -> Self {
        let is_about_content = |name: &str| {
            ["content-", "transfer-encoding", "expect", "trailer"]
                .iter()
                .any(|start| name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
        };
        let method: &[u8] = if request.method() == Method::Head { b"HEAD " } else { b"GET " };
        let version: &[u8] = if request.minor_version() == 0 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" };
        let mut head = method.to_vec();
        if let (false, Some(authority)) = (request.target.starts_with(b"/"), request.authority()) {
            head.extend_from_slice(b"http://");
            head.extend_from_slice(authority);
        }
        head.extend_from_slice(target);
        head.extend_from_slice(version);
        for (name, value) in request.headers().iter().filter(|(name, _)| !is_about_content(name)) {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        KeptHead { head, is_rewritten: true }
    }

    /// Parses the copy and calls `read`. The head was valid before, so `None` means a bug in this
    /// server, for which callers send a 500.
    pub fn with<T>(&self, limits: &Limits, read: impl FnOnce(&Request<'_>) -> T) -> Option<T> {
        let mut slots = FieldSlots::new();
        let mut request = parse(&self.head, &mut slots, limits).ok()?;
        request.is_rewritten = self.is_rewritten;
        Some(read(&request))
    }
}
