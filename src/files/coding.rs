//! Content codings of a file: a coded file that lies beside it, or gzip on the fly.
//!
//! The choice depends on `Accept-Encoding`, on `Range` and on the existing files. A coded file
//! beside the original is a representation of its own, with its own validators, and can be sent in
//! parts. A file that is compressed on the fly has a weak entity-tag and is only sent whole. The
//! reason is that its bytes depend on the compressor (RFC 9110 section 8.8.1). Must not know
//! connections.

use std::sync::Arc;

use crate::docroot::Docroot;
use crate::docroot::coded_files::CodedFiles;
use crate::docroot::file::{CachedFile, Coded};
use crate::http::Request;
use crate::http::negotiate::{Coding, Codings};

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
    coded_files: Option<&CodedFiles>,
    request: &Request<'_>,
) -> Chosen {
    let Some(coded_files) = coded_files else { return Chosen::File(Arc::clone(original)) };
    if matches!(original.meta.coded, Coded::Itself(_)) {
        return Chosen::File(Arc::clone(original));
    }
    // Only a weight can forbid a form. Without weights, a file with one form is sent in that form.
    let mut asked = request.headers().all("accept-encoding");
    if coded_files.has_none()
        && !original.pays_to_compress(docroot)
        && !asked.any(|list| list.contains(&b';'))
    {
        return Chosen::File(Arc::clone(original));
    }
    let codings = Codings::of(request.headers().all("accept-encoding"));
    // Ranges apply to the original or to a coded file. A form made on the fly is only sent whole.
    let is_part = request.header("range").is_some();
    let on_the_fly = !is_part
        && docroot.options.compress_level.is_some()
        && (original.pays_to_compress(docroot) || codings.refuses_identity());
    let is_offered = |coding: Coding| {
        coded_files.files[coding as usize].is_some()
            || (coding == Coding::Gzip && on_the_fly && is_worth_it(original, coded_files, &codings))
    };
    match codings.choose(is_offered) {
        Some(coding) => match (&coded_files.files[coding as usize], &coded_files.gzipped) {
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
fn is_worth_it(original: &CachedFile, coded_files: &CodedFiles, codings: &Codings) -> bool {
    coded_files.gzipped.is_some() || !original.is_in_memory() || codings.refuses_identity()
}
