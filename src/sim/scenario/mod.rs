//! Scenarios: one page of text each, run by the real `Reactor::turn()` over a simulated operating
//! system.
//!
//! [`Scenario::parse`] reads the text, [`Run`] takes its turns, and [`Report`] has every step, the
//! state after each turn, and the first symptom if a check failed. `docs/scenarios.md` describes
//! the language. This folder must not know terminals or pages.
//!
//! ```
//! use whirligig::inside::sim::scenario::{Run, Setup, embedded};
//!
//! let scenario = embedded("stale-answer").unwrap();
//! let report = Run::of(&scenario, Setup::default()).finish();
//! assert_eq!(report.symptom, None);
//! ```

mod check;
mod embedded;
mod expect;
#[cfg(feature = "os")]
mod file;
mod handler;
mod os;
mod parse;
mod record;
mod responses;
mod script;
mod words;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use crate::clock::Instant;
use crate::config::Config;
use crate::conn_id::ConnId;
use crate::driver::Driver;
use crate::driver::decision::WrongDecisions;
use crate::driver::outcome::Outcome;
use crate::handler::cache::NoCache;
use crate::observe::step::{Fact, Step, TimedStep};
use crate::observe::{Detail, LoopTally, Recorder};
use crate::reactor::Reactor;
use crate::reactor::os::Os as _;
use crate::sim::scenario::check::{check, client_of};
use crate::sim::scenario::expect::{ClientFacts, Facts, Judge};
use crate::sim::scenario::handler::Site;
use crate::sim::scenario::os::ScriptOs;
use crate::sim::scenario::record::{Record, RecordSink};
use crate::sim::scenario::responses::Inbound;
use crate::sim::scenario::world::{Shared, World};
use crate::sync::lock;

pub use crate::sim::scenario::embedded::{all, embedded};
pub use crate::sim::scenario::parse::SCENARIO_BYTES_MAX;
pub use crate::sim::scenario::record::{ClientState, ConnectionState, Snapshot, hash_of, text_of};
pub use crate::sim::scenario::responses::Received;
pub use crate::sim::scenario::script::{BugNote, Scenario};
pub use crate::sim::scenario::words::ParseError;
pub use crate::sim::scenario::world::Fork;

/// Turns without any operation after which a loop counts as spinning.
const SPINNING_TURNS: u32 = 200;

/// Variation of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setup {
    /// Decisions to make wrongly.
    pub wrong: WrongDecisions,
    /// Seed for other pieces, times and orders. `None` runs the script as it is written.
    pub seed: Option<u64>,
}

/// The first thing that went wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symptom {
    /// Number of the turn.
    pub turn: u32,
    /// Time in nanoseconds.
    pub at_ns: u64,
    /// One line of text.
    pub what: String,
}

impl std::fmt::Display for Symptom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "turn {}, {}: {}", self.turn, expect::time(self.at_ns), self.what)
    }
}

/// A finished run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Every step of the loop, the kernel and the clients, in order.
    pub steps: Vec<TimedStep>,
    /// The state after each turn.
    pub snapshots: Vec<Snapshot>,
    /// Names of the clients by their numbers.
    pub names: Vec<String>,
    /// Responses that each client received.
    pub received: Vec<Vec<Received>>,
    /// Number of turns.
    pub turns: u32,
    /// The first failed check or expectation; `None` if all were met.
    pub symptom: Option<Symptom>,
    /// Expectations that were not met at the end, if `symptom` came earlier.
    pub consequence: Option<String>,
}

impl Report {
    /// Returns the steps as text, one line for each.
    #[must_use]
    pub fn text(&self) -> String {
        text_of(&self.steps, &self.names)
    }

    /// Returns the hash of that text; see [`hash_of`].
    #[must_use]
    pub fn hash(&self) -> String {
        hash_of(&self.steps, &self.names)
    }
}

type ScriptReactor = Reactor<ScriptOs, Recorder<RecordSink, LoopTally>>;

/// A run of a scenario, turn by turn.
pub struct Run<'a> {
    scenario: &'a Scenario,
    /// True if chance has a part in the run, so that only facts count that always hold.
    is_seeded: bool,
    reactor: ScriptReactor,
    world: Shared,
    record: Arc<Mutex<Record>>,
    origin: Instant,
    turns: u32,
    snapshots: Vec<Snapshot>,
    keeps_snapshots: bool,
    symptom: Option<Symptom>,
    /// Number of responses of each client that were judged.
    judged: Vec<usize>,
    /// Operations counted after the last turn, and the turns since that number changed.
    operations: u64,
    idle_turns: u32,
    is_over: bool,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({} after {} turns)", self.scenario.name, self.turns)
    }
}

impl<'a> Run<'a> {
    /// Prepares a run.
    #[must_use]
    pub fn of(scenario: &'a Scenario, setup: Setup) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let world = World::new(scenario, setup.seed, setup.wrong, Arc::clone(&record));
        let world = Arc::new(Mutex::new(world));
        let origin = crate::clock::origin();
        let mut os = ScriptOs::new(Arc::clone(&world), origin);
        let config = Config {
            limits: scenario.limits.clone(),
            timeouts: scenario.timeouts.clone(),
            ..Config::default()
        };
        let connections_max = config.limits.connections_max;
        let site = Site { routes: scenario.routes.clone(), world: Arc::clone(&world) };
        let (now, jobs) = (os.now(), os.job_queue());
        let observer =
            Recorder::new(LoopTally::default(), RecordSink(Arc::clone(&record)), Detail::Operations);
        let driver =
            Driver::new(Arc::new(config), Arc::new(site), Box::new(NoCache), jobs, None, observer, now);
        let reactor = Reactor::new(os, driver, connections_max);
        Run {
            scenario,
            is_seeded: setup.seed.is_some(),
            reactor,
            world,
            record,
            origin,
            turns: 0,
            snapshots: Vec::new(),
            keeps_snapshots: true,
            symptom: None,
            judged: vec![0; scenario.clients.len()],
            operations: 0,
            idle_turns: 0,
            is_over: false,
        }
    }

    /// Prepares a run that has the steps of `setup` until the one of the fork, and then the chances
    /// of another seed. A fork at step 0 is the run with that seed.
    #[must_use]
    pub fn forked(scenario: &'a Scenario, setup: Setup, fork: Fork) -> Self {
        let run = Run::of(scenario, setup);
        lock(&run.world).fork_at(fork);
        Run { is_seeded: true, ..run }
    }

    /// Takes all turns and returns the report.
    #[must_use]
    pub fn finish(mut self) -> Report {
        while self.turn() {}
        self.report()
    }

    /// Takes turns until the first symptom. Returns it, or `None` if all expectations were met.
    #[must_use]
    pub fn first_symptom(mut self) -> Option<Symptom> {
        self.keeps_snapshots = false;
        while self.symptom.is_none() && self.turn() {}
        self.report().symptom
    }

    /// Takes one turn. Returns false, and takes none, if the run is over.
    pub fn turn(&mut self) -> bool {
        if self.is_over || self.has_ended() {
            self.is_over = true;
            return false;
        }
        self.turns += 1;
        let turned = catch_unwind(AssertUnwindSafe(|| self.reactor.turn()));
        let failed = match turned {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("the turn failed: {error}")),
            Err(_) => Some("the loop panicked".to_owned()),
        };
        if let Some(what) = failed {
            self.is_over = true;
            self.fail(what);
            return true;
        }
        self.after_turn();
        true
    }

    /// Checks the loop and the responses after a turn.
    fn after_turn(&mut self) {
        let world = Arc::clone(&self.world);
        let mut world = lock(&world);
        let noted = world.symptom.take();
        let found = noted.map_or_else(|| check(&self.reactor, &world), Err).err();
        let found = found.or_else(|| self.judge_responses(&world).err());
        if let Some(what) = found {
            self.fail(what);
        }
        if self.keeps_snapshots {
            self.snapshots.push(self.snapshot(&world));
        }
        self.idle_turns = if world.operations == self.operations { self.idle_turns + 1 } else { 0 };
        self.operations = world.operations;
        if self.idle_turns > SPINNING_TURNS || self.turns >= self.scenario.turns_max {
            self.is_over = true;
            let turns = if self.idle_turns > SPINNING_TURNS { SPINNING_TURNS } else { self.turns };
            self.fail(format!("the loop spins: {turns} turns without an end"));
        }
    }

    /// True if nothing is left to happen.
    fn has_ended(&self) -> bool {
        if self.reactor.outcome().is_some_and(|outcome| !matches!(outcome, Outcome::Killed(_))) {
            return true;
        }
        let world = lock(&self.world);
        let is_quiet = world.until_ns.is_none() && world.next_due().is_none() && !world.has_events();
        world.is_over || is_quiet && self.turns > 0 && !self.reactor.look().any(|seen| seen.is_carried)
    }

    /// Judges the responses that were completed since the last call.
    fn judge_responses(&mut self, world: &World) -> Result<(), String> {
        let scenario = self.scenario;
        let judge = Judge::new(&scenario.expectations, &scenario.clients, self.is_seeded);
        for (at, client) in world.clients.iter().enumerate() {
            if client.inbound.is_broken {
                return Err(format!("{} received bytes that are no response", client.name));
            }
            let responses = &client.inbound.responses;
            while let Some(got) = responses.get(self.judged[at]) {
                self.judged[at] += 1;
                judge.response(at, self.judged[at] - 1, got)?;
            }
        }
        Ok(())
    }

    fn fail(&mut self, what: String) {
        if self.symptom.is_none() {
            let at_ns = lock(&self.record).now_ns;
            self.symptom = Some(Symptom { turn: self.turns, at_ns, what });
        }
    }

    /// Returns the state after a turn.
    fn snapshot(&self, world: &World) -> Snapshot {
        let ns = |at: Instant| {
            u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
        };
        let connections = self.reactor.look().map(|seen| ConnectionState {
            id: seen.id,
            client: client_of(&seen),
            phase: seen.phase,
            is_readable: seen.ready.readable,
            is_writable: seen.ready.writable,
            is_read_closed: seen.ready.read_closed,
            is_carried: seen.is_carried,
            queued_bytes: seen.queued_bytes,
            deadline_ns: seen.deadline.map(ns),
            armed_ns: seen.armed.map(ns),
        });
        let clients = world.clients.iter().map(|client| ClientState {
            unread: client.socket.unread(),
            untaken: client.socket.untaken(),
            client_end: client.socket.client_end(),
            server_end: client.socket.server_end(),
            pending: client.socket.pending(),
            responses: client.inbound.responses.len(),
            received_bytes: client.inbound.bytes,
        });
        Snapshot {
            turn: self.turns,
            at_ns: world.now_ns,
            steps: lock(&self.record).steps.len(),
            connections: connections.collect(),
            clients: clients.collect(),
            backlog: world.listener.waiting().collect(),
            jobs_waiting: world.workers.waiting().collect(),
            jobs_running: world.workers.running().collect(),
            deadlines: self.reactor.deadlines_len(),
        }
    }

    /// Ends the run: the clients take what is left, and everything is judged.
    fn report(mut self) -> Report {
        let world = Arc::clone(&self.world);
        let mut world = lock(&world);
        world.act();
        if let Err(what) = self.judge_responses(&world) {
            self.fail(what);
        }
        let steps = std::mem::take(&mut lock(&self.record).steps);
        let facts = self.facts(&steps, &world);
        let scenario = self.scenario;
        let judge = Judge::new(&scenario.expectations, &scenario.clients, self.is_seeded);
        let inbound: Vec<&Inbound> = world.clients.iter().map(|client| &client.inbound).collect();
        let end = judge.end(&facts, &inbound).err();
        let mut consequence = None;
        if let Some(what) = end {
            match self.symptom {
                Some(_) => consequence = Some(what),
                None => self.fail(what),
            }
        }
        Report {
            steps,
            snapshots: self.snapshots,
            names: world.clients.iter().map(|client| client.name.clone()).collect(),
            received: world.clients.iter().map(|client| client.inbound.responses.clone()).collect(),
            turns: self.turns,
            symptom: self.symptom,
            consequence,
        }
    }

    /// Collects what expectations compare.
    fn facts(&self, steps: &[TimedStep], world: &World) -> Facts {
        let mut facts = Facts {
            clients: vec![ClientFacts::default(); world.clients.len()],
            turns: u64::from(self.turns),
            is_stopped: matches!(self.reactor.outcome(), Some(Outcome::Stopped)),
            ..Facts::default()
        };
        let mut owners: Vec<(ConnId, usize)> = Vec::new();
        let owner = |owners: &[(ConnId, usize)], id: ConnId| {
            owners.iter().find(|(other, _)| *other == id).map(|(_, client)| *client)
        };
        for (at, client) in world.clients.iter().enumerate() {
            facts.clients[at].is_reset = client.is_reset;
        }
        for step in steps {
            match step.step {
                Step::Fact(Fact::Is(client, id)) => {
                    owners.push((id, client as usize));
                    facts.clients[client as usize].id = Some(id.to_string());
                }
                Step::Close { id, reason } => {
                    if let Some(client) = owner(&owners, id) {
                        facts.clients[client].closed = Some(reason);
                    }
                }
                Step::Carry { id } => {
                    if let Some(client) = owner(&owners, id) {
                        facts.clients[client].carried += 1;
                    }
                }
                Step::Stale { holder, .. } => facts.note_stale(holder),
                _ => {}
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests;
