//! Table of resumable uploads, by token.
//!
//! An upload stays here between requests until its client resumes it. The table is bounded in
//! number, bytes and age. Its room is divided among owners: the owner with the largest share loses
//! its oldest idle upload first. No owner loses its last unfinished upload to another owner.
//!
//! A table that is full of single uploads accepts no more until some of them are complete or too
//! old. Must not know how content reaches the disk.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::config::TIMEOUT_MAX;
use crate::features::upload::owner::Owner;
use crate::features::upload::partial::{Partial, read_clock};
use crate::features::upload::write_request::KeepLimits;
use crate::http::refusal::Refusal;
use crate::shortage::{self, Relief};
use crate::sync::lock;

/// Resumable uploads, by token. Uploads with an active request stay, whatever the limits.
pub(crate) struct Partials {
    table: Mutex<Table>,
    limits: KeepLimits,
    /// Wakes the cleanup thread.
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    partials: HashMap<String, Arc<Partial>>,
    has_janitor: bool,
    /// The process is out of descriptors, so one upload is to be discarded.
    is_one_too_many: bool,
}

/// Interval between uploads discarded for lack of descriptors. Other descriptors may become free
/// meanwhile.
const RELIEF_INTERVAL: Duration = Duration::from_millis(100);

impl Partials {
    /// Creates an empty table and registers it to discard uploads when descriptors run out.
    pub(crate) fn registered(limits: KeepLimits) -> Arc<Self> {
        let partials = Arc::new(Partials { table: Mutex::default(), limits, changed: Condvar::new() });
        shortage::register(&partials);
        partials
    }

    /// Returns true if an upload of this length can be kept.
    pub(crate) fn takes(&self, length: Option<u64>) -> bool {
        self.limits.bytes_max > 0 && length.unwrap_or(0) <= self.limits.bytes_max
    }

    /// Upload with this token.
    pub(crate) fn find(&self, token: &str) -> Option<Arc<Partial>> {
        lock(&self.table).partials.get(token).map(Arc::clone)
    }

    /// Removes the upload with this token.
    pub(crate) fn remove(&self, token: &str) {
        let removed = lock(&self.table).partials.remove(token);
        drop(removed);
    }

    /// Removes an upload, so its token becomes unknown.
    pub(crate) fn forget(&self, partial: &Partial) {
        if let Some(token) = partial.token.get() {
            self.remove(token);
        }
    }

    /// Discards and removes an upload.
    pub(crate) fn cancel(&self, partial: &Partial) -> Result<(), Refusal> {
        partial.cancel()?;
        self.forget(partial);
        Ok(())
    }

    /// Inserts an upload under this token. Returns false if no idle upload may go: none is
    /// published, none belongs to this owner, and no other owner has both a larger share and more
    /// than one unfinished upload.
    pub(crate) fn insert(self: &Arc<Self>, partial: &Arc<Partial>, token: String) -> bool {
        let mut discarded = Vec::new();
        let mut table = lock(&self.table);
        while table.partials.len() >= self.limits.number_max {
            let Some(oldest) = table.discard_for(partial.owner(), 1, |_| 1) else { break };
            discarded.push(oldest);
        }
        let has_room = table.partials.len() < self.limits.number_max;
        if has_room {
            partial.set_token(token.clone());
            table.partials.insert(token, Arc::clone(partial));
            self.start_janitor(&mut table);
        }
        drop(table);
        // Files are closed outside the lock, because closing a long one takes a while.
        drop(discarded);
        has_room
    }

    fn start_janitor(self: &Arc<Self>, table: &mut Table) {
        if !table.has_janitor {
            let partials = Arc::clone(self);
            let started =
                std::thread::Builder::new().name("whirligig-tidy".into()).spawn(move || partials.clear_up());
            // Without the thread the limits on number and bytes still hold.
            table.has_janitor = started.is_ok();
        }
    }

    /// Discards uploads until the total size is within the limit, after an upload of `owner` has
    /// grown. Returns false if no more may be discarded.
    pub(crate) fn make_room(&self, owner: &Owner) -> bool {
        let mut discarded = Vec::new();
        let mut table = lock(&self.table);
        while table.bytes() > self.limits.bytes_max {
            let Some(oldest) = table.discard_for(owner, 0, Partial::held_bytes) else { break };
            discarded.push(oldest);
        }
        let has_room = table.bytes() <= self.limits.bytes_max;
        drop(table);
        drop(discarded);
        has_room
    }

    /// Discards all uploads. On file systems without unnamed files they would remain under hidden
    /// names.
    pub(crate) fn discard_all(&self) {
        let all = std::mem::take(&mut lock(&self.table).partials);
        for partial in all.values() {
            // An upload that is being published is completed.
            let _discarded = partial.cancel();
        }
        self.changed.notify_all();
    }

    /// Discards uploads that were not resumed in time, until the table is empty. Runs in a thread
    /// of its own.
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
            let discarded = self.take_unwanted(&mut table);
            if !discarded.is_empty() {
                drop(table);
                drop(discarded);
                table = lock(&self.table);
            }
        }
        table.has_janitor = false;
    }

    /// Removes uploads that are too old, and one more if descriptors have run out.
    fn take_unwanted(&self, table: &mut Table) -> Vec<Arc<Partial>> {
        let now = read_clock();
        let is_old = |partial: &Arc<Partial>| {
            let age = now.saturating_duration_since(partial.touched());
            is_idle(partial) && self.limits.age_max.is_some_and(|keep| age >= keep)
        };
        let old = table.partials.extract_if(|_, partial| is_old(partial)).map(|(_, partial)| partial);
        let mut discarded: Vec<_> = old.collect();
        if std::mem::take(&mut table.is_one_too_many) && discarded.is_empty() {
            discarded.extend(table.discard_from_largest_share());
        }
        discarded
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

/// Returns true if no request uses the upload, so only the table refers to it.
fn is_idle(partial: &Arc<Partial>) -> bool {
    Arc::strong_count(partial) == 1
}

impl Table {
    fn bytes(&self) -> u64 {
        self.partials.values().map(|partial| partial.held_bytes()).sum()
    }

    /// Removes the oldest upload of the owner that has most of them. The only upload of an owner
    /// stays, because single uploads are not the cause of the shortage.
    fn discard_from_largest_share(&mut self) -> Option<Arc<Partial>> {
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

    /// Removes an upload to make room for one of `newcomer`, which adds `adds` to its share.
    /// `weight` returns the room that an upload uses.
    ///
    /// Published uploads go first, because their clients lose only a confirmation. Next is the
    /// oldest upload of the owner with the largest share, if that share is larger than the new
    /// share of `newcomer` and has more than one upload. Otherwise `newcomer` loses its own oldest
    /// upload.
    fn discard_for(
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
