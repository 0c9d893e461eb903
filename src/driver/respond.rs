//! Responses on their way into the send queue: the headers of middleware, the head, the content
//! from its source, and at the end the line in the access log.
//!
//! This file must not know streams.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::LOG_NOTE_BYTES_KEPT;
use crate::conn_id::ConnId;
use crate::driver::access::{Line, Note};
use crate::driver::exchange::{Exchange, failed};
use crate::driver::work::{RequestState, Source, settle};
use crate::handler::extras::ResponseExtras;
use crate::http::connection::RespondContext;
use crate::http::headers::Flaw;
use crate::http::{CloseReason, FillStatus, Response, Status};
use crate::log::AccessEntry;
use crate::observe::step::Step;
use crate::observe::{Activity, Observer};
use crate::pages::error::{self as error_page, ErrorForm};

impl<O: Observer> Exchange<'_, O> {
    /// Queues a response to the current request.
    pub(super) fn respond(&mut self, mut response: Response) {
        let work = self.client.work.get_or_insert_with(|| self.driver.take_record());
        if !matches!(work.request, RequestState::Nothing) {
            self.driver.collected_bytes -= work.collected_bytes();
            if let RequestState::Sinking { sink, .. } = &work.request {
                // If the permit is still needed, then for work that does not wait for a sender.
                settle(&**sink);
            }
            work.request = RequestState::Nothing;
        }
        work.pace = None;
        if !self.client.conn.is_owed() {
            return;
        }
        if let Some(why) = response.fault() {
            log::error!("{}: a handler's response cannot be sent: {why}", self.id);
            response = failed();
        }
        let extra = work.pending.take_extra();
        if response.is_problem() {
            let title = self.driver.config.files.title.as_deref();
            response = render(response, work.error_form, title, extra.as_deref());
        }
        let status = response.status();
        let mut user = None;
        if let Some(mut extra) = extra {
            user = extra.take_user();
            response = extra.apply_to(response);
            work.pending.reuse(extra);
        }
        if let Some(flaw) = response.flaw() {
            log_flaw(self.id, status, flaw);
        }
        let is_head_only = || self.client.conn.answers_head() || status.is_without_content();
        let logged = self.driver.access.is_some().then(|| match is_head_only() {
            true => 0,
            false => response.body().len().unwrap_or(0),
        });
        let (id, method) = (self.id, self.client.conn.method_owed());
        self.driver.observer.step(|| Step::Respond { id, method, status });
        let stopping = self.driver.stopping.load(Ordering::Relaxed);
        if stopping {
            self.client.conn.close_after(CloseReason::Shutdown);
        }
        let now = self.driver.now;
        let date = self.driver.date.at(now.unix_secs());
        let cx = RespondContext { now: now.mono, date, limits: &self.driver.config.limits };
        if let Some(source) = self.client.conn.respond(response, cx, &mut work.out) {
            work.source = Source::Ready(source);
        }
        if let Some(content_bytes) = logged {
            let streaming = self.client.conn.is_streaming();
            let ends_at = (!streaming).then(|| work.out.total_queued());
            let unknown = || Box::new(Note { began: now.wall, ..Note::default() });
            let mut note = work.note.take().unwrap_or_else(unknown);
            note.user = user;
            work.lines.push_back(Line { note, status, content_bytes, ends_at });
        }
        self.client.conn.start_next_cycle(now.mono);
        if stopping {
            self.end_endless();
        }
    }

    /// Returns true if the queue is short enough to take more content from the source.
    pub(crate) fn wants_fill(&self) -> bool {
        let low = self.driver.config.limits.send_low_water_bytes as u64;
        self.client
            .work
            .as_ref()
            .is_some_and(|work| matches!(work.source, Source::Ready(_)) && work.out.len() < low)
    }

    /// Takes one piece of content from the source. Returns its size in bytes.
    pub(crate) fn fill(&mut self) -> usize {
        let high = self.driver.config.limits.send_high_water_bytes;
        let now = self.driver.now.mono;
        self.driver.observer.enter(Activity::Handling);
        let Some(work) = self.client.work.as_mut() else { return 0 };
        let Source::Ready(mut source) = std::mem::take(&mut work.source) else { return 0 };
        self.driver.observer.source_started(self.id, &work.label);
        let room = high.saturating_sub(usize::try_from(work.out.len()).unwrap_or(high));
        let mut bytes = 0;
        let filled = self.client.conn.push_piece(&mut work.out, now, |out| {
            let before = out.len();
            let asked = std::panic::AssertUnwindSafe(|| source.fill(out, room));
            let filled = std::panic::catch_unwind(asked);
            bytes = out.len().saturating_sub(before);
            filled
        });
        if !self.client.conn.is_streaming() {
            log::error!("{}: a body source changed bytes that were not its own", self.id);
            return bytes;
        }
        if let Some(line) = work.lines.back_mut() {
            line.content_bytes += bytes as u64;
        }
        match filled {
            Ok(FillStatus::More) => work.source = Source::Ready(source),
            Ok(FillStatus::Later) => work.source = Source::Resting(source),
            Ok(FillStatus::End) => self.finish_content(),
            // The client must notice that the content is incomplete, so no last chunk and no
            // further response is sent.
            Ok(FillStatus::Failed) => self.client.conn.break_content_off(CloseReason::HandlerFailed),
            Err(_) => {
                let id = self.id;
                self.driver.observer.step(|| Step::Panic { id });
                self.client.conn.break_content_off(CloseReason::HandlerFailed);
            }
        }
        bytes
    }

    /// Ends content that has no end of its own, because a graceful stop has begun.
    pub(crate) fn end_endless(&mut self) {
        let Some(work) = self.client.work.as_mut() else { return };
        match &work.source {
            Source::Ready(source) | Source::Resting(source) if source.is_endless() => {}
            Source::Nothing | Source::Ready(_) | Source::Resting(_) => return,
        }
        work.source = Source::Nothing;
        self.client.conn.close_after(CloseReason::Shutdown);
        self.finish_content();
    }

    /// Runs when all content of the current response is queued.
    fn finish_content(&mut self) {
        let Some(work) = self.client.work.as_mut() else { return };
        self.client.conn.finish_content(&mut work.out);
        if let Some(line) = work.lines.back_mut() {
            line.ends_at = Some(work.out.total_queued());
        }
        self.client.conn.start_next_cycle(self.driver.now.mono);
    }

    /// Writes the log lines of responses that are sent completely, or of all responses if the
    /// connection `is_gone`. Calls `wall_clock` only if there is a line to write.
    pub(crate) fn log_answers(&mut self, is_gone: bool, wall_clock: impl FnOnce() -> Duration) {
        let Some(work) = self.client.work.as_mut() else { return };
        let Some(access) = self.driver.access.as_mut() else { return };
        if work.lines.is_empty() {
            return;
        }
        let wall = wall_clock();
        while let Some(line) = work.lines.front() {
            let whole = line.ends_at.is_some_and(|end| end <= work.out.total_sent());
            if !whole && !is_gone {
                return;
            }
            let end = line.ends_at.unwrap_or_else(|| work.out.total_queued());
            let missing = end.saturating_sub(work.out.total_sent());
            let entry = AccessEntry {
                peer: self.client.peer.ip(),
                user: line.note.user.as_deref(),
                clf_time: self.driver.date.clf(wall.as_secs()),
                request_line: line.note.request_line(),
                host: line.note.host(),
                refused: line.note.refused,
                status: line.status.code(),
                body_bytes: line.content_bytes.saturating_sub(missing),
                referer: line.note.referer(),
                user_agent: line.note.user_agent(),
                duration_us: u64::try_from(wall.saturating_sub(line.note.began).as_micros())
                    .unwrap_or(u64::MAX),
            };
            access.append(&entry, self.driver.now.mono);
            work.spare_note = work
                .lines
                .pop_front()
                .map(|line| line.note)
                .filter(|note| note.text.capacity() <= LOG_NOTE_BYTES_KEPT);
        }
    }
}

/// Renders a problem in the form that the client prefers.
#[inline(never)]
fn render(
    problem: Response,
    form: ErrorForm,
    title: Option<&str>,
    extra: Option<&ResponseExtras>,
) -> Response {
    let Some(extra) = extra else { return error_page::render(problem, form, title, b"") };
    let form = if extra.is_rewritten() { form.rewritten() } else { form };
    error_page::render(problem, form, title, extra.live_tag())
}

/// Logs that a header was changed or left out.
#[cold]
pub(super) fn log_flaw(id: ConnId, status: Status, flaw: Flaw) {
    match flaw {
        Flaw::Name | Flaw::Control => {
            log::warn!("{id}: response with status {}: {}", status.code(), flaw.reason());
        }
        Flaw::Framing | Flaw::Close => {
            log::debug!("{id}: response with status {}: {}", status.code(), flaw.reason());
        }
    }
}
