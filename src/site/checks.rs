//! Password checks that wait for a worker, in a fair order.
//!
//! A check takes a worker some 50 ms, so a client that sends wrong passwords fills the queue.
//! Origins therefore take turns, and a full queue drops the last check of the origin that has most
//! in it: a flood from one address delays a login from another by one check. This file must not
//! know what is checked.

use std::sync::Mutex;

use super::guesses::Origin;
use crate::config::AUTH_CHECKS_MAX;
use crate::jobs::lock;

/// The queue.
#[derive(Debug)]
pub(super) struct Checks<C> {
    queue: Mutex<Queue<C>>,
}

#[derive(Debug)]
struct Queue<C> {
    waiting: Vec<Waiting<C>>,
    /// The turn of the check that was taken last.
    turn: u64,
    /// Workers that were called and have not taken a check yet.
    called: usize,
}

#[derive(Debug)]
struct Waiting<C> {
    origin: Origin,
    /// Each origin has one check in each turn.
    turn: u64,
    check: C,
}

/// The outcome of adding a check.
#[derive(Debug)]
pub(super) struct Pushed<C> {
    /// Checks that have no place any more, perhaps the new one. The caller drops them without a lock.
    pub(super) dropped: Vec<C>,
    /// A worker has to be called to take a check.
    pub(super) calls: bool,
}

impl<C> Default for Checks<C> {
    fn default() -> Self {
        Checks { queue: Mutex::new(Queue { waiting: Vec::new(), turn: 0, called: 0 }) }
    }
}

impl<C> Checks<C> {
    /// Adds a check. Those that are not wanted any more make room first.
    pub(super) fn push(&self, origin: Origin, check: C, is_wanted: impl Fn(&C) -> bool) -> Pushed<C> {
        let mut queue = lock(&self.queue);
        let unwanted = queue.waiting.extract_if(.., |waiting| !is_wanted(&waiting.check));
        let mut dropped: Vec<C> = unwanted.map(|waiting| waiting.check).collect();
        let turn = 1 + queue.of(origin).map(|waiting| waiting.turn).max().unwrap_or(queue.turn);
        queue.waiting.push(Waiting { origin, turn, check });
        if queue.waiting.len() > AUTH_CHECKS_MAX {
            let last = queue.last_of_most();
            dropped.push(queue.waiting.remove(last).check);
        }
        let calls = queue.called < queue.waiting.len();
        queue.called += usize::from(calls);
        Pushed { dropped, calls }
    }

    /// The next check, for a worker that was called.
    pub(super) fn next(&self) -> Option<C> {
        let mut queue = lock(&self.queue);
        queue.called = queue.called.saturating_sub(1);
        // The first of the lowest turn: they stand in the order in which they came.
        let at = (0..queue.waiting.len()).min_by_key(|&at| queue.waiting[at].turn)?;
        let next = queue.waiting.remove(at);
        queue.turn = next.turn;
        Some(next.check)
    }
}

impl<C> Queue<C> {
    fn of(&self, origin: Origin) -> impl Iterator<Item = &Waiting<C>> {
        self.waiting.iter().filter(move |waiting| waiting.origin == origin)
    }

    /// The place of the last check of the origin that has most of them; of several, of the one that
    /// came last.
    fn last_of_most(&self) -> usize {
        let by_count = |&at: &usize| (self.of(self.waiting[at].origin).count(), at);
        (0..self.waiting.len()).max_by_key(by_count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(last: u8) -> Origin {
        Origin::of(&crate::handler::Peer::V4([192, 0, 2, last], 1))
    }

    /// All of them in the order in which workers take them.
    fn order(checks: &Checks<(u8, u32)>) -> Vec<(u8, u32)> {
        std::iter::from_fn(|| checks.next()).collect()
    }

    fn push(checks: &Checks<(u8, u32)>, from: u8, number: u32) -> Pushed<(u8, u32)> {
        checks.push(origin(from), (from, number), |_| true)
    }

    #[test]
    fn origins_take_turns() {
        let checks = Checks::default();
        for number in 0..4 {
            push(&checks, 1, number);
        }
        push(&checks, 2, 0);
        push(&checks, 3, 0);
        push(&checks, 2, 1);
        assert_eq!(order(&checks), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2), (1, 3)]);
        // An origin that comes late is not behind those that were there before, nor ahead of all.
        for number in 0..3 {
            push(&checks, 1, number);
        }
        assert_eq!(checks.next(), Some((1, 0)));
        push(&checks, 4, 0);
        assert_eq!(order(&checks), [(1, 1), (4, 0), (1, 2)]);
    }

    #[test]
    fn a_full_queue_drops_the_last_of_the_origin_that_has_most() {
        let checks = Checks::default();
        let most = u32::try_from(AUTH_CHECKS_MAX).unwrap();
        for number in 0..most {
            assert!(push(&checks, 1, number).dropped.is_empty());
        }
        assert_eq!(push(&checks, 1, most).dropped, [(1, most)], "the flood itself");
        assert_eq!(push(&checks, 2, 0).dropped, [(1, most - 1)], "a login from elsewhere");
        assert_eq!(push(&checks, 3, 0).dropped, [(1, most - 2)]);
        let order = order(&checks);
        assert_eq!((order.len(), &order[..3]), (AUTH_CHECKS_MAX, &[(1, 0), (2, 0), (3, 0)][..]));
    }

    #[test]
    fn what_nobody_waits_for_makes_room() {
        let checks = Checks::default();
        for number in 0..3 {
            push(&checks, 1, number);
        }
        let pushed = checks.push(origin(2), (2, 0), |check| *check != (1, 1));
        assert_eq!(pushed.dropped, [(1, 1)]);
        assert_eq!(order(&checks), [(1, 0), (2, 0), (1, 2)]);
    }

    #[test]
    fn there_is_a_call_for_each_check_and_no_more() {
        let checks = Checks::default();
        let calls = |from, number| push(&checks, from, number).calls;
        assert!(calls(1, 0) && calls(1, 1));
        assert_eq!(checks.next(), Some((1, 0)));
        assert!(calls(1, 2));
        let full = u32::try_from(AUTH_CHECKS_MAX).unwrap();
        let called = (3..10 * full).filter(|&number| calls(1, number)).count();
        assert_eq!(called, AUTH_CHECKS_MAX - 2);
        // What is dropped leaves a call behind, which the next check takes.
        let pushed = checks.push(origin(1), (1, 0), |_| false);
        assert!(pushed.dropped.len() == AUTH_CHECKS_MAX && !pushed.calls);
    }
}
