//! What the loop watches for its connections, by name, and when each of them wants to be looked at.
//!
//! Names are made as those of connections are, and for the same reason: an event may be about
//! something that is over, and its slot may be another's already. This file must not know what is
//! watched.

use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use crate::conn_id::{ConnId, WatchId};
use crate::driver::deadline::DeadlineQueue;
use crate::driver::exchange::Exchange;
use crate::handler::watch::{Advanced, Ready, Watched};
use crate::http::CloseReason;
use crate::observe::Observer;
use crate::reactor::Reactor;
use crate::reactor::os::{Os, OsEvent};
use crate::reactor::slots::live;

struct Entry {
    watched: Arc<dyn Watched>,
    /// For whom.
    conn: ConnId,
    generation: u32,
    /// It had more to do than fits a turn, and has not had its share of the next one yet.
    is_carried: bool,
    /// What has become ready of it meanwhile.
    ready: Ready,
}

/// All that one loop watches beside its connections.
#[derive(Default)]
pub(super) struct Watches {
    slab: Slab<Entry>,
    generation: u32,
    deadlines: DeadlineQueue,
    /// Those that are carried, each of them once.
    carried: Vec<WatchId>,
}

impl Watches {
    /// Gives it a name that no other had, within 2^32 of them.
    pub(super) fn insert(&mut self, watched: Arc<dyn Watched>, conn: ConnId) -> WatchId {
        self.generation = self.generation.wrapping_add(1).max(1);
        let (generation, ready) = (self.generation, Ready::default());
        let slot = self.slab.insert(Entry { watched, conn, generation, is_carried: false, ready });
        WatchId::new(self.generation, u32::try_from(slot).unwrap_or(u32::MAX))
    }

    /// The thing of this name and for whom it is watched, unless it is over.
    pub(super) fn get(&self, id: WatchId) -> Option<(Arc<dyn Watched>, ConnId)> {
        let entry = self.slab.get(id.slot()).filter(|entry| entry.generation == id.generation())?;
        Some((Arc::clone(&entry.watched), entry.conn))
    }

    /// Has it advance in the next turn, before anything else and without waiting.
    pub(super) fn carry(&mut self, id: WatchId) {
        if let Some(entry) = self.entry(id).filter(|entry| !entry.is_carried) {
            entry.is_carried = true;
            self.carried.push(id);
        }
    }

    /// Whether it has had its share of this turn and is carried; then what is ready of it is kept
    /// until then. Without this each event of a turn would be another share of it.
    pub(super) fn puts_off(&mut self, id: WatchId, ready: Ready) -> bool {
        let Some(entry) = self.entry(id).filter(|entry| entry.is_carried) else { return false };
        entry.ready = entry.ready.and(ready);
        true
    }

    /// Those that the last turn carried, with what has become ready of them since.
    pub(super) fn take_carried(&mut self) -> Vec<(WatchId, Ready)> {
        let carried = std::mem::take(&mut self.carried);
        let with_ready = carried.into_iter().filter_map(|id| {
            let entry = self.entry(id)?;
            entry.is_carried = false;
            Some((id, std::mem::take(&mut entry.ready)))
        });
        with_ready.collect()
    }

    /// Whether any is carried.
    pub(super) fn has_carried(&self) -> bool {
        !self.carried.is_empty()
    }

    fn entry(&mut self, id: WatchId) -> Option<&mut Entry> {
        self.slab.get_mut(id.slot()).filter(|entry| entry.generation == id.generation())
    }

    /// Forgets it.
    pub(super) fn remove(&mut self, id: WatchId) {
        let Some(entry) = self.entry(id) else { return };
        if entry.is_carried {
            self.carried.retain(|carried| *carried != id);
        }
        self.deadlines.remove(key(id));
        self.slab.try_remove(id.slot());
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

    /// How many names are carried.
    pub(super) fn carried_len(&self) -> usize {
        self.carried.len()
    }
}

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Has what is watched advance where the kernel said so, or where the last turn left off. Whom
    /// the news concerns is pumped with the carried ones.
    pub(super) fn advance_ready(&mut self, to_pump: &mut Vec<ConnId>) {
        for (id, ready) in self.watches.take_carried() {
            to_pump.extend(self.advance(id, ready));
        }
        for at in 0..self.events.len() {
            if let OsEvent::Watched { id, ready } = self.events[at] {
                to_pump.extend(self.advance(id, ready));
            }
        }
    }

    /// Has one watched thing advance, unless it has had its share of this turn. Returns its
    /// connection if that is to be pumped.
    pub(super) fn advance(&mut self, id: WatchId, ready: Ready) -> Option<ConnId> {
        if self.watches.puts_off(id, ready) {
            return None;
        }
        let Some((watched, conn)) = self.watches.get(id) else {
            self.driver.observer.stale();
            return None;
        };
        let now = self.driver.now.mono;
        let advance = std::panic::AssertUnwindSafe(|| watched.advance(ready, now));
        let Ok(Advanced { done, due, again, is_over }) = std::panic::catch_unwind(advance) else {
            self.driver.observer.panicked();
            self.watches.remove(id);
            self.close(conn, CloseReason::HandlerFailed);
            return None;
        };
        if is_over {
            self.watches.remove(id);
        } else if again {
            self.watches.carry(id);
        }
        if let Some(due) = due.filter(|_| !is_over) {
            self.watches.arm(id, due);
        }
        let done = done?;
        let slot = live(&mut self.slots, conn)?;
        Exchange::new(&mut slot.client, &mut self.driver, conn, 0).complete(done);
        if let Some(due) = slot.client.deadline(&self.driver.config) {
            self.deadlines.arm(conn, due);
        }
        Some(conn)
    }

    /// After a connection was pumped: begins to watch what it has newly got, and has it advance,
    /// since the pump may have changed what that waits for.
    pub(super) fn tend(&mut self, id: ConnId) {
        let Some(slot) = live(&mut self.slots, id) else { return };
        let Some(watch) = slot.client.watch() else { return };
        let name = match watch.name {
            Some(name) => name,
            None => {
                let watched = Arc::clone(&watch.watched);
                let name = self.watches.insert(Arc::clone(&watched), id);
                watch.name = Some(name);
                if let Err(error) = self.os.watch(&*watched, name) {
                    log::error!("cannot watch beside a connection: {error}");
                    self.watches.remove(name);
                    return self.close(id, CloseReason::HandlerFailed);
                }
                name
            }
        };
        if self.advance(name, Ready::default()).is_some() {
            self.carried.push(id);
        }
    }
}

/// The queue of deadlines has no kinds of names; these have a queue of their own.
fn key(id: WatchId) -> ConnId {
    ConnId::new(id.generation(), u32::try_from(id.slot()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::watch::Descriptor;

    struct Nothing;

    impl Watched for Nothing {
        fn descriptors(&self) -> Vec<Descriptor> {
            Vec::new()
        }

        fn advance(self: Arc<Self>, _: Ready, _: Instant) -> Advanced {
            Advanced::default()
        }

        fn abandon(&self) {}
    }

    /// A slot is free as soon as its program is over, and the next program gets it, while events of
    /// the old one may still be on their way.
    #[test]
    fn an_old_name_does_not_reach_the_next_one_in_its_slot() {
        let mut watches = Watches::default();
        let old = watches.insert(Arc::new(Nothing), ConnId::new(1, 0));
        watches.carry(old);
        watches.remove(old);
        let new = watches.insert(Arc::new(Nothing), ConnId::new(2, 1));
        assert!(old.slot() == new.slot() && old != new);
        assert!(watches.get(old).is_none());
        assert_eq!(watches.get(new).map(|(_, conn)| conn), Some(ConnId::new(2, 1)));
        let due = crate::clock::read_clocks().mono;
        watches.arm(new, due);
        watches.carry(old);
        watches.remove(old);
        assert!(!watches.has_carried() && watches.len() == 1, "what is said of the old one changes nothing");
        watches.carry(new);
        assert!(!watches.puts_off(old, Ready::of(1)) && watches.puts_off(new, Ready::of(2)));
        assert_eq!(watches.take_carried(), [(new, Ready::of(2))]);
        assert_eq!((watches.pop_due(due), watches.pop_due(due)), (Some(new), None));
        // So it is on the way through the kernel, which has only the token.
        for number in 0..4 {
            let (id, back) = WatchId::from_token(old.to_token(number)).unwrap();
            assert!((id, back) == (old, number) && watches.get(id).is_none());
        }
    }

    /// A program that complained without end was put on the list with every event, and each of its
    /// entries put it there again.
    #[test]
    fn what_is_carried_is_carried_once_with_all_that_became_ready_of_it() {
        let mut watches = Watches::default();
        let id = watches.insert(Arc::new(Nothing), ConnId::new(1, 0));
        let other = watches.insert(Arc::new(Nothing), ConnId::new(1, 0));
        assert!(!watches.puts_off(id, Ready::of(1)), "it has done nothing yet");
        for _ in 0..3 {
            watches.carry(id);
        }
        assert!(watches.puts_off(id, Ready::of(2)) && watches.puts_off(id, Ready::of(3)));
        assert!(!watches.puts_off(other, Ready::of(2)));
        assert_eq!(watches.take_carried(), [(id, Ready::of(2).with(3))]);
        assert!(!watches.has_carried() && !watches.puts_off(id, Ready::of(1)), "a new turn");
        watches.carry(id);
        assert_eq!(watches.take_carried(), [(id, Ready::default())]);
        watches.carry(id);
        watches.remove(id);
        assert!(!watches.has_carried(), "it is over");
    }
}
