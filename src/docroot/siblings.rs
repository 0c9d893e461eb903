//! Coded forms of a file: precompressed files beside it, and its gzip form if it is small.
//!
//! Must not know which form a client prefers.

use crate::docroot::Docroot;
use crate::docroot::Reach;
use crate::docroot::Trouble;
use crate::docroot::file::CachedFile;
use crate::docroot::stamp::Stamp;
use crate::docroot::types::Compressible;
use crate::http::negotiate::Coding;
use std::sync::Arc;
use std::time::Duration;

/// A coded file may be this much older than its original; older ones were made from another
/// version. Some tools that copy trees do not keep the order of times within a second or two.
const OLDER_SECS_MAX: i64 = 2;

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
    pub(crate) files: [Option<Arc<CachedFile>>; 3],
    /// Compressed by us, if the file is small and it was worth it.
    pub(crate) gzipped: Option<Arc<CachedFile>>,
}

impl Siblings {
    /// Looks for coded files beside `original`, and makes one if that pays.
    pub(crate) fn load(
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
    pub(crate) fn has_none(&self) -> bool {
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
