//! Responses as values, and their heads as bytes (RFC 9110 section 15, RFC 9112 section 4).
//!
//! A [`Response`] has a status, headers and content; how it is framed and whether the connection
//! survives is decided by the connection that sends it. A file is an opaque descriptor here:
//! nothing in this layer operates on it.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::KIB;
use crate::http::cookie::Cookie;
use crate::http::disposition::attachment;
use crate::http::headers::{Flaw, Headers, How};
use crate::text;

/// A status code (RFC 9110 section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(u16);

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal;)*) => {
        impl Status {
            $(#[doc = concat!($code, " ", $reason)] pub const $name: Status = Status($code);)*

            /// The reason phrase of the IANA registry; empty for codes that it does not list.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self.0 { $($code => $reason,)* _ => "" }
            }
        }
    };
}

statuses! {
    CONTINUE = 100 "Continue";
    SWITCHING_PROTOCOLS = 101 "Switching Protocols";
    PROCESSING = 102 "Processing";
    EARLY_HINTS = 103 "Early Hints";
    UPLOAD_RESUMPTION_SUPPORTED = 104 "Upload Resumption Supported";
    OK = 200 "OK";
    CREATED = 201 "Created";
    ACCEPTED = 202 "Accepted";
    NON_AUTHORITATIVE_INFORMATION = 203 "Non-Authoritative Information";
    NO_CONTENT = 204 "No Content";
    RESET_CONTENT = 205 "Reset Content";
    PARTIAL_CONTENT = 206 "Partial Content";
    MULTI_STATUS = 207 "Multi-Status";
    ALREADY_REPORTED = 208 "Already Reported";
    IM_USED = 226 "IM Used";
    MULTIPLE_CHOICES = 300 "Multiple Choices";
    MOVED_PERMANENTLY = 301 "Moved Permanently";
    FOUND = 302 "Found";
    SEE_OTHER = 303 "See Other";
    NOT_MODIFIED = 304 "Not Modified";
    USE_PROXY = 305 "Use Proxy";
    TEMPORARY_REDIRECT = 307 "Temporary Redirect";
    PERMANENT_REDIRECT = 308 "Permanent Redirect";
    BAD_REQUEST = 400 "Bad Request";
    UNAUTHORIZED = 401 "Unauthorized";
    PAYMENT_REQUIRED = 402 "Payment Required";
    FORBIDDEN = 403 "Forbidden";
    NOT_FOUND = 404 "Not Found";
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed";
    NOT_ACCEPTABLE = 406 "Not Acceptable";
    PROXY_AUTHENTICATION_REQUIRED = 407 "Proxy Authentication Required";
    REQUEST_TIMEOUT = 408 "Request Timeout";
    CONFLICT = 409 "Conflict";
    GONE = 410 "Gone";
    LENGTH_REQUIRED = 411 "Length Required";
    PRECONDITION_FAILED = 412 "Precondition Failed";
    CONTENT_TOO_LARGE = 413 "Content Too Large";
    URI_TOO_LONG = 414 "URI Too Long";
    UNSUPPORTED_MEDIA_TYPE = 415 "Unsupported Media Type";
    RANGE_NOT_SATISFIABLE = 416 "Range Not Satisfiable";
    EXPECTATION_FAILED = 417 "Expectation Failed";
    MISDIRECTED_REQUEST = 421 "Misdirected Request";
    UNPROCESSABLE_CONTENT = 422 "Unprocessable Content";
    LOCKED = 423 "Locked";
    FAILED_DEPENDENCY = 424 "Failed Dependency";
    TOO_EARLY = 425 "Too Early";
    UPGRADE_REQUIRED = 426 "Upgrade Required";
    PRECONDITION_REQUIRED = 428 "Precondition Required";
    TOO_MANY_REQUESTS = 429 "Too Many Requests";
    FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large";
    UNAVAILABLE_FOR_LEGAL_REASONS = 451 "Unavailable For Legal Reasons";
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error";
    NOT_IMPLEMENTED = 501 "Not Implemented";
    BAD_GATEWAY = 502 "Bad Gateway";
    SERVICE_UNAVAILABLE = 503 "Service Unavailable";
    GATEWAY_TIMEOUT = 504 "Gateway Timeout";
    VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported";
    VARIANT_ALSO_NEGOTIATES = 506 "Variant Also Negotiates";
    INSUFFICIENT_STORAGE = 507 "Insufficient Storage";
    LOOP_DETECTED = 508 "Loop Detected";
    NOT_EXTENDED = 510 "Not Extended";
    NETWORK_AUTHENTICATION_REQUIRED = 511 "Network Authentication Required";
}

impl Status {
    /// A status by its number, 100 to 599; `None` outside.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Status> {
        if code >= 100 && code <= 599 { Some(Status(code)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// True if another response follows: 1xx but 101, behind which no HTTP follows (RFC 9110
    /// section 15.2).
    #[must_use]
    pub const fn is_interim(self) -> bool {
        self.0 < 200 && self.0 != 101
    }

    /// True if a response with this status ends with its head (RFC 9112 section 6.3, rule 1).
    #[must_use]
    pub const fn is_bodiless(self) -> bool {
        self.0 < 200 || self.0 == 204 || self.0 == 304
    }

    /// True if a response with this status has no content. 205 is framed like others, with a length
    /// of 0 (RFC 9110 section 15.3.6).
    #[must_use]
    pub const fn is_without_content(self) -> bool {
        self.is_bodiless() || self.0 == 205
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

/// What every head ends with but for `Connection` and the empty line; the date is filled in.
const SERVER_AND_DATE: &[u8; 56] = b"Server: whirligig\r\nDate: Www, dd Mmm yyyy hh:mm:ss GMT\r\n";

/// The bytes of [`SERVER_AND_DATE`] before `Date`: left out where the headers have a `Server` of
/// their own.
const SERVER_BYTES: usize = 19;

/// Where the date stands in [`SERVER_AND_DATE`].
const DATE_AT: Range<usize> = 25..54;

/// Writes `Server`, unless `headers` have one, and `Date`.
pub(crate) fn push_server_and_date(out: &mut Vec<u8>, headers: &Headers, date: &[u8; 29]) {
    let mut tail = *SERVER_AND_DATE;
    tail[DATE_AT].copy_from_slice(date);
    let from = if headers.has(b"server") { SERVER_BYTES } else { 0 };
    out.extend_from_slice(&tail[from..]);
}

/// Whole prepared responses up to this size are copied behind one another: several to what came in
/// one read are then one piece. Larger ones are sent from where they are.
pub(crate) const PREPARED_COPIED_BYTES_MAX: usize = 2 * KIB;

/// A 200 made beforehand, shared by all who ask for it: a cached file.
///
/// It lies in one piece as it goes to a client of HTTP/1.1 that stays, so that nothing has to be
/// put together: only the date is of another second, and so is a copy of the whole, made at most
/// once a second and shared in its turn.
pub struct Prepared {
    /// Status line, headers, `Content-Length`, `Server` and `Date`, the empty line, content.
    bytes: Vec<u8>,
    /// Where `Content-Length` begins, behind the other headers.
    length_at: usize,
    /// Where the date stands.
    date_at: usize,
    body_at: usize,
    /// Headers among them that a rule of the operator gave.
    ruled: Arc<Headers>,
    /// The same with the date that was asked for last.
    dated: Mutex<Option<Arc<Prepared>>>,
}

/// The status line of every prepared response.
const OK_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";

impl Prepared {
    /// A 200 with these headers and this content.
    #[must_use]
    pub fn new(headers: &Headers, body: &[u8]) -> Self {
        const NO_DATE: &[u8; 29] = b"Www, dd Mmm yyyy hh:mm:ss GMT";
        let mut bytes = Vec::with_capacity(body.len() + headers.as_bytes().len() + 128);
        bytes.extend_from_slice(OK_LINE);
        bytes.extend_from_slice(headers.as_bytes());
        let length_at = bytes.len();
        push_content_length(&mut bytes, body.len() as u64);
        push_server_and_date(&mut bytes, headers, NO_DATE);
        let date_at = bytes.len() - NO_DATE.len() - 2;
        bytes.extend_from_slice(b"\r\n");
        let body_at = bytes.len();
        bytes.extend_from_slice(body);
        let ruled = Arc::default();
        Prepared { bytes, length_at, date_at, body_at, ruled, dated: Mutex::default() }
    }

    /// Notes which of its headers a rule of the operator gave.
    pub(crate) fn ruled(self, ruled: &Arc<Headers>) -> Self {
        Prepared { ruled: Arc::clone(ruled), ..self }
    }

    /// The headers that it was made of, as they go on the wire.
    #[must_use]
    pub fn headers(&self) -> &[u8] {
        &self.bytes[OK_LINE.len()..self.length_at]
    }

    /// The head up to and without `Connection` and the empty line, with a date of no day.
    pub(crate) fn head(&self) -> &[u8] {
        &self.bytes[..self.body_at - 2]
    }

    /// The content.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }

    /// Where the content stands in the whole.
    pub(crate) fn body_at(&self) -> usize {
        self.body_at
    }

    /// The whole response; its date is right in what [`Prepared::dated`] gives only.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it takes in memory, in bytes, with its dated copy if it may have one.
    pub(crate) fn cost(&self) -> usize {
        let copies = if self.bytes.len() > PREPARED_COPIED_BYTES_MAX { 2 } else { 1 };
        copies * self.bytes.len()
    }

    /// Where the date stands in the head.
    pub(crate) fn date_at(&self) -> Range<usize> {
        self.date_at..self.date_at + 29
    }

    /// Appends the whole response with this date.
    pub(crate) fn push_dated(&self, out: &mut Vec<u8>, date: &[u8; 29]) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out[start..][self.date_at()].copy_from_slice(date);
    }

    /// The whole response with this date.
    pub(crate) fn dated(&self, date: &[u8; 29]) -> Arc<Prepared> {
        let mut dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = &mut *dated {
            if whole.bytes[self.date_at()] == *date {
                return Arc::clone(whole);
            }
            if let Some(unshared) = Arc::get_mut(whole) {
                unshared.set_date(date);
                return Arc::clone(whole);
            }
        }
        // There was none yet, or somebody is still being sent the one of the second before.
        let Prepared { length_at, date_at, body_at, .. } = *self;
        let (bytes, ruled) = (self.bytes.clone(), Arc::clone(&self.ruled));
        let mut copy = Prepared { bytes, length_at, date_at, body_at, ruled, dated: Mutex::default() };
        copy.set_date(date);
        Arc::clone(dated.insert(Arc::new(copy)))
    }

    fn set_date(&mut self, date: &[u8; 29]) {
        let date_at = self.date_at();
        self.bytes[date_at].copy_from_slice(date);
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({} and {} bytes)", self.body_at, self.body().len())
    }
}

/// An open file, opaque here, with whatever has to live as long as it is sent.
pub struct OpenFile {
    fd: OwnedFd,
    _lease: Option<Box<dyn Send + Sync>>,
    /// What of it the kernel had in memory when it was asked last, and when that was.
    in_memory: Mutex<Option<(Range<u64>, Instant)>>,
}

/// So long what the kernel had in memory is taken to be there still, as a cached file is taken to
/// be fresh.
const IN_MEMORY_FOR: Duration = Duration::from_millis(1);

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenFile({:?})", self.fd)
    }
}

impl OpenFile {
    /// A file to be sent.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        OpenFile { fd, _lease: None, in_memory: Mutex::default() }
    }

    /// The same; `lease` is dropped when nobody sends the file any more.
    #[must_use]
    pub fn leased(fd: OwnedFd, lease: Box<dyn Send + Sync>) -> Self {
        OpenFile { fd, _lease: Some(lease), in_memory: Mutex::default() }
    }

    /// The descriptor.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Whether this part of it was in the kernel's memory a moment ago. For whoever sends it next:
    /// a file that many ask for need not be looked at for each of them.
    pub(crate) fn was_in_memory(&self, part: &Range<u64>, now: Instant) -> bool {
        let seen = self.in_memory.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().is_some_and(|(seen, at)| {
            seen.start <= part.start && part.end <= seen.end && now < *at + IN_MEMORY_FOR
        })
    }

    /// The kernel was asked, and has this part in memory.
    pub(crate) fn note_in_memory(&self, part: Range<u64>, now: Instant) {
        *self.in_memory.lock().unwrap_or_else(PoisonError::into_inner) = Some((part, now));
    }
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

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.len() {
            Some(len) => write!(f, "Body({len} bytes)"),
            None => write!(f, "Body(source)"),
        }
    }
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

/// The origin of a response's headers. A rule of the operator replaces those of the server and no
/// others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// A handler, a script, a program that uses the library.
    Program,
    /// The server itself: files, listings, errors.
    Server,
}

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

/// Writes `Content-Length`.
pub(crate) fn push_content_length(out: &mut Vec<u8>, bytes: u64) {
    out.extend_from_slice(b"Content-Length: ");
    text::push_decimal(out, bytes);
    out.extend_from_slice(b"\r\n");
}

/// Writes a status line. Always `HTTP/1.1`: that is what we speak, whatever the client does (RFC
/// 9110 section 2.5).
pub(crate) fn push_status_line(out: &mut Vec<u8>, status: Status) {
    if status == Status::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    text::push_decimal(out, u64::from(status.code()));
    out.push(b' ');
    out.extend_from_slice(status.reason().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_memory_is_taken_to_be_there_for_a_moment() {
        let file = OpenFile::new(std::fs::File::open("/dev/null").unwrap().into());
        let (origin, us) = (crate::reactor::os::read_clocks().mono, Duration::from_micros);
        assert!(!file.was_in_memory(&(0..1), origin));
        file.note_in_memory(100..200, origin);
        for (part, after_us, was) in [
            (100..200, 0, true),
            (120..130, 999, true),
            (120..130, 1000, false),
            (99..130, 0, false),
            (120..201, 0, false),
        ] {
            assert_eq!(file.was_in_memory(&part, origin + us(after_us)), was, "{part:?} after {after_us} us");
        }
        file.note_in_memory(0..50, origin + us(2000));
        assert!(file.was_in_memory(&(0..50), origin + us(2500)) && !file.was_in_memory(&(100..200), origin));
    }

    #[test]
    fn a_dated_copy_is_shared_for_its_second_and_then_used_again() {
        let (first, second) = (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:38 GMT");
        let whole = |date: &[u8; 29]| {
            let date = std::str::from_utf8(date).unwrap();
            let own = "A: b\r\nContent-Length: 7\r\nServer: whirligig";
            format!("HTTP/1.1 200 OK\r\n{own}\r\nDate: {date}\r\n\r\ncontent").into_bytes()
        };
        let mut headers = Headers::new();
        assert_eq!(headers.set("A", b"b"), None);
        let prepared = Prepared::new(&headers, b"content");
        assert_eq!((prepared.headers(), prepared.body()), (&b"A: b\r\n"[..], &b"content"[..]));
        let held = prepared.dated(first);
        assert_eq!(held.bytes(), whole(first));
        assert!(Arc::ptr_eq(&held, &prepared.dated(first)));
        // Whoever is still being sent the old one gets it to its end.
        let next = prepared.dated(second);
        assert_eq!((held.bytes(), next.bytes()), (&whole(first)[..], &whole(second)[..]));
        let place = Arc::as_ptr(&next);
        drop(next);
        assert!(
            std::ptr::eq(place, Arc::as_ptr(&prepared.dated(first))),
            "a copy nobody holds was not used again"
        );
        assert_eq!(prepared.dated(first).bytes(), whole(first));
        let mut out = b"before".to_vec();
        prepared.push_dated(&mut out, second);
        assert_eq!(out, [b"before", &whole(second)[..]].concat());
    }

    #[test]
    fn a_value_cannot_start_a_line() {
        let response = Response::new(Status::FOUND).with_field("Location", "/a\r\nX-Injected: 1\0");
        assert_eq!(response.headers.as_bytes(), b"Location: /a%0D%0AX-Injected:%201%00\r\n");
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 4_294_967_296, u64::MAX] {
            let mut out = Vec::new();
            text::push_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn every_named_status_has_a_reason() {
        assert_eq!(Status::FIELDS_TOO_LARGE.reason(), "Request Header Fields Too Large");
        assert_eq!(Status::from_code(425).map(Status::reason), Some("Too Early"));
        for unlisted in [105, 209, 299, 306, 309, 418, 427, 430, 450, 509, 599] {
            assert_eq!(Status::from_code(unlisted).map(Status::reason), Some(""), "{unlisted}");
        }
        let listed = (100..600).filter_map(Status::from_code).filter(|status| !status.reason().is_empty());
        assert_eq!(listed.count(), 62);
        assert_eq!(Status::from_code(600), None);
    }
}
