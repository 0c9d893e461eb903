//! Opening names beneath the root with `openat2`.
//!
//! Must not know what the opened file is for.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::config::Symlinks;
use crate::docroot::{Docroot, Reach, Trouble};

/// How often an open that was interrupted or raced is tried again.
const OPEN_TRIES: usize = 32;

impl Docroot {
    /// Opens a name beneath the root. A FIFO or a device does not hold us (O_NONBLOCK), a terminal
    /// does not become ours (O_NOCTTY).
    pub(crate) fn open_beneath(&self, name: &[u8], reach: Reach) -> Result<OwnedFd, Trouble> {
        self.open_as(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, reach)
    }

    pub(super) fn open_as(&self, name: &[u8], flags: OFlags, reach: Reach) -> Result<OwnedFd, Trouble> {
        let flags = flags | OFlags::CLOEXEC;
        let mut resolve = match self.options.symlinks {
            Symlinks::Inside => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Symlinks::No => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            // Dot segments are gone already, so only a link can lead out, and that is what was
            // asked for.
            Symlinks::All => ResolveFlags::NO_MAGICLINKS,
        };
        if reach == Reach::InMemory {
            resolve |= ResolveFlags::CACHED;
        }
        for _ in 0..OPEN_TRIES {
            match rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve) {
                Ok(fd) => return Ok(fd),
                Err(Errno::INTR) => {}
                // Off the loop AGAIN means that a rename raced with a `..` in a link (openat2(2)):
                // look again. It also stands for a lease that another process holds (fcntl(2)), and
                // that may take long: then give up.
                Err(Errno::AGAIN) if reach == Reach::OnDisk => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Trouble::Cold)
    }
}

/// The links that are followed, where the places of open files are reported or not. By its place it
/// is decided whether a file may be shown, so without that no link is followed.
pub(crate) fn links_followed(asked: Symlinks, is_reported: bool) -> Result<Symlinks, &'static str> {
    match asked {
        asked if is_reported => Ok(asked),
        Symlinks::Inside | Symlinks::No => Ok(Symlinks::No),
        Symlinks::All => Err(
            "--symlinks all needs /proc/self/fd, which cannot be read here: mount /proc, or leave the flag out",
        ),
    }
}

/// An old kernel does not know how to keep a name beneath a folder, and some sandboxes forbid what
/// they do not know. Then every request would fail: better nothing is started.
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
