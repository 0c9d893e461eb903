//! The promise of the memory cache: a change is seen `fresh_ms` later at the most, and at once with
//! `--fresh 0`.
//!
//! Waiting out `fresh_ms` is the promise itself, so these are the only tests that let time pass on
//! purpose before they ask. Every round has a file of its own that has lain still long enough to be
//! trusted by the cache, is asked for so that it is cached and fresh, is changed, and is asked for
//! again.

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

/// `--fresh` as it is by default.
const FRESH: Duration = Duration::from_millis(1);

/// An entry made within this time of the file's last change is not trusted, and so would prove
/// nothing.
const TRUSTED_AFTER: Duration = Duration::from_millis(40);

/// What every round's file says first, and what it says after the change: as many bytes.
const BEFORE: &str = "before\n";
const AFTER: &str = "after!\n";

/// A kind of change: how a round is prepared and how it is changed.
struct Change {
    /// Makes round `number` answer at the returned path with `before`.
    prepare: fn(&Docroot, number: usize, before: &str) -> String,
    /// Makes it answer with `after`.
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
        // Twice: into the cache, and out of it.
        for _ in 0..2 {
            client.get(path).expect(200).with_body(BEFORE);
        }
        (change.change)(&docroot, number, AFTER);
        pass(wait);
        client.get(path).expect(200).with_body(AFTER);
    }
}

/// One plain file a round.
fn plain_file(docroot: &Docroot, number: usize, before: &str) -> String {
    docroot.write(&name(number), before);
    format!("/{}", name(number))
}

fn name(number: usize) -> String {
    format!("f{number}.txt")
}

/// Writes over the bytes of a file that stays what it is.
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
fn a_file_emptied_and_written_anew_is_seen() {
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
fn a_file_renamed_over_is_seen() {
    check(&Change {
        prepare: plain_file,
        change: |docroot, number, after| {
            fs::write(docroot.outside("new"), after).unwrap();
            fs::rename(docroot.outside("new"), docroot.path(&name(number))).unwrap();
        },
    });
}

/// What `cp -p` and some editors do: length and time of change stay what they were. The inode knows
/// better.
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

/// Neither the file nor its name has changed, only what is above it.
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
fn a_removed_file_is_gone_and_a_new_one_is_there() {
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

/// One file, changed again and again faster than clocks tick: no answer may be older than the
/// change before it.
#[test]
fn a_file_that_never_lies_still_is_never_stale() {
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

/// What the poll has reported was sent before the turn, and is content with what was looked at in
/// the turn, however long that is. What comes behind that may have been sent later.
#[test]
fn one_look_a_turn_is_enough_for_what_was_sent_before_it() {
    let docroot = Docroot::empty();
    docroot.write("f.txt", BEFORE);
    pass(TRUSTED_AFTER);
    let (server, held) = holding(&docroot);
    // More than one batch.
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
    assert_eq!(said(37), BEFORE, "a second look in one turn");
    assert_eq!((said(38), said(38)), ("tick".to_owned(), AFTER.to_owned()), "behind another request");
    assert_eq!(said(39), AFTER, "behind an empty line");
}

/// A slow handler is followed by a new client: what that asks for is as old as it is, whatever the
/// turn knows.
#[test]
fn behind_a_slow_handler_the_clock_is_looked_at() {
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

/// A request that holds the loop up, so that what is sent meanwhile comes in one turn.
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

/// A reactor that `/hold` holds up; `/change` changes the file and takes longer than files are
/// trusted.
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
