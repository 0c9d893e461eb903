//! From a configuration to a running server: listeners bound, handler put together, one of the two
//! models run.
//!
//! It must not know flags (`cli/mod.rs`) nor how either model works inside.

mod addresses;
mod builder;
pub mod chain;
mod descriptors;
mod socket_file;
mod stop;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::clock::read_clocks;
use crate::config::{Bind, Config, LOG_FLUSH_MAX, Model, Symlinks};
use crate::docroot::cache::FileCache;
use crate::docroot::root::Root;
use crate::docroot::{Docroot, location};
use crate::driver::Driver;
use crate::driver::outcome::{OnStop, Outcome};
use crate::driver::signals::{Remote, Signal, Signals};
use crate::features::cgi::Scripts;
use crate::features::metrics::Metrics;
use crate::features::names::{Because, gate};
use crate::features::{api, cgi, live, metrics};
use crate::files::{Files, StaticFiles};
use crate::handler::spool::Spool;
use crate::handler::{Handler, Router};
use crate::jobs::Pool;
use crate::log::{AccessBuffer, LogQueue, open_access_log};
use crate::observe::{Counters, LoopTally, Observer, Stopwatch};
use crate::reactor::Reactor;
use crate::reactor::os::{Listener, MioOs, Os, TcpOptions, bind_tcp_shared};
use crate::server::chain::Site;
use crate::sync::lock;
use crate::threads::Twin;
use crate::threads::acceptor::ListenSocket;
use crate::{docroot, shortage};
use socket_file::SocketFile;

pub use builder::Builder;
use stop::StopReport;

/// How many ports behind the default one are tried when it is taken.
const PORTS_TRIED: u16 = 100;

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

/// Stops a server from any thread, before or while it runs. Clones stop the same server.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    state: Arc<Mutex<Stops>>,
}

#[derive(Debug, Default)]
struct Stops {
    asked: usize,
    /// One for each loop that runs.
    remotes: Vec<Remote>,
}

impl Handle {
    /// Asks for a graceful stop, as SIGTERM does: no new clients, idle ones are let go, requests
    /// under way are answered, for as long as the drain timeout
    /// ([`Timeouts::drain`](crate::config::Timeouts), 10 s by default). Asked again, it cuts
    /// everybody off. Returns at once; it is [`Server::run`] that returns when all is done.
    pub fn shutdown(&self) {
        let mut stops = lock(&self.state);
        stops.asked += 1;
        for remote in &stops.remotes {
            remote.terminate();
        }
    }

    /// Stops all loops but the first, which alone knows that the terminal was closed.
    fn stop_others(&self) {
        for remote in lock(&self.state).remotes.iter().skip(1) {
            remote.terminate();
        }
    }

    fn watch(&self, remote: Remote) {
        let mut stops = lock(&self.state);
        for _ in 0..stops.asked {
            remote.terminate();
        }
        stops.remotes.push(remote);
    }
}

/// A bound socket and how it is reached.
#[derive(Debug)]
enum Bound {
    /// One socket a loop, all on one port.
    Tcp(Vec<std::net::TcpListener>, SocketAddr),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl Bound {
    fn urls(&self) -> Vec<String> {
        match self {
            Bound::Tcp(_, addr) => addresses::urls(*addr),
            Bound::Unix(_, file) => vec![format!("unix:{}", file.path().display())],
        }
    }

    fn addr(&self) -> Option<SocketAddr> {
        match self {
            Bound::Tcp(_, addr) => Some(*addr),
            Bound::Unix(..) => None,
        }
    }
}

/// Why a server did not come up.
#[derive(Debug)]
pub enum BindError {
    /// The docroot cannot be opened.
    Root(io::Error),
    /// This address cannot be listened on.
    Address(String, io::Error),
    /// A file that says what stands around the site is not there or not in order.
    Site(String),
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BindError::Root(error) => write!(f, "cannot serve the docroot: {error}"),
            BindError::Site(why) => f.write_str(why),
            BindError::Address(address, error) => write!(f, "cannot listen on {address}: {error}"),
        }
    }
}

impl std::error::Error for BindError {}

impl Server {
    /// Begins a server: routes, folders and what stands around them, then [`Builder::bind`].
    pub fn builder() -> Builder {
        Builder::default()
    }

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

    fn access(&self, log: Option<&LogQueue>) -> Option<AccessBuffer> {
        self.config.access_log.as_ref()?;
        Some(AccessBuffer::new(log?.clone(), self.config.log_format))
    }

    /// Runs as many loops as were asked for: the first one here, the others on threads of their
    /// own. They share the handler, the workers and the port, and nothing that would make one wait
    /// for another.
    fn run_reactor<O: Observer>(mut self, log: Option<&LogQueue>) -> io::Result<Outcome> {
        let handler = self.handler();
        let pool = self.pool();
        self.take_signals()?;
        let (mut shares, _socket_files) = self.shares()?;
        let mut loops = Vec::with_capacity(shares.len());
        let signals = std::mem::take(&mut self.signals);
        let actions = self.stop_actions(shares.len());
        for ((listeners, signals), action) in shares.drain(..).zip(signals).zip(actions) {
            let (mut reactor, counters) = self.reactor::<O>(listeners, signals, &handler, &pool, log)?;
            reactor.on_stop(action);
            loops.push((reactor, counters));
        }
        let counters: Vec<_> = loops.iter().filter_map(|(_, counters)| counters.clone()).collect();
        let mut loops = loops.into_iter().map(|(reactor, _)| reactor);
        let first = loops.next();
        let outcome = std::thread::scope(|scope| {
            let mut others = Vec::new();
            for (number, mut reactor) in (1..).zip(loops) {
                let name = format!("whirligig-{number}");
                others
                    .push(std::thread::Builder::new().name(name).spawn_scoped(scope, move || reactor.run())?);
            }
            let mut outcome = first.map_or(Ok(Outcome::Stopped), |mut reactor| reactor.run());
            if matches!(outcome, Ok(Outcome::Killed(_))) {
                // The others have the same signal; who leads the process leaves without them.
                return outcome;
            }
            for other in others {
                let ended = other.join().unwrap_or_else(|_| Err(io::Error::other("a loop panicked")));
                outcome = outcome.and_then(|so_far| Ok(so_far.and(ended?)));
            }
            outcome
        });
        if counters.len() > 1 {
            report_shares(&counters);
        }
        outcome
    }

    /// The workers beside the loops or threads.
    fn pool(&self) -> Arc<Pool> {
        let pool = Arc::new(Pool::new(self.config.limits.job_threads, self.config.limits.jobs_max));
        self.metrics.watch_pool(Arc::clone(&pool));
        pool
    }

    /// The listeners of each loop, and the files of Unix sockets, which are removed when the server
    /// ends.
    fn shares(&mut self) -> io::Result<(Vec<Vec<Listener>>, Vec<SocketFile>)> {
        let mut shares: Vec<Vec<Listener>> = (0..self.config.loops()).map(|_| Vec::new()).collect();
        let mut files = Vec::new();
        for bound in self.listeners.drain(..) {
            match bound {
                Bound::Tcp(sockets, _) => {
                    for (share, socket) in shares.iter_mut().zip(sockets) {
                        share.push(Listener::Tcp(mio::net::TcpListener::from_std(socket)));
                    }
                }
                // One queue for all: every loop hears of a client, and one gets it.
                Bound::Unix(socket, file) => {
                    for share in &mut shares {
                        share.push(Listener::Unix(mio::net::UnixListener::from_std(socket.try_clone()?)));
                    }
                    files.push(file);
                }
            }
        }
        Ok((shares, files))
    }

    /// One loop with all it owns. Each takes the signals for itself; the first one opens the log
    /// anew.
    fn reactor<O: Observer>(
        &self,
        listeners: Vec<Listener>,
        signals: Signals,
        handler: &Arc<dyn Handler>,
        pool: &Arc<Pool>,
        log: Option<&LogQueue>,
    ) -> io::Result<Counted<O>> {
        let mut os = MioOs::new(listeners, Some(signals), Arc::clone(pool))?;
        let files = Files::own(&self.config.files);
        let desk = os.desk();
        shortage::register(desk.inbox());
        let observer = O::default();
        let counters = observer.counters().map(Arc::clone);
        let is_first = self.metrics.loops() == 0;
        if let Some(counters) = &counters {
            self.metrics.watch_loop(Arc::clone(counters), Arc::clone(desk.inbox()));
        }
        let (config, handler) = (Arc::clone(&self.config), Arc::clone(handler));
        let driver = Driver::new(config, handler, files, desk, self.access(log), observer, read_clocks());
        let clients_max = self.config.limits.connections_max.div_ceil(self.config.loops());
        let mut reactor = Reactor::new(os, driver, clients_max);
        if let Some(log) = log.filter(|_| is_first).cloned() {
            reactor.on_reopen(move || log.reopen());
        }
        Ok((reactor, counters))
    }

    /// What tells one loop, or the twin, to stop.
    fn install_signals(&self, is_first: bool) -> io::Result<Signals> {
        let signals = match (self.takes_signals, is_first) {
            (true, true) => Signals::install()?,
            (true, false) => Signals::install_another()?,
            (false, _) => Signals::apart()?,
        };
        self.handle.watch(signals.remote());
        Ok(signals)
    }

    /// The actions that a graceful stop begins with, one for each loop.
    fn stop_actions(&self, loops: usize) -> impl Iterator<Item = OnStop> {
        let drain = self.config.timeouts.drain;
        let report = Arc::new(StopReport::new(loops, drain, self.takes_signals));
        let handle = self.handle.clone();
        (0..loops).map(move |number| {
            let (report, handle) = (Arc::clone(&report), handle.clone());
            let action: OnStop = Box::new(move |signal, phases| {
                report.add(signal, phases);
                if number == 0 && signal == Signal::TerminalClosed {
                    handle.stop_others();
                }
            });
            action
        })
    }

    fn run_threads(mut self, log: Option<&LogQueue>) -> io::Result<Outcome> {
        self.take_signals()?;
        let signals = self.signals.pop_front().ok_or_else(|| io::Error::other("no signals"))?;
        let handler = self.handler();
        let files = Arc::new(Mutex::new(FileCache::new(&self.config.files)));
        let mut socket_files = Vec::new();
        let sockets = self.listeners.drain(..).map(|bound| match bound {
            Bound::Tcp(sockets, _) => sockets.into_iter().map(ListenSocket::Tcp).collect(),
            Bound::Unix(listener, file) => {
                socket_files.push(file);
                vec![ListenSocket::Unix(listener)]
            }
        });
        let sockets = sockets.flatten().collect();
        let access = log.filter(|_| self.config.access_log.is_some()).cloned();
        let twin = Twin {
            config: Arc::clone(&self.config),
            handler,
            files,
            access,
            log: log.cloned(),
            pool: self.pool(),
            on_stop: Mutex::new(self.stop_actions(1).next().unwrap_or_else(|| Box::new(|_, _| {}))),
        };
        twin.run(sockets, signals, |counters, gauges| {
            self.metrics.watch_threads(counters.iter().cloned(), gauges);
        })
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

/// A loop and what it counts.
type Counted<O> = (Reactor<MioOs, O>, Option<Arc<Counters>>);

/// Says how the kernel divided the clients among the loops.
fn report_shares(counters: &[Arc<Counters>]) {
    let total = counters.iter().map(|counters| counters.accepted.get()).sum::<u64>().max(1);
    for (number, counters) in counters.iter().enumerate() {
        let accepted = counters.accepted.get();
        let percent = accepted * 100 / total;
        log::info!(
            "loop {number}: {accepted} connections ({percent} %), {} requests",
            counters.answered_total()
        );
    }
}

fn listen(bind: &Bind, config: &Config) -> Result<Bound, BindError> {
    match bind {
        Bind::Unix(path) => {
            let fail = |error| BindError::Address(format!("unix:{}", path.display()), error);
            let (listener, file) = SocketFile::listen(path).map_err(fail)?;
            listener.set_nonblocking(true).map_err(fail)?;
            Ok(Bound::Unix(listener, file))
        }
        Bind::Ip(ip, own_port) => {
            let first = own_port.unwrap_or(config.port);
            // Only the port nobody asked for may give way.
            let fixed = own_port.is_some() || config.port_is_explicit || first == 0;
            let mut port = first;
            loop {
                let addr = SocketAddr::new(*ip, port);
                let others = config.loops() - 1;
                let options = TcpOptions {
                    notsent_lowat_bytes: config.limits.notsent_lowat_bytes,
                    defer_accept: config.timeouts.defer_accept,
                };
                let bound = bind_tcp_shared(addr, options, others).and_then(|listeners| {
                    listeners[0].local_addr().map(|local| Bound::Tcp(listeners, local))
                });
                match bound {
                    Ok(bound) => return Ok(bound),
                    Err(error)
                        if !fixed
                            && error.kind() == io::ErrorKind::AddrInUse
                            && port < first.saturating_add(PORTS_TRIED) =>
                    {
                        port += 1;
                    }
                    Err(error) => return Err(BindError::Address(addr.to_string(), error)),
                }
            }
        }
    }
}
