//! The operator's own files: configuration, rules, passwords, logs, sockets, and the files that
//! standard output and standard error are redirected to. None of them is ever served, listed,
//! archived, or written by a client.
//!
//! A file is recognized by device and inode, so that no link or second name gives access to it. It
//! is also recognized by its path, so that an upload cannot create one that does not exist yet, and
//! a replaced one is recognized at once. This file must not know the docroot or requests.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags};

use crate::config::{AuthUsers, Bind, Config, LogTarget};

/// Maximum number of inodes in the list. Each rotation of a log adds one. Beyond this number the
/// oldest is dropped, and its file is recognized by its name only, which begins with that of the
/// log.
const INODES_MAX: usize = 1024;

/// The bytes that follow the name of a log in the names of its rotated files: `access.log.1`,
/// `access.log-20261128.gz`.
const ROTATION_MARKS: &[u8] = b".-_~";

/// The list of own files. Empty by default.
#[derive(Debug, Default)]
pub(crate) struct OwnFiles {
    names: Vec<OwnName>,
    known: RwLock<Known>,
}

/// A name as it was configured.
#[derive(Debug)]
struct OwnName {
    path: PathBuf,
    is_log: bool,
}

/// The files with these names at the last update.
#[derive(Debug, Default)]
struct Known {
    /// In order of age, the oldest first.
    inodes: Vec<Inode>,
    places: Vec<OwnPlace>,
}

/// The path of an own file that may or may not exist: absolute, without links.
#[derive(Debug)]
struct OwnPlace {
    path: Vec<u8>,
    is_log: bool,
}

/// The identity of a file. A new file may get the inode of a deleted one, so the time of birth is
/// compared, too, if the file system reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    device: (u32, u32),
    pub(crate) number: u64,
    born: Option<(i64, u32)>,
}

impl Inode {
    /// The mask for statx(2) that fills all parts of an [`Inode`].
    pub(crate) const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

    pub(crate) fn of(stat: &Statx) -> Inode {
        let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Inode {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            number: stat.stx_ino,
            born: has_birth.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
        }
    }

    #[cfg(test)]
    pub(crate) fn numbered(number: u64) -> Inode {
        Inode { device: (0, 0), number, born: None }
    }

    /// Returns true unless both are known to be different files.
    fn may_be(&self, other: &Inode) -> bool {
        let is_same_number = (self.device, self.number) == (other.device, other.number);
        is_same_number && (self.born.is_none() || other.born.is_none() || self.born == other.born)
    }
}

impl OwnFiles {
    /// Creates the list for this configuration.
    pub(crate) fn of(config: &Config) -> OwnFiles {
        let mut names: Vec<OwnName> =
            config.own_files.iter().map(|path| OwnName { path: path.clone(), is_log: false }).collect();
        let mut add = |path: &Path, is_log| names.push(OwnName { path: path.to_owned(), is_log });
        for rule in config.site.auth.iter().chain(&config.site.write_auth) {
            if let AuthUsers::File(file) = &rule.users {
                add(file, false);
            }
        }
        if let Some(rules) = &config.site.rules {
            add(rules, false);
        }
        for bind in &config.binds {
            if let Bind::Unix(path) = bind {
                add(path, false);
            }
        }
        if let Some(LogTarget::File(path)) = &config.access_log {
            add(path, true);
        }
        let own = OwnFiles { names, known: RwLock::default() };
        own.take_again();
        own.known.write().unwrap_or_else(PoisonError::into_inner).inodes.extend(output_files());
        own
    }

    /// Updates the list. Call it when one of the files was opened again: at a rotation, and when a
    /// password file was read. Files that had the names before stay on the list.
    pub(crate) fn take_again(&self) {
        if self.names.is_empty() {
            return;
        }
        let mut inodes = Vec::new();
        let mut places = Vec::new();
        for OwnName { path, is_log } in &self.names {
            // Both the name itself and, if it is a link, the file that it leads to.
            for flags in [AtFlags::SYMLINK_NOFOLLOW, AtFlags::empty()] {
                if let Ok(stat) = rustix::fs::statx(CWD, path, flags, Inode::MASK)
                    && FileType::from_raw_mode(u32::from(stat.stx_mode)) != FileType::Directory
                {
                    inodes.push(Inode::of(&stat));
                }
            }
            let mut add = |path: PathBuf| {
                let path = path.as_os_str().as_bytes().to_vec();
                places.push(OwnPlace { path, is_log: *is_log });
            };
            add(own_place(path));
            if let Ok(target) = path.canonicalize() {
                add(target);
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for inode in inodes {
            if !known.inodes.contains(&inode) {
                known.inodes.push(inode);
            }
        }
        let surplus = known.inodes.len().saturating_sub(INODES_MAX);
        known.inodes.drain(..surplus);
        known.places = places;
    }

    /// Returns whether an own file has this identity.
    pub(crate) fn has_inode(&self, inode: Inode) -> bool {
        self.known().inodes.iter().any(|known| known.may_be(&inode))
    }

    /// Returns whether this is an own file, by its inode or by its absolute path without links.
    pub(crate) fn has(&self, stat: &Statx, path: &[u8]) -> bool {
        self.has_inode(Inode::of(stat)) || self.has_place(path)
    }

    /// Returns whether this absolute path without links is that of an own file, which need not
    /// exist.
    pub(crate) fn has_place(&self, path: &[u8]) -> bool {
        self.known().places.iter().any(|place| place.covers(path))
    }

    /// Returns whether the place of an own file is below this absolute path without links.
    pub(crate) fn has_below(&self, folder: &[u8]) -> bool {
        let is_below =
            |place: &OwnPlace| place.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"));
        self.known().places.iter().any(is_below)
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnPlace {
    /// Returns whether `path` is this file, or a rotated log of it.
    fn covers(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(&self.path[..]) else { return false };
        match rest.first() {
            None => true,
            Some(mark) => self.is_log && ROTATION_MARKS.contains(mark) && !rest.contains(&b'/'),
        }
    }
}

/// Returns the files that standard output and standard error were redirected to, because these are
/// logs, too.
fn output_files() -> impl Iterator<Item = Inode> {
    let outputs = [io::stdout().as_fd().try_clone_to_owned(), io::stderr().as_fd().try_clone_to_owned()];
    outputs.into_iter().flatten().filter_map(|output| {
        let stat = rustix::fs::statx(&output, "", AtFlags::EMPTY_PATH, Inode::MASK).ok()?;
        (FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile).then(|| Inode::of(&stat))
    })
}

/// Returns the absolute path of the name itself, with the links of its folder resolved if that
/// exists.
fn own_place(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let place = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    place().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn own(names: &[(&Path, bool)]) -> OwnFiles {
        let names = names.iter().map(|(path, is_log)| OwnName { path: (*path).to_owned(), is_log: *is_log });
        let own = OwnFiles { names: names.collect(), known: RwLock::default() };
        own.take_again();
        own
    }

    fn has(own: &OwnFiles, path: &Path) -> bool {
        let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), Inode::MASK).unwrap();
        own.has(&stat, path.canonicalize().unwrap().as_os_str().as_bytes())
    }

    #[test]
    fn a_file_is_known_by_every_name_and_after_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("passwords"), "a").unwrap();
        fs::write(at("other"), "b").unwrap();
        fs::hard_link(at("passwords"), at("second name")).unwrap();
        symlink("passwords", at("link")).unwrap();
        let list = own(&[(&at("passwords"), false)]);
        for name in ["passwords", "second name", "link"] {
            assert!(has(&list, &at(name)), "{name}");
        }
        assert!(!has(&list, &at("other")));
        // A replacing file is recognized by its path at once, and by all its names after an update.
        fs::write(at("new"), "c").unwrap();
        fs::hard_link(at("new"), at("name of the new")).unwrap();
        fs::rename(at("new"), at("passwords")).unwrap();
        assert!(has(&list, &at("passwords")) && !has(&list, &at("name of the new")));
        list.take_again();
        for name in ["passwords", "second name", "name of the new"] {
            assert!(has(&list, &at(name)), "{name}");
        }
    }

    #[test]
    fn a_file_that_does_not_exist_has_its_place_and_a_log_its_rotated_names() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        fs::create_dir(real.join("logs")).unwrap();
        symlink("logs", real.join("linked")).unwrap();
        let list = own(&[(&real.join("linked/access.log"), true), (&real.join("rules"), false)]);
        let place = |name: &str| list.has_place(real.join(name).as_os_str().as_bytes());
        for name in ["logs/access.log", "logs/access.log.1", "logs/access.log-20261128.gz", "rules"] {
            assert!(place(name), "{name}");
        }
        for name in ["access.log", "logs/access.logs", "logs/access.log.d/x", "rules.txt", "rules/x", "logs"]
        {
            assert!(!place(name), "{name}");
        }
    }

    #[test]
    fn a_link_is_own_with_its_target_and_the_oldest_inodes_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("target"), "").unwrap();
        symlink("target", at("log")).unwrap();
        let list = own(&[(&at("log"), true)]);
        assert!(has(&list, &at("target")) && list.has_place(at("log").as_os_str().as_bytes()));
        list.known.write().unwrap().inodes = (0..INODES_MAX as u64).map(Inode::numbered).collect();
        list.take_again();
        let known = list.known();
        assert_eq!(known.inodes.len(), INODES_MAX);
        assert!(!known.inodes.contains(&Inode::numbered(0)));
    }

    /// A file that is created after a rotated log was deleted often gets its inode.
    #[test]
    fn a_new_file_with_the_inode_of_an_old_one_is_another() {
        let list = OwnFiles::default();
        let old = Inode { device: (8, 1), number: 7, born: Some((1_700_000_000, 5)) };
        list.known.write().unwrap().inodes.push(old);
        assert!(list.has_inode(old));
        assert!(!list.has_inode(Inode { born: Some((1_700_000_000, 6)), ..old }));
        assert!(!list.has_inode(Inode { born: Some((1_700_000_001, 5)), ..old }));
        assert!(
            !list.has_inode(Inode { number: 8, ..old }) && !list.has_inode(Inode { device: (8, 2), ..old })
        );
        // Without a birth time, the safe decision is to withhold the file.
        assert!(list.has_inode(Inode { born: None, ..old }));
        list.known.write().unwrap().inodes = vec![Inode { born: None, ..old }];
        assert!(list.has_inode(old) && !list.has_inode(Inode { number: 8, ..old }));
    }
}
