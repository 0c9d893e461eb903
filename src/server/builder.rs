//! The server as a value that is put together: routes, folders, and what stands around them.
//!
//! Everything here ends up in a [`Config`] or in [`Routes`]; it must not know how either is carried
//! out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::app::call::Call;
use crate::app::routes::{Route, Routes};
use crate::config::{
    AuthRule, AuthUsers, Bind, Config, FieldScope, FileOptions, Limits, LogFormat, LogTarget, Model,
    Timeouts, UPLOAD_BYTES_MAX,
};
use crate::docroot::Docroot;
use crate::docroot::types::type_rule;
use crate::features::auth::rule::parse_auth_path;
use crate::features::cors::parse_origin;
use crate::features::headers::rule as field_rule;
use crate::features::metrics::Metrics;
use crate::features::names::{Because, gate, parse_allowed_host};
use crate::features::{api, live, metrics, upload};
use crate::files::StaticFiles;
use crate::handler::{Answer, Handler, Router};
use crate::http::target::encode_path;
use crate::server::chain::Site;
use crate::server::listen::BindError;
use crate::server::{Content, Server};

type Wrapper = Box<dyn FnOnce(Arc<dyn Handler>) -> Arc<dyn Handler>>;

/// Puts a [`Server`] together. Nothing is opened before [`Builder::bind`], which also reports what
/// was wrong before.
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
/// # Ok::<(), whirligig::server::BindError>(())
/// ```
#[must_use]
pub struct Builder {
    config: Config,
    routes: Routes,
    files: Option<PathBuf>,
    fallback: Option<Arc<dyn Handler>>,
    wrappers: Vec<Wrapper>,
    takes_signals: bool,
    /// The first thing that was wrong.
    trouble: Option<String>,
}

impl Server {
    /// Begins a server: routes, folders and what stands around them, then [`Builder::bind`].
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
        let config = Config { health: false, metrics: Some(false), ..Config::default() };
        Builder {
            config,
            routes: Routes::new(),
            files: None,
            fallback: None,
            wrappers: Vec::new(),
            takes_signals: true,
            trouble: None,
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

/// What answers.
impl Builder {
    methods! {
        get = "GET";
        post = "POST";
        put = "PUT";
        delete = "DELETE";
        patch = "PATCH";
    }

    /// A path and what is done there. In it `{name}` stands for one segment, and `{name*}` at its
    /// end for all that follows; [`Call::param`] tells what that was. What is spelled out beats
    /// `{name}`, and that beats `{name*}`.
    ///
    /// HEAD is answered wherever GET is; OPTIONS says what there is, and any other method gets 405
    /// with the same list in `Allow` (RFC 9110 sections 9.3.2, 9.3.7 and 15.5.6).
    pub fn route(mut self, path: &str, route: Route) -> Self {
        let added = self.routes.add(path, route);
        self.note(added)
    }

    /// Has a [`Handler`] answer every method at a path, e.g. one that takes content while it comes.
    pub fn mount(mut self, path: &str, handler: impl Handler + 'static) -> Self {
        let added = self.routes.mount(path, Arc::new(handler));
        self.note(added)
    }

    /// Serves the files below `root` where no route is, and 404 where no file is either: index
    /// pages, listings, ranges, validators, compression.
    pub fn files(mut self, root: impl Into<PathBuf>) -> Self {
        self.files = Some(root.into());
        self
    }

    /// Has a [`Handler`] answer where no route is; without one that is a 404. [`Builder::files`]
    /// would answer there as well, so to have both is an error.
    pub fn fallback(mut self, handler: impl Handler + 'static) -> Self {
        self.fallback = Some(Arc::new(handler));
        self
    }

    /// Answers `ok` at `/_whirligig/health`, without a password whatever else needs one.
    pub fn health(mut self) -> Self {
        self.config.health = true;
        self
    }

    /// Serves counters for Prometheus at `/_whirligig/metrics`.
    pub fn metrics(mut self) -> Self {
        self.config.metrics = Some(true);
        self
    }
}

/// What stands around it.
impl Builder {
    /// Asks for a name and a password at `path` and below (RFC 7617); `/` is everywhere. The path
    /// is written as in a URL: it begins with a slash, and `%20` is a space. Repeatable.
    pub fn auth(self, path: &str, user: &str, password: &str) -> Self {
        // RFC 7617 section 2: the first colon is where the password begins.
        let fits =
            if user.contains(':') { Err(format!("user '{user}': a name has no colon")) } else { Ok(()) };
        let users = AuthUsers::One { user: user.to_owned(), password: password.to_owned() };
        self.note(fits).protect(path, users)
    }

    /// The same with the users of a file made by `htpasswd -B` (bcrypt only).
    pub fn htpasswd(self, path: &str, file: impl Into<PathBuf>) -> Self {
        self.protect(path, AuthUsers::File(file.into()))
    }

    /// A path that no request can have would protect nothing, and nobody would notice: it is an
    /// error.
    fn protect(mut self, path: &str, users: AuthUsers) -> Self {
        let rule = parse_auth_path(path).map(|path| AuthRule { path, users });
        let added = rule.map(|rule| self.config.site.auth.push(rule));
        self.note(added.map_err(|why| format!("a password at '{path}': {why}")))
    }

    /// Sets a header of every response at paths like `pattern`: `*` is anything within a name, `**`
    /// anything. Replaces the server's own header, errors included; a header that a handler sets
    /// itself stays. Of several rules for one name the last that fits counts.
    pub fn header(self, pattern: &str, name: &str, value: &str) -> Self {
        self.rule(pattern, name, value, FieldScope::All)
    }

    /// Sets the media type of files with this extension, with parameters if any: `("log",
    /// "text/plain")`. Text without a charset gets UTF-8, unless it declares another one.
    pub fn media_type(mut self, extension: &str, media_type: &str) -> Self {
        let added = type_rule(extension, media_type).map(|rule| self.config.files.types.push(rule));
        self.note(added)
    }

    /// Sets `Cache-Control` of responses that are no errors, at paths like `pattern`. A `no-store`
    /// of the server stays.
    pub fn cache_control(self, pattern: &str, value: &str) -> Self {
        self.rule(pattern, "Cache-Control", value, FieldScope::Found)
    }

    fn rule(mut self, pattern: &str, name: &str, value: &str, scope: FieldScope) -> Self {
        let added = field_rule(pattern, name, value, scope).map(|rule| self.config.files.fields.push(rule));
        self.note(added)
    }

    /// Makes a name known to this server: `nas.lan`, `.example.org` for that name and all names
    /// below it, or `any`. Repeatable. A server on loopback addresses or Unix sockets otherwise
    /// gives listings, archives and metrics only to requests for an address or `localhost`, because
    /// another name may be that of any site (DNS rebinding). The routes of your own are not
    /// affected.
    pub fn allow_host(mut self, name: &str) -> Self {
        let added = parse_allowed_host(name).map(|name| self.config.site.allow_hosts.push(name));
        self.note(added.map_err(|why| format!("the host '{name}': {why}")))
    }

    /// Lets pages of this origin read responses (WHATWG Fetch section 3.3), and write in folders
    /// that take uploads; with `*`, all pages may read. Repeatable.
    pub fn cors(mut self, origin: &str) -> Self {
        let added = parse_origin(origin).map(|origin| self.config.site.cors.push(origin));
        self.note(added)
    }

    /// Puts a handler of your own around everything: it sees each request first, and passes on what
    /// it likes. The last one is outermost.
    /// [`Context::set_field`](crate::handler::Context::set_field) reaches answers that come later.
    pub fn wrap<H: Handler + 'static>(mut self, wrap: impl FnOnce(Arc<dyn Handler>) -> H + 'static) -> Self {
        self.wrappers.push(Box::new(|inner| Arc::new(wrap(inner))));
        self
    }

    /// Changes what a peer may cost; [`Limits`] has every unit, default and reason.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.config.limits);
        self
    }

    /// Changes how long things may take; [`Timeouts`] has every default and reason.
    pub fn timeouts(mut self, change: impl FnOnce(&mut Timeouts)) -> Self {
        change(&mut self.config.timeouts);
        self
    }

    /// Changes how files are served; with [`FileOptions::uploads`], which folders may be written.
    /// Of one upload [`UPLOAD_BYTES_MAX`] are taken unless [`Limits::upload_bytes_max`] says
    /// otherwise.
    pub fn file_options(mut self, change: impl FnOnce(&mut FileOptions)) -> Self {
        change(&mut self.config.files);
        self
    }
}

/// How it runs.
impl Builder {
    /// One poll loop for all ([`Model::Reactor`], the default), or a thread for each connection.
    pub fn model(mut self, model: Model) -> Self {
        self.config.model = model;
        self
    }

    /// So many loops share the port, each on a thread of its own; one a processor is a good number.
    /// Default: 1.
    pub fn reactors(mut self, loops: usize) -> Self {
        self.config.reactors = loops.max(1);
        self
    }

    /// Writes a line about each request, to a file or to standard output. It is opened when the
    /// server runs and anew on SIGHUP; a thread of its own writes, and lines that the disk cannot
    /// keep up with are dropped and counted. Default: none.
    pub fn access_log(mut self, target: LogTarget, format: LogFormat) -> Self {
        (self.config.access_log, self.config.log_format) = (Some(target), format);
        self
    }

    /// Has each loop measure what its time goes into (`whirligig_activity_seconds_total` among the
    /// metrics), and write a line about each turn at level `trace`. Costs two looks at the clock a
    /// step. Default: no.
    pub fn turn_lines(mut self, wanted: bool) -> Self {
        self.config.turn_lines = wanted;
        self
    }

    /// Whether SIGINT, SIGTERM and SIGHUP are taken over while it runs. Default: yes.
    pub fn signals(mut self, takes: bool) -> Self {
        self.takes_signals = takes;
        self
    }

    /// Listens on `addr`: `127.0.0.1:8080`, `[::1]:0`, or `unix:/path/of/a/socket`. Port 0 is any
    /// free one, and [`Server::local_addr`] tells which. `[::]` takes IPv4, too.
    ///
    /// # Errors
    /// When the address cannot be had, the folder cannot be opened, or something before this call
    /// made no sense.
    pub fn bind(mut self, addr: impl AsRef<str>) -> Result<Server, BindError> {
        if let Some(trouble) = self.trouble.take() {
            return Err(BindError::Site(trouble));
        }
        if let (Some(_), Some(_)) = (&self.files, &self.fallback) {
            let why = "files and a fallback would both answer where no route is: leave one out, or mount it at a path";
            return Err(BindError::Site(why.into()));
        }
        self.config.binds = vec![parse_bind(addr.as_ref())?];
        check_uploads(&self.config.files.uploads, self.files.is_some()).map_err(BindError::Site)?;
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
        let mut server = Server::open(config, |site, counted| {
            let files = docroot.map(|docroot| StaticFiles::new(Arc::new(site.protect(docroot))));
            self.handler(files, site, counted).map(Content::Own).map_err(BindError::Site)
        })?;
        server.takes_signals = takes_signals;
        Ok(server)
    }

    /// The routes, with the server's own among them, and what is wrapped around.
    fn handler(
        mut self,
        files: Option<StaticFiles>,
        site: &Site,
        counted: &Arc<Metrics>,
    ) -> Result<Arc<dyn Handler>, String> {
        let roots = files.iter().map(|files| Arc::clone(files.root())).collect();
        let fallback = files.map(|files| with_uploads(site, files)).or(self.fallback);
        if let Some(fallback) = fallback {
            self.routes.set_fallback(fallback);
        }
        let gated = |router: Router| -> Arc<dyn Handler> {
            let for_known = |inner| gate(site.names(), Because::Asked, inner);
            Arc::new(Router::new().routes_of(router, for_known))
        };
        if self.config.health {
            self.routes.mount(api::HEALTH, Arc::new(api::health(Router::new())))?;
        }
        if self.config.metrics == Some(true) {
            self.routes.mount(metrics::PATH, gated(metrics::route(Router::new(), counted)))?;
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
        if let (Err(why), None) = (added, &self.trouble) {
            self.trouble = Some(why);
        }
        self
    }
}

/// The files of a folder, and uploads to it where it takes some.
fn with_uploads(site: &Site, files: StaticFiles) -> Arc<dyn Handler> {
    let Some(uploads) = site.uploads() else { return Arc::new(files) };
    let root = Arc::clone(files.root());
    let root_of: upload::RootOf = Box::new(move |_| Arc::clone(&root));
    Arc::new(upload::around(uploads, root_of, site.names(), Arc::new(files)))
}

/// A folder for uploads that no request can lead to would take none, and nobody would be told.
fn check_uploads(areas: &[String], has_files: bool) -> Result<(), String> {
    for area in areas {
        let mut written = Vec::new();
        encode_path(area.as_bytes(), &mut written);
        let written = if written.is_empty() { "/".into() } else { String::from_utf8_lossy(&written) };
        match upload::place::parse_upload_path(&written) {
            Err(why) => return Err(format!("uploads to '{area}': {why}")),
            Ok(path) if path != *area => return Err(format!("uploads to '{area}': it is written '{path}'")),
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
    let parsed: SocketAddr = addr
        .parse()
        .map_err(|_| BindError::Site(format!("'{addr}' is no address with a port, like 127.0.0.1:8080")))?;
    Ok(Bind::Ip(parsed.ip(), Some(parsed.port())))
}
