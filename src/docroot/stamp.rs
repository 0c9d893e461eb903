//! How the state of a file on disk is recognized: inode, size and times, from one `statx`.
//!
//! Must not know what a file contains.

use crate::docroot::Trouble;
use crate::docroot::own::Inode;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::StatxFlags;
use std::os::fd::AsFd;
use std::time::Duration;

/// What tells one state of a file from another. All of it must match for a cached file to be fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) inode: Inode,
    pub(crate) size: u64,
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
}

impl Stamp {
    pub(crate) fn of(stat: &rustix::fs::Statx) -> Self {
        Stamp {
            inode: Inode::of(stat),
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }

    /// The modification time in seconds since 1970, but never later than it can have been: a date
    /// in the future must not be sent (RFC 9110 section 8.8.2.1). The change time is the kernel's
    /// own clock, which nobody sets ahead.
    pub(crate) fn modified_secs(&self) -> i64 {
        self.modified.0.min(self.changed.0)
    }

    /// The time for `Last-Modified`, in seconds since 1970. `None` where the file has no time of
    /// its own: Nix, OSTree and reproducible archives set 0 or 1, so all versions of a file have
    /// that. A time before 1970 could not be compared.
    pub(crate) fn last_modified(&self) -> Option<u64> {
        u64::try_from(self.modified_secs()).ok().filter(|&secs| secs > 1)
    }

    /// Whether the file could be written again without this stamp showing it: the kernel's clock
    /// for files moves in steps of some milliseconds.
    pub(crate) fn is_too_young(&self, wall: Duration) -> bool {
        let changed = Duration::new(u64::try_from(self.changed.0).unwrap_or(0), self.changed.1);
        wall < changed + SETTLED_AFTER
    }
}

/// A file whose inode changed less than this before it was read is not kept: see
/// [`Stamp::is_too_young`].
const SETTLED_AFTER: Duration = Duration::from_millis(20);

pub(crate) const STAMP_MASK: StatxFlags = Inode::MASK;

pub(crate) fn stat(fd: impl AsFd) -> Result<rustix::fs::Statx, Trouble> {
    Ok(rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, STAMP_MASK)?)
}

pub(crate) fn file_type(stat: &rustix::fs::Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}
