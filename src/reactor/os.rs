//! The operating system behind the loop: the trait [`Os`], which `mio_os` implements with mio and
//! the simulator with a seed.
//!
//! The reactor is generic over `Os`, so the simulator runs the same turns as the server. Listeners,
//! job results and signals arrive as events, like sockets. This file must not know HTTP.

use std::io;
use std::time::Duration;

use crate::clock::Now;
use crate::conn_id::{ConnId, Peer, WatchId};
use crate::driver::decision::Decision;
use crate::driver::outcome::Signal;
use crate::driver::stream::Stream;
use crate::handler::continuation::Continuation;
use crate::handler::watch::{Ready, Watched};
use crate::jobs::JobQueue;
use crate::observe::step::SocketReport;

/// An event of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OsEvent {
    /// Readiness of a connection.
    Ready {
        /// Name of the connection, which may be closed already.
        id: ConnId,
        /// Readiness of its socket.
        ready: SocketReport,
    },
    /// Readiness of a watched object.
    Watched {
        /// Name of the object, which may be over already.
        id: WatchId,
        /// The descriptors that are ready.
        ready: Ready,
    },
    /// A listener has connections waiting.
    Listener(usize),
    /// The inbox contains job results or wake-ups.
    Inbox,
    /// A signal was received.
    Signal(Signal),
}

/// Everything that a reactor needs of its operating system.
pub trait Os {
    /// Type of a connected socket.
    type Stream: Stream;
    /// Waits at most `timeout` (`None`: without limit) and appends events to `events`. Results in
    /// the inbox are reported within [`crate::config::INBOX_LOOK`], even if the wake-up for them
    /// failed.
    fn poll(&mut self, events: &mut Vec<OsEvent>, timeout: Option<Duration>) -> io::Result<()>;
    /// Reads both clocks.
    fn now(&mut self) -> Now;
    /// Returns the number of listeners.
    fn listeners(&self) -> usize;
    /// Returns true if a client waits to be accepted. Called only when accepting the client would
    /// close another connection.
    fn has_client(&mut self, listener: usize) -> bool;
    /// Accepts one connection.
    fn accept(&mut self, listener: usize) -> io::Result<(Self::Stream, Peer)>;
    /// Registers a stream with the poll for both directions, once for its lifetime. Readiness that
    /// exists already is reported.
    fn register(&mut self, stream: &mut Self::Stream, id: ConnId) -> io::Result<()>;
    /// Registers all descriptors of a watched object with the poll, each for one direction and for
    /// its lifetime. Closing a descriptor removes it from the poll.
    fn watch(&mut self, watched: &dyn Watched, id: WatchId) -> io::Result<()>;
    /// Closes the listeners. From then on the kernel refuses new clients.
    fn close_listeners(&mut self);
    /// Returns a new queue for jobs.
    fn job_queue(&mut self) -> Box<dyn JobQueue<Continuation>>;
    /// Returns true if the loop must make this decision wrongly. Only the simulator does so.
    #[inline(always)]
    fn is_wrong(&self, _decision: Decision) -> bool {
        false
    }
}
