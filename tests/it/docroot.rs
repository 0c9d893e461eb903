//! A folder to serve, with all kinds of files that can be served incorrectly.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// Content that must never be visible over HTTP.
pub(crate) const SECRET: &str = "SECRET-61c1d0";
/// Content of `/hello.txt`.
pub(crate) const HELLO: &[u8] = b"hello, world\n";
/// Paths and sizes of the patterned files: below and above every threshold between memory, sendfile
/// and slices.
pub(crate) const PATTERNED: [(&str, usize); 4] =
    [("/k1.bin", 1024), ("/k33.bin", 33 * 1024), ("/k300.bin", 300 * 1024), ("/m5.bin", 5 * 1024 * 1024)];
/// A name that is markup, an attribute value and a query.
pub(crate) const MARKUP: &str = "<b onclick=x()>&amp'\"?#.txt";
/// A name with spaces and characters outside ASCII.
pub(crate) const CHINESE: &str = "一个 文件.txt";

/// Returns bytes that depend on their offset, so any shift, loss or repetition is visible. The
/// period is prime, so it is no multiple of a block size.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    const PERIOD: u64 = 65_521;
    let block: Vec<u8> = (0..PERIOD).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect();
    block.iter().copied().cycle().take(length).collect()
}

/// The folder. Deleted on drop.
pub(crate) struct Docroot {
    /// Contains `root/`, which is served, and `outside/`, which must not be.
    dir: TempDir,
}

impl Docroot {
    /// Creates an empty folder.
    pub(crate) fn empty() -> Docroot {
        let dir = TempDir::with_prefix("whirligig-").unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        Docroot { dir }
    }

    /// Creates the folder with all files.
    pub(crate) fn new() -> Docroot {
        let docroot = Docroot::empty();
        docroot.write("index.html", index("Home"));
        docroot.write("hello.txt", HELLO);
        docroot.write("empty.txt", b"");
        for (path, size) in PATTERNED {
            docroot.write(&path[1..], pattern(size));
            // Old enough for a strong entity-tag at once.
            docroot.set_modified(&path[1..], 1_700_000_000);
        }
        docroot.write("sub/index.html", index("Sub"));
        docroot.write("plain/one.txt", b"one");
        docroot.write("plain/two.txt", b"two");
        docroot.write("plain/deeper/three.txt", b"three");
        docroot.write("plain/.hidden", SECRET);
        docroot.write("a folder/file.txt", b"in a folder");
        docroot.write("with space.txt", b"space");
        docroot.write(CHINESE, "汉字\n");
        docroot.write(MARKUP, b"markup");
        docroot.write("100%.txt", b"percent");
        docroot.write(".secret", SECRET);
        docroot.write(".git/config", SECRET);
        docroot.write(".well-known/security.txt", b"Contact: mailto:someone@example.com\n");
        fs::write(docroot.outside("secret.txt"), SECRET).unwrap();
        docroot.link("hello.txt", "link-in.txt");
        docroot.link("plain", "link-dir-in");
        docroot.link("../outside/secret.txt", "link-out.txt");
        docroot.link("../outside", "link-dir-out");
        docroot.link(docroot.outside("secret.txt"), "link-absolute.txt");
        docroot.link("loop.txt", "loop.txt");
        docroot.link(".secret", "link-dot.txt");
        docroot
    }

    /// Returns the served folder.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Returns a path in the served folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Returns a path next to the served folder.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join("outside").join(name)
    }

    /// Writes a file in the served folder and creates missing folders.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Makes `name` a symbolic link to `target`.
    pub(crate) fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    /// Sets the modification time, in seconds after the epoch.
    pub(crate) fn set_modified(&self, name: &str, seconds: u64) {
        let file = fs::File::options().write(true).open(self.path(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
}

/// Returns a page of more than 2,000 bytes.
fn index(title: &str) -> String {
    let lines: String = (0..80).map(|line| format!("<p>Line {line} of the page.</p>\n")).collect();
    format!("<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n{lines}")
}
