//! The reactor: one thread, one poll, all connections. It owns the poll, the sockets and the clock.
//!
//! Read [`Reactor::turn`] first: it is the whole loop. Interest is registered once per connection,
//! for both directions, edge-triggered: there is no epoll call after that and no stored copy that
//! could drift. What a connection waits for follows from its state; what the kernel said is kept
//! until a would-block denies it.

mod batch;
mod listener;
pub mod os;
pub mod slots;
mod watches;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::conn_id::{ConnId, WatchId};
use crate::driver::Driver;
use crate::driver::client::{Client, Readiness};
use crate::driver::deadline::DeadlineQueue;
use crate::driver::eviction::{EVICTION_IDLE_MIN, LEAVING_SHARE, RELIEF_CONNECTIONS, RELIEF_INTERVAL};
use crate::driver::exchange::Exchange;
use crate::driver::outcome::{OnStop, Outcome};
use crate::driver::pump;
use crate::driver::pump::Pumped;
use crate::driver::signals::Signal;
use crate::driver::stream::Stream as _;
use crate::handler::Peer;
use crate::handler::watch::{Advanced, Ready};
use crate::http::{CloseReason, Phase};
use crate::jobs::Done;
use crate::observe::{Activity, Counters, Gauges, Observer};
use crate::shortage;

use batch::Batch;
use listener::Listeners;
use os::{Os, OsEvent};
use slots::{Slot, Slots};
use watches::Watches;

/// Connections looked at for one to close when a new one needs its slot. A sample of 16 finds one
/// among the idlest eighth with a chance of 88 %, and costs the same at any size.
const EVICTION_SAMPLE: usize = 16;

/// Connections looked at for a slow sender to send away, when a new one needs its slot, or the
/// memory that its content takes.
const SENDER_SAMPLE: usize = 256;

/// Entries of the list of waiting heads that are looked at for one to send away.
const WAITERS_LOOKED_AT: usize = 16;

/// A stop that is under way.
#[derive(Debug)]
struct Stopping {
    cut_at: Instant,
    killed_by: Option<Signal>,
}

/// The loop and all it owns.
pub struct Reactor<S: Os, O> {
    os: S,
    driver: Driver<O>,
    slots: Slots<S::Stream>,
    deadlines: DeadlineQueue,
    listeners: Listeners,
    connections_max: usize,
    /// Counts turns, so that no connection is pumped twice in one.
    turn: u32,
    /// When its poll came back.
    turn_began: Instant,
    events: Vec<OsEvent>,
    done: Vec<(ConnId, Done)>,
    /// Out of budget in the last turn: first thing to do in this one without waiting.
    carried: Vec<ConnId>,
    closed: Vec<ConnId>,
    /// Ready connections on their way through read, answer and send together.
    batch: Batch,
    /// What is watched for connections beside their sockets.
    watches: Watches,
    sample_from: usize,
    /// Slow senders that were sent away. They take their answer, and then their slots are free.
    leaving: Vec<ConnId>,
    /// Descriptors have run out since the last turn.
    is_short: bool,
    /// When connections were closed for that.
    relieved: Option<Instant>,
    stopping: Option<Stopping>,
    on_reopen: Box<dyn Fn() + Send>,
    on_stop: OnStop,
}

/// For how many connections tables have room from the start, at the most.
const ROOM_CONNECTIONS_MAX: usize = 1 << 16;

impl<S: Os, O: Observer> Reactor<S, O> {
    /// A loop over `os` that serves what `driver` says, `connections_max` clients at most.
    pub(crate) fn new(os: S, driver: Driver<O>, connections_max: usize) -> Self {
        let listeners = Listeners::new(os.listeners());
        let room = connections_max.min(ROOM_CONNECTIONS_MAX);
        let turn_began = driver.now.mono;
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
            batch: Batch::default(),
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

    /// Sets the action that opens the logs anew.
    pub(crate) fn on_reopen(&mut self, call: impl Fn() + Send + 'static) {
        self.on_reopen = Box::new(call);
    }

    /// Sets the action that a graceful stop begins with.
    pub(crate) fn on_stop(&mut self, call: OnStop) {
        self.on_stop = call;
    }

    /// Turns until a signal stops it and the last client is served.
    pub fn run(&mut self) -> io::Result<Outcome> {
        crate::log::spare_this_thread();
        loop {
            self.turn()?;
            if let Some(outcome) = self.outcome() {
                return Ok(outcome);
            }
        }
    }

    /// One turn of the loop.
    pub fn turn(&mut self) -> io::Result<()> {
        let before = self.driver.config.turn_lines.then(|| self.counters());
        self.turn = self.turn.wrapping_add(1);
        // 1. Wait for the first event or deadline, or not at all if work was carried. Read the
        //    clocks once.
        let timeout = self.timeout();
        self.events.clear();
        self.driver.observer.enter(Activity::Waiting);
        self.os.poll(&mut self.events, timeout)?;
        self.driver.now = self.os.now();
        self.turn_began = self.driver.now.mono;
        self.driver.observer.enter(Activity::Keeping);
        self.driver.observer.turn(self.events.len());
        let mut carried = std::mem::take(&mut self.carried);
        // 2. Job results, what is watched for connections, and signals: a stop pumps everybody,
        //    with this news in hand.
        self.take_results(&mut carried);
        self.advance_ready(&mut carried);
        self.take_signals();
        // 3. Ready connections in the kernel's order, a batch at a time.
        self.pump_ready();
        // 4. Those that were out of budget last time.
        for id in carried {
            self.look_at_clock();
            self.pump_one(id);
        }
        // 5. Deadlines, after I/O: bytes that came in time count.
        self.expire_due();
        // 6. New clients, last: established ones go first.
        self.free_memory();
        self.free_descriptors();
        self.accept();
        // 7. Free the slots of closed connections; until now their names were still taken.
        self.free_closed();
        for id in std::mem::take(&mut self.driver.let_go) {
            self.advance(id, Ready::default());
        }
        self.keep_house();
        // One more look at the clock, for the whole turn: it shows how long a turn lets others
        // wait.
        let ended = self.os.now().mono;
        let took = ended.saturating_duration_since(self.turn_began);
        self.driver.observer.turned(took);
        self.batch.pace(ended.saturating_duration_since(self.driver.now.mono));
        if let Some(before) = before {
            self.tell_of_turn(&before, took);
        }
        Ok(())
    }

    /// How long the poll may wait.
    fn timeout(&mut self) -> Option<Duration> {
        if !self.carried.is_empty() || self.watches.has_carried() {
            return Some(Duration::ZERO);
        }
        let now = self.driver.now.mono;
        let accept = if self.stopping.is_some() { None } else { self.listeners.due(now) };
        let due = [
            self.deadlines.next(),
            self.watches.next(),
            accept,
            self.driver.access.as_ref().and_then(|access| access.due()),
            self.driver.files.next_sweep(),
            self.stopping.as_ref().map(|stopping| stopping.cut_at),
        ];
        due.into_iter().flatten().min().map(|due| due.saturating_duration_since(now))
    }

    fn take_signals(&mut self) {
        for at in 0..self.events.len() {
            if let OsEvent::Signal(signal) = self.events[at] {
                match signal {
                    Signal::Reopen => {
                        // What was logged so far belongs into the old file.
                        if let Some(access) = &mut self.driver.access {
                            access.flush();
                        }
                        (self.on_reopen)();
                    }
                    // Shell and kernel may both report it; only a person's second signal is a
                    // hurry.
                    Signal::TerminalClosed if self.stopping.is_some() => {}
                    Signal::Interrupt | Signal::Terminate | Signal::Quit | Signal::TerminalClosed => {
                        self.stop(signal);
                    }
                }
            }
        }
    }

    /// Asks for a graceful stop; asked again, for an immediate one.
    pub fn stop(&mut self, signal: Signal) {
        if let Some(stopping) = &mut self.stopping {
            stopping.killed_by = Some(signal);
            return;
        }
        let cut_at = self.driver.now.mono + self.driver.config.timeouts.drain;
        // Who is in the listen queue has connected: accept them all, or closing the listener would
        // reset them.
        let budget = 1 + self.connections_max / self.driver.config.limits.accepts_per_turn.max(1);
        for _ in 0..budget {
            if self.listeners.next(self.driver.now.mono).is_none() {
                break;
            }
            self.accept();
        }
        self.os.close_listeners();
        self.stopping = Some(Stopping { cut_at, killed_by: None });
        self.driver.stopping.store(true, Ordering::Relaxed);
        let all: Vec<ConnId> = self.slots.iter().map(|(id, _)| id).collect();
        for id in all {
            if let Some(slot) = live(&mut self.slots, id) {
                Exchange::new(&mut slot.client, &mut self.driver, id, 0).end_endless();
            }
            // A request that is in the pipe already is answered; who is idle after that is let go.
            self.pump_one(id);
            if self.slots.get(id).is_some_and(|slot| slot.client.conn.is_idle() && !slot.client.is_queued()) {
                self.close(id, CloseReason::Shutdown);
            }
        }
        (self.on_stop)(signal, &self.gauges().phases);
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let stopping = self.stopping.as_ref()?;
        if self.slots.is_empty() {
            return Some(Outcome::Stopped);
        }
        if let Some(signal) = stopping.killed_by {
            return Some(Outcome::Killed(signal));
        }
        (self.driver.now.mono >= stopping.cut_at).then(|| Outcome::Cut(self.slots.len()))
    }

    /// Applies job results. Whom they concern is pumped with the carried ones: an event of this
    /// turn may concern it, too, and a connection is pumped once a turn.
    fn take_results(&mut self, to_pump: &mut Vec<ConnId>) {
        if !self.events.contains(&OsEvent::Inbox) {
            return;
        }
        let mut done = std::mem::take(&mut self.done);
        self.driver.desk.inbox().take(&mut done);
        for (id, result) in done.drain(..) {
            if let Done::Asked(question) = result {
                question(&self.gauges());
                continue;
            }
            if matches!(result, Done::Shortage) {
                self.is_short = true;
                continue;
            }
            let Some(slot) = live(&mut self.slots, id) else {
                self.driver.observer.stale();
                continue;
            };
            let requests = self.driver.config.limits.turn_requests_max;
            Exchange::new(&mut slot.client, &mut self.driver, id, requests).complete(result);
            to_pump.push(id);
        }
        self.done = done;
    }

    /// Has what is watched advance where the kernel said so, or where the last turn left off. Whom
    /// the news concerns is pumped with the carried ones.
    fn advance_ready(&mut self, to_pump: &mut Vec<ConnId>) {
        for (id, ready) in self.watches.take_carried() {
            to_pump.extend(self.advance(id, ready));
        }
        for at in 0..self.events.len() {
            if let OsEvent::Watched { id, ready } = self.events[at] {
                to_pump.extend(self.advance(id, ready));
            }
        }
    }

    /// Has one watched thing advance, unless it has had its share of this turn. Returns its
    /// connection if that is to be pumped.
    fn advance(&mut self, id: WatchId, ready: Ready) -> Option<ConnId> {
        if self.watches.puts_off(id, ready) {
            return None;
        }
        let Some((watched, conn)) = self.watches.get(id) else {
            self.driver.observer.stale();
            return None;
        };
        let now = self.driver.now.mono;
        let advance = std::panic::AssertUnwindSafe(|| watched.advance(ready, now));
        let Ok(Advanced { done, due, again, is_over }) = std::panic::catch_unwind(advance) else {
            self.driver.observer.panicked();
            self.watches.remove(id);
            self.close(conn, CloseReason::HandlerFailed);
            return None;
        };
        if is_over {
            self.watches.remove(id);
        } else if again {
            self.watches.carry(id);
        }
        if let Some(due) = due.filter(|_| !is_over) {
            self.watches.arm(id, due);
        }
        let done = done?;
        let slot = live(&mut self.slots, conn)?;
        Exchange::new(&mut slot.client, &mut self.driver, conn, 0).complete(done);
        if let Some(due) = slot.client.deadline(&self.driver.config) {
            self.deadlines.arm(conn, due);
        }
        Some(conn)
    }

    /// After a connection was pumped: begins to watch what it has newly got, and has it advance,
    /// since the pump may have changed what that waits for.
    fn tend(&mut self, id: ConnId) {
        let Some(slot) = live(&mut self.slots, id) else { return };
        let Some(watch) = slot.client.watch() else { return };
        let name = match watch.name {
            Some(name) => name,
            None => {
                let watched = Arc::clone(&watch.watched);
                let name = self.watches.insert(Arc::clone(&watched), id);
                watch.name = Some(name);
                if let Err(error) = self.os.watch(&*watched, name) {
                    log::error!("cannot watch beside a connection: {error}");
                    self.watches.remove(name);
                    return self.close(id, CloseReason::HandlerFailed);
                }
                name
            }
        };
        if self.advance(name, Ready::default()).is_some() {
            self.carried.push(id);
        }
    }

    fn pump_ready(&mut self) {
        for at in 0..self.events.len() {
            let OsEvent::Ready { id, readable, writable, read_closed, hung_up } = self.events[at] else {
                if let OsEvent::Listener(listener) = self.events[at] {
                    self.listeners.ready(listener);
                }
                continue;
            };
            let Some(slot) = live(&mut self.slots, id) else {
                self.driver.observer.stale();
                continue;
            };
            let ready = &mut slot.client.ready;
            ready.readable |= readable;
            ready.writable |= writable;
            ready.read_closed |= read_closed;
            // Nobody is left to take the answer that is being made.
            let is_served_for = matches!(slot.client.phase(), Phase::Handling | Phase::Streaming);
            if hung_up && (is_served_for || slot.client.is_waiting()) {
                self.close(id, CloseReason::PeerReset);
                continue;
            }
            if slot.pumped_in == self.turn {
                // A stop pumped it before its event was looked at: what the event says must not be
                // lost.
                self.carried.push(id);
                continue;
            }
            self.admit(id, readable);
        }
        self.finish_batch();
    }

    /// Pumps a connection, once a turn at most.
    fn pump_one(&mut self, id: ConnId) {
        let Some(slot) = live(&mut self.slots, id) else {
            self.driver.observer.stale();
            return;
        };
        if slot.pumped_in == self.turn {
            return;
        }
        slot.pumped_in = self.turn;
        let pumped = pump::pump(&mut slot.client, &mut slot.stream, &mut self.driver, id);
        self.after_pump(id, pumped);
    }

    fn after_pump(&mut self, id: ConnId, pumped: Pumped) {
        self.driver.observer.enter(Activity::Keeping);
        let Some(slot) = live(&mut self.slots, id) else { return };
        match pumped {
            Pumped::Closed(reason) => return self.close(id, reason),
            Pumped::Yielded => {
                self.carried.push(id);
                self.driver.observer.carried();
            }
            Pumped::Blocked if !slot.registered => {
                slot.registered = true;
                // Registered only now that a read would block: who sends its request with the
                // connection and closes after the answer never costs an epoll call. What came
                // meanwhile is reported.
                if let Err(error) = self.os.register(&mut slot.stream, id) {
                    log::error!("cannot watch a connection: {error}");
                    return self.close(id, CloseReason::PeerReset);
                }
            }
            Pumped::Blocked => {}
        }
        // In a stop, a connection whose last answer is out is done, whatever it was promised
        // before.
        if self.stopping.is_some()
            && slot.client.conn.is_idle()
            && !slot.client.is_queued()
            && pumped == Pumped::Blocked
        {
            return self.close(id, CloseReason::Shutdown);
        }
        if slot.client.watch().is_some() {
            self.tend(id);
        }
        let Some(slot) = live(&mut self.slots, id) else { return };
        if let Some(due) = slot.client.deadline(&self.driver.config) {
            self.deadlines.arm(id, due);
        }
        if self.driver.pool.is_short() {
            self.evict_slowest_head();
        }
    }

    /// Sends away a client that holds a buffer others need: the one that has waited longest for the
    /// rest of its head, or a slow sender that waits for the rest of a chunk's size.
    fn evict_slowest_head(&mut self) {
        for _ in 0..WAITERS_LOOKED_AT {
            let Some(id) = self.driver.pop_head_waiter() else { return };
            let Some(slot) = live(&mut self.slots, id) else { continue };
            let now = self.driver.now.mono;
            let is_slow = || {
                let (rate, pace) = (self.driver.busy_rate?, slot.client.pace()?);
                rate.missed_by(&pace, now)
            };
            let goes = match slot.client.phase() {
                Phase::ReceivingHead => slot.client.holds_loan(),
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

    /// Content in memory has no room: has the slowest sender of such content give way.
    fn free_memory(&mut self) {
        if std::mem::take(&mut self.driver.is_short_of_memory) {
            self.evict_slowest_sender(Client::is_collecting);
            self.free_closed();
        }
    }

    /// Descriptors have run out somewhere: closes idle connections, so that others can go on.
    fn free_descriptors(&mut self) {
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

    /// Sends away the slowest of some senders below the least rate. Its slot is free when it has
    /// taken its answer, so a few of them may be on their way.
    fn evict_slowest_sender(&mut self, is_one: impl Fn(&Client) -> bool) {
        let Some(rate) = self.driver.busy_rate else { return };
        let slots = &self.slots;
        self.leaving.retain(|id| slots.get(*id).is_some_and(|slot| !slot.closed));
        if self.leaving.len() >= (self.connections_max / LEAVING_SHARE).max(1) {
            return;
        }
        let now = self.driver.now.mono;
        let slowest = slots
            .sample(self.sample_from, SENDER_SAMPLE)
            .filter(|(_, slot)| !slot.closed && is_one(&slot.client))
            .filter_map(|(id, slot)| Some((rate.missed_by(&slot.client.pace()?, now)?, id)))
            .min();
        self.sample_from = self.sample_from.wrapping_add(SENDER_SAMPLE);
        let Some((_, id)) = slowest else { return };
        let Some(slot) = live(&mut self.slots, id) else { return };
        let pumped = pump::evict(&mut slot.client, &mut slot.stream, &mut self.driver, id);
        self.leaving.push(id);
        self.after_pump(id, pumped);
    }

    fn expire_due(&mut self) {
        let now = self.driver.now.mono;
        for _ in 0..self.driver.config.limits.deadlines_per_turn {
            let Some(id) = self.watches.pop_due(now) else { break };
            // Armed again by the advance; whom its news concerns may have been pumped in this turn.
            let to_pump = self.advance(id, Ready::default());
            self.carried.extend(to_pump);
        }
        for _ in 0..self.driver.config.limits.deadlines_per_turn {
            let Some(id) = self.deadlines.pop_due(now) else { return };
            let Some(slot) = live(&mut self.slots, id) else {
                self.driver.observer.stale();
                continue;
            };
            match slot.client.deadline(&self.driver.config) {
                None => {}
                // The entry was early: the connection has moved on since.
                Some(due) if due > now => self.deadlines.arm(id, due),
                Some(_) => {
                    let pumped = pump::expire(&mut slot.client, &mut slot.stream, &mut self.driver, id);
                    self.after_pump(id, pumped);
                }
            }
        }
    }

    fn accept(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.accept_some();
        self.finish_batch();
    }

    fn accept_some(&mut self) {
        let now = self.driver.now.mono;
        for _ in 0..self.driver.config.limits.accepts_per_turn {
            let Some(listener) = self.listeners.next(now) else { return };
            if self.slots.len() >= self.connections_max {
                // Nobody is sent away for a client that is not there.
                if !self.os.has_client(listener) {
                    self.listeners.drained(listener);
                    continue;
                }
                if !self.make_room() {
                    return self.listeners.pause(now);
                }
            }
            match self.os.accept(listener) {
                Ok((stream, peer)) => self.adopt(stream, peer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.listeners.drained(listener),
                // The idlest makes room for the client that waits.
                Err(error) if is_exhaustion(&error) && self.close_idlest() => self.free_closed(),
                Err(error) if is_exhaustion(&error) => {
                    shortage::report();
                    log::warn!("cannot accept: {error}; {} connections are open", self.slots.len());
                    return self.listeners.pause(now);
                }
                // That client has gone again, or a signal came: the next may be fine.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
    }

    fn adopt(&mut self, stream: S::Stream, peer: Peer) {
        let client = Client::new(peer, self.driver.now.mono);
        let id = self.slots.insert(client, stream);
        self.driver.observer.accepted();
        self.admit(id, false);
    }

    /// Closes the idlest of a few idle connections, or else sends away a slow sender. False if
    /// there is no room yet.
    fn make_room(&mut self) -> bool {
        if !self.close_idlest() {
            self.evict_slowest_sender(|_| true);
        }
        self.free_closed();
        self.slots.len() < self.connections_max
    }

    /// Closes the idlest of a few idle connections. False if none of them has been idle for long
    /// enough.
    fn close_idlest(&mut self) -> bool {
        let now = self.driver.now.mono;
        let idlest = self
            .slots
            .sample(self.sample_from, EVICTION_SAMPLE)
            .filter(|(_, slot)| !slot.closed && slot.client.phase() == Phase::Idle)
            .filter(|(_, slot)| now.saturating_duration_since(slot.client.conn.since()) >= EVICTION_IDLE_MIN)
            .min_by_key(|(_, slot)| slot.client.conn.since())
            .map(|(id, _)| id);
        self.sample_from = self.sample_from.wrapping_add(EVICTION_SAMPLE);
        if let Some(id) = idlest {
            self.close(id, CloseReason::Evicted);
        }
        idlest.is_some()
    }

    /// Ends a connection. Its name stays taken until the end of the turn.
    fn close(&mut self, id: ConnId, reason: CloseReason) {
        let Some(slot) = live(&mut self.slots, id) else { return };
        slot.closed = true;
        if slot.client.is_waiting() || slot.client.is_resting() {
            drop(self.driver.desk.cancel(id));
        }
        let mut exchange = Exchange::new(&mut slot.client, &mut self.driver, id, 0);
        exchange.log_answers(true, || slot.stream.wall_clock());
        if let Some(work) = slot.client.work.take() {
            self.driver.release(work);
        }
        log::debug!("{id} closed: {}", reason.name());
        self.driver.observer.closed(reason);
        self.deadlines.remove(id);
        self.closed.push(id);
    }

    fn free_closed(&mut self) {
        if self.closed.is_empty() {
            return;
        }
        for id in self.closed.drain(..) {
            // Dropping the stream closes it, and the kernel takes it off the poll.
            self.slots.remove(id);
        }
        self.listeners.resume();
    }

    /// What is due now and then.
    fn keep_house(&mut self) {
        let now = self.driver.now.mono;
        if let Some(access) = &mut self.driver.access
            && access.due().is_some_and(|due| due <= now)
        {
            access.flush();
        }
        self.driver.files.sweep(now);
        if self.driver.has_stale_waiters() {
            let slots = &self.slots;
            self.driver.sweep_head_waiters(|id| {
                slots.get(*id).is_some_and(|slot| {
                    let waits = match slot.client.phase() == Phase::ReceivingHead {
                        true => slot.client.holds_loan(),
                        false => slot.client.holds_part(),
                    };
                    !slot.closed && waits
                })
            });
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.driver.observer.counters().map(|counters| Counters::clone(counters)).unwrap_or_default()
    }

    /// What this loop holds. The phases are counted now and kept nowhere: some nanoseconds a
    /// connection.
    pub(crate) fn gauges(&self) -> Gauges {
        let mut gauges = self.driver.gauges();
        for (_, slot) in self.slots.iter().filter(|(_, slot)| !slot.closed) {
            gauges.phases[slot.client.phase() as usize] += 1;
        }
        gauges
    }

    /// The line a turn gets with `-vv`.
    fn tell_of_turn(&self, before: &Counters, took: Duration) {
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

/// One connection as the simulator checks it after each turn.
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
    pub(crate) holds_loan: bool,
    /// It holds input that may have whole requests in it, and may use it.
    pub(crate) can_use_held: bool,
    pub(crate) wants_input: bool,
    pub(crate) queued_bytes: u64,
    pub(crate) is_sendable: bool,
    pub(crate) is_resting: bool,
    pub(crate) collected_bytes: usize,
}

impl<S: Os, O: Observer> Reactor<S, O> {
    /// Connections open.
    pub(crate) fn open(&self) -> usize {
        self.slots.len()
    }

    /// What is watched beside the connections.
    pub(crate) fn watched(&self) -> usize {
        self.watches.len()
    }

    /// Names of what is watched that are carried to the next turn.
    pub(crate) fn watched_carried(&self) -> usize {
        self.watches.carried_len()
    }

    /// Deadlines armed.
    pub(crate) fn deadlines_len(&self) -> usize {
        self.deadlines.len()
    }

    /// Loans out, bytes lent, bytes that may be lent, and bytes of collected content.
    pub(crate) fn memory(&self) -> (usize, usize, usize, usize) {
        let budget = self.driver.config.limits.pool_bytes_max;
        (self.driver.pool.loans(), self.driver.pool.lent_bytes(), budget, self.driver.collected_bytes)
    }

    /// Every connection as it stands between two turns.
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
                holds_loan: client.holds_loan(),
                can_use_held: may_parse && (holds_unread || client.conn.is_content_drained()),
                wants_input: may_parse && !holds_unread && client.conn.wants_read(&config.limits),
                queued_bytes,
                is_sendable: client.is_sendable(),
                is_resting: client.is_resting(),
                collected_bytes: work.map_or(0, |work| work.collected_bytes()),
            }
        })
    }
}

/// The connection of this name, unless it is gone or going.
fn live<S>(slots: &mut Slots<S>, id: ConnId) -> Option<&mut Slot<S>> {
    slots.get_mut(id).filter(|slot| !slot.closed)
}

/// Descriptors or memory ran out. `ErrorKind` has no name for these (accept(2)).
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
