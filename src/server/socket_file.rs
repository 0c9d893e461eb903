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

/// How often the lock of a folder is tried, [`LOCK_PAUSE`] apart: a second in all. A server holds
/// it for less than a millisecond; a program that cleans up temporary files may hold it for longer.
const LOCK_TRIES: u32 = 100;

/// The pause between two tries: 10 ms.
const LOCK_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// The file of a socket that this process has bound. Dropping the value removes the file, unless
/// another file has its name by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Keeps the inode: its number cannot go to another file while this server runs.
    own: OwnedFd,
}

impl SocketFile {
    /// Binds a socket to `path` and listens. A socket that a dead server left there is removed
    /// first.
    ///
    /// # Errors If the name belongs to a live socket or to a file that is no socket, or if that
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
        // Removed since: the next bind decides.
        Err(Errno::NOENT) => return Ok(()),
        found => found?,
    };
    let kind = match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
        FileType::Socket => None,
        FileType::RegularFile => Some("a regular file"),
        FileType::Directory => Some("a folder"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Fifo => Some("a named pipe"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        FileType::Unknown => Some("a file of unknown kind"),
    };
    if let Some(kind) = kind {
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
        let why = format!("a dead socket is there, and its folder cannot be locked to replace it: {errno}");
        return Err(io::Error::other(why));
    }
    if !names(path, &found)? {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process has just replaced the socket"));
    }
    Ok(rustix::fs::unlink(path)?)
}

/// Returns whether a process has the socket at `path` open. An error leaves that unknown.
fn is_live(path: &Path) -> Result<bool, Errno> {
    // Non-blocking: a full queue of a live socket would hold up the start.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(false),
        // EPROTOTYPE: open, but no stream socket.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Opens the file itself, whatever its kind, and for nothing but its identity.
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

/// Takes the lock of the folder in which `path` lies: a look at a name and its removal must be one
/// step among servers. The lock is free again when the value is dropped.
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
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn refusal(path: &Path) -> String {
        SocketFile::listen(path).map(|_| ()).expect_err("the path is taken").to_string()
    }

    fn leave_dead_socket(path: &Path) {
        drop(UnixListener::bind(path).unwrap());
    }

    #[test]
    fn a_dead_socket_is_replaced_and_removed_at_the_end() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        leave_dead_socket(&path);
        let (_listener, file) = SocketFile::listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
        // No stream, but as dead.
        drop(UnixDatagram::bind(&path).unwrap());
        SocketFile::listen(&path).unwrap();
    }

    #[test]
    fn only_sockets_are_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("file"), "precious").unwrap();
        fs::create_dir(at("folder")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, mode, 0).unwrap();
        leave_dead_socket(&at("dead"));
        for (name, target) in [("to-file", "file"), ("to-dead", "dead"), ("to-nothing", "nothing")] {
            symlink(target, at(name)).unwrap();
        }
        for (name, kind) in [
            ("file", "a regular file"),
            ("folder", "a folder"),
            ("pipe", "a named pipe"),
            ("to-file", "a symbolic link"),
            ("to-dead", "a symbolic link"),
            ("to-nothing", "a symbolic link"),
        ] {
            let before = fs::symlink_metadata(at(name)).unwrap().file_type();
            let why = refusal(&at(name));
            assert!(why.contains(kind), "{name}: {why}");
            assert_eq!(fs::symlink_metadata(at(name)).unwrap().file_type(), before, "{name}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");
        assert!(!at("nothing").exists());
    }

    #[test]
    fn a_live_socket_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let (_listener, _file) = SocketFile::listen(&at("ours")).unwrap();
        let _datagrams = UnixDatagram::bind(at("datagrams")).unwrap();
        for name in ["ours", "datagrams"] {
            assert!(refusal(&at(name)).contains("another process uses"), "{name}");
            assert!(fs::symlink_metadata(at(name)).unwrap().file_type().is_socket(), "{name}");
        }
    }

    /// A server that accepts nothing for the moment is alive. A probe that waits would wait as
    /// long.
    #[test]
    fn a_socket_with_a_full_queue_is_live() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let busy = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        busy.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        busy.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            if client.connect(&socket2::SockAddr::unix(&path).unwrap()).is_err() {
                break;
            }
            waiting.push(client);
        }
        assert!(refusal(&path).contains("another process uses"));
        assert!(path.exists());
    }

    #[test]
    fn the_end_removes_only_its_own_socket() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let replacements: [fn(&Path); 4] = [
            leave_dead_socket,
            |path| fs::write(path, "precious").unwrap(),
            |path| fs::create_dir(path).unwrap(),
            |path| symlink("elsewhere", path).unwrap(),
        ];
        for (number, replace) in replacements.into_iter().enumerate() {
            let (listener, file) = SocketFile::listen(&path).unwrap();
            fs::remove_file(&path).unwrap();
            // The inode would be free by now, and a new file may get its number.
            drop(listener);
            replace(&path);
            drop(file);
            assert!(fs::symlink_metadata(&path).is_ok(), "replacement {number} stays");
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        }
        // Renamed by its owner: the new name is not ours to remove.
        let (_listener, file) = SocketFile::listen(&path).unwrap();
        fs::rename(&path, scratch.path().join("renamed")).unwrap();
        drop(file);
        assert!(scratch.path().join("renamed").exists());
    }

    #[test]
    fn without_the_lock_of_the_folder_nothing_is_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let (dead, fresh) = (scratch.path().join("dead"), scratch.path().join("fresh"));
        leave_dead_socket(&dead);
        let held = lock_folder_of(&dead).unwrap();
        assert!(refusal(&dead).contains("cannot be locked"));
        let (_listener, file) = SocketFile::listen(&fresh).unwrap();
        drop(file);
        assert!(dead.exists() && fresh.exists());
        drop(held);
        SocketFile::listen(&dead).unwrap();
    }

    /// Each round has one winner, whose socket stays. More than one of them would have taken the
    /// name from another.
    #[test]
    fn of_servers_that_start_at_once_one_gets_the_socket() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        for round in 0..50 {
            leave_dead_socket(&path);
            let started: Vec<_> = std::thread::scope(|scope| {
                let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| SocketFile::listen(&path))).collect();
                runs.into_iter().map(|run| run.join().unwrap()).collect()
            });
            assert_eq!(started.iter().filter(|one| one.is_ok()).count(), 1, "round {round}: {started:?}");
            UnixStream::connect(&path).unwrap();
            drop(started);
            assert!(!path.exists());
        }
    }
}
