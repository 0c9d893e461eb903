//! Runs a server as one of the two models: loops with their threads, or the twin.
//!
//! This file must not know the content of the server.

use std::io;
use std::sync::{Arc, Mutex};

use crate::clock::read_clocks;
use crate::docroot::cache::{FileCache, Files};
use crate::driver::Driver;
use crate::driver::outcome::{OnStop, Outcome, Signal};
use crate::driver::signals::Signals;
use crate::handler::Handler;
use crate::handler::continuation::Pool;
use crate::log::{AccessBuffer, LogQueue};
use crate::observe::{Counters, Observer, Unwatched};
use crate::reactor::Reactor;
use crate::reactor::mio_os::{Listener, MioOs};
use crate::reactor::os::Os as _;
use crate::server::Server;
use crate::server::listen::Bound;
use crate::server::socket_file::SocketFile;
use crate::server::stop::StopReport;
use crate::shortage;
use crate::threads::Twin;
use crate::threads::acceptor::ListenSocket;

impl Server {
    /// Runs the configured number of loops: the first one on this thread, the others on threads of
    /// their own. They share the handler, the workers and the port, but nothing for which one would
    /// have to wait for another. `observer` is called for each loop.
    pub(super) fn run_reactor<O: Observer>(
        mut self,
        log: Option<&LogQueue>,
        observer: impl Fn() -> O,
    ) -> io::Result<Outcome> {
        let handler = self.handler();
        let pool = self.pool();
        self.take_signals()?;
        let (mut shares, _socket_files) = self.shares()?;
        let mut loops = Vec::with_capacity(shares.len());
        let signals = std::mem::take(&mut self.signals);
        let actions = self.stop_actions(shares.len());
        for ((listeners, signals), action) in shares.drain(..).zip(signals).zip(actions) {
            let (mut reactor, counters) =
                self.reactor(observer(), listeners, signals, &handler, &pool, log)?;
            reactor.on_stop(action);
            loops.push((reactor, counters));
        }
        let counters: Vec<_> = loops.iter().filter_map(|(_, counters)| counters.clone()).collect();
        let mut loops = loops.into_iter().map(|(reactor, _)| reactor);
        let first = loops.next();
        let outcome = std::thread::scope(|scope| {
            let mut others = Vec::new();
            for (number, reactor) in (1..).zip(loops) {
                let name = format!("whirligig-{number}");
                others
                    .push(std::thread::Builder::new().name(name).spawn_scoped(scope, move || reactor.run())?);
            }
            let mut outcome = first.map_or(Ok(Outcome::Stopped), |reactor| reactor.run());
            if matches!(outcome, Ok(Outcome::Killed(_))) {
                // The other loops received the same signal. The process exits without waiting for
                // them.
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

    pub(super) fn run_threads(mut self, log: Option<&LogQueue>) -> io::Result<Outcome> {
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
            self.views.metrics.watch_threads(counters.iter().cloned(), gauges);
        })
    }

    fn access(&self, log: Option<&LogQueue>) -> Option<AccessBuffer> {
        self.config.access_log.as_ref()?;
        Some(AccessBuffer::new(log?.clone(), self.config.log_format))
    }

    /// Creates the pool of workers for the loops or threads.
    fn pool(&self) -> Arc<Pool> {
        let pool = Arc::new(Pool::new(self.config.limits.job_threads, self.config.limits.jobs_max));
        self.views.metrics.watch_pool(Arc::clone(&pool));
        pool
    }

    /// Returns the listeners of each loop, and the files of Unix sockets, which are removed when
    /// the server ends.
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
                // All loops share one queue: each is woken for a connection, and one accepts it.
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

    /// Creates a loop with everything it owns. Each loop receives the signals; the first one
    /// reopens the log.
    fn reactor<O: Observer>(
        &self,
        observer: O,
        listeners: Vec<Listener>,
        signals: Signals,
        handler: &Arc<dyn Handler>,
        pool: &Arc<Pool>,
        log: Option<&LogQueue>,
    ) -> io::Result<Counted<O>> {
        let mut os =
            MioOs::new(listeners, Some(signals), Arc::clone(pool), self.config.limits.events_per_poll)?;
        let cache = Box::new(Files::own(&self.config.files));
        let jobs = os.job_queue();
        shortage::register(jobs.inbox());
        let observer = Unwatched::new(observer);
        let counters = observer.counters().map(Arc::clone);
        let is_first = self.views.metrics.loops() == 0;
        if let Some(counters) = &counters {
            self.views.metrics.watch_loop(Arc::clone(counters), Arc::clone(jobs.inbox()));
        }
        if let Some(hub) = observer.hub() {
            self.views.loops.add(Arc::clone(hub), Arc::clone(jobs.inbox()));
        }
        let (config, handler) = (Arc::clone(&self.config), Arc::clone(handler));
        let driver = Driver::new(config, handler, cache, jobs, self.access(log), observer, read_clocks());
        let clients_max = self.config.limits.connections_max.div_ceil(self.config.loops());
        let mut reactor = Reactor::new(os, driver, clients_max);
        if let Some(log) = log.filter(|_| is_first).cloned() {
            reactor.on_reopen(move || log.reopen());
        }
        Ok((reactor, counters))
    }

    /// Creates the signal source of one loop, or of the twin.
    pub(super) fn install_signals(&self, is_first: bool) -> io::Result<Signals> {
        let signals = match (self.takes_signals, is_first) {
            (true, true) => Signals::install()?,
            (true, false) => Signals::install_another()?,
            (false, _) => Signals::apart()?,
        };
        self.handle.watch(signals.remote());
        Ok(signals)
    }

    /// Returns the actions at the start of a graceful stop, one for each loop.
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
}

/// A loop and its counters.
type Counted<O> = (Reactor<MioOs, Unwatched<O>>, Option<Arc<Counters>>);

/// Logs how the kernel distributed the clients over the loops.
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
