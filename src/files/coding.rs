//! The same file in a content coding: a coded file that lies beside it, or gzip on the fly.
//!
//! Which one a client gets is decided by its `Accept-Encoding`, its `Range` and what there is. A
//! coded file beside the original is a representation of its own, with its own validators, and can
//! be sent in parts. What is compressed on the fly has a weak entity-tag and is only sent whole:
//! the bytes depend on the compressor (RFC 9110 section 8.8.1).

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};

use crate::docroot::types::Compressible;
use crate::docroot::{Docroot, Reach, Stamp, Trouble};
use crate::files::{CachedFile, Coded};
use crate::handler::offload::Producer;
use crate::http::negotiate::{Coding, Codings};
use crate::http::send_queue::OpenFile;
use crate::http::{Filled, Request};
use crate::jobs::places::Taken;

/// A coded file may be this much older than its original; older ones were made from another
/// version. Some tools that copy trees do not keep the order of times within a second or two.
const OLDER_SECS_MAX: i64 = 2;

/// What is read and compressed in one piece, in bytes, and what a piece holds at the least before
/// it is sent on.
const READ_BYTES: usize = 64 * 1024;
const PIECE_BYTES: usize = 16 * 1024;

/// How the name of a coded file ends.
pub(crate) const fn suffix(coding: Coding) -> &'static [u8] {
    match coding {
        Coding::Brotli => b".br",
        Coding::Zstd => b".zst",
        Coding::Gzip => b".gz",
    }
}

/// The coded forms of one file.
#[derive(Debug)]
pub(crate) struct Siblings {
    /// Whether there was any use in looking for them.
    were_sought: bool,
    /// In the order of [`Coding::ALL`], how each name looked on the disk: for the freshness check.
    stamps: [Option<Stamp>; 3],
    /// Those that may be sent.
    files: [Option<Arc<CachedFile>>; 3],
    /// Compressed by us, if the file is small and it was worth it.
    gzipped: Option<Arc<CachedFile>>,
}

impl Siblings {
    /// Looks for coded files beside `original`, and makes one if that pays.
    pub(super) fn load(
        docroot: &Docroot,
        path: &[u8],
        original: &CachedFile,
        reach: Reach,
        wall: Duration,
    ) -> Result<Self, Trouble> {
        let were_sought = docroot.options.precompressed && original.compressible != Compressible::No;
        let mut siblings =
            Siblings { were_sought, stamps: [None; 3], files: [None, None, None], gzipped: None };
        if were_sought {
            for coding in Coding::ALL {
                match docroot.find_coded(path, coding, original, reach, wall) {
                    Ok((stamp, file)) => {
                        siblings.stamps[coding as usize] = Some(stamp);
                        siblings.files[coding as usize] =
                            file.filter(|file| is_of(file, original)).map(Arc::new);
                    }
                    Err(Trouble::Cold) => return Err(Trouble::Cold),
                    // It is not there, or not for us: the original is.
                    Err(_) => {}
                }
            }
        }
        if siblings.files[Coding::Gzip as usize].is_none() && original.pays_to_compress(docroot) {
            siblings.gzipped = original.gzipped(docroot.options.compress_level).map(Arc::new);
        }
        Ok(siblings)
    }

    /// Whether every name still is on the disk what it was.
    pub(crate) fn are_fresh(&self, docroot: &Docroot, path: &[u8]) -> bool {
        !self.were_sought
            || Coding::ALL.into_iter().all(|coding| match &self.files[coding as usize] {
                Some(file) => docroot.is_unchanged(path, suffix(coding), &file.meta),
                None => docroot.stamp(path, suffix(coding)) == self.stamps[coding as usize],
            })
    }

    /// Whether the original is all there is.
    fn has_none(&self) -> bool {
        self.files.iter().chain([&self.gzipped]).all(Option::is_none)
    }

    /// When the first of their tags becomes a strong one, if any does.
    pub(crate) fn settles(&self) -> Option<Duration> {
        self.files.iter().flatten().filter_map(|file| file.meta.tag.settles).min()
    }

    /// What they cost the cache, in bytes.
    pub(crate) fn cost(&self) -> usize {
        let files = self.files.iter().chain([&self.gzipped]).flatten();
        size_of::<Self>() + files.map(|file| file.cost()).sum::<usize>()
    }
}

/// Whether a coded file can have been made from this original.
fn is_of(coded: &CachedFile, original: &CachedFile) -> bool {
    let (coded, original) = (coded.meta.stamp.modified_secs(), original.meta.stamp.modified_secs());
    coded.saturating_add(OLDER_SECS_MAX) >= original
}

/// The form of a file that one request gets.
pub(super) enum Chosen {
    /// This one: the original, or a coded one.
    File(Arc<CachedFile>),
    /// The original, compressed while it is sent.
    Compressed,
    /// None that the client would take: 406.
    Nothing,
}

/// Chooses the form for this request.
pub(super) fn choose(
    docroot: &Docroot,
    original: &Arc<CachedFile>,
    siblings: Option<&Siblings>,
    request: &Request<'_>,
) -> Chosen {
    let Some(siblings) = siblings else { return Chosen::File(Arc::clone(original)) };
    if matches!(original.meta.coded, Coded::Itself(_)) {
        return Chosen::File(Arc::clone(original));
    }
    // Weights are what forbids a form with: without any, a file of one form goes in that.
    let mut asked = request.fields().all("accept-encoding");
    if siblings.has_none() && !original.pays_to_compress(docroot) && !asked.any(|list| list.contains(&b';')) {
        return Chosen::File(Arc::clone(original));
    }
    let codings = Codings::of(request.fields().all("accept-encoding"));
    // Parts are of the original or of a coded file: of what is made on the fly there is only the
    // whole.
    let is_part = request.field("range").is_some();
    let on_the_fly = !is_part
        && docroot.options.compress_level.is_some()
        && (original.pays_to_compress(docroot) || codings.refuses_identity());
    let is_offered = |coding: Coding| {
        siblings.files[coding as usize].is_some()
            || (coding == Coding::Gzip && on_the_fly && is_worth_it(original, siblings, &codings))
    };
    match codings.choose(is_offered) {
        Some(coding) => match (&siblings.files[coding as usize], &siblings.gzipped) {
            (Some(file), _) | (None, Some(file)) => Chosen::File(Arc::clone(file)),
            // HTTP/1.0 knows no chunks: it would get no length.
            (None, None) if request.minor_version() >= 1 => Chosen::Compressed,
            (None, None) => Chosen::File(Arc::clone(original)),
        },
        None if codings.refuses_identity() && !is_part => Chosen::Nothing,
        None => Chosen::File(Arc::clone(original)),
    }
}

/// A small file was compressed when it was loaded; where nothing came of it, it goes as it is.
fn is_worth_it(original: &CachedFile, siblings: &Siblings, codings: &Codings) -> bool {
    siblings.gzipped.is_some() || !original.is_in_memory() || codings.refuses_identity()
}

/// All of `content`, compressed.
pub(super) fn gzip(content: &[u8], level: u32) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 2), Compression::new(level));
    encoder.write_all(content).and_then(|()| encoder.finish()).ok()
}

/// What is compressed while it is sent.
pub(super) enum Input {
    /// A large file.
    File(Arc<OpenFile>),
    /// A small one, for a client that takes nothing else.
    Memory(Arc<CachedFile>),
}

/// Compresses a file, a piece at a time.
pub(super) struct Gzip {
    input: Input,
    at: u64,
    size: u64,
    /// `None` when all of it was given out.
    encoder: Option<GzEncoder<Vec<u8>>>,
    buffer: Vec<u8>,
    _place: Taken,
}

impl Gzip {
    pub(super) fn new(input: Input, size: u64, level: u32, place: Taken) -> Self {
        let encoder = Some(GzEncoder::new(Vec::new(), Compression::new(level)));
        Gzip { input, at: 0, size, encoder, buffer: Vec::new(), _place: place }
    }

    /// Reads the next part. The size was promised by the head's validators: a file that shrank is
    /// not this one.
    fn read(&mut self) -> Option<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX).min(READ_BYTES);
        self.buffer.resize(left, 0);
        let mut filled = 0;
        while filled < left {
            let at = self.at + filled as u64;
            filled += match &self.input {
                Input::File(file) => match rustix::io::pread(file.fd(), &mut self.buffer[filled..], at) {
                    Ok(0) => return None,
                    Ok(bytes) => bytes,
                    Err(rustix::io::Errno::INTR) => 0,
                    Err(_) => return None,
                },
                Input::Memory(file) => {
                    let start = usize::try_from(at).ok()?;
                    self.buffer.copy_from_slice(file.prepared.body().get(start..start + left)?);
                    left
                }
            };
        }
        self.at += left as u64;
        Some(left)
    }
}

impl Producer for Gzip {
    fn produce(&mut self, out: &mut Vec<u8>) -> Filled {
        while let Some(mut encoder) = self.encoder.take() {
            if self.at == self.size {
                return match encoder.finish() {
                    Ok(rest) => {
                        out.extend_from_slice(&rest);
                        Filled::End
                    }
                    Err(_) => Filled::Failed,
                };
            }
            if self.read().is_none() || encoder.write_all(&self.buffer).is_err() {
                return Filled::Failed;
            }
            let made = encoder.get_mut();
            out.append(made);
            self.encoder = Some(encoder);
            if out.len() >= PIECE_BYTES {
                return Filled::More;
            }
        }
        Filled::End
    }
}
