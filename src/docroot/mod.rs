//! The docroot on disk: names are resolved beneath it, files are opened and read.
//!
//! `openat2` keeps every name beneath the root, also with links and races (openat2(2),
//! RESOLVE_BENEATH), unless the operator lets links lead anywhere. With `Disk::CachedOnly` no open
//! or read waits for the disk. A name or page that the kernel does not have in memory is
//! `LookupError::Cold`, and a worker thread repeats the call with `Disk::MayBlock`. The freshness
//! check of a cached file is one `statx` on the loop, whose names are nearly always in memory
//! because the file was opened by them. Must not know how responses are made.

mod areas;
pub(crate) mod beneath;
pub(crate) mod cache;
pub(crate) mod charset;
pub(crate) mod coded_files;
pub(crate) mod file;
pub(crate) mod fingerprint;
pub(crate) mod header_rules;
pub(crate) mod hidden;
pub(crate) mod index;
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
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::config::{FileOptions, Symlinks, UploadRule};
pub(crate) use crate::docroot::areas::area_of;
use crate::docroot::areas::{rights_with_locations, with_locations};
use crate::docroot::beneath::{can_open_beneath, links_followed};
use crate::docroot::file::{CachedFile, Meta};
use crate::docroot::header_rules::HeaderRules;
use crate::docroot::hidden::is_hidden_name;
use crate::docroot::location::Location;
use crate::docroot::own::OwnFiles;
use crate::docroot::root::Identity;
use crate::docroot::stamp::{STAMP_MASK, Stamp, described, file_type, stat};
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

/// Returns whether a name beneath the root, without its first slash, denotes a directory.
fn names_directory(name: &[u8]) -> bool {
    name.is_empty() || name.ends_with(b"/")
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

/// A folder that is served, or a single file of it.
#[derive(Debug)]
pub struct Docroot {
    pub(crate) fd: OwnedFd,
    /// The absolute path by which it was opened.
    given_path: PathBuf,
    /// The absolute name of the folder: that path, or the folder that contains the file there.
    pub(crate) name: PathBuf,
    /// Name of the only file of the folder that is served. `None` serves the folder.
    only: Option<Vec<u8>>,
    /// Names of index files. The only file is the index of its folder, so it is served at `/`.
    index: Vec<Vec<u8>>,
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
    /// Rights of clients by path: by the names that the operator gave, and by the locations of
    /// these at the start.
    upload_rights: Vec<UploadRule>,
    /// Folders whose names are not listed, in the same form.
    unlisted: Vec<String>,
    /// Folders whose files are never sent.
    withheld: WithheldFolders,
    /// Number of writes to the docroot through this server.
    writes: AtomicUsize,
}

impl Docroot {
    /// Opens the folder or regular file at `path` for serving. Fails if it is of another kind or
    /// may not be read.
    ///
    /// Where the kernel does not report the locations of open files, no link is followed.
    /// `Symlinks::All` is an error there.
    pub fn open(path: &Path, options: FileOptions) -> std::io::Result<Self> {
        let kind = FileType::from_raw_mode(std::fs::metadata(path)?.mode());
        match kind {
            FileType::Directory => Docroot::open_folder(path, None, options),
            FileType::RegularFile => Docroot::open_file(path, options),
            kind => Err(std::io::Error::other(format!("it is {}", described(kind)))),
        }
    }

    /// Opens the folder of a file, restricted to that file.
    ///
    /// The name is resolved again for each request, so a file that is replaced or deleted behaves
    /// as in a folder. A link that the operator named may lead anywhere, now and later. A link that
    /// replaces a file must not, because others may write to the folder.
    fn open_file(path: &Path, options: FileOptions) -> std::io::Result<Self> {
        // Not before the kind is known, because opening a named pipe waits for a writer.
        drop(std::fs::File::open(path)?);
        let path = std::path::absolute(path)?;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(std::io::Error::other("the path does not end in the name of a file"));
        };
        if is_hidden_name(name.as_bytes()) {
            return Err(std::io::Error::other("its name begins with a dot, and such files are not served"));
        }
        if !options.uploads.is_empty() {
            return Err(std::io::Error::other("it is a file, and uploads need a folder"));
        }
        let symlinks = match std::fs::symlink_metadata(&path)?.is_symlink() && location::is_reported() {
            true => Symlinks::All,
            false if options.symlinks == Symlinks::All => Symlinks::All,
            false => Symlinks::No,
        };
        Docroot::open_folder(folder, Some((&path, name.as_bytes(), symlinks)), options)
    }

    /// Opens the folder at `path`. With `only`, serves nothing but the file of that path and name.
    fn open_folder(
        path: &Path,
        only: Option<(&Path, &[u8], Symlinks)>,
        options: FileOptions,
    ) -> std::io::Result<Self> {
        let given = options.clone();
        let mut options = options;
        if let Some((_, _, symlinks)) = only {
            options =
                FileOptions { symlinks, listing: false, archives: false, precompressed: false, ..options };
        }
        options.symlinks = links_followed(options.symlinks, location::is_reported())
            .map_err(|why| std::io::Error::new(std::io::ErrorKind::Unsupported, why))?;
        // A coded page has no script, and is outdated as soon as its original changes.
        options.precompressed &= !options.live_reload;
        if !cfg!(feature = "compress") {
            options.compress_level = None;
            options.archives = false;
        }
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        // The folder of a file need not be readable.
        let access = if only.is_some() { OFlags::PATH } else { OFlags::RDONLY };
        let fd = rustix::fs::open(path, access | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let identity = root::identity(&rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH, STAMP_MASK)?);
        can_open_beneath(&fd)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let compressors = Semaphore::new(options.compressors_max as u64);
        let archives = Semaphore::new(options.archives_max as u64);
        let real_path = path.canonicalize()?;
        if root::folder_at(&real_path) != Some(identity) {
            return Err(std::io::Error::other("another folder took this name while it was opened"));
        }
        let uploads = with_locations(&real_path, &options.uploads);
        let upload_rights = rights_with_locations(&real_path, &options.upload_rights);
        let unlisted = with_locations(&real_path, &options.unlisted);
        let header_rules = HeaderRules::new(&options.headers, &uploads).map_err(std::io::Error::other)?;
        let types = Types::of(&options).map_err(std::io::Error::other)?;
        let withheld = WithheldFolders::find(&real_path, &options)?;
        let index = match only {
            Some((_, name, _)) => vec![name.to_vec()],
            None => options.index.iter().map(|name| name.clone().into_bytes()).collect(),
        };
        Ok(Docroot {
            fd,
            given_path: std::path::absolute(only.map_or(path, |(path, ..)| path))?,
            name: std::path::absolute(path)?,
            only: only.map(|(_, name, _)| name.to_vec()),
            index,
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
            upload_rights,
            unlisted,
            withheld,
            writes: AtomicUsize::new(0),
        })
    }

    /// Opens the folder that has this name now, with the options of this docroot. A file must be a
    /// file again, because whoever names it does not publish a folder.
    pub(crate) fn opened_again(&self) -> std::io::Result<Docroot> {
        let new = match &self.only {
            Some(_) => Docroot::open_file(&self.given_path, self.given.clone())?,
            None => Docroot::open_folder(&self.name, None, self.given.clone())?,
        };
        Ok(Docroot {
            compressors: Arc::clone(&self.compressors),
            archives: Arc::clone(&self.archives),
            guard: self.guard.clone(),
            own: Arc::clone(&self.own),
            refuse: self.refuse.clone(),
            ..new
        })
    }

    /// Checks that a single file can be served now, so that the error appears at the start.
    pub(crate) fn check_only(&self) -> std::io::Result<()> {
        if self.only.is_none() {
            return Ok(());
        }
        match self.peek(b"/", Disk::MayBlock) {
            Ok(_) => Ok(()),
            Err(LookupError::NotFound | LookupError::Unknown) => {
                let why =
                    "the file is hidden, one of the server's own, or behind a link that is not followed";
                Err(std::io::Error::other(why))
            }
            Err(error) => Err(std::io::Error::other(format!("{error:?}"))),
        }
    }

    /// Returns the name of the only file that is served, if that is not a folder.
    pub(crate) fn only(&self) -> Option<&[u8]> {
        self.only.as_deref()
    }

    /// Returns the real path of the folder or file that is served.
    pub(crate) fn served_path(&self) -> PathBuf {
        match &self.only {
            Some(_) => self.given_path.canonicalize().unwrap_or_else(|_| self.given_path.clone()),
            None => self.real_path().to_owned(),
        }
    }

    /// Returns whether no file at this path is served, because another one is the only one.
    fn leaves_out(&self, path: &[u8]) -> bool {
        let is_only = |name: &Vec<u8>| path == b"/" || path.strip_prefix(b"/") == Some(&name[..]);
        !self.only.as_ref().is_none_or(is_only)
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
        self.only.as_ref().is_none_or(|only| only == name.as_bytes())
            && rustix::fs::statx(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).is_ok()
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
        if self.withholds(path) || self.leaves_out(path) {
            return Err(LookupError::NotFound);
        }
        if !names_directory(name) {
            let fd = self.open_beneath(name, disk)?;
            let stat = stat(&fd)?;
            return match file_type(&stat) {
                FileType::Directory if self.only.is_some() => Err(LookupError::NotFound),
                FileType::Directory => match self.judge(&fd, &stat, path) {
                    Ok(Shown { password, .. }) => Ok(Found::WithoutSlash(password)),
                    // A link to a hidden folder. It is not listed, but its index is served.
                    Err(Withheld::Hidden) => match self.find(&[path, b"/"].concat(), disk, wall)? {
                        Found::File(index) => Ok(Found::WithoutSlash(index.meta.password)),
                        Found::Directory(..) | Found::WithoutSlash(_) => Err(LookupError::NotFound),
                    },
                    Err(why) => Err(why.into()),
                },
                FileType::RegularFile => self.load(fd, &stat, (path, None), disk, wall),
                _ => Err(LookupError::NotFound),
            };
        }
        for (at, index) in self.index.iter().enumerate() {
            let path = [path, &index[..]].concat();
            match self.open_beneath(path.strip_prefix(b"/").unwrap_or(&path), disk) {
                Ok(fd) => {
                    let stat = stat(&fd)?;
                    if file_type(&stat) == FileType::RegularFile {
                        return self.load(fd, &stat, (&path, Some(at)), disk, wall);
                    }
                }
                Err(LookupError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let directory = self.open_beneath(if name.is_empty() { b"." } else { name }, disk)?;
        let stat = stat(&directory)?;
        match file_type(&stat) {
            // Without links it was deleted, and exists only because of our descriptor.
            FileType::Directory if self.options.listing && stat.stx_nlink > 0 => {
                let Shown { password, location } = self.judge(&directory, &stat, path)?;
                match self.is_unlisted(path, &location) {
                    true => Err(LookupError::NotFound),
                    false => Ok(Found::Directory(directory, password)),
                }
            }
            _ => Err(LookupError::NotFound),
        }
    }

    /// Returns the path of a file that was found at `path`, with `suffix` appended. They differ if
    /// `path` is that of a folder and the file is its index.
    fn path_of(&self, path: &[u8], file: &Meta, suffix: &[u8]) -> Vec<u8> {
        [path, self.index_name(file).unwrap_or_default(), suffix].concat()
    }

    /// Returns the names of index files.
    pub(crate) fn index_names(&self) -> &[Vec<u8>] {
        &self.index
    }

    /// Returns the name of a file that was found as the index of a folder.
    pub(crate) fn index_name(&self, file: &Meta) -> Option<&[u8]> {
        Some(self.index.get(file.index?)?)
    }

    /// Returns the current stamp of a file that was found at `path`, or of one beside it whose name
    /// has this `suffix`. Costs one `statx`, for the freshness check.
    pub(crate) fn stamp(&self, path: &[u8], suffix: &[u8], file: &Meta) -> Option<Stamp> {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        let stat = if suffix.is_empty() && file.index.is_none() {
            rustix::fs::statx(&self.fd, name, AtFlags::empty(), STAMP_MASK)
        } else {
            rustix::fs::statx(&self.fd, self.path_of(name, file, suffix), AtFlags::empty(), STAMP_MASK)
        };
        stat.ok().map(|stat| Stamp::of(&stat))
    }

    /// Returns whether `path`, with `suffix` appended, still leads to the file that was loaded from
    /// there, at the same location. Costs one `statx`; one more for each index name with
    /// precedence; for a file behind a link also one open and two `readlink`.
    pub(crate) fn is_unchanged(&self, path: &[u8], suffix: &[u8], file: &Meta) -> bool {
        self.stamp(path, suffix, file) == Some(file.stamp)
            && !self.is_own(&file.stamp)
            && file.index.is_none_or(|at| at == 0 || self.lacks_index(path, at))
            && file.link_target.as_ref().is_none_or(|target| self.leads_to(path, suffix, file, target))
    }

    /// Returns whether the folder at `path` still has none of the first `count` index files.
    fn lacks_index(&self, path: &[u8], count: usize) -> bool {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        self.index.iter().take(count).all(|index| {
            let index = [name, &index[..]].concat();
            let found = rustix::fs::statx(&self.fd, index, AtFlags::empty(), StatxFlags::TYPE);
            match found.map_err(LookupError::from) {
                Ok(stat) => file_type(&stat) != FileType::RegularFile,
                Err(error) => error == LookupError::NotFound,
            }
        })
    }

    /// Returns whether a link still leads to the same location. The stamp does not show that a
    /// folder on the way was renamed, but hiding and passwords depend on the location.
    fn leads_to(&self, path: &[u8], suffix: &[u8], file: &Meta, target: &Location) -> bool {
        let path = self.path_of(path, file, suffix);
        let found = self.open_beneath(path.strip_prefix(b"/").unwrap_or(&path), Disk::CachedOnly);
        let shown = found.and_then(|fd| Ok(self.judge(&fd, &stat(&fd)?, &path)?));
        shown.is_ok_and(|shown| shown.location == *target)
    }
}
