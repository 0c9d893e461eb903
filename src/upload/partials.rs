//! The table of uploads that can be resumed, by token.
//!
//! An upload that nobody writes to is kept here until its client comes back. The table is bounded in number, bytes and
//! age. It must not know how content reaches the disk.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::partial::{Partial, read_clock};
use crate::config::PARTIALS_MAX;
use crate::jobs::lock;

/// Uploads that can be resumed, by token. Bounded in number, bytes and age; those under way stay.
pub(super) struct Partials {
    pub(super) table: Mutex<Table>,
    bytes_max: u64,
    keep: Option<Duration>,
    /// Wakes who clears up.
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) partials: HashMap<String, Arc<Partial>>,
    has_janitor: bool,
}

impl Partials {
    pub(super) fn new(bytes_max: u64, keep: Option<Duration>) -> Arc<Self> {
        Arc::new(Partials { table: Mutex::default(), bytes_max, keep, changed: Condvar::new() })
    }

    /// Whether an upload of this length can be kept.
    pub(super) fn takes(&self, length: Option<u64>) -> bool {
        self.bytes_max > 0 && length.unwrap_or(0) <= self.bytes_max
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(super) fn keep(&self) -> Option<Duration> {
        self.keep
    }

    pub(super) fn find(&self, token: &str) -> Option<Arc<Partial>> {
        lock(&self.table).partials.get(token).map(Arc::clone)
    }

    pub(super) fn remove(&self, token: &str) {
        let removed = lock(&self.table).partials.remove(token);
        drop(removed);
    }

    pub(super) fn insert(self: &Arc<Self>, token: &str, partial: &Arc<Partial>) {
        let mut table = lock(&self.table);
        let mut given_up = Vec::new();
        while table.partials.len() >= PARTIALS_MAX {
            match table.take_oldest(|_| true) {
                Some(oldest) => given_up.push(oldest),
                None => break,
            }
        }
        table.partials.insert(token.to_owned(), Arc::clone(partial));
        if self.keep.is_some() && !table.has_janitor {
            let partials = Arc::clone(self);
            let started =
                std::thread::Builder::new().name("whirligig-tidy".into()).spawn(move || partials.clear_up());
            // Without one the bounds on number and bytes still hold.
            table.has_janitor = started.is_ok();
        }
        drop(table);
        // Files are closed outside the lock: of a long one that takes a while.
        drop(given_up);
    }

    /// Gives up the oldest until all together have room. False when those under way leave none.
    pub(super) fn make_room(&self) -> bool {
        let mut given_up = Vec::new();
        let mut table = lock(&self.table);
        while table.bytes() > self.bytes_max {
            // Only of these does it come free.
            match table.take_oldest(Partial::is_held) {
                Some(oldest) => given_up.push(oldest),
                None => break,
            }
        }
        let has_room = table.bytes() <= self.bytes_max;
        drop(table);
        drop(given_up);
        has_room
    }

    /// Gives up all of them: without nameless files they would stay behind under hidden names.
    pub(super) fn give_all_up(&self) {
        let all = std::mem::take(&mut lock(&self.table).partials);
        for partial in all.values() {
            // One that is just becoming a file becomes one.
            let _given_up = partial.cancel();
        }
        self.changed.notify_all();
    }

    /// Gives up what nobody came back for, until none is left: on a thread of its own.
    fn clear_up(&self) {
        let Some(keep) = self.keep else { return };
        let mut table = lock(&self.table);
        while !table.partials.is_empty() {
            let waited = self.changed.wait_timeout(table, keep / 4);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
            let now = read_clock();
            let is_old = |partial: &Arc<Partial>| {
                Arc::strong_count(partial) == 1
                    && now.saturating_duration_since(*lock(&partial.touched)) >= keep
            };
            let old: Vec<_> = table.partials.extract_if(|_, partial| is_old(partial)).collect();
            if !old.is_empty() {
                drop(table);
                drop(old);
                table = lock(&self.table);
            }
        }
        table.has_janitor = false;
    }
}

impl Table {
    fn bytes(&self) -> u64 {
        self.partials.values().map(|partial| partial.held_bytes()).sum()
    }

    /// Takes out the one nobody has touched for longest, of these and of those that nobody writes to. What is a file
    /// goes first: whoever asks for it again loses a word about it, and not what was sent.
    pub(super) fn take_oldest(&mut self, is_one: impl Fn(&Partial) -> bool) -> Option<Arc<Partial>> {
        let is_idle = |partial: &Arc<Partial>| Arc::strong_count(partial) == 1 && is_one(partial);
        let idle = self.partials.iter().filter(|(_, partial)| is_idle(partial));
        let rank = |partial: &Partial| (partial.is_held(), *lock(&partial.touched));
        let oldest = idle.min_by_key(|(_, partial)| rank(partial))?.0.clone();
        self.partials.remove(&oldest)
    }
}
