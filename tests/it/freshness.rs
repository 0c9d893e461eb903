//! Freshness of the memory cache: a change is visible after `fresh_ms` at most, and at once with
//! `--fresh 0`.
//!
//! These tests are the only ones that let time pass before a request, because the span is what they
//! test. Every round has its own file. The file is old enough for the cache to trust it. It is
//! requested, so that it is cached, then changed, and requested again.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::docroot::Docroot;
use crate::harness::{PATIENCE, Server, on_both, pass};
use crate::library::InProcess;
use crate::wire::{Client, get};

/// Default of `--fresh`.
const FRESH: Duration = Duration::from_millis(1);

/// The cache does not trust an entry made within this time after the last change, so it would prove
/// nothing.
const TRUSTED_AFTER: Duration = Duration::from_millis(40);

/// Content of every round's file before and after the change. Both have the same length.
const BEFORE: &str = "before\n";
const AFTER: &str = "after!\n";

/// A kind of change: the preparation of a round, and the change.
struct Change {
    /// Prepares round `number` so that the returned path has the content `before`.
    prepare: fn(&Docroot, number: usize, before: &str) -> String,
    /// Changes the content to `after`.
    change: fn(&Docroot, number: usize, after: &str),
}

fn check(change: &Change) {
    on_both(|model| {
        rounds(model, change, 1000, &[], FRESH);
        rounds(model, change, 200, &["--fresh", "0"], Duration::ZERO);
    });
}

fn rounds(model: &str, change: &Change, count: usize, flags: &[&str], wait: Duration) {
    let docroot = Docroot::empty();
    let paths: Vec<String> = (0..count).map(|number| (change.prepare)(&docroot, number, BEFORE)).collect();
    pass(TRUSTED_AFTER);
    let server = Server::start(model, &docroot.root(), flags);
    let mut client = Client::connect(server.port);
    for (number, path) in paths.iter().enumerate() {
        // Twice: into the cache, and from it.
        for _ in 0..2 {
            client.get(path).expect(200).with_body(BEFORE);
        }
        (change.change)(&docroot, number, AFTER);
        pass(wait);
        client.get(path).expect(200).with_body(AFTER);
    }
}

/// One plain file per round.
fn plain_file(docroot: &Docroot, number: usize, before: &str) -> String {
    docroot.write(&name(number), before);
    format!("/{}", name(number))
}

fn name(number: usize) -> String {
    format!("f{number}.txt")
}

/// Overwrites the bytes of a file in place.
fn overwrite(path: std::path::PathBuf, content: &str) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(content.as_bytes(), 0).unwrap();
}

#[test]
fn a_write_in_place_is_seen() {
    check(&Change {
        prepare: plain_file,
        change: |docroot, number, after| overwrite(docroot.path(&name(number)), after),
    });
}

#[test]
fn a_file_truncated_and_rewritten_is_seen() {
    check(&Change {
        prepare: plain_file,
        change: |docroot, number, after| {
            let mut file = File::options().write(true).open(docroot.path(&name(number))).unwrap();
            file.set_len(0).unwrap();
            file.write_all(after.as_bytes()).unwrap();
        },
    });
}

#[test]
fn a_shorter_file_is_seen() {
    on_both(|model| {
        for (count, flags, wait) in [(1000, &[][..], FRESH), (200, &["--fresh", "0"], Duration::ZERO)] {
            let docroot = Docroot::empty();
            for number in 0..count {
                docroot.write(&name(number), b"twelve bytes");
            }
            pass(TRUSTED_AFTER);
            let server = Server::start(model, &docroot.root(), flags);
            let mut client = Client::connect(server.port);
            for number in 0..count {
                let path = format!("/{}", name(number));
                client.get(&path).expect(200).with_body("twelve bytes");
                File::options().write(true).open(docroot.path(&name(number))).unwrap().set_len(6).unwrap();
                pass(wait);
                client.get(&path).expect(200).with_body("twelve");
            }
        }
    });
}

#[test]
fn a_file_replaced_by_a_rename_is_seen() {
    check(&Change {
        prepare: plain_file,
        change: |docroot, number, after| {
            fs::write(docroot.outside("new"), after).unwrap();
            fs::rename(docroot.outside("new"), docroot.path(&name(number))).unwrap();
        },
    });
}

/// Like `cp -p` and some editors: size and modification time stay the same, but the change time of
/// the inode differs.
#[test]
fn a_change_that_keeps_size_and_time_is_seen() {
    check(&Change {
        prepare: plain_file,
        change: |docroot, number, after| {
            let path = docroot.path(&name(number));
            let before = rustix::fs::stat(&path).unwrap();
            overwrite(path.clone(), after);
            let time = |tv_sec: i64, tv_nsec: u64| Timespec { tv_sec, tv_nsec: tv_nsec.cast_signed() };
            let times = Timestamps {
                last_access: time(before.st_atime, before.st_atime_nsec),
                last_modification: time(before.st_mtime, before.st_mtime_nsec),
            };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
            let after = rustix::fs::stat(&path).unwrap();
            assert_eq!(
                (before.st_size, before.st_mtime, before.st_mtime_nsec),
                (after.st_size, after.st_mtime, after.st_mtime_nsec)
            );
        },
    });
}

#[test]
fn a_write_through_a_hard_link_elsewhere_is_seen() {
    check(&Change {
        prepare: |docroot, number, before| {
            let path = plain_file(docroot, number, before);
            fs::hard_link(docroot.path(&name(number)), docroot.outside(&name(number))).unwrap();
            path
        },
        change: |docroot, number, after| overwrite(docroot.outside(&name(number)), after),
    });
}

#[test]
fn a_link_that_leads_elsewhere_is_seen() {
    check(&Change {
        prepare: |docroot, number, before| {
            if number == 0 {
                docroot.write("old.txt", before);
                docroot.write("new.txt", AFTER);
            }
            docroot.link("old.txt", &format!("link{number}.txt"));
            format!("/link{number}.txt")
        },
        change: |docroot, number, _| {
            docroot.link("new.txt", "link.new");
            fs::rename(docroot.path("link.new"), docroot.path(&format!("link{number}.txt"))).unwrap();
        },
    });
}

/// The file and its name stay the same. Only a folder above it changes.
#[test]
fn a_folder_moved_into_the_place_of_another_is_seen() {
    check(&Change {
        prepare: |docroot, number, before| {
            if number == 0 {
                docroot.write("before.txt", before);
                docroot.write("after.txt", AFTER);
            }
            for (folder, file) in [("d", "before.txt"), ("other", "after.txt")] {
                let below = docroot.path(&format!("{folder}{number}/below"));
                fs::create_dir_all(&below).unwrap();
                fs::hard_link(docroot.path(file), below.join("f.txt")).unwrap();
            }
            format!("/d{number}/below/f.txt")
        },
        change: |docroot, number, _| {
            fs::rename(docroot.path(&format!("d{number}")), docroot.outside(&format!("d{number}"))).unwrap();
            fs::rename(docroot.path(&format!("other{number}")), docroot.path(&format!("d{number}"))).unwrap();
        },
    });
}

#[test]
fn a_removed_file_is_missing_and_a_new_one_is_found() {
    on_both(|model| {
        for (count, flags, wait) in [(1000, &[][..], FRESH), (200, &["--fresh", "0"], Duration::ZERO)] {
            let docroot = Docroot::empty();
            for number in 0..count {
                docroot.write(&name(number), b"here");
            }
            pass(TRUSTED_AFTER);
            let server = Server::start(model, &docroot.root(), flags);
            let mut client = Client::connect(server.port);
            for number in 0..count {
                let path = format!("/{}", name(number));
                client.get(&path).expect(200).with_body("here");
                fs::remove_file(docroot.path(&name(number))).unwrap();
                pass(wait);
                client.get(&path).expect(404);
                docroot.write(&name(number), b"again");
                pass(wait);
                client.get(&path).expect(200).with_body("again");
            }
        }
    });
}

/// One file changes repeatedly, faster than clock ticks. No response may be older than the last
/// change before its request.
#[test]
fn a_file_that_changes_constantly_is_never_stale() {
    on_both(|model| {
        for (count, flags, wait) in [(1000, &[][..], FRESH), (200, &["--fresh", "0"], Duration::ZERO)] {
            let docroot = Docroot::empty();
            docroot.write("busy.txt", b"00000");
            let server = Server::start(model, &docroot.root(), flags);
            let mut client = Client::connect(server.port);
            for number in 0..count {
                let content = format!("{number:05}");
                overwrite(docroot.path("busy.txt"), &content);
                pass(wait);
                client.get("/busy.txt").expect(200).with_body(content);
            }
        }
    });
}

/// A request that the poll has reported was sent before the turn. So one check of the file in this
/// turn is sufficient for it, however long the turn is. A later request on the same connection may
/// have been sent later.
#[test]
fn one_check_per_turn_suffices_for_requests_sent_before_it() {
    let docroot = Docroot::empty();
    docroot.write("f.txt", BEFORE);
    pass(TRUSTED_AFTER);
    let (server, held) = holding(&docroot);
    // More clients than one batch.
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(server.port)).collect();
    for client in &mut clients {
        client.get("/tick").expect(200);
        client.get("/f.txt").expect(200).with_body(BEFORE);
    }
    clients[0].send(get("/hold"));
    held.wait();
    for (number, client) in clients.iter_mut().enumerate().skip(1) {
        client.send(match number {
            1 | 37 => get("/f.txt"),
            2 => get("/change"),
            38 => [get("/tick"), get("/f.txt")].concat(),
            39 => [b"\r\n".to_vec(), get("/f.txt")].concat(),
            _ => get("/tick"),
        });
    }
    held.release();
    let mut said = |client: usize| clients[client].response().expect(200).text().to_owned();
    assert_eq!(said(1), BEFORE);
    assert_eq!(said(2), "changed");
    assert_eq!(said(37), BEFORE, "a second check in one turn");
    assert_eq!((said(38), said(38)), ("tick".to_owned(), AFTER.to_owned()), "after another request");
    assert_eq!(said(39), AFTER, "after an empty line");
}

/// A new client follows a slow handler. Its request is newer than the times that the turn already
/// knows.
#[test]
fn after_a_slow_handler_the_clock_is_read() {
    let docroot = Docroot::empty();
    docroot.write("f.txt", BEFORE);
    pass(TRUSTED_AFTER);
    let (server, held) = holding(&docroot);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(server.port)).collect();
    for client in &mut clients {
        client.get("/f.txt").expect(200).with_body(BEFORE);
    }
    clients[0].send(get("/hold"));
    held.wait();
    clients[1].send(get("/f.txt"));
    clients[2].send(get("/change"));
    let mut late = Client::connect(server.port);
    late.send(get("/f.txt"));
    held.release();
    clients[1].response().expect(200).with_body(BEFORE);
    clients[2].response().expect(200).with_body("changed");
    late.response().expect(200).with_body(AFTER);
}

/// A request that blocks the loop, so that requests sent meanwhile arrive in one turn.
struct Held {
    has_entered: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

impl Held {
    fn wait(&self) {
        self.has_entered.recv_timeout(PATIENCE).unwrap();
    }

    fn release(&self) {
        self.go.send(()).unwrap();
    }
}

/// Starts a reactor in which `/hold` blocks the loop. `/change` changes the file and takes longer
/// than the cache trusts a check.
fn holding(docroot: &Docroot) -> (InProcess, Held) {
    let path = docroot.path("f.txt");
    let (entered, has_entered) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let app = whirligig::Server::builder()
        .get("/hold", move |_| {
            entered.send(()).unwrap();
            may_go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            "held"
        })
        .get("/change", move |_| {
            overwrite(path.clone(), AFTER);
            pass(3 * FRESH);
            "changed"
        })
        .get("/tick", |_| "tick")
        .files(docroot.root());
    let server = InProcess::start("reactor", app);
    (server, Held { has_entered, go })
}
