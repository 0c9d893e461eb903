//! The live view of a running loop: turns summed up in frames, ten a second, while somebody looks.
//!
//! While the [`Hub`] has no viewer, the observer of the loop keeps nothing
//! (`Unwatched` in `observe`). With one, it is a [`Recorder`](crate::observe::Recorder) that passes
//! its steps to `LiveSink`. There `collector` counts every turn and keeps some of them whole:
//! samples, and always the slowest. Each 100 ms `frame` writes one JSON object, and the hub passes
//! it to all viewers. The clock is read at the phases of a turn and at the beginning of a request;
//! at each operation only in a sampled turn. This folder must not know how a viewer is connected.

mod collector;
mod frame;
mod hub;

use std::time::Duration;

use crate::clock::Instant;
use crate::conn_id::ConnId;
use crate::http::method::MethodLabel;
use crate::http::{Phase, Request};

pub use hub::{Hub, Viewer};
#[cfg(feature = "os")]
pub use sink::LiveSink;

/// Time between two frames. Ten a second look continuous and cost little.
pub const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// A turn that takes longer has delayed other clients, and is reported as a stall.
pub const STALL: Duration = Duration::from_millis(10);

/// Longest part of a path that is kept, in bytes.
const PATH_BYTES_MAX: usize = 96;

/// Method and path of a request that is not answered yet. The query is left out, because it may
/// contain secrets.
#[derive(Debug, Default, Clone)]
pub struct RequestLabel {
    method: Option<MethodLabel>,
    path: Vec<u8>,
    began: Option<Instant>,
}

impl RequestLabel {
    /// Returns the label of no request.
    #[must_use]
    pub const fn none() -> Self {
        RequestLabel { method: None, path: Vec::new(), began: None }
    }

    /// Replaces the label by that of a request that began at `began`. Keeps its memory.
    pub fn set(&mut self, request: &Request<'_>, began: Instant) {
        self.method = Some(request.method().label());
        let path = request.path();
        self.path.clear();
        self.path.extend_from_slice(&path[..path.len().min(PATH_BYTES_MAX)]);
        self.began = Some(began);
    }

    /// Forgets the request and keeps the memory.
    pub fn clear(&mut self) {
        self.method = None;
        self.path.clear();
        self.began = None;
    }

    /// Returns when the request began; `None` without a request.
    #[must_use]
    pub fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Returns method and path, such as `GET /slow`; `None` without a request. A longer path is
    /// cut.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let method = self.method?;
        let cut = if self.path.len() == PATH_BYTES_MAX { "…" } else { "" };
        Some(format!("{} {}{cut}", method.name(), String::from_utf8_lossy(&self.path)))
    }
}

/// The reason why an open connection waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// The next request.
    Request,
    /// The rest of a request head.
    Head,
    /// Request content.
    Content,
    /// A job on a worker thread.
    Job,
    /// A watched object, such as a CGI program.
    Program,
    /// The source of the response, which has nothing at the moment.
    Source,
    /// A part of a file that a worker reads from the disk.
    Disk,
    /// Room in the socket, because the client reads slowly.
    Room,
    /// The end of input after the last response.
    End,
    /// The loop: the connection is out of budget, or not served yet.
    Turn,
}

impl WaitsFor {
    /// Returns the words for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WaitsFor::Request => "the next request",
            WaitsFor::Head => "the rest of the head",
            WaitsFor::Content => "request content",
            WaitsFor::Job => "a job",
            WaitsFor::Program => "a program",
            WaitsFor::Source => "more of the response",
            WaitsFor::Disk => "the disk",
            WaitsFor::Room => "room in the socket",
            WaitsFor::End => "the client's close",
            WaitsFor::Turn => "its turn",
        }
    }
}

/// One open connection between two turns.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The connection.
    pub id: ConnId,
    /// Phase of the connection.
    pub phase: Phase,
    /// The request that it works on. Empty for a short response, and while no request has begun.
    pub label: &'a RequestLabel,
    /// When the phase began.
    pub since: Instant,
    /// Bytes that wait for the socket.
    pub queued_bytes: u64,
    /// Bytes that the client has sent or taken in this phase.
    pub received_bytes: u64,
    /// Reason why the connection waits.
    pub waits_for: WaitsFor,
}

impl Seen<'_> {
    /// Returns true for a connection between two requests.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Returns one line for the log.
    #[must_use]
    pub fn text(&self, now: Instant) -> String {
        let label = self.label.text().unwrap_or_else(|| "request not known".to_owned());
        let Seen { id, phase, received_bytes, queued_bytes, waits_for, .. } = self;
        format!(
            "{id} {label}: {}, {:.3} s, {received_bytes} bytes received, {queued_bytes} queued, waits for {}",
            phase.name(),
            self.age(now).as_secs_f64(),
            waits_for.name(),
        )
    }

    /// Returns how long the request has been under way, or else how long the phase has lasted.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.label.began().unwrap_or(self.since))
    }
}

/// Returns the connections that are not between two requests, the oldest request first.
pub(crate) fn busy<'a>(now: Instant, connections: impl Iterator<Item = Seen<'a>>) -> Vec<Seen<'a>> {
    let mut busy: Vec<Seen<'_>> = connections.filter(|seen| !seen.is_idle()).collect();
    busy.sort_by_key(|seen| std::cmp::Reverse(seen.age(now)));
    busy
}

/// Returns the requests under way as a JSON list, oldest first.
pub(crate) fn requests_json<'a>(now: Instant, connections: impl Iterator<Item = Seen<'a>>) -> String {
    let busy = busy(now, connections);
    frame::list(busy.iter(), |seen, out| out.push_str(&frame::request(seen, seen.label.text(), now)))
}

#[cfg(feature = "os")]
mod sink {
    use std::sync::Arc;

    use super::collector::Collector;
    use super::{FRAME_INTERVAL, Hub, RequestLabel, Seen};
    use crate::clock::Instant;
    use crate::conn_id::ConnId;
    use crate::http::Request;
    use crate::observe::StepSink;
    use crate::observe::counters::Counters;
    use crate::observe::step::{Step, TimedStep, TurnPhase};
    use crate::observe::stopwatch::clock;

    /// Sink that makes frames for the viewers of a [`Hub`].
    #[derive(Debug)]
    pub struct LiveSink {
        hub: Arc<Hub>,
        /// When the loop began, which is the time 0 of all frames.
        began: Instant,
        collector: Collector,
        frame_due: Instant,
    }

    impl LiveSink {
        /// Creates a sink that begins to collect now.
        pub(in crate::observe) fn new(hub: Arc<Hub>, began: Instant) -> Self {
            let now = clock();
            let collector = Collector::new(since_ns(began, now));
            LiveSink { hub, began, collector, frame_due: now + FRAME_INTERVAL }
        }

        /// Ends the collection.
        pub(in crate::observe) fn into_parts(self) -> (Arc<Hub>, Instant) {
            (self.hub, self.began)
        }

        pub(in crate::observe) fn hub(&self) -> &Hub {
            &self.hub
        }
    }

    fn since_ns(began: Instant, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(began).as_nanos()).unwrap_or(u64::MAX)
    }

    impl StepSink for LiveSink {
        fn now_ns(&mut self) -> u64 {
            since_ns(self.began, clock())
        }

        fn operation_ns(&mut self) -> u64 {
            match self.collector.is_sampling() {
                true => self.now_ns(),
                false => self.collector.last_ns(),
            }
        }

        fn put(&mut self, mut step: TimedStep) {
            match step.step {
                Step::TurnStart { .. } => self.collector.follow(&self.hub),
                // The continuation of a job begins, which may take long.
                Step::Result { .. } => step.at_ns = self.now_ns(),
                _ => {}
            }
            self.collector.put(step);
        }

        fn phase_began(&mut self, phase: TurnPhase, now_ns: u64) {
            self.collector.phase_began(phase, now_ns);
        }

        fn request_started(&mut self, id: ConnId, request: &Request<'_>) {
            let now = clock();
            let now_ns = since_ns(self.began, now);
            self.collector.request_started(id, request, now, now_ns);
        }

        fn source_started(&mut self, id: ConnId, label: &RequestLabel) {
            let now_ns = self.now_ns();
            self.collector.source_started(id, label, now_ns);
        }

        fn next_look(&self) -> Option<Instant> {
            Some(self.frame_due)
        }

        fn look<'a>(
            &mut self,
            now: Instant,
            counters: Option<&Counters>,
            connections: impl Iterator<Item = Seen<'a>>,
        ) {
            let now_ns = since_ns(self.began, now);
            self.frame_due = now + FRAME_INTERVAL;
            let frame = self.collector.frame(now, now_ns, counters, connections);
            self.hub.publish(&frame.into());
        }

        fn hub(&self) -> Option<&Arc<Hub>> {
            Some(&self.hub)
        }
    }
}
