//! Worker threads for jobs, and the queues through which drivers submit to them.
//!
//! Threads start with work and end when there has been none for a while. This file must not know
//! HTTP, nor what the results are.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::config::{JOB_NICENESS, PASSWORD_WORKERS_MAX, THREAD_REST};
use crate::conn_id::ConnId;
use crate::jobs::inbox::{Done, Inbox};
use crate::jobs::{Job, JobQueue, Lane, Ran, RouteName, Spawn, StillBusy, Task, Ticket, TicketState};
use crate::sync::lock;

impl Lane {
    /// Returns the number of worker threads of this lane in a pool of `threads_max`.
    fn threads_max(self, threads_max: usize) -> usize {
        match self {
            Lane::Short | Lane::Long => threads_max.max(1),
            // Each of them may keep a processor busy.
            Lane::Listings => (threads_max / 2).max(1),
            Lane::Passwords => {
                // At most half of the processors, because otherwise a flood of guesses would take
                // all of them.
                let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
                (processors / 2).clamp(1, PASSWORD_WORKERS_MAX)
            }
        }
    }
}

/// A small, bounded set of worker threads, divided into [lanes](Lane).
#[derive(Debug)]
pub struct Pool<R> {
    lanes: Lanes<R>,
}

type Lanes<R> = [Arc<Shared<R>>; Lane::ALL.len()];

#[derive(Debug)]
struct Shared<R> {
    queue: Mutex<Queue<R>>,
    work: Condvar,
    jobs_max: usize,
    done: AtomicU64,
}

struct Queue<R> {
    waiting: VecDeque<WorkItem<R>>,
    /// Number of jobs in `waiting`. Tasks are never refused, so they do not count.
    jobs: usize,
    /// Jobs of connections that workers are busy with.
    running: Vec<(Owner<R>, RouteName)>,
    /// Number of threads that wait for work.
    resting: usize,
    threads: usize,
    threads_max: usize,
    stopping: bool,
}

/// A job or task in the queue of a lane.
struct WorkItem<R> {
    /// The connection that gets the result, if any.
    owner: Option<Owner<R>>,
    work: Work<R>,
}

/// A connection that gets a result, and the inbox of its driver.
type Owner<R> = (ConnId, Arc<Inbox<R>>);

fn is_same<R>((id, inbox): &Owner<R>, other_id: ConnId, other_inbox: &Arc<Inbox<R>>) -> bool {
    *id == other_id && Arc::ptr_eq(inbox, other_inbox)
}

impl<R> WorkItem<R> {
    fn is_of(&self, id: ConnId, inbox: &Arc<Inbox<R>>) -> bool {
        self.owner.as_ref().is_some_and(|owner| is_same(owner, id, inbox))
    }
}

enum Work<R> {
    Job(RouteName, Job<R>),
    Task(Task),
}

impl<R> Work<R> {
    /// Runs the work. A panic ends the job or task and not the worker. The body source of a task
    /// detects the panic itself.
    fn run(self) -> Done<R> {
        use std::panic::{AssertUnwindSafe, catch_unwind};
        match self {
            Work::Job(_, job) => catch_unwind(AssertUnwindSafe(job)).map_or(Done::Panicked, Done::Finished),
            Work::Task(task) => {
                drop(catch_unwind(AssertUnwindSafe(task)));
                Done::Woken
            }
        }
    }

    fn is_job(&self) -> bool {
        matches!(self, Work::Job(..))
    }
}

impl<R> std::fmt::Debug for Queue<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} waiting, {} threads)", self.waiting.len(), self.threads)
    }
}

impl<R: Send + 'static> Pool<R> {
    /// Creates a pool of up to `threads_max` workers for short work, as many for long work and half
    /// as many for listings. Threads are started on demand. At most `jobs_max` jobs wait in a lane.
    #[must_use]
    pub fn new(threads_max: usize, jobs_max: usize) -> Self {
        let lane = |lane: Lane| Arc::new(Shared::new(lane.threads_max(threads_max), jobs_max));
        Pool { lanes: Lane::ALL.map(lane) }
    }

    /// Returns the queue of one driver, whose results go to `inbox`.
    #[must_use]
    pub fn job_queue(&self, inbox: Arc<Inbox<R>>) -> PoolQueue<R> {
        PoolQueue { lanes: self.lanes.clone(), inbox }
    }

    fn queues(&self) -> impl Iterator<Item = MutexGuard<'_, Queue<R>>> {
        self.lanes.iter().map(|lane| lock(&lane.queue))
    }

    /// Returns the number of jobs and tasks done so far.
    #[must_use]
    pub fn jobs_done(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.done.load(Ordering::Relaxed)).sum()
    }

    /// Returns the number of jobs that wait for a worker.
    #[must_use]
    pub fn jobs_waiting(&self) -> usize {
        self.queues().map(|queue| queue.jobs).sum()
    }

    /// Returns the number of tasks that wait for a worker.
    #[must_use]
    pub fn tasks_waiting(&self) -> usize {
        self.queues().map(|queue| queue.waiting.len() - queue.jobs).sum()
    }

    /// Returns the maximum number of waiting jobs in a lane.
    #[must_use]
    pub fn jobs_max(&self) -> usize {
        self.lanes[Lane::Short as usize].jobs_max
    }

    /// Returns the number of worker threads. They start on demand and end after [`THREAD_REST`]
    /// without work.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.queues().map(|queue| queue.threads).sum()
    }

    /// Runs `task` for no connection, on a worker of `lane`.
    pub fn detach(&self, lane: Lane, task: Task) {
        detach(&self.lanes, lane, task);
    }
}

impl<R> Drop for Pool<R> {
    /// Jobs under way are left to end by themselves, because waiting for them could block.
    fn drop(&mut self) {
        for lane in &self.lanes {
            let dropped = {
                let mut queue = lock(&lane.queue);
                queue.stopping = true;
                queue.jobs = 0;
                std::mem::take(&mut queue.waiting)
            };
            lane.work.notify_all();
            // Dropped outside the lock, because a value that a task owns may submit a task when it
            // is dropped.
            drop(dropped);
        }
    }
}

/// Runs a task for no connection. If no thread can be started or the pool is stopping, short work
/// runs on the calling thread. Long work is dropped, because it would block the loop.
fn detach<R: Send + 'static>(lanes: &Lanes<R>, lane: Lane, task: Task) {
    let refused = lanes[lane as usize].enqueue_now(WorkItem { owner: None, work: Work::Task(task) });
    match (refused, lane) {
        (Ok(()), _) => {}
        (Err(work), Lane::Short) => drop(work.run()),
        (Err(work), Lane::Long | Lane::Listings | Lane::Passwords) => drop(work),
    }
}

impl<R: Send + 'static> Shared<R> {
    fn new(threads_max: usize, jobs_max: usize) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            jobs: 0,
            running: Vec::new(),
            resting: 0,
            threads: 0,
            threads_max,
            stopping: false,
        };
        Shared { queue: Mutex::new(queue), work: Condvar::new(), jobs_max, done: AtomicU64::new(0) }
    }

    /// Takes the lock, then queues the item.
    fn enqueue_now(self: &Arc<Self>, item: WorkItem<R>) -> Result<(), Work<R>> {
        let mut queue = lock(&self.queue);
        self.enqueue(&mut queue, item)
    }

    /// Queues an item, and starts a worker if none is free. Returns the work if no worker exists.
    fn enqueue(self: &Arc<Self>, queue: &mut Queue<R>, item: WorkItem<R>) -> Result<(), Work<R>> {
        if queue.stopping {
            return Err(item.work);
        }
        if queue.resting <= queue.waiting.len() && queue.threads < queue.threads_max {
            let shared = Arc::clone(self);
            let started =
                std::thread::Builder::new().name("whirligig-job".into()).spawn(move || work(&shared));
            match started {
                Ok(_) => queue.threads += 1,
                // An existing worker will take the item.
                Err(_) if queue.threads == 0 => return Err(item.work),
                Err(_) => {}
            }
        }
        queue.jobs += usize::from(item.work.is_job());
        queue.waiting.push_back(item);
        self.work.notify_one();
        Ok(())
    }
}

/// The job queue of one driver in front of a [`Pool`].
#[derive(Debug)]
pub struct PoolQueue<R> {
    lanes: Lanes<R>,
    inbox: Arc<Inbox<R>>,
}

impl<R: Send + 'static> JobQueue<R> for PoolQueue<R> {
    fn submit(&mut self, id: ConnId, lane: Lane, route: RouteName, job: Job<R>) -> Result<Ticket<R>, Job<R>> {
        let lane = &self.lanes[lane as usize];
        let mut queue = lock(&lane.queue);
        if queue.jobs >= lane.jobs_max {
            return Err(job);
        }
        let item = WorkItem { owner: Some((id, Arc::clone(&self.inbox))), work: Work::Job(route, job) };
        match lane.enqueue(&mut queue, item) {
            Err(Work::Job(_, job)) => Err(job),
            Ok(()) | Err(Work::Task(_)) => Ok(Ticket(TicketState::Pending)),
        }
    }

    fn cancel(&mut self, id: ConnId) -> Option<StillBusy> {
        let mut still_busy = None;
        for lane in &self.lanes {
            let mut queue = lock(&lane.queue);
            let mut cancelled = Vec::new();
            while let Some(at) = queue.waiting.iter().position(|item| item.is_of(id, &self.inbox)) {
                cancelled.extend(queue.waiting.remove(at));
            }
            queue.jobs = queue.waiting.iter().filter(|item| item.work.is_job()).count();
            let running = queue.running.iter().find(|(owner, _)| is_same(owner, id, &self.inbox));
            still_busy = still_busy.or(running.map(|(_, route)| StillBusy { route: route.clone() }));
            drop(queue);
            // Dropped outside the lock, because a value that a task owns may submit a task when it
            // is dropped.
            drop(cancelled);
        }
        still_busy
    }

    fn inbox(&self) -> &Arc<Inbox<R>> {
        &self.inbox
    }

    fn spawner(&self) -> Arc<dyn Spawn> {
        Arc::new(PoolQueue { lanes: self.lanes.clone(), inbox: Arc::clone(&self.inbox) })
    }
}

impl<R: Send + 'static> Spawn for PoolQueue<R> {
    fn run(&self, id: ConnId, lane: Lane, task: Task) -> Ran {
        let item = WorkItem { owner: Some((id, Arc::clone(&self.inbox))), work: Work::Task(task) };
        match self.lanes[lane as usize].enqueue_now(item) {
            Ok(()) => Ran::Queued,
            // No thread can be started, or the pool is stopping: the task runs on the calling
            // thread.
            Err(work) => {
                work.run();
                Ran::Inline
            }
        }
    }

    fn detach(&self, lane: Lane, task: Task) {
        detach(&self.lanes, lane, task);
    }
}

fn work<R>(shared: &Shared<R>) {
    // On Linux the niceness is that of the thread (nice(2)). It only makes the loop smoother, so a
    // failure is harmless.
    if let Err(errno) = rustix::process::nice(JOB_NICENESS) {
        log::debug!("a worker thread keeps its priority: {errno}");
    }
    loop {
        let item = {
            let mut queue = lock(&shared.queue);
            loop {
                if queue.stopping {
                    return;
                }
                if let Some(next) = queue.waiting.pop_front() {
                    queue.jobs -= usize::from(next.work.is_job());
                    if let (Some(owner), Work::Job(route, _)) = (&next.owner, &next.work) {
                        queue.running.push((owner.clone(), route.clone()));
                    }
                    break next;
                }
                queue.resting += 1;
                let (held, rest) =
                    shared.work.wait_timeout(queue, THREAD_REST).unwrap_or_else(PoisonError::into_inner);
                queue = held;
                queue.resting -= 1;
                if rest.timed_out() && queue.waiting.is_empty() {
                    queue.threads -= 1;
                    return;
                }
            }
        };
        let was_job = item.work.is_job();
        let done = item.work.run();
        shared.done.fetch_add(1, Ordering::Relaxed);
        if let Some((id, inbox)) = item.owner {
            if was_job {
                // A connection has at most one job at a time.
                lock(&shared.queue).running.retain(|(owner, _)| !is_same(owner, id, &inbox));
            }
            inbox.put(id, done);
        }
    }
}

/// A job queue that runs jobs immediately on the calling thread, for the threads model. Long shared
/// work goes to the workers of `pool`. Otherwise the threads of all clients could run as much of it
/// at once as there are clients.
#[derive(Debug)]
pub struct InlineQueue<R> {
    inbox: Arc<Inbox<R>>,
    pool: Arc<Pool<R>>,
}

impl<R> InlineQueue<R> {
    /// Creates a queue whose wake-ups go to `inbox`.
    #[must_use]
    pub fn new(inbox: Arc<Inbox<R>>, pool: Arc<Pool<R>>) -> Self {
        InlineQueue { inbox, pool }
    }
}

impl<R: Send + 'static> JobQueue<R> for InlineQueue<R> {
    fn submit(
        &mut self,
        _id: ConnId,
        _lane: Lane,
        _route: RouteName,
        job: Job<R>,
    ) -> Result<Ticket<R>, Job<R>> {
        Ok(Ticket(TicketState::Done(job())))
    }

    fn cancel(&mut self, _id: ConnId) -> Option<StillBusy> {
        None
    }

    fn inbox(&self) -> &Arc<Inbox<R>> {
        &self.inbox
    }

    fn spawner(&self) -> Arc<dyn Spawn> {
        Arc::new(Inline(Arc::clone(&self.pool)))
    }
}

/// A spawner that runs tasks immediately, except for long ones that serve several connections.
#[derive(Debug)]
struct Inline<R>(Arc<Pool<R>>);

impl<R: Send + 'static> Spawn for Inline<R> {
    fn run(&self, _id: ConnId, _lane: Lane, task: Task) -> Ran {
        task();
        Ran::Inline
    }

    fn detach(&self, lane: Lane, task: Task) {
        match lane {
            Lane::Short => task(),
            Lane::Long | Lane::Listings | Lane::Passwords => self.0.detach(lane, task),
        }
    }
}

#[cfg(test)]
mod tests;
