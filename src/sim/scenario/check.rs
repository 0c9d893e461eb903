//! The checks after each turn of a scenario: every connection has something that will move it on.
//!
//! A failed check is the first symptom of most bugs, long before a client notices. This file must
//! not know scenarios.

use crate::http::Phase;
use crate::observe::Observer;
use crate::reactor::Reactor;
use crate::reactor::inspect::Look;
use crate::sim::kernel::End;
use crate::sim::scenario::os::ScriptOs;
use crate::sim::scenario::world::{Client, World};

/// Checks the loop after a turn. `client_of` returns the index of the client of a connection.
pub(super) fn check<O: Observer>(reactor: &Reactor<ScriptOs, O>, world: &World) -> Result<(), String> {
    if world.listener.open() != reactor.open() {
        return Err(format!("{} sockets are open for {} slots", world.listener.open(), reactor.open()));
    }
    for seen in reactor.look() {
        let at = client_of(&seen);
        let Some(client) = world.clients.get(at) else { return Err("a connection without a client".into()) };
        let name = format!("{} ({})", client.name, seen.id);
        check_one(&seen, client, world).map_err(|what| format!("{name} {what}"))?;
    }
    Ok(())
}

/// Returns the index of the client, which its port number contains.
pub(super) fn client_of(seen: &Look) -> usize {
    seen.peer.port().map_or(usize::MAX, usize::from)
}

fn check_one(seen: &Look, client: &Client, world: &World) -> Result<(), &'static str> {
    if matches!(client.socket.server_end(), End::Closed) {
        return Err("has a slot and no socket");
    }
    match (seen.deadline, seen.armed) {
        (Some(deadline), Some(armed)) if armed > deadline => {
            return Err("has an entry later than its deadline");
        }
        (Some(_), None) => return Err("waits, and no deadline is armed for it"),
        _ => {}
    }
    if seen.is_carried {
        return Ok(());
    }
    let may_send = seen.queued_bytes > 0 && seen.is_sendable;
    if may_send && seen.ready.writable {
        return Err("has output queued, may write, and waits");
    }
    if may_send && !client.socket.will_report_writable() {
        return Err("has output queued, and no event will report room for it");
    }
    if seen.can_use_held {
        return Err("holds a whole request, and waits");
    }
    if seen.phase == Phase::Idle && seen.has_work {
        return Err("is idle and holds a record");
    }
    if seen.wants_input && seen.ready.readable {
        return Err("may read, needs input, and waits");
    }
    let will_report = client.socket.pending().readable || client.socket.pending().read_closed;
    if seen.wants_input && client.socket.has_input() && !will_report {
        return Err("has unread input, and no event will report it");
    }
    let has_job = world.workers.work_for(seen.id) || world.inbox_event.will_come();
    if (seen.phase == Phase::Handling || seen.is_resting) && !has_job {
        return Err("waits for a result that nothing will deliver");
    }
    Ok(())
}
