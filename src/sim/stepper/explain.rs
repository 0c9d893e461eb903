//! One sentence for each step: its meaning for the loop.
//!
//! The words are those of `docs/steps.md`. This file must not know how a sentence is shown.

use crate::conn_id::ConnId;
use crate::http::CloseReason;
use crate::observe::step::{
    DeadlineFound, Event, Fact, Holder, Name, ResultKind, SocketReport, Step, Stop, Transfer, TurnPhase,
    TurnStart, WaitUntil,
};
use crate::sim::scenario::Received;
use crate::sim::stepper::recording::Recording;
use crate::sim::stepper::state::State;

/// Returns the sentence for the last step before a position.
pub(super) fn sentence(run: &Recording, position: usize) -> String {
    let Some(step) = run.step_at(position) else {
        return "Nothing has happened yet. The first steps are those of the clients and of turn 1."
            .to_owned();
    };
    match step.step {
        Step::TurnStart { turn, waited_ns } => turn_start(run, &turn, waited_ns),
        Step::Phase(phase) => phase_begins(phase).to_owned(),
        Step::Event(event) => event_sentence(run, event),
        Step::Accept { accepted: Ok(id), .. } => format!(
            "The loop takes a client from the queue of the listener. Slot {} is free, and the connection is number \
             {} of this loop, so its name is {id}.",
            id.slot(),
            id.generation()
        ),
        Step::Accept { accepted: Err(stop), .. } => refused(stop).to_owned(),
        Step::Read(moved) => read(run, moved),
        Step::Write(moved) | Step::Sendfile(moved) => written(run, moved),
        Step::Register { name, .. } => format!(
            "The poll watches {} from now on, for reading and writing, until it is closed. Readiness that exists \
             already is reported by the next poll.",
            named(run, name)
        ),
        Step::Respond { id, status, .. } => format!(
            "A response with status {} for {} is queued. It is sent when all connections of this batch are answered.",
            status.code(),
            run.named(id)
        ),
        Step::Job { id } => format!(
            "The request of {} waits for a job, and the loop goes on. The job has the name {id}, so that its result \
             finds the connection.",
            run.named(id)
        ),
        Step::Result { id, kind } => result(run, id, kind),
        Step::Advance { conn, .. } => {
            format!("An object that {} waits for has made progress.", run.named(conn))
        }
        Step::Deadline { id, found } => deadline(run, id, found),
        Step::Carry { id } => format!(
            "The budget of {} for this turn is used up. No event will report the rest, so the connection is carried: \
             the next turn continues with it, and its poll does not wait.",
            run.named(id)
        ),
        Step::Panic { id } => format!("The handler for {} panicked. The loop goes on.", run.named(id)),
        Step::Shut { id, .. } => format!(
            "The last response for {} is out, so the server shuts its sending side. It reads and discards input for \
             a while, because a close with unread input would destroy the response.",
            run.named(id)
        ),
        Step::Close { id, reason } => format!(
            "The connection {} is closed: {}. Its slot stays occupied until the end of the turn.",
            run.named(id),
            reason_text(reason)
        ),
        Step::Free { id } => format!(
            "Slot {} is free and the socket is closed. The next client gets this slot, with another number behind \
             the dot.",
            id.slot()
        ),
        Step::Stale { name, holder } => stale(run, position, name, holder),
        Step::TurnEnd(end) => turn_end(run, position, end.number, end.open),
        Step::Fact(Fact::Reads(client, bytes)) => received(run, client, bytes, step.at_ns),
        Step::Fact(fact) => fact_sentence(run, fact),
    }
}

/// True for steps that are explained also where a move passes them.
pub(super) fn is_remarkable(run: &Recording, at: usize) -> bool {
    run.report.steps.get(at).is_some_and(|step| match step.step {
        Step::Stale { .. } => true,
        Step::Fact(Fact::Reads(client, _)) => responses_at(run, client, step.at_ns).next().is_some(),
        _ => false,
    })
}

/// Iterates over the responses that a client has received completely at this time.
fn responses_at(run: &Recording, client: u32, at_ns: u64) -> impl Iterator<Item = &Received> {
    let all = run.report.received.get(client as usize).map_or(&[][..], Vec::as_slice);
    all.iter().filter(move |one| one.at_ns == at_ns)
}

/// Longest content of a response that is shown, and the largest number of responses.
const BODY_BYTES_SHOWN: usize = 40;
const RESPONSES_SHOWN: usize = 3;

fn received(run: &Recording, client: u32, bytes: u64, at_ns: u64) -> String {
    let name = run.client(client);
    let shown = responses_at(run, client, at_ns).map(|one| match std::str::from_utf8(&one.body) {
        Ok(text) if text.len() <= BODY_BYTES_SHOWN => format!("{} {text:?}", one.status),
        _ => format!("{} with {} bytes", one.status, one.body.len()),
    });
    let shown: Vec<String> = shown.collect();
    let more = shown.len().saturating_sub(RESPONSES_SHOWN);
    let list = shown.iter().take(RESPONSES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match (shown.is_empty(), more) {
        (true, _) => format!("{name} has read {bytes} bytes, which are not a whole response yet."),
        (false, 0) => format!("{name} has received: {list}."),
        (false, more) => format!("{name} has received: {list}, and {more} more."),
    }
}

fn named(run: &Recording, name: Name) -> String {
    match name {
        Name::Conn(id) => run.named(id),
        Name::Watch(id) => format!("w{id}"),
    }
}

fn turn_start(run: &Recording, turn: &TurnStart, waited_ns: u64) -> String {
    let number = turn.number;
    let is_over = turn.timeout_ns.is_some_and(|timeout_ns| waited_ns >= timeout_ns);
    match (turn.events, turn.timeout_ns, turn.until) {
        (_, Some(_), WaitUntil::Carried) => format!(
            "Turn {number} begins at once: its poll asked for events without waiting, because a connection was \
             carried from the turn before."
        ),
        (_, Some(0), WaitUntil::Accept) => format!(
            "Turn {number} begins at once: its poll asked for events without waiting, because clients may be in the \
             queue of the listener."
        ),
        (0, _, until) if is_over => format!(
            "The poll returned without an event, because its time was over: {}. Turn {number} begins.",
            limit(run, until)
        ),
        (0, ..) if number == run.report.turns => {
            format!(
                "The scenario ends here: the poll returned without an event, and turn {number} is the last one."
            )
        }
        (0, ..) => format!("The poll returned without an event, and turn {number} begins."),
        (_, None, _) => format!("The poll returned with something to report, and turn {number} begins."),
        (_, Some(_), until) => format!(
            "The poll returned with something to report, and turn {number} begins. Without an event it would have \
             waited for the {}.",
            limit(run, until)
        ),
    }
}

/// Names the reason why a poll may not wait longer.
fn limit(run: &Recording, until: WaitUntil) -> String {
    match until {
        WaitUntil::Event => "next event".to_owned(),
        WaitUntil::Carried => "carried work".to_owned(),
        WaitUntil::Deadline(id) => format!("deadline of {}", run.named(id)),
        WaitUntil::WatchDeadline(id) => format!("deadline of w{id}"),
        WaitUntil::Accept => "next attempt to accept".to_owned(),
        WaitUntil::LogFlush => "flush of the access log".to_owned(),
        WaitUntil::CacheSweep => "check of the file cache".to_owned(),
        WaitUntil::Stop => "end of the drain timeout".to_owned(),
        WaitUntil::Frame => "next frame of the live view".to_owned(),
    }
}

fn phase_begins(phase: TurnPhase) -> &'static str {
    match phase {
        TurnPhase::Wait => "Phase 1 of 7: the loop waits in its poll.",
        TurnPhase::Results => "Phase 2 of 7: the loop takes the results of jobs, and signals.",
        TurnPhase::Ready => "Phase 3 of 7: connections with an event are read, answered and written to.",
        TurnPhase::Carried => "Phase 4 of 7: connections that were out of budget, or have got a result.",
        TurnPhase::Deadlines => {
            "Phase 5 of 7: deadlines. They come after the reading, because bytes that came in time count."
        }
        TurnPhase::Accept => "Phase 6 of 7: new clients come last, so that those who are served go first.",
        TurnPhase::Free => {
            "Phase 7 of 7: the slots of closed connections are freed. Until here no new client could get them, so no \
             event of this turn could reach another client."
        }
    }
}

fn event_sentence(run: &Recording, event: Event) -> String {
    match event {
        Event::Ready { id, ready: SocketReport { hung_up: true, .. } } => {
            format!("The kernel reports that the connection {} is over: both sides are shut.", run.named(id))
        }
        Event::Ready { id, ready: SocketReport { read_closed: true, .. } } => format!(
            "The kernel reports that the client of {} has shut its side. Its bytes, if any are left, come before the \
             end of input.",
            run.named(id)
        ),
        Event::Ready { id, ready: SocketReport { readable: true, .. } } => format!(
            "The kernel reports once that {} has something to read. It does not report these bytes again.",
            run.named(id)
        ),
        Event::Ready { id, ready: SocketReport { writable: true, .. } } => {
            format!("The kernel reports once that the socket of {} has room for bytes.", run.named(id))
        }
        Event::Ready { id, .. } => format!("The kernel reports {} without a reason.", run.named(id)),
        Event::Watched(id) => format!("The kernel reports that the watched object w{id} is ready."),
        Event::Listener(_) => {
            "The kernel reports once that clients wait in the queue of the listener, however many there are."
                .to_owned()
        }
        Event::Inbox => {
            "A worker has put a result into the inbox of the loop and has woken its poll. Several wake-ups are one \
             event."
                .to_owned()
        }
        Event::Signal(name) => format!("The process has received the signal {name}."),
    }
}

fn refused(stop: Stop) -> &'static str {
    match stop {
        Stop::WouldBlock => "The queue of the listener is empty. An event reports the next client.",
        Stop::Exhausted => {
            "No descriptor is free. The client stays in the queue and no further event reports it, so the loop must \
             remember it."
        }
        _ => {
            "The client was gone before it was accepted, or a signal came. The loop goes on with the next one."
        }
    }
}

fn read(run: &Recording, moved: Transfer) -> String {
    let (who, got) = (run.named(moved.id), moved.got);
    match moved.stop {
        Stop::Done => format!("The read of {who} filled the whole buffer, so more may wait in the socket."),
        Stop::Short => format!(
            "{got} bytes from {who}, fewer than there is room for: the socket is drained at this moment, and new \
             bytes come with an event."
        ),
        Stop::WouldBlock => {
            format!("{who} has nothing to read. An event reports the next bytes, so the loop may wait.")
        }
        Stop::EndOfInput => {
            format!("A read of 0 bytes is the end of input: the client of {who} sends no more.")
        }
        Stop::Interrupted => format!("A signal interrupted the read of {who}. The loop reads again."),
        Stop::Reset => format!("The kernel reports that the client of {who} has reset the connection."),
        stop => format!("The read of {who} stopped: {}.", stop.name()),
    }
}

fn written(run: &Recording, moved: Transfer) -> String {
    let (who, got, asked) = (run.named(moved.id), moved.got, moved.asked);
    match moved.stop {
        Stop::Done => format!("The socket took all {got} bytes for {who}. The client reads them later."),
        Stop::Short => format!(
            "The socket of {who} took {got} of {asked} bytes and is full. The rest stays queued, and an event reports \
             when there is room."
        ),
        Stop::WouldBlock => {
            format!(
                "The socket of {who} is full. The bytes stay queued, and an event reports when there is room."
            )
        }
        Stop::Interrupted => format!("A signal interrupted the write to {who}. The loop writes again."),
        Stop::Reset => format!("The client of {who} has reset the connection, so nothing arrives there."),
        stop => format!("The write to {who} stopped: {}.", stop.name()),
    }
}

fn result(run: &Recording, id: ConnId, kind: ResultKind) -> String {
    match kind {
        ResultKind::Finished => format!(
            "The loop has taken a result for {} out of its inbox, and now looks for the connection with this name.",
            run.named(id)
        ),
        ResultKind::Panicked => format!("The job for {} panicked.", run.named(id)),
        ResultKind::Woken => format!("{} can go on: more content is there.", run.named(id)),
        ResultKind::Evicted => format!("{} may have lost its permit to another client.", run.named(id)),
    }
}

fn deadline(run: &Recording, id: ConnId, found: DeadlineFound) -> String {
    let who = run.named(id);
    match found {
        DeadlineFound::Due => {
            format!("The entry of {who} in the queue of deadlines came up, and its time has passed.")
        }
        DeadlineFound::Early => format!(
            "The entry of {who} in the queue of deadlines came up, but the deadline has moved to a later time. The \
             entry is made again."
        ),
        DeadlineFound::Nothing => {
            format!("The entry of {who} came up, and {who} waits for nothing that has a deadline.")
        }
    }
}

fn reason_text(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::PeerClosed => "the client has shut its side, and every response is out",
        CloseReason::PeerTruncated => "the client has shut its side in the middle of a request",
        CloseReason::PeerReset => "the client has reset it",
        CloseReason::Requested => "the request asked for it",
        CloseReason::Handler => "the handler asked for it",
        CloseReason::ProtocolError => "the request broke the protocol",
        CloseReason::BodyRefused => "the content of the request was refused",
        CloseReason::IdleTimeout => "it had no request for too long",
        CloseReason::HeaderTimeout => "no whole request head came in time",
        CloseReason::BodyTimeout => "the content of the request came too slowly",
        CloseReason::SendTimeout => "the client took the response too slowly",
        CloseReason::AnswerTimeout => "the response was not made in time",
        CloseReason::FileFailed => "the file that was being sent failed",
        CloseReason::HandlerFailed => "the handler failed",
        CloseReason::Evicted => "its slot was needed for another client",
        CloseReason::Shutdown => "the server is stopping",
    }
}

/// The central sentence: the connection of a name is closed.
fn stale(run: &Recording, position: usize, name: Name, holder: Holder) -> String {
    let Name::Conn(id) = name else {
        return format!("A stale name: {} is over, and its event is dropped.", named(run, name));
    };
    let thing = match holder {
        Holder::Event => "event",
        Holder::Result => "result of a job",
        Holder::Deadline => "deadline",
        Holder::Carried => "place in the list of carried connections",
    };
    let who = run.named(id);
    let slot = id.slot();
    match State::at(run, position).in_slot(slot).filter(|owner| owner.id != id) {
        Some(owner) => format!(
            "This {thing} is for {who}, which is closed: the name is stale. Slot {slot} belongs to {} now: the slot \
             is the same, the number behind the dot is not. So the lookup of {id} finds no connection, and the \
             {thing} is dropped instead of reaching {}.",
            run.named(owner.id),
            run.client(owner.client as u32)
        ),
        None => format!(
            "This {thing} is for {who}, which is closed: the name is stale. Slot {slot} has no other owner. The \
             lookup of {id} finds no connection, and the {thing} is dropped."
        ),
    }
}

fn turn_end(run: &Recording, position: usize, number: u32, open: u32) -> String {
    let open = match open {
        0 => "no connection is open".to_owned(),
        1 => "1 connection is open".to_owned(),
        open => format!("{open} connections are open"),
    };
    let next = run.report.steps.iter().skip(position).find_map(|step| match step.step {
        Step::TurnStart { turn, .. } => Some(turn),
        _ => None,
    });
    match next {
        None => format!("Turn {number} is over, and {open}. It was the last turn of this run."),
        Some(turn) => match (turn.timeout_ns, turn.until) {
            (None, _) => {
                format!("Turn {number} is over, and {open}. The loop now waits for an event, without limit.")
            }
            (Some(_), WaitUntil::Carried) => {
                format!("Turn {number} is over, and {open}. Work is carried, so the next poll will not wait.")
            }
            (Some(0), WaitUntil::Accept) => format!(
                "Turn {number} is over, and {open}. Clients may be in the queue of the listener, so the next poll \
                 will not wait."
            ),
            (Some(_), until) => format!(
                "Turn {number} is over, and {open}. The loop now waits for an event or for the {}.",
                limit(run, until)
            ),
        },
    }
}

fn fact_sentence(run: &Recording, fact: Fact) -> String {
    let client = |number| run.client(number);
    match fact {
        Fact::Connects(number) => format!(
            "The kernel puts {} into the queue of the listener. The loop learns of it from a poll.",
            client(number)
        ),
        Fact::Is(number, id) => format!(
            "From now on the loop knows {} as {id}. Everything that waits for this connection holds that name.",
            client(number)
        ),
        Fact::Sends(number, bytes) => format!(
            "{bytes} bytes of {} are in the socket and wait there until the loop reads them.",
            client(number)
        ),
        Fact::Reads(number, bytes) => received(run, number, bytes, u64::MAX),
        Fact::Shuts(number) => {
            format!("{} sends no more (FIN), and can still receive.", client(number))
        }
        Fact::Resets(number) => format!(
            "{} leaves at once (RST). Bytes on their way in both directions are lost; the loop learns of it from a \
             poll.",
            client(number)
        ),
        Fact::JobBegins(id) => format!(
            "A worker works for {}. From now on nobody can call the job back, even if the client leaves.",
            run.named(id)
        ),
        Fact::JobEnds(id) => format!(
            "The result goes into the inbox of the loop under the name {id}, whether or not {} is still there.",
            run.named(id)
        ),
        Fact::WakeUpFails => "The worker could not wake the loop. Its result waits in the inbox.".to_owned(),
        Fact::InboxChecked => "The loop looks into its inbox by the clock, without a wake-up.".to_owned(),
        Fact::Fault(name) => format!("The scenario asks for this fault of the kernel: {name}."),
    }
}
