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

mod phase;
mod respond;

use std::time::Instant;

use self::phase::Progress;
use crate::config::Limits;
use crate::http::body::{BodyDecoder, BodyEncoder, Decoded};
use crate::http::error::{CloseReason, ProtocolError};
use crate::http::framing::Content;
use crate::http::head;
use crate::http::head::{FieldSlots, Scan, WholeHead};
use crate::http::method::MethodLabel;
use crate::http::request::Request;
use crate::http::send_queue::SendQueue;

pub use self::phase::{Expired, Phase};
pub use self::respond::RespondContext;

/// One connection's protocol state.
#[derive(Debug)]
pub struct Connection {
    reading: Reading,
    writing: Writing,
    persistence: Persistence,
    progress: Progress,
}

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

    /// Why it is closing; `PeerClosed` while it is not.
    #[must_use]
    pub fn close_reason(&self) -> CloseReason {
        match self.persistence {
            Persistence::Close(reason) => reason,
            Persistence::KeepAlive => CloseReason::PeerClosed,
        }
    }
}

/// Empty lines tolerated before a request line (RFC 9112 section 2.2 asks for at least one).
const BLANK_LINES_MAX: u8 = 8;

#[cfg(test)]
mod tests;
