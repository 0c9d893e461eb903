//! Work that may block, done beside the loop, and the way its results come back.
//!
//! A [`Job`] runs on a worker thread and returns a result of any type `R`. Results wait in the
//! loop's [`Inbox`] under the name of their connection; one wake-up serves all that have gathered.
//! Under the threaded twin a job runs inline, on the connection's own thread: that is what threads
//! are for. This folder must not know HTTP, nor what the results are.

pub mod inbox;
pub mod pace;
pub mod sender_permits;
pub(crate) mod turns;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::config::{JOB_NICENESS, PASSWORD_WORKERS_MAX, THREAD_REST};
use crate::conn_id::ConnId;
use crate::jobs::inbox::{Done, Inbox};
use crate::sync::lock;

/// Work that may block. Runs once, off the loop.
pub type Job<R> = Box<dyn FnOnce() -> R + Send>;

/// Work that may block and answers nothing: part of what a response that is already under way
/// needs.
pub type Task = Box<dyn FnOnce() + Send>;

/// The route that a job answers for, as the program wrote it. `None` if no route of its own asked
/// for the job.
pub type RouteName = Option<Arc<str>>;

/// A worker is busy with a job that nobody waits for any more.
#[derive(Debug)]
pub struct StillBusy {
    /// The route that the job answers for.
    pub route: RouteName,
}

impl StillBusy {
    /// Logs the job. `answered` is the status that the client received, or the reason for its wait.
    pub(crate) fn log(&self, answered: &str) {
        match &self.route {
            Some(route) => {
                log::warn!(
                    "route '{route}': the answer took too long ({answered}), its worker is still busy"
                );
            }
            None => log::warn!("an answer took too long ({answered}), its worker is still busy"),
        }
    }
}

/// Reports how [`Spawn::run`] runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The task ran on the calling thread and is finished.
    Inline,
    /// The task waits for a worker. The connection is woken after it, as by its [`inbox::Waker`].
    Queued,
}

/// The workers that do a task. Each lane has a queue and workers of its own, because a look at the
/// disk must not wait behind a listing, and nothing must wait behind passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Looks at the disk, writes, starts of programs, jobs of the library's user.
    Short,
    /// Parts of long responses: archives, compression, listings that were read.
    Long,
    /// Reading of folders for listings: one takes up to some hundred milliseconds.
    Listings,
    /// Password checks (bcrypt): each takes a processor for as long as its cost says.
    Passwords,
}

impl Lane {
    /// All lanes, in the order of their numbers.
    pub const ALL: [Lane; 4] = [Lane::Short, Lane::Long, Lane::Listings, Lane::Passwords];

    /// Worker threads of this lane in a pool of `threads_max`.
    fn threads_max(self, threads_max: usize) -> usize {
        match self {
            Lane::Short | Lane::Long => threads_max.max(1),
            // Each of them may keep a processor busy.
            Lane::Listings => (threads_max / 2).max(1),
            Lane::Passwords => {
                // At most half of the processors, or a flood of guesses would take all of them.
                let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
                (processors / 2).clamp(1, PASSWORD_WORKERS_MAX)
            }
        }
    }
}

/// Accepts tasks from any thread. A body source needs this, because it has no
/// [`Context`](crate::handler::Context) while it produces content.
pub trait Spawn: Send + Sync {
    /// Runs `task` for this connection. Never refuses: a connection has one task at a time
    /// under way, so connections bound them.
    fn run(&self, id: ConnId, lane: Lane, task: Task) -> Ran;

    /// Runs `task` for no connection: nobody is woken after it, and no close cancels it. The
    /// caller bounds the number of these tasks. Long ones are dropped where no thread can be had.
    fn detach(&self, lane: Lane, task: Task);
}

/// A promise that an answer comes later, through [`JobQueue::submit`].
pub struct Ticket<R>(pub(crate) TicketState<R>);

pub(crate) enum TicketState<R> {
    /// The result comes through the inbox.
    Pending,
    /// The job ran inline.
    Done(R),
}

impl<R> Ticket<R> {
    /// A ticket whose result comes through the inbox.
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

/// Accepts the jobs of one driver.
pub trait JobQueue<R>: Send {
    /// Takes a job for a connection, or gives it back when too many wait in its lane already.
    fn submit(&mut self, id: ConnId, lane: Lane, route: RouteName, job: Job<R>) -> Result<Ticket<R>, Job<R>>;
    /// The connection waits no longer: its job need not start. Tells if a worker is busy with it.
    fn cancel(&mut self, id: ConnId) -> Option<StillBusy>;
    /// Where results and wake-ups for this driver go.
    fn inbox(&self) -> &Arc<Inbox<R>>;
    /// Where tasks are handed in.
    fn spawner(&self) -> Arc<dyn Spawn>;
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
    /// How many of them are jobs; tasks are not refused, so they do not count.
    jobs: usize,
    /// Jobs of connections that workers are busy with.
    running: Vec<(Owner<R>, RouteName)>,
    /// Threads that wait for work.
    resting: usize,
    threads: usize,
    threads_max: usize,
    stopping: bool,
}

/// Something for a worker to do.
struct WorkItem<R> {
    /// The connection that gets the result, if any.
    owner: Option<Owner<R>>,
    work: Work<R>,
}

/// The connection that gets a result, and the way to it.
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
    /// Does it. A panic costs whom it was for, not the worker: a task's source finds out by
    /// itself.
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
    /// A pool of up to `threads_max` workers for short work, as many for long work and half as many
    /// for listings, started as they are needed, with at most `jobs_max` jobs waiting.
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

    /// Jobs and tasks done so far.
    #[must_use]
    pub fn jobs_done(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.done.load(Ordering::Relaxed)).sum()
    }

    /// Jobs that wait for a worker now.
    #[must_use]
    pub fn jobs_waiting(&self) -> usize {
        self.queues().map(|queue| queue.jobs).sum()
    }

    /// Tasks that wait for a worker now.
    #[must_use]
    pub fn tasks_waiting(&self) -> usize {
        self.queues().map(|queue| queue.waiting.len() - queue.jobs).sum()
    }

    /// Jobs that may wait.
    #[must_use]
    pub fn jobs_max(&self) -> usize {
        self.lanes[Lane::Short as usize].jobs_max
    }

    /// Worker threads there are now. They come with work and go when there has been none for
    /// [`THREAD_REST`].
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
    /// Jobs under way are left to end by themselves: nobody waits for what may block.
    fn drop(&mut self) {
        for lane in &self.lanes {
            let dropped = {
                let mut queue = lock(&lane.queue);
                queue.stopping = true;
                queue.jobs = 0;
                std::mem::take(&mut queue.waiting)
            };
            lane.work.notify_all();
            // Not under the lock: what a task owns may hand in a task when it is dropped.
            drop(dropped);
        }
    }
}

/// Where not one thread can be had, or the pool is gone, short work is done here: better late than
/// never. Long work is dropped, because it would hold the loop.
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

    /// Takes the lock, then queues the task.
    fn enqueue_now(self: &Arc<Self>, item: WorkItem<R>) -> Result<(), Work<R>> {
        let mut queue = lock(&self.queue);
        self.enqueue(&mut queue, item)
    }

    /// Queues a task and sees to it that somebody will do it; gives it back where there is nobody.
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
                // Another worker will get to it, if there is one.
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

/// Hands jobs to a [`Pool`].
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
            // Not under the lock: what a task owns may hand in a task when it is dropped.
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
            // Not one thread can be had, or the pool is gone: better late than never.
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
    // On Linux this is the thread's own (nice(2)). Without it everything is done as well, only less
    // smoothly.
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
                // Of one connection there is one job at a time.
                lock(&shared.queue).running.retain(|(owner, _)| !is_same(owner, id, &inbox));
            }
            inbox.put(id, done);
        }
    }
}

/// Runs jobs at once, on the caller's thread: for the threaded twin. Shared work that is long goes
/// to the workers of `pool`, because a thread of each client would do as much of it at once as
/// there are clients.
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

/// Does tasks at once, other than long ones that are for several connections.
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
