//! What the loop watches for its connections, by name, and when each of them wants to be looked at.
//!
//! Names are made as those of connections are, and for the same reason: an event may be about something that is over,
//! and its slot may be another's already. This file must not know what is watched.

use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use crate::conn_id::{ConnId, WatchId};
use crate::deadline::DeadlineQueue;
use crate::watch::Watched;

struct Entry {
    watched: Arc<dyn Watched>,
    /// For whom.
    conn: ConnId,
    generation: u32,
}

/// All that one loop watches beside its connections.
#[derive(Default)]
pub(super) struct Watches {
    slab: Slab<Entry>,
    generation: u32,
    deadlines: DeadlineQueue,
}

impl Watches {
    /// Gives it a name that no other had, within 2^32 of them.
    pub(super) fn insert(&mut self, watched: Arc<dyn Watched>, conn: ConnId) -> WatchId {
        self.generation = self.generation.wrapping_add(1).max(1);
        let slot = self.slab.insert(Entry { watched, conn, generation: self.generation });
        WatchId::new(self.generation, u32::try_from(slot).unwrap_or(u32::MAX))
    }

    /// The thing of this name and for whom it is watched, unless it is over.
    pub(super) fn get(&self, id: WatchId) -> Option<(Arc<dyn Watched>, ConnId)> {
        let entry = self.slab.get(id.slot()).filter(|entry| entry.generation == id.generation())?;
        Some((Arc::clone(&entry.watched), entry.conn))
    }

    /// Forgets it.
    pub(super) fn remove(&mut self, id: WatchId) {
        if self.get(id).is_some() {
            self.deadlines.remove(key(id));
            self.slab.try_remove(id.slot());
        }
    }

    /// Makes sure that it is looked at no later than `due`.
    pub(super) fn arm(&mut self, id: WatchId, due: Instant) {
        self.deadlines.arm(key(id), due);
    }

    /// When the next of them wants to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// One whose time has come, taken out: arm it again.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<WatchId> {
        let id = self.deadlines.pop_due(now)?;
        Some(WatchId::new(id.generation(), u32::try_from(id.slot()).unwrap_or(u32::MAX)))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }
}

/// The queue of deadlines has no kinds of names; these have a queue of their own.
fn key(id: WatchId) -> ConnId {
    ConnId::new(id.generation(), u32::try_from(id.slot()).unwrap_or(u32::MAX))
}
