//! Request coalescing: work that several requests need is done once.
//!
//! The first request for a key begins the work off the loop. Equal requests wait for its result and
//! hold no worker meanwhile. A request that is cancelled stops waiting. Work without waiting
//! requests may be skipped. Must not know the work or the use of its result.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::clock::Instant;
use crate::handler::continuation::Promise;
use crate::handler::watch::{Advanced, Descriptor, Ready, Watched};
use crate::handler::{Answer, Context};
use crate::jobs::Spawn;
use crate::sync::lock;

/// The reason why a request got no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoResult {
    /// The work was dropped: it panicked or was displaced.
    Lost,
    /// The maximum number of requests already waits for this result.
    TooMany,
}

/// Makes the answer from the result, on the loop.
type Finish<R> = Box<dyn FnOnce(Result<R, NoResult>, &mut Context<'_>) -> Answer + Send>;

/// Results under way, by key, and the requests that wait for them.
pub(crate) struct Coalesced<K, R> {
    groups: Mutex<HashMap<K, Arc<Group<R>>>>,
    /// Maximum number of requests that wait for one result.
    waiters_max: usize,
}

impl<K, R> std::fmt::Debug for Coalesced<K, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coalesced({} under way)", lock(&self.groups).len())
    }
}

/// The requests that wait for one result.
struct Group<R> {
    waiters: Mutex<Vec<Arc<Waiter<R>>>>,
}

/// One waiting request.
struct Waiter<R> {
    state: Mutex<State<R>>,
}

enum State<R> {
    /// The handler of the request is still running.
    Handled,
    /// The result arrived before the handler of the request returned.
    Ready(Result<R, NoResult>),
    Waiting(Promise, Finish<R>),
    /// The request has received its result, or was cancelled.
    Over,
}

impl<K: Clone + Eq + Hash, R: Clone + Send + 'static> Coalesced<K, R> {
    /// Creates an empty set. Up to `waiters_max` requests may wait for one result.
    pub(crate) fn new(waiters_max: usize) -> Arc<Self> {
        Arc::new(Coalesced { groups: Mutex::default(), waiters_max })
    }

    /// Answers with the response that `then` makes from the result for `key`. Calls `begin` with
    /// the obligation to deliver that result, unless the work is already under way.
    pub(crate) fn answer(
        self: &Arc<Self>,
        key: &K,
        cx: &mut Context<'_>,
        begin: impl FnOnce(Work<K, R>, &Arc<dyn Spawn>),
        then: impl FnOnce(Result<R, NoResult>, &mut Context<'_>) -> Answer + Send + 'static,
    ) -> Answer {
        let waiter = Arc::new(Waiter { state: Mutex::new(State::Handled) });
        match self.join(key, &waiter) {
            Joined::First(work) => begin(work, &cx.spawner()),
            Joined::Another => {}
            Joined::Full => return then(Err(NoResult::TooMany), cx),
        }
        let mut state = lock(&waiter.state);
        if let State::Ready(result) = std::mem::replace(&mut *state, State::Over) {
            drop(state);
            return then(result, cx);
        }
        *state = State::Waiting(cx.promise(), Box::new(then));
        drop(state);
        // The watch exists only to be abandoned: that shows that the request was cancelled.
        cx.watch(waiter);
        cx.answer_later()
    }

    fn join(self: &Arc<Self>, key: &K, waiter: &Arc<Waiter<R>>) -> Joined<K, R> {
        let mut groups = lock(&self.groups);
        if let Some(group) = groups.get(key) {
            let mut waiters = lock(&group.waiters);
            waiters.retain(|waiter| !waiter.is_over());
            if waiters.len() >= self.waiters_max {
                return Joined::Full;
            }
            waiters.push(Arc::clone(waiter));
            return Joined::Another;
        }
        let group = Arc::new(Group { waiters: Mutex::new(vec![Arc::clone(waiter)]) });
        groups.insert(key.clone(), Arc::clone(&group));
        Joined::First(Work { coalesced: Arc::clone(self), key: key.clone(), group })
    }
}

enum Joined<K: Eq + Hash, R: Clone + Send + 'static> {
    /// The request is the first one: the work has not begun.
    First(Work<K, R>),
    Another,
    Full,
}

/// The obligation to deliver a result. If it is dropped instead, the requests get
/// [`NoResult::Lost`], because a panic must not leave them waiting.
pub(crate) struct Work<K: Eq + Hash, R: Clone + Send + 'static> {
    coalesced: Arc<Coalesced<K, R>>,
    key: K,
    group: Arc<Group<R>>,
}

impl<K: Eq + Hash, R: Clone + Send + 'static> Work<K, R> {
    /// Returns false if all waiting requests were cancelled.
    pub(crate) fn is_wanted(&self) -> bool {
        lock(&self.group.waiters).iter().any(|waiter| !waiter.is_over())
    }

    /// Returns the key of the result.
    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    /// Makes later requests for the key start new work. For results that must not be older than
    /// their request: they would miss changes made since the work began.
    pub(crate) fn close(&self) {
        let mut groups = lock(&self.coalesced.groups);
        if groups.get(&self.key).is_some_and(|group| Arc::ptr_eq(group, &self.group)) {
            groups.remove(&self.key);
        }
    }

    /// Delivers the result to all waiting requests. Returns their number.
    pub(crate) fn finish(self, result: &R) -> usize {
        self.end(&Ok(result.clone()))
    }

    /// Delivers the result to the waiting requests. Later requests for the key start new work.
    fn end(&self, result: &Result<R, NoResult>) -> usize {
        self.close();
        // No request can join from here on.
        let waiters = std::mem::take(&mut *lock(&self.group.waiters));
        waiters.into_iter().map(|waiter| usize::from(waiter.deliver(result.clone()))).sum()
    }
}

impl<K: Eq + Hash, R: Clone + Send + 'static> Drop for Work<K, R> {
    fn drop(&mut self) {
        let is_ended = lock(&self.group.waiters).is_empty();
        if !is_ended {
            self.end(&Err(NoResult::Lost));
        }
    }
}

impl<R: Send + 'static> Waiter<R> {
    fn is_over(&self) -> bool {
        matches!(*lock(&self.state), State::Over)
    }

    /// Returns false if the request was cancelled.
    fn deliver(&self, result: Result<R, NoResult>) -> bool {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Over) {
            State::Handled => *state = State::Ready(result),
            State::Waiting(waker, then) => {
                drop(state);
                waker.keep(Box::new(move |cx| then(result, cx)));
            }
            State::Ready(_) | State::Over => return false,
        }
        true
    }
}

impl<R: Send + 'static> Watched for Waiter<R> {
    fn descriptors(&self) -> Vec<Descriptor> {
        Vec::new()
    }

    fn advance(self: Arc<Self>, _: Ready, _: Instant) -> Advanced {
        Advanced { is_over: self.is_over(), ..Advanced::default() }
    }

    fn abandon(&self) {
        // Dropped outside the lock, because destructors of values that the request owns may do
        // anything.
        let before = std::mem::replace(&mut *lock(&self.state), State::Over);
        drop(before);
    }

    fn brings_answer(&self) -> bool {
        false
    }
}

#[cfg(feature = "os")]
#[cfg(test)]
mod tests;
