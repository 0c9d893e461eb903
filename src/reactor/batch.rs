//! Batches: ready connections pass through a turn in groups. The loop reads all connections of a
//! batch, then answers all of them, then sends all responses.
//!
//! One connection at a time would be simpler: read, answer, send, next. But a send executes more
//! kernel code than the first-level instruction cache of a processor holds. After each send our own
//! code would have to be fetched again, and after that the kernel's. In a batch, each kind of code
//! is fetched once and runs many times. Vector packet processing (fd.io VPP) has the same idea;
//! `docs/performance.md` has the measurements.
//!
//! The price of a batch is that its first response waits until its last one is made. So a batch has
//! only as many connections as can be answered within [`BATCH_TIME_MAX`], judged by the connections
//! before. With slow handlers, a batch is one connection.
//!
//! # One request, from accept to write
//!
//! With `TCP_DEFER_ACCEPT` the request has arrived when its connection is accepted. Paths are
//! relative to `src`.
//!
//! 1. `Reactor::turn` (`reactor/mod.rs`): the poll returns an event of a listener.
//! 2. `Reactor::pump_ready` (`reactor/mod.rs`), step 3 of the turn: marks the listener as ready.
//! 3. `Reactor::accept` and `accept_some` (`reactor/accept.rs`), step 6 of the turn: accept until
//!    would-block, or until the limit for one turn is reached.
//! 4. `MioOs::accept` (`reactor/mio_os.rs`): calls `accept4`.
//! 5. `Reactor::adopt` (`reactor/accept.rs`): creates the [`Client`](crate::driver::client::Client)
//!    and stores it in a slot under a new `ConnId`.
//! 6. `Reactor::admit` (this file): reads into the buffer of the batch. A request on an open
//!    connection starts here; `pump_ready` calls `admit` for it.
//! 7. `Socket::read` (`reactor/mio_os.rs`) and `receive` (`driver/socket.rs`): call `recv`.
//! 8. `Reactor::finish_batch` (this file): runs when the batch is full and at the end of steps 3
//!    and 6. First it answers every connection of the batch.
//! 9. `pump::answer` (`driver/pump.rs`): sets the budget for one connection.
//! 10. `Pump::use_input` (`driver/pump.rs`): passes on the bytes that were read, and keeps the
//!     rest.
//! 11. `Pump::after_read` (`driver/pump.rs`): a short read means that the socket is drained.
//! 12. `Exchange::receive` (`driver/exchange.rs`): takes one event after another from the bytes.
//! 13. `Connection::next_event` (`http/connection/mod.rs`): parses the head and returns the
//!     request.
//! 14. `Exchange::start` (`driver/exchange.rs`): notes the request for the access log.
//! 15. `Exchange::call_handler` (`driver/exchange.rs`) and `Driver::call` (`driver/mod.rs`): lend a
//!     `Context` to the handler and catch panics.
//! 16. `Handler::handle` (`handler/mod.rs`): returns an `Answer`, usually a response.
//! 17. `Exchange::respond` (`driver/respond.rs`): adds the headers of middleware and the log note.
//! 18. `Connection::respond` (`http/connection/respond.rs`): frames the response.
//! 19. `SendQueue::gather` (`http/send_queue.rs`): appends the bytes. Control returns to
//!     `finish_batch` with `Used::Answered`.
//! 20. `Reactor::send_to` (this file): sends to every answered connection of the batch.
//! 21. `pump::resume` (`driver/pump.rs`): continues with the budget that is left.
//! 22. `Pump::run` and `Pump::step` (`driver/pump.rs`): repeat the next useful step until nothing
//!     is left to do.
//! 23. `Pump::flush` (`driver/pump.rs`): passes the queue to the socket.
//! 24. `Socket::write_vectored` (`reactor/mio_os.rs`) and `write_slices` (`driver/socket.rs`):
//!     call `send`.
//! 25. `Pump::after_write` (`driver/pump.rs`): removes the sent bytes from the queue.
//! 26. `Pump::finish` (`driver/pump.rs`): `Exchange::log_answers` (`driver/respond.rs`) writes the
//!     log line, and `Exchange::settle` (`driver/exchange.rs`) returns the record of the
//!     connection.
//! 27. `Reactor::after_pump` (`reactor/mod.rs`): registers the connection with the poll and arms
//!     its deadline (`driver/deadline.rs`).
//!
//! This file must not know HTTP.

use std::io;
use std::time::Duration;

use crate::conn_id::ConnId;
use crate::driver::decision::Decision;
use crate::driver::pump::{self, Budget, Input, Pumped, Used};
use crate::driver::stream::Stream as _;
use crate::observe::step::{Step, Transfer};
use crate::observe::{Activity, Observer};
use crate::reactor::Reactor;
use crate::reactor::os::Os;
use crate::reactor::slot::Stage;

/// How long the first response of a batch may wait for the others.
const BATCH_TIME_MAX: Duration = Duration::from_millis(1);

/// Output that a batch may queue before it is sent, in bytes. More would not stay in the caches of
/// the processor until then.
const BATCH_OUT_BYTES_MAX: u64 = 128 * 1024;

/// The current batch.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The buffer that the batch reads into. The input of each connection follows that of the one
    /// before.
    room: Vec<u8>,
    /// Bytes of `room` in use.
    taken: usize,
    read: Vec<Read>,
    answered: Vec<Answered>,
    /// How many connections any batch may have
    /// ([`batch_connections_max`](crate::config::Limits::batch_connections_max)).
    limit: usize,
    /// How many connections this batch may have; see [`Batch::pace`].
    len_max: usize,
    /// Connections handled in this turn since the clock was last read.
    unclocked: u32,
}

/// One connection that was read.
#[derive(Debug)]
struct Read {
    id: ConnId,
    start: usize,
    /// Size of the read, in bytes. Fewer bytes in `got` mean that the socket is drained.
    asked: usize,
    got: io::Result<usize>,
    /// True if the connection was between two requests, registered with the poll, and had its idle
    /// deadline armed.
    rested: bool,
    /// True if the poll reported this input, so that its first request was sent before this turn.
    was_seen: bool,
}

/// One connection whose responses are queued and not sent yet.
#[derive(Debug)]
struct Answered {
    id: ConnId,
    budget: Budget,
    rested: bool,
}

impl Batch {
    /// Creates an empty batch of at most `limit` connections, at least one.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        Batch { limit, len_max: limit, ..Batch::default() }
    }

    /// True if the batch has reached its number of connections, or has no room left for an ordinary
    /// read.
    fn is_full(&self, read_max: usize) -> bool {
        self.read.len() >= self.len_max || self.room.len() - self.taken < read_max / 2
    }

    /// Adapts the batch size: the connections since the last reading of the clock needed `took`, so
    /// how many of them fit into [`BATCH_TIME_MAX`]?
    pub(super) fn pace(&mut self, took: Duration) {
        let Some(each) = took.checked_div(self.unclocked) else { return };
        self.unclocked = 0;
        let fit = BATCH_TIME_MAX.as_nanos() / each.as_nanos().max(1);
        self.len_max = usize::try_from(fit).unwrap_or(self.limit).min(self.limit).max(1);
    }
}

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Reads a ready connection into the batch, or pumps it alone if it has more to do than read
    /// the next request. `is_news` means that the poll of this turn reported it readable.
    pub(super) fn admit(&mut self, id: ConnId, is_news: bool) {
        if self.batch.read.is_empty() && self.batch.unclocked > 0 {
            self.look_at_clock();
        }
        let Some(slot) = self.slots.get_mut(id) else { return };
        if slot.client.is_ready_to_ask() {
            slot.pumped_in = self.turn;
            let rested = slot.stage == Stage::Registered && slot.client.is_between_requests();
            self.driver.observer.enter(Activity::Reading);
            // One byte less than the largest buffer, so that any leftover fits into a buffer and
            // leaves room to read more.
            let read_max = self.driver.pool.largest() - 1;
            let batch = &mut self.batch;
            if batch.room.is_empty() {
                batch.room.resize(2 * read_max, 0);
            }
            let start = batch.taken;
            let end = batch.room.len().min(start + read_max);
            let got = slot.stream.read(&mut batch.room[start..end]);
            self.driver.observer.step(|| Step::Read(Transfer::read(id, end - start, &got)));
            batch.taken += got.as_ref().map_or(0, |&bytes| bytes);
            // A line end before a request is not part of it (RFC 9112 section 2.2) and may have
            // come long before the request.
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
    /// thousand connections takes milliseconds, and so does one slow handler. The file cache must
    /// not judge its age by an old time.
    pub(super) fn look_at_clock(&mut self) {
        let now = self.os.now();
        self.batch.pace(now.mono.saturating_duration_since(self.driver.now.mono));
        self.driver.now = now;
    }

    /// Answers every connection of the batch, then sends all the responses.
    pub(super) fn finish_batch(&mut self) {
        if self.batch.read.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let mut queued_bytes = 0;
        for Read { id, start, asked, got, rested, was_seen } in batch.read.drain(..) {
            let Some(slot) = self.slots.get_mut(id) else { continue };
            let bytes = &batch.room[start..start + got.as_ref().map_or(0, |&bytes| bytes)];
            let input = Input { got, asked, bytes, sent_before: was_seen.then_some(self.turn_began) };
            let used = pump::answer(&mut slot.client, &mut slot.stream, &mut self.driver, id, input);
            match used {
                Used::Answered(budget) => {
                    queued_bytes += slot.client.queued_bytes();
                    batch.answered.push(Answered { id, budget, rested });
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

    /// Sends the queued responses of `answered`. A connection that is idle as before keeps its
    /// registration and deadline, and needs no further step.
    fn send_to(&mut self, answered: &mut Vec<Answered>) {
        for Answered { id, budget, rested } in answered.drain(..) {
            let Some(slot) = self.slots.get_mut(id) else { continue };
            let pumped = pump::resume(&mut slot.client, &mut slot.stream, &mut self.driver, id, budget);
            let is_as_before = rested && pumped == Pumped::Blocked && slot.client.is_between_requests();
            if !is_as_before || self.stopping.is_some() || self.driver.pool.is_short() {
                self.after_pump(id, pumped);
                continue;
            }
            // Only the idle deadline has moved, and to a later time. The armed entry is early
            // enough.
            debug_assert!(
                self.os.is_wrong(Decision::RemoveDeadline)
                    || slot
                        .client
                        .deadline(&self.driver.config)
                        .is_none_or(|due| self.deadlines.armed(id).is_some_and(|armed| armed <= due)),
                "{id} has no deadline for being idle"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_as_large_as_the_last_ones_were_quick() {
        let mut batch = Batch::new(16);
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
        let mut batch = Batch { room: vec![0; 200], len_max: 2, ..Batch::new(16) };
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
