//! Headers that wrappers around a handler give to a response that does not exist yet.
//!
//! A wrapper sees the request only, because the response may come from a job or from a file. The
//! headers wait in [`ResponseExtras`]. They are applied in order of precedence when the response is
//! queued. Must not know drivers.

use crate::config::{KIB, LIVE_TAG};
use crate::http::headers::{How, is_repeated};
use crate::http::response::Author;
use crate::http::{Response, Status};

/// The responses to which a wrapper's header is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// All responses.
    Always,
    /// Responses with status 2xx or 3xx.
    Success,
    /// Responses that do not have a header of that name themselves.
    IfAbsent,
}

/// The origin of a header that is not the response's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetBy {
    /// The operator, by a rule for the path. Replaces the server's headers, but not those of a CGI
    /// program.
    Operator,
    /// The server itself: CORS, downloads, passwords. Headers of a program and of the operator have
    /// precedence.
    Server,
    /// A wrapper around a handler, in a program that uses the library. Replaces or adds, as the
    /// wrapper chose.
    Wrapper,
}

/// The statuses to which a header is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStatus {
    /// All statuses.
    Any,
    /// 2xx and 3xx.
    Success,
    /// All other statuses.
    Failure,
}

/// One header for the response to the current request.
#[derive(Clone, Copy, Debug)]
struct ExtraHeader {
    set_by: SetBy,
    how: How,
    on: OnStatus,
    /// Length of the name, and the end of the value in [`ResponseExtras::text`]. The name begins at
    /// the end of the previous value.
    name_len: usize,
    end: usize,
}

/// Headers that wrappers give to the response to the current request. They wait here until the
/// response exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResponseExtras {
    headers: Vec<ExtraHeader>,
    /// Names and values of all headers, one after the other.
    text: Vec<u8>,
    /// The authenticated user, for the access log.
    pub(super) user: Option<String>,
    /// Number of internal redirects by CGI programs for this request.
    pub(super) redirects: u8,
    /// A rule replaced the path that the client sent.
    pub(super) is_rewritten: bool,
    /// An error page of the server gets the script of `--live-reload`.
    pub(super) reloads: bool,
}

/// Memory for the headers of one response that is kept for the next one, in bytes. A dozen headers
/// of usual length fit.
const KEPT_BYTES_MAX: usize = KIB;

impl ResponseExtras {
    /// Returns true if the memory is small enough to be kept for another response.
    pub(super) fn is_worth_keeping(&self) -> bool {
        self.text.capacity() <= KEPT_BYTES_MAX
            && self.headers.capacity() * size_of::<ExtraHeader>() <= KEPT_BYTES_MAX
    }

    /// Forgets all headers and the user. The memory is kept.
    pub(super) fn clear(&mut self) {
        self.headers.clear();
        self.text.clear();
        self.user = None;
        self.redirects = 0;
        self.is_rewritten = false;
        self.reloads = false;
    }

    pub(super) fn add(&mut self, set_by: SetBy, how: How, on: OnStatus, name: &[u8], value: &[u8]) {
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.headers.push(ExtraHeader { set_by, how, on, name_len: name.len(), end: self.text.len() });
    }

    pub(super) fn add_when(&mut self, set_by: SetBy, how: How, when: When, name: &str, value: &[u8]) {
        let (how, on) = match when {
            When::Always => (how, OnStatus::Any),
            When::Success => (how, OnStatus::Success),
            When::IfAbsent => (How::IfAbsent, OnStatus::Any),
        };
        self.add(set_by, how, on, name.as_bytes(), value);
    }

    /// Iterates over the headers of one origin for a response with this status, in the order in
    /// which they were set.
    fn of(&self, set_by: SetBy, status: Status) -> impl Iterator<Item = (How, &[u8], &[u8])> {
        let is_success = (200..400).contains(&status.code());
        let starts = std::iter::once(0).chain(self.headers.iter().map(|header| header.end));
        self.headers.iter().zip(starts).filter_map(move |(header, start)| {
            let counts = match header.on {
                OnStatus::Any => true,
                OnStatus::Success => is_success,
                OnStatus::Failure => !is_success,
            };
            let (name, value) = self.text[start..header.end].split_at(header.name_len);
            (counts && header.set_by == set_by).then_some((header.how, name, value))
        })
    }

    /// Adds these headers to `response`, as far as its status and its own headers allow.
    pub(crate) fn apply_to(&self, mut response: Response) -> Response {
        let status = response.status();
        let is_program = response.author() == Author::Program;
        let how_of = |how| if is_program { How::IfAbsent } else { how };
        // A rule for the path of the file has precedence over a rule for the requested path.
        let ruled = response.ruled_headers();
        let is_ruled = |name: &[u8]| ruled.as_ref().is_some_and(|ruled| ruled.has(name));
        for (how, name, value) in self.of(SetBy::Operator, status) {
            if !is_ruled(name) {
                response.put(how_of(how), name, value);
            }
        }
        let is_given =
            |name: &[u8]| self.of(SetBy::Operator, status).any(|(_, set, _)| set.eq_ignore_ascii_case(name));
        for (how, name, value) in self.of(SetBy::Server, status) {
            if is_repeated(name) || !(is_ruled(name) || is_given(name)) {
                response.put(how_of(how), name, value);
            }
        }
        for (how, name, value) in self.of(SetBy::Wrapper, status) {
            response.put(how, name, value);
        }
        response
    }

    /// Returns true if a handler received another path than the client sent.
    pub(crate) fn is_rewritten(&self) -> bool {
        self.is_rewritten || self.redirects > 0
    }

    /// Returns the end of error pages of the server: the script of `--live-reload`, or nothing.
    pub(crate) fn live_tag(&self) -> &'static [u8] {
        if self.reloads { LIVE_TAG } else { b"" }
    }

    /// Returns the authenticated user, if known. Called once a request.
    pub(crate) fn take_user(&mut self) -> Option<String> {
        self.user.take()
    }
}
