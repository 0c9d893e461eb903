//! Framing of responses, and their way into the send queue (RFC 9112 section 6).
//!
//! This file must not know what was requested, beyond the properties that decide the framing.

use std::sync::Arc;

use super::phase::Progress;
use super::{Connection, Owed, Persistence, Writing};
use crate::clock::Instant;
use crate::config::Limits;
use crate::http::body::BodyEncoder;
use crate::http::error::CloseReason;
use crate::http::prepared::{PREPARED_COPIED_BYTES_MAX, Prepared};
use crate::http::response::{Body, BodySource, FillStatus, Response};
use crate::http::response_head::{push_content_length, push_server_and_date, push_status_line};
use crate::http::send_queue::SendQueue;
use crate::http::status::Status;

/// Values that `respond` needs from its driver.
#[derive(Debug, Clone, Copy)]
pub struct RespondContext<'a> {
    /// Time of the current turn.
    pub now: Instant,
    /// Value of the `Date` header (IMF-fixdate).
    pub date: &'a [u8; 29],
    /// Limits in force.
    pub limits: &'a Limits,
}

impl Connection {
    /// Queues the response to the current request: framed, with `Date`, and with `Connection` where
    /// it is required.
    ///
    /// Returns the source of content that is made while it is sent. Fill the queue from it with
    /// [`Connection::push_piece`].
    pub fn respond(
        &mut self,
        response: Response,
        cx: RespondContext<'_>,
        out: &mut SendQueue,
    ) -> Option<Box<dyn BodySource>> {
        let Writing::Owed(owed) = self.writing else {
            debug_assert!(false, "a response without a request");
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

    /// Queues a prepared response whose head must change: HEAD, HTTP/1.0 or close.
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

    /// Queues a response whose head is made now. Returns the source of its content, as `respond`
    /// does.
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
        // A driver renders problems before. The text is for other users of the protocol.
        let (status, headers, mut body) = response.rendered_as_text().into_parts();
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

    /// Appends `Connection`, if it is needed, and the empty line.
    fn push_persistence(&self, bytes: &mut Vec<u8>, minor: u8) {
        match self.persistence {
            Persistence::KeepAlive if minor >= 1 => {}
            // HTTP/1.0 closes the connection unless the header is present.
            Persistence::KeepAlive => bytes.extend_from_slice(b"Connection: keep-alive\r\n"),
            Persistence::Close(_) => bytes.extend_from_slice(b"Connection: close\r\n"),
        }
        bytes.extend_from_slice(b"\r\n");
    }

    /// Queues an interim response: status and headers. Returns true if `response` is interim.
    ///
    /// Nothing is sent to a client of HTTP/1.0, which does not know interim responses (RFC 9110
    /// section 15.2). Nothing is sent after the final response, because the client would take an
    /// interim response for the next final one. A response that is not interim is not sent, because
    /// the client would take it for the final one. That includes 101, because no HTTP follows it.
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

    /// Appends a piece of the response content through `fill`, and returns the result of `fill`.
    ///
    /// `fill` must not change bytes that were queued before. If it does, nothing of the queue is
    /// sent, and the connection ends with a reset.
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
                // The send queue counts the bytes that were there before. None of them is sent.
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

    /// Completes the response content.
    pub fn finish_content(&mut self, out: &mut SendQueue) {
        if let Writing::Body(encoder) = self.writing {
            out.gather(|bytes| encoder.finish(bytes));
            self.writing = Writing::Done;
        }
    }
}

/// Replaces a response whose framing would not fit its bytes.
fn unsendable() -> Response {
    Response::new(Status::INTERNAL_SERVER_ERROR).by_server()
}

/// Queues a body of known length. Small bodies are copied after the head, so that one plain write
/// sends both.
fn push_body(body: Body, limits: &Limits, out: &mut SendQueue) {
    match body {
        Body::Empty | Body::Source(_) | Body::Sized { .. } | Body::Problem(_) => {}
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

/// Limits a source to the length that the head states. Bytes beyond it would be read as the next
/// response.
struct Measured {
    source: Box<dyn BodySource>,
    /// Bytes that are still due.
    left: u64,
}

impl BodySource for Measured {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus {
        let before = out.len();
        let filled = self.source.fill(out, room);
        let made = (out.len().saturating_sub(before) as u64).min(self.left);
        out.truncate(before + usize::try_from(made).unwrap_or(usize::MAX));
        self.left -= made;
        match filled {
            FillStatus::More | FillStatus::Later | FillStatus::End if self.left == 0 => FillStatus::End,
            FillStatus::End => FillStatus::Failed,
            FillStatus::More | FillStatus::Later | FillStatus::Failed => filled,
        }
    }

    fn is_endless(&self) -> bool {
        self.source.is_endless()
    }
}

/// Copy of the last bytes of a queue, to detect a change.
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

    /// True if `queue`, which had `len` bytes when this was made, still has the same bytes before
    /// that position.
    fn is_intact(&self, queue: &[u8], len: usize) -> bool {
        let seen = len.min(self.bytes.len());
        queue.get(len - seen..len) == Some(&self.bytes[..seen])
    }
}
