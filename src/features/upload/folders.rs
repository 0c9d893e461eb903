//! Open folders that drafts share: one descriptor for each folder, however many uploads go there.
//!
//! A draft keeps its folder open until it is a file. Must not know what lies in a folder.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};

use rustix::fs::{AtFlags, StatxFlags};

use crate::sync::lock;

/// Folders in the table before those that nobody has open are taken out, at the least.
const SWEPT_ABOVE: usize = 64;

/// Device and inode. No other folder has them while this one is open.
pub(crate) type Identity = (u32, u32, u64);

/// The folders that are open for uploads.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    folders: HashMap<Identity, Weak<OwnedFd>>,
    /// The table is swept when it is longer than this.
    swept_above: usize,
}

impl Folders {
    /// The descriptor that others have of this folder, if any; else this one, for others to share.
    pub(crate) fn share(&self, folder: Arc<OwnedFd>) -> Arc<OwnedFd> {
        // A folder without an identity is shared with nobody.
        let Some(identity) = identity(&folder) else { return folder };
        let mut open = lock(&self.open);
        if let Some(shared) = open.folders.get(&identity).and_then(Weak::upgrade) {
            return shared;
        }
        if open.folders.len() > open.swept_above.max(SWEPT_ABOVE) {
            open.folders.retain(|_, folder| folder.strong_count() > 0);
            open.swept_above = 2 * open.folders.len();
        }
        open.folders.insert(identity, Arc::downgrade(&folder));
        folder
    }
}

/// What tells an open folder from others.
pub(crate) fn identity(folder: &OwnedFd) -> Option<Identity> {
    let stat = rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).ok()?;
    Some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};

    fn open(path: &std::path::Path) -> Arc<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Arc::new(rustix::fs::open(path, flags, Mode::empty()).unwrap())
    }

    #[test]
    fn one_descriptor_is_open_for_each_folder() {
        let scratch = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| scratch.path().join(name));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        std::os::unix::fs::symlink("a", scratch.path().join("link")).unwrap();
        let folders = Folders::default();
        let first = folders.share(open(&a));
        assert!(Arc::ptr_eq(&first, &folders.share(open(&a))));
        assert!(Arc::ptr_eq(&first, &folders.share(open(&scratch.path().join("link")))));
        assert!(!Arc::ptr_eq(&first, &folders.share(open(&b))));
        // A folder that was made anew under the name is another one.
        std::fs::remove_dir(&a).unwrap();
        std::fs::create_dir(&a).unwrap();
        assert!(!Arc::ptr_eq(&first, &folders.share(open(&a))));
    }

    #[test]
    fn the_table_is_no_longer_than_twice_what_is_open() {
        let scratch = tempfile::tempdir().unwrap();
        let folders = Folders::default();
        for number in 0..1000 {
            let path = scratch.path().join(number.to_string());
            std::fs::create_dir(&path).unwrap();
            drop(folders.share(open(&path)));
            assert!(lock(&folders.open).folders.len() <= SWEPT_ABOVE + 1);
        }
    }
}
