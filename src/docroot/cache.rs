//! Files kept at hand, and never stale for longer than was promised.
//!
//! An entry is used without a look at the disk for a while after its last check, so that no answer
//! is older than its request by more than `fresh` (1 ms by default). The check is one `statx` by
//! path; inode, size and both times must be what they were *before* the content was read, so a
//! request that comes a millisecond after a change sees it, on any file system, without watches.
//! Small files are kept with their content, larger ones as open descriptors. Bounded in bytes and
//! entries; the clock algorithm chooses who goes.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::clock::Now;
use crate::config::FileOptions;
use crate::docroot::Docroot;
use crate::docroot::file::CachedFile;
use crate::docroot::root::{AtHand, Root};
use crate::docroot::siblings::Siblings;
use crate::handler::Context;
use crate::handler::cache::DriverCache;
use crate::sync::lock;

/// An entry nobody asked for in this time goes at the next sweep: a descriptor keeps a deleted
/// file's space.
const UNUSED_AFTER: Duration = Duration::from_secs(10);

/// A file with its coded forms, if they were looked for.
#[derive(Clone, Debug)]
pub(crate) struct Forms {
    pub(crate) original: Arc<CachedFile>,
    pub(crate) siblings: Option<Arc<Siblings>>,
}

impl Forms {
    /// When the first of their tags becomes a strong one, in time since 1970, if any does.
    fn settles(&self) -> Option<Duration> {
        let coded = self.siblings.as_ref().and_then(|siblings| siblings.settles());
        self.original.meta.tag.settles.into_iter().chain(coded).min()
    }

    /// What they cost the cache, in bytes.
    fn cost(&self) -> usize {
        self.original.cost() + self.siblings.as_ref().map_or(0, |siblings| siblings.cost())
    }
}

#[derive(Debug)]
struct Entry {
    key: (usize, Box<[u8]>),
    file: Arc<CachedFile>,
    checked: Checked,
    /// When it has to be read anew although nothing changes: a weak tag becomes a strong one, and
    /// that stands in the prepared head.
    settles: Option<Instant>,
    /// Its coded forms, once somebody asked for one.
    siblings: Option<(Arc<Siblings>, Checked)>,
    used: bool,
}

/// When something was last compared with the disk.
#[derive(Clone, Copy, Debug)]
struct Checked {
    at: Instant,
    /// Until when it is trusted, unless that is for ever: to compare with it is cheaper, for each
    /// request, than to take the difference of two times.
    until: Option<Instant>,
    /// What had been written through this server by then; see [`Docroot::writes`].
    writes: usize,
}

impl Checked {
    fn new(at: Instant, trusted_for: Duration, writes: usize) -> Self {
        Checked { at, until: at.checked_add(trusted_for), writes }
    }

    /// Trusted no longer than until `end`, if there is one.
    fn until(self, end: Option<Instant>) -> Self {
        let until = self.until.into_iter().chain(end).min();
        Checked { until, ..self }
    }

    fn is_due(&self, asked_by: Instant, writes: usize) -> bool {
        self.writes != writes || self.until.is_some_and(|until| asked_by >= until)
    }
}

/// A driver's access to its file cache. The reactor owns one. The threads of the twin share one,
/// or a popular file would be in memory once a thread.
#[derive(Debug)]
pub(crate) enum Files {
    /// This driver's own.
    Own(Box<FileCache>),
    /// Shared by the threads of the twin.
    Shared(Arc<Mutex<FileCache>>),
}

impl Files {
    /// A cache of a driver's own.
    #[must_use]
    pub(crate) fn own(options: &FileOptions) -> Self {
        Files::Own(Box::new(FileCache::new(options)))
    }

    /// The cache of the driver that calls this handler, or `None` if it has none for files.
    pub(crate) fn of<'a>(cx: &'a mut Context<'_>) -> Option<&'a mut Files> {
        cx.cache().as_any().downcast_mut()
    }

    /// Calls `look` with the cache, and holds its lock meanwhile if it is shared.
    pub(crate) fn with<T>(&mut self, look: impl FnOnce(&mut FileCache) -> T) -> T {
        match self {
            Files::Own(cache) => look(cache),
            Files::Shared(cache) => look(&mut lock(cache)),
        }
    }
}

impl DriverCache for Files {
    fn next_sweep(&mut self) -> Option<Instant> {
        self.with(|cache| cache.next_sweep())
    }

    /// Drops files that no request has used lately, so that the space of deleted files is freed.
    fn sweep(&mut self, now: Instant) {
        self.with(|cache| cache.sweep(now));
    }

    fn bytes(&self) -> usize {
        match self {
            Files::Own(cache) => cache.bytes(),
            Files::Shared(cache) => lock(cache).bytes(),
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// The file cache of one driver.
#[derive(Debug)]
pub(crate) struct FileCache {
    /// By the number of the docroot, then by path.
    places: Vec<HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>>,
    entries: slab::Slab<Entry>,
    bytes: usize,
    bytes_max: usize,
    entries_max: usize,
    /// Half of what was promised; the other half is for turns, which see the clock stand still.
    trusted_for: Duration,
    hand: usize,
    swept: Option<Instant>,
    /// The docroots of roots that were asked for.
    roots: Vec<AtHand>,
}

impl FileCache {
    /// An empty cache.
    #[must_use]
    pub(crate) fn new(options: &FileOptions) -> Self {
        FileCache {
            places: Vec::new(),
            entries: slab::Slab::new(),
            bytes: 0,
            bytes_max: options.cache_bytes_max,
            entries_max: options.cache_entries_max,
            trusted_for: options.fresh / 2,
            hand: 0,
            swept: None,
            roots: Vec::new(),
        }
    }

    /// What `take` makes of the file of this path, if it is at hand and fresh, and of its coded
    /// forms if they are wanted and known. Checks against the disk what is due and will be used:
    /// what may have changed `fresh` before `asked_by`, when the request was under way.
    pub(crate) fn lookup<T>(
        &mut self,
        docroot: &Docroot,
        path: &[u8],
        with_coded: bool,
        asked_by: Instant,
        now: Instant,
        take: impl FnOnce(&Arc<CachedFile>, Option<&Arc<Siblings>>) -> T,
    ) -> Option<T> {
        // Whoever trusts nothing is promised a look for each request.
        let asked_by = if self.trusted_for.is_zero() { now } else { asked_by };
        let place = *self.places.get(docroot.number)?.get(path)?;
        let entry = &mut self.entries[place];
        // A check must not be older than it claims: both are read before it.
        let writes = docroot.writes();
        if entry.checked.is_due(asked_by, writes) {
            let has_settled = entry.settles.is_some_and(|at| now >= at);
            if has_settled || !docroot.is_unchanged(path, b"", &entry.file.meta) {
                self.remove(place);
                return None;
            }
            entry.checked = Checked::new(now, self.trusted_for, writes).until(entry.settles);
        }
        entry.used = true;
        let mut siblings = None;
        if with_coded && let Some((coded, checked)) = &mut entry.siblings {
            if checked.is_due(asked_by, writes) {
                if !coded.are_fresh(docroot, path) {
                    self.remove(place);
                    return None;
                }
                *checked = Checked::new(now, self.trusted_for, writes);
            }
            siblings = Some(&*coded);
        }
        Some(take(&entry.file, siblings))
    }

    /// The docroot of `root` for one request that was sent at `asked_by`; `None` if another folder
    /// has its name. To be given back with [`FileCache::put_back`].
    pub(crate) fn take_root(&mut self, root: &Root, asked_by: Instant, now: Instant) -> Option<Arc<Docroot>> {
        AtHand::take(&mut self.roots, root, asked_by, now)
    }

    /// Returns a docroot that [`FileCache::take_root`] gave. One that is lost is taken anew.
    pub(crate) fn put_back(&mut self, root: &Root, docroot: Arc<Docroot>) {
        AtHand::put_back(&mut self.roots, root, docroot);
    }

    /// Closes folders that were replaced.
    pub(crate) fn forget_old_roots(&mut self) {
        self.roots.retain(AtHand::is_current);
    }

    /// Keeps a file that was read at `now` or later, if it may be trusted and there is room.
    pub(crate) fn insert(&mut self, docroot: &Docroot, path: &[u8], forms: &Forms, now: Now) {
        let cost = forms.cost() + path.len();
        if forms.original.meta.stamp.is_too_young(now.wall)
            || cost > self.bytes_max / 4
            || self.entries_max == 0
        {
            return;
        }
        if let Some(&place) = self.places.get(docroot.number).and_then(|paths| paths.get(path)) {
            self.remove(place);
        }
        while self.bytes + cost > self.bytes_max || self.entries.len() >= self.entries_max {
            self.evict();
        }
        self.bytes += cost;
        let key = (docroot.number, Box::from(path));
        // What had been written is not known of the moment it was read, so the next look asks the
        // disk.
        let checked = Checked::new(now.mono, self.trusted_for, usize::MAX);
        let settles = forms.settles().map(|at| at.saturating_sub(now.wall));
        let settles = settles.and_then(|left| now.mono.checked_add(left));
        let entry = Entry {
            key,
            file: Arc::clone(&forms.original),
            checked,
            settles,
            siblings: forms.siblings.clone().map(|siblings| (siblings, checked)),
            used: true,
        };
        let place = self.entries.insert(entry);
        if self.places.len() <= docroot.number {
            self.places.resize_with(docroot.number + 1, HashMap::default);
        }
        self.places[docroot.number].insert(Box::from(path), place);
        self.swept.get_or_insert(now.mono);
    }

    /// Bytes in use.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When [`FileCache::sweep`] is due.
    #[must_use]
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.swept.map(|swept| swept + UNUSED_AFTER)
    }

    /// Drops what was not used since it was checked last, long ago.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if self.next_sweep().is_none_or(|due| now < due) {
            return;
        }
        self.forget_old_roots();
        let unused: Vec<usize> = self
            .entries
            .iter()
            .filter(|(_, entry)| now.saturating_duration_since(entry.checked.at) >= UNUSED_AFTER)
            .map(|(place, _)| place)
            .collect();
        for place in unused {
            self.remove(place);
        }
        self.swept = (!self.entries.is_empty()).then_some(now);
    }

    fn remove(&mut self, place: usize) {
        let entry = self.entries.remove(place);
        let (number, path) = entry.key;
        let forms = Forms { original: entry.file, siblings: entry.siblings.map(|(siblings, _)| siblings) };
        self.bytes -= forms.cost() + path.len();
        if let Some(paths) = self.places.get_mut(number) {
            paths.remove(&path);
        }
    }

    /// Second chance: the hand passes over those used since it came by last.
    fn evict(&mut self) {
        let capacity = self.entries.capacity().max(1);
        for _ in 0..=2 * capacity {
            self.hand = (self.hand + 1) % capacity;
            match self.entries.get_mut(self.hand) {
                Some(entry) if entry.used => entry.used = false,
                Some(_) => {
                    self.remove(self.hand);
                    return;
                }
                None => {}
            }
        }
    }
}
