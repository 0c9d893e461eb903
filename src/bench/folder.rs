//! A temporary folder, which is removed with its files at the end.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Fallible;
use crate::random::random_hex;

/// Folder below the folder for temporary files. Only this user can enter it.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Creates a folder with a name that nobody can guess.
    pub(super) fn new() -> Fallible<Folder> {
        let path = std::env::temp_dir().join(format!("whirligig-{}", random_hex()?));
        let created = DirBuilder::new().mode(0o700).create(&path);
        created.map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
