//! Read-only views of a loop for the simulator, the tests and the metrics. Nothing here changes the
//! loop.

use std::time::Duration;

use crate::clock::Instant;
use crate::conn_id::{ConnId, ConnKind, Peer};
use crate::driver::client::Readiness;
use crate::driver::slots::Slots;
use crate::http::Phase;
use crate::observe::live::{self, RequestLabel, Seen};
use crate::observe::{Counters, Gauges, Observer};
use crate::reactor::Reactor;
use crate::reactor::os::Os;
use crate::reactor::slot::Slot;

/// The state of one connection, which the simulator checks after each turn.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) id: ConnId,
    pub(crate) peer: Peer,
    pub(crate) phase: Phase,
    pub(crate) ready: Readiness,
    pub(crate) deadline: Option<Instant>,
    pub(crate) armed: Option<Instant>,
    pub(crate) is_carried: bool,
    pub(crate) has_work: bool,
    pub(crate) work: String,
    pub(crate) holds_buffer: bool,
    /// True if the connection holds input that may contain whole requests, and may use it now.
    pub(crate) can_use_held: bool,
    pub(crate) wants_input: bool,
    pub(crate) queued_bytes: u64,
    pub(crate) is_sendable: bool,
    pub(crate) is_resting: bool,
    pub(crate) collected_bytes: usize,
}

/// The label of a connection without a request.
static NO_LABEL: RequestLabel = RequestLabel::none();

fn seen<T>(slots: &Slots<ConnKind, Slot<T>>) -> impl Iterator<Item = Seen<'_>> {
    slots.iter().map(|(id, slot)| {
        let client = &slot.client;
        Seen {
            id,
            phase: client.phase(),
            label: client.label().unwrap_or(&NO_LABEL),
            since: client.conn.since(),
            queued_bytes: client.queued_bytes(),
            received_bytes: client.conn.received_bytes(),
            waits_for: client.waits_for(),
        }
    })
}

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.slots.len()
    }

    /// Number of watched objects.
    pub(crate) fn watched(&self) -> usize {
        self.watches.len()
    }

    /// Number of watched objects that are carried to the next turn.
    pub(crate) fn watched_carried(&self) -> usize {
        self.watches.carried_len()
    }

    /// Number of armed deadlines.
    pub(crate) fn deadlines_len(&self) -> usize {
        self.deadlines.len()
    }

    /// Returns the number of buffers in use, their bytes, the limit for these bytes, and the bytes
    /// of collected content.
    pub(crate) fn memory(&self) -> (usize, usize, usize, usize) {
        let budget = self.driver.config.limits.pool_bytes_max;
        (
            self.driver.pool.buffers_in_use(),
            self.driver.pool.bytes_in_use(),
            budget,
            self.driver.collected_bytes,
        )
    }

    /// Returns the state of every connection between two turns.
    pub(crate) fn look(&self) -> impl Iterator<Item = Look> + '_ {
        let config = &self.driver.config;
        self.slots.iter().map(move |(id, slot)| {
            let client = &slot.client;
            let work = client.work.as_deref();
            let queued_bytes = work.map_or(0, |work| work.out.len());
            let may_parse = client.conn.may_parse()
                && !client.is_waiting()
                && queued_bytes < config.limits.send_high_water_bytes as u64;
            let holds_unread = work.is_some_and(|work| work.holds_unread());
            Look {
                id,
                peer: client.peer.clone(),
                phase: client.phase(),
                ready: client.ready,
                deadline: client.deadline(config),
                armed: self.deadlines.armed(id),
                is_carried: self.carried.contains(&id),
                has_work: work.is_some(),
                work: if work.is_some() { format!("{work:?}") } else { String::new() },
                holds_buffer: client.holds_buffer(),
                can_use_held: may_parse && (holds_unread || client.conn.is_content_drained()),
                wants_input: may_parse && !holds_unread && client.conn.wants_read(&config.limits),
                queued_bytes,
                is_sendable: client.is_sendable(),
                is_resting: client.is_resting(),
                collected_bytes: work.map_or(0, |work| work.collected_bytes()),
            }
        })
    }

    /// Returns a copy of the counters, or zeros if the observer has none.
    pub(crate) fn counters(&self) -> Counters {
        self.driver.observer.counters().map(|counters| Counters::clone(counters)).unwrap_or_default()
    }

    /// Returns what this loop holds. Counts the phases now, at some nanoseconds a connection, so
    /// that they need no counters.
    pub(crate) fn gauges(&self) -> Gauges {
        let mut gauges = self.driver.gauges();
        for (_, slot) in self.slots.iter() {
            gauges.phases[slot.client.phase() as usize] += 1;
        }
        gauges
    }

    /// Returns the requests under way as a JSON list, oldest first.
    pub(super) fn requests_json(&self) -> String {
        live::requests_json(self.driver.now.mono, seen(&self.slots))
    }

    /// Logs each request under way (SIGUSR2). The level is that of warnings, because the operator
    /// wants to read the lines without further flags.
    pub(super) fn log_requests(&self) {
        let now = self.driver.now.mono;
        let busy = live::busy(now, seen(&self.slots));
        log::warn!("{} requests are under way, on {} open connections", busy.len(), self.slots.len());
        for seen in &busy {
            log::warn!("{}", seen.text(now));
        }
    }

    /// Shows the connections to the observer, if it is time.
    pub(super) fn show_connections(&mut self) {
        let now = self.driver.now.mono;
        if self.driver.observer.next_look().is_some_and(|due| due <= now) {
            self.look_now();
        }
    }

    #[cold]
    #[inline(never)]
    fn look_now(&mut self) {
        self.driver.observer.look(self.driver.now.mono, seen(&self.slots));
    }

    /// Logs one line about a turn (`-vv`).
    pub(super) fn tell_of_turn(&self, before: &Counters, took: Duration) {
        let us = took.as_micros();
        let after = self.counters();
        log::trace!(
            target: "turn",
            "turn {}: batch {} reads {} writes {} carried {} closes {} open {} us {us}",
            self.turn,
            self.events.len(),
            after.reads.get() - before.reads.get(),
            after.writes.get() - before.writes.get(),
            after.carried.get() - before.carried.get(),
            after.closed_total() - before.closed_total(),
            self.slots.len(),
        );
    }
}
