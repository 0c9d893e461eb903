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
pub mod offload;
pub(crate) mod passwords;
pub mod spool;
pub(crate) mod temp_file;
pub mod watch;

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Now;
use crate::config::Limits;
use crate::conn_id::{ConnId, Peer};
use crate::handler::cache::DriverCache;
use crate::handler::continuation::Promise;
use crate::handler::continuation::{Job, Then, Ticket};
use crate::handler::watch::{Change, Watched};
use crate::http::headers::{How, is_repeated};
use crate::http::refusal::Refusal;
use crate::http::response::Author;
use crate::http::{Method, Request, Response, Status};
use crate::jobs::inbox::Waker;
use crate::jobs::places::Seat;
use crate::jobs::{JobDesk, Lane, RouteName, Spawn};
use crate::pages::error as error_page;

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
    /// whose [`Then`] returns `Answer::Sink(self)`. Any other answer ends the content.
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
    pub(crate) desk: &'a mut dyn JobDesk<Then>,
    pub(crate) cache: &'a mut dyn DriverCache,
    pub(crate) extra: &'a mut Extra,
    pub(crate) watch: &'a mut Change,
    /// The route of the request, for log lines about its jobs.
    pub(crate) route: RouteName,
}

/// On which responses a header goes that is not the response's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On all of them.
    Always,
    /// On those that have what was asked for or where it is: 2xx and 3xx.
    Success,
    /// On those that have no header of that name themselves.
    Unsaid,
}

/// The origin of a header that is not the response's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Giver {
    /// The operator, by a rule for the path. Replaces the server's headers, and not a program's.
    Operator,
    /// The server itself: CORS, downloads, passwords. Headers of a program and of the operator
    /// stay.
    Server,
    /// A wrapper around a handler, in a program that uses the library. Replaces or adds, as asked
    /// for.
    Wrapper,
}

/// Statuses with which a header goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// All.
    Always,
    /// 2xx and 3xx.
    Success,
    /// All others.
    Failure,
}

/// One header for the response to the request in hand.
#[derive(Clone, Copy, Debug)]
struct Given {
    giver: Giver,
    how: How,
    on: On,
    /// Length of the name, and where the value ends. The name begins where the value before it
    /// ends.
    name_len: usize,
    end: usize,
}

/// Headers that wrappers around a handler give to the response to the request in hand. They wait
/// here until the response exists, because it may come from a job or a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    given: Vec<Given>,
    /// Names and values of those, one behind the other.
    text: Vec<u8>,
    /// Who the client has proved to be: for the access log.
    user: Option<String>,
    /// How often programs have referred to other paths to answer it.
    redirects: u8,
    /// An error page of ours gets the script of `--live-reload`.
    reloads: bool,
    /// Anything was given since it was cleared. Asked three times a request, and nearly always
    /// false.
    is_said: bool,
}

impl Extra {
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_said
    }

    /// Itself, to have something said.
    fn say(&mut self) -> &mut Self {
        self.is_said = true;
        self
    }

    pub(crate) fn clear(&mut self) {
        if !std::mem::take(&mut self.is_said) {
            return;
        }
        self.given.clear();
        self.text.clear();
        self.user = None;
        self.redirects = 0;
        self.reloads = false;
    }

    fn give(&mut self, giver: Giver, how: How, on: On, name: &[u8], value: &[u8]) {
        let said = self.say();
        said.text.extend_from_slice(name);
        said.text.extend_from_slice(value);
        said.given.push(Given { giver, how, on, name_len: name.len(), end: said.text.len() });
    }

    fn give_when(&mut self, giver: Giver, how: How, when: When, name: &str, value: &[u8]) {
        let (how, on) = match when {
            When::Always => (how, On::Always),
            When::Success => (how, On::Success),
            When::Unsaid => (How::IfAbsent, On::Always),
        };
        self.give(giver, how, on, name.as_bytes(), value);
    }

    /// The headers of one giver for a response with this status, in their order.
    fn of(&self, giver: Giver, status: Status) -> impl Iterator<Item = (How, &[u8], &[u8])> {
        let is_success = (200..400).contains(&status.code());
        let starts = std::iter::once(0).chain(self.given.iter().map(|given| given.end));
        self.given.iter().zip(starts).filter_map(move |(given, start)| {
            let counts = match given.on {
                On::Always => true,
                On::Success => is_success,
                On::Failure => !is_success,
            };
            let (name, value) = self.text[start..given.end].split_at(given.name_len);
            (counts && given.giver == giver).then_some((given.how, name, value))
        })
    }

    /// The response with these headers, as far as its status and its own headers allow.
    pub(crate) fn said_on(&self, mut response: Response) -> Response {
        if self.reloads {
            response = error_page::reloading(response);
        }
        let status = response.status();
        let is_program = response.author() == Author::Program;
        let how_of = |how| if is_program { How::IfAbsent } else { how };
        // The path of a file counts before the path that was asked for.
        let ruled = response.ruled_headers();
        let is_ruled = |name: &[u8]| ruled.as_ref().is_some_and(|ruled| ruled.has(name));
        for (how, name, value) in self.of(Giver::Operator, status) {
            if !is_ruled(name) {
                response.put(how_of(how), name, value);
            }
        }
        let is_given = |name: &[u8]| {
            self.of(Giver::Operator, status).any(|(_, given, _)| given.eq_ignore_ascii_case(name))
        };
        for (how, name, value) in self.of(Giver::Server, status) {
            if is_repeated(name) || !(is_ruled(name) || is_given(name)) {
                response.put(how_of(how), name, value);
            }
        }
        for (how, name, value) in self.of(Giver::Wrapper, status) {
            response.put(how, name, value);
        }
        response
    }

    /// Who the client is, if that is known; asked for once a request.
    pub(crate) fn take_user(&mut self) -> Option<String> {
        self.user.take()
    }
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
    pub fn job_then(&mut self, work: impl FnOnce() -> Then + Send + 'static) -> Answer {
        self.job_in(Lane::Short, work)
    }

    /// Submits `work` to the workers of `lane`; otherwise like [`Context::job_then`].
    pub(crate) fn job_in(&mut self, lane: Lane, work: impl FnOnce() -> Then + Send + 'static) -> Answer {
        let job: Job = Box::new(work);
        match self.desk.submit(self.id, lane, self.route.clone(), job) {
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
        self.desk.spawner()
    }

    /// For a body source that says `Later`: keeps what is needed to have it asked again.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::new(self.id, Arc::clone(self.desk.inbox()))
    }

    /// The way for an answer that was [promised](Context::promised).
    pub(crate) fn promise(&self) -> Promise {
        Promise::new(self.id, Arc::clone(self.desk.inbox()))
    }
}

/// A route's methods: the listed ones, and HEAD wherever GET is.
#[derive(Clone, Copy, Debug)]
pub struct Methods(pub &'static [&'static str]);

impl Methods {
    fn allow(&self, method: &Method<'_>) -> bool {
        let name = if *method == Method::Head { "GET" } else { method.name() };
        self.0.contains(&name)
    }

    /// The value of an Allow field.
    fn field(&self) -> String {
        let mut names: Vec<&str> = self.0.to_vec();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        names.join(", ")
    }
}

struct Route {
    path: String,
    /// Whether paths below it belong to it, too.
    below: bool,
    methods: Methods,
    handler: Box<dyn Handler>,
}

/// Sends requests to handlers by path and method. The longest matching path wins; a path that is
/// known with another method is 405 with Allow, OPTIONS is answered from what is known, and all
/// else goes to the fallback.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
    /// The bytes behind the first slash that routes begin with, one bit each: what begins
    /// otherwise, most files, is no route's and need not be compared with them.
    initials: u128,
    fallback: Option<Box<dyn Handler>>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|route| &route.path)).finish()
    }
}

impl Router {
    /// A router that knows nothing: 404 for all.
    #[must_use]
    pub fn new() -> Self {
        Router::default()
    }

    /// Adds a route. A `path` that ends in `/*` takes everything below it as well.
    #[must_use]
    pub fn route(mut self, path: &str, methods: Methods, handler: impl Handler + 'static) -> Self {
        let (path, below) = match path.strip_suffix("/*") {
            Some(prefix) => (prefix.to_string(), true),
            None => (path.to_string(), false),
        };
        self.initials |= if path.is_empty() { u128::MAX } else { initial(path.as_bytes()) };
        self.routes.push(Route { path, below, methods, handler: Box::new(handler) });
        self.routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        self
    }

    /// Adds the routes of another router, each with a handler of `wrap`'s making around its own.
    #[must_use]
    pub(crate) fn routes_of(
        mut self,
        other: Router,
        wrap: impl Fn(Box<dyn Handler>) -> Box<dyn Handler>,
    ) -> Self {
        self.initials |= other.initials;
        let wrapped = |route: Route| Route { handler: wrap(route.handler), ..route };
        self.routes.extend(other.routes.into_iter().map(wrapped));
        self.routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        self
    }

    /// Where all other paths go.
    #[must_use]
    pub fn fallback(mut self, handler: impl Handler + 'static) -> Self {
        self.fallback = Some(Box::new(handler));
        self
    }

    fn find(&self, path: &[u8]) -> Option<&Route> {
        if self.initials & initial(path) == 0 {
            return None;
        }
        self.routes.iter().find(|route| {
            path.strip_prefix(route.path.as_bytes())
                .is_some_and(|rest| rest.is_empty() || (route.below && rest[0] == b'/'))
        })
    }
}

/// The bit of the byte behind the first slash; that of NUL where there is none.
fn initial(path: &[u8]) -> u128 {
    1 << (path.get(1).copied().unwrap_or(0) & 0x7f)
}

impl Handler for Router {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        if let Some(route) = self.find(request.path()) {
            if route.methods.allow(&request.method()) {
                return route.handler.handle(request, cx);
            }
            return method_not_allowed(request, &route.methods.field()).into();
        }
        match &self.fallback {
            Some(fallback) => fallback.handle(request, cx),
            None => {
                error_page::error(Status::NOT_FOUND, "nothing is here", error_page::ErrorForm::of(request))
                    .into()
            }
        }
    }
}

/// The answer to a method that is not offered here: OPTIONS is told what is, an unknown one gets
/// 501, the rest 405.
pub(crate) fn method_not_allowed(request: &Request<'_>, allow: &str) -> Response {
    match request.method() {
        Method::Options => Response::new(Status::NO_CONTENT).by_server().with_header("Allow", allow),
        Method::Other(_) => error_page::error(
            Status::NOT_IMPLEMENTED,
            "this server does not know that method",
            error_page::ErrorForm::of(request),
        ),
        _ => error_page::error(
            Status::METHOD_NOT_ALLOWED,
            "that method is not offered here",
            error_page::ErrorForm::of(request),
        )
        .with_header("Allow", allow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(router: &Router, path: &str) -> Option<String> {
        router.find(path.as_bytes()).map(|route| route.path.clone())
    }

    #[test]
    fn the_longest_route_that_fits_is_found() {
        let nothing = |_: &Request<'_>, _: &mut Context<'_>| Answer::from(Response::new(Status::NO_CONTENT));
        let get = Methods(&["GET"]);
        let router = ["/", "/api/*", "/api/time", "/about"]
            .into_iter()
            .fold(Router::new(), |router, path| router.route(path, get, nothing));
        for (path, found) in [
            ("/", Some("/")),
            ("/api", Some("/api")),
            ("/api/", Some("/api")),
            ("/api/time", Some("/api/time")),
            ("/api/time/", Some("/api")),
            ("/apis", None),
            ("/about", Some("/about")),
            ("/about/", None),
            ("/a", None),
            ("/index.html", None),
            ("/\u{c1}", None),
            ("*", None),
        ] {
            assert_eq!(routed(&router, path).as_deref(), found, "{path}");
        }
        let all = Router::new().route("/*", get, nothing);
        assert_eq!(routed(&all, "/any/thing").as_deref(), Some(""));
        assert_eq!(routed(&Router::new(), "/"), None);
    }
}
