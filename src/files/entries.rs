//! The entries of a folder for a listing: read, counted while they are read, and sorted.
//!
//! The names are kept in one run of bytes with a small row each. So a hundred thousand entries are
//! a few megabytes and not a hundred thousand allocations. Blocks: for worker threads only. This
//! file must not know how a listing is presented.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::docroot::location::Location;
use crate::docroot::own::Inode;
use crate::docroot::stamp::{file_type, stat};
use crate::docroot::{Disk, Docroot, LookupError};
use crate::files::budget::{Spent, fit, reserve};
use crate::files::collation::{folded, natural_order};
use crate::pages::{Kind, SortBy, readme};
use crate::sync::Permit;

/// One entry: the position of its name, and the values that a listing shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    name_at: u32,
    name_len: u16,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) modified_secs: u64,
}

/// The entries of a directory, in compact form.
#[derive(Debug)]
pub(super) struct Entries {
    names: Vec<u8>,
    pub(super) rows: Vec<Entry>,
    /// Number of names read, whether or not they match the query.
    pub(super) looked: usize,
    pub(super) truncated: bool,
    /// The best README: its rank and name.
    pub(super) readme: Option<(u8, Vec<u8>)>,
    /// The memory of all entries.
    pub(super) held: Permit,
}

/// The reason why entries were not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// The disk failed, or no descriptor is left.
    LookupError(LookupError),
    /// The memory for names is used up.
    Spent,
}

impl From<LookupError> for Unread {
    fn from(error: LookupError) -> Self {
        Unread::LookupError(error)
    }
}

impl From<rustix::io::Errno> for Unread {
    fn from(errno: rustix::io::Errno) -> Self {
        Unread::LookupError(errno.into())
    }
}

impl From<Spent> for Unread {
    fn from(Spent: Spent) -> Self {
        Unread::Spent
    }
}

/// The folder that is listed.
struct Folder<'a> {
    fd: &'a OwnedFd,
    /// The requested path.
    path: &'a [u8],
    location: Location,
}

impl Entries {
    /// Reads the entries of an open directory, requested as `path`, whose names contain `query`.
    /// `query` is folded. The memory is counted in `held`.
    pub(super) fn read(
        docroot: &Docroot,
        directory: &OwnedFd,
        path: &[u8],
        query: &str,
        entries_max: usize,
        held: Permit,
    ) -> Result<Entries, Unread> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
        let location = docroot.judge(directory, &stat(directory)?, path).map_err(LookupError::from)?.location;
        let folder = Folder { fd: directory, path, location };
        let mut entries = Entries::none(held);
        for entry in Dir::new(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            // Dotfiles are not served, and `.` and `..` are not entries.
            if name.starts_with(b".") {
                continue;
            }
            if entries.looked == entries_max {
                entries.truncated = true;
                break;
            }
            let is_found = contains(name, query);
            if !is_found && entry.file_type() != FileType::Symlink {
                entries.looked += 1;
                continue;
            }
            let Some((kind, size, modified_secs)) = look(docroot, &folder, name, entry.file_type()) else {
                continue;
            };
            entries.looked += 1;
            if is_found {
                entries.note_readme(name, kind);
                entries.push(name, kind, size, modified_secs)?;
            }
        }
        fit(&mut entries.held, &mut entries.names);
        fit(&mut entries.held, &mut entries.rows);
        Ok(entries)
    }

    fn none(held: Permit) -> Self {
        let (names, rows) = (Vec::new(), Vec::new());
        Entries { names, rows, looked: 0, truncated: false, readme: None, held }
    }

    fn push(&mut self, name: &[u8], kind: Kind, size: u64, modified_secs: u64) -> Result<(), Spent> {
        // A run of 4 GiB is far beyond any budget, and no name has more than 255 bytes.
        let name_at = u32::try_from(self.names.len()).map_err(|_| Spent)?;
        let name_len = u16::try_from(name.len()).map_err(|_| Spent)?;
        reserve(&mut self.held, &mut self.names, name.len())?;
        reserve(&mut self.held, &mut self.rows, 1)?;
        self.names.extend_from_slice(name);
        self.rows.push(Entry { name_at, name_len, kind, size, modified_secs });
        Ok(())
    }

    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        let at = entry.name_at as usize;
        &self.names[at..at + usize::from(entry.name_len)]
    }

    fn note_readme(&mut self, name: &[u8], kind: Kind) {
        if let Some((_, rank)) = readme::markup_of(name).filter(|_| kind == Kind::File)
            && self.readme.as_ref().is_none_or(|(best, known)| (rank, name) < (*best, known))
        {
            self.readme = Some((rank, name.to_vec()));
        }
    }

    pub(super) fn sort(&mut self, by: SortBy, descending: bool) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by(|a, b| {
            // Directories come first in every order. Equal entries are sorted by name.
            let folders = (b.kind == Kind::Directory).cmp(&(a.kind == Kind::Directory));
            let by_name = || natural_order(self.name(a), self.name(b));
            let asked = match by {
                SortBy::Name => by_name(),
                SortBy::Size => a.size.cmp(&b.size).then_with(by_name),
                SortBy::Modified => a.modified_secs.cmp(&b.modified_secs).then_with(by_name),
            };
            folders.then(if descending { asked.reverse() } else { asked })
        });
        self.rows = rows;
    }
}

/// Returns true if a name contains the folded text, without regard to case and accents.
fn contains(name: &[u8], query: &str) -> bool {
    query.is_empty() || folded(name).contains(query)
}

/// Returns the kind, size and time of one entry. `None` for an entry that is not served: a link
/// that leads out of the docroot, or a file that was removed meanwhile.
fn look(docroot: &Docroot, folder: &Folder<'_>, name: &[u8], known: FileType) -> Option<(Kind, u64, u64)> {
    let stat = if known == FileType::Symlink {
        let full = [folder.path, name].concat();
        let name = full.strip_prefix(b"/").unwrap_or(&full);
        let target = docroot.open_beneath(name, Disk::MayBlock).ok()?;
        let stat = stat(&target).ok()?;
        docroot.judge(&target, &stat, &full).ok()?;
        stat
    } else {
        let stat = rustix::fs::statx(folder.fd, name, AtFlags::SYMLINK_NOFOLLOW, Inode::MASK).ok()?;
        if docroot.is_own_entry(&folder.location, name, &stat) {
            return None;
        }
        stat
    };
    let kind = match file_type(&stat) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        _ => Kind::Other,
    };
    Some((kind, stat.stx_size, u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0)))
}
