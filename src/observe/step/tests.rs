//! One step of each kind, for the tests of both forms.

use super::*;

const ID: ConnId = ConnId::new(1, 0);
const WATCH: WatchId = WatchId::new(7, 3);

fn turns() -> Vec<Step> {
    let start = |events, timeout_ns, until| Step::TurnStart {
        turn: TurnStart { number: 7, events, timeout_ns, until },
        waited_ns: 1_204_000,
    };
    let mut steps = vec![
        start(2, None, WaitUntil::Event),
        start(1, Some(0), WaitUntil::Carried),
        start(0, Some(9_998_000_000), WaitUntil::Deadline(ID)),
        start(0, Some(30_000_000), WaitUntil::WatchDeadline(WATCH)),
        start(0, Some(100_000_000), WaitUntil::Accept),
        start(0, Some(50_000_000), WaitUntil::LogFlush),
        start(0, Some(1_000_000_000), WaitUntil::CacheSweep),
        start(0, Some(10_000_000_000), WaitUntil::Stop),
        Step::Phase(TurnPhase::Wait),
    ];
    steps.extend(TurnPhase::WORK.map(Step::Phase));
    steps
}

fn events() -> Vec<Step> {
    let ready = |readable, writable, read_closed, hung_up| Event::Ready {
        id: ID,
        ready: SocketReport { readable, writable, read_closed, hung_up },
    };
    let events = [
        ready(true, true, true, true),
        ready(true, false, false, false),
        ready(false, false, false, false),
        Event::Watched(WATCH),
        Event::Listener(1),
        Event::Inbox,
        Event::Signal("terminate"),
    ];
    events.map(Step::Event).to_vec()
}

fn operations() -> Vec<Step> {
    let moved = |asked, got, stop| Transfer { id: ID, asked, got, stop };
    let mut steps = vec![
        Step::Accept { listener: 0, accepted: Ok(ID) },
        Step::Accept { listener: 0, accepted: Err(Stop::WouldBlock) },
    ];
    steps.extend(Stop::ALL.map(|stop| Step::Read(moved(32_767, 78, stop))));
    steps.extend([
        Step::Write(moved(212, 212, Stop::Done)),
        Step::Sendfile(moved(1 << 20, 1000, Stop::Short)),
        Step::Register { name: Name::Conn(ID), stop: Stop::Done },
        Step::Register { name: Name::Watch(WATCH), stop: Stop::Error },
        Step::Respond { id: ID, method: Some(MethodLabel::HEAD), status: Status::OK },
        Step::Respond { id: ID, method: None, status: Status::BAD_REQUEST },
        Step::Job { id: ID },
    ]);
    let kinds = [ResultKind::Finished, ResultKind::Panicked, ResultKind::Woken, ResultKind::Evicted];
    steps.extend(kinds.map(|kind| Step::Result { id: ID, kind }));
    steps.push(Step::Advance { id: WATCH, conn: ID });
    let found = [DeadlineFound::Due, DeadlineFound::Early, DeadlineFound::Nothing];
    steps.extend(found.map(|found| Step::Deadline { id: ID, found }));
    steps.extend([
        Step::Carry { id: ID },
        Step::Panic { id: ID },
        Step::Shut { id: ID, stop: Stop::Done },
        Step::Close { id: ID, reason: CloseReason::IdleTimeout },
        Step::Free { id: ID },
    ]);
    let holders = [Holder::Event, Holder::Result, Holder::Deadline, Holder::Carried];
    steps.extend(holders.map(|holder| Step::Stale { name: Name::Conn(ConnId::new(2, 0)), holder }));
    steps.push(Step::Stale { name: Name::Watch(WATCH), holder: Holder::Event });
    steps
}

fn ends_and_facts() -> Vec<Step> {
    let end = |phases_ns| TurnEnd { number: 7, open: 3, took_ns: 15_204, phases_ns };
    let mut steps = vec![Step::TurnEnd(end([0; 6])), Step::TurnEnd(end([100, 12_000, 0, 0, 0, 3_104]))];
    let facts = [
        Fact::Connects(0),
        Fact::Connects(1),
        Fact::Is(0, ID),
        Fact::Sends(0, 78),
        Fact::Reads(0, 212),
        Fact::Shuts(0),
        Fact::Resets(0),
        Fact::JobBegins(ID),
        Fact::JobEnds(ID),
        Fact::WakeUpFails,
        Fact::InboxChecked,
        Fact::Fault("short_read"),
    ];
    steps.extend(facts.map(Step::Fact));
    steps
}

/// Returns one step of each kind, 1.5 us apart.
pub(in crate::observe) fn samples() -> Vec<TimedStep> {
    let source = std::panic::Location::caller();
    let steps = [turns(), events(), operations(), ends_and_facts()].concat();
    (1..).zip(steps).map(|(number, step)| TimedStep { at_ns: number * 1_500, step, source }).collect()
}

#[test]
fn the_connection_and_the_stop_of_a_step_are_found() {
    for TimedStep { step, .. } in samples() {
        let text = format!("{step:?}");
        let names_one = text.contains("0.1") || text.contains("0.2");
        let is_wait = matches!(step, Step::TurnStart { .. });
        assert_eq!(step.conn().is_some(), names_one && !is_wait, "{text}");
        let stops = ["Accept {", "Carry {"].iter().any(|word| text.starts_with(word));
        assert_eq!(step.stop().is_some(), stops || text.contains("stop: "), "{text}");
    }
    let carry = Step::Carry { id: ID };
    assert_eq!((carry.conn(), carry.stop(), carry.word()), (Some(ID), Some(Stop::Budget), "carry"));
}

#[test]
fn results_of_calls_are_reasons() {
    let would_block = || io::Error::from(ErrorKind::WouldBlock);
    let reads = [
        (Ok(0), Stop::EndOfInput),
        (Ok(9), Stop::Short),
        (Ok(10), Stop::Done),
        (Err(would_block()), Stop::WouldBlock),
        (Err(ErrorKind::Interrupted.into()), Stop::Interrupted),
        (Err(ErrorKind::ConnectionReset.into()), Stop::Reset),
        (Err(ErrorKind::Other.into()), Stop::Error),
    ];
    for (got, stop) in reads {
        let bytes = got.as_ref().map_or(0, |&bytes| bytes as u64);
        assert_eq!(Transfer::read(ID, 10, &got), Transfer { id: ID, asked: 10, got: bytes, stop });
    }
    for (sent, got, stop) in
        [(Ok(0), 0, Stop::Short), (Ok(10), 10, Stop::Done), (Err(would_block()), 0, Stop::WouldBlock)]
    {
        assert_eq!(Transfer::written(ID, 10, &sent), Transfer { id: ID, asked: 10, got, stop });
    }
}
