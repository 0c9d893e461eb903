//! From a configuration to a running server: listeners bound, handler put together, one of the two
//! models run.
//!
//! It must not know flags (`cli/mod.rs`) nor how either model works inside.

mod addresses;
mod builder;
pub mod chain;
mod descriptors;
mod handle;
mod listen;
mod run;
mod socket_file;
mod stop;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::clock::read_clocks;
use crate::config::{Bind, Config, LOG_FLUSH_MAX, Model, Symlinks};
use crate::docroot;
use crate::docroot::root::Root;
use crate::docroot::{Docroot, location};
use crate::driver::outcome::Outcome;
use crate::driver::signals::Signals;
use crate::features::cgi::Scripts;
use crate::features::metrics::Metrics;
use crate::features::names::{Because, gate};
use crate::features::{api, cgi, live, metrics};
use crate::files::StaticFiles;
use crate::handler::spool::Spool;
use crate::handler::{Handler, Router};
use crate::log::{LogQueue, open_access_log};
use crate::observe::{LoopTally, Stopwatch};
use crate::server::chain::Site;

pub use builder::Builder;
pub use handle::Handle;
pub use listen::BindError;
use listen::{Bound, listen};

/// A server that has its addresses and is ready to run: made by [`Server::builder`], or from a
/// whole [`Config`].
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    listeners: Vec<Bound>,
    content: Content,
    site: Site,
    scripts: Option<Arc<Scripts>>,
    metrics: Arc<Metrics>,
    handle: Handle,
    takes_signals: bool,
    /// Those that were taken over before the loops that will receive them exist.
    signals: VecDeque<Signals>,
}

/// What answers.
enum Content {
    /// A folder, and the simple data: the program.
    Folder(Arc<Root>),
    /// Routes of the library's user.
    Own(Arc<dyn Handler>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Content::Folder(_) => "Folder",
            Content::Own(_) => "Own",
        })
    }
}

impl Server {
    /// Opens the docroot and binds every address: the program as a value. Nothing is served yet.
    ///
    /// # Errors
    /// When the folder cannot be opened, a file that the configuration names is not in order, or an
    /// address cannot be had.
    pub fn bind(mut config: Config) -> Result<Self, BindError> {
        config.files.withheld.extend(cgi::folders(&config).map_err(BindError::Site)?);
        check_links(&config).map_err(BindError::Site)?;
        let docroot = Docroot::open(&config.root, config.files.clone()).map_err(BindError::Root)?;
        Server::open(config, |site, _| {
            Ok(Content::Folder(Arc::new(Root::of(Arc::new(site.protect(docroot))))))
        })
    }

    /// The same around any content; that is made last but for the sockets.
    fn open(
        mut config: Config,
        content: impl FnOnce(&Site, &Arc<Metrics>) -> Result<Content, BindError>,
    ) -> Result<Self, BindError> {
        descriptors::bound(&mut config);
        let site = Site::open(&config).map_err(BindError::Site)?;
        let metrics = Arc::new(Metrics::new(config.model, read_clocks().wall));
        let content = content(&site, &metrics)?;
        let listeners: Vec<Bound> =
            config.binds.iter().map(|bind| listen(bind, &config)).collect::<Result<_, _>>()?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(Bound::addr).collect();
        let scripts = Scripts::open(&config, &addresses).map_err(BindError::Site)?;
        let config = Arc::new(config);
        let handle = Handle::default();
        Ok(Server {
            config,
            listeners,
            content,
            site,
            scripts,
            metrics,
            handle,
            takes_signals: true,
            signals: VecDeque::new(),
        })
    }

    /// What stops it from another thread. Take it before [`Server::run`].
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The first IP address it listens on, with the port that was found.
    ///
    /// # Errors
    /// When it listens on Unix sockets only.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.listeners.iter().find_map(|bound| match bound {
            Bound::Tcp(_, addr) => Some(*addr),
            Bound::Unix(..) => None,
        });
        addr.ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no IP address"))
    }

    /// Takes the signals over at once and not only in [`Server::run`]: one that comes in between is
    /// then obeyed when the server runs. Does nothing if [`Builder::signals`] left them to others.
    ///
    /// # Errors
    /// When the sockets that signals come through cannot be had.
    pub fn take_signals(&mut self) -> io::Result<()> {
        while self.signals.len() < self.config.loops() {
            let signals = self.install_signals(self.signals.is_empty())?;
            self.signals.push_back(signals);
        }
        Ok(())
    }

    /// What this server counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The URLs at which it is reached. An unspecified address, such as 0.0.0.0, has several: first
    /// that of this machine, then those that other machines can use.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.listeners.iter().flat_map(Bound::urls).collect()
    }

    /// Whether the default port was taken, so that another one is used.
    #[must_use]
    pub fn gave_way(&self) -> bool {
        self.config.binds.iter().zip(&self.listeners).any(|(bind, bound)| match (bind, bound) {
            (Bind::Ip(_, None), Bound::Tcp(_, addr)) => {
                self.config.port != 0 && addr.port() != self.config.port
            }
            (Bind::Ip(_, Some(_)) | Bind::Unix(_), _) | (_, Bound::Unix(..)) => false,
        })
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Routes of the library's user; or the binary's, the simple data where it is wanted and files
    /// everywhere else.
    fn inner_handler(&self) -> Arc<dyn Handler> {
        let root = match &self.content {
            Content::Own(own) => return Arc::clone(own),
            Content::Folder(root) => root,
        };
        let files = StaticFiles::of(Arc::clone(root));
        let is_private = self.config.is_private();
        let wanted = self
            .config
            .api
            .unwrap_or_else(|| is_private && !(root.current().has("api") || self.site.has("api")));
        let names = self.site.names();
        let because = |asked: Option<bool>, flag| match asked {
            Some(_) => Because::Asked,
            None => Because::Private { flag },
        };
        let mut router = Router::new();
        if wanted {
            let spool = Arc::new(Spool::of(&self.config));
            let because = because(self.config.api, "--api");
            router =
                router.routes_of(api::routes(Router::new(), &spool), |inner| gate(names, because, inner));
        }
        if self.config.health {
            router = api::health(router);
        }
        if self.config.metrics.unwrap_or(is_private) {
            let because = because(self.config.metrics, "--metrics");
            let page = metrics::route(Router::new(), &self.metrics);
            router = router.routes_of(page, |inner| gate(names, because, inner));
        }
        if self.config.files.live_reload {
            let roots = std::iter::once(root).chain(self.site.roots()).cloned().collect();
            let script = live::routes(Router::new(), roots);
            router = router.routes_of(script, |inner| gate(names, Because::Asked, inner));
        }
        Arc::new(self.site.with_files(router, files))
    }

    /// The whole of what answers: the content, programs in front of it, and around both what the
    /// site asks for.
    fn handler(&self) -> Arc<dyn Handler> {
        if matches!(self.content, Content::Folder(_)) {
            warn_of_links(&self.config);
        }
        self.warn_of_uploads();
        self.warn_of_root();
        let mut handler = self.inner_handler();
        if let Some(scripts) = &self.scripts {
            handler = cgi::around(scripts, handler);
        }
        handler = self.site.around(handler);
        if self.config.files.live_reload {
            handler = live::around(handler);
        }
        if let Some(scripts) = &self.scripts {
            scripts.answer_through(&handler);
        }
        handler
    }

    /// Says so where strangers may write, and where nobody can.
    fn warn_of_uploads(&self) {
        let is_private = self.config.is_private();
        for area in &self.config.files.uploads {
            let is_there = |root: &std::path::Path| root.join(area.trim_start_matches('/')).is_dir();
            if !self.config.roots().any(is_there) {
                log::warn!("--upload {area}: there is no such folder; it can be made while the server runs");
            }
            if !is_private && !self.site.is_write_protected(&[area.as_bytes(), b"/"].concat()) {
                log::warn!(
                    "everybody who reaches this server can write to {area}/; --write-auth takes a password"
                );
            }
        }
    }

    /// Logs a line if clients reach more than files of a server that may do anything.
    fn warn_of_root(&self) {
        let takes_uploads = !self.config.files.uploads.is_empty();
        let risks = match (self.scripts.is_some(), takes_uploads) {
            (true, true) => "runs programs and takes uploads",
            (true, false) => "runs programs",
            (false, true) => "takes uploads",
            (false, false) => return,
        };
        if rustix::process::geteuid().is_root() {
            log::warn!("the server {risks} as root; start it as a user with fewer rights");
        }
    }

    /// Serves until its [`Handle`], SIGINT or SIGTERM stops it; takes those signals over unless it
    /// was told not to ([`Builder::signals`]). Returns when the last client is served, or says how
    /// many were cut off. Writes the access log that its configuration names.
    ///
    /// # Errors
    /// When the poll, the threads that it needs or the access log cannot be had.
    pub fn run(self) -> io::Result<Outcome> {
        let Some(target) = &self.config.access_log else { return self.run_logged(None) };
        let log = LogQueue::new(Some(open_access_log(target)?));
        let _flushed_at_end = log.flush_at_end(LOG_FLUSH_MAX);
        self.run_logged(Some(&log))
    }

    /// The same with somebody to write the access log, who may write diagnostics, too.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn run_logged(self, log: Option<&LogQueue>) -> io::Result<Outcome> {
        if let Some(log) = log {
            self.metrics.watch_log(log.clone());
            let own = Arc::clone(self.site.own_files());
            log.after_reopen(Box::new(move || own.take_again()));
        }
        // The access log and the sockets exist by now.
        self.site.own_files().take_again();
        let (scripts, uploads) = (self.scripts.clone(), self.site.uploads().cloned());
        let outcome = match self.config.model {
            Model::Threads => self.run_threads(log),
            Model::Reactor if self.config.turn_lines => self.run_reactor::<Stopwatch>(log),
            Model::Reactor => self.run_reactor::<LoopTally>(log),
        };
        // Whoever was cut off, what ran for him is not to go on without a server.
        if let Some(scripts) = scripts {
            scripts.end_all();
        }
        if let Some(uploads) = uploads {
            uploads.give_all_up();
        }
        outcome
    }
}

/// Refuses to follow links anywhere where the places of open files cannot be read.
fn check_links(config: &Config) -> Result<(), String> {
    docroot::links_followed(config.files.symlinks, location::is_reported()).map(drop).map_err(str::to_owned)
}

/// Logs that links are not followed although they would be elsewhere.
fn warn_of_links(config: &Config) {
    if config.files.symlinks != Symlinks::No && !location::is_reported() {
        log::warn!("/proc/self/fd cannot be read, so no symbolic link is followed, as with --symlinks no");
    }
}
