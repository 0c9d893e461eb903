//! Destinations of uploads: the opened folder and the name in it. Names cannot lead out of the
//! upload folder.
//!
//! Paths are normalized. Functions that open something may block: for worker threads only. Must not
//! know how content is written.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::config::{PATH_BYTES_MAX, Symlinks, UploadRights};
use crate::docroot::location::Location;
use crate::docroot::own::Inode;
use crate::docroot::stamp::{Stamp, stat};
use crate::docroot::verdict::Withheld;
use crate::docroot::{Disk, Docroot, LookupError};
use crate::features::upload::refusal::refuse_errno;
use crate::http::refusal::Refusal;
use crate::http::{Status, target};
use crate::text::has_bidi_control;

/// Number of attempts to open a folder that is being renamed.
const OPEN_TRIES: usize = 32;

/// Longest name that Linux accepts, in bytes (NAME_MAX).
const NAME_BYTES_MAX: usize = 255;

/// Open folder that accepts uploads.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) fd: Arc<OwnedFd>,
    location: Location,
}

/// Entry of a folder, which can exist or not.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) folder: Arc<OwnedFd>,
    pub(crate) name: Vec<u8>,
    /// Paths that the entry can have below the docroot after links are followed; none if it lies
    /// outside.
    pub(crate) places: Vec<Vec<u8>>,
    /// Rights at the path of the entry and at its places.
    pub(crate) rights: UploadRights,
}

/// Kind of an existing entry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EntryKind {
    Nothing,
    File(Stamp),
    Folder,
    /// A link or device, which is never replaced.
    Other,
}

impl Destination {
    /// Entry that `path` names below the upload folder `area` of this docroot.
    pub(crate) fn of(docroot: &Docroot, area: &str, path: &[u8]) -> Result<Destination, Refusal> {
        let (folder, name) = split(path)?;
        check_name(name)?;
        open_folder(docroot, area, folder)?.entry(docroot, path)
    }

    /// Opens the existing file for reading, and returns its stamp.
    pub(crate) fn open_file(&self) -> Result<(OwnedFd, Stamp), Errno> {
        // Another entry can have got the name since the last check.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, self.name.as_slice(), flags, Mode::empty())?;
        let stat = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, Inode::MASK)?;
        match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
            FileType::RegularFile => Ok((file, Stamp::of(&stat))),
            _ => Err(Errno::INVAL),
        }
    }

    /// Returns the kind of the entry on disk.
    pub(crate) fn kind(&self) -> Result<EntryKind, Errno> {
        let stat =
            rustix::fs::statx(&self.folder, self.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW, Inode::MASK);
        match stat {
            Err(Errno::NOENT) => Ok(EntryKind::Nothing),
            Err(errno) => Err(errno),
            Ok(stat) => Ok(match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
                FileType::RegularFile => EntryKind::File(Stamp::of(&stat)),
                FileType::Directory => EntryKind::Folder,
                _ => EntryKind::Other,
            }),
        }
    }
}

/// Splits a path into the path of its folder and its last name.
pub(crate) fn split(path: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    // An upload folder is opened separately, so the disk would accept paths that are too long for
    // requests.
    if path.len() > PATH_BYTES_MAX {
        return Err(Refusal::new(Status::URI_TOO_LONG, "the path is too long"));
    }
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    Ok((&path[..slash], path.get(slash + 1..).unwrap_or_default()))
}

/// Opens the folder of this path below `area`. Links are followed only within `area`, even if
/// reading follows more: `--upload` defines what may be written, and links must not extend it.
pub(crate) fn open_folder(docroot: &Docroot, area: &str, path: &[u8]) -> Result<Folder, Refusal> {
    let top = match area.trim_start_matches('/') {
        "" => docroot.open_beneath(b".", Disk::MayBlock),
        area => docroot.open_beneath(area.as_bytes(), Disk::MayBlock),
    };
    let top = top.map_err(|error| match error {
        LookupError::NotFound => Refusal::new(Status::NOT_FOUND, "the upload folder does not exist"),
        LookupError::Forbidden => refuse_errno(Errno::ACCESS),
        LookupError::Exhausted => refuse_errno(Errno::MFILE),
        LookupError::Cold | LookupError::Unknown | LookupError::Io(_) => refuse_errno(Errno::IO),
    })?;
    let below = path.strip_prefix(area.as_bytes()).unwrap_or_default();
    let below = below.strip_prefix(b"/").unwrap_or(below);
    let below: &[u8] = if below.is_empty() { b"." } else { below };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let links = match docroot.options.symlinks {
        Symlinks::No => ResolveFlags::NO_SYMLINKS,
        Symlinks::Inside | Symlinks::All => ResolveFlags::empty(),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | links;
    for _ in 0..OPEN_TRIES {
        match rustix::fs::openat2(&top, below, flags, Mode::empty(), resolve) {
            Ok(fd) => return Folder::checked(fd, docroot, path),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(refuse_errno(errno)),
        }
    }
    Err(refuse_errno(Errno::BUSY))
}

impl Folder {
    fn checked(fd: OwnedFd, docroot: &Docroot, path: &[u8]) -> Result<Folder, Refusal> {
        let stat = stat(&fd).map_err(|_| UNKNOWN)?;
        let shown = docroot.judge_strictly(&fd, &stat, path).map_err(|why| match why {
            Withheld::Hidden => HIDDEN,
            // Files stored there would be executed.
            Withheld::Programs => PROGRAMS,
            Withheld::Own => OWN,
            Withheld::Unknown => UNKNOWN,
        })?;
        Ok(Folder { fd: Arc::new(fd), location: shown.location })
    }

    /// Entry of this folder that has the path `path`. Refuses names that clients must not write,
    /// whether the entry exists or not: files of the server and script folders.
    pub(crate) fn entry(&self, docroot: &Docroot, path: &[u8]) -> Result<Destination, Refusal> {
        let (_, name) = split(path)?;
        check_name(name)?;
        let places: Vec<_> = self.location.possible_paths().map(|folder| [&folder, name].concat()).collect();
        if docroot.is_own_name(&self.location, name) {
            return Err(OWN);
        }
        if places.iter().any(|path| docroot.withholds(path)) {
            return Err(PROGRAMS);
        }
        let rights = docroot.upload_rights(path.strip_suffix(b"/").unwrap_or(path), &places);
        Ok(Destination { folder: Arc::clone(&self.fd), name: name.to_vec(), places, rights })
    }
}

pub(crate) const OWN: Refusal =
    Refusal::from_static(Status::FORBIDDEN, "that name is reserved for the server");
const UNKNOWN: Refusal =
    Refusal::from_static(Status::FORBIDDEN, "the location of that folder cannot be checked");
const PROGRAMS: Refusal = Refusal::from_static(Status::FORBIDDEN, "that folder is reserved for CGI scripts");
const HIDDEN: Refusal = Refusal::from_static(Status::FORBIDDEN, "names that begin with a dot are not taken");

/// Refuses paths that never accept uploads, whatever is on the disk.
pub(crate) fn check_path(path: &[u8]) -> Result<(), Refusal> {
    if path.split(|&byte| byte == b'/').any(|name| name.starts_with(b".")) {
        return Err(HIDDEN);
    }
    if path.starts_with(b"/_whirligig/") || path == b"/_whirligig" {
        return Err(OWN);
    }
    match path.iter().any(u8::is_ascii_control) {
        true => Err(Refusal::new(Status::BAD_REQUEST, "names must not contain control characters")),
        false => Ok(()),
    }
}

/// Refuses names with characters that change the direction of text, because a listing would show
/// `txt.exe` as `exe.txt`.
pub(crate) fn check_direction(name: &[u8]) -> Result<(), Refusal> {
    match has_bidi_control(name) {
        true => Err(Refusal::new(
            Status::BAD_REQUEST,
            "names must not contain characters that change the direction of text",
        )),
        false => Ok(()),
    }
}

fn check_name(name: &[u8]) -> Result<(), Refusal> {
    let bad = |why| Err(Refusal::new(Status::BAD_REQUEST, why));
    match name {
        [] => bad("a file needs a name"),
        [b'.', ..] => Err(HIDDEN),
        _ if name.len() > NAME_BYTES_MAX => bad("the name is too long"),
        _ if name.iter().any(u8::is_ascii_control) => bad("names must not contain control characters"),
        _ => Ok(()),
    }
}

/// Last component of a file name that a client sent, because some clients send the whole path on
/// their own system.
pub(crate) fn base_name(filename: &str) -> Result<&[u8], Refusal> {
    let name = filename.rsplit(['/', '\\']).next().unwrap_or_default().as_bytes();
    check_name(name)?;
    check_direction(name)?;
    Ok(name)
}

/// Parses an upload folder from the command line: a URL path.
pub(crate) fn parse_upload_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("not a URL path, such as /inbox; / means the whole served folder".to_owned());
    }
    let path = target::normalize(text.as_bytes()).map_err(|error| error.to_string())?;
    let path = String::from_utf8(path.into_owned()).map_err(|_| "the path is not UTF-8".to_owned())?;
    check_path(path.as_bytes()).map_err(|refusal| refusal.reason().to_owned())?;
    Ok(path.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_lose_their_folders_and_some_are_not_taken() {
        let taken: &[(&str, &str)] = &[
            ("a.txt", "a.txt"),
            ("dir/a.txt", "a.txt"),
            ("/etc/passwd", "passwd"),
            ("..\\..\\a.txt", "a.txt"),
            ("C:\\x\\\u{706f}.txt", "\u{706f}.txt"),
        ];
        for (filename, expected) in taken {
            assert_eq!(base_name(filename).unwrap(), expected.as_bytes(), "{filename:?}");
        }
        let long = "n".repeat(256);
        let turned = ["gpj\u{202e}exe", "a/\u{200f}b", "\u{2066}"];
        for filename in ["", "a/", ".", "..", "../..", ".hidden", "a/.b", "a\0b", "a\nb", "a\x7f", &long]
            .into_iter()
            .chain(turned)
        {
            assert!(base_name(filename).is_err(), "{filename:?}");
        }
    }

    #[test]
    fn paths_for_uploads_are_url_paths() {
        for (text, expected) in [("/", ""), ("/up", "/up"), ("/up/", "/up"), ("/a//b/../c%20d/", "/a/c d")] {
            assert_eq!(parse_upload_path(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "up", "/.up", "/a/.b", "/%00", "/a%2fb", "/_whirligig", "/a%0ab", "/%ff"] {
            assert!(parse_upload_path(text).is_err(), "{text}");
        }
    }
}
