//! The page of a race, served by the reactor of this process on the loopback address.
//!
//! The page first receives the whole report and then each change of it, as server-sent events.
//! Must not know how a race runs.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use super::report::{Compared, Report};
use crate::app::call::Call;
use crate::app::feed::{Feed, Listener};
use crate::bench::Fallible;
use crate::bench::cpu::rest;
use crate::http::{Body, BodySource, FillStatus, Response, Status};
use crate::server::{BindError, Handle, Server};
use crate::sync::lock;

/// Time for viewers to receive the last events.
const DRAIN: Duration = Duration::from_secs(2);
/// Time between two checks whether they have.
const TAKEN_CHECK: Duration = Duration::from_millis(5);

/// Content security policy of the page. It loads only its own files and events.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const STYLE: &str = concat!(include_str!("../../pages/tokens.css"), include_str!("page.css"));

/// A page that is being served.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    handle: Handle,
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    feed: Feed,
    /// JSON of the whole report. The lock also orders events: a viewer joins between two of them.
    report: Mutex<String>,
}

/// A change of one scenario.
#[derive(Serialize)]
struct Change<'a> {
    at: usize,
    scenario: &'a Compared,
}

impl Page {
    /// Listens on this port of the loopback address, or on any free one if it is 0.
    ///
    /// # Errors
    /// If the port cannot be bound.
    pub fn open(port: u16, report: &Report) -> Result<Page, BindError> {
        let json = report.json().unwrap_or_default();
        let shared = Arc::new(Shared { feed: Feed::new(), report: Mutex::new(json) });
        let address = format!("127.0.0.1:{port}");
        let failed = |error: io::Error| BindError::Address(address.clone(), error);
        let viewers = Arc::clone(&shared);
        let server = Server::builder()
            .get("/", |_| {
                own(Response::html(include_str!("page.html")).with_header("Content-Security-Policy", POLICY))
            })
            .get("/page.css", |_| file("text/css; charset=utf-8", STYLE))
            .get("/page.js", |_| file("text/javascript; charset=utf-8", include_str!("page.js")))
            .get("/events", move |call| Response::events(viewers.join(call)))
            .timeouts(|timeouts| timeouts.drain = DRAIN)
            .signals(false)
            .bind(&address)?;
        let address = server.local_addr().map_err(failed)?;
        let handle = server.handle();
        let run = move || {
            if let Err(error) = server.run() {
                log::error!("the page of the race ended: {error}");
            }
        };
        let failed = |error: io::Error| BindError::Address(address.to_string(), error);
        let thread = std::thread::Builder::new().name("race-page".into()).spawn(run).map_err(failed)?;
        Ok(Page { address, handle, thread, shared })
    }

    /// URL of the page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Returns whether a browser shows the page.
    #[must_use]
    pub fn has_viewer(&self) -> bool {
        self.shared.feed.listeners() > 0
    }

    /// Sends the present state of a scenario, or the noise if no scenario has changed.
    ///
    /// # Errors
    /// Never with these types.
    pub fn show(&self, report: &Report, changed: Option<&Compared>) -> Fallible<()> {
        let at = changed.and_then(|changed| report.scenarios.iter().position(|one| one.name == changed.name));
        let (name, data) = match changed.zip(at) {
            Some((scenario, at)) => ("scenario", serde_json::to_string(&Change { at, scenario })?),
            None => ("noise", serde_json::to_string(&report.noise)?),
        };
        let mut kept = lock(&self.shared.report);
        *kept = report.json()?;
        self.shared.feed.send_named(name, &data);
        Ok(())
    }

    /// Sends the end of the race and stops the server. Open pages keep their figures.
    pub fn end(self) {
        self.shared.feed.send_named("over", "");
        self.shared.feed.close();
        // A stop breaks endless content off, so the viewers first take what waits for them.
        let checks = DRAIN.as_millis() / TAKEN_CHECK.as_millis();
        for _ in 0..checks {
            if !self.has_viewer() {
                break;
            }
            rest(TAKEN_CHECK);
        }
        self.handle.shutdown();
        // A panic of the page is no reason to lose the results.
        drop(self.thread.join());
    }
}

impl Shared {
    /// Adds a viewer. The whole report is its first event.
    fn join(&self, call: &Call<'_>) -> Viewer {
        let report = lock(&self.report);
        let first = format!("event: report\ndata: {report}\n\n").into_bytes();
        Viewer { first, sent: 0, rest: self.feed.join_after(None, call.waker()) }
    }
}

/// The events of one viewer.
#[derive(Debug)]
struct Viewer {
    /// The first event, of which `sent` bytes have left.
    first: Vec<u8>,
    sent: usize,
    rest: Listener,
}

impl BodySource for Viewer {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus {
        if self.sent < self.first.len() {
            let piece = &self.first[self.sent..];
            let piece = &piece[..piece.len().min(room.max(1))];
            out.extend_from_slice(piece);
            self.sent += piece.len();
            return FillStatus::More;
        }
        self.rest.fill(out, room)
    }

    fn is_endless(&self) -> bool {
        true
    }
}

fn file(media_type: &str, content: &'static str) -> Response {
    let file = Response::new(Status::OK).with_header("Content-Type", media_type);
    own(file.with_body(Body::Static(content.as_bytes())))
}

/// Adds the headers of the page and of its files.
fn own(response: Response) -> Response {
    response.with_header("X-Content-Type-Options", "nosniff").with_header("Cache-Control", "no-store")
}
