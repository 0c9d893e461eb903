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
use crate::handler::continuation::{Continuation, Inbox};
use crate::handler::watch::Watched;
use crate::http::open_file::Fd;
use crate::http::send_queue::More;
use crate::jobs::JobQueue;
use crate::observe::StepSink;
use crate::observe::step::{Fact, TimedStep};
use crate::reactor::os::{Os, OsEvent};
use crate::sim::kernel::{End, clocks};
use crate::sim::workers::{HasWorkers as _, WorkerQueue, end_work};
use crate::sim::world::{Shared, World, is_broken, pattern};
use crate::sync::lock;

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
}

impl Os for SimOs {
    type Stream = SimStream;

    fn poll(&mut self, events: &mut Vec<OsEvent>, timeout: Option<Duration>) -> io::Result<()> {
        let limit = {
            let world = lock(&self.world);
            if world.is_work_left && timeout != Some(Duration::ZERO) {
                return Err(io::Error::other("the poll may wait although connections are carried"));
            }
            if world.listener.forgotten(timeout).is_some() {
                return Err(io::Error::other("clients wait to be accepted and no event will report them"));
            }
            timeout
                .map(|wait| world.now_ns.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
        };
        loop {
            end_work(&self.world, &self.inbox);
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
        clocks(lock(&self.world).now_ns, self.origin)
    }

    fn listeners(&self) -> usize {
        1
    }

    fn has_client(&mut self, _listener: usize) -> bool {
        lock(&self.world).listener.has_client()
    }

    fn accept(&mut self, _listener: usize) -> io::Result<(SimStream, Peer)> {
        let mut world = lock(&self.world);
        if world.listener.has_client() && world.fault("accept_aborted", 10) {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let accepted = world.listener.accept();
        if accepted.as_ref().is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
            world.coverage.note("fault", "no_descriptors");
            world.note(Fact::Fault("no_descriptors"));
        }
        let at = accepted?;
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
        conn.socket.register();
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
        for at in world.listener.close() {
            world.conns[at].socket.server_closes(true);
        }
    }

    fn job_queue(&mut self) -> Box<dyn JobQueue<Continuation>> {
        Box::new(WorkerQueue::new(Arc::clone(&self.world), Arc::clone(&self.inbox)))
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

/// The server side of a simulated socket.
#[derive(Debug)]
pub struct SimStream {
    pub(super) world: Shared,
    pub(super) at: usize,
    origin: Instant,
    wrong: WrongDecisions,
}

impl SimStream {
    /// Returns the largest number of bytes that the next write takes. Less than the room is a
    /// fault.
    fn room(&self, world: &mut World) -> io::Result<usize> {
        if world.fault("interrupted_write", 20) {
            return Err(ErrorKind::Interrupted.into());
        }
        let room = world.conns[self.at].socket.room()?;
        if world.fault("would_block_write", 50) {
            // The kernel was short of memory. An event follows when it has some again.
            world.conns[self.at].socket.block_write();
            return Err(ErrorKind::WouldBlock.into());
        }
        if room > 1 && world.fault("short_write", 100) {
            return Ok(1 + world.rng.below(room as u64 - 1) as usize);
        }
        Ok(room)
    }
}

impl Stream for SimStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let mut world = lock(&self.world);
        if world.fault("interrupted_read", 20) {
            return Err(ErrorKind::Interrupted.into());
        }
        let unread = world.conns[at].socket.unread();
        if unread > 0 && world.fault("would_block_read", 50) {
            world.conns[at].socket.delay_input();
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut most = into.len();
        let there = unread.min(most);
        if there > 1 && world.fault("short_read", 150) {
            most = 1 + world.rng.below(there as u64 - 1) as usize;
            // The rest arrives a moment later with its own event, unless the end was already
            // reported.
            let socket = &mut world.conns[at].socket;
            if socket.client_end() == End::Open {
                socket.delay_input();
            }
        }
        world.conns[at].socket.read(&mut into[..most])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>], _more: More) -> io::Result<usize> {
        let at = self.at;
        let mut world = lock(&self.world);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let most = self.room(&mut world)?.min(bytes.len());
        let socket = &mut world.conns[at].socket;
        let is_full = socket.room()? == most;
        // A full socket notes the bytes that it did not take.
        let sent = socket.write(if is_full { &bytes } else { &bytes[..most] })?;
        if sent < bytes.len() && !is_full {
            socket.block_write();
        }
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
        let room = self.room(&mut world)?;
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
        let bytes: Vec<u8> = (0..sent as u64).map(|step| pattern(id, first + step)).collect();
        // A short sendfile promises no event. Only would-block does.
        let sent = world.conns[at].socket.write(&bytes)?;
        Ok(SentFile::Bytes(sent as u64))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = lock(&self.world);
        let now_ns = world.now_ns;
        let conn = &mut world.conns[self.at];
        conn.shut_ns.get_or_insert(now_ns);
        conn.socket.server_shuts();
        Ok(())
    }

    fn reset_on_close(&mut self) {
        lock(&self.world).conns[self.at].resets_on_close = true;
    }

    fn wall_clock(&mut self) -> Duration {
        clocks(lock(&self.world).now_ns, self.origin).wall
    }

    fn is_wrong(&self, decision: Decision) -> bool {
        self.wrong.contains(decision)
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        let at = self.at;
        world.listener.closed();
        let (now_ns, needs_room) = (world.now_ns, world.needs_room());
        // Closing with unread input resets the connection, and output that the client has not read
        // is lost.
        let is_lost = world.conns[at].socket.unread() > 0 && world.would_lose_last_response(at);
        let conn = &mut world.conns[at];
        conn.lost_last_response |= is_lost;
        // A client that is idle within its deadline and has sent nothing since. It may only be
        // closed for a new client or during a stop.
        let is_left_alone = conn.idle.is_some_and(|(until, sent)| now_ns < until && conn.sent == sent);
        let is_open = conn.socket.client_end() == End::Open;
        conn.closed_for_nothing = is_left_alone && is_open && !needs_room;
        conn.socket.server_closes(conn.resets_on_close);
        if let Some(id) = conn.id {
            world.old_ids.push(id);
        }
    }
}
