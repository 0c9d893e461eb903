//! Files of a docroot: found beneath it, kept fresh in memory, sent.
//!
//! The only code that touches the disk. A handler decides *that* a file is the answer ([`FileAnswer`]); the
//! driver's own cache carries it out, so handlers hold no lock. What might block (a cold directory entry, a cold
//! page, a listing) is not done here but handed to the job pool, and the loop goes on.

mod cache;
mod disk;
mod listing;
pub mod types;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::config::FileOptions;
use crate::error_page::{error, wants_html};
use crate::handler::{Answer, Context, Handler, Now, method_not_allowed};
use crate::http::conditional::{self, Precondition, Validators};
use crate::http::range::{self, ByteRange, Selection};
use crate::http::request::KeptHead;
use crate::http::response::{OpenFile, Prepared};
use crate::http::{Body, Method, Request, Response, Status, target};
use crate::jobs::{Then, lock};

pub use cache::FileCache;
pub use disk::Docroot;
pub(crate) use disk::read_ahead;
use disk::{Found, Reach, Trouble};

/// One file as it was when it was last looked at.
#[derive(Debug)]
pub(crate) struct CachedFile {
    pub(crate) stamp: disk::Stamp,
    etag: Vec<u8>,
    content: Content,
    /// Status line and field lines of the 200, `Content-Length` included.
    prepared: Arc<Prepared>,
    /// Where the fields that a 304 repeats stand in the prepared head: `Last-Modified` and `ETag`.
    validator_lines: std::ops::Range<usize>,
    content_type: &'static str,
    /// The fields of a 206: all but the length.
    part_lines: std::ops::Range<usize>,
}

#[derive(Debug)]
enum Content {
    /// The prepared response has it.
    InMemory,
    /// It is sent from here.
    OnDisk(Arc<OpenFile>),
}

impl CachedFile {
    fn len(&self) -> u64 {
        self.stamp.size
    }

    fn validators(&self) -> Validators<'_> {
        Validators { etag: &self.etag, modified_secs: self.stamp.last_modified() }
    }

    /// What it costs the cache, in bytes.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Self>() + self.prepared.head.len() + self.prepared.body.len() + self.etag.len()
    }

    fn part(&self, first: u64, bytes: u64) -> Body {
        match &self.content {
            Content::InMemory => {
                // A file in memory is far below 4 GiB.
                let start = usize::try_from(first).unwrap_or(usize::MAX);
                let end = start.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
                Body::Shared {
                    data: Arc::clone(&self.prepared),
                    start,
                    end: end.min(self.prepared.body.len()),
                }
            }
            Content::OnDisk(file) => Body::File { file: Arc::clone(file), offset: first, len: bytes },
        }
    }
}

/// The decision that a file of this docroot answers the request.
#[derive(Debug, Clone)]
pub struct FileAnswer {
    docroot: Arc<Docroot>,
}

impl FileAnswer {
    /// The file that the request's path names beneath `docroot`.
    #[must_use]
    pub fn beneath(docroot: Arc<Docroot>) -> Self {
        FileAnswer { docroot }
    }
}

/// A handler that serves a docroot.
#[derive(Debug, Clone)]
pub struct StaticFiles {
    docroot: Arc<Docroot>,
}

impl StaticFiles {
    /// Serves `docroot`.
    #[must_use]
    pub fn new(docroot: Arc<Docroot>) -> Self {
        StaticFiles { docroot }
    }
}

impl Handler for StaticFiles {
    fn handle(&self, _request: &Request<'_>, _cx: &mut Context<'_>) -> Answer {
        Answer::File(FileAnswer::beneath(Arc::clone(&self.docroot)))
    }
}

/// A driver's way to its cache. The reactor owns one; the threads of the twin share one, or a hot file would be
/// in memory a thousand times.
#[derive(Debug)]
pub enum Files {
    /// This driver's own.
    Own(Box<FileCache>),
    /// Shared by the threads of the twin.
    Shared(Arc<Mutex<FileCache>>),
}

impl Files {
    /// A cache of a driver's own.
    #[must_use]
    pub fn own(options: &FileOptions) -> Self {
        Files::Own(Box::new(FileCache::new(options)))
    }

    fn with<T>(&mut self, look: impl FnOnce(&mut FileCache) -> T) -> T {
        match self {
            Files::Own(cache) => look(cache),
            Files::Shared(cache) => look(&mut lock(cache)),
        }
    }

    /// When [`Files::sweep`] is due; `None` while the cache is empty.
    #[must_use]
    pub(crate) fn next_sweep(&mut self) -> Option<Instant> {
        self.with(|cache| cache.next_sweep())
    }

    /// Drops what nobody has asked for lately, so that a deleted file's space comes free.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.with(|cache| cache.sweep(now));
    }
}

/// Carries out a [`FileAnswer`]: from the cache, from the disk if that will not block, else through a job.
pub(crate) fn serve(file: &FileAnswer, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    if !request.is_get_or_head() {
        return method_not_allowed(request, "GET, HEAD, OPTIONS").into();
    }
    let path = match target::normalize(request.path()) {
        Ok(path) => path,
        Err(trouble) => return error(Status::BAD_REQUEST, &trouble.to_string(), wants_html(request)).into(),
    };
    let docroot = &file.docroot;
    if disk::is_hidden(&path) {
        return not_found(request).into();
    }
    let now = cx.now();
    if let Some(cached) = cx.files().with(|cache| cache.lookup(docroot, &path, now.mono)) {
        return file_response(&cached, request, now).into();
    }
    match docroot.find(&path, Reach::InMemory) {
        Err(Trouble::Cold) => find_later(docroot, &path, request, cx),
        Ok(Found::Directory(directory)) => listing::later(docroot, directory, &path, request, cx),
        found => {
            if let Ok(Found::File(cached)) = &found {
                cx.files().with(|cache| cache.insert(docroot, &path, cached, now));
            }
            found_response(found, &path, request, now).into()
        }
    }
}

/// The same from a worker thread, where the disk may take its time.
fn find_later(docroot: &Arc<Docroot>, path: &[u8], request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let (docroot, path, head) = (Arc::clone(docroot), path.to_vec(), KeptHead::of(request));
    let (limits, asked) = (cx.limits().clone(), cx.now());
    cx.job_then(move || {
        let found = docroot.find(&path, Reach::OnDisk);
        let then: Then = Box::new(move |cx| {
            let now = cx.now();
            if let Ok(Found::File(cached)) = &found {
                cx.files().with(|cache| cache.insert(&docroot, &path, cached, asked));
            }
            let answer = head.with(&limits, |request| match found {
                Ok(Found::Directory(directory)) => listing::later(&docroot, directory, &path, request, cx),
                found => found_response(found, &path, request, now).into(),
            });
            answer
                .unwrap_or_else(|| error(Status::INTERNAL_SERVER_ERROR, "the request was lost", false).into())
        });
        then
    })
}

fn found_response(found: Result<Found, Trouble>, path: &[u8], request: &Request<'_>, now: Now) -> Response {
    match found {
        Ok(Found::File(cached)) => file_response(&cached, request, now),
        Ok(Found::WithoutSlash) => redirect_to_slash(path, request),
        Ok(Found::Directory(_)) | Err(Trouble::NotFound) => not_found(request),
        Err(Trouble::Forbidden) => error(Status::FORBIDDEN, "this file may not be read", wants_html(request)),
        Err(Trouble::Cold) => {
            error(Status::SERVICE_UNAVAILABLE, "the file is in use, try again", wants_html(request))
        }
        Err(Trouble::Exhausted) => {
            error(Status::SERVICE_UNAVAILABLE, "the server is out of descriptors", wants_html(request))
        }
        Err(Trouble::Io(code)) => {
            log::warn!("cannot read {}: {}", path.escape_ascii(), std::io::Error::from_raw_os_error(code));
            error(Status::INTERNAL_SERVER_ERROR, "this file cannot be read", wants_html(request))
        }
    }
}

pub(crate) fn not_found(request: &Request<'_>) -> Response {
    error(Status::NOT_FOUND, "the file does not exist", wants_html(request))
}

/// A directory without its slash would make every relative link in it wrong. Built from the collapsed path, so
/// `//host` cannot lead to another host.
fn redirect_to_slash(path: &[u8], request: &Request<'_>) -> Response {
    let mut location = Vec::with_capacity(path.len() + 8);
    target::encode_path(path, &mut location);
    location.push(b'/');
    if let Some(query) = request.query() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    error(Status::MOVED_PERMANENTLY, "the directory is at its path with a slash", wants_html(request))
        .with_field("Location", location)
}

/// The answer for a file that is there: conditions first, then ranges, then the whole (RFC 9110 section 13.2).
fn file_response(file: &CachedFile, request: &Request<'_>, now: Now) -> Response {
    let fields = request.fields();
    let validators = file.validators();
    match conditional::evaluate(fields, true, &validators, now.unix_secs()) {
        Precondition::Proceed => {}
        Precondition::NotModified => {
            return Response::new(Status::NOT_MODIFIED)
                .with_written_fields(&file.prepared.head[file.validator_lines.clone()]);
        }
        Precondition::Failed => {
            return error(
                Status::PRECONDITION_FAILED,
                "the file is not as the request expects",
                wants_html(request),
            );
        }
    }
    // Range means something for GET only (RFC 9110 section 14.2); two Range lines are a contradiction.
    if request.method() == Method::Get
        && let Some(asked) = fields.first("range")
        && fields.all("range").count() == 1
        && (fields.first("if-range").is_none()
            || conditional::range_applies(fields.first("if-range"), &validators))
    {
        match range::select(asked, file.len()) {
            Selection::One(part) => return part_response(file, part),
            Selection::Unsatisfiable => {
                return error(Status::RANGE_NOT_SATISFIABLE, "no such part", wants_html(request))
                    .with_field("Content-Range", format!("bytes */{}", file.len()));
            }
            Selection::Several(parts) => return parts_response(file, &parts),
            Selection::Whole => {}
        }
    }
    match &file.content {
        Content::InMemory => Response::prepared(Arc::clone(&file.prepared)),
        Content::OnDisk(_) => Response::new(Status::OK)
            .with_written_fields(&file.prepared.head[file.part_lines.clone()])
            .with_body(file.part(0, file.len())),
    }
}

fn part_response(file: &CachedFile, part: ByteRange) -> Response {
    Response::new(Status::PARTIAL_CONTENT)
        .with_written_fields(&file.prepared.head[file.part_lines.clone()])
        .with_field("Content-Range", format!("bytes {}-{}/{}", part.first, part.last, file.len()))
        .with_body(file.part(part.first, part.byte_count()))
}

/// Several parts as multipart/byteranges (RFC 9110 section 14.6). The content is sent by reference like any
/// other; only the few lines between the parts are made.
fn parts_response(file: &CachedFile, parts: &[ByteRange]) -> Response {
    let boundary = boundary();
    let mut bodies = Vec::with_capacity(2 * parts.len() + 1);
    for (number, part) in parts.iter().enumerate() {
        let start = if number == 0 { "" } else { "\r\n" };
        let head = format!(
            "{start}--{boundary}\r\nContent-Type: {}\r\nContent-Range: bytes {}-{}/{}\r\n\r\n",
            file.content_type,
            part.first,
            part.last,
            file.len()
        );
        bodies.push(Body::Bytes(head.into_bytes()));
        bodies.push(file.part(part.first, part.byte_count()));
    }
    bodies.push(Body::Bytes(format!("\r\n--{boundary}--\r\n").into_bytes()));
    Response::new(Status::PARTIAL_CONTENT)
        .with_field("Content-Type", format!("multipart/byteranges; boundary={boundary}"))
        .with_written_fields(&file.prepared.head[file.validator_lines.clone()])
        .with_body(Body::Sequence(bodies))
}

/// A line that must not stand in the content. Nobody can search a large file for it, so it is long, and never the
/// same twice; that it is guessed by who wrote the file harms only who asks for parts of it.
fn boundary() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    // A hasher with the process's own random keys is at hand; that makes the line hard to foresee.
    let keys = std::hash::RandomState::new();
    let random = std::hash::BuildHasher::hash_one(&keys, NUMBER.fetch_add(1, Ordering::Relaxed));
    format!("whirligig-{random:016x}")
}
