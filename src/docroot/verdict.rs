//! The single rule that decides whether an opened file may be sent to a client.
//!
//! A file is judged after it was opened, by the requested path and by the location of the opened
//! file. So a link that is changed in between has no effect. All code that shows files (a file, its
//! coded forms, an index, a listing, an archive, a README, an upload) uses this rule. A file that
//! cannot be checked is withheld. Must not know which response follows.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Statx};

use crate::config::Symlinks;
use crate::docroot::hidden::{is_hidden, is_hidden_name};
use crate::docroot::location::{Location, last_name};
use crate::docroot::stamp::{Stamp, file_type};
use crate::docroot::{Docroot, LookupError};
use crate::handler::passwords::{Password, Passwords};

/// A file or folder that may be shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The location. That of a folder ends with a slash.
    pub(crate) location: Location,
    /// The password of that location. [`Docroot::password_due`] compares it with those that the
    /// client has given.
    pub(crate) password: Option<Password>,
}

/// The reason why a file or folder is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// A name begins with a dot.
    Hidden,
    /// The folder is one of programs.
    Programs,
    /// The file is the operator's own.
    Own,
    /// The location is unknown, so it cannot be checked.
    Unknown,
}

impl From<Withheld> for LookupError {
    fn from(why: Withheld) -> Self {
        match why {
            Withheld::Hidden | Withheld::Programs | Withheld::Own => LookupError::NotFound,
            Withheld::Unknown => LookupError::Unknown,
        }
    }
}

impl Docroot {
    /// Decides whether an opened file or folder may be shown to a request for `path`, which is
    /// normalized.
    ///
    /// The rule: the location of the file is known; neither the location nor `path` is withheld; it
    /// is not the operator's own; and the client has given the password of both. The password of
    /// `path` is checked before the search, that of the location is returned. A file is hidden if
    /// `path` hides it or if its own name begins with a dot. A link through a folder with such a
    /// name is allowed: a mounted ConfigMap, `node_modules` of pnpm and git-sync consist of such
    /// links.
    pub(crate) fn judge(&self, file: &OwnedFd, stat: &Statx, path: &[u8]) -> Result<Shown, Withheld> {
        let shown = self.judge_place(file, stat, path)?;
        let place = shown.location.name();
        match is_hidden_name(last_name(place.strip_suffix(b"/").unwrap_or(place))) {
            true => Err(Withheld::Hidden),
            false => Ok(shown),
        }
    }

    /// Decides like [`Docroot::judge`], but a name that begins with a dot anywhere in the location
    /// hides the file: for folders that are written to, and for programs.
    pub(crate) fn judge_strictly(
        &self,
        file: &OwnedFd,
        stat: &Statx,
        path: &[u8],
    ) -> Result<Shown, Withheld> {
        let shown = self.judge_place(file, stat, path)?;
        match is_hidden(shown.location.name()) {
            true => Err(Withheld::Hidden),
            false => Ok(shown),
        }
    }

    fn judge_place(&self, file: &OwnedFd, stat: &Statx, path: &[u8]) -> Result<Shown, Withheld> {
        let location = self.locate(file, path).map_err(|errno| {
            log::warn!("{} is withheld: its location cannot be read: {errno}", path.escape_ascii());
            Withheld::Unknown
        })?;
        let location = match file_type(stat) {
            FileType::Directory => location.of_folder(),
            _ => location,
        };
        if is_hidden(path) {
            return Err(Withheld::Hidden);
        }
        if self.withholds(path) || self.withholds_at(&location) {
            return Err(Withheld::Programs);
        }
        if self.own.has(stat, &self.absolute(&location)) {
            return Err(Withheld::Own);
        }
        let password = self.password_at(&location)?;
        Ok(Shown { location, password })
    }

    fn password_at(&self, location: &Location) -> Result<Option<Password>, Withheld> {
        let Some(guard) = &self.guard else { return Ok(None) };
        let mut passwords = location.possible_paths().map(|path| guard.password_at(&path));
        let password = passwords.next().flatten();
        match passwords.all(|other| other == password) {
            true => Ok(password),
            false => Err(Withheld::Unknown),
        }
    }

    /// Returns the password of a location, unless the client has given it with a request for
    /// `path`. `also` is one that the client has given besides that of `path`.
    pub(crate) fn password_due(
        &self,
        path: &[u8],
        also: Option<Password>,
        password: Option<Password>,
    ) -> Option<(&Arc<dyn Passwords>, Password)> {
        let (guard, password) = (self.guard.as_ref()?, password?);
        let is_given = also == Some(password) || guard.password_at(path) == Some(password);
        (!is_given).then_some((guard, password))
    }

    /// Returns whether a file at `path` is left out of a response with several files to a request
    /// for `top`. It is withheld, its name is not listed, or it requires a password that was not
    /// given.
    pub(crate) fn is_left_out(&self, path: &[u8], top: &[u8], also: Option<Password>) -> bool {
        let password = self.guard.as_ref().and_then(|guard| guard.password_at(path));
        self.withholds(path)
            || self.is_unlisted_entry(path)
            || self.password_due(top, also, password).is_some()
    }

    /// Returns whether the entry `name` of a folder at location `folder` is the operator's own
    /// file. Decides by the name alone, because the file need not exist.
    pub(crate) fn is_own_name(&self, folder: &Location, name: &[u8]) -> bool {
        self.own.has_place(&self.absolute(&folder.entry(name)))
    }

    /// Returns whether an entry of a folder at location `folder`, which is no link, is the
    /// operator's own file.
    pub(crate) fn is_own_entry(&self, folder: &Location, name: &[u8], stat: &Statx) -> bool {
        self.own.has(stat, &self.absolute(&folder.entry(name)))
    }

    /// Returns whether a file with this stamp is the operator's own.
    pub(crate) fn is_own(&self, stamp: &Stamp) -> bool {
        self.own.has_inode(stamp.inode)
    }

    /// Returns the absolute path of the docroot, links resolved.
    pub(crate) fn real_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.real_path))
    }

    /// Returns the absolute path of a location.
    fn absolute(&self, location: &Location) -> Vec<u8> {
        location.on_machine(&self.real_path)
    }

    /// Returns the location of the file that was opened at `path`.
    pub(crate) fn locate(&self, file: &OwnedFd, path: &[u8]) -> Result<Location, rustix::io::Errno> {
        match self.options.symlinks {
            Symlinks::No => Ok(Location::as_named(path)),
            Symlinks::Inside => Location::read(file, &self.fd, false),
            Symlinks::All => Location::read(file, &self.fd, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileOptions;
    use crate::docroot::beneath::links_followed;
    use crate::docroot::stamp::stat;
    use rustix::fs::{Mode, OFlags};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn docroot(root: &Path, symlinks: Symlinks, withheld: &[&Path]) -> Docroot {
        let withheld = withheld.iter().map(|path| path.to_path_buf()).collect();
        Docroot::open(root, FileOptions { symlinks, withheld, ..FileOptions::default() }).unwrap()
    }

    fn verdict(docroot: &Docroot, file: &Path, path: &str) -> Option<Withheld> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = rustix::fs::open(file, flags, Mode::empty()).unwrap();
        docroot.judge(&file, &stat(&file).unwrap(), path.as_bytes()).err()
    }

    #[test]
    fn both_the_path_and_the_place_count_and_what_is_not_known_is_withheld() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        for folder in ["root/cg", "root/.git", "root/.well-known", "outside/cg"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for name in ["root/a", "root/.env", "root/cg/run", "outside/a", "outside/cg/run", "outside/.env"] {
            fs::write(at(name), "").unwrap();
        }
        let (inner, outer) = (at("root/cg"), at("outside/cg"));
        let inside = docroot(&at("root"), Symlinks::Inside, &[&inner, &outer]);
        let anywhere = docroot(&at("root"), Symlinks::All, &[&inner, &outer]);
        for docroot in [&inside, &anywhere] {
            let judge = |file: &str, path: &str| verdict(docroot, &at(file), path);
            for (file, path) in
                [("root/a", "/a"), ("root/a", "/link"), ("root", "/"), ("root/.well-known", "/w")]
            {
                assert_eq!(judge(file, path), None, "{file} {path}");
            }
            for (file, path) in
                [("root/.env", "/a"), ("root/a", "/.a"), ("root/.git", "/git"), ("root/a", "/.git/a")]
            {
                assert_eq!(judge(file, path), Some(Withheld::Hidden), "{file} {path}");
            }
            for (file, path) in
                [("root/cg/run", "/a"), ("root/cg", "/c"), ("root/a", "/cg/a"), ("root/a", "/cg")]
            {
                assert_eq!(judge(file, path), Some(Withheld::Programs), "{file} {path}");
            }
        }
        for (file, outcome) in [
            ("outside/a", None),
            ("outside/.env", Some(Withheld::Hidden)),
            ("outside/cg/run", Some(Withheld::Programs)),
        ] {
            assert_eq!(verdict(&anywhere, &at(file), "/a"), outcome, "{file}");
            // No allowed link leads there, so it is unknown how this file was opened.
            assert_eq!(verdict(&inside, &at(file), "/a"), Some(Withheld::Unknown), "{file}");
        }
        assert_eq!(LookupError::from(Withheld::Unknown), LookupError::Unknown);
    }

    /// A name may end in the text by which the kernel marks deleted files. Both meanings are
    /// checked.
    #[test]
    fn no_name_passes_for_another_that_was_deleted() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("cg (deleted)");
        fs::create_dir(&folder).unwrap();
        symlink("cg (deleted)", scratch.path().join("link")).unwrap();
        let docroot = docroot(scratch.path(), Symlinks::Inside, &[&folder]);
        assert_eq!(verdict(&docroot, &folder, "/link"), Some(Withheld::Programs));
    }

    #[test]
    fn without_places_no_link_is_followed() {
        use Symlinks::{All, Inside, No};
        for asked in [All, Inside, No] {
            assert_eq!(links_followed(asked, true), Ok(asked));
        }
        assert_eq!((links_followed(Inside, false), links_followed(No, false)), (Ok(No), Ok(No)));
        assert!(links_followed(All, false).is_err_and(|why| why.contains("--symlinks all")));
    }
}
