//! The interface between file serving and passwords: the paths that require one, and the check of a
//! request.
//!
//! `features::auth` implements this. Must not know users, hashes or credentials.

use std::sync::Arc;

use crate::handler::{Answer, Context, Handler};
use crate::http::Request;

/// The password of a part of the site. Two paths with equal values have one password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Password(pub(crate) usize);

/// The paths that require a password.
pub(crate) trait Passwords: std::fmt::Debug + Send + Sync {
    /// Returns the password that this normalized path requires, if any.
    fn password_at(&self, path: &[u8]) -> Option<Password>;

    /// Checks the credentials of a request against `password` and calls `inner` if they are right.
    /// Used for a path that leads, through a link, to a location with this password.
    fn admit(
        self: Arc<Self>,
        password: Password,
        inner: &Arc<dyn Handler>,
        request: &Request<'_>,
        cx: &mut Context<'_>,
    ) -> Answer;
}
