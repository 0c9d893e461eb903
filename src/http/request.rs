//! Request heads: found, taken apart, and judged by our own strict checks.
//!
//! A head that is plainly right is read in one pass (`WholeHead`); all others go through httparse.
//! That knows the grammar of tokens and field values; it is lenient about line ends and silent
//! about framing, Host, target and version. Those are judged here (RFC 9112 sections 2.2, 3 and
//! 6.3, RFC 9110 section 7.2): any doubt is an error, never a guess. Pure; must not know where the
//! bytes came from.

use smallvec::{SmallVec, smallvec};

use crate::config::{FIELDS_CEILING, Limits};
use crate::http::error::ProtocolError;
use crate::http::fields::{FieldLine, FieldLines, Fields, NameFilter, list_elements, take_lines, trim_ows};
use crate::http::status::Status;
use crate::http::target;
use crate::http::target::OriginForm;
use crate::text;

/// A request method (RFC 9110 section 9, RFC 5789).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method<'b> {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// PATCH
    Patch,
    /// TRACE
    Trace,
    /// CONNECT
    Connect,
    /// Any other token. Methods are case-sensitive: `get` is one of these.
    Other(&'b str),
}

impl<'b> Method<'b> {
    pub(crate) fn parse(name: &'b str) -> Self {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "PATCH" => Method::Patch,
            "TRACE" => Method::Trace,
            "CONNECT" => Method::Connect,
            other => Method::Other(other),
        }
    }

    /// The method as it stands on the request line.
    #[must_use]
    pub fn name(&self) -> &'b str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Connect => "CONNECT",
            Method::Other(name) => name,
        }
    }

    /// What statistics tell methods apart by. Clients choose the names of the others, so those
    /// share one.
    pub const LABELS: [&'static str; 10] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "other"];

    /// Its label.
    #[must_use]
    pub fn label(&self) -> MethodLabel {
        MethodLabel(match self {
            Method::Get => 0,
            Method::Head => 1,
            Method::Post => 2,
            Method::Put => 3,
            Method::Delete => 4,
            Method::Options => 5,
            Method::Patch => 6,
            Method::Trace => 7,
            Method::Connect => 8,
            Method::Other(_) => 9,
        })
    }
}

/// A method as statistics know it: one of [`Method::LABELS`], in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodLabel(u8);

impl MethodLabel {
    /// Of a HEAD, whose answer has no content.
    pub const HEAD: MethodLabel = MethodLabel(1);

    /// Its place in [`Method::LABELS`].
    #[must_use]
    pub fn place(self) -> usize {
        usize::from(self.0)
    }
}

/// How a request's content is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// None follows.
    None,
    /// This many bytes follow, at least one.
    Length(u64),
    /// Chunks follow.
    Chunked,
}

/// One request head, borrowed from the input.
#[derive(Clone, Copy, Debug)]
pub struct Request<'b> {
    method: Method<'b>,
    target: &'b [u8],
    path: &'b [u8],
    is_plain_path: bool,
    query: Option<&'b [u8]>,
    authority: Option<&'b [u8]>,
    minor: u8,
    fields: Fields<'b>,
    head: &'b [u8],
    content: Content,
    persistent: bool,
    expects_continue: bool,
    /// True if the target is not the one that the client sent.
    is_rewritten: bool,
}

impl<'b> Request<'b> {
    /// The method.
    #[must_use]
    pub fn method(&self) -> Method<'b> {
        self.method
    }

    /// Whether it is GET or HEAD.
    #[must_use]
    pub fn is_get_or_head(&self) -> bool {
        matches!(self.method, Method::Get | Method::Head)
    }

    /// The request target as received: ASCII, in whatever form.
    #[must_use]
    pub fn target(&self) -> &'b str {
        std::str::from_utf8(self.target).unwrap_or_default()
    }

    /// The path as received: still percent-encoded, without the query. `*` for `OPTIONS *`.
    #[must_use]
    pub fn path(&self) -> &'b [u8] {
        self.path
    }

    /// The path, if references in the response may be relative to it: the client sent it so, and
    /// both sides count the same folders in it.
    pub(crate) fn base(&self) -> Option<&'b [u8]> {
        (!self.is_rewritten && target::is_base(self.path)).then_some(self.path)
    }

    /// Whether the path is its own normal form and no component of it begins with a dot; see
    /// [`target::normalize`]. Nearly all are, and then no one has to look at it again.
    #[must_use]
    pub fn is_plain_path(&self) -> bool {
        self.is_plain_path
    }

    /// The query as received, without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&'b [u8]> {
        self.query
    }

    /// The authority asked for: of an absolute-form target, else the Host field (RFC 9112 section
    /// 3.2.2).
    #[must_use]
    pub fn authority(&self) -> Option<&'b [u8]> {
        self.authority
    }

    /// The minor version: 0 for HTTP/1.0, 1 for HTTP/1.1 and anything later of major version 1.
    #[must_use]
    pub fn minor_version(&self) -> u8 {
        self.minor
    }

    /// The field lines.
    #[must_use]
    pub fn fields(&self) -> Fields<'b> {
        self.fields
    }

    /// The first value of a field, without white space around it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        self.fields.first(name)
    }

    /// The whole head as received, its empty line included.
    #[must_use]
    pub fn head(&self) -> &'b [u8] {
        self.head
    }

    /// How its content is framed.
    #[must_use]
    pub fn content(&self) -> Content {
        self.content
    }

    /// Whether the client will take further answers on this connection (RFC 9112 section 9.3).
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Whether the client waits for `100 Continue` before it sends its content (RFC 9110 section
    /// 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The request line as received, without its line end: for logs.
    #[must_use]
    pub fn line(&self) -> &'b [u8] {
        let end = memchr::memchr(b'\r', self.head).unwrap_or(self.head.len());
        &self.head[..end]
    }
}

/// Room for the field lines of one head at a time, on the caller's stack.
#[derive(Default)]
pub struct FieldSlots<'b> {
    lines: FieldLines<'b>,
}

impl FieldSlots<'_> {
    /// Empty room.
    #[must_use]
    pub fn new() -> Self {
        FieldSlots::default()
    }
}

/// A whole head of the usual kind, read in one pass.
///
/// Nearly every head arrives whole, asks for a path, and is sound. Such a one is not searched for
/// its end first: reading it finds the end. Whatever is not plainly right is left to [`scan`] and
/// [`parse`], which say what is wrong with it, so both ways come to the same verdict.
#[derive(Debug)]
pub(super) struct WholeHead<'b> {
    bytes: &'b [u8],
    method: Method<'b>,
    target: &'b [u8],
    form: OriginForm<'b>,
    minor: u8,
}

impl<'b> WholeHead<'b> {
    /// Reads the head that `input` begins with, if it is whole and of the usual kind.
    #[inline(always)]
    pub(super) fn read(input: &'b [u8], slots: &mut FieldSlots<'b>, limits: &Limits) -> Option<Self> {
        let (method, start) = usual_method(input)?;
        let (form, len) = target::take_origin_form(&input[start..]).ok()?;
        let end = start + len;
        let version = input.get(end..end + VERSION_1_1.len())?;
        let minor = match version {
            _ if version == VERSION_1_1 => 1,
            _ if version == VERSION_1_0 => 0,
            _ => return None,
        };
        let block = &input[end + version.len()..];
        let block_len = take_lines(block, limits.fields_max.min(FIELDS_CEILING), &mut slots.lines)?;
        let bytes = &input[..end + version.len() + block_len];
        let is_sound = len <= limits.target_bytes_max && bytes.len() <= limits.head_bytes_max;
        is_sound.then_some(WholeHead { bytes, method, target: &input[start..end], form, minor })
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Judges it. `slots` are those it was read into.
    #[inline(always)]
    pub(super) fn judge<'s>(
        self,
        slots: &'s FieldSlots<'b>,
        limits: &Limits,
    ) -> Result<Request<'s>, ProtocolError>
    where
        'b: 's,
    {
        let lines = Fields::new(&slots.lines);
        let WholeHead { bytes, method, target, form, minor } = self;
        judge(Head { bytes, method, target, minor, lines }, limits, || Ok((form, None)))
    }
}

const VERSION_1_1: &[u8; 11] = b" HTTP/1.1\r\n";
const VERSION_1_0: &[u8; 11] = b" HTTP/1.0\r\n";

/// The method of most requests, and where the target begins.
#[inline(always)]
fn usual_method(input: &[u8]) -> Option<(Method<'static>, usize)> {
    Some(match input {
        [b'G', b'E', b'T', b' ', ..] => (Method::Get, 4),
        [b'H', b'E', b'A', b'D', b' ', ..] => (Method::Head, 5),
        [b'P', b'O', b'S', b'T', b' ', ..] => (Method::Post, 5),
        [b'P', b'U', b'T', b' ', ..] => (Method::Put, 4),
        [b'P', b'A', b'T', b'C', b'H', b' ', ..] => (Method::Patch, 6),
        [b'D', b'E', b'L', b'E', b'T', b'E', b' ', ..] => (Method::Delete, 7),
        _ => return None,
    })
}

/// What a look for the end of a head found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The head ends before this position.
    Complete(usize),
    /// Not yet: look on from here next time.
    Partial(usize),
}

/// Looks for the empty line, from `scanned` on. Each byte is looked at once however the head
/// arrives; what is plainly wrong is refused as it comes, so that garbage gets its 400 at once and
/// not at the header timeout.
///
/// Where several things are wrong the first of them decides, never how many bytes have come: a head
/// cut in two must get the answer that it gets whole.
pub(super) fn scan(input: &[u8], scanned: usize, limits: &Limits) -> Result<Scan, ProtocolError> {
    let head = &input[..input.len().min(limits.head_bytes_max)];
    let line_end = find_line_end(head, scanned);
    let stop = match line_end {
        LineEnd::Bare(at) | LineEnd::Last(at) => at,
        LineEnd::None => head.len(),
    };
    let line_max = limits.target_bytes_max + REQUEST_LINE_REST_BYTES;
    let is_line_too_long = stop > line_max && memchr::memchr(b'\n', &head[..line_max]).is_none();
    let judged = match line_end {
        _ if is_line_too_long => line_max + 1,
        // The parser finds them in a complete head.
        LineEnd::Last(_) => scanned,
        LineEnd::Bare(_) | LineEnd::None => stop,
    };
    if head.get(scanned..judged).is_some_and(has_control) {
        return Err(CONTROL);
    }
    match line_end {
        _ if is_line_too_long => Err(too_long(head, limits)),
        // RFC 9112 section 2.2 allows a lone LF as a line end. Two readings of one head are how
        // requests are smuggled, so we do not.
        LineEnd::Bare(_) => Err(ProtocolError::bad_request("a line of the head ends in LF without CR")),
        LineEnd::Last(at) => Ok(Scan::Complete(at + 1)),
        LineEnd::None if head.len() >= limits.head_bytes_max => Err(too_long(head, limits)),
        LineEnd::None => Ok(Scan::Partial(head.len())),
    }
}

/// What a request line may have besides its target before it is too long: method, version, spaces.
const REQUEST_LINE_REST_BYTES: usize = 64;

/// The first LF that ends more than a line of the head.
enum LineEnd {
    /// It has no CR before it.
    Bare(usize),
    /// The line it ends is empty: the head is complete.
    Last(usize),
    /// There is none.
    None,
}

fn find_line_end(head: &[u8], scanned: usize) -> LineEnd {
    let mut from = scanned.min(head.len());
    while let Some(at) = text::find(&head[from..], b'\n') {
        match line_end_at(head, from + at) {
            LineEnd::None => from += at + 1,
            end => return end,
        }
    }
    LineEnd::None
}

/// What the LF at this place means.
fn line_end_at(head: &[u8], at: usize) -> LineEnd {
    if at == 0 || head[at - 1] != b'\r' {
        LineEnd::Bare(at)
    } else if at >= 3 && head[at - 2] == b'\n' {
        LineEnd::Last(at)
    } else {
        LineEnd::None
    }
}

const CONTROL: ProtocolError = ProtocolError::bad_request("the head contains a control character");

/// Whether there is a control character other than those of line ends and tab. It looks at all of
/// them without a way out, which the compiler turns into a few instructions for many bytes.
fn has_control(bytes: &[u8]) -> bool {
    let is_control = |byte: u8| (byte < b' ' && !matches!(byte, b'\t' | b'\r' | b'\n')) || byte == 0x7f;
    bytes.iter().fold(false, |found, &byte| found | is_control(byte))
}

/// 414 while the request line has no end, 431 after it.
fn too_long(input: &[u8], limits: &Limits) -> ProtocolError {
    let line = memchr::memchr(b'\n', input).unwrap_or(input.len());
    if line > limits.target_bytes_max {
        ProtocolError::new(Status::URI_TOO_LONG, "the request target is too long")
    } else {
        ProtocolError::new(Status::FIELDS_TOO_LARGE, "the request head is too large")
    }
}

/// Parses a complete head: `head` is exactly what `scan` called complete.
pub fn parse<'s, 'b: 's>(
    head: &'b [u8],
    slots: &'s mut FieldSlots<'b>,
    limits: &Limits,
) -> Result<Request<'s>, ProtocolError> {
    // A head that comes in pieces is searched for control characters first. What passes the parser
    // has none, so a whole one is searched only when something is wrong with it.
    parse_lines(head, slots, limits).map_err(|error| if has_control(head) { CONTROL } else { error })
}

/// Room for what httparse finds, on the stack for most heads.
type HeaderTable<'b> = SmallVec<[httparse::Header<'b>; 24]>;

fn parse_lines<'s, 'b: 's>(
    head: &'b [u8],
    slots: &'s mut FieldSlots<'b>,
    limits: &Limits,
) -> Result<Request<'s>, ProtocolError> {
    let room = limits.fields_max.min(FIELDS_CEILING);
    let line_ends = memchr::memchr_iter(b'\n', head).count();
    let mut table: HeaderTable<'b> = smallvec![httparse::EMPTY_HEADER; line_ends.min(room)];
    let mut raw = httparse::Request::new(&mut table);
    let (method, target, minor, len) = match raw.parse(head) {
        Ok(httparse::Status::Complete(used)) => {
            debug_assert_eq!(used, head.len(), "scan and httparse agree on the end of the head");
            let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
                return Err(ProtocolError::bad_request("the request line is incomplete"));
            };
            (method, target, minor, raw.headers.len())
        }
        Ok(httparse::Status::Partial) => {
            return Err(ProtocolError::bad_request("the head ends too early"));
        }
        Err(httparse::Error::Version) => {
            let (method, target, len) = later_version(head, &mut table)?;
            (method, target, 1, len)
        }
        Err(error) => return Err(explain(error)),
    };
    slots.lines.clear();
    slots.lines.extend(table[..len].iter().map(|line| FieldLine::from(*line)));
    let (method, bytes) = (Method::parse(method), head);
    let lines = Fields::new(&slots.lines);
    let head = Head { bytes, method, target: target.as_bytes(), minor, lines };
    judge(head, limits, || locate(method, target.as_bytes()))
}

fn explain(error: httparse::Error) -> ProtocolError {
    match error {
        httparse::Error::TooManyHeaders => {
            ProtocolError::new(Status::FIELDS_TOO_LARGE, "the head has too many field lines")
        }
        httparse::Error::HeaderName => ProtocolError::bad_request("a field name is malformed"),
        httparse::Error::HeaderValue => ProtocolError::bad_request("a field value is malformed"),
        httparse::Error::NewLine => ProtocolError::bad_request("a line end is malformed"),
        httparse::Error::Token => ProtocolError::bad_request("the request line is malformed"),
        httparse::Error::Status | httparse::Error::Version => {
            ProtocolError::bad_request("the version is malformed")
        }
    }
}

/// A version httparse does not read: 1.2 to 1.9 are served as 1.1 (RFC 9110 section 2.5), other
/// well-formed ones get 505, anything else 400. Says how many lines the table holds, too.
fn later_version<'b>(
    head: &'b [u8],
    table: &mut [httparse::Header<'b>],
) -> Result<(&'b str, &'b str, usize), ProtocolError> {
    const BAD: ProtocolError = ProtocolError::bad_request("the version is malformed");
    let end = memchr::memmem::find(head, b"\r\n").ok_or(BAD)?;
    let line = std::str::from_utf8(&head[..end]).map_err(|_| BAD)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD);
    };
    // The preface of HTTP/2 is made to look like a request of a version nobody has (RFC 9113
    // section 3.4); it is a client that took us for something else, not one that asks for a
    // version.
    if (method, target) == ("PRI", "*") {
        return Err(ProtocolError::bad_request("this server does not speak HTTP/2"));
    }
    match version.as_bytes() {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => {}
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(ProtocolError::new(
                Status::VERSION_NOT_SUPPORTED,
                "this server speaks HTTP/1.1 and HTTP/1.0",
            ));
        }
        _ => return Err(BAD),
    }
    match httparse::parse_headers(&head[end + 2..], table) {
        Ok(httparse::Status::Complete((_, lines))) => Ok((method, target, lines.len())),
        Ok(httparse::Status::Partial) => Err(BAD),
        Err(error) => Err(explain(error)),
    }
}

/// The fields that decide framing and persistence, gathered in one pass.
#[derive(Default)]
struct Framing<'b> {
    host: Option<&'b [u8]>,
    length: Option<&'b [u8]>,
    coding: Option<&'b [u8]>,
    closes: bool,
    keeps: bool,
    expects: Expects,
}

/// The sum of all `Expect` lines: they are one list (RFC 9110 sections 5.3 and 10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    #[default]
    Nothing,
    Continue,
    /// Something that no server knows, perhaps beside `100-continue`.
    Unknown,
}

impl Expects {
    /// With one more line.
    fn and(self, line: &[u8]) -> Expects {
        let mut elements = list_elements(line).peekable();
        let is_known = elements.peek().is_some()
            && elements.all(|element| text::eq_ignore_case(element, b"100-continue"));
        if is_known && self != Expects::Unknown { Expects::Continue } else { Expects::Unknown }
    }
}

/// The names of those fields.
const FRAMING: NameFilter =
    NameFilter::of(&["host", "expect", "connection", "content-length", "transfer-encoding"]);

impl<'b> Framing<'b> {
    #[inline(always)]
    fn gather(&mut self, lines: Fields<'b>) -> Result<(), ProtocolError> {
        for line in lines.lines() {
            // Of a browser's twenty names only a few get as far as a comparison.
            if !FRAMING.may_have(line) {
                continue;
            }
            let (name, value) = (line.name_bytes(), line.value());
            let is = |known: &[u8]| text::eq_ignore_case(name, known);
            match name.len() {
                4 if is(b"host") => once(&mut self.host, value, "Host")?,
                6 if is(b"expect") => self.expects = self.expects.and(value),
                10 if is(b"connection") => {
                    for option in list_elements(value) {
                        self.closes |= text::eq_ignore_case(option, b"close");
                        self.keeps |= text::eq_ignore_case(option, b"keep-alive");
                    }
                }
                14 if is(b"content-length") => {
                    once(&mut self.length, value, "Content-Length")?;
                }
                17 if is(b"transfer-encoding") => {
                    once(&mut self.coding, value, "Transfer-Encoding")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// RFC 9112 section 6.3, with every case that leaves room for doubt refused.
    fn content(&self, minor: u8) -> Result<Content, ProtocolError> {
        if let Some(coding) = self.coding {
            if self.length.is_some() {
                return Err(ProtocolError::bad_request(
                    "Transfer-Encoding and Content-Length are both present",
                ));
            }
            if minor == 0 {
                return Err(ProtocolError::bad_request("HTTP/1.0 has no Transfer-Encoding"));
            }
            let mut codings = list_elements(coding);
            return match (codings.next(), codings.next()) {
                (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(Content::Chunked),
                (None, _) => Err(ProtocolError::bad_request("Transfer-Encoding is empty")),
                _ => Err(ProtocolError::new(
                    Status::NOT_IMPLEMENTED,
                    "the only transfer coding here is chunked",
                )),
            };
        }
        let Some(digits) = self.length.map(trim_ows) else { return Ok(Content::None) };
        match decimal(digits) {
            Some(0) => Ok(Content::None),
            Some(length) => Ok(Content::Length(length)),
            None if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                Err(ProtocolError::new(Status::CONTENT_TOO_LARGE, "the content is too large"))
            }
            None => Err(ProtocolError::bad_request("Content-Length is not a number")),
        }
    }
}

fn once<'b>(slot: &mut Option<&'b [u8]>, value: &'b [u8], name: &'static str) -> Result<(), ProtocolError> {
    if slot.replace(value).is_none() {
        return Ok(());
    }
    Err(ProtocolError::bad_request(match name {
        "Host" => "Host is there twice",
        "Content-Length" => "Content-Length is there twice",
        _ => "Transfer-Encoding is there twice",
    }))
}

/// Digits only, no sign, no white space, no wrapping.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &byte| {
        let digit = (byte as char).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A head taken apart, not judged yet.
#[derive(Clone, Copy)]
struct Head<'b> {
    bytes: &'b [u8],
    method: Method<'b>,
    target: &'b [u8],
    minor: u8,
    lines: Fields<'b>,
}

/// Judges a head; `locate` says what its target means.
#[inline(always)]
fn judge<'b>(
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
    // Framing before anything else: a request whose end is in doubt must not be answered as if it
    // were sound.
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
                "the only expectation known is 100-continue",
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
        fields: lines,
        head: bytes,
        content,
        persistent: !framing.closes && (minor >= 1 || framing.keeps),
        expects_continue,
        is_rewritten: false,
    })
}

/// Path, query and authority of a target in any of its four forms (RFC 9112 section 3.2).
fn locate<'b>(
    method: Method<'b>,
    bytes: &'b [u8],
) -> Result<(OriginForm<'b>, Option<&'b [u8]>), ProtocolError> {
    if method == Method::Connect {
        return Err(ProtocolError::new(
            Status::NOT_IMPLEMENTED,
            "this server is no proxy: CONNECT is not offered",
        ));
    }
    if bytes.first() == Some(&b'/') {
        return Ok((read_origin_form(bytes)?, None));
    }
    if bytes == b"*" {
        return match method {
            Method::Options => Ok((OriginForm { path: bytes, query: None, is_plain: false }, None)),
            _ => Err(ProtocolError::bad_request("the target * is for OPTIONS only")),
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
        // `http://host?query`: an empty path is `/` (RFC 9110 section 4.2.3).
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

/// A request head kept beyond the input it came in: for answers that are made later.
#[derive(Clone, Debug)]
pub struct KeptHead {
    head: Vec<u8>,
    /// True if a rewrite replaced the target that the client sent.
    is_rewritten: bool,
}

impl KeptHead {
    /// Copies the head. One allocation; the hot path does without.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        KeptHead { head: request.head.to_vec(), is_rewritten: request.is_rewritten }
    }

    /// The same head with another target in origin-form. For answering one path by way of another:
    /// what reads it sees the new one everywhere. An authority that stood in the old target stays:
    /// it beats Host.
    #[must_use]
    pub fn with_target(request: &Request<'_>, target: &[u8]) -> Self {
        let line = request.line();
        let version = memchr::memrchr(b' ', line).map_or(line.len(), |space| space);
        let mut head = [request.method.name().as_bytes(), b" "].concat();
        if let (false, Some(authority)) = (request.target.starts_with(b"/"), request.authority) {
            head.extend_from_slice(b"http://");
            head.extend_from_slice(authority);
        }
        head.extend_from_slice(target);
        head.extend_from_slice(&request.head[version..]);
        KeptHead { head, is_rewritten: true }
    }

    /// A GET, or HEAD where it was one, for another target in origin-form, with all field lines but
    /// those about content: for answering with what another path has to say (RFC 3875 section
    /// 6.2.2).
    #[must_use]
    pub fn as_get(request: &Request<'_>, target: &[u8]) -> Self {
        let is_about_content = |name: &str| {
            ["content-", "transfer-encoding", "expect", "trailer"]
                .iter()
                .any(|start| name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
        };
        let method: &[u8] = if request.method == Method::Head { b"HEAD " } else { b"GET " };
        let version: &[u8] = if request.minor == 0 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" };
        let mut head = method.to_vec();
        if let (false, Some(authority)) = (request.target.starts_with(b"/"), request.authority) {
            head.extend_from_slice(b"http://");
            head.extend_from_slice(authority);
        }
        head.extend_from_slice(target);
        head.extend_from_slice(version);
        for (name, value) in request.fields.iter().filter(|(name, _)| !is_about_content(name)) {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        KeptHead { head, is_rewritten: true }
    }

    /// Reads it again. It was valid once, so it is now; `None` would be a bug and is treated as a
    /// 500 by callers.
    pub fn with<T>(&self, limits: &Limits, read: impl FnOnce(&Request<'_>) -> T) -> Option<T> {
        let mut slots = FieldSlots::new();
        let request = parse(&self.head, &mut slots, limits).ok()?;
        Some(read(&Request { is_rewritten: self.is_rewritten, ..request }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(head: &str) -> u16 {
        let limits = Limits::default();
        let bytes: Vec<u8> = head.chars().map(|c| c as u8).collect();
        match scan(&bytes, 0, &limits) {
            Err(error) => error.status.code(),
            Ok(Scan::Partial(_)) => 0,
            Ok(Scan::Complete(end)) => {
                assert_eq!(end, bytes.len());
                let mut slots = FieldSlots::new();
                parse(&bytes, &mut slots, &limits).map_or_else(|error| error.status.code(), |_| 200)
            }
        }
    }

    #[test]
    fn heads_and_their_verdicts() {
        let cases: &[(&str, u16)] = &[
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\n\r\n", 200),
            ("GET / HTTP/1.9\r\nHost: a\r\nX: y\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: y\nZ:\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\n", 400),
            ("GET / HTTP/11.1\r\nHost: a\r\n\r\n", 400),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /\r\nHost: a\r\n\r\n", 400),
            ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("GET HTTP://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://u:p@a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{ff}caf\u{e9}\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 200),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", 200),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", 200),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cHunked \r\n\r\n", 200),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 501),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", 501),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nExpect: 100-continue\r\n\r\n", 417),
            ("GET / HTTP/1.1\r\nExpect: 100-continue\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: \r\n\r\n", 417),
            ("GET /a", 0),
            ("GET /a\u{1}", 400),
            ("\u{16}\u{3}\u{1}", 400),
        ];
        for (head, expected) in cases {
            assert_eq!(status(head), *expected, "{head:?}");
            let (whole, steps) = both_ways(head.as_bytes());
            assert!(whole.is_none_or(|whole| whole == steps), "{head:?} in one pass");
        }
    }

    /// What the two ways to read a head say of it: in one pass, if it is of the usual kind, and
    /// step by step.
    fn both_ways(head: &[u8]) -> (Option<String>, String) {
        let limits =
            Limits { target_bytes_max: 64, head_bytes_max: 512, fields_max: 12, ..Limits::default() };
        let said = |request: Result<Request<'_>, ProtocolError>| format!("{request:?}");
        let (mut first, mut second) = (FieldSlots::new(), FieldSlots::new());
        let whole = WholeHead::read(head, &mut first, &limits).map(|whole| {
            let len = whole.len();
            format!("{len} {}", said(whole.judge(&first, &limits)))
        });
        let steps = match scan(head, 0, &limits) {
            Ok(Scan::Complete(end)) => format!("{end} {}", said(parse(&head[..end], &mut second, &limits))),
            other => format!("{other:?}"),
        };
        (whole, steps)
    }

    const USUAL: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /a/b.c?d=e HTTP/1.0\r\n\r\n",
        "GET /%41/..//.x HTTP/1.1\r\nHost: a.test:80\r\nX-Empty:\r\nRange:  bytes=0-1 \r\n\r\nGET /next",
        "POST /f HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nabcde",
        "PUT /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nUser-Agent: \u{e9}\r\n\r\n",
    ];

    #[test]
    fn a_usual_head_is_read_in_one_pass() {
        for head in USUAL {
            let (whole, steps) = both_ways(head.as_bytes());
            assert_eq!(whole, Some(steps), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn one_pass_says_what_the_steps_say(
            usual in 0..USUAL.len(),
            changes in proptest::collection::vec((0usize..200, 0usize..4, proptest::sample::select(&b"\r\n\t\0 :/.%?#GHa1\x7f\xff"[..])), 0..4),
        ) {
            let mut head = USUAL[usual].as_bytes().to_vec();
            for (at, what, byte) in changes {
                let at = at % head.len().max(1);
                match what {
                    0 => head.insert(at, byte),
                    _ if head.is_empty() => {}
                    1 => head[at] = byte,
                    2 => drop(head.remove(at)),
                    _ => head.truncate(at),
                }
            }
            let (whole, steps) = both_ways(&head);
            prop_assert!(whole.is_none_or(|whole| whole == steps), "{}", head.escape_ascii());
        }

        #[test]
        fn long_lines_and_many_are_as_much_too_long_in_one_pass(
            target in 55usize..75,
            lines in 0usize..16,
            value in 0usize..60,
        ) {
            let lines = format!("X: {}\r\n", "v".repeat(value)).repeat(lines);
            let head = format!("GET /{} HTTP/1.1\r\nHost: a\r\n{lines}\r\n", "a".repeat(target));
            let (whole, steps) = both_ways(head.as_bytes());
            prop_assert!(whole.is_none_or(|whole| whole == steps), "{head:?}");
        }
    }

    #[test]
    fn too_much_has_the_right_name() {
        assert_eq!(status(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(20_000))), 414);
        assert_eq!(status(&format!("GET /{}", "a".repeat(20_000))), 414);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(40_000))), 431);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200))), 431);
    }

    #[test]
    fn persistence_follows_version_and_options() {
        let cases: &[(&str, bool)] = &[
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: ,, CLOSE ,\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ];
        for (head, expected) in cases {
            let mut slots = FieldSlots::new();
            let request = parse(head.as_bytes(), &mut slots, &Limits::default()).unwrap();
            assert_eq!(request.is_persistent(), *expected, "{head:?}");
        }
    }

    #[test]
    fn scanning_looks_at_each_byte_once() {
        let limits = Limits::default();
        let head = b"GET /abc HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nrest";
        let mut scanned = 0;
        for end in 1..=head.len() {
            match scan(&head[..end], scanned, &limits).unwrap() {
                Scan::Partial(next) => {
                    assert_eq!(next, end, "everything up to here is settled");
                    scanned = next;
                }
                Scan::Complete(at) => {
                    assert_eq!((at, end), (head.len() - 4, head.len() - 4));
                    return;
                }
            }
        }
        panic!("the end of the head was missed");
    }
}
