//! A worker: the thread of one connection, from the accept to the close. Pumps the connection, and
//! waits for the socket, for watched objects or for a wake-up. This file must not know HTTP syntax.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};

use crate::clock::{read_clocks, read_wall_clock};
use crate::config::INBOX_LOOK;
use crate::conn_id::{ConnId, Peer, WatchId};
use crate::docroot::cache::Files;
use crate::driver::Driver;
use crate::driver::client::Client;
use crate::driver::exchange::Exchange;
use crate::driver::pump::{self, Pumped};
use crate::handler::continuation::{Done, Inbox};
use crate::handler::watch::{Descriptor, Ready, Watched};
use crate::http::{CloseReason, Phase};
use crate::jobs::pool::InlineQueue;
use crate::log::AccessBuffer;
use crate::observe::step::Step;
use crate::observe::{Observer, TwinTally};
use crate::sync::lock;
use crate::threads::Twin;
use crate::threads::jobs::TwinQueue;
use crate::threads::reaper::Shared;
use crate::threads::socket::{MAY_CLOSE, SharedConn, TwinStream};

/// The thread of one connection.
pub(super) struct Worker {
    shared: Arc<Shared>,
    conn: Arc<SharedConn>,
    id: ConnId,
    client: Client,
    stream: TwinStream,
    driver: Driver<TwinTally>,
    /// Watched objects of the current request, and those of earlier requests that are not over.
    watched: Vec<Arc<dyn Watched>>,
    /// Both sides of the socket are shut, so nothing that is sent arrives.
    peer_closed: bool,
}

impl Worker {
    /// Creates a worker on the heap. Out of line, so that temporary copies do not enlarge the stack
    /// of the thread.
    #[inline(never)]
    pub(super) fn new(
        twin: &Twin,
        shared: &Arc<Shared>,
        conn: Arc<SharedConn>,
        id: ConnId,
        peer: Peer,
    ) -> Box<Self> {
        // Weak references, because a waker of this connection must not keep its socket open.
        let (wake_up, interrupted) = (Arc::downgrade(&conn), Arc::downgrade(&conn));
        let inbox = Inbox::new(Box::new(move || {
            if let Some(conn) = wake_up.upgrade() {
                conn.wake_up.notify();
            }
            Ok(())
        }));
        let inbox = Arc::new(inbox.interrupted_by(move || {
            if let Some(conn) = interrupted.upgrade() {
                conn.evict();
            }
        }));
        let now = read_clocks();
        let access = twin.access.clone().map(|queue| AccessBuffer::new(queue, twin.config.log_format));
        let mut driver = Driver::new(
            Arc::clone(&twin.config),
            Arc::clone(&twin.handler),
            Box::new(Files::Shared(Arc::clone(&twin.files))),
            Box::new(TwinQueue {
                inner: InlineQueue::new(inbox, Arc::clone(&twin.pool)),
                shared: Arc::clone(shared),
                conn: Arc::clone(&conn),
                answer_timeout: twin.config.timeouts.answer,
            }),
            access,
            shared.tally(id),
            now,
        );
        driver.stopping = Arc::clone(&shared.stopping);
        driver.scratch_is_shared = false;
        Box::new(Worker {
            shared: Arc::clone(shared),
            id,
            client: Client::new(peer, now.mono),
            stream: TwinStream { conn: Arc::clone(&conn), may_wait: false, woke_at: None },
            conn,
            driver,
            watched: Vec::new(),
            peer_closed: false,
        })
    }

    /// Serves the connection until it ends, then finishes its watched objects.
    pub(super) fn run(mut self: Box<Self>) {
        let mut wait = Pumped::Blocked;
        let reason = loop {
            let phase = self.client.phase();
            // A connection that waits for its first byte may be closed by a stop, like an idle one.
            let idle = self.client.conn.is_idle() && !self.client.is_queued();
            let shown = phase as u8 | if idle { MAY_CLOSE } else { 0 };
            self.show_pace(phase);
            self.shared.publish(self.id, &self.conn, shown, self.client.deadline(&self.driver.config));
            if idle && self.shared.stopping.load(Ordering::SeqCst) {
                break CloseReason::Shutdown;
            }
            self.stream.may_wait = false;
            if wait == Pumped::Blocked && phase == Phase::Lingering && !self.wants_read() {
                self.wait_for_hang_up();
                match pump::expire(&mut self.client, &mut self.stream, &mut self.driver, self.id) {
                    Pumped::Closed(reason) => break reason,
                    Pumped::Blocked | Pumped::Yielded => continue,
                }
            }
            if wait == Pumped::Blocked {
                self.wait_for(phase);
            }
            if self.client.is_waiting() && self.conn.take_expired() {
                // The response is late. The pump would notice only at the next read or write.
                self.client.ready.writable = true;
                wait = pump::expire(&mut self.client, &mut self.stream, &mut self.driver, self.id);
                match wait {
                    Pumped::Closed(reason) => break reason,
                    Pumped::Blocked | Pumped::Yielded => continue,
                }
            }
            let is_served_for = matches!(phase, Phase::Handling | Phase::Streaming);
            if self.peer_closed && (is_served_for || self.client.is_waiting()) {
                break CloseReason::PeerReset;
            }
            self.client.ready.readable = true;
            self.client.ready.writable = true;
            wait = pump::pump(&mut self.client, &mut self.stream, &mut self.driver, self.id);
            if let Some(access) = &mut self.driver.access {
                // The thread may sleep now, but log lines must not wait.
                access.flush_early();
            }
            if let Pumped::Closed(reason) = wait {
                break reason;
            }
            self.register_watch();
            // An abandoned object stays in the list of the worker, and advances with the others.
            self.driver.abandoned.clear();
            if !self.watched.is_empty() && self.advance(&[]).1 {
                wait = Pumped::Yielded;
            }
        };
        log::debug!("{} closed: {}", self.id, reason.name());
        let id = self.id;
        self.driver.observer.step(|| Step::Close { id, reason });
        Exchange::new(&mut self.client, &mut self.driver, self.id, 0).log_answers(true, read_wall_clock);
        if let Some(access) = &mut self.driver.access {
            access.flush_early();
        }
        self.shared.unregister(self.id);
        let watched = std::mem::take(&mut self.watched);
        // Closes the socket before the watched objects are finished, so that the peer receives the
        // end at once.
        drop(self);
        finish_watched(watched);
    }

    /// Publishes when the phase began and how fast content arrives. Evictions use both.
    fn show_pace(&self, phase: Phase) {
        let since = self.shared.nanoseconds(self.client.conn.since());
        self.conn.since.store(since, Ordering::SeqCst);
        if phase == Phase::ReceivingBody {
            *lock(&self.conn.pace) = self.client.pace();
        }
    }

    /// Adds an object that the connection has begun to watch to the list of the worker.
    fn register_watch(&mut self) {
        if let Some(watch) = self.client.watch().filter(|watch| watch.name.is_none()) {
            // Any name will do, because the worker finds objects by its list.
            watch.name = Some(WatchId::new(0, 0));
            self.watched.push(Arc::clone(&watch.watched));
        }
    }

    /// Advances all watched objects, each with its ready descriptors. Returns the earliest
    /// deadline, and whether there is a result or more work.
    fn advance(&mut self, ready: &[Ready]) -> (Option<Instant>, bool) {
        let Advance { due, again, done } = advance(&mut self.watched, ready, self.driver.now.mono);
        let is_news = again || !done.is_empty();
        for done in done {
            Exchange::new(&mut self.client, &mut self.driver, self.id, 1).complete(done);
        }
        (due, is_news)
    }

    /// Waits for the socket, the watched objects and, while streaming, the wake-up of the body
    /// source. All three, because an object left over from an earlier request must not hide an
    /// event of this one.
    fn wait_beside(&mut self, phase: Phase) {
        let socket = match phase {
            Phase::Sending => PollFlags::OUT,
            Phase::ReceivingBody if !self.client.is_waiting() => PollFlags::IN,
            Phase::Idle | Phase::ReceivingHead | Phase::Lingering => PollFlags::IN,
            // A peer that has shut its side still gets its response. Only a reset matters, and poll
            // always reports that.
            Phase::ReceivingBody | Phase::Handling | Phase::Streaming | Phase::Closed => PollFlags::empty(),
        };
        let (due, is_news) = self.advance(&[]);
        if is_news {
            return;
        }
        let conn = Arc::clone(&self.conn);
        let needs_wake_up = self.needs_wake_up(phase);
        let wake_up = if needs_wake_up { conn.wake_up.event() } else { None };
        let mut others = vec![(conn.socket.as_fd(), socket)];
        others.extend(wake_up.map(|wake_up| (wake_up.as_fd(), PollFlags::IN)));
        let look = needs_wake_up.then(|| read_clocks().mono + INBOX_LOOK);
        let (events, ready) = poll_watched(&self.watched, &others, due.into_iter().chain(look).min());
        self.driver.now = read_clocks();
        self.advance(&ready);
        if needs_wake_up && conn.wake_up.take() {
            self.take_wake_ups();
        }
        // No longer idle. From here on a stop must not shut the reading half.
        self.conn.phase.store(Phase::Handling as u8, Ordering::SeqCst);
        self.peer_closed = events[0].intersects(PollFlags::HUP | PollFlags::ERR);
    }

    /// Waits for whatever the phase requires. A worker waits only here and in the read of the pump.
    fn wait_for(&mut self, phase: Phase) {
        let needs_wake_up = self.needs_wake_up(phase);
        let can_poll = !needs_wake_up || self.conn.wake_up.event().is_some();
        // A result may arrive before the first look at its watched object. That object is over
        // then, but the flag was set.
        let is_beside = !self.watched.is_empty() || (needs_wake_up && phase != Phase::Streaming);
        if is_beside && (can_poll || phase != Phase::Streaming) {
            return self.wait_beside(phase);
        }
        match phase {
            Phase::Sending => {
                let mut fds = [PollFd::new(&self.conn.socket, PollFlags::OUT)];
                // If a signal interrupted the poll, the pump finds out.
                let _ = poll(&mut fds, None);
                self.driver.now = read_clocks();
            }
            Phase::Streaming => {
                self.conn.wake_up.wait();
                self.driver.now = read_clocks();
                self.take_wake_ups();
            }
            Phase::Idle
            | Phase::ReceivingHead
            | Phase::ReceivingBody
            | Phase::Handling
            | Phase::Lingering
            | Phase::Closed => self.stream.may_wait = true,
        }
    }

    /// Returns true if the protocol can use more input.
    fn wants_read(&self) -> bool {
        self.client.conn.wants_read(&self.driver.config.limits)
    }

    /// Waits until the peer has closed or the reaper has shut the reading half. After a refusal
    /// enough input was discarded, so only the end matters.
    fn wait_for_hang_up(&mut self) {
        let mut fds = [PollFd::new(&self.conn.socket, PollFlags::RDHUP)];
        while poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
        self.driver.now = read_clocks();
    }

    /// Returns true if a wake-up brings the next step of the response: more content of a source, or
    /// the result of a shared job. Otherwise a watched object brings that step.
    fn needs_wake_up(&mut self, phase: Phase) -> bool {
        let brings_answer = self.client.watch().map(|watch| watch.watched.brings_answer());
        match phase {
            Phase::Streaming => brings_answer != Some(true),
            _ if self.client.is_waiting() => brings_answer == Some(false),
            Phase::Idle
            | Phase::ReceivingHead
            | Phase::ReceivingBody
            | Phase::Handling
            | Phase::Sending
            | Phase::Lingering
            | Phase::Closed => false,
        }
    }

    /// Applies the results in the inbox, and ends endless content during a stop.
    fn take_wake_ups(&mut self) {
        let mut done = Vec::new();
        lock_inbox(&self.driver, &mut done);
        for (id, result) in done {
            Exchange::new(&mut self.client, &mut self.driver, id, 1).complete(result);
        }
        if self.shared.stopping.load(Ordering::SeqCst) {
            Exchange::new(&mut self.client, &mut self.driver, self.id, 0).end_endless();
        }
    }
}

/// The result of advancing all watched objects.
struct Advance {
    /// The earliest deadline of the objects.
    due: Option<Instant>,
    /// True if one of them has more work to do at once.
    again: bool,
    /// Results for the connection.
    done: Vec<Done>,
}

/// Advances all watched objects, each with its ready descriptors, and removes those that are over.
fn advance(watched: &mut Vec<Arc<dyn Watched>>, ready: &[Ready], now: Instant) -> Advance {
    let mut all = Advance { due: None, again: false, done: Vec::new() };
    let mut ready = ready.iter().copied();
    watched.retain(|watched| {
        let advanced = Arc::clone(watched).advance(ready.next().unwrap_or_default(), now);
        all.again |= advanced.again;
        all.done.extend(advanced.done);
        if !advanced.is_over {
            all.due = all.due.into_iter().chain(advanced.due).min();
        }
        !advanced.is_over
    });
    all
}

/// Waits until one of `others` or a watched object is ready, or until `due`. Returns the events of
/// `others` and the ready descriptors of the objects.
fn poll_watched(
    watched: &[Arc<dyn Watched>],
    others: &[(BorrowedFd<'_>, PollFlags)],
    due: Option<Instant>,
) -> (Vec<PollFlags>, Vec<Ready>) {
    let descriptors: Vec<(usize, Descriptor)> = (0..)
        .zip(watched)
        .flat_map(|(at, watched)| watched.descriptors().into_iter().map(move |descriptor| (at, descriptor)))
        .filter(|(_, descriptor)| !descriptor.is_ready)
        .collect();
    let mut fds: Vec<PollFd<'_>> =
        others.iter().map(|(other, flags)| PollFd::from_borrowed_fd(*other, *flags)).collect();
    fds.extend(descriptors.iter().map(|(_, descriptor)| {
        PollFd::new(&*descriptor.fd, if descriptor.writes { PollFlags::OUT } else { PollFlags::IN })
    }));
    let wait = due.map(|due| due.saturating_duration_since(read_clocks().mono));
    let timeout = wait.and_then(|wait| rustix::event::Timespec::try_from(wait).ok());
    // If a signal interrupted the poll, the next advance finds out.
    let _ = poll(&mut fds, timeout.as_ref());
    let (events, of_watched) = fds.split_at(others.len());
    let mut ready = vec![Ready::default(); watched.len()];
    for ((at, descriptor), fd) in descriptors.iter().zip(of_watched) {
        if !fd.revents().is_empty() {
            ready[*at] = ready[*at].with(descriptor.number);
        }
    }
    (events.iter().map(PollFd::revents).collect(), ready)
}

/// Finishes the watched objects of a connection that is closed.
fn finish_watched(mut watched: Vec<Arc<dyn Watched>>) {
    let mut ready = Vec::new();
    loop {
        let Advance { due, again, .. } = advance(&mut watched, &ready, read_clocks().mono);
        if watched.is_empty() {
            return;
        }
        ready.clear();
        if !again {
            ready = poll_watched(&watched, &[], due).1;
        }
    }
}

/// Takes the results out of the inbox.
fn lock_inbox(driver: &Driver<TwinTally>, done: &mut Vec<(ConnId, Done)>) {
    driver.jobs.inbox().take(done);
}
