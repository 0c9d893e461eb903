//! The docroot on disk: names are resolved beneath it, files are opened and read.
//!
//! `openat2` keeps every name beneath the root, also with links and races (openat2(2),
//! RESOLVE_BENEATH), unless the operator lets links lead anywhere. With `Disk::CachedOnly` no open
//! or read waits for the disk. A name or page that the kernel does not have in memory is
//! `LookupError::Cold`, and a worker thread repeats the call with `Disk::MayBlock`. The freshness
//! check of a cached file is one `statx` on the loop, whose names are nearly always in memory
//! because the file was opened by them. Must not know how responses are made.

pub(crate) mod beneath;
pub(crate) mod cache;
pub(crate) mod charset;
pub(crate) mod coded_files;
pub(crate) mod file;
pub(crate) mod fingerprint;
pub(crate) mod header_rules;
pub(crate) mod hidden;
mod load;
pub(crate) mod location;
pub(crate) mod own;
pub(crate) mod pattern;
pub(crate) mod read;
pub(crate) mod root;
pub(crate) mod stamp;
pub(crate) mod tag;
pub mod types;
pub(crate) mod verdict;
mod withheld;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::config::FileOptions;
use crate::docroot::beneath::{can_open_beneath, links_followed};
use crate::docroot::file::{CachedFile, Meta};
use crate::docroot::header_rules::HeaderRules;
use crate::docroot::location::Location;
use crate::docroot::own::OwnFiles;
use crate::docroot::root::Identity;
use crate::docroot::stamp::{STAMP_MASK, Stamp, file_type, stat};
use crate::docroot::types::Types;
use crate::docroot::verdict::{Shown, Withheld};
use crate::docroot::withheld::{WithheldFolders, leads_into};
use crate::handler::passwords::{Password, Passwords};
use crate::http::{Request, Response};
use crate::shortage;
use crate::sync::Semaphore;

/// Permission of a call to wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Only names and pages that the kernel has in memory; anything else is [`LookupError::Cold`].
    /// For the loop.
    CachedOnly,
    /// The call may block. For a worker thread.
    MayBlock,
}

/// The file or folder at a path.
#[derive(Debug)]
pub(crate) enum Found {
    /// A regular file.
    File(Arc<CachedFile>),
    /// A directory without an index, open, and the password of its location.
    Directory(OwnedFd, Option<Password>),
    /// A directory that was requested without a slash at the end, and the password of its location.
    WithoutSlash(Option<Password>),
}

/// The reason why a file or folder was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// The kernel would have to read the disk.
    Cold,
    /// No file or folder of this name may be served.
    NotFound,
    /// The file exists and the server may not read it.
    Forbidden,
    /// No descriptor is left.
    Exhausted,
    /// The location of the file cannot be determined, so it cannot be checked.
    Unknown,
    /// The disk failed, with this error number.
    Io(i32),
}

impl From<Errno> for LookupError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => LookupError::Cold,
            Errno::ACCESS | Errno::PERM => LookupError::Forbidden,
            Errno::MFILE | Errno::NFILE => {
                // Every open that finds no descriptor is counted here.
                shortage::report();
                LookupError::Exhausted
            }
            // openat2 returns XDEV if the name leads out of the root. Files outside do not exist
            // for clients.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::XDEV
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV
            | Errno::INVAL
            | Errno::ILSEQ => LookupError::NotFound,
            other => LookupError::Io(other.raw_os_error()),
        }
    }
}

/// Name of the file that is served for a directory.
const INDEX: &[u8] = b"index.html";

/// Returns whether a name beneath the root, without its first slash, denotes a directory.
fn names_directory(name: &[u8]) -> bool {
    name.is_empty() || name.ends_with(b"/")
}

/// Returns the path of the file to serve for `path`, with `suffix` appended.
fn file_name(path: &[u8], suffix: &[u8]) -> Vec<u8> {
    let index: &[u8] = if names_directory(path) { INDEX } else { b"" };
    [path, index, suffix].concat()
}

/// Returns a refusal if a request may not receive listings and archives.
#[derive(Clone)]
pub(crate) struct Refuse(pub(crate) Arc<RefuseFn>);

type RefuseFn = dyn Fn(&Request<'_>) -> Option<Response> + Send + Sync;

impl std::fmt::Debug for Refuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refuse")
    }
}

/// A folder that is served.
#[derive(Debug)]
pub struct Docroot {
    pub(crate) fd: OwnedFd,
    /// The absolute name by which it was opened.
    pub(crate) name: PathBuf,
    identity: Identity,
    /// The options before they were adjusted.
    given: FileOptions,
    /// Distinguishes docroots in a cache.
    pub(crate) number: usize,
    pub(crate) options: FileOptions,
    /// Header rules of the operator, by path.
    header_rules: HeaderRules,
    types: Types,
    /// Bounds how many files are compressed at once.
    pub(crate) compressors: Arc<Semaphore>,
    /// Bounds how many archives are made at once.
    pub(crate) archives: Arc<Semaphore>,
    /// The paths that require a password, for responses that show more than one file.
    pub(crate) guard: Option<Arc<dyn Passwords>>,
    /// The operator's own files.
    pub(crate) own: Arc<OwnFiles>,
    /// The absolute path, links resolved.
    pub(crate) real_path: Vec<u8>,
    /// Refuses listings and archives. `None` refuses none.
    refuse: Option<Refuse>,
    /// Folders below the docroot that clients may write to, as normalized paths: by their names,
    /// and by the locations of these at the start.
    uploads: Vec<String>,
    /// Folders whose files are never sent.
    withheld: WithheldFolders,
    /// Number of writes to the docroot through this server.
    writes: AtomicUsize,
}

impl Docroot {
    /// Opens `path` for serving. Fails if it is no directory or may not be read.
    ///
    /// Where the kernel does not report the locations of open files, no link is followed.
    /// `Symlinks::All` is an error there.
    pub fn open(path: &Path, options: FileOptions) -> std::io::Result<Self> {
        let given = options.clone();
        let mut options = options;
        options.symlinks = links_followed(options.symlinks, location::is_reported())
            .map_err(|why| std::io::Error::new(std::io::ErrorKind::Unsupported, why))?;
        // A coded page has no script, and is outdated as soon as its original changes.
        options.precompressed &= !options.live_reload;
        if !cfg!(feature = "compress") {
            options.compress_level = None;
            options.archives = false;
        }
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let identity = root::identity(&rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH, STAMP_MASK)?);
        can_open_beneath(&fd)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let compressors = Semaphore::new(options.compressors_max as u64);
        let archives = Semaphore::new(options.archives_max as u64);
        let real_path = path.canonicalize()?;
        if root::folder_at(&real_path) != Some(identity) {
            return Err(std::io::Error::other("another folder took this name while it was opened"));
        }
        let uploads = uploads_below(&real_path, &options.uploads);
        let header_rules = HeaderRules::new(&options.headers, &uploads).map_err(std::io::Error::other)?;
        let types = Types::of(&options).map_err(std::io::Error::other)?;
        let withheld = WithheldFolders::find(&real_path, &options)?;
        Ok(Docroot {
            fd,
            name: std::path::absolute(path)?,
            identity,
            given,
            number,
            options,
            header_rules,
            types,
            compressors,
            archives,
            guard: None,
            own: Arc::default(),
            real_path: real_path.into_os_string().into_encoded_bytes(),
            refuse: None,
            uploads,
            withheld,
            writes: AtomicUsize::new(0),
        })
    }

    /// Opens the folder that has this name now, with the options of this docroot.
    pub(crate) fn opened_again(&self) -> std::io::Result<Docroot> {
        let new = Docroot::open(&self.name, self.given.clone())?;
        Ok(Docroot {
            compressors: Arc::clone(&self.compressors),
            archives: Arc::clone(&self.archives),
            guard: self.guard.clone(),
            own: Arc::clone(&self.own),
            refuse: self.refuse.clone(),
            ..new
        })
    }

    /// Returns whether another folder has the name of this docroot now, or that of a withheld
    /// folder. A name that leads to no folder does not count.
    pub(crate) fn was_replaced(&self) -> bool {
        root::was_taken(&self.name, self.identity)
            || self.withheld.named.iter().any(|(path, identity)| root::was_taken(path, *identity))
    }

    /// Describes the part that [`was_replaced`](Self::was_replaced), as the end of a clause about
    /// the name.
    pub(crate) fn replaced_part(&self) -> &'static str {
        match root::was_taken(&self.name, self.identity) {
            true => "is another folder now",
            false => "has another folder of programs now",
        }
    }

    /// Returns whether this normalized path is that of a withheld folder, or leads into it.
    pub(crate) fn withholds(&self, path: &[u8]) -> bool {
        leads_into(&self.withheld.below, path)
    }

    /// Returns whether this location is in a withheld folder.
    pub(crate) fn withholds_at(&self, location: &Location) -> bool {
        location.possible_paths().any(|path| self.withholds(&path))
            || location.outside().is_some_and(|path| leads_into(&self.withheld.outside, path))
    }

    /// Sets the passwords that protect paths.
    #[must_use]
    pub(crate) fn guarded(self, guard: Option<Arc<dyn Passwords>>) -> Self {
        Docroot { guard, ..self }
    }

    /// Sets the operator's own files, which are never served.
    #[must_use]
    pub(crate) fn withholding(self, own: &Arc<OwnFiles>) -> Self {
        Docroot { own: Arc::clone(own), ..self }
    }

    /// Limits listings and archives to requests for which `refuse` returns no response.
    #[must_use]
    pub(crate) fn refusing(self, refuse: Refuse) -> Self {
        Docroot { refuse: Some(refuse), ..self }
    }

    /// Returns the refusal of a listing or archive, if the operator does not allow it for this
    /// request.
    pub(crate) fn refusal(&self, request: &Request<'_>) -> Option<Response> {
        self.refuse.as_ref().and_then(|refuse| (refuse.0)(request))
    }

    /// Returns whether the root has an entry of this name. Errors count as no.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        rustix::fs::statx(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).is_ok()
    }

    /// Records a write through this server. Later requests must see it, so every cache checks its
    /// entries of this docroot again.
    pub(crate) fn note_write(&self) {
        self.writes.fetch_add(1, Ordering::Release);
    }

    /// Returns the number of writes so far.
    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::Acquire)
    }

    /// Looks up `path` without sending it, so the age of the entity-tag does not matter.
    pub(crate) fn peek(&self, path: &[u8], disk: Disk) -> Result<Found, LookupError> {
        self.find(path, disk, Duration::ZERO)
    }

    /// Looks up the file or folder at `path` at the time `wall`. The path is normalized and begins
    /// with a slash.
    pub(crate) fn find(&self, path: &[u8], disk: Disk, wall: Duration) -> Result<Found, LookupError> {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        if self.withholds(path) {
            return Err(LookupError::NotFound);
        }
        if !names_directory(name) {
            let fd = self.open_beneath(name, disk)?;
            let stat = stat(&fd)?;
            return match file_type(&stat) {
                FileType::Directory => match self.judge(&fd, &stat, path) {
                    Ok(Shown { password, .. }) => Ok(Found::WithoutSlash(password)),
                    // A link to a hidden folder. It is not listed, but its index is served.
                    Err(Withheld::Hidden) => match self.find(&[path, b"/"].concat(), disk, wall)? {
                        Found::File(index) => Ok(Found::WithoutSlash(index.meta.password)),
                        Found::Directory(..) | Found::WithoutSlash(_) => Err(LookupError::NotFound),
                    },
                    Err(why) => Err(why.into()),
                },
                FileType::RegularFile => self.load(fd, &stat, path, disk, wall),
                _ => Err(LookupError::NotFound),
            };
        }
        let index = [path, INDEX].concat();
        match self.open_beneath(index.strip_prefix(b"/").unwrap_or(&index), disk) {
            Ok(fd) => {
                let stat = stat(&fd)?;
                if file_type(&stat) == FileType::RegularFile {
                    return self.load(fd, &stat, &index, disk, wall);
                }
            }
            Err(LookupError::NotFound) => {}
            Err(error) => return Err(error),
        }
        let directory = self.open_beneath(if name.is_empty() { b"." } else { name }, disk)?;
        let stat = stat(&directory)?;
        match file_type(&stat) {
            // Without links it was deleted, and exists only because of our descriptor.
            FileType::Directory if self.options.listing && stat.stx_nlink > 0 => {
                let Shown { password, .. } = self.judge(&directory, &stat, path)?;
                Ok(Found::Directory(directory, password))
            }
            _ => Err(LookupError::NotFound),
        }
    }

    /// Returns the current stamp of the file at `path`, with `suffix` appended. Costs one `statx`,
    /// for the freshness check.
    pub(crate) fn stamp(&self, path: &[u8], suffix: &[u8]) -> Option<Stamp> {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        let stat = if suffix.is_empty() && !names_directory(name) {
            rustix::fs::statx(&self.fd, name, AtFlags::empty(), STAMP_MASK)
        } else {
            rustix::fs::statx(&self.fd, file_name(name, suffix), AtFlags::empty(), STAMP_MASK)
        };
        stat.ok().map(|stat| Stamp::of(&stat))
    }

    /// Returns whether `path`, with `suffix` appended, still leads to the file that was loaded from
    /// there, at the same location. Costs one `statx`; for a file behind a link also one open and
    /// two `readlink`.
    pub(crate) fn is_unchanged(&self, path: &[u8], suffix: &[u8], file: &Meta) -> bool {
        self.stamp(path, suffix) == Some(file.stamp)
            && !self.is_own(&file.stamp)
            && file.link_target.as_ref().is_none_or(|target| self.leads_to(path, suffix, target))
    }

    /// Returns whether a link still leads to the same location. The stamp does not show that a
    /// folder on the way was renamed, but hiding and passwords depend on the location.
    fn leads_to(&self, path: &[u8], suffix: &[u8], target: &Location) -> bool {
        let path = file_name(path, suffix);
        let found = self.open_beneath(path.strip_prefix(b"/").unwrap_or(&path), Disk::CachedOnly);
        let shown = found.and_then(|fd| Ok(self.judge(&fd, &stat(&fd)?, &path)?));
        shown.is_ok_and(|shown| shown.location == *target)
    }
}

/// Returns the upload folders by their names, and by the locations of these below `root`.
fn uploads_below(root: &Path, areas: &[String]) -> Vec<String> {
    let lies_at = |area: &String| {
        let folder = root.join(area.trim_start_matches('/')).canonicalize().ok()?;
        let inside = folder.strip_prefix(root).ok()?.to_str()?;
        Some(if inside.is_empty() { String::new() } else { format!("/{inside}") })
    };
    areas.iter().cloned().chain(areas.iter().filter_map(lies_at)).collect()
}

/// Returns the upload folder that contains this normalized path. If upload folders are nested, the
/// innermost one.
pub(crate) fn area_of<'a>(areas: &'a [String], path: &[u8]) -> Option<&'a str> {
    let covers = |area: &&String| {
        path.strip_prefix(area.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    };
    areas.iter().filter(covers).max_by_key(|area| area.len()).map(String::as_str)
}
