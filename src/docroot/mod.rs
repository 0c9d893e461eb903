//! The docroot on disk: names resolved beneath it, files opened and read.
//!
//! `openat2` keeps every name beneath the root, links and races included (openat2(2),
//! RESOLVE_BENEATH). With `Reach::InMemory` nothing here waits for the disk: a name or page that
//! the kernel does not have in memory is `Trouble::Cold`, and a worker thread repeats the call with
//! `Reach::OnDisk`. Must not know requests or responses.

pub(crate) mod cache;
pub(crate) mod charset;
pub(crate) mod fields;
pub(crate) mod file;
pub(crate) mod fingerprint;
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

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use smallvec::SmallVec;

use crate::config::{EtagFrom, FileOptions, LIVE_PAGE_BYTES_MAX, LIVE_TAG, Symlinks};
use crate::docroot::fields::{FieldRules, FileHeaders};
use crate::docroot::file::{CachedFile, Coded, Content, Meta};
use crate::docroot::location::Location;
use crate::docroot::own::OwnFiles;
use crate::docroot::read::read_head;
use crate::docroot::read::read_whole;
use crate::docroot::root::Identity;
use crate::docroot::siblings::suffix;
use crate::docroot::stamp::STAMP_MASK;
use crate::docroot::stamp::Stamp;
use crate::docroot::stamp::file_type;
use crate::docroot::stamp::stat;
use crate::docroot::tag::Tag;
use crate::docroot::types::{ContentType, Types};
use crate::docroot::verdict::{Shown, Withheld};
use crate::handler::passwords::{Password, Passwords};
use crate::http::negotiate::Coding;
use crate::http::send_queue::OpenFile;
use crate::http::{Request, Response};
use crate::jobs::places::Places;
use crate::shortage;

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

/// How often an open that was interrupted or raced is tried again.
const OPEN_TRIES: usize = 32;

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
    pub(crate) compressors: Arc<Places>,
    /// For archives in the making.
    pub(crate) archives: Arc<Places>,
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
        let compressors = Places::new(options.compressors_max);
        let archives = Places::new(options.archives_max);
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

    /// Opens a name beneath the root. A FIFO or a device does not hold us (O_NONBLOCK), a terminal
    /// does not become ours (O_NOCTTY).
    pub(crate) fn open_beneath(&self, name: &[u8], reach: Reach) -> Result<OwnedFd, Trouble> {
        self.open_as(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, reach)
    }

    fn open_as(&self, name: &[u8], flags: OFlags, reach: Reach) -> Result<OwnedFd, Trouble> {
        let flags = flags | OFlags::CLOEXEC;
        let mut resolve = match self.options.symlinks {
            Symlinks::Inside => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Symlinks::No => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            // Dot segments are gone already, so only a link can lead out, and that is what was
            // asked for.
            Symlinks::All => ResolveFlags::NO_MAGICLINKS,
        };
        if reach == Reach::InMemory {
            resolve |= ResolveFlags::CACHED;
        }
        for _ in 0..OPEN_TRIES {
            match rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve) {
                Ok(fd) => return Ok(fd),
                Err(Errno::INTR) => {}
                // Off the loop AGAIN means that a rename raced with a `..` in a link (openat2(2)):
                // look again. It also stands for a lease that another process holds (fcntl(2)), and
                // that may take long: then give up.
                Err(Errno::AGAIN) if reach == Reach::OnDisk => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Trouble::Cold)
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

    fn load(
        &self,
        fd: OwnedFd,
        stat: &rustix::fs::Statx,
        path: &[u8],
        reach: Reach,
        wall: Duration,
    ) -> Result<Found, Trouble> {
        let Shown { location, password } = self.judge(&fd, stat, path)?;
        let (stamp, name) = (Stamp::of(stat), location.name());
        let ruled = self.ruled_type(path, name);
        let media_type = ruled.unwrap_or_else(|| self.types.by_name(name));
        let body = self.read(&fd, media_type, stamp.size, reach)?;
        let head = match &body {
            Some(body) => Cow::Borrowed(&body[..]),
            None => read_head(&fd, stamp.size, self.types.looked_at_bytes(media_type, name), reach)?.into(),
        };
        let content_type = match ruled {
            Some(media_type) => ContentType { value: media_type.into(), coding: None },
            None => self.types.of_file(media_type, name, &head),
        };
        let tag = self.tag(&fd, &stamp, body.as_deref(), reach, wall)?;
        let mut meta = Meta::of(stamp, tag, content_type);
        let is_uploaded = self.is_uploaded(path, &location, reach)?;
        meta.headers = Arc::new(self.headers_for(path, name, is_uploaded, &meta.content_type));
        (meta.password, meta.link_target) = (password, link_target(path, &location));
        Ok(Found::File(Arc::new(self.loaded(fd, meta, body))))
    }

    /// The entity-tag of an open file that looks like `stamp`, at the time `wall`. `body` is its
    /// content if that was read.
    pub(crate) fn tag(
        &self,
        file: &OwnedFd,
        stamp: &Stamp,
        body: Option<&[u8]>,
        reach: Reach,
        wall: Duration,
    ) -> Result<Tag, Trouble> {
        Tag::of(self.options.etag, (file, stamp), body, reach, wall)
    }

    /// The media type that a rule of the operator gives the file that was asked for by `path` and
    /// lies at `name`. The place counts before the name of a link.
    fn ruled_type(&self, path: &[u8], name: &[u8]) -> Option<&str> {
        let ruled = self.fields.media_type_for(&location::from_slash(name));
        ruled.or_else(|| self.fields.media_type_for(path))
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

    /// The headers of the file that was asked for by `path` and lies at `name`.
    ///
    /// A browser keeps a file that says nothing about it for a tenth of its age without asking (RFC
    /// 9111 section 4.2.2). That is right only for names with a fingerprint; a link may give an old
    /// name to a new file, so both names need one. Files that clients may have written must not act
    /// in the name of this site. So a browser guesses no type for them and runs no script in them.
    fn headers_for(&self, path: &[u8], name: &[u8], is_uploaded: bool, content_type: &str) -> FileHeaders {
        const NO_CACHE: (&str, &str) = ("Cache-Control", "no-cache");
        const NO_SNIFFING: (&str, &str) = ("x-content-type-options", "nosniff");
        const SANDBOX: (&str, &str) = ("content-security-policy", "sandbox");
        let is_constant = fingerprint::is_in(path) && fingerprint::is_in(name);
        let mut defaults = SmallVec::<[_; 3]>::new();
        // A page that reloads must not take its style from the browser's cache, whatever its name.
        if !is_constant || self.options.live_reload {
            defaults.push(NO_CACHE);
        }
        if is_uploaded {
            defaults.push(NO_SNIFFING);
        }
        // Chromium shows no PDF in a sandbox, and what runs in one is not of this site anyway.
        if is_uploaded && content_type != "application/pdf" {
            defaults.push(SANDBOX);
        }
        self.fields.headers_for(&location::from_slash(name), &defaults)
    }

    /// Returns whether clients may have written the file at `path`, which lies at `location`.
    ///
    /// A folder for uploads counts by its name, and by the places where it lay at the start and
    /// lies now. For it may have been made since, as a link.
    fn is_uploaded(&self, path: &[u8], location: &Location, reach: Reach) -> Result<bool, Trouble> {
        if self.uploads.is_empty() {
            return Ok(false);
        }
        let is_below = |path: &[u8]| area_of(&self.uploads, path).is_some();
        if is_below(path) || location.possible_paths().any(|path| is_below(&path)) {
            return Ok(true);
        }
        for area in &self.options.uploads {
            let folder = match self.open_as(area.trim_start_matches('/').as_bytes(), OFlags::PATH, reach) {
                Ok(folder) => folder,
                // Then nothing was written there by that name.
                Err(Trouble::NotFound | Trouble::Forbidden) => continue,
                Err(trouble) => return Err(trouble),
            };
            let place = self.locate(&folder, area.as_bytes()).map_err(|_| Trouble::Unknown)?;
            if place.holds(location) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The file that holds `original` in this coding, if there is one beside it; and how it looks
    /// on the disk, also where it may not be served.
    pub(crate) fn find_coded(
        &self,
        path: &[u8],
        coding: Coding,
        original: &CachedFile,
        reach: Reach,
        wall: Duration,
    ) -> Result<(Stamp, Option<CachedFile>), Trouble> {
        let path = file_name(path, suffix(coding));
        let fd = self.open_beneath(path.strip_prefix(b"/").unwrap_or(&path), reach)?;
        let stat = stat(&fd)?;
        let stamp = Stamp::of(&stat);
        if file_type(&stat) != FileType::RegularFile {
            return Ok((stamp, None));
        }
        let location = match self.judge(&fd, &stat, &path) {
            Ok(shown) if shown.password == original.meta.password => shown.location,
            Err(Withheld::Unknown) => return Err(Trouble::Unknown),
            Ok(_) | Err(_) => return Ok((stamp, None)),
        };
        let body = self.read(&fd, &original.meta.content_type, stamp.size, reach)?;
        let mut tag = self.tag(&fd, &stamp, body.as_deref(), reach, wall)?;
        if self.options.etag == EtagFrom::Content {
            // The same bytes without a coding are another representation.
            tag.value = tag::of_form(&tag.value, coding.name());
        }
        let (coded, link_target) = (Coded::Beside(coding), link_target(&path, &location));
        let meta = Meta { stamp, tag, coded, link_target, ..original.meta.clone() };
        Ok((stamp, Some(self.loaded(fd, meta, body))))
    }

    /// The content of a small file, and of a page that gets a script. That of others stays where it
    /// is.
    fn read(
        &self,
        fd: &OwnedFd,
        media_type: &str,
        size: u64,
        reach: Reach,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let is_small = size <= self.options.memory_file_bytes_max || self.is_reloading(media_type, size);
        is_small.then(|| read_whole(fd, size, reach)).transpose()
    }

    /// Returns whether a file of this type and size gets the script of `--live-reload`.
    fn is_reloading(&self, media_type: &str, size: u64) -> bool {
        self.options.live_reload && media_type.starts_with("text/html") && size <= LIVE_PAGE_BYTES_MAX
    }

    /// A file with its content, if that was read.
    fn loaded(&self, fd: OwnedFd, mut meta: Meta, body: Option<Vec<u8>>) -> CachedFile {
        let Some(mut body) = body else {
            return CachedFile::new(meta, Content::OnDisk(Arc::new(OpenFile::new(fd))), b"");
        };
        if self.is_reloading(&meta.content_type, meta.stamp.size) {
            body.extend_from_slice(LIVE_TAG);
            // With the script it is another representation: who has it without must not be told
            // that it is the same.
            meta.tag.value = tag::of_form(&meta.tag.value, "live");
        }
        CachedFile::new(meta, Content::InMemory, &body)
    }
}

/// The place that a link led to: nothing if the file lies where it was asked for.
fn link_target(path: &[u8], location: &Location) -> Option<Box<Location>> {
    (location.below() != Some(path)).then(|| Box::new(location.clone()))
}

/// The links that are followed, where the places of open files are reported or not. By its place it
/// is decided whether a file may be shown, so without that no link is followed.
pub(crate) fn links_followed(asked: Symlinks, is_reported: bool) -> Result<Symlinks, &'static str> {
    match asked {
        asked if is_reported => Ok(asked),
        Symlinks::Inside | Symlinks::No => Ok(Symlinks::No),
        Symlinks::All => Err(
            "--symlinks all needs /proc/self/fd, which cannot be read here: mount /proc, or leave the flag out",
        ),
    }
}

/// Folders that are not for reading, links resolved.
#[derive(Debug, Default)]
struct WithheldFolders {
    /// The absolute names of all of them, and what these led to.
    named: Vec<(PathBuf, Identity)>,
    /// Those below the docroot, as paths from there that begin with a slash.
    below: Vec<Vec<u8>>,
    /// The others, as paths on this machine. Links that may lead anywhere lead there, too.
    outside: Vec<Vec<u8>>,
}

impl WithheldFolders {
    fn find(root: &Path, options: &FileOptions) -> std::io::Result<Self> {
        let mut folders = WithheldFolders::default();
        for folder in &options.withheld {
            let named = |error| std::io::Error::other(format!("'{}': {error}", folder.display()));
            let name = std::path::absolute(folder)?;
            let folder = folder.canonicalize().map_err(named)?;
            let identity = root::folder_at(&folder).ok_or_else(|| named(Errno::NOTDIR.into()))?;
            folders.named.push((name, identity));
            let Ok(inside) = folder.strip_prefix(root) else {
                folders.outside.push(folder.into_os_string().into_encoded_bytes());
                continue;
            };
            let part = |part: &std::ffi::OsStr| [b"/", part.as_encoded_bytes()].concat();
            let path: Vec<u8> = inside.iter().flat_map(part).collect();
            if path.is_empty() {
                let what = format!("'{}' holds programs, and would give them out", folder.display());
                return Err(std::io::Error::other(what));
            }
            folders.below.push(path);
        }
        Ok(folders)
    }
}

/// Returns whether a path is that of one of these folders, or leads into it.
fn leads_into(folders: &[Vec<u8>], path: &[u8]) -> bool {
    let behind = |folder: &Vec<u8>| path.strip_prefix(&folder[..]);
    folders.iter().filter_map(behind).any(|rest| matches!(rest, [] | [b'/', ..]))
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

/// An old kernel does not know how to keep a name beneath a folder, and some sandboxes forbid what
/// they do not know. Then every request would fail: better nothing is started.
fn can_open_beneath(folder: &OwnedFd) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::CACHED;
    match rustix::fs::openat2(folder, c".", flags, Mode::empty(), resolve) {
        Err(errno @ (Errno::NOSYS | Errno::INVAL | Errno::PERM)) => {
            let why = format!("files cannot be opened safely, since openat2 does not work here: {errno}");
            Err(std::io::Error::new(std::io::ErrorKind::Unsupported, why))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Upload folder that contains this normalized path. If upload folders are nested, the innermost
/// one.
pub(crate) fn area_of<'a>(areas: &'a [String], path: &[u8]) -> Option<&'a str> {
    let covers = |area: &&String| {
        path.strip_prefix(area.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    };
    areas.iter().filter(covers).max_by_key(|area| area.len()).map(String::as_str)
}

/// Returns whether this is the name of a hidden file or folder.
pub(crate) fn is_hidden_name(name: &[u8]) -> bool {
    name.starts_with(b".") && name != b".well-known"
}

/// True if a normalised path has a component that begins with a dot. The folder `/.well-known` is
/// public (RFC 8615).
pub(crate) fn is_hidden(path: &[u8]) -> bool {
    let rest = path.strip_prefix(b"/.well-known").filter(|rest| matches!(rest, [] | [b'/', ..]));
    let path = rest.unwrap_or(path);
    path.starts_with(b".") || memchr::memmem::find(path, b"/.").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_a_dot_is_hidden() {
        let cases: &[(&[u8], bool)] = &[
            (b"/", false),
            (b"/a.b/c", false),
            (b"/.a", true),
            (b"/a/.b/c", true),
            (b"/.well-known/security.txt", false),
            (b"/.well-known/.secret", true),
            (b"/.well-known", false),
            (b"/.well-known/", false),
            (b"/.well-knowns/a", true),
            (b"/a/.well-known/b", true),
            (b".a", true),
        ];
        for (path, expected) in cases {
            assert_eq!(is_hidden(path), *expected, "{}", path.escape_ascii());
        }
    }
}
