//! Locks and permits shared by threads. This file must not know what they guard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks a mutex. If a holder of the lock panicked, the data is still sound, because every critical
/// section here is a push or a pop.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A weighted counting semaphore that never waits, because a client without a permit gets its
/// refusal at once.
///
/// A permit stands for anything that is counted: files, threads, or bytes before they are
/// allocated.
#[derive(Debug)]
pub(crate) struct Semaphore {
    // The count guards no other data, so `Relaxed` is enough.
    held: AtomicU64,
    max: u64,
}

impl Semaphore {
    /// Creates a semaphore of `max` permits, all free.
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(Semaphore { held: AtomicU64::new(0), max })
    }

    /// Takes `count` permits, or none if fewer are free. They are free again when the result is
    /// dropped.
    pub(crate) fn try_acquire(self: &Arc<Self>, count: u64) -> Option<Permit> {
        let mut permit = self.empty();
        permit.try_grow(count).then_some(permit)
    }

    /// Returns no permits, for a holder that takes them one by one with [`Permit::try_grow`].
    pub(crate) fn empty(self: &Arc<Self>) -> Permit {
        Permit { semaphore: Arc::clone(self), count: 0 }
    }

    /// Returns the number of permits that are held.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// Permits of a [`Semaphore`]. Dropping them frees them.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: Arc<Semaphore>,
    count: u64,
}

impl Permit {
    /// Takes `count` more permits. Returns false, and takes none, if fewer are free.
    pub(crate) fn try_grow(&mut self, count: u64) -> bool {
        let max = self.semaphore.max;
        let more = |held: u64| held.checked_add(count).filter(|held| *held <= max);
        let is_grown = self.semaphore.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        self.count += if is_grown { count } else { 0 };
        is_grown
    }

    /// Frees `count` of the permits.
    pub(crate) fn shrink(&mut self, count: u64) {
        let count = count.min(self.count);
        self.count -= count;
        self.semaphore.held.fetch_sub(count, Ordering::Relaxed);
    }

    /// Returns the number of permits.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink(self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_and_come_back() {
        let semaphore = Semaphore::new(100);
        let mut one = semaphore.try_acquire(60).unwrap();
        assert!(semaphore.try_acquire(41).is_none());
        let other = semaphore.try_acquire(40).unwrap();
        assert!(!one.try_grow(1));
        drop(other);
        assert!(one.try_grow(40));
        assert!(!one.try_grow(u64::MAX), "no overflow");
        assert_eq!((one.count(), semaphore.held()), (100, 100));
        one.shrink(70);
        assert_eq!((one.count(), semaphore.held()), (30, 30));
        drop(one);
        assert_eq!((semaphore.empty().count(), semaphore.held()), (0, 0));
        assert_eq!(semaphore.try_acquire(100).map(|permit| permit.count()), Some(100));
        assert_eq!(semaphore.held(), 0);
    }
}
