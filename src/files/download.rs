//! `?download`: the response has a header that makes the client save it under a safe name (RFC
//! 6266).
//!
//! The header is added to the response to the current request, so that cached and prepared
//! responses stay as they are. The name is always that of the file. A name from the query would let
//! a link choose the name of a file on the user's computer. Must not touch the disk.

use crate::handler::{Context, When};
use crate::http::Request;
use crate::http::disposition::attachment;
use crate::http::target::query_pairs;

/// Adds the header for the file at `path` if the query contains `download`. `index` is the name of
/// the file if `path` is that of a folder. Called when the response is known to be a file, not a
/// listing or a redirect.
#[inline]
pub(super) fn mark(request: &Request<'_>, path: &[u8], index: Option<&[u8]>, cx: &mut Context<'_>) {
    if let Some(query) = request.query() {
        mark_if_asked(query, index.unwrap_or(path), cx);
    }
}

fn mark_if_asked(query: &[u8], path: &[u8], cx: &mut Context<'_>) {
    if query_pairs(query).any(|(name, _)| name == "download") {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        cx.set_own_header(When::Success, "Content-Disposition", attachment(name));
    }
}
