//! One run of a script: content goes in, a head and content come out, and finally the script exits.
//!
//! A [`Run`] is watched for its connection. It advances when a pipe is ready, when its deadline
//! passes, and after the connection was pumped. A sink passes content on as it arrives, and output
//! is read when the client has room, so memory use is bounded in both directions.
//!
//! If a script writes before it has read all content, the rest is spooled to a file. Most clients
//! read nothing until they have sent everything, so client and script would otherwise deadlock.
//!
//! A run has an input half, an output half and the execution of the script. Data lives in the state
//! that needs it. These are all states and transitions:
//!
//! ```text
//! Input      start -> Draining              the script starts with the first part of the content
//!            start -> Rest                  the script starts with all content
//!            start -> Closed                the request has no content
//!            Draining -> Feeding            all waiting content is written
//!            Draining -> Spooling           the script has output, and does not read
//!            Feeding -> Draining            the limit of pending content is reached
//!            Feeding | Spooling -> Rest     the content is complete
//!            Rest -> Closed                 all content is written
//!            Draining | Rest -> Closed      the script has closed its standard input, or spooled
//!                                           content is lost
//!            Feeding | Spooling -> Unwanted the same, while the connection brings content
//!            Unwanted -> Closed             the connection waits for the response
//!            any -> Closed                  the output half has ended
//!
//! Output     start -> Head                  the script was started
//!            Head -> Body                   the head is complete, with content to send
//!            Head -> Discarding             the head is complete, with no content to send
//!            Head -> Ended                  the head is a local redirect, is malformed, or is
//!                                           missing at the end of the output
//!            Discarding -> Ended            all output was read, or is an error
//!            Body -> Ended                  the connection has taken all content
//!            any -> Ended                   the time of the script is up, or the connection has
//!                                           no further use for it
//!
//! Execution  start -> Running               the script was started
//!            Running -> Exited              the script has exited
//!            Running -> Dying               the server kills the script: its time is up, its
//!                                           content is lost, or the connection abandons it
//!            Dying -> Killed                the script has exited
//!            Exited -> Killed               the server kills the processes that the script left
//! ```
//!
//! Output leaves `Head` by reading only while input is `Rest` or `Closed`, because in other states
//! the connection still brings content and cannot take a response. The run is over when its output
//! is `Ended` and its execution `Exited` or `Killed`.
//!
//! Must not know how scripts are found, or sockets.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::config::{CGI_HEAD_BYTES_MAX, CGI_PENDING_BYTES_MAX};
use crate::features::cgi::head::{Head, Kind, take_head};
use crate::features::cgi::input::{ContentLost, Initial, Input};
use crate::features::cgi::output::{
    Content, Discarded, Discarding, Length, Output, Read, RedirectHandler, Stdout, Surplus,
};
use crate::features::cgi::process::{Execution, Exit, Pipe, Pipes, Process};
use crate::features::cgi::stderr::StderrLog;
use crate::handler::continuation::{Continuation, Done};
use crate::handler::spool::{DropOffLoop, Spool, Spooled};
use crate::handler::watch::{Advanced, Descriptor, Ready, Watched};
use crate::handler::{Answer, BodySink, Context, Holders, SinkStatus};
use crate::http::{Body, BodySource, FillStatus, Response, Status};
use crate::jobs::sender_permits::Holder;
use crate::sync::lock;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXIT: u8 = 3;

/// Options of a run.
pub(crate) struct RunOptions {
    /// Name in log lines.
    pub(crate) name: String,
    /// The request is HEAD, so the response has no content.
    pub(crate) head_only: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) redirect_handler: RedirectHandler,
}

/// A running script.
pub(crate) struct Run {
    name: String,
    head_only: bool,
    timeout: Option<Duration>,
    spool: Arc<Spool>,
    /// Handle on the permit for the connection that sends content.
    holder: Option<Arc<Holder>>,
    state: Mutex<State>,
}

struct State {
    process: Process,
    execution: Execution,
    input: Input,
    output: Output,
    stderr: StderrLog,
    /// Deadline of the script. It moves while the client sends content.
    due: Option<Instant>,
}

impl Run {
    /// Run of a script that was just started.
    pub(crate) fn new(
        (process, pipes): (Process, Pipes),
        options: RunOptions,
        content: Initial,
        cx: &Context<'_>,
    ) -> Arc<Run> {
        let RunOptions { name, head_only, timeout, spool, redirect_handler } = options;
        let holder = process.holder();
        let state = State {
            process,
            execution: Execution::new(pipes.exit),
            input: Input::new(pipes.stdin, content, cx),
            output: Output::Head { stdout: Stdout::new(pipes.stdout), redirect_handler },
            stderr: StderrLog::new(pipes.stderr),
            due: timeout.map(|timeout| cx.now().mono + timeout),
        };
        Arc::new(Run { name, head_only, timeout, spool, holder, state: Mutex::new(state) })
    }

    /// Sink that passes content on to the script.
    pub(crate) fn sink(self: &Arc<Self>) -> Answer {
        Answer::Sink(Box::new(Feed { run: Arc::clone(self) }))
    }

    fn due_after(&self, now: Instant) -> Option<Instant> {
        self.timeout.map(|timeout| now + timeout)
    }

    /// Moves a deadline that has passed. The run waited for the client, which has its own timeout.
    fn extend_due(&self, state: &mut State, now: Instant) {
        if state.is_late(now) {
            state.due = self.due_after(now);
        }
    }

    /// Next step of the connection, if it is possible now.
    fn step(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Done> {
        let is_late = state.is_late(now);
        match state.input {
            Input::Feeding(_) | Input::Spooling(_) | Input::Unwanted => {
                self.extend_due(state, now);
                None
            }
            Input::Draining(_) => self.make_room(state, is_late),
            Input::Rest(_) | Input::Closed if is_late => self.end_late(state),
            Input::Rest(_) | Input::Closed => self.respond(state, now),
        }
    }

    /// Continues reading content if the script has read the pending part. If the script writes
    /// instead of reading, the rest goes to a file.
    fn make_room(self: &Arc<Self>, state: &mut State, is_late: bool) -> Option<Done> {
        let Input::Draining(unwritten) = &state.input else { return None };
        let run = Arc::clone(self);
        let then: Continuation = if unwritten.is_empty() {
            state.input.move_to(Input::Feeding);
            Box::new(move |_| run.sink())
        } else if !unwritten.has_room() && state.output.is_begun() {
            state.input.move_to(Input::Spooling);
            Box::new(move |cx| {
                let content = DropOffLoop::new(Spooled::of(&run.spool, cx), cx.spawner());
                Answer::Sink(Box::new(ToFile { run, content }))
            })
        } else if is_late {
            return Some(self.cut_late(state));
        } else {
            return None;
        };
        Some(Done::Finished(then))
    }

    /// Ends the response because the time of the script is up.
    fn end_late(&self, state: &mut State) -> Option<Done> {
        match &state.output {
            Output::Head { .. } | Output::Discarding(_) => Some(self.cut_late(state)),
            Output::Body(content) => {
                let is_parked = content.is_parked();
                self.kill_late(state);
                is_parked.then_some(Done::Woken)
            }
            Output::Ended => {
                self.kill_late(state);
                None
            }
        }
    }

    /// Next step of the response, if it is possible now.
    fn respond(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Done> {
        match &mut state.output {
            Output::Head { .. } => self.read_head(state, now),
            Output::Discarding(_) => self.read_discarded(state, now),
            Output::Body(content) => content.look(&state.execution, now, &self.name).then_some(Done::Woken),
            Output::Ended => None,
        }
    }

    fn read_head(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Done> {
        loop {
            let Output::Head { stdout, .. } = &mut state.output else { return None };
            match stdout.read(CGI_HEAD_BYTES_MAX + 1 - stdout.unread.len().min(CGI_HEAD_BYTES_MAX)) {
                Read::Bytes => match take_head(&stdout.unread) {
                    Ok(Some((head, used))) => {
                        stdout.unread.drain(..used);
                        return self.begin_answer(state, head, now);
                    }
                    Ok(None) if stdout.unread.len() > CGI_HEAD_BYTES_MAX => {
                        return Some(self.refuse(state, "the response head is too large"));
                    }
                    Ok(None) => {}
                    Err(why) => return Some(self.refuse(state, why)),
                },
                Read::Nothing if !stdout.is_over(&state.execution, now) => return None,
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
            let source = Box::new(FromScript { run: Arc::clone(self) });
            match content_bytes {
                Some(len) => Body::Sized { source, len },
                None => Body::Source(source),
            }
        };
        let respond = |status| {
            let response = Response::new(status).with_headers(headers.as_bytes());
            if closes { response.closing() } else { response }
        };
        let Output::Head { stdout, redirect_handler } = std::mem::replace(&mut state.output, Output::Ended)
        else {
            return None;
        };
        let length = content_bytes.map(Length::new);
        let (response, surplus) = match answer {
            Kind::Local(target) => {
                state.end();
                return Some(Done::Finished(Box::new(move |cx| redirect_handler(target, cx))));
            }
            Kind::Content(status) if !self.head_only => {
                let response = respond(status).with_body(source());
                state.output = Output::Body(Content::new(stdout, length));
                return Some(Done::Finished(Box::new(move |_| Answer::Now(response))));
            }
            // HEAD gets the same head as GET, after the script has done its work.
            Kind::Content(status) => (respond(status).with_body(source()), Surplus::Allowed),
            Kind::Bare(status) => {
                let is_redirect = (300..400).contains(&status.code());
                let may_have_content = self.head_only || is_redirect || status.is_bodiless();
                let surplus = if may_have_content { Surplus::Allowed } else { Surplus::Refused };
                (respond(status), surplus)
            }
        };
        state.output = Output::Discarding(Discarding { stdout, length, response, surplus });
        self.read_discarded(state, now)
    }

    /// Reads and discards the content, and sends the response at its end.
    fn read_discarded(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Done> {
        let Output::Discarding(discarding) = &mut state.output else { return None };
        match discarding.discard(&state.execution, now) {
            Discarded::Part => return None,
            Discarded::Refused => return Some(self.refuse(state, "the content has no Content-Type")),
            Discarded::All if state.execution.is_cut() => {
                return Some(self.refuse(state, "the script was killed before its response was complete"));
            }
            Discarded::All => {}
        }
        let Output::Discarding(discarding) = std::mem::replace(&mut state.output, Output::Ended) else {
            return None;
        };
        let has_wrong_length = discarding.has_wrong_length(&self.name);
        let mut response = discarding.response;
        if has_wrong_length && !response.body().is_empty() {
            response = response.with_body(Body::Source(Box::new(FromScript { run: Arc::clone(self) })));
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

    fn fail(&self, status: Status, detail: &'static str) -> Done {
        Done::Finished(Box::new(move |_| Response::problem(status, detail).into()))
    }

    /// Finishes the run if the response is over and the script has exited. Closing the descriptors
    /// removes them from the poll; the script is reaped after that.
    fn wind_up(&self, state: &mut State) -> bool {
        let (Output::Ended, true) = (&state.output, state.execution.has_exited()) else { return false };
        // Standard error was read just before.
        state.stderr.finish(&self.name);
        state.process.reap();
        match state.execution {
            Execution::Exited(Exit::Signal(signal)) => {
                log::warn!(target: "cgi", "{}: ended by signal {signal}", self.name);
            }
            Execution::Exited(Exit::Code(code)) | Execution::Killed(Exit::Code(code)) if code != 0 => {
                log::warn!(target: "cgi", "{}: exit status {code}", self.name);
            }
            Execution::Exited(_) | Execution::Killed(_) | Execution::Running(_) | Execution::Dying(_) => {}
        }
        true
    }
}

impl Watched for Run {
    fn descriptors(&self) -> Vec<Descriptor> {
        let state = lock(&self.state);
        let pipes = [
            (STDIN, state.input.pipe()),
            (STDOUT, state.output.pipe()),
            (STDERR, state.stderr.pipe()),
            (EXIT, state.execution.pipe()),
        ];
        pipes
            .into_iter()
            .filter_map(|(number, pipe)| {
                let Pipe { fd, is_ready } = pipe?;
                Some(Descriptor { number, fd: Arc::clone(fd), writes: number == STDIN, is_ready: *is_ready })
            })
            .collect()
    }

    fn advance(self: Arc<Self>, ready: Ready, now: Instant) -> Advanced {
        let mut state = lock(&self.state);
        state.note(ready);
        let again = state.stderr.read(&self.name);
        state.feed();
        let done = self.step(&mut state, now);
        let again = again || state.output.has_more_to_discard();
        let is_over = self.wind_up(&mut state);
        let due = state.due.into_iter().chain(state.output.grace()).min();
        // A grace period that is over no longer matters.
        let due = if due.is_some_and(|due| due <= now) { state.due.filter(|due| *due > now) } else { due };
        Advanced { done, due, again, is_over }
    }

    fn abandon(&self) {
        let mut state = lock(&self.state);
        if !matches!(state.output, Output::Ended) {
            state.cut();
        }
    }
}

impl State {
    fn is_late(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    fn note(&mut self, ready: Ready) {
        let pipes = [
            (STDIN, self.input.pipe_mut()),
            (STDOUT, self.output.pipe_mut()),
            (STDERR, self.stderr.pipe_mut()),
            (EXIT, self.execution.pipe_mut()),
        ];
        for (number, pipe) in pipes {
            if let Some(pipe) = pipe {
                pipe.is_ready |= ready.has(number);
            }
        }
        if self.execution.notice_exit() == Some(Exit::Unknown) {
            // The process ID can be reused, so the script must not be killed any more.
            self.process.reap();
        }
    }

    /// Writes as much content as the pipe accepts.
    fn feed(&mut self) {
        if let Err(ContentLost) = self.input.feed() {
            // The script must not mistake truncated content for complete content, so it is killed
            // before its standard input ends. The client sees a truncated response.
            self.kill();
            self.input.close_pipe();
        }
    }

    fn kill(&mut self) {
        self.process.kill();
        self.execution.note_kill();
    }

    /// Ends the response. The script may run until its time is up.
    fn end(&mut self) {
        self.input = Input::Closed;
        self.output = Output::Ended;
    }

    /// Ends the response and kills the script.
    fn cut(&mut self) {
        self.end();
        self.due = None;
        self.kill();
    }
}

/// Sink that passes request content on as it arrives.
struct Feed {
    run: Arc<Run>,
}

impl BodySink for Feed {
    fn write(&mut self, piece: &[u8], cx: &mut Context<'_>) -> SinkStatus {
        let mut state = lock(&self.run.state);
        let Input::Feeding(unwritten) = &mut state.input else { return SinkStatus::Full };
        unwritten.push(piece);
        state.feed();
        state.due = self.run.due_after(cx.now().mono);
        if state.input.pending_bytes() > CGI_PENDING_BYTES_MAX { SinkStatus::Full } else { SinkStatus::More }
    }

    fn drain(self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        let mut state = lock(&self.run.state);
        state.input.move_to(Input::Draining);
        self.run.extend_due(&mut state, cx.now().mono);
        cx.answer_later()
    }

    fn finish(self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        let mut state = lock(&self.run.state);
        state.input.move_to(Input::Rest);
        state.due = self.run.due_after(cx.now().mono);
        cx.answer_later()
    }

    fn holders(&self) -> Holders<'_> {
        [self.run.holder.as_ref(), None]
    }
}

/// Sink that spools the rest of the content, for a script that writes without reading.
struct ToFile {
    run: Arc<Run>,
    content: DropOffLoop<Spooled>,
}

impl BodySink for ToFile {
    fn write(&mut self, piece: &[u8], cx: &mut Context<'_>) -> SinkStatus {
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
        state.input.move_to(Input::Rest);
        state.due = self.run.due_after(cx.now().mono);
        cx.answer_later()
    }

    fn holders(&self) -> Holders<'_> {
        [self.run.holder.as_ref(), self.content.holder()]
    }
}

/// Content of the script as the content of the response.
struct FromScript {
    run: Arc<Run>,
}

impl BodySource for FromScript {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus {
        let mut state = lock(&self.run.state);
        state.feed();
        let State { output, execution, .. } = &mut *state;
        // The time of the script is up.
        let Output::Body(content) = output else { return FillStatus::Failed };
        let filled = content.fill(out, room, execution, &self.run.name);
        match filled {
            FillStatus::More | FillStatus::Later => {}
            FillStatus::End | FillStatus::Failed => state.end(),
        }
        filled
    }
}
