//! The site of a scenario: its routes as one handler.
//!
//! This file must not know the clients.

use crate::config::MIB;
use crate::handler::{Answer, Context, Handler};
use crate::http::{Body, Request, Response, Status};
use crate::sim::scenario::script::{Route, RouteBody, Work};
use crate::sim::scenario::world::Shared;
use crate::sim::workers::HasWorkers as _;
use crate::sync::lock;

/// Answers requests as the routes of a scenario say.
pub(super) struct Site {
    pub(super) routes: Vec<Route>,
    pub(super) world: Shared,
}

impl Handler for Site {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let route = self.routes.iter().find(|route| route.path.as_bytes() == request.path());
        let Some(route) = route else {
            return Response::text("no such route").with_status(Status::NOT_FOUND).into();
        };
        let closes = route.closes;
        let response = match &route.body {
            RouteBody::Text(text) => Response::text(text.clone()),
            RouteBody::Bytes(bytes) => Response::new(Status::OK).with_body(Body::Bytes(content(*bytes))),
            RouteBody::Echo => {
                let then = move |content, _: &mut Context<'_>| {
                    let response = Response::new(Status::OK).with_body(Body::Bytes(content));
                    Answer::Now(if closes { response.closing() } else { response })
                };
                return Answer::Collect { bytes_max: MIB as u64, then: Box::new(then) };
            }
        };
        let response = if closes { response.closing() } else { response };
        match route.work {
            Work::None => response.into(),
            Work::Inline(ns) => {
                let mut world = lock(&self.world);
                let now_ns = world.now_ns + ns;
                world.set_clock(now_ns);
                response.into()
            }
            Work::Job(ns) => {
                lock(&self.world).job_takes_ns = ns;
                cx.job(move || response)
            }
        }
    }
}

/// Content that differs at each position, so that a lost piece is noticed.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| b'a' + (at % 26) as u8).collect()
}
