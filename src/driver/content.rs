//! Request content on its way to the handler: collected in memory, or piece by piece into a sink.
//!
//! This file must not know streams.

use crate::driver::exchange::{Exchange, TOO_SLOW, failed};
use crate::driver::respond::log_flaw;
use crate::driver::work::{RequestState, report, settle};
use crate::handler::{BodySink, SinkStatus};
use crate::http::{CloseReason, Response, Status};
use crate::jobs::pace::Pace;
use crate::jobs::sender_permits::Holder;
use crate::observe::Observer;

impl<O: Observer> Exchange<'_, O> {
    /// Starts taking the content of the current request, and sends 100 Continue if the client waits
    /// for that.
    pub(super) fn accept(&mut self, state: RequestState) {
        let now = self.driver.now.mono;
        let work = self.client.work.get_or_insert_with(|| self.driver.take_record());
        self.client.conn.accept_content(self.behind_head, &mut work.out);
        work.request = state;
        work.pace.get_or_insert_with(|| Pace::starting(now)).resume(now);
        work.report_pace();
    }

    /// Takes the content into a sink: a new one, or one that a job returns after making room in it.
    pub(super) fn accept_into(&mut self, mut sink: Box<dyn BodySink>) {
        let now = self.driver.now.mono;
        let has = |what: fn(&Holder) -> bool| sink.holders().into_iter().flatten().any(|holder| what(holder));
        if has(Holder::is_evicted) {
            // The permit was lost while a job had the sink.
            drop(sink);
            return self.refuse(TOO_SLOW, CloseReason::Evicted);
        }
        if has(Holder::is_new) {
            // Content that came before does not count for a new permit.
            self.work().pace = Some(Pace::starting(now));
        }
        let room = match self.work().request {
            RequestState::Draining { room } => Some(room),
            RequestState::Nothing
            | RequestState::Collecting { .. }
            | RequestState::Sinking { .. }
            | RequestState::Waiting => self.begin_sinking(&mut *sink),
        };
        if let Some(room) = room {
            self.accept(RequestState::Sinking { sink, room });
        }
    }

    /// Sends the interim response of a new sink, and returns the bytes that the sink accepts.
    /// Refuses content that is known to be larger, and returns `None`.
    fn begin_sinking(&mut self, sink: &mut dyn BodySink) -> Option<u64> {
        let room = sink.bytes_max(&self.driver.config.limits);
        if self.client.conn.content_left() > room {
            self.respond(Response::too_large(room).closing());
            return None;
        }
        if let Some(interim) = sink.interim() {
            let work = self.client.work.get_or_insert_with(|| self.driver.take_record());
            let (status, flaw) = (interim.status(), interim.flaw());
            if !self.client.conn.respond_interim(interim, &mut work.out) {
                log::error!("{}: status {} is not interim, and was not sent", self.id, status.code());
            }
            if let Some(flaw) = flaw {
                log_flaw(self.id, status, flaw);
            }
        }
        Some(room)
    }

    /// Returns true if more content was announced than is accepted, by a length or by a chunk size.
    /// `at_hand` bytes of it have been read.
    pub(super) fn is_too_much(&self, at_hand: usize) -> bool {
        let announced = self.client.conn.content_left().saturating_add(at_hand as u64);
        let Some(work) = &self.client.work else { return false };
        match &work.request {
            RequestState::Collecting { content, bytes_max, .. } => {
                announced > bytes_max - content.len() as u64
            }
            RequestState::Sinking { room, .. } => announced > *room,
            RequestState::Nothing | RequestState::Draining { .. } | RequestState::Waiting => false,
        }
    }

    /// Refuses content that is too large.
    #[inline(never)]
    pub(super) fn refuse_content(&mut self) {
        let limits = &self.driver.config.limits;
        let state = self.client.work.as_ref().map(|work| &work.request);
        let bytes_max = match state {
            Some(RequestState::Collecting { bytes_max, .. }) => *bytes_max,
            Some(RequestState::Sinking { sink, .. }) => sink.bytes_max(limits),
            Some(RequestState::Nothing | RequestState::Draining { .. } | RequestState::Waiting) | None => {
                limits.body_bytes_max
            }
        };
        self.respond(Response::too_large(bytes_max).closing());
    }

    /// Takes a piece of content of the current request.
    #[inline(never)]
    pub(super) fn take_content(&mut self, piece: &[u8]) {
        if self.is_too_much(piece.len()) {
            return self.refuse_content();
        }
        self.take_piece(piece);
    }

    fn take_piece(&mut self, piece: &[u8]) {
        match std::mem::take(&mut self.work().request) {
            RequestState::Nothing | RequestState::Draining { .. } | RequestState::Waiting => {
                debug_assert!(false, "content that nobody takes is discarded elsewhere");
            }
            RequestState::Collecting { mut content, bytes_max, then } => {
                let room =
                    self.driver.config.limits.collect_bytes_max.saturating_sub(self.driver.collected_bytes);
                if piece.len() > room {
                    self.driver.collected_bytes -= content.len();
                    self.driver.is_short_of_memory = true;
                    let why = "no memory is left for content";
                    return self.respond(Response::plain_problem(Status::SERVICE_UNAVAILABLE, why).closing());
                }
                self.driver.collected_bytes += piece.len();
                content.extend_from_slice(piece);
                self.note_pace(piece.len());
                self.work().request = RequestState::Collecting { content, bytes_max, then };
            }
            RequestState::Sinking { mut sink, room } => {
                let room = room.saturating_sub(piece.len() as u64);
                match self.call(|cx| sink.write(piece, cx)) {
                    Some(SinkStatus::More) => {
                        self.note_pace(piece.len());
                        let work = self.work();
                        work.request = RequestState::Sinking { sink, room };
                        work.report_pace();
                    }
                    Some(SinkStatus::Full) => {
                        self.note_pace(piece.len());
                        self.hold_pace(&*sink);
                        self.work().request = RequestState::Draining { room };
                        let answer = self.call(|cx| sink.drain(cx));
                        self.carry_out(answer);
                    }
                    Some(SinkStatus::Refuse(response)) => self.respond(response),
                    None => self.respond(failed().closing()),
                }
            }
        }
    }

    /// Counts content that has arrived, for its pace.
    fn note_pace(&mut self, bytes: usize) {
        let (now, rate) = (self.driver.now.mono, self.driver.busy_rate);
        if let (Some(pace), Some(rate)) = (self.work().pace.as_mut(), rate) {
            pace.note(bytes as u64, now, &rate);
        }
    }

    /// Pauses the measurement of the pace until the sink has room again, because no content is read
    /// until then.
    fn hold_pace(&mut self, sink: &dyn BodySink) {
        let now = self.driver.now.mono;
        if let Some(pace) = self.work().pace.as_mut() {
            pace.hold(now);
            report(sink, *pace);
        }
    }

    /// Handles the end of the content: the collected content or the sink produces the response.
    #[inline(never)]
    pub(super) fn end_content(&mut self) {
        let answer = match std::mem::take(&mut self.work().request) {
            RequestState::Nothing | RequestState::Draining { .. } | RequestState::Waiting => return,
            RequestState::Collecting { content, then, .. } => {
                self.driver.collected_bytes -= content.len();
                self.call(|cx| then(content, cx))
            }
            RequestState::Sinking { sink, .. } if !settle(&*sink) => {
                drop(sink);
                return self.refuse(TOO_SLOW, CloseReason::Evicted);
            }
            RequestState::Sinking { sink, .. } => self.call(|cx| sink.finish(cx)),
        };
        self.carry_out(answer);
    }
}
