//! The search for the file of a request: one path after the other, until something exists.
//!
//! Must not know how the file is sent.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::config::PATH_BYTES_MAX;
use crate::docroot::cache::Representations;
use crate::docroot::coded_files::CodedFiles;
use crate::docroot::{Disk, Docroot, Found, LookupError};
use crate::files::candidate::{Candidate, Purpose, Served};
use crate::files::clean;
use crate::http::{Request, Status, negotiate};

/// Tries one path after the other with `get`, until something exists.
pub(super) fn search<'a>(
    docroot: &'a Docroot,
    path: &'a [u8],
    request: &'a Request<'_>,
    disk: Disk,
    mut get: impl FnMut(Candidate<'a>) -> Result<Served<'a>, LookupError>,
) -> Result<Served<'a>, LookupError> {
    for candidate in candidates(docroot, path, request) {
        let mut found = get(candidate);
        if docroot.options.clean_urls {
            found = clean::settle(docroot, path, found, disk, &mut get);
        }
        match found {
            Err(LookupError::NotFound) => {}
            found => return found,
        }
    }
    Err(LookupError::NotFound)
}

/// Lists the paths to try, in order: the requested path; that path with `.html`; the page of the
/// single-page application; the error page for 404.
fn candidates<'a>(
    docroot: &'a Docroot,
    path: &'a [u8],
    request: &'a Request<'_>,
) -> impl Iterator<Item = Candidate<'a>> {
    let options = &docroot.options;
    // A longer path names no file, so the disk is not read.
    let names_file = path.len() <= PATH_BYTES_MAX;
    let itself = names_file.then_some(Candidate { path: Cow::Borrowed(path), purpose: Purpose::Asked });
    let clean = move || clean::page_of(path).filter(|_| names_file && options.clean_urls);
    let spa = move || {
        let page = options.spa.as_deref().filter(|_| may_be_of_app(path, request))?;
        Some(Candidate { path: Cow::Borrowed(page.as_bytes()), purpose: Purpose::Asked })
    };
    let missing = move || page_for(docroot, Status::NOT_FOUND);
    // Later candidates are created only after earlier ones have failed.
    let later: [Box<dyn Fn() -> Option<Candidate<'a>> + 'a>; 3] =
        [Box::new(clean), Box::new(spa), Box::new(missing)];
    itself.into_iter().chain(later.into_iter().filter_map(|candidate| candidate()))
}

/// Returns true if a path without a file may be a page of the single-page application. A missing
/// image or script stays a 404: its request accepts other types, or its path has an extension.
fn may_be_of_app(path: &[u8], request: &Request<'_>) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let has_extension = memchr::memrchr(b'.', name).is_some_and(|dot| dot + 1 < name.len());
    request.wants_html() || (!has_extension && takes_html(request))
}

/// Returns true if the client accepts HTML and prefers no other type that it names. Unlike
/// browsers, many clients accept anything (`*/*`, no `Accept`).
fn takes_html(request: &Request<'_>) -> bool {
    negotiate::is_first_choice(request.headers().all("accept"), "text/html")
}

/// Returns the docroot's own page for this status, if one is configured.
pub(super) fn page_for(docroot: &Docroot, status: Status) -> Option<Candidate<'_>> {
    let (_, page) = docroot.options.error_pages.iter().find(|(code, _)| *code == status.code())?;
    Some(Candidate { path: Cow::Borrowed(page.as_bytes()), purpose: Purpose::Instead(status) })
}

/// Looks on the disk. Also loads the coded forms if the request accepts codings.
pub(super) fn look<'a>(
    docroot: &Docroot,
    candidate: Candidate<'a>,
    disk: Disk,
    request: &Request<'_>,
    wall: Duration,
) -> Result<Served<'a>, LookupError> {
    Ok(match docroot.find(&candidate.path, disk, wall)? {
        Found::File(original) => {
            let coded_files = match accepts_codings(request) {
                true => Some(Arc::new(CodedFiles::load(docroot, &candidate.path, &original, disk, wall)?)),
                false => None,
            };
            Served::File(Representations { original, coded_files }, candidate)
        }
        Found::Directory(directory, password) => Served::Directory(directory, password),
        Found::WithoutSlash(password) => Served::WithoutSlash(password),
    })
}

pub(super) fn accepts_codings(request: &Request<'_>) -> bool {
    request.header("accept-encoding").is_some()
}
