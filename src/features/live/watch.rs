//! Watches folders for changes and notifies a feed, in a thread of its own (inotify(7)).
//!
//! This is for people who edit a page and look at it, not for the cache: inotify misses changes
//! that the cache must not miss. Changes in quick succession are reported once, after a quiet
//! moment. Must not know how listeners react.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::app::feed::{Feed, WeakFeed};
use crate::config::{LIVE_CHANGES_MAX, LIVE_LOOK, LIVE_QUIET, LIVE_WATCHES_MAX};
use crate::docroot::hidden::is_hidden_name;
use crate::docroot::root::Root;

/// Events that can change a page: a file was created, deleted, replaced, or written and closed.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::EXCL_UNLINK);

/// Watches the folders and all folders below them, and sends a `change` event to `feed`. A root
/// that now leads to another folder counts as a change. The thread ends when no other handle on the
/// feed is left.
pub(crate) fn start(roots: Vec<Arc<Root>>, feed: &Feed) -> std::io::Result<()> {
    let mut watcher = Watcher::new(roots)?;
    let feed = feed.downgrade();
    std::thread::Builder::new().name("whirligig-watch".into()).spawn(move || watcher.run(&feed)).map(drop)
}

struct Watcher {
    fd: OwnedFd,
    /// Roots, each with the number of the folder that is watched for it.
    roots: Vec<(Arc<Root>, usize)>,
    /// Folders by watch descriptor.
    folders: HashMap<i32, PathBuf>,
    /// The limit of watches was logged.
    is_short: bool,
}

/// Result of watching a folder.
enum Watched {
    Yes,
    No,
    TooMany,
}

impl Watcher {
    fn new(roots: Vec<Arc<Root>>) -> std::io::Result<Self> {
        let number = |root: Arc<Root>| {
            let number = root.current().number;
            (root, number)
        };
        let roots = roots.into_iter().map(number).collect();
        let mut watcher = Watcher { fd: open()?, roots, folders: HashMap::new(), is_short: false };
        watcher.watch_all();
        Ok(watcher)
    }

    /// Watches the new folder of each root that now leads to another one. Returns true if there is
    /// one.
    fn follow(&mut self) -> bool {
        let mut is_turned = false;
        for (root, number) in &mut self.roots {
            root.follow();
            let now = root.current().number;
            is_turned |= std::mem::replace(number, now) != now;
        }
        // Closing the descriptor removes the old watches. If no new one can be opened, the old
        // watches stay.
        if is_turned && let Ok(fd) = open() {
            self.fd = fd;
            self.folders.clear();
            self.watch_all();
        }
        is_turned
    }

    fn run(&mut self, feed: &WeakFeed) {
        // Number of changes since the last event.
        let mut pending = 0;
        loop {
            let ready = self.wait(if pending > 0 { LIVE_QUIET } else { LIVE_LOOK });
            let Some(feed) = feed.upgrade() else { return };
            pending += usize::from(self.follow());
            if ready {
                pending += usize::from(self.take());
            }
            // A folder that is written all the time never has a quiet moment.
            if pending > 0 && (!ready || pending >= LIVE_CHANGES_MAX) {
                pending = 0;
                feed.send_named("change", "");
            }
        }
    }

    /// Returns true if an event arrived in time.
    fn wait(&self, time: std::time::Duration) -> bool {
        let time = Timespec::try_from(time).ok();
        matches!(poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], time.as_ref()), Ok(1..))
    }

    /// Reads all events. Returns true if any of them concerns a served file.
    fn take(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut appeared = Vec::new();
        let (mut changed, mut overflowed) = (false, false);
        let mut events = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(_) => break,
            };
            let what = event.events();
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                overflowed = true;
                continue;
            }
            if what.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.wd());
                continue;
            }
            let name = event.file_name().map(|name| name.to_bytes()).unwrap_or_default();
            let folder = self.folders.get(&event.wd());
            if folder.is_some_and(|folder| !self.shows(folder, name)) {
                continue;
            }
            if is_hidden_name(name) && !(what.contains(ReadFlags::MOVED_TO) && is_link(folder, name)) {
                continue;
            }
            changed = true;
            if what.contains(ReadFlags::ISDIR)
                && what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
                && let Some(folder) = folder
            {
                appeared.push(folder.join(std::ffi::OsStr::from_bytes(name)));
            }
        }
        for folder in appeared {
            self.watch(folder);
        }
        if overflowed {
            // Events were lost, possibly about new folders, so watch everything again.
            self.watch_all();
        }
        changed || overflowed
    }

    fn watch_all(&mut self) {
        for root in 0..self.roots.len() {
            let docroot = self.roots[root].0.docroot();
            match docroot.only() {
                Some(_) => drop(self.watch_one(docroot.real_path())),
                None => self.watch(docroot.real_path().to_owned()),
            }
        }
    }

    /// Returns whether a root shows an entry of this folder. A root that is a file shows no other.
    fn shows(&self, folder: &Path, name: &[u8]) -> bool {
        self.roots.iter().any(|(root, _)| {
            let docroot = root.current();
            match docroot.only() {
                Some(only) => folder == docroot.real_path() && only == name,
                None => folder.starts_with(docroot.real_path()),
            }
        })
    }

    /// Watches a folder and all folders below it. Watching a folder twice has no effect.
    fn watch(&mut self, folder: PathBuf) {
        let mut open = vec![folder];
        while let Some(folder) = open.pop() {
            match self.watch_one(&folder) {
                Watched::Yes => {}
                Watched::No => continue,
                Watched::TooMany => return,
            }
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder && !is_hidden_name(entry.file_name().as_bytes()) {
                    open.push(entry.path());
                }
            }
        }
    }

    /// Watches a folder without those below it.
    fn watch_one(&mut self, folder: &Path) -> Watched {
        let added = match self.folders.len() {
            LIVE_WATCHES_MAX.. => Err(Errno::NOSPC),
            _ => inotify::add_watch(&self.fd, folder, CHANGES),
        };
        match added {
            Ok(watch) => {
                self.folders.insert(watch, folder.to_owned());
                Watched::Yes
            }
            Err(Errno::NOSPC | Errno::NOMEM) => {
                self.fall_short(folder);
                Watched::TooMany
            }
            // The folder was removed, or is not accessible.
            Err(_) => Watched::No,
        }
    }

    fn fall_short(&mut self, folder: &Path) {
        if !std::mem::replace(&mut self.is_short, true) {
            log::warn!(
                "--live-reload watches only {} folders, without {}",
                self.folders.len(),
                folder.display()
            );
        }
    }
}

fn open() -> rustix::io::Result<OwnedFd> {
    inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
}

/// Returns true if a folder has a link of this name. A hidden link that is renamed replaces an
/// older one: a ConfigMap is published by pointing `..data` to another folder.
fn is_link(folder: Option<&PathBuf>, name: &[u8]) -> bool {
    let path = folder.map(|folder| folder.join(std::ffi::OsStr::from_bytes(name)));
    path.is_some_and(|path| path.is_symlink())
}
