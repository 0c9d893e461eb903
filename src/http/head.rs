//! Request heads as bytes: their end is found, and their lines are taken apart.
//!
//! A head that is plainly right is read in one pass (`WholeHead`); all others go through httparse.
//! That knows the grammar of tokens and field values; it is lenient about line ends and silent
//! about framing, Host, target and version. Line ends and the version are judged here (RFC 9112
//! sections 2.2 and 2.3), the rest in `request.rs`. Pure; must not know where the bytes came from.

use smallvec::{SmallVec, smallvec};

use crate::config::{FIELDS_CEILING, Limits};
use crate::http::error::ProtocolError;
use crate::http::fields::{FieldLine, FieldLines, Fields, take_lines};
use crate::http::method::Method;
use crate::http::request::{Head, Request, judge, locate};
use crate::http::status::Status;
use crate::http::target;
use crate::http::target::OriginForm;
use crate::text;

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

#[cfg(test)]
mod tests;
