//! Work that may block, done beside the loop, and the way its results come back.
//!
//! A [`Job`] runs on a worker thread and returns a [`Then`]: what is to be done with its result on
//! the loop, where the connection is. Results wait in the loop's [`Inbox`] under the name of their
//! connection; one wake-up serves however many have gathered. Under the threaded twin a job runs
//! inline, on the connection's own thread: that is what threads are for. This file must not know
//! HTTP.

pub mod pace;
pub mod places;
pub(crate) mod turns;

use crate::sync::lock;
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::config::{INBOX_LOOK, JOB_NICENESS, PASSWORD_WORKERS_MAX, THREAD_REST};
use crate::conn_id::ConnId;
use crate::handler::{Answer, Context};
use crate::observe::Gauges;
use crate::shortage::Relief;

/// What happens on the loop with a job's result: it makes the answer, or takes the next step
/// towards it.
pub type Then = Box<dyn FnOnce(&mut Context<'_>) -> Answer + Send>;

/// A question to a loop, called there with what the loop holds just now. Dropped unasked when the
/// loop has ended.
pub type Question = Box<dyn FnOnce(&Gauges) + Send>;

/// Work that may block. Runs once, off the loop.
pub type Job = Box<dyn FnOnce() -> Then + Send>;

/// Work that may block and answers nothing: part of what a response that is already under way
/// needs.
pub type Errand = Box<dyn FnOnce() + Send>;

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

/// Where an errand was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// Here and now: it is done.
    Here,
    /// It will be done elsewhere; then the connection is woken, as by its [`Waker`].
    Elsewhere,
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

/// Takes errands from anywhere: a body source has no [`Context`] while it is asked for content.
pub trait Errands: Send + Sync {
    /// Runs `errand` for this connection. Never refuses: a connection has one errand at a time
    /// under way, so connections bound them.
    fn run(&self, id: ConnId, lane: Lane, errand: Errand) -> Ran;

    /// Runs `errand` for no connection: nobody is woken after it, and no close cancels it. The
    /// caller bounds the number of these errands. Long ones are dropped where no thread can be had.
    fn detach(&self, lane: Lane, errand: Errand);
}

/// A promise that an answer comes later, through [`Context::job`].
pub struct Ticket(pub(crate) TicketState);

pub(crate) enum TicketState {
    /// The result comes through the inbox.
    Pending,
    /// The job ran inline.
    Done(Then),
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            TicketState::Pending => "Ticket(pending)",
            TicketState::Done(_) => "Ticket(done)",
        })
    }
}

/// What came back for a connection.
pub enum Done {
    /// A job ended.
    Finished(Then),
    /// A job panicked.
    Panicked,
    /// A body source has more to say, or an errand is done.
    Woken,
    /// Somebody asks how the loop stands: about no connection.
    Asked(Question),
    /// The place that its content holds may be another's now: see [`crate::jobs::places::Seat`].
    GiveWay,
    /// No descriptor is left in the process: about no connection.
    Shortage,
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Done::Finished(_) => "finished",
            Done::Panicked => "panicked",
            Done::Woken => "woken",
            Done::Asked(_) => "asked",
            Done::GiveWay => "gives way",
            Done::Shortage => "shortage",
        })
    }
}

/// Where jobs are handed in. One a driver.
pub trait JobDesk: Send {
    /// Takes a job for a connection, or gives it back when too many wait in its lane already.
    fn submit(&mut self, id: ConnId, lane: Lane, route: RouteName, job: Job) -> Result<Ticket, Job>;
    /// The connection waits no longer: its job need not start. Tells if a worker is busy with it.
    fn cancel(&mut self, id: ConnId) -> Option<StillBusy>;
    /// Where results and wake-ups for this driver go.
    fn inbox(&self) -> &Arc<Inbox>;
    /// Where errands are handed in.
    fn errands(&self) -> Arc<dyn Errands>;
}

/// Wakes the owner of an inbox. An error means that the owner was not woken.
pub type Wake = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// How often a wake-up is tried in a row. One that a signal interrupted succeeds the second time;
/// other errors last.
const WAKE_TRIES: u32 = 3;

/// Results on their way to one loop.
pub struct Inbox {
    waiting: Mutex<Vec<(ConnId, Done)>>,
    /// Set while a wake-up is on its way that nobody has answered: one is enough.
    signalled: AtomicBool,
    /// A failed wake-up was logged. What lasts is reported once.
    has_warned: AtomicBool,
    wake: Wake,
    /// Ends a wait for input of an owner that does not look in here meanwhile.
    interrupt: Option<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl Inbox {
    /// An inbox whose owner is woken by `wake`.
    ///
    /// A wake-up may fail. The owner must therefore look at [`Inbox::has_news`] at least every
    /// [`INBOX_LOOK`], whether it was woken or not.
    #[must_use]
    pub fn new(wake: Wake) -> Self {
        Inbox {
            waiting: Mutex::default(),
            signalled: AtomicBool::default(),
            has_warned: AtomicBool::default(),
            wake,
            interrupt: None,
        }
    }

    /// This inbox for an owner that waits in reads: `interrupt` ends such a wait, and all reading.
    #[must_use]
    pub fn interrupted_by(self, interrupt: impl Fn() + Send + Sync + 'static) -> Self {
        Inbox { interrupt: Some(Box::new(interrupt)), ..self }
    }

    /// Leaves a result and wakes the owner unless that is under way.
    pub fn put(&self, id: ConnId, done: Done) {
        lock(&self.waiting).push((id, done));
        if !self.signalled.swap(true, Ordering::AcqRel) {
            self.signal();
        }
    }

    /// Wakes the owner. After a failure the flag is cleared, so that the next result tries again: a
    /// flag that stayed set would silence this inbox for ever.
    fn signal(&self) {
        let mut tries_left = WAKE_TRIES;
        while let Err(error) = (self.wake)() {
            tries_left -= 1;
            if tries_left == 0 {
                self.signalled.store(false, Ordering::Release);
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    log::warn!("a wake-up failed: {error}; results may be up to {INBOX_LOOK:?} late");
                }
                return;
            }
        }
    }

    /// Returns true if results wait here: for an owner that was not woken.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !lock(&self.waiting).is_empty()
    }

    /// Asks the owner how it stands; it says so in its next turn.
    pub fn ask(&self, question: Question) {
        self.put(ConnId::new(0, 0), Done::Asked(question));
    }

    /// Takes all results into `into`. The owner calls this once a turn; what comes later wakes it
    /// again.
    pub fn take(&self, into: &mut Vec<(ConnId, Done)>) {
        self.signalled.swap(false, Ordering::AcqRel);
        into.append(&mut lock(&self.waiting));
    }
}

impl Relief for Inbox {
    /// Has the loop close connections that are idle.
    fn relieve(&self) {
        self.put(ConnId::new(0, 0), Done::Shortage);
    }
}

/// Tells a loop, from any thread, that a body source of this connection has more to say.
#[derive(Clone, Debug)]
pub struct Waker {
    id: ConnId,
    inbox: Arc<Inbox>,
}

impl Waker {
    pub(crate) fn new(id: ConnId, inbox: Arc<Inbox>) -> Self {
        Waker { id, inbox }
    }

    /// Has the source asked again. Harmless when the connection is gone, or when it was not
    /// waiting.
    pub fn wake(&self) {
        self.inbox.put(self.id, Done::Woken);
    }

    /// Has the connection look whether it has lost its place, wherever it waits.
    pub(crate) fn give_way(&self) {
        self.inbox.put(self.id, Done::GiveWay);
        if let Some(interrupt) = &self.inbox.interrupt {
            interrupt();
        }
    }

    /// Brings what a pending [`Ticket`] has promised, as a job's end would.
    pub(crate) fn finish(&self, then: Then) {
        self.inbox.put(self.id, Done::Finished(then));
    }
}

/// A small, bounded set of worker threads, divided into [lanes](Lane).
#[derive(Debug)]
pub struct Pool {
    lanes: Lanes,
}

type Lanes = [Arc<Shared>; Lane::ALL.len()];

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    jobs_max: usize,
    done: AtomicU64,
}

struct Queue {
    waiting: VecDeque<Task>,
    /// How many of them are jobs; errands are not refused, so they do not count.
    jobs: usize,
    /// Jobs of connections that workers are busy with.
    running: Vec<(Owner, RouteName)>,
    /// Threads that wait for work.
    resting: usize,
    threads: usize,
    threads_max: usize,
    stopping: bool,
}

/// Something for a worker to do.
struct Task {
    /// The connection that gets the result, if any.
    owner: Option<Owner>,
    work: Work,
}

/// The connection that gets a result, and the way to it.
type Owner = (ConnId, Arc<Inbox>);

fn is_same((id, inbox): &Owner, other_id: ConnId, other_inbox: &Arc<Inbox>) -> bool {
    *id == other_id && Arc::ptr_eq(inbox, other_inbox)
}

impl Task {
    fn is_of(&self, id: ConnId, inbox: &Arc<Inbox>) -> bool {
        self.owner.as_ref().is_some_and(|owner| is_same(owner, id, inbox))
    }
}

enum Work {
    Job(RouteName, Job),
    Errand(Errand),
}

impl Work {
    /// Does it. A panic costs whom it was for, not the worker: an errand's source finds out by
    /// itself.
    fn run(self) -> Done {
        use std::panic::{AssertUnwindSafe, catch_unwind};
        match self {
            Work::Job(_, job) => catch_unwind(AssertUnwindSafe(job)).map_or(Done::Panicked, Done::Finished),
            Work::Errand(errand) => {
                drop(catch_unwind(AssertUnwindSafe(errand)));
                Done::Woken
            }
        }
    }

    fn is_job(&self) -> bool {
        matches!(self, Work::Job(..))
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} waiting, {} threads)", self.waiting.len(), self.threads)
    }
}

impl Pool {
    /// A pool of up to `threads_max` workers for short work, as many for long work and half as many
    /// for listings, started as they are needed, with at most `jobs_max` jobs waiting.
    #[must_use]
    pub fn new(threads_max: usize, jobs_max: usize) -> Self {
        let lane = |lane: Lane| Arc::new(Shared::new(lane.threads_max(threads_max), jobs_max));
        Pool { lanes: Lane::ALL.map(lane) }
    }

    /// A desk for one driver.
    #[must_use]
    pub fn desk(&self, inbox: Arc<Inbox>) -> PoolDesk {
        PoolDesk { lanes: self.lanes.clone(), inbox }
    }

    fn queues(&self) -> impl Iterator<Item = MutexGuard<'_, Queue>> {
        self.lanes.iter().map(|lane| lock(&lane.queue))
    }

    /// Jobs and errands done so far.
    #[must_use]
    pub fn jobs_done(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.done.load(Ordering::Relaxed)).sum()
    }

    /// Jobs that wait for a worker now.
    #[must_use]
    pub fn jobs_waiting(&self) -> usize {
        self.queues().map(|queue| queue.jobs).sum()
    }

    /// Errands that wait for a worker now.
    #[must_use]
    pub fn errands_waiting(&self) -> usize {
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

    /// Runs `errand` for no connection, on a worker of `lane`.
    pub fn detach(&self, lane: Lane, errand: Errand) {
        detach(&self.lanes, lane, errand);
    }
}

impl Drop for Pool {
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
            // Not under the lock: what a task owns may hand in an errand when it is dropped.
            drop(dropped);
        }
    }
}

/// Where not one thread can be had, or the pool is gone, short work is done here: better late than
/// never. Long work is dropped, because it would hold the loop.
fn detach(lanes: &Lanes, lane: Lane, errand: Errand) {
    let refused = lanes[lane as usize].enqueue_now(Task { owner: None, work: Work::Errand(errand) });
    match (refused, lane) {
        (Ok(()), _) => {}
        (Err(work), Lane::Short) => drop(work.run()),
        (Err(work), Lane::Long | Lane::Listings | Lane::Passwords) => drop(work),
    }
}

impl Shared {
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
    fn enqueue_now(self: &Arc<Self>, task: Task) -> Result<(), Work> {
        let mut queue = lock(&self.queue);
        self.enqueue(&mut queue, task)
    }

    /// Queues a task and sees to it that somebody will do it; gives it back where there is nobody.
    fn enqueue(self: &Arc<Self>, queue: &mut Queue, task: Task) -> Result<(), Work> {
        if queue.stopping {
            return Err(task.work);
        }
        if queue.resting <= queue.waiting.len() && queue.threads < queue.threads_max {
            let shared = Arc::clone(self);
            let started =
                std::thread::Builder::new().name("whirligig-job".into()).spawn(move || work(&shared));
            match started {
                Ok(_) => queue.threads += 1,
                // Another worker will get to it, if there is one.
                Err(_) if queue.threads == 0 => return Err(task.work),
                Err(_) => {}
            }
        }
        queue.jobs += usize::from(task.work.is_job());
        queue.waiting.push_back(task);
        self.work.notify_one();
        Ok(())
    }
}

/// Hands jobs to a [`Pool`].
#[derive(Clone, Debug)]
pub struct PoolDesk {
    lanes: Lanes,
    inbox: Arc<Inbox>,
}

impl JobDesk for PoolDesk {
    fn submit(&mut self, id: ConnId, lane: Lane, route: RouteName, job: Job) -> Result<Ticket, Job> {
        let lane = &self.lanes[lane as usize];
        let mut queue = lock(&lane.queue);
        if queue.jobs >= lane.jobs_max {
            return Err(job);
        }
        let task = Task { owner: Some((id, Arc::clone(&self.inbox))), work: Work::Job(route, job) };
        match lane.enqueue(&mut queue, task) {
            Err(Work::Job(_, job)) => Err(job),
            Ok(()) | Err(Work::Errand(_)) => Ok(Ticket(TicketState::Pending)),
        }
    }

    fn cancel(&mut self, id: ConnId) -> Option<StillBusy> {
        let mut still_busy = None;
        for lane in &self.lanes {
            let mut queue = lock(&lane.queue);
            let mut cancelled = Vec::new();
            while let Some(at) = queue.waiting.iter().position(|task| task.is_of(id, &self.inbox)) {
                cancelled.extend(queue.waiting.remove(at));
            }
            queue.jobs = queue.waiting.iter().filter(|task| task.work.is_job()).count();
            let running = queue.running.iter().find(|(owner, _)| is_same(owner, id, &self.inbox));
            still_busy = still_busy.or(running.map(|(_, route)| StillBusy { route: route.clone() }));
            drop(queue);
            // Not under the lock: what a task owns may hand in an errand when it is dropped.
            drop(cancelled);
        }
        still_busy
    }

    fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    fn errands(&self) -> Arc<dyn Errands> {
        Arc::new(self.clone())
    }
}

impl Errands for PoolDesk {
    fn run(&self, id: ConnId, lane: Lane, errand: Errand) -> Ran {
        let task = Task { owner: Some((id, Arc::clone(&self.inbox))), work: Work::Errand(errand) };
        match self.lanes[lane as usize].enqueue_now(task) {
            Ok(()) => Ran::Elsewhere,
            // Not one thread can be had, or the pool is gone: better late than never.
            Err(work) => {
                work.run();
                Ran::Here
            }
        }
    }

    fn detach(&self, lane: Lane, errand: Errand) {
        detach(&self.lanes, lane, errand);
    }
}

fn work(shared: &Shared) {
    // On Linux this is the thread's own (nice(2)). Without it everything is done as well, only less
    // smoothly.
    if let Err(errno) = rustix::process::nice(JOB_NICENESS) {
        log::debug!("a worker thread keeps its priority: {errno}");
    }
    loop {
        let task = {
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
        let was_job = task.work.is_job();
        let done = task.work.run();
        shared.done.fetch_add(1, Ordering::Relaxed);
        if let Some((id, inbox)) = task.owner {
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
pub struct InlineDesk {
    inbox: Arc<Inbox>,
    pool: Arc<Pool>,
}

impl InlineDesk {
    /// A desk whose wake-ups go to `inbox`.
    #[must_use]
    pub fn new(inbox: Arc<Inbox>, pool: Arc<Pool>) -> Self {
        InlineDesk { inbox, pool }
    }
}

impl JobDesk for InlineDesk {
    fn submit(&mut self, _id: ConnId, _lane: Lane, _route: RouteName, job: Job) -> Result<Ticket, Job> {
        Ok(Ticket(TicketState::Done(job())))
    }

    fn cancel(&mut self, _id: ConnId) -> Option<StillBusy> {
        None
    }

    fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    fn errands(&self) -> Arc<dyn Errands> {
        Arc::new(Inline(Arc::clone(&self.pool)))
    }
}

/// Does errands at once, other than long ones that are for several connections.
#[derive(Debug)]
struct Inline(Arc<Pool>);

impl Errands for Inline {
    fn run(&self, _id: ConnId, _lane: Lane, errand: Errand) -> Ran {
        errand();
        Ran::Here
    }

    fn detach(&self, lane: Lane, errand: Errand) {
        match lane {
            Lane::Short => errand(),
            Lane::Long | Lane::Listings | Lane::Passwords => self.0.detach(lane, errand),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Response;
    use std::sync::mpsc;

    fn answer() -> Then {
        Box::new(|_| Answer::Now(Response::text("done")))
    }

    /// A wake-up that a test can wait for.
    fn rings(woken: mpsc::Sender<()>) -> Wake {
        Box::new(move || woken.send(()).map_err(io::Error::other))
    }

    /// A wake-up that fails as often as `failures` has it, then rings. Each try counts in `tried`.
    fn fails(failures: u32, tried: &Arc<AtomicU64>, woken: mpsc::Sender<()>) -> Wake {
        let (left, tried) = (Mutex::new(failures), Arc::clone(tried));
        Box::new(move || {
            tried.fetch_add(1, Ordering::Relaxed);
            let mut left = lock(&left);
            if *left > 0 {
                *left -= 1;
                return Err(io::ErrorKind::Interrupted.into());
            }
            woken.send(()).map_err(io::Error::other)
        })
    }

    /// One wake-up failed, the flag stayed set, and no result of a job was ever seen again.
    #[test]
    fn a_wake_up_that_fails_does_not_silence_those_after_it() {
        for failures in [1, WAKE_TRIES - 1, WAKE_TRIES, 2 * WAKE_TRIES + 1] {
            let (woken, wake_ups) = mpsc::channel();
            let tried = Arc::new(AtomicU64::new(0));
            let inbox = Inbox::new(fails(failures, &tried, woken));
            let mut put = 0;
            while wake_ups.try_recv().is_err() {
                inbox.put(ConnId::new(1, 0), Done::Woken);
                put += 1;
                assert!(put <= 1 + failures / WAKE_TRIES, "{failures} failures, and {put} results");
            }
            assert_eq!(tried.load(Ordering::Relaxed), u64::from(failures) + 1, "{failures}");
            inbox.put(ConnId::new(1, 0), Done::Woken);
            assert!(wake_ups.try_recv().is_err(), "one wake-up serves all results until they are taken");
            assert!(inbox.has_news());
            let mut got = Vec::new();
            inbox.take(&mut got);
            assert_eq!(got.len(), put as usize + 1);
            assert!(!inbox.has_news());
            inbox.put(ConnId::new(1, 0), Done::Woken);
            assert!(wake_ups.try_recv().is_ok(), "after {failures} failures");
        }
    }

    #[test]
    fn results_come_back_under_their_name_with_one_wake_up_for_many() {
        let (woken, wake_ups) = mpsc::channel();
        let inbox = Arc::new(Inbox::new(rings(woken)));
        let pool = Pool::new(2, 16);
        let mut desk = pool.desk(Arc::clone(&inbox));
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for n in 1..=4 {
            let gate = Arc::clone(&gate);
            let job: Job = Box::new(move || {
                lock(&gate).recv().unwrap();
                assert!(n != 3, "a job that fails");
                answer()
            });
            assert!(desk.submit(ConnId::new(n, 0), Lane::Short, None, job).is_ok());
        }
        for _ in 1..=4 {
            release.send(()).unwrap();
        }
        let mut got = Vec::new();
        while got.len() < 4 {
            wake_ups.recv().unwrap();
            inbox.take(&mut got);
        }
        let mut names: Vec<_> = got.iter().map(|(id, done)| (id.generation(), format!("{done:?}"))).collect();
        names.sort();
        let expected = [(1, "finished"), (2, "finished"), (3, "panicked"), (4, "finished")];
        assert_eq!(names, expected.map(|(n, done)| (n, done.to_string())));
        assert!(wake_ups.try_recv().is_err(), "nobody is woken for nothing");
    }

    /// Has a worker busy with a job until what is returned is dropped.
    fn keep_busy(desk: &mut PoolDesk) -> mpsc::Sender<()> {
        let (started, has_started) = mpsc::channel();
        let (release, gate) = mpsc::channel::<()>();
        let blocking: Job = Box::new(move || {
            started.send(()).unwrap();
            gate.recv().ok();
            answer()
        });
        assert!(desk.submit(ConnId::new(1, 0), Lane::Short, None, blocking).is_ok());
        has_started.recv().unwrap();
        release
    }

    /// Listings and password checks took all workers, and a look at the disk waited behind them.
    #[test]
    fn work_of_one_lane_does_not_wait_for_that_of_another() {
        let pool = Pool::new(1, 16);
        let (woken, wake_ups) = mpsc::channel();
        let inbox = Arc::new(Inbox::new(rings(woken)));
        let mut desk = pool.desk(Arc::clone(&inbox));
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for lane in [Lane::Long, Lane::Listings, Lane::Passwords] {
            for _ in 0..20 {
                let gate = Arc::clone(&gate);
                desk.errands().detach(
                    lane,
                    Box::new(move || {
                        lock(&gate).recv().ok();
                    }),
                );
            }
        }
        assert!(desk.submit(ConnId::new(1, 0), Lane::Short, None, Box::new(answer)).is_ok());
        wake_ups.recv_timeout(PATIENCE).expect("the short job is done");
        let mut got = Vec::new();
        inbox.take(&mut got);
        assert_eq!(got.len(), 1);
        assert!(pool.errands_waiting() >= 3 * 20 - 2 - PASSWORD_WORKERS_MAX);
        drop(release);
        // No wake-up follows the others.
        while pool.jobs_done() < 61 {
            std::thread::yield_now();
        }
        assert!(!inbox.has_news() && wake_ups.try_recv().is_err());
    }

    /// A thread of the twin does short work itself; the long work of many would be done by as many.
    #[test]
    fn shared_work_of_the_twin_goes_to_the_workers_where_it_is_long() {
        let pool = Arc::new(Pool::new(1, 16));
        let inbox = Arc::new(Inbox::new(Box::new(|| Ok(()))));
        let errands = InlineDesk::new(inbox, Arc::clone(&pool)).errands();
        for (lane, is_here) in Lane::ALL.map(|lane| (lane, lane == Lane::Short)) {
            let (done, is_done) = mpsc::channel();
            let own = std::thread::current().id();
            errands.detach(lane, Box::new(move || done.send(std::thread::current().id() == own).unwrap()));
            assert_eq!(is_done.recv_timeout(PATIENCE), Ok(is_here), "{lane:?}");
        }
    }

    #[test]
    fn a_full_queue_gives_the_job_back_and_cancel_makes_room() {
        let inbox = Arc::new(Inbox::new(Box::new(|| Ok(()))));
        let pool = Pool::new(1, 1);
        let mut desk = pool.desk(inbox);
        let release = keep_busy(&mut desk);
        assert!(desk.submit(ConnId::new(2, 1), Lane::Short, None, Box::new(answer)).is_ok());
        assert!(desk.submit(ConnId::new(3, 2), Lane::Short, None, Box::new(answer)).is_err());
        desk.cancel(ConnId::new(2, 1));
        assert!(desk.submit(ConnId::new(3, 2), Lane::Short, None, Box::new(answer)).is_ok());
        drop(release);
    }

    #[test]
    fn a_worker_without_work_ends_and_another_comes_with_the_next_job() {
        let (woken, wake_ups) = mpsc::channel();
        let inbox = Arc::new(Inbox::new(rings(woken)));
        let pool = Pool::new(2, 1);
        let mut desk = pool.desk(Arc::clone(&inbox));
        for _ in 0..2 {
            assert!(desk.submit(ConnId::new(1, 0), Lane::Short, None, Box::new(answer)).is_ok());
            assert_eq!(pool.threads(), 1);
            wake_ups.recv().unwrap();
            inbox.take(&mut Vec::new());
            let mut queue = lock(&pool.lanes[0].queue);
            while queue.threads > 0 {
                // The worker that ends tells nobody.
                queue = pool.lanes[0].work.wait_timeout(queue, THREAD_REST).unwrap().0;
            }
        }
        assert_eq!(pool.jobs_done(), 2);
    }

    /// The worker's time is over just as a job comes: it wants the lock to leave, and finds work
    /// when it gets it.
    #[test]
    fn a_job_that_comes_as_a_worker_leaves_is_done() {
        let (woken, wake_ups) = mpsc::channel();
        let inbox = Arc::new(Inbox::new(rings(woken)));
        let pool = Pool::new(1, 1);
        let mut desk = pool.desk(Arc::clone(&inbox));
        assert!(desk.submit(ConnId::new(1, 0), Lane::Short, None, Box::new(answer)).is_ok());
        wake_ups.recv().unwrap();
        inbox.take(&mut Vec::new());
        while lock(&pool.lanes[0].queue).resting == 0 {
            std::thread::yield_now();
        }
        let mut queue = lock(&pool.lanes[0].queue);
        let (_silent, nothing) = mpsc::channel::<()>();
        assert!(nothing.recv_timeout(2 * THREAD_REST).is_err());
        let task = Task { owner: Some((ConnId::new(2, 0), inbox)), work: Work::Job(None, Box::new(answer)) };
        assert!(pool.lanes[0].enqueue(&mut queue, task).is_ok());
        drop(queue);
        wake_ups.recv_timeout(PATIENCE).expect("the job is done");
    }

    /// How long a test waits for what should take no time.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

    /// Hands in an errand when it is dropped, as a broken-off upload does.
    struct HandsIn(Arc<dyn Errands>, mpsc::Sender<()>);

    impl Drop for HandsIn {
        fn drop(&mut self) {
            let told = self.1.clone();
            self.0.detach(Lane::Short, Box::new(move || told.send(()).unwrap()));
        }
    }

    /// A client went while its upload waited for a worker. The upload was dropped under the lock of
    /// the queue, and dropping it meant to hand in an errand: the loop waited for itself, and with
    /// it everybody.
    #[test]
    fn what_a_waiting_job_owns_may_hand_in_errands_when_it_is_dropped() {
        for drops_pool in [false, true] {
            let (over, is_over) = mpsc::channel();
            let (told, is_told) = mpsc::channel();
            std::thread::spawn(move || {
                let pool = Pool::new(1, 16);
                let mut desk = pool.desk(Arc::new(Inbox::new(Box::new(|| Ok(())))));
                let release = keep_busy(&mut desk);
                let owned = HandsIn(desk.errands(), told);
                let waiting: Job = Box::new(move || {
                    drop(owned);
                    answer()
                });
                assert!(desk.submit(ConnId::new(2, 1), Lane::Short, None, waiting).is_ok());
                let pool = match drops_pool {
                    true => {
                        drop(pool);
                        None
                    }
                    false => {
                        desk.cancel(ConnId::new(2, 1));
                        assert_eq!((pool.jobs_waiting(), pool.errands_waiting()), (0, 1));
                        drop(release);
                        Some(pool)
                    }
                };
                over.send(pool).unwrap();
            });
            let _pool = is_over.recv_timeout(PATIENCE).expect("nobody waits for himself");
            is_told.recv_timeout(PATIENCE).expect("the errand is done");
        }
    }
}
