//! The reactor: one thread, one poll, all connections. It owns the poll, the sockets and the clock.
//!
//! Read [`Reactor::turn`] first: it is the whole loop. Interest is registered once per connection,
//! for both directions, edge-triggered: there is no epoll call after that and no stored copy that
//! could drift. What a connection waits for follows from its state; what the kernel said is kept
//! until a would-block denies it.

mod accept;
mod batch;
mod evict;
pub(crate) mod inspect;
pub mod os;
pub mod slots;
mod stop;
mod watches;

use std::io;
use std::time::{Duration, Instant};

use crate::conn_id::ConnId;
use crate::driver::deadline::DeadlineQueue;
use crate::driver::exchange::Exchange;
use crate::driver::outcome::{OnStop, Outcome};
use crate::driver::pump::Pumped;
use crate::driver::stream::Stream as _;
use crate::driver::{Driver, pump};
use crate::handler::watch::Ready;
use crate::http::{CloseReason, Phase};
use crate::jobs::Done;
use crate::observe::{Activity, Observer};

use accept::Listeners;
use batch::Batch;
use os::{Os, OsEvent};
use slots::{Slots, live};
use stop::Stopping;
use watches::Watches;

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
}
