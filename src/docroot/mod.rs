//! The docroot on disk: names resolved beneath it, files opened and read.
//!
//! `openat2` keeps every name beneath the root, links and races included (openat2(2),
//! RESOLVE_BENEATH). With `Reach::InMemory` nothing here waits for the disk: a name or page that
//! the kernel does not have in memory is `Trouble::Cold`, and a worker thread repeats the call with
//! `Reach::OnDisk`. Must not know requests or responses.

pub(crate) mod beneath;
pub(crate) mod cache;
pub(crate) mod charset;
pub(crate) mod fields;
pub(crate) mod file;
pub(crate) mod fingerprint;
pub(crate) mod hidden;
mod load;
pub(crate) mod location;
pub(crate) mod own;
pub(crate) mod pattern;
pub(crate) mod read;
pub(crate) mod root;
pub(crate) mod siblings;
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
use crate::docroot::fields::FieldRules;
use crate::docroot::file::{CachedFile, Meta};
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

/// How far a look may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only what the kernel has in memory: for the loop.
    InMemory,
    /// The disk itself: for a worker thread.
    OnDisk,
}

/// What a path names.
#[derive(Debug)]
pub(crate) enum Found {
    /// A regular file.
    File(Arc<CachedFile>),
    /// A directory without an index, open, and the password that is due at its place.
    Directory(OwnedFd, Option<Password>),
    /// A directory that was asked for without its slash, and the password that is due at its place.
    WithoutSlash(Option<Password>),
}

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The kernel would have to ask the disk.
    Cold,
    /// There is nothing to serve by that name.
    NotFound,
    /// It is there and we may not read it.
    Forbidden,
    /// No descriptor is left.
    Exhausted,
    /// The place of the file cannot be read, so what is decided by it cannot be.
    Unknown,
    /// The disk failed, with this error number.
    Io(i32),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => Trouble::Cold,
            Errno::ACCESS | Errno::PERM => Trouble::Forbidden,
            Errno::MFILE | Errno::NFILE => {
                // Every open that finds no descriptor passes by here.
                shortage::report();
                Trouble::Exhausted
            }
            // XDEV is how openat2 says that the name leads out of the root; what is outside does
            // not exist.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::XDEV
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV
            | Errno::INVAL
            | Errno::ILSEQ => Trouble::NotFound,
            other => Trouble::Io(other.raw_os_error()),
        }
    }
}

/// What a directory is shown by.
const INDEX: &[u8] = b"index.html";

/// Whether a name beneath the root, without its first slash, means a directory.
fn names_directory(name: &[u8]) -> bool {
    name.is_empty() || name.ends_with(b"/")
}

/// The path of the file that `path` means, with `suffix` behind its name.
fn file_name(path: &[u8], suffix: &[u8]) -> Vec<u8> {
    let index: &[u8] = if names_directory(path) { INDEX } else { b"" };
    [path, index, suffix].concat()
}

/// Decides whether a request may have more than single files, such as listings: returns the refusal
/// if it may not.
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
    /// The absolute name that it was opened by.
    pub(crate) name: PathBuf,
    identity: Identity,
    /// The options as they were given.
    given: FileOptions,
    /// Tells docroots apart in a cache.
    pub(crate) number: usize,
    pub(crate) options: FileOptions,
    /// What is said with which file.
    fields: FieldRules,
    types: Types,
    /// Bounds how many files are compressed at once.
    pub(crate) compressors: Arc<Semaphore>,
    /// For archives in the making.
    pub(crate) archives: Arc<Semaphore>,
    /// Who knows which paths take a password: for answers that show more than one file.
    pub(crate) guard: Option<Arc<dyn Passwords>>,
    /// The operator's own files.
    pub(crate) own: Arc<OwnFiles>,
    /// Where the docroot lies on this machine, links resolved.
    pub(crate) real_path: Vec<u8>,
    /// Refuses requests for more than single files. `None` refuses none.
    refuse: Option<Refuse>,
    /// Folders below it that clients may write to, as normalised paths: by their names, and where
    /// those lead.
    uploads: Vec<String>,
    /// Folders that are not for reading.
    withheld: WithheldFolders,
    /// Counts what was written here by way of this server.
    writes: AtomicUsize,
}

impl Docroot {
    /// Opens `path` for serving. Fails when it is no directory or may not be read.
    ///
    /// Where the kernel does not report the places of open files, no link is followed, whatever
    /// `options` say. Then following them anywhere is an error.
    pub fn open(path: &Path, options: FileOptions) -> std::io::Result<Self> {
        let given = options.clone();
        let mut options = options;
        options.symlinks = links_followed(options.symlinks, location::is_reported())
            .map_err(|why| std::io::Error::new(std::io::ErrorKind::Unsupported, why))?;
        // A coded page has no script, and is older than what it was made of as soon as that
        // changes.
        options.precompressed &= !options.live_reload;
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
            return Err(std::io::Error::other("another folder took its name while it was opened"));
        }
        let uploads = uploads_below(&real_path, &options.uploads);
        let fields = FieldRules::new(&options.fields, &uploads).map_err(std::io::Error::other)?;
        let types = Types::of(&options).map_err(std::io::Error::other)?;
        let withheld = WithheldFolders::find(&real_path, &options)?;
        Ok(Docroot {
            fd,
            name: std::path::absolute(path)?,
            identity,
            given,
            number,
            options,
            fields,
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

    /// Opens the folder that has its name now, with all that was asked for this one.
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

    /// Returns whether another folder has its name now, or that of a folder that is not for
    /// reading. A name that leads to no folder has not been taken.
    pub(crate) fn was_replaced(&self) -> bool {
        root::was_taken(&self.name, self.identity)
            || self.withheld.named.iter().any(|(path, identity)| root::was_taken(path, *identity))
    }

    /// The part that [`was_replaced`](Self::was_replaced), as the end of a clause about its name.
    pub(crate) fn replaced_part(&self) -> &'static str {
        match root::was_taken(&self.name, self.identity) {
            true => "is another folder now",
            false => "has another folder of programs now",
        }
    }

    /// Whether this normalised path is that of a folder that is not for reading, or leads into it.
    pub(crate) fn withholds(&self, path: &[u8]) -> bool {
        leads_into(&self.withheld.below, path)
    }

    /// Returns whether this place is in a folder that is not for reading.
    pub(crate) fn withholds_at(&self, location: &Location) -> bool {
        location.possible_paths().any(|path| self.withholds(&path))
            || location.outside().is_some_and(|path| leads_into(&self.withheld.outside, path))
    }

    /// The same folder, where `guard` knows which paths take a password.
    #[must_use]
    pub(crate) fn guarded(self, guard: Option<Arc<dyn Passwords>>) -> Self {
        Docroot { guard, ..self }
    }

    /// The folder as given, where none of the operator's own files is given out.
    #[must_use]
    pub(crate) fn withholding(self, own: &Arc<OwnFiles>) -> Self {
        Docroot { own: Arc::clone(own), ..self }
    }

    /// The folder as given, with listings and archives only for requests that `refuse` returns no
    /// response for.
    #[must_use]
    pub(crate) fn refusing(self, refuse: Refuse) -> Self {
        Docroot { refuse: Some(refuse), ..self }
    }

    /// The refusal of a request for more than a single file, if the operator does not allow it.
    pub(crate) fn refusal(&self, request: &Request<'_>) -> Option<Response> {
        self.refuse.as_ref().and_then(|refuse| (refuse.0)(request))
    }

    /// Whether the root has an entry of this name, as far as can be seen.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        rustix::fs::statx(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).is_ok()
    }

    /// Something here was written, through this server: whoever asks from now on must see it, so
    /// what any cache has of this docroot is looked at again first.
    pub(crate) fn note_write(&self) {
        self.writes.fetch_add(1, Ordering::Release);
    }

    /// How often that was so.
    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::Acquire)
    }

    /// The thing that `path` names, to be looked at and not sent: the age of its tag does not
    /// matter.
    pub(crate) fn peek(&self, path: &[u8], reach: Reach) -> Result<Found, Trouble> {
        self.find(path, reach, Duration::ZERO)
    }

    /// The file or folder at `path` at the time `wall`. The path is normalised and begins with a
    /// slash.
    pub(crate) fn find(&self, path: &[u8], reach: Reach, wall: Duration) -> Result<Found, Trouble> {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        if self.withholds(path) {
            return Err(Trouble::NotFound);
        }
        if !names_directory(name) {
            let fd = self.open_beneath(name, reach)?;
            let stat = stat(&fd)?;
            return match file_type(&stat) {
                FileType::Directory => match self.judge(&fd, &stat, path) {
                    Ok(Shown { password, .. }) => Ok(Found::WithoutSlash(password)),
                    // A link to a hidden folder: that is not listed, but its index is shown.
                    Err(Withheld::Hidden) => match self.find(&[path, b"/"].concat(), reach, wall)? {
                        Found::File(index) => Ok(Found::WithoutSlash(index.meta.password)),
                        Found::Directory(..) | Found::WithoutSlash(_) => Err(Trouble::NotFound),
                    },
                    Err(why) => Err(why.into()),
                },
                FileType::RegularFile => self.load(fd, &stat, path, reach, wall),
                _ => Err(Trouble::NotFound),
            };
        }
        let index = [path, INDEX].concat();
        match self.open_beneath(index.strip_prefix(b"/").unwrap_or(&index), reach) {
            Ok(fd) => {
                let stat = stat(&fd)?;
                if file_type(&stat) == FileType::RegularFile {
                    return self.load(fd, &stat, &index, reach, wall);
                }
            }
            Err(Trouble::NotFound) => {}
            Err(trouble) => return Err(trouble),
        }
        let directory = self.open_beneath(if name.is_empty() { b"." } else { name }, reach)?;
        let stat = stat(&directory)?;
        match file_type(&stat) {
            // Without a link it was deleted, and only our descriptor keeps it.
            FileType::Directory if self.options.listing && stat.stx_nlink > 0 => {
                let Shown { password, .. } = self.judge(&directory, &stat, path)?;
                Ok(Found::Directory(directory, password))
            }
            _ => Err(Trouble::NotFound),
        }
    }

    /// The present stamp of the file that `path` names, with `suffix` behind its name: one `statx`,
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

    /// Returns whether `path`, with `suffix` behind its name, still leads to a file that was loaded
    /// from there, and to the place where that lay: one `statx`, and for a file behind a link one
    /// open and two `readlink` more.
    pub(crate) fn is_unchanged(&self, path: &[u8], suffix: &[u8], file: &Meta) -> bool {
        self.stamp(path, suffix) == Some(file.stamp)
            && !self.is_own(&file.stamp)
            && file.link_target.as_ref().is_none_or(|target| self.leads_to(path, suffix, target))
    }

    /// Returns whether a link still leads where it did. The stamp does not show that a folder on
    /// the way was renamed, and hiding and passwords go by the place of a file.
    fn leads_to(&self, path: &[u8], suffix: &[u8], target: &Location) -> bool {
        let path = file_name(path, suffix);
        let found = self.open_beneath(path.strip_prefix(b"/").unwrap_or(&path), Reach::InMemory);
        let shown = found.and_then(|fd| Ok(self.judge(&fd, &stat(&fd)?, &path)?));
        shown.is_ok_and(|shown| shown.location == *target)
    }
}

/// Folders for uploads by their names, and where these lead below `root`, as paths there.
fn uploads_below(root: &Path, areas: &[String]) -> Vec<String> {
    let lies_at = |area: &String| {
        let folder = root.join(area.trim_start_matches('/')).canonicalize().ok()?;
        let inside = folder.strip_prefix(root).ok()?.to_str()?;
        Some(if inside.is_empty() { String::new() } else { format!("/{inside}") })
    };
    areas.iter().cloned().chain(areas.iter().filter_map(lies_at)).collect()
}

/// Upload folder that contains this normalized path. If upload folders are nested, the innermost
/// one.
pub(crate) fn area_of<'a>(areas: &'a [String], path: &[u8]) -> Option<&'a str> {
    let covers = |area: &&String| {
        path.strip_prefix(area.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    };
    areas.iter().filter(covers).max_by_key(|area| area.len()).map(String::as_str)
}
