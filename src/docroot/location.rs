//! The location of an open file in the tree, links resolved.
//!
//! A link gives a file a second path. Hiding, withheld folders and passwords also depend on the
//! location of the file, which the kernel reports in `/proc/self/fd`. An error of the kernel is an
//! error here, because a file at an unknown location must never count as harmless. This file must
//! not know the decisions.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The kernel appends this to the name of an open file that was deleted (proc_pid_fd(5)).
const DELETED: &[u8] = b" (deleted)";

/// The location of an open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    path: Vec<u8>,
    /// True if `path` begins at the docroot, false if at the root of the process (chroot(2)).
    is_below: bool,
    /// True if the kernel's text ended in [`DELETED`], which may also be a part of the name.
    is_marked: bool,
}

impl Location {
    /// Reads the location of an open file. Locations outside of `root` are an error unless
    /// `may_be_outside`.
    pub(crate) fn read(file: &OwnedFd, root: &OwnedFd, may_be_outside: bool) -> Result<Location, Errno> {
        let (text, root) = (reported(file)?, reported(root)?);
        let (text, is_marked) = match text.strip_suffix(DELETED) {
            Some(path) => (path, true),
            None => (&text[..], false),
        };
        // The name itself may also end in this text.
        let roots = [&root[..], root.strip_suffix(DELETED).unwrap_or(&root)];
        let below = |root: &[u8]| match text.strip_prefix(root.strip_suffix(b"/").unwrap_or(root)) {
            Some([]) => Some(&b"/"[..]),
            rest => rest.filter(|rest| rest.starts_with(b"/")),
        };
        match roots.into_iter().find_map(below) {
            Some(path) => Ok(Location { path: path.to_vec(), is_below: true, is_marked }),
            // The process cannot reach it, as in "(unreachable)/x", or it was moved out of the root
            // since.
            None if !may_be_outside || !text.starts_with(b"/") => Err(Errno::XDEV),
            None => Ok(Location { path: text.to_vec(), is_below: false, is_marked }),
        }
    }

    /// Returns the location of a file that was opened without following any link: its own path,
    /// from the root.
    pub(crate) fn as_named(path: &[u8]) -> Location {
        Location { path: from_slash(path), is_below: true, is_marked: false }
    }

    /// Adds the slash at the end that the location of a folder has.
    pub(crate) fn of_folder(mut self) -> Location {
        if !self.path.ends_with(b"/") {
            self.path.push(b'/');
        }
        self
    }

    /// Returns the location of the entry `name` of this folder.
    pub(crate) fn entry(&self, name: &[u8]) -> Location {
        let folder = self.path.strip_suffix(b"/").unwrap_or(&self.path);
        Location { path: [folder, b"/", name].concat(), ..*self }
    }

    /// Returns the absolute path, without a slash at the end. `root` is that of the docroot.
    pub(crate) fn on_machine(&self, root: &[u8]) -> Vec<u8> {
        let path = self.path.strip_suffix(b"/").unwrap_or(&self.path);
        match self.is_below {
            true => [root.strip_suffix(b"/").unwrap_or(root), path].concat(),
            false => path.to_vec(),
        }
    }

    /// Returns the path from the docroot with a slash at the beginning, if the location is below
    /// it.
    pub(crate) fn below(&self) -> Option<&[u8]> {
        self.is_below.then_some(&self.path[..])
    }

    /// Returns the absolute path, if the location is outside of the docroot.
    pub(crate) fn outside(&self) -> Option<&[u8]> {
        (!self.is_below).then_some(&self.path[..])
    }

    /// Returns the name by which types and header rules are chosen: the path from the docroot, or
    /// the last name of a file outside.
    pub(crate) fn name(&self) -> &[u8] {
        match self.is_below {
            true => &self.path,
            false => last_name(&self.path),
        }
    }

    /// Returns whether another file lies below this folder.
    pub(crate) fn holds(&self, other: &Location) -> bool {
        let rest = other.path.strip_prefix(self.path.strip_suffix(b"/").unwrap_or(&self.path));
        self.is_below == other.is_below && rest.is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// Returns every path from the docroot that this may be. There are two if the file was deleted,
    /// or if its name ends like that of a deleted file.
    pub(crate) fn possible_paths(&self) -> impl Iterator<Item = Vec<u8>> {
        let path = self.below().map(<[u8]>::to_vec);
        let marked = path.clone().filter(|_| self.is_marked).map(|path| {
            let bare = path.strip_suffix(b"/").unwrap_or(&path);
            [bare, DELETED, &path[bare.len()..]].concat()
        });
        path.into_iter().chain(marked)
    }
}

/// Returns the part of a path after its last slash.
pub(crate) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Adds the first slash to a path from the root if it has none.
pub(crate) fn from_slash(path: &[u8]) -> Vec<u8> {
    [b"/", path.strip_prefix(b"/").unwrap_or(path)].concat()
}

/// Returns whether the kernel reports the locations of open files. It does not without `/proc`, for
/// example in a bare chroot. Then no link is followed, and the location of every file is its path.
///
/// Checked once per process, because all docroots must agree. A later failure affects one file
/// only.
pub(crate) fn is_reported() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(c"/", flags, Mode::empty());
        top.and_then(|top| reported(&top)).is_ok_and(|text| text == b"/")
    })
}

fn reported(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::readlink(link, Vec::new()).map(std::ffi::CString::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_place_is_below_the_root_or_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir_all(at("root/sub")).unwrap();
        fs::create_dir_all(at("root-two")).unwrap();
        for name in ["root/sub/file", "root-two/file", "file"] {
            fs::write(at(name), "").unwrap();
        }
        let root = open(&at("root"));
        let place = |name: &str, outside| Location::read(&open(&at(name)), &root, outside);
        assert_eq!(place("root/sub/file", false).unwrap().below(), Some(&b"/sub/file"[..]));
        assert_eq!(place("root", false).unwrap().below(), Some(&b"/"[..]));
        assert_eq!(place("root/sub", false).unwrap().of_folder().below(), Some(&b"/sub/"[..]));
        for name in ["root-two/file", "file"] {
            assert_eq!(place(name, false), Err(Errno::XDEV), "{name}");
            let outside = place(name, true).unwrap();
            assert_eq!((outside.below(), outside.name()), (None, &b"file"[..]), "{name}");
            assert!(outside.outside().unwrap().ends_with(name.as_bytes()));
            assert_eq!(outside.possible_paths().count(), 0);
        }
        // The root of the file system has no name before the slash.
        let top = Location::read(&open(&at("file")), &open(Path::new("/")), false).unwrap();
        assert_eq!(top.below(), Some(at("file").as_os_str().as_encoded_bytes()));
        // A renamed root is the same folder under another name.
        fs::rename(at("root"), at("moved")).unwrap();
        assert_eq!(place("moved/sub/file", false).unwrap().below(), Some(&b"/sub/file"[..]));
    }

    #[test]
    fn a_name_that_ends_as_if_it_were_deleted_may_be_two_paths() {
        let scratch = tempfile::tempdir().unwrap();
        let root = open(scratch.path());
        let paths = |file: &OwnedFd| -> Vec<String> {
            let location = Location::read(file, &root, false).unwrap();
            location.possible_paths().map(|path| String::from_utf8(path).unwrap()).collect()
        };
        for name in ["plain", "odd (deleted)"] {
            fs::write(scratch.path().join(name), "").unwrap();
        }
        let [plain, odd] = ["plain", "odd (deleted)"].map(|name| open(&scratch.path().join(name)));
        assert_eq!(paths(&plain), ["/plain"]);
        assert_eq!(paths(&odd), ["/odd", "/odd (deleted)"]);
        fs::remove_file(scratch.path().join("plain")).unwrap();
        assert_eq!(paths(&plain), ["/plain", "/plain (deleted)"]);
    }

    #[test]
    fn without_links_a_file_lies_where_its_path_says() {
        for path in [&b"/a/b"[..], b"a/b"] {
            assert_eq!(Location::as_named(path).below(), Some(&b"/a/b"[..]));
        }
        assert_eq!(Location::as_named(b"").of_folder().below(), Some(&b"/"[..]));
        assert!(is_reported(), "the tests run with /proc");
    }
}
