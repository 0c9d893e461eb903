//! Staged files: uploads that become visible only when they are complete. A crash leaves nothing
//! behind.
//!
//! A staged file has no name (`O_TMPFILE`) until it is published. `linkat` never replaces a file,
//! so to replace one the staged file first gets a hidden name and is then renamed. On file systems
//! without unnamed files it always has a hidden name; a later use of the folder sweeps the
//! leftovers of a crash.
//!
//! Every function may block: for worker threads only. Must not know requests.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, Mode, OFlags, RenameFlags, StatxFlags, fallocate, linkat,
    renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use crate::clock::Now;
use crate::config::MIB;
use crate::docroot::location::is_reported;
use crate::docroot::own::Inode;
use crate::docroot::stamp::Stamp;
use crate::features::upload::folders;
use crate::sync::lock;

/// Disk space that is reserved ahead of the written bytes. Reserving saves calls, gives long
/// extents, and detects a full disk early. The whole announced length is not reserved, because
/// clients that send nothing could then fill the disk.
const RESERVE_BYTES: u64 = 16 * MIB as u64;

/// Size of the copy buffer, in bytes.
const COPIED_BYTES: usize = 256 * 1024;

/// Prefix of hidden names; 16 hexadecimal digits follow.
const HIDDEN_PREFIX: &str = ".whirligig-";

/// Age at which a hidden file no longer belongs to an upload.
pub(crate) const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Number of recently swept folders to remember. Further folders are not swept, because sweeping is
/// optional.
const SWEPT_MAX: usize = 1024;

/// Number of attempts to find a free hidden name.
const NAME_TRIES: usize = 8;

/// Permissions of new files, which the umask of the process restricts (umask(2)).
const MODE: Mode = Mode::from_raw_mode(0o666);

/// File that is not visible yet.
#[derive(Debug)]
pub(crate) struct StagedFile {
    fd: OwnedFd,
    folder: Arc<OwnedFd>,
    /// Hidden name, if the file system requires one.
    hidden_name: Option<String>,
    bytes: u64,
    reserved: u64,
}

impl StagedFile {
    /// Creates an empty staged file in this folder.
    pub(crate) fn begin(folder: &Arc<OwnedFd>) -> Result<StagedFile, Errno> {
        // Without /proc an unnamed file cannot always get a name: see `link`.
        if !is_reported() {
            return StagedFile::begin_named(folder);
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        match rustix::fs::openat(folder, ".", flags, MODE) {
            Ok(fd) => {
                return Ok(StagedFile {
                    fd,
                    folder: Arc::clone(folder),
                    hidden_name: None,
                    bytes: 0,
                    reserved: 0,
                });
            }
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {}
            Err(errno) => return Err(errno),
        }
        StagedFile::begin_named(folder)
    }

    /// Creates a staged file with a hidden name, for file systems without unnamed files.
    pub(crate) fn begin_named(folder: &Arc<OwnedFd>) -> Result<StagedFile, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let (fd, name) = with_new_name(|name| rustix::fs::openat(folder, name, flags, MODE))?;
        Ok(StagedFile { fd, folder: Arc::clone(folder), hidden_name: Some(name), bytes: 0, reserved: 0 })
    }

    /// Moves the staged file so that it can be published in `folder`.
    ///
    /// The content is copied if the file cannot get a name there: on another file system, or if it
    /// has a hidden name in a folder that may have been removed.
    pub(crate) fn moved_to(mut self, folder: &Arc<OwnedFd>) -> Result<StagedFile, Errno> {
        if Arc::ptr_eq(&self.folder, folder) {
            return Ok(self);
        }
        let device = |file: &OwnedFd| rustix::fs::fstat(file).map(|stat| stat.st_dev);
        if self.hidden_name.is_none() && device(&self.fd)? == device(folder)? {
            self.folder = Arc::clone(folder);
            return Ok(self);
        }
        let mut copy = StagedFile::begin(folder)?;
        let mut piece = vec![0; COPIED_BYTES];
        while copy.bytes < self.bytes {
            match rustix::io::pread(&self.fd, &mut piece[..], copy.bytes) {
                Ok(0) => return Err(Errno::IO),
                Ok(bytes) => copy.append(&piece[..bytes], Some(self.bytes - copy.bytes))?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        copy.sync()?;
        Ok(copy)
    }

    /// File descriptor, for reading.
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.fd
    }

    /// Length of the content, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns true if the disk currently has room for this many more bytes.
    pub(crate) fn has_room(&self, more: u64) -> bool {
        match rustix::fs::fstatvfs(&self.fd) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize) >= more,
            Err(_) => true,
        }
    }

    /// Appends a piece. `left` is the length of all content still to come including this piece, if
    /// known.
    pub(crate) fn append(&mut self, piece: &[u8], left: Option<u64>) -> Result<(), Errno> {
        let end = self.bytes + piece.len() as u64;
        if let Some(left) = left.filter(|_| end > self.reserved) {
            self.reserve(left.max(piece.len() as u64).min(RESERVE_BYTES))?;
        }
        let mut rest = piece;
        while !rest.is_empty() {
            match rustix::io::pwrite(&self.fd, rest, self.bytes) {
                Ok(0) => return Err(Errno::IO),
                Ok(bytes) => {
                    self.bytes += bytes as u64;
                    rest = &rest[bytes..];
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), Errno> {
        match fallocate(&self.fd, FallocateFlags::KEEP_SIZE, self.bytes, bytes) {
            Ok(()) => self.reserved = self.bytes + bytes,
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(errno),
            // Not every file system supports it; a full disk then shows when writing.
            Err(_) => self.reserved = u64::MAX,
        }
        Ok(())
    }

    /// Releases the disk space reserved ahead, because no content is arriving for now.
    pub(crate) fn release_reserved(&mut self) {
        if (self.bytes + 1..u64::MAX).contains(&self.reserved)
            && rustix::fs::ftruncate(&self.fd, self.bytes).is_ok()
        {
            self.reserved = self.bytes;
        }
    }

    /// Flushes the content to the disk. Call before publishing and without holding a lock, because
    /// this takes a while.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        rustix::fs::fdatasync(&self.fd)
    }

    /// Publishes the file under `name`. `old` states what is known about an existing file of that
    /// name.
    pub(crate) fn publish(&mut self, name: &[u8], existing: ExistingFile) -> Result<Published, Errno> {
        let is_new = match existing {
            ExistingFile::None | ExistingFile::Forbidden => match self.link(name) {
                Err(Errno::EXIST) if existing == ExistingFile::None => {
                    self.replace(name)?;
                    false
                }
                linked => linked.map(|()| true)?,
            },
            ExistingFile::Replaced => {
                self.replace(name)?;
                false
            }
        };
        // The rename updates the change time, which can be part of the entity tag.
        let stamp = rustix::fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, Inode::MASK)?;
        Ok(Published { is_new, stamp: Stamp::of(&stamp) })
    }

    /// Gives the file this name unless the name exists.
    fn link(&mut self, name: &[u8]) -> Result<(), Errno> {
        let folder = &self.folder;
        if let Some(hidden_name) = &self.hidden_name {
            rename_to_new(folder, hidden_name.as_bytes(), name)?;
            self.hidden_name = None;
            return Ok(());
        }
        match linkat(&self.fd, "", folder, name, AtFlags::EMPTY_PATH) {
            // Until Linux 6.10 AT_EMPTY_PATH is for privileged processes only; the other way needs
            // /proc.
            Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
                let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
                linkat(CWD, path, folder, name, AtFlags::SYMLINK_FOLLOW)
            }
            linked => linked,
        }
    }

    /// Replaces the existing file of this name atomically.
    fn replace(&mut self, name: &[u8]) -> Result<(), Errno> {
        if self.hidden_name.is_none() {
            let (_, hidden) = with_new_name(|hidden| self.link(hidden.as_bytes()))?;
            // If the next step fails, dropping the staged file removes this name.
            self.hidden_name = Some(hidden);
        }
        if let Some(hidden_name) = &self.hidden_name {
            renameat(&self.folder, hidden_name.as_str(), &self.folder, name)?;
        }
        self.hidden_name = None;
        Ok(())
    }
}

#[cfg(test)]
impl StagedFile {
    /// Disk usage in bytes, for tests.
    pub(crate) fn room(&self) -> u64 {
        rustix::fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, StatxFlags::BLOCKS).unwrap().stx_blocks * 512
    }
}

/// Renames an entry within a folder unless the new name exists. On file systems that cannot do that
/// in one step, folders keep their names.
pub(super) fn rename_to_new(folder: &OwnedFd, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(folder, from, folder, to, AtFlags::empty())?;
            unlinkat(folder, from, AtFlags::empty())
        }
        renamed => renamed,
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(hidden_name) = &self.hidden_name {
            let _removed = unlinkat(&self.folder, hidden_name.as_str(), AtFlags::empty());
        }
    }
}

/// Knowledge about an existing file of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExistingFile {
    /// None existed. If one exists by now, it is replaced.
    None,
    /// None may exist, or publishing fails.
    Forbidden,
    /// One exists and is to be replaced.
    Replaced,
}

/// Result of publishing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) is_new: bool,
    pub(crate) stamp: Stamp,
}

/// Tries random hidden names until one is free.
fn with_new_name<T>(mut make: impl FnMut(&str) -> Result<T, Errno>) -> Result<(T, String), Errno> {
    for _ in 0..NAME_TRIES {
        let name = format!("{HIDDEN_PREFIX}{}", &crate::random::random_hex()?[..16]);
        match make(&name) {
            Err(Errno::EXIST) => {}
            made => return made.map(|made| (made, name)),
        }
    }
    Err(Errno::EXIST)
}

/// Times at which folders were last swept for files that crashes left.
#[derive(Default)]
pub(crate) struct Sweeper {
    swept: Mutex<HashMap<folders::Identity, Instant>>,
}

impl Sweeper {
    /// Removes files that crashes left in this folder, unless it was swept recently.
    ///
    /// `keep` is the time for which unfinished uploads are kept; `None` means without limit.
    pub(crate) fn sweep(&self, folder: &OwnedFd, now: Now, keep: Option<Duration>) {
        let Some(identity) = folders::identity(folder) else { return };
        // On file systems without unnamed files, unfinished uploads have hidden names, too.
        let age = LEFTOVER_AGE + keep.unwrap_or_default();
        let is_due = {
            let mut swept = lock(&self.swept);
            let since = |at: Instant| now.mono.saturating_duration_since(at);
            swept.retain(|_, at| keep.is_none() || since(*at) < age);
            swept.len() < SWEPT_MAX && swept.insert(identity, now.mono).is_none()
        };
        if is_due {
            sweep_leftovers(folder, now.wall, age);
        }
    }
}

/// Removes hidden files in this folder that are older than `age`.
fn sweep_leftovers(folder: &OwnedFd, wall: Duration, age: Duration) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat(folder, ".", flags, Mode::empty()) else { return };
    let Ok(entries) = Dir::new(fd) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !is_hidden_name(name.to_bytes()) {
            continue;
        }
        let Ok(stat) = rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        else {
            continue;
        };
        let modified = Duration::from_secs(u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0));
        let is_file = FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile;
        if is_file && modified + age < wall {
            let _removed = unlinkat(folder, name, AtFlags::empty());
        }
    }
}

fn is_hidden_name(name: &[u8]) -> bool {
    name.strip_prefix(HIDDEN_PREFIX.as_bytes())
        .is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(path: &std::path::Path) -> Arc<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Arc::new(rustix::fs::open(path, flags, Mode::empty()).unwrap())
    }

    fn names(path: &std::path::Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_draft_is_seen_whole_or_not_at_all_with_and_without_a_hidden_name() {
        for begin in [StagedFile::begin, StagedFile::begin_named] {
            let scratch = tempfile::tempdir().unwrap();
            let folder = folder(scratch.path());
            let written = |text: &str| {
                let mut staged = begin(&folder).unwrap();
                staged.append(text.as_bytes(), Some(text.len() as u64)).unwrap();
                staged
            };
            drop(written("given up"));
            assert!(names(scratch.path()).is_empty());
            assert!(written("one").publish(b"a", ExistingFile::Forbidden).unwrap().is_new);
            assert_eq!(written("two").publish(b"a", ExistingFile::Forbidden).unwrap_err(), Errno::EXIST);
            assert_eq!(fs::read_to_string(scratch.path().join("a")).unwrap(), "one");
            assert!(!written("three").publish(b"a", ExistingFile::Replaced).unwrap().is_new);
            assert!(!written("four").publish(b"a", ExistingFile::None).unwrap().is_new);
            assert_eq!(fs::read_to_string(scratch.path().join("a")).unwrap(), "four");
            fs::create_dir(scratch.path().join("folder")).unwrap();
            assert!(written("five").publish(b"folder", ExistingFile::Replaced).is_err());
            assert_eq!(names(scratch.path()), ["a", "folder"], "nothing hidden is left");
        }
    }

    /// The folder of a staged file can be removed before it is published in another.
    #[test]
    fn a_draft_is_published_in_another_folder_and_copied_where_it_must_be() {
        // On most machines this is another file system than that of temporary files.
        let others = [std::env::temp_dir(), "/dev/shm".into()];
        for begin in [StagedFile::begin, StagedFile::begin_named] {
            for other in others.iter().filter(|path| path.is_dir()) {
                let [old, new] =
                    [std::env::temp_dir(), other.clone()].map(|at| tempfile::tempdir_in(at).unwrap());
                let mut staged = begin(&folder(old.path())).unwrap();
                let content = "abc".repeat(COPIED_BYTES);
                staged.append(content.as_bytes(), None).unwrap();
                let target = folder(new.path());
                drop(old);
                let mut staged = staged.moved_to(&target).unwrap();
                staged.append(b"end", None).unwrap();
                staged.moved_to(&target).unwrap().publish(b"a", ExistingFile::None).unwrap();
                assert_eq!(fs::read_to_string(new.path().join("a")).unwrap(), content + "end");
                assert_eq!(names(new.path()), ["a"]);
            }
        }
    }

    #[test]
    fn only_old_hidden_names_of_ours_are_swept() {
        let scratch = tempfile::tempdir().unwrap();
        let all =
            [".whirligig-0123456789abcdef", ".whirligig-0123456789abcdeX", ".whirligig-0", ".other", "a"];
        for name in all {
            fs::write(scratch.path().join(name), "x").unwrap();
        }
        let modified = fs::metadata(scratch.path().join("a")).unwrap().modified().unwrap();
        let wall = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        let folder = folder(scratch.path());
        sweep_leftovers(&folder, wall + LEFTOVER_AGE / 2, LEFTOVER_AGE);
        assert_eq!(names(scratch.path()).len(), all.len());
        sweep_leftovers(&folder, wall + LEFTOVER_AGE * 2, LEFTOVER_AGE);
        assert_eq!(names(scratch.path()), [".other", ".whirligig-0", ".whirligig-0123456789abcdeX", "a"]);
    }
}
