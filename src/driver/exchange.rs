//! Requests and answers of one connection: the layer between the protocol and the handler.
//!
//! An `Exchange` borrows one [`Client`] and its driver. It takes requests and content from the
//! input, calls the handler, and carries out the answers. The files `content` and `respond` add
//! methods to it. An exchange fills the send queue and must not know streams, because the pump
//! moves the bytes.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Instant, Now};
use crate::config::KIB;
use crate::conn_id::ConnId;
use crate::driver::client::Client;
use crate::driver::pool::PooledBuffer;
#[cfg(feature = "os")]
use crate::driver::socket::read_ahead;
use crate::driver::work::{Held, RequestState, Residency, Source, Work};
use crate::driver::{Caller, Driver};
use crate::handler::continuation::Done;
use crate::handler::watch::{Change, Watch};
use crate::handler::{Answer, Context, Handler};
use crate::http::connection::{Expired, Teardown, Unused};
use crate::http::head::FieldSlots;
use crate::http::open_file::OpenFile;
use crate::http::{CloseReason, Event, Phase, ProtocolError, Request, Response, Status};
use crate::jobs::{Lane, Ran};
use crate::observe::step::Step;
use crate::observe::{Activity, LateWorker, Observer};
use crate::pages::error::ErrorForm;

/// One client and its driver, borrowed together for one step.
pub(crate) struct Exchange<'a, O> {
    pub(crate) client: &'a mut Client,
    pub(crate) driver: &'a mut Driver<O>,
    pub(crate) id: ConnId,
    /// Requests that may still be started in this turn.
    pub(crate) requests_left: usize,
    /// Input behind the head of the request that is being started. If there is any, the client does
    /// not wait for 100 Continue.
    pub(super) behind_head: Unused,
    /// The next request was sent no later than this. `None`: no later than now.
    pub(super) sent_before: Option<Instant>,
}

impl<'a, O: Observer> Exchange<'a, O> {
    pub(crate) fn new(
        client: &'a mut Client,
        driver: &'a mut Driver<O>,
        id: ConnId,
        requests_left: usize,
    ) -> Self {
        Exchange { client, driver, id, requests_left, behind_head: Unused::Nothing, sent_before: None }
    }

    /// Returns the record of the client, after taking one from the driver if there was none.
    pub(crate) fn work(&mut self) -> &mut Work {
        let driver = &mut *self.driver;
        self.client.work.get_or_insert_with(|| driver.take_record())
    }

    /// Returns true if requests or content may be taken from the input now.
    pub(crate) fn may_parse(&self) -> bool {
        self.client.conn.may_parse()
            && self.requests_left > 0
            && !self.client.is_waiting()
            && self.client.queued_bytes() < self.driver.config.limits.send_high_water_bytes as u64
    }

    /// Takes requests and content from `input`. Returns the number of bytes used, and whether more
    /// input is needed. If not, the connection has to pause.
    pub(crate) fn receive(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        let mut slots = FieldSlots::new();
        while self.may_parse() {
            let driver = &*self.driver;
            let rest = &input[at..];
            let next = self.client.conn.next_event(rest, &mut slots, &driver.config.limits, driver.now.mono);
            // The event is matched by reference, because a request is large and moving it costs
            // time.
            match &next {
                Ok((used, event)) => {
                    at += used;
                    match event {
                        Event::NeedMore if self.client.conn.expects_content() && self.is_too_much(0) => {
                            self.refuse_content();
                        }
                        Event::NeedMore => return (at, true),
                        Event::Paused => return (at, false),
                        Event::Request(request) => {
                            self.behind_head = if at < input.len() { Unused::Bytes } else { Unused::Nothing };
                            self.start(request);
                        }
                        Event::Content(piece) => self.take_content(piece),
                        Event::ContentEnd => self.end_content(),
                        Event::Discarded => {
                            let now = self.driver.now.mono;
                            self.client.conn.start_next_cycle(now);
                        }
                    }
                }
                Err(error) => self.refuse_as_read(*error, CloseReason::ProtocolError, &input[at..]),
            }
            if at == input.len() {
                // All input is used. If the content has just ended, the pump calls again with no
                // input to report the end.
                break;
            }
        }
        (at, false)
    }

    /// Uses the held input. Call only if some of it may be usable.
    pub(crate) fn receive_held(&mut self) {
        let Held::Unread(mut buffer) = std::mem::take(&mut self.work().held) else { return };
        let (used, needs_more) = self.receive(buffer.held());
        buffer.used(used);
        self.hold(buffer, needs_more);
    }

    /// Keeps a buffer with the input that is left in it, or puts the buffer back into the pool.
    pub(crate) fn hold(&mut self, buffer: PooledBuffer, needs_more: bool) {
        if buffer.is_empty() || self.drops_input() {
            if !buffer.is_empty() {
                self.client.conn.drop_input();
            }
            self.driver.pool.put(buffer);
            return;
        }
        self.work().held = if needs_more { Held::Partial(buffer) } else { Held::Unread(buffer) };
    }

    /// Takes a buffer for `rest`, which cannot be used now.
    pub(crate) fn hold_rest(&mut self, rest: &[u8], needs_more: bool) {
        if rest.is_empty() {
            return;
        }
        if self.drops_input() {
            self.client.conn.drop_input();
            return;
        }
        match self.driver.take_buffer(self.id, rest) {
            Some(buffer) => {
                self.work().held = if needs_more { Held::Partial(buffer) } else { Held::Unread(buffer) }
            }
            None => self.refuse_for_room(),
        }
    }

    /// Refuses a request, because the pool has no buffer for an incomplete one.
    pub(crate) fn refuse_for_room(&mut self) {
        let error =
            ProtocolError::new(Status::SERVICE_UNAVAILABLE, "no buffer is left for an incomplete request");
        self.refuse(error, CloseReason::Evicted);
    }

    /// Returns true if further input is meaningless, because a close was decided and no response is
    /// owed.
    fn drops_input(&self) -> bool {
        !self.client.conn.may_parse() && !self.client.conn.is_owed() && !self.client.conn.is_streaming()
    }

    /// Starts a request: calls the handler and carries out its answer.
    pub(super) fn start(&mut self, request: &Request<'_>) {
        self.requests_left -= 1;
        if let Some(work) = self.client.work.as_mut() {
            // The watched object and the headers belong to the request before.
            self.driver.abandoned.extend(work.abandon_watch());
            work.pending.clear();
        }
        if self.driver.access.is_some() {
            let began = self.driver.now.wall;
            let work = self.work();
            let mut note = work.spare_note.take().unwrap_or_default();
            note.take(request, began);
            work.note = Some(note);
        }
        self.driver.observer.request_started(self.id, request);
        match self.call_handler(|handler, cx| handler.handle(request, cx)) {
            // Nearly all requests end here.
            Some(Answer::Now(response)) if !response.is_problem() => {
                self.respond(response);
                if self.client.queued_bytes() >= LABELLED_BYTES || self.client.conn.is_streaming() {
                    self.label(request);
                }
            }
            other => {
                // The response may be a problem, and the head is not kept.
                self.work().error_form = ErrorForm::of(request);
                self.label(request);
                self.carry_out(other);
            }
        }
        // The next request may have been sent later than this one.
        self.sent_before = None;
    }

    /// Keeps method and path of a request that is not answered at once, for views of the loop.
    #[inline(never)]
    fn label(&mut self, request: &Request<'_>) {
        let now = self.driver.now.mono;
        self.work().label.set(request, now);
    }

    /// Calls a function that a handler has left for a later step.
    pub(super) fn call<T>(&mut self, body: impl FnOnce(&mut Context<'_>) -> T) -> Option<T> {
        self.call_handler(|_, cx| body(cx))
    }

    /// Lends a context to `body`, then applies the change of the watched object that `body` has
    /// requested. Returns `None` after a panic.
    fn call_handler<T>(&mut self, body: impl FnOnce(&dyn Handler, &mut Context<'_>) -> T) -> Option<T> {
        self.driver.observer.enter(Activity::Handling);
        let work = self.client.work.get_or_insert_with(|| self.driver.take_record());
        let caller = Caller {
            id: self.id,
            peer: &self.client.peer,
            pending: &mut work.pending,
            sent_before: self.sent_before,
        };
        let called = self.driver.call(caller, body);
        if !matches!(work.pending.watch, Change::Nothing) {
            self.change_watch();
        }
        called
    }

    /// Applies a change of the watched object. Out of line, because few requests have any.
    #[inline(never)]
    fn change_watch(&mut self) {
        match std::mem::take(&mut self.work().pending.watch) {
            Change::Nothing => {}
            Change::To(watched) => {
                self.abandon_watch();
                self.work().watch = Some(Watch::new(watched));
            }
            Change::Abandon => {
                self.abandon_watch();
                // No answer timeout ran while the object was watched. The timeout of the new
                // handler starts now.
                self.client.conn.restart_answer(self.driver.now.mono);
            }
        }
    }

    /// Abandons the watched object of the connection, if there is one.
    fn abandon_watch(&mut self) {
        let before = self.work().abandon_watch();
        self.driver.abandoned.extend(before);
    }

    /// Carries out an answer, step by step, until a response is queued or something has to be
    /// waited for. `None` means that the handler panicked.
    pub(super) fn carry_out(&mut self, mut answer: Option<Answer>) {
        // During a step the request may end without a handler: truncated, timed out, or refused.
        while self.client.conn.is_owed() {
            answer = match answer {
                None => return self.respond(failed().closing()),
                Some(Answer::Now(response)) => return self.respond(response),
                Some(Answer::Later(ticket)) => match ticket.into_done() {
                    Some(then) => self.call(then),
                    None => {
                        let state = &mut self.work().request;
                        if !matches!(state, RequestState::Draining { .. }) {
                            *state = RequestState::Waiting;
                        }
                        let id = self.id;
                        self.driver.observer.step(|| Step::Job { id });
                        return;
                    }
                },
                Some(Answer::Collect { bytes_max, then }) => {
                    if self.client.conn.expects_content() {
                        let bytes_max = bytes_max.min(self.driver.config.limits.body_bytes_max);
                        if self.client.conn.content_left() > bytes_max {
                            return self.respond(Response::too_large(bytes_max).closing());
                        }
                        return self.accept(RequestState::Collecting {
                            content: Vec::new(),
                            bytes_max,
                            then,
                        });
                    }
                    self.call(|cx| then(Vec::new(), cx))
                }
                Some(Answer::Sink(sink)) => {
                    if self.client.conn.expects_content() {
                        return self.accept_into(sink);
                    }
                    self.work().request = RequestState::Nothing;
                    self.call(|cx| sink.finish(cx))
                }
            };
        }
    }

    /// Applies the result of a job, or a wake-up. Pump the connection afterwards.
    pub(crate) fn complete(&mut self, done: Done) {
        match done {
            Done::Woken => {
                let Some(work) = self.client.work.as_mut() else { return };
                if work.residency == Residency::Fetching {
                    work.residency = Residency::Fetched;
                }
                work.source = match std::mem::take(&mut work.source) {
                    Source::Resting(source) => Source::Ready(source),
                    other => other,
                };
            }
            // The driver handles these results, which belong to no connection.
            Done::Inspect(_) | Done::ListRequests(_) | Done::Shortage => {}
            Done::Evicted => {
                // If a job has the sink now, the sink is checked when the job returns it.
                if self.client.work.as_ref().is_some_and(|work| work.is_evicted()) {
                    self.refuse(TOO_SLOW, CloseReason::Evicted);
                }
            }
            Done::Finished(_) | Done::Panicked if !self.client.is_waiting() => {}
            Done::Finished(then) => {
                self.work().end_wait();
                let answer = self.call(then);
                self.carry_out(answer);
            }
            Done::Panicked => {
                let id = self.id;
                self.driver.observer.step(|| Step::Panic { id });
                self.work().request = RequestState::Nothing;
                self.carry_out(None);
            }
        }
    }

    /// Sends the peer an error response if one is still possible, and stops reading requests.
    #[inline(never)]
    pub(crate) fn refuse(&mut self, error: ProtocolError, reason: CloseReason) {
        let held = self.client.work.as_mut().and_then(|work| work.take_held());
        self.refuse_as_read(error, reason, held.as_ref().map_or(&[][..], PooledBuffer::held));
        if let Some(buffer) = held {
            self.driver.pool.put(buffer);
        }
    }

    /// Refuses a request. `read` is the part of its head that has arrived, for the log. For an
    /// error in content it is not a head.
    #[inline(never)]
    fn refuse_as_read(&mut self, error: ProtocolError, reason: CloseReason, read: &[u8]) {
        let began = self.client.conn.head_began();
        if self.client.conn.refuse(reason) {
            self.note_refusal(error, read, began);
            self.respond(Response::plain_problem(error.status, error.reason));
        }
    }

    /// Notes for the logs which request was refused, and the reason.
    fn note_refusal(&mut self, error: ProtocolError, read: &[u8], began: Option<Instant>) {
        if self.driver.access.is_none() && !log::log_enabled!(log::Level::Debug) {
            return;
        }
        let Now { mono, wall } = self.driver.now;
        let taken = began.map_or(Duration::ZERO, |began| mono.saturating_duration_since(began));
        let work = self.work();
        let mut note = work.note.take().unwrap_or_else(|| {
            let mut note = work.spare_note.take().unwrap_or_default();
            note.take_unparsed(read, wall.saturating_sub(taken));
            note
        });
        note.refused = Some(error.reason);
        log::debug!("{} refused: {error}: \"{}\"", self.id, note.request_line().escape_ascii());
        self.work().note = Some(note);
    }

    /// Returns true once after a read-ahead: the next send need not check whether the file is in
    /// memory.
    pub(crate) fn skips_residency_check(&mut self) -> bool {
        let Some(work) = self.client.work.as_mut() else { return false };
        std::mem::take(&mut work.residency) == Residency::Fetched
    }

    /// Reads a part of a file from the disk on a worker thread. Sending continues after the
    /// wake-up.
    pub(crate) fn read_ahead(&mut self, file: Arc<OpenFile>, offset: u64, len: u64) {
        let ran = self.driver.jobs.spawner().run(
            self.id,
            Lane::Short,
            Box::new(move || read_ahead(&file, offset, len)),
        );
        self.work().residency = match ran {
            Ran::Inline => Residency::Fetched,
            Ran::Queued => {
                let id = self.id;
                self.driver.observer.step(|| Step::Job { id });
                Residency::Fetching
            }
        };
    }

    /// Handles a deadline that has passed. Sends an error response in some phases; in the others,
    /// returns how to close the connection.
    pub(crate) fn expire(&mut self) -> Option<Teardown> {
        let (error, reason) = match self.client.conn.expired(self.client.outside()) {
            Expired::Refuse(error, reason) => (error, reason),
            Expired::End(teardown) => return Some(teardown),
        };
        let mut still_busy = None;
        if self.client.is_waiting() || self.client.is_resting() {
            still_busy = self.driver.jobs.cancel(self.id);
        }
        if reason == CloseReason::AnswerTimeout {
            let worker = still_busy.as_ref().map_or(LateWorker::Free, |_| LateWorker::Busy);
            self.driver.observer.answer_timed_out(worker);
            if let Some(busy) = still_busy {
                busy.log("503");
            }
        }
        self.refuse(error, reason);
        None
    }

    /// Handles an eviction: a slow sender gets a 408 response if one is possible. Returns the
    /// reason if the connection has to be closed at once.
    pub(crate) fn evict(&mut self) -> Option<CloseReason> {
        let error = match self.client.phase() {
            Phase::ReceivingHead if !self.client.conn.is_idle() => {
                let reason = "the request head came too slowly for a busy server";
                ProtocolError::new(Status::REQUEST_TIMEOUT, reason)
            }
            Phase::ReceivingBody if self.client.conn.is_owed() => TOO_SLOW,
            // The request was received in the meantime and gets its response. Nothing more is read.
            Phase::Handling | Phase::Sending | Phase::Streaming => {
                self.end_of_input();
                return None;
            }
            Phase::Idle | Phase::ReceivingHead | Phase::ReceivingBody | Phase::Lingering | Phase::Closed => {
                return Some(CloseReason::Evicted);
            }
        };
        if self.client.is_waiting() || self.client.is_resting() {
            drop(self.driver.jobs.cancel(self.id));
        }
        self.refuse(error, CloseReason::Evicted);
        None
    }

    /// Handles the end of input: the peer has shut its side, and everything it sent was used.
    pub(crate) fn end_of_input(&mut self) {
        self.client.conn.receive_end();
        let Some(work) = self.client.work.as_mut() else { return };
        let held = work.take_held();
        if let Some(buffer) = held {
            self.driver.pool.put(buffer);
        }
        if !self.client.conn.is_owed() {
            let collected = work.collected_bytes();
            self.driver.collected_bytes -= collected;
            work.request = RequestState::Nothing;
        }
    }

    /// Returns the record to the driver if nothing in it is needed. An idle connection owns no
    /// record.
    pub(crate) fn settle(&mut self) {
        if self.client.work.as_ref().is_some_and(|work| work.is_spent())
            && let Some(work) = self.client.work.take()
        {
            self.driver.return_record(work);
        }
    }
}

/// A response of at least this size may wait for a slow client, so that its request is worth a name
/// in views of the loop. Shorter ones nearly always fit the socket.
const LABELLED_BYTES: u64 = 16 * KIB as u64;

/// The response to a request whose handler failed.
pub(super) fn failed() -> Response {
    Response::plain_problem(Status::INTERNAL_SERVER_ERROR, "the handler failed")
}

/// The refusal of a sender that was evicted.
pub(super) const TOO_SLOW: ProtocolError =
    ProtocolError::new(Status::REQUEST_TIMEOUT, "the request content came too slowly for a busy server");

/// Without an operating system every file is in memory.
#[cfg(not(feature = "os"))]
fn read_ahead(_file: &OpenFile, _offset: u64, _len: u64) {}
