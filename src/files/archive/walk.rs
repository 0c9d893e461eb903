//! A walk through a tree beneath the docroot, one entry after the other, in the order of names.
//!
//! It yields only the files that a client could request one by one: nothing hidden, links as
//! `--symlinks` allows, regular files and directories only. At most one directory or one file is
//! open at a time. Of the parent directories only the remaining names are kept, and those are
//! bounded. Must not know archive formats. Blocks: for worker threads only.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use crate::docroot::stamp::{file_type, stat};
use crate::docroot::verdict::{Shown, Withheld};
use crate::docroot::{Disk, Docroot, LookupError};
use crate::handler::passwords::Password;

/// The metadata of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) is_directory: bool,
    pub(super) executable: bool,
    /// In bytes; 0 for a directory.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) modified_secs: u64,
}

impl Meta {
    fn of(stat: &rustix::fs::Statx) -> Self {
        let is_directory = file_type(stat) == FileType::Directory;
        Meta {
            is_directory,
            executable: stat.stx_mode & 0o100 != 0,
            size: if is_directory { 0 } else { stat.stx_size },
            modified_secs: u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0),
        }
    }

    /// Returns the permissions in an archive: the executable bit is kept, owners and groups are
    /// not.
    pub(super) fn mode(&self) -> u32 {
        if self.is_directory || self.executable { 0o755 } else { 0o644 }
    }
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// Path below the top of the walk, with a slash at the end for a directory. Empty for the top
    /// itself.
    pub(super) name: Vec<u8>,
    pub(super) meta: Meta,
    /// The open file, unless the entry is a directory.
    pub(super) file: Option<OwnedFd>,
}

/// The reason why a walk cannot go on. Entries that were removed or may not be read are left out
/// instead.
pub(super) enum Broken {
    /// The disk failed, or no descriptor is left.
    LookupError(LookupError),
    /// A limit of the walk is exceeded.
    TooMuch(&'static str),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::LookupError(error) => write!(f, "{error:?}"),
            Broken::TooMuch(what) => write!(f, "it has too many {what}"),
        }
    }
}

/// A directory that contains the current entry, with its remaining names.
#[derive(Debug)]
struct Level {
    /// All names in one run of bytes, each followed by NUL, which no name contains; and the offsets
    /// of the names, in order.
    names: Vec<u8>,
    starts: Vec<u32>,
    next: usize,
    /// Length of the path of this directory.
    path_len: usize,
    /// Detects links that lead back up.
    identity: (u32, u32, u64),
}

/// A walk.
#[derive(Debug)]
pub(super) struct Walk {
    docroot: Arc<Docroot>,
    /// The password of the location of the top.
    password: Option<Password>,
    also: Option<Password>,
    /// Path from the root, without a leading slash.
    path: Vec<u8>,
    top_len: usize,
    levels: Vec<Level>,
    bytes: usize,
    entries: usize,
    top: Option<Meta>,
}

impl Walk {
    /// Begins at the directory at `path`, which is normalized and has a slash at both ends. `also`
    /// is a password that the client has given besides that of `path`.
    pub(super) fn open(
        docroot: &Arc<Docroot>,
        path: &[u8],
        also: Option<Password>,
    ) -> Result<Self, LookupError> {
        let asked = path;
        let path = path.strip_prefix(b"/").unwrap_or(path).to_vec();
        let name = if path.is_empty() { b"." } else { &path[..] };
        let directory = docroot.open_beneath(name, Disk::MayBlock)?;
        let stat = stat(&directory)?;
        // Without links it was deleted, and exists only because of our descriptor.
        if file_type(&stat) != FileType::Directory || stat.stx_nlink == 0 {
            return Err(LookupError::NotFound);
        }
        let Shown { password, location } = docroot.judge(&directory, &stat, asked)?;
        // An archive contains every name, as a listing does.
        if docroot.is_unlisted(asked, &location) {
            return Err(LookupError::NotFound);
        }
        let mut walk = Walk {
            docroot: Arc::clone(docroot),
            password,
            also,
            top_len: path.len(),
            path,
            levels: Vec::new(),
            bytes: 0,
            entries: 0,
            top: Some(Meta::of(&stat)),
        };
        match walk.enter(&directory, &stat) {
            Ok(()) => Ok(walk),
            Err(Broken::LookupError(error)) => Err(error),
            Err(Broken::TooMuch(_)) => Err(LookupError::Exhausted),
        }
    }

    /// Returns the password of the location where the walk begins.
    pub(super) fn password(&self) -> Option<Password> {
        self.password
    }

    /// Returns the next entry. A directory comes before its contents. `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Broken> {
        if let Some(meta) = self.top.take() {
            return Ok(Some(Entry { name: Vec::new(), meta, file: None }));
        }
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_len);
            let Some(&start) = level.starts.get(level.next) else {
                self.bytes -= level.bytes();
                self.levels.pop();
                continue;
            };
            level.next += 1;
            self.path.extend_from_slice(level.name(start));
            if let Some(entry) = self.look()? {
                self.entries += 1;
                if self.entries > self.docroot.options.archive_entries_max {
                    return Err(Broken::TooMuch("entries"));
                }
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Returns the entry at the current path, and enters it if it is a directory. `None` if it
    /// cannot be served.
    fn look(&mut self) -> Result<Option<Entry>, Broken> {
        let path = [b"/", &self.path[..]].concat();
        if self.is_excluded(&path) {
            return Ok(None);
        }
        let fd = match self.docroot.open_beneath(&self.path, Disk::MayBlock) {
            Ok(fd) => fd,
            // A request for this entry would fail, too.
            Err(LookupError::NotFound | LookupError::Forbidden) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = stat(&fd)?;
        let Shown { location, .. } = match self.docroot.judge(&fd, &stat, &path) {
            Ok(shown) => shown,
            Err(Withheld::Hidden | Withheld::Programs | Withheld::Own) => return Ok(None),
            Err(Withheld::Unknown) => return Err(LookupError::Unknown.into()),
        };
        // A link may lead to a file that is protected under its own name.
        if location.possible_paths().any(|place| self.is_excluded(&place)) {
            return Ok(None);
        }
        let meta = Meta::of(&stat);
        match file_type(&stat) {
            FileType::RegularFile => Ok(Some(self.entry(meta, Some(fd)))),
            FileType::Directory if self.leads_back(&stat) => Ok(None),
            FileType::Directory => {
                self.path.push(b'/');
                self.enter(&fd, &stat)?;
                Ok(Some(self.entry(meta, None)))
            }
            _ => Ok(None),
        }
    }

    fn entry(&self, meta: Meta, file: Option<OwnedFd>) -> Entry {
        Entry { name: self.path[self.top_len..].to_vec(), meta, file }
    }

    /// Returns whether the walk is already in this directory: a link leads back up, and following
    /// it would never end.
    fn leads_back(&self, stat: &rustix::fs::Statx) -> bool {
        self.levels.iter().any(|level| level.identity == identity(stat))
    }

    /// Returns whether an entry is left out although a client could request it. All such decisions
    /// are made here. `path` is from the root and begins with a slash. The password of the top of
    /// the walk was already checked.
    fn is_excluded(&self, path: &[u8]) -> bool {
        let top = [b"/", &self.path[..self.top_len]].concat();
        self.docroot.is_left_out(path, &top, self.also)
    }

    /// Reads the names of the directory at the current path, which become the next entries.
    fn enter(&mut self, directory: &OwnedFd, stat: &rustix::fs::Statx) -> Result<(), Broken> {
        if self.levels.len() >= self.docroot.options.archive_depth_max {
            return Err(Broken::TooMuch("levels of folders"));
        }
        let names_max = self.docroot.options.archive_names_bytes_max.saturating_sub(self.bytes);
        let names = read_names(directory, names_max)?;
        let mut starts: Vec<u32> = Vec::new();
        let mut at = 0;
        for name in names.split_inclusive(|&byte| byte == 0) {
            starts.push(at);
            at += u32::try_from(name.len()).unwrap_or(0);
        }
        let mut level = Level { names, starts, next: 0, path_len: self.path.len(), identity: identity(stat) };
        let mut starts = std::mem::take(&mut level.starts);
        starts.sort_unstable_by(|&a, &b| level.name(a).cmp(level.name(b)));
        level.starts = starts;
        self.bytes += level.bytes();
        self.levels.push(level);
        Ok(())
    }
}

impl Level {
    fn name(&self, start: u32) -> &[u8] {
        let rest = &self.names[start as usize..];
        &rest[..memchr::memchr(0, rest).unwrap_or(rest.len())]
    }

    fn bytes(&self) -> usize {
        self.names.len() + self.starts.len() * size_of::<u32>()
    }
}

impl From<LookupError> for Broken {
    fn from(error: LookupError) -> Self {
        Broken::LookupError(error)
    }
}

fn identity(stat: &rustix::fs::Statx) -> (u32, u32, u64) {
    (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino)
}

/// Returns the names in a directory that may be served, each followed by NUL. Together with their
/// offsets they take at most `bytes_max`.
fn read_names(directory: &OwnedFd, bytes_max: usize) -> Result<Vec<u8>, Broken> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, ".", flags, Mode::empty()).map_err(LookupError::from)?;
    let (mut names, mut starts_bytes) = (Vec::new(), 0);
    for entry in Dir::new(fd).map_err(LookupError::from)? {
        let entry = entry.map_err(LookupError::from)?;
        let name = entry.file_name().to_bytes_with_nul();
        let may_be_served = matches!(
            entry.file_type(),
            FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown
        );
        if name.starts_with(b".") || !may_be_served {
            continue;
        }
        starts_bytes += size_of::<u32>();
        if names.len() + name.len() + starts_bytes > bytes_max {
            return Err(Broken::TooMuch("names"));
        }
        names.extend_from_slice(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileOptions;
    use crate::features::auth::guard::Guard;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn names(docroot: Docroot, path: &[u8]) -> Result<Vec<String>, Broken> {
        let mut walk = Walk::open(&Arc::new(docroot), path, None)?;
        let mut names = Vec::new();
        while let Some(entry) = walk.next()? {
            names.push(String::from_utf8(entry.name).unwrap());
        }
        Ok(names)
    }

    #[test]
    fn what_has_a_protection_of_its_own_is_left_out_of_archives_of_folders_above() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("a/private/deep")).unwrap();
        fs::write(root.join("a/private/deep/x"), "").unwrap();
        for name in ["a/privately", "a/one.txt", "a/one.txt.gz", "a/one.txts", "a/named"] {
            fs::write(root.join(name), "").unwrap();
        }
        fs::write(root.join("page.html"), "").unwrap();
        symlink("a/private/deep", root.join("link")).unwrap();
        symlink("a", root.join("other")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        let guard = Guard::of(&["u:p@/a/private", "u:p@/a/one.txt", "u:p@/other/named", "u:p@/page"], true);
        let got = |path: &[u8]| {
            let options = FileOptions { clean_urls: true, ..FileOptions::default() };
            names(Docroot::open(root, options).unwrap().guarded(Some(guard.clone())), path).ok().unwrap()
        };
        let from_top = got(b"/");
        assert_eq!(from_top[..4], ["", "a/", "a/named", "a/one.txts"]);
        assert_eq!(from_top[4..], ["a/privately", "other/", "other/one.txts", "other/privately"]);
        let from_a = got(b"/a/");
        assert!(!from_a.iter().any(|name| name.contains("deep")), "{from_a:?}");
        // A request for this folder by name has passed its protection.
        assert_eq!(got(b"/a/private/"), ["", "deep/", "deep/x"]);
    }

    #[test]
    fn a_walk_has_bounds() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("1/2/3")).unwrap();
        let bounded = |depth, entries, bytes| {
            let options = FileOptions {
                archive_depth_max: depth,
                archive_entries_max: entries,
                archive_names_bytes_max: bytes,
                ..FileOptions::default()
            };
            names(Docroot::open(folder.path(), options).unwrap(), b"/").map_err(|broken| broken.to_string())
        };
        assert_eq!(bounded(4, 3, 100).unwrap(), ["", "1/", "1/2/", "1/2/3/"]);
        assert!(bounded(3, 3, 100).is_err_and(|why| why.contains("levels")));
        assert!(bounded(4, 2, 100).is_err_and(|why| why.contains("entries")));
        assert!(bounded(4, 3, 10).is_err_and(|why| why.contains("names")));
    }
}
