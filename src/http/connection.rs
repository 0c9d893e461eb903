//! One HTTP/1.1 connection as a state machine that owns no socket, no clock and no input bytes.
//!
//! ```text
//! Reading:  Idle -> Head -> Body(BodyDecoder) -> Done -> Idle      in order
//!           Discard(BodyDecoder)   Lingering   Closed
//! Writing:  Idle -> Owed -> Body(BodyEncoder) -> Done -> Idle      Broken(BodyEncoder)
//! Persistence: KeepAlive | Close(CloseReason)                      never back
//! ```
//!
//! Two halves and a one-way flag; data lives in the state that needs it. `start_next_cycle` is the
//! only way back to Idle. The [`Phase`] and the deadline are computed from the state and never
//! stored, so they cannot drift.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Limits, Timeouts};
use crate::http::body::{BodyDecoder, BodyEncoder, Decoded};
use crate::http::error::{CloseReason, ProtocolError};
use crate::http::framing::Content;
use crate::http::head;
use crate::http::head::{FieldSlots, Scan, WholeHead};
use crate::http::method::MethodLabel;
use crate::http::prepared::{PREPARED_COPIED_BYTES_MAX, Prepared};
use crate::http::request::Request;
use crate::http::response::{Body, BodySource, Filled, Response};
use crate::http::response_head::{push_content_length, push_server_and_date, push_status_line};
use crate::http::send_queue::SendQueue;
use crate::http::status::Status;

/// Empty lines tolerated before a request line (RFC 9112 section 2.2 asks for at least one).
const BLANK_LINES_MAX: u8 = 8;

/// The receiving half.
#[derive(Debug)]
enum Reading {
    /// Between requests. Counts empty lines, which are ignored up to a limit.
    Idle { blank_lines: u8 },
    /// Part of a head has come, or the very first one is awaited; `scanned` bytes hold no end of
    /// head. Until the first of them empty lines are counted here, too.
    Head { scanned: u32, blank_lines: u8 },
    /// Content the handler takes, or has not decided about.
    Body(BodyDecoder),
    /// The request is complete.
    Done,
    /// Content nobody wants, read past so that the connection survives.
    Discard(BodyDecoder),
    /// No longer HTTP: whatever comes is dropped until the peer closes.
    Lingering { dropped: u64 },
    /// The peer has shut its side, or we have given up.
    Closed,
}

/// The sending half.
#[derive(Debug)]
enum Writing {
    /// No request is waiting for an answer.
    Idle,
    /// A request is waiting for its answer.
    Owed(Owed),
    /// The answer's content is being made.
    Body(BodyEncoder),
    /// The answer is complete (queued; the socket may not have it yet).
    Done,
    /// The answer's content broke off: the close has to tell.
    Broken(BodyEncoder),
}

/// What must be remembered of a request to frame its answer.
#[derive(Debug, Clone, Copy)]
struct Owed {
    /// `None` when it was refused before it became a request.
    method: Option<MethodLabel>,
    minor: u8,
    awaits_continue: bool,
}

impl Owed {
    /// Whether the answer is a head without content.
    fn head_only(self) -> bool {
        self.method == Some(MethodLabel::HEAD)
    }
}

/// Whether there will be another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Persistence {
    KeepAlive,
    Close(CloseReason),
}

/// When the phase began, when it last moved, and by how many bytes. Every idle connection has one,
/// so it is small.
#[derive(Debug, Clone, Copy)]
struct Progress {
    since: Instant,
    bytes: u32,
    /// Milliseconds from `since` to the last movement: half the size of a second instant.
    moved_after_ms: u32,
}

impl Progress {
    fn starting(now: Instant) -> Self {
        Progress { since: now, bytes: 0, moved_after_ms: 0 }
    }

    fn moved(&mut self, bytes: u64, now: Instant) {
        let Some(bytes) = u32::try_from(bytes).ok().and_then(|bytes| self.bytes.checked_add(bytes)) else {
            // After 4 GiB the account of the least rate begins anew.
            *self = Progress::starting(now);
            return;
        };
        self.bytes = bytes;
        let ms = now.saturating_duration_since(self.since).as_millis();
        self.moved_after_ms = u32::try_from(ms).unwrap_or(u32::MAX);
    }

    fn last(&self) -> Instant {
        // Asked for each request, and then nothing has moved: the sum would be the dearer way.
        if self.moved_after_ms == 0 {
            return self.since;
        }
        self.since + Duration::from_millis(u64::from(self.moved_after_ms))
    }
}

/// What came out of the input.
#[derive(Debug)]
pub enum Event<'b> {
    /// The input is used up; call again when more has come.
    NeedMore,
    /// A request. Answer it with `respond`, or accept its content with `accept_content` first.
    Request(Request<'b>),
    /// Content of the request in hand.
    Content(&'b [u8]),
    /// The content is complete.
    ContentEnd,
    /// Content nobody wanted has been read past: the next cycle may start.
    Discarded,
    /// The next request has to wait for the answer to this one.
    Paused,
}

/// The readable name of both halves together. Deadlines, statistics and logs use only this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Kept alive between requests.
    Idle,
    /// A head is incomplete.
    ReceivingHead,
    /// Content is due.
    ReceivingBody,
    /// The answer is being made.
    Handling,
    /// Queued output waits for the client.
    Sending,
    /// A body source has nothing to say at the moment.
    Streaming,
    /// Reading and dropping after the last answer.
    Lingering,
    /// Nothing more will happen.
    Closed,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 8] = [
        Phase::Idle,
        Phase::ReceivingHead,
        Phase::ReceivingBody,
        Phase::Handling,
        Phase::Sending,
        Phase::Streaming,
        Phase::Lingering,
        Phase::Closed,
    ];

    /// Its name in logs and statistics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::ReceivingHead => "receiving_head",
            Phase::ReceivingBody => "receiving_body",
            Phase::Handling => "handling",
            Phase::Sending => "sending",
            Phase::Streaming => "streaming",
            Phase::Lingering => "lingering",
            Phase::Closed => "closed",
        }
    }
}

/// What a connection whose deadline has passed asks its driver to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// Answer with this and close.
    Refuse(ProtocolError, CloseReason),
    /// Close without a word.
    Close(CloseReason),
    /// Close so that the kernel drops what it still holds.
    Reset(CloseReason),
}

/// What is left to do once the send queue is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The connection goes on.
    NotYet,
    /// Close it.
    Close(CloseReason),
    /// Close it with a reset.
    Reset(CloseReason),
    /// Shut the sending side and read on for a while: closing with input unread would reset the
    /// connection and could take the answer from the client (RFC 9112 section 9.6).
    Linger(CloseReason),
}

/// What `respond` needs from its driver.
#[derive(Debug, Clone, Copy)]
pub struct RespondContext<'a> {
    /// The time of this turn.
    pub now: Instant,
    /// The Date field's value (IMF-fixdate).
    pub date: &'a [u8; 29],
    /// The limits in force.
    pub limits: &'a Limits,
}

/// One connection's protocol state.
#[derive(Debug)]
pub struct Connection {
    reading: Reading,
    writing: Writing,
    persistence: Persistence,
    progress: Progress,
}

impl Connection {
    /// A connection that was accepted at `now`. Its first head is due from now on, even if no byte
    /// comes.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Connection {
            reading: Reading::Head { scanned: 0, blank_lines: 0 },
            writing: Writing::Idle,
            persistence: Persistence::KeepAlive,
            progress: Progress::starting(now),
        }
    }

    /// Looks at `input` and says how many bytes it used and what they meant. Call again with the
    /// rest until `NeedMore` or `Paused`; an error is answered through [`Connection::refuse`] and
    /// ends the reading.
    // The usual case becomes part of its caller: an event with a request in it is large, and would
    // be moved about.
    #[inline(always)]
    pub fn next_event<'s, 'b: 's>(
        &mut self,
        input: &'b [u8],
        slots: &'s mut FieldSlots<'b>,
        limits: &Limits,
        now: Instant,
    ) -> Result<(usize, Event<'s>), ProtocolError> {
        if let Reading::Idle { .. } | Reading::Head { scanned: 0, .. } = self.reading
            && let Some(head) = WholeHead::read(input, slots, limits)
        {
            let end = head.len();
            let request = head.judge(slots, limits)?;
            self.begin(&request, now);
            return Ok((end, Event::Request(request)));
        }
        self.next_unusual(input, slots, limits, now)
    }

    /// The same for all but whole heads of the usual kind.
    #[inline(never)]
    fn next_unusual<'s, 'b: 's>(
        &mut self,
        input: &'b [u8],
        slots: &'s mut FieldSlots<'b>,
        limits: &Limits,
        now: Instant,
    ) -> Result<(usize, Event<'s>), ProtocolError> {
        match &mut self.reading {
            Reading::Idle { .. } | Reading::Head { .. } => self.next_head(input, slots, limits, now),
            Reading::Body(decoder) => {
                // The handler that takes the content sets its limit.
                let (used, decoded) = decoder.decode(input, limits.chunk_line_bytes_max, u64::MAX)?;
                self.note_received(used, now);
                match decoded {
                    Decoded::Data(data) => Ok((used, Event::Content(data))),
                    Decoded::NeedMore => Ok((used, Event::NeedMore)),
                    Decoded::End => {
                        self.reading = Reading::Done;
                        self.progress = Progress::starting(now);
                        Ok((used, Event::ContentEnd))
                    }
                }
            }
            Reading::Discard(_) => Ok(self.discard(input, limits, now)),
            Reading::Lingering { dropped } => {
                *dropped += input.len() as u64;
                Ok((input.len(), Event::NeedMore))
            }
            Reading::Done => Ok((0, Event::Paused)),
            Reading::Closed => Ok((input.len(), Event::NeedMore)),
        }
    }

    fn next_head<'s, 'b: 's>(
        &mut self,
        input: &'b [u8],
        slots: &'s mut FieldSlots<'b>,
        limits: &Limits,
        now: Instant,
    ) -> Result<(usize, Event<'s>), ProtocolError> {
        let mut skipped = 0;
        let scanned = match &mut self.reading {
            Reading::Head { scanned, .. } if *scanned > 0 => *scanned as usize,
            Reading::Idle { .. } | Reading::Head { .. } => {
                skipped = self.skip_blank_lines(input)?;
                0
            }
            Reading::Body(_)
            | Reading::Done
            | Reading::Discard(_)
            | Reading::Lingering { .. }
            | Reading::Closed => return Ok((0, Event::Paused)),
        };
        let rest = &input[skipped..];
        if rest.is_empty() {
            return Ok((skipped, Event::NeedMore));
        }
        if rest == b"\r" {
            // Half an empty line has to be kept, so this is no idle connection any more.
            if let Reading::Idle { blank_lines } = self.reading {
                self.reading = Reading::Head { scanned: 0, blank_lines };
                self.progress = Progress::starting(now);
            }
            return Ok((skipped, Event::NeedMore));
        }
        match head::scan(rest, scanned, limits)? {
            Scan::Partial(next) => {
                if !matches!(self.reading, Reading::Head { .. }) {
                    self.progress = Progress::starting(now);
                }
                let scanned = u32::try_from(next).unwrap_or(u32::MAX);
                self.reading = Reading::Head { scanned, blank_lines: 0 };
                Ok((skipped, Event::NeedMore))
            }
            Scan::Complete(end) => {
                let request = head::parse(&rest[..end], slots, limits)?;
                self.begin(&request, now);
                Ok((skipped + end, Event::Request(request)))
            }
        }
    }

    /// Empty lines before a request line are ignored, a few of them.
    fn skip_blank_lines(&mut self, input: &[u8]) -> Result<usize, ProtocolError> {
        let mut at = 0;
        while input[at..].starts_with(b"\r\n") {
            at += 2;
            let (Reading::Idle { blank_lines } | Reading::Head { blank_lines, .. }) = &mut self.reading
            else {
                return Ok(at);
            };
            *blank_lines += 1;
            if *blank_lines > BLANK_LINES_MAX {
                return Err(ProtocolError::bad_request("too many empty lines before the request"));
            }
        }
        Ok(at)
    }

    fn begin(&mut self, request: &Request<'_>, now: Instant) {
        self.reading = match request.content() {
            Content::None => Reading::Done,
            Content::Length(length) => Reading::Body(BodyDecoder::length(length)),
            Content::Chunked => Reading::Body(BodyDecoder::chunked()),
        };
        self.writing = Writing::Owed(Owed {
            method: Some(request.method().label()),
            minor: request.minor_version(),
            awaits_continue: request.expects_continue(),
        });
        if !request.is_persistent() {
            self.close_after(CloseReason::Requested);
        }
        self.progress = Progress::starting(now);
    }

    /// Reads past content nobody wants. An error in it cannot be answered any more (the answer is
    /// out): it only ends the connection.
    fn discard(&mut self, input: &[u8], limits: &Limits, now: Instant) -> (usize, Event<'static>) {
        let mut at = 0;
        loop {
            let Reading::Discard(decoder) = &mut self.reading else { return (at, Event::Paused) };
            let decoded = decoder.decode(&input[at..], limits.chunk_line_bytes_max, limits.discard_bytes_max);
            let (used, end) = match decoded {
                Ok((used, Decoded::End)) => (used, true),
                Ok((used, Decoded::NeedMore)) => {
                    self.note_received(at + used, now);
                    return (at + used, Event::NeedMore);
                }
                Ok((used, Decoded::Data(_))) => (used, false),
                Err(_) => {
                    self.close_after(CloseReason::BodyRefused);
                    self.reading = Reading::Lingering { dropped: 0 };
                    self.progress = Progress::starting(now);
                    return (input.len(), Event::NeedMore);
                }
            };
            at += used;
            if end {
                self.reading = Reading::Done;
                return (at, Event::Discarded);
            }
        }
    }

    fn note_received(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            if let Writing::Owed(owed) = &mut self.writing {
                // Content on its way needs no invitation (RFC 9110 section 10.1.1).
                owed.awaits_continue = false;
            }
            self.progress.moved(bytes as u64, now);
        }
    }

    /// The handler takes the content of the request in hand: a client that waits for `100 Continue`
    /// gets it. When some of it came along with the head the invitation is left out (RFC 9110
    /// section 10.1.1).
    pub fn accept_content(&mut self, content_at_hand: bool, out: &mut SendQueue) {
        let Writing::Owed(owed) = &mut self.writing else { return };
        if std::mem::take(&mut owed.awaits_continue) && !content_at_hand {
            out.gather(|bytes| bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
    }

    /// Puts an interim response into `out`: status and headers. A client of HTTP/1.0 does not know
    /// such (RFC 9110 section 15.2), and after the final response it would be taken for one. A
    /// response that is not interim is not sent: it would be taken for the final one. Nor is 101,
    /// behind which no HTTP would follow. Returns whether it was sent.
    pub fn respond_interim(&mut self, response: Response, out: &mut SendQueue) -> bool {
        let is_interim = response.status().is_interim();
        if !is_interim || !matches!(self.writing, Writing::Owed(Owed { minor: 1.., .. })) {
            return is_interim;
        }
        let (status, headers, _) = response.into_parts();
        out.gather(|bytes| {
            push_status_line(bytes, status);
            bytes.extend_from_slice(headers.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        });
        true
    }

    /// The head or its framing broke the protocol: no more requests are read, and an answer is owed
    /// unless one is already out. Returns whether it is owed: then `respond` with the error.
    pub fn refuse(&mut self, reason: CloseReason) -> bool {
        self.close_after(reason);
        self.reading = Reading::Lingering { dropped: 0 };
        match self.writing {
            Writing::Owed(_) => true,
            Writing::Idle => {
                self.writing = Writing::Owed(Owed { method: None, minor: 1, awaits_continue: false });
                true
            }
            Writing::Body(_) | Writing::Done | Writing::Broken(_) => false,
        }
    }

    /// Puts the answer to the request in hand into `out`, framed, with Date and, where it must be
    /// said, Connection. A body source comes back: fill the queue from it through
    /// [`Connection::push_piece`].
    pub fn respond(
        &mut self,
        response: Response,
        cx: RespondContext<'_>,
        out: &mut SendQueue,
    ) -> Option<Box<dyn BodySource>> {
        let Writing::Owed(owed) = self.writing else {
            debug_assert!(false, "an answer without a request");
            return None;
        };
        if response.closes() {
            self.close_after(CloseReason::Handler);
        }
        self.settle_unread_content(owed, cx.limits);
        if out.is_empty() {
            self.progress = Progress::starting(cx.now);
        }
        if let Body::Prepared(prepared) = response.body() {
            self.writing = Writing::Done;
            let is_usual = owed.minor >= 1 && self.persistence == Persistence::KeepAlive && !owed.head_only();
            if !is_usual {
                self.respond_prepared(owed, prepared, cx, out);
            } else if prepared.bytes().len() <= cx.limits.gather_bytes_max.min(PREPARED_COPIED_BYTES_MAX) {
                out.gather(|bytes| prepared.push_dated(bytes, cx.date));
            } else {
                out.push_shared(prepared.dated(cx.date), 0, prepared.bytes().len());
            }
            return None;
        }
        self.respond_framed(owed, response, cx, out)
    }

    /// A prepared response whose head must change: HEAD, HTTP/1.0 or close.
    #[inline(never)]
    fn respond_prepared(
        &mut self,
        owed: Owed,
        prepared: &Arc<Prepared>,
        cx: RespondContext<'_>,
        out: &mut SendQueue,
    ) {
        out.gather(|bytes| {
            let start = bytes.len();
            bytes.extend_from_slice(prepared.head());
            bytes[start..][prepared.date_at()].copy_from_slice(cx.date);
            self.push_persistence(bytes, owed.minor);
        });
        if !owed.head_only() {
            push_body(Body::Prepared(Arc::clone(prepared)), cx.limits, out);
        }
    }

    /// The same for a head that is made now.
    #[inline(never)]
    fn respond_framed(
        &mut self,
        owed: Owed,
        mut response: Response,
        cx: RespondContext<'_>,
        out: &mut SendQueue,
    ) -> Option<Box<dyn BodySource>> {
        if response.fault().is_some() {
            response = unsendable();
        }
        let (status, headers, mut body) = response.into_parts();
        if status.is_without_content() {
            body = Body::Empty;
        }
        let is_source = body.len().is_none();
        let chunked = is_source && owed.minor >= 1;
        if is_source && !chunked && !owed.head_only() {
            self.close_after(CloseReason::Requested);
        }
        out.gather(|bytes| {
            push_status_line(bytes, status);
            bytes.extend_from_slice(headers.as_bytes());
            if chunked {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            } else if let (Some(len), false) = (body.len(), status.is_bodiless()) {
                push_content_length(bytes, len);
            }
            push_server_and_date(bytes, &headers, cx.date);
            self.push_persistence(bytes, owed.minor);
        });
        self.writing = Writing::Done;
        if owed.head_only() || status.is_bodiless() {
            return None;
        }
        let (source, encoder) = match body {
            Body::Source(source) if chunked => (source, BodyEncoder::Chunked),
            Body::Source(source) => (source, BodyEncoder::UntilClose),
            Body::Sized { source, len } => {
                let source: Box<dyn BodySource> = Box::new(Measured { source, left: len });
                (source, BodyEncoder::Sized)
            }
            body => {
                push_body(body, cx.limits, out);
                return None;
            }
        };
        self.writing = Writing::Body(encoder);
        Some(source)
    }

    /// Connection and the empty line.
    fn push_persistence(&self, bytes: &mut Vec<u8>, minor: u8) {
        match self.persistence {
            Persistence::KeepAlive if minor >= 1 => {}
            // HTTP/1.0 takes silence for a close.
            Persistence::KeepAlive => bytes.extend_from_slice(b"Connection: keep-alive\r\n"),
            Persistence::Close(_) => bytes.extend_from_slice(b"Connection: close\r\n"),
        }
        bytes.extend_from_slice(b"\r\n");
    }

    /// The answer is made before all content has come: read past a little, give up on much.
    fn settle_unread_content(&mut self, owed: Owed, limits: &Limits) {
        match std::mem::replace(&mut self.reading, Reading::Done) {
            // The client may now send its content or not; there is no telling which, so no next
            // request.
            Reading::Body(_) if owed.awaits_continue => {
                self.close_after(CloseReason::BodyRefused);
                self.reading = Reading::Lingering { dropped: 0 };
            }
            Reading::Body(decoder) if decoder.left() > limits.discard_bytes_max => {
                self.close_after(CloseReason::BodyRefused);
                self.reading = Reading::Lingering { dropped: 0 };
            }
            Reading::Body(decoder) => self.reading = Reading::Discard(decoder),
            other => self.reading = other,
        }
    }

    /// Appends a piece of the answer's content through `fill`; returns what `fill` said. If `fill`
    /// changed what was queued before, nothing of that is sent, and the connection no longer
    /// streams: it ends with a reset.
    pub fn push_piece<T>(
        &mut self,
        out: &mut SendQueue,
        now: Instant,
        fill: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        let encoder = match self.writing {
            Writing::Body(encoder) => encoder,
            Writing::Idle | Writing::Owed(_) | Writing::Done | Writing::Broken(_) => {
                debug_assert!(false, "content without a head");
                BodyEncoder::UntilClose
            }
        };
        if out.is_empty() {
            self.progress = Progress::starting(now);
        }
        let mut is_spoiled = false;
        let said = out.gather(|bytes| {
            let mark = encoder.start_piece(bytes);
            let before = Tail::of(bytes);
            let said = fill(bytes);
            is_spoiled = !before.is_intact(bytes, mark);
            if is_spoiled {
                // The queue counts what was there; none of it is sent.
                bytes.resize(mark.max(bytes.len()), 0);
            }
            encoder.finish_piece(mark, bytes);
            said
        });
        if is_spoiled {
            out.reset(0);
            self.break_content_off(CloseReason::HandlerFailed);
            self.writing = Writing::Broken(BodyEncoder::UntilClose);
        }
        said
    }

    /// The answer's content is complete.
    pub fn finish_content(&mut self, out: &mut SendQueue) {
        if let Writing::Body(encoder) = self.writing {
            out.gather(|bytes| encoder.finish(bytes));
            self.writing = Writing::Done;
        }
    }

    /// The answer's content cannot be completed. What is queued, earlier answers included, is still
    /// sent; then the connection ends in a way that shows the content is not whole.
    pub fn break_content_off(&mut self, reason: CloseReason) {
        if let Writing::Body(encoder) = self.writing {
            self.writing = Writing::Broken(encoder);
            self.reading = Reading::Closed;
            self.persistence = Persistence::Close(reason);
        }
    }

    /// Call when request and answer may both be complete. True when the connection is ready for the
    /// next request.
    pub fn start_next_cycle(&mut self, now: Instant) -> bool {
        if !matches!((&self.reading, &self.writing), (Reading::Done, Writing::Done))
            || self.persistence != Persistence::KeepAlive
        {
            return false;
        }
        self.reading = Reading::Idle { blank_lines: 0 };
        self.writing = Writing::Idle;
        self.progress = Progress::starting(now);
        true
    }

    /// The peer has shut its sending side. What it is owed is still sent (half-close is legal);
    /// half a request is not answered.
    pub fn receive_end(&mut self) {
        let reason = match &self.reading {
            Reading::Idle { .. } | Reading::Head { scanned: 0, .. } | Reading::Done => {
                CloseReason::PeerClosed
            }
            Reading::Head { .. } | Reading::Body(_) | Reading::Discard(_) => CloseReason::PeerTruncated,
            Reading::Lingering { .. } | Reading::Closed => CloseReason::PeerClosed,
        };
        self.close_after(reason);
        if matches!((&self.reading, &self.writing), (Reading::Body(_), Writing::Owed(_))) {
            self.writing = Writing::Done;
        }
        if !matches!(self.reading, Reading::Done) {
            self.reading = Reading::Closed;
        }
    }

    /// No further request after the one in hand. The first reason stays.
    pub fn close_after(&mut self, reason: CloseReason) {
        if self.persistence == Persistence::KeepAlive {
            self.persistence = Persistence::Close(reason);
        }
    }

    /// Asked when the send queue is empty: is anything left to do? `unused_input` says that bytes
    /// behind the last request are at hand.
    #[must_use]
    pub fn finish(&self, unused_input: bool) -> Finish {
        let Persistence::Close(reason) = self.persistence else { return Finish::NotYet };
        match (&self.writing, &self.reading) {
            (Writing::Owed(_) | Writing::Body(_), _) => Finish::NotYet,
            // Without the last chunk, or the promised length, a close says enough; content that
            // ends with the connection needs a reset.
            (Writing::Broken(BodyEncoder::Chunked | BodyEncoder::Sized), _) => Finish::Close(reason),
            (Writing::Broken(BodyEncoder::UntilClose), _) => Finish::Reset(reason),
            (Writing::Idle | Writing::Done, Reading::Closed) => Finish::Close(reason),
            (Writing::Done, Reading::Done) if !unused_input => Finish::Close(reason),
            // It lingers already: its deadline or the peer's close ends it.
            (Writing::Idle, Reading::Lingering { .. }) => Finish::NotYet,
            // Between requests nothing is owed and nothing was refused: an idle connection just
            // ends.
            (Writing::Idle, Reading::Idle { .. } | Reading::Head { .. }) => Finish::Close(reason),
            (Writing::Idle | Writing::Done, _) => Finish::Linger(reason),
        }
    }

    /// The answer that is owed is made anew, by somebody else: the time for that begins now.
    pub fn restart_answer(&mut self, now: Instant) {
        if self.is_owed() {
            self.progress = Progress::starting(now);
        }
    }

    /// The sending side was shut; from now on input is only dropped.
    pub fn start_lingering(&mut self, now: Instant) {
        self.writing = Writing::Idle;
        self.reading = Reading::Lingering { dropped: 0 };
        self.progress = Progress::starting(now);
    }

    /// `bytes` were taken by the socket; `emptied` says that nothing is queued any more.
    pub fn note_sent(&mut self, bytes: u64, emptied: bool, now: Instant) {
        if emptied {
            // The next phase's clock starts when this one ends.
            self.progress = Progress::starting(now);
        } else {
            self.progress.moved(bytes, now);
        }
    }

    /// Bytes behind the last request were dropped. More may be on the way, so the close has to be a
    /// gentle one.
    pub fn drop_input(&mut self) {
        if matches!(self.reading, Reading::Done) {
            self.reading = Reading::Lingering { dropped: 0 };
        }
    }

    /// Whether more input would be of use now.
    #[must_use]
    pub fn wants_read(&self, limits: &Limits) -> bool {
        match &self.reading {
            Reading::Idle { .. } | Reading::Head { .. } | Reading::Body(_) | Reading::Discard(_) => true,
            Reading::Lingering { dropped } => {
                // While the refusal itself is still queued nothing is dropped yet: first things
                // first.
                *dropped < limits.linger_bytes_max && matches!(self.writing, Writing::Idle)
            }
            Reading::Done | Reading::Closed => false,
        }
    }

    /// Whether the next request, or content of this one, may be taken from the input.
    #[must_use]
    pub fn may_parse(&self) -> bool {
        match (&self.reading, &self.writing) {
            (Reading::Discard(_), _) => true,
            (Reading::Idle { .. } | Reading::Head { .. }, writing) => {
                matches!(writing, Writing::Idle) && self.persistence == Persistence::KeepAlive
            }
            (Reading::Body(_), writing) => matches!(writing, Writing::Owed(_)),
            (Reading::Lingering { .. }, _) => true,
            (Reading::Done | Reading::Closed, _) => false,
        }
    }

    /// Whether the next request may be taken from the input, and nothing of it has come yet.
    #[must_use]
    pub fn awaits_request(&self) -> bool {
        self.is_idle() && self.persistence == Persistence::KeepAlive
    }

    /// When the first byte of a head came of which there is no more than a part.
    pub(crate) fn head_began(&self) -> Option<Instant> {
        matches!(self.reading, Reading::Head { scanned: 1.., .. }).then_some(self.progress.since)
    }

    /// Whether the last request is answered, the connection stays, and nothing of the next one has
    /// come.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        matches!(self.reading, Reading::Idle { .. }) && self.awaits_request()
    }

    /// Whether an answer is owed.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        matches!(self.writing, Writing::Owed(_))
    }

    /// Whether the answer owed is to a HEAD: a head without content.
    #[must_use]
    pub fn answers_head(&self) -> bool {
        matches!(self.writing, Writing::Owed(owed) if owed.head_only())
    }

    /// The method of the request that is owed an answer; `None` if what came never became a
    /// request.
    #[must_use]
    pub fn method_owed(&self) -> Option<MethodLabel> {
        match &self.writing {
            Writing::Owed(owed) => owed.method,
            Writing::Idle | Writing::Body(_) | Writing::Done | Writing::Broken(_) => None,
        }
    }

    /// Whether content of the request in hand is still due.
    #[must_use]
    pub fn expects_content(&self) -> bool {
        matches!(self.reading, Reading::Body(_))
    }

    /// Whether the answer's content is being made.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(self.writing, Writing::Body(_))
    }

    /// Whether it waits between requests, or for its first byte.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(
            (&self.reading, &self.writing),
            (Reading::Idle { .. } | Reading::Head { scanned: 0, .. }, Writing::Idle)
        )
    }

    /// Whether the end of the content is due without any further byte: it has all come, and was not
    /// announced.
    #[must_use]
    pub fn is_content_drained(&self) -> bool {
        matches!(
            &self.reading,
            Reading::Body(BodyDecoder::Length { left: 0 })
                | Reading::Discard(BodyDecoder::Length { left: 0 })
        )
    }

    /// Content bytes known to be still to come.
    #[must_use]
    pub fn content_left(&self) -> u64 {
        match &self.reading {
            Reading::Body(decoder) | Reading::Discard(decoder) => decoder.left(),
            Reading::Idle { .. }
            | Reading::Head { .. }
            | Reading::Done
            | Reading::Lingering { .. }
            | Reading::Closed => 0,
        }
    }

    /// The phase; `queued` says whether output waits for the socket.
    #[must_use]
    pub fn phase(&self, queued: bool) -> Phase {
        if queued {
            return Phase::Sending;
        }
        match (&self.writing, &self.reading) {
            (Writing::Body(_), _) => Phase::Streaming,
            (Writing::Owed(_), Reading::Body(_)) => Phase::ReceivingBody,
            (Writing::Owed(_), _) => Phase::Handling,
            (Writing::Broken(_), _) => Phase::Closed,
            (Writing::Idle | Writing::Done, Reading::Idle { .. }) => Phase::Idle,
            (Writing::Idle | Writing::Done, Reading::Head { .. }) => Phase::ReceivingHead,
            (Writing::Idle | Writing::Done, Reading::Body(_) | Reading::Discard(_)) => Phase::ReceivingBody,
            (Writing::Idle | Writing::Done, Reading::Lingering { .. }) => Phase::Lingering,
            (Writing::Idle | Writing::Done, Reading::Done | Reading::Closed) => Phase::Closed,
        }
    }

    /// When the present phase gives up; `None` for never. Ask again after every step.
    #[must_use]
    pub fn deadline(
        &self,
        queued: bool,
        waiting: bool,
        timeouts: &Timeouts,
        rate_min: u64,
    ) -> Option<Instant> {
        let Progress { since, bytes, .. } = self.progress;
        let last = || self.progress.last();
        // Silence is bounded by the timeout, and so is the whole at the least rate: a byte now and
        // then does not keep a connection for ever.
        let moving = |timeout: Option<Duration>| {
            let silence = timeout?;
            let silent_until = last() + silence;
            if rate_min == 0 {
                return Some(silent_until);
            }
            let earned = Duration::from_millis(u64::from(bytes) * 1000 / rate_min);
            Some(since.checked_add(silence + earned).map_or(silent_until, |until| until.min(silent_until)))
        };
        match self.phase(queued) {
            Phase::Idle => timeouts.idle.map(|idle| last() + idle),
            Phase::ReceivingHead => timeouts.header.map(|header| since + header),
            // While a job holds the content back it is not the client who is slow.
            Phase::ReceivingBody | Phase::Handling if waiting => {
                timeouts.answer.map(|answer| last() + answer)
            }
            Phase::ReceivingBody => moving(timeouts.body),
            Phase::Sending => moving(timeouts.send),
            Phase::Lingering => Some(since + timeouts.linger),
            Phase::Handling => timeouts.answer.map(|answer| last() + answer),
            Phase::Streaming => None,
            Phase::Closed => Some(since + timeouts.linger),
        }
    }

    /// What to do now that the deadline has passed.
    #[must_use]
    pub fn expired(&self, queued: bool, waiting: bool) -> Expired {
        let timed_out = |reason| ProtocolError::new(Status::REQUEST_TIMEOUT, reason);
        match self.phase(queued) {
            Phase::Idle => Expired::Close(CloseReason::IdleTimeout),
            // Nothing came at all: browsers open connections ahead, and a 408 there answers a
            // question never put.
            Phase::ReceivingHead if self.is_idle() => Expired::Close(CloseReason::HeaderTimeout),
            Phase::ReceivingHead => Expired::Refuse(
                timed_out("the request head did not come in time"),
                CloseReason::HeaderTimeout,
            ),
            Phase::ReceivingBody if waiting => Expired::Refuse(
                ProtocolError::new(Status::SERVICE_UNAVAILABLE, "the answer took too long"),
                CloseReason::AnswerTimeout,
            ),
            Phase::ReceivingBody if self.is_owed() => Expired::Refuse(
                timed_out("the request content did not come in time"),
                CloseReason::BodyTimeout,
            ),
            Phase::ReceivingBody => Expired::Close(CloseReason::BodyTimeout),
            Phase::Handling => Expired::Refuse(
                ProtocolError::new(Status::SERVICE_UNAVAILABLE, "the answer took too long"),
                CloseReason::AnswerTimeout,
            ),
            Phase::Sending | Phase::Streaming => Expired::Reset(CloseReason::SendTimeout),
            Phase::Lingering | Phase::Closed => Expired::Close(self.close_reason()),
        }
    }

    /// Why it is closing; `PeerClosed` while it is not.
    #[must_use]
    pub fn close_reason(&self) -> CloseReason {
        match self.persistence {
            Persistence::Close(reason) => reason,
            Persistence::KeepAlive => CloseReason::PeerClosed,
        }
    }

    /// Bytes that the peer has sent or taken in the present phase.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.progress.bytes.into()
    }

    /// Since when the present phase lasts.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.progress.since
    }
}

/// Holds a source to the length that the head states: bytes beyond it would be read as the next
/// response.
struct Measured {
    source: Box<dyn BodySource>,
    /// Bytes that are still due.
    left: u64,
}

impl BodySource for Measured {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> Filled {
        let before = out.len();
        let filled = self.source.fill(out, room);
        let made = (out.len().saturating_sub(before) as u64).min(self.left);
        out.truncate(before + usize::try_from(made).unwrap_or(usize::MAX));
        self.left -= made;
        match filled {
            Filled::More | Filled::Later | Filled::End if self.left == 0 => Filled::End,
            Filled::End => Filled::Failed,
            Filled::More | Filled::Later | Filled::Failed => filled,
        }
    }

    fn is_endless(&self) -> bool {
        self.source.is_endless()
    }
}

/// The last bytes of a queue, by which a change of the queue is seen.
struct Tail {
    bytes: [u8; 16],
}

impl Tail {
    fn of(queue: &[u8]) -> Tail {
        let mut bytes = [0; 16];
        let seen = queue.len().min(bytes.len());
        bytes[..seen].copy_from_slice(&queue[queue.len() - seen..]);
        Tail { bytes }
    }

    /// True if the queue, which was `len` bytes long, still ends there in these bytes.
    fn is_intact(&self, queue: &[u8], len: usize) -> bool {
        let seen = len.min(self.bytes.len());
        queue.get(len - seen..len) == Some(&self.bytes[..seen])
    }
}

/// In place of a response that would not be framed as its bytes are.
fn unsendable() -> Response {
    Response::new(Status::INTERNAL_SERVER_ERROR).by_server()
}

/// Queues a body of known length: small ones behind the head, so that both leave in one plain
/// write.
fn push_body(body: Body, limits: &Limits, out: &mut SendQueue) {
    match body {
        Body::Empty | Body::Source(_) | Body::Sized { .. } => {}
        Body::Bytes(bytes) if bytes.len() <= limits.gather_bytes_max => {
            out.gather(|run| run.extend_from_slice(&bytes));
        }
        Body::Bytes(bytes) => out.push_owned(bytes),
        Body::Static(bytes) if bytes.len() <= limits.gather_bytes_max => {
            out.gather(|run| run.extend_from_slice(bytes));
        }
        Body::Static(bytes) => out.push_static(bytes),
        Body::Shared { data, start, end } if end - start <= limits.gather_bytes_max => {
            out.gather(|run| run.extend_from_slice(&data.body()[start..end]));
        }
        Body::Shared { data, start, end } => {
            let at = data.body_at();
            out.push_shared(data, at + start, at + end);
        }
        Body::File { file, offset, len } => out.push_file(file, offset, len),
        Body::Sequence(parts) => parts.into_iter().for_each(|part| push_body(part, limits, out)),
        Body::Prepared(data) => {
            let end = data.body().len();
            push_body(Body::Shared { data, start: 0, end }, limits, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::http::headers::Headers;
    use proptest::prelude::*;

    use super::*;
    use crate::config::KIB;
    use crate::http::method::Method;

    const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    #[expect(clippy::disallowed_methods, reason = "an origin for invented times")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// Feeds `pieces` to a fresh connection as a driver would, answering every request with an
    /// empty 200 (of HEAD and GET at once, else when the content has ended). What happened, in
    /// words, and what was sent.
    fn run(pieces: &[&[u8]], then_end: bool) -> (Vec<String>, String) {
        run_within(&Limits::default(), pieces, then_end)
    }

    /// The same under other limits.
    fn run_within(limits: &Limits, pieces: &[&[u8]], then_end: bool) -> (Vec<String>, String) {
        let now = origin();
        let mut conn = Connection::new(now);
        let (mut out, mut said, mut content) = (SendQueue::new(), Vec::new(), Vec::new());
        let mut input: Vec<u8> = Vec::new();
        let cx = RespondContext { now, date: DATE, limits };
        for piece in pieces {
            input.extend_from_slice(piece);
            let mut at = 0;
            while conn.may_parse() {
                let mut slots = FieldSlots::new();
                let (used, event) = match conn.next_event(&input[at..], &mut slots, limits, now) {
                    Ok(next) => next,
                    Err(error) => {
                        said.push(format!("error {}", error.status.code()));
                        if conn.refuse(CloseReason::ProtocolError) {
                            conn.respond(Response::new(error.status), cx, &mut out);
                        }
                        break;
                    }
                };
                at += used;
                match event {
                    Event::NeedMore | Event::Paused => break,
                    Event::Request(request) => {
                        said.push(format!("{} {}", request.method().name(), request.target()));
                        let at_once = matches!(request.method(), Method::Get | Method::Head);
                        if at_once || !conn.expects_content() {
                            conn.respond(Response::new(Status::OK), cx, &mut out);
                        } else {
                            conn.accept_content(false, &mut out);
                        }
                    }
                    Event::Content(bytes) => content.extend_from_slice(bytes),
                    Event::ContentEnd => {
                        said.push(format!("content {}", String::from_utf8_lossy(&content)));
                        content.clear();
                        conn.respond(Response::new(Status::OK), cx, &mut out);
                    }
                    Event::Discarded => {}
                }
                conn.start_next_cycle(now);
            }
            input.drain(..at);
        }
        if then_end {
            conn.receive_end();
        }
        said.push(format!("{:?}", conn.finish(false)));
        let mut sent = Vec::new();
        out.gather(|bytes| sent.extend_from_slice(bytes));
        (said, String::from_utf8_lossy(&sent).into_owned())
    }

    /// The one oracle: whole, at every cut, byte by byte.
    fn check(input: &[u8], then_end: bool, expected: &[&str]) {
        let (said, sent) = run(&[input], then_end);
        assert_eq!(said, expected, "{}", input.escape_ascii());
        for cut in 0..=input.len() {
            let got = run(&[&input[..cut], &input[cut..]], then_end);
            assert_eq!(got, (said.clone(), sent.clone()), "cut at {cut} of {}", input.escape_ascii());
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(run(&bytes, then_end), (said, sent), "byte by byte: {}", input.escape_ascii());
    }

    const OVER: &str = "Linger(ProtocolError)";

    #[test]
    fn requests_come_out_however_they_are_cut() {
        let get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        let post = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
        let chunked = "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n";
        let close = "GET /z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        check(get.as_bytes(), false, &["GET /a", "NotYet"]);
        check(format!("\r\n{get}\r\n\r\n{get}").as_bytes(), false, &["GET /a", "GET /a", "NotYet"]);
        check(
            format!("{get}{post}{chunked}{get}").as_bytes(),
            false,
            &["GET /a", "POST /p", "content hello", "POST /c", "content abcde", "GET /a", "NotYet"],
        );
        check(format!("{get}{close}").as_bytes(), false, &["GET /a", "GET /z", "Close(Requested)"]);
        check(b"GET /o HTTP/1.0\r\n\r\n", false, &["GET /o", "Close(Requested)"]);
        check(b"GET /o HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false, &["GET /o", "NotYet"]);
    }

    #[test]
    fn content_nobody_wants_is_read_past() {
        let rest = "GET /b HTTP/1.1\r\nHost: x\r\n\r\n";
        let with = "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
        let chunked = "GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        check(format!("{with}{rest}").as_bytes(), false, &["GET /a", "GET /b", "NotYet"]);
        check(format!("{chunked}{rest}").as_bytes(), false, &["GET /a", "GET /b", "NotYet"]);
        let endless = "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\nhello";
        check(endless.as_bytes(), false, &["GET /a", "Linger(BodyRefused)"]);
        let broken = "GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno hex";
        check(broken.as_bytes(), false, &["GET /a", "Linger(BodyRefused)"]);
    }

    #[test]
    fn what_breaks_the_protocol_is_answered_once_and_ends_it() {
        let get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        for (bad, status) in [
            ("GET /b HTTP/1.1\r\n\r\n", "error 400"),
            (
                "GET /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "error 400",
            ),
            ("GET /b HTTP/3.0\r\nHost: x\r\n\r\n", "error 505"),
            ("GET /b HTTP/1.1\nHost: x\r\n\r\n", "error 400"),
            ("\x16\x03\x01", "error 400"),
        ] {
            check(format!("{get}{bad}").as_bytes(), false, &["GET /a", status, OVER]);
        }
        let chunk = "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX";
        check(chunk.as_bytes(), false, &["POST /c", "error 400", OVER]);
    }

    #[test]
    fn half_a_request_is_never_answered() {
        let whole = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
        for end in 0..whole.len() {
            let (said, sent) = run(&[&whole[..end]], true);
            let reason = if end == 0 { "Close(PeerClosed)" } else { "Close(PeerTruncated)" };
            assert_eq!(said.last().map(String::as_str), Some(reason), "after {end} bytes");
            assert!(sent.is_empty(), "after {end} bytes: {sent}");
        }
        check(whole, true, &["POST /p", "content hello", "Close(PeerClosed)"]);
    }

    #[test]
    fn phases_give_up_in_their_own_time() {
        let (limits, timeouts, start) = (Limits::default(), Timeouts::default(), origin());
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut conn = Connection::new(start);
        let due = |conn: &Connection| conn.deadline(false, false, &timeouts, 64).map(|due| due - start);
        assert_eq!(due(&conn), timeouts.header, "a connection that never sends a byte");
        let feed = |conn: &mut Connection, bytes: &'static [u8], ms| {
            conn.next_event(bytes, &mut FieldSlots::new(), &limits, at(ms)).map(|(used, _)| used)
        };
        // A drip does not renew it: the deadline is absolute from the first byte.
        assert_eq!(feed(&mut conn, b"POST /", 2000), Ok(0));
        assert_eq!(feed(&mut conn, b"POST /p HTTP", 9000), Ok(0));
        assert_eq!(due(&conn), timeouts.header);
        let head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
        assert_eq!(feed(&mut conn, head, 9500), Ok(head.len()));
        assert_eq!(
            (conn.phase(false), due(&conn)),
            (Phase::ReceivingBody, Some(Duration::from_millis(39_500)))
        );
        // Progress renews it, but only as far as the least rate allows: 64 bytes earn one second.
        static PIECE: [u8; 64] = [b'x'; 64];
        assert_eq!(feed(&mut conn, &PIECE, 20_000), Ok(64));
        assert_eq!(due(&conn), Some(Duration::from_millis(9500 + 30_000 + 1000)));
        assert_eq!(conn.expired(false, false), {
            let error =
                ProtocolError::new(Status::REQUEST_TIMEOUT, "the request content did not come in time");
            Expired::Refuse(error, CloseReason::BodyTimeout)
        });
    }

    /// Empty lines that came one at a time were not counted on a new connection, and of several
    /// faults in a head the last one to come could win: a client that dripped got another answer
    /// than one that sent all at once.
    #[test]
    fn how_much_comes_at_once_decides_nothing() {
        let get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        check(format!("{}{get}", "\r\n".repeat(8)).as_bytes(), false, &["GET /a", "NotYet"]);
        check(format!("{}{get}", "\r\n".repeat(9)).as_bytes(), false, &["error 400", OVER]);
        check(format!("{get}{}{get}", "\r\n".repeat(9)).as_bytes(), false, &["GET /a", "error 400", OVER]);
        let limits = Limits { target_bytes_max: 20, ..tight() };
        let long = "x".repeat(100);
        for (head, status) in [
            (format!("GET /{long} HTTP/1.1\r\nX: \0\r\n\r\n"), "error 414"),
            (format!("GET /{long}\0 HTTP/1.1\r\n\r\n"), "error 414"),
            (format!("GET /\0{long} HTTP/1.1\r\n\r\n"), "error 400"),
            (format!("GET / HTTP/1.1\r\nX: {long}\0\r\n\r\n"), "error 431"),
            (format!("GET / HTTP/1.1\r\nX: \0{long}\r\n\r\n"), "error 400"),
            (format!("GET / HTTP/1.1\r\nX: \n{long}\0\r\n\r\n"), "error 400"),
        ] {
            let bytes: Vec<&[u8]> = head.as_bytes().chunks(1).collect();
            for pieces in [&[head.as_bytes()][..], &bytes] {
                assert_eq!(run_within(&limits, pieces, false).0, [status, OVER], "{head:?}");
            }
        }
    }

    /// Content in chunks of these sizes, with an extension and a trailer if they are asked for.
    fn in_chunks(content: &[u8], size: usize, extension: bool, trailer: bool) -> Vec<u8> {
        let mut coded = Vec::new();
        for chunk in content.chunks(size) {
            let extension = if extension { ";a=\"b\\\"c\";d" } else { "" };
            coded.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            coded.extend_from_slice(chunk);
            coded.extend_from_slice(b"\r\n");
        }
        coded.extend_from_slice(if trailer { b"0\r\nX: y\r\n\r\n" } else { b"0\r\n\r\n" });
        coded
    }

    /// A request, good or bad: bytes that are exchanged in a good one make most of the bad ones.
    fn any_request() -> impl Strategy<Value = Vec<u8>> {
        let method =
            proptest::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "FOO", "get"]);
        let target =
            proptest::sample::select(vec!["/", "/a?b=c", "*", "http://x/y", "/a b", "/%zz", "", "/\u{e9}"]);
        let version = proptest::sample::select(vec!["1.1", "1.1", "1.1", "1.0", "1.9", "2.0", "1.10"]);
        let field = proptest::sample::select(vec![
            "",
            "",
            "X: y\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive\r\n",
            "Host: z\r\n",
            "Expect: 100-continue\r\n",
            "Expect: x\r\n",
            "X : y\r\n",
            " folded\r\n",
            "X: a\nY: b\r\n",
            "Content-Length: 3\r\n",
            "Transfer-Encoding: gzip\r\n",
            "no colon\r\n",
            "\r\n",
            "Content-Length: 99999999\r\n",
        ]);
        let content = (
            0..3_u8,
            proptest::collection::vec(any::<u8>(), 0..40),
            1..9_usize,
            any::<bool>(),
            any::<bool>(),
        );
        let blank_lines = prop_oneof![8 => Just(0), 2 => 1..11_usize];
        let exchange = proptest::option::weighted(0.3, (any::<usize>(), any::<u8>()));
        (blank_lines, method, target, version, field, content, exchange).prop_map(
            |(
                blank_lines,
                method,
                target,
                version,
                field,
                (framing, content, size, extension, trailer),
                exchange,
            )| {
                let (framing, content) = match framing {
                    0 => (String::new(), Vec::new()),
                    1 => (format!("Content-Length: {}\r\n", content.len()), content),
                    _ => (
                        "Transfer-Encoding: chunked\r\n".into(),
                        in_chunks(&content, size, extension, trailer),
                    ),
                };
                let blank = "\r\n".repeat(blank_lines);
                let head =
                    format!("{blank}{method} {target} HTTP/{version}\r\nHost: x\r\n{field}{framing}\r\n");
                let mut bytes = [head.into_bytes(), content].concat();
                if let Some((at, byte)) = exchange {
                    let at = at % bytes.len();
                    bytes[at] = byte;
                }
                bytes
            },
        )
    }

    /// `input` cut at these places, each given as a share of the whole in 65,536ths.
    fn cut<'a>(input: &'a [u8], places: &[u16]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> =
            places.iter().map(|&place| usize::from(place) * input.len() / 65_536).collect();
        at.sort_unstable();
        at.push(input.len());
        let from = std::iter::once(0).chain(at.iter().copied());
        from.zip(&at).map(|(from, &to)| &input[from..to]).collect()
    }

    /// Limits that generated requests meet now and then.
    fn tight() -> Limits {
        Limits {
            head_bytes_max: 90,
            target_bytes_max: 8,
            fields_max: 3,
            chunk_line_bytes_max: 24,
            body_bytes_max: 30,
            discard_bytes_max: 20,
            ..Limits::default()
        }
    }

    proptest! {
        #[test]
        fn any_split_of_any_sequence_gives_the_same_answers(
            requests in proptest::collection::vec(any_request(), 1..6),
            places in proptest::collection::vec(any::<u16>(), 0..12),
            then_end: bool,
        ) {
            let input = requests.concat();
            for limits in [Limits::default(), tight()] {
                let whole = run_within(&limits, &[&input], then_end);
                let bytes: Vec<&[u8]> = input.chunks(1).collect();
                for pieces in [cut(&input, &places), bytes] {
                    let got = run_within(&limits, &pieces, then_end);
                    prop_assert_eq!(&got, &whole, "{}", input.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn one_connection_is_small() {
        assert!(size_of::<Connection>() <= 72, "{} bytes", size_of::<Connection>());
    }

    /// What a prepared response of this content is on the wire, to this request head.
    fn sent_prepared(head: &str, body: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
        let (limits, now) = (Limits::default(), origin());
        let mut conn = Connection::new(now);
        let (mut out, mut slots) = (SendQueue::new(), FieldSlots::new());
        assert!(matches!(
            conn.next_event(head.as_bytes(), &mut slots, &limits, now),
            Ok((_, Event::Request(_)))
        ));
        let mut headers = Headers::new();
        assert_eq!(headers.set("X-Own", b"1"), None);
        let prepared = Response::prepared(Arc::new(Prepared::new(&headers, body)));
        let response = fields.iter().fold(prepared, |made, (name, value)| made.with_field(name, value));
        assert!(
            conn.respond(response, RespondContext { now, date: DATE, limits: &limits }, &mut out).is_none()
        );
        let mut sent = Vec::new();
        while !out.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); crate::http::send_queue::WRITE_SLICES];
            let crate::http::send_queue::NextWrite::Bytes { slices, .. } = out.next_write(&mut slices) else {
                panic!("bytes are queued")
            };
            let before = sent.len();
            slices.iter().for_each(|slice| sent.extend_from_slice(slice));
            out.sent((sent.len() - before) as u64);
        }
        sent
    }

    /// In one piece by copy or by reference, or put together: the client cannot tell.
    #[test]
    fn a_prepared_response_is_the_same_whichever_way_it_goes() {
        let date = std::str::from_utf8(DATE).unwrap();
        for len in [0, 13, 1800, 2 * KIB, 16 * KIB, 20 * KIB] {
            let body = vec![b'x'; len];
            let length = format!("Content-Length: {len}\r\n");
            let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            let (server, own) = ("Server: whirligig\r\n", "X-Own: 1\r\n");
            for (request, fields, first, server, last, content) in [
                (get, &[][..], own, server, "", &body[..]),
                (get, &[("A", "b")], "X-Own: 1\r\nA: b\r\n", server, "", &body[..]),
                (get, &[("x-own", "2")], "x-own: 2\r\n", server, "", &body[..]),
                (get, &[("Server", "s")], "X-Own: 1\r\nServer: s\r\n", "", "", &body[..]),
                ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &[], own, server, "", &[]),
                (
                    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                    &[],
                    own,
                    server,
                    "Connection: keep-alive\r\n",
                    &body[..],
                ),
                (
                    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                    &[],
                    own,
                    server,
                    "Connection: close\r\n",
                    &body[..],
                ),
                (get, &[("Connection", "close")], own, server, "Connection: close\r\n", &body[..]),
            ] {
                let head = format!("HTTP/1.1 200 OK\r\n{first}{length}{server}Date: {date}\r\n{last}\r\n");
                let expected = [head.as_bytes(), content].concat();
                assert!(
                    sent_prepared(request, &body, fields) == expected,
                    "{len} bytes to {request:?} {fields:?}"
                );
            }
        }
    }
}
