//! Request heads as bytes: the search for their end, and the parsing of their lines.
//!
//! A valid head of the usual kind is read in one pass (`WholeHead`). All other heads go through
//! httparse, which knows the grammar of tokens and field values. It is lenient about line ends, and
//! it does not check framing, `Host`, target and version. This file checks line ends and the
//! version (RFC 9112 sections 2.2 and 2.3); `request.rs` checks the rest. This file must not know
//! the source of the bytes.

use smallvec::{SmallVec, smallvec};

use crate::config::{FIELDS_CEILING, Limits};
use crate::http::error::ProtocolError;
use crate::http::field_lines::{FieldLine, FieldLineVec, ReceivedHeaders, take_lines};
use crate::http::method::Method;
use crate::http::request::{Head, Request, judge, locate};
use crate::http::status::Status;
use crate::http::target::{self, OriginForm};
use crate::text;

/// Memory for the field lines of one head at a time, on the stack of the caller.
#[derive(Default)]
pub struct FieldSlots<'b> {
    lines: FieldLineVec<'b>,
}

impl FieldSlots<'_> {
    /// Slots without field lines.
    #[must_use]
    pub fn new() -> Self {
        FieldSlots::default()
    }
}

/// A whole head of the usual kind, read in one pass.
///
/// Nearly every head arrives whole, requests a path, and is valid. Reading such a head finds its
/// end, so no search is needed. All other heads are left to [`scan`] and [`parse`], which report
/// the errors. Both ways come to the same result.
#[derive(Debug)]
pub(super) struct WholeHead<'b> {
    bytes: &'b [u8],
    method: Method<'b>,
    target: &'b [u8],
    form: OriginForm<'b>,
    minor: u8,
}

impl<'b> WholeHead<'b> {
    /// Reads the head at the start of `input`. `None` if it is not whole or not of the usual kind.
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

    /// Length of the head in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Checks the head, and makes a request of it. `slots` are those it was read into.
    #[inline(always)]
    pub(super) fn judge<'s>(
        self,
        slots: &'s FieldSlots<'b>,
        limits: &Limits,
    ) -> Result<Request<'s>, ProtocolError>
    where
        'b: 's,
    {
        let lines = ReceivedHeaders::new(&slots.lines);
        let WholeHead { bytes, method, target, form, minor } = self;
        judge(Head { bytes, method, target, minor, lines }, limits, || Ok((form, None)))
    }
}

const VERSION_1_1: &[u8; 11] = b" HTTP/1.1\r\n";

const VERSION_1_0: &[u8; 11] = b" HTTP/1.0\r\n";

/// Method of a usual head, and the position of the target.
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

/// Result of the search for the end of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The head ends before this position.
    Complete(usize),
    /// No end was found. Continue from this position next time.
    Partial(usize),
}

/// Searches for the empty line, from `scanned` on.
///
/// Each byte is looked at once, however the head arrives. Errors are found while the head arrives,
/// so invalid input gets its 400 at once and not at the header timeout.
///
/// If a head has several errors, the first one decides, not the number of bytes that have arrived.
/// So a head that arrives in two parts gets the same response as one that arrives whole.
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
        // The parser finds control characters in a complete head.
        LineEnd::Last(_) => scanned,
        LineEnd::Bare(_) | LineEnd::None => stop,
    };
    if head.get(scanned..judged).is_some_and(has_control) {
        return Err(CONTROL);
    }
    match line_end {
        _ if is_line_too_long => Err(too_long(head, limits)),
        // RFC 9112 section 2.2 allows a lone LF as a line end. This server does not, because two
        // readings of one head allow request smuggling.
        LineEnd::Bare(_) => Err(ProtocolError::bad_request("a line of the head ends in LF without CR")),
        LineEnd::Last(at) => Ok(Scan::Complete(at + 1)),
        LineEnd::None if head.len() >= limits.head_bytes_max => Err(too_long(head, limits)),
        LineEnd::None => Ok(Scan::Partial(head.len())),
    }
}

/// Bytes that a request line may have besides its target: method, version, spaces.
const REQUEST_LINE_REST_BYTES: usize = 64;

/// First LF that ends the head or is an error.
enum LineEnd {
    /// There is no CR before the LF.
    Bare(usize),
    /// The line that the LF ends is empty: the head is complete.
    Last(usize),
    /// There is no such LF.
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

/// Meaning of the LF at this position.
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

/// True if `bytes` contain a control character other than CR, LF and tab. The loop has no early
/// exit, so the compiler can check many bytes with a few instructions.
fn has_control(bytes: &[u8]) -> bool {
    let is_control = |byte: u8| (byte < b' ' && !matches!(byte, b'\t' | b'\r' | b'\n')) || byte == 0x7f;
    bytes.iter().fold(false, |found, &byte| found | is_control(byte))
}

/// Status 414 while the request line has no end, 431 after it.
fn too_long(input: &[u8], limits: &Limits) -> ProtocolError {
    let line = memchr::memchr(b'\n', input).unwrap_or(input.len());
    if line > limits.target_bytes_max {
        ProtocolError::new(Status::URI_TOO_LONG, "the request target is too long")
    } else {
        ProtocolError::new(Status::FIELDS_TOO_LARGE, "the request head is too large")
    }
}

/// Parses a complete head. `head` is exactly the range that `scan` reported as complete.
pub fn parse<'s, 'b: 's>(
    head: &'b [u8],
    slots: &'s mut FieldSlots<'b>,
    limits: &Limits,
) -> Result<Request<'s>, ProtocolError> {
    // A head that arrives in parts was searched for control characters before. The parser accepts
    // none, so a whole head is searched only if it has an error.
    parse_lines(head, slots, limits).map_err(|error| if has_control(head) { CONTROL } else { error })
}

/// Table for the lines that httparse finds, on the stack for most heads.
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
    let lines = ReceivedHeaders::new(&slots.lines);
    let head = Head { bytes, method, target: target.as_bytes(), minor, lines };
    judge(head, limits, || locate(method, target.as_bytes()))
}

fn explain(error: httparse::Error) -> ProtocolError {
    match error {
        httparse::Error::TooManyHeaders => {
            ProtocolError::new(Status::FIELDS_TOO_LARGE, "the head has too many header lines")
        }
        httparse::Error::HeaderName => ProtocolError::bad_request("a header name is malformed"),
        httparse::Error::HeaderValue => ProtocolError::bad_request("a header value is malformed"),
        httparse::Error::NewLine => ProtocolError::bad_request("a line end is malformed"),
        httparse::Error::Token => ProtocolError::bad_request("the request line is malformed"),
        httparse::Error::Status | httparse::Error::Version => {
            ProtocolError::bad_request("the version is malformed")
        }
    }
}

/// Reads a head whose version httparse does not know. Returns method, target, and the number of
/// lines in the table.
///
/// Versions 1.2 to 1.9 are served as 1.1 (RFC 9110 section 2.5). Other well-formed versions get
/// 505, all others 400.
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
    // The HTTP/2 preface looks like a request with an unused version (RFC 9113 section 3.4). Such a
    // client expects a different protocol, not a different version.
    if (method, target) == ("PRI", "*") {
        return Err(ProtocolError::bad_request("this server does not support HTTP/2"));
    }
    match version.as_bytes() {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => {}
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(ProtocolError::new(
                Status::VERSION_NOT_SUPPORTED,
                "this server supports HTTP/1.1 and HTTP/1.0",
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

#[cfg(test)]
mod tests;
