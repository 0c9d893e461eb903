//! Opening names beneath the root with `openat2`.
//!
//! Must not know what the opened file is for.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::config::Symlinks;
use crate::docroot::{Disk, Docroot, LookupError};

/// Maximum attempts of an open that was interrupted or raced.
const OPEN_TRIES: usize = 32;

impl Docroot {
    /// Opens a name beneath the root. O_NONBLOCK, because opening a FIFO or device must not block.
    /// O_NOCTTY, because a terminal must not become that of the process.
    pub(crate) fn open_beneath(&self, name: &[u8], disk: Disk) -> Result<OwnedFd, LookupError> {
        self.open_as(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, disk)
    }

    pub(super) fn open_as(&self, name: &[u8], flags: OFlags, disk: Disk) -> Result<OwnedFd, LookupError> {
        let flags = flags | OFlags::CLOEXEC;
        let mut resolve = match self.options.symlinks {
            Symlinks::Inside => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Symlinks::No => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            // The path has no dot segments, so only a link can lead out, which this option allows.
            Symlinks::All => ResolveFlags::NO_MAGICLINKS,
        };
        if disk == Disk::CachedOnly {
            resolve |= ResolveFlags::CACHED;
        }
        for _ in 0..OPEN_TRIES {
            match rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve) {
                Ok(fd) => return Ok(fd),
                Err(Errno::INTR) => {}
                // Off the loop, AGAIN means that a rename raced with a `..` in a link (openat2(2)),
                // or that another process holds a lease (fcntl(2)). A retry helps against the first
                // only. The two look alike, so the tries are bounded.
                Err(Errno::AGAIN) if disk == Disk::MayBlock => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(LookupError::Cold)
    }
}

/// Returns the symlink policy to use. A file may be sent only if its location is known. If the
/// kernel does not report locations, links are not followed, and `All` is an error.
pub(crate) fn links_followed(asked: Symlinks, is_reported: bool) -> Result<Symlinks, &'static str> {
    match asked {
        asked if is_reported => Ok(asked),
        Symlinks::Inside | Symlinks::No => Ok(Symlinks::No),
        Symlinks::All => Err(
            "--symlinks all needs /proc/self/fd, which cannot be read here: mount /proc, or leave the flag out",
        ),
    }
}

/// Fails if `openat2` does not work: RESOLVE_CACHED needs Linux 5.12, and some sandboxes forbid the
/// call. Then every request would fail, so the server must not start.
pub(super) fn can_open_beneath(folder: &OwnedFd) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::CACHED;
    match rustix::fs::openat2(folder, c".", flags, Mode::empty(), resolve) {
        Err(errno @ (Errno::NOSYS | Errno::INVAL | Errno::PERM)) => {
            let why = format!("files cannot be opened safely, since openat2 does not work here: {errno}");
            Err(std::io::Error::new(std::io::ErrorKind::Unsupported, why))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
