//! Folders whose files are never sent, such as those of CGI programs.
//!
//! Must not know requests.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::config::FileOptions;
use crate::docroot::root::{self, Identity};

/// Folders whose files are never sent, links resolved.
#[derive(Debug, Default)]
pub(super) struct WithheldFolders {
    /// The absolute names of all withheld folders, and the identities of the folders.
    pub(super) named: Vec<(PathBuf, Identity)>,
    /// Withheld folders below the docroot, as paths from there that begin with a slash.
    pub(super) below: Vec<Vec<u8>>,
    /// Other withheld folders, as absolute paths, because links that may lead anywhere can lead
    /// there.
    pub(super) outside: Vec<Vec<u8>>,
}

impl WithheldFolders {
    pub(super) fn find(root: &Path, options: &FileOptions) -> std::io::Result<Self> {
        let mut folders = WithheldFolders::default();
        for folder in &options.withheld {
            let named = |error| std::io::Error::other(format!("'{}': {error}", folder.display()));
            let name = std::path::absolute(folder)?;
            let folder = folder.canonicalize().map_err(named)?;
            let identity = root::folder_at(&folder).ok_or_else(|| named(Errno::NOTDIR.into()))?;
            folders.named.push((name, identity));
            let Ok(inside) = folder.strip_prefix(root) else {
                folders.outside.push(folder.into_os_string().into_encoded_bytes());
                continue;
            };
            let part = |part: &std::ffi::OsStr| [b"/", part.as_encoded_bytes()].concat();
            let path: Vec<u8> = inside.iter().flat_map(part).collect();
            if path.is_empty() {
                let what =
                    format!("'{}' contains programs, which would be sent to clients", folder.display());
                return Err(std::io::Error::other(what));
            }
            folders.below.push(path);
        }
        Ok(folders)
    }
}

/// Returns whether a path is that of one of these folders, or leads into it.
pub(super) fn leads_into(folders: &[Vec<u8>], path: &[u8]) -> bool {
    let behind = |folder: &Vec<u8>| path.strip_prefix(&folder[..]);
    folders.iter().filter_map(behind).any(|rest| matches!(rest, [] | [b'/', ..]))
}
