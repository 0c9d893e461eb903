//! Handlers by path and method: the [`Router`].
//!
//! Must not know what the handlers do.

use crate::handler::{Answer, Context, Handler};
use crate::http::{Method, Request, Response, Status};

/// The methods of a route. HEAD is allowed wherever GET is.
#[derive(Clone, Copy, Debug)]
pub struct Methods(pub &'static [&'static str]);

impl Methods {
    fn allow(&self, method: &Method<'_>) -> bool {
        choose(self.0, |name| name, method).is_some()
    }
}

/// Returns the entry that handles `method`: the one with its name, or that of GET for HEAD.
pub(crate) fn choose<'a, T>(
    entries: &'a [T],
    name_of: impl Fn(&'a T) -> &'a str,
    method: &Method<'_>,
) -> Option<&'a T> {
    let named = |name: &str| entries.iter().find(|entry| name_of(entry) == name);
    match method {
        Method::Head => named("HEAD").or_else(|| named("GET")),
        method => named(method.name()),
    }
}

/// Returns the value of an Allow header for the methods `names` and the implied HEAD and OPTIONS
/// (RFC 9110 section 10.2.1).
pub(crate) fn allow_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    if names.contains(&"GET") && !names.contains(&"HEAD") {
        names.push("HEAD");
    }
    if !names.contains(&"OPTIONS") {
        names.push("OPTIONS");
    }
    names.join(", ")
}

struct Route {
    path: String,
    /// Paths below `path` belong to the route, too.
    below: bool,
    methods: Methods,
    handler: Box<dyn Handler>,
}

/// A handler that selects another handler by path and method. The longest matching path wins. A
/// known path with another method produces 405 with Allow, and OPTIONS the list of methods. All
/// other requests go to the fallback.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
    /// The first bytes after the slash of all routes, one bit each. A path that begins with another
    /// byte, like those of most files, matches no route. It is not compared with them.
    initials: u128,
    fallback: Option<Box<dyn Handler>>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|route| &route.path)).finish()
    }
}

impl Router {
    /// Creates a router without routes, which returns 404 for every request.
    #[must_use]
    pub fn new() -> Self {
        Router::default()
    }

    /// Adds a route. A `path` that ends in `/*` also matches everything below it.
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

    /// Adds the routes of another router, each with its handler wrapped by `wrap`.
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

    /// Sets the handler for all other paths.
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

impl Handler for Router {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        if let Some(route) = self.find(request.path()) {
            if route.methods.allow(&request.method()) {
                return route.handler.handle(request, cx);
            }
            return method_not_allowed(request, &allow_of(route.methods.0.iter().copied())).into();
        }
        match &self.fallback {
            Some(fallback) => fallback.handle(request, cx),
            None => Response::problem(Status::NOT_FOUND, "this path does not exist").into(),
        }
    }
}

/// The bit of the byte after the first slash. Without such a byte, the bit of NUL.
fn initial(path: &[u8]) -> u128 {
    1 << (path.get(1).copied().unwrap_or(0) & 0x7f)
}

/// The response to a method that is not allowed: 204 with Allow for OPTIONS, 501 for an unknown
/// method, 405 for the others.
pub(crate) fn method_not_allowed(request: &Request<'_>, allow: &str) -> Response {
    match request.method() {
        Method::Options => Response::new(Status::NO_CONTENT).by_server().with_header("Allow", allow),
        Method::Other(_) => {
            Response::problem(Status::NOT_IMPLEMENTED, "this server does not support the method")
        }
        _ => Response::problem(Status::METHOD_NOT_ALLOWED, "the method is not allowed for this path")
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
