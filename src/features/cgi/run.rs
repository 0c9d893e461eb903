//! One run of a program: content goes in, a head and content come out, and in the end it exits.
//!
//! A [`Run`] is watched for its connection: it advances when a pipe is ready, when its time has
//! come, and after the connection was pumped. Content is handed to it by a sink as it comes, and
//! its output is read when the client has room for it, so neither side can make us hoard. A program
//! that begins to talk before it has read all its content gets the rest by way of a temporary file:
//! most clients read nothing before they have sent everything, and would wait for each other for
//! ever. Must not know how programs are found, nor sockets.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::config::{CGI_GRACE, CGI_HEAD_BYTES_MAX, CGI_PENDING_BYTES_MAX, CGI_TURN_BYTES_MAX};
use crate::features::cgi::input::{ContentLost, Input, PIECE_BYTES};
use crate::features::cgi::output::{Head, Kind, take_head};
use crate::features::cgi::process::{Exit, Pipe, Pipes, Process, exit_of};
use crate::features::cgi::stderr::Complaints;
use crate::handler::spool::{Beside, Spool, Spooled};
use crate::handler::watch::{Advanced, Descriptor, Ready, Watched};
use crate::handler::{Answer, BodySink, Context, Seats, Sunk};
use crate::http::{Body, BodySource, Filled, Response, Status};
use crate::jobs::places::Seat;
use crate::jobs::{Done, Then};
use crate::pages::error::{ErrorForm, error};
use crate::sync::lock;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXIT: u8 = 3;

/// Makes the answer where the program refers to another path of this server.
pub(crate) type Elsewhere = Box<dyn FnOnce(Vec<u8>, &mut Context<'_>) -> Answer + Send>;

/// What a run needs to know beside its process.
pub(crate) struct Terms {
    /// For the log.
    pub(crate) name: String,
    /// The answer is a head without content.
    pub(crate) head_only: bool,
    /// The client would rather have pages.
    pub(crate) error_form: ErrorForm,
    pub(crate) timeout: Option<Duration>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) elsewhere: Elsewhere,
}

/// What is here of its content when a program is started.
pub(crate) enum Initial {
    /// All of it, if it has any.
    Whole(Option<Spooled>),
    /// The first part. The rest comes when that has been handed on.
    Part(Spooled),
}

/// A program at work.
pub(crate) struct Run {
    name: String,
    head_only: bool,
    error_form: ErrorForm,
    timeout: Option<Duration>,
    spool: Arc<Spool>,
    /// Its place, from the side of the client that sends content.
    seat: Option<Arc<Seat>>,
    state: Mutex<State>,
}

/// How far it is.
enum Stage {
    /// Content goes in as it comes.
    Feeding,
    /// There is as much content as may wait; the connection waits for room.
    Draining,
    /// The rest of the content goes to a file.
    Spooling,
    /// The head of its output is awaited.
    Head,
    /// Its content is read past; at the end this is answered. If it may have none, some is an
    /// error.
    Past { response: Response, may_have_content: bool },
    /// Its content is sent.
    Body,
    /// Nobody waits for it any more. It may still have to exit.
    Ended,
}

struct State {
    process: Process,
    input: Input,
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
    exit: Option<Pipe>,
    stage: Stage,
    /// Output that is not used yet.
    output: Vec<u8>,
    /// Content that its head promised, and how much there was.
    promised_bytes: Option<u64>,
    given_bytes: u64,
    /// How its content ended.
    end: Option<Filled>,
    /// The connection waits for more of its content.
    rests: bool,
    exited: Option<Exit>,
    /// We have ended it.
    is_cut: bool,
    due: Option<Instant>,
    /// Of output and exit, one has ended: until when the other is waited for.
    grace: Option<Instant>,
    complaints: Complaints,
    elsewhere: Option<Elsewhere>,
}

/// What a read of its output brought.
enum Read {
    Bytes,
    Nothing,
    End,
}

impl Run {
    /// A program that was just started.
    pub(crate) fn new(
        (process, pipes): (Process, Pipes),
        terms: Terms,
        content: Initial,
        cx: &Context<'_>,
    ) -> Arc<Run> {
        let Terms { name, head_only, error_form, timeout, spool, elsewhere } = terms;
        let seat = process.seat();
        let mut state = State {
            process,
            input: Input::new(pipes.stdin),
            stdout: Some(Pipe::new(pipes.stdout, false)),
            stderr: Some(Pipe::new(pipes.stderr, false)),
            exit: Some(Pipe::new(pipes.exit, false)),
            stage: Stage::Draining,
            output: Vec::new(),
            promised_bytes: None,
            given_bytes: 0,
            end: None,
            rests: false,
            exited: None,
            is_cut: false,
            due: timeout.map(|timeout| cx.now().mono + timeout),
            grace: None,
            complaints: Complaints::default(),
            elsewhere: Some(elsewhere),
        };
        match content {
            Initial::Part(content) => state.input.queue(content, cx),
            Initial::Whole(content) => {
                if let Some(content) = content {
                    state.input.queue(content, cx);
                }
                state.end_content();
            }
        }
        Arc::new(Run { name, head_only, error_form, timeout, spool, seat, state: Mutex::new(state) })
    }

    /// Where its content goes as it comes.
    pub(crate) fn sink(self: &Arc<Self>) -> Answer {
        Answer::Sink(Box::new(Feed { run: Arc::clone(self) }))
    }

    fn due_after(&self, now: Instant) -> Option<Instant> {
        self.timeout.map(|timeout| now + timeout)
    }

    /// The next step of the answer, if it can be made now.
    fn step(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Done> {
        let is_late = state.due.is_some_and(|due| due <= now);
        match &state.stage {
            Stage::Feeding | Stage::Spooling => {
                // It is the client who is waited for, and that has a timeout of its own.
                if is_late {
                    state.due = self.due_after(now);
                }
                None
            }
            Stage::Draining => self.make_room(state, is_late, now),
            Stage::Head if is_late => Some(self.cut_late(state)),
            Stage::Head => self.read_head(state, now),
            Stage::Past { .. } if is_late => Some(self.cut_late(state)),
            Stage::Past { .. } => self.read_past(state, now),
            Stage::Body => {
                if is_late {
                    self.kill_late(state);
                    state.end = Some(Filled::Failed);
                } else if state.is_output_over(now) {
                    self.judge(state);
                }
                let has_news =
                    state.end.is_some() || state.stdout.as_ref().is_some_and(|stdout| stdout.is_ready);
                (has_news && std::mem::take(&mut state.rests)).then_some(Done::Woken)
            }
            Stage::Ended => {
                if is_late {
                    self.kill_late(state);
                }
                None
            }
        }
    }

    /// Content waits for room: is there some?
    fn make_room(self: &Arc<Self>, state: &mut State, is_late: bool, now: Instant) -> Option<Done> {
        let Some(stdin) = &state.input.stdin else {
            // It will not read any more; what it says is the answer.
            state.stage = Stage::Head;
            return self.read_head(state, now);
        };
        let is_talking = state.stdout.as_ref().is_none_or(|stdout| stdout.is_ready);
        let run = Arc::clone(self);
        let then: Then = if state.input.is_empty() {
            state.stage = Stage::Feeding;
            Box::new(move |_| run.sink())
        } else if !stdin.is_ready && is_talking {
            state.stage = Stage::Spooling;
            Box::new(move |cx| {
                let content = Beside::new(Spooled::of(&run.spool, cx), cx.errands());
                Answer::Sink(Box::new(ToFile { run, content }))
            })
        } else if is_late {
            return Some(self.cut_late(state));
        } else {
            return None;
        };
        Some(Done::Finished(then))
    }

    fn read_head(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Done> {
        loop {
            match state.read(CGI_HEAD_BYTES_MAX + 1 - state.output.len().min(CGI_HEAD_BYTES_MAX)) {
                Read::Bytes => match take_head(&state.output) {
                    Ok(Some((head, used))) => {
                        state.output.drain(..used);
                        return self.begin_answer(state, head, now);
                    }
                    Ok(None) if state.output.len() > CGI_HEAD_BYTES_MAX => {
                        return Some(self.refuse(state, "its head is too large"));
                    }
                    Ok(None) => {}
                    Err(why) => return Some(self.refuse(state, why)),
                },
                Read::Nothing if !state.is_output_over(now) => return None,
                Read::Nothing | Read::End => {
                    return Some(self.refuse(state, "its output ended before its head did"));
                }
            }
        }
    }

    /// Its head is there.
    fn begin_answer(self: &Arc<Self>, state: &mut State, head: Head, now: Instant) -> Option<Done> {
        let Head { answer, headers, closes, content_bytes } = head;
        let source = || {
            let source = Box::new(Output { run: Arc::clone(self) });
            match content_bytes {
                Some(len) => Body::Sized { source, len },
                None => Body::Source(source),
            }
        };
        let respond = |status| {
            let response = Response::new(status).with_headers(headers.as_bytes());
            if closes { response.closing() } else { response }
        };
        state.promised_bytes = content_bytes;
        state.stage = match answer {
            Kind::Local(target) => {
                let elsewhere = state.elsewhere.take()?;
                state.end();
                return Some(Done::Finished(Box::new(move |cx| elsewhere(target, cx))));
            }
            Kind::Content(status) if !self.head_only => {
                let response = respond(status).with_body(source());
                state.stage = Stage::Body;
                return Some(Done::Finished(Box::new(move |_| Answer::Now(response))));
            }
            // The same head as for a GET, once the program has done all its work.
            Kind::Content(status) => {
                Stage::Past { response: respond(status).with_body(source()), may_have_content: true }
            }
            Kind::Bare(status) => {
                let is_redirect = (300..400).contains(&status.code());
                let may_have_content = self.head_only || is_redirect || status.is_bodiless();
                Stage::Past { response: respond(status), may_have_content }
            }
        };
        self.read_past(state, now)
    }

    /// Reads its content past, and answers at its end.
    fn read_past(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Done> {
        let mut left = CGI_TURN_BYTES_MAX;
        loop {
            let bytes = state.output.len();
            state.output.clear();
            state.given_bytes += bytes as u64;
            let Stage::Past { may_have_content, .. } = &state.stage else { return None };
            if bytes > 0 && !may_have_content {
                return Some(self.refuse(state, "its content has no Content-Type"));
            }
            left = left.saturating_sub(bytes);
            if left == 0 {
                return None;
            }
            match state.read(left) {
                Read::Bytes => {}
                Read::Nothing | Read::End if !state.is_output_over(now) => return None,
                Read::Nothing | Read::End => break,
            }
        }
        if state.is_cut {
            return Some(self.refuse(state, "it was ended before its answer was whole"));
        }
        let Stage::Past { mut response, .. } = std::mem::replace(&mut state.stage, Stage::Ended) else {
            return None;
        };
        // A response to HEAD without content may well promise the length of that to GET.
        let given = state.given_bytes;
        if let Some(promised) = state.promised_bytes.filter(|promised| given > 0 && given != *promised) {
            self.log_length(given, promised);
            if !response.body().is_empty() {
                response = response.with_body(Body::Source(Box::new(Output { run: Arc::clone(self) })));
            }
        }
        state.end();
        Some(Done::Finished(Box::new(move |_| Answer::Now(response))))
    }

    /// What it says is no answer.
    fn refuse(&self, state: &mut State, why: &str) -> Done {
        log::warn!(target: "cgi", "{}: {why}", self.name);
        // It may go on: what it has to complain of comes last.
        state.end();
        self.fail(Status::BAD_GATEWAY, "the program gave no proper answer")
    }

    fn cut_late(&self, state: &mut State) -> Done {
        self.kill_late(state);
        self.fail(Status::GATEWAY_TIMEOUT, "the program took too long")
    }

    /// Kills the program because its time is up.
    fn kill_late(&self, state: &mut State) {
        log::warn!(target: "cgi", "{}: cut off by signal 9, it took too long", self.name);
        state.cut();
    }

    /// All its output was read: decides how its content has ended, unless that is known.
    fn judge(&self, state: &mut State) {
        if state.end.is_some() {
            return;
        }
        let given = state.given_bytes + state.output.len() as u64;
        let missing = state.promised_bytes.filter(|promised| given < *promised);
        let is_dead = state.is_cut || matches!(state.exited, Some(Exit::Signal(_)));
        if let (Some(promised), false) = (missing, is_dead) {
            self.log_length(given, promised);
        }
        state.end = Some(if missing.is_some() || is_dead { Filled::Failed } else { Filled::End });
    }

    /// All content that its head promised was taken: the answer ends here, whatever follows.
    fn complete(&self, state: &mut State, promised: u64) {
        if state.output.is_empty() {
            state.read(1);
        }
        if !state.output.is_empty() {
            log::warn!(target: "cgi", "{}: more content than its Content-Length of {promised}", self.name);
            state.output.clear();
        }
        state.end = Some(Filled::End);
    }

    fn log_length(&self, given: u64, promised: u64) {
        log::warn!(target: "cgi", "{}: {given} bytes of content, but a Content-Length of {promised}", self.name);
    }

    fn fail(&self, status: Status, detail: &'static str) -> Done {
        let error_form = self.error_form;
        Done::Finished(Box::new(move |_| error(status, detail, error_form).into()))
    }

    /// Once nobody waits for it and it has exited, nothing is left to do: its descriptors are
    /// closed, which takes them off the poll, and only then it is reaped.
    fn wind_up(&self, state: &mut State) -> bool {
        let (Stage::Ended, Some(exit)) = (&state.stage, state.exited) else { return false };
        // What it has said was heard just now; what it has left running may say more, but not here.
        state.complaints.log_line(&self.name);
        state.complaints.tell_left_out(&self.name);
        state.stderr = None;
        state.exit = None;
        state.process.reap();
        match exit {
            Exit::Signal(signal) if !state.is_cut => {
                log::warn!(target: "cgi", "{}: ended by signal {signal}", self.name);
            }
            Exit::Code(0) | Exit::Signal(_) | Exit::Unknown => {}
            Exit::Code(code) => log::warn!(target: "cgi", "{}: exit status {code}", self.name),
        }
        true
    }
}

impl Watched for Run {
    fn descriptors(&self) -> Vec<Descriptor> {
        let state = lock(&self.state);
        let pipes = [&state.input.stdin, &state.stdout, &state.stderr, &state.exit];
        let numbered = [STDIN, STDOUT, STDERR, EXIT].into_iter().zip(pipes);
        numbered
            .filter_map(|(number, pipe)| {
                let Pipe { fd, is_ready } = pipe.as_ref()?;
                Some(Descriptor { number, fd: Arc::clone(fd), writes: number == STDIN, is_ready: *is_ready })
            })
            .collect()
    }

    fn advance(self: Arc<Self>, ready: Ready, now: Instant) -> Advanced {
        let mut state = lock(&self.state);
        state.note(ready);
        let State { complaints, stderr, .. } = &mut *state;
        let again = complaints.read(stderr, &self.name);
        state.feed();
        let done = self.step(&mut state, now);
        let again = again || state.has_more_to_read_past();
        let is_over = self.wind_up(&mut state);
        let due = state.due.into_iter().chain(state.grace).min();
        // A grace that has passed is of no more interest.
        let due = if due.is_some_and(|due| due <= now) { state.due.filter(|due| *due > now) } else { due };
        Advanced { done, due, again, is_over }
    }

    fn abandon(&self) {
        let mut state = lock(&self.state);
        if !matches!(state.stage, Stage::Ended) {
            state.cut();
        }
    }
}

impl State {
    fn note(&mut self, ready: Ready) {
        let pipes = [&mut self.input.stdin, &mut self.stdout, &mut self.stderr, &mut self.exit];
        for (number, pipe) in [STDIN, STDOUT, STDERR, EXIT].into_iter().zip(pipes) {
            if let Some(pipe) = pipe {
                pipe.is_ready |= ready.has(number);
            }
        }
        if let (Some(exit), None) = (&self.exit, self.exited)
            && exit.is_ready
        {
            self.exited = exit_of(&*exit.fd);
            if self.exited == Some(Exit::Unknown) {
                // Its number may be another's: it must not be killed by that any more.
                self.process.reap();
            }
        }
    }

    /// Hands on as much content as the pipe takes.
    fn feed(&mut self) {
        if let Err(ContentLost) = self.input.feed() {
            self.starve();
        }
    }

    /// No more content comes.
    fn end_content(&mut self) {
        self.input.end();
        self.stage = Stage::Head;
    }

    /// Reads at most `bytes_max` of its output, if there is some.
    fn read(&mut self, bytes_max: usize) -> Read {
        loop {
            let Some(stdout) = &mut self.stdout else { return Read::End };
            if !stdout.is_ready {
                return Read::Nothing;
            }
            let before = self.output.len();
            self.output.resize(before + bytes_max, 0);
            let got = rustix::io::read(&*stdout.fd, &mut self.output[before..]);
            self.output.truncate(before + got.unwrap_or(0));
            match got {
                Ok(0) => self.stdout = None,
                Ok(_) => return Read::Bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => stdout.is_ready = false,
                Err(_) => self.stdout = None,
            }
        }
    }

    /// Whether all its output was read: output and exit have both ended, or one of them some time
    /// ago.
    fn is_output_over(&mut self, now: Instant) -> bool {
        let is_quiet = self.stdout.as_ref().is_none_or(|stdout| !stdout.is_ready);
        match (self.stdout.is_none(), self.exited.is_some()) {
            (true, true) => true,
            (true, false) | (false, true) if is_quiet => *self.grace.get_or_insert(now + CGI_GRACE) <= now,
            (true, false) | (false, true) | (false, false) => false,
        }
    }

    /// It must not go on without the rest of its content, and not take what it has for all of it.
    /// Whoever waits for its answer learns that from the end of its output.
    fn starve(&mut self) {
        self.process.kill();
        self.is_cut = true;
    }

    /// Whether reading its content past is not done, and no event will say so.
    fn has_more_to_read_past(&self) -> bool {
        matches!(self.stage, Stage::Past { .. }) && self.stdout.as_ref().is_some_and(|stdout| stdout.is_ready)
    }

    /// Nobody waits for what it says any more. It may go on until its time is up.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.input.close();
        self.stdout = None;
        self.grace = None;
        self.output = Vec::new();
    }

    /// The same, and it must not go on.
    fn cut(&mut self) {
        self.end();
        self.is_cut = true;
        self.due = None;
        self.process.kill();
    }
}

/// Hands request content on as it comes.
struct Feed {
    run: Arc<Run>,
}

impl BodySink for Feed {
    fn write(&mut self, piece: &[u8], cx: &mut Context<'_>) -> Sunk {
        let mut state = lock(&self.run.state);
        if state.input.stdin.is_none() {
            return Sunk::Full;
        }
        state.input.push(piece);
        state.feed();
        state.due = self.run.due_after(cx.now().mono);
        if state.input.pending_bytes() > CGI_PENDING_BYTES_MAX { Sunk::Full } else { Sunk::More }
    }

    fn drain(self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        lock(&self.run.state).stage = Stage::Draining;
        cx.promised()
    }

    fn finish(self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        let mut state = lock(&self.run.state);
        state.end_content();
        state.due = self.run.due_after(cx.now().mono);
        cx.promised()
    }

    fn seats(&self) -> Seats<'_> {
        [self.run.seat.as_ref(), None]
    }
}

/// Takes the rest of the content of a program that does not read it while it talks.
struct ToFile {
    run: Arc<Run>,
    content: Beside<Spooled>,
}

impl BodySink for ToFile {
    fn write(&mut self, piece: &[u8], cx: &mut Context<'_>) -> Sunk {
        lock(&self.run.state).due = self.run.due_after(cx.now().mono);
        self.content.take(piece, cx.now().mono)
    }

    fn drain(self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        let ToFile { run, content } = *self;
        content.spill(cx, move |content| Answer::Sink(Box::new(ToFile { run, content })))
    }

    fn finish(self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        let mut state = lock(&self.run.state);
        if let (Some(content), _) = self.content.into_parts() {
            state.input.queue(content, cx);
        }
        state.end_content();
        state.due = self.run.due_after(cx.now().mono);
        cx.promised()
    }

    fn seats(&self) -> Seats<'_> {
        [self.run.seat.as_ref(), self.content.seat()]
    }
}

/// The program's content, as the content of the answer.
struct Output {
    run: Arc<Run>,
}

impl BodySource for Output {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> Filled {
        let mut state = lock(&self.run.state);
        state.feed();
        let left = state.promised_bytes.map_or(u64::MAX, |promised| promised - state.given_bytes);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if state.output.is_empty() && state.end.is_none() && left > 0 {
            state.read(room.clamp(1, PIECE_BYTES));
        }
        let bytes = room.max(1).min(state.output.len()).min(left);
        out.extend(state.output.drain(..bytes));
        state.given_bytes += bytes as u64;
        if let Some(promised) = state.promised_bytes.filter(|_| bytes == left && state.end.is_none()) {
            self.run.complete(&mut state, promised);
        }
        if !state.output.is_empty() {
            return Filled::More;
        }
        if state.stdout.is_none() && state.exited.is_some() {
            self.run.judge(&mut state);
        }
        match state.end {
            Some(end) => {
                if !matches!(state.stage, Stage::Ended) {
                    state.end();
                }
                end
            }
            None if bytes > 0 => Filled::More,
            None => {
                state.rests = true;
                Filled::Later
            }
        }
    }
}
