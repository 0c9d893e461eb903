//! Values by id: a slab whose entries remember their generation.
//!
//! The slab reuses the last freed slot first, so an index alone does not identify a value. Each
//! lookup compares the generation. A miss is normal: the caller counts it and continues.
//!
//! A retired value keeps its slot until it is removed, and no lookup finds it. This file must not
//! know what the values are.

use std::marker::PhantomData;

use slab::Slab;

use crate::conn_id::Id;

/// A value in its slot.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    value: T,
    generation: u32,
    is_retired: bool,
}

/// A table of values with ids of one kind.
#[derive(Debug)]
pub struct Slots<K, T> {
    slab: Slab<Entry<T>>,
    generation: u32,
    kind: PhantomData<K>,
}

impl<T> Entry<T> {
    fn is_found_by<K: Copy>(&self, id: Id<K>) -> bool {
        self.generation == id.generation() && !self.is_retired
    }
}

impl<K: Copy, T> Slots<K, T> {
    /// Creates an empty table with room for `count` values. Memory that is never touched costs
    /// nothing, while a table that moves as it grows leaves holes in the heap.
    #[must_use]
    pub fn for_up_to(count: usize) -> Self {
        Slots { slab: Slab::with_capacity(count), generation: 0, kind: PhantomData }
    }

    /// Stores a value and gives it an id, which is unique within 2^32 calls.
    pub fn insert(&mut self, value: T) -> Id<K> {
        self.generation = self.generation.wrapping_add(1).max(1);
        let slot = self.slab.insert(Entry { value, generation: self.generation, is_retired: false });
        id(self.generation, slot)
    }

    /// Returns the value with this id, unless it is retired.
    #[must_use]
    pub fn get(&self, id: Id<K>) -> Option<&T> {
        self.slab.get(id.slot()).filter(|entry| entry.is_found_by(id)).map(|entry| &entry.value)
    }

    /// Returns the value with this id, unless it is retired.
    pub fn get_mut(&mut self, id: Id<K>) -> Option<&mut T> {
        self.slab.get_mut(id.slot()).filter(|entry| entry.is_found_by(id)).map(|entry| &mut entry.value)
    }

    /// Returns the id of the value in a slot, unless it is retired.
    #[must_use]
    pub fn in_slot(&self, slot: usize) -> Option<Id<K>> {
        let entry = self.slab.get(slot).filter(|entry| !entry.is_retired)?;
        Some(id(entry.generation, slot))
    }

    /// Hides a value from all lookups. Its slot stays occupied until [`Slots::remove`] frees it.
    /// Returns the value, unless it is retired already.
    pub fn retire(&mut self, id: Id<K>) -> Option<&mut T> {
        let entry = self.slab.get_mut(id.slot()).filter(|entry| entry.is_found_by(id))?;
        entry.is_retired = true;
        Some(&mut entry.value)
    }

    /// Frees a slot. Returns its value, also if it is retired.
    pub fn remove(&mut self, id: Id<K>) -> Option<T> {
        self.slab.get(id.slot()).filter(|entry| entry.generation == id.generation())?;
        self.slab.try_remove(id.slot()).map(|entry| entry.value)
    }

    /// Returns the number of values, including retired ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns true if no slot is occupied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Iterates over all values that are not retired, with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Id<K>, &T)> {
        let found = self.slab.iter().filter(|(_, entry)| !entry.is_retired);
        found.map(|(slot, entry)| (id(entry.generation, slot), &entry.value))
    }

    /// Iterates over the values in `count` slots from slot `from` on that are not retired, and
    /// continues at slot 0 after the last slot. The cost does not depend on the number of values.
    pub fn sample(&self, from: usize, count: usize) -> impl Iterator<Item = (Id<K>, &T)> {
        let capacity = self.slab.capacity().max(1);
        (0..count.min(capacity)).filter_map(move |step| {
            let slot = (from + step) % capacity;
            let entry = self.slab.get(slot).filter(|entry| !entry.is_retired)?;
            Some((id(entry.generation, slot), &entry.value))
        })
    }
}

impl<K: Copy, T> Default for Slots<K, T> {
    fn default() -> Self {
        Slots::for_up_to(0)
    }
}

fn id<K: Copy>(generation: u32, slot: usize) -> Id<K> {
    Id::new(generation, u32::try_from(slot).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn_id::ConnKind;

    type Numbers = Slots<ConnKind, u8>;

    #[test]
    fn an_id_does_not_fit_the_next_owner_of_its_slot() {
        let mut slots = Numbers::default();
        let first = slots.insert(1);
        assert_eq!(slots.remove(first), Some(1));
        let second = slots.insert(2);
        assert_eq!(first.slot(), second.slot(), "slab hands out the last freed slot");
        assert!(slots.get(first).is_none() && slots.get_mut(first).is_none());
        assert!(slots.retire(first).is_none() && slots.remove(first).is_none());
        assert_eq!(slots.get(second), Some(&2));
    }

    /// Later events of a turn must not find a closed connection, and no other connection may get
    /// its slot before the end of the turn.
    #[test]
    fn a_retired_value_is_not_found_and_keeps_its_slot() {
        let mut slots = Numbers::default();
        let first = slots.insert(1);
        assert_eq!(slots.retire(first), Some(&mut 1));
        assert!(slots.get(first).is_none() && slots.get_mut(first).is_none());
        assert!(slots.retire(first).is_none());
        assert!(slots.iter().next().is_none() && slots.sample(0, 16).next().is_none());
        assert_eq!(slots.len(), 1);
        let second = slots.insert(2);
        assert_ne!(first.slot(), second.slot());
        assert_eq!(slots.iter().map(|(id, _)| id).collect::<Vec<_>>(), [second]);
        assert_eq!(slots.remove(first), Some(1));
    }
}
