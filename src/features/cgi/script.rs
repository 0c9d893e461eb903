//! Maps the path of a request to a script and its `PATH_INFO`.
//!
//! Names are resolved below the folder as in the docroot. A script is a regular file that this
//! process may execute. The path after its name is `PATH_INFO`. Must not know how scripts run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD, FileType};

use crate::config::{CgiFolder, FileOptions};
use crate::docroot::hidden::is_hidden;
use crate::docroot::root::Root;
use crate::docroot::stamp::{file_type, stat};
use crate::docroot::{Disk, Docroot, LookupError};
use crate::http::Status;

/// Maximum depth of a script below its folder, in path segments.
const DEPTH_MAX: usize = 64;

/// A folder of scripts and its URL path.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Decoded URL path without a trailing slash.
    pub(crate) url: Vec<u8>,
    root: Root,
}

/// A script that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// File name of the script.
    pub(crate) file: PathBuf,
    /// Decoded URL path: `SCRIPT_NAME`.
    pub(crate) name: Vec<u8>,
    /// Path after the script name: `PATH_INFO`.
    pub(crate) path_info: Vec<u8>,
}

/// Reason why no script was found, as a status and a sentence.
pub(crate) type Missing = (Status, &'static str);

impl Folder {
    /// Opens the folder, following symbolic links as the docroot does.
    pub(crate) fn open(folder: &CgiFolder, files: &FileOptions) -> Result<Folder, String> {
        let named = |why: &dyn std::fmt::Display| {
            format!("--cgi '{}={}': {why}", folder.path, folder.folder.display())
        };
        let files = FileOptions { withheld: Vec::new(), ..files.clone() };
        let docroot = Docroot::open(&folder.folder, files).map_err(|error| named(&error))?;
        let root = Root::of(Arc::new(docroot));
        Ok(Folder { url: folder.path.trim_end_matches('/').as_bytes().to_vec(), root })
    }

    /// Rest of a normalized path after the URL path of this folder; `None` if the path is not below
    /// it.
    pub(crate) fn behind<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        path.strip_prefix(&self.url[..]).filter(|rest| rest.starts_with(b"/"))
    }

    /// Finds the script that the rest of a path names. Reads the disk: for jobs.
    pub(crate) fn find(&self, rest: &[u8]) -> Result<Script, Missing> {
        const NOTHING: Missing = (Status::NOT_FOUND, "the script does not exist");
        self.root.follow();
        let root = self.root.docroot();
        let name = rest.strip_prefix(b"/").unwrap_or(rest);
        let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([name.len()]).take(DEPTH_MAX) {
            let (name, path_info) = name.split_at(end);
            if name.is_empty() || is_hidden(name) {
                return Err(NOTHING);
            }
            let fd = root.open_beneath(name, Disk::MayBlock).map_err(|error| match error {
                LookupError::NotFound | LookupError::Unknown => NOTHING,
                LookupError::Forbidden => (Status::FORBIDDEN, "the script may not be read"),
                LookupError::Cold | LookupError::Exhausted | LookupError::Io(_) => {
                    (Status::SERVICE_UNAVAILABLE, "the script cannot be opened at the moment")
                }
            })?;
            let stat = stat(&fd).map_err(|_| NOTHING)?;
            match file_type(&stat) {
                FileType::Directory => continue,
                FileType::RegularFile => {}
                _ => return Err(NOTHING),
            }
            // SCRIPT_FILENAME has no links, so that a script finds the files next to it.
            let file = root.real_path().join(OsStr::from_bytes(name));
            if rustix::fs::accessat(CWD, &file, Access::EXEC_OK, AtFlags::EACCESS).is_err() {
                return Err((Status::FORBIDDEN, "the file is not executable"));
            }
            root.judge_strictly(&fd, &stat, &[b"/", name].concat()).map_err(|_| NOTHING)?;
            return Ok(Script {
                file,
                name: [&self.url, &b"/"[..], name].concat(),
                path_info: path_info.to_vec(),
            });
        }
        Err(NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_program_is_found_with_what_stands_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("in/side")).unwrap();
        for (name, mode) in [("run", 0o755), ("in/side/run.sh", 0o755), ("text", 0o644), (".run", 0o755)] {
            std::fs::write(at(name), "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("run", at("link")).unwrap();
        symlink("/bin/sh", at("out")).unwrap();
        symlink(".run", at("unhidden")).unwrap();
        let config = CgiFolder { path: "/cgi/".into(), folder: folder.path().into() };
        let folder = Folder::open(&config, &FileOptions::default()).unwrap();
        assert_eq!(folder.behind(b"/cgi/run/x"), Some(&b"/run/x"[..]));
        assert_eq!((folder.behind(b"/cgi"), folder.behind(b"/cgix/run")), (None, None));
        let find = |rest: &str| {
            let found = folder.find(rest.as_bytes()).map_err(|(status, _)| status.code());
            found.map(|script| (script.name, script.path_info))
        };
        let found = |name: &str, info: &str| Ok((name.into(), info.into()));
        assert_eq!(find("/run"), found("/cgi/run", ""));
        assert_eq!(find("/run/"), found("/cgi/run", "/"));
        assert_eq!(find("/run/a b/.c"), found("/cgi/run", "/a b/.c"));
        assert_eq!(find("/in/side/run.sh/x"), found("/cgi/in/side/run.sh", "/x"));
        assert_eq!(find("/link/x"), found("/cgi/link", "/x"));
        assert_eq!(folder.find(b"/run").unwrap().file, folder.root.docroot().real_path().join("run"));
        for (rest, status) in [
            ("/", 404),
            ("/in", 404),
            ("/in/side/", 404),
            ("/none", 404),
            ("/none/run", 404),
            ("/.run", 404),
            ("/unhidden", 404),
            ("/out", 404),
            ("/text", 403),
            ("/text/x", 403),
        ] {
            assert_eq!(find(rest), Err(status), "{rest}");
        }
        assert_eq!(find(&"/in/side/../..".repeat(40)), Err(404));
    }
}
