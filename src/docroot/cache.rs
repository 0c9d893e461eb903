//! The file cache of a driver, with a bound on staleness.
//!
//! After a check, an entry is used without system calls for a while. No response is older than its
//! request by more than `fresh` (1 ms by default). A check is one `statx` by path. Inode, size and
//! both times must be equal to those *before* the content was read. So a request that arrives a
//! millisecond after a change sees it, on any file system, without watches. Small files are cached
//! with their content, larger ones as open descriptors. The cache is bounded in bytes and entries,
//! and the clock algorithm evicts entries. Must not know responses.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::clock::Now;
use crate::config::FileOptions;
use crate::docroot::Docroot;
use crate::docroot::coded_files::CodedFiles;
use crate::docroot::file::CachedFile;
use crate::docroot::root::{AtHand, Root};
use crate::handler::Context;
use crate::handler::cache::DriverCache;
use crate::sync::lock;

/// An entry that was not used for this time is dropped at the next sweep, because a descriptor
/// keeps the disk space of a deleted file.
const UNUSED_AFTER: Duration = Duration::from_secs(10);

/// A file with its coded forms, if they were searched for.
#[derive(Clone, Debug)]
pub(crate) struct Representations {
    pub(crate) original: Arc<CachedFile>,
    pub(crate) coded_files: Option<Arc<CodedFiles>>,
}

impl Representations {
    /// Returns when the first of the tags becomes a strong one, in time since 1970.
    fn settles(&self) -> Option<Duration> {
        let coded = self.coded_files.as_ref().and_then(|coded_files| coded_files.settles());
        self.original.meta.tag.settles.into_iter().chain(coded).min()
    }

    /// Returns the cost for the cache, in bytes.
    fn cost(&self) -> usize {
        self.original.cost() + self.coded_files.as_ref().map_or(0, |coded_files| coded_files.cost())
    }
}

#[derive(Debug)]
struct Entry {
    key: (usize, Box<[u8]>),
    file: Arc<CachedFile>,
    checked: Checked,
    /// Time of a reload without a change: a weak tag becomes a strong one, and the prepared head
    /// contains it.
    settles: Option<Instant>,
    /// The coded forms, once a request needed one.
    coded_files: Option<(Arc<CodedFiles>, Checked)>,
    used: bool,
}

/// The last comparison with the disk.
#[derive(Clone, Copy, Debug)]
struct Checked {
    at: Instant,
    /// End of the trust in the comparison, `None` for no end. Comparing with it is cheaper, for
    /// each request, than the difference of two times.
    until: Option<Instant>,
    /// Number of writes through this server by then; see [`Docroot::writes`].
    writes: usize,
}

impl Checked {
    fn new(at: Instant, trusted_for: Duration, writes: usize) -> Self {
        Checked { at, until: at.checked_add(trusted_for), writes }
    }

    /// Limits the trust to `end`, if there is one.
    fn until(self, end: Option<Instant>) -> Self {
        let until = self.until.into_iter().chain(end).min();
        Checked { until, ..self }
    }

    fn is_due(&self, sent_before: Instant, writes: usize) -> bool {
        self.writes != writes || self.until.is_some_and(|until| sent_before >= until)
    }
}

/// A driver's access to its file cache. The reactor owns one. The threads of the threads model
/// share one, because otherwise each thread would keep a popular file in memory.
#[derive(Debug)]
pub(crate) enum Files {
    /// The cache of this driver alone.
    Own(Box<FileCache>),
    /// A cache shared by the threads of the threads model.
    Shared(Arc<Mutex<FileCache>>),
}

impl Files {
    /// Creates a cache for one driver.
    #[must_use]
    pub(crate) fn own(options: &FileOptions) -> Self {
        Files::Own(Box::new(FileCache::new(options)))
    }

    /// Returns the cache of the driver that calls this handler, or `None` if it has none for files.
    pub(crate) fn of<'a>(cx: &'a mut Context<'_>) -> Option<&'a mut Files> {
        cx.cache().as_any().downcast_mut()
    }

    /// Calls `look` with the cache. Holds the lock meanwhile if the cache is shared.
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

    /// Drops files that no request has used recently, so that the space of deleted files is freed.
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
    /// Keys of the entries: by the number of the docroot, then by path.
    places: Vec<HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>>,
    entries: slab::Slab<Entry>,
    bytes: usize,
    bytes_max: usize,
    entries_max: usize,
    /// Half of `fresh`. The other half is for the length of a turn, during which the clock is not
    /// read.
    trusted_for: Duration,
    hand: usize,
    swept: Option<Instant>,
    /// The docroots of roots that were requested.
    roots: Vec<AtHand>,
}

impl FileCache {
    /// Creates an empty cache.
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

    /// Calls `take` with the file of this path, if it is cached and fresh, and with its coded forms
    /// if they are wanted and known. Entries that may be older than `fresh` at `sent_before`, the
    /// time of the request, are compared with the disk first.
    pub(crate) fn lookup<T>(
        &mut self,
        docroot: &Docroot,
        path: &[u8],
        with_coded: bool,
        sent_before: Instant,
        now: Instant,
        take: impl FnOnce(&Arc<CachedFile>, Option<&Arc<CodedFiles>>) -> T,
    ) -> Option<T> {
        // If nothing is trusted, every request needs its own check.
        let sent_before = if self.trusted_for.is_zero() { now } else { sent_before };
        let place = *self.places.get(docroot.number)?.get(path)?;
        let entry = &mut self.entries[place];
        // Read before the check, so that the check is not older than recorded.
        let writes = docroot.writes();
        if entry.checked.is_due(sent_before, writes) {
            let has_settled = entry.settles.is_some_and(|at| now >= at);
            if has_settled || !docroot.is_unchanged(path, b"", &entry.file.meta) {
                self.remove(place);
                return None;
            }
            entry.checked = Checked::new(now, self.trusted_for, writes).until(entry.settles);
        }
        entry.used = true;
        let mut coded_files = None;
        if with_coded && let Some((coded, checked)) = &mut entry.coded_files {
            if checked.is_due(sent_before, writes) {
                if !coded.are_fresh(docroot, path, &entry.file.meta) {
                    self.remove(place);
                    return None;
                }
                *checked = Checked::new(now, self.trusted_for, writes);
            }
            coded_files = Some(&*coded);
        }
        Some(take(&entry.file, coded_files))
    }

    /// Returns the docroot of `root` for one request that was sent at `sent_before`. `None` if
    /// another folder has its name. Return it with [`FileCache::put_back`].
    pub(crate) fn take_root(
        &mut self,
        root: &Root,
        sent_before: Instant,
        now: Instant,
    ) -> Option<Arc<Docroot>> {
        AtHand::take(&mut self.roots, root, sent_before, now)
    }

    /// Takes back a docroot that [`FileCache::take_root`] returned. If it is lost instead, the next
    /// call takes it from the root again.
    pub(crate) fn put_back(&mut self, root: &Root, docroot: Arc<Docroot>) {
        AtHand::put_back(&mut self.roots, root, docroot);
    }

    /// Closes folders that were replaced.
    pub(crate) fn forget_old_roots(&mut self) {
        self.roots.retain(AtHand::is_current);
    }

    /// Caches a file that was read at `now` or later, if it may be trusted and fits.
    pub(crate) fn insert(&mut self, docroot: &Docroot, path: &[u8], forms: &Representations, now: Now) {
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
        // The number of writes at the time of the read is unknown, so the next lookup compares with
        // the disk.
        let checked = Checked::new(now.mono, self.trusted_for, usize::MAX);
        let settles = forms.settles().map(|at| at.saturating_sub(now.wall));
        let settles = settles.and_then(|left| now.mono.checked_add(left));
        let entry = Entry {
            key,
            file: Arc::clone(&forms.original),
            checked,
            settles,
            coded_files: forms.coded_files.clone().map(|coded_files| (coded_files, checked)),
            used: true,
        };
        let place = self.entries.insert(entry);
        if self.places.len() <= docroot.number {
            self.places.resize_with(docroot.number + 1, HashMap::default);
        }
        self.places[docroot.number].insert(Box::from(path), place);
        self.swept.get_or_insert(now.mono);
    }

    /// Returns the bytes in use.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns when [`FileCache::sweep`] is due.
    #[must_use]
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.swept.map(|swept| swept + UNUSED_AFTER)
    }

    /// Drops entries whose last check, and so their last use, was long ago.
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
        let forms = Representations {
            original: entry.file,
            coded_files: entry.coded_files.map(|(coded_files, _)| coded_files),
        };
        self.bytes -= forms.cost() + path.len();
        if let Some(paths) = self.places.get_mut(number) {
            paths.remove(&path);
        }
    }

    /// Evicts an entry by second chance: the hand skips entries that were used since its last
    /// visit.
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
