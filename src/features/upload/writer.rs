//! Writers: the content of one request on its way into an upload, and the finished upload on its
//! way to a file.
//!
//! Must not know how content arrives.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::io::Errno;

use crate::clock::read_wall_clock;
use crate::config::UploadRight;
use crate::features::resume_token;
use crate::features::upload::destination::{Destination, EntryKind};
use crate::features::upload::partial::{DISCARDED, PUBLISHING, Partial, Stage, State, read_clock};
use crate::features::upload::partials::Partials;
use crate::features::upload::refusal::refuse_errno;
use crate::features::upload::resume::ResumeHeaders;
use crate::features::upload::rights::{check_kind, refused};
use crate::features::upload::staged::{ExistingFile, StagedFile};
use crate::features::upload::write_request::{
    TOO_LARGE, TOO_LARGE_TO_KEEP, UNEXPECTED, WriteRequest, limits, replaceable, written,
};
use crate::http::refusal::Refusal;
use crate::http::{Response, Status};
use crate::sync::lock;

/// Writer of the content of one request to an upload.
pub(crate) struct Writer {
    partial: Arc<Partial>,
    partials: Arc<Partials>,
    epoch: u64,
    /// True if this request completes the upload.
    completes: bool,
    /// True if the client uses resumption headers.
    is_resumable: bool,
    is_append: bool,
    /// Content of this request that has not arrived, in bytes, if known.
    left: Option<u64>,
    /// Reference to the file, for a response to this request.
    location: Vec<u8>,
}

const SUPERSEDED: Refusal = Refusal::from_static(Status::CONFLICT, "another request continues this upload");
const NO_ROOM: Refusal =
    Refusal::from_static(Status::SERVICE_UNAVAILABLE, "too many unfinished uploads are kept");

impl Writer {
    /// Begins an upload. `bytes` is the length of the content of this request, if known.
    pub(crate) fn begin(
        write_request: &Arc<WriteRequest>,
        partials: &Arc<Partials>,
        resume_headers: &ResumeHeaders,
        bytes: Option<u64>,
    ) -> Result<Writer, Refusal> {
        let destination = write_request.destination(&write_request.path)?;
        let found = destination.kind().map_err(refuse_errno)?;
        replaceable(found)?;
        write_request.check_conditions(&destination, found)?;
        check_kind(destination.rights, found)?;
        write_request.sweep(&destination.folder);
        let staged = StagedFile::begin(&destination.folder).map_err(refuse_errno)?;
        let length = resume_headers.length_with(0, bytes);
        if !staged.has_room(length.max(bytes).unwrap_or(0)) {
            return Err(refuse_errno(Errno::NOSPC));
        }
        let is_kept = match resume_headers.complete {
            Some(_) if partials.takes(length) => true,
            Some(false) => return Err(TOO_LARGE_TO_KEEP),
            Some(true) | None => false,
        };
        let partial = Arc::new(Partial {
            write_request: Arc::clone(write_request),
            token: OnceLock::new(),
            name: destination.name,
            state: Mutex::new(State { stage: Stage::Open(staged), epoch: 0, length }),
            bytes: AtomicU64::new(0),
            is_held: AtomicBool::new(true),
            touched: Mutex::new(write_request.now.mono),
        });
        // An upload in one request continues without a token if the table is full.
        if is_kept
            && !partials.insert(&partial, crate::random::random_hex().map_err(refuse_errno)?)
            && resume_headers.complete == Some(false)
        {
            return Err(NO_ROOM);
        }
        Ok(Writer {
            partial,
            partials: Arc::clone(partials),
            epoch: 0,
            completes: resume_headers.complete != Some(false),
            is_resumable: resume_headers.complete.is_some(),
            is_append: false,
            left: bytes,
            location: write_request.reference(&write_request.path),
        })
    }

    /// Resumes an upload with `bytes` more bytes at `offset`.
    pub(crate) fn resume(
        partial: &Arc<Partial>,
        partials: &Arc<Partials>,
        write_request: &WriteRequest,
        resume_headers: &ResumeHeaders,
        offset: u64,
        bytes: Option<u64>,
    ) -> Result<Writer, ResumeError> {
        *lock(&partial.touched) = write_request.now.mono;
        let mut state = lock(&partial.state);
        match state.stage {
            Stage::Open(_) => {}
            Stage::Publishing => return Err(ResumeError::Refused(PUBLISHING)),
            Stage::Published => return Err(ResumeError::Complete),
            Stage::Discarded => return Err(ResumeError::Refused(DISCARDED)),
        }
        if offset != partial.bytes() {
            return Err(ResumeError::Offset(partial.bytes()));
        }
        let length = resume_headers.length_with(offset, bytes);
        if length.zip(state.length).is_some_and(|(one, other)| one != other) {
            return Err(ResumeError::Length);
        }
        state.length = state.length.or(length);
        if bytes.map(|bytes| offset + bytes) > Some(state.length.unwrap_or(u64::MAX)) {
            return Err(ResumeError::Length);
        }
        state.epoch += 1;
        Ok(Writer {
            partial: Arc::clone(partial),
            partials: Arc::clone(partials),
            epoch: state.epoch,
            completes: resume_headers.complete == Some(true),
            is_resumable: true,
            is_append: true,
            left: bytes,
            location: write_request.reference(&write_request.path),
        })
    }

    /// Writes a piece of content.
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        if piece.is_empty() {
            return Ok(());
        }
        let mut state = lock(&self.partial.state);
        if state.epoch != self.epoch {
            return Err(SUPERSEDED);
        }
        let end = self.partial.bytes() + piece.len() as u64;
        if end > state.length.unwrap_or(u64::MAX) {
            // The content exceeds its length, so the upload is discarded.
            drop(self.partial.take_staged(&mut state, Stage::Discarded));
            return Err(Refusal::new(Status::BAD_REQUEST, "the content is longer than the upload"));
        }
        let write_request = &self.partial.write_request;
        if end > write_request.request.limits().upload_bytes_max {
            return Err(TOO_LARGE);
        }
        let Stage::Open(staged) = &mut state.stage else { return Err(DISCARDED) };
        let outcome = staged.append(piece, self.left);
        self.partial.bytes.store(staged.bytes(), Ordering::Release);
        self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
        drop(state);
        outcome.map_err(refuse_errno)?;
        if !self.can_be_resumed() || self.partials.make_room(self.partial.owner()) {
            return Ok(());
        }
        // No room is left, so this upload is not kept. If this request completes it, it need not
        // be.
        if let Some(token) = self.partial.token.get().filter(|_| self.completes) {
            self.partials.remove(token);
            return Ok(());
        }
        self.partials.cancel(&self.partial)?;
        Err(Refusal::new(Status::INSUFFICIENT_STORAGE, "no room is left for unfinished uploads"))
    }

    /// Ends the request after all its content was written.
    pub(crate) fn finish(self) -> Result<Response, Refusal> {
        let partial = &self.partial;
        if !self.completes {
            let response = match self.is_append {
                true => Response::new(Status::NO_CONTENT).by_server(),
                false => self.with_upload_location(Response::new(Status::CREATED).by_server()),
            };
            return Ok(response
                .with_header("Upload-Complete", "?0")
                .with_header("Upload-Offset", partial.bytes().to_string()));
        }
        let mut state = lock(&partial.state);
        if state.epoch != self.epoch {
            return Err(SUPERSEDED);
        }
        if state.length.is_some_and(|length| length != partial.bytes()) {
            return Err(Refusal::new(Status::BAD_REQUEST, "the content is shorter than the upload"));
        }
        let staged = partial.take_staged(&mut state, Stage::Publishing).ok_or(DISCARDED)?;
        drop(state);
        let published = publish(partial, staged, &self.location);
        lock(&partial.state).stage = match published {
            Ok(_) => Stage::Published,
            Err(_) => Stage::Discarded,
        };
        let response = published.unwrap_or_else(|refusal| {
            // Nothing is left to resume or to report as complete.
            self.partials.forget(partial);
            partial.write_request.refuse(refusal)
        });
        Ok(if self.is_resumable { response.with_header("Upload-Complete", "?1") } else { response })
    }

    /// Adds the location at which the upload can be resumed.
    pub(crate) fn with_upload_location(&self, response: Response) -> Response {
        match (self.partial.token.get(), self.is_append) {
            (Some(token), false) => response
                .with_header("Location", resume_token::location(&self.location, token))
                .with_header("Upload-Limit", limits(&self.partial.write_request)),
            _ => response,
        }
    }

    /// Token of the upload, if it is resumable.
    #[cfg(test)]
    pub(crate) fn token(&self) -> Option<String> {
        self.partial.token.get().cloned()
    }

    /// Returns true if a client can resume the upload after an abort.
    pub(crate) fn can_be_resumed(&self) -> bool {
        self.partial.token.get().is_some()
    }
}

impl Drop for Writer {
    /// Ends the request. A resumable upload is kept from now on, and releases the disk space that
    /// was reserved ahead.
    fn drop(&mut self) {
        if !self.can_be_resumed() {
            return;
        }
        let mut state = lock(&self.partial.state);
        if state.epoch == self.epoch
            && let Stage::Open(staged) = &mut state.stage
        {
            staged.release_reserved();
        }
        *lock(&self.partial.touched) = read_clock();
    }
}

/// Reasons why an upload cannot be resumed.
pub(crate) enum ResumeError {
    /// The upload is already complete.
    Complete,
    /// The offset is wrong; the right one is included.
    Offset(u64),
    /// The client sent two different lengths, or more content than its length.
    Length,
    Refused(Refusal),
}

/// Publishes an upload as a file. `location` refers to the file.
fn publish(partial: &Partial, staged: StagedFile, location: &[u8]) -> Result<Response, Refusal> {
    let write_request = &partial.write_request;
    staged.sync().map_err(refuse_errno)?;
    // The root can lead to another folder since the upload began. Move the file before taking the
    // lock, because that can require a copy.
    let destination = write_request.destination(&write_request.path)?;
    let staged = staged.moved_to(&destination.folder).map_err(refuse_errno)?;
    let _publishing = lock(&write_request.shared.publishing);
    put_in_place(partial, staged, &destination, destination.kind().map_err(refuse_errno)?, location)
}

/// Publishes an upload whose entry was just found to be `found`. Only other programs can have
/// changed the entry since.
fn put_in_place(
    partial: &Partial,
    mut staged: StagedFile,
    destination: &Destination,
    found: EntryKind,
    location: &[u8],
) -> Result<Response, Refusal> {
    let write_request = &partial.write_request;
    replaceable(found)?;
    write_request.check_conditions(destination, found)?;
    check_kind(destination.rights, found)?;
    let (wants_new, may_replace) =
        (write_request.wants_new_name(), destination.rights.has(UploadRight::Replace));
    let existing = match found {
        EntryKind::File(_) => ExistingFile::Replaced,
        _ if wants_new || !may_replace => ExistingFile::Forbidden,
        EntryKind::Nothing | EntryKind::Folder | EntryKind::Other => ExistingFile::None,
    };
    let published = match staged.publish(&partial.name, existing) {
        Err(Errno::EXIST) if wants_new => return Err(UNEXPECTED),
        Err(Errno::EXIST) if !may_replace => return Err(refused(UploadRight::Replace)),
        published => published.map_err(refuse_errno)?,
    };
    write_request.root.current().note_write();
    let etag = write_request.tag_of(staged.file(), &published.stamp, read_wall_clock());
    Ok(written(location, published.is_new, etag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KIB};
    use crate::conn_id::ConnId;
    use crate::features::upload::sink::Sink;
    use crate::features::upload::write_request::KeepLimits;
    use crate::handler::continuation::Inbox;
    use crate::jobs::inbox::Waker;
    use crate::jobs::sender_permits::SenderPermits;
    use crate::jobs::{Lane, Ran, Spawn, Task};
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::time::Duration;

    const RESUMABLE: &str =
        "PUT /a HTTP/1.1\r\nHost: a\r\nUpload-Complete: ?1\r\nContent-Length: 10000000\r\n\r\n";

    fn begin(write_request: &Arc<WriteRequest>, bytes: u64) -> Writer {
        let resume_headers = write_request.request.with(ResumeHeaders::of).unwrap();
        Writer::begin(write_request, &table(), &resume_headers, Some(bytes))
            .unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    fn table() -> Arc<Partials> {
        Partials::registered(KeepLimits::of(&Config::default()))
    }

    fn write_request(root: &Path, head: &str) -> Arc<WriteRequest> {
        Arc::new(WriteRequest::of(root, head))
    }

    fn is_empty(folder: &Path) -> bool {
        fs::read_dir(folder).unwrap().next().is_none()
    }

    /// Regression: the age of a slow upload counted from the start of its request, so it was
    /// discarded as soon as it was aborted. It also kept the disk space that was reserved ahead.
    #[test]
    fn an_upload_that_breaks_off_is_kept_from_then_on_and_takes_what_it_counts_for() {
        let scratch = tempfile::tempdir().unwrap();
        let write_request = write_request(scratch.path(), RESUMABLE);
        let mut writer = begin(&write_request, 10_000_000);
        writer.write(&[1; 64 * KIB]).unwrap();
        let partial = Arc::clone(&writer.partial);
        let before = read_clock();
        drop(writer);
        assert!(*lock(&partial.touched) >= before);
        let Stage::Open(staged) = &lock(&partial.state).stage else { panic!("it is gone") };
        assert!(staged.room() < 2 * 64 * KIB as u64, "{}", staged.room());
    }

    /// Regression: a copy can take minutes, during which no other upload could be published.
    #[test]
    fn content_is_copied_to_another_folder_before_the_lock_is_taken() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write_request = write_request(new.path(), "PUT /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let writer = begin(&write_request, 3);
        // A staged file with a hidden name must be copied to another folder.
        let folder = Arc::new(OwnedFd::from(fs::File::open(old.path()).unwrap()));
        let mut staged = StagedFile::begin_named(&folder).unwrap();
        staged.append(b"abc", None).unwrap();
        let publishing = lock(&write_request.shared.publishing);
        let (is_copied, is_published) = std::thread::scope(|scope| {
            let publisher = scope.spawn(|| publish(&writer.partial, staged, b"a"));
            let give_up_at = read_clock() + Duration::from_secs(10);
            while !is_empty(old.path()) && read_clock() < give_up_at {
                std::thread::yield_now();
            }
            let seen = (is_empty(old.path()), new.path().join("a").exists());
            drop(publishing);
            publisher.join().unwrap().unwrap();
            seen
        });
        assert_eq!((is_copied, is_published), (true, false));
        assert_eq!(fs::read(new.path().join("a")).unwrap(), b"abc");
    }

    /// Regression: the permit was free before the file was flushed and published, so more uploads
    /// than allowed were under way.
    #[test]
    fn an_upload_holds_its_permit_until_its_file_is_published() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write_request = write_request(new.path(), "PUT /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let writer = begin(&write_request, 0);
        let folder = Arc::new(OwnedFd::from(fs::File::open(old.path()).unwrap()));
        lock(&writer.partial.state).stage = Stage::Open(StagedFile::begin_named(&folder).unwrap());
        let permits = SenderPermits::new(1, None);
        let inbox = Arc::new(Inbox::new(Box::new(|| Ok(()))));
        let take = || permits.acquire(Waker::new(ConnId::new(1, 0), Arc::clone(&inbox)), read_clock());
        let mut sink =
            Sink::of_file(writer, Arc::clone(&write_request), take().unwrap(), Arc::new(Never), false);
        let publishing = lock(&write_request.shared.publishing);
        let (is_copied, is_free) = std::thread::scope(|scope| {
            let publisher = scope.spawn(|| sink.last_step().unwrap().status());
            let give_up_at = read_clock() + Duration::from_secs(10);
            // The last step waits for the lock once the file has left its first folder.
            while !is_empty(old.path()) && read_clock() < give_up_at {
                std::thread::yield_now();
            }
            let seen = (is_empty(old.path()), take().is_some());
            drop(publishing);
            assert_eq!(publisher.join().unwrap(), Status::CREATED);
            seen
        });
        assert_eq!((is_copied, is_free), (true, false));
        assert!(take().is_some());
    }

    /// A queue that gets no tasks.
    struct Never;

    impl Spawn for Never {
        fn run(&self, _: ConnId, _: Lane, _: Task) -> Ran {
            Ran::Inline
        }

        fn detach(&self, _: Lane, _: Task) {}
    }

    /// Regression: on file systems without unnamed files, uploads of an ended server stayed under
    /// hidden names.
    #[test]
    fn at_the_end_nothing_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let write_request = write_request(scratch.path(), RESUMABLE);
        let writer = begin(&write_request, 10);
        let named = StagedFile::begin_named(&write_request.destination(b"/a").unwrap().folder).unwrap();
        lock(&writer.partial.state).stage = Stage::Open(named);
        assert!(!is_empty(scratch.path()));
        writer.partials.discard_all();
        assert!(is_empty(scratch.path()));
        assert!(writer.partials.find(writer.partial.token.get().unwrap()).is_none());
    }

    /// Another program creates a file of that name after the check.
    #[test]
    fn a_name_that_must_be_new_is_not_taken_from_another_program() {
        for (field, status, content) in
            [("If-None-Match: *\r\n", Err(UNEXPECTED), "another's"), ("", Ok(Status::NO_CONTENT), "ours")]
        {
            let scratch = tempfile::tempdir().unwrap();
            let head = format!("PUT /a HTTP/1.1\r\nHost: a\r\n{field}\r\n");
            let write_request = write_request(scratch.path(), &head);
            let mut writer = begin(&write_request, 4);
            writer.write(b"ours").unwrap();
            let partial = Arc::clone(&writer.partial);
            let staged = partial.take_staged(&mut lock(&partial.state), Stage::Publishing).unwrap();
            fs::write(scratch.path().join("a"), "another's").unwrap();
            let destination = write_request.destination(b"/a").unwrap();
            let put = put_in_place(&partial, staged, &destination, EntryKind::Nothing, b"a");
            assert_eq!(put.map(|response| response.status()), status);
            assert_eq!(fs::read_to_string(scratch.path().join("a")).unwrap(), content);
        }
    }
}
