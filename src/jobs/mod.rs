//! Worker threads for work that may block, and the way back for its results.
//!
//! A [`Job`] runs on a worker thread and returns a result of any type `R`. Results wait in the
//! loop's [`Inbox`] with the id of their connection, and one wake-up serves all that have gathered.
//! In the threads model a job runs inline, on the connection's own thread, which may block. This
//! folder must not know HTTP or the meaning of results.

pub(crate) mod fair_queue;
pub mod inbox;
pub mod pace;
#[cfg(feature = "os")]
pub mod pool;
pub mod sender_permits;

use std::sync::Arc;

use crate::conn_id::ConnId;
use crate::jobs::inbox::Inbox;

/// Work that may block. Runs once, off the loop.
pub type Job<R> = Box<dyn FnOnce() -> R + Send>;

/// Work that may block and has no result. It makes a part of a response that is already under way.
pub type Task = Box<dyn FnOnce() + Send>;

/// The route that a job belongs to, as the application wrote it. `None` if the job belongs to no
/// route.
pub type RouteName = Option<Arc<str>>;

/// Reports that a worker is busy with a job although its client no longer waits.
#[derive(Debug)]
pub struct StillBusy {
    /// The route that the job belongs to.
    pub route: RouteName,
}

impl StillBusy {
    /// Logs the job. `answered` is the status that the client received, or the reason for its wait.
    pub(crate) fn log(&self, answered: &str) {
        match &self.route {
            Some(route) => {
                log::warn!(
                    "route '{route}': the response took too long ({answered}), its worker is still busy"
                );
            }
            None => log::warn!("a response took too long ({answered}), its worker is still busy"),
        }
    }
}

/// How [`Spawn::run`] runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The task ran on the calling thread and is finished.
    Inline,
    /// The task waits for a worker. The connection is woken after it, as by its [`inbox::Waker`].
    Queued,
}

/// The workers for a kind of work. Each lane has its own queue and workers. So a short lookup on
/// the disk does not wait behind a listing, and no work waits behind password checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Lookups on the disk, writes, starts of programs, and jobs of the application.
    Short,
    /// Parts of long responses: archives, compression, rendering of listings.
    Long,
    /// Reading of folders for listings. One takes up to some hundred milliseconds.
    Listings,
    /// Password checks (bcrypt). Each takes a processor for as long as its cost parameter sets.
    Passwords,
}

impl Lane {
    /// All lanes, in the order of their numbers.
    pub const ALL: [Lane; 4] = [Lane::Short, Lane::Long, Lane::Listings, Lane::Passwords];
}

/// Accepts tasks from any thread. A body source needs this, because it has no
/// [`Context`](crate::handler::Context) while it produces content.
pub trait Spawn: Send + Sync {
    /// Runs `task` for this connection. Never refuses. A connection has at most one task under way,
    /// so the number of connections bounds the tasks.
    fn run(&self, id: ConnId, lane: Lane, task: Task) -> Ran;

    /// Runs `task` for no connection: it wakes none, and no close cancels it. The caller bounds the
    /// number of these tasks. If no thread can be started, long ones are dropped.
    fn detach(&self, lane: Lane, task: Task);
}

/// A promise that a result comes later; see [`JobQueue::submit`].
pub struct Ticket<R>(pub(crate) TicketState<R>);

pub(crate) enum TicketState<R> {
    /// The result comes through the inbox.
    Pending,
    /// The job ran inline.
    Done(R),
}

impl<R> Ticket<R> {
    /// Creates a ticket whose result comes through the inbox.
    pub(crate) fn pending() -> Self {
        Ticket(TicketState::Pending)
    }

    /// Returns the job's result if it ran inline.
    pub(crate) fn into_done(self) -> Option<R> {
        match self.0 {
            TicketState::Pending => None,
            TicketState::Done(result) => Some(result),
        }
    }
}

impl<R> std::fmt::Debug for Ticket<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            TicketState::Pending => "Ticket(pending)",
            TicketState::Done(_) => "Ticket(done)",
        })
    }
}

/// The job queue of one driver.
pub trait JobQueue<R>: Send {
    /// Submits a job for a connection. Returns the job if too many jobs wait in its lane.
    fn submit(&mut self, id: ConnId, lane: Lane, route: RouteName, job: Job<R>) -> Result<Ticket<R>, Job<R>>;
    /// Cancels the job of a connection that no longer waits, if it has not started. Returns a
    /// report if a worker is busy with it.
    fn cancel(&mut self, id: ConnId) -> Option<StillBusy>;
    /// Returns the inbox for results and wake-ups of this driver.
    fn inbox(&self) -> &Arc<Inbox<R>>;
    /// Returns the handle for tasks.
    fn spawner(&self) -> Arc<dyn Spawn>;
}
