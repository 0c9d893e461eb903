//! The simulator: runs the turns of the reactor over an operating system that is generated from a
//! seed.
//!
//! [`SimOs`] takes the part of mio. Its clients send, read, stall, reset and break the protocol as
//! a seeded generator decides. Its sockets follow the rules of `kernel`, and have short reads and
//! writes, would-block, interrupts and resets at any time. Its clock jumps. It keeps the promises
//! of the kernel and no others: an edge comes once, and a short read means that the socket was
//! drained *at that moment*.
//!
//! After every turn the simulator checks the invariants of the loop. At the end it checks that
//! every client received what it was owed: each response once, complete, and in order. The same
//! seed gives the same run, byte for byte.
//!
//! Only in this folder do several parties share one world behind a lock, because it is a test bed
//! and not the server.

pub mod bugs;
mod clients;
mod coverage;
pub mod fate;
mod handler;
pub mod kernel;
mod os;
mod record;
pub mod scenario;
pub mod stepper;
mod verdict;
mod workers;
mod world;
pub mod zoo;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::clients::add_client;
use self::handler::SimHandler;
use self::kernel::KernelListener;
use self::os::RecordSink;
use self::verdict::verdict;
use self::workers::{InboxEvent, Workers};
use self::world::{Rng, Shared, World};
use crate::clock::Instant;
use crate::config::{Config, KIB};
use crate::conn_id::Peer;
use crate::driver::Driver;
use crate::driver::decision::WrongDecisions;
use crate::driver::outcome::{Outcome, Signal};
use crate::driver::pump::FILE_BYTES_FOR_ONE;
use crate::handler::cache::NoCache;
use crate::http::open_file::{Fd, OpenFile};
use crate::http::{CloseReason, Phase};
use crate::jobs::pace::LeastRate;
use crate::jobs::sender_permits::SenderPermits;
use crate::observe::{Detail, LoopTally, Recorder};
use crate::reactor::Reactor;
use crate::reactor::os::Os;
use crate::sync::lock;

pub use self::coverage::{Coverage, FAULTS};
pub use self::os::{SimOs, SimStream};
pub use self::record::Record;

/// One run.
pub struct Simulation {
    reactor: Reactor<SimOs, Recorder<RecordSink, LoopTally>>,
    world: Shared,
    origin: Instant,
    turns: u32,
    turns_min: u32,
    turns_max: u32,
    /// True if the stop signal comes while clients connect; otherwise it comes when all clients are
    /// served.
    stops_busy: bool,
    /// High water mark of the send queue plus the largest response.
    queue_bytes_max: u64,
    /// Largest number of file bytes that one client may be sent in one turn.
    file_bytes_max: u64,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Simulation({} turns)", self.turns)
    }
}

/// A run in which a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The failed check and its time.
    pub what: String,
    /// The steps, if they were recorded.
    pub record: Option<Record>,
}

/// Smallest number of clients in a run.
pub const CLIENTS_MIN: usize = 8;

/// Smallest number of turns in a run.
pub const TURNS_MIN: u32 = 200;

/// A run with more turns than this means that the loop spins.
const TURNS_MAX: u32 = 200_000;

/// Largest number of turns of a loop with a wrong decision.
const WRONG_TURNS_MAX: u32 = 20_000;

/// Record of the steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// The steps are kept for a report. The run takes longer.
    Kept,
    /// No step is recorded.
    Dropped,
}

impl Simulation {
    /// Prepares a run from a seed.
    pub fn new(seed: u64, steps: Steps) -> io::Result<Self> {
        Simulation::with(seed, steps, WrongDecisions::NONE)
    }

    /// Prepares a run like [`Simulation::new`], of a loop that makes some decisions wrongly.
    pub fn with(seed: u64, steps: Steps, wrong: WrongDecisions) -> io::Result<Self> {
        let mut rng = Rng(seed);
        let config = config(&mut rng);
        let count = CLIENTS_MIN + rng.below(10) as usize;
        let tight = rng.chance(250);
        let stops_busy = rng.chance(600);
        let world = World {
            now_ns: 0,
            conns: Vec::new(),
            listener: KernelListener::new(if tight { 3 + rng.below(4) as usize } else { 1000 }),
            // With few workers some jobs wait, and can be cancelled.
            workers: Workers::new(if rng.chance(500) { 2 } else { 1000 }, usize::MAX),
            inbox_event: InboxEvent::default(),
            wake_ups_failing: 0,
            linger_ns: u64::try_from(config.timeouts.linger.as_nanos()).unwrap_or(u64::MAX),
            is_work_left: false,
            made: BTreeSet::new(),
            old_ids: Vec::new(),
            watches: Vec::new(),
            signals: VecDeque::new(),
            coverage: Coverage::default(),
            record: (steps == Steps::Kept).then(Record::new),
            asked_for: 0,
            wrong,
            rng,
        };
        let world = Arc::new(Mutex::new(world));
        let mut ids = 0;
        for _ in 0..count {
            add_client(&world, &mut ids);
        }
        let origin = crate::clock::origin();
        let os = SimOs::new(Arc::clone(&world), origin);
        let file = Arc::new(OpenFile::new(descriptor()?));
        let rate = LeastRate::of(&config.limits, &config.timeouts);
        let permits = SenderPermits::new(if seed.is_multiple_of(2) { 2 } else { 1000 }, rate);
        let handler = Arc::new(SimHandler { world: Arc::clone(&world), file, permits });
        let mut os = os;
        let now = os.now();
        let jobs = os.job_queue();
        let connections_max = config.limits.connections_max;
        let queue_bytes_max = config.limits.send_high_water_bytes as u64 + 70_000;
        // A connection with any budget left may send a whole slice, and a deadline that passes
        // pumps the connection a second time.
        let file_bytes_max = 2 * 2 * FILE_BYTES_FOR_ONE * config.limits.turn_bytes_max as u64;
        let detail = if steps == Steps::Kept { Detail::Operations } else { Detail::Off };
        let observer = Recorder::new(LoopTally::default(), RecordSink(Arc::clone(&world)), detail);
        let mut driver = Driver::new(Arc::new(config), handler, Box::new(NoCache), jobs, None, observer, now);
        // Some runs use the small read buffer of the threads model, so that its code also meets
        // faults.
        driver.scratch_is_shared = !seed.is_multiple_of(4);
        let reactor = Reactor::new(os, driver, connections_max);
        let (turns, turns_min) = (0, TURNS_MIN);
        Ok(Simulation {
            reactor,
            world,
            origin,
            turns,
            turns_min,
            turns_max: if wrong.is_empty() { TURNS_MAX } else { WRONG_TURNS_MAX },
            stops_busy,
            queue_bytes_max,
            file_bytes_max,
        })
    }

    /// Runs turns until every client has received what it was owed and the server has stopped. More
    /// clients are added until the run is long enough.
    pub fn run(mut self) -> Result<Coverage, Failure> {
        let mut ids = 1000;
        let mut stopping = false;
        loop {
            self.turn()?;
            let settled = {
                let world = lock(&self.world);
                world.next_due().is_none() && !world.listener.has_client()
            };
            if self.stops_busy && !stopping && self.turns >= self.turns_min {
                // The signal comes among new clients, so that the stop coincides with their events.
                for _ in 0..6 {
                    add_client(&self.world, &mut ids);
                }
                stopping = true;
                self.signal_within(20_000_000);
                continue;
            }
            if settled && !stopping && self.turns < self.turns_min {
                add_client(&self.world, &mut ids);
                continue;
            }
            let empty = self.reactor.open() == 0;
            if !stopping && (settled || self.turns > 4 * self.turns_min) {
                stopping = true;
                self.signal_within(5_000_000);
                continue;
            }
            match self.reactor.outcome() {
                Some(Outcome::Stopped) if empty => break,
                Some(Outcome::Killed(_)) => {
                    return Err(self.failure("stopped at once, although no second signal came"));
                }
                Some(Outcome::Cut(_)) => {
                    if let Some(idle) = self.reactor.look().find(|seen| seen.phase == Phase::Idle) {
                        return Err(self
                            .failure(&format!("{} was idle and was cut off by the drain timeout", idle.id)));
                    }
                    for conn in &mut lock(&self.world).conns {
                        conn.is_cut_off = !conn.socket.is_closed();
                    }
                    break;
                }
                Some(Outcome::Stopped) | None => {}
            }
            if self.turns > self.turns_max {
                return Err(self.failure("the loop spins: too many turns"));
            }
        }
        self.judge()
    }

    /// Schedules a stop signal within `ns` nanoseconds.
    fn signal_within(&self, ns: u64) {
        let mut world = lock(&self.world);
        let at = world.now_ns + 1 + world.rng.below(ns);
        if world.rng.below(3) > 0 {
            return world.signals.push_back((at, Signal::Terminate));
        }
        // Shell and kernel both report a closed terminal, and a log may be rotated in between.
        let later = at + world.rng.below(ns);
        let signals = [Signal::TerminalClosed, Signal::Reopen, Signal::TerminalClosed];
        world.signals.extend([at, later, later].into_iter().zip(signals));
    }

    /// Runs one turn and checks the invariants.
    fn turn(&mut self) -> Result<(), Failure> {
        self.turns += 1;
        if let Err(error) = self.reactor.turn() {
            return Err(self.failure(&format!("the turn failed: {error}")));
        }
        if let Err(what) = self.check() {
            return Err(self.failure(&what));
        }
        Ok(())
    }

    /// Returns a time in nanoseconds of the simulated clock.
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns a failure with the steps of the run.
    fn failure(&self, what: &str) -> Failure {
        let mut world = lock(&self.world);
        let what = format!("turn {}: {what}", self.turns);
        Failure { what, record: world.record.take() }
    }

    /// Checks everything that must hold after every turn.
    fn check(&self) -> Result<(), String> {
        let mut world = lock(&self.world);
        let open = world.listener.open();
        if open != self.reactor.open() {
            return Err(format!("{open} sockets are open for {} slots", self.reactor.open()));
        }
        if let Some(at) = world.conns.iter().position(|conn| conn.closed_for_nothing) {
            return Err(format!("client {at} was idle and was closed before its time"));
        }
        for (at, conn) in world.conns.iter_mut().enumerate() {
            let bytes = std::mem::take(&mut conn.file_bytes);
            if bytes > self.file_bytes_max {
                return Err(format!("client {at} was sent {bytes} bytes of files in one turn"));
            }
        }
        let due = world.next_due();
        world.is_work_left = false;
        let mut phases = Vec::new();
        let mut buffers = 0;
        let mut collected = 0;
        for seen in self.reactor.look() {
            phases.push(seen.phase);
            buffers += usize::from(seen.holds_buffer);
            collected += seen.collected_bytes;
            let at = self.check_one(&world, &seen, due)?;
            world.is_work_left |= seen.is_carried;
            // Without held input that could still lead to a response.
            let unread = world.conns[at].socket.unread();
            let is_idle = seen.phase == Phase::Idle && !seen.has_work && unread == 0;
            let until = seen.deadline.map_or(u64::MAX, |due| self.nanos(due));
            world.conns[at].idle = is_idle.then_some((until, world.conns[at].sent));
        }
        let (in_use, in_use_bytes, budget, driver_collected) = self.reactor.memory();
        if buffers != in_use || in_use_bytes > budget {
            return Err(format!(
                "{buffers} clients hold buffers, the pool counts {in_use} ({in_use_bytes} of {budget} bytes)"
            ));
        }
        if collected != driver_collected {
            return Err(format!("{collected} bytes are collected, {driver_collected} are counted"));
        }
        let watches = world.watches.iter().filter(|watch| watch.id.is_some() && !watch.is_over).count();
        if watches != self.reactor.watched() {
            return Err(format!("{watches} programs should be watched, and {} are", self.reactor.watched()));
        }
        let carried = self.reactor.watched_carried();
        if carried > watches {
            return Err(format!("{carried} carried of {watches} watched programs: some are listed twice"));
        }
        world.is_work_left |= carried > 0;
        // A program that is carried learns in the next turn that its connection has closed.
        let lost = world.watches.iter().find(|watch| {
            !watch.is_over && !self.reactor.look().any(|seen| seen.id == watch.conn) && watch.due_ns.is_none()
        });
        if let Some(lost) = lost.filter(|_| carried == 0) {
            return Err(format!("the program watched for {} will never be over", lost.conn));
        }
        let counters = self.reactor.counters();
        let told: u64 = self.reactor.gauges().phases.iter().sum();
        let accepted = counters.accepted.get() - counters.closed_total();
        if told != accepted || told != self.reactor.open() as u64 {
            return Err(format!("the gauges count {told} connections, the counters {accepted}"));
        }
        if self.reactor.deadlines_len() > self.reactor.open() {
            return Err("a closed connection left its deadline behind".into());
        }
        for phase in phases {
            world.coverage.note("phase", phase.name());
        }
        Ok(())
    }

    /// Checks one connection after a turn. Returns the index of its client.
    fn check_one(
        &self,
        world: &World,
        seen: &crate::reactor::inspect::Look,
        due: Option<u64>,
    ) -> Result<usize, String> {
        let Peer::V4(_, at) = seen.peer else { return Err("a client without a number".into()) };
        let at = usize::from(at);
        let conn = &world.conns[at];
        let id = seen.id;
        if conn.socket.is_closed() {
            return Err(format!("{id} has a slot and no socket"));
        }
        match (seen.deadline, seen.armed) {
            (Some(deadline), Some(armed)) if armed > deadline => {
                return Err(format!("{id} ({}) has an entry after its deadline", seen.phase.name()));
            }
            (Some(_), None) => return Err(format!("{id} ({}) has no deadline armed", seen.phase.name())),
            _ => {}
        }
        if seen.phase == Phase::Idle && seen.has_work && !seen.is_carried {
            return Err(format!("{id} is idle and holds a record: {}", seen.work));
        }
        if seen.queued_bytes > self.queue_bytes_max {
            return Err(format!("{id} has {} bytes queued", seen.queued_bytes));
        }
        if seen.is_carried {
            return Ok(at);
        }
        if seen.is_resting {
            let is_coming =
                world.workers.work_for(id) || world.workers.has_detached() || world.is_watched_for(id);
            if !is_coming && !world.inbox_event.will_come() {
                return Err(format!("{id} waits for a wake-up that will not come"));
            }
        }
        let may_send = seen.queued_bytes > 0 && seen.is_sendable;
        if may_send && seen.ready.writable {
            return Err(format!("{id} has {} bytes queued, may write and waits", seen.queued_bytes));
        }
        if may_send && !conn.socket.will_report_writable() {
            return Err(format!("{id} has {} bytes queued and no event will come", seen.queued_bytes));
        }
        if seen.can_use_held {
            return Err(format!("{id} holds requests it could answer, and waits"));
        }
        if seen.wants_input && seen.ready.readable {
            return Err(format!("{id} may read, needs input, and waits"));
        }
        let will_report = conn.socket.pending().readable || conn.socket.pending().read_closed;
        if seen.wants_input && conn.socket.has_input() && !will_report {
            return Err(format!("{id} has unread input and no event will report it"));
        }
        if seen.phase == Phase::Handling
            && due.is_none()
            && !world.inbox_event.will_come()
            && !world.is_watched_for(id)
        {
            return Err(format!("{id} waits for a response that nothing makes"));
        }
        Ok(at)
    }

    /// Checks at the end that every client received what it was owed.
    fn judge(self) -> Result<Coverage, Failure> {
        let tight = self.reactor.memory().2 < 64 * KIB;
        let (what, mut coverage) = {
            let mut world = lock(&self.world);
            for at in 0..world.conns.len() {
                let conn = &mut world.conns[at];
                let rest = conn.socket.client_takes(usize::MAX);
                conn.taken.extend_from_slice(&rest);
            }
            let what = (0..world.conns.len()).find_map(|at| {
                verdict(&world.conns[at], &world.made, tight)
                    .err()
                    .map(|why| format!("client {at} {:?}: {why}", world.conns[at].manner))
            });
            let mut coverage = std::mem::take(&mut world.coverage);
            if what.is_none() {
                coverage.record = world.record.take();
            }
            (what, coverage)
        };
        if let Some(what) = what {
            return Err(self.failure(&what));
        }
        let counters = self.reactor.counters();
        for reason in CloseReason::ALL {
            let name = format!("close {}", reason.name());
            *coverage.counts.entry(name).or_default() += counters.closed_for(reason);
        }
        *coverage.counts.entry("total turns".into()).or_default() += u64::from(self.turns);
        *coverage.counts.entry("total clients".into()).or_default() += lock(&self.world).conns.len() as u64;
        Ok(coverage)
    }
}

/// Returns a configuration with small limits, so that the run reaches them.
fn config(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    let limits = &mut config.limits;
    limits.connections_max = if rng.chance(300) { 6 } else { 1000 };
    limits.turn_bytes_max = 1 + rng.below(40_000) as usize;
    limits.turn_requests_max = 1 + rng.below(6) as usize;
    limits.accepts_per_turn = 1 + rng.below(4) as usize;
    limits.deadlines_per_turn = 1 + rng.below(3) as usize;
    limits.send_high_water_bytes = 2000 + rng.below(20_000) as usize;
    limits.send_low_water_bytes = 1000;
    limits.gather_bytes_max = 500;
    limits.file_slice_bytes_max = 7000;
    limits.discard_bytes_max = 3000;
    limits.body_bytes_max = 100_000;
    limits.collect_bytes_max = 30_000;
    limits.linger_bytes_max = 5000;
    limits.spare_records_max = 3;
    config.timeouts.busy = Some(Duration::from_millis(1 + rng.below(3000)));
    limits.pool_bytes_max = if rng.chance(300) { 6 * KIB } else { 1024 * KIB };
    config
}

/// A descriptor for files and pipes of a simulation, which never use it.
#[cfg(feature = "os")]
fn descriptor() -> io::Result<Fd> {
    Ok(std::fs::File::open("/dev/null")?.into())
}

/// A descriptor for files and pipes of a simulation, which never use it.
#[cfg(not(feature = "os"))]
fn descriptor() -> io::Result<Fd> {
    Ok(Fd)
}
