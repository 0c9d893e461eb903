//! The file of a Unix socket: created at start, removed at stop. No other file is ever removed.
//!
//! bind(2) fails while the name exists, and a server that was killed leaves its socket behind. So a
//! socket on which no process listens is replaced. A live socket, a file of any other kind and a
//! symbolic link are errors that name the file. This module must not know how connections are
//! accepted.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::event::Timespec;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::docroot::stamp::described;

/// Number of attempts to lock a folder, [`LOCK_PAUSE`] apart: one second in total. A server holds
/// the lock for less than a millisecond; a program that cleans up temporary files may hold it
/// longer.
const LOCK_TRIES: u32 = 100;

/// Pause between two attempts: 10 ms.
const LOCK_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// The file of a socket that this process has bound. Dropping the value removes the file, unless
/// another file has its name by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Keeps the inode, so that its number cannot be reused while this server runs.
    own: OwnedFd,
}

impl SocketFile {
    /// Binds a socket to `path` and listens. A socket that a dead server left there is removed
    /// first.
    ///
    /// # Errors
    ///
    /// If the name belongs to a live socket or to a file that is no socket, or if that cannot be
    /// checked.
    /// cannot be checked.
    pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
        // Between bind(2) and listen(2) a socket looks dead: two servers that start at once take
        // turns.
        let lock = lock_folder_of(path);
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_dead_socket(path, lock.as_ref().map_err(|errno| *errno))?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        let own = pin(path)?;
        Ok((listener, SocketFile { path: path.to_owned(), own }))
    }

    /// The path of the socket, as it was configured.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let removed = lock_folder_of(&self.path).and_then(|_lock| {
            if names(&self.path, &self.own)? { rustix::fs::unlink(&self.path) } else { Ok(()) }
        });
        if let Err(errno) = removed {
            log::warn!("the file of the Unix socket '{}' was not removed: {errno}", self.path.display());
        }
    }
}

/// Removes the socket at `path` if no process listens on it. Without the lock of the folder nothing
/// is removed.
fn remove_dead_socket(path: &Path, lock: Result<&OwnedFd, Errno>) -> io::Result<()> {
    let found = match pin(path) {
        // The file was removed in the meantime; the next bind decides.
        Err(Errno::NOENT) => return Ok(()),
        found => found?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    if kind != FileType::Socket {
        let kind = described(kind);
        let why = format!("the path is the name of {kind}, and only a dead socket is replaced");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    let is_live = is_live(path).map_err(|errno| {
        io::Error::other(format!("whether a process uses the socket cannot be checked: {errno}"))
    })?;
    if is_live {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process uses the socket"));
    }
    if let Err(errno) = lock {
        let why =
            format!("the path is a dead socket, and its folder cannot be locked to replace it: {errno}");
        return Err(io::Error::other(why));
    }
    if !names(path, &found)? {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process has just replaced the socket"));
    }
    Ok(rustix::fs::unlink(path)?)
}

/// Returns whether a process has the socket at `path` open. An error leaves that unknown.
fn is_live(path: &Path) -> Result<bool, Errno> {
    // Non-blocking, because a live socket with a full queue would delay the start.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(false),
        // EPROTOTYPE: the socket is open, but is not a stream socket.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Opens a file of any kind with `O_PATH`, only to identify it.
fn pin(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Returns whether `path` is a name of this open file now.
fn names(path: &Path, file: &OwnedFd) -> Result<bool, Errno> {
    let file = rustix::fs::fstat(file)?;
    match rustix::fs::lstat(path) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (file.st_dev, file.st_ino)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Locks the folder that contains `path`, because checking a name and removing it must be one step
/// among servers. Dropping the value releases the lock.
fn lock_folder_of(path: &Path) -> Result<OwnedFd, Errno> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    for _ in 0..LOCK_TRIES {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => drop(rustix::event::poll(&mut [], Some(&LOCK_PAUSE))),
            Err(Errno::INTR) => {}
            locked => return locked.map(|()| folder),
        }
    }
    Err(Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests;
