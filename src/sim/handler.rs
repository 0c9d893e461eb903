//! The handler of a simulated run. It returns answers of every kind, immediate and delayed, and
//! watched objects.
//!
//! This file must not know the clients, or what becomes of its answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::Instant;
use crate::config::KIB;
use crate::handler::continuation::{Continuation, Done};
use crate::handler::offload::{Offloaded, Producer};
use crate::handler::watch::{Advanced, Descriptor, Ready, Watched};
use crate::handler::{Answer, BodySink, Context, Handler, Holders, SinkStatus};
use crate::http::open_file::OpenFile;
use crate::http::{Body, BodySource, FillStatus, Request, Response, Status};
use crate::jobs::inbox::Waker;
use crate::jobs::sender_permits::{SenderPermit, SenderPermits};
use crate::sim::workers::Work;
use crate::sim::world::{Shared, SimWatch, pattern};
use crate::sync::lock;

/// A handler that gives every kind of answer. The path of a request selects kind and size:
/// `/how/id/bytes`.
pub(super) struct SimHandler {
    pub(super) world: Shared,
    pub(super) file: Arc<OpenFile>,
    /// Holders that sinks occupy.
    pub(super) permits: Arc<SenderPermits>,
}

impl SimHandler {
    pub(super) fn answer(id: u64, body: Body) -> Response {
        Response::new(Status::OK).with_header("X-Id", id.to_string()).with_body(body)
    }

    pub(super) fn bytes(id: u64, len: u64) -> Body {
        Body::Bytes((0..len).map(|at| pattern(id, at)).collect())
    }
}

impl Handler for SimHandler {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let path = String::from_utf8_lossy(request.path()).into_owned();
        let mut words = path.trim_start_matches('/').split('/');
        let how = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let (id, len): (u64, u64) = (number(), number());
        if matches!(how, "now" | "file") {
            lock(&self.world).made.insert(id);
        }
        match how {
            "now" => SimHandler::answer(id, SimHandler::bytes(id, len)).into(),
            "bye" => SimHandler::answer(id, SimHandler::bytes(id, len)).closing().into(),
            "later" => cx.job(move || SimHandler::answer(id, SimHandler::bytes(id, len))),
            "fail" => {
                let world = Arc::clone(&self.world);
                cx.job(move || {
                    lock(&world).coverage.note("fault", "failed_job");
                    std::panic::resume_unwind(Box::new("a job that fails"))
                })
            }
            "panic" => std::panic::resume_unwind(Box::new("a handler that fails")),
            "collect" => Answer::Collect {
                bytes_max: 64 * KIB as u64,
                then: Box::new(move |content, _| SimHandler::answer(id, Body::Bytes(content)).into()),
            },
            "small" => Answer::Collect {
                bytes_max: 10,
                then: Box::new(move |content, _| SimHandler::answer(id, Body::Bytes(content)).into()),
            },
            "sink" => {
                let world = Arc::clone(&self.world);
                let Some(permit) = self.permits.acquire(cx.waker(), cx.now().mono) else {
                    lock(&world).coverage.note("fault", "no_permit");
                    return Response::new(Status::SERVICE_UNAVAILABLE).into();
                };
                Answer::Sink(Box::new(SimSink { id, kept: Vec::new(), fresh: 0, permit, world }))
            }
            "file" | "broken" => {
                let body = Body::File { file: Arc::clone(&self.file), offset: id << 40, len };
                SimHandler::answer(id, body).into()
            }
            "source" | "torn" => {
                let rest = if how == "torn" { Rest::Torn } else { Rest::Whole };
                let source =
                    SimSource { id, at: 0, len, rest, waker: cx.waker(), world: Arc::clone(&self.world) };
                SimHandler::answer(id, Body::Source(Box::new(source))).into()
            }
            "offloaded" => {
                let source = Offloaded::new(SimProducer { id, at: 0, len }, cx);
                SimHandler::answer(id, Body::Source(Box::new(source))).into()
            }
            "watched" | "hung" => {
                let talk = SimTalk::begin(id, len, how == "hung", &self.world, cx);
                cx.watch(talk);
                cx.answer_later()
            }
            _ => Response::new(Status::NOT_FOUND).with_header("X-Id", id.to_string()).into(),
        }
    }
}

/// How long a program may take to answer.
const TALK_TIMEOUT: Duration = Duration::from_secs(20);

/// A simulated program, watched like a CGI program: it produces a response, then its content, and
/// exits.
pub(super) struct SimTalk {
    pub(super) id: u64,
    pub(super) len: u64,
    pub(super) world: Shared,
    /// Index of the program in the world.
    pub(super) at: usize,
    pub(super) state: Mutex<Talk>,
}

/// State of a simulated program.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) has_answered: bool,
    /// Number of bytes passed on to the client.
    pub(super) told: u64,
    pub(super) rests: bool,
    pub(super) is_abandoned: bool,
    /// True if the program timed out.
    pub(super) is_late: bool,
    pub(super) due: Instant,
}

impl SimTalk {
    fn begin(id: u64, len: u64, hangs: bool, world: &Shared, cx: &Context<'_>) -> Arc<SimTalk> {
        let mut seen = lock(world);
        let due_ns = seen.now_ns + seen.rng.below(10_000_000);
        if hangs {
            seen.coverage.note("fault", "watched_hangs");
        }
        seen.watches.push(SimWatch {
            id: None,
            conn: cx.id(),
            due_ns: (!hangs).then_some(due_ns),
            said: 0,
            left: len,
            has_exited: false,
            is_over: false,
        });
        let at = seen.watches.len() - 1;
        let due = cx.now().mono + TALK_TIMEOUT;
        let talk =
            Talk { has_answered: false, told: 0, rests: false, is_abandoned: false, is_late: false, due };
        Arc::new(SimTalk { id, len, world: Arc::clone(world), at, state: Mutex::new(talk) })
    }

    /// Kills the program, which exits a moment later.
    fn kill(&self) {
        let mut world = lock(&self.world);
        let due = world.now_ns + world.rng.below(1_000_000);
        let watch = &mut world.watches[self.at];
        if !watch.has_exited {
            (watch.due_ns, watch.left) = (Some(due), 0);
        }
    }
}

impl Watched for SimTalk {
    fn descriptors(&self) -> Vec<Descriptor> {
        lock(&self.world).asked_for = self.at;
        Vec::new()
    }

    fn advance(self: Arc<Self>, _: Ready, now: Instant) -> Advanced {
        let mut talk = lock(&self.state);
        let (said, has_exited) = {
            let world = lock(&self.world);
            let watch = &world.watches[self.at];
            (watch.said, watch.has_exited)
        };
        let mut done = None;
        if talk.is_abandoned {
            // The output of an abandoned program is ignored.
        } else if !talk.has_answered && talk.due <= now {
            talk.is_late = true;
            self.kill();
            let late = Response::new(Status::GATEWAY_TIMEOUT);
            talk.has_answered = true;
            done = Some(Done::Finished(Box::new(move |_| Answer::Now(late))));
        } else if !talk.has_answered && (said > 0 || has_exited) {
            talk.has_answered = true;
            let body = Body::Source(Box::new(SimTalkSource { talk: Arc::clone(&self) }));
            let response = SimHandler::answer(self.id, body);
            done = Some(Done::Finished(Box::new(move |_| Answer::Now(response))));
        } else if said > talk.told || has_exited {
            done = std::mem::take(&mut talk.rests).then_some(Done::Woken);
        }
        let is_done = talk.is_abandoned || talk.is_late;
        let is_over = has_exited && (is_done || talk.told == self.len);
        if is_over {
            lock(&self.world).watches[self.at].is_over = true;
        }
        // Now and then the program has more output than fits into one turn.
        let again = !is_over && lock(&self.world).fault("watched_again", 100);
        Advanced { done, due: (!talk.has_answered).then_some(talk.due), again, is_over }
    }

    fn abandon(&self) {
        let mut talk = lock(&self.state);
        talk.is_abandoned = true;
        let is_told = talk.told == self.len;
        drop(talk);
        let mut world = lock(&self.world);
        let name = if is_told { "watched_outlives" } else { "watched_abandoned" };
        if !world.watches[self.at].has_exited {
            world.coverage.note("fault", name);
        }
        if world.watches[self.at].id.is_none() {
            // The loop never registered the program.
            world.watches[self.at].is_over = true;
        }
        drop(world);
        self.kill();
    }
}

/// The output of a program as response content.
pub(super) struct SimTalkSource {
    pub(super) talk: Arc<SimTalk>,
}

impl BodySource for SimTalkSource {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus {
        let mut talk = lock(&self.talk.state);
        let said = lock(&self.talk.world).watches[self.talk.at].said;
        let end = said.min(talk.told + room.max(1) as u64);
        if end == talk.told && talk.told < self.talk.len {
            talk.rests = true;
            return FillStatus::Later;
        }
        out.extend((talk.told..end).map(|at| pattern(self.talk.id, at)));
        talk.told = end;
        if end == self.talk.len { FillStatus::End } else { FillStatus::More }
    }
}

/// A producer that makes the pattern on a worker thread.
pub(super) struct SimProducer {
    pub(super) id: u64,
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Producer for SimProducer {
    fn produce(&mut self, out: &mut Vec<u8>) -> FillStatus {
        let end = (self.at + 5000).min(self.len);
        out.extend((self.at..end).map(|at| pattern(self.id, at)));
        self.at = end;
        if end == self.len { FillStatus::End } else { FillStatus::More }
    }
}

/// A sink that keeps content and makes room by jobs, like `/api/echo`.
pub(super) struct SimSink {
    pub(super) id: u64,
    pub(super) kept: Vec<u8>,
    pub(super) fresh: usize,
    pub(super) permit: SenderPermit,
    pub(super) world: Shared,
}

impl Drop for SimSink {
    fn drop(&mut self) {
        if self.permit.holder().is_evicted() {
            lock(&self.world).coverage.note("fault", "permit_lost");
        }
    }
}

impl BodySink for SimSink {
    fn write(&mut self, piece: &[u8], _: &mut Context<'_>) -> SinkStatus {
        self.kept.extend_from_slice(piece);
        self.fresh += piece.len();
        if self.fresh > 2000 { SinkStatus::Full } else { SinkStatus::More }
    }

    fn drain(mut self: Box<Self>, cx: &mut Context<'_>) -> Answer {
        cx.job_then(move || {
            self.fresh = 0;
            let then: Continuation = Box::new(move |_| Answer::Sink(self));
            then
        })
    }

    fn finish(mut self: Box<Self>, _: &mut Context<'_>) -> Answer {
        SimHandler::answer(self.id, Body::Bytes(std::mem::take(&mut self.kept))).into()
    }

    fn holders(&self) -> Holders<'_> {
        [Some(self.permit.holder()), None]
    }
}

/// How a source ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    Whole,
    Torn,
}

/// A source that makes the pattern in pieces, and sometimes waits for a wake-up in between.
pub(super) struct SimSource {
    pub(super) id: u64,
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) rest: Rest,
    pub(super) waker: Waker,
    pub(super) world: Shared,
}

impl BodySource for SimSource {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus {
        let until = match self.rest {
            Rest::Whole => self.len,
            Rest::Torn => self.len / 2,
        };
        if self.rest == Rest::Torn && self.at == until {
            return FillStatus::Failed;
        }
        let (piece, rests) = {
            let mut world = lock(&self.world);
            (world.rng.size(room.max(1)) as u64, world.rng.chance(300))
        };
        let end = (self.at + piece).min(until);
        out.extend((self.at..end).map(|at| pattern(self.id, at)));
        self.at = end;
        if self.at == self.len && self.rest == Rest::Whole {
            return FillStatus::End;
        }
        if rests {
            let waker = self.waker.clone();
            let mut world = lock(&self.world);
            let due_ns = world.now_ns + world.rng.below(20_000_000);
            // The wake-up comes from another part of the application.
            world.workers.run_beside(due_ns, Work::Detached(Box::new(move || waker.wake())));
            return FillStatus::Later;
        }
        FillStatus::More
    }
}
