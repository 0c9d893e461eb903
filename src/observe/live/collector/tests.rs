//! Tests of the collector: steps of a loop that a test writes, and the frames made of them.

use super::*;
use crate::clock::origin;
use crate::config::Limits;
use crate::http::Phase;
use crate::http::head::{FieldSlots, parse};
use crate::observe::live::{Seen, WaitsFor};
use crate::observe::step::{ResultKind, SocketReport, Transfer, WaitUntil};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const MS: u64 = 1_000_000;
const ALICE: ConnId = ConnId::new(1, 0);
const BOB: ConnId = ConnId::new(2, 1);

/// A loop whose steps a test writes, at times in nanoseconds.
struct Loop {
    collector: Collector,
    now_ns: u64,
    turn: u32,
}

impl Loop {
    fn new() -> Self {
        Loop { collector: Collector::new(0), now_ns: 0, turn: 0 }
    }

    fn step(&mut self, step: Step) {
        let source = std::panic::Location::caller();
        self.collector.put(TimedStep { at_ns: self.now_ns, step, source });
    }

    /// Runs a turn with `ready` events, in which `work` takes place.
    fn turn(&mut self, ready: &[ConnId], work: impl FnOnce(&mut Self)) {
        self.turn += 1;
        let began_ns = self.now_ns;
        let turn = TurnStart {
            number: self.turn,
            events: ready.len() as u32,
            timeout_ns: None,
            until: WaitUntil::Event,
        };
        self.step(Step::TurnStart { turn, waited_ns: 5 });
        for &id in ready {
            let ready = SocketReport { readable: true, ..SocketReport::default() };
            self.step(Step::Event(Event::Ready { id, ready }));
        }
        work(self);
        let took_ns = self.now_ns - began_ns;
        let end = TurnEnd { number: self.turn, open: 2, took_ns, phases_ns: [0, took_ns, 0, 0, 0, 0] };
        self.step(Step::TurnEnd(end));
    }

    fn request(&mut self, id: ConnId, target: &str, takes_ns: u64) {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut slots = FieldSlots::new();
        let request = parse(head.as_bytes(), &mut slots, &Limits::default()).unwrap();
        self.step(Step::Read(Transfer::read(id, 4096, &Ok(head.len()))));
        self.collector.request_started(id, &request, origin(), self.now_ns);
        self.now_ns += takes_ns;
        self.step(Step::Write(Transfer::written(id, 10, &Ok(10))));
    }

    fn frame(&mut self) -> Value {
        let connections = std::iter::empty::<Seen<'_>>();
        serde_json::from_str(&self.collector.frame(origin(), self.now_ns, None, connections)).unwrap()
    }
}

#[test]
fn a_stall_is_named_with_its_request_and_with_the_connections_that_waited() {
    let mut one = Loop::new();
    one.turn(&[ALICE, BOB], |one| {
        one.request(ALICE, "/quick", MS);
        one.request(BOB, "/slow?secret=1", 50 * MS);
    });
    assert!(
        one.frame()["stalls"].as_array().unwrap().is_empty(),
        "the next turn has the events of those who waited"
    );
    one.turn(&[ALICE, BOB], |one| one.now_ns += MS);
    let frame = one.frame();
    let stall = &frame["stalls"][0];
    assert_eq!(
        (&stall["by"], &stall["by_ns"], &stall["id"]),
        (&"GET /slow".into(), &(50 * MS).into(), &"1.2".into())
    );
    assert_eq!(
        (&stall["turn"], &stall["took_ns"], &stall["waiting"]),
        (&1.into(), &(51 * MS).into(), &2.into())
    );
    assert_eq!(frame["sums"]["stalls"], 1);
    assert!(!frame.to_string().contains("secret"));
}

#[test]
fn a_stall_behind_the_first_of_many_delays_all_others() {
    let mut one = Loop::new();
    one.turn(&[ALICE, BOB, ConnId::new(3, 2)], |one| one.request(ALICE, "/slow", 20 * MS));
    one.turn(&[], |_| {});
    assert_eq!(one.frame()["stalls"][0]["waiting"], 2);
}

#[test]
fn a_stall_without_a_request_is_named_by_its_phase_or_by_its_result() {
    let mut one = Loop::new();
    one.turn(&[], |one| {
        one.collector.phase_began(TurnPhase::Deadlines, one.now_ns);
        one.now_ns += 30 * MS;
        one.collector.phase_began(TurnPhase::Accept, one.now_ns);
        one.now_ns += MS;
    });
    one.turn(&[ALICE], |one| one.request(ALICE, "/job", 1));
    one.turn(&[], |one| {
        one.step(Step::Result { id: ALICE, kind: ResultKind::Finished });
        one.now_ns += 11 * MS;
        one.step(Step::Result { id: BOB, kind: ResultKind::Finished });
    });
    one.turn(&[], |_| {});
    let frame = one.frame();
    let by: Vec<&str> =
        frame["stalls"].as_array().unwrap().iter().map(|stall| stall["by"].as_str().unwrap()).collect();
    assert_eq!(by, ["phase deadlines", "GET /job (result of its job)"]);
}

#[test]
fn viewers_are_left_out_of_every_number_but_their_own() {
    let hub = Arc::new(Hub::default());
    let viewer = hub.join(Some(BOB), || {}).unwrap();
    let mut one = Loop::new();
    one.collector.follow(&hub);
    one.turn(&[ALICE], |one| one.request(ALICE, "/", 7));
    one.turn(&[], |one| {
        one.step(Step::Event(Event::Inbox));
        one.step(Step::Result { id: BOB, kind: ResultKind::Woken });
        one.step(Step::Write(Transfer::written(BOB, 5000, &Ok(5000))));
        one.now_ns += 40;
    });
    let frame = one.frame();
    let sums = &frame["sums"];
    assert_eq!(
        (&sums["turns"], &sums["busy_ns"], &sums["bytes_written"]),
        (&1.into(), &7.into(), &10.into())
    );
    assert_eq!((&sums["own_turns"], &sums["own_ns"], &sums["own_steps"]), (&1.into(), &40.into(), &2.into()));
    assert_eq!(
        sums["calls"],
        serde_json::json!({"poll": 1, "read": 1, "write": 1, "sendfile": 0, "accept": 0, "register": 0})
    );
    assert_eq!(frame["strip"].as_array().unwrap().len(), 1);
    // A turn that serves a client as well is a turn of the server.
    one.turn(&[BOB, ALICE], |one| {
        one.step(Step::Write(Transfer::written(BOB, 5000, &Ok(5000))));
        one.request(ALICE, "/", 3);
    });
    assert_eq!(one.frame()["sums"]["turns"], 2);
    drop(viewer);
    one.collector.follow(&hub);
    one.turn(&[BOB], |one| one.request(BOB, "/", 3));
    assert_eq!(one.frame()["sums"]["turns"], 3);
}

#[test]
fn a_frame_is_bounded_and_always_has_the_slowest_turn() {
    let mut one = Loop::new();
    for number in 0..2_000 {
        let ids: Vec<ConnId> = (0..40).map(|slot| ConnId::new(1, slot)).collect();
        one.turn(&ids, |one| {
            for &id in &ids {
                one.request(id, "/some/path/that/is/rather/long", if number == 777 { 20_000 } else { 5_000 });
            }
        });
    }
    let text = one.collector.frame(origin(), one.now_ns, None, std::iter::empty::<Seen<'_>>());
    assert!(text.len() < 128 * 1024, "{} bytes", text.len());
    let frame: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(frame["sums"]["turns"], 2_000, "all turns are counted");
    let strip = frame["strip"].as_array().unwrap();
    assert_eq!(
        (strip.len(), strip[199][0].as_u64(), &frame["strip_left_out"]),
        (200, Some(2_000), &1_800.into())
    );
    let turns = frame["turns"].as_array().unwrap();
    assert!((2..=RECORDS_MAX).contains(&turns.len()), "{}", turns.len());
    assert_eq!((&turns[0]["slowest"], &turns[0]["turn"]), (&true.into(), &778.into()));
    let steps: usize = turns[1..].iter().map(|turn| turn["steps"].as_array().unwrap().len()).sum();
    assert!(steps <= FRAME_STEPS_MAX && steps > 100, "{steps}");
    let left_out = turns[0]["steps_left_out"].as_u64().unwrap();
    assert_eq!(turns[0]["steps"].as_array().unwrap().len() as u64 + left_out, 120);
    // The next frame begins anew, and its sums go on.
    one.turn(&[ALICE], |one| one.request(ALICE, "/", 1));
    let next = one.frame();
    assert_eq!((&next["frame"], &next["sums"]["turns"]), (&1.into(), &2_001.into()));
    assert_eq!(next["strip"].as_array().unwrap().len(), 1);
}

#[test]
fn requests_under_way_are_named_oldest_first_and_without_viewers() {
    let hub = Arc::new(Hub::default());
    let _viewer = hub.join(Some(BOB), || {}).unwrap();
    let mut one = Loop::new();
    one.collector.follow(&hub);
    one.turn(&[ALICE], |one| one.request(ALICE, "/known", 1));
    let now = origin() + Duration::from_secs(10);
    let none = RequestLabel::none();
    let seen = |id, phase, age| Seen {
        id,
        phase,
        label: &none,
        since: now - Duration::from_secs(age),
        queued_bytes: 3,
        received_bytes: 0,
        waits_for: WaitsFor::Job,
    };
    let connections = [
        seen(ConnId::new(9, 7), Phase::ReceivingHead, 2),
        seen(ALICE, Phase::Handling, 5),
        seen(BOB, Phase::Streaming, 9),
        seen(ConnId::new(8, 6), Phase::Idle, 9),
    ];
    let frame: Value =
        serde_json::from_str(&one.collector.frame(now, one.now_ns, None, connections.into_iter())).unwrap();
    assert_eq!((&frame["viewers"], &frame["requests_total"]), (&1.into(), &2.into()));
    let requests = frame["requests"].as_array().unwrap();
    assert_eq!(
        (&requests[0]["request"], &requests[0]["age_ns"]),
        (&"GET /known".into(), &5_000_000_000_u64.into())
    );
    assert_eq!((&requests[1]["request"], &requests[1]["id"]), (&Value::Null, &"7.9".into()));
    assert_eq!((&frame["connections"]["idle"], &frame["connections"]["streaming"]), (&1.into(), &0.into()));
}
