//! One HTTP/1.1 connection as a state machine that owns no socket, no clock and no input bytes.
//!
//! A connection has a receiving half, a sending half and a flag that closes it after the current
//! response. Data lives in the state that needs it. These are all states and transitions:
//!
//! ```text
//! Reading      start -> Head                  a connection was accepted
//!              Idle -> Head                   a part of a head arrived
//!              Idle | Head -> Body | Done     a whole head arrived, with or without content
//!              Body -> Done                   the content is complete
//!              Body -> Discard | Lingering    the response was made before all content came
//!              Discard -> Done                the discarded content is complete
//!              Discard -> Lingering           the discarded content is malformed or too long
//!              Done -> Idle                   the next cycle starts
//!              Done -> Lingering              input after the last request was dropped
//!              any except Closed -> Lingering input was refused, or the sending side was shut down
//!              any -> Closed                  the peer shut down its sending side, or the response
//!                                             content broke off
//!
//! Writing      start -> Idle                  a connection was accepted
//!              Idle -> Owed                   a request arrived, or input was refused
//!              Owed -> Body                   a response was made whose content is still to come
//!              Owed -> Done                   a complete response was made, or the peer shut down
//!                                             its sending side within the request content
//!              Body -> Done                   the response content is complete
//!              Body -> Broken                 the response content broke off
//!              Done -> Idle                   the next cycle starts
//!              any -> Idle                    the sending side was shut down
//!
//! Persistence  KeepAlive -> Close(reason)     the connection ends after the current response;
//!                                             there is no way back
//! ```
//!
//! `start_next_cycle` is the only way from `Done` to `Idle`, and takes both halves at once. The
//! [`Phase`] and the deadline are computed from the state. They are never stored, because a second
//! copy could drift.
//!
//! This file must not know the owner of the socket, or the handler that makes responses.

mod phase;
mod respond;

use self::phase::Progress;
use crate::clock::Instant;
use crate::config::Limits;
use crate::http::body::{BodyDecoder, BodyEncoder, Decoded};
use crate::http::error::{CloseReason, ProtocolError};
use crate::http::framing::Content;
use crate::http::head::{self, FieldSlots, Scan, WholeHead};
use crate::http::method::MethodLabel;
use crate::http::request::Request;
use crate::http::send_queue::SendQueue;

pub use self::phase::{Expired, Outside, Phase, Teardown};
pub use self::respond::RespondContext;

/// The protocol state of one connection.
#[derive(Debug)]
pub struct Connection {
    reading: Reading,
    writing: Writing,
    persistence: Persistence,
    progress: Progress,
}

/// State of the receiving half.
#[derive(Debug)]
enum Reading {
    /// Between requests. Counts the empty lines, which are ignored up to a limit.
    Idle { blank_lines: u8 },
    /// A part of a head arrived, or the connection waits for its first head. The first `scanned`
    /// bytes of the input contain no end of a head. While `scanned` is 0, empty lines are counted
    /// here.
    Head { scanned: u32, blank_lines: u8 },
    /// Request content that the handler takes, or has not decided about.
    Body(BodyDecoder),
    /// The request is complete.
    Done,
    /// Request content that is read and dropped, so that the connection can be kept.
    Discard(BodyDecoder),
    /// The bytes that arrive are no longer parsed. They are dropped until the peer closes.
    Lingering { dropped: u64 },
    /// The peer has shut down its sending side, or the server no longer reads.
    Closed,
}

/// State of the sending half.
#[derive(Debug)]
enum Writing {
    /// No response is due.
    Idle,
    /// A response is due.
    Owed(Owed),
    /// The response content is being made.
    Body(BodyEncoder),
    /// The response is complete in the send queue. The socket may not have taken all of it yet.
    Done,
    /// The response content broke off. The close must show that the content is incomplete.
    Broken(BodyEncoder),
}

/// Properties of a request that decide how its response is framed.
#[derive(Debug, Clone, Copy)]
struct Owed {
    /// `None` if the input was refused before it became a request.
    method: Option<MethodLabel>,
    minor: u8,
    awaits_continue: bool,
}

impl Owed {
    /// True if the response is a head without content.
    fn head_only(self) -> bool {
        self.method == Some(MethodLabel::HEAD)
    }
}

/// Decides if the connection is kept after the current response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Persistence {
    KeepAlive,
    Close(CloseReason),
}

/// Result of one look at the input.
#[derive(Debug)]
pub enum Event<'b> {
    /// The input is used up. Call again when more has arrived.
    NeedMore,
    /// A request. Call `respond` for it, or accept its content with `accept_content` first.
    Request(Request<'b>),
    /// Content of the current request.
    Content(&'b [u8]),
    /// The content of the current request is complete.
    ContentEnd,
    /// The discarded content is complete: the next cycle may start.
    Discarded,
    /// The next request has to wait for the response to the current one.
    Paused,
}

/// Input that has arrived behind the bytes that were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// All input was used.
    Nothing,
    /// Some bytes are left.
    Bytes,
}

/// Last step of a connection whose send queue is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The connection goes on.
    NotYet,
    /// Close the connection.
    Close(CloseReason),
    /// Close the connection with a reset.
    Reset(CloseReason),
    /// Shut down the sending side, then read and discard for a while. A close with unread input
    /// would reset the connection, and the client could lose the response (RFC 9112 section 9.6).
    Linger(CloseReason),
}

impl Connection {
    /// State of a connection that was accepted at `now`. The time limit of the first head starts
    /// now, even if no byte arrives.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Connection {
            reading: Reading::Head { scanned: 0, blank_lines: 0 },
            writing: Writing::Idle,
            persistence: Persistence::KeepAlive,
            progress: Progress::starting(now),
        }
    }

    /// Parses `input`, and returns the number of bytes used and their meaning.
    ///
    /// Call again with the rest until `NeedMore` or `Paused`. Report an error with
    /// [`Connection::refuse`]; it ends the reading.
    // Inlined because an event that contains a request is large, and the caller would have to copy
    // it.
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

    /// Next event for all input except a whole head of the usual kind.
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
            // The first half of an empty line must be kept, so the connection is no longer idle.
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

    /// Skips the empty lines before a request line, up to a limit. Returns their length in bytes.
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

    /// Reads and drops request content.
    ///
    /// The response was made before, so an error in the content cannot be reported. An error only
    /// ends the connection.
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
                // A client that sends its content no longer waits for `100 Continue` (RFC 9110
                // section 10.1.1).
                owed.awaits_continue = false;
            }
            self.progress.moved(bytes as u64, now);
        }
    }

    /// Accepts the content of the current request, and queues `100 Continue` if the client waits
    /// for it.
    ///
    /// `behind_head` is the content that arrived together with the head. If there is any, the
    /// interim response is left out (RFC 9110 section 10.1.1).
    pub fn accept_content(&mut self, behind_head: Unused, out: &mut SendQueue) {
        let Writing::Owed(owed) = &mut self.writing else { return };
        if std::mem::take(&mut owed.awaits_continue) && behind_head == Unused::Nothing {
            out.gather(|bytes| bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
    }

    /// Ends the reading because the head or its framing broke the protocol.
    ///
    /// Returns true if a response is due: then call `respond` with the error. Returns false if a
    /// response was already made.
    pub fn refuse(&mut self, reason: CloseReason) -> bool {
        self.close_after(reason);
        // After the end of the input nothing can arrive that would have to be discarded.
        if !matches!(self.reading, Reading::Closed) {
            self.reading = Reading::Lingering { dropped: 0 };
        }
        match self.writing {
            Writing::Owed(_) => true,
            Writing::Idle => {
                self.writing = Writing::Owed(Owed { method: None, minor: 1, awaits_continue: false });
                true
            }
            Writing::Body(_) | Writing::Done | Writing::Broken(_) => false,
        }
    }

    /// Decides about content that has not arrived when the response is made. A small rest is read
    /// and dropped. A large rest closes the connection.
    fn settle_unread_content(&mut self, owed: Owed, limits: &Limits) {
        match std::mem::replace(&mut self.reading, Reading::Done) {
            // The client may send its content or leave it out, and the server cannot tell which. So
            // no request can follow.
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

    /// Ends response content that cannot be completed.
    ///
    /// All queued bytes are still sent, those of earlier responses included. Then the connection
    /// ends in a way that shows that the content is incomplete.
    pub fn break_content_off(&mut self, reason: CloseReason) {
        if let Writing::Body(encoder) = self.writing {
            self.writing = Writing::Broken(encoder);
            self.reading = Reading::Closed;
            self.persistence = Persistence::Close(reason);
        }
    }

    /// Starts the next request if request and response are complete and the connection is kept.
    /// Returns true if so. Call this whenever one of both may have become complete.
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

    /// Notes that the peer has shut down its sending side. Responses that are due are still sent,
    /// because a half-close is legal. An incomplete request gets no response.
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
        self.reading = Reading::Closed;
    }

    /// Closes the connection after the current response. The first reason is kept, unless response
    /// content breaks off later.
    pub fn close_after(&mut self, reason: CloseReason) {
        if self.persistence == Persistence::KeepAlive {
            self.persistence = Persistence::Close(reason);
        }
    }

    /// Last step of the connection. Call this when the send queue is empty. `behind_request` is the
    /// input after the last request.
    #[must_use]
    pub fn finish(&self, behind_request: Unused) -> Finish {
        let Persistence::Close(reason) = self.persistence else { return Finish::NotYet };
        match (&self.writing, &self.reading) {
            (Writing::Owed(_) | Writing::Body(_), _) => Finish::NotYet,
            // A close is enough to show that the last chunk or a part of the stated length is
            // missing. Content that ends with the connection needs a reset.
            (Writing::Broken(BodyEncoder::Chunked | BodyEncoder::Sized), _) => Finish::Close(reason),
            (Writing::Broken(BodyEncoder::UntilClose), _) => Finish::Reset(reason),
            (Writing::Idle | Writing::Done, Reading::Closed) => Finish::Close(reason),
            (Writing::Done, Reading::Done) if behind_request == Unused::Nothing => Finish::Close(reason),
            // The connection lingers already. Its deadline or the peer's close ends it.
            (Writing::Idle, Reading::Lingering { .. }) => Finish::NotYet,
            // Between requests no response is due and no input was refused, so the connection is
            // closed at once.
            (Writing::Idle, Reading::Idle { .. } | Reading::Head { .. }) => Finish::Close(reason),
            (Writing::Idle | Writing::Done, _) => Finish::Linger(reason),
        }
    }

    /// Restarts the time limit of the response that is due, because another handler makes it from
    /// now on.
    pub fn restart_answer(&mut self, now: Instant) {
        if self.is_owed() {
            self.progress = Progress::starting(now);
        }
    }

    /// Notes that the sending side was shut down. From now on input is only dropped.
    pub fn start_lingering(&mut self, now: Instant) {
        self.writing = Writing::Idle;
        self.reading = Reading::Lingering { dropped: 0 };
        self.progress = Progress::starting(now);
    }

    /// Notes that the socket took `bytes`. `out` is the send queue without them.
    pub fn note_sent(&mut self, bytes: u64, out: &SendQueue, now: Instant) {
        if out.is_empty() {
            // The time limit of the next phase starts when this phase ends.
            self.progress = Progress::starting(now);
        } else {
            self.progress.moved(bytes, now);
        }
    }

    /// Notes that bytes after the last request were dropped. More may be on the way, so the
    /// connection must linger before it closes.
    pub fn drop_input(&mut self) {
        if matches!(self.reading, Reading::Done) {
            self.reading = Reading::Lingering { dropped: 0 };
        }
    }

    /// True if more input would be useful now.
    #[must_use]
    pub fn wants_read(&self, limits: &Limits) -> bool {
        match &self.reading {
            Reading::Idle { .. } | Reading::Head { .. } | Reading::Body(_) | Reading::Discard(_) => true,
            Reading::Lingering { dropped } => {
                // While the response to refused input is still queued, no input is dropped. So the
                // response goes out first.
                *dropped < limits.linger_bytes_max && matches!(self.writing, Writing::Idle)
            }
            Reading::Done | Reading::Closed => false,
        }
    }

    /// True if the next request, or content of the current one, may be taken from the input.
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

    /// True if the next request may be taken from the input, and no part of it has arrived.
    #[must_use]
    pub fn awaits_request(&self) -> bool {
        self.is_idle() && self.persistence == Persistence::KeepAlive
    }

    /// Arrival time of the first byte of an incomplete head.
    pub(crate) fn head_began(&self) -> Option<Instant> {
        matches!(self.reading, Reading::Head { scanned: 1.., .. }).then_some(self.progress.since)
    }

    /// True if the last response is complete, the connection is kept, and no part of the next
    /// request has arrived.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        matches!(self.reading, Reading::Idle { .. }) && self.awaits_request()
    }

    /// True if a response is due.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        matches!(self.writing, Writing::Owed(_))
    }

    /// True if a response to HEAD is due: a head without content.
    #[must_use]
    pub fn answers_head(&self) -> bool {
        matches!(self.writing, Writing::Owed(owed) if owed.head_only())
    }

    /// Method of the request whose response is due. `None` if the input was refused before it
    /// became a request.
    #[must_use]
    pub fn method_owed(&self) -> Option<MethodLabel> {
        match &self.writing {
            Writing::Owed(owed) => owed.method,
            Writing::Idle | Writing::Body(_) | Writing::Done | Writing::Broken(_) => None,
        }
    }

    /// True if content of the current request is still due.
    #[must_use]
    pub fn expects_content(&self) -> bool {
        matches!(self.reading, Reading::Body(_))
    }

    /// True if the response content is being made.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(self.writing, Writing::Body(_))
    }

    /// True if the connection waits between requests, or for its first byte.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(
            (&self.reading, &self.writing),
            (Reading::Idle { .. } | Reading::Head { scanned: 0, .. }, Writing::Idle)
        )
    }

    /// True if all content has arrived, but [`Event::ContentEnd`] or [`Event::Discarded`] was not
    /// returned yet. No further byte is needed for that event.
    #[must_use]
    pub fn is_content_drained(&self) -> bool {
        matches!(
            &self.reading,
            Reading::Body(BodyDecoder::Length { left: 0 })
                | Reading::Discard(BodyDecoder::Length { left: 0 })
        )
    }

    /// Content bytes that are known to be missing.
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

    /// Reason of the close. `PeerClosed` if the connection is kept.
    #[must_use]
    pub fn close_reason(&self) -> CloseReason {
        match self.persistence {
            Persistence::Close(reason) => reason,
            Persistence::KeepAlive => CloseReason::PeerClosed,
        }
    }
}

/// Empty lines that are ignored before a request line. RFC 9112 section 2.2 requires at least one.
const BLANK_LINES_MAX: u8 = 8;

#[cfg(test)]
mod tests;
