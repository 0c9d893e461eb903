//! The folder that a name leads to, opened again when another folder takes the name.
//!
//! A site is published by changing a link (`ln -sfn release-2 current`), or by deleting a folder
//! and creating it again. An open descriptor would show the old tree for ever. So the name is
//! checked again, at most once per freshness bound. A [`Docroot`] never changes: a request, an
//! archive or a job keeps the one that it began with. This file must not know what is served.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

use crate::docroot::Docroot;
use crate::docroot::stamp::file_type;
use crate::sync::lock;

/// Time after which a folder that could not be opened is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Device and inode of a folder. No other folder has both while this one is open.
pub(crate) type Identity = ((u32, u32), u64);

/// A name, and the folder that it leads to.
#[derive(Debug)]
pub(crate) struct Root {
    /// Distinguishes the roots of the process.
    pub(crate) number: usize,
    current: ArcSwap<Docroot>,
    /// Number of folders that have taken the name so far.
    generation: Arc<AtomicUsize>,
    /// Time for which a check of the name is trusted: half of the freshness bound, as in the file
    /// cache, because the clock is not read during a turn.
    trusted_for: Duration,
    /// Zero point of the times below.
    base: OnceLock<Instant>,
    /// End of the trust in the last check, in nanoseconds.
    trusted_until: AtomicU64,
    /// True if the last check found another folder, which is not open yet.
    is_turned: AtomicBool,
    /// True if the other folder could not be opened.
    has_failed: AtomicBool,
    /// Locked while another folder is opened. Contains the failure that was logged last.
    following: Mutex<Option<String>>,
}

impl Root {
    /// Creates a root with the name by which `docroot` was opened.
    #[must_use]
    pub(crate) fn of(docroot: Arc<Docroot>) -> Root {
        static ROOTS: AtomicUsize = AtomicUsize::new(0);
        Root {
            number: ROOTS.fetch_add(1, Ordering::Relaxed),
            trusted_for: docroot.options.fresh / 2,
            current: ArcSwap::new(docroot),
            generation: Arc::default(),
            base: OnceLock::new(),
            trusted_until: AtomicU64::new(0),
            is_turned: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            following: Mutex::default(),
        }
    }

    /// Returns the folder as it was opened last.
    pub(crate) fn current(&self) -> Guard<Arc<Docroot>> {
        self.current.load()
    }

    /// Returns [`Root::current`], for a caller that keeps it longer than a call.
    pub(crate) fn docroot(&self) -> Arc<Docroot> {
        self.current.load_full()
    }

    /// Returns whether the name still leads to the open folder, for a request that was sent at
    /// `sent_before`. If the last check is too old for that, costs one `statx` of the name, and one
    /// for each folder of programs. If the result is false, call [`Root::follow`] from a worker
    /// thread.
    pub(crate) fn is_current(&self, sent_before: Instant, now: Instant) -> bool {
        let base = *self.base.get_or_init(|| now);
        let nanos =
            |at: Instant| u64::try_from(at.saturating_duration_since(base).as_nanos()).unwrap_or(u64::MAX);
        // If nothing is trusted, every request needs its own check.
        let sent_before = if self.trusted_for.is_zero() { now } else { sent_before };
        if nanos(sent_before) >= self.trusted_until.load(Ordering::Acquire) {
            let trusted_for = match self.has_failed.load(Ordering::Acquire) {
                true => self.trusted_for.max(RETRY_AFTER),
                false => self.trusted_for,
            };
            self.is_turned.store(self.current().was_replaced(), Ordering::Release);
            self.trusted_until.store(nanos(now.checked_add(trusted_for).unwrap_or(now)), Ordering::Release);
        }
        !self.is_turned.load(Ordering::Acquire)
    }

    /// Returns the end of the trust in the last check.
    fn trusted_until(&self) -> Option<Instant> {
        let nanos = Duration::from_nanos(self.trusted_until.load(Ordering::Acquire));
        self.base.get()?.checked_add(nanos)
    }

    /// Opens the folder that the name leads to now, if it is another one. Blocks: for worker
    /// threads.
    ///
    /// The old folder stays while no folder has the name, and while a new one cannot be served with
    /// the protections of the old one. So a gap between two folders has no effect.
    pub(crate) fn follow(&self) {
        let mut logged = lock(&self.following);
        let old = self.docroot();
        if old.was_replaced() {
            let part = old.replaced_part();
            match old.opened_again() {
                Ok(new) => {
                    // The operator's own files may lie below the name, too.
                    new.own.take_again();
                    self.current.store(Arc::new(new));
                    self.generation.fetch_add(1, Ordering::Release);
                    self.has_failed.store(false, Ordering::Release);
                    *logged = None;
                    log::info!("{} {part}, which is served from now on", old.name.display());
                }
                Err(error) => {
                    self.has_failed.store(true, Ordering::Release);
                    let failure = format!(
                        "{} {part}, which cannot be served: {error}; the old one stays in use",
                        old.name.display()
                    );
                    if logged.as_ref() != Some(&failure) {
                        log::warn!("{failure}");
                        *logged = Some(failure);
                    }
                }
            }
        }
        self.is_turned.store(false, Ordering::Release);
    }
}

/// The docroot of a root, held by one driver. A request on a loop takes it without the locked
/// instructions that a shared pointer costs (a tenth of the processor time of a pipelined request).
#[derive(Debug)]
pub(super) struct AtHand {
    root: usize,
    /// Number of folders that have taken the name now, and when this docroot was taken.
    generation_now: Arc<AtomicUsize>,
    generation: usize,
    number: usize,
    trusted_until: Instant,
    /// `None` while a request has it.
    docroot: Option<Arc<Docroot>>,
}

impl AtHand {
    /// Returns the docroot of `root`, if its name still leads there: see [`Root::is_current`].
    #[inline]
    pub(super) fn take(
        roots: &mut Vec<AtHand>,
        root: &Root,
        sent_before: Instant,
        now: Instant,
    ) -> Option<Arc<Docroot>> {
        match roots.first_mut().and_then(|held| held.take_of(root, sent_before)) {
            Some(docroot) => Some(docroot),
            None => AtHand::take_elsewhere(roots, root, sent_before, now),
        }
    }

    #[inline]
    fn take_of(&mut self, root: &Root, sent_before: Instant) -> Option<Arc<Docroot>> {
        let is_of = self.root == root.number && self.generation == root.generation.load(Ordering::Acquire);
        if is_of && sent_before < self.trusted_until { self.docroot.take() } else { None }
    }

    #[inline(never)]
    fn take_elsewhere(
        roots: &mut Vec<AtHand>,
        root: &Root,
        sent_before: Instant,
        now: Instant,
    ) -> Option<Arc<Docroot>> {
        // Read before the docroot. If the docroot changes in between, it is only taken once more.
        let generation = root.generation.load(Ordering::Acquire);
        if let Some(docroot) = roots.iter_mut().find_map(|held| held.take_of(root, sent_before)) {
            return Some(docroot);
        }
        if !root.is_current(sent_before, now) {
            return None;
        }
        let docroot = root.docroot();
        let held = AtHand {
            root: root.number,
            generation_now: Arc::clone(&root.generation),
            generation,
            number: docroot.number,
            trusted_until: root.trusted_until().filter(|_| !root.trusted_for.is_zero()).unwrap_or(now),
            docroot: None,
        };
        match roots.iter_mut().find(|held| held.root == root.number) {
            Some(old) => *old = held,
            None => roots.push(held),
        }
        Some(docroot)
    }

    /// Takes back a docroot that [`AtHand::take`] returned. If it is lost instead, the next call
    /// takes it from the root again.
    #[inline]
    pub(super) fn put_back(roots: &mut [AtHand], root: &Root, docroot: Arc<Docroot>) {
        let is_its = |held: &&mut AtHand| held.root == root.number && held.number == docroot.number;
        if let Some(held) = roots.iter_mut().find(is_its) {
            held.docroot = Some(docroot);
        }
    }

    /// Returns true while no other folder has taken the name. Old folders must not stay open.
    pub(super) fn is_current(&self) -> bool {
        self.generation_now.load(Ordering::Acquire) == self.generation
    }
}

/// Returns true if another folder than this has its name.
pub(crate) fn was_taken(name: &Path, identity: Identity) -> bool {
    folder_at(name).is_some_and(|now| now != identity)
}

/// Returns the identity of the folder that a path leads to. `None` if it leads to no folder or
/// cannot be checked.
pub(crate) fn folder_at(path: &Path) -> Option<Identity> {
    let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::TYPE | StatxFlags::INO).ok()?;
    (file_type(&stat) == FileType::Directory).then(|| identity(&stat))
}

/// Returns device and inode, which identify an open folder.
pub(crate) fn identity(stat: &rustix::fs::Statx) -> Identity {
    ((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileOptions;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root_at(path: &Path, options: FileOptions) -> Root {
        Root::of(Arc::new(Docroot::open(path, options).unwrap()))
    }

    #[expect(clippy::disallowed_methods, reason = "a test has no turn to take the time from")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_look_is_trusted_for_half_of_the_bound_and_then_taken_again() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("a")).unwrap();
        fs::create_dir(at("b")).unwrap();
        symlink("a", at("current")).unwrap();
        let fresh = Duration::from_millis(100);
        let root = root_at(&at("current"), FileOptions { fresh, ..FileOptions::default() });
        let start = now();
        let after = |millis| start + Duration::from_millis(millis);
        assert!(root.is_current(start, start));
        symlink("b", at("new")).unwrap();
        fs::rename(at("new"), at("current")).unwrap();
        assert!(root.is_current(after(49), after(49)), "within the bound the name is not checked");
        // The request was sent before the bound and is handled after it.
        assert!(root.is_current(after(49), after(60)));
        assert!(!root.is_current(after(50), after(60)));
        assert!(!root.is_current(after(51), after(60)), "and the answer stays until it is followed");
        let old = root.docroot();
        root.follow();
        assert!(root.is_current(after(51), after(60)));
        assert!(!Arc::ptr_eq(&old, &root.docroot()) && old.number != root.docroot().number);
        assert!(root.docroot().real_path.ends_with(b"/b"));
    }

    #[test]
    fn a_docroot_at_hand_is_given_until_another_folder_takes_the_name() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("a")).unwrap();
        fs::create_dir(at("b")).unwrap();
        symlink("a", at("current")).unwrap();
        let fresh = Duration::from_millis(100);
        let root = root_at(&at("current"), FileOptions { fresh, ..FileOptions::default() });
        let start = now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut roots = Vec::new();
        let mut take = |millis| AtHand::take(&mut roots, &root, after(millis), after(millis));
        let first = take(0).unwrap();
        assert!(take(1).is_some_and(|again| Arc::ptr_eq(&again, &first)), "also while a request has it");
        AtHand::put_back(&mut roots, &root, Arc::clone(&first));
        symlink("b", at("new")).unwrap();
        fs::rename(at("new"), at("current")).unwrap();
        let mut take = |millis| AtHand::take(&mut roots, &root, after(millis), after(millis));
        assert!(take(49).is_some(), "within the bound the name is not checked");
        assert!(take(50).is_none());
        // Another loop opens the folder. The old docroot, returned late, must not be used again.
        let other_loop = AtHand::take(&mut roots, &root, after(40), after(40));
        root.follow();
        let second = AtHand::take(&mut roots, &root, after(51), after(51)).unwrap();
        assert_eq!(second.number, root.docroot().number);
        if let Some(old) = other_loop {
            AtHand::put_back(&mut roots, &root, old);
        }
        AtHand::put_back(&mut roots, &root, first);
        let third = AtHand::take(&mut roots, &root, after(52), after(52)).unwrap();
        assert_eq!(third.number, second.number);
        // A replaced folder is closed.
        AtHand::put_back(&mut roots, &root, third);
        roots.retain(AtHand::is_current);
        assert_eq!(roots.len(), 1);
        symlink("a", at("new")).unwrap();
        fs::rename(at("new"), at("current")).unwrap();
        root.follow();
        roots.retain(AtHand::is_current);
        assert!(roots.is_empty());
    }

    #[test]
    fn a_name_that_leads_to_no_folder_keeps_the_old_one() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("site")).unwrap();
        let root = root_at(&at("site"), FileOptions { fresh: Duration::ZERO, ..FileOptions::default() });
        let old = root.docroot();
        let is_old = || {
            let is_current = root.is_current(now(), now());
            root.follow();
            is_current && Arc::ptr_eq(&old, &root.docroot())
        };
        fs::rename(at("site"), at("away")).unwrap();
        assert!(is_old(), "nothing has the name");
        fs::write(at("site"), "").unwrap();
        assert!(is_old(), "a file has it");
        fs::remove_file(at("site")).unwrap();
        symlink("site", at("site")).unwrap();
        assert!(is_old(), "a link to itself has it");
        fs::remove_file(at("site")).unwrap();
        symlink("away", at("site")).unwrap();
        assert!(is_old(), "it is the folder that is open, by another way");
        fs::remove_file(at("site")).unwrap();
        fs::create_dir(at("site")).unwrap();
        assert!(!is_old());
    }

    /// A folder of programs below the root is withheld, wherever it is in the new tree.
    #[test]
    fn folders_that_are_not_for_reading_are_found_again_or_nothing_is_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        for folder in ["a/cg", "b/programs", "c"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        symlink("a", at("current")).unwrap();
        symlink("programs", at("b/cg")).unwrap();
        let withheld = vec![at("current/cg")];
        let fresh = Duration::ZERO;
        let root = root_at(&at("current"), FileOptions { withheld, fresh, ..FileOptions::default() });
        let turn = |to: &str| {
            symlink(to, at("new")).unwrap();
            fs::rename(at("new"), at("current")).unwrap();
            root.follow();
            root.docroot()
        };
        assert!(root.docroot().withholds(b"/cg/run") && !root.docroot().withholds(b"/programs/run"));
        let second = turn("b");
        assert!(second.withholds(b"/programs/run"));
        // The folder of programs is missing there, and it is unknown what a later one will lead to.
        assert!(Arc::ptr_eq(&second, &turn("c")));
        fs::create_dir(at("c/cg")).unwrap();
        root.follow();
        assert!(root.docroot().real_path.ends_with(b"/c") && root.docroot().withholds(b"/cg/run"));
        // The link to the folder of programs alone is changed.
        fs::create_dir(at("c/more")).unwrap();
        fs::remove_dir(at("c/cg")).unwrap();
        symlink("more", at("c/cg")).unwrap();
        assert!(!root.is_current(now(), now()));
        assert_eq!(root.docroot().replaced_part(), "has another folder of programs now");
        root.follow();
        assert!(root.docroot().withholds(b"/more/run"));
    }
}
