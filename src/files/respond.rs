//! Responses that contain a file: conditions first, then ranges, then the whole.
//!
//! Must not know where in a docroot the file was found.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Now;
use crate::config::FileOptions;
use crate::docroot::cache::Representations;
use crate::docroot::file::{CachedFile, Coded, Content, Meta};
use crate::docroot::read::read_head;
use crate::docroot::stamp::{Stamp, file_type, stat};
use crate::docroot::tag::Tag;
use crate::docroot::types::Types;
use crate::docroot::{Disk, Docroot, LookupError};
use crate::files::coding::{self, Chosen};
#[cfg(feature = "compress")]
use crate::files::gzip;
#[cfg(feature = "compress")]
use crate::handler::offload::Offloaded;
use crate::handler::{Answer, Context};
use crate::http::conditional::{self, Precondition};
use crate::http::field_lines::NameFilter;
use crate::http::open_file::OpenFile;
use crate::http::range::{self, ByteRange, Selection};
use crate::http::refusal::Refusal;
use crate::http::{Body, Method, Request, Response, Status};
#[cfg(feature = "compress")]
use crate::sync::Permit;

/// Sends the form of the file that suits the client.
pub(super) fn file_answer(
    docroot: &Arc<Docroot>,
    representations: &Representations,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let original = &representations.original;
    if request.headers().lack(DECIDING) {
        return whole_response(original).into();
    }
    match coding::choose(docroot, original, representations.coded_files.as_deref(), request) {
        Chosen::File(file) => file_response(&file, request, cx.now()).into(),
        Chosen::Nothing => {
            Response::problem(Status::NOT_ACCEPTABLE, "the client accepts no available content coding")
                .with_header("Vary", "Accept-Encoding")
                .into()
        }
        #[cfg(not(feature = "compress"))]
        Chosen::Compressed => file_response(original, request, cx.now()).into(),
        #[cfg(feature = "compress")]
        Chosen::Compressed => {
            let (Some(permit), Some(level)) =
                (docroot.compressors.try_acquire(1), docroot.options.compress_level)
            else {
                return file_response(original, request, cx.now()).into();
            };
            compressed_response(original, level, permit, request, cx).into()
        }
    }
}

/// Responds with a file that is compressed while it is sent. The head is that of the compressed
/// form, and the length is unknown.
///
/// Out of line, so that its frame is not on the stack of every request.
#[cfg(feature = "compress")]
#[inline(never)]
fn compressed_response(
    original: &Arc<CachedFile>,
    level: u32,
    permit: Permit,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Response {
    let form = CachedFile::new(original.meta.compressed(), Content::InMemory, b"");
    if let Some(decided) = precondition(&form, request, cx.now()) {
        return decided;
    }
    let input = match &original.content {
        Content::OnDisk(file) => gzip::Input::File(Arc::clone(file)),
        Content::InMemory => gzip::Input::Memory(Arc::clone(original)),
    };
    let gzip = gzip::Gzip::new(input, original.len(), level, permit);
    Response::new(Status::OK)
        .by_server()
        .with_headers(form.prepared.headers())
        .ruled(&form.meta.headers.ruled)
        .with_body(Body::Source(Box::new(Offloaded::new(gzip, cx))))
}

/// Responds with an error page from the docroot. It is not the requested file, so it has no
/// validators and conditions do not apply to it.
pub(super) fn page_instead(page: &CachedFile, status: Status) -> Response {
    Response::new(status)
        .by_server()
        .with_header("Content-Type", page.meta.content_type.as_bytes())
        .with_body(page.part(0, page.len()))
}

/// Returns the response that the request's conditions require, if any (RFC 9110 section 13.2).
fn precondition(file: &CachedFile, request: &Request<'_>, now: Now) -> Option<Response> {
    match conditional::evaluate(request.headers(), request.method(), &file.validators(), now.unix_secs()) {
        Precondition::Proceed => None,
        Precondition::NotModified => Some(
            Response::new(Status::NOT_MODIFIED)
                .by_server()
                .with_headers(&file.prepared.headers()[file.validator_lines.clone()])
                .ruled(&file.meta.headers.ruled),
        ),
        Precondition::Failed => Some(Response::problem(
            Status::PRECONDITION_FAILED,
            "the file does not match the condition of the request",
        )),
    }
}

/// Responds with one file that an application chose, anywhere on the disk, with conditions, ranges
/// and a type by name. Opens the file, which may block.
pub(crate) fn named(path: &Path, request: &Request<'_>, now: Now) -> Result<Response, Refusal> {
    use rustix::fs::{Mode, OFlags};
    let refusal = |error| match error {
        LookupError::NotFound | LookupError::Unknown => Refusal::not_found("the file does not exist"),
        LookupError::Forbidden => Refusal::forbidden("this file may not be read"),
        LookupError::Cold | LookupError::Exhausted => {
            Refusal::new(Status::SERVICE_UNAVAILABLE, "the file cannot be opened now")
        }
        LookupError::Io(_) => Refusal::failed("this file cannot be read"),
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| refusal(errno.into()))?;
    let stat = stat(&fd).map_err(refusal)?;
    if file_type(&stat) != rustix::fs::FileType::RegularFile {
        return Err(refusal(LookupError::NotFound));
    }
    let (types, name) = (Types::default(), path.as_os_str().as_encoded_bytes());
    let media_type = types.by_name(name);
    let looked_at = types.looked_at_bytes(media_type, name);
    let head = read_head(&fd, stat.stx_size, looked_at, Disk::MayBlock).map_err(refusal)?;
    let stamp = Stamp::of(&stat);
    let tag = Tag::of(FileOptions::default().etag, (&fd, &stamp), None, Disk::MayBlock, now.wall);
    let meta = Meta::of(stamp, tag.map_err(refusal)?, types.of_file(media_type, name, &head));
    let file = CachedFile::new(meta, Content::OnDisk(Arc::new(OpenFile::new(fd))), b"");
    Ok(file_response(&file, request, now))
}

/// Responds with an existing file: conditions first, then ranges, then the whole (RFC 9110 section
/// 13.2).
fn file_response(file: &CachedFile, request: &Request<'_>, now: Now) -> Response {
    if let Some(decided) = precondition(file, request, now) {
        return decided;
    }
    let headers = request.headers();
    let validators = file.validators();
    // Range is defined for GET only (RFC 9110 section 14.2). Two Range headers contradict each
    // other.
    if request.method() == Method::Get
        && file.meta.has_parts()
        && let Ok(Some(asked)) = headers.only("range")
        // One of two conditions may be false, so the whole file is the safe response.
        && let Ok(condition) = headers.only("if-range")
        && conditional::range_applies(condition, &validators)
    {
        match range::select(asked, file.len()) {
            Selection::One(part) => return part_response(file, part),
            Selection::Unsatisfiable => {
                return Response::problem(Status::RANGE_NOT_SATISFIABLE, "the file has no such range")
                    .with_header("Content-Range", format!("bytes */{}", file.len()));
            }
            // No RFC defines several parts of a coded file, so it is sent whole.
            Selection::Several(parts) if file.meta.coded == Coded::No => return parts_response(file, &parts),
            Selection::Several(_) | Selection::Whole => {}
        }
    }
    whole_response(file)
}

/// The headers by which a request selects a form or a part of a file.
pub(super) const DECIDING: NameFilter = NameFilter::of(&[
    "accept-encoding",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
]);

pub(super) fn whole_response(file: &CachedFile) -> Response {
    match &file.content {
        Content::InMemory => Response::prepared(Arc::clone(&file.prepared)).by_server(),
        Content::OnDisk(_) => Response::new(Status::OK)
            .by_server()
            .with_headers(file.prepared.headers())
            .ruled(&file.meta.headers.ruled)
            .with_body(file.part(0, file.len())),
    }
}

fn part_response(file: &CachedFile, part: ByteRange) -> Response {
    Response::new(Status::PARTIAL_CONTENT)
        .by_server()
        .with_headers(file.prepared.headers())
        .ruled(&file.meta.headers.ruled)
        .with_header("Content-Range", format!("bytes {}-{}/{}", part.first, part.last, file.len()))
        .with_body(file.part(part.first, part.byte_count()))
}

/// Responds with several parts as multipart/byteranges (RFC 9110 section 14.6). The parts are sent
/// by reference; only the few lines between them are generated.
fn parts_response(file: &CachedFile, parts: &[ByteRange]) -> Response {
    let boundary = boundary();
    let mut bodies = Vec::with_capacity(2 * parts.len() + 1);
    for (number, part) in parts.iter().enumerate() {
        let start = if number == 0 { "" } else { "\r\n" };
        let head = format!(
            "{start}--{boundary}\r\nContent-Type: {}\r\nContent-Range: bytes {}-{}/{}\r\n\r\n",
            file.meta.content_type,
            part.first,
            part.last,
            file.len()
        );
        bodies.push(Body::Bytes(head.into_bytes()));
        bodies.push(file.part(part.first, part.byte_count()));
    }
    bodies.push(Body::Bytes(format!("\r\n--{boundary}--\r\n").into_bytes()));
    Response::new(Status::PARTIAL_CONTENT)
        .with_header("Content-Type", format!("multipart/byteranges; boundary={boundary}"))
        .by_server()
        .with_headers(&file.prepared.headers()[file.validator_lines.clone()])
        .ruled(&file.meta.headers.ruled)
        .with_body(Body::Sequence(bodies))
}

/// Creates a delimiter that must not occur in the content. Searching a large file for it would take
/// too long, so it is long and random. An author of a file who guesses it harms only clients that
/// request parts of that file.
fn boundary() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    // A hasher with random keys of the process makes the delimiter hard to predict.
    let keys = std::hash::RandomState::new();
    let random = std::hash::BuildHasher::hash_one(&keys, NUMBER.fetch_add(1, Ordering::Relaxed));
    format!("whirligig-{random:016x}")
}
