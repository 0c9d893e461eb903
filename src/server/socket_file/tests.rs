//! Tests of the files of Unix sockets: dead, live, replaced and renamed ones.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};

use super::*;

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
