//! The results and wake-ups that workers send to a driver, with the ids of connections.
//!
//! One wake-up of the owner serves all results that have gathered. Must not know the meaning of
//! results.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::config::INBOX_LOOK;
use crate::conn_id::ConnId;
use crate::observe::Gauges;
use crate::shortage::Relief;
use crate::sync::lock;

/// A closure that a loop calls with its current gauges. A loop that has ended drops it without a
/// call.
pub type Inspect = Box<dyn FnOnce(&Gauges) + Send>;

/// A closure that a loop calls with its requests under way, as a JSON list. A loop that has ended
/// drops it without a call.
pub type ListRequests = Box<dyn FnOnce(String) + Send>;

/// A result or wake-up for a connection.
pub enum Done<R> {
    /// The result of a job that ended.
    Finished(R),
    /// A job panicked.
    Panicked,
    /// A body source has more content, or a task is done.
    Woken,
    /// A closure to call with the gauges of the loop. Belongs to no connection.
    Inspect(Inspect),
    /// A closure to call with the requests under way. Belongs to no connection.
    ListRequests(ListRequests),
    /// A permit that the content of this connection held may have moved to another client: see
    /// [`crate::jobs::sender_permits::SenderPermits`].
    Evicted,
    /// No descriptor is left in the process. Belongs to no connection.
    Shortage,
}

impl<R> std::fmt::Debug for Done<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Done::Finished(_) => "finished",
            Done::Panicked => "panicked",
            Done::Woken => "woken",
            Done::Inspect(_) => "inspect",
            Done::ListRequests(_) => "list requests",
            Done::Evicted => "evicted",
            Done::Shortage => "shortage",
        })
    }
}

/// Wakes the owner of an inbox. An error means that the owner was not woken.
pub type Wake = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Maximum number of consecutive attempts of a wake-up. One that a signal interrupted succeeds at
/// the second attempt; other errors persist.
const WAKE_TRIES: u32 = 3;

/// The inbox of one loop.
pub struct Inbox<R> {
    waiting: Mutex<Vec<(ConnId, Done<R>)>>,
    /// Set while a wake-up is under way that the owner has not handled: one is enough.
    signalled: AtomicBool,
    /// Set after a failed wake-up was logged, because a lasting failure is reported once.
    has_warned: AtomicBool,
    wake: Wake,
    /// Ends a wait for input of an owner that does not look into the inbox meanwhile.
    interrupt: Option<Box<dyn Fn() + Send + Sync>>,
}

impl<R> std::fmt::Debug for Inbox<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl<R> Inbox<R> {
    /// Creates an inbox whose owner is woken by `wake`.
    ///
    /// A wake-up may fail. The owner must therefore check [`Inbox::has_news`] at least every
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

    /// Sets a function for an owner that waits in reads: `interrupt` ends such a wait, and all
    /// reading.
    #[must_use]
    pub fn interrupted_by(self, interrupt: impl Fn() + Send + Sync + 'static) -> Self {
        Inbox { interrupt: Some(Box::new(interrupt)), ..self }
    }

    /// Adds a result, and wakes the owner unless a wake-up is under way.
    pub fn put(&self, id: ConnId, done: Done<R>) {
        lock(&self.waiting).push((id, done));
        if !self.signalled.swap(true, Ordering::AcqRel) {
            self.signal();
        }
    }

    /// Wakes the owner. After a failure the flag is cleared, so that the next result tries again. A
    /// flag that stayed set would suppress all later wake-ups.
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

    /// Returns true if results wait. Used by an owner that was not woken.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !lock(&self.waiting).is_empty()
    }

    /// Makes the owner call `inspect` with its gauges in its next turn.
    pub fn inspect(&self, inspect: Inspect) {
        self.put(ConnId::new(0, 0), Done::Inspect(inspect));
    }

    /// Makes the owner call `list` with its requests under way in its next turn.
    pub fn list_requests(&self, list: ListRequests) {
        self.put(ConnId::new(0, 0), Done::ListRequests(list));
    }

    /// Moves all results into `into`. The owner calls this once a turn. Later results wake it
    /// again.
    pub fn take(&self, into: &mut Vec<(ConnId, Done<R>)>) {
        self.signalled.swap(false, Ordering::AcqRel);
        into.append(&mut lock(&self.waiting));
    }
}

impl<R: Send> Relief for Inbox<R> {
    /// Makes the loop close idle connections.
    fn relieve(&self) {
        self.put(ConnId::new(0, 0), Done::Shortage);
    }
}

impl<R: Send> Bell for Inbox<R> {
    fn wake(&self, id: ConnId) {
        self.put(id, Done::Woken);
    }

    fn evict(&self, id: ConnId) {
        self.put(id, Done::Evicted);
        if let Some(interrupt) = &self.interrupt {
            interrupt();
        }
    }
}

/// An inbox without the type of its results, for wake-ups.
trait Bell: Send + Sync {
    /// Adds [`Done::Woken`].
    fn wake(&self, id: ConnId);

    /// Adds [`Done::Evicted`], and ends a wait for input of an owner that waits in reads.
    fn evict(&self, id: ConnId);
}

/// Wakes one connection from any thread, because its body source has more content.
#[derive(Clone)]
pub struct Waker {
    id: ConnId,
    bell: Arc<dyn Bell>,
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waker({:?})", self.id)
    }
}

impl Waker {
    pub(crate) fn new<R: Send + 'static>(id: ConnId, inbox: Arc<Inbox<R>>) -> Self {
        Waker { id, bell: inbox }
    }

    /// Makes the driver call the body source again. Does nothing if the connection is closed or was
    /// not waiting.
    pub fn wake(&self) {
        self.bell.wake(self.id);
    }

    /// Makes the connection check whether it has lost a permit, also while it waits for input.
    pub(crate) fn evict(&self) {
        self.bell.evict(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc;

    /// Creates a wake-up that fails `failures` times and then sends to `woken`. Counts each attempt
    /// in `tried`.
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

    /// Regression: one wake-up failed, the flag stayed set, and no later result arrived.
    #[test]
    fn a_wake_up_that_fails_does_not_silence_those_after_it() {
        for failures in [1, WAKE_TRIES - 1, WAKE_TRIES, 2 * WAKE_TRIES + 1] {
            let (woken, wake_ups) = mpsc::channel();
            let tried = Arc::new(AtomicU64::new(0));
            let inbox = Inbox::<()>::new(fails(failures, &tried, woken));
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
}
