//! No name leads out of the served folder: neither by its spelling, nor while links change.
//!
//! A secret file is next to the folder. Its bytes must never be sent, whatever a client requests,
//! and no spelling may cause a server error (5xx).
//!
//! `WHIRLIGIG_RACE_REQUESTS=N` sets the number of requests against the changing links (10,000 per
//! model by default, more in `.ci/run`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::docroot::{Docroot, SECRET};
use crate::harness::{Server, on_both};
use crate::wire::{Client, get};

/// Spellings of "the parent folder".
const UPS: &[&str] = &[
    "..",
    "%2e%2e",
    ".%2e",
    "%2e.",
    "%2E%2E",
    "%2E.",
    "..%00",
    "..%01",
    "..;",
    "..;a=b",
    "...",
    "....",
    ". .",
    "..%20",
    "%20..",
    "..%09",
    "..%0d",
    "..%0a",
    "..?",
    "..#",
    "..%23",
    "..%3f",
    "..~",
    "~",
    "..::$DATA",
    "%u002e%u002e",
    // Encoded twice and three times.
    "%252e%252e",
    "%25252e%25252e",
    "%%32%65%%32%65",
    "%%2e%%2e",
    "%2%65%2%65",
    // Dots in UTF-8 sequences of two, three and four bytes, of which only one byte is valid, and
    // other dots.
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%f0%80%80%ae%f0%80%80%ae",
    "%c0%2e%c0%2e",
    "%ef%bc%8e%ef%bc%8e",
    "%e2%80%a5",
    "%e2%80%a4%e2%80%a4",
    "%ff%fe.%00.%00",
];

/// Spellings of the separator between two names.
const SLASHES: &[&str] = &[
    "/",
    "//",
    "/./",
    "/%2e/",
    "/x/../",
    "%2f",
    "%2F",
    "\\",
    "%5c",
    "/%5c",
    "\\/",
    "%252f",
    "%255c",
    "%c0%af",
    "%c1%9c",
    "%e0%80%af",
    "%ef%bc%8f",
    "%e2%88%95",
    ":",
    "%00/",
];

/// Returns targets that try to reach the secret.
fn spellings(root: &Path) -> Vec<String> {
    let parent = root.parent().expect("the folder above").to_str().expect("a path in UTF-8");
    let mut found = BTreeSet::new();
    for up in UPS {
        for slash in SLASHES {
            for depth in [1, 8] {
                let climb = format!("{up}{slash}").repeat(depth);
                let path = format!("{climb}outside{slash}secret.txt");
                found.insert(format!("/{path}"));
                found.insert(format!("/plain{slash}{up}{slash}{path}"));
                found.insert(format!("/{climb}{}/outside/secret.txt", &parent[1..]));
            }
            found.insert(format!("http://localhost/{up}{slash}outside{slash}secret.txt"));
            found.insert(format!("/link-dir-in{slash}{up}{slash}{up}{slash}outside{slash}secret.txt"));
            found.insert(format!("{up}{slash}outside{slash}secret.txt"));
            found.insert(format!("/link-dir-out{slash}{up}{slash}outside{slash}secret.txt"));
        }
        found.insert(format!("http://localhost{up}/outside/secret.txt"));
        found.insert(format!("/?/{up}/outside/secret.txt"));
        found.insert(format!("/{up}"));
        found.insert(format!("/{up}/"));
    }
    for slash in SLASHES {
        found.insert(format!("/link-dir-out{slash}secret.txt"));
        found.insert(format!("/sub{slash}..{slash}link-out.txt"));
        found.insert(format!("{slash}link-absolute.txt"));
    }
    for more in [
        "file://",
        "file:",
        "/file://",
        "/",
        "//",
        "///",
        "",
        "http://",
        "/%2f",
        "/\\\\?\\",
        "/proc/self/root",
        "/proc/self/cwd/..",
    ] {
        found.insert(format!("{more}{parent}/outside/secret.txt"));
        found.insert(format!("{more}/../outside/secret.txt"));
    }
    found.into_iter().collect()
}

#[test]
fn no_spelling_leaves_the_root() {
    let docroot = Docroot::new();
    let targets = spellings(&docroot.root());
    assert!(targets.len() >= 171, "{} spellings", targets.len());
    on_both(|model| {
        for symlinks in ["inside", "no"] {
            let server = Server::start(model, &docroot.root(), &["--symlinks", symlinks]);
            // Reuses the connection as long as it stays open, because most of these targets do not
            // close it.
            let mut client = Client::connect(server.port);
            for target in &targets {
                client.send(get(target));
                let got = client.response();
                let text = String::from_utf8_lossy(&got.body);
                assert!(!text.contains(SECRET), "{target} led to the secret");
                assert!(got.status < 500, "{target}: {}", got.status);
                // Inside of the folder, a target may name something, as `/..` does. Then the
                // response is one of our pages, or a redirect to one.
                let harmless = match got.status {
                    200 | 301 => !target.contains("secret") && !target.contains("link-"),
                    _ => true,
                };
                assert!(harmless || target.contains(['?', '#']), "{target}: {}: {text}", got.status);
                if got.says_close() {
                    client = Client::connect(server.port);
                }
            }
        }
    });
}

/// Returns the number of requests against changing links.
fn race_requests() -> usize {
    let text = std::env::var("WHIRLIGIG_RACE_REQUESTS").unwrap_or_else(|_| "10000".into());
    text.parse().unwrap_or_else(|_| panic!("WHIRLIGIG_RACE_REQUESTS={text} is not a number"))
}

/// Links with their two alternating targets: one inside of the folder, one outside.
const LINKS: [(&str, [&str; 2]); 3] = [
    ("file", ["open/secret.txt", "../outside/secret.txt"]),
    ("folder", ["open", "../outside"]),
    ("way/in", ["../open", "../../outside"]),
];

/// Alternates the targets of all links by renames until `done`.
fn flip(docroot: &Docroot, done: &AtomicBool) {
    let fresh = docroot.path(".fresh");
    for side in [0, 1].into_iter().cycle() {
        for (name, targets) in LINKS {
            symlink(targets[side], &fresh).unwrap();
            fs::rename(&fresh, docroot.path(name)).unwrap();
        }
        if done.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Stops changing the links, also after a failed check.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Requests the targets of the links, many at a time. Returns the number of files shown and of
/// files not found.
fn ask(port: u16, rounds: usize, open: &str) -> [usize; 2] {
    let paths = ["/file", "/folder/secret.txt", "/way/in/secret.txt", "/folder/", "/way/in/?text"];
    let batch: Vec<&str> = paths.iter().copied().cycle().take(BATCH).collect();
    let asked: Vec<u8> = batch.iter().flat_map(|path| get(path)).collect();
    let mut client = Client::connect(port);
    let mut counts = [0, 0];
    for _ in 0..rounds {
        client.send(&asked);
        for path in &batch {
            let got = client.response();
            let text = String::from_utf8_lossy(&got.body);
            assert!(!text.contains(SECRET), "{path} showed the secret");
            assert!([200, 404].contains(&got.status), "{path}: {}: {text}", got.status);
            let is_file = path.ends_with("secret.txt") || path.ends_with("file");
            assert!(got.status == 404 || !is_file || text == open, "{path}: {text}");
            counts[usize::from(got.status == 404)] += 1;
        }
    }
    counts
}

/// Requests sent at once in the race.
const BATCH: usize = 100;

/// Links alternate between allowed and forbidden targets thousands of times per second while
/// requests arrive. A server that first checks a name and then opens it loses this race sooner or
/// later.
#[test]
fn a_changing_link_never_shows_the_secret() {
    let rounds = race_requests().div_ceil(2 * BATCH);
    on_both(|model| {
        let docroot = Docroot::empty();
        // Content of equal length, so that a size does not distinguish the two.
        let open = "x".repeat(SECRET.len());
        docroot.write("open/secret.txt", &open);
        docroot.write("way/x", b"");
        fs::write(docroot.outside("secret.txt"), SECRET).unwrap();
        for fresh in ["0", "1"] {
            let server = Server::start(model, &docroot.root(), &["--fresh", fresh, "--symlinks", "inside"]);
            let done = AtomicBool::new(false);
            let counts = thread::scope(|scope| {
                let _finish = Finish(&done);
                scope.spawn(|| flip(&docroot, &done));
                ask(server.port, rounds, &open)
            });
            // If one side always wins, the race tests nothing.
            assert!(counts.iter().all(|&count| count > rounds), "shown and not found: {counts:?}");
        }
    });
}
