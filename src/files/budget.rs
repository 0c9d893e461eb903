//! Bytes of memory that may be held for one purpose, over all connections, counted before they are
//! allocated.
//!
//! Memory that is counted when it is full has no bound: each of a thousand requests may fill its
//! own before the first of them is counted. This file must not know what the memory is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes, each free or held.
#[derive(Debug)]
pub(super) struct Budget {
    held: AtomicUsize,
    bytes_max: usize,
}

/// The error when the bytes asked for are not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent;

/// Bytes held for one thing. They are free again when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

/// The first allocation of a vector, in bytes: one page.
const FIRST_BYTES: usize = 4096;

impl Budget {
    /// `bytes_max` bytes, all free.
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Budget { held: AtomicUsize::new(0), bytes_max })
    }

    /// Holds no bytes yet.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        Held { budget: Arc::clone(self), bytes: 0 }
    }

    /// Takes `bytes`, if so many are free.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Held, Spent> {
        let mut held = self.hold();
        held.grow(bytes)?;
        Ok(held)
    }
}

impl Held {
    /// Holds `bytes` more, if so many are free.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Spent> {
        let most = self.budget.bytes_max;
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= most);
        self.budget.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_err(|_| Spent)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Makes room for `more` elements of a vector whose memory is counted here. It grows by half,
    /// so that a long one is seldom moved and little of it stays empty.
    pub(super) fn reserve<T>(&mut self, vec: &mut Vec<T>, more: usize) -> Result<(), Spent> {
        let (len, capacity) = (vec.len(), vec.capacity());
        if capacity - len >= more {
            return Ok(());
        }
        let next = (capacity + capacity / 2).max(len + more).max(FIRST_BYTES / size_of::<T>().max(1));
        self.grow((next - capacity) * size_of::<T>())?;
        vec.reserve_exact(next - len);
        Ok(())
    }

    /// Gives back the empty rest of a vector whose memory is counted here.
    pub(super) fn fit<T>(&mut self, vec: &mut Vec<T>) {
        let before = vec.capacity();
        vec.shrink_to_fit();
        let free = (before - vec.capacity()) * size_of::<T>();
        self.bytes -= free;
        self.budget.held.fetch_sub(free, Ordering::AcqRel);
    }

    /// The bytes that are held here.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_by_one_and_free_again_after_it() {
        let budget = Budget::new(100);
        let mut one = budget.take(60).unwrap();
        assert_eq!(budget.take(41).unwrap_err(), Spent);
        let other = budget.take(40).unwrap();
        assert_eq!(one.grow(1), Err(Spent));
        drop(other);
        one.grow(40).unwrap();
        assert_eq!(one.grow(usize::MAX), Err(Spent), "no overflow");
        assert_eq!(one.bytes(), 100);
        drop(one);
        assert_eq!(budget.take(100).unwrap().bytes(), 100);
    }

    #[test]
    fn a_vector_is_counted_before_it_grows() {
        let budget = Budget::new(100_000);
        let (mut held, mut vec) = (budget.hold(), Vec::<u32>::new());
        while held.reserve(&mut vec, 3).is_ok() {
            vec.extend([1, 2, 3]);
            assert!(vec.capacity() * size_of::<u32>() <= held.bytes(), "{}", vec.len());
        }
        held.fit(&mut vec);
        assert_eq!(held.bytes(), vec.capacity() * size_of::<u32>());
        assert_eq!(budget.take(100_000 - held.bytes()).unwrap().bytes(), 100_000 - held.bytes());
        assert!(vec.len() > 10_000 && held.bytes() <= 100_000, "{} in {}", vec.len(), held.bytes());
    }
}
