//! Watched objects: anything with descriptors of its own that a connection waits for, such as a CGI
//! program.
//!
//! Each object has a name with a generation, like a connection and for the same reason: an event
//! may refer to an object that is over, while its slot already belongs to another. Each object also
//! has an entry in a queue of deadlines. This file must not know what kind of object is watched.

use std::sync::Arc;

use crate::clock::Instant;
use crate::conn_id::{ConnId, WatchId, WatchKind};
use crate::driver::deadline::DeadlineQueue;
use crate::driver::exchange::Exchange;
use crate::driver::slots::Slots;
use crate::handler::watch::{Advanced, Ready, Watched};
use crate::http::CloseReason;
use crate::observe::Observer;
use crate::observe::step::{Holder, Name, Step, Stop};
use crate::reactor::Reactor;
use crate::reactor::os::{Os, OsEvent};

struct Entry {
    watched: Arc<dyn Watched>,
    /// The connection that waits for the object.
    conn: ConnId,
    /// True if the object had more work than fits into one turn and has not advanced in the next
    /// turn yet.
    is_carried: bool,
    /// Descriptors that have become ready while the object is carried.
    ready: Ready,
}

/// All watched objects of one loop.
#[derive(Default)]
pub(super) struct Watches {
    entries: Slots<WatchKind, Entry>,
    deadlines: DeadlineQueue<WatchKind>,
    /// Carried objects, each listed once.
    carried: Vec<WatchId>,
}

impl Watches {
    /// Stores an object and gives it an id.
    pub(super) fn insert(&mut self, watched: Arc<dyn Watched>, conn: ConnId) -> WatchId {
        self.entries.insert(Entry { watched, conn, is_carried: false, ready: Ready::default() })
    }

    /// Returns the object with this id and its connection, unless the object is over.
    pub(super) fn get(&self, id: WatchId) -> Option<(Arc<dyn Watched>, ConnId)> {
        let entry = self.entries.get(id)?;
        Some((Arc::clone(&entry.watched), entry.conn))
    }

    /// Schedules an advance at the beginning of the next turn, which then does not wait in its
    /// poll.
    fn carry(&mut self, id: WatchId) {
        if let Some(entry) = self.entries.get_mut(id).filter(|entry| !entry.is_carried) {
            entry.is_carried = true;
            self.carried.push(id);
        }
    }

    /// Returns true if the object has already advanced in this turn and is carried. Then `ready` is
    /// kept for the next turn. Without this check, each event of a turn would cause another
    /// advance.
    fn puts_off(&mut self, id: WatchId, ready: Ready) -> bool {
        let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.is_carried) else { return false };
        entry.ready = entry.ready.and(ready);
        true
    }

    /// Takes the carried objects of the last turn, with the descriptors that have become ready
    /// since.
    fn take_carried(&mut self) -> Vec<(WatchId, Ready)> {
        let carried = std::mem::take(&mut self.carried);
        let with_ready = carried.into_iter().filter_map(|id| {
            let entry = self.entries.get_mut(id)?;
            entry.is_carried = false;
            Some((id, std::mem::take(&mut entry.ready)))
        });
        with_ready.collect()
    }

    /// Returns true if any object is carried.
    pub(super) fn has_carried(&self) -> bool {
        !self.carried.is_empty()
    }

    /// Removes an object.
    pub(super) fn remove(&mut self, id: WatchId) {
        let Some(entry) = self.entries.remove(id) else { return };
        if entry.is_carried {
            self.carried.retain(|carried| *carried != id);
        }
        self.deadlines.remove(id);
    }

    /// Arms a deadline: the object advances no later than `due`.
    pub(super) fn arm(&mut self, id: WatchId, due: Instant) {
        self.deadlines.arm(id, due);
    }

    /// Returns the earliest deadline and its object.
    pub(super) fn next(&self) -> Option<(Instant, WatchId)> {
        self.deadlines.next()
    }

    /// Takes one object whose deadline has passed. Arm it again if it has a further deadline.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<WatchId> {
        self.deadlines.pop_due(now)
    }

    /// Returns the number of objects.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of carried objects.
    pub(super) fn carried_len(&self) -> usize {
        self.carried.len()
    }
}

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Advances each watched object whose descriptors are ready or whose work was carried over.
    /// Connections that receive a result are pumped in step 4 of the turn.
    pub(super) fn advance_ready(&mut self, to_pump: &mut Vec<ConnId>) {
        for (id, ready) in self.watches.take_carried() {
            to_pump.extend(self.advance(id, ready, Holder::Carried));
        }
        for at in 0..self.events.len() {
            if let OsEvent::Watched { id, ready } = self.events[at] {
                to_pump.extend(self.advance(id, ready, Holder::Event));
            }
        }
    }

    /// Advances one watched object, unless it has already advanced in this turn and is carried.
    /// Returns its connection if the object has a result for it. `holder` is what named the object.
    pub(super) fn advance(&mut self, id: WatchId, ready: Ready, holder: Holder) -> Option<ConnId> {
        if self.watches.puts_off(id, ready) {
            return None;
        }
        let Some((watched, conn)) = self.watches.get(id) else {
            self.driver.observer.step(|| Step::Stale { name: Name::Watch(id), holder });
            return None;
        };
        self.driver.observer.step(|| Step::Advance { id, conn });
        let now = self.driver.now.mono;
        let advance = std::panic::AssertUnwindSafe(|| watched.advance(ready, now));
        let Ok(Advanced { done, due, again, is_over }) = std::panic::catch_unwind(advance) else {
            self.driver.observer.step(|| Step::Panic { id: conn });
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
        let slot = self.slots.get_mut(conn)?;
        Exchange::new(&mut slot.client, &mut self.driver, conn, 0).complete(done);
        if let Some(due) = slot.client.deadline(&self.driver.config) {
            self.deadlines.arm(conn, due);
        }
        Some(conn)
    }

    /// Registers the object that a connection has begun to watch, and returns its name. Returns the
    /// name also if the object is already registered. Closes the connection if registering fails.
    pub(super) fn register_watch(&mut self, id: ConnId) -> Option<WatchId> {
        let watch = self.slots.get_mut(id)?.client.watch()?;
        if watch.name.is_some() {
            return watch.name;
        }
        let watched = Arc::clone(&watch.watched);
        let name = self.watches.insert(Arc::clone(&watched), id);
        watch.name = Some(name);
        let registered = self.os.watch(&*watched, name);
        self.driver.observer.step(|| Step::Register {
            name: Name::Watch(name),
            stop: registered.as_ref().map_or_else(Stop::of, |()| Stop::Done),
        });
        if let Err(error) = registered {
            log::error!("cannot watch beside a connection: {error}");
            self.watches.remove(name);
            self.close(id, CloseReason::HandlerFailed);
            return None;
        }
        Some(name)
    }
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

    /// A slot is free as soon as its program has ended, and the next program gets the slot. Events
    /// of the old program may arrive after that.
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
        let due = crate::clock::origin();
        watches.arm(new, due);
        watches.carry(old);
        watches.remove(old);
        assert!(!watches.has_carried() && watches.len() == 1, "the old name must change nothing");
        watches.carry(new);
        assert!(!watches.puts_off(old, Ready::of(1)) && watches.puts_off(new, Ready::of(2)));
        assert_eq!(watches.take_carried(), [(new, Ready::of(2))]);
        assert_eq!((watches.pop_due(due), watches.pop_due(due)), (Some(new), None));
        // The kernel stores only the token, so the name must survive the conversion.
        for number in 0..4 {
            let (id, back) = WatchId::from_token(old.to_token(number)).unwrap();
            assert!((id, back) == (old, number) && watches.get(id).is_none());
        }
    }

    /// A program that wrote errors without end was listed again with every event, and each of its
    /// entries listed it once more.
    #[test]
    fn what_is_carried_is_carried_once_with_all_that_became_ready_of_it() {
        let mut watches = Watches::default();
        let id = watches.insert(Arc::new(Nothing), ConnId::new(1, 0));
        let other = watches.insert(Arc::new(Nothing), ConnId::new(1, 0));
        assert!(!watches.puts_off(id, Ready::of(1)), "nothing has advanced yet");
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
        assert!(!watches.has_carried(), "the object is over");
    }
}
