//! `--clean-urls`: pages without `.html` in their URLs, each at one URL only.
//!
//! `/about` is `about.html`, `/` is `index.html`, and the other URLs of a page are redirected
//! there. A page keeps its long URL if the short one belongs to another file, or to a folder with
//! an index. A redirect is sent only if it leads to the requested page. Must not know error pages.

use std::borrow::Cow;

use crate::docroot::{Disk, Docroot, Found, LookupError};
use crate::files::candidate::{Candidate, Purpose, Served};

/// File name extension of pages.
const EXTENSION: &[u8] = b".html";

/// Returns the page to try if nothing exists at this path: `/about.html` for `/about`, and for
/// `/about/`, which is then redirected.
pub(crate) fn page_of(path: &[u8]) -> Option<Candidate<'static>> {
    let name = path.strip_suffix(b"/").unwrap_or(path);
    let is_name = !name.is_empty() && !is_long(name);
    is_name.then(|| Candidate { path: Cow::Owned([name, EXTENSION].concat()), purpose: Purpose::Page })
}

/// Returns whether the path is the long name of a page.
pub(crate) fn is_long(path: &[u8]) -> bool {
    path.ends_with(EXTENSION)
}

/// Returns the short name of a page. The short name of an index is that of its folder.
pub(crate) fn short_name<'a>(docroot: &Docroot, page: &'a [u8]) -> &'a [u8] {
    match split_index(docroot, page) {
        Some((folder, _)) => folder,
        None => page.strip_suffix(EXTENSION).unwrap_or(page),
    }
}

/// Splits the path of an index into that of its folder, with the slash, and the position of its
/// name among those of index files. `None` if the page has another name.
fn split_index<'a>(docroot: &Docroot, page: &'a [u8]) -> Option<(&'a [u8], usize)> {
    let name = page.rsplit(|&byte| byte == b'/').next()?;
    let at = docroot.index_names().iter().position(|index| index == name)?;
    is_long(name).then_some((&page[..page.len() - name.len()], at))
}

/// Adjusts the result for a candidate for `path`: another page may stand in for it, or the page may
/// have another canonical name. `get` tries one more path.
pub(crate) fn settle<'a>(
    docroot: &Docroot,
    path: &[u8],
    found: Result<Served<'a>, LookupError>,
    disk: Disk,
    get: impl FnOnce(Candidate<'a>) -> Result<Served<'a>, LookupError>,
) -> Result<Served<'a>, LookupError> {
    match found? {
        // `blog.html` beside the folder `blog`, which has no index: the page is better than a
        // listing.
        Served::WithoutSlash(password) if !has_index(docroot, path, disk)? => {
            let page = page_of(path).map_or(Err(LookupError::NotFound), get);
            match page {
                Err(LookupError::NotFound) => Ok(Served::WithoutSlash(password)),
                page => page,
            }
        }
        Served::File(representations, candidate)
            if candidate.purpose == Purpose::Asked && *candidate.path == *path && is_long(path) =>
        {
            let purpose = if has_short_name(docroot, path, disk)? { Purpose::Page } else { Purpose::Asked };
            Ok(Served::File(representations, Candidate { purpose, ..candidate }))
        }
        Served::File(_, candidate)
            if candidate.purpose == Purpose::Page
                && path.ends_with(b"/")
                && !has_short_name(docroot, &candidate.path, disk)? =>
        {
            Err(LookupError::NotFound)
        }
        other => Ok(other),
    }
}

/// Returns true if the short name of an existing page leads to that page.
fn has_short_name(docroot: &Docroot, page: &[u8], disk: Disk) -> Result<bool, LookupError> {
    if let Some((folder, at)) = split_index(docroot, page) {
        // Another index file may have precedence.
        return match docroot.peek(folder, disk) {
            Ok(Found::File(file)) => Ok(file.meta.index == Some(at)),
            Ok(Found::Directory(..) | Found::WithoutSlash(_)) | Err(LookupError::NotFound) => Ok(false),
            Err(LookupError::Forbidden | LookupError::Unknown) => Ok(false),
            Err(error @ (LookupError::Cold | LookupError::Exhausted | LookupError::Io(_))) => Err(error),
        };
    }
    let name = short_name(docroot, page);
    if is_long(name) {
        return Ok(false);
    }
    match docroot.peek(name, disk) {
        Ok(Found::WithoutSlash(_)) => Ok(!has_index(docroot, name, disk)?),
        Err(LookupError::NotFound) => Ok(true),
        Ok(Found::File(_) | Found::Directory(..)) | Err(LookupError::Forbidden | LookupError::Unknown) => {
            Ok(false)
        }
        Err(error @ (LookupError::Cold | LookupError::Exhausted | LookupError::Io(_))) => Err(error),
    }
}

/// Returns true if the folder at `path`, which has no slash at its end, has an index.
fn has_index(docroot: &Docroot, path: &[u8], disk: Disk) -> Result<bool, LookupError> {
    match docroot.peek(&[path, b"/"].concat(), disk) {
        Ok(Found::File(_)) | Err(LookupError::Forbidden | LookupError::Unknown) => Ok(true),
        Ok(Found::Directory(..) | Found::WithoutSlash(_)) | Err(LookupError::NotFound) => Ok(false),
        Err(error @ (LookupError::Cold | LookupError::Exhausted | LookupError::Io(_))) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileOptions;

    #[test]
    fn pages_have_a_long_and_a_short_name() {
        for (path, page) in [
            ("/about", Some("/about.html")),
            ("/about/", Some("/about.html")),
            ("/a.b/c.d", Some("/a.b/c.d.html")),
            ("/index", Some("/index.html")),
            ("/docs/index/", Some("/docs/index.html")),
            ("/", None),
            ("/about.html", None),
            ("/about.html/", None),
        ] {
            let got = page_of(path.as_bytes()).map(|candidate| candidate.path.into_owned());
            assert_eq!(got, page.map(|page| page.as_bytes().to_vec()), "{path}");
        }
        let folder = tempfile::tempdir().unwrap();
        let index = ["main.html", "index.html", "index.txt"].map(str::to_owned).to_vec();
        let options = FileOptions { index, ..FileOptions::default() };
        let docroot = Docroot::open(folder.path(), options).unwrap();
        for (page, name) in [
            ("/about.html", "/about"),
            ("/index.html", "/"),
            ("/docs/main.html", "/docs/"),
            ("/docs/index.html", "/docs/"),
            ("/index/index.html", "/index/"),
            ("/reindex.html", "/reindex"),
            ("/a/index.html.html", "/a/index.html"),
            ("/a/index.txt", "/a/index.txt"),
        ] {
            assert_eq!(short_name(&docroot, page.as_bytes()), name.as_bytes(), "{page}");
        }
    }
}
