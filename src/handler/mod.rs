//! The contract between drivers and the code that makes responses: the [`Handler`] trait, the
//! [`Context`] of a call and the forms of an [`Answer`].
//!
//! A handler never blocks and never waits. It returns a response, or names the job, sink or watched
//! object that will make it. The driver (reactor or thread) carries that out. One handler object
//! serves both models. State that belongs to a driver is lent through the [`Context`], so a handler
//! holds no lock. This file must not know sockets or threads.

pub mod cache;
pub(crate) mod coalesce;
pub mod continuation;
pub(crate) mod extras;
pub(crate) mod kept_request;
pub mod offload;
pub(crate) mod passwords;
pub(crate) mod pending;
pub(crate) mod router;
#[cfg(feature = "os")]
pub mod spool;
#[cfg(feature = "os")]
pub(crate) mod temp_file;
pub mod watch;

use std::sync::Arc;

use crate::clock::{Instant, Now};
use crate::config::Limits;
use crate::conn_id::{ConnId, Peer};
use crate::handler::cache::DriverCache;
use crate::handler::continuation::{Continuation, Job, Promise, Ticket};
use crate::handler::extras::{OnStatus, SetBy};
use crate::handler::pending::Pending;
use crate::handler::watch::{Change, Watched};
use crate::http::headers::How;
use crate::http::refusal::Refusal;
use crate::http::{Request, Response, Status};
use crate::jobs::inbox::Waker;
use crate::jobs::sender_permits::Holder;
use crate::jobs::{JobQueue, Lane, RouteName, Spawn};
use crate::observe::live::Hub;

pub use crate::handler::extras::When;
pub use crate::handler::router::{Methods, Router};

/// A request handler. All drivers share it, so it is `Sync` and called through `&self`.
pub trait Handler: Send + Sync {
    /// Answers one request head. Must not block: work that may block goes through [`Context::job`].
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

/// The function that makes the response from collected request content.
pub type WithContent = Box<dyn FnOnce(Vec<u8>, &mut Context<'_>) -> Answer + Send>;

/// The form in which a request is answered.
#[non_exhaustive]
pub enum Answer {
    /// This response, at once.
    Now(Response),
    /// The result of a job that is under way; see [`Context::job`].
    Later(Ticket),
    /// A response made from the whole request content, which is kept in memory up to `bytes_max`.
    /// Longer content is refused with 413.
    Collect {
        /// Maximum length of the content, in bytes.
        bytes_max: u64,
        /// Makes the response.
        then: WithContent,
    },
    /// A response made by this sink, which receives the request content piece by piece.
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

/// Both sides of the result are answers, so a handler can use `?`.
impl<R: Into<Answer>, E: Into<Answer>> From<Result<R, E>> for Answer {
    fn from(result: Result<R, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}

/// The result of [`BodySink::write`].
#[derive(Debug)]
#[non_exhaustive]
pub enum SinkStatus {
    /// The sink accepts the next piece.
    More,
    /// The sink accepts no more for now: the driver calls [`BodySink::drain`] next.
    Full,
    /// The sink rejects the content. This response is sent instead.
    Refuse(Response),
}

/// A receiver of request content, which gets each piece as it arrives.
pub trait BodySink: Send {
    /// Takes all of `piece`. Must not block.
    fn write(&mut self, piece: &[u8], cx: &mut Context<'_>) -> SinkStatus;

    /// Makes room after [`SinkStatus::Full`], before more content is read. This is usually a job
    /// whose [`Continuation`] returns `Answer::Sink(self)`. Any other answer ends the content.
    fn drain(self: Box<Self>, cx: &mut Context<'_>) -> Answer;

    /// Makes the response when the content is complete.
    fn finish(self: Box<Self>, cx: &mut Context<'_>) -> Answer;

    /// Maximum length of the content, in bytes. May exceed [`Limits::body_bytes_max`]. Longer
    /// content is refused with 413: immediately if its length is declared.
    fn bytes_max(&self, limits: &Limits) -> u64 {
        limits.body_bytes_max
    }

    /// The permits that this content holds while it arrives. The driver reports the pace of the
    /// content to them.
    #[doc(hidden)]
    fn holders(&self) -> Holders<'_> {
        Holders::default()
    }

    /// Returns an interim response (1xx) to send immediately. Called once, before the first piece.
    fn interim(&mut self) -> Option<Response> {
        None
    }
}

/// The permits that the content of one request may hold: one for its purpose, and one for the space
/// that stores it.
#[doc(hidden)]
pub type Holders<'a> = [Option<&'a Arc<Holder>>; 2];

/// The state that a driver lends to a handler for one call.
pub struct Context<'a> {
    pub(crate) now: Now,
    /// Latest time at which the client can have sent the request.
    pub(crate) sent_before: Instant,
    pub(crate) id: ConnId,
    pub(crate) peer: &'a Peer,
    pub(crate) limits: &'a Limits,
    pub(crate) jobs: &'a mut dyn JobQueue<Continuation>,
    pub(crate) cache: &'a mut dyn DriverCache,
    pub(crate) pending: &'a mut Pending,
    /// Route of the request, for log lines about its jobs.
    pub(crate) route: RouteName,
    /// Hub of the loop that calls; `None` for a thread.
    pub(crate) hub: Option<&'a Arc<Hub>>,
}

impl Context<'_> {
    /// Returns the time of this turn.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Returns the id of the connection.
    #[must_use]
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Returns the peer that sent the request.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// Returns the limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.limits
    }

    /// Returns the hub of the loop that serves this connection; `None` for a thread.
    pub(crate) fn hub(&self) -> Option<&Arc<Hub>> {
        self.hub
    }

    pub(crate) fn cache(&mut self) -> &mut dyn DriverCache {
        self.cache
    }

    /// Runs `work` on a worker thread, where it may block, and answers with its response. If too
    /// many jobs are waiting, the response is 503.
    pub fn job(&mut self, work: impl FnOnce() -> Response + Send + 'static) -> Answer {
        self.job_then(move || {
            let response = work();
            Box::new(move |_| Answer::Now(response))
        })
    }

    /// Runs `work` on a worker thread like [`Context::job`]. The continuation that `work` returns
    /// then runs on the loop.
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
                Response::plain_problem(Status::SERVICE_UNAVAILABLE, "too many jobs are waiting").into()
            }
        }
    }

    /// Makes the driver watch `watched` for this connection, in addition to its socket. `watched`
    /// may make the response (see [`Context::answer_later`]) and then limits its own time: the
    /// answer timeout does not apply while it is watched.
    pub fn watch(&mut self, watched: Arc<dyn Watched>) {
        self.pending.watch = Change::To(watched);
    }

    /// Answers later: the response, or the next step to it, comes from the object that this
    /// connection watches.
    #[must_use]
    pub fn answer_later(&self) -> Answer {
        Answer::Later(Ticket::pending())
    }

    /// The authenticated user, if an outer handler has set one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.pending.extra()?.user.as_deref()
    }

    /// Number of internal redirects by CGI programs for this request so far.
    pub(crate) fn redirects(&self) -> u8 {
        self.pending.extra().map_or(0, |extra| extra.redirects)
    }

    /// Forgets all that outer handlers have set for this request, because they see it again with
    /// another target. Also abandons the watched object. Otherwise its time limit would apply to
    /// the new response.
    pub(crate) fn reset_for_redirect(&mut self, redirects: u8) {
        self.pending.watch = Change::Abandon;
        let extra = self.pending.extra_mut();
        extra.clear();
        extra.redirects = redirects;
    }

    /// Sets a header of the response to this request, for wrappers around a handler. A wrapper does
    /// not see the response, because it may come from a job or a file. Replaces the response's own
    /// header of that name; otherwise like [`Response::with_header`].
    pub fn set_header(&mut self, when: When, name: &str, value: impl AsRef<[u8]>) {
        self.pending.extra_mut().add_when(SetBy::Wrapper, How::Set, when, name, value.as_ref());
    }

    /// Adds a header to the response to this request, beside the response's own headers of that
    /// name; otherwise like [`Response::with_added_header`].
    pub fn add_header(&mut self, when: When, name: &str, value: impl AsRef<[u8]>) {
        self.pending.extra_mut().add_when(SetBy::Wrapper, How::Add, when, name, value.as_ref());
    }

    /// Sets a header that the server generates. A CGI program's own header and a rule of the
    /// operator have precedence.
    pub(crate) fn set_own_header(&mut self, when: When, name: &str, value: impl AsRef<[u8]>) {
        self.pending.extra_mut().add_when(SetBy::Server, How::Set, when, name, value.as_ref());
    }

    /// Forbids shared caches to store the response, unless a program or a rule of the operator sets
    /// a cache policy.
    pub(crate) fn keep_private(&mut self) {
        self.pending.extra_mut().add(
            SetBy::Server,
            How::Directive,
            OnStatus::Any,
            b"Cache-Control",
            b"private",
        );
    }

    /// Sets a header by a rule of the operator for the requested path.
    pub(crate) fn set_path_header(&mut self, how: How, on: OnStatus, name: &str, value: &str) {
        self.pending.extra_mut().add(SetBy::Operator, how, on, name.as_bytes(), value.as_bytes());
    }

    /// Sets the authenticated user, for the access log.
    pub fn set_user(&mut self, user: &str) {
        self.pending.extra_mut().user = Some(user.to_owned());
    }

    /// Records that the next handlers receive another path than the client sent. Error pages then
    /// contain absolute links.
    pub(crate) fn note_rewrite(&mut self) {
        self.pending.extra_mut().is_rewritten = true;
    }

    /// Adds the script of `--live-reload` to the response if it is an error page.
    pub(crate) fn reload_errors(&mut self) {
        self.pending.extra_mut().reloads = true;
    }

    /// Access of a body source to the worker threads; see [`crate::handler::offload::Offloaded`].
    #[must_use]
    pub(crate) fn spawner(&self) -> Arc<dyn Spawn> {
        self.jobs.spawner()
    }

    /// Returns a waker for a body source that returns `Later`: the driver calls the source again
    /// when it is woken.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::new(self.id, Arc::clone(self.jobs.inbox()))
    }

    /// Returns the handle that delivers the answer announced by [`Context::answer_later`].
    pub(crate) fn promise(&self) -> Promise {
        Promise::new(self.id, Arc::clone(self.jobs.inbox()))
    }
}
