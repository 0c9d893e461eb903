//! A file on its way to the disk: nobody sees it before it is whole, and a crash leaves nothing of
//! it.
//!
//! It has no name (`O_TMPFILE`) until it is published. `linkat` never replaces anything, so over an
//! old version it first gets a hidden name, and is renamed from there. Where the file system has no
//! nameless files it has the hidden name all the time; what a crash leaves then is swept when the
//! folder is used again. Everything here may block: for worker threads only.

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
use crate::docroot::Stamp;
use crate::docroot::location::is_reported;
use crate::docroot::own::Inode;
use crate::features::upload::folders;
use crate::sync::lock;

/// How far ahead of what was written room is reserved, in bytes: few calls, long extents, and a
/// full disk is known early. All that was announced at once would let who sends nothing fill the
/// disk.
const RESERVE_BYTES: u64 = 16 * MIB as u64;

/// Bytes that are copied at a time.
const COPIED_BYTES: usize = 256 * 1024;

/// What hidden names begin with; 16 hexadecimal digits follow.
const SCRAP: &str = ".whirligig-";

/// A hidden name this old belongs to nobody any more.
pub(crate) const SCRAP_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Folders whose scraps were looked for lately. Beyond, they are not: it is a courtesy.
const SWEPT_MAX: usize = 1024;

/// How often a name is invented anew.
const NAME_TRIES: usize = 8;

/// Who may read and write it, as far as the process lets new files be read and written (umask(2)).
const MODE: Mode = Mode::from_raw_mode(0o666);

/// A file that cannot be seen yet.
#[derive(Debug)]
pub(crate) struct Draft {
    fd: OwnedFd,
    folder: Arc<OwnedFd>,
    /// Its hidden name, if it has to have one.
    scrap: Option<String>,
    bytes: u64,
    reserved: u64,
}

impl Draft {
    /// An empty one in this folder.
    pub(crate) fn begin(folder: &Arc<OwnedFd>) -> Result<Draft, Errno> {
        // Without /proc a nameless file may be one for ever: see `link`.
        if !is_reported() {
            return Draft::begin_named(folder);
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        match rustix::fs::openat(folder, ".", flags, MODE) {
            Ok(fd) => {
                return Ok(Draft { fd, folder: Arc::clone(folder), scrap: None, bytes: 0, reserved: 0 });
            }
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {}
            Err(errno) => return Err(errno),
        }
        Draft::begin_named(folder)
    }

    /// The same where the file system has no nameless files.
    pub(crate) fn begin_named(folder: &Arc<OwnedFd>) -> Result<Draft, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let (fd, name) = with_new_name(|name| rustix::fs::openat(folder, name, flags, MODE))?;
        Ok(Draft { fd, folder: Arc::clone(folder), scrap: Some(name), bytes: 0, reserved: 0 })
    }

    /// The draft, to be published in this folder. It is copied if it cannot have a name there: on
    /// another file system, or with a hidden name in a folder that may be gone.
    pub(crate) fn moved_to(mut self, folder: &Arc<OwnedFd>) -> Result<Draft, Errno> {
        if Arc::ptr_eq(&self.folder, folder) {
            return Ok(self);
        }
        let device = |file: &OwnedFd| rustix::fs::fstat(file).map(|stat| stat.st_dev);
        if self.scrap.is_none() && device(&self.fd)? == device(folder)? {
            self.folder = Arc::clone(folder);
            return Ok(self);
        }
        let mut copy = Draft::begin(folder)?;
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

    /// The file itself, to be read.
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.fd
    }

    /// How much was written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the disk has room for this much more, as far as it can say now.
    pub(crate) fn has_room(&self, more: u64) -> bool {
        match rustix::fs::fstatvfs(&self.fd) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize) >= more,
            Err(_) => true,
        }
    }

    /// Writes on. `left` is what will come in all as far as that is known, these bytes included.
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
            // Not every file system can; then the writing finds out.
            Err(_) => self.reserved = u64::MAX,
        }
        Ok(())
    }

    /// Gives back the room that was reserved ahead: for now nothing more comes.
    pub(crate) fn give_back(&mut self) {
        if (self.bytes + 1..u64::MAX).contains(&self.reserved)
            && rustix::fs::ftruncate(&self.fd, self.bytes).is_ok()
        {
            self.reserved = self.bytes;
        }
    }

    /// Waits until its content is on the disk. Called before it is published, and not under a lock:
    /// it takes a while.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        rustix::fs::fdatasync(&self.fd)
    }

    /// Gives it its name. `old` says whether a file of that name is there, which it then replaces.
    /// Says whether the name is new.
    pub(crate) fn publish(&mut self, name: &[u8], old: Old) -> Result<Published, Errno> {
        let is_new = match old {
            Old::None | Old::Unwanted => match self.link(name) {
                Err(Errno::EXIST) if old == Old::None => {
                    self.replace(name)?;
                    false
                }
                linked => linked.map(|()| true)?,
            },
            Old::Replaced => {
                self.replace(name)?;
                false
            }
        };
        // The change time is that of the renaming, and it may be in the tag.
        let stamp = rustix::fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, Inode::MASK)?;
        Ok(Published { is_new, stamp: Stamp::of(&stamp) })
    }

    /// Gives it this name unless something has it.
    fn link(&mut self, name: &[u8]) -> Result<(), Errno> {
        let folder = &self.folder;
        if let Some(scrap) = &self.scrap {
            match renameat_with(folder, scrap.as_str(), folder, name, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS) => {
                    linkat(folder, scrap.as_str(), folder, name, AtFlags::empty())?;
                    unlinkat(folder, scrap.as_str(), AtFlags::empty())?;
                }
                renamed => renamed?,
            }
            self.scrap = None;
            return Ok(());
        }
        match linkat(&self.fd, "", folder, name, AtFlags::EMPTY_PATH) {
            // That way is for privileged processes only, until Linux 6.10; the other one needs
            // /proc.
            Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
                let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
                linkat(CWD, path, folder, name, AtFlags::SYMLINK_FOLLOW)
            }
            linked => linked,
        }
    }

    /// Puts it in the place of what has this name: at once for whoever looks.
    fn replace(&mut self, name: &[u8]) -> Result<(), Errno> {
        if self.scrap.is_none() {
            let (_, hidden) = with_new_name(|hidden| self.link(hidden.as_bytes()))?;
            // From here on it is taken away if the next step fails.
            self.scrap = Some(hidden);
        }
        if let Some(scrap) = &self.scrap {
            renameat(&self.folder, scrap.as_str(), &self.folder, name)?;
        }
        self.scrap = None;
        Ok(())
    }
}

#[cfg(test)]
impl Draft {
    /// For tests: how many bytes of the disk it has taken.
    pub(crate) fn room(&self) -> u64 {
        rustix::fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, StatxFlags::BLOCKS).unwrap().stx_blocks * 512
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(scrap) = &self.scrap {
            let _gone = unlinkat(&self.folder, scrap.as_str(), AtFlags::empty());
        }
    }
}

/// What is known of an earlier file of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Old {
    /// There was none; if there is one by now it is replaced.
    None,
    /// There must be none.
    Unwanted,
    /// There is one, to be replaced.
    Replaced,
}

/// What became of a draft.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) is_new: bool,
    pub(crate) stamp: Stamp,
}

/// Tries hidden names until one is free.
fn with_new_name<T>(mut make: impl FnMut(&str) -> Result<T, Errno>) -> Result<(T, String), Errno> {
    for _ in 0..NAME_TRIES {
        let name = format!("{SCRAP}{}", &crate::random::random_hex()?[..16]);
        match make(&name) {
            Err(Errno::EXIST) => {}
            made => return made.map(|made| (made, name)),
        }
    }
    Err(Errno::EXIST)
}

/// When folders were last looked through for hidden names that crashes have left.
#[derive(Default)]
pub(crate) struct Sweeper {
    swept: Mutex<HashMap<folders::Identity, Instant>>,
}

impl Sweeper {
    /// Has what crashes have left in this folder swept, as often as something there can have become
    /// old enough. Unfinished uploads are kept for so long; `None` is for ever.
    pub(crate) fn sweep(&self, folder: &OwnedFd, now: Now, keep: Option<Duration>) {
        let Some(identity) = folders::identity(folder) else { return };
        // What is kept to be gone on with has such a name, too, where there are no nameless files.
        let age = SCRAP_AGE + keep.unwrap_or_default();
        let is_due = {
            let mut swept = lock(&self.swept);
            let since = |at: Instant| now.mono.saturating_duration_since(at);
            swept.retain(|_, at| keep.is_none() || since(*at) < age);
            swept.len() < SWEPT_MAX && swept.insert(identity, now.mono).is_none()
        };
        if is_due {
            sweep_scraps(folder, now.wall, age);
        }
    }
}

/// Takes away hidden names in this folder that are older than `age`.
fn sweep_scraps(folder: &OwnedFd, wall: Duration, age: Duration) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat(folder, ".", flags, Mode::empty()) else { return };
    let Ok(entries) = Dir::new(fd) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !is_scrap(name.to_bytes()) {
            continue;
        }
        let Ok(stat) = rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        else {
            continue;
        };
        let modified = Duration::from_secs(u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0));
        let is_file = FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile;
        if is_file && modified + age < wall {
            let _gone = unlinkat(folder, name, AtFlags::empty());
        }
    }
}

fn is_scrap(name: &[u8]) -> bool {
    name.strip_prefix(SCRAP.as_bytes())
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
        for begin in [Draft::begin, Draft::begin_named] {
            let scratch = tempfile::tempdir().unwrap();
            let folder = folder(scratch.path());
            let written = |text: &str| {
                let mut draft = begin(&folder).unwrap();
                draft.append(text.as_bytes(), Some(text.len() as u64)).unwrap();
                draft
            };
            drop(written("given up"));
            assert!(names(scratch.path()).is_empty());
            assert!(written("one").publish(b"a", Old::Unwanted).unwrap().is_new);
            assert_eq!(written("two").publish(b"a", Old::Unwanted).unwrap_err(), Errno::EXIST);
            assert_eq!(fs::read_to_string(scratch.path().join("a")).unwrap(), "one");
            assert!(!written("three").publish(b"a", Old::Replaced).unwrap().is_new);
            assert!(!written("four").publish(b"a", Old::None).unwrap().is_new);
            assert_eq!(fs::read_to_string(scratch.path().join("a")).unwrap(), "four");
            fs::create_dir(scratch.path().join("folder")).unwrap();
            assert!(written("five").publish(b"folder", Old::Replaced).is_err());
            assert_eq!(names(scratch.path()), ["a", "folder"], "nothing hidden is left");
        }
    }

    /// The folder that a draft began in may be gone when it is published in another.
    #[test]
    fn a_draft_is_published_in_another_folder_and_copied_where_it_must_be() {
        // Another file system than that of temporary files on most machines.
        let others = [std::env::temp_dir(), "/dev/shm".into()];
        for begin in [Draft::begin, Draft::begin_named] {
            for other in others.iter().filter(|path| path.is_dir()) {
                let [old, new] =
                    [std::env::temp_dir(), other.clone()].map(|at| tempfile::tempdir_in(at).unwrap());
                let mut draft = begin(&folder(old.path())).unwrap();
                let content = "abc".repeat(COPIED_BYTES);
                draft.append(content.as_bytes(), None).unwrap();
                let target = folder(new.path());
                drop(old);
                let mut draft = draft.moved_to(&target).unwrap();
                draft.append(b"end", None).unwrap();
                draft.moved_to(&target).unwrap().publish(b"a", Old::None).unwrap();
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
        sweep_scraps(&folder, wall + SCRAP_AGE / 2, SCRAP_AGE);
        assert_eq!(names(scratch.path()).len(), all.len());
        sweep_scraps(&folder, wall + SCRAP_AGE * 2, SCRAP_AGE);
        assert_eq!(names(scratch.path()), [".other", ".whirligig-0", ".whirligig-0123456789abcdeX", "a"]);
    }
}
