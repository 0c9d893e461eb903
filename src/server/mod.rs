//! The server: turns a configuration into listeners, a handler and one of the two models.
//!
//! This folder must not know flags (`cli/`) or the internals of either model.

mod addresses;
mod builder;
pub(crate) mod chain;
mod descriptors;
mod handle;
mod listen;
mod run;
mod socket_file;
mod stop;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::read_clocks;
use crate::config::{Bind, Config, Model, Symlinks, TurnLines};
use crate::docroot::root::Root;
use crate::docroot::{self, Docroot, location};
use crate::driver::outcome::Outcome;
use crate::driver::signals::Signals;
use crate::features::allowed_hosts::{EnabledBy, check_host};
use crate::features::cgi::{self, Scripts};
use crate::features::loop_page::{self, Audience, Loops};
use crate::features::metrics::{self, Metrics};
use crate::features::{api, live};
use crate::files::StaticFiles;
use crate::handler::spool::Spool;
use crate::handler::{Handler, Router};
use crate::log::{LogQueue, open_access_log};
use crate::observe::{Detail, LoggedSteps, LoopTally};
use crate::server::chain::Site;
use listen::{Bound, listen};

pub use builder::Builder;
pub use handle::Handle;
pub use listen::BindError;

/// A server with bound addresses, ready to run. Created by [`Server::builder`], or from a whole
/// [`Config`].
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    listeners: Vec<Bound>,
    content: Content,
    site: Site,
    scripts: Option<Arc<Scripts>>,
    views: Views,
    handle: Handle,
    takes_signals: bool,
    /// Signals that were taken over before the loops that receive them exist.
    signals: VecDeque<Signals>,
}

/// Content of the server.
enum Content {
    /// A folder and the simple-data routes, as the program serves them.
    Folder(Arc<Root>),
    /// Handler of a library user.
    Own(Arc<dyn Handler>),
}

/// The sources of the pages about the server itself.
#[derive(Debug)]
struct Views {
    metrics: Arc<Metrics>,
    loops: Arc<Loops>,
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
    /// Opens the docroot and binds every address, as the program does. Nothing is served yet.
    ///
    /// # Errors
    /// If the folder cannot be opened, a file that the configuration names is invalid, or an
    /// address cannot be bound.
    pub fn bind(mut config: Config) -> Result<Self, BindError> {
        config.files.withheld.extend(cgi::folders(&config).map_err(BindError::Site)?);
        check_links(&config).map_err(BindError::Site)?;
        let docroot = Docroot::open(&config.root, config.files.clone()).map_err(BindError::Root)?;
        Server::open(config, |site, _| {
            let docroot = site.protect(docroot);
            docroot.check_only().map_err(BindError::Root)?;
            Ok(Content::Folder(Arc::new(Root::of(Arc::new(docroot)))))
        })
    }

    /// Opens a server around `content`, which is built after everything except the sockets.
    fn open(
        mut config: Config,
        content: impl FnOnce(&Site, &Views) -> Result<Content, BindError>,
    ) -> Result<Self, BindError> {
        descriptors::bound(&mut config);
        let site = Site::open(&config).map_err(BindError::Site)?;
        let views = Views {
            metrics: Arc::new(Metrics::new(config.model, read_clocks().wall)),
            loops: Arc::new(Loops::new(config.model)),
        };
        let content = content(&site, &views)?;
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
            views,
            handle,
            takes_signals: true,
            signals: VecDeque::new(),
        })
    }

    /// Returns a handle that stops the server from another thread. Take it before [`Server::run`].
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Returns the first IP address of the server, with the actual port.
    ///
    /// # Errors
    /// If the server listens on Unix sockets only.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.listeners.iter().find_map(|bound| match bound {
            Bound::Tcp(_, addr) => Some(*addr),
            Bound::Unix(..) => None,
        });
        addr.ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "the server has no IP address"))
    }

    /// Takes over signals now and not only in [`Server::run`]. The server then obeys a signal that
    /// arrives in between when it runs. Does nothing if [`Builder::signals`] disabled it.
    ///
    /// # Errors
    /// If the sockets for signals cannot be created.
    pub fn take_signals(&mut self) -> io::Result<()> {
        while self.signals.len() < self.config.loops() {
            let signals = self.install_signals(self.signals.is_empty())?;
            self.signals.push_back(signals);
        }
        Ok(())
    }

    /// Returns the metrics of this server.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.views.metrics)
    }

    /// Returns the URLs of the server. An unspecified address such as 0.0.0.0 has several: first
    /// those for other machines, that of the local network before the rest, and last that of this
    /// machine.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.listeners.iter().flat_map(Bound::urls).collect()
    }

    /// Returns the absolute path of the folder or file that is served, links resolved. `None` if
    /// the content is a handler of the library user.
    #[must_use]
    pub fn root(&self) -> Option<PathBuf> {
        match &self.content {
            Content::Folder(root) => Some(root.current().served_path()),
            Content::Own(_) => None,
        }
    }

    /// Returns true if the default port was taken, so that the server uses another one.
    #[must_use]
    pub fn default_port_taken(&self) -> bool {
        self.config.binds.iter().zip(&self.listeners).any(|(bind, bound)| match (bind, bound) {
            (Bind::Ip(_, None), Bound::Tcp(_, addr)) => {
                self.config.port != 0 && addr.port() != self.config.port
            }
            (Bind::Ip(_, Some(_)) | Bind::Unix(_), _) | (_, Bound::Unix(..)) => false,
        })
    }

    /// Returns the configuration of the server.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the handler of the library user, or that of the program: simple data if enabled,
    /// files for everything else.
    fn inner_handler(&self) -> Arc<dyn Handler> {
        let root = match &self.content {
            Content::Own(own) => return Arc::clone(own),
            Content::Folder(root) => root,
        };
        let files = StaticFiles::of(Arc::clone(root), self.site.listings());
        let is_private = self.config.is_private();
        let wanted = self
            .config
            .api
            .unwrap_or_else(|| is_private && !(root.current().has("api") || self.site.has("api")));
        let names = self.site.names();
        let enabled_by = |asked: Option<bool>, flag| match asked {
            Some(_) => EnabledBy::Operator,
            None => EnabledBy::PrivateServer { flag },
        };
        let mut router = Router::new();
        if wanted {
            let spool = Arc::new(Spool::of(&self.config));
            let enabled_by = enabled_by(self.config.api, "--api");
            router = router
                .routes_of(api::routes(Router::new(), &spool), |inner| check_host(names, enabled_by, inner));
        }
        if self.config.health {
            router = api::health(router);
        }
        if self.config.metrics.unwrap_or(is_private) {
            let enabled_by = enabled_by(self.config.metrics, "--metrics");
            let page = metrics::route(Router::new(), &self.views.metrics);
            router = router.routes_of(page, |inner| check_host(names, enabled_by, inner));
        }
        if self.config.loop_page != Some(false) {
            let (audience, enabled_by) = match self.config.loop_page {
                Some(_) => (Audience::Everyone, EnabledBy::Operator),
                None => (Audience::ThisMachine, EnabledBy::PrivateServer { flag: "--loop-page" }),
            };
            let page = loop_page::routes(Router::new(), &self.views.loops, audience);
            router = router.routes_of(page, |inner| check_host(names, enabled_by, inner));
        }
        if self.config.files.live_reload {
            let roots = std::iter::once(root).chain(self.site.roots()).cloned().collect();
            let script = live::routes(Router::new(), roots);
            router = router.routes_of(script, |inner| check_host(names, EnabledBy::Operator, inner));
        }
        Arc::new(self.site.with_files(router, files))
    }

    /// Returns the complete handler: the content, CGI programs in front of it, and the site's
    /// wrappers around both.
    fn handler(&self) -> Arc<dyn Handler> {
        if matches!(self.content, Content::Folder(_)) {
            warn_of_links(&self.config);
        }
        self.warn_of_uploads();
        self.warn_of_root();
        let mut handler = self.inner_handler();
        if let Some(scripts) = &self.scripts {
            handler = cgi::wrap(scripts, handler);
        }
        handler = self.site.wrap(handler);
        if self.config.files.live_reload {
            handler = live::wrap(handler);
        }
        if let Some(scripts) = &self.scripts {
            scripts.redirect_through(&handler);
        }
        handler
    }

    /// Logs a warning for each upload folder that every client may write to, or that does not
    /// exist.
    fn warn_of_uploads(&self) {
        let is_private = self.config.is_private();
        for area in &self.config.files.uploads {
            let is_there = |root: &std::path::Path| root.join(area.trim_start_matches('/')).is_dir();
            if !self.config.roots().any(is_there) {
                log::warn!(
                    "--upload {area}: the folder does not exist; it can be created while the server runs"
                );
            }
            if !is_private && !self.site.is_write_protected(&[area.as_bytes(), b"/"].concat()) {
                log::warn!(
                    "every client that reaches this server can write to {area}/; --write-auth requires a password"
                );
            }
        }
    }

    /// Logs a warning if clients can run programs or upload while the server runs as root.
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

    /// Serves until its [`Handle`], SIGINT or SIGTERM stops it. Takes over those signals unless
    /// [`Builder::signals`] disabled it. Writes the access log that the configuration names.
    /// Returns when the last client is served, with the number of connections that were cut off.
    ///
    /// # Errors
    /// If the poll, a thread or the access log cannot be created.
    pub fn run(self) -> io::Result<Outcome> {
        let Some(target) = &self.config.access_log else { return self.run_logged(None) };
        let log = LogQueue::new(Some(open_access_log(target)?));
        let _flushed_at_end = log.flush_at_end();
        self.run_logged(Some(&log))
    }

    /// Serves as [`Server::run`] does, with `log` to write the access log and diagnostics.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn run_logged(self, log: Option<&LogQueue>) -> io::Result<Outcome> {
        if let Some(log) = log {
            self.views.metrics.watch_log(log.clone());
            let own = Arc::clone(self.site.own_files());
            log.after_reopen(Box::new(move || own.take_again()));
        }
        // The access log and the sockets exist at this point.
        self.site.own_files().take_again();
        let (scripts, uploads) = (self.scripts.clone(), self.site.uploads().cloned());
        let outcome = match self.config.model {
            Model::Threads => self.run_threads(log),
            Model::Reactor => match self.config.turn_lines {
                TurnLines::Off => self.run_reactor(log, LoopTally::default),
                // One type for both, because each type is one more copy of the loop.
                TurnLines::Turns => self.run_reactor(log, || LoggedSteps::of(Detail::Off)),
                TurnLines::Steps => self.run_reactor(log, || LoggedSteps::of(Detail::Operations)),
            },
        };
        // Programs of clients that were cut off must not outlive the server.
        if let Some(scripts) = scripts {
            scripts.end_all();
        }
        if let Some(uploads) = uploads {
            uploads.discard_all();
        }
        outcome
    }
}

/// Returns an error if links may lead anywhere but the kernel does not report the locations of open
/// files.
fn check_links(config: &Config) -> Result<(), String> {
    docroot::beneath::links_followed(config.files.symlinks, location::is_reported())
        .map(drop)
        .map_err(str::to_owned)
}

/// Logs a warning if symbolic links are not followed although the configuration allows them.
fn warn_of_links(config: &Config) {
    if config.files.symlinks != Symlinks::No && !location::is_reported() {
        log::warn!("/proc/self/fd cannot be read, so no symbolic link is followed, as with --symlinks no");
    }
}
