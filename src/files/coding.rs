//! Content codings of a file: a coded file that lies beside it, or gzip on the fly.
//!
//! The choice depends on `Accept-Encoding`, on `Range` and on the existing files. A coded file
//! beside the original is a representation of its own, with its own validators, and can be sent in
//! parts. A file that is compressed on the fly has a weak entity-tag and is only sent whole. The
//! reason is that its bytes depend on the compressor (RFC 9110 section 8.8.1). Must not know
//! connections.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::docroot::Docroot;
use crate::docroot::file::{CachedFile, Coded};
use crate::docroot::siblings::Siblings;
use crate::handler::offload::Producer;
use crate::http::negotiate::{Coding, Codings};
use crate::http::open_file::OpenFile;
use crate::http::{Filled, Request};
use crate::sync::Permit;

/// Bytes that are read and compressed at a time, and the least bytes of a piece before it is sent.
const READ_BYTES: usize = 64 * 1024;
const PIECE_BYTES: usize = 16 * 1024;

/// The form of a file that a request gets.
pub(super) enum Chosen {
    /// This file: the original, or a coded one.
    File(Arc<CachedFile>),
    /// The original, compressed while it is sent.
    Compressed,
    /// None: the client accepts no available form (406).
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
    // Only a weight can forbid a form. Without weights, a file with one form is sent in that form.
    let mut asked = request.headers().all("accept-encoding");
    if siblings.has_none() && !original.pays_to_compress(docroot) && !asked.any(|list| list.contains(&b';')) {
        return Chosen::File(Arc::clone(original));
    }
    let codings = Codings::of(request.headers().all("accept-encoding"));
    // Ranges apply to the original or to a coded file. A form made on the fly is only sent whole.
    let is_part = request.header("range").is_some();
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
            // HTTP/1.0 has no chunked coding, so the end of the content would be unclear.
            (None, None) if request.minor_version() >= 1 => Chosen::Compressed,
            (None, None) => Chosen::File(Arc::clone(original)),
        },
        None if codings.refuses_identity() && !is_part => Chosen::Nothing,
        None => Chosen::File(Arc::clone(original)),
    }
}

/// Returns whether compressing on the fly helps. A small file was compressed when it was loaded: if
/// that saved nothing, the original is sent.
fn is_worth_it(original: &CachedFile, siblings: &Siblings, codings: &Codings) -> bool {
    siblings.gzipped.is_some() || !original.is_in_memory() || codings.refuses_identity()
}

/// The content that is compressed while it is sent.
pub(super) enum Input {
    /// A large file.
    File(Arc<OpenFile>),
    /// A small file, for a client that accepts no other form.
    Memory(Arc<CachedFile>),
}

/// A producer that compresses a file, one piece at a time.
pub(super) struct Gzip {
    input: Input,
    at: u64,
    size: u64,
    /// `None` after the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
    buffer: Vec<u8>,
    _permit: Permit,
}

impl Gzip {
    pub(super) fn new(input: Input, size: u64, level: u32, permit: Permit) -> Self {
        let encoder = Some(GzEncoder::new(Vec::new(), Compression::new(level)));
        Gzip { input, at: 0, size, encoder, buffer: Vec::new(), _permit: permit }
    }

    /// Reads the next part. Fails if the file became shorter, because the validators in the head
    /// promise its size.
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
