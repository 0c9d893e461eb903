//! Responses as values, and their heads as bytes (RFC 9110 section 15, RFC 9112 section 4).
//!
//! A [`Response`] has a status, headers and content; how it is framed and whether the connection
//! survives is decided by the connection that sends it. A file is an opaque descriptor here:
//! nothing in this layer operates on it.

use std::sync::Arc;

use crate::http::cookie::Cookie;
use crate::http::disposition::attachment;
use crate::http::headers::{Flaw, Headers, How};
use crate::http::prepared::Prepared;
use crate::http::send_queue::OpenFile;
use crate::http::status::Status;

/// What a handler answers.
#[derive(Debug)]
pub struct Response {
    status: Status,
    /// None while the content is prepared.
    headers: Headers,
    body: Body,
    close: bool,
    /// The first reason why a header is not sent as it was given.
    flaw: Option<Flaw>,
    author: Author,
    /// Headers among them that a rule of the operator gave, for the path of a file. Prepared
    /// content has its own.
    ruled: Option<Arc<Headers>>,
}

impl Response {
    /// A response without content.
    #[must_use]
    pub fn new(status: Status) -> Self {
        let (headers, author) = (Headers::new(), Author::Program);
        Response { status, headers, body: Body::Empty, close: false, flaw: None, author, ruled: None }
    }

    /// 200 with plain text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Response::new(Status::OK)
            .with_field("Content-Type", "text/plain; charset=utf-8")
            .with_body(Body::Bytes(text.into().into_bytes()))
    }

    /// 200 with HTML.
    #[must_use]
    pub fn html(html: impl Into<String>) -> Self {
        Response::new(Status::OK)
            .with_field("Content-Type", "text/html; charset=utf-8")
            .with_body(Body::Bytes(html.into().into_bytes()))
    }

    /// 200 with bytes of any media type.
    #[must_use]
    pub fn bytes(content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Response::new(Status::OK)
            .with_field("Content-Type", content_type)
            .with_body(Body::Bytes(bytes.into()))
    }

    /// 200 with JSON that is already written.
    #[must_use]
    pub fn json(json: impl Into<String>) -> Self {
        Response::new(Status::OK)
            .with_field("Content-Type", "application/json; charset=utf-8")
            .with_body(Body::Bytes(json.into().into_bytes()))
    }

    /// 200 with a value written as JSON (RFC 8259). One that cannot be written (a map with keys
    /// that are no text, a failing `Serialize`) is a 500.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn json_of(value: &impl serde::Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => Response::json(text),
            Err(_) => Response::text("the answer cannot be written as JSON\n")
                .with_status(Status::INTERNAL_SERVER_ERROR),
        }
    }

    /// A redirect to `location`, a URL or a path of this server: 301 and 308 for good, 302 and 307
    /// for now, 303 to the result of a POST, 300 as the preferred one of several (RFC 9110 section
    /// 15.4). Browsers go on with GET after 301, 302 and 303, and with the same method and content
    /// after 307 and 308.
    ///
    /// A location that a client chose needs a look first: `//host/` leads to another host.
    #[must_use]
    pub fn redirect(status: Status, location: impl AsRef<str>) -> Self {
        let location = location.as_ref();
        debug_assert!((300..400).contains(&status.code()), "a redirect is a 3xx");
        Response::text(format!("The way on is {location}\n"))
            .with_status(status)
            .with_field("Location", location)
    }

    /// 200 with content made while it is sent, in chunks (RFC 9112 section 7.1).
    #[must_use]
    pub fn stream(content_type: &str, source: impl BodySource + 'static) -> Self {
        Response::new(Status::OK)
            .with_field("Content-Type", content_type)
            .with_body(Body::Source(Box::new(source)))
    }

    /// 200 with content made of pieces, each taken when the client has room for it. The loop waits
    /// for `next`, so that must be quick; what takes time is for
    /// [`Call::produce`](crate::Call::produce).
    #[must_use]
    pub fn pieces<I>(content_type: &str, pieces: I) -> Self
    where
        I: IntoIterator<Item: AsRef<[u8]>, IntoIter: Send + 'static>,
    {
        Response::stream(content_type, Pieces(pieces.into_iter()))
    }

    /// 200 with server-sent events (WHATWG HTML section 9.2), as a rule from `Feed::join`. Nobody
    /// on the way may keep them: not a cache, and no proxy that would rather have the whole.
    #[must_use]
    pub fn events(source: impl BodySource + 'static) -> Self {
        Response::stream("text/event-stream; charset=utf-8", source)
            .with_field("Cache-Control", "no-store")
            .with_field("X-Accel-Buffering", "no")
    }

    /// The same, to be saved under this name rather than shown (RFC 6266). A name that is more than
    /// letters, digits and the like is also sent in full as UTF-8 (RFC 8187).
    #[must_use]
    pub fn as_download(self, name: &str) -> Self {
        self.with_field("Content-Disposition", attachment(name.as_bytes()))
    }

    /// The same with a cookie to be set (RFC 6265bis section 4.1).
    #[must_use]
    pub fn with_cookie(self, cookie: &Cookie) -> Self {
        self.with_field("Set-Cookie", cookie.to_string())
    }

    /// A response whose head and body were made beforehand.
    #[must_use]
    pub fn prepared(prepared: Arc<Prepared>) -> Self {
        let (headers, author) = (Headers::new(), Author::Program);
        let body = Body::Prepared(prepared);
        Response { status: Status::OK, headers, body, close: false, flaw: None, author, ruled: None }
    }

    /// Replaces the content. Prepared content has headers of its own; headers that were set before
    /// replace them.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Self {
        let own = match &body {
            Body::Prepared(_) => std::mem::take(&mut self.headers),
            _ => Headers::new(),
        };
        self.body = body;
        if !own.is_empty() || self.status != Status::OK {
            self.take_apart();
        }
        for line in own.lines() {
            self.put(How::Set, line.name(), line.value());
        }
        self
    }

    /// Sets a header, in place of any of that name (RFC 9110 section 5.3). `Set-Cookie`, `Link` and
    /// `WWW-Authenticate` are added instead, because each of them counts, and a `Vary` is joined
    /// with the one before.
    ///
    /// A value never starts a line of its own: control characters become spaces, in `Location` they
    /// are percent-encoded like all that no URL has. A name that is no token is left out. So are
    /// `Content-Length`, `Transfer-Encoding`, `Connection`, `Keep-Alive`, `Upgrade`, `TE`,
    /// `Trailer` and `Date`, which only the connection writes; `Connection: close` closes it.
    /// Whatever is changed or left out is logged.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.put(How::Set, name.as_bytes(), value.as_ref());
        self
    }

    /// Adds a header beside any of that name; otherwise as [`Response::with_field`]. A header that
    /// has one value, such as `Content-Type`, is replaced all the same.
    #[must_use]
    pub fn with_added_field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.put(How::Add, name.as_bytes(), value.as_ref());
        self
    }

    /// Puts a header among the others.
    pub(crate) fn put(&mut self, how: How, name: &[u8], value: &[u8]) {
        self.take_apart();
        let flaw = self.headers.put(how, name, value);
        self.note(flaw);
    }

    /// Notes that a header is not sent as it was given.
    pub(crate) fn note(&mut self, flaw: Option<Flaw>) {
        self.close |= flaw == Some(Flaw::Close);
        self.flaw = self.flaw.or(flaw);
    }

    /// The first reason why a header is not sent as it was given.
    pub(crate) fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// Makes prepared content an ordinary response, whose head can be changed.
    fn take_apart(&mut self) {
        if let Body::Prepared(prepared) = &self.body {
            let data = Arc::clone(prepared);
            self.headers.append(data.headers());
            self.ruled = Some(Arc::clone(&data.ruled));
            self.body = Body::Shared { start: 0, end: data.body().len(), data };
        }
    }

    /// Appends headers that were written before.
    pub(crate) fn with_headers(mut self, headers: &[u8]) -> Self {
        self.take_apart();
        self.headers.append(headers);
        self
    }

    /// Marks its headers as those of the server itself.
    pub(crate) fn by_server(mut self) -> Self {
        self.author = Author::Server;
        self
    }

    /// Marks its headers as those of a program, which has called for them.
    pub(crate) fn by_program(mut self) -> Self {
        self.author = Author::Program;
        self
    }

    /// The origin of its headers.
    pub(crate) fn author(&self) -> Author {
        self.author
    }

    /// Notes which of its headers a rule of the operator gave.
    pub(crate) fn ruled(mut self, ruled: &Arc<Headers>) -> Self {
        self.ruled = Some(Arc::clone(ruled));
        self
    }

    /// Headers among its own that a rule of the operator gave, for the path of a file.
    pub(crate) fn ruled_headers(&self) -> Option<Arc<Headers>> {
        match &self.body {
            Body::Prepared(made) => Some(Arc::clone(&made.ruled)),
            Body::Empty
            | Body::Bytes(_)
            | Body::Static(_)
            | Body::Shared { .. }
            | Body::File { .. }
            | Body::Source(_)
            | Body::Sized { .. }
            | Body::Sequence(_) => self.ruled.clone(),
        }
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        if status != self.status {
            self.take_apart();
        }
        self.status = status;
        self
    }

    /// The same, and the connection is closed after it.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Its content.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Whether it asks for a close.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.close
    }

    /// The reason why this cannot be sent as the final response, if there is one.
    #[inline]
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.status.code() < 200 {
            return Some("its status is not final");
        }
        if self.body.is_sound() { None } else { Some("its content has no such length") }
    }

    /// Status, headers and content.
    pub(crate) fn into_parts(self) -> (Status, Headers, Body) {
        (self.status, self.headers, self.body)
    }
}

/// The origin of a response's headers. A rule of the operator replaces those of the server and no
/// others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// A handler, a script, a program that uses the library.
    Program,
    /// The server itself: files, listings, errors.
    Server,
}

/// Response content.
pub enum Body {
    /// None; `Content-Length: 0` where one is due.
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes of the program.
    Static(&'static [u8]),
    /// A part of shared bytes: `data[start..end]`.
    Shared {
        /// The bytes.
        data: Arc<Prepared>,
        /// First byte sent.
        start: usize,
        /// Behind the last byte sent.
        end: usize,
    },
    /// A range of a file, sent by the kernel.
    File {
        /// The open file.
        file: Arc<OpenFile>,
        /// First byte sent.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Made while it is sent; the length is not known.
    Source(Box<dyn BodySource>),
    /// Made while it is sent, of a length that is known before. What the source makes beyond that
    /// is not sent; if it makes less, the connection is closed, so that the client can tell.
    Sized {
        /// Makes the content.
        source: Box<dyn BodySource>,
        /// In bytes.
        len: u64,
    },
    /// Several of the others but sources, one behind the other.
    Sequence(Vec<Body>),
    /// A whole 200, head and body made beforehand.
    Prepared(Arc<Prepared>),
}

impl Body {
    /// Its length in bytes, unless it is made while it is sent.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Static(bytes) => Some(bytes.len() as u64),
            Body::Shared { start, end, .. } => Some(end.saturating_sub(*start) as u64),
            Body::File { len, .. } | Body::Sized { len, .. } => Some(*len),
            Body::Source(_) => None,
            Body::Sequence(parts) => parts.iter().map(Body::len).sum(),
            Body::Prepared(prepared) => Some(prepared.body().len() as u64),
        }
    }

    /// Whether it is known to be empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// True if the content has the length that it is framed by. A source among other parts cannot
    /// be sent, and a part of shared bytes may lie outside of them.
    fn is_sound(&self) -> bool {
        match self {
            Body::Shared { data, start, end } => start <= end && *end <= data.body().len(),
            Body::Sequence(parts) => {
                let is_source = |part: &Body| matches!(part, Body::Source(_) | Body::Sized { .. });
                parts.iter().all(|part| !is_source(part) && part.is_sound())
            }
            Body::Empty
            | Body::Bytes(_)
            | Body::Static(_)
            | Body::File { .. }
            | Body::Source(_)
            | Body::Sized { .. }
            | Body::Prepared(_) => true,
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.len() {
            Some(len) => write!(f, "Body({len} bytes)"),
            None => write!(f, "Body(source)"),
        }
    }
}

/// Response content that is made while it is sent: a listing, a clock, a pipe.
pub trait BodySource: Send {
    /// Appends at most about `room` bytes of content to `out`. What stands there already is not its
    /// own: a source that removes it ends the connection. Called again after `More` as soon as the
    /// client has taken enough, and after `Later` when the source's waker was used. Must not block.
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> Filled;

    /// Whether it would go on for as long as the client listens. Then a graceful stop ends it where
    /// it is; other content is finished first.
    fn is_endless(&self) -> bool {
        false
    }
}

/// What a body source did when asked for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// It appended something; ask again when there is room.
    More,
    /// It has nothing now; its `Waker` will say when to ask again.
    Later,
    /// That was all. What was appended in this call still counts.
    End,
    /// It cannot go on: the connection is closed without the end of the content, so the client can
    /// tell.
    Failed,
}

/// Content out of an iterator whose items are at hand or quick to make: see [`Response::pieces`].
struct Pieces<I>(I);

impl<I> BodySource for Pieces<I>
where
    I: Iterator<Item: AsRef<[u8]>> + Send,
{
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> Filled {
        let before = out.len();
        for piece in &mut self.0 {
            out.extend_from_slice(piece.as_ref());
            if out.len() - before >= room {
                return Filled::More;
            }
        }
        Filled::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_start_a_line() {
        let response = Response::new(Status::FOUND).with_field("Location", "/a\r\nX-Injected: 1\0");
        assert_eq!(response.headers.as_bytes(), b"Location: /a%0D%0AX-Injected:%201%00\r\n");
    }
}
