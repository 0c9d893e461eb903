//! Ready connections go through a turn in batches: all of a batch are read, then all are answered,
//! then all are sent to.
//!
//! One at a time would be simpler: read, answer, send, next. But a send runs through more of the
//! kernel's code than the processor's first-level instruction cache holds, so after each one our
//! own code would have to be fetched anew, and after that the kernel's. In batches each kind of
//! code is fetched once and runs many times, as in vector packet processing (fd.io VPP, which names
//! the idea). `docs/performance.md` has what it gains.
//!
//! What a batch costs is that the first answer waits for the last one to be made. So it holds no
//! more connections than get their answers within [`BATCH_TIME_MAX`], going by what the ones before
//! took: slow handlers get batches of one. This file must not know HTTP.

use std::io;
use std::time::Duration;

use crate::conn_id::ConnId;
use crate::driver::pump;
use crate::driver::pump::{Pumped, Share, Used};
use crate::driver::stream::Stream as _;
use crate::observe::{Activity, Observer};
use crate::reactor::Reactor;
use crate::reactor::os::Os;
use crate::reactor::slots::live;

/// Connections in one batch at the most.
const BATCH_MAX: usize = 16;

/// How long the first answer of a batch may wait for the others.
const BATCH_TIME_MAX: Duration = Duration::from_millis(1);

/// Output that a batch may have queued before it is sent: more would leave the processor's caches
/// in between.
const BATCH_OUT_BYTES_MAX: u64 = 128 * 1024;

/// The batch under way.
#[derive(Debug)]
pub(crate) struct Batch {
    /// What the batch reads into, each connection behind the one before.
    room: Vec<u8>,
    taken: usize,
    read: Vec<Read>,
    answered: Vec<Answered>,
    /// How many connections it may have.
    len_max: usize,
    /// Connections that went through in this turn since the last look at the clock.
    unclocked: u32,
}

/// One connection that was read.
#[derive(Debug)]
struct Read {
    id: ConnId,
    start: usize,
    asked: usize,
    got: io::Result<usize>,
    /// It was between two requests, in the care of the poll and of the deadlines.
    rested: bool,
    /// The poll had seen this input, so what it begins with was under way before the turn.
    was_seen: bool,
}

/// One connection with answers that are not sent yet.
#[derive(Debug)]
struct Answered {
    id: ConnId,
    share: Share,
    rested: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            room: Vec::new(),
            taken: 0,
            read: Vec::new(),
            answered: Vec::new(),
            len_max: BATCH_MAX,
            unclocked: 0,
        }
    }
}

impl Batch {
    fn is_full(&self, read_max: usize) -> bool {
        self.read.len() >= self.len_max || self.room.len() - self.taken < read_max / 2
    }

    /// The connections since the last look at the clock took so long: how many of them fit into the
    /// time of a batch?
    pub(super) fn pace(&mut self, took: Duration) {
        let Some(each) = took.checked_div(self.unclocked) else { return };
        self.unclocked = 0;
        let fit = BATCH_TIME_MAX.as_nanos() / each.as_nanos().max(1);
        self.len_max = usize::try_from(fit).unwrap_or(BATCH_MAX).clamp(1, BATCH_MAX);
    }
}

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Has a ready connection take part in the batch; pumps it by itself if it needs more than to
    /// be read and answered. That it can be read is news of this turn's poll, or not.
    pub(super) fn admit(&mut self, id: ConnId, is_news: bool) {
        if self.batch.read.is_empty() && self.batch.unclocked > 0 {
            self.look_at_clock();
        }
        let Some(slot) = live(&mut self.slots, id) else { return };
        if slot.client.is_ready_to_ask() {
            slot.pumped_in = self.turn;
            let rested = slot.registered && slot.client.is_between_requests();
            self.driver.observer.enter(Activity::Reading);
            // One byte less than the largest loan, so that any leftover fits one and leaves room.
            let read_max = self.driver.pool.largest() - 1;
            let batch = &mut self.batch;
            if batch.room.is_empty() {
                batch.room.resize(2 * read_max, 0);
            }
            let start = batch.taken;
            let end = batch.room.len().min(start + read_max);
            let got = slot.stream.read(&mut batch.room[start..end]);
            batch.taken += got.as_ref().map_or(0, |&bytes| bytes);
            // A line end before a request is none of it (RFC 9112 section 2.2), and may have come
            // long before.
            let was_seen = is_news && rested && !matches!(batch.room[start], b'\r' | b'\n');
            batch.read.push(Read { id, start, asked: end - start, got, rested, was_seen });
            if batch.is_full(read_max) {
                self.finish_batch();
            }
        } else {
            self.pump_one(id);
        }
        self.batch.unclocked += 1;
    }

    /// Reads the clock in the middle of a turn, before more is read from clients. A turn over a
    /// thousand of them takes milliseconds, so does a single slow handler, and a file must not be
    /// called fresh by a clock that stood still.
    pub(super) fn look_at_clock(&mut self) {
        let now = self.os.now();
        self.batch.pace(now.mono.saturating_duration_since(self.driver.now.mono));
        self.driver.now = now;
    }

    /// Has those that were read answered and sent to.
    pub(super) fn finish_batch(&mut self) {
        if self.batch.read.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let mut queued_bytes = 0;
        for Read { id, start, asked, got, rested, was_seen } in batch.read.drain(..) {
            let Some(slot) = live(&mut self.slots, id) else { continue };
            let input = &batch.room[start..start + got.as_ref().map_or(0, |&bytes| bytes)];
            self.driver.asked_by = was_seen.then_some(self.turn_began);
            let used =
                pump::answer(&mut slot.client, &mut slot.stream, &mut self.driver, id, got, asked, input);
            self.driver.asked_by = None;
            match used {
                Used::Answered(share) => {
                    queued_bytes += slot.client.queued_bytes();
                    batch.answered.push(Answered { id, share, rested });
                    if queued_bytes >= BATCH_OUT_BYTES_MAX {
                        queued_bytes = 0;
                        self.send_to(&mut batch.answered);
                    }
                }
                Used::Pumped(pumped) => self.after_pump(id, pumped),
            }
        }
        self.send_to(&mut batch.answered);
        batch.taken = 0;
        self.batch = batch;
    }

    fn send_to(&mut self, answered: &mut Vec<Answered>) {
        for Answered { id, share, rested } in answered.drain(..) {
            let Some(slot) = live(&mut self.slots, id) else { continue };
            let pumped = pump::send(&mut slot.client, &mut slot.stream, &mut self.driver, id, share);
            let is_as_before = rested && pumped == Pumped::Blocked && slot.client.is_between_requests();
            if !is_as_before || self.stopping.is_some() || self.driver.pool.is_short() {
                self.after_pump(id, pumped);
                continue;
            }
            // Only its time to be idle ends later than before: the deadline it has is early enough.
            debug_assert!(
                slot.client
                    .deadline(&self.driver.config)
                    .is_none_or(|due| self.deadlines.armed(id).is_some_and(|armed| armed <= due)),
                "{id} may be idle for ever"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_as_large_as_the_last_ones_were_quick() {
        let mut batch = Batch::default();
        for (conns, took_us, then) in [
            (16, 160, 16),
            (16, 4_000, 4),
            (0, 50, 4),
            (16, 160_000, 1),
            (1, 10_000, 1),
            (1, 400, 2),
            (3, 0, 16),
            (1, 999, 1),
        ] {
            batch.unclocked = conns;
            batch.pace(Duration::from_micros(took_us));
            assert_eq!(batch.len_max, then, "after {conns} that took {took_us} us");
            assert_eq!(batch.unclocked, 0);
        }
    }

    #[test]
    fn a_batch_is_full_by_number_and_by_room() {
        let mut batch = Batch { room: vec![0; 200], len_max: 2, ..Batch::default() };
        let read =
            || Read { id: ConnId::new(1, 0), start: 0, asked: 1, got: Ok(1), rested: true, was_seen: true };
        assert!(!batch.is_full(100));
        batch.taken = 150;
        assert!(!batch.is_full(100));
        batch.taken = 151;
        assert!(batch.is_full(100), "too little room is left for a head");
        batch.taken = 0;
        batch.read.push(read());
        assert!(!batch.is_full(100));
        batch.read.push(read());
        assert!(batch.is_full(100));
    }
}
