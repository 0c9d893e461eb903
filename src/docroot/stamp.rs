//! The state of a file on disk: inode, size and times, from one `statx`.
//!
//! Served files and password files are compared by this type. Must not know what a file contains.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, StatxFlags};

use crate::docroot::LookupError;
use crate::docroot::own::Inode;

/// The values that distinguish one state of a file from another. A cached file is fresh only if all
/// of them match.
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

    /// Returns the stamp of the file that `path` leads to now. Follows links.
    #[cfg(feature = "auth")]
    pub(crate) fn at(path: &std::path::Path) -> rustix::io::Result<Stamp> {
        rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), STAMP_MASK).map(|stat| Stamp::of(&stat))
    }

    /// Returns the modification time in seconds since 1970, at most the change time. A date in the
    /// future must not be sent (RFC 9110 section 8.8.2.1). The kernel sets the change time from its
    /// clock, and programs cannot set it ahead.
    pub(crate) fn modified_secs(&self) -> i64 {
        self.modified.0.min(self.changed.0)
    }

    /// Returns the time for `Last-Modified`, in seconds since 1970. `None` if the file has no time
    /// of its own: Nix, OSTree and reproducible archives set 0 or 1, so all versions of a file have
    /// the same time. A time before 1970 could not be compared.
    pub(crate) fn last_modified(&self) -> Option<u64> {
        u64::try_from(self.modified_secs()).ok().filter(|&secs| secs > 1)
    }

    /// Returns whether the file could be written again with the same stamp, because the kernel's
    /// clock for files advances in steps of some milliseconds.
    pub(crate) fn is_too_young(&self, wall: Duration) -> bool {
        let changed = Duration::new(u64::try_from(self.changed.0).unwrap_or(0), self.changed.1);
        wall < changed + SETTLED_AFTER
    }
}

/// A file whose inode changed less than this before it was read is not cached: see
/// [`Stamp::is_too_young`].
const SETTLED_AFTER: Duration = Duration::from_millis(20);

pub(crate) const STAMP_MASK: StatxFlags = Inode::MASK;

pub(crate) fn stat(fd: impl AsFd) -> Result<rustix::fs::Statx, LookupError> {
    Ok(rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, STAMP_MASK)?)
}

pub(crate) fn file_type(stat: &rustix::fs::Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

/// Returns the kind of a file with its article, for error messages.
pub(crate) fn described(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "a file of unknown kind",
    }
}
