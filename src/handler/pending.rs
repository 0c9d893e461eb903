//! Changes that handlers request for the response to one request, in addition to their answer.
//!
//! The connection owns it until the response exists, so it stays with the request while a job runs
//! or content arrives. This file must not know which handler set what.

use crate::handler::extras::ResponseExtras;
use crate::handler::watch::Change;

/// The headers, the user and the change of the watched object that handlers have set for one
/// request.
#[derive(Default)]
pub(crate) struct Pending {
    /// Boxed, because few requests have any.
    extra: Option<Box<ResponseExtras>>,
    /// Memory for the headers of the next request.
    spare: Option<Box<ResponseExtras>>,
    pub(crate) watch: Change,
}

impl Pending {
    /// Returns the headers and the user of this request, if any were set.
    pub(super) fn extra(&self) -> Option<&ResponseExtras> {
        self.extra.as_deref()
    }

    /// Returns the headers and the user of this request, to set one of them.
    pub(super) fn extra_mut(&mut self) -> &mut ResponseExtras {
        self.extra.get_or_insert_with(|| self.spare.take().unwrap_or_default())
    }

    /// Takes the headers and the user of this request, if any were set. Pass them to
    /// [`Pending::reuse`] when they have been applied.
    pub(crate) fn take_extra(&mut self) -> Option<Box<ResponseExtras>> {
        self.extra.take()
    }

    /// Keeps the memory of headers for the next request, unless they were unusually large.
    pub(crate) fn reuse(&mut self, mut extra: Box<ResponseExtras>) {
        if extra.is_worth_keeping() {
            extra.clear();
            self.spare = Some(extra);
        }
    }

    /// Forgets everything that was set for a request.
    pub(crate) fn clear(&mut self) {
        self.watch = Change::Nothing;
        if let Some(extra) = self.extra.take() {
            self.reuse(extra);
        }
    }
}
