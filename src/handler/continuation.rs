//! What a job returns: the next step of a response, taken on the loop.
//!
//! [`crate::jobs`] knows nothing of results. This file names the one result that drivers handle,
//! [`Continuation`], and the types of jobs with it.

use std::sync::Arc;

use crate::conn_id::ConnId;
use crate::handler::{Answer, Context};
use crate::jobs;

/// What happens on the loop with a job's result: it makes the answer, or takes the next step
/// towards it.
pub type Continuation = Box<dyn FnOnce(&mut Context<'_>) -> Answer + Send>;

/// Work that may block. Runs once, off the loop.
pub type Job = jobs::Job<Continuation>;

/// What came back for a connection.
pub type Done = jobs::inbox::Done<Continuation>;

/// Results on their way to one loop.
pub type Inbox = jobs::inbox::Inbox<Continuation>;

/// A bounded set of worker threads.
pub type Pool = jobs::Pool<Continuation>;

/// A promise that an answer comes later, through [`Context::job`].
pub type Ticket = jobs::Ticket<Continuation>;

/// Brings the answer that [`Context::promised`] has announced, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    id: ConnId,
    inbox: Arc<Inbox>,
}

impl Promise {
    pub(crate) fn new(id: ConnId, inbox: Arc<Inbox>) -> Self {
        Promise { id, inbox }
    }

    /// Leaves the next step for the connection, as the end of a job would.
    pub(crate) fn keep(&self, then: Continuation) {
        self.inbox.put(self.id, jobs::inbox::Done::Finished(then));
    }
}
