//! Connections by name: a slab whose entries remember their generation.
//!
//! The slab reuses the last freed slot first, so an index alone does not identify a connection.
//! Each lookup compares the generation. A miss is normal: the caller counts it and continues.
//!
//! A closed connection keeps its slot until the end of the turn, and no lookup finds it. This file
//! must not know what a connection does.

use slab::Slab;

use crate::conn_id::ConnId;
use crate::driver::client::Client;

/// One connection in its slot.
#[derive(Debug)]
pub struct Slot<S> {
    pub(crate) client: Client,
    pub(crate) stream: S,
    generation: u32,
    /// Number of the turn in which the connection was last pumped.
    pub(crate) pumped_in: u32,
    pub(crate) stage: Stage,
}

/// Stage of a connection in its slot, from accept to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Accepted and not registered with the poll.
    New,
    /// Registered with the poll.
    Registered,
    /// Closed. The slot is freed at the end of the turn.
    Closing,
}

/// All connections of one loop.
#[derive(Debug)]
pub struct Slots<S> {
    slab: Slab<Slot<S>>,
    generation: u32,
}

impl<S> Slots<S> {
    /// Creates an empty table with room for `connections`. Memory that is never touched costs
    /// nothing, while a table that moves as it grows leaves holes in the heap.
    #[must_use]
    pub fn for_up_to(connections: usize) -> Self {
        Slots { slab: Slab::with_capacity(connections), generation: 0 }
    }

    /// Stores a connection and gives it a name. A name is unique within 2^32 accepts.
    pub fn insert(&mut self, client: Client, stream: S) -> ConnId {
        self.generation = self.generation.wrapping_add(1).max(1);
        let generation = self.generation;
        let slot = self.slab.insert(Slot { client, stream, generation, pumped_in: 0, stage: Stage::New });
        ConnId::new(generation, u32::try_from(slot).unwrap_or(u32::MAX))
    }

    /// Returns the connection of this name, unless it is closed.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Slot<S>> {
        self.slab.get_mut(id.slot()).filter(|slot| slot.generation == id.generation() && slot.is_open())
    }

    /// Returns the connection of this name, unless it is closed.
    #[must_use]
    pub fn get(&self, id: ConnId) -> Option<&Slot<S>> {
        self.slab.get(id.slot()).filter(|slot| slot.generation == id.generation() && slot.is_open())
    }

    /// Frees a slot and closes its stream.
    pub fn remove(&mut self, id: ConnId) -> Option<Slot<S>> {
        self.slab.get(id.slot()).filter(|slot| slot.generation == id.generation())?;
        self.slab.try_remove(id.slot())
    }

    /// Returns the number of connections, including closed ones whose slots are not freed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns true if no slot is occupied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Iterates over all open connections with their names.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Slot<S>)> {
        self.slab.iter().filter(|(_, entry)| entry.is_open()).map(|(slot, entry)| {
            (ConnId::new(entry.generation, u32::try_from(slot).unwrap_or(u32::MAX)), entry)
        })
    }

    /// Iterates over the open connections in `count` slots from slot `from` on, and continues at
    /// slot 0 after the last slot. The cost does not depend on the number of connections.
    pub fn sample(&self, from: usize, count: usize) -> impl Iterator<Item = (ConnId, &Slot<S>)> {
        let capacity = self.slab.capacity().max(1);
        (0..count.min(capacity)).filter_map(move |step| {
            let slot = (from + step) % capacity;
            let entry = self.slab.get(slot).filter(|entry| entry.is_open())?;
            Some((ConnId::new(entry.generation, u32::try_from(slot).unwrap_or(u32::MAX)), entry))
        })
    }
}

impl<S> Default for Slots<S> {
    fn default() -> Self {
        Slots::for_up_to(0)
    }
}

impl<S> Slot<S> {
    fn is_open(&self) -> bool {
        match self.stage {
            Stage::New | Stage::Registered => true,
            Stage::Closing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn_id::Peer;

    #[expect(clippy::disallowed_methods, reason = "any time will do")]
    fn client() -> Client {
        Client::new(Peer::Unix, std::time::Instant::now())
    }

    #[test]
    fn an_idle_connection_is_small() {
        // The sockets of mio contain an additional check in debug builds. In release builds a
        // socket is one descriptor, as here.
        #[expect(dead_code, reason = "only its size is of interest")]
        enum Socket {
            Tcp(std::os::fd::OwnedFd),
            Unix(std::os::fd::OwnedFd),
        }
        let bytes = size_of::<Slot<Socket>>();
        let parts = [size_of::<Client>(), size_of::<crate::http::Connection>(), size_of::<Peer>()];
        assert!(bytes <= 120, "{bytes} bytes; client, connection, peer: {parts:?}");
    }

    #[test]
    fn a_name_does_not_fit_the_next_owner_of_its_slot() {
        let mut slots = Slots::default();
        let first = slots.insert(client(), 1);
        assert!(slots.remove(first).is_some());
        let second = slots.insert(client(), 2);
        assert_eq!(first.slot(), second.slot(), "slab hands out the last freed slot");
        assert!(slots.get_mut(first).is_none() && slots.remove(first).is_none());
        assert_eq!(slots.get(second).map(|slot| slot.stream), Some(2));
    }

    /// Later events of the turn must not find a closed connection, and no other connection may get
    /// its slot before the end of the turn.
    #[test]
    fn a_closed_connection_is_not_found_and_keeps_its_slot() {
        let mut slots = Slots::default();
        let first = slots.insert(client(), 1);
        slots.get_mut(first).unwrap().stage = Stage::Closing;
        assert!(slots.get(first).is_none() && slots.get_mut(first).is_none());
        assert!(slots.iter().next().is_none() && slots.sample(0, 16).next().is_none());
        assert_eq!(slots.len(), 1);
        let second = slots.insert(client(), 2);
        assert_ne!(first.slot(), second.slot());
        assert_eq!(slots.iter().map(|(id, _)| id).collect::<Vec<_>>(), [second]);
        assert!(slots.remove(first).is_some());
    }
}
