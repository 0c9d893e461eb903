//! The record of a run: every step in order, the state after each turn, and the hash of all steps.
//!
//! This file must not know scenarios or clients beyond their numbers.

use std::fmt::Write as _;
use std::panic::Location;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use crate::conn_id::ConnId;
use crate::http::Phase;
use crate::observe::StepSink;
use crate::observe::step::{Fact, SocketReport, Step, TimedStep};
use crate::sim::kernel::End;
use crate::sync::lock;

/// Largest number of steps that are kept. A run that makes more has failed long before.
const STEPS_MAX: usize = 200_000;

/// The steps of a run while it is under way.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) now_ns: u64,
    pub(super) steps: Vec<TimedStep>,
    /// Number of the client that is being accepted.
    pub(super) accepting: Option<u32>,
}

impl Record {
    /// Records a fact about the clients or the kernel.
    #[track_caller]
    pub(super) fn note(&mut self, fact: Fact) {
        let step = TimedStep { at_ns: self.now_ns, step: Step::Fact(fact), source: Location::caller() };
        self.push(step);
    }

    fn push(&mut self, step: TimedStep) {
        if self.steps.len() >= STEPS_MAX {
            return;
        }
        self.steps.push(step);
        if let Step::Accept { accepted: Ok(id), .. } = step.step
            && let Some(client) = self.accepting.take()
        {
            self.note(Fact::Is(client, id));
        }
    }
}

/// Passes the steps of the loop to the record. Its clock is that of the world.
#[derive(Debug)]
pub(super) struct RecordSink(pub(super) Arc<Mutex<Record>>);

impl StepSink for RecordSink {
    fn now_ns(&mut self) -> u64 {
        lock(&self.0).now_ns
    }

    fn put(&mut self, step: TimedStep) {
        lock(&self.0).push(step);
    }
}

/// The state of the loop, the kernel and the workers after a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of the turn.
    pub turn: u32,
    /// Time in nanoseconds.
    pub at_ns: u64,
    /// Number of steps recorded until then.
    pub steps: usize,
    /// Open connections, as the loop stores them.
    pub connections: Vec<ConnectionState>,
    /// Clients, as the kernel stores their connections.
    pub clients: Vec<ClientState>,
    /// Clients that wait to be accepted.
    pub backlog: Vec<usize>,
    /// Jobs that wait for a worker.
    pub jobs_waiting: Vec<ConnId>,
    /// Jobs under way, with their ends.
    pub jobs_running: Vec<(ConnId, u64)>,
    /// Number of armed deadlines.
    pub deadlines: usize,
}

/// A connection on the side of the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionState {
    /// Name of the connection.
    pub id: ConnId,
    /// Index of its client.
    pub client: usize,
    /// Phase of the connection.
    pub phase: Phase,
    /// True if a read may return something.
    pub is_readable: bool,
    /// True if a write may take something.
    pub is_writable: bool,
    /// True if the peer has shut its side.
    pub is_read_closed: bool,
    /// True if the next turn pumps it without an event.
    pub is_carried: bool,
    /// Bytes queued for the client.
    pub queued_bytes: u64,
    /// End of its phase in nanoseconds, if it has one.
    pub deadline_ns: Option<u64>,
    /// When its entry in the queue of deadlines is due.
    pub armed_ns: Option<u64>,
}

/// A client on the side of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientState {
    /// Bytes that the server has not read.
    pub unread: usize,
    /// Bytes that the client has not read.
    pub untaken: usize,
    /// The client's side.
    pub client_end: End,
    /// The server's side.
    pub server_end: End,
    /// Readiness that the next poll reports.
    pub pending: SocketReport,
    /// Number of complete responses that the client has received.
    pub responses: usize,
    /// Bytes that the client has received.
    pub received_bytes: u64,
}

/// Writes steps as text, one line for each, with the names of the clients.
#[must_use]
pub fn text_of(steps: &[TimedStep], names: &[String]) -> String {
    let mut text = String::new();
    for step in steps {
        let _ = writeln!(text, "{}", step.text(names));
    }
    text
}

/// Returns the SHA-256 hash of the text of steps, as hexadecimal digits. The text has turns,
/// operations and reasons with their times, and not the lines of the source.
#[must_use]
pub fn hash_of(steps: &[TimedStep], names: &[String]) -> String {
    let hash = Sha256::digest(text_of(steps, names));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
