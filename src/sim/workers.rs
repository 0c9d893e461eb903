//! The workers of a simulation: its job queue, the work under way, and the wake-ups for results.
//!
//! A worker cannot be called back from work that it has begun, as in the pool of the server. The
//! world decides how long work takes and which wake-ups fail. This file must not know clients.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use crate::config::INBOX_LOOK;
use crate::conn_id::ConnId;
use crate::driver::decision::Decision;
use crate::handler::continuation::{Continuation, Done, Inbox, Job, Ticket};
use crate::jobs::{self, JobQueue, Lane, Ran, RouteName, Spawn, StillBusy, Task, TicketState};
use crate::observe::step::Fact;
use crate::sync::lock;

/// Work that may block.
pub(super) enum Work {
    /// A job of a connection, which receives the result.
    Job(ConnId, Job),
    /// A task of a connection, which is woken after it.
    Task(ConnId, Task),
    /// A task of no connection.
    Detached(Task),
}

impl Work {
    /// Returns the connection that waits for the work.
    fn id(&self) -> Option<ConnId> {
        match self {
            Work::Job(id, _) | Work::Task(id, _) => Some(*id),
            Work::Detached(_) => None,
        }
    }

    /// Does the work. Returns what belongs into the inbox.
    fn run(self) -> Option<(ConnId, Done)> {
        match self {
            Work::Job(id, job) => {
                let result = catch_unwind(AssertUnwindSafe(job));
                Some((id, result.map_or(Done::Panicked, Done::Finished)))
            }
            Work::Task(id, task) => {
                drop(catch_unwind(AssertUnwindSafe(task)));
                Some((id, Done::Woken))
            }
            Work::Detached(task) => {
                drop(catch_unwind(AssertUnwindSafe(task)));
                None
            }
        }
    }
}

/// The worker threads, the work that waits for them, and the work under way.
pub(super) struct Workers {
    count: usize,
    waiting_max: usize,
    /// Work that no worker has begun, with its duration.
    waiting: VecDeque<(u64, Work)>,
    /// Work under way, with the time of its end.
    running: Vec<(u64, Work)>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} workers, {} busy, {} waiting", self.count, self.running.len(), self.waiting.len())
    }
}

impl Workers {
    /// Creates `count` workers. At most `waiting_max` jobs may wait for them.
    pub(super) fn new(count: usize, waiting_max: usize) -> Self {
        Workers { count, waiting_max, waiting: VecDeque::new(), running: Vec::new() }
    }

    /// Returns when the next worker will be finished.
    pub(super) fn next_end(&self) -> Option<u64> {
        self.running.iter().map(|(ends_ns, _)| *ends_ns).min()
    }

    /// Returns true if work for this connection waits or is under way.
    pub(super) fn work_for(&self, id: ConnId) -> bool {
        self.waiting().chain(self.running().map(|(id, _)| id)).any(|other| other == id)
    }

    /// Returns true if work of no connection waits or is under way.
    pub(super) fn has_detached(&self) -> bool {
        self.waiting.iter().chain(&self.running).any(|(_, work)| work.id().is_none())
    }

    /// Iterates over the connections whose work waits, the oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = ConnId> {
        self.waiting.iter().filter_map(|(_, work)| work.id())
    }

    /// Iterates over the connections whose work is under way, with its end.
    pub(super) fn running(&self) -> impl Iterator<Item = (ConnId, u64)> {
        self.running.iter().filter_map(|(ends_ns, work)| Some((work.id()?, *ends_ns)))
    }

    /// Lets a worker of its own do this work until `ends_ns`.
    pub(super) fn run_beside(&mut self, ends_ns: u64, work: Work) {
        self.running.push((ends_ns, work));
    }

    /// Cancels the work of a connection that waits. Work under way cannot be called back.
    fn cancel(&mut self, id: ConnId) -> Option<StillBusy> {
        self.waiting.retain(|(_, work)| work.id() != Some(id));
        self.running().any(|(running, _)| running == id).then_some(StillBusy { route: None })
    }

    /// Removes and returns the work that ended first.
    fn take_ended(&mut self, now_ns: u64) -> Option<Work> {
        let first = self.running.iter().enumerate().min_by_key(|(at, (ends_ns, _))| (*ends_ns, *at));
        let at = first.filter(|(_, (ends_ns, _))| *ends_ns <= now_ns).map(|(at, _)| at)?;
        Some(self.running.remove(at).1)
    }
}

/// A world that has workers and decides about their work.
pub(super) trait HasWorkers: std::fmt::Debug + Send + 'static {
    fn workers(&mut self) -> &mut Workers;
    fn now_ns(&self) -> u64;
    /// Sets the clock, because work was done on the thread of the loop.
    fn set_clock(&mut self, now_ns: u64);
    fn is_wrong(&self, decision: Decision) -> bool;
    fn note(&mut self, fact: Fact);
    /// Returns the duration of a job that is submitted now; `None` refuses the job.
    fn job_ns(&mut self) -> Option<u64>;
    /// Returns the duration of a task; `None` if the caller does it at once.
    fn task_ns(&mut self) -> Option<u64>;
    /// Returns how much later a worker ends the work that it begins now.
    fn late_ns(&mut self) -> u64;
}

/// Lets idle workers begin the work that waits longest.
fn begin_work(world: &mut impl HasWorkers) {
    while world.workers().running.len() < world.workers().count {
        let Some((takes_ns, work)) = world.workers().waiting.pop_front() else { return };
        let ends_ns = world.now_ns() + takes_ns + world.late_ns();
        if let Some(id) = work.id() {
            world.note(Fact::JobBegins(id));
        }
        world.workers().running.push((ends_ns, work));
    }
}

/// Does the work that has ended by now. Results go into the inbox.
pub(super) fn end_work(world: &Mutex<impl HasWorkers>, inbox: &Inbox) {
    loop {
        let work = {
            let mut world = lock(world);
            begin_work(&mut *world);
            let now_ns = world.now_ns();
            let Some(work) = world.workers().take_ended(now_ns) else { return };
            if let Some(id) = work.id() {
                world.note(Fact::JobEnds(id));
            }
            work
        };
        // The lock is free now, because jobs use the world and results ring for the loop.
        if let Some((id, done)) = work.run() {
            inbox.put(id, done);
        }
    }
}

/// The job queue of a driver, served by the workers of a world.
pub(super) struct WorkerQueue<W> {
    world: Arc<Mutex<W>>,
    inbox: Arc<Inbox>,
}

impl<W> WorkerQueue<W> {
    pub(super) fn new(world: Arc<Mutex<W>>, inbox: Arc<Inbox>) -> Self {
        WorkerQueue { world, inbox }
    }
}

impl<W: HasWorkers> JobQueue<Continuation> for WorkerQueue<W> {
    fn submit(&mut self, id: ConnId, _lane: Lane, _route: RouteName, job: Job) -> Result<Ticket, Job> {
        let mut world = lock(&self.world);
        let Some(takes_ns) = world.job_ns() else { return Err(job) };
        if world.is_wrong(Decision::OffloadSlowWork) {
            // The work is done at once, on the thread of the loop.
            let now_ns = world.now_ns() + takes_ns;
            world.set_clock(now_ns);
            drop(world);
            return Ok(jobs::Ticket(TicketState::Done(job())));
        }
        if world.workers().waiting.len() >= world.workers().waiting_max {
            return Err(job);
        }
        world.workers().waiting.push_back((takes_ns, Work::Job(id, job)));
        begin_work(&mut *world);
        Ok(Ticket::pending())
    }

    fn cancel(&mut self, id: ConnId) -> Option<StillBusy> {
        lock(&self.world).workers().cancel(id)
    }

    fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    fn spawner(&self) -> Arc<dyn Spawn> {
        Arc::new(WorkerQueue { world: Arc::clone(&self.world), inbox: Arc::clone(&self.inbox) })
    }
}

impl<W: HasWorkers> WorkerQueue<W> {
    /// Lets a worker do a task, or does it at once.
    fn accept(&self, work: Work) -> Ran {
        let mut world = lock(&self.world);
        let Some(takes_ns) = world.task_ns() else {
            drop(world);
            work.run();
            return Ran::Inline;
        };
        world.workers().waiting.push_back((takes_ns, work));
        begin_work(&mut *world);
        Ran::Queued
    }
}

impl<W: HasWorkers> Spawn for WorkerQueue<W> {
    fn run(&self, id: ConnId, _lane: Lane, task: Task) -> Ran {
        self.accept(Work::Task(id, task))
    }

    fn detach(&self, _lane: Lane, task: Task) {
        let (Ran::Inline | Ran::Queued) = self.accept(Work::Detached(task));
    }
}

/// The event that reports the inbox to the loop.
#[derive(Debug, Default)]
pub(super) struct InboxEvent {
    /// True if the next poll reports the inbox.
    is_pending: bool,
    /// When the operating system looks into the inbox although no wake-up came.
    look_ns: Option<u64>,
}

impl InboxEvent {
    /// Wakes the loop.
    pub(super) fn wake(&mut self) {
        (self.look_ns, self.is_pending) = (None, true);
    }

    /// Notes that a wake-up failed. Unless the next one succeeds, the results wait for the periodic
    /// look.
    pub(super) fn fail(&mut self, now_ns: u64) {
        self.look_ns.get_or_insert(now_ns.saturating_add(INBOX_LOOK.as_nanos() as u64));
    }

    /// Looks into the inbox, once a second after a failed wake-up. Returns true if there were
    /// results and the loop is woken.
    pub(super) fn look(&mut self, has_news: bool, now_ns: u64) -> bool {
        if !has_news {
            self.look_ns = None;
        }
        let finds = self.look_ns.is_some_and(|look_ns| look_ns <= now_ns);
        if finds {
            self.wake();
        }
        finds
    }

    /// Returns when the next look is due.
    pub(super) fn look_ns(&self) -> Option<u64> {
        self.look_ns
    }

    /// Returns true if the next poll reports the inbox.
    pub(super) fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Returns true if the results that wait will reach the loop without a further wake-up.
    pub(super) fn will_come(&self) -> bool {
        self.is_pending || self.look_ns.is_some()
    }

    /// Takes the event for a poll.
    pub(super) fn take(&mut self) -> bool {
        std::mem::take(&mut self.is_pending)
    }
}
