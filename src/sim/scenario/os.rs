//! The simulated operating system of a scenario: poll, sockets and job queue over its [`World`].
//!
//! This file must not know what a correct response is.

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
use crate::reactor::os::{Os, OsEvent};
use crate::sim::kernel::{End, clocks};
use crate::sim::scenario::world::{Shared, World};
use crate::sim::workers::{HasWorkers as _, WorkerQueue, end_work};
use crate::sync::lock;

/// Duration of one turn without slow work, in nanoseconds.
const TURN_NS: u64 = 1000;

/// Longest delay of a wake-up that a seed adds, in nanoseconds.
const LATE_NS_MAX: u64 = 200_000;

/// The operating system of a scenario.
#[derive(Debug)]
pub(super) struct ScriptOs {
    world: Shared,
    origin: Instant,
    inbox: Arc<Inbox>,
    wrong: WrongDecisions,
}

impl ScriptOs {
    pub(super) fn new(world: Shared, origin: Instant) -> Self {
        let wrong = lock(&world).wrong;
        let bell = Arc::clone(&world);
        let inbox = Arc::new(Inbox::new(Box::new(move || lock(&bell).wake_up())));
        ScriptOs { world, origin, inbox, wrong }
    }
}

/// Checks that clients in the queue of the listener will be accepted.
fn check_backlog(world: &mut World, timeout: Option<Duration>) {
    if let Some(at) = world.listener.forgotten(timeout) {
        let name = world.clients[at].name.clone();
        world.note_symptom(|| format!("{name} waits to be accepted, and no event will report it"));
    }
}

impl Os for ScriptOs {
    type Stream = ScriptStream;

    fn poll(&mut self, events: &mut Vec<OsEvent>, timeout: Option<Duration>) -> io::Result<()> {
        let limit = {
            let mut world = lock(&self.world);
            check_backlog(&mut world, timeout);
            let ns = |wait: Duration| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            timeout.map(|wait| world.now_ns.saturating_add(ns(wait)))
        };
        loop {
            end_work(&self.world, &self.inbox);
            let has_news = self.inbox.has_news();
            let mut world = lock(&self.world);
            world.look(has_news);
            world.act();
            world.take_events(events);
            let now_ns = world.now_ns;
            if !events.is_empty() || limit.is_some_and(|limit| now_ns >= limit) {
                world.set_clock(now_ns + TURN_NS);
                return Ok(());
            }
            world.fork_if_due();
            let due = world.next_due();
            let last = world.until_ns.unwrap_or(u64::MAX);
            let next = due.into_iter().chain(limit).min();
            // Without `until`, a run ends when only timeouts are left.
            let is_left = due.is_some() || world.until_ns.is_some();
            let Some(next) = next.filter(|next| *next <= last && is_left) else {
                world.is_over = true;
                let end = world.until_ns.unwrap_or(now_ns).max(now_ns);
                world.set_clock(end);
                return Ok(());
            };
            let late = if world.chance().hit(300) { world.chance().below(LATE_NS_MAX) } else { 0 };
            world.set_clock((next.max(now_ns + 1) + late).min(limit.unwrap_or(u64::MAX)));
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

    fn accept(&mut self, _listener: usize) -> io::Result<(ScriptStream, Peer)> {
        let mut world = lock(&self.world);
        let at = world.listener.accept()?;
        world.operations += 1;
        lock(&world.record).accepting = Some(at as u32);
        let wrong = self.wrong;
        let stream = ScriptStream { world: Arc::clone(&self.world), at, origin: self.origin, wrong };
        Ok((stream, Peer::V4([127, 0, 0, 1], at as u16)))
    }

    fn register(&mut self, stream: &mut ScriptStream, id: ConnId) -> io::Result<()> {
        let mut world = lock(&self.world);
        let client = &mut world.clients[stream.at];
        client.id = Some(id);
        client.socket.register();
        Ok(())
    }

    fn watch(&mut self, _watched: &dyn Watched, _id: WatchId) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn close_listeners(&mut self) {
        let mut world = lock(&self.world);
        for at in world.listener.close() {
            world.clients[at].socket.server_closes(true);
        }
    }

    fn job_queue(&mut self) -> Box<dyn JobQueue<Continuation>> {
        Box::new(WorkerQueue::new(Arc::clone(&self.world), Arc::clone(&self.inbox)))
    }

    fn is_wrong(&self, decision: Decision) -> bool {
        self.wrong.contains(decision)
    }
}

/// The server's side of a client's connection.
#[derive(Debug)]
pub(super) struct ScriptStream {
    world: Shared,
    at: usize,
    origin: Instant,
    wrong: WrongDecisions,
}

impl Stream for ScriptStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut world = lock(&self.world);
        let is_interrupted = world.chance().hit(20);
        let blocks = world.chance().hit(20);
        let short = if world.chance().hit(100) { Some(1 + world.chance().below(64) as usize) } else { None };
        let client = &mut world.clients[self.at];
        if client.interrupts > 0 || is_interrupted {
            client.interrupts = client.interrupts.saturating_sub(1);
            return Err(ErrorKind::Interrupted.into());
        }
        if blocks && client.socket.unread() > 0 && client.socket.client_end() == End::Open {
            client.socket.delay_input();
            return Err(ErrorKind::WouldBlock.into());
        }
        let asked = into.len();
        let short = if client.socket.unread() > 1 { client.short_reads.pop_front().or(short) } else { None };
        let most = short.unwrap_or(asked).min(asked);
        let got = client.socket.read(&mut into[..most])?;
        if most < asked && client.socket.client_end() == End::Open && client.socket.unread() > 0 {
            // The rest arrives a moment later with its own event.
            client.socket.delay_input();
        }
        world.operations += 1;
        Ok(got)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>], _more: More) -> io::Result<usize> {
        let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
        for slice in slices {
            bytes.extend_from_slice(slice);
        }
        let mut world = lock(&self.world);
        let is_interrupted = world.chance().hit(20);
        let short = if world.chance().hit(50) { Some(1 + world.chance().below(200) as usize) } else { None };
        let client = &mut world.clients[self.at];
        if is_interrupted {
            return Err(ErrorKind::Interrupted.into());
        }
        if client.write_blocks > 0 && client.socket.client_end() != End::Reset {
            client.write_blocks -= 1;
            client.socket.block_write();
            return Err(ErrorKind::WouldBlock.into());
        }
        let most = short.unwrap_or(bytes.len()).min(bytes.len());
        let sent = client.socket.write(&bytes[..most])?;
        if sent == most && most < bytes.len() {
            client.socket.block_write();
        }
        world.operations += 1;
        Ok(sent)
    }

    fn send_file(&mut self, _fd: &Fd, _part: FilePart, _if_cold: IfCold) -> io::Result<SentFile> {
        Err(ErrorKind::Unsupported.into())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = lock(&self.world);
        world.operations += 1;
        world.clients[self.at].socket.server_shuts();
        Ok(())
    }

    fn reset_on_close(&mut self) {
        lock(&self.world).clients[self.at].resets_on_close = true;
    }

    fn wall_clock(&mut self) -> Duration {
        clocks(lock(&self.world).now_ns, self.origin).wall
    }

    fn is_wrong(&self, decision: Decision) -> bool {
        self.wrong.contains(decision)
    }
}

impl Drop for ScriptStream {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        world.listener.closed();
        world.operations += 1;
        let client = &mut world.clients[self.at];
        client.socket.server_closes(client.resets_on_close);
    }
}
