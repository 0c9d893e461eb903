//! The event loop: one thread, one poll, and all connections that the thread serves. The loop owns
//! the poll, the sockets and the clock.
//!
//! [`Reactor::turn`] is the whole loop; read it first. Each turn has seven steps:
//!
//! 1. Wait in the poll for the next event or deadline; with carried work, do not wait. Read the
//!    clocks.
//! 2. Apply job results, advance watched objects (for example CGI programs), and act on signals.
//! 3. Read, answer and write the connections that the kernel reported ready, a batch at a time.
//! 4. Pump the carried connections: those whose budget ran out in the last turn, and those that
//!    received a result in step 2.
//! 5. Act on deadlines that have passed. This step follows the I/O, because bytes that arrived in
//!    time count.
//! 6. Free memory and descriptors if they ran short, then accept new clients. Open connections go
//!    first.
//! 7. Free the slots of closed connections and advance abandoned objects. Flush the access log,
//!    check the file cache, and measure the turn.
//!
//! The poll is edge-triggered. Each connection is registered once, for both directions, so a
//! request costs no epoll call, and no stored interest can differ from the state. The state of a
//! connection determines what the connection waits for. Readiness that the kernel reported is kept
//! until a call returns would-block.
//!
//! This file contains `turn` and the functions that it calls, in the order of the turn. The steps
//! continue in `accept`, `batch`, `evict`, `stop` and `watches`. `run` repeats the turn until the
//! end. `os` is the trait for system calls, and `mio_os` makes them. The header of `batch` follows
//! one request from accept to write. `slot` is the record of a connection, and `inspect` reads the
//! state for metrics and tests. No file in this folder may know what a handler does or how a
//! response is made.

mod accept;
mod batch;
mod evict;
pub(crate) mod inspect;
#[cfg(feature = "os")]
pub mod mio_os;
pub mod os;
mod report;
#[cfg(feature = "os")]
mod run;
pub mod slot;
mod stop;
mod watches;

use std::io;
use std::time::Duration;

use crate::clock::Instant;
use crate::config::TurnLines;
use crate::conn_id::{ConnId, ConnKind};
use crate::driver::Driver;
use crate::driver::deadline::DeadlineQueue;
use crate::driver::decision::Decision;
use crate::driver::exchange::Exchange;
use crate::driver::outcome::OnStop;
use crate::driver::pump::{self, Pumped};
use crate::driver::slots::Slots;
use crate::driver::stream::Stream as _;
use crate::handler::continuation::Done;
use crate::handler::watch::Ready;
use crate::http::{CloseReason, Phase};
use crate::observe::step::{DeadlineFound, Holder, Name, Step, Stop, TurnPhase, WaitUntil};
use crate::observe::{Activity, Observer};
use accept::Listeners;
use batch::Batch;
use os::{Os, OsEvent};
use report::kind_of;
use slot::{Slot, Stage};
use stop::Stopping;
use watches::Watches;

/// The event loop and everything that belongs to it.
pub struct Reactor<S: Os, O> {
    os: S,
    driver: Driver<O>,
    slots: Slots<ConnKind, Slot<S::Stream>>,
    deadlines: DeadlineQueue,
    listeners: Listeners,
    connections_max: usize,
    /// The number of this turn. A connection whose slot has the same number was already pumped.
    turn: u32,
    /// When the poll of this turn returned.
    turn_began: Instant,
    events: Vec<OsEvent>,
    done: Vec<(ConnId, Done)>,
    /// Connections to pump in the next turn, which does not wait in its poll: their budget ran out.
    carried: Vec<ConnId>,
    closed: Vec<ConnId>,
    /// Ready connections that are read, answered and sent to together.
    batch: Batch,
    /// Objects that are watched for connections in addition to their sockets.
    watches: Watches,
    sample_from: usize,
    /// Slow senders that were sent an error to make room. Each frees its slot after it has received
    /// the response.
    leaving: Vec<ConnId>,
    /// True if descriptors have run out since the last turn.
    is_short: bool,
    /// When connections were last closed because descriptors had run out.
    relieved: Option<Instant>,
    stopping: Option<Stopping>,
    on_reopen: Box<dyn Fn() + Send>,
    on_stop: OnStop,
}

/// A time at which a loop must wake, and the function that returns the reason.
type Due<R> = (Option<Instant>, fn(&R) -> WaitUntil);

/// Largest number of connections for which the tables have room from the start.
const ROOM_CONNECTIONS_MAX: usize = 1 << 16;

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Creates a loop over `os` that serves clients with `driver`, at most `connections_max` at a
    /// time.
    pub(crate) fn new(os: S, driver: Driver<O>, connections_max: usize) -> Self {
        let listeners = Listeners::new(os.listeners());
        let room = connections_max.min(ROOM_CONNECTIONS_MAX);
        let turn_began = driver.now.mono;
        let batch = Batch::new(driver.config.limits.batch_connections_max);
        Reactor {
            os,
            driver,
            slots: Slots::for_up_to(room),
            deadlines: DeadlineQueue::for_up_to(room),
            listeners,
            connections_max,
            turn: 0,
            turn_began,
            events: Vec::new(),
            done: Vec::new(),
            carried: Vec::new(),
            closed: Vec::new(),
            batch,
            watches: Watches::default(),
            sample_from: 0,
            leaving: Vec::new(),
            is_short: false,
            relieved: None,
            stopping: None,
            on_reopen: Box::new(|| {}),
            on_stop: Box::new(|_, _| {}),
        }
    }

    /// Sets the function that reopens the log files.
    pub(crate) fn on_reopen(&mut self, call: impl Fn() + Send + 'static) {
        self.on_reopen = Box::new(call);
    }

    /// Sets the function that is called when a graceful stop begins.
    pub(crate) fn on_stop(&mut self, call: OnStop) {
        self.on_stop = call;
    }

    /// Runs one turn of the loop: the seven steps in the header of this file.
    pub fn turn(&mut self) -> io::Result<()> {
        let before = (self.driver.config.turn_lines != TurnLines::Off).then(|| self.counters());
        self.turn = self.turn.wrapping_add(1);
        // 1. Wait for the first event or deadline, or not at all if work was carried. Read the
        //    clocks.
        let (timeout, until) = self.timeout();
        self.events.clear();
        self.driver.observer.phase(TurnPhase::Wait);
        self.driver.observer.enter(Activity::Waiting);
        self.os.poll(&mut self.events, timeout)?;
        self.driver.now = self.os.now();
        self.turn_began = self.driver.now.mono;
        self.driver.observer.wait_ended(self.turn_began);
        self.driver.observer.enter(Activity::Housekeeping);
        self.report_start(timeout, until);
        let mut carried = std::mem::take(&mut self.carried);
        // 2. Job results, watched objects and signals. Signals come last, because a stop pumps
        //    every connection and should use the results.
        self.driver.observer.phase(TurnPhase::Results);
        self.take_results(&mut carried);
        self.advance_ready(&mut carried);
        self.take_signals();
        // 3. Ready connections, in the order of the kernel, a batch at a time.
        self.driver.observer.phase(TurnPhase::Ready);
        self.pump_ready();
        // 4. Connections that were carried from the last turn or received a result in step 2.
        self.driver.observer.phase(TurnPhase::Carried);
        for id in carried {
            self.look_at_clock();
            self.pump_one(id);
        }
        // 5. Deadlines, after I/O, because bytes that came in time count.
        self.driver.observer.phase(TurnPhase::Deadlines);
        self.expire_due();
        // 6. New clients, last, because open connections go first.
        self.driver.observer.phase(TurnPhase::Accept);
        self.free_memory();
        self.free_descriptors();
        self.accept();
        // 7. Free the slots of closed connections. Until here no new connection could get their
        //    slots.
        self.driver.observer.phase(TurnPhase::Free);
        self.free_closed();
        for id in std::mem::take(&mut self.driver.abandoned) {
            self.advance(id, Ready::default(), Holder::Carried);
        }
        self.flush_and_sweep();
        // Read the clock once more for the duration of the turn, which is how long a new event may
        // wait.
        let ended = self.os.now().mono;
        let took = ended.saturating_duration_since(self.turn_began);
        self.driver.observer.turn_finished(self.turn, took, self.slots.len());
        self.batch.pace(ended.saturating_duration_since(self.driver.now.mono));
        if let Some(before) = before {
            self.tell_of_turn(&before, took);
        }
        Ok(())
    }

    /// Returns how long the poll may wait (`None` means without limit), and the reason. The reason
    /// is looked up only for an observer that keeps steps.
    fn timeout(&mut self) -> (Option<Duration>, WaitUntil) {
        if !self.carried.is_empty() || self.watches.has_carried() {
            return (Some(Duration::ZERO), WaitUntil::Carried);
        }
        let due: [Due<Self>; 7] = [
            (self.deadlines.next().map(|(due, _)| due), |reactor| {
                reactor.deadlines.next().map_or(WaitUntil::Event, |(_, id)| WaitUntil::Deadline(id))
            }),
            (self.watches.next().map(|(due, _)| due), |reactor| {
                reactor.watches.next().map_or(WaitUntil::Event, |(_, id)| WaitUntil::WatchDeadline(id))
            }),
            (self.accept_due(), |_| WaitUntil::Accept),
            (self.driver.access.as_ref().and_then(|access| access.due()), |_| WaitUntil::LogFlush),
            (self.driver.cache.next_sweep(), |_| WaitUntil::CacheSweep),
            (self.stopping.as_ref().map(|stopping| stopping.cut_at), |_| WaitUntil::Stop),
            (self.driver.observer.next_look(), |_| WaitUntil::Frame),
        ];
        let first = due.iter().filter_map(|(due, _)| *due).min();
        let timeout = first.map(|first| first.saturating_duration_since(self.driver.now.mono));
        if !self.driver.observer.is_recording() {
            return (timeout, WaitUntil::Event);
        }
        let of_first = due.iter().find(|(due, _)| due.is_some() && *due == first);
        (timeout, of_first.map_or(WaitUntil::Event, |(_, until)| until(self)))
    }

    /// Applies job results and wake-ups from the inbox. A connection that receives one is pumped in
    /// step 4, because this turn may also have an event for it, and a connection is pumped once a
    /// turn.
    fn take_results(&mut self, to_pump: &mut Vec<ConnId>) {
        if !self.events.contains(&OsEvent::Inbox) {
            return;
        }
        let mut done = std::mem::take(&mut self.done);
        self.driver.jobs.inbox().take(&mut done);
        let count = if self.os.is_wrong(Decision::TakeAllResults) { done.len().min(1) } else { done.len() };
        for (id, result) in done.drain(..count) {
            if let Done::Inspect(inspect) = result {
                inspect(&self.gauges());
                continue;
            }
            if let Done::ListRequests(list) = result {
                list(self.requests_json());
                continue;
            }
            if matches!(result, Done::Shortage) {
                self.is_short = true;
                continue;
            }
            if let Some(kind) = kind_of(&result) {
                self.driver.observer.step(|| Step::Result { id, kind });
            }
            let id = self.owner(id);
            let Some(slot) = self.slots.get_mut(id) else {
                self.driver.observer.step(|| Step::Stale { name: Name::Conn(id), holder: Holder::Result });
                continue;
            };
            let requests = self.driver.config.limits.turn_requests_max;
            Exchange::new(&mut slot.client, &mut self.driver, id, requests).complete(result);
            to_pump.push(id);
        }
        self.done = done;
    }

    /// Notes the readiness of each event and passes the connection to the batch.
    fn pump_ready(&mut self) {
        for at in 0..self.events.len() {
            let OsEvent::Ready { id, ready: report } = self.events[at] else {
                if let OsEvent::Listener(listener) = self.events[at] {
                    self.listeners.ready(listener);
                }
                continue;
            };
            let id = self.owner(id);
            let Some(slot) = self.slots.get_mut(id) else {
                self.driver.observer.step(|| Step::Stale { name: Name::Conn(id), holder: Holder::Event });
                continue;
            };
            let ready = &mut slot.client.ready;
            ready.readable |= report.readable;
            ready.writable |= report.writable;
            ready.read_closed |= report.read_closed;
            // No peer is left to receive the response that is being made.
            let is_served_for = matches!(slot.client.phase(), Phase::Handling | Phase::Streaming);
            if report.hung_up && (is_served_for || slot.client.is_waiting()) {
                self.close(id, CloseReason::PeerReset);
                continue;
            }
            if slot.pumped_in == self.turn {
                // A stop pumped the connection before this event was read. The readiness of the
                // event must not be lost, so the next turn pumps again.
                self.carried.push(id);
                continue;
            }
            self.admit(id, report.readable);
        }
        self.finish_batch();
    }

    /// Returns the name to look up for a name that has waited: the name itself, because the lookup
    /// compares generations. Without that comparison, the present owner of its slot is found.
    fn owner(&self, id: ConnId) -> ConnId {
        match self.os.is_wrong(Decision::CompareGenerations) {
            true => self.slots.in_slot(id.slot()).unwrap_or(id),
            false => id,
        }
    }

    /// Pumps a connection, at most once a turn.
    fn pump_one(&mut self, id: ConnId) {
        let id = self.owner(id);
        let Some(slot) = self.slots.get_mut(id) else {
            self.driver.observer.step(|| Step::Stale { name: Name::Conn(id), holder: Holder::Carried });
            return;
        };
        if slot.pumped_in == self.turn {
            return;
        }
        slot.pumped_in = self.turn;
        let pumped = pump::pump(&mut slot.client, &mut slot.stream, &mut self.driver, id);
        self.after_pump(id, pumped);
    }

    /// Acts on the result of a pump: closes, carries or registers the connection, then arms its
    /// deadline.
    fn after_pump(&mut self, id: ConnId, pumped: Pumped) {
        self.driver.observer.enter(Activity::Housekeeping);
        let Some(slot) = self.slots.get_mut(id) else { return };
        match pumped {
            Pumped::Closed(reason) => return self.close(id, reason),
            Pumped::Yielded if self.os.is_wrong(Decision::CarryAfterBudget) => {}
            Pumped::Yielded => {
                self.carried.push(id);
                self.driver.observer.step(|| Step::Carry { id });
            }
            Pumped::Blocked if slot.stage == Stage::New => {
                slot.stage = Stage::Registered;
                // The connection is registered only now that a read would block. A client that
                // sends its request at once and closes after the response costs no epoll call.
                // Registering also reports everything that arrived before.
                let registered = self.os.register(&mut slot.stream, id);
                self.driver.observer.step(|| Step::Register {
                    name: Name::Conn(id),
                    stop: registered.as_ref().map_or_else(Stop::of, |()| Stop::Done),
                });
                if let Err(error) = registered {
                    log::error!("cannot watch a connection: {error}");
                    return self.close(id, CloseReason::PeerReset);
                }
            }
            Pumped::Blocked => {}
        }
        // During a stop, a connection that has sent its last response is closed, even if the
        // response promised keep-alive.
        if self.stopping.is_some()
            && slot.client.conn.is_idle()
            && !slot.client.is_queued()
            && pumped == Pumped::Blocked
        {
            return self.close(id, CloseReason::Shutdown);
        }
        // The pump may have changed what the watched object waits for.
        if slot.client.watch().is_some()
            && let Some(watch) = self.register_watch(id)
            && self.advance(watch, Ready::default(), Holder::Carried).is_some()
        {
            self.carried.push(id);
        }
        let Some(slot) = self.slots.get_mut(id) else { return };
        if let Some(due) = slot.client.deadline(&self.driver.config) {
            self.arm(id, due);
        }
        if self.driver.pool.is_short() {
            self.evict_slowest_head();
        }
    }

    /// Acts on the deadlines of watched objects and of connections. An entry may be early, so the
    /// connection is asked for its actual deadline.
    fn expire_due(&mut self) {
        let now = self.driver.now.mono;
        for _ in 0..self.driver.config.limits.deadlines_per_turn {
            let Some(id) = self.watches.pop_due(now) else { break };
            // The advance armed the next deadline. The connection may already have been pumped in
            // this turn, so the next turn pumps it.
            let to_pump = self.advance(id, Ready::default(), Holder::Deadline);
            self.carried.extend(to_pump);
        }
        for _ in 0..self.driver.config.limits.deadlines_per_turn {
            let Some(id) = self.deadlines.pop_due(now).map(|id| self.owner(id)) else { return };
            let Some(slot) = self.slots.get_mut(id) else {
                self.driver.observer.step(|| Step::Stale { name: Name::Conn(id), holder: Holder::Deadline });
                continue;
            };
            let deadline = slot.client.deadline(&self.driver.config);
            self.driver.observer.step(|| Step::Deadline {
                id,
                found: match deadline {
                    None => DeadlineFound::Nothing,
                    Some(due) if due > now => DeadlineFound::Early,
                    Some(_) => DeadlineFound::Due,
                },
            });
            match deadline {
                None => {}
                // The entry was early: the deadline of the connection has moved since.
                Some(due) if due > now && !self.os.is_wrong(Decision::RecheckDeadline) => {
                    self.deadlines.arm(id, due);
                }
                Some(_) => {
                    let pumped = pump::expire(&mut slot.client, &mut slot.stream, &mut self.driver, id);
                    self.after_pump(id, pumped);
                }
            }
        }
    }

    /// Closes a connection. The slot stays occupied until the end of the turn, so that later events
    /// of this turn do not reach another connection.
    fn close(&mut self, id: ConnId, reason: CloseReason) {
        let Some(slot) = self.slots.retire(id) else { return };
        if slot.client.is_waiting() || slot.client.is_resting() {
            drop(self.driver.jobs.cancel(id));
        }
        let mut exchange = Exchange::new(&mut slot.client, &mut self.driver, id, 0);
        exchange.log_answers(true, || slot.stream.wall_clock());
        if let Some(work) = slot.client.work.take() {
            self.driver.return_record(work);
        }
        log::debug!("{id} closed: {}", reason.name());
        self.driver.observer.step(|| Step::Close { id, reason });
        if !self.os.is_wrong(Decision::RemoveDeadline) {
            self.deadlines.remove(id);
        }
        self.closed.push(id);
        if self.os.is_wrong(Decision::FreeSlotsLate) {
            self.free_closed();
        }
    }

    /// Frees the slots of closed connections, and resumes accepting if it had paused.
    fn free_closed(&mut self) {
        if self.closed.is_empty() {
            return;
        }
        for id in self.closed.drain(..) {
            // Dropping the stream closes the socket, which also removes it from the poll.
            self.slots.remove(id);
            self.driver.observer.step(|| Step::Free { id });
        }
        self.listeners.resume();
    }

    /// Does periodic work: flushes the access log, re-checks the file cache, and sweeps the list of
    /// connections that wait for the rest of a head.
    fn flush_and_sweep(&mut self) {
        let now = self.driver.now.mono;
        if let Some(access) = &mut self.driver.access
            && access.due().is_some_and(|due| due <= now)
        {
            access.flush();
        }
        self.driver.cache.sweep(now);
        self.show_connections();
        if self.driver.has_stale_waiters() {
            let slots = &self.slots;
            self.driver.sweep_head_waiters(|id| {
                slots.get(*id).is_some_and(|slot| match slot.client.phase() == Phase::ReceivingHead {
                    true => slot.client.holds_buffer(),
                    false => slot.client.holds_part(),
                })
            });
        }
    }

    /// Ensures that the deadline of a connection is acted on no later than `due`.
    fn arm(&mut self, id: ConnId, due: Instant) {
        debug_assert!(
            self.deadlines.is_free_for(id) || self.os.is_wrong(Decision::RemoveDeadline),
            "a closed connection left its deadline behind"
        );
        self.deadlines.arm(id, due);
    }
}
