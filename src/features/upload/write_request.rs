//! Write requests, and the state that all of them share.
//!
//! A write request is a request that would change files. Must not know how content reaches the
//! disk, or what each method does.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

use crate::clock::Now;
use crate::config::{Config, UploadRights};
use crate::docroot::Disk;
#[cfg(test)]
use crate::docroot::Docroot;
use crate::docroot::root::Root;
use crate::docroot::stamp::Stamp;
use crate::features::auth::guard::WriteGuards;
use crate::features::upload::destination::{self, Destination, EntryKind, Folder};
use crate::features::upload::folders::Folders;
use crate::features::upload::origin::Partners;
use crate::features::upload::owner::Owner;
use crate::features::upload::refusal::refuse_errno;
use crate::features::upload::rights;
use crate::features::upload::staged::Sweeper;
use crate::handler::Context;
use crate::handler::kept_request::KeptRequest;
use crate::http::conditional::{Precondition, Validators, evaluate, evaluate_absent, wants_new};
#[cfg(test)]
use crate::http::kept_head::KeptHead;
use crate::http::problem::over;
use crate::http::refusal::Refusal;
use crate::http::target::{self, encode_path};
use crate::http::{Method, Request, Response, Status};
use crate::jobs::pace::LeastRate;
use crate::jobs::sender_permits::{SenderPermit, SenderPermits};
use crate::log::Once;

pub(super) const UNEXPECTED: Refusal = Refusal::from_static(
    Status::PRECONDITION_FAILED,
    "the file does not match the conditions of the request",
);
pub(super) const TOO_LARGE: Refusal =
    Refusal::from_static(Status::CONTENT_TOO_LARGE, "the upload is too large");
pub(super) const TOO_LARGE_TO_KEEP: Refusal =
    Refusal::from_static(Status::CONTENT_TOO_LARGE, "the upload is too large to be kept for a later request");

/// State that all write requests share.
pub(crate) struct WriteState {
    /// Passwords for writing.
    pub(super) guards: WriteGuards,
    /// Other sites whose pages may write.
    pub(super) partners: Partners,
    /// Origins of refused pages, each logged once.
    pub(super) foreign: Once,
    /// Permits for uploads in progress.
    permits: Arc<SenderPermits>,
    /// Held from the check of the existing file until it is replaced. Of two writers with the same
    /// condition one must fail.
    pub(super) publishing: Mutex<()>,
    /// Limits for unfinished uploads.
    keep: KeepLimits,
    pub(super) folders: Folders,
    sweeper: Sweeper,
}

impl WriteState {
    pub(crate) fn new(config: &Config, guards: WriteGuards) -> WriteState {
        WriteState {
            guards,
            partners: Partners::of(&config.site.cors),
            foreign: Once::default(),
            permits: SenderPermits::new(
                config.limits.uploads_max,
                LeastRate::of(&config.limits, &config.timeouts),
            ),
            publishing: Mutex::new(()),
            keep: KeepLimits::of(config),
            folders: Folders::default(),
            sweeper: Sweeper::default(),
        }
    }
}

/// Limits of the table of unfinished uploads.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepLimits {
    pub(super) number_max: usize,
    pub(super) bytes_max: u64,
    /// `None` for no limit.
    pub(super) age_max: Option<Duration>,
}

impl KeepLimits {
    pub(super) fn of(config: &Config) -> Self {
        KeepLimits {
            number_max: config.limits.partials_max,
            bytes_max: config.limits.partials_room(),
            age_max: config.timeouts.partial,
        }
    }
}

/// A write request, kept for the jobs that carry it out.
pub(super) struct WriteRequest {
    pub(super) shared: Arc<WriteState>,
    pub(super) root: Arc<Root>,
    /// Upload folder that contains the path.
    pub(super) area: String,
    /// Normalized path.
    pub(super) path: Vec<u8>,
    /// Rights at that path. Another name of the entry can have less: see [`Destination::rights`].
    pub(super) rights: UploadRights,
    pub(super) request: KeptRequest,
    /// Path as the client sent it, if references in the response can be relative to it.
    pub(super) base: Option<Vec<u8>>,
    pub(super) now: Now,
    pub(super) owner: Owner,
}

impl WriteRequest {
    /// Checks that need only the head.
    pub(super) fn check(&self, request: &Request<'_>) -> Result<(), Refusal> {
        destination::check_path(&self.path)?;
        match request.method() {
            // Existing files with such names can be deleted and renamed.
            Method::Delete | Method::Head | Method::Other("MOVE") => Ok(()),
            _ => destination::check_direction(&self.path),
        }
    }

    /// Response for a refusal.
    pub(super) fn refuse(&self, refusal: Refusal) -> Response {
        let status = refusal.status();
        let response = if refusal == TOO_LARGE {
            Response::problem(status, over(self.request.limits().upload_bytes_max, "upload"))
        } else if refusal == TOO_LARGE_TO_KEEP {
            let detail = over(self.shared.keep.bytes_max, "upload") + ", and cannot be resumed";
            Response::problem(status, detail)
        } else {
            refusal.into()
        };
        match status {
            Status::CONTENT_TOO_LARGE => response.with_header("Upload-Limit", limits(self)),
            Status::METHOD_NOT_ALLOWED => response.with_header("Allow", rights::allow(self.rights)),
            _ => response,
        }
    }

    /// Reference to this path of the server, for `Location`.
    pub(super) fn reference(&self, path: &[u8]) -> Vec<u8> {
        target::reference(self.base.as_deref(), path)
    }

    /// Refuses content longer than the limit.
    pub(super) fn check_size(&self, bytes: Option<u64>) -> Result<(), Refusal> {
        match bytes.is_some_and(|bytes| bytes > self.request.limits().upload_bytes_max) {
            true => Err(TOO_LARGE),
            false => Ok(()),
        }
    }

    /// Acquires a permit for an upload in progress.
    pub(super) fn acquire_permit(&self, cx: &Context<'_>) -> Result<SenderPermit, Refusal> {
        let busy = Refusal::new(Status::SERVICE_UNAVAILABLE, "too many uploads are under way");
        self.shared.permits.acquire(cx.waker(), cx.now().mono).ok_or(busy)
    }

    /// Checks the conditions of the request against the existing entry. An existing file that
    /// belongs to the server is refused.
    pub(super) fn check_conditions(
        &self,
        destination: &Destination,
        found: EntryKind,
    ) -> Result<(), Refusal> {
        if let EntryKind::File(stamp) = found
            && self.root.current().is_own(&stamp)
        {
            return Err(destination::OWN);
        }
        let verdict = self.request.with(|request| match found {
            EntryKind::Nothing | EntryKind::Folder | EntryKind::Other => evaluate_absent(request.headers()),
            EntryKind::File(stamp) => {
                let headers = request.headers();
                let asks = ["if-match", "if-none-match"].iter().any(|name| headers.first(name).is_some());
                // A file that cannot be read has no tag, so conditions on one fail.
                let etag = asks.then(|| self.tag_at(destination)).flatten().unwrap_or_default();
                let validators = Validators { etag: &etag, modified_secs: stamp.last_modified() };
                evaluate(headers, request.method(), &validators, self.now.unix_secs())
            }
        });
        match verdict {
            Some(Precondition::Proceed) => Ok(()),
            Some(Precondition::Failed | Precondition::NotModified) => Err(UNEXPECTED),
            None => Err(Refusal::new(Status::INTERNAL_SERVER_ERROR, "the request was lost")),
        }
    }

    /// Entity tag of the existing file.
    fn tag_at(&self, destination: &Destination) -> Option<Vec<u8>> {
        let (file, stamp) = destination.open_file().ok()?;
        self.tag_of(&file, &stamp, self.now.wall)
    }

    /// Entity tag of an open file at the time `wall`, as a GET sends it.
    pub(super) fn tag_of(&self, file: &OwnedFd, stamp: &Stamp, wall: Duration) -> Option<Vec<u8>> {
        let tag = self.root.current().tag(file, stamp, None, Disk::MayBlock, wall);
        tag.ok().map(|tag| tag.value)
    }

    /// Returns true if the request requires that the name is new.
    pub(super) fn wants_new_name(&self) -> bool {
        self.request.with(|request| wants_new(request.headers())).unwrap_or(false)
    }

    /// Opens the folder of `path` below the folder that the root leads to now, and returns the
    /// entry if the client may write it.
    pub(super) fn destination(&self, path: &[u8]) -> Result<Destination, Refusal> {
        self.root.follow();
        let mut destination = Destination::of(&self.root.docroot(), &self.area, path)?;
        self.check_passwords(path, &destination)?;
        destination.folder = self.shared.folders.share(destination.folder);
        Ok(destination)
    }

    /// Opens the folder of `path` below the folder that the root leads to now.
    pub(super) fn folder(&self, path: &[u8]) -> Result<Folder, Refusal> {
        self.root.follow();
        let mut folder = destination::open_folder(&self.root.docroot(), &self.area, path)?;
        folder.fd = self.shared.folders.share(folder.fd);
        Ok(folder)
    }

    /// Returns the entry of an open folder that has the path `path`, if the client may write it.
    pub(super) fn entry(&self, folder: &Folder, path: &[u8]) -> Result<Destination, Refusal> {
        let destination = folder.entry(&self.root.current(), path)?;
        self.check_passwords(path, &destination)?;
        Ok(destination)
    }

    /// Refuses an entry with another password than the path of the request.
    ///
    /// A form names its files itself, and a link can lead to a folder with a password of its own.
    fn check_passwords(&self, path: &[u8], destination: &Destination) -> Result<(), Refusal> {
        let is_same = |other: &[u8]| self.shared.guards.is_same_for(&self.path, other);
        match is_same(path) && destination.places.iter().all(|path| is_same(path)) {
            true => Ok(()),
            false => Err(Refusal::new(Status::FORBIDDEN, "that path requires another password")),
        }
    }

    /// Removes files that crashes left in this folder, if the last sweep is old enough.
    pub(super) fn sweep(&self, folder: &OwnedFd) {
        self.shared.sweeper.sweep(folder, self.now, self.shared.keep.age_max);
    }
}

/// Value of the `Upload-Limit` header.
pub(super) fn limits(write_request: &WriteRequest) -> String {
    let keep = &write_request.shared.keep;
    let bytes_max = write_request.request.limits().upload_bytes_max.min(match keep.bytes_max {
        // No upload can be resumed, and others may have any size up to the upload limit.
        0 => u64::MAX,
        bytes => bytes,
    });
    match keep.age_max {
        Some(age) => format!("max-size={bytes_max}, max-age={}", age.as_secs()),
        None => format!("max-size={bytes_max}"),
    }
}

/// Refuses an existing entry that an upload must not replace.
pub(super) fn replaceable(found: EntryKind) -> Result<(), Refusal> {
    match found {
        EntryKind::Nothing | EntryKind::File(_) => Ok(()),
        EntryKind::Folder => Err(refuse_errno(Errno::ISDIR)),
        EntryKind::Other => Err(Refusal::new(Status::CONFLICT, "a link or device has that name")),
    }
}

/// Percent-encoded path.
pub(super) fn encoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    encode_path(path, &mut out);
    out
}

/// Response for a written file: 201 with its location, or 204 if it replaced another.
pub(super) fn written(location: &[u8], is_new: bool, etag: Option<Vec<u8>>) -> Response {
    let response = match is_new {
        true => Response::new(Status::CREATED).with_header("Location", location),
        false => Response::new(Status::NO_CONTENT),
    };
    match etag {
        Some(etag) => response.by_server().with_header("ETag", etag),
        None => response.by_server(),
    }
}

#[cfg(test)]
impl WriteRequest {
    /// Write request for tests, in a docroot that may be written everywhere.
    pub(super) fn of(root: &std::path::Path, head: &str) -> WriteRequest {
        use crate::http::head::{FieldSlots, parse};
        let mut config = Config::default();
        config.limits.upload_bytes_max = u64::MAX;
        config.files.uploads = vec![String::new()];
        let guards = WriteGuards::default();
        let mut slots = FieldSlots::new();
        let request = parse(head.as_bytes(), &mut slots, &config.limits).unwrap();
        WriteRequest {
            shared: Arc::new(WriteState::new(&config, guards)),
            root: Arc::new(Root::of(Arc::new(Docroot::open(root, config.files.clone()).unwrap()))),
            area: String::new(),
            path: request.path().to_vec(),
            rights: UploadRights::default(),
            request: KeptRequest::new(KeptHead::of(&request), &config.limits),
            base: request.base().map(<[u8]>::to_vec),
            owner: Owner::default(),
            now: Now { mono: crate::clock::read_clocks().mono, wall: Duration::from_secs(1 << 31) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::upload::staged;

    /// Regression: each process swept a folder only once, so later leftovers stayed.
    #[test]
    fn a_folder_is_swept_again_a_day_later() {
        let scratch = tempfile::tempdir().unwrap();
        let mut write_request = WriteRequest::of(scratch.path(), "PUT /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let hidden_name = scratch.path().join(".whirligig-0123456789abcdef");
        let folder = write_request.destination(b"/a").unwrap().folder;
        let mut is_swept = |later: u32| {
            std::fs::write(&hidden_name, "").unwrap();
            write_request.now.mono += staged::LEFTOVER_AGE * later;
            write_request.sweep(&folder);
            !hidden_name.exists()
        };
        assert_eq!([0, 0, 2, 0].map(&mut is_swept), [true, false, true, false]);
    }
}
