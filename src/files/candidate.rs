//! The paths that are tried for a request, and the results of the search.
//!
//! Must not know the search itself.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use crate::docroot::cache::Representations;
use crate::handler::passwords::Password;
use crate::http::Status;

/// One path that is tried for a request.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) path: Cow<'a, [u8]>,
    pub(crate) purpose: Purpose,
}

/// The relation of a file to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The requested file, or the page of a single-page application.
    Asked,
    /// A page found by `--clean-urls`. The request is redirected unless it has the short name of
    /// the page.
    Page,
    /// An error page, sent with this status.
    Instead(Status),
}

/// The result for a candidate.
#[derive(Debug)]
pub(crate) enum Served<'a> {
    File(Representations, Candidate<'a>),
    Directory(OwnedFd, Option<Password>),
    WithoutSlash(Option<Password>),
}

impl Served<'_> {
    /// Copies the path, so that the value borrows nothing from the request.
    pub(super) fn into_owned(self) -> Served<'static> {
        match self {
            Served::File(representations, candidate) => {
                let path = Cow::Owned(candidate.path.into_owned());
                Served::File(representations, Candidate { path, purpose: candidate.purpose })
            }
            Served::Directory(directory, password) => Served::Directory(directory, password),
            Served::WithoutSlash(password) => Served::WithoutSlash(password),
        }
    }

    /// Returns the password of the location.
    pub(super) fn password(&self) -> Option<Password> {
        match self {
            Served::File(representations, _) => representations.original.meta.password,
            Served::Directory(_, password) | Served::WithoutSlash(password) => *password,
        }
    }
}
