//! The server as a value that is put together: routes, folders, and what stands around them.
//!
//! Everything here ends up in a [`Config`] or in [`Routes`]; it must not know how either is carried out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{BindError, Content, Server};
use crate::call::Call;
use crate::config::{AuthRule, AuthUsers, Bind, Config, FieldRule, FileOptions, Limits, Model, Timeouts};
use crate::files::{Docroot, StaticFiles};
use crate::handler::{Answer, Handler, Router};
use crate::routes::{Route, Routes};
use crate::{api, live, metrics};

type Wrapper = Box<dyn FnOnce(Arc<dyn Handler>) -> Arc<dyn Handler>>;

/// Puts a [`Server`] together. Nothing is opened before [`Builder::bind`], which also reports what was wrong before.
///
/// ```
/// use std::time::Duration;
/// use whirligig::{Model, Response, Route, Server};
///
/// let server = Server::builder()
///     .get("/", |_| Response::html("<p>It turns."))
///     .post("/upper", |call| Ok::<_, whirligig::Refusal>(call.text()?.to_uppercase()))
///     .route("/items/{id}", Route::new().get(|call| format!("item {}", call.param("id"))).blocking())
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

    /// A path and what is done there. In it `{name}` stands for one segment, and `{name*}` at its end for all that
    /// follows; [`Call::param`] tells what that was. What is spelled out beats `{name}`, and that beats `{name*}`.
    ///
    /// HEAD is answered wherever GET is; OPTIONS says what there is, and any other method gets 405 with the same list
    /// in `Allow` (RFC 9110 sections 9.3.2, 9.3.7 and 15.5.6).
    pub fn route(mut self, path: &str, route: Route) -> Self {
        let added = self.routes.add(path, route);
        self.note(added)
    }

    /// Has a [`Handler`] answer every method at a path, e.g. one that takes content while it comes.
    pub fn mount(mut self, path: &str, handler: impl Handler + 'static) -> Self {
        let added = self.routes.mount(path, Arc::new(handler));
        self.note(added)
    }

    /// Serves the files below `root` where no route is: index pages, listings, ranges, validators, compression.
    pub fn files(mut self, root: impl Into<PathBuf>) -> Self {
        self.files = Some(root.into());
        self
    }

    /// Has a [`Handler`] answer where neither a route nor, without [`Builder::files`], a file is. Else: 404.
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
    /// Asks for a name and a password at `path` and below (RFC 7617); `/` is everywhere. Repeatable.
    pub fn auth(mut self, path: &str, user: &str, password: &str) -> Self {
        let users = AuthUsers::One { user: user.to_owned(), password: password.to_owned() };
        self.config.site.auth.push(AuthRule { path: path.trim_end_matches('/').to_owned(), users });
        self
    }

    /// The same with the users of a file made by `htpasswd -B` (bcrypt only).
    pub fn htpasswd(mut self, path: &str, file: impl Into<PathBuf>) -> Self {
        let users = AuthUsers::File(file.into());
        self.config.site.auth.push(AuthRule { path: path.trim_end_matches('/').to_owned(), users });
        self
    }

    /// Says a field on every answer at paths like `pattern`: `*` is anything within a name, `**` anything. Of several
    /// for one name the last that fits counts.
    pub fn header(mut self, pattern: &str, name: &str, value: &str) -> Self {
        let (pattern, name, value) = (pattern.to_owned(), name.to_owned(), value.to_owned());
        self.config.files.fields.push(FieldRule { pattern, name, value });
        self
    }

    /// Lets pages of this origin read answers (WHATWG Fetch section 3.3); `*` is all of them. Repeatable.
    pub fn cors(mut self, origin: &str) -> Self {
        self.config.site.cors.push(origin.to_owned());
        self
    }

    /// Puts a handler of your own around everything: it sees each request first, and passes on what it likes. The
    /// last one is outermost. [`Context::add_field`](crate::handler::Context::add_field) reaches answers that come later.
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

    /// Changes how files are served.
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

    /// So many loops share the port, each on a thread of its own; one a processor is a good number. Default: 1.
    pub fn reactors(mut self, loops: usize) -> Self {
        self.config.reactors = loops.max(1);
        self
    }

    /// Whether SIGINT, SIGTERM and SIGHUP are taken over while it runs. Default: yes.
    pub fn signals(mut self, takes: bool) -> Self {
        self.takes_signals = takes;
        self
    }

    /// Listens on `addr`: `127.0.0.1:8080`, `[::1]:0`, or `unix:/path/of/a/socket`. Port 0 is any free one, and
    /// [`Server::local_addr`] tells which. `[::]` takes IPv4, too.
    ///
    /// # Errors
    /// When the address cannot be had, the folder cannot be opened, or something before this call made no sense.
    pub fn bind(mut self, addr: impl AsRef<str>) -> Result<Server, BindError> {
        let addr = addr.as_ref();
        let bind = match addr.strip_prefix("unix:") {
            Some(path) => Bind::Unix(path.into()),
            None => {
                let parsed: SocketAddr = addr.parse().map_err(|_| {
                    BindError::Site(format!("'{addr}' is no address with a port, like 127.0.0.1:8080"))
                })?;
                Bind::Ip(parsed.ip(), Some(parsed.port()))
            }
        };
        if let Some(trouble) = self.trouble.take() {
            return Err(BindError::Site(trouble));
        }
        self.config.binds = vec![bind];
        let Builder { mut config, mut routes, files, fallback, wrappers, takes_signals, .. } = self;
        let docroot = match files {
            Some(root) => {
                config.root = root;
                Some(Docroot::open(&config.root, config.files.clone()).map_err(BindError::Root)?)
            }
            None => None,
        };
        let has_health = config.health;
        let watched = config.files.live_reload.then(|| config.root.clone());
        let has_metrics = config.metrics == Some(true);
        let mut server = Server::open(config, |site, counted| {
            let taken = |why| BindError::Site(why);
            match (docroot, fallback) {
                (Some(docroot), _) => {
                    routes.set_fallback(Arc::new(StaticFiles::new(Arc::new(docroot.guarded(site.guard())))));
                }
                (None, Some(handler)) => routes.set_fallback(handler),
                (None, None) => {}
            }
            if has_health {
                routes.mount(api::HEALTH, Arc::new(api::health(Router::new()))).map_err(taken)?;
            }
            if has_metrics {
                let page = metrics::route(Router::new(), counted);
                routes.mount(metrics::PATH, Arc::new(page)).map_err(taken)?;
            }
            if let Some(root) = watched {
                let router = Arc::new(live::routes(Router::new(), &[root]));
                routes.mount(live::EVENTS, Arc::clone(&router) as Arc<dyn Handler>).map_err(taken)?;
                routes.mount(live::SCRIPT, router).map_err(taken)?;
            }
            let wrapped =
                wrappers.into_iter().fold(Arc::new(routes) as Arc<dyn Handler>, |inner, wrap| wrap(inner));
            Ok(Content::Own(wrapped))
        })?;
        server.takes_signals = takes_signals;
        Ok(server)
    }

    fn note(mut self, added: Result<(), String>) -> Self {
        if let (Err(why), None) = (added, &self.trouble) {
            self.trouble = Some(why);
        }
        self
    }
}
