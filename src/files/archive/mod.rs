//! Downloads of whole folders: `?archive=tar`, `tar.gz` or `zip`, made while they are sent.
//!
//! A [`Producer`] on the worker threads walks the tree and writes the format piece by piece. So
//! memory does not grow with the folder, and the loop only sends. If a file becomes shorter or
//! cannot be read to its end, the response is aborted: an archive that arrives whole is complete.
//! Must not know connections.

mod tar;
mod walk;
mod zip;

use std::os::fd::OwnedFd;
use std::{fmt, io};

use flate2::{Compress, Compression, FlushCompress};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use self::walk::{Broken, Entry, Meta, Walk};
use self::zip::Zip;
use crate::config::KIB;
use crate::docroot::{Docroot, LookupError};
use crate::files::{Scope, ask_password};
use crate::handler::continuation::Continuation;
use crate::handler::kept_request::KeptRequest;
use crate::handler::offload::{Offloaded, Producer};
use crate::handler::{Answer, Context};
use crate::http::disposition::attachment;
use crate::http::target::query_pairs;
use crate::http::{Body, FillStatus, Request, Response, Status};
use crate::jobs::Lane;
use crate::sync::Permit;
use crate::text::{has_bidi_control, is_bidi_control};

/// Approximate size of a piece.
const PIECE_BYTES: usize = 64 * KIB;

/// Bytes read for one piece at most, so that highly compressible files do not occupy a worker for
/// long.
const READ_PER_PIECE_BYTES: usize = 256 * KIB;

/// Bytes read from a file at a time.
const READ_BYTES: usize = 64 * KIB;

/// Cost of an entry without its content, counted as bytes read.
const ENTRY_COST_BYTES: usize = 4 * KIB;

/// At higher levels, the time grows faster than the size shrinks.
const LEVEL: Compression = Compression::new(2);

/// The window of the deflate format, as a power of two.
const WINDOW_BITS: u8 = 15;

/// The top folder in the archive of the whole root, whose real name stays private.
const ROOT_NAME: &[u8] = b"files";

/// The format of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `?archive=tar`
    Tar,
    /// `?archive=tar.gz`
    TarGz,
    /// `?archive=zip`
    Zip,
}

impl Form {
    fn extension(self) -> &'static str {
        match self {
            Form::Tar => ".tar",
            Form::TarGz => ".tar.gz",
            Form::Zip => ".zip",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Tar => "application/x-tar",
            Form::TarGz => "application/gzip",
            Form::Zip => "application/zip",
        }
    }
}

/// Returns the archive format that the query requests, if archives are enabled and the path is a
/// folder. The inner `None` is an unknown format.
pub(super) fn asked_for(docroot: &Docroot, path: &[u8], request: &Request<'_>) -> Option<Option<Form>> {
    let query = request.query().filter(|_| docroot.options.archives && path.ends_with(b"/"))?;
    let (_, form) = query_pairs(query).find(|(name, _)| name == "archive")?;
    let forms = [Form::Tar, Form::TarGz, Form::Zip];
    Some(forms.into_iter().find(|known| known.extension()[1..] == *form))
}

/// Answers with an archive of the folder at `path`. A job opens the folder. `scope.also` is a
/// password that the client has given besides that of `path`.
pub(super) fn answer(
    scope: Scope<'_>,
    path: &[u8],
    form: Option<Form>,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    if let Some(refusal) = scope.docroot.refusal(request) {
        return refusal.into();
    }
    let Some(form) = form else {
        return Response::problem(Status::BAD_REQUEST, "the archive format must be tar, tar.gz or zip")
            .into();
    };
    let Some(permit) = scope.docroot.archives.try_acquire(1) else {
        return Response::problem(Status::SERVICE_UNAVAILABLE, "too many archives are being made, try again")
            .into();
    };
    let (kept, path) = (scope.into_owned(), path.to_vec());
    let request = KeptRequest::of(request, cx);
    // Opening reads all names of the folder, which takes a while if there are many.
    cx.job_in(Lane::Long, move || {
        let walk = Walk::open(&kept.docroot, &path, kept.also);
        let then: Continuation = Box::new(move |cx| match walk {
            Ok(walk) => match kept.scope().password_due(&path, walk.password()) {
                None => respond(Archive::new(walk, &path, form, permit), cx).into(),
                Some(due) => request.answer(|request| ask_password(kept.scope(), due, request, cx)),
            },
            Err(error) => refusal(error, &path).into(),
        });
        then
    })
}

fn respond(archive: Archive, cx: &Context<'_>) -> Response {
    let (form, name) = (archive.form, [&archive.top[..], archive.form.extension().as_bytes()].concat());
    Response::new(Status::OK)
        .by_server()
        .with_header("Content-Type", form.content_type())
        .with_header("Content-Disposition", attachment(&name))
        // Every archive is different: no cache could use it, and no part of it fits another.
        .with_header("Cache-Control", "no-store")
        .with_header("Accept-Ranges", "none")
        .with_body(Body::Source(Box::new(Offloaded::new(archive, cx))))
}

fn refusal(error: LookupError, path: &[u8]) -> Response {
    match error {
        LookupError::NotFound | LookupError::Unknown => {
            Response::problem(Status::NOT_FOUND, "the folder does not exist")
        }
        LookupError::Forbidden => Response::problem(Status::FORBIDDEN, "this folder may not be read"),
        LookupError::Cold | LookupError::Exhausted | LookupError::Io(_) => {
            log::warn!("cannot archive {}: {error:?}", path.escape_ascii());
            Response::problem(Status::SERVICE_UNAVAILABLE, "the folder cannot be read now")
        }
    }
}

/// Returns the name of an entry. Characters that change the text direction are percent-encoded.
/// Unpacked elsewhere, a name must not look like another, and two names must stay different.
fn unpacked_name(name: Vec<u8>) -> Vec<u8> {
    if !has_bidi_control(&name) {
        return name;
    }
    let mut shown = Vec::with_capacity(name.len() + 16);
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            match is_bidi_control(character) {
                true => shown.extend(percent_encode(bytes, NON_ALPHANUMERIC).flat_map(str::bytes)),
                false => shown.extend_from_slice(bytes),
            }
        }
        shown.extend_from_slice(chunk.invalid());
    }
    shown
}

/// The next part to write.
#[derive(Debug)]
enum Stage {
    /// The header of an entry.
    Entry,
    /// Content, beginning at offset `at`.
    Content { file: OwnedFd, at: u64, size: u64 },
    /// The end of the archive.
    End,
}

/// The encoder state of a format.
enum Packer {
    Tar,
    TarGz { gzip: Compress, plain: Vec<u8> },
    Zip(Box<Zip>),
}

/// An archive that is being made.
struct Archive {
    walk: Walk,
    /// Name of the folder that contains all entries.
    top: Vec<u8>,
    form: Form,
    packer: Packer,
    stage: Stage,
    input: Vec<u8>,
    _permit: Permit,
}

/// The reason why an archive is aborted.
enum Failure {
    Walk(Broken),
    Io(io::Error),
    Shrank,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Walk(broken) => broken.fmt(f),
            Failure::Io(error) => error.fmt(f),
            Failure::Shrank => f.write_str("a file became shorter while it was read"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

impl Producer for Archive {
    fn produce(&mut self, out: &mut Vec<u8>) -> FillStatus {
        let mut read = 0;
        while out.len() < PIECE_BYTES && read < READ_PER_PIECE_BYTES {
            match self.step(out) {
                Ok(Some(bytes)) => read += bytes,
                Ok(None) => return FillStatus::End,
                Err(failure) => {
                    log::warn!("archive of {} aborted: {failure}", self.top.escape_ascii());
                    return FillStatus::Failed;
                }
            }
        }
        FillStatus::More
    }
}

impl Archive {
    fn new(walk: Walk, path: &[u8], form: Form, permit: Permit) -> Self {
        let name = path.split(|&byte| byte == b'/').rfind(|name| !name.is_empty()).unwrap_or(ROOT_NAME);
        let packer = match form {
            Form::Tar => Packer::Tar,
            Form::TarGz => Packer::TarGz { gzip: Compress::new_gzip(LEVEL, WINDOW_BITS), plain: Vec::new() },
            Form::Zip => Packer::Zip(Box::new(Zip::new(LEVEL))),
        };
        let (top, stage) = (name.to_vec(), Stage::Entry);
        Archive { walk, top, form, packer, stage, input: Vec::new(), _permit: permit }
    }

    /// Takes one step. Returns its cost in bytes, or `None` at the end.
    fn step(&mut self, out: &mut Vec<u8>) -> Result<Option<usize>, Failure> {
        match &mut self.stage {
            Stage::Entry => {
                match self.walk.next().map_err(Failure::Walk)? {
                    Some(entry) => self.begin(entry, out)?,
                    None => self.stage = Stage::End,
                }
                Ok(Some(ENTRY_COST_BYTES))
            }
            Stage::Content { file, at, size } if *at < *size => {
                let left = usize::try_from(*size - *at).unwrap_or(usize::MAX);
                self.input.resize(left.min(READ_BYTES), 0);
                let bytes = read(file, *at, &mut self.input)?;
                *at += bytes as u64;
                self.packer.content(&self.input[..bytes], out)?;
                Ok(Some(bytes))
            }
            Stage::Content { size, .. } => {
                let size = *size;
                self.stage = Stage::Entry;
                self.packer.end_entry(size, out)?;
                Ok(Some(0))
            }
            Stage::End => Ok(if self.packer.finish(out)? { None } else { Some(PIECE_BYTES) }),
        }
    }

    fn begin(&mut self, entry: Entry, out: &mut Vec<u8>) -> io::Result<()> {
        let name = unpacked_name([&self.top[..], b"/", &entry.name].concat());
        self.packer.begin(&name, &entry.meta, out)?;
        match entry.file {
            Some(file) => self.stage = Stage::Content { file, at: 0, size: entry.meta.size },
            None => self.packer.end_entry(0, out)?,
        }
        Ok(())
    }
}

/// Reads part of a file. An early end of the file means that it became shorter since its header was
/// written.
fn read(file: &OwnedFd, at: u64, into: &mut [u8]) -> Result<usize, Failure> {
    loop {
        match rustix::io::pread(file, &mut *into, at) {
            Ok(0) => return Err(Failure::Shrank),
            Ok(bytes) => return Ok(bytes),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Failure::Io(errno.into())),
        }
    }
}

impl Packer {
    fn begin(&mut self, name: &[u8], meta: &Meta, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Packer::Tar => tar::header(name, meta, out),
            Packer::TarGz { gzip, plain } => {
                tar::header(name, meta, plain);
                deflate(gzip, plain, FlushCompress::None, out)?;
                plain.clear();
            }
            Packer::Zip(zip) => zip.begin(name, meta, out),
        }
        Ok(())
    }

    fn content(&mut self, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Packer::Tar => out.extend_from_slice(piece),
            Packer::TarGz { gzip, .. } => deflate(gzip, piece, FlushCompress::None, out)?,
            Packer::Zip(zip) => zip.content(piece, out)?,
        }
        Ok(())
    }

    fn end_entry(&mut self, size: u64, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Packer::Tar => tar::padding(size, out),
            Packer::TarGz { gzip, plain } => {
                tar::padding(size, plain);
                deflate(gzip, plain, FlushCompress::None, out)?;
                plain.clear();
            }
            Packer::Zip(zip) => zip.end_entry(out)?,
        }
        Ok(())
    }

    /// Writes a piece of the end of the archive. Returns true after the last piece.
    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Packer::Tar => tar::end(out),
            Packer::TarGz { gzip, plain } => {
                tar::end(plain);
                deflate(gzip, plain, FlushCompress::Finish, out)?;
            }
            Packer::Zip(zip) => return zip.finish(out),
        }
        Ok(true)
    }
}

/// Compresses all of `piece` into `out`; with `Finish` also the end of the stream.
fn deflate(
    compress: &mut Compress,
    mut piece: &[u8],
    flush: FlushCompress,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        // Without room in `out` nothing would be written, and the loop would never end.
        out.reserve(8 * KIB);
        let before = compress.total_in();
        let status = compress.compress_vec(piece, out, flush).map_err(io::Error::other)?;
        let taken = usize::try_from(compress.total_in() - before).unwrap_or(usize::MAX);
        piece = piece.get(taken..).unwrap_or_default();
        let has_ended = status == flate2::Status::StreamEnd;
        let is_full = out.len() == out.capacity();
        let wants_end = matches!(flush, FlushCompress::Finish);
        if has_ended || (!wants_end && piece.is_empty() && !is_full) {
            return Ok(());
        }
    }
}
