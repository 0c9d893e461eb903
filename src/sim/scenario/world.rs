//! The world of a scenario: clients that follow their script, workers, signals and faults.
//!
//! Nothing is random without a seed. With a seed, bytes arrive in other pieces and a little later,
//! events come in another order, and calls stop earlier. This file must not know what the server
//! promises.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use crate::conn_id::ConnId;
use crate::driver::decision::{Decision, WrongDecisions};
use crate::driver::outcome::Signal;
use crate::observe::step::Fact;
use crate::reactor::os::OsEvent;
use crate::sim::kernel::{End, KernelListener, KernelSocket};
use crate::sim::scenario::record::Record;
use crate::sim::scenario::responses::Inbound;
use crate::sim::scenario::script::{Action, ClientScript, Does, Fault, Scenario, When};
use crate::sim::workers::{HasWorkers, InboxEvent, Workers};
use crate::sim::world::Rng;
use crate::sync::lock;

/// Longest delay that a seed adds to one action, in nanoseconds.
const DELAY_NS_MAX: u64 = 300_000;

/// Largest number of pieces into which a seed cuts what a client sends at once.
const PIECES_MAX: u64 = 4;

/// The random choices of a run: none without a seed.
#[derive(Debug)]
pub(super) struct Chance(Option<Rng>);

impl Chance {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Chance(seed.map(Rng))
    }

    /// Returns true in `per_mille` of 1000 calls with a seed, and never without.
    pub(super) fn hit(&mut self, per_mille: u64) -> bool {
        self.0.as_mut().is_some_and(|rng| rng.chance(per_mille))
    }

    /// Returns a number below `limit`; 0 without a seed.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0.as_mut().map_or(0, |rng| rng.below(limit))
    }
}

/// The step from which a run has the chances of another seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// Number of steps that stay as they are.
    pub step: usize,
    /// Seed of everything that is drawn later.
    pub seed: u64,
}

/// A part of the bytes that a client sends.
#[derive(Debug)]
enum Piece {
    Bytes(VecDeque<u8>),
    Fin,
}

/// A client with its socket.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) socket: KernelSocket,
    /// Actions to come, each with the delay that a seed adds, in nanoseconds.
    actions: VecDeque<(Action, u64)>,
    /// Pieces on their way, each with the time when it arrives.
    pieces: VecDeque<(u64, Piece)>,
    /// Number of whole requests sent.
    requested: usize,
    /// When the last action happened.
    acted_ns: u64,
    reads_all: bool,
    pub(super) inbound: Inbound,
    is_connected: bool,
    pub(super) id: Option<ConnId>,
    /// True if the client has received a reset.
    pub(super) is_reset: bool,
    pub(super) short_reads: VecDeque<usize>,
    pub(super) interrupts: u32,
    pub(super) write_blocks: u32,
    pub(super) resets_on_close: bool,
}

impl Client {
    /// Returns when the client acts next, if that depends on nothing else.
    fn due(&self) -> Option<u64> {
        let action = self.action_due();
        // Pieces that do not fit wait for the server to read.
        let has_room = self.socket.has_room() || self.socket.server_end() != End::Open;
        let piece = self.pieces.front().filter(|_| has_room).map(|(ns, _)| *ns);
        let reads = self.has_news().then_some(0);
        [action, piece, reads].into_iter().flatten().min()
    }

    /// Returns when the next action is due, if that depends on nothing else.
    fn action_due(&self) -> Option<u64> {
        let (_, delay_ns) = self.actions.front()?;
        Some((self.scripted_ns()? + delay_ns).max(self.acted_ns))
    }

    /// Returns when the next action would be due without a delay, if that is known.
    fn scripted_ns(&self) -> Option<u64> {
        let (action, _) = self.actions.front()?;
        match action.when {
            When::At(ns) => Some(ns),
            When::Answered(pause) => {
                let is_answered = self.inbound.responses.len() >= self.requested;
                let answered = self.inbound.responses.last().map_or(0, |last| last.at_ns);
                is_answered.then_some(answered.max(self.acted_ns) + pause)
            }
        }
    }

    /// Draws the delays of all actions that are not due yet. None of them becomes due by that.
    fn draw_delays(&mut self, chance: &mut Chance, now_ns: u64) {
        let is_due = self.action_due().is_some_and(|due| due <= now_ns);
        let passed_ns = self.scripted_ns().map_or(0, |ns| (now_ns + 1).saturating_sub(ns));
        for (at, (_, delay_ns)) in self.actions.iter_mut().enumerate() {
            match at {
                0 if is_due => {}
                0 => *delay_ns = passed_ns + chance.below(DELAY_NS_MAX.saturating_sub(passed_ns)),
                _ => *delay_ns = chance.below(DELAY_NS_MAX),
            }
        }
    }

    /// True if the client has something to take at once.
    fn has_news(&self) -> bool {
        (self.reads_all && self.socket.untaken() > 0)
            || (!self.is_reset && self.is_connected && self.socket.server_end() == End::Reset)
    }
}

/// Everything that the server does not own.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now_ns: u64,
    pub(super) until_ns: Option<u64>,
    pub(super) clients: Vec<Client>,
    pub(super) listener: KernelListener,
    pub(super) workers: Workers,
    /// Largest number of connections that one poll reports. The others are reported by the next.
    events_per_poll: usize,
    /// Duration of the job that the handler submits next.
    pub(super) job_takes_ns: u64,
    pub(super) inbox_event: InboxEvent,
    wake_ups_failing: u32,
    signals: VecDeque<(u64, Signal)>,
    faults: VecDeque<(u64, Fault)>,
    chance: Chance,
    /// Another seed for everything after a step that has not happened yet.
    fork: Option<Fork>,
    pub(super) wrong: WrongDecisions,
    /// Number of calls that did something. A loop that takes turns without any spins.
    pub(super) operations: u64,
    /// True if nothing more will happen.
    pub(super) is_over: bool,
    pub(super) symptom: Option<String>,
    pub(super) record: Arc<Mutex<Record>>,
}

pub(super) type Shared = Arc<Mutex<World>>;

impl World {
    pub(super) fn new(
        scenario: &Scenario,
        seed: Option<u64>,
        wrong: WrongDecisions,
        record: Arc<Mutex<Record>>,
    ) -> Self {
        let mut chance = Chance::new(seed);
        let mut client = |script: &ClientScript| {
            let delayed = |action: &Action| (action.clone(), chance.below(DELAY_NS_MAX));
            Client {
                name: script.name.clone(),
                socket: KernelSocket::new(scenario.socket_bytes),
                actions: script.actions.iter().map(delayed).collect(),
                pieces: VecDeque::new(),
                requested: 0,
                acted_ns: 0,
                reads_all: true,
                inbound: Inbound::default(),
                is_connected: false,
                id: None,
                is_reset: false,
                short_reads: VecDeque::new(),
                interrupts: 0,
                write_blocks: 0,
                resets_on_close: false,
            }
        };
        let clients = scenario.clients.iter().map(&mut client).collect();
        let mut signals = scenario.signals.clone();
        let mut faults = scenario.faults.clone();
        signals.sort_by_key(|(at, _)| *at);
        faults.sort_by_key(|(at, _)| *at);
        World {
            now_ns: 0,
            until_ns: scenario.until_ns,
            clients,
            listener: KernelListener::new(scenario.sockets_max),
            workers: Workers::new(scenario.workers, scenario.limits.jobs_max),
            events_per_poll: scenario.limits.events_per_poll.max(1),
            job_takes_ns: 0,
            inbox_event: InboxEvent::default(),
            wake_ups_failing: 0,
            signals: signals.into(),
            faults: faults.into(),
            chance,
            fork: None,
            wrong,
            operations: 0,
            is_over: false,
            symptom: None,
            record,
        }
    }

    /// Prepares another seed for everything after a step.
    pub(super) fn fork_at(&mut self, fork: Fork) {
        self.fork = Some(fork);
    }

    /// Begins with the other seed if its step has been reached. Bytes and jobs under way keep their
    /// times; whatever has not begun draws again.
    pub(super) fn fork_if_due(&mut self) {
        let Some(fork) = self.fork.filter(|fork| lock(&self.record).steps.len() >= fork.step) else { return };
        (self.fork, self.chance) = (None, Chance::new(Some(fork.seed)));
        if fork.step == 0 {
            // A run with this seed from its beginning, whose first actions may be due at once.
            let actions = self.clients.iter_mut().flat_map(|client| &mut client.actions);
            actions.for_each(|(_, delay_ns)| *delay_ns = self.chance.below(DELAY_NS_MAX));
            return;
        }
        for client in &mut self.clients {
            client.draw_delays(&mut self.chance, self.now_ns);
        }
    }

    /// Returns the random choices at this step.
    pub(super) fn chance(&mut self) -> &mut Chance {
        self.fork_if_due();
        &mut self.chance
    }

    /// Notes the first thing that went wrong outside the loop.
    pub(super) fn note_symptom(&mut self, text: impl FnOnce() -> String) {
        if self.symptom.is_none() {
            self.symptom = Some(text());
        }
    }

    /// Returns when something will happen without the server and without a timeout.
    pub(super) fn next_due(&self) -> Option<u64> {
        let clients = self.clients.iter().filter_map(Client::due);
        let signals = self.signals.front().map(|(at, _)| *at);
        let faults = self.faults.front().map(|(at, _)| *at);
        let results = self.workers.next_end().into_iter().chain(self.inbox_event.look_ns());
        clients.chain(results).chain(signals).chain(faults).min()
    }

    /// True if the next poll has an event already.
    pub(super) fn has_events(&self) -> bool {
        self.listener.is_pending()
            || self.inbox_event.is_pending()
            || self.clients.iter().any(|client| client.id.is_some() && client.socket.has_report())
    }

    /// Takes everything that is due: faults and the actions of clients.
    pub(super) fn act(&mut self) {
        self.fork_if_due();
        while self.faults.front().is_some_and(|(at, _)| *at <= self.now_ns) {
            if let Some((_, fault)) = self.faults.pop_front() {
                self.begin(&fault);
            }
        }
        for at in 0..self.clients.len() {
            while self.act_client(at) {}
        }
    }

    /// Makes a requested fault happen, or prepares it.
    fn begin(&mut self, fault: &Fault) {
        let name = match *fault {
            Fault::Spurious(at) => {
                self.clients[at].socket.report_spuriously();
                "spurious"
            }
            Fault::Interrupts(at) => {
                self.clients[at].interrupts += 1;
                "interrupts"
            }
            Fault::ShortRead(at, bytes) => {
                self.clients[at].short_reads.push_back(bytes);
                "short-read"
            }
            Fault::WriteBlocks(at) => {
                self.clients[at].write_blocks += 1;
                "write-blocks"
            }
            Fault::WakeUps(count) => {
                self.wake_ups_failing += count;
                "wake-ups"
            }
        };
        self.note(Fact::Fault(name));
    }

    /// Takes one step of one client. Returns true if it did something.
    fn act_client(&mut self, at: usize) -> bool {
        let number = at as u32;
        let client = &mut self.clients[at];
        if client.has_news() {
            let bytes = client.socket.client_takes(usize::MAX);
            if bytes.is_empty() {
                client.is_reset = true;
                client.actions.clear();
                client.pieces.clear();
                return true;
            }
            client.inbound.receive(&bytes, self.now_ns);
            self.note(Fact::Reads(number, bytes.len() as u64));
            return true;
        }
        if client.due().is_none_or(|due| due > self.now_ns) {
            return false;
        }
        if client.pieces.front().is_some_and(|(due, _)| *due <= self.now_ns) {
            return self.send_piece(at);
        }
        // An action that waits for the socket must not overtake what was sent before.
        if !client.pieces.is_empty() {
            return false;
        }
        let Some((action, _)) = client.actions.pop_front() else { return false };
        client.acted_ns = self.now_ns;
        self.act_now(at, action.does);
        true
    }

    /// Sends the front piece of a client, as much as there is room for.
    fn send_piece(&mut self, at: usize) -> bool {
        let number = at as u32;
        let client = &mut self.clients[at];
        match client.pieces.front_mut() {
            None => false,
            Some((_, Piece::Fin)) => {
                client.pieces.pop_front();
                client.socket.client_shuts();
                self.note(Fact::Shuts(number));
                true
            }
            Some((_, Piece::Bytes(bytes))) => {
                let count = client.socket.client_sends(bytes.make_contiguous());
                bytes.drain(..count);
                if bytes.is_empty() {
                    client.pieces.pop_front();
                }
                if count > 0 {
                    self.note(Fact::Sends(number, count as u64));
                }
                count > 0
            }
        }
    }

    fn act_now(&mut self, at: usize, does: Does) {
        let number = at as u32;
        match does {
            Does::Connects => {
                self.clients[at].is_connected = true;
                self.note(Fact::Connects(number));
                if !self.listener.connect(at) {
                    self.clients[at].socket.server_closes(true);
                }
            }
            Does::Sends { bytes, requests } => {
                self.clients[at].requested += requests;
                self.cut(at, bytes);
            }
            Does::Shuts => self.clients[at].pieces.push_back((self.now_ns, Piece::Fin)),
            Does::Resets => {
                self.clients[at].socket.client_resets();
                self.note(Fact::Resets(number));
            }
            Does::Reads(most) => {
                let bytes = self.clients[at].socket.client_takes(most);
                self.clients[at].inbound.receive(&bytes, self.now_ns);
                self.note(Fact::Reads(number, bytes.len() as u64));
            }
            Does::ReadsAll(all) => self.clients[at].reads_all = all,
        }
    }

    /// Puts bytes on their way. A seed cuts them into pieces with pauses between them.
    fn cut(&mut self, at: usize, bytes: Vec<u8>) {
        let mut rest: VecDeque<u8> = bytes.into();
        let mut due = self.now_ns;
        for _ in 0..self.chance().below(PIECES_MAX) {
            let most = if self.chance().hit(300) { 3 } else { rest.len() as u64 };
            let size = self.chance().below(most.min(rest.len() as u64)) as usize;
            if size > 0 {
                let after = rest.split_off(size);
                let piece = std::mem::replace(&mut rest, after);
                self.clients[at].pieces.push_back((due, Piece::Bytes(piece)));
                due += self.chance().below(DELAY_NS_MAX / PIECES_MAX);
            }
        }
        self.clients[at].pieces.push_back((due, Piece::Bytes(rest)));
    }

    /// Takes the pending events: clients in their order, then the listener, the inbox and signals.
    /// A seed changes the order.
    pub(super) fn take_events(&mut self, events: &mut Vec<OsEvent>) {
        let level = self.wrong.contains(Decision::ReportInputOnce);
        for client in &mut self.clients {
            let Some(id) = client.id else { continue };
            if events.len() >= self.events_per_poll {
                break;
            }
            if let Some(ready) = client.socket.take_report(level) {
                events.push(OsEvent::Ready { id, ready });
            }
        }
        if self.listener.take_event() {
            events.push(OsEvent::Listener(0));
        }
        if self.inbox_event.take() {
            events.push(OsEvent::Inbox);
        }
        while self.signals.front().is_some_and(|(at, _)| *at <= self.now_ns) {
            events.extend(self.signals.pop_front().map(|(_, signal)| OsEvent::Signal(signal)));
        }
        for at in (1..events.len()).rev() {
            if self.chance().hit(300) {
                events.swap(at, self.chance().below(at as u64 + 1) as usize);
            }
        }
    }

    /// Wakes the loop for its results, or fails as the scenario requests.
    pub(super) fn wake_up(&mut self) -> io::Result<()> {
        if self.wake_ups_failing > 0 {
            self.wake_ups_failing -= 1;
            self.note(Fact::WakeUpFails);
            self.inbox_event.fail(self.now_ns);
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.inbox_event.wake();
        Ok(())
    }

    /// Looks into the inbox without a wake-up, once a second.
    pub(super) fn look(&mut self, has_news: bool) {
        if self.inbox_event.look(has_news, self.now_ns) {
            self.note(Fact::InboxChecked);
        }
    }
}

impl HasWorkers for World {
    fn workers(&mut self) -> &mut Workers {
        &mut self.workers
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Sets the clock of the world and of its record.
    fn set_clock(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        lock(&self.record).now_ns = now_ns;
    }

    fn is_wrong(&self, decision: Decision) -> bool {
        self.wrong.contains(decision)
    }

    fn note(&mut self, fact: Fact) {
        lock(&self.record).note(fact);
    }

    fn job_ns(&mut self) -> Option<u64> {
        self.operations += 1;
        Some(std::mem::take(&mut self.job_takes_ns))
    }

    fn task_ns(&mut self) -> Option<u64> {
        Some(0)
    }

    fn late_ns(&mut self) -> u64 {
        self.chance().below(DELAY_NS_MAX)
    }
}
