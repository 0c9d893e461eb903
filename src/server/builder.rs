//! The builder of a server: routes, folders, and settings around them.
//!
//! All settings end up in a [`Config`] or in [`Routes`]. This file must not know how either is
//! used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::app::call::Call;
use crate::app::routes::{Route, Routes};
use crate::config::{
    AuthRule, AuthUsers, Bind, Config, FileOptions, HeaderScope, Limits, LogFormat, LogTarget, Model,
    Timeouts, TurnLines, UPLOAD_BYTES_MAX,
};
use crate::docroot::Docroot;
use crate::docroot::header_rules::rule as header_rule;
use crate::docroot::index::parse_index;
use crate::docroot::root::Root;
use crate::docroot::types::type_rule;
use crate::features::allowed_hosts::{EnabledBy, check_host, parse_allowed_host};
use crate::features::auth::rule::parse_auth_path;
use crate::features::cors::parse_origin;
use crate::features::loop_page::{self, Audience};
use crate::features::metrics;
use crate::features::{api, live, upload};
use crate::files::StaticFiles;
use crate::handler::{Answer, Handler, Router};
use crate::http::target::encode_path;
use crate::server::chain::Site;
use crate::server::listen::BindError;
use crate::server::{Content, Server, Views};

type Wrapper = Box<dyn FnOnce(Arc<dyn Handler>) -> Arc<dyn Handler>>;

/// Builds a [`Server`]. Nothing is opened before [`Builder::bind`], which also returns errors of
/// earlier calls.
///
/// ```
/// use std::time::Duration;
/// use whirligig::{Model, Response, Route, Server};
///
/// let server = Server::builder()
///     .get("/", |_| Response::html("<p>It turns."))
///     .post("/upper", |call| Ok::<_, whirligig::Refusal>(call.text()?.to_uppercase()))
///     .route(
///         "/items/{id}",
///         Route::new().get(|call| format!("item {}", call.param("id"))).blocking(),
///     )
///     .header("/**", "X-Frame-Options", "DENY")
///     .auth("/private", "anna", "secret")
///     .timeouts(|timeouts| timeouts.idle = Some(Duration::from_secs(5)))
///     .model(Model::Threads)
///     .bind("127.0.0.1:0")?;
/// # drop(server);
/// # Ok::<(), whirligig::BindError>(())
/// ```
#[must_use]
pub struct Builder {
    config: Config,
    routes: Routes,
    files: Option<PathBuf>,
    fallback: Option<Arc<dyn Handler>>,
    wrappers: Vec<Wrapper>,
    takes_signals: bool,
    /// First error of a call.
    first_error: Option<String>,
}

impl Server {
    /// Returns a builder for a server. Add routes, folders and settings, then call
    /// [`Builder::bind`].
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        let config =
            Config { health: false, metrics: Some(false), loop_page: Some(false), ..Config::default() };
        Builder {
            config,
            routes: Routes::new(),
            files: None,
            fallback: None,
            wrappers: Vec::new(),
            takes_signals: true,
            first_error: None,
        }
    }
}

macro_rules! methods {
    ($($method:ident = $name:literal;)*) => {
        $(
            #[doc = concat!("Answers ", $name, " at a path. See [`Builder::route`] for paths, [`Route`] for more.")]
            pub fn $method<R: Into<Answer>>(
                self,
                path: &str,
                answer: impl Fn(&Call<'_>) -> R + Send + Sync + 'static,
            ) -> Self {
                self.route(path, Route::new().on($name, answer))
            }
        )*
    };
}

/// Methods for the content.
impl Builder {
    methods! {
        get = "GET";
        post = "POST";
        put = "PUT";
        delete = "DELETE";
        patch = "PATCH";
    }

    /// Adds a route. In `path`, `{name}` matches one segment, and `{name*}` at the end matches all
    /// segments that follow; [`Call::param`] returns the matched text. Literal text takes
    /// precedence over `{name}`, and `{name}` over `{name*}`.
    ///
    /// HEAD works wherever GET does. OPTIONS returns the methods of the path, and any other method
    /// gets a 405 with the same list in `Allow` (RFC 9110 sections 9.3.2, 9.3.7 and 15.5.6).
    pub fn route(mut self, path: &str, route: Route) -> Self {
        let added = self.routes.add(path, route);
        self.note(added)
    }

    /// Lets a [`Handler`] respond to every method at a path, such as one that processes a body
    /// while it arrives.
    pub fn mount(mut self, path: &str, handler: impl Handler + 'static) -> Self {
        let added = self.routes.mount(path, Arc::new(handler));
        self.note(added)
    }

    /// Serves the files below `root` at paths without a route, with index pages, listings, ranges,
    /// validators and compression. A path without a file gets a 404. If `root` is a single file, it
    /// is served at `/` and under its name.
    pub fn files(mut self, root: impl Into<PathBuf>) -> Self {
        self.files = Some(root.into());
        self
    }

    /// Lets a [`Handler`] respond at paths without a route. The default is a 404. Together with
    /// [`Builder::files`] it is an error, because both apply to the same paths.
    pub fn fallback(mut self, handler: impl Handler + 'static) -> Self {
        self.fallback = Some(Arc::new(handler));
        self
    }

    /// Serves `ok` at `/_whirligig/health`, which never requires a password.
    pub fn health(mut self) -> Self {
        self.config.health = true;
        self
    }

    /// Serves metrics for Prometheus at `/_whirligig/metrics`.
    pub fn metrics(mut self) -> Self {
        self.config.metrics = Some(true);
        self
    }

    /// Shows the running loop at `/_whirligig/loop` and lists requests at `/_whirligig/requests`,
    /// for every client that can reach the server. Only the reactor model has a loop. Costs nothing
    /// while nobody looks.
    pub fn loop_page(mut self) -> Self {
        self.config.loop_page = Some(true);
        self
    }
}

/// Methods for settings around the content.
impl Builder {
    /// Requires a user name and a password at `path` and below (RFC 7617); `/` protects everything.
    /// The path is written as in a URL: it begins with a slash, and `%20` is a space. Repeatable.
    pub fn auth(self, path: &str, user: &str, password: &str) -> Self {
        // RFC 7617 section 2: the password begins after the first colon.
        let fits =
            if user.contains(':') { Err(format!("user '{user}': a name has no colon")) } else { Ok(()) };
        let users = AuthUsers::One { user: user.to_owned(), password: password.to_owned() };
        self.note(fits).protect(path, users)
    }

    /// Requires a user name and a password from a file made by `htpasswd -B` (bcrypt only), at
    /// `path` and below. Repeatable.
    pub fn htpasswd(self, path: &str, file: impl Into<PathBuf>) -> Self {
        self.protect(path, AuthUsers::File(file.into()))
    }

    /// Adds an authentication rule. A path that no request can have is an error, because it would
    /// protect nothing.
    fn protect(mut self, path: &str, users: AuthUsers) -> Self {
        let rule = parse_auth_path(path).map(|path| AuthRule { path, users });
        let added = rule.map(|rule| self.config.site.auth.push(rule));
        self.note(added.map_err(|why| format!("a password at '{path}': {why}")))
    }

    /// Sets a header of every response at paths that match `pattern`: `*` matches anything within a
    /// name, `**` anything. It replaces the server's own header, also on errors; a header that a
    /// handler sets stays. Of several rules for one name the last matching one applies.
    pub fn header(self, pattern: &str, name: &str, value: &str) -> Self {
        self.rule(pattern, name, value, HeaderScope::All)
    }

    /// Sets the media type of files with this extension, with any parameters: `("log",
    /// "text/plain")`. Text without a charset gets UTF-8, unless it declares another one.
    pub fn media_type(mut self, extension: &str, media_type: &str) -> Self {
        let added = type_rule(extension, media_type).map(|rule| self.config.files.types.push(rule));
        self.note(added)
    }

    /// Sets the name of the site on listings and error pages. Any text; it is escaped.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.config.files.title = Some(title.into());
        self
    }

    /// Sends these files for a folder: the first one that exists. Default: `index.html`.
    pub fn index<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Result<Vec<_>, _> = names
            .into_iter()
            .map(|name| parse_index(name).map_err(|why| format!("the index file '{name}': {why}")))
            .collect();
        let set = names.map(|names| self.config.files.index = names);
        self.note(set)
    }

    /// Sets `Cache-Control` at paths that match `pattern`, except on errors. A `no-store` of the
    /// server stays.
    pub fn cache_control(self, pattern: &str, value: &str) -> Self {
        self.rule(pattern, "Cache-Control", value, HeaderScope::Found)
    }

    fn rule(mut self, pattern: &str, name: &str, value: &str, scope: HeaderScope) -> Self {
        let added = header_rule(pattern, name, value, scope).map(|rule| self.config.files.headers.push(rule));
        self.note(added)
    }

    /// Adds a name of this server: `nas.lan`, `.example.org` for that name and all names below it,
    /// or `any`. Repeatable. On loopback addresses or Unix sockets, a server otherwise serves
    /// listings, archives and metrics only to requests for an address or `localhost`, because any
    /// site can use another name (DNS rebinding). Your own routes are not affected.
    pub fn allow_host(mut self, name: &str) -> Self {
        let added = parse_allowed_host(name).map(|name| self.config.site.allow_hosts.push(name));
        self.note(added.map_err(|why| format!("the host '{name}': {why}")))
    }

    /// Lets pages of this origin read responses (WHATWG Fetch section 3.3) and write to upload
    /// folders. With `*`, all pages may read. Repeatable.
    pub fn cors(mut self, origin: &str) -> Self {
        let added = parse_origin(origin).map(|origin| self.config.site.cors.push(origin));
        self.note(added)
    }

    /// Wraps your own handler around everything. It receives each request first and decides which
    /// ones to pass on. The last one is outermost. To set headers on responses that are produced
    /// later, use [`Context::set_header`](crate::handler::Context::set_header).
    pub fn wrap<H: Handler + 'static>(mut self, wrap: impl FnOnce(Arc<dyn Handler>) -> H + 'static) -> Self {
        self.wrappers.push(Box::new(|inner| Arc::new(wrap(inner))));
        self
    }

    /// Changes the limits; [`Limits`] has every unit, default and reason.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.config.limits);
        self
    }

    /// Changes the timeouts; [`Timeouts`] has every default and reason.
    pub fn timeouts(mut self, change: impl FnOnce(&mut Timeouts)) -> Self {
        change(&mut self.config.timeouts);
        self
    }

    /// Changes how files are served. [`FileOptions::uploads`] lists the folders that accept
    /// uploads. An upload may have [`UPLOAD_BYTES_MAX`] bytes unless [`Limits::upload_bytes_max`]
    /// is set.
    pub fn file_options(mut self, change: impl FnOnce(&mut FileOptions)) -> Self {
        change(&mut self.config.files);
        self
    }
}

/// Methods for running the server.
impl Builder {
    /// Selects the model: one poll loop ([`Model::Reactor`], the default), or one thread per
    /// connection.
    pub fn model(mut self, model: Model) -> Self {
        self.config.model = model;
        self
    }

    /// Sets the number of loops that share the port, one thread each. A good value is one per
    /// processor. Default: 1.
    pub fn reactors(mut self, loops: usize) -> Self {
        self.config.reactors = loops.max(1);
        self
    }

    /// Writes one line per request to a file or to standard output. The log is opened when the
    /// server runs and reopened on SIGHUP. A separate thread writes it; lines that the disk cannot
    /// keep up with are dropped and counted. Default: none.
    pub fn access_log(mut self, target: LogTarget, format: LogFormat) -> Self {
        (self.config.access_log, self.config.log_format) = (Some(target), format);
        self
    }

    /// Measures the time of each activity of a loop (`whirligig_activity_seconds_total` in the
    /// metrics) and logs a line per turn, or also per step, at level `trace`. Costs two reads of
    /// the clock per activity. Default: [`TurnLines::Off`].
    pub fn turn_lines(mut self, lines: TurnLines) -> Self {
        self.config.turn_lines = lines;
        self
    }

    /// Sets whether the server takes over SIGINT, SIGTERM and SIGHUP while it runs. Default: yes.
    pub fn signals(mut self, takes: bool) -> Self {
        self.takes_signals = takes;
        self
    }

    /// Listens on `addr`: `127.0.0.1:8080`, `[::1]:0`, or `unix:/path/of/a/socket`. Port 0 selects
    /// any free port, which [`Server::local_addr`] returns. `[::]` accepts IPv4 as well.
    ///
    /// # Errors
    /// If the address cannot be bound, the folder cannot be opened, or an earlier call was invalid.
    pub fn bind(mut self, addr: impl AsRef<str>) -> Result<Server, BindError> {
        if let Some(error) = self.first_error.take() {
            return Err(BindError::Site(error));
        }
        if let (Some(_), Some(_)) = (&self.files, &self.fallback) {
            let why = "files and a fallback both apply to paths without a route: leave one out, or mount it at a path";
            return Err(BindError::Site(why.into()));
        }
        self.config.binds = vec![parse_bind(addr.as_ref())?];
        check_uploads(&self.config.files.uploads, self.files.is_some()).map_err(BindError::Site)?;
        upload::rights::check_rules(&self.config.files.uploads, &self.config.files.upload_rights)
            .map_err(|why| BindError::Site(format!("upload rights {why}")))?;
        if !self.config.files.uploads.is_empty() && self.config.limits.upload_bytes_max == 0 {
            self.config.limits.upload_bytes_max = UPLOAD_BYTES_MAX;
        }
        let docroot = match self.files.take() {
            Some(root) => {
                self.config.root = root;
                crate::server::check_links(&self.config).map_err(BindError::Site)?;
                crate::server::warn_of_links(&self.config);
                let (root, options) = (&self.config.root, self.config.files.clone());
                let docroot = Docroot::open(root, options).map_err(BindError::Root)?;
                Some(docroot)
            }
            None => None,
        };
        let takes_signals = self.takes_signals;
        let config = self.config.clone();
        let mut server = Server::open(config, |site, views| {
            let docroot = docroot.map(|docroot| site.protect(docroot));
            docroot.as_ref().map_or(Ok(()), Docroot::check_only).map_err(BindError::Root)?;
            let files = docroot
                .map(|docroot| StaticFiles::of(Arc::new(Root::of(Arc::new(docroot))), site.listings()));
            self.handler(files, site, views).map(Content::Own).map_err(BindError::Site)
        })?;
        server.takes_signals = takes_signals;
        Ok(server)
    }

    /// Returns the routes, including those of the server itself, inside all wrappers.
    fn handler(
        mut self,
        files: Option<StaticFiles>,
        site: &Site,
        views: &Views,
    ) -> Result<Arc<dyn Handler>, String> {
        let roots = files.iter().map(|files| Arc::clone(files.root())).collect();
        let fallback = files.map(|files| with_uploads(site, files)).or(self.fallback);
        if let Some(fallback) = fallback {
            self.routes.set_fallback(fallback);
        }
        let gated = |router: Router| -> Arc<dyn Handler> {
            let for_known = |inner| check_host(site.names(), EnabledBy::Operator, inner);
            Arc::new(Router::new().routes_of(router, for_known))
        };
        if self.config.health {
            self.routes.mount(api::HEALTH, Arc::new(api::health(Router::new())))?;
        }
        if self.config.metrics == Some(true) {
            self.routes.mount(metrics::PATH, gated(metrics::route(Router::new(), &views.metrics)))?;
        }
        if self.config.loop_page == Some(true) {
            let router = gated(loop_page::routes(Router::new(), &views.loops, Audience::Everyone));
            for path in loop_page::PATHS {
                self.routes.mount(path, Arc::clone(&router))?;
            }
        }
        if self.config.files.live_reload {
            let router = gated(live::routes(Router::new(), roots));
            self.routes.mount(live::EVENTS, Arc::clone(&router))?;
            self.routes.mount(live::SCRIPT, router)?;
        }
        let routes: Arc<dyn Handler> = Arc::new(self.routes);
        Ok(self.wrappers.into_iter().fold(routes, |inner, wrap| wrap(inner)))
    }

    fn note(mut self, added: Result<(), String>) -> Self {
        if let (Err(why), None) = (added, &self.first_error) {
            self.first_error = Some(why);
        }
        self
    }
}

/// Returns the handler for files, with uploads if any folder accepts them.
fn with_uploads(site: &Site, files: StaticFiles) -> Arc<dyn Handler> {
    let Some(uploads) = site.uploads() else { return Arc::new(files) };
    let root = Arc::clone(files.root());
    let root_of: upload::RootOf = Box::new(move |_| Arc::clone(&root));
    Arc::new(upload::wrap(uploads, root_of, site.names(), Arc::new(files)))
}

/// Checks that requests can reach each upload folder. An unreachable folder would silently accept
/// nothing.
fn check_uploads(areas: &[String], has_files: bool) -> Result<(), String> {
    for area in areas {
        let mut written = Vec::new();
        encode_path(area.as_bytes(), &mut written);
        let written = if written.is_empty() { "/".into() } else { String::from_utf8_lossy(&written) };
        match upload::destination::parse_upload_path(&written) {
            Err(why) => return Err(format!("uploads to '{area}': {why}")),
            Ok(path) if path != *area => return Err(format!("uploads to '{area}': write it as '{path}'")),
            Ok(_) if !has_files => return Err(format!("uploads to '{area}': no folder is served")),
            Ok(_) => {}
        }
    }
    Ok(())
}

fn parse_bind(addr: &str) -> Result<Bind, BindError> {
    if let Some(path) = addr.strip_prefix("unix:") {
        return Ok(Bind::Unix(path.into()));
    }
    let parsed: SocketAddr = addr.parse().map_err(|_| {
        BindError::Site(format!("'{addr}' is not an address with a port, such as 127.0.0.1:8080"))
    })?;
    Ok(Bind::Ip(parsed.ip(), Some(parsed.port())))
}
