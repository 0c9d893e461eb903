//! The simulated operating system: poll, sockets and job queue over the [`World`].
//!
//! It keeps the promises of the kernel and no others. This file must not know what a correct
//! response is.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Instant, Now};
use crate::conn_id::{ConnId, Peer, WatchId};
use crate::driver::decision::{Decision, WrongDecisions};
use crate::driver::stream::{FilePart, IfCold, SentFile, Stream};
use crate::handler::continuation::{Continuation, Done, Inbox, Job, Ticket};
use crate::handler::watch::Watched;
use crate::http::open_file::Fd;
use crate::http::send_queue::More;
use crate::jobs::{self, JobQueue, Lane, Ran, RouteName, Spawn, StillBusy, Task, TicketState};
use crate::observe::StepSink;
use crate::observe::step::{Fact, TimedStep};
use crate::reactor::os::{Os, OsEvent};
use crate::shortage::EMFILE;
use crate::sim::world::{PIPE_BYTES, PendingJob, PendingWork, Shared, World, is_broken, pattern};
use crate::sync::lock;

/// Within this time a loop that could not accept must try again.
const RETRY_WITHIN: Duration = Duration::from_millis(100);

/// Longest delay of a wake-up of the loop, in nanoseconds.
const LATE_NS_MAX: u64 = 2_000_000;

/// The operating system that is generated from a seed.
#[derive(Debug)]
pub struct SimOs {
    pub(super) world: Shared,
    pub(super) origin: Instant,
    pub(super) inbox: Arc<Inbox>,
}

impl SimOs {
    pub(super) fn new(world: Shared, origin: Instant) -> Self {
        let bell = Arc::clone(&world);
        // No lock is held here, because jobs and wakers run outside the lock of the world.
        let inbox = Arc::new(Inbox::new(Box::new(move || lock(&bell).wake_up())));
        SimOs { world, origin, inbox }
    }

    /// Runs the jobs that are due. Their results go through the inbox.
    fn run_jobs(&mut self) {
        loop {
            let pending = {
                let mut world = lock(&self.world);
                let now = world.now_ns;
                let Some(at) = world.jobs.iter().position(|job| job.due_ns <= now) else { return };
                let pending = world.jobs.remove(at);
                world.note(Fact::JobEnds(pending.id));
                pending
            };
            let id = pending.id;
            let done = match pending.work {
                PendingWork::Job(job) => std::panic::catch_unwind(std::panic::AssertUnwindSafe(job))
                    .map_or(Done::Panicked, Done::Finished),
                PendingWork::Task(task) => {
                    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(task)));
                    Done::Woken
                }
            };
            self.inbox.put(id, done);
        }
    }
}

impl Os for SimOs {
    type Stream = SimStream;

    fn poll(&mut self, events: &mut Vec<OsEvent>, timeout: Option<Duration>) -> io::Result<()> {
        let limit = {
            let world = lock(&self.world);
            if world.is_work_left && timeout != Some(Duration::ZERO) {
                return Err(io::Error::other("the poll may wait although connections are carried"));
            }
            // A loop without slots or descriptors must try again soon, because no edge reports
            // them.
            let comes_back = timeout.is_some_and(|wait| wait <= RETRY_WITHIN);
            if world.listening && !world.backlog.is_empty() && !world.listener_edge && !comes_back {
                return Err(io::Error::other("clients wait to be accepted and no event will report them"));
            }
            timeout
                .map(|wait| world.now_ns.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
        };
        loop {
            self.run_jobs();
            let has_news = self.inbox.has_news();
            let mut world = lock(&self.world);
            world.look(has_news);
            world.act();
            world.take_events(events);
            if !events.is_empty() || limit.is_some_and(|limit| world.now_ns >= limit) {
                // Every turn takes a little time.
                world.now_ns += 1000;
                return Ok(());
            }
            let due = world.next_due().map(|due| due.max(world.now_ns + 1));
            match (due, limit) {
                (Some(due), limit) => {
                    // The loop is not woken at once. More events arrive in the meantime, which
                    // makes batches.
                    let late =
                        if world.fault("late_wake_up", 300) { world.rng.below(LATE_NS_MAX) } else { 0 };
                    world.now_ns = (due + late).min(limit.unwrap_or(u64::MAX));
                }
                (None, Some(limit)) => world.now_ns = limit,
                // No further event will come. The caller checks whether that is right.
                (None, None) => return Ok(()),
            }
        }
    }

    fn now(&mut self) -> Now {
        now_in(&self.world, self.origin)
    }

    fn listeners(&self) -> usize {
        1
    }

    fn has_client(&mut self, _listener: usize) -> bool {
        !lock(&self.world).backlog.is_empty()
    }

    fn accept(&mut self, _listener: usize) -> io::Result<(SimStream, Peer)> {
        let mut world = lock(&self.world);
        if !world.listening || world.backlog.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if world.open >= world.open_max {
            world.coverage.note("fault", "no_descriptors");
            world.note(Fact::Fault("no_descriptors"));
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        if world.fault("accept_aborted", 10) {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let Some(at) = world.backlog.pop_front() else { return Err(ErrorKind::WouldBlock.into()) };
        world.open += 1;
        let wrong = world.wrong;
        world.conns[at].accepted = true;
        if let Some(record) = &mut world.record {
            record.accepting = Some(at as u32);
        }
        Ok((
            SimStream { world: Arc::clone(&self.world), at, origin: self.origin, wrong },
            Peer::V4([127, 0, 0, 1], at as u16),
        ))
    }

    fn register(&mut self, stream: &mut SimStream, id: ConnId) -> io::Result<()> {
        let mut world = lock(&self.world);
        let conn = &mut world.conns[stream.at];
        conn.id = Some(id);
        // Readiness that exists already is reported, including room to write.
        conn.edge_read |= !conn.inbound.is_empty() || conn.client_fin || conn.client_reset;
        conn.edge_closed |= conn.client_fin || conn.client_reset;
        conn.edge_write |= !conn.write_blocked;
        Ok(())
    }

    fn watch(&mut self, watched: &dyn Watched, id: WatchId) -> io::Result<()> {
        let descriptors = watched.descriptors();
        debug_assert!(descriptors.is_empty(), "simulated programs have no descriptors");
        let mut world = lock(&self.world);
        let at = world.asked_for;
        let Some(watch) = world.watches.get_mut(at).filter(|watch| watch.id.is_none() && !watch.is_over)
        else {
            return Err(io::Error::other("an unknown program is watched"));
        };
        watch.id = Some(id);
        Ok(())
    }

    fn close_listeners(&mut self) {
        let mut world = lock(&self.world);
        world.listening = false;
        let left: Vec<usize> = world.backlog.drain(..).collect();
        for at in left {
            world.conns[at].server_closed = true;
            world.conns[at].server_reset = true;
        }
    }

    fn job_queue(&mut self) -> Box<dyn JobQueue<Continuation>> {
        Box::new(SimQueue { world: Arc::clone(&self.world), inbox: Arc::clone(&self.inbox) })
    }

    fn is_wrong(&self, decision: Decision) -> bool {
        lock(&self.world).wrong.contains(decision)
    }
}

/// Passes the steps of the loop to the record in the world. Its clock is that of the world.
#[derive(Debug)]
pub(super) struct RecordSink(pub(super) Shared);

impl StepSink for RecordSink {
    fn now_ns(&mut self) -> u64 {
        lock(&self.0).now_ns
    }

    fn put(&mut self, step: TimedStep) {
        if let Some(record) = &mut lock(&self.0).record {
            record.push(step);
        }
    }
}

/// Takes jobs and tasks, and delays them as the seed decides.
#[derive(Clone)]
pub(super) struct SimQueue {
    pub(super) world: Shared,
    pub(super) inbox: Arc<Inbox>,
}

impl JobQueue<Continuation> for SimQueue {
    fn submit(&mut self, id: ConnId, _lane: Lane, _route: RouteName, job: Job) -> Result<Ticket, Job> {
        let mut world = lock(&self.world);
        if world.fault("refused_job", 10) {
            return Err(job);
        }
        let late = world.fault("late_job", 60);
        let delay =
            if late { 200_000_000 + world.rng.below(60_000_000_000) } else { world.rng.below(3_000_000) };
        let due_ns = world.now_ns + delay;
        if world.wrong.contains(Decision::OffloadSlowWork) {
            world.now_ns = due_ns;
            drop(world);
            return Ok(jobs::Ticket(TicketState::Done(job())));
        }
        world.jobs.push(PendingJob { due_ns, id, work: PendingWork::Job(job) });
        Ok(Ticket::pending())
    }

    fn cancel(&mut self, id: ConnId) -> Option<StillBusy> {
        lock(&self.world).jobs.retain(|job| job.id != id);
        None
    }

    fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    fn spawner(&self) -> Arc<dyn Spawn> {
        Arc::new(self.clone())
    }
}

impl Spawn for SimQueue {
    fn run(&self, id: ConnId, _lane: Lane, task: Task) -> Ran {
        let mut world = lock(&self.world);
        if world.rng.chance(100) {
            drop(world);
            task();
            return Ran::Inline;
        }
        let due_ns = world.now_ns + world.rng.below(30_000_000);
        world.jobs.push(PendingJob { due_ns, id, work: PendingWork::Task(task) });
        Ran::Queued
    }

    fn detach(&self, lane: Lane, task: Task) {
        let (Ran::Inline | Ran::Queued) = self.run(ConnId::new(0, 0), lane, task);
    }
}

/// The server side of a simulated socket.
#[derive(Debug)]
pub struct SimStream {
    pub(super) world: Shared,
    pub(super) at: usize,
    origin: Instant,
    wrong: WrongDecisions,
}

impl SimStream {
    /// Returns the room for output, or an error if the client has reset.
    pub(super) fn room(world: &mut World, at: usize) -> io::Result<usize> {
        if world.fault("interrupted_write", 20) {
            return Err(ErrorKind::Interrupted.into());
        }
        let conn = &mut world.conns[at];
        if conn.client_reset {
            conn.reset_told = true;
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = PIPE_BYTES.saturating_sub(conn.outbound.len());
        if room == 0 {
            conn.write_blocked = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if world.fault("would_block_write", 50) {
            // The kernel was short of memory. An edge follows when it has some again.
            world.conns[at].edge_write = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if room > 1 && world.fault("short_write", 100) {
            return Ok(1 + world.rng.below(room as u64 - 1) as usize);
        }
        Ok(room)
    }

    /// Notes a write of `sent` out of `asked` bytes. After a short write, an edge comes when there
    /// is room.
    fn wrote(world: &mut World, at: usize, sent: usize, asked: usize) {
        if sent < asked {
            let conn = &mut world.conns[at];
            if conn.outbound.len() >= PIPE_BYTES / 2 {
                conn.write_blocked = true;
            } else {
                conn.edge_write = true;
            }
        }
    }
}

impl Stream for SimStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let mut world = lock(&self.world);
        if world.fault("interrupted_read", 20) {
            return Err(ErrorKind::Interrupted.into());
        }
        if world.conns[at].client_reset {
            let told = std::mem::replace(&mut world.conns[at].reset_told, true);
            return if told { Ok(0) } else { Err(ErrorKind::ConnectionReset.into()) };
        }
        let there = world.conns[at].inbound.len();
        if there == 0 {
            if !world.conns[at].client_fin {
                return Err(ErrorKind::WouldBlock.into());
            }
            return Ok(0);
        }
        if world.fault("would_block_read", 50) {
            world.conns[at].edge_read = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut take = there.min(into.len());
        if take > 1 && world.fault("short_read", 150) {
            // The rest arrives a moment later with its own edge, unless the end was already
            // reported.
            take = 1 + world.rng.below(take as u64 - 1) as usize;
            let conn = &mut world.conns[at];
            if !conn.client_fin {
                conn.edge_read = true;
            }
        }
        for (byte, from) in into.iter_mut().zip(world.conns[at].inbound.drain(..take)) {
            *byte = from;
        }
        Ok(take)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>], _more: More) -> io::Result<usize> {
        let at = self.at;
        let mut world = lock(&self.world);
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        let sent = SimStream::room(&mut world, at)?.min(asked);
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).take(sent);
        world.conns[at].outbound.extend(bytes);
        SimStream::wrote(&mut world, at, sent, asked);
        Ok(sent)
    }

    /// The content of a file is the pattern of its response, whose number is in the upper bits of
    /// the offset. The descriptor itself is never used.
    fn send_file(&mut self, _fd: &Fd, part: FilePart, if_cold: IfCold) -> io::Result<SentFile> {
        let FilePart { offset, len, .. } = part;
        let at = self.at;
        let mut world = lock(&self.world);
        if if_cold == IfCold::Return && world.fault("cold_file", 200) {
            return Ok(SentFile::Cold);
        }
        let (id, first) = (offset >> 40, offset & ((1 << 40) - 1));
        let room = SimStream::room(&mut world, at)?;
        if is_broken(id) && first >= 1000 {
            world.coverage.note("fault", if id % 2 == 0 { "file_shrank" } else { "file_failed" });
            return if id % 2 == 0 { Ok(SentFile::Ended) } else { Err(ErrorKind::Other.into()) };
        }
        let mut sent = room.min(usize::try_from(len).unwrap_or(usize::MAX));
        if is_broken(id) {
            sent = sent.min(1000 - first as usize);
        }
        if (sent as u64) < len {
            world.coverage.note("fault", "short_sendfile");
        }
        world.conns[at].file_bytes += sent as u64;
        world.conns[at].outbound.extend((0..sent as u64).map(|step| pattern(id, first + step)));
        // A short sendfile promises no edge. Only would-block does.
        Ok(SentFile::Bytes(sent as u64))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = lock(&self.world);
        world.conns[self.at].server_fin = true;
        Ok(())
    }

    fn reset_on_close(&mut self) {
        lock(&self.world).conns[self.at].server_reset = true;
    }

    fn wall_clock(&mut self) -> Duration {
        now_in(&self.world, self.origin).wall
    }

    fn is_wrong(&self, decision: Decision) -> bool {
        self.wrong.contains(decision)
    }
}

fn now_in(world: &Shared, origin: Instant) -> Now {
    let passed = Duration::from_nanos(lock(world).now_ns);
    Now { mono: origin + passed, wall: Duration::from_secs(1_700_000_000) + passed }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        world.open -= 1;
        let at = self.at;
        let (now_ns, is_excused) = (world.now_ns, !world.listening || !world.backlog.is_empty());
        let conn = &mut world.conns[at];
        conn.server_closed = true;
        // A client that is idle within its deadline and has sent nothing since. It may only be
        // closed for a new client or during a stop.
        let is_left_alone = conn.idle.is_some_and(|(until, sent)| now_ns < until && conn.sent == sent);
        conn.closed_for_nothing = is_left_alone && !conn.client_fin && !conn.client_reset && !is_excused;
        if conn.server_reset || !conn.inbound.is_empty() {
            // Closing with unread input resets the connection, and output that the client has not
            // read may be lost.
            conn.server_reset = true;
        }
        if let Some(id) = conn.id {
            world.old_ids.push(id);
        }
    }
}
