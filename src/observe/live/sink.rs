//! The sink that makes frames of the steps of a loop, for the viewers of a hub.
//!
//! It exists while somebody looks. This file must not know what a frame contains.

use std::sync::Arc;

use crate::clock::Instant;
use crate::conn_id::ConnId;
use crate::http::Request;
use crate::observe::StepSink;
use crate::observe::counters::Counters;
use crate::observe::live::collector::Collector;
use crate::observe::live::{FRAME_INTERVAL, Hub, RequestLabel, Seen};
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
    pub(super) fn new(hub: Arc<Hub>, began: Instant) -> Self {
        let now = clock();
        let collector = Collector::new(since_ns(began, now));
        LiveSink { hub, began, collector, frame_due: now + FRAME_INTERVAL }
    }

    /// Ends the collection.
    pub(super) fn into_parts(self) -> (Arc<Hub>, Instant) {
        (self.hub, self.began)
    }

    pub(super) fn hub(&self) -> &Hub {
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
