//! Tests of lanes, cancellation and the end of workers: a pool without a server.

use std::io;
use std::sync::mpsc;

use super::*;
use crate::jobs::inbox::Wake;

/// The result of every job in these tests.
type Result = &'static str;
type Job = super::Job<Result>;

fn answer() -> Result {
    "done"
}

/// Creates a wake-up that a test can wait for.
fn rings(woken: mpsc::Sender<()>) -> Wake {
    Box::new(move || woken.send(()).map_err(io::Error::other))
}

#[test]
fn results_come_back_under_their_name_with_one_wake_up_for_many() {
    let (woken, wake_ups) = mpsc::channel();
    let inbox = Arc::new(Inbox::new(rings(woken)));
    let pool = Pool::new(2, 16);
    let mut jobs = pool.job_queue(Arc::clone(&inbox));
    let (release, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    for n in 1..=4 {
        let gate = Arc::clone(&gate);
        let job: Job = Box::new(move || {
            lock(&gate).recv().unwrap();
            assert!(n != 3, "a job that fails");
            answer()
        });
        assert!(jobs.submit(ConnId::new(n, 0), Lane::Short, None, job).is_ok());
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
    assert!(wake_ups.try_recv().is_err(), "no needless wake-up");
}

/// Keeps a worker busy with a job until the returned sender is dropped.
fn keep_busy(jobs: &mut PoolQueue<Result>) -> mpsc::Sender<()> {
    let (started, has_started) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let blocking: Job = Box::new(move || {
        started.send(()).unwrap();
        gate.recv().ok();
        answer()
    });
    assert!(jobs.submit(ConnId::new(1, 0), Lane::Short, None, blocking).is_ok());
    has_started.recv().unwrap();
    release
}

/// Regression: listings and password checks took all workers, and a lookup on the disk waited
/// behind them.
#[test]
fn work_of_one_lane_does_not_wait_for_that_of_another() {
    let pool = Pool::new(1, 16);
    let (woken, wake_ups) = mpsc::channel();
    let inbox = Arc::new(Inbox::new(rings(woken)));
    let mut jobs = pool.job_queue(Arc::clone(&inbox));
    let (release, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    for lane in [Lane::Long, Lane::Listings, Lane::Passwords] {
        for _ in 0..20 {
            let gate = Arc::clone(&gate);
            jobs.spawner().detach(
                lane,
                Box::new(move || {
                    lock(&gate).recv().ok();
                }),
            );
        }
    }
    assert!(jobs.submit(ConnId::new(1, 0), Lane::Short, None, Box::new(answer)).is_ok());
    wake_ups.recv_timeout(PATIENCE).expect("the short job is done");
    let mut got = Vec::new();
    inbox.take(&mut got);
    assert_eq!(got.len(), 1);
    assert!(pool.tasks_waiting() >= 3 * 20 - 2 - PASSWORD_WORKERS_MAX);
    drop(release);
    // The other tasks wake no connection.
    while pool.jobs_done() < 61 {
        std::thread::yield_now();
    }
    assert!(!inbox.has_news() && wake_ups.try_recv().is_err());
}

/// A thread of the threads model runs short work itself. Long work of many clients would otherwise
/// run on as many threads.
#[test]
fn shared_work_of_the_twin_goes_to_the_workers_where_it_is_long() {
    let pool = Arc::new(Pool::<Result>::new(1, 16));
    let inbox = Arc::new(Inbox::new(Box::new(|| Ok(()))));
    let spawner = InlineQueue::new(inbox, Arc::clone(&pool)).spawner();
    for (lane, is_here) in Lane::ALL.map(|lane| (lane, lane == Lane::Short)) {
        let (done, is_done) = mpsc::channel();
        let own = std::thread::current().id();
        spawner.detach(lane, Box::new(move || done.send(std::thread::current().id() == own).unwrap()));
        assert_eq!(is_done.recv_timeout(PATIENCE), Ok(is_here), "{lane:?}");
    }
}

#[test]
fn a_full_queue_gives_the_job_back_and_cancel_makes_room() {
    let inbox = Arc::new(Inbox::new(Box::new(|| Ok(()))));
    let pool = Pool::new(1, 1);
    let mut jobs = pool.job_queue(inbox);
    let release = keep_busy(&mut jobs);
    assert!(jobs.submit(ConnId::new(2, 1), Lane::Short, None, Box::new(answer)).is_ok());
    assert!(jobs.submit(ConnId::new(3, 2), Lane::Short, None, Box::new(answer)).is_err());
    jobs.cancel(ConnId::new(2, 1));
    assert!(jobs.submit(ConnId::new(3, 2), Lane::Short, None, Box::new(answer)).is_ok());
    drop(release);
}

#[test]
fn a_worker_without_work_ends_and_another_comes_with_the_next_job() {
    let (woken, wake_ups) = mpsc::channel();
    let inbox = Arc::new(Inbox::new(rings(woken)));
    let pool = Pool::new(2, 1);
    let mut jobs = pool.job_queue(Arc::clone(&inbox));
    for _ in 0..2 {
        assert!(jobs.submit(ConnId::new(1, 0), Lane::Short, None, Box::new(answer)).is_ok());
        assert_eq!(pool.threads(), 1);
        wake_ups.recv().unwrap();
        inbox.take(&mut Vec::new());
        let mut queue = lock(&pool.lanes[0].queue);
        while queue.threads > 0 {
            // A worker that ends sends no signal.
            queue = pool.lanes[0].work.wait_timeout(queue, THREAD_REST).unwrap().0;
        }
    }
    assert_eq!(pool.jobs_done(), 2);
}

/// A worker's rest ends just as a job arrives: the worker waits for the lock to end, and finds work
/// when it gets the lock.
#[test]
fn a_job_that_comes_as_a_worker_leaves_is_done() {
    let (woken, wake_ups) = mpsc::channel();
    let inbox = Arc::new(Inbox::new(rings(woken)));
    let pool = Pool::new(1, 1);
    let mut jobs = pool.job_queue(Arc::clone(&inbox));
    assert!(jobs.submit(ConnId::new(1, 0), Lane::Short, None, Box::new(answer)).is_ok());
    wake_ups.recv().unwrap();
    inbox.take(&mut Vec::new());
    while lock(&pool.lanes[0].queue).resting == 0 {
        std::thread::yield_now();
    }
    let mut queue = lock(&pool.lanes[0].queue);
    let (_silent, nothing) = mpsc::channel::<()>();
    assert!(nothing.recv_timeout(2 * THREAD_REST).is_err());
    let item = WorkItem { owner: Some((ConnId::new(2, 0), inbox)), work: Work::Job(None, Box::new(answer)) };
    assert!(pool.lanes[0].enqueue(&mut queue, item).is_ok());
    drop(queue);
    wake_ups.recv_timeout(PATIENCE).expect("the job is done");
}

/// Time limit for events that should take no time.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Submits a task when it is dropped, like an aborted upload.
struct HandsIn(Arc<dyn Spawn>, mpsc::Sender<()>);

impl Drop for HandsIn {
    fn drop(&mut self) {
        let told = self.1.clone();
        self.0.detach(Lane::Short, Box::new(move || told.send(()).unwrap()));
    }
}

/// Regression: a client closed its connection while its upload waited for a worker. The upload was
/// dropped under the lock of the queue, and submitted a task from its destructor: the loop waited
/// for itself for ever.
#[test]
fn what_a_waiting_job_owns_may_hand_in_tasks_when_it_is_dropped() {
    for drops_pool in [false, true] {
        let (over, is_over) = mpsc::channel();
        let (told, is_told) = mpsc::channel();
        std::thread::spawn(move || {
            let pool = Pool::new(1, 16);
            let mut jobs = pool.job_queue(Arc::new(Inbox::new(Box::new(|| Ok(())))));
            let release = keep_busy(&mut jobs);
            let owned = HandsIn(jobs.spawner(), told);
            let waiting: Job = Box::new(move || {
                drop(owned);
                answer()
            });
            assert!(jobs.submit(ConnId::new(2, 1), Lane::Short, None, waiting).is_ok());
            let pool = match drops_pool {
                true => {
                    drop(pool);
                    None
                }
                false => {
                    jobs.cancel(ConnId::new(2, 1));
                    assert_eq!((pool.jobs_waiting(), pool.tasks_waiting()), (0, 1));
                    drop(release);
                    Some(pool)
                }
            };
            over.send(pool).unwrap();
        });
        let _pool = is_over.recv_timeout(PATIENCE).expect("the loop does not wait for itself");
        is_told.recv_timeout(PATIENCE).expect("the task is done");
    }
}
