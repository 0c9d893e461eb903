//! Requests and their answers on one connection: between the protocol and the handler, beside any
//! socket.
//!
//! [`Client`] is what a driver keeps per connection: the protocol's state, the kernel's word about
//! readiness and, while it is busy, a [`Work`] record. An `Exchange` borrows one client and its
//! driver, turns input into requests and content, and carries out answers. It fills the send queue
//! and never touches a stream: moving bytes is the pump's part.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::LOG_NOTE_BYTES_KEPT;
use crate::conn_id::{ConnId, WatchId};
use crate::docroot;
use crate::driver::Driver;
use crate::driver::pool::Loan;
use crate::handler::watch::{Change, Watch};
use crate::handler::{Answer, BodySink, Context, Extra, Now, Peer, Sunk, WithContent};
use crate::http::connection::{Expired, RespondContext};
use crate::http::headers::Flaw;
use crate::http::request::FieldSlots;
use crate::http::send_queue::OpenFile;
use crate::http::send_queue::SendQueue;
use crate::http::{
    BodySource, CloseReason, Connection, Event, Filled, Phase, ProtocolError, Request, Response, Status,
};
use crate::jobs::pace::Pace;
use crate::jobs::places::Seat;
use crate::jobs::{Done, Lane, Ran};
use crate::log::AccessEntry;
use crate::observe::{Activity, Observer};
use crate::pages::error as error_page;

/// What the kernel reported and nothing has denied since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read may find something: bytes, the end of input, or an error.
    pub readable: bool,
    /// A write may be taken.
    pub writable: bool,
    /// The peer has shut its side: the end of input is in the pipe, and no further event will say
    /// so.
    pub read_closed: bool,
    /// The end of input was read.
    pub ended: bool,
}

impl Readiness {
    /// Of a connection just accepted: nothing is known, so everything is worth a try.
    #[must_use]
    pub const fn fresh() -> Self {
        Readiness { readable: true, writable: true, read_closed: false, ended: false }
    }
}

/// One connection as its driver keeps it, without the stream.
#[derive(Debug)]
pub struct Client {
    pub(crate) conn: Connection,
    pub(crate) ready: Readiness,
    /// What only a busy connection needs.
    pub(crate) work: Option<Box<Work>>,
    pub(crate) peer: Peer,
}

/// Input that was received and not used.
#[derive(Debug, Default)]
enum Held {
    /// None.
    #[default]
    Nothing,
    /// Part of something: worth a look only when more has come.
    Partial(Loan),
    /// Whole requests may be among it: to be looked at when the connection can go on.
    Unread(Loan),
}

/// What becomes of the request in hand.
#[derive(Default)]
enum Task {
    /// Nothing is under way.
    #[default]
    Nothing,
    /// Its content is collected in memory.
    Collecting { content: Vec<u8>, bytes_max: u64, then: WithContent },
    /// Its content goes into a sink.
    Sinking(Box<dyn BodySink>),
    /// A job is making the answer, or room in a sink that it took along.
    Waiting,
}

/// Where the content of the answer under way comes from.
#[derive(Default)]
enum Source {
    /// It is all queued.
    #[default]
    Nothing,
    /// This can be asked for more.
    Ready(Box<dyn BodySource>),
    /// This has nothing at the moment and will have us woken.
    Resting(Box<dyn BodySource>),
}

/// What is known of the file part in front of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Warmth {
    /// Nothing: the kernel is asked before it is sent.
    #[default]
    Unknown,
    /// It is being read from the disk; sending waits.
    Warming,
    /// It was just read: send it, even if the kernel had to drop it again meanwhile.
    Warmed,
}

/// What only a busy connection needs. Taken from a list of spare ones, so a request costs no
/// allocation.
#[derive(Default)]
pub struct Work {
    pub(crate) out: SendQueue,
    held: Held,
    task: Task,
    source: Source,
    /// Whether the file in front of the queue is in the kernel's memory.
    warmth: Warmth,
    /// What its driver watches for it, beside its socket.
    watch: Option<Watch>,
    /// Fields for the answer that is still to be made, and whose it is. Boxed like the note: both
    /// are rare or large.
    extra: Option<Box<Extra>>,
    /// Lines for the access log, of answers that the client has not taken whole.
    lines: VecDeque<Line>,
    note: Option<Box<Note>>,
    /// One that has become a line, for the next request.
    spare_note: Option<Box<Note>>,
    /// What the sink in hand still takes, in bytes, also while a job has it.
    sink_room: Option<u64>,
    /// How fast content comes that is taken.
    pace: Option<Pace>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let task = match self.task {
            Task::Nothing => "nothing",
            Task::Collecting { .. } => "collecting",
            Task::Sinking(_) => "sinking",
            Task::Waiting => "waiting",
        };
        f.debug_struct("Work")
            .field("queued", &self.out.len())
            .field("held", &self.held)
            .field("task", &task)
            .finish()
    }
}

/// Of a request, what its log line will need.
#[derive(Debug, Clone, Default)]
struct Note {
    /// Request line, host, Referer and User-Agent, one behind the other.
    text: Vec<u8>,
    line_len: usize,
    host_len: Option<usize>,
    referer_len: Option<usize>,
    has_user_agent: bool,
    user: Option<String>,
    /// The reason of a refusal that came before any handler.
    refused: Option<&'static str>,
    began: Duration,
}

impl Note {
    /// What this request said, in place of what stood here.
    fn take(&mut self, request: &Request<'_>, began: Duration) {
        let fields = [request.authority(), request.field("referer"), request.field("user-agent")];
        self.put(request.line(), fields, began);
    }

    /// Takes what can be read of a head that is malformed or incomplete: its first line, and the
    /// headers that have a whole line.
    fn take_unparsed(&mut self, read: &[u8], began: Duration) {
        let start = read.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(read.len());
        let mut lines = read[start..].split_inclusive(|&byte| byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let first = first.strip_suffix(b"\n").unwrap_or(first);
        let first = first.strip_suffix(b"\r").unwrap_or(first);
        let mut fields = [None; 3];
        // A line without its end may be half a value.
        for line in lines.map_while(|line| line.strip_suffix(b"\n")).map(<[u8]>::trim_ascii_end) {
            if line.is_empty() {
                break;
            }
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let name = &line[..colon];
            let at =
                [&b"host"[..], b"referer", b"user-agent"].iter().position(|of| name.eq_ignore_ascii_case(of));
            if let Some(field) = at.map(|at| &mut fields[at]) {
                field.get_or_insert(shortened(line[colon + 1..].trim_ascii_start()));
            }
        }
        self.put(shortened(first), fields, began);
    }

    fn put(&mut self, line: &[u8], fields: [Option<&[u8]>; 3], began: Duration) {
        self.text.clear();
        self.text.extend_from_slice(line);
        for field in fields.into_iter().flatten() {
            self.text.extend_from_slice(field);
        }
        let [host, referer, user_agent] = fields;
        self.line_len = line.len();
        self.host_len = host.map(<[u8]>::len);
        self.referer_len = referer.map(<[u8]>::len);
        self.has_user_agent = user_agent.is_some();
        self.user = None;
        self.refused = None;
        self.began = began;
    }

    fn request_line(&self) -> &[u8] {
        &self.text[..self.line_len]
    }

    fn host(&self) -> Option<&[u8]> {
        self.host_len.map(|len| &self.text[self.line_len..self.line_len + len])
    }

    fn referer(&self) -> Option<&[u8]> {
        let start = self.line_len + self.host_len.unwrap_or(0);
        self.referer_len.map(|len| &self.text[start..start + len])
    }

    fn user_agent(&self) -> Option<&[u8]> {
        let start = self.line_len + self.host_len.unwrap_or(0) + self.referer_len.unwrap_or(0);
        self.has_user_agent.then(|| &self.text[start..])
    }
}

/// Bytes of one line of a refused head that are logged: enough to recognise the client. A head may
/// be full of bytes that each take four letters in the log.
const REFUSED_LINE_BYTES_MAX: usize = 1024;

fn shortened(line: &[u8]) -> &[u8] {
    &line[..line.len().min(REFUSED_LINE_BYTES_MAX)]
}

/// A log line that waits for the end of its answer.
#[derive(Debug)]
struct Line {
    note: Box<Note>,
    status: Status,
    content_bytes: u64,
    /// Where in the output its answer ends; `None` while the content is being made.
    ends_at: Option<u64>,
}

impl Work {
    pub(crate) fn take_held(&mut self) -> Option<Loan> {
        match std::mem::take(&mut self.held) {
            Held::Nothing => None,
            Held::Partial(loan) | Held::Unread(loan) => Some(loan),
        }
    }

    pub(crate) fn collected_bytes(&self) -> usize {
        match &self.task {
            Task::Collecting { content, .. } => content.len(),
            Task::Nothing | Task::Sinking(_) | Task::Waiting => 0,
        }
    }

    pub(crate) fn clear(&mut self, keep_bytes: usize) {
        self.out.reset(keep_bytes);
        self.task = Task::Nothing;
        self.source = Source::Nothing;
        self.warmth = Warmth::Unknown;
        self.extra = None;
        if !self.lines.is_empty() {
            self.lines.clear();
        }
        self.note = None;
        self.sink_room = None;
        self.pace = None;
    }

    /// Abandons what is watched, if anything is; returns its name.
    pub(crate) fn let_go(&mut self) -> Option<WatchId> {
        self.watch.take().and_then(|watch| watch.name)
    }

    fn is_spent(&self) -> bool {
        self.out.is_empty()
            && matches!(self.held, Held::Nothing)
            && matches!(self.task, Task::Nothing)
            && matches!(self.source, Source::Nothing)
    }

    /// Takes out a loan that waits for more input.
    pub(crate) fn take_partial(&mut self) -> Option<Loan> {
        match std::mem::take(&mut self.held) {
            Held::Partial(loan) => Some(loan),
            other => {
                self.held = other;
                None
            }
        }
    }

    pub(crate) fn holds_unread(&self) -> bool {
        matches!(self.held, Held::Unread(_))
    }

    /// Reports the pace of the content in hand to the places that it holds.
    fn report_pace(&self) {
        if let (Task::Sinking(sink), Some(pace)) = (&self.task, self.pace) {
            report(&**sink, pace);
        }
    }

    /// True if the content in hand has lost one of its places.
    fn gives_way(&self) -> bool {
        matches!(&self.task, Task::Sinking(sink) if sink.seats().iter().flatten().any(|seat| seat.gives_way()))
    }
}

/// Reports the pace of content to the places that its sink holds.
fn report(sink: &dyn BodySink, pace: Pace) {
    for seat in sink.seats().into_iter().flatten() {
        seat.report(pace);
    }
}

impl Client {
    /// A connection accepted at the driver's present time.
    #[must_use]
    pub fn new(peer: Peer, now: Instant) -> Self {
        Client { conn: Connection::new(now), ready: Readiness::fresh(), work: None, peer }
    }

    /// Whether output waits for the socket.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !work.out.is_empty())
    }

    /// Output that waits for the socket, in bytes.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.out.len())
    }

    /// Whether a job holds the exchange up.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.task, Task::Waiting))
    }

    /// Whether all it needs is the next request, and there is something to read.
    pub(crate) fn is_ready_to_ask(&self) -> bool {
        self.ready.readable && self.work.is_none() && self.conn.awaits_request()
    }

    /// Whether it is between two requests, with nothing of either left.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.work.is_none() && self.conn.is_between_requests()
    }

    /// What is watched for it.
    pub(crate) fn watch(&mut self) -> Option<&mut Watch> {
        self.work.as_mut()?.watch.as_mut()
    }

    /// Whether part of its answer is being made elsewhere, and a wake-up will tell.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.work
            .as_ref()
            .is_some_and(|work| work.warmth == Warmth::Warming || matches!(work.source, Source::Resting(_)))
    }

    /// Whether output could be given to the socket: not while its next part is fetched from the
    /// disk.
    #[must_use]
    pub fn is_sendable(&self) -> bool {
        self.is_queued() && self.work.as_ref().is_some_and(|work| work.warmth != Warmth::Warming)
    }

    /// How fast its peer brings what it waits for: a head, or content. `None` if it waits for
    /// neither.
    pub(crate) fn pace(&self) -> Option<Pace> {
        match self.phase() {
            Phase::ReceivingHead => Some(Pace::since(self.conn.since(), 0)),
            Phase::ReceivingBody => {
                let known = self.work.as_ref().and_then(|work| work.pace);
                // Content that nobody takes is only counted.
                Some(known.unwrap_or_else(|| Pace::since(self.conn.since(), self.conn.received_bytes())))
            }
            Phase::Idle
            | Phase::Handling
            | Phase::Sending
            | Phase::Streaming
            | Phase::Lingering
            | Phase::Closed => None,
        }
    }

    /// Whether it holds input on loan.
    #[must_use]
    pub fn holds_loan(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !matches!(work.held, Held::Nothing))
    }

    /// True if it holds part of something, and waits for the rest.
    pub(crate) fn holds_part(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.held, Held::Partial(_)))
    }

    /// True if its content is kept in memory as it comes.
    pub(crate) fn is_collecting(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.task, Task::Collecting { .. }))
    }

    /// The phase it is in.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.conn.phase(self.is_queued())
    }

    /// When that phase gives up.
    #[must_use]
    pub fn deadline(&self, config: &crate::config::Config) -> Option<Instant> {
        let watch = self.work.as_ref().and_then(|work| work.watch.as_ref());
        let is_timed = watch.is_some_and(|watch| watch.watched.brings_answer());
        if is_timed && self.is_waiting() && !self.is_queued() {
            // What is watched keeps its own time.
            return None;
        }
        let rate = config.limits.rate_min_bytes;
        self.conn.deadline(self.is_queued(), self.is_waiting(), &config.timeouts, rate)
    }
}

/// One client in the hands of its driver.
pub(crate) struct Exchange<'a, O> {
    pub(crate) client: &'a mut Client,
    pub(crate) driver: &'a mut Driver<O>,
    pub(crate) id: ConnId,
    /// Requests that may still be answered in this turn.
    pub(crate) requests_left: usize,
    /// Input is at hand behind the request being started: its content needs no invitation.
    more_at_hand: bool,
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
    fn drops_input(&self) -> bool {
        !self.client.conn.may_parse() && !self.client.conn.is_owed() && !self.client.conn.is_streaming()
    }

    /// A request: ask the handler.
    fn start(&mut self, request: &Request<'_>) {
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
    fn keep_extra(&mut self) {
        if !self.driver.extra.is_empty() || !matches!(self.driver.watch, Change::Nothing) {
            self.keep_what_was_said();
        }
    }

    /// The same where there are such, which is rare.
    #[inline(never)]
    fn keep_what_was_said(&mut self) {
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

    fn let_go(&mut self) {
        let before = self.work().let_go();
        self.driver.let_go.extend(before);
    }

    /// Has them at hand again, where the next step of the answer may add to them.
    fn fetch_extra(&mut self) {
        self.driver.extra.clear();
        if let Some(extra) = self.client.work.as_mut().and_then(|work| work.extra.take()) {
            self.driver.extra = *extra;
        }
    }

    fn call<T>(&mut self, body: impl FnOnce(&mut Context<'_>) -> T) -> Option<T> {
        self.driver.observer.enter(Activity::Handling);
        self.driver.call(self.id, &self.client.peer, |_, cx| body(cx))
    }

    /// Carries an answer out, step by step, until it is queued or waits for something. `None` is a
    /// panic.
    fn carry_out(&mut self, mut answer: Option<Answer>) {
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

    /// The handler takes the content: invite it where the client waits for that.
    fn accept(&mut self, task: Task) {
        let now = self.driver.now.mono;
        let work = self.client.work.get_or_insert_with(|| self.driver.hire());
        self.client.conn.accept_content(self.more_at_hand, &mut work.out);
        work.task = task;
        work.pace.get_or_insert_with(|| Pace::starting(now)).resume(now);
        work.report_pace();
    }

    /// The same for a sink: a new one, or one that comes back from a job that made room in it.
    fn accept_into(&mut self, mut sink: Box<dyn BodySink>) {
        let room = sink.bytes_max(&self.driver.config.limits);
        let now = self.driver.now.mono;
        let has = |what: fn(&Seat) -> bool| sink.seats().into_iter().flatten().any(|seat| what(seat));
        if has(Seat::gives_way) {
            // It was lost while a job had the sink.
            drop(sink);
            return self.refuse(TOO_SLOW, CloseReason::Evicted);
        }
        if has(Seat::is_new) {
            // Content that came before is another matter: the place was not held then.
            self.work().pace = Some(Pace::starting(now));
        }
        if self.work().sink_room.is_none() {
            if self.client.conn.content_left() > room {
                return self.respond(error_page::too_large(room).closing());
            }
            self.work().sink_room = Some(room);
            if let Some(interim) = sink.interim() {
                let work = self.client.work.get_or_insert_with(|| self.driver.hire());
                let (status, flaw) = (interim.status(), interim.flaw());
                if !self.client.conn.respond_interim(interim, &mut work.out) {
                    log::error!("{}: status {} is not interim, and was not sent", self.id, status.code());
                }
                if let Some(flaw) = flaw {
                    log_flaw(self.id, status, flaw);
                }
            }
        }
        self.accept(Task::Sinking(sink));
    }

    /// True if more content was announced than its taker takes: by a length, or by the size of a
    /// chunk. `at_hand` bytes of it are here.
    fn is_too_much(&self, at_hand: usize) -> bool {
        let announced = self.client.conn.content_left().saturating_add(at_hand as u64);
        let Some(work) = &self.client.work else { return false };
        match &work.task {
            Task::Collecting { content, bytes_max, .. } => announced > bytes_max - content.len() as u64,
            Task::Sinking(_) => work.sink_room.is_some_and(|room| announced > room),
            Task::Nothing | Task::Waiting => false,
        }
    }

    /// Refuses content of which there is too much.
    #[inline(never)]
    fn refuse_content(&mut self) {
        let limits = &self.driver.config.limits;
        let task = self.client.work.as_ref().map(|work| &work.task);
        let bytes_max = match task {
            Some(Task::Collecting { bytes_max, .. }) => *bytes_max,
            Some(Task::Sinking(sink)) => sink.bytes_max(limits),
            Some(Task::Nothing | Task::Waiting) | None => limits.body_bytes_max,
        };
        self.fetch_extra();
        self.respond(error_page::too_large(bytes_max).closing());
    }

    /// A piece of content of the request in hand.
    #[inline(never)]
    fn take_content(&mut self, piece: &[u8]) {
        if self.is_too_much(piece.len()) {
            return self.refuse_content();
        }
        self.fetch_extra();
        self.take_piece(piece);
        self.keep_extra();
    }

    fn take_piece(&mut self, piece: &[u8]) {
        match std::mem::take(&mut self.work().task) {
            Task::Nothing | Task::Waiting => {
                debug_assert!(false, "content that nobody takes is discarded elsewhere");
            }
            Task::Collecting { mut content, bytes_max, then } => {
                let room =
                    self.driver.config.limits.collect_bytes_max.saturating_sub(self.driver.collected_bytes);
                if piece.len() > room {
                    self.driver.collected_bytes -= content.len();
                    self.driver.is_short_of_memory = true;
                    let why = "no memory is left for content";
                    return self.respond(error_page::text_error(Status::SERVICE_UNAVAILABLE, why).closing());
                }
                self.driver.collected_bytes += piece.len();
                content.extend_from_slice(piece);
                self.note_pace(piece.len());
                self.work().task = Task::Collecting { content, bytes_max, then };
            }
            Task::Sinking(mut sink) => {
                let room = &mut self.work().sink_room;
                *room = room.map(|room| room.saturating_sub(piece.len() as u64));
                match self.call(|cx| sink.write(piece, cx)) {
                    Some(Sunk::More) => {
                        self.note_pace(piece.len());
                        let work = self.work();
                        work.task = Task::Sinking(sink);
                        work.report_pace();
                    }
                    Some(Sunk::Full) => {
                        self.note_pace(piece.len());
                        self.hold_pace(&*sink);
                        let answer = self.call(|cx| sink.drain(cx));
                        self.carry_out(answer);
                    }
                    Some(Sunk::Refuse(response)) => self.respond(response),
                    None => self.respond(failed().closing()),
                }
            }
        }
    }

    /// So much content has come.
    fn note_pace(&mut self, bytes: usize) {
        let (now, rate) = (self.driver.now.mono, self.driver.busy_rate);
        if let (Some(pace), Some(rate)) = (self.work().pace.as_mut(), rate) {
            pace.note(bytes as u64, now, &rate);
        }
    }

    /// No more content is read until this sink has room again: that is not its sender's time.
    fn hold_pace(&mut self, sink: &dyn BodySink) {
        let now = self.driver.now.mono;
        if let Some(pace) = self.work().pace.as_mut() {
            pace.hold(now);
            report(sink, *pace);
        }
    }

    /// The content is complete: who took it makes the answer.
    #[inline(never)]
    fn end_content(&mut self) {
        self.fetch_extra();
        let answer = match std::mem::take(&mut self.work().task) {
            Task::Nothing | Task::Waiting => return,
            Task::Collecting { content, then, .. } => {
                self.driver.collected_bytes -= content.len();
                self.call(|cx| then(content, cx))
            }
            Task::Sinking(sink) if !settle(&*sink) => {
                drop(sink);
                return self.refuse(TOO_SLOW, CloseReason::Evicted);
            }
            Task::Sinking(sink) => self.call(|cx| sink.finish(cx)),
        };
        self.carry_out(answer);
        self.keep_extra();
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
    fn refuse_as_read(&mut self, error: ProtocolError, reason: CloseReason, read: &[u8]) {
        let began = self.client.conn.head_began();
        if self.client.conn.refuse(reason) {
            self.fetch_extra();
            self.note_refusal(error, read, began);
            self.respond(error_page::text_error(error.status, error.reason));
        }
    }

    /// Notes for the logs which request was refused and why.
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

    /// Queues a response.
    fn respond(&mut self, mut response: Response) {
        let work = self.client.work.get_or_insert_with(|| self.driver.hire());
        if !matches!(work.task, Task::Nothing) {
            self.driver.collected_bytes -= work.collected_bytes();
            if let Task::Sinking(sink) = &work.task {
                // If its place is still needed, then for something that waits for no sender.
                settle(&**sink);
            }
            work.task = Task::Nothing;
        }
        work.sink_room = None;
        work.pace = None;
        if !self.client.conn.is_owed() {
            return;
        }
        if let Some(why) = response.fault() {
            log::error!("{}: a handler's response cannot be sent: {why}", self.id);
            response = failed();
        }
        let status = response.status();
        let mut user = None;
        if !self.driver.extra.is_empty() {
            user = self.driver.extra.take_user();
            response = self.driver.extra.said_on(response);
            self.driver.extra.clear();
        }
        if let Some(flaw) = response.flaw() {
            log_flaw(self.id, status, flaw);
        }
        let is_head_only = || self.client.conn.answers_head() || status.is_without_content();
        let logged = self.driver.access.is_some().then(|| match is_head_only() {
            true => 0,
            false => response.body().len().unwrap_or(0),
        });
        self.driver.observer.answered(self.client.conn.method_owed(), status);
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

    /// Whether the answer's source should be asked for more.
    pub(crate) fn wants_fill(&self) -> bool {
        let low = self.driver.config.limits.send_low_water_bytes as u64;
        self.client
            .work
            .as_ref()
            .is_some_and(|work| matches!(work.source, Source::Ready(_)) && work.out.len() < low)
    }

    /// Asks the answer's source for one piece. Returns its size in bytes.
    pub(crate) fn fill(&mut self) -> usize {
        let high = self.driver.config.limits.send_high_water_bytes;
        let now = self.driver.now.mono;
        self.driver.observer.enter(Activity::Handling);
        let Some(work) = self.client.work.as_mut() else { return 0 };
        let Source::Ready(mut source) = std::mem::take(&mut work.source) else { return 0 };
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
            Ok(Filled::More) => work.source = Source::Ready(source),
            Ok(Filled::Later) => work.source = Source::Resting(source),
            Ok(Filled::End) => self.finish_content(),
            // The client must see that the content is not whole: no last chunk, no next answer.
            Ok(Filled::Failed) => self.client.conn.break_content_off(CloseReason::HandlerFailed),
            Err(_) => {
                self.driver.observer.panicked();
                self.client.conn.break_content_off(CloseReason::HandlerFailed);
            }
        }
        bytes
    }

    /// A graceful stop has begun: content that would never end by itself ends here.
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

    /// The content of the answer under way is all queued.
    fn finish_content(&mut self) {
        let Some(work) = self.client.work.as_mut() else { return };
        self.client.conn.finish_content(&mut work.out);
        if let Some(line) = work.lines.back_mut() {
            line.ends_at = Some(work.out.total_queued());
        }
        self.client.conn.start_next_cycle(self.driver.now.mono);
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

    /// Writes the log lines of answers that the client has taken whole; of all of them, when it
    /// `is_gone`. Has the clock read if there are any.
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

/// The answer to a sender whose place is needed.
const TOO_SLOW: ProtocolError =
    ProtocolError::new(Status::REQUEST_TIMEOUT, "the request content came too slowly for a busy server");

/// Keeps the places of content that has come whole. False if one of them was lost before.
fn settle(sink: &dyn BodySink) -> bool {
    sink.seats().into_iter().flatten().all(|seat| seat.settle())
}

/// Logs that a header is not sent as it was given.
#[cold]
fn log_flaw(id: ConnId, status: Status, flaw: Flaw) {
    match flaw {
        Flaw::Name | Flaw::Control => {
            log::warn!("{id}: response with status {}: {}", status.code(), flaw.reason());
        }
        Flaw::Framing | Flaw::Close => {
            log::debug!("{id}: response with status {}: {}", status.code(), flaw.reason());
        }
    }
}

fn failed() -> Response {
    error_page::text_error(Status::INTERNAL_SERVER_ERROR, "the handler failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head may break off anywhere. Its first line is noted as far as it came, half a header is
    /// not.
    #[test]
    fn a_head_is_noted_as_far_as_it_came() {
        let head = b"\r\nGET /a%zz HTTP/1.1\r\nhost:  a.example \r\nno colon\r\nUser-Agent: x\r\nHOST: b\r\nReferer:\r\n\r\nHost: c\r\n";
        let line = b"GET /a%zz HTTP/1.1";
        let whole = |name: &[u8]| memchr::memmem::find(head, name).map(|at| at + name.len());
        for end in 0..=head.len() {
            let mut note = Note { user: Some("old".into()), refused: Some("old"), ..Note::default() };
            note.text.extend_from_slice(b"old");
            note.take_unparsed(&head[..end], Duration::ZERO);
            let read = head[2.min(end)..end].split(|&byte| byte == b'\r').next().unwrap_or_default();
            assert_eq!(note.request_line(), &read[..read.len().min(line.len())], "{end}");
            let is_whole = |name: &[u8]| whole(name).is_some_and(|at| at <= end);
            assert_eq!(note.host(), is_whole(b"a.example \r\n").then_some(&b"a.example"[..]), "{end}");
            assert_eq!(note.user_agent(), is_whole(b"Agent: x\r\n").then_some(&b"x"[..]), "{end}");
            assert_eq!(note.referer(), is_whole(b"Referer:\r\n").then_some(&b""[..]), "{end}");
            assert_eq!((note.user.as_deref(), note.refused), (None, None));
        }
    }

    #[test]
    fn long_lines_of_a_refused_head_are_cut() {
        let long = "x".repeat(3 * REFUSED_LINE_BYTES_MAX);
        let mut note = Note::default();
        note.take_unparsed(format!("{long}\nHost: {long}\nUser-Agent: u\n").as_bytes(), Duration::ZERO);
        assert_eq!(note.request_line().len(), REFUSED_LINE_BYTES_MAX);
        assert_eq!(note.host().map(<[u8]>::len), Some(REFUSED_LINE_BYTES_MAX));
        assert_eq!(note.user_agent(), Some(&b"u"[..]));
    }
}
