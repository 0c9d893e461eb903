//! `?download`: the same answer, to be saved and not shown, under a name that survives the journey.
//!
//! A field line for the request in hand (RFC 6266), so the cache and everything that is made
//! beforehand stay as they are. The name is always the file's own: one taken from the query would
//! let a link choose what a file of ours is called on somebody's desk. It must not touch the disk.

use crate::handler::{Context, When};
use crate::http::Request;
use crate::http::disposition::attachment;
use crate::http::target::query_pairs;

/// Has the file at `path` saved by the client, if `?download` asks for it. Called when it is known
/// that a file answers: a listing is not a download, and a redirect leads to the real answer.
#[inline]
pub(super) fn mark(request: &Request<'_>, path: &[u8], cx: &mut Context<'_>) {
    if let Some(query) = request.query() {
        mark_if_asked(query, path, cx);
    }
}

fn mark_if_asked(query: &[u8], path: &[u8], cx: &mut Context<'_>) {
    if query_pairs(query).any(|(name, _)| name == "download") {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let name = if name.is_empty() { b"index.html" } else { name };
        cx.set_own_header(When::Success, "Content-Disposition", attachment(name));
    }
}
