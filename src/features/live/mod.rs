//! `--live-reload`: pages reload when a file of the folder changes.
//!
//! One thread watches the folders (`features/live/watch.rs`) and sends events to a [`Feed`]. A
//! script in every page listens to the feed. The script is appended to HTML when a file is read
//! into the cache, so requests cost nothing extra. Listings and error pages contain it from the
//! start.
//!
//! Must not know how connections are driven.

pub(crate) mod watch;

use std::sync::Arc;

use crate::app::feed::Feed;
use crate::docroot::root::Root;
use crate::handler::{Answer, Context, Handler, Methods, Router};
use crate::http::{Request, Response};

/// Path of the events.
pub(crate) const EVENTS: &str = "/_whirligig/live";
/// Path of the script.
pub(crate) const SCRIPT: &str = "/_whirligig/live.js";

/// Returns the script.
///
/// The script requests events after `last`, the ID of the last change when the script was sent, so
/// no change is missed. The page also reloads when the server returns, because any file can have
/// changed. A listing with pending uploads does not reload, because that would abort them; it
/// reloads itself when all are complete.
fn javascript(last: &str) -> String {
    format!(
        "(() => {{
  let lost = false;
  const uploads = 'section.up[aria-label=Upload] li';
  const reload = () => {{ if (!document.querySelector(uploads)) location.reload(); }};
  const events = new EventSource('{EVENTS}?since={last}');
  events.addEventListener('change', reload);
  events.addEventListener('error', () => {{ lost = true; }});
  events.addEventListener('open', () => {{ if (lost) reload(); }});
}})();
"
    )
}

/// Wraps `inner` so that its error pages contain the script. A browser that shows a 404 then loads
/// the page once it is written.
pub(crate) fn wrap(inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
    Arc::new(Reloading(inner))
}

struct Reloading(Arc<dyn Handler>);

impl Handler for Reloading {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        cx.reload_errors();
        self.0.handle(request, cx)
    }
}

/// Watches `roots`, and adds the routes of the script and its events. If watching is not possible,
/// a warning is logged and pages do not reload.
pub(crate) fn routes(router: Router, roots: Vec<Arc<Root>>) -> Router {
    let feed = Feed::new();
    if let Err(error) = watch::start(roots, &feed) {
        log::warn!("--live-reload cannot watch the folder: {error}");
    }
    let changes = feed.clone();
    let events = move |request: &Request<'_>, cx: &mut Context<'_>| -> Answer {
        let last = request.header("last-event-id").or_else(|| request.query()?.strip_prefix(b"since="));
        Response::events(changes.join_after(last, cx.waker())).by_server().into()
    };
    let script = move |_: &Request<'_>, _: &mut Context<'_>| -> Answer {
        Response::bytes("text/javascript; charset=utf-8", javascript(&feed.last_id()))
            .by_server()
            .with_header("Cache-Control", "no-store")
            .into()
    };
    router.route(EVENTS, Methods(&["GET"]), events).route(SCRIPT, Methods(&["GET"]), script)
}
