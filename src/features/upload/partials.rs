//! The table of uploads that can be resumed, by token.
//!
//! An upload that nobody writes to is kept here until its client comes back. The table is bounded
//! in number, bytes and age, and its room is divided among clients: the one that holds most gives
//! way, and keeps its last. So nobody can push out the uploads of others, and a table full of
//! single uploads takes no more until they are complete or too old. Must not know how content
//! reaches the disk.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::config::TIMEOUT_MAX;
use crate::features::upload::owner::Owner;
use crate::features::upload::partial::{Partial, read_clock};
use crate::features::upload::refusal::Refusal;
use crate::features::upload::write_request::KeepLimits;
use crate::shortage;
use crate::shortage::Relief;
use crate::sync::lock;

/// Uploads that can be resumed, by token. Those under way stay, whatever the bounds.
pub(crate) struct Partials {
    table: Mutex<Table>,
    limits: KeepLimits,
    /// Wakes the janitor.
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    partials: HashMap<String, Arc<Partial>>,
    has_janitor: bool,
    /// Descriptors have run out: one of them is to go.
    is_one_too_many: bool,
}

/// Uploads that are given up because descriptors have run out go one at a time, this far apart:
/// meanwhile other descriptors may come free.
const RELIEF_INTERVAL: Duration = Duration::from_millis(100);

impl Partials {
    /// An empty table, which gives up uploads when descriptors run out.
    pub(crate) fn registered(limits: KeepLimits) -> Arc<Self> {
        let partials = Arc::new(Partials { table: Mutex::default(), limits, changed: Condvar::new() });
        shortage::register(&partials);
        partials
    }

    /// True if an upload of this length can be kept.
    pub(crate) fn takes(&self, length: Option<u64>) -> bool {
        self.limits.bytes_max > 0 && length.unwrap_or(0) <= self.limits.bytes_max
    }

    pub(crate) fn find(&self, token: &str) -> Option<Arc<Partial>> {
        lock(&self.table).partials.get(token).map(Arc::clone)
    }

    pub(crate) fn remove(&self, token: &str) {
        let removed = lock(&self.table).partials.remove(token);
        drop(removed);
    }

    /// From now on nobody knows the upload by its token.
    pub(crate) fn forget(&self, partial: &Partial) {
        if let Some(token) = partial.token.get() {
            self.remove(token);
        }
    }

    /// Gives an upload up, and forgets it.
    pub(crate) fn cancel(&self, partial: &Partial) -> Result<(), Refusal> {
        partial.cancel()?;
        self.forget(partial);
        Ok(())
    }

    /// Keeps an upload under this token. False if its owner's share of the table is used up by
    /// uploads that are under way, or the table by clients that have no more than it has.
    pub(crate) fn insert(self: &Arc<Self>, partial: &Arc<Partial>, token: String) -> bool {
        let mut given_up = Vec::new();
        let mut table = lock(&self.table);
        while table.partials.len() >= self.limits.number_max {
            let Some(oldest) = table.give_up_for(partial.owner(), 1, |_| 1) else { break };
            given_up.push(oldest);
        }
        let has_room = table.partials.len() < self.limits.number_max;
        if has_room {
            partial.set_token(token.clone());
            table.partials.insert(token, Arc::clone(partial));
            self.hire_janitor(&mut table);
        }
        drop(table);
        // Files are closed outside the lock: of a long one that takes a while.
        drop(given_up);
        has_room
    }

    fn hire_janitor(self: &Arc<Self>, table: &mut Table) {
        if !table.has_janitor {
            let partials = Arc::clone(self);
            let started =
                std::thread::Builder::new().name("whirligig-tidy".into()).spawn(move || partials.clear_up());
            // Without one the bounds on number and bytes still hold.
            table.has_janitor = started.is_ok();
        }
    }

    /// Gives up uploads until all together have room, for one of `owner` that has grown. False if
    /// nothing that may go is left.
    pub(crate) fn make_room(&self, owner: &Owner) -> bool {
        let mut given_up = Vec::new();
        let mut table = lock(&self.table);
        while table.bytes() > self.limits.bytes_max {
            let Some(oldest) = table.give_up_for(owner, 0, Partial::held_bytes) else { break };
            given_up.push(oldest);
        }
        let has_room = table.bytes() <= self.limits.bytes_max;
        drop(table);
        drop(given_up);
        has_room
    }

    /// Gives up all of them: without nameless files they would stay behind under hidden names.
    pub(crate) fn give_all_up(&self) {
        let all = std::mem::take(&mut lock(&self.table).partials);
        for partial in all.values() {
            // One that is just becoming a file becomes one.
            let _given_up = partial.cancel();
        }
        self.changed.notify_all();
    }

    /// Gives up what nobody came back for, until none is left: on a thread of its own.
    fn clear_up(&self) {
        let mut table = lock(&self.table);
        while !table.partials.is_empty() {
            let wait = match self.limits.age_max {
                _ if table.is_one_too_many => RELIEF_INTERVAL,
                Some(keep) => keep / 4,
                None => TIMEOUT_MAX,
            };
            let waited = self.changed.wait_timeout(table, wait);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
            let gone = self.take_unwanted(&mut table);
            if !gone.is_empty() {
                drop(table);
                drop(gone);
                table = lock(&self.table);
            }
        }
        table.has_janitor = false;
    }

    /// Takes out what is too old, and one more if descriptors have run out.
    fn take_unwanted(&self, table: &mut Table) -> Vec<Arc<Partial>> {
        let now = read_clock();
        let is_old = |partial: &Arc<Partial>| {
            let age = now.saturating_duration_since(partial.touched());
            is_idle(partial) && self.limits.age_max.is_some_and(|keep| age >= keep)
        };
        let old = table.partials.extract_if(|_, partial| is_old(partial)).map(|(_, partial)| partial);
        let mut gone: Vec<_> = old.collect();
        if std::mem::take(&mut table.is_one_too_many) && gone.is_empty() {
            gone.extend(table.give_up_of_largest_share());
        }
        gone
    }
}

impl Relief for Partials {
    fn relieve(&self) {
        let mut table = lock(&self.table);
        if !std::mem::replace(&mut table.is_one_too_many, true) {
            self.changed.notify_all();
        }
    }
}

/// True if no request is using it: then only the table has it.
fn is_idle(partial: &Arc<Partial>) -> bool {
    Arc::strong_count(partial) == 1
}

impl Table {
    fn bytes(&self) -> u64 {
        self.partials.values().map(|partial| partial.held_bytes()).sum()
    }

    /// Takes out the oldest upload of the owner that has most of them. The only one of an owner
    /// stays: whatever uses up descriptors, it is not that.
    fn give_up_of_largest_share(&mut self) -> Option<Arc<Partial>> {
        let mut shares: HashMap<&Owner, usize> = HashMap::new();
        for partial in self.partials.values().filter(|partial| partial.is_held()) {
            *shares.entry(partial.owner()).or_default() += 1;
        }
        let share = |partial: &Partial| shares.get(partial.owner()).copied().unwrap_or(0);
        let may_go = |partial: &Arc<Partial>| is_idle(partial) && partial.is_held() && share(partial) > 1;
        let idle = self.partials.iter().filter(|(_, partial)| may_go(partial));
        let rank = |partial: &Partial| (std::cmp::Reverse(share(partial)), partial.touched());
        let first = idle.min_by_key(|(_, partial)| rank(partial))?.0.clone();
        self.partials.remove(&first)
    }

    /// Takes out an upload to make room for one of `newcomer`, which adds so much to its share.
    /// What each upload takes of the room is its weight.
    ///
    /// What is a file already goes first, because its client loses only a word about it. Else the
    /// owner of the largest share gives up its oldest, if that share is larger than the newcomer's
    /// would be and has more than one upload; else the newcomer does.
    fn give_up_for(
        &mut self,
        newcomer: &Owner,
        adds: u64,
        weight: impl Fn(&Partial) -> u64,
    ) -> Option<Arc<Partial>> {
        let mut shares: HashMap<&Owner, u64> = HashMap::from([(newcomer, adds)]);
        let mut unfinished: HashMap<&Owner, usize> = HashMap::new();
        for partial in self.partials.values() {
            *shares.entry(partial.owner()).or_default() += weight(partial);
            *unfinished.entry(partial.owner()).or_default() += usize::from(partial.is_held());
        }
        let own = shares[newcomer];
        let may_go = |partial: &Arc<Partial>| {
            let owner = partial.owner();
            let is_larger = shares[owner] > own && unfinished[owner] > 1;
            let is_due = !partial.is_held() || owner == newcomer || is_larger;
            is_idle(partial) && weight(partial) > 0 && is_due
        };
        let rank = |partial: &Partial| {
            (partial.is_held(), std::cmp::Reverse(shares[partial.owner()]), partial.touched())
        };
        let idle = self.partials.iter().filter(|(_, partial)| may_go(partial));
        let first = idle.min_by_key(|(_, partial)| rank(partial))?.0.clone();
        self.partials.remove(&first)
    }
}

#[cfg(test)]
mod tests;
