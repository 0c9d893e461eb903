//! A worker: the thread of one connection, from its first byte to the close.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};

use crate::clock::{read_clocks, read_wall_clock};
use crate::config::INBOX_LOOK;
use crate::conn_id::Peer;
use crate::conn_id::{ConnId, WatchId};
use crate::driver::Driver;
use crate::driver::client::Client;
use crate::driver::exchange::Exchange;
use crate::driver::pump;
use crate::driver::pump::Pumped;
use crate::files::Files;
use crate::handler::continuation::{Done, Inbox};
use crate::handler::watch::{Descriptor, Ready, Watched};
use crate::http::{CloseReason, Phase};
use crate::jobs::InlineDesk;
use crate::log::AccessBuffer;
use crate::observe::{Observer, TwinTally};
use crate::sync::lock;
use crate::threads::Twin;
use crate::threads::jobs::TwinDesk;
use crate::threads::reaper::Shared;
use crate::threads::socket::{Line, MAY_GO, TwinStream};

/// One connection's thread.
pub(super) struct Worker {
    shared: Arc<Shared>,
    line: Arc<Line>,
    id: ConnId,
    client: Client,
    stream: TwinStream,
    driver: Driver<TwinTally>,
    /// What is watched for this connection, and what of earlier requests is not over yet.
    watched: Vec<Arc<dyn Watched>>,
    /// Both sides of the socket are shut: nothing we send arrives.
    is_alone: bool,
}

impl Worker {
    /// On the heap, and out of line: what is moved about while it is made must not stay on the
    /// thread's stack.
    #[inline(never)]
    pub(super) fn new(
        twin: &Twin,
        shared: &Arc<Shared>,
        line: Arc<Line>,
        id: ConnId,
        peer: Peer,
    ) -> Box<Self> {
        // A waker of this connection must not keep its socket open.
        let (bell, interrupted) = (Arc::downgrade(&line), Arc::downgrade(&line));
        let inbox = Inbox::new(Box::new(move || {
            if let Some(line) = bell.upgrade() {
                line.woken.ring();
            }
            Ok(())
        }));
        let inbox = Arc::new(inbox.interrupted_by(move || {
            if let Some(line) = interrupted.upgrade() {
                line.give_way();
            }
        }));
        let now = read_clocks();
        let access = twin.access.clone().map(|queue| AccessBuffer::new(queue, twin.config.log_format));
        let mut driver = Driver::new(
            Arc::clone(&twin.config),
            Arc::clone(&twin.handler),
            Files::Shared(Arc::clone(&twin.files)),
            Box::new(TwinDesk {
                inner: InlineDesk::new(inbox, Arc::clone(&twin.pool)),
                shared: Arc::clone(shared),
                line: Arc::clone(&line),
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
            stream: TwinStream { line: Arc::clone(&line), may_wait: false, woke_at: None },
            line,
            driver,
            watched: Vec::new(),
            is_alone: false,
        })
    }

    pub(super) fn run(mut self: Box<Self>) {
        let mut wait = Pumped::Blocked;
        let reason = loop {
            let phase = self.client.phase();
            // Whoever waits for a first byte may go when the server stops, like any idle one.
            let idle = self.client.conn.is_idle() && !self.client.is_queued();
            let shown = phase as u8 | if idle { MAY_GO } else { 0 };
            self.show_pace(phase);
            self.shared.publish(self.id, &self.line, shown, self.client.deadline(&self.driver.config));
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
            if self.client.is_waiting() && self.line.take_expired() {
                // The answer is late. The pump would only notice at the next read or write.
                self.client.ready.writable = true;
                wait = pump::expire(&mut self.client, &mut self.stream, &mut self.driver, self.id);
                match wait {
                    Pumped::Closed(reason) => break reason,
                    Pumped::Blocked | Pumped::Yielded => continue,
                }
            }
            let is_served_for = matches!(phase, Phase::Handling | Phase::Streaming);
            if self.is_alone && (is_served_for || self.client.is_waiting()) {
                break CloseReason::PeerReset;
            }
            self.client.ready.readable = !self.client.ready.ended;
            self.client.ready.writable = true;
            wait = pump::pump(&mut self.client, &mut self.stream, &mut self.driver, self.id);
            if let Some(access) = &mut self.driver.access {
                // This thread may sleep next; its lines must not.
                access.flush_early();
            }
            if let Pumped::Closed(reason) = wait {
                break reason;
            }
            if self.tend() {
                wait = Pumped::Yielded;
            }
        };
        log::debug!("{} closed: {}", self.id, reason.name());
        self.driver.observer.closed(reason);
        Exchange::new(&mut self.client, &mut self.driver, self.id, 0).log_answers(true, read_wall_clock);
        if let Some(access) = &mut self.driver.access {
            access.flush_early();
        }
        self.shared.dismiss(self.id);
        let watched = std::mem::take(&mut self.watched);
        // The peer sees the end at once, whatever goes on without it.
        drop(self);
        see_out(watched);
    }

    /// Shows since when it waits, and how fast content comes: for those who need a thread.
    fn show_pace(&self, phase: Phase) {
        let since = self.shared.nanoseconds(self.client.conn.since());
        self.line.since.store(since, Ordering::SeqCst);
        if phase == Phase::ReceivingBody {
            *lock(&self.line.pace) = self.client.pace();
        }
    }

    /// Begins to watch what the connection has newly got, and has all that is watched advance. True
    /// if there is news.
    fn tend(&mut self) -> bool {
        if let Some(watch) = self.client.watch().filter(|watch| watch.name.is_none()) {
            // The list is its own name here: nobody else could be meant.
            watch.name = Some(WatchId::new(0, 0));
            self.watched.push(Arc::clone(&watch.watched));
        }
        self.driver.let_go.clear();
        if self.watched.is_empty() {
            return false;
        }
        self.advance(&[]).1
    }

    /// Has all that is watched advance, each with what has become ready of it. Returns when the
    /// first of them wants to be looked at, and whether there is something for the connection or
    /// more to do at once.
    fn advance(&mut self, ready: &[Ready]) -> (Option<Instant>, bool) {
        let Advance { due, again, done } = advance(&mut self.watched, ready, self.driver.now.mono);
        let is_news = again || !done.is_empty();
        for done in done {
            Exchange::new(&mut self.client, &mut self.driver, self.id, 1).complete(done);
        }
        (due, is_news)
    }

    /// Waits for the socket, as the phase has it, for all that is watched, and for the bell of a
    /// source that is not of that: what an earlier answer has left to be watched must not keep
    /// events from coming, nor the other way round.
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
        let line = Arc::clone(&self.line);
        let rings = self.rings(phase);
        let bell = if rings { line.woken.event() } else { None };
        let mut others = vec![(line.socket.as_fd(), socket)];
        others.extend(bell.map(|bell| (bell.as_fd(), PollFlags::IN)));
        let look = rings.then(|| read_clocks().mono + INBOX_LOOK);
        let (said, ready) = poll_watched(&self.watched, &others, due.into_iter().chain(look).min());
        self.driver.now = read_clocks();
        self.advance(&ready);
        if rings && line.woken.take() {
            self.hear_bell();
        }
        // No longer idle: a stop must leave the reading half alone from here on.
        self.line.phase.store(Phase::Handling as u8, Ordering::SeqCst);
        self.is_alone = said[0].intersects(PollFlags::HUP | PollFlags::ERR);
    }

    /// The one place where a worker waits, other than the read that the pump makes.
    fn wait_for(&mut self, phase: Phase) {
        let rings = self.rings(phase);
        let can_poll = !rings || self.line.woken.event().is_some();
        // A result may come before its watch is looked at. That is over then, but the bell was
        // rung.
        let is_beside = !self.watched.is_empty() || (rings && phase != Phase::Streaming);
        if is_beside && (can_poll || phase != Phase::Streaming) {
            return self.wait_beside(phase);
        }
        match phase {
            Phase::Sending => {
                let mut fds = [PollFd::new(&self.line.socket, PollFlags::OUT)];
                // Interrupted or not, the pump finds out what is what.
                let _ = poll(&mut fds, None);
                self.driver.now = read_clocks();
            }
            Phase::Streaming => {
                self.line.woken.wait();
                self.driver.now = read_clocks();
                self.hear_bell();
            }
            Phase::Idle
            | Phase::ReceivingHead
            | Phase::ReceivingBody
            | Phase::Handling
            | Phase::Lingering
            | Phase::Closed => self.stream.may_wait = true,
        }
    }

    fn wants_read(&self) -> bool {
        self.client.conn.wants_read(&self.driver.config.limits)
    }

    /// Waits until the peer has gone or the reaper has shut the reading half: behind a refusal
    /// enough was read and dropped, and nothing is waited for but the end.
    fn wait_for_hang_up(&mut self) {
        let mut fds = [PollFd::new(&self.line.socket, PollFlags::RDHUP)];
        while poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
        self.driver.now = read_clocks();
    }

    /// Returns true if the bell rings for the next step of the answer: for a source that has more
    /// content, or for a result of shared work. Otherwise a watched thing brings that step.
    fn rings(&mut self, phase: Phase) -> bool {
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

    fn hear_bell(&mut self) {
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

/// What came of an advance of all that is watched.
struct Advance {
    /// When the first of them wants to be looked at.
    due: Option<Instant>,
    /// One of them has more to do at once.
    again: bool,
    /// For the connection.
    done: Vec<Done>,
}

/// Has all that is watched advance, each with what has become ready of it, and forgets what is
/// over.
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

/// Waits until one of `others` is ready, or something watched, or until `due`. Returns what was
/// said of each.
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
    // Interrupted or not, what follows finds out what is what.
    let _ = poll(&mut fds, timeout.as_ref());
    let (said, of_watched) = fds.split_at(others.len());
    let mut ready = vec![Ready::default(); watched.len()];
    for ((at, descriptor), fd) in descriptors.iter().zip(of_watched) {
        if !fd.revents().is_empty() {
            ready[*at] = ready[*at].with(descriptor.number);
        }
    }
    (said.iter().map(PollFd::revents).collect(), ready)
}

/// The connection is gone; sees what was watched for it to its end.
fn see_out(mut watched: Vec<Arc<dyn Watched>>) {
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

fn lock_inbox(driver: &Driver<TwinTally>, done: &mut Vec<(ConnId, Done)>) {
    driver.desk.inbox().take(done);
}
