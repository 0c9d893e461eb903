//! A fair queue of tasks that wait for a worker, ordered by the clients that caused them.
//!
//! A password check takes a worker some 50 ms and the listing of a long folder more, so a client
//! that requests many fills the queue. Each origin therefore has one task in each round. A full
//! queue drops the last task of the origin with the most tasks. So a flood from one address delays
//! a request from another by one task. This file must not know the tasks.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::conn_id::Peer;
use crate::jobs::{Lane, Spawn};
use crate::sync::lock;

/// A task that can wait in a [`FairQueue`].
pub(crate) trait FairTask: Send + 'static {
    /// The workers that run it.
    const LANE: Lane;

    /// Returns false if no request waits for its result any more.
    fn is_wanted(&self) -> bool;

    /// Runs the task, on a worker.
    fn run(self);
}

/// Clients that are counted as one: those of a network, or all clients of Unix sockets, which are
/// usually those of one proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(Option<IpAddr>);

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(ip @ IpAddr::V4(_)) => ip.fmt(f),
            Some(network @ IpAddr::V6(_)) => write!(f, "{network}/64"),
            None => f.write_str("a Unix socket"),
        }
    }
}

impl Origin {
    pub(crate) fn of(peer: &Peer) -> Self {
        Origin(peer.network())
    }
}

/// A bounded queue in which all origins advance equally.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    queue: Mutex<Queue<T>>,
    /// Largest number of waiting tasks.
    tasks_max: usize,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: Vec<Waiting<T>>,
    /// The round of the task that was taken last.
    round: u64,
    /// Workers that were called and have not taken a task yet.
    called: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    origin: Origin,
    /// Each origin has one task in each round.
    round: u64,
    task: T,
}

/// The outcome of adding a task.
#[derive(Debug)]
struct Pushed<T> {
    /// Tasks removed from the queue, possibly the new one. The caller drops them without a lock.
    dropped: Vec<T>,
    /// True if a worker has to be called to take a task.
    calls: bool,
}

impl<T: FairTask> FairQueue<T> {
    /// Queues a task and calls a worker for it. If the queue is full, one task is dropped: this one
    /// or another.
    pub(crate) fn submit(self: &Arc<Self>, origin: Origin, task: T, spawner: &Arc<dyn Spawn>) {
        let Pushed { dropped, calls } = self.push(origin, task, T::is_wanted);
        drop(dropped);
        if calls {
            let call = Call(Some(Arc::clone(self)));
            spawner.detach(T::LANE, Box::new(move || call.answer()));
        }
    }
}

/// A worker that was called for the next task.
struct Call<T>(Option<Arc<FairQueue<T>>>);

impl<T: FairTask> Call<T> {
    fn answer(mut self) {
        if let Some(task) = self.0.take().and_then(|queue| queue.next()) {
            task.run();
        }
    }
}

impl<T> Drop for Call<T> {
    /// Drops one task if no worker came, because it would wait for ever.
    fn drop(&mut self) {
        drop(self.0.take().and_then(|queue| queue.next()));
    }
}

impl<T> FairQueue<T> {
    /// Creates an empty queue in which `tasks_max` tasks may wait.
    pub(crate) fn new(tasks_max: usize) -> Self {
        FairQueue { queue: Mutex::new(Queue { waiting: Vec::new(), round: 0, called: 0 }), tasks_max }
    }

    /// Adds a task. Tasks that are not wanted any more are removed first.
    fn push(&self, origin: Origin, task: T, is_wanted: impl Fn(&T) -> bool) -> Pushed<T> {
        let mut queue = lock(&self.queue);
        let unwanted = queue.waiting.extract_if(.., |waiting| !is_wanted(&waiting.task));
        let mut dropped: Vec<T> = unwanted.map(|waiting| waiting.task).collect();
        let round = queue.round_of(origin);
        queue.waiting.push(Waiting { origin, round, task });
        if queue.waiting.len() > self.tasks_max {
            let last = queue.last_of_most();
            dropped.push(queue.waiting.remove(last).task);
        }
        let calls = queue.called < queue.waiting.len();
        queue.called += usize::from(calls);
        Pushed { dropped, calls }
    }

    /// Moves a waiting task to the round that a new task of `origin` would have, if that is no
    /// later.
    ///
    /// For a client that needs a task which another client has caused. Without this a flood that
    /// includes the task would delay that client as well.
    pub(crate) fn hasten(&self, origin: Origin, is_meant: impl Fn(&T) -> bool) {
        let mut queue = lock(&self.queue);
        let round = queue.round_of(origin);
        let meant = queue.waiting.iter_mut().find(|waiting| is_meant(&waiting.task));
        if let Some(waiting) = meant.filter(|waiting| waiting.origin != origin && round <= waiting.round) {
            (waiting.origin, waiting.round) = (origin, round);
        }
    }

    /// Takes the next task, for a worker that was called.
    fn next(&self) -> Option<T> {
        let mut queue = lock(&self.queue);
        queue.called = queue.called.saturating_sub(1);
        // The first task of the lowest round: tasks are stored in the order in which they arrived.
        let at = (0..queue.waiting.len()).min_by_key(|&at| queue.waiting[at].round)?;
        let next = queue.waiting.remove(at);
        queue.round = next.round;
        Some(next.task)
    }
}

impl<T> Queue<T> {
    /// Returns the round of a new task of `origin`.
    fn round_of(&self, origin: Origin) -> u64 {
        1 + self.of(origin).map(|waiting| waiting.round).max().unwrap_or(self.round)
    }

    fn of(&self, origin: Origin) -> impl Iterator<Item = &Waiting<T>> {
        self.waiting.iter().filter(move |waiting| waiting.origin == origin)
    }

    /// Returns the index of the last task of the origin that has most of them. If several origins
    /// have equally many, it is that of the task that arrived last.
    fn last_of_most(&self) -> usize {
        let by_count = |&at: &usize| (self.of(self.waiting[at].origin).count(), at);
        (0..self.waiting.len()).max_by_key(by_count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS_MAX: usize = 64;

    fn origin(last: u8) -> Origin {
        Origin::of(&Peer::V4([192, 0, 2, last], 1))
    }

    /// Takes all tasks in the order in which workers take them.
    fn order(queue: &FairQueue<(u8, u32)>) -> Vec<(u8, u32)> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    fn push(queue: &FairQueue<(u8, u32)>, from: u8, number: u32) -> Pushed<(u8, u32)> {
        queue.push(origin(from), (from, number), |_| true)
    }

    #[test]
    fn each_origin_has_one_task_in_a_round() {
        let queue = FairQueue::new(TASKS_MAX);
        for number in 0..4 {
            push(&queue, 1, number);
        }
        push(&queue, 2, 0);
        push(&queue, 3, 0);
        push(&queue, 2, 1);
        assert_eq!(order(&queue), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2), (1, 3)]);
        // A late origin is neither behind all earlier tasks nor ahead of all.
        for number in 0..3 {
            push(&queue, 1, number);
        }
        assert_eq!(queue.next(), Some((1, 0)));
        push(&queue, 4, 0);
        assert_eq!(order(&queue), [(1, 1), (4, 0), (1, 2)]);
    }

    #[test]
    fn a_full_queue_drops_the_last_of_the_origin_that_has_most() {
        let queue = FairQueue::new(TASKS_MAX);
        let most = u32::try_from(TASKS_MAX).unwrap();
        for number in 0..most {
            assert!(push(&queue, 1, number).dropped.is_empty());
        }
        assert_eq!(push(&queue, 1, most).dropped, [(1, most)], "the flood itself");
        assert_eq!(push(&queue, 2, 0).dropped, [(1, most - 1)], "a login from elsewhere");
        assert_eq!(push(&queue, 3, 0).dropped, [(1, most - 2)]);
        let order = order(&queue);
        assert_eq!((order.len(), &order[..3]), (TASKS_MAX, &[(1, 0), (2, 0), (3, 0)][..]));
    }

    #[test]
    fn what_nobody_waits_for_makes_room() {
        let queue = FairQueue::new(TASKS_MAX);
        for number in 0..3 {
            push(&queue, 1, number);
        }
        let pushed = queue.push(origin(2), (2, 0), |task| *task != (1, 1));
        assert_eq!(pushed.dropped, [(1, 1)]);
        assert_eq!(order(&queue), [(1, 0), (2, 0), (1, 2)]);
    }

    #[test]
    fn there_is_a_call_for_each_task_and_no_more() {
        let queue = FairQueue::new(TASKS_MAX);
        let calls = |from, number| push(&queue, from, number).calls;
        assert!(calls(1, 0) && calls(1, 1));
        assert_eq!(queue.next(), Some((1, 0)));
        assert!(calls(1, 2));
        let full = u32::try_from(TASKS_MAX).unwrap();
        let called = (3..10 * full).filter(|&number| calls(1, number)).count();
        assert_eq!(called, TASKS_MAX - 2);
        // A dropped task leaves a call behind, which the next task uses.
        let pushed = queue.push(origin(1), (1, 0), |_| false);
        assert!(pushed.dropped.len() == TASKS_MAX && !pushed.calls);
    }

    #[test]
    fn a_task_that_another_origin_needs_too_takes_the_earlier_round() {
        let queue = FairQueue::new(TASKS_MAX);
        for number in 0..4 {
            push(&queue, 1, number);
        }
        queue.hasten(origin(2), |task| *task == (1, 3));
        queue.hasten(origin(1), |task| *task == (1, 2));
        queue.hasten(origin(2), |task| *task == (9, 9));
        assert_eq!(order(&queue), [(1, 0), (1, 3), (1, 1), (1, 2)]);
        // The task belongs to that origin from then on, so it is not dropped with the flood.
        for number in 0..u32::try_from(TASKS_MAX).unwrap() {
            push(&queue, 1, number);
        }
        queue.hasten(origin(2), |task| *task == (1, 63));
        assert_eq!(push(&queue, 3, 0).dropped, [(1, 62)]);
        // The move delays no other task.
        let queue = FairQueue::new(TASKS_MAX);
        push(&queue, 1, 0);
        push(&queue, 2, 0);
        push(&queue, 2, 1);
        queue.hasten(origin(2), |task| *task == (1, 0));
        assert_eq!(order(&queue), [(1, 0), (2, 0), (2, 1)]);
    }
}
