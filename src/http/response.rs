//! Responses as values: status, headers and content (RFC 9110 section 15).
//!
//! The connection that sends a [`Response`] decides how it is framed, and if the connection is
//! kept. A file is an opaque descriptor: this file must not read it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::http::cookie::Cookie;
use crate::http::disposition::attachment;
use crate::http::headers::{Flaw, Headers, How};
use crate::http::open_file::OpenFile;
use crate::http::prepared::Prepared;
use crate::http::problem;
use crate::http::status::Status;

/// A response as a handler makes it.
#[derive(Debug)]
pub struct Response {
    status: Status,
    /// Empty if the content is [`Body::Prepared`].
    headers: Headers,
    body: Body,
    close: bool,
    /// First reason why a header is not sent as given.
    flaw: Option<Flaw>,
    author: Author,
    /// Headers of the response that come from a rule of the operator for the path of a file.
    /// Prepared content stores its own.
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
            .with_header("Content-Type", "text/plain; charset=utf-8")
            .with_body(Body::Bytes(text.into().into_bytes()))
    }

    /// 200 with HTML.
    #[must_use]
    pub fn html(html: impl Into<String>) -> Self {
        Response::new(Status::OK)
            .with_header("Content-Type", "text/html; charset=utf-8")
            .with_body(Body::Bytes(html.into().into_bytes()))
    }

    /// 200 with bytes of any media type.
    #[must_use]
    pub fn bytes(content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Response::new(Status::OK)
            .with_header("Content-Type", content_type)
            .with_body(Body::Bytes(bytes.into()))
    }

    /// 200 with JSON text.
    #[must_use]
    pub fn json(json: impl Into<String>) -> Self {
        Response::new(Status::OK)
            .with_header("Content-Type", "application/json; charset=utf-8")
            .with_body(Body::Bytes(json.into().into_bytes()))
    }

    /// 200 with a value written as JSON (RFC 8259).
    ///
    /// The response is a 500 if the value cannot be written: a map with keys that are no text, or a
    /// `Serialize` that fails.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn json_of(value: &impl serde::Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => Response::json(text),
            Err(_) => Response::text("the response cannot be written as JSON\n")
                .with_status(Status::INTERNAL_SERVER_ERROR),
        }
    }

    /// A redirect to `location`, a URL or a path of this server (RFC 9110 section 15.4).
    ///
    /// 301 and 308 are permanent, 302 and 307 temporary. 303 leads to the result of a POST, 300 to
    /// the preferred one of several locations. Browsers continue with GET after 301, 302 and 303.
    /// They repeat method and content after 307 and 308.
    ///
    /// Check a location that a client chose: `//host/` leads to another host.
    #[must_use]
    pub fn redirect(status: Status, location: impl AsRef<str>) -> Self {
        let location = location.as_ref();
        debug_assert!((300..400).contains(&status.code()), "a redirect is a 3xx");
        Response::text(format!("The resource is at {location}\n"))
            .with_status(status)
            .with_header("Location", location)
    }

    /// An error response: a status and one sentence for people.
    ///
    /// Browsers receive a page, and other clients a line of text. The form depends on `Accept`, so
    /// the response has `Vary: Accept` (RFC 9110 section 12.5.5). A 503 has `Retry-After: 1`. More
    /// headers can be added. Parts of the request in `sentence` are escaped.
    #[must_use]
    pub fn problem(status: Status, sentence: impl Into<Cow<'static, str>>) -> Self {
        Response::failure(status, Body::Problem(sentence.into())).with_header("Vary", "Accept")
    }

    /// An error response that is a line of text for all clients: for requests that were not read
    /// completely, and for paths that no browser shows.
    #[must_use]
    pub(crate) fn plain_problem(status: Status, sentence: &str) -> Self {
        let body = Body::Bytes(problem::plain(status, sentence));
        let mut response = Response::failure(status, body);
        response.headers.put_first(CONTENT_TYPE, PLAIN_TEXT);
        response
    }

    fn failure(status: Status, body: Body) -> Self {
        let response = Response::new(status).by_server().with_body(body);
        match status {
            Status::SERVICE_UNAVAILABLE => response.with_header("Retry-After", "1"),
            _ => response,
        }
    }

    /// 413 for content larger than `bytes_max`, as a line of text for all clients.
    #[must_use]
    pub(crate) fn too_large(bytes_max: u64) -> Self {
        Response::plain_problem(Status::CONTENT_TOO_LARGE, &problem::over(bytes_max, "content"))
    }

    /// 200 with content made while it is sent, in chunks (RFC 9112 section 7.1).
    #[must_use]
    pub fn stream(content_type: &str, source: impl BodySource + 'static) -> Self {
        Response::new(Status::OK)
            .with_header("Content-Type", content_type)
            .with_body(Body::Source(Box::new(source)))
    }

    /// 200 with content made of pieces. Each piece is taken when the client has room for it.
    ///
    /// The event loop waits for `next`, so that must be quick. Use
    /// [`Call::produce`](crate::Call::produce) for pieces that take time.
    #[must_use]
    pub fn pieces<I>(content_type: &str, pieces: I) -> Self
    where
        I: IntoIterator<Item: AsRef<[u8]>, IntoIter: Send + 'static>,
    {
        Response::stream(content_type, Pieces(pieces.into_iter()))
    }

    /// 200 with server-sent events (WHATWG HTML section 9.2), usually from `Feed::join`. The
    /// headers keep caches from storing the events, and proxies from buffering them.
    #[must_use]
    pub fn events(source: impl BodySource + 'static) -> Self {
        Response::stream("text/event-stream; charset=utf-8", source)
            .with_header("Cache-Control", "no-store")
            .with_header("X-Accel-Buffering", "no")
    }

    /// Makes the client save the content under this name instead of showing it (RFC 6266). A name
    /// with more than letters, digits and a few marks is also sent in full as UTF-8 (RFC 8187).
    #[must_use]
    pub fn as_download(self, name: &str) -> Self {
        self.with_header("Content-Disposition", attachment(name.as_bytes()))
    }

    /// Sets a cookie (RFC 6265bis section 4.1).
    #[must_use]
    pub fn with_cookie(self, cookie: &Cookie) -> Self {
        self.with_header("Set-Cookie", cookie.to_string())
    }

    /// A response whose head and body were made in advance.
    #[must_use]
    pub fn prepared(prepared: Arc<Prepared>) -> Self {
        let (headers, author) = (Headers::new(), Author::Program);
        let body = Body::Prepared(prepared);
        Response { status: Status::OK, headers, body, close: false, flaw: None, author, ruled: None }
    }

    /// Replaces the content. Prepared content has its own headers; headers that were set before
    /// replace those.
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

    /// Sets a header, and replaces all lines with this name (RFC 9110 section 5.3). `Set-Cookie`,
    /// `Link` and `WWW-Authenticate` are added instead, because each line counts. A `Vary` is
    /// joined with the existing one.
    ///
    /// A value cannot start a new line. Control characters become spaces. In `Location` they are
    /// percent-encoded, as are all bytes that no URL contains.
    ///
    /// A name that is not a token is left out. So are `Content-Length`, `Transfer-Encoding`,
    /// `Connection`, `Keep-Alive`, `Upgrade`, `TE`, `Trailer` and `Date`, which only the connection
    /// writes. `Connection: close` closes the connection. All changes and omissions are logged.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.put(How::Set, name.as_bytes(), value.as_ref());
        self
    }

    /// Adds a header, and keeps lines with this name. Otherwise like [`Response::with_header`]. A
    /// header with a single value, such as `Content-Type`, is replaced nevertheless.
    #[must_use]
    pub fn with_added_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.put(How::Add, name.as_bytes(), value.as_ref());
        self
    }

    /// Puts a header among the others.
    pub(crate) fn put(&mut self, how: How, name: &[u8], value: &[u8]) {
        self.take_apart();
        let flaw = self.headers.put(how, name, value);
        self.note(flaw);
    }

    /// Records that a header is not sent as given.
    pub(crate) fn note(&mut self, flaw: Option<Flaw>) {
        self.close |= flaw == Some(Flaw::Close);
        self.flaw = self.flaw.or(flaw);
    }

    /// First reason why a header is not sent as given.
    pub(crate) fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// Turns prepared content into an ordinary response, whose head can be changed.
    fn take_apart(&mut self) {
        if let Body::Prepared(prepared) = &self.body {
            let data = Arc::clone(prepared);
            self.headers.append(data.headers());
            self.ruled = Some(Arc::clone(&data.ruled));
            self.body = Body::Shared { start: 0, end: data.body().len(), data };
        }
    }

    /// True if this is a problem that is not rendered yet.
    #[inline]
    pub(crate) fn is_problem(&self) -> bool {
        matches!(self.body, Body::Problem(_))
    }

    /// Renders a problem: `page` makes the content of the given type from the sentence. Returns
    /// other responses as they are.
    pub(crate) fn rendered(mut self, content_type: &str, page: impl FnOnce(Status, &str) -> Vec<u8>) -> Self {
        if let Body::Problem(sentence) = &self.body {
            self.body = Body::Bytes(page(self.status, sentence));
            self.headers.put_first(CONTENT_TYPE, content_type);
        }
        self
    }

    /// Renders a problem as a line of text. Returns other responses as they are.
    pub(crate) fn rendered_as_text(self) -> Self {
        self.rendered(PLAIN_TEXT, problem::plain)
    }

    /// Appends header lines that were written before.
    pub(crate) fn with_headers(mut self, headers: &[u8]) -> Self {
        self.take_apart();
        self.headers.append(headers);
        self
    }

    /// Marks the headers as those of the server.
    pub(crate) fn by_server(mut self) -> Self {
        self.author = Author::Server;
        self
    }

    /// Marks the headers as those of a program that requested them.
    pub(crate) fn by_program(mut self) -> Self {
        self.author = Author::Program;
        self
    }

    /// Origin of the headers.
    pub(crate) fn author(&self) -> Author {
        self.author
    }

    /// Records which headers come from a rule of the operator.
    pub(crate) fn ruled(mut self, ruled: &Arc<Headers>) -> Self {
        self.ruled = Some(Arc::clone(ruled));
        self
    }

    /// Headers of the response that come from a rule of the operator, for the path of a file.
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
            | Body::Sequence(_)
            | Body::Problem(_) => self.ruled.clone(),
        }
    }

    /// Replaces the status.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        if status != self.status {
            self.take_apart();
        }
        self.status = status;
        self
    }

    /// Closes the connection after this response.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Status of the response.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Content of the response.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// True if the connection must close after this response.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.close
    }

    /// Reason why this cannot be sent as a final response, if there is one.
    #[inline]
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.status.code() < 200 {
            return Some("its status is not that of a final response");
        }
        if self.body.is_sound() { None } else { Some("its content does not have the stated length") }
    }

    /// Status, headers and content.
    pub(crate) fn into_parts(self) -> (Status, Headers, Body) {
        (self.status, self.headers, self.body)
    }
}

const CONTENT_TYPE: &str = "Content-Type";

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// Origin of the headers of a response. A rule of the operator replaces headers of the server and
/// no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// A handler, a script, or a program that uses the library.
    Program,
    /// The server itself: files, listings, errors.
    Server,
}

/// Response content.
#[non_exhaustive]
pub enum Body {
    /// No content: `Content-Length: 0` where a length is required.
    Empty,
    /// Owned bytes.
    Bytes(Vec<u8>),
    /// Static bytes.
    Static(&'static [u8]),
    /// A part of shared content: `data.body()[start..end]`.
    Shared {
        /// Response whose content is shared.
        data: Arc<Prepared>,
        /// First byte sent.
        start: usize,
        /// Position after the last byte sent.
        end: usize,
    },
    /// A range of a file, sent by the kernel.
    File {
        /// The open file.
        file: Arc<OpenFile>,
        /// First byte sent.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Content made while it is sent. Its length is not known.
    Source(Box<dyn BodySource>),
    /// Content made while it is sent, with a known length. Bytes of the source beyond that length
    /// are not sent. If there are fewer, the connection is closed, so the client can detect it.
    Sized {
        /// Makes the content.
        source: Box<dyn BodySource>,
        /// Length in bytes.
        len: u64,
    },
    /// Several bodies, one after the other. A source is not allowed among them.
    Sequence(Vec<Body>),
    /// A whole 200, with head and body made in advance.
    Prepared(Arc<Prepared>),
    /// The sentence of a problem, which is rendered when the response is queued: see
    /// [`Response::problem`].
    Problem(Cow<'static, str>),
}

impl Body {
    /// Length in bytes. `None` if it is not known before the content is sent, or rendered.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Static(bytes) => Some(bytes.len() as u64),
            Body::Shared { start, end, .. } => Some(end.saturating_sub(*start) as u64),
            Body::File { len, .. } | Body::Sized { len, .. } => Some(*len),
            Body::Source(_) | Body::Problem(_) => None,
            Body::Sequence(parts) => parts.iter().map(Body::len).sum(),
            Body::Prepared(prepared) => Some(prepared.body().len() as u64),
        }
    }

    /// True if the content is known to be empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// True if the content has the length by which it is framed. False for a source or a problem in
    /// a sequence, and for a range outside of the shared content.
    fn is_sound(&self) -> bool {
        match self {
            Body::Shared { data, start, end } => start <= end && *end <= data.body().len(),
            Body::Sequence(parts) => {
                let is_unknown =
                    |part: &Body| matches!(part, Body::Source(_) | Body::Sized { .. } | Body::Problem(_));
                parts.iter().all(|part| !is_unknown(part) && part.is_sound())
            }
            Body::Empty
            | Body::Bytes(_)
            | Body::Static(_)
            | Body::File { .. }
            | Body::Source(_)
            | Body::Sized { .. }
            | Body::Prepared(_)
            | Body::Problem(_) => true,
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Body::Problem(sentence) = self {
            return write!(f, "Problem({sentence})");
        }
        match self.len() {
            Some(len) => write!(f, "Body({len} bytes)"),
            None => write!(f, "Body(source)"),
        }
    }
}

/// Response content that is made while it is sent: a listing, a clock, a pipe.
pub trait BodySource: Send {
    /// Appends about `room` bytes of content to `out`, or fewer.
    ///
    /// The bytes already in `out` belong to others: a source that removes them ends the connection.
    /// After `More`, `fill` is called again as soon as the client has taken enough. After `Later`,
    /// it is called again when the waker of the source was used. It must not block.
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus;

    /// True if the content goes on as long as the client stays connected. A graceful shutdown
    /// breaks such content off; it lets other content finish.
    fn is_endless(&self) -> bool {
        false
    }
}

/// Result of one call of [`BodySource::fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FillStatus {
    /// Bytes were appended. Call again when there is room.
    More,
    /// There are no bytes at the moment. The source's `Waker` is used when there are some.
    Later,
    /// The content is complete. Bytes appended in this call are part of it.
    End,
    /// The content cannot be completed. The connection is closed without the end of the content, so
    /// the client can detect it.
    Failed,
}

/// Content from an iterator whose items are quick to make: see [`Response::pieces`].
struct Pieces<I>(I);

impl<I> BodySource for Pieces<I>
where
    I: Iterator<Item: AsRef<[u8]>> + Send,
{
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus {
        let before = out.len();
        for piece in &mut self.0 {
            out.extend_from_slice(piece.as_ref());
            if out.len() - before >= room {
                return FillStatus::More;
            }
        }
        FillStatus::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_start_a_line() {
        let response = Response::new(Status::FOUND).with_header("Location", "/a\r\nX-Injected: 1\0");
        assert_eq!(response.headers.as_bytes(), b"Location: /a%0D%0AX-Injected:%201%00\r\n");
    }

    #[test]
    fn a_problem_is_rendered_once_and_its_type_comes_first() {
        let problem = || Response::problem(Status::SERVICE_UNAVAILABLE, "busy").with_header("Vary", "Origin");
        assert!(problem().is_problem() && problem().fault().is_none());
        let rest = "Retry-After: 1\r\nVary: Accept, Origin\r\n";
        assert_eq!(problem().headers.as_bytes(), rest.as_bytes());
        let text = problem().rendered_as_text();
        assert_eq!(
            text.headers.as_bytes(),
            format!("Content-Type: text/plain; charset=utf-8\r\n{rest}").as_bytes()
        );
        assert!(matches!(&text.body, Body::Bytes(bytes) if bytes == b"503 Service Unavailable\nbusy\n"));
        let page = problem()
            .rendered("text/html", |status, sentence| format!("{} {sentence}", status.code()).into_bytes());
        assert!(matches!(&page.rendered_as_text().body, Body::Bytes(bytes) if bytes == b"503 busy"));
    }

    #[test]
    fn a_part_of_a_sequence_is_no_problem() {
        let parts = vec![Body::Static(b"x"), Body::Problem("y".into())];
        let response = Response::new(Status::OK).with_body(Body::Sequence(parts));
        assert!(response.fault().is_some());
    }
}
