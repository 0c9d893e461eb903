//! Jobs in the threads model: they run on the thread of their connection. This file must not know
//! HTTP.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::read_clocks;
use crate::conn_id::ConnId;
use crate::handler::continuation::{Continuation, Inbox, Job, Ticket};
use crate::jobs::pool::InlineQueue;
use crate::jobs::{JobQueue, Lane, RouteName, Spawn, StillBusy};
use crate::sync::lock;
use crate::threads::reaper::Shared;
use crate::threads::socket::{SharedConn, TimedJob};

/// Runs jobs on the thread of their connection. No response can replace a late one, but the reaper
/// counts jobs that take too long. The reaper checks periodically, because waking it for each job
/// would cost more than most jobs do.
pub(super) struct TwinQueue {
    pub(super) inner: InlineQueue<Continuation>,
    pub(super) shared: Arc<Shared>,
    pub(super) conn: Arc<SharedConn>,
    pub(super) answer_timeout: Option<Duration>,
}

impl JobQueue<Continuation> for TwinQueue {
    fn submit(&mut self, id: ConnId, lane: Lane, route: RouteName, job: Job) -> Result<Ticket, Job> {
        let Some(timeout) = self.answer_timeout else { return self.inner.submit(id, lane, route, job) };
        let due = self.shared.nanoseconds(read_clocks().mono + timeout);
        *lock(&self.conn.job) = Some(TimedJob { due, route: route.clone(), is_counted: false });
        // Also ends a job that panics.
        let _at_end = JobEnd(&self.conn);
        self.inner.submit(id, lane, route, job)
    }

    fn cancel(&mut self, id: ConnId) -> Option<StillBusy> {
        self.inner.cancel(id)
    }

    fn inbox(&self) -> &Arc<Inbox> {
        self.inner.inbox()
    }

    fn spawner(&self) -> Arc<dyn Spawn> {
        self.inner.spawner()
    }
}

/// Removes the job of a connection when dropped.
struct JobEnd<'a>(&'a SharedConn);

impl Drop for JobEnd<'_> {
    fn drop(&mut self) {
        *lock(&self.0.job) = None;
    }
}
