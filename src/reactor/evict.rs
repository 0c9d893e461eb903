//! Eviction: which connection makes room when slots, buffers, memory or descriptors run short.
//!
//! Idle connections go first, then senders that are too slow for a busy server. A slow sender gets
//! a 408 response if one is possible. This file must not know what was requested.

use crate::driver::client::Client;
use crate::driver::eviction::{EVICTION_IDLE_MIN, LEAVING_SHARE, RELIEF_CONNECTIONS, RELIEF_INTERVAL};
use crate::driver::pump;
use crate::http::{CloseReason, Phase};
use crate::observe::Observer;
use crate::reactor::Reactor;
use crate::reactor::os::Os;

/// Idle connections compared to find one to close. A sample of 16 contains one of the idlest eighth
/// with a probability of 88 %, and costs the same for any number of connections.
const EVICTION_SAMPLE: usize = 16;

/// Connections compared to find the slowest sender, when a new client needs its slot or the memory
/// of its content.
const SENDER_SAMPLE: usize = 256;

/// Entries examined in the list of connections that wait for the rest of a head.
const WAITERS_LOOKED_AT: usize = 16;

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Evicts a client that holds a buffer when buffers run short: the one that has waited longest
    /// for the rest of its head, or a slow sender that waits for the rest of a chunk size.
    pub(super) fn evict_slowest_head(&mut self) {
        for _ in 0..WAITERS_LOOKED_AT {
            let Some(id) = self.driver.pop_head_waiter() else { return };
            let Some(slot) = self.slots.get_mut(id) else { continue };
            let now = self.driver.now.mono;
            let is_slow = || {
                let (rate, pace) = (self.driver.busy_rate?, slot.client.pace()?);
                rate.missed_by(&pace, now)
            };
            let goes = match slot.client.phase() {
                Phase::ReceivingHead => slot.client.holds_buffer(),
                Phase::ReceivingBody => slot.client.holds_part() && is_slow().is_some(),
                Phase::Idle
                | Phase::Handling
                | Phase::Sending
                | Phase::Streaming
                | Phase::Lingering
                | Phase::Closed => false,
            };
            if goes {
                let pumped = pump::evict(&mut slot.client, &mut slot.stream, &mut self.driver, id);
                return self.after_pump(id, pumped);
            }
            if slot.client.holds_part() {
                self.driver.push_head_waiter(id);
            }
        }
    }

    /// Evicts the slowest sender whose content is collected in memory, if that memory has run out.
    pub(super) fn free_memory(&mut self) {
        if std::mem::take(&mut self.driver.is_short_of_memory) {
            self.evict_slowest_sender(Client::is_collecting);
            self.free_closed();
        }
    }

    /// Closes idle connections after a call found no descriptor left, so that other requests can
    /// proceed.
    pub(super) fn free_descriptors(&mut self) {
        let now = self.driver.now.mono;
        let was_relieved = self.relieved.is_some_and(|at| now < at + RELIEF_INTERVAL);
        if !std::mem::take(&mut self.is_short) || was_relieved {
            return;
        }
        self.relieved = Some(now);
        for _ in 0..RELIEF_CONNECTIONS {
            if !self.close_idlest() {
                break;
            }
        }
        self.free_closed();
    }

    /// Evicts the slowest of a sample of senders below the minimum rate. Its slot is freed after it
    /// has received its response, so several evictions may be in progress.
    pub(super) fn evict_slowest_sender(&mut self, is_one: impl Fn(&Client) -> bool) {
        let Some(rate) = self.driver.busy_rate else { return };
        let slots = &self.slots;
        self.leaving.retain(|id| slots.get(*id).is_some());
        if self.leaving.len() >= (self.connections_max / LEAVING_SHARE).max(1) {
            return;
        }
        let now = self.driver.now.mono;
        let slowest = slots
            .sample(self.sample_from, SENDER_SAMPLE)
            .filter(|(_, slot)| is_one(&slot.client))
            .filter_map(|(id, slot)| Some((rate.missed_by(&slot.client.pace()?, now)?, id)))
            .min();
        self.sample_from = self.sample_from.wrapping_add(SENDER_SAMPLE);
        let Some((_, id)) = slowest else { return };
        let Some(slot) = self.slots.get_mut(id) else { return };
        let pumped = pump::evict(&mut slot.client, &mut slot.stream, &mut self.driver, id);
        self.leaving.push(id);
        self.after_pump(id, pumped);
    }

    /// Closes the idlest of a sample of idle connections. Returns false if none has been idle for
    /// long enough.
    pub(super) fn close_idlest(&mut self) -> bool {
        let now = self.driver.now.mono;
        let idlest = self
            .slots
            .sample(self.sample_from, EVICTION_SAMPLE)
            .filter(|(_, slot)| slot.client.phase() == Phase::Idle)
            .filter(|(_, slot)| now.saturating_duration_since(slot.client.conn.since()) >= EVICTION_IDLE_MIN)
            .min_by_key(|(_, slot)| slot.client.conn.since())
            .map(|(id, _)| id);
        self.sample_from = self.sample_from.wrapping_add(EVICTION_SAMPLE);
        if let Some(id) = idlest {
            self.close(id, CloseReason::Evicted);
        }
        idlest.is_some()
    }
}
