//! The pump: moves bytes between a stream and a connection until the connection is blocked, closed
//! or out of budget.
//!
//! The reactor, the threads model and the simulator use the same pump. It only requires a
//! [`Stream`]. Every loop in this file ends by would-block, end of input, error or budget, and
//! returns which. An edge-triggered event comes once, so a connection that was not drained must be
//! carried to the next turn.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::sync::Arc;

use crate::clock::Instant;
use crate::conn_id::ConnId;
use crate::driver::client::Client;
use crate::driver::decision::Decision;
use crate::driver::exchange::Exchange;
use crate::driver::pool::PooledBuffer;
use crate::driver::stream::{FilePart, IfCold, SentFile, Stream};
use crate::driver::{Driver, SCRATCH_SMALL_BYTES};
use crate::http::CloseReason;
use crate::http::connection::{Finish, Teardown, Unused};
use crate::http::send_queue::{More, NextWrite, WRITE_SLICES};
use crate::observe::step::{Step as LoopStep, Stop, Transfer};
use crate::observe::{Activity, Observer};

/// Why the pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// The connection waits for the kernel, a job or a deadline.
    Blocked,
    /// The budget of this turn is used up. Pump the connection again in the next turn, without
    /// waiting for an event.
    Yielded,
    /// The connection has ended. Drop the stream.
    Closed(CloseReason),
}

/// Bytes of a file that count as one byte of the budget. The kernel copies files without our code,
/// and each slice has fixed costs (a residency check, a system call, a share of a turn), so slices
/// should be long.
pub(crate) const FILE_BYTES_FOR_ONE: u64 = 4;

/// The budget of one connection for one turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    bytes: usize,
    requests: usize,
}

impl Budget {
    /// Returns the budget at the beginning of a turn.
    fn whole<O>(driver: &Driver<O>) -> Self {
        let limits = &driver.config.limits;
        Budget { bytes: limits.turn_bytes_max, requests: limits.turn_requests_max }
    }
}

/// Input that was read for a batch.
pub(crate) struct Input<'a> {
    /// Result of a read of `asked` bytes.
    pub(crate) got: io::Result<usize>,
    pub(crate) asked: usize,
    pub(crate) bytes: &'a [u8],
    /// Latest time at which the first request can have been sent, if that is earlier than now.
    pub(crate) sent_before: Option<Instant>,
}

/// The result of using input that was read for a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Used {
    /// Responses are queued. Call [`resume`] with the budget that is left.
    Answered(Budget),
    /// Everything that could be done was done.
    Pumped(Pumped),
}

/// The result of one step.
#[derive(Clone, Copy)]
enum Step {
    /// The step did something. Take the next one.
    Again,
    /// Nothing can be done until an event comes.
    Blocked,
    /// The connection has ended.
    Closed(CloseReason),
}

/// Pumps one connection with a whole budget: reads, answers and writes until the connection stops
/// or the budget of the turn is used up. Call once a turn for a connection that has an event or was
/// carried.
pub fn pump<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
) -> Pumped {
    let budget = Budget::whole(driver);
    resume(client, stream, driver, id, budget)
}

/// Uses input that was read for a client between two requests, and queues the responses without
/// sending them: the first half of a pump, for a batch.
pub(crate) fn answer<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
    input: Input<'_>,
) -> Used {
    let mut pump = Pump::new(client, stream, driver, id, Budget::whole(driver));
    pump.exchange.sent_before = input.sent_before;
    let step = pump.use_input(input.got, input.asked, input.bytes);
    if matches!(step, Step::Again) && pump.exchange.client.is_queued() {
        return Used::Answered(pump.budget_left());
    }
    let pumped = match pump.outcome(step) {
        Some(pumped) => pumped,
        None => pump.run(),
    };
    Used::Pumped(pump.finish(pumped))
}

/// Resumes a pump after [`answer`]: writes the queued responses, then goes on like [`pump`] with
/// the budget that is left of this turn.
pub(crate) fn resume<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
    budget: Budget,
) -> Pumped {
    let mut pump = Pump::new(client, stream, driver, id, budget);
    let pumped = pump.run();
    pump.finish(pumped)
}

/// Handles a deadline that has passed, then pumps the connection.
pub fn expire<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
) -> Pumped {
    let mut pump = Pump::new(client, stream, driver, id, Budget::whole(driver));
    let step = pump.expire();
    let pumped = match pump.outcome(step) {
        Some(pumped) => pumped,
        None => pump.run(),
    };
    pump.finish(pumped)
}

/// Evicts a client that is slow or idle, because its slot or buffer is needed.
pub fn evict<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
) -> Pumped {
    match Exchange::new(client, driver, id, 0).evict() {
        None => pump(client, stream, driver, id),
        Some(reason) => Pumped::Closed(reason),
    }
}

/// One connection, its stream and its budget while it is pumped.
struct Pump<'a, S, O> {
    exchange: Exchange<'a, O>,
    stream: &'a mut S,
    bytes_left: usize,
}

impl<'a, S: Stream, O: Observer> Pump<'a, S, O> {
    fn new(
        client: &'a mut Client,
        stream: &'a mut S,
        driver: &'a mut Driver<O>,
        id: ConnId,
        budget: Budget,
    ) -> Self {
        let exchange = Exchange::new(client, driver, id, budget.requests);
        Pump { exchange, stream, bytes_left: budget.bytes }
    }

    /// Returns the budget that is left.
    fn budget_left(&self) -> Budget {
        Budget { bytes: self.bytes_left, requests: self.exchange.requests_left }
    }

    /// Takes steps until the pump stops.
    fn run(&mut self) -> Pumped {
        loop {
            let step = self.step();
            if let Some(pumped) = self.outcome(step) {
                return pumped;
            }
        }
    }

    /// Returns why the pump stops after this step, or `None` if it continues.
    fn outcome(&self, step: Step) -> Option<Pumped> {
        match step {
            Step::Again if self.bytes_left == 0 || self.exchange.requests_left == 0 => Some(Pumped::Yielded),
            Step::Again => None,
            Step::Blocked => Some(Pumped::Blocked),
            Step::Closed(reason) => Some(Pumped::Closed(reason)),
        }
    }

    /// Ends a pump: writes log lines, and gives the record of a connection that became idle back to
    /// the driver.
    fn finish(mut self, pumped: Pumped) -> Pumped {
        self.exchange.log_answers(matches!(pumped, Pumped::Closed(_)), || self.stream.wall_clock());
        self.exchange.settle();
        pumped
    }

    /// Takes the next useful step. Held input comes before output, so that all responses to one
    /// read leave in one write. Output comes before new input, so that a client that only sends
    /// cannot make the queue grow.
    fn step(&mut self) -> Step {
        let holds_unread = self.exchange.client.work.as_ref().is_some_and(|work| work.holds_unread());
        if holds_unread && self.exchange.may_parse() {
            self.exchange.receive_held();
            return Step::Again;
        }
        if self.exchange.client.conn.is_content_drained()
            && !self.exchange.client.holds_buffer()
            && self.exchange.may_parse()
        {
            // The last byte of content arrived while the connection had to pause, so the end of the
            // content is still to be reported.
            self.exchange.receive(&[]);
            return Step::Again;
        }
        if self.exchange.wants_fill() {
            let bytes = self.exchange.fill();
            self.spend(bytes.max(1));
            return Step::Again;
        }
        if self.exchange.client.is_queued() {
            if self.exchange.client.ready.writable && self.exchange.client.is_sendable() {
                return self.flush();
            }
        } else {
            let unused = if holds_unread { Unused::Bytes } else { Unused::Nothing };
            match self.exchange.client.conn.finish(unused) {
                Finish::NotYet => {}
                Finish::Close(reason) => return Step::Closed(reason),
                Finish::Reset(reason) => {
                    self.stream.reset_on_close();
                    return Step::Closed(reason);
                }
                Finish::Linger(reason) if self.stream.is_wrong(Decision::LingerBeforeClose) => {
                    return Step::Closed(reason);
                }
                Finish::Linger(reason) => return self.linger(reason),
            }
        }
        if self.may_read(holds_unread) {
            return self.read();
        }
        Step::Blocked
    }

    /// Subtracts bytes from the budget.
    fn spend(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    /// Shuts the sending side after the last response. The connection then reads and discards
    /// input, because closing with unread input would reset it and could destroy the response.
    fn linger(&mut self, reason: CloseReason) -> Step {
        let shut = self.stream.shutdown_write();
        let (id, stop) = (self.exchange.id, shut.as_ref().map_or_else(Stop::of, |()| Stop::Done));
        self.exchange.driver.observer.step(|| LoopStep::Shut { id, stop });
        if shut.is_err() {
            return Step::Closed(reason);
        }
        self.exchange.client.conn.start_lingering(self.exchange.driver.now.mono);
        Step::Again
    }

    /// Returns true if a read may return input and the connection can use it.
    fn may_read(&self, holds_unread: bool) -> bool {
        let exchange = &self.exchange;
        exchange.client.ready.readable
            && !holds_unread
            && exchange.client.conn.wants_read(&exchange.driver.config.limits)
            && exchange.may_parse()
    }

    /// Reads once and uses the input.
    fn read(&mut self) -> Step {
        self.exchange.driver.observer.enter(Activity::Reading);
        if let Some(buffer) = self.exchange.client.work.as_mut().and_then(|work| work.take_partial()) {
            return self.read_behind(buffer);
        }
        if self.exchange.driver.reads_little(self.exchange.client.conn.content_left()) {
            return self.read_little();
        }
        // The read buffer belongs to the driver, which the handler borrows. So the buffer is taken
        // out during the read.
        let mut scratch = self.exchange.driver.take_scratch();
        let step = self.read_into(&mut scratch);
        self.exchange.driver.scratch = scratch;
        step
    }

    /// Reads into a small buffer on the stack. A thread of the threads model waits here for its
    /// next head, so this buffer is the memory that every waiting connection needs. It lies in a
    /// page that the stack uses anyway.
    #[inline(never)]
    fn read_little(&mut self) -> Step {
        let mut room = [const { MaybeUninit::uninit() }; SCRATCH_SMALL_BYTES];
        let input = self.stream.read_raw(&mut room);
        self.note_time();
        let (got, input) = match input {
            Ok(input) => (Ok(input.len()), input),
            Err(error) => (Err(error), &[][..]),
        };
        self.note_read(SCRATCH_SMALL_BYTES, &got);
        self.use_input(got, SCRATCH_SMALL_BYTES, input)
    }

    /// Reads into the buffer of the driver and uses the input.
    fn read_into(&mut self, scratch: &mut [u8]) -> Step {
        // One byte less than the largest buffer, so that any leftover fits into a buffer and leaves
        // room to read more.
        let asked = scratch.len() - 1;
        let got = self.stream.read(&mut scratch[..asked]);
        self.note_time();
        self.note_read(asked, &got);
        let bytes = got.as_ref().map_or(0, |&bytes| bytes);
        self.use_input(got, asked, &scratch[..bytes])
    }

    /// Uses the input that a read of `asked` bytes returned.
    fn use_input(&mut self, got: io::Result<usize>, asked: usize, input: &[u8]) -> Step {
        let step = self.after_read(got, asked);
        if !input.is_empty() {
            let (used, needs_more) = self.exchange.receive(input);
            self.exchange.hold_rest(&input[used..], needs_more);
        }
        step
    }

    /// Reads behind held input, into the buffer that contains it.
    #[inline(never)]
    fn read_behind(&mut self, mut buffer: PooledBuffer) -> Step {
        if !self.exchange.driver.pool.grow(&mut buffer) {
            self.exchange.hold(buffer, true);
            self.exchange.refuse_for_room();
            return Step::Again;
        }
        let asked = buffer.room().len();
        let got = self.stream.read(buffer.room());
        self.note_time();
        self.note_read(asked, &got);
        let Ok(bytes) = got else {
            // The buffer is kept before the error is handled, because the refusal of a late head
            // logs its received part.
            self.exchange.hold(buffer, true);
            return self.after_read(got, asked);
        };
        buffer.received(bytes);
        let step = self.after_read(got, asked);
        if bytes == 0 {
            self.exchange.driver.pool.put(buffer);
        } else {
            let (used, needs_more) = self.exchange.receive(buffer.held());
            buffer.used(used);
            self.exchange.hold(buffer, needs_more);
        }
        step
    }

    /// Updates the time of the driver after a read that has waited.
    fn note_time(&mut self) {
        if let Some(now) = self.stream.woke_at() {
            self.exchange.driver.now = now;
        }
    }

    /// Reports a read to the observer.
    fn note_read(&mut self, asked: usize, got: &io::Result<usize>) {
        let id = self.exchange.id;
        self.exchange.driver.observer.step(|| LoopStep::Read(Transfer::read(id, asked, got)));
    }

    /// Interprets the result of a read. A short read means that the socket is drained, unless the
    /// peer has shut its side or has sent an urgent byte: these can arrive with bytes as one event,
    /// and no other event follows.
    fn after_read(&mut self, got: io::Result<usize>, asked: usize) -> Step {
        let ready = &mut self.exchange.client.ready;
        match got {
            Ok(0) => {
                ready.readable = false;
                self.exchange.end_of_input();
                Step::Again
            }
            Ok(bytes) => {
                let ends_later = ready.read_closed && !self.stream.is_wrong(Decision::ReadToTheEnd);
                let is_drained = bytes < asked && !ends_later;
                if is_drained || self.stream.is_wrong(Decision::ReadUntilWouldBlock) {
                    ready.readable = false;
                }
                self.spend(bytes);
                Step::Again
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    ready.readable = false;
                    // The bytes behind an urgent one are read. A shut side never blocks a read.
                    ready.read_closed = false;
                    Step::Blocked
                }
                ErrorKind::Interrupted => Step::Again,
                // The reaper of the threads model has shut the reading half, because the deadline
                // has passed.
                ErrorKind::TimedOut => self.time_out(),
                // The acceptor of the threads model or another connection has shut the reading
                // half, because the thread is needed.
                ErrorKind::ResourceBusy => self.evict(),
                _ => Step::Closed(CloseReason::PeerReset),
            },
        }
    }

    /// Handles a deadline that the reaper has reported by shutting the reading half.
    fn time_out(&mut self) -> Step {
        self.exchange.client.ready.readable = false;
        let step = self.expire();
        self.exchange.end_of_input();
        step
    }

    /// Handles a deadline that has passed.
    fn expire(&mut self) -> Step {
        match self.exchange.expire() {
            None => Step::Again,
            Some(Teardown::Close(reason)) => Step::Closed(reason),
            Some(Teardown::Reset(reason)) => {
                self.stream.reset_on_close();
                Step::Closed(reason)
            }
        }
    }

    /// Handles an eviction that another thread has requested by shutting the reading half.
    fn evict(&mut self) -> Step {
        self.exchange.client.ready.readable = false;
        let reason = self.exchange.evict();
        self.exchange.end_of_input();
        reason.map_or(Step::Again, Step::Closed)
    }

    /// Writes the send queue to the socket until the queue is empty, the socket is full, or the
    /// budget is used up.
    fn flush(&mut self) -> Step {
        self.exchange.driver.observer.enter(Activity::Writing);
        let run = self.exchange.client.work.as_ref().and_then(|work| work.out.only_run());
        let Some(run) = run else { return self.flush_pieces() };
        let asked = run.len() as u64;
        let sent = self.stream.write_vectored(&[IoSlice::new(run)], More::None);
        let id = self.exchange.id;
        self.exchange.driver.observer.step(|| LoopStep::Write(Transfer::written(id, asked, &sent)));
        self.after_write(sent.map(|bytes| SentFile::Bytes(bytes as u64)), asked, 1).unwrap_or(Step::Again)
    }

    /// Writes a queue that consists of several pieces or contains a file.
    #[inline(never)]
    fn flush_pieces(&mut self) -> Step {
        // A slice may exceed the rest of the budget. Otherwise a file as large as the budget would
        // need two turns, because its head used a part of the budget.
        let limits = &self.exchange.driver.config.limits;
        let budget = (limits.turn_bytes_max as u64).saturating_mul(FILE_BYTES_FOR_ONE);
        let slice_max = budget.min(limits.file_slice_bytes_max as u64);
        let now = self.exchange.driver.now.mono;
        // Position up to which the front file is known to be in memory. The kernel is asked once
        // for the whole flush.
        let mut resident_to = 0;
        let id = self.exchange.id;
        loop {
            let is_fetched = self.exchange.skips_residency_check();
            let Some(work) = self.exchange.client.work.as_mut() else { return Step::Again };
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let (drained_below, bytes_for_one, sent) = match work.out.next_write(&mut slices) {
                NextWrite::Nothing => return Step::Again,
                NextWrite::Bytes { slices, more } => {
                    // A short write means that the socket is full. An edge comes when there is
                    // room.
                    let asked = slices.iter().map(|slice| slice.len() as u64).sum();
                    let sent = self.stream.write_vectored(slices, more);
                    self.exchange
                        .driver
                        .observer
                        .step(|| LoopStep::Write(Transfer::written(id, asked, &sent)));
                    (asked, 1, sent.map(|bytes| SentFile::Bytes(bytes as u64)))
                }
                NextWrite::File { file, offset, len } => {
                    let part = FilePart { offset, len: len.min(slice_max), left: len };
                    // A short sendfile does not: a signal interrupts it while there is room, and
                    // then no edge follows.
                    let range = part.range();
                    let is_resident =
                        is_fetched || range.end <= resident_to || file.was_in_memory(&range, now);
                    let if_cold = if is_resident { IfCold::Wait } else { IfCold::Return };
                    let sent = self.stream.send_file(file.fd(), part, if_cold);
                    self.exchange.driver.observer.step(|| LoopStep::Sendfile(sent_file(id, part, &sent)));
                    resident_to = match &sent {
                        Ok(SentFile::Cold) => {
                            let file = Arc::clone(file);
                            self.exchange.read_ahead(file, offset, len);
                            return Step::Again;
                        }
                        // The next file is another one.
                        Ok(SentFile::Bytes(bytes)) if *bytes == len => 0,
                        Ok(_) | Err(_) => range.end,
                    };
                    if if_cold == IfCold::Return {
                        // The stream has asked the kernel. Streams of the threads model never ask,
                        // and nothing there depends on the note.
                        file.note_in_memory(range, now);
                    }
                    (0, FILE_BYTES_FOR_ONE, sent)
                }
            };
            match self.after_write(sent, drained_below, bytes_for_one) {
                Some(step) => return step,
                None if self.bytes_left == 0 => return Step::Again,
                None => {}
            }
        }
    }

    /// Notes the result of a write; returns `Some` when the flush is over. Fewer bytes than
    /// `drained_below` mean would-block. `bytes_for_one` sent bytes cost one byte of the budget.
    fn after_write(
        &mut self,
        sent: io::Result<SentFile>,
        drained_below: u64,
        bytes_for_one: u64,
    ) -> Option<Step> {
        let exchange = &mut self.exchange;
        let sent = match self.stream.is_wrong(Decision::KeepUnsentBytes) {
            true => without_the_rest(sent, drained_below),
            false => sent,
        };
        match sent {
            Ok(SentFile::Bytes(bytes)) => {
                let work = exchange.client.work.as_mut()?;
                work.out.sent(bytes);
                let emptied = work.out.is_empty();
                exchange.client.conn.note_sent(bytes, &work.out, exchange.driver.now.mono);
                if bytes < drained_below {
                    exchange.client.ready.writable = false;
                }
                let spent = usize::try_from(bytes.div_ceil(bytes_for_one)).unwrap_or(usize::MAX);
                self.bytes_left = self.bytes_left.saturating_sub(spent);
                (emptied || bytes < drained_below).then_some(Step::Again)
            }
            Ok(SentFile::Cold) => Some(Step::Again),
            // Never pad. The length was promised, so only the close can show that the content is
            // incomplete.
            Ok(SentFile::Ended) => {
                self.stream.reset_on_close();
                Some(Step::Closed(CloseReason::FileFailed))
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    exchange.client.ready.writable = false;
                    Some(Step::Again)
                }
                ErrorKind::Interrupted => None,
                ErrorKind::TimedOut => Some(self.time_out()),
                ErrorKind::BrokenPipe
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::NotConnected => Some(Step::Closed(CloseReason::PeerReset)),
                _ => Some(Step::Closed(CloseReason::FileFailed)),
            },
        }
    }
}

/// Describes a call that sent a part of a file.
fn sent_file(id: ConnId, part: FilePart, sent: &io::Result<SentFile>) -> Transfer {
    let (got, stop) = match sent {
        Ok(SentFile::Bytes(bytes)) if *bytes < part.len => (*bytes, Stop::Short),
        Ok(SentFile::Bytes(bytes)) => (*bytes, Stop::Done),
        Ok(SentFile::Ended) => (0, Stop::EndOfInput),
        Ok(SentFile::Cold) => (0, Stop::NotInMemory),
        Err(error) => (0, Stop::of(error)),
    };
    Transfer { id, asked: part.len, got, stop }
}

/// Drops the bytes of a write that the kernel did not take: the result claims that all were sent.
fn without_the_rest(sent: io::Result<SentFile>, asked: u64) -> io::Result<SentFile> {
    match sent {
        Ok(SentFile::Bytes(bytes)) => Ok(SentFile::Bytes(bytes.max(asked))),
        Err(error) if error.kind() == ErrorKind::WouldBlock && asked > 0 => Ok(SentFile::Bytes(asked)),
        other => other,
    }
}
