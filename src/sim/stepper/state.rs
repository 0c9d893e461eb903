//! The state at a step: the side of the loop beside that of the kernel, and the workers.
//!
//! The report has the whole state after each turn. Between two of them, the steps since the last
//! one are applied to it. Values that no step reports (phase, queue, deadline) stay those of the
//! last turn's end until then. This file must not know how a state is shown.

use crate::conn_id::ConnId;
use crate::driver::decision::Decision;
use crate::http::CloseReason;
use crate::observe::step::{Event, Fact, Name, SocketReport, Step, Stop, Transfer};
use crate::sim::kernel::End;
use crate::sim::scenario::{ConnectionState, Snapshot};
use crate::sim::stepper::recording::{Moment, Recording, note_inbox};

/// The state at one position of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Number of steps until here.
    pub position: usize,
    /// Time in nanoseconds.
    pub at_ns: u64,
    /// Turn and phase.
    pub moment: Moment,
    /// Turn at whose end phases, queues and deadlines were seen; 0 before the first.
    pub seen_in: u32,
    /// Connections that have a slot, in the order of their slots.
    pub connections: Vec<Connection>,
    /// One socket for each client.
    pub sockets: Vec<Socket>,
    /// Clients in the queue of the listener.
    pub backlog: Vec<usize>,
    /// Jobs that no worker has begun.
    pub jobs_waiting: Vec<ConnId>,
    /// Jobs under way, with their ends in nanoseconds where these are known.
    pub jobs_running: Vec<(ConnId, Option<u64>)>,
    /// Results in the inbox of the loop, by the names that they were made for.
    pub inbox: Vec<ConnId>,
    /// Number of entries in the queue of deadlines at the end of the last turn.
    pub deadlines: usize,
}

/// A connection on the side of the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Name of the connection.
    pub id: ConnId,
    /// Index of its client.
    pub client: usize,
    /// True if a read may return something: reported and not denied since.
    pub is_readable: bool,
    /// True if a write may take something.
    pub is_writable: bool,
    /// True if the peer has shut its side.
    pub is_read_closed: bool,
    /// True if the next turn pumps it without an event.
    pub is_carried: bool,
    /// Why it was closed, if it still has its slot.
    pub closed: Option<CloseReason>,
    /// The state at the end of the last turn, if the connection existed then.
    pub seen: Option<ConnectionState>,
}

/// A client's connection on the side of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// True if the client has connected.
    pub has_connected: bool,
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
}

impl State {
    /// Returns the state at a position, which is at most the length of the run.
    #[must_use]
    pub fn at(run: &Recording, position: usize) -> State {
        let position = position.min(run.len());
        let taken = run.snapshots_until(position);
        let mut state = match taken.checked_sub(1) {
            Some(last) => State::of(&run.report.snapshots[last], run.inbox_after(last)),
            None => State::new(run.report.names.len()),
        };
        let next = run.report.snapshots.get(taken);
        for at in state.position..position {
            state.apply(run, at, next);
        }
        state.position = position;
        state.at_ns = run.step_at(position).map_or(0, |step| step.at_ns);
        state.moment = run.moment(position);
        for (client, socket) in state.sockets.iter_mut().enumerate() {
            socket.has_connected = run.has_connected(client, position);
        }
        state
    }

    /// Returns the state before the first step.
    fn new(clients: usize) -> State {
        let socket = Socket {
            has_connected: false,
            unread: 0,
            untaken: 0,
            client_end: End::Open,
            server_end: End::Open,
            pending: SocketReport::default(),
        };
        State {
            position: 0,
            at_ns: 0,
            moment: Moment::default(),
            seen_in: 0,
            connections: Vec::new(),
            sockets: vec![socket; clients],
            backlog: Vec::new(),
            jobs_waiting: Vec::new(),
            jobs_running: Vec::new(),
            inbox: Vec::new(),
            deadlines: 0,
        }
    }

    /// Returns the state that was seen after a turn.
    pub(super) fn of(snapshot: &Snapshot, inbox: &[ConnId]) -> State {
        let connection = |seen: &ConnectionState| Connection {
            id: seen.id,
            client: seen.client,
            is_readable: seen.is_readable,
            is_writable: seen.is_writable,
            is_read_closed: seen.is_read_closed,
            is_carried: seen.is_carried,
            closed: None,
            seen: Some(seen.clone()),
        };
        let mut connections: Vec<Connection> = snapshot.connections.iter().map(connection).collect();
        connections.sort_by_key(|one| one.id.slot());
        let sockets = snapshot.clients.iter().map(|client| Socket {
            has_connected: false,
            unread: client.unread,
            untaken: client.untaken,
            client_end: client.client_end,
            server_end: client.server_end,
            pending: client.pending,
        });
        State {
            position: snapshot.steps,
            at_ns: snapshot.at_ns,
            moment: Moment::default(),
            seen_in: snapshot.turn,
            connections,
            sockets: sockets.collect(),
            backlog: snapshot.backlog.clone(),
            jobs_waiting: snapshot.jobs_waiting.clone(),
            jobs_running: snapshot.jobs_running.iter().map(|(id, ends)| (*id, Some(*ends))).collect(),
            inbox: inbox.to_vec(),
            deadlines: snapshot.deadlines,
        }
    }

    /// Returns the connection with this name, if it has its slot.
    #[must_use]
    pub fn connection(&self, id: ConnId) -> Option<&Connection> {
        self.connections.iter().find(|one| one.id == id)
    }

    /// Returns the connection that has this slot.
    #[must_use]
    pub fn in_slot(&self, slot: usize) -> Option<&Connection> {
        self.connections.iter().find(|one| one.id.slot() == slot)
    }

    fn connection_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|one| one.id == id)
    }

    fn socket_of(&mut self, run: &Recording, id: ConnId) -> Option<&mut Socket> {
        self.sockets.get_mut(run.owner(id)? as usize)
    }

    /// Applies one step. `next` is the state after the turn, for results that no step reports.
    pub(super) fn apply(&mut self, run: &Recording, at: usize, next: Option<&Snapshot>) {
        let step = run.report.steps[at].step;
        note_inbox(&mut self.inbox, &step);
        match step {
            Step::Fact(fact) => self.apply_fact(run, at, fact, next),
            Step::Event(Event::Ready { id, ready }) => {
                if let Some(socket) = self.socket_of(run, id) {
                    socket.pending = SocketReport::default();
                }
                if let Some(connection) = self.connection_mut(id) {
                    connection.is_readable |= ready.readable;
                    connection.is_writable |= ready.writable;
                    connection.is_read_closed |= ready.read_closed;
                }
            }
            Step::Read(moved) => self.apply_read(run, moved),
            Step::Write(moved) | Step::Sendfile(moved) => {
                if let Some(connection) = self.connection_mut(moved.id) {
                    connection.is_writable &= !matches!(moved.stop, Stop::WouldBlock | Stop::Short);
                    connection.is_carried = false;
                }
                if let Some(socket) = self.socket_of(run, moved.id) {
                    socket.untaken += moved.got as usize;
                }
            }
            Step::Register { name: Name::Conn(id), stop: Stop::Done } => {
                if let Some(socket) = self.socket_of(run, id) {
                    socket.register();
                }
            }
            Step::Carry { id } => self.set_carried(id, true),
            Step::Respond { id, .. } => self.set_carried(id, false),
            Step::Job { id } => {
                let has_begun = self.jobs_running.iter().any(|(running, _)| *running == id);
                if !has_begun && !run.wrong().contains(Decision::OffloadSlowWork) {
                    self.jobs_waiting.push(id);
                }
            }
            Step::Shut { id, stop: Stop::Done } => {
                if let Some(socket) = self.socket_of(run, id)
                    && socket.server_end == End::Open
                {
                    socket.server_end = End::Shut;
                }
            }
            Step::Close { id, reason } => {
                self.jobs_waiting.retain(|waiting| *waiting != id);
                if let Some(connection) = self.connection_mut(id) {
                    connection.closed = Some(reason);
                    connection.is_carried = false;
                }
            }
            Step::Free { id } => self.free(run, id, next),
            _ => {}
        }
    }

    fn set_carried(&mut self, id: ConnId, is_carried: bool) {
        if let Some(connection) = self.connection_mut(id) {
            connection.is_carried = is_carried;
        }
    }

    fn apply_read(&mut self, run: &Recording, moved: Transfer) {
        if let Some(connection) = self.connection_mut(moved.id) {
            let is_drained = match moved.stop {
                Stop::WouldBlock => true,
                Stop::Short => !connection.is_read_closed,
                _ => false,
            };
            connection.is_readable &= !is_drained;
            connection.is_carried = false;
        }
        if let Some(socket) = self.socket_of(run, moved.id) {
            socket.unread = socket.unread.saturating_sub(moved.got as usize);
        }
    }

    /// Frees a slot and closes its socket. Nobody but the server acts until the end of the turn, so
    /// the state after the turn has the effect on the client.
    fn free(&mut self, run: &Recording, id: ConnId, next: Option<&Snapshot>) {
        self.connections.retain(|one| one.id != id);
        let Some(client) = run.owner(id) else { return };
        let after = next.and_then(|next| next.clients.get(client as usize));
        let Some(socket) = self.sockets.get_mut(client as usize) else { return };
        match after {
            Some(after) => (socket.server_end, socket.untaken) = (after.server_end, after.untaken),
            None => socket.server_end = End::Closed,
        }
    }

    /// Applies an act of a client, of the kernel or of a worker.
    fn apply_fact(&mut self, run: &Recording, at: usize, fact: Fact, next: Option<&Snapshot>) {
        match fact {
            Fact::Connects(client) => {
                if run.is_stopping(at) {
                    if let Some(socket) = self.sockets.get_mut(client as usize) {
                        socket.server_end = End::Reset;
                    }
                } else {
                    self.backlog.push(client as usize);
                }
            }
            Fact::Is(client, id) => {
                self.backlog.retain(|waiting| *waiting != client as usize);
                let connection = Connection {
                    id,
                    client: client as usize,
                    is_readable: true,
                    is_writable: true,
                    is_read_closed: false,
                    is_carried: false,
                    closed: None,
                    seen: None,
                };
                self.connections.push(connection);
                self.connections.sort_by_key(|one| one.id.slot());
            }
            Fact::JobBegins(id) => {
                if let Some(at) = self.jobs_waiting.iter().position(|waiting| *waiting == id) {
                    self.jobs_waiting.remove(at);
                }
                let ends = next.and_then(|next| next.jobs_running.iter().find(|(running, _)| *running == id));
                self.jobs_running.push((id, ends.map(|(_, ns)| *ns)));
            }
            Fact::JobEnds(id) => {
                if let Some(at) = self.jobs_running.iter().position(|(running, _)| *running == id) {
                    self.jobs_running.remove(at);
                }
            }
            Fact::Sends(..) | Fact::Reads(..) | Fact::Shuts(_) | Fact::Resets(_) => {
                let client = crate::sim::stepper::condition::client_of(fact).unwrap_or_default();
                if let Some(socket) = self.sockets.get_mut(client as usize) {
                    socket.act(fact);
                }
            }
            Fact::WakeUpFails | Fact::InboxChecked | Fact::Fault(_) => {}
        }
    }
}

impl Socket {
    /// Applies an act of the client, by the rules of `sim::kernel`.
    fn act(&mut self, fact: Fact) {
        match fact {
            Fact::Sends(_, bytes) => match self.server_end {
                End::Open | End::Shut => {
                    self.unread += bytes as usize;
                    self.pending.readable = true;
                }
                End::Closed | End::Reset => {
                    self.server_end = End::Reset;
                    self.untaken = 0;
                }
            },
            Fact::Reads(_, bytes) => self.untaken = self.untaken.saturating_sub(bytes as usize),
            Fact::Shuts(_) if self.client_end == End::Open => {
                self.client_end = End::Shut;
                self.pending.readable = true;
                self.pending.read_closed = true;
            }
            Fact::Resets(_) => {
                self.client_end = End::Reset;
                (self.unread, self.untaken) = (0, 0);
                self.pending =
                    SocketReport { readable: true, writable: true, read_closed: true, hung_up: true };
            }
            _ => {}
        }
    }

    /// Registers the socket with the poll: readiness that exists already is reported.
    fn register(&mut self) {
        let is_over = self.client_end != End::Open;
        self.pending = SocketReport {
            readable: self.unread > 0 || is_over,
            writable: true,
            read_closed: is_over,
            hung_up: self.client_end == End::Reset,
        };
    }
}
