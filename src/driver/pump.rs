//! Moves bytes between a stream and a connection until it is blocked, closed or out of budget.
//!
//! The same pump serves the reactor, the threaded twin and the simulator: all it asks of a stream
//! is [`Stream`]. Every loop here ends by would-block, end of input, error or budget, and says
//! which: an edge comes once, so what is not drained must be carried.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::sync::Arc;

use crate::conn_id::ConnId;
use crate::driver::client::Client;
use crate::driver::exchange::Exchange;
use crate::driver::pool::Loan;
use crate::driver::stream::{FilePart, SentFile, Stream};
use crate::driver::{Driver, SCRATCH_SMALL_BYTES};
use crate::http::CloseReason;
use crate::http::connection::{Expired, Finish};
use crate::http::send_queue::{NextWrite, WRITE_SLICES};
use crate::observe::{Activity, Observer};

/// Why the pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// It waits for the kernel, a job or a deadline.
    Blocked,
    /// Its share of this turn is used up: pump it again in the next, without waiting for an event.
    Yielded,
    /// It is over: drop the stream.
    Closed(CloseReason),
}

/// So many bytes of a file count as one of other content: no code of ours touches them, and a slice
/// has a price of its own (looks whether it is in memory, a call, half a turn), so it had better be
/// long.
pub(crate) const FILE_BYTES_FOR_ONE: u64 = 4;

/// What one connection may do in one turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    bytes: usize,
    requests: usize,
}

impl Share {
    /// A whole one.
    fn whole<O>(driver: &Driver<O>) -> Self {
        let limits = &driver.config.limits;
        Share { bytes: limits.turn_bytes_max, requests: limits.turn_requests_max }
    }
}

/// What became of input that was read ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Used {
    /// Answers are queued: [`send`] them with what is left of the share.
    Answered(Share),
    /// Everything that could be done was done.
    Pumped(Pumped),
}

/// What one step did.
#[derive(Clone, Copy)]
enum Step {
    /// Something: go on.
    Again,
    /// Nothing can be done now.
    Blocked,
    /// The end.
    Closed(CloseReason),
}

/// Pumps one connection for its share of a turn.
pub fn pump<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
) -> Pumped {
    let share = Share::whole(driver);
    send(client, stream, driver, id, share)
}

/// Uses what was read for a client that rests between two requests, without sending what that
/// makes. `got` is what the read of `asked` bytes said, and `input` what it brought.
pub(crate) fn answer<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
    got: io::Result<usize>,
    asked: usize,
    input: &[u8],
) -> Used {
    let mut pump = Pump::new(client, stream, driver, id, Share::whole(driver));
    let step = pump.use_input(got, asked, input);
    if matches!(step, Step::Again) && pump.exchange.client.is_queued() {
        return Used::Answered(pump.share_left());
    }
    let pumped = match pump.outcome(step) {
        Some(pumped) => pumped,
        None => pump.run(),
    };
    Used::Pumped(pump.finish(pumped))
}

/// Goes on with a connection for the rest of its share, from the output on that it has queued.
pub(crate) fn send<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
    share: Share,
) -> Pumped {
    let mut pump = Pump::new(client, stream, driver, id, share);
    let pumped = pump.run();
    pump.finish(pumped)
}

/// Acts on a deadline that has passed, then pumps what that left to do.
pub fn expire<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
) -> Pumped {
    let mut exchange = Exchange::new(client, driver, id, 0);
    match exchange.expire() {
        None => pump(client, stream, driver, id),
        Some(Expired::Refuse(_, reason) | Expired::Close(reason)) => Pumped::Closed(reason),
        Some(Expired::Reset(reason)) => {
            exchange.log_answers(true, || stream.wall_clock());
            stream.reset_on_close();
            Pumped::Closed(reason)
        }
    }
}

/// Sends away a client that is slow, or idle, because its place or its buffer is needed.
pub fn evict<S: Stream, O: Observer>(
    client: &mut Client,
    stream: &mut S,
    driver: &mut Driver<O>,
    id: ConnId,
) -> Pumped {
    match Exchange::new(client, driver, id, 0).give_way() {
        None => pump(client, stream, driver, id),
        Some(reason) => Pumped::Closed(reason),
    }
}

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
        share: Share,
    ) -> Self {
        let exchange = Exchange::new(client, driver, id, share.requests);
        Pump { exchange, stream, bytes_left: share.bytes }
    }

    fn share_left(&self) -> Share {
        Share { bytes: self.bytes_left, requests: self.exchange.requests_left }
    }

    fn run(&mut self) -> Pumped {
        loop {
            let step = self.step();
            if let Some(pumped) = self.outcome(step) {
                return pumped;
            }
        }
    }

    /// What a step means for the pump: `None` that it goes on.
    fn outcome(&self, step: Step) -> Option<Pumped> {
        match step {
            Step::Again if self.bytes_left == 0 || self.exchange.requests_left == 0 => Some(Pumped::Yielded),
            Step::Again => None,
            Step::Blocked => Some(Pumped::Blocked),
            Step::Closed(reason) => Some(Pumped::Closed(reason)),
        }
    }

    /// The end of every pump.
    fn finish(mut self, pumped: Pumped) -> Pumped {
        self.exchange.log_answers(matches!(pumped, Pumped::Closed(_)), || self.stream.wall_clock());
        self.exchange.settle();
        pumped
    }

    /// The next useful thing. Input at hand goes before output, so that all answers to one read
    /// leave in one write; output goes before new input, so that a client that only sends cannot
    /// make us hoard.
    fn step(&mut self) -> Step {
        let holds_unread = self.exchange.client.work.as_ref().is_some_and(|work| work.holds_unread());
        if holds_unread && self.exchange.may_parse() {
            self.exchange.receive_held();
            return Step::Again;
        }
        if self.exchange.client.conn.is_content_drained()
            && !self.exchange.client.holds_loan()
            && self.exchange.may_parse()
        {
            // The last byte of content came while nobody could be told that it was the last.
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
            match self.exchange.client.conn.finish(holds_unread) {
                Finish::NotYet => {}
                Finish::Close(reason) => return Step::Closed(reason),
                Finish::Reset(reason) => {
                    self.stream.reset_on_close();
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

    fn spend(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    fn linger(&mut self, reason: CloseReason) -> Step {
        if self.exchange.client.ready.ended || self.stream.shutdown_write().is_err() {
            return Step::Closed(reason);
        }
        self.exchange.client.conn.start_lingering(self.exchange.driver.now.mono);
        Step::Again
    }

    fn may_read(&self, holds_unread: bool) -> bool {
        let exchange = &self.exchange;
        exchange.client.ready.readable
            && !holds_unread
            && exchange.client.conn.wants_read(&exchange.driver.config.limits)
            && exchange.may_parse()
    }

    /// Reads once and uses what came.
    fn read(&mut self) -> Step {
        self.exchange.driver.observer.enter(Activity::Reading);
        if let Some(loan) = self.exchange.client.work.as_mut().and_then(|work| work.take_partial()) {
            return self.read_behind(loan);
        }
        if self.exchange.driver.reads_little(self.exchange.client.conn.content_left()) {
            return self.read_little();
        }
        // The scratch buffer belongs to the driver, which the handler borrows: take it out
        // meanwhile.
        let mut scratch = self.exchange.driver.take_scratch();
        let step = self.read_into(&mut scratch);
        self.exchange.driver.scratch = scratch;
        step
    }

    /// A thread of the twin waits here for its next head, and what it holds meanwhile each
    /// connection holds: a little of its stack, in a page that is touched anyway.
    #[inline(never)]
    fn read_little(&mut self) -> Step {
        let mut room = [const { MaybeUninit::uninit() }; SCRATCH_SMALL_BYTES];
        let got = self.stream.read_raw(&mut room);
        self.note_time();
        let input = got.as_ref().map_or(&[][..], |input| input);
        self.use_input(got.map(<[u8]>::len), SCRATCH_SMALL_BYTES, input)
    }

    fn read_into(&mut self, scratch: &mut [u8]) -> Step {
        // One byte less than the largest loan, so that any leftover fits one and leaves room.
        let asked = scratch.len() - 1;
        let got = self.stream.read(&mut scratch[..asked]);
        self.note_time();
        let bytes = got.as_ref().map_or(0, |&bytes| bytes);
        self.use_input(got, asked, &scratch[..bytes])
    }

    /// Uses what a read of `asked` bytes brought.
    fn use_input(&mut self, got: io::Result<usize>, asked: usize, input: &[u8]) -> Step {
        let step = self.after_read(got, asked);
        if !input.is_empty() {
            let (used, hungry) = self.exchange.receive(input);
            self.exchange.hold_rest(&input[used..], hungry);
        }
        step
    }

    /// The same where part of something is held already: it is read into the loan, behind that.
    #[inline(never)]
    fn read_behind(&mut self, mut loan: Loan) -> Step {
        if !self.exchange.driver.pool.grow(&mut loan) {
            self.exchange.hold(loan, true);
            self.exchange.refuse_for_room();
            return Step::Again;
        }
        let asked = loan.room().len();
        let got = self.stream.read(loan.room());
        self.note_time();
        let Ok(bytes) = got else {
            // Held first: a refusal for lack of time logs what has come of the head.
            self.exchange.hold(loan, true);
            return self.after_read(got, asked);
        };
        loan.received(bytes);
        let step = self.after_read(got, asked);
        if self.exchange.client.ready.ended {
            self.exchange.driver.pool.give_back(loan);
        } else {
            let (used, hungry) = self.exchange.receive(loan.held());
            loan.used(used);
            self.exchange.hold(loan, hungry);
        }
        step
    }

    fn note_time(&mut self) {
        if let Some(now) = self.stream.woke_at() {
            self.exchange.driver.now = now;
        }
    }

    /// Says what a read means. A short read has drained the socket, unless the event told of the
    /// end of input: bytes and FIN can come as one event, and no other follows.
    fn after_read(&mut self, got: io::Result<usize>, asked: usize) -> Step {
        let ready = &mut self.exchange.client.ready;
        match got {
            Ok(0) => {
                ready.readable = false;
                self.exchange.end_of_input();
                Step::Again
            }
            Ok(bytes) => {
                if bytes < asked && !ready.read_closed {
                    ready.readable = false;
                }
                self.exchange.driver.observer.read(bytes);
                self.spend(bytes);
                Step::Again
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    ready.readable = false;
                    Step::Blocked
                }
                ErrorKind::Interrupted => Step::Again,
                // The twin's reaper shut the reading half: the deadline has passed.
                ErrorKind::TimedOut => self.time_out(),
                // Its acceptor did, or another connection: the place is needed.
                ErrorKind::ResourceBusy => self.give_way(),
                _ => Step::Closed(CloseReason::PeerReset),
            },
        }
    }

    fn time_out(&mut self) -> Step {
        self.exchange.client.ready.readable = false;
        self.exchange.client.ready.ended = true;
        match self.exchange.expire() {
            None => Step::Again,
            Some(Expired::Refuse(_, reason) | Expired::Close(reason)) => Step::Closed(reason),
            Some(Expired::Reset(reason)) => {
                self.stream.reset_on_close();
                Step::Closed(reason)
            }
        }
    }

    fn give_way(&mut self) -> Step {
        self.exchange.client.ready.readable = false;
        self.exchange.client.ready.ended = true;
        self.exchange.give_way().map_or(Step::Again, Step::Closed)
    }

    /// Gives the send queue to the socket until it is empty, the socket is full, or the budget is
    /// spent.
    fn flush(&mut self) -> Step {
        self.exchange.driver.observer.enter(Activity::Writing);
        let run = self.exchange.client.work.as_ref().and_then(|work| work.out.only_run());
        let Some(run) = run else { return self.flush_pieces() };
        let asked = run.len() as u64;
        let sent = self.stream.write_vectored(&[IoSlice::new(run)], false);
        self.after_write(sent.map(|bytes| SentFile::Bytes(bytes as u64)), asked, 1).unwrap_or(Step::Again)
    }

    /// The same for whatever else may be queued.
    #[inline(never)]
    fn flush_pieces(&mut self) -> Step {
        // What is left of a share is good for a whole slice: a file of just that size shall not
        // take two turns because its head came out of the same share.
        let limits = &self.exchange.driver.config.limits;
        let share = (limits.turn_bytes_max as u64).saturating_mul(FILE_BYTES_FOR_ONE);
        let slice_max = share.min(limits.file_slice_bytes_max as u64);
        let now = self.exchange.driver.now.mono;
        // How far the file in front is known to be in memory: asked once for what goes out in one
        // go.
        let mut warm_to = 0;
        loop {
            let may_wait = self.exchange.takes_file_as_it_is();
            let Some(work) = self.exchange.client.work.as_mut() else { return Step::Again };
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let (drained_below, bytes_for_one, sent) = match work.out.next_write(&mut slices) {
                NextWrite::Nothing => return Step::Again,
                NextWrite::Bytes { slices, more } => {
                    // A short write is a full socket: the edge comes when there is room.
                    let asked = slices.iter().map(|slice| slice.len() as u64).sum();
                    let sent = self.stream.write_vectored(slices, more);
                    (asked, 1, sent.map(|bytes| SentFile::Bytes(bytes as u64)))
                }
                NextWrite::File { file, offset, len } => {
                    let part = FilePart { offset, len: len.min(slice_max), left: len };
                    // A short sendfile is not: a signal cuts it short with room left, and no edge
                    // follows.
                    let range = part.range();
                    let may_wait = may_wait || range.end <= warm_to || file.was_in_memory(&range, now);
                    let sent = self.stream.send_file(file.fd(), part, may_wait);
                    warm_to = match &sent {
                        Ok(SentFile::Cold) => {
                            let file = Arc::clone(file);
                            self.exchange.warm(file, offset, len);
                            return Step::Again;
                        }
                        // The next file is another one.
                        Ok(SentFile::Bytes(bytes)) if *bytes == len => 0,
                        Ok(_) | Err(_) => range.end,
                    };
                    if !may_wait {
                        // The stream has asked the kernel. Those of the twin never do, and nobody
                        // there relies on it.
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

    /// Notes what was taken; `Some` when the flush is over. Fewer bytes than `drained_below` mean
    /// would-block. Of the share one byte is spent `bytes_for_one`.
    fn after_write(
        &mut self,
        sent: io::Result<SentFile>,
        drained_below: u64,
        bytes_for_one: u64,
    ) -> Option<Step> {
        let exchange = &mut self.exchange;
        match sent {
            Ok(SentFile::Bytes(bytes)) => {
                let work = exchange.client.work.as_mut()?;
                work.out.sent(bytes);
                let emptied = work.out.is_empty();
                exchange.client.conn.note_sent(bytes, emptied, exchange.driver.now.mono);
                exchange.driver.observer.wrote(bytes);
                if bytes < drained_below {
                    exchange.client.ready.writable = false;
                }
                let spent = usize::try_from(bytes.div_ceil(bytes_for_one)).unwrap_or(usize::MAX);
                self.bytes_left = self.bytes_left.saturating_sub(spent);
                (emptied || bytes < drained_below).then_some(Step::Again)
            }
            Ok(SentFile::Cold) => Some(Step::Again),
            // Never pad: the length was promised, so only the close can say that it was not kept.
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
