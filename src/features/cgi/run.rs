//! One run of a script: content goes in, a head and content come out, and finally the script exits.
//!
//! A [`Run`] is watched for its connection. It advances when a pipe is ready, when its deadline
//! passes, and after the connection was pumped. A sink passes content on as it arrives, and output
//! is read when the client has room, so memory use is bounded in both directions.
//!
//! If a script writes before it has read all content, the rest is spooled to a file. Most clients
//! read nothing until they have sent everything, so client and script would otherwise deadlock.
//!
//! Must not know how scripts are found, or sockets.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::config::{CGI_GRACE, CGI_HEAD_BYTES_MAX, CGI_PENDING_BYTES_MAX, CGI_TURN_BYTES_MAX};
use crate::features::cgi::head::{Head, Kind, take_head};
use crate::features::cgi::input::{ContentLost, Input, PIECE_BYTES};
use crate::features::cgi::process::{Exit, Pipe, Pipes, Process, exit_of};
use crate::features::cgi::stderr::Complaints;
use crate::handler::continuation::{Continuation, Done};
use crate::handler::spool::{Beside, Spool, Spooled};
use crate::handler::watch::{Advanced, Descriptor, Ready, Watched};
use crate::handler::{Answer, BodySink, Context, Holders, Sunk};
use crate::http::{Body, BodySource, Filled, Response, Status};
use crate::jobs::sender_permits::Holder;
use crate::pages::error::{ErrorForm, error};
use crate::sync::lock;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXIT: u8 = 3;

/// Produces the response for a local redirect.
pub(crate) type Elsewhere = Box<dyn FnOnce(Vec<u8>, &mut Context<'_>) -> Answer + Send>;

/// Options of a run.
pub(crate) struct Terms {
    /// Name in log lines.
    pub(crate) name: String,
    /// The request is HEAD, so the response has no content.
    pub(crate) head_only: bool,
    /// Form of error responses.
    pub(crate) error_form: ErrorForm,
    pub(crate) timeout: Option<Duration>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) elsewhere: Elsewhere,
}

/// Content that has arrived when a script is started.
pub(crate) enum Initial {
    /// All content, if there is any.
    Whole(Option<Spooled>),
    /// The first part. The rest is read once the script has received it.
    Part(Spooled),
}

/// A running script.
pub(crate) struct Run {
    name: String,
    head_only: bool,
    error_form: ErrorForm,
    timeout: Option<Duration>,
    spool: Arc<Spool>,
    /// Handle on the permit for the connection that sends content.
    holder: Option<Arc<Holder>>,
    state: Mutex<State>,
}

/// Stage of a run.
enum Stage {
    /// Content is passed on as it arrives.
    Feeding,
    /// The limit of pending content is reached; the connection waits for room.
    Draining,
    /// The rest of the content is spooled to a file.
    Spooling,
    /// Waiting for the response head.
    Head,
    /// Output is read and discarded, then `response` is sent. Unexpected content is an error unless
    /// `may_have_content`.
    Past { response: Response, may_have_content: bool },
    /// Response content is being sent.
    Body,
    /// The response is complete or abandoned. The script may still be running.
    Ended,
}

struct State {
    process: Process,
    input: Input,
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
    exit: Option<Pipe>,
    stage: Stage,
    /// Output that was read but not used yet.
    output: Vec<u8>,
    /// Value of `Content-Length`, and number of content bytes used so far.
    promised_bytes: Option<u64>,
    given_bytes: u64,
    /// How the content ended.
    end: Option<Filled>,
    /// True while the connection waits for more content.
    rests: bool,
    exited: Option<Exit>,
    /// True if the server killed the script.
    is_cut: bool,
    due: Option<Instant>,
    /// Deadline for the other of output and exit, once one of them has ended.
    grace: Option<Instant>,
    complaints: Complaints,
    elsewhere: Option<Elsewhere>,
}

/// Result of reading output.
enum Read {
    Bytes,
    Nothing,
    End,
}

impl Run {
    /// Run of a script that was just started.
    pub(crate) fn new(
        (process, pipes): (Process, Pipes),
        terms: Terms,
        content: Initial,
        cx: &Context<'_>,
    ) -> Arc<Run> {
        let Terms { name, head_only, error_form, timeout, spool, elsewhere } = terms;
        let holder = process.holder();
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
        Arc::new(Run { name, head_only, error_form, timeout, spool, holder, state: Mutex::new(state) })
    }

    /// Sink that passes content on to the script.
    pub(crate) fn sink(self: &Arc<Self>) -> Answer {
        Answer::Sink(Box::new(Feed { run: Arc::clone(self) }))
    }

    fn due_after(&self, now: Instant) -> Option<Instant> {
        self.timeout.map(|timeout| now + timeout)
    }

    /// Next step of the response, if it is possible now.
    fn step(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Done> {
        let is_late = state.due.is_some_and(|due| due <= now);
        match &state.stage {
            Stage::Feeding | Stage::Spooling => {
                // The run waits for the client, which has its own timeout.
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

    /// Continues reading content if the script has read the pending part. If the script writes
    /// instead of reading, the rest goes to a file.
    fn make_room(self: &Arc<Self>, state: &mut State, is_late: bool, now: Instant) -> Option<Done> {
        let Some(stdin) = &state.input.stdin else {
            // The script closed its standard input; its output is the response.
            state.stage = Stage::Head;
            return self.read_head(state, now);
        };
        let is_talking = state.stdout.as_ref().is_none_or(|stdout| stdout.is_ready);
        let run = Arc::clone(self);
        let then: Continuation = if state.input.is_empty() {
            state.stage = Stage::Feeding;
            Box::new(move |_| run.sink())
        } else if !stdin.is_ready && is_talking {
            state.stage = Stage::Spooling;
            Box::new(move |cx| {
                let content = Beside::new(Spooled::of(&run.spool, cx), cx.spawner());
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
                        return Some(self.refuse(state, "the response head is too large"));
                    }
                    Ok(None) => {}
                    Err(why) => return Some(self.refuse(state, why)),
                },
                Read::Nothing if !state.is_output_over(now) => return None,
                Read::Nothing | Read::End => {
                    return Some(self.refuse(state, "the output ended within the response head"));
                }
            }
        }
    }

    /// Starts the response that the head describes.
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
            // HEAD gets the same head as GET, after the script has done its work.
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

    /// Reads and discards the content, and sends the response at its end.
    fn read_past(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Done> {
        let mut left = CGI_TURN_BYTES_MAX;
        loop {
            let bytes = state.output.len();
            state.output.clear();
            state.given_bytes += bytes as u64;
            let Stage::Past { may_have_content, .. } = &state.stage else { return None };
            if bytes > 0 && !may_have_content {
                return Some(self.refuse(state, "the content has no Content-Type"));
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
            return Some(self.refuse(state, "the script was killed before its response was complete"));
        }
        let Stage::Past { mut response, .. } = std::mem::replace(&mut state.stage, Stage::Ended) else {
            return None;
        };
        // The script may send no content for HEAD although `Content-Length` describes that of GET.
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

    /// Ends the response with 502 because the output is not a valid response.
    fn refuse(&self, state: &mut State, why: &str) -> Done {
        log::warn!(target: "cgi", "{}: {why}", self.name);
        // The script keeps running, so its last error messages are still logged.
        state.end();
        self.fail(Status::BAD_GATEWAY, "the script sent no valid response")
    }

    fn cut_late(&self, state: &mut State) -> Done {
        self.kill_late(state);
        self.fail(Status::GATEWAY_TIMEOUT, "the script took too long")
    }

    /// Kills the script because its time is up.
    fn kill_late(&self, state: &mut State) {
        log::warn!(target: "cgi", "{}: cut off by signal 9, it took too long", self.name);
        state.cut();
    }

    /// Decides how the content ended after all output was read, unless that is known.
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

    /// Ends the content after `promised` bytes, even if the script writes more.
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

    /// Finishes the run if the response is over and the script has exited. Closing the descriptors
    /// removes them from the poll; the script is reaped after that.
    fn wind_up(&self, state: &mut State) -> bool {
        let (Stage::Ended, Some(exit)) = (&state.stage, state.exited) else { return false };
        // Standard error was read just before. Processes that the script left behind can write
        // more, but it is not logged.
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
        // A grace period that is over no longer matters.
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
                // The process ID can be reused, so the script must not be killed any more.
                self.process.reap();
            }
        }
    }

    /// Writes as much content as the pipe accepts.
    fn feed(&mut self) {
        if let Err(ContentLost) = self.input.feed() {
            self.starve();
        }
    }

    /// Marks the end of the content, and waits for the response head.
    fn end_content(&mut self) {
        self.input.end();
        self.stage = Stage::Head;
    }

    /// Reads at most `bytes_max` bytes of output, if any is available.
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

    /// Returns true if all output was read: output and exit have both ended, or one of them ended
    /// some time ago.
    fn is_output_over(&mut self, now: Instant) -> bool {
        let is_quiet = self.stdout.as_ref().is_none_or(|stdout| !stdout.is_ready);
        match (self.stdout.is_none(), self.exited.is_some()) {
            (true, true) => true,
            (true, false) | (false, true) if is_quiet => *self.grace.get_or_insert(now + CGI_GRACE) <= now,
            (true, false) | (false, true) | (false, false) => false,
        }
    }

    /// Kills the script, because it must not mistake truncated content for complete content. The
    /// client sees a truncated response.
    fn starve(&mut self) {
        self.process.kill();
        self.is_cut = true;
    }

    /// Returns true if output remains to be discarded and no event will report it.
    fn has_more_to_read_past(&self) -> bool {
        matches!(self.stage, Stage::Past { .. }) && self.stdout.as_ref().is_some_and(|stdout| stdout.is_ready)
    }

    /// Ends the response. The script may run until its time is up.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.input.close();
        self.stdout = None;
        self.grace = None;
        self.output = Vec::new();
    }

    /// Ends the response and kills the script.
    fn cut(&mut self) {
        self.end();
        self.is_cut = true;
        self.due = None;
        self.process.kill();
    }
}

/// Sink that passes request content on as it arrives.
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

    fn holders(&self) -> Holders<'_> {
        [self.run.holder.as_ref(), None]
    }
}

/// Sink that spools the rest of the content, for a script that writes without reading.
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

    fn holders(&self) -> Holders<'_> {
        [self.run.holder.as_ref(), self.content.holder()]
    }
}

/// Content of the script as the content of the response.
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
