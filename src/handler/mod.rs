//! What answers requests: the [`Handler`] trait, the forms an [`Answer`] can take, and a small
//! [`Router`].
//!
//! A handler never blocks and never waits: it answers now, or says how the answer will come about.
//! The driver (reactor or thread) carries that out. One handler object serves both models; what it
//! needs of its driver it borrows through the [`Context`], so it holds no lock. This file must not
//! know sockets or threads.

pub mod cache;
pub(crate) mod coalesce;
pub mod continuation;
pub(crate) mod extras;
pub mod offload;
pub(crate) mod passwords;
pub(crate) mod router;
pub mod spool;
pub(crate) mod temp_file;
pub mod watch;

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Now;
use crate::config::Limits;
use crate::conn_id::{ConnId, Peer};
use crate::handler::cache::DriverCache;
use crate::handler::continuation::{Continuation, Job, Promise, Ticket};
use crate::handler::extras::{Extra, Giver, On};
use crate::handler::watch::{Change, Watched};
use crate::http::headers::How;
use crate::http::refusal::Refusal;
use crate::http::{Request, Response, Status};
use crate::jobs::inbox::Waker;
use crate::jobs::places::Seat;
use crate::jobs::{JobQueue, Lane, RouteName, Spawn};
use crate::pages::error as error_page;

pub use crate::handler::extras::When;
pub use crate::handler::router::{Methods, Router};

/// Answers requests. Shared by all drivers, so it is `Sync` and called through `&self`.
pub trait Handler: Send + Sync {
    /// Answers one request head. Must not block: what may block goes through [`Context::job`].
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer;
}

impl<F> Handler for F
where
    F: Fn(&Request<'_>, &mut Context<'_>) -> Answer + Send + Sync,
{
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        self(request, cx)
    }
}

/// What is done with collected content.
pub type WithContent = Box<dyn FnOnce(Vec<u8>, &mut Context<'_>) -> Answer + Send>;

/// How a request is answered.
pub enum Answer {
    /// With this.
    Now(Response),
    /// By a job that is under way; see [`Context::job`].
    Later(Ticket),
    /// After its content has come, which is kept in memory up to `bytes_max` (beyond: 413).
    Collect {
        /// The most content taken, in bytes.
        bytes_max: u64,
        /// Makes the answer.
        then: WithContent,
    },
    /// After its content has gone into this sink, piece by piece.
    Sink(Box<dyn BodySink>),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Now(response) => write!(f, "Now({})", response.status().code()),
            Answer::Later(ticket) => write!(f, "Later({ticket:?})"),
            Answer::Collect { bytes_max, .. } => write!(f, "Collect({bytes_max})"),
            Answer::Sink(_) => f.write_str("Sink"),
        }
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Answer::Now(response)
    }
}

impl From<&'static str> for Answer {
    /// 200 with plain text.
    fn from(text: &'static str) -> Self {
        Answer::Now(Response::text(text))
    }
}

impl From<String> for Answer {
    /// 200 with plain text.
    fn from(text: String) -> Self {
        Answer::Now(Response::text(text))
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Answer::Now(refusal.into())
    }
}

/// Either way it is an answer: so `?` can be used in a handler.
impl<R: Into<Answer>, E: Into<Answer>> From<Result<R, E>> for Answer {
    fn from(result: Result<R, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}

/// What a sink says after a piece of content.
#[derive(Debug)]
pub enum Sunk {
    /// Give it the next piece.
    More,
    /// It has enough for now: `drain` is called next.
    Full,
    /// It will not take this content; answer with that instead.
    Refuse(Response),
}

/// Takes request content as it comes.
pub trait BodySink: Send {
    /// Takes all of `piece`. Must not block.
    fn write(&mut self, piece: &[u8], cx: &mut Context<'_>) -> Sunk;

    /// Called after `Full`, and before more content is read: makes room, usually through a job
    /// whose [`Continuation`] returns `Answer::Sink(self)`. Any other answer ends the content.
    fn drain(self: Box<Self>, cx: &mut Context<'_>) -> Answer;

    /// The content is complete: the answer.
    fn finish(self: Box<Self>, cx: &mut Context<'_>) -> Answer;

    /// The most content that it takes, in bytes, which may be more than [`Limits::body_bytes_max`].
    /// More is 413, at once where the length is known.
    fn bytes_max(&self, limits: &Limits) -> u64 {
        limits.body_bytes_max
    }

    /// The scarce places that this content holds while it comes. The driver reports its pace there.
    #[doc(hidden)]
    fn seats(&self) -> Seats<'_> {
        Seats::default()
    }

    /// Asked once, before the first piece: an interim response (1xx) that the client is to get at
    /// once.
    fn interim(&mut self) -> Option<Response> {
        None
    }
}

/// The places that one request's content may hold: that of its purpose, and that of room to keep
/// it.
#[doc(hidden)]
pub type Seats<'a> = [Option<&'a Arc<Seat>>; 2];

/// What a driver lends to a handler for one call.
pub struct Context<'a> {
    pub(crate) now: Now,
    /// See [`crate::driver::Driver::asked_by`].
    pub(crate) asked_by: Instant,
    pub(crate) id: ConnId,
    pub(crate) peer: &'a Peer,
    pub(crate) limits: &'a Limits,
    pub(crate) jobs: &'a mut dyn JobQueue<Continuation>,
    pub(crate) cache: &'a mut dyn DriverCache,
    pub(crate) extra: &'a mut Extra,
    pub(crate) watch: &'a mut Change,
    /// The route of the request, for log lines about its jobs.
    pub(crate) route: RouteName,
}

impl Context<'_> {
    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// The connection's name.
    #[must_use]
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.limits
    }

    pub(crate) fn cache(&mut self) -> &mut dyn DriverCache {
        self.cache
    }

    /// Has `work` done where it may block, and answers with what it returns. When too many jobs
    /// wait already the answer is 503.
    pub fn job(&mut self, work: impl FnOnce() -> Response + Send + 'static) -> Answer {
        self.job_then(move || {
            let response = work();
            Box::new(move |_| Answer::Now(response))
        })
    }

    /// The same, with a say on the loop afterwards: `work` returns what is to be done there with
    /// its result.
    pub fn job_then(&mut self, work: impl FnOnce() -> Continuation + Send + 'static) -> Answer {
        self.job_in(Lane::Short, work)
    }

    /// Submits `work` to the workers of `lane`; otherwise like [`Context::job_then`].
    pub(crate) fn job_in(
        &mut self,
        lane: Lane,
        work: impl FnOnce() -> Continuation + Send + 'static,
    ) -> Answer {
        let job: Job = Box::new(work);
        match self.jobs.submit(self.id, lane, self.route.clone(), job) {
            Ok(ticket) => Answer::Later(ticket),
            Err(_) => {
                Answer::Now(error_page::text_error(Status::SERVICE_UNAVAILABLE, "too many jobs are waiting"))
            }
        }
    }

    /// Has the driver watch `watched` for this connection from now on, beside its socket. It may
    /// make the answer, see [`Context::promised`], and keeps time for it: while it is there no
    /// answer timeout passes.
    pub fn watch(&mut self, watched: Arc<dyn Watched>) {
        *self.watch = Change::To(watched);
    }

    /// The answer, or the next step to it, will come from what this connection has watched.
    #[must_use]
    pub fn promised(&self) -> Answer {
        Answer::Later(Ticket::pending())
    }

    /// Who the client has proved to be, as far as those in front have said.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.extra.user.as_deref()
    }

    /// How often programs have referred to other paths to answer this request.
    pub(crate) fn redirects(&self) -> u8 {
        self.extra.redirects
    }

    /// Forgets what those in front have said of the request: they will see it again, with another
    /// target. What was watched to make the answer is let go of, or it would go on keeping the time
    /// for whoever makes it now.
    pub(crate) fn start_over(&mut self, redirects: u8) {
        *self.watch = Change::LetGo;
        self.extra.clear();
        self.extra.say().redirects = redirects;
    }

    /// Sets a header of the response to the request in hand. For wrappers around a handler, which
    /// do not see the response: it may come from a job or a file. Replaces the response's own
    /// header of that name; otherwise as [`Response::with_header`].
    pub fn set_header(&mut self, when: When, name: &str, value: impl AsRef<[u8]>) {
        self.extra.give_when(Giver::Wrapper, How::Set, when, name, value.as_ref());
    }

    /// Adds a header to the response to the request in hand, beside its own of that name; otherwise
    /// as [`Response::with_added_header`].
    pub fn add_header(&mut self, when: When, name: &str, value: impl AsRef<[u8]>) {
        self.extra.give_when(Giver::Wrapper, How::Add, when, name, value.as_ref());
    }

    /// Sets a header of the server itself. A program's own header and a rule of the operator have
    /// precedence.
    pub(crate) fn set_own_header(&mut self, when: When, name: &str, value: impl AsRef<[u8]>) {
        self.extra.give_when(Giver::Server, How::Set, when, name, value.as_ref());
    }

    /// Forbids shared caches to keep the response, unless a program or a rule of the operator says
    /// how it is to be kept.
    pub(crate) fn keep_private(&mut self) {
        self.extra.give(Giver::Server, How::Directive, On::Always, b"Cache-Control", b"private");
    }

    /// Sets a header by a rule of the operator for the path asked for.
    pub(crate) fn set_path_header(&mut self, how: How, on: On, name: &str, value: &str) {
        self.extra.give(Giver::Operator, how, on, name.as_bytes(), value.as_bytes());
    }

    /// Has the access log say who the client has proved to be.
    pub fn set_user(&mut self, user: &str) {
        self.extra.say().user = Some(user.to_owned());
    }

    /// Has an error page that answers the request carry the script of `--live-reload`.
    pub(crate) fn reload_errors(&mut self) {
        self.extra.say().reloads = true;
    }

    /// A body source's way to the worker threads; see [`crate::handler::offload::Offloaded`].
    #[must_use]
    pub(crate) fn spawner(&self) -> Arc<dyn Spawn> {
        self.jobs.spawner()
    }

    /// For a body source that says `Later`: keeps what is needed to have it asked again.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::new(self.id, Arc::clone(self.jobs.inbox()))
    }

    /// The way for an answer that was [promised](Context::promised).
    pub(crate) fn promise(&self) -> Promise {
        Promise::new(self.id, Arc::clone(self.jobs.inbox()))
    }
}
