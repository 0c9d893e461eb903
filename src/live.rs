//! `--live-reload`: pages reload when a file of the folder changes.
//!
//! One thread watches (`files/watch.rs`) and tells a [`Feed`]; a script in every page listens to it. The script is put
//! behind HTML when that is read into the cache, so no request is looked at for it.

use crate::feed::Feed;
use crate::files::watch;
use crate::handler::{Answer, Context, Methods, Router};
use crate::http::{Request, Response};

/// Where pages listen, and where the script is.
pub(crate) const EVENTS: &str = "/_whirligig/live";
pub(crate) const SCRIPT: &str = "/_whirligig/live.js";

/// What the script does: it also reloads when the server comes back, since then anything may have changed.
const JAVASCRIPT: &str = "(() => {
  let lost = false;
  const events = new EventSource('/_whirligig/live');
  events.addEventListener('change', () => location.reload());
  events.addEventListener('error', () => { lost = true; });
  events.addEventListener('open', () => { if (lost) location.reload(); });
})();
";

/// Watches `roots` and adds the script and its events. Where watching is not possible it says so, and pages stay as
/// they are.
pub(crate) fn routes(router: Router, roots: &[std::path::PathBuf]) -> Router {
    let feed = Feed::new();
    if let Err(error) = watch::start(roots, &feed) {
        log::warn!("--live-reload cannot watch the folder: {error}");
    }
    let events = move |request: &Request<'_>, cx: &mut Context<'_>| -> Answer {
        Response::events(feed.join_from(request, cx.waker())).into()
    };
    let script = |_: &Request<'_>, _: &mut Context<'_>| -> Answer {
        Response::bytes("text/javascript; charset=utf-8", JAVASCRIPT)
            .with_field("Cache-Control", "no-cache")
            .into()
    };
    router.route(EVENTS, Methods(&["GET"]), events).route(SCRIPT, Methods(&["GET"]), script)
}
