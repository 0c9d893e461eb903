//! Open folders that uploads share: one descriptor for each folder, however many uploads go there.
//!
//! A staged file keeps its folder open until it is published. Must not know what a folder contains.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};

use rustix::fs::{AtFlags, StatxFlags};

use crate::sync::lock;

/// Smallest number of folders in the table at which unused ones are removed.
const SWEPT_ABOVE: usize = 64;

/// Device and inode. No other folder has the same while this one is open.
pub(crate) type Identity = (u32, u32, u64);

/// Folders that are open for uploads.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    folders: HashMap<Identity, Weak<OwnedFd>>,
    /// Unused entries are removed when the table is longer than this.
    swept_above: usize,
}

impl Folders {
    /// Returns the shared descriptor of this folder. If there is none, this one becomes the shared
    /// descriptor.
    pub(crate) fn share(&self, folder: Arc<OwnedFd>) -> Arc<OwnedFd> {
        // A folder that cannot be identified is not shared.
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

/// Identity of an open folder.
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
        // A folder that is created again under the name has another identity.
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
