//! The paths that are tried for a request, and the thing that is found at one of them.
//!
//! Must not know how they are looked up.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use crate::docroot::cache::Forms;
use crate::handler::passwords::Password;
use crate::http::Status;

/// One path under which an answer is looked for.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) path: Cow<'a, [u8]>,
    pub(crate) role: Role,
}

/// What a file is to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// What it asked for.
    Asked,
    /// A page that `--clean-urls` looked for. It is redirected unless this is its name.
    Page,
    /// What is said where there is nothing else, with this status.
    Instead(Status),
}

/// What was found for an attempt.
#[derive(Debug)]
pub(crate) enum Served<'a> {
    File(Forms, Attempt<'a>),
    Directory(OwnedFd, Option<Password>),
    WithoutSlash(Option<Password>),
}

impl Served<'_> {
    /// The same without borrowing from the request.
    pub(super) fn into_owned(self) -> Served<'static> {
        match self {
            Served::File(forms, attempt) => {
                let path = Cow::Owned(attempt.path.into_owned());
                Served::File(forms, Attempt { path, role: attempt.role })
            }
            Served::Directory(directory, password) => Served::Directory(directory, password),
            Served::WithoutSlash(password) => Served::WithoutSlash(password),
        }
    }

    /// The password that is due at the place of it.
    pub(super) fn password(&self) -> Option<Password> {
        match self {
            Served::File(forms, _) => forms.original.meta.password,
            Served::Directory(_, password) | Served::WithoutSlash(password) => *password,
        }
    }
}
