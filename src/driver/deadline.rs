//! Deadlines of a loop: a heap with one entry a connection, updated lazily.
//!
//! An entry may be early, never late. A deadline that moves *later* costs nothing here, and every
//! request moves the idle deadline later. The old entry pops at its old time; then the owner asks
//! the connection for its actual deadline and arms it again. Only a deadline that moves *earlier*
//! is moved in the heap. So a request costs no timer work beyond one comparison.
//!
//! `Reactor::after_pump` arms the deadline of a connection, and `Watches::arm` that of a watched
//! object. In the threads model, `Shared::publish` (`threads/reaper.rs`) does both.
//!
//! The heap is indexed: `positions[slot]` is the position of the entry of a slot. So a connection
//! never has two entries, and a closed connection leaves none. The code is pure: callers pass the
//! time.

use crate::clock::Instant;
use crate::conn_id::{ConnKind, Id};

/// Position of a slot that has no entry.
const ABSENT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    due: Instant,
    id: Id<K>,
}

/// A min-heap of deadlines with one entry for each connection, or for each object of another kind.
#[derive(Debug)]
pub struct DeadlineQueue<K = ConnKind> {
    heap: Vec<Entry<K>>,
    positions: Vec<u32>,
}

/// Memory that one waiting connection needs in this queue, in bytes.
pub const ENTRY_BYTES: usize = size_of::<Entry<ConnKind>>() + size_of::<u32>();

impl<K: Copy + PartialEq + std::fmt::Debug> DeadlineQueue<K> {
    /// Creates an empty queue with room for `connections`. Memory that is never touched costs
    /// nothing.
    #[must_use]
    pub fn for_up_to(connections: usize) -> Self {
        DeadlineQueue { heap: Vec::with_capacity(connections), positions: Vec::with_capacity(connections) }
    }

    /// Ensures that `id` is popped no later than `due`. An entry that is already early enough
    /// stays.
    pub fn arm(&mut self, id: Id<K>, due: Instant) {
        let slot = id.slot();
        if slot >= self.positions.len() {
            self.positions.resize(slot + 1, ABSENT);
        }
        let position = self.positions[slot];
        if position == ABSENT {
            self.heap.push(Entry { due, id });
            self.rise(self.heap.len() - 1);
            return;
        }
        let entry = &mut self.heap[position as usize];
        if due < entry.due {
            entry.due = due;
            self.rise(position as usize);
        }
    }

    /// Returns true if the slot of `id` has no entry of another connection. An entry of a closed
    /// one would delay or replace the deadline of its successor.
    pub(crate) fn is_free_for(&self, id: Id<K>) -> bool {
        let position = self.positions.get(id.slot()).copied().unwrap_or(ABSENT);
        position == ABSENT || self.heap[position as usize].id == id
    }

    /// Removes the entry of `id`. Call when the connection is closed, before its slot is used
    /// again.
    pub fn remove(&mut self, id: Id<K>) {
        let position = self.positions.get(id.slot()).copied().unwrap_or(ABSENT);
        if position == ABSENT || self.heap[position as usize].id != id {
            return;
        }
        self.take(position as usize);
    }

    /// Returns when to call [`DeadlineQueue::pop_due`] next, and the connection that it will
    /// return; `None` if the queue is empty.
    #[must_use]
    pub fn next(&self) -> Option<(Instant, Id<K>)> {
        self.heap.first().map(|entry| (entry.due, entry.id))
    }

    /// Removes and returns the next connection whose entry is due. Ask the connection for its
    /// actual deadline: if that is later, `arm` it again. Call until it returns `None` or the limit
    /// of the turn is reached.
    pub fn pop_due(&mut self, now: Instant) -> Option<Id<K>> {
        let first = self.heap.first()?;
        if first.due > now {
            return None;
        }
        let id = first.id;
        self.take(0);
        Some(id)
    }

    /// Returns the number of connections with an entry.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Returns true if no connection has an entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Returns when `id` will be popped, if it has an entry.
    #[must_use]
    pub fn armed(&self, id: Id<K>) -> Option<Instant> {
        let position = self.positions.get(id.slot()).copied().filter(|&position| position != ABSENT)?;
        Some(self.heap[position as usize]).filter(|entry| entry.id == id).map(|entry| entry.due)
    }

    /// Removes the entry at a position of the heap.
    fn take(&mut self, position: usize) {
        let gone = self.heap.swap_remove(position);
        self.positions[gone.id.slot()] = ABSENT;
        if position < self.heap.len() {
            self.positions[self.heap[position].id.slot()] = position as u32;
            self.sink(position);
            self.rise(position);
        }
    }

    /// Moves an entry towards the top while it is earlier than its parent.
    fn rise(&mut self, mut position: usize) {
        let entry = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].due <= entry.due {
                break;
            }
            self.put(position, self.heap[parent]);
            position = parent;
        }
        self.put(position, entry);
    }

    /// Moves an entry towards the bottom while it is later than a child.
    fn sink(&mut self, mut position: usize) {
        let entry = self.heap[position];
        loop {
            let mut child = 2 * position + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1].due < self.heap[child].due {
                child += 1;
            }
            if entry.due <= self.heap[child].due {
                break;
            }
            self.put(position, self.heap[child]);
            position = child;
        }
        self.put(position, entry);
    }

    /// Stores an entry at a position and notes that position.
    fn put(&mut self, position: usize, entry: Entry<K>) {
        self.heap[position] = entry;
        self.positions[entry.id.slot()] = position as u32;
    }
}

impl<K: Copy + PartialEq + std::fmt::Debug> Default for DeadlineQueue<K> {
    fn default() -> Self {
        DeadlineQueue::for_up_to(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::origin;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn id(slot: u32, generation: u32) -> Id<ConnKind> {
        Id::new(generation, slot)
    }

    #[test]
    fn an_entry_fits_the_promise() {
        assert!(size_of::<Entry<ConnKind>>() <= 24, "an entry takes {} bytes", size_of::<Entry<ConnKind>>());
    }

    #[test]
    fn a_later_deadline_touches_nothing_and_an_earlier_one_moves() {
        let t = origin();
        let at = |s| t + Duration::from_secs(s);
        let mut queue = DeadlineQueue::default();
        queue.arm(id(0, 1), at(10));
        queue.arm(id(0, 1), at(20));
        assert_eq!(queue.next(), Some((at(10), id(0, 1))));
        queue.arm(id(0, 1), at(5));
        assert_eq!((queue.next(), queue.len()), (Some((at(5), id(0, 1))), 1));
        assert_eq!(queue.pop_due(at(4)), None);
        assert_eq!(queue.pop_due(at(5)), Some(id(0, 1)));
        assert!(queue.is_empty());
    }

    #[test]
    fn removing_a_stale_name_leaves_the_new_owner_alone() {
        let t = origin();
        let mut queue = DeadlineQueue::default();
        queue.arm(id(3, 1), t);
        queue.remove(id(3, 1));
        queue.arm(id(3, 2), t);
        queue.remove(id(3, 1));
        assert_eq!(queue.pop_due(t), Some(id(3, 2)));
    }

    proptest! {
        /// Compares the queue with a sorted map: each connection pops at its earliest armed time,
        /// in order.
        #[test]
        fn behaves_like_a_sorted_map(steps in prop::collection::vec((0u32..12, 0u64..50, 0u8..4), 1..300)) {
            let t = origin();
            let mut queue = DeadlineQueue::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for (slot, ms, what) in steps {
                match what {
                    0 | 1 => {
                        queue.arm(id(slot, 1), t + Duration::from_millis(now + ms));
                        let due = model.entry(slot).or_insert(now + ms);
                        *due = (*due).min(now + ms);
                    }
                    2 => {
                        queue.remove(id(slot, 1));
                        model.remove(&slot);
                    }
                    _ => {
                        now += ms;
                        while let Some(got) = queue.pop_due(t + Duration::from_millis(now)) {
                            let due = model.remove(&(got.slot() as u32)).expect("an entry of the model");
                            prop_assert!(due <= now);
                            prop_assert!(model.values().all(|&other| other >= due));
                        }
                        prop_assert!(model.values().all(|&due| due > now));
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                let next = queue.next().map(|(due, _)| due);
                prop_assert_eq!(next, model.values().min().map(|&ms| t + Duration::from_millis(ms)));
            }
        }
    }
}
