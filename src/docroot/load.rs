//! Loading: makes a [`CachedFile`] with type, entity-tag, headers and content from an open file.
//!
//! Must not know requests or responses.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use smallvec::SmallVec;

use crate::config::{EtagFrom, LIVE_PAGE_BYTES_MAX, LIVE_TAG};
use crate::docroot::coded_files::suffix;
use crate::docroot::file::{CachedFile, Coded, Content, Meta};
use crate::docroot::header_rules::FileHeaders;
use crate::docroot::location::{self, Location};
use crate::docroot::read::{read_head, read_whole};
use crate::docroot::stamp::{Stamp, file_type, stat};
use crate::docroot::tag::{self, Tag};
use crate::docroot::types::ContentType;
use crate::docroot::verdict::{Shown, Withheld};
use crate::docroot::{Disk, Docroot, Found, LookupError, area_of, fingerprint};
use crate::http::negotiate::Coding;
use crate::http::open_file::OpenFile;

impl Docroot {
    /// Loads the file that was opened for `path`. The second part of the pair is the position of
    /// its name among those of index files, if a folder was requested.
    pub(super) fn load(
        &self,
        fd: OwnedFd,
        stat: &rustix::fs::Statx,
        (path, index): (&[u8], Option<usize>),
        disk: Disk,
        wall: Duration,
    ) -> Result<Found, LookupError> {
        let Shown { location, password } = self.judge(&fd, stat, path)?;
        let (stamp, name) = (Stamp::of(stat), location.name());
        let ruled = self.ruled_type(path, name);
        let media_type = ruled.unwrap_or_else(|| self.types.by_name(name));
        let body = self.read(&fd, media_type, stamp.size, disk)?;
        let head = match &body {
            Some(body) => Cow::Borrowed(&body[..]),
            None => read_head(&fd, stamp.size, self.types.looked_at_bytes(media_type, name), disk)?.into(),
        };
        let content_type = match ruled {
            Some(media_type) => ContentType { value: media_type.into(), coding: None },
            None => self.types.of_file(media_type, name, &head),
        };
        let tag = self.tag(&fd, &stamp, body.as_deref(), disk, wall)?;
        let mut meta = Meta::of(stamp, tag, content_type);
        let is_uploaded = self.is_uploaded(path, &location, disk)?;
        meta.headers = Arc::new(self.headers_for(path, name, is_uploaded, &meta.content_type));
        (meta.password, meta.link_target) = (password, link_target(path, &location));
        meta.index = index;
        Ok(Found::File(Arc::new(self.loaded(fd, meta, body))))
    }

    /// Returns the entity-tag of an open file with this `stamp` at the time `wall`. `body` is its
    /// content if that was read.
    pub(crate) fn tag(
        &self,
        file: &OwnedFd,
        stamp: &Stamp,
        body: Option<&[u8]>,
        disk: Disk,
        wall: Duration,
    ) -> Result<Tag, LookupError> {
        Tag::of(self.options.etag, (file, stamp), body, disk, wall)
    }

    /// Returns the media type that a rule of the operator sets for a file at location `name` that
    /// was requested by `path`. The location has precedence over the name of a link.
    fn ruled_type(&self, path: &[u8], name: &[u8]) -> Option<&str> {
        let ruled = self.header_rules.media_type_for(&location::from_slash(name));
        ruled.or_else(|| self.header_rules.media_type_for(path))
    }

    /// Returns the headers of a file at location `name` that was requested by `path`.
    ///
    /// Without Cache-Control, a browser reuses a file for a tenth of its age (RFC 9111 section
    /// 4.2.2). That is right only for names with a fingerprint. A link may give an old name to a
    /// new file, so both names need one. Files that clients may have written must not act for this
    /// origin. So browsers guess no type for them and run no script in them.
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
        // Chromium shows no PDF in a sandbox. Scripts in a PDF do not run in this origin anyway.
        if is_uploaded && content_type != "application/pdf" {
            defaults.push(SANDBOX);
        }
        self.header_rules.headers_for(&location::from_slash(name), &defaults)
    }

    /// Returns whether clients may have written the file at `path`, whose location is `location`.
    ///
    /// An upload folder is recognized by its name, its location at the start and its present
    /// location. Someone may have created it since, as a link.
    fn is_uploaded(&self, path: &[u8], location: &Location, disk: Disk) -> Result<bool, LookupError> {
        if self.uploads.is_empty() {
            return Ok(false);
        }
        let is_below = |path: &[u8]| area_of(&self.uploads, path).is_some();
        if is_below(path) || location.possible_paths().any(|path| is_below(&path)) {
            return Ok(true);
        }
        for area in &self.options.uploads {
            let folder = match self.open_as(area.trim_start_matches('/').as_bytes(), OFlags::PATH, disk) {
                Ok(folder) => folder,
                // No client has written there by that name.
                Err(LookupError::NotFound | LookupError::Forbidden) => continue,
                Err(error) => return Err(error),
            };
            let place = self.locate(&folder, area.as_bytes()).map_err(|_| LookupError::Unknown)?;
            if place.holds(location) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the file that holds `original` in this coding, if one lies beside it. The stamp is
    /// returned even if the file may not be served.
    pub(crate) fn find_coded(
        &self,
        path: &[u8],
        coding: Coding,
        original: &CachedFile,
        disk: Disk,
        wall: Duration,
    ) -> Result<(Stamp, Option<CachedFile>), LookupError> {
        let path = self.path_of(path, &original.meta, suffix(coding));
        let fd = self.open_beneath(path.strip_prefix(b"/").unwrap_or(&path), disk)?;
        let stat = stat(&fd)?;
        let stamp = Stamp::of(&stat);
        if file_type(&stat) != FileType::RegularFile {
            return Ok((stamp, None));
        }
        let location = match self.judge(&fd, &stat, &path) {
            Ok(shown) if shown.password == original.meta.password => shown.location,
            Err(Withheld::Unknown) => return Err(LookupError::Unknown),
            Ok(_) | Err(_) => return Ok((stamp, None)),
        };
        let body = self.read(&fd, &original.meta.content_type, stamp.size, disk)?;
        let mut tag = self.tag(&fd, &stamp, body.as_deref(), disk, wall)?;
        if self.options.etag == EtagFrom::Content {
            // The same bytes without a coding are another representation.
            tag.value = tag::of_form(&tag.value, coding.name());
        }
        let (coded, link_target) = (Coded::Beside(coding), link_target(&path, &location));
        let meta = Meta { stamp, tag, coded, link_target, ..original.meta.clone() };
        Ok((stamp, Some(self.loaded(fd, meta, body))))
    }

    /// Reads the content of a small file, or of a page that gets a script. Other files stay on the
    /// disk.
    fn read(
        &self,
        fd: &OwnedFd,
        media_type: &str,
        size: u64,
        disk: Disk,
    ) -> Result<Option<Vec<u8>>, LookupError> {
        let is_small = size <= self.options.memory_file_bytes_max || self.is_reloading(media_type, size);
        is_small.then(|| read_whole(fd, size, disk)).transpose()
    }

    /// Returns whether a file of this type and size gets the script of `--live-reload`.
    fn is_reloading(&self, media_type: &str, size: u64) -> bool {
        self.options.live_reload && media_type.starts_with("text/html") && size <= LIVE_PAGE_BYTES_MAX
    }

    /// Creates a file with its content, if that was read.
    fn loaded(&self, fd: OwnedFd, mut meta: Meta, body: Option<Vec<u8>>) -> CachedFile {
        let Some(mut body) = body else {
            return CachedFile::new(meta, Content::OnDisk(Arc::new(OpenFile::new(fd))), b"");
        };
        if self.is_reloading(&meta.content_type, meta.stamp.size) {
            body.extend_from_slice(LIVE_TAG);
            // With the script it is another representation, so a client that has the page without
            // it must not get a 304.
            meta.tag.value = tag::of_form(&meta.tag.value, "live");
        }
        CachedFile::new(meta, Content::InMemory, &body)
    }
}

/// Returns the location that a link led to. `None` if the file is at the requested path.
fn link_target(path: &[u8], location: &Location) -> Option<Box<Location>> {
    (location.below() != Some(path)).then(|| Box::new(location.clone()))
}
