//! `/_whirligig/loop`: a page that shows the running loop, and the events that feed it.
//!
//! The loop collects nothing until a viewer joins its [`Hub`]. The loop itself makes a frame every
//! 100 ms, and wakes the responses of the viewers; no further thread takes part. A page may show
//! another loop of the server than the one that serves it. `/_whirligig/requests` names the
//! requests under way in all loops.
//!
//! Only the machine of the server may look, unless `--loop-page` allows others. Must not know how a
//! loop works.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Model;
use crate::conn_id::Peer;
use crate::handler::continuation::{Inbox, Promise};
use crate::handler::{Answer, Context, Methods, Router};
use crate::http::{Body, BodySource, FillStatus, Request, Response, Status};
use crate::observe::live::{Hub, Viewer};
use crate::sync::lock;

/// Path of the page.
const PAGE: &str = "/_whirligig/loop";
/// Path of the frames, as server-sent events.
const FRAMES: &str = "/_whirligig/loop/frames";
/// Path of the requests under way, as JSON.
const REQUESTS: &str = "/_whirligig/requests";

/// All paths of the page.
pub(crate) const PATHS: [&str; 9] =
    [PAGE, FRAMES, REQUESTS, FILES[0].0, FILES[1].0, FILES[2].0, FILES[3].0, FILES[4].0, FILES[5].0];

/// The files that the page loads: path, media type and content.
const FILES: [(&str, &str, &str); 6] = [
    (
        "/_whirligig/loop/page.css",
        STYLE,
        concat!(include_str!("../../pages/tokens.css"), include_str!("page.css")),
    ),
    ("/_whirligig/loop/page.js", SCRIPT, include_str!("page.js")),
    ("/_whirligig/loop/draw.js", SCRIPT, include_str!("draw.js")),
    ("/_whirligig/loop/figures.js", SCRIPT, include_str!("figures.js")),
    ("/_whirligig/loop/frames.js", SCRIPT, include_str!("frames.js")),
    ("/_whirligig/loop/units.js", SCRIPT, include_str!("units.js")),
];
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Content security policy of the page. It loads its own files, frames, and recordings of this
/// site.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'";

/// The loops of one server.
#[derive(Debug)]
pub(crate) struct Loops {
    model: Model,
    /// Extended during startup, only read afterwards.
    loops: Mutex<Vec<Watched>>,
}

#[derive(Debug, Clone)]
struct Watched {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
}

/// The clients that may look at the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Clients on the server's own machine.
    ThisMachine,
    /// Every client.
    Everyone,
}

impl Loops {
    pub(crate) fn new(model: Model) -> Self {
        Loops { model, loops: Mutex::default() }
    }

    /// Adds a loop.
    pub(crate) fn add(&self, hub: Arc<Hub>, inbox: Arc<Inbox>) {
        let wake = Arc::clone(&inbox);
        hub.wake_with(move || wake.inspect(Box::new(|_| {})));
        lock(&self.loops).push(Watched { hub, inbox });
    }

    /// Returns all loops, or the response that says why there are none.
    fn all(&self) -> Result<Vec<Watched>, Response> {
        let loops = lock(&self.loops).clone();
        match (self.model, loops.is_empty()) {
            (Model::Reactor, false) => Ok(loops),
            (Model::Reactor, true) => Err(Response::problem(
                Status::SERVICE_UNAVAILABLE,
                "the server is starting, so there is no loop yet",
            )),
            (Model::Threads, _) => Err(Response::problem(
                Status::NOT_FOUND,
                "this server runs one thread for each connection (--model threads), so it has no loop to show",
            )),
        }
    }
}

/// Adds the routes of the page to a router.
pub(crate) fn routes(router: Router, loops: &Arc<Loops>, audience: Audience) -> Router {
    let get = Methods(&["GET"]);
    let gate = || Gate { loops: Arc::clone(loops), audience };
    let mut router = router
        .route(PAGE, get, gate().before(|loops, _, _| page(loops)))
        .route(FRAMES, get, gate().before(frames))
        .route(REQUESTS, get, gate().before(|loops, _, cx| requests(loops, cx)));
    for (path, media_type, content) in FILES {
        router = router.route(path, get, gate().before(move |loops, _, _| file(loops, media_type, content)));
    }
    router
}

/// Check of the client before each response.
struct Gate {
    loops: Arc<Loops>,
    audience: Audience,
}

impl Gate {
    fn before(
        self,
        answer: impl Fn(&Loops, &Request<'_>, &mut Context<'_>) -> Result<Answer, Response>,
    ) -> impl Fn(&Request<'_>, &mut Context<'_>) -> Answer {
        move |request, cx| {
            let answered = match self.audience == Audience::Everyone || is_local(cx.peer()) {
                true => answer(&self.loops, request, cx),
                false => Err(Response::problem(
                    Status::FORBIDDEN,
                    "only the server's own machine may look at the loop; --loop-page allows it for others",
                )),
            };
            answered.unwrap_or_else(Answer::from)
        }
    }
}

/// Returns true if the peer is a process on this machine.
fn is_local(peer: &Peer) -> bool {
    match peer.ip() {
        Some(ip) => ip.to_canonical().is_loopback(),
        None => true,
    }
}

fn page(loops: &Loops) -> Result<Answer, Response> {
    loops.all()?;
    let page = Response::html(include_str!("page.html")).with_header("Content-Security-Policy", POLICY);
    Ok(own(page).into())
}

fn file(loops: &Loops, media_type: &'static str, content: &'static str) -> Result<Answer, Response> {
    loops.all()?;
    let file = Response::new(Status::OK).with_header("Content-Type", media_type);
    Ok(own(file.with_body(Body::Bytes(content.into()))).into())
}

/// Adds the headers of the page and of its files.
fn own(response: Response) -> Response {
    response
        .by_server()
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Cache-Control", "no-store")
}

/// Joins the loop that serves this connection, or the one that the query names: `?loop=1`.
fn frames(loops: &Loops, request: &Request<'_>, cx: &mut Context<'_>) -> Result<Answer, Response> {
    let all = loops.all()?;
    let mine = cx.hub().and_then(|hub| all.iter().position(|one| Arc::ptr_eq(&one.hub, hub)));
    let wanted = match request.query() {
        None | Some(b"") => mine.unwrap_or(0),
        Some(query) => number(query).filter(|&number| number < all.len()).ok_or_else(|| {
            let last = all.len() - 1;
            Response::problem(Status::BAD_REQUEST, format!("allowed in the query: loop=0 to loop={last}"))
        })?,
    };
    let (waker, own) = (cx.waker(), (mine == Some(wanted)).then(|| cx.id()));
    let viewer = all[wanted].hub.join(own, move || waker.wake()).ok_or_else(|| {
        Response::problem(Status::SERVICE_UNAVAILABLE, "too many viewers look at this loop already")
    })?;
    let hello = format!(
        "{{\"record\":\"whirligig-hello\",\"version\":\"{}\",\"loop\":{wanted},\"loops\":{},\"own_loop\":{}}}",
        env!("CARGO_PKG_VERSION"),
        all.len(),
        mine.map_or("null".to_owned(), |mine| mine.to_string()),
    );
    Ok(Response::events(Frames { viewer, hello: Some(hello) }).by_server().into())
}

/// Reads `loop=NUMBER`.
fn number(query: &[u8]) -> Option<usize> {
    std::str::from_utf8(query.strip_prefix(b"loop=")?).ok()?.parse().ok()
}

/// The response of one viewer.
struct Frames {
    viewer: Viewer,
    /// The first event.
    hello: Option<String>,
}

impl BodySource for Frames {
    fn fill(&mut self, out: &mut Vec<u8>, _room: usize) -> FillStatus {
        if let Some(hello) = self.hello.take() {
            push_event("hello", &hello, out);
        }
        if let Some((frame, skipped)) = self.viewer.take() {
            if skipped > 0 {
                push_event("skipped", &skipped.to_string(), out);
            }
            push_event("frame", &frame, out);
        }
        FillStatus::Later
    }

    fn is_endless(&self) -> bool {
        true
    }
}

/// Writes one event whose data is one line.
fn push_event(name: &str, data: &str, out: &mut Vec<u8>) {
    for part in ["event: ", name, "\ndata: ", data, "\n\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Asks every loop for its requests under way. The last loop to report makes the response.
fn requests(loops: &Loops, cx: &mut Context<'_>) -> Result<Answer, Response> {
    let all = loops.all()?;
    let lists = Mutex::new(vec![None; all.len()]);
    let round = Arc::new(Round { lists, asker: cx.promise() });
    for (number, one) in all.iter().enumerate() {
        let round = Arc::clone(&round);
        one.inbox.list_requests(Box::new(move |list| lock(&round.lists)[number] = Some(list)));
    }
    Ok(cx.answer_later())
}

/// Requests under way that are being collected. When the last loop has reported or ended, the round
/// is dropped, and the response is sent.
struct Round {
    /// A JSON list for each loop; `None` for one that has ended.
    lists: Mutex<Vec<Option<String>>>,
    asker: Promise,
}

impl Drop for Round {
    fn drop(&mut self) {
        let lists = std::mem::take(self.lists.get_mut().unwrap_or_else(PoisonError::into_inner));
        let loops: Vec<String> =
            lists.into_iter().map(|list| list.unwrap_or_else(|| "null".to_owned())).collect();
        let json =
            format!("{{\"record\":\"whirligig-requests\",\"version\":1,\"loops\":[{}]}}\n", loops.join(","));
        self.asker.keep(Box::new(move |_| {
            Response::new(Status::OK)
                .by_server()
                .with_header("Content-Type", "application/json")
                .with_header("Cache-Control", "no-store")
                .with_body(Body::Bytes(json.into_bytes()))
                .into()
        }));
    }
}
