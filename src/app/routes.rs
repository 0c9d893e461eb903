//! Routes by path and method: [`Routes`], the table behind `Server::builder`.
//!
//! A path is matched in its normalized form, segment by segment. A literal segment takes precedence
//! over a parameter, and a parameter over a wildcard. The most specific pattern that matches
//! decides, methods included: 405 with `Allow`, HEAD and OPTIONS follow from its methods.
//!
//! Must not know sockets, threads or the content of responses.

use std::collections::HashSet;
use std::sync::Arc;

use crate::app::call::{Away, Call, Params, Place};
use crate::clock::Now;
use crate::config::CONTENT_BYTES_MAX;
use crate::conn_id::{ConnId, Peer};
use crate::handler::kept_request::KeptRequest;
use crate::handler::router::{allow_of, choose, method_not_allowed};
use crate::handler::{Answer, Context, Handler};
use crate::http::framing::Content;
use crate::http::problem::over;
use crate::http::target::normalize;
use crate::http::{Method, Request, Response, Status};

type Action = dyn Fn(&Call<'_>) -> Answer + Send + Sync;

/// Handlers of one path: a closure for each method, and how they are called.
///
/// ```
/// use whirligig::{Response, Route};
///
/// let route = Route::new()
///     .get(|_| "all of them")
///     .post(|call| Response::text(format!("took {} bytes", call.content().len())))
///     .content_max(1024)
///     .blocking();
/// # let _ = route;
/// ```
///
/// A closure takes a [`Call`] and returns a value that converts to an [`Answer`]: a [`Response`],
/// text, or a `Result` of these and a [`Refusal`](crate::http::refusal::Refusal). HEAD is supported
/// wherever GET is, and OPTIONS always.
#[derive(Clone, Default)]
pub struct Route {
    answers: Vec<MethodAnswer>,
    /// Manner of methods that are added later.
    manner: Manner,
}

/// Closure for one method. Each has its own manner, so that routes with the same pattern can be
/// merged.
#[derive(Clone)]
struct MethodAnswer {
    method: String,
    action: Arc<Action>,
    manner: Manner,
}

/// Way in which a closure is called.
#[derive(Clone, Copy, Default)]
struct Manner {
    blocks: bool,
    content_bytes_max: Option<u64>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.answers.iter().map(|answer| &answer.method)).finish()
    }
}

macro_rules! methods {
    ($($method:ident = $name:literal, $source:literal;)*) => {
        impl Route {
            $(
                #[doc = concat!("Sets the closure for ", $name, " (", $source, ").")]
                #[must_use]
                pub fn $method<R: Into<Answer>>(
                    self,
                    answer: impl Fn(&Call<'_>) -> R + Send + Sync + 'static,
                ) -> Self {
                    self.on($name, answer)
                }
            )*
        }
    };
}

methods! {
    get = "GET", "RFC 9110 section 9.3.1";
    post = "POST", "RFC 9110 section 9.3.3";
    put = "PUT", "RFC 9110 section 9.3.4";
    delete = "DELETE", "RFC 9110 section 9.3.5";
    patch = "PATCH", "RFC 5789";
}

impl Route {
    /// A route without methods: 405 for every request.
    #[must_use]
    pub fn new() -> Self {
        Route::default()
    }

    /// Sets the closure for a method by name. Names are case-sensitive (RFC 9110 section 9.1). A
    /// later closure for the same method replaces the earlier one.
    #[must_use]
    pub fn on<R: Into<Answer>>(
        mut self,
        method: &str,
        answer: impl Fn(&Call<'_>) -> R + Send + Sync + 'static,
    ) -> Self {
        let action = Arc::new(move |call: &Call<'_>| answer(call).into());
        let manner = self.manner;
        self.take(MethodAnswer { method: method.to_owned(), action, manner });
        self
    }

    /// Allows the closures to block. The reactor calls them on a worker thread, the threads model
    /// on the thread of the connection. Without this a closure must be quick, because the loop
    /// waits for it.
    #[must_use]
    pub fn blocking(self) -> Self {
        self.with_manner(|manner| manner.blocks = true)
    }

    /// Sets the maximum length of the content, which is kept in memory; longer content is a 413.
    /// Default: [`CONTENT_BYTES_MAX`]. The limits
    /// [`body_bytes_max`](crate::config::Limits::body_bytes_max) and
    /// [`collect_bytes_max`](crate::config::Limits::collect_bytes_max) also apply.
    #[must_use]
    pub fn content_max(self, bytes: u64) -> Self {
        self.with_manner(|manner| manner.content_bytes_max = Some(bytes))
    }

    /// Changes the manner of all methods, including those added later.
    fn with_manner(mut self, change: impl Fn(&mut Manner)) -> Self {
        change(&mut self.manner);
        for answer in &mut self.answers {
            change(&mut answer.manner);
        }
        self
    }

    fn take(&mut self, answer: MethodAnswer) {
        self.answers.retain(|own| own.method != answer.method);
        self.answers.push(answer);
    }

    /// Merges the methods of `other` into this route, each in its own manner.
    fn and(mut self, other: Route) -> Self {
        for answer in other.answers {
            self.take(answer);
        }
        self
    }

    fn answer_to(&self, method: &Method<'_>) -> Option<&MethodAnswer> {
        choose(&self.answers, |answer| &answer.method, method)
    }

    /// Value of the Allow header.
    fn allow(&self) -> String {
        allow_of(self.answers.iter().map(|answer| answer.method.as_str()))
    }
}

/// Segment of a pattern. The order of the variants is their precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// Exactly this segment.
    Literal(Vec<u8>),
    /// Any segment that is not empty.
    Any,
    /// The rest of the path, possibly empty.
    Rest,
}

/// Path with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// Pattern as the application wrote it.
    text: Arc<str>,
    segments: Vec<Segment>,
    /// Names of the parameters, in order.
    names: Vec<String>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, String> {
        let wrong = |why: &str| Err(format!("route '{text}': {why}"));
        let Some(rest) = text.strip_prefix('/') else { return wrong("a path must begin with a slash") };
        let (mut segments, mut names): (_, Vec<String>) = (Vec::new(), Vec::new());
        let mut pieces = rest.split('/').peekable();
        while let Some(piece) = pieces.next() {
            let open = piece.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let name = match open {
                None if piece.contains(['{', '}', '*']) => {
                    return wrong("a parameter must be a whole segment: /{name}, or /{name*} at the end");
                }
                None => {
                    segments.push(Segment::Literal(piece.as_bytes().to_vec()));
                    continue;
                }
                Some(name) => name,
            };
            let (name, segment) =
                name.strip_suffix('*').map_or((name, Segment::Any), |name| (name, Segment::Rest));
            if name.is_empty() || names.iter().any(|other| other == name) {
                return wrong("a parameter must have a unique name");
            }
            if segment == Segment::Rest && pieces.peek().is_some() {
                return wrong("{name*} must be the last segment");
            }
            segments.push(segment);
            names.push(name.to_owned());
        }
        Ok(Pattern { text: text.into(), segments, names })
    }

    /// Matches this normalized path, and stores the values of the parameters.
    fn fit<'p>(&self, path: &'p [u8], values: &mut Vec<&'p [u8]>) -> bool {
        values.clear();
        let Some(mut rest) = path.strip_prefix(b"/").map(Some) else { return false };
        for segment in &self.segments {
            let Some(path) = rest else {
                // `/a` also matches `/a/{rest*}`, with an empty rest.
                if *segment == Segment::Rest {
                    values.push(b"");
                    return true;
                }
                return false;
            };
            if *segment == Segment::Rest {
                values.push(path);
                return true;
            }
            // A literal is compared before the end of the segment is searched, so a long path is
            // not scanned for each route.
            let len = match segment {
                Segment::Literal(literal) if path.starts_with(literal) => literal.len(),
                Segment::Any => memchr::memchr(b'/', path).unwrap_or(path.len()),
                Segment::Literal(_) | Segment::Rest => return false,
            };
            let (piece, behind) = path.split_at(len);
            let behind = match behind {
                [] => None,
                [b'/', behind @ ..] => Some(behind),
                _ => return false,
            };
            if *segment == Segment::Any {
                if piece.is_empty() {
                    return false;
                }
                values.push(piece);
            }
            rest = behind;
        }
        rest.is_none()
    }
}

/// Target of a pattern.
#[derive(Clone)]
enum Target {
    Route(Arc<Route>),
    Handler(Arc<dyn Handler>),
}

#[derive(Clone)]
struct Entry {
    pattern: Arc<Pattern>,
    target: Target,
}

/// Table of routes, itself a [`Handler`].
#[derive(Clone, Default)]
pub(crate) struct Routes {
    /// Sorted by precedence.
    entries: Vec<Entry>,
    fallback: Option<Arc<dyn Handler>>,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| &entry.pattern.text)).finish()
    }
}

impl Routes {
    /// An empty table: 404 for every request.
    #[must_use]
    pub(crate) fn new() -> Self {
        Routes::default()
    }

    /// Adds a route. In a pattern `{name}` matches one segment, and `{name*}` at the end matches
    /// the rest of the path.
    ///
    /// Routes with the same pattern are merged, and each method keeps the manner of its own route.
    /// A method that may block does not make the others wait for a worker.
    ///
    /// One line that describes what is wrong with the pattern.
    pub(crate) fn add(&mut self, pattern: &str, route: Route) -> Result<(), String> {
        let pattern = Pattern::parse(pattern)?;
        if let Some(entry) = self.entries.iter_mut().find(|entry| *entry.pattern == pattern)
            && let Target::Route(own) = &entry.target
        {
            entry.target = Target::Route(Arc::new(Route::clone(own).and(route)));
            return Ok(());
        }
        self.insert(pattern, Target::Route(Arc::new(route)))
    }

    /// Passes all methods at this pattern to a handler.
    ///
    /// # Errors
    /// As [`Routes::add`].
    pub(crate) fn mount(&mut self, pattern: &str, handler: Arc<dyn Handler>) -> Result<(), String> {
        self.insert(Pattern::parse(pattern)?, Target::Handler(handler))
    }

    fn insert(&mut self, pattern: Pattern, target: Target) -> Result<(), String> {
        if let Some(other) = self.entries.iter().find(|entry| entry.pattern.segments == pattern.segments) {
            let (one, other) = (&pattern.text, &other.pattern.text);
            return Err(format!("route '{one}': '{other}' matches exactly these paths already"));
        }
        self.entries.push(Entry { pattern: Arc::new(pattern), target });
        self.entries.sort_by(|one, other| one.pattern.segments.cmp(&other.pattern.segments));
        Ok(())
    }

    /// Sets the handler for all other paths.
    pub(crate) fn set_fallback(&mut self, handler: Arc<dyn Handler>) {
        self.fallback = Some(handler);
    }

    fn find<'p>(&self, path: &'p [u8]) -> Option<(&Entry, Vec<&'p [u8]>)> {
        let mut values = Vec::new();
        let entry = self.entries.iter().find(|entry| entry.pattern.fit(path, &mut values))?;
        Some((entry, values))
    }

    /// Lists the methods of all routes, for `OPTIONS *`, which concerns no path (RFC 9110 section
    /// 9.3.7).
    fn anywhere(&self) -> Response {
        let mut names: Vec<&str> = Vec::new();
        for entry in &self.entries {
            if let Target::Route(route) = &entry.target {
                names.extend(route.answers.iter().map(|answer| answer.method.as_str()));
            }
        }
        // Files and other handlers support at least these.
        if self.fallback.is_some() {
            names.extend(["GET", "HEAD"]);
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        Response::new(Status::NO_CONTENT).by_server().with_header("Allow", allow_of(names))
    }
}

impl Handler for Routes {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        if request.path() == b"*" {
            return self.anywhere().into();
        }
        let path = match normalize(request.path()) {
            Ok(path) => path,
            Err(error) => {
                return Response::problem(Status::BAD_REQUEST, error.to_string()).into();
            }
        };
        let Some((entry, values)) = self.find(&path) else {
            return match &self.fallback {
                Some(fallback) => fallback.handle(request, cx),
                None => Response::problem(Status::NOT_FOUND, "nothing exists at this path").into(),
            };
        };
        cx.route = Some(Arc::clone(&entry.pattern.text));
        let route = match &entry.target {
            Target::Handler(handler) => return handler.handle(request, cx),
            Target::Route(route) => route,
        };
        let Some(answer) = route.answer_to(&request.method()) else {
            return method_not_allowed(request, &route.allow()).into();
        };
        let values = values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        let action = Arc::clone(&answer.action);
        let call = PendingCall { action, pattern: Arc::clone(&entry.pattern), values };
        call.begin(answer.manner, request, cx)
    }
}

/// A pending call of a closure.
struct PendingCall {
    action: Arc<Action>,
    pattern: Arc<Pattern>,
    values: Vec<String>,
}

impl PendingCall {
    /// Makes the call immediately, unless content must arrive first or the closure may block.
    fn begin(self, manner: Manner, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let bytes_max = manner.content_bytes_max.unwrap_or(CONTENT_BYTES_MAX);
        let blocks = manner.blocks;
        match request.content() {
            Content::None if blocks => self.block(KeptRequest::of(request, cx), Vec::new(), cx),
            Content::None => self.call(request, b"", cx.now(), cx.id(), cx.peer(), cx),
            Content::Length(bytes) if bytes > bytes_max => {
                Response::problem(Status::CONTENT_TOO_LARGE, over(bytes_max, "content")).into()
            }
            Content::Length(_) | Content::Chunked => {
                let request = KeptRequest::of(request, cx);
                Answer::Collect {
                    bytes_max,
                    then: Box::new(move |content, cx| match blocks {
                        true => self.block(request, content, cx),
                        false => request
                            .answer(|request| self.call(request, &content, cx.now(), cx.id(), cx.peer(), cx)),
                    }),
                }
            }
        }
    }

    /// Makes the call in a job.
    fn block(self, request: KeptRequest, content: Vec<u8>, cx: &mut Context<'_>) -> Answer {
        // The content can have been collected in a separate call, so the route is set again.
        cx.route = Some(Arc::clone(&self.pattern.text));
        let (now, id, peer, away) = (cx.now(), cx.id(), cx.peer().clone(), Away::of(cx));
        cx.job_then(move || {
            let answer = request.answer(|request| self.call(request, &content, now, id, &peer, &away));
            Box::new(move |_| answer)
        })
    }

    fn call(
        &self,
        request: &Request<'_>,
        content: &[u8],
        now: Now,
        id: ConnId,
        peer: &Peer,
        place: &dyn Place,
    ) -> Answer {
        let params = Params { names: &self.pattern.names, values: &self.values };
        (self.action)(&Call { request, params, content, now, id, peer, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(patterns: &[&str]) -> Routes {
        let mut routes = Routes::new();
        for pattern in patterns {
            routes.add(pattern, Route::new().get(|_| "x")).unwrap();
        }
        routes
    }

    fn found(routes: &Routes, path: &str) -> Option<(Vec<Segment>, Vec<String>)> {
        let (entry, values) = routes.find(path.as_bytes())?;
        let values = values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        Some((entry.pattern.segments.clone(), values))
    }

    #[test]
    fn the_most_particular_pattern_wins_whatever_the_order() {
        let patterns =
            ["/{all*}", "/items/{id}", "/items/new", "/items/{id}/{part}", "/items/{id}/{rest*}", "/"];
        let cases: &[(&str, &str, &[&str])] = &[
            ("/", "/", &[]),
            ("/items/new", "/items/new", &[]),
            ("/items/7", "/items/{id}", &["7"]),
            ("/items/7/a", "/items/{id}/{part}", &["7", "a"]),
            ("/items/7/a/b", "/items/{id}/{rest*}", &["7", "a/b"]),
            ("/items/7/", "/items/{id}/{rest*}", &["7", ""]),
            ("/items/", "/{all*}", &["items/"]),
            ("/items", "/{all*}", &["items"]),
            ("/x/y/z", "/{all*}", &["x/y/z"]),
        ];
        let reversed: Vec<_> = patterns.iter().rev().copied().collect();
        for routes in [table(&patterns), table(&reversed)] {
            for (path, pattern, values) in cases {
                let expected = Pattern::parse(pattern).unwrap().segments;
                let values = values.iter().map(|value| (*value).to_owned()).collect();
                assert_eq!(found(&routes, path), Some((expected, values)), "{path}");
            }
        }
        let routes = table(&["/a/{b}", "/c/{rest*}"]);
        for path in ["/", "/a", "/a/", "/a/b/", "/a/b/c", "/b", ""] {
            assert_eq!(found(&routes, path), None, "{path}");
        }
        assert!(found(&routes, "/c").is_some_and(|(_, values)| values == [""]));
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for pattern in ["", "a", "/a{b}", "/{b}c", "/{}", "/{*}", "/{a}/{a}", "/{a*}/b", "/*", "/a*"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
        let mut routes = table(&["/a/{b}"]);
        assert!(routes.add("/a/{c}", Route::new()).is_err(), "two names for one place");
        assert!(routes.add("/a/{b}", Route::new().post(|_| "y")).is_ok());
        assert_eq!(routes.entries.len(), 1);
        let Target::Route(route) = &routes.entries[0].target else { panic!("a route") };
        assert_eq!(route.allow(), "GET, POST, HEAD, OPTIONS");
    }
}
