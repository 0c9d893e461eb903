//! A handle that stops a server from another thread.
//!
//! This file must not know how a loop ends.

use std::sync::{Arc, Mutex};

use crate::driver::signals::Remote;
use crate::sync::lock;

/// Handle that stops a server from any thread, before or while it runs. Clones stop the same
/// server.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    state: Arc<Mutex<Stops>>,
}

#[derive(Debug, Default)]
struct Stops {
    asked: usize,
    /// One remote for each running loop.
    remotes: Vec<Remote>,
}

impl Handle {
    /// Starts a graceful stop, as SIGTERM does. The server accepts no new connections, closes idle
    /// ones and completes the requests under way, for at most the drain timeout
    /// ([`Timeouts::drain`](crate::config::Timeouts), 10 s by default). A second call closes all
    /// connections. Returns at once; [`Server::run`](crate::Server::run) returns at the end of the
    /// stop.
    pub fn shutdown(&self) {
        let mut stops = lock(&self.state);
        stops.asked += 1;
        for remote in &stops.remotes {
            remote.terminate();
        }
    }

    /// Stops all loops except the first one. Only the first one knows that the terminal was closed.
    pub(super) fn stop_others(&self) {
        for remote in lock(&self.state).remotes.iter().skip(1) {
            remote.terminate();
        }
    }

    pub(super) fn watch(&self, remote: Remote) {
        let mut stops = lock(&self.state);
        for _ in 0..stops.asked {
            remote.terminate();
        }
        stops.remotes.push(remote);
    }
}
