//! Requests and their answers on one connection: between the protocol and the handler, beside any
//! socket.
//!
//! [`Client`] is what a driver keeps per connection: the protocol's state, the kernel's word about
//! readiness and, while it is busy, a [`Work`] record. An `Exchange` borrows one client and its
//! driver, turns input into requests and content, and carries out answers. It fills the send queue
//! and never touches a stream: moving bytes is the pump's part.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Now;
use crate::conn_id::ConnId;
use crate::docroot;
use crate::driver::Driver;
use crate::driver::client::Client;
use crate::driver::pool::Loan;
use crate::driver::work::{Held, Source, Task, Warmth, Work};
use crate::handler::continuation::Done;
use crate::handler::watch::{Change, Watch};
use crate::handler::{Answer, Context};
use crate::http::connection::Expired;
use crate::http::head::FieldSlots;
use crate::http::send_queue::OpenFile;
use crate::http::{CloseReason, Event, Phase, ProtocolError, Request, Response, Status};
use crate::jobs::{Lane, Ran};
use crate::observe::{Activity, Observer};
use crate::pages::error as error_page;

/// One client in the hands of its driver.
pub(crate) struct Exchange<'a, O> {
    pub(crate) client: &'a mut Client,
    pub(crate) driver: &'a mut Driver<O>,
    pub(crate) id: ConnId,
    /// Requests that may still be answered in this turn.
    pub(crate) requests_left: usize,
    /// Input is at hand behind the request being started: its content needs no invitation.
    pub(super) more_at_hand: bool,
}

impl<'a, O: Observer> Exchange<'a, O> {
    pub(crate) fn new(
        client: &'a mut Client,
        driver: &'a mut Driver<O>,
        id: ConnId,
        requests_left: usize,
    ) -> Self {
        Exchange { client, driver, id, requests_left, more_at_hand: false }
    }

    /// The record of this client, made present.
    pub(crate) fn work(&mut self) -> &mut Work {
        let driver = &mut *self.driver;
        self.client.work.get_or_insert_with(|| driver.hire())
    }

    /// Whether requests or content may be taken from the input now.
    pub(crate) fn may_parse(&self) -> bool {
        self.client.conn.may_parse()
            && self.requests_left > 0
            && !self.client.is_waiting()
            && self.client.queued_bytes() < self.driver.config.limits.send_high_water_bytes as u64
    }

    /// Uses as much of `input` as can be used. Returns how much that was, and whether it stopped
    /// for want of more (rather than because the connection has to pause).
    pub(crate) fn receive(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        let mut slots = FieldSlots::new();
        while self.may_parse() {
            let driver = &*self.driver;
            let rest = &input[at..];
            let next = self.client.conn.next_event(rest, &mut slots, &driver.config.limits, driver.now.mono);
            // Looked at where it is: a request is large.
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
                            self.more_at_hand = at < input.len();
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
                // What ends without a further byte, the pump asks for.
                break;
            }
        }
        (at, false)
    }

    /// Uses what is held. Only called when something of it may be usable.
    pub(crate) fn receive_held(&mut self) {
        let Held::Unread(mut loan) = std::mem::take(&mut self.work().held) else { return };
        let (used, hungry) = self.receive(loan.held());
        loan.used(used);
        self.hold(loan, hungry);
    }

    /// Keeps a loan with what is left in it, or gives it back.
    pub(crate) fn hold(&mut self, loan: Loan, hungry: bool) {
        if loan.is_empty() || self.drops_input() {
            if !loan.is_empty() {
                self.client.conn.drop_input();
            }
            self.driver.pool.give_back(loan);
            return;
        }
        self.work().held = if hungry { Held::Partial(loan) } else { Held::Unread(loan) };
    }

    /// Takes a loan for `rest`, which cannot be used now.
    pub(crate) fn hold_rest(&mut self, rest: &[u8], hungry: bool) {
        if rest.is_empty() {
            return;
        }
        if self.drops_input() {
            self.client.conn.drop_input();
            return;
        }
        match self.driver.lend(self.id, rest) {
            Some(loan) => self.work().held = if hungry { Held::Partial(loan) } else { Held::Unread(loan) },
            None => self.refuse_for_room(),
        }
    }

    /// No loan can be had for the rest of a request.
    pub(crate) fn refuse_for_room(&mut self) {
        let error =
            ProtocolError::new(Status::SERVICE_UNAVAILABLE, "no buffer is left for an incomplete request");
        self.refuse(error, CloseReason::Evicted);
    }

    /// After a close was decided, bytes behind the last request mean nothing any more.
    pub(super) fn drops_input(&self) -> bool {
        !self.client.conn.may_parse() && !self.client.conn.is_owed() && !self.client.conn.is_streaming()
    }

    /// A request: ask the handler.
    pub(super) fn start(&mut self, request: &Request<'_>) {
        self.requests_left -= 1;
        if self.driver.access.is_some() {
            let began = self.driver.now.wall;
            let work = self.work();
            let mut note = work.spare_note.take().unwrap_or_default();
            note.take(request, began);
            work.note = Some(note);
        }
        self.driver.observer.enter(Activity::Handling);
        self.driver.extra.clear();
        if let Some(work) = self.client.work.as_mut() {
            // It belongs to the request before.
            self.driver.let_go.extend(work.let_go());
        }
        let answer = self.driver.call(self.id, &self.client.peer, |handler, cx| handler.handle(request, cx));
        match answer {
            // Nearly all of them end here.
            Some(Answer::Now(response)) => self.respond(response),
            other => self.carry_out(other),
        }
        self.keep_extra();
        // The next one may have been sent after it.
        self.driver.asked_by = None;
    }

    /// Fields for an answer that is still owed wait with the connection, and so does what is
    /// watched for it.
    #[inline]
    pub(super) fn keep_extra(&mut self) {
        if !self.driver.extra.is_empty() || !matches!(self.driver.watch, Change::Nothing) {
            self.keep_what_was_said();
        }
    }

    /// The same where there are such, which is rare.
    #[inline(never)]
    pub(super) fn keep_what_was_said(&mut self) {
        match std::mem::take(&mut self.driver.watch) {
            Change::Nothing => {}
            Change::To(watched) => {
                self.let_go();
                self.work().watch = Some(Watch::new(watched));
            }
            Change::LetGo => {
                self.let_go();
                // It had a time of its own; who makes the answer now has his from here on.
                self.client.conn.restart_answer(self.driver.now.mono);
            }
        }
        if !self.driver.extra.is_empty() && self.client.conn.is_owed() {
            let extra = std::mem::take(&mut self.driver.extra);
            self.work().extra = Some(Box::new(extra));
        }
    }

    pub(super) fn let_go(&mut self) {
        let before = self.work().let_go();
        self.driver.let_go.extend(before);
    }

    /// Has them at hand again, where the next step of the answer may add to them.
    pub(super) fn fetch_extra(&mut self) {
        self.driver.extra.clear();
        if let Some(extra) = self.client.work.as_mut().and_then(|work| work.extra.take()) {
            self.driver.extra = *extra;
        }
    }

    pub(super) fn call<T>(&mut self, body: impl FnOnce(&mut Context<'_>) -> T) -> Option<T> {
        self.driver.observer.enter(Activity::Handling);
        self.driver.call(self.id, &self.client.peer, |_, cx| body(cx))
    }

    /// Carries an answer out, step by step, until it is queued or waits for something. `None` is a
    /// panic.
    pub(super) fn carry_out(&mut self, mut answer: Option<Answer>) {
        // While it lasts the client may go on without us: truncated, timed out, refused.
        while self.client.conn.is_owed() {
            answer = match answer {
                None => return self.respond(failed().closing()),
                Some(Answer::Now(response)) => return self.respond(response),
                Some(Answer::Later(ticket)) => match ticket.into_done() {
                    Some(then) => self.call(then),
                    None => {
                        self.work().task = Task::Waiting;
                        return;
                    }
                },
                Some(Answer::Collect { bytes_max, then }) => {
                    if self.client.conn.expects_content() {
                        let bytes_max = bytes_max.min(self.driver.config.limits.body_bytes_max);
                        if self.client.conn.content_left() > bytes_max {
                            return self.respond(error_page::too_large(bytes_max).closing());
                        }
                        return self.accept(Task::Collecting { content: Vec::new(), bytes_max, then });
                    }
                    self.call(|cx| then(Vec::new(), cx))
                }
                Some(Answer::Sink(sink)) => {
                    if self.client.conn.expects_content() {
                        return self.accept_into(sink);
                    }
                    self.call(|cx| sink.finish(cx))
                }
            };
        }
    }

    /// A job's result, or a wake-up. The pump comes afterwards.
    pub(crate) fn complete(&mut self, done: Done) {
        match done {
            Done::Woken => {
                let Some(work) = self.client.work.as_mut() else { return };
                if work.warmth == Warmth::Warming {
                    work.warmth = Warmth::Warmed;
                }
                work.source = match std::mem::take(&mut work.source) {
                    Source::Resting(source) => Source::Ready(source),
                    other => other,
                };
            }
            // The driver acts on these; they are about no connection.
            Done::Asked(_) | Done::Shortage => {}
            Done::GiveWay => {
                // A sink that a job has is asked when it comes back.
                if self.client.work.as_ref().is_some_and(|work| work.gives_way()) {
                    self.refuse(TOO_SLOW, CloseReason::Evicted);
                }
            }
            Done::Finished(_) | Done::Panicked if !self.client.is_waiting() => {}
            Done::Finished(then) => {
                self.work().task = Task::Nothing;
                self.fetch_extra();
                let answer = self.call(then);
                self.carry_out(answer);
                self.keep_extra();
            }
            Done::Panicked => {
                self.driver.observer.panicked();
                self.work().task = Task::Nothing;
                self.fetch_extra();
                self.carry_out(None);
            }
        }
    }

    /// Tells the peer what it did wrong, where an answer is still possible, and ends the reading.
    #[inline(never)]
    pub(crate) fn refuse(&mut self, error: ProtocolError, reason: CloseReason) {
        let held = self.client.work.as_mut().and_then(|work| work.take_held());
        self.refuse_as_read(error, reason, held.as_ref().map_or(&[][..], Loan::held));
        if let Some(loan) = held {
            self.driver.pool.give_back(loan);
        }
    }

    /// Refuses a request of which `read` was received. The bytes are a head unless the error is
    /// about content.
    #[inline(never)]
    pub(super) fn refuse_as_read(&mut self, error: ProtocolError, reason: CloseReason, read: &[u8]) {
        let began = self.client.conn.head_began();
        if self.client.conn.refuse(reason) {
            self.fetch_extra();
            self.note_refusal(error, read, began);
            self.respond(error_page::text_error(error.status, error.reason));
        }
    }

    /// Notes for the logs which request was refused and why.
    pub(super) fn note_refusal(&mut self, error: ProtocolError, read: &[u8], began: Option<Instant>) {
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

    /// Whether the file in front of the queue may be sent without asking whether it is in memory.
    /// Good for once.
    pub(crate) fn takes_file_as_it_is(&mut self) -> bool {
        let Some(work) = self.client.work.as_mut() else { return false };
        std::mem::take(&mut work.warmth) == Warmth::Warmed
    }

    /// Has this part of a file read from the disk, beside the loop; sending goes on after the
    /// wake-up.
    pub(crate) fn warm(&mut self, file: Arc<OpenFile>, offset: u64, len: u64) {
        let ran = self.driver.desk.errands().run(
            self.id,
            Lane::Short,
            Box::new(move || docroot::read_ahead(&file, offset, len)),
        );
        self.work().warmth = match ran {
            Ran::Here => Warmth::Warmed,
            Ran::Elsewhere => Warmth::Warming,
        };
    }

    /// The deadline has passed. Some phases are told so, the others are closed.
    pub(crate) fn expire(&mut self) -> Option<Expired> {
        let expired = self.client.conn.expired(self.client.is_queued(), self.client.is_waiting());
        let Expired::Refuse(error, reason) = expired else { return Some(expired) };
        let mut still_busy = None;
        if self.client.is_waiting() || self.client.is_resting() {
            still_busy = self.driver.desk.cancel(self.id);
        }
        if reason == CloseReason::AnswerTimeout {
            self.driver.observer.answer_timed_out(still_busy.is_some());
            if let Some(busy) = still_busy {
                busy.log("503");
            }
        }
        self.refuse(error, reason);
        None
    }

    /// Acts when the place of this connection is needed: a slow sender gets 408, where an answer is
    /// possible. Returns the reason if the connection is to be closed at once.
    pub(crate) fn give_way(&mut self) -> Option<CloseReason> {
        let error = match self.client.phase() {
            Phase::ReceivingHead if !self.client.conn.is_idle() => {
                let reason = "the request head came too slowly for a busy server";
                ProtocolError::new(Status::REQUEST_TIMEOUT, reason)
            }
            Phase::ReceivingBody if self.client.conn.is_owed() => TOO_SLOW,
            // It has moved on, and gets its answer. Nothing more is read.
            Phase::Handling | Phase::Sending | Phase::Streaming => {
                self.end_of_input();
                return None;
            }
            Phase::Idle | Phase::ReceivingHead | Phase::ReceivingBody | Phase::Lingering | Phase::Closed => {
                return Some(CloseReason::Evicted);
            }
        };
        if self.client.is_waiting() || self.client.is_resting() {
            drop(self.driver.desk.cancel(self.id));
        }
        self.refuse(error, CloseReason::Evicted);
        None
    }

    /// The peer has shut its side and everything it sent was used.
    pub(crate) fn end_of_input(&mut self) {
        self.client.ready.ended = true;
        self.client.conn.receive_end();
        let Some(work) = self.client.work.as_mut() else { return };
        let held = work.take_held();
        if let Some(loan) = held {
            self.driver.pool.give_back(loan);
        }
        if !self.client.conn.is_owed() {
            let collected = work.collected_bytes();
            self.driver.collected_bytes -= collected;
            work.task = Task::Nothing;
        }
    }

    /// Gives the record back when nothing in it is needed: an idle connection owns none.
    pub(crate) fn settle(&mut self) {
        if self.client.work.as_ref().is_some_and(|work| work.is_spent())
            && let Some(work) = self.client.work.take()
        {
            self.driver.release(work);
        }
    }
}

pub(super) fn failed() -> Response {
    error_page::text_error(Status::INTERNAL_SERVER_ERROR, "the handler failed")
}

/// The answer to a sender whose place is needed.
pub(super) const TOO_SLOW: ProtocolError =
    ProtocolError::new(Status::REQUEST_TIMEOUT, "the request content came too slowly for a busy server");
