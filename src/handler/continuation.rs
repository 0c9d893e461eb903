//! The result of a job: the next step towards a response, taken on the loop.
//!
//! `jobs` is generic over results. This file names the one result that drivers handle,
//! [`Continuation`], and the types of jobs that return it. Must not know what a continuation does.

use std::sync::Arc;

use crate::conn_id::ConnId;
use crate::handler::{Answer, Context};
use crate::jobs;

/// The step that runs on the loop with a job's result: it makes the answer, or takes the next step
/// towards it.
pub type Continuation = Box<dyn FnOnce(&mut Context<'_>) -> Answer + Send>;

/// Work that may block. Runs once, off the loop.
pub type Job = jobs::Job<Continuation>;

/// A result that arrived for a connection.
pub type Done = jobs::inbox::Done<Continuation>;

/// Results on their way to one loop.
pub type Inbox = jobs::inbox::Inbox<Continuation>;

#[cfg(feature = "os")]
/// A bounded set of worker threads.
pub type Pool = jobs::pool::Pool<Continuation>;

/// A promise that an answer comes later; see [`Context::job`].
pub type Ticket = jobs::Ticket<Continuation>;

/// Delivers the answer that [`Context::answer_later`] has announced, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    id: ConnId,
    inbox: Arc<Inbox>,
}

impl Promise {
    pub(crate) fn new(id: ConnId, inbox: Arc<Inbox>) -> Self {
        Promise { id, inbox }
    }

    /// Puts the next step of the connection into the inbox of its driver, like the end of a job.
    pub(crate) fn keep(&self, then: Continuation) {
        self.inbox.put(self.id, jobs::inbox::Done::Finished(then));
    }
}
