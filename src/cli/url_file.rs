//! `--url-file`: a file with the URLs of the server, for scripts that start one on a free port.
//!
//! The file appears whole or not at all, and its server listens by then. It is removed when the
//! server ends, so a script must not use the file of an earlier run. After a SIGKILL the file
//! stays, and the next server replaces it. This file must not know how URLs are made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::cli::exit::Exit;

/// Bytes of an existing file that are read to recognize a file of URLs.
const BEGINNING_BYTES: u64 = 8;

/// A written file. Dropping the value removes the file, unless another one has its name by then.
#[derive(Debug)]
pub struct UrlFile {
    path: PathBuf,
    /// Keeps the inode, so that its number cannot be reused while this server runs.
    own: File,
}

impl UrlFile {
    /// Writes the URLs to the file at `path`, one on a line.
    ///
    /// # Errors
    /// If the file cannot be written, or if another kind of file has the name.
    pub fn write(path: &Path, urls: &[String]) -> Result<UrlFile, Exit> {
        let written = check_replaceable(path).and_then(|()| write_whole(path, urls));
        match written {
            Ok(own) => Ok(UrlFile { path: path.to_owned(), own }),
            Err(error) => {
                let what = format!("--url-file: cannot write '{}'", path.display());
                Err(Exit::runtime(&what, error, "choose another file in a writable folder"))
            }
        }
    }
}

impl Drop for UrlFile {
    fn drop(&mut self) {
        let is_own = || -> io::Result<bool> {
            let (named, own) = (fs::symlink_metadata(&self.path)?, self.own.metadata()?);
            Ok((named.dev(), named.ino()) == (own.dev(), own.ino()))
        };
        if is_own().unwrap_or(false) {
            // The folder may have become read-only. The server ends anyway.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Checks that no file of the user is lost: only an empty file, as mktemp(1) makes it, and a file
/// of URLs are replaced.
fn check_replaceable(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is not a regular file")),
        Ok(_) => {}
    }
    let mut beginning = Vec::new();
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    file.take(BEGINNING_BYTES).read_to_end(&mut beginning)?;
    let is_of_urls = |start: &&[u8]| beginning.starts_with(start);
    match beginning.is_empty() || [&b"http://"[..], b"unix:"].iter().any(is_of_urls) {
        true => Ok(()),
        false => Err(io::Error::other("the file exists and does not contain URLs")),
    }
}

/// Writes a new file and gives it the name. A reader sees no half of it.
fn write_whole(path: &Path, urls: &[String]) -> io::Result<File> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it is not the name of a file"))?;
    // A name that begins with a dot is not served, even if the folder is.
    let draft = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let draft = path.with_file_name(draft);
    let mut file = File::create_new(&draft)?;
    let text: String = urls.iter().map(|url| format!("{url}\n")).collect();
    let named = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&draft, path));
    if named.is_err() {
        let _ = fs::remove_file(&draft);
    }
    named.map(|()| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path) -> Result<UrlFile, Exit> {
        UrlFile::write(path, &["http://10.0.0.1/".to_owned(), "unix:/x".to_owned()])
    }

    #[test]
    fn the_file_has_a_line_for_each_url_and_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("urls");
        for old in [None, Some(""), Some("http://127.0.0.1:1/\n"), Some("unix:/y\n")] {
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
            }
            let file = write(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "http://10.0.0.1/\nunix:/x\n");
            drop(file);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no draft is left");
        }
    }

    #[test]
    fn no_other_file_is_replaced_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("text"), "dear diary").unwrap();
        std::os::unix::fs::symlink("text", at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for (name, why) in [
            ("text", "the file exists and does not contain URLs"),
            ("link", "it is not a regular file"),
            ("folder", "it is not a regular file"),
            ("none/urls", "No such file or directory"),
        ] {
            let exit = write(&at(name)).unwrap_err();
            assert_eq!((exit.code(), exit.text().lines().count()), (1, 1));
            assert!(exit.text().contains(name) && exit.text().contains(why), "{}", exit.text());
        }
        assert_eq!(fs::read_to_string(at("text")).unwrap(), "dear diary");
        let file = write(&at("urls")).unwrap();
        fs::rename(at("text"), at("urls")).unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(at("urls")).unwrap(), "dear diary");
    }
}
