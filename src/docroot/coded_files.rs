//! Coded forms of a file: precompressed files beside it, and its gzip form if it is small.
//!
//! Must not know which form a client prefers.

use std::sync::Arc;
use std::time::Duration;

use crate::docroot::file::{CachedFile, Meta};
use crate::docroot::stamp::Stamp;
use crate::docroot::types::Compressible;
use crate::docroot::{Disk, Docroot, LookupError};
use crate::http::negotiate::Coding;

/// Maximum difference in seconds by which a coded file may be older than its original. Older ones
/// were made from another version. Some tools that copy trees do not keep the order of times within
/// a second or two.
const OLDER_SECS_MAX: i64 = 2;

/// Returns the end of the name of a coded file.
pub(crate) const fn suffix(coding: Coding) -> &'static [u8] {
    match coding {
        Coding::Brotli => b".br",
        Coding::Zstd => b".zst",
        Coding::Gzip => b".gz",
    }
}

/// The coded forms of one file.
#[derive(Debug)]
pub(crate) struct CodedFiles {
    /// True if coded files were searched for.
    were_sought: bool,
    /// The stamps of the names on the disk, in the order of [`Coding::ALL`], for the freshness
    /// check.
    stamps: [Option<Stamp>; 3],
    /// The coded files that may be sent.
    pub(crate) files: [Option<Arc<CachedFile>>; 3],
    /// The gzip form, if the file is small and that makes it smaller.
    pub(crate) gzipped: Option<Arc<CachedFile>>,
}

impl CodedFiles {
    /// Loads the coded files beside `original`, and compresses it if that pays.
    pub(crate) fn load(
        docroot: &Docroot,
        path: &[u8],
        original: &CachedFile,
        disk: Disk,
        wall: Duration,
    ) -> Result<Self, LookupError> {
        let were_sought = docroot.options.precompressed && original.compressible != Compressible::No;
        let mut coded_files =
            CodedFiles { were_sought, stamps: [None; 3], files: [None, None, None], gzipped: None };
        if were_sought {
            for coding in Coding::ALL {
                match docroot.find_coded(path, coding, original, disk, wall) {
                    Ok((stamp, file)) => {
                        coded_files.stamps[coding as usize] = Some(stamp);
                        coded_files.files[coding as usize] =
                            file.filter(|file| is_of(file, original)).map(Arc::new);
                    }
                    Err(LookupError::Cold) => return Err(LookupError::Cold),
                    // The coded file does not exist or cannot be read. The original can.
                    Err(_) => {}
                }
            }
        }
        if coded_files.files[Coding::Gzip as usize].is_none() && original.pays_to_compress(docroot) {
            coded_files.gzipped = original.gzipped(docroot.options.compress_level).map(Arc::new);
        }
        Ok(coded_files)
    }

    /// Returns whether every name beside the `original` at `path` still has the same stamp on the
    /// disk.
    pub(crate) fn are_fresh(&self, docroot: &Docroot, path: &[u8], original: &Meta) -> bool {
        !self.were_sought
            || Coding::ALL.into_iter().all(|coding| match &self.files[coding as usize] {
                Some(file) => docroot.is_unchanged(path, suffix(coding), &file.meta),
                None => docroot.stamp(path, suffix(coding), original) == self.stamps[coding as usize],
            })
    }

    /// Returns whether the original is the only form.
    pub(crate) fn has_none(&self) -> bool {
        self.files.iter().chain([&self.gzipped]).all(Option::is_none)
    }

    /// Returns when the first of the tags becomes a strong one, if any does.
    pub(crate) fn settles(&self) -> Option<Duration> {
        self.files.iter().flatten().filter_map(|file| file.meta.tag.settles).min()
    }

    /// Returns the cost for the cache, in bytes.
    pub(crate) fn cost(&self) -> usize {
        let files = self.files.iter().chain([&self.gzipped]).flatten();
        size_of::<Self>() + files.map(|file| file.cost()).sum::<usize>()
    }
}

/// Returns whether a coded file can have been made from this original.
fn is_of(coded: &CachedFile, original: &CachedFile) -> bool {
    let (coded, original) = (coded.meta.stamp.modified_secs(), original.meta.stamp.modified_secs());
    coded.saturating_add(OLDER_SECS_MAX) >= original
}
