//! Header rules of the operator, by path.
//!
//! A rule replaces a header of the server. It does not change a header that a script or handler
//! set. Rules match the path of the served file (`/a/index.html` for a request of `/a/`) and then
//! the requested path; other responses match the requested path only.
//!
//! The headers wait in `handler/extras.rs` and are applied when the response is queued
//! (`driver/respond.rs`). Must not know how responses are produced.

use std::sync::Arc;

use crate::docroot::header_rules::HeaderRules;
use crate::handler::{Answer, Context, Handler};
use crate::http::{Request, target};

struct AddHeaders {
    rules: HeaderRules,
    inner: Arc<dyn Handler>,
}

/// Wraps `inner` and requests the headers of these rules for its responses.
pub(crate) fn wrap(rules: HeaderRules, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
    Arc::new(AddHeaders { rules, inner })
}

impl Handler for AddHeaders {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        // An invalid path produces an error response, which can have rule headers as well.
        let path = target::normalize(request.path()).unwrap_or(request.path().into());
        for (rule, on) in self.rules.counting(&path) {
            cx.set_path_header(rule.how, on, &rule.name, &rule.value);
        }
        self.inner.handle(request, cx)
    }
}
