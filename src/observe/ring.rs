//! A ring of steps: keeps the newest, drops the oldest, and counts what it dropped.

use crate::observe::step::TimedStep;

/// The newest steps of a loop, at most as many as its capacity. Its memory is allocated at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    steps: Vec<TimedStep>,
    capacity: usize,
    /// Position of the oldest step, once the ring is full.
    oldest: usize,
    dropped: u64,
}

impl Ring {
    /// Creates a ring for `capacity` steps, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Ring { steps: Vec::with_capacity(capacity), capacity, oldest: 0, dropped: 0 }
    }

    /// Adds a step. A full ring drops its oldest one.
    pub fn push(&mut self, step: TimedStep) {
        if self.steps.len() < self.capacity {
            self.steps.push(step);
            return;
        }
        self.steps[self.oldest] = step;
        self.oldest = (self.oldest + 1) % self.capacity;
        self.dropped += 1;
    }

    /// Iterates over the steps, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &TimedStep> {
        let (newer, older) = self.steps.split_at(self.oldest);
        older.iter().chain(newer)
    }

    /// Returns the number of steps that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Returns true if no step is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the number of steps that were dropped since the last [`Ring::clear`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Removes all steps and keeps the memory.
    pub fn clear(&mut self) {
        self.steps.clear();
        (self.oldest, self.dropped) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::step::{Fact, Step};

    fn numbered(at_ns: u64) -> TimedStep {
        let source = std::panic::Location::caller();
        TimedStep { at_ns, step: Step::Fact(Fact::WakeUpFails), source }
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_counts() {
        let mut ring = Ring::new(3);
        assert!(ring.is_empty());
        let memory = ring.steps.as_ptr();
        for pushed in 1..=10 {
            ring.push(numbered(pushed));
            let kept: Vec<u64> = ring.iter().map(|step| step.at_ns).collect();
            let expected: Vec<u64> = (pushed.saturating_sub(2).max(1)..=pushed).collect();
            assert_eq!((kept, ring.dropped()), (expected, pushed.saturating_sub(3)));
        }
        assert_eq!((ring.len(), ring.steps.as_ptr()), (3, memory), "no further memory is allocated");
        ring.clear();
        assert_eq!((ring.len(), ring.dropped()), (0, 0));
        ring.push(numbered(1));
        assert_eq!(ring.iter().count(), 1);
        let mut least = Ring::new(0);
        least.push(numbered(1));
        least.push(numbered(2));
        assert_eq!(least.iter().map(|step| step.at_ns).collect::<Vec<_>>(), [2]);
    }
}
