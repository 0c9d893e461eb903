//! Frames: what happened since the last one, as one JSON object.
//!
//! `docs/live.md` has the schema. A change that an existing reader could misunderstand needs a new
//! [`VERSION`]. This file must not know who reads the frames.

use std::fmt::Write as _;

use crate::clock::Instant;
use crate::http::Phase;
use crate::observe::counters::{Count, Counters};
use crate::observe::json::Object;
use crate::observe::live::Seen;
use crate::observe::live::collector::{CALLS, Collector, Stall, StripTurn, Sums, TurnRecord};
use crate::observe::step::TurnPhase;
use crate::text::push_json_string;

/// Version of the schema.
pub(super) const VERSION: u64 = 1;

/// Largest number of requests under way that a frame names. The oldest ones are named.
const REQUESTS_MAX: usize = 64;

impl Collector {
    /// Writes the frame that ends now, and begins the next one.
    pub(super) fn frame<'a>(
        &mut self,
        now: Instant,
        now_ns: u64,
        counters: Option<&Counters>,
        connections: impl Iterator<Item = Seen<'a>>,
    ) -> String {
        let mut object = Object::new();
        object.text("record", "whirligig-loop").number("version", VERSION);
        object.number("frame", self.frames).number("at_ns", now_ns);
        object.number("span_ns", now_ns.saturating_sub(self.frame_began_ns));
        object.raw("sums", &sums(&self.sums));
        if let Some(counters) = counters {
            object.raw("counters", &totals(counters));
        }
        self.connections(&mut object, now, connections);
        object.raw("strip", &list(self.strip.iter(), push_strip_turn));
        object.number("strip_left_out", self.strip_left_out);
        object.raw("stalls", &list(self.stalls.iter(), push_stall));
        let slowest = self.slowest.iter().map(|turn| (turn, true));
        let samples = self.records.iter().map(|turn| (turn, false));
        object.raw("turns", &list(slowest.chain(samples), push_turn));
        self.begin_frame(now_ns);
        object.end()
    }

    /// Writes the connections by phase, and the requests under way, oldest first.
    fn connections<'a>(
        &self,
        object: &mut Object,
        now: Instant,
        connections: impl Iterator<Item = Seen<'a>>,
    ) {
        let (mut phases, mut viewers, mut busy) = ([0u64; Phase::ALL.len()], 0, Vec::new());
        for seen in connections {
            if self.is_viewer(seen.id) {
                viewers += 1;
                continue;
            }
            phases[seen.phase as usize] += 1;
            if !seen.is_idle() {
                busy.push(seen);
            }
        }
        let mut by_phase = Object::new();
        for (phase, open) in Phase::ALL.into_iter().zip(phases) {
            by_phase.number(phase.name(), open);
        }
        object.raw("connections", &by_phase.end()).number("viewers", viewers);
        object.number("requests_total", busy.len() as u64);
        busy.sort_by_cached_key(|seen| std::cmp::Reverse(seen.age(now)));
        busy.truncate(REQUESTS_MAX);
        let requests = list(busy.iter(), |seen, out| {
            let label = seen.label.text().or_else(|| self.known(seen.id)?.text());
            out.push_str(&request(seen, label, now));
        });
        object.raw("requests", &requests);
    }
}

/// Writes one request under way. `label` is its method and path, if they are known.
pub(super) fn request(seen: &Seen<'_>, label: Option<String>, now: Instant) -> String {
    let mut object = Object::new();
    object.text("id", &seen.id.to_string());
    match label {
        Some(label) => object.text("request", &label),
        None => object.raw("request", "null"),
    };
    object.text("phase", seen.phase.name());
    object.number("age_ns", u64::try_from(seen.age(now).as_nanos()).unwrap_or(u64::MAX));
    object.number("received_bytes", seen.received_bytes).number("queued_bytes", seen.queued_bytes);
    object.text("waits_for", seen.waits_for.name());
    object.end()
}

fn sums(sums: &Sums) -> String {
    let mut object = Object::new();
    object.number("turns", sums.turns).number("busy_ns", sums.busy_ns).number("waited_ns", sums.waited_ns);
    object.raw("phases_ns", &phases(sums.phases_ns));
    object.raw("turns_taking", &list(sums.turns_taking.iter(), |turns, out| push_number(*turns, out)));
    object.number("events", sums.events).number("responses", sums.responses);
    object.number("bytes_read", sums.bytes_read).number("bytes_written", sums.bytes_written);
    object.number("stale", sums.stale).number("carried", sums.carried).number("stalls", sums.stalls);
    for (key, numbers) in [("calls", sums.calls), ("would_block", sums.would_block)] {
        let mut calls = Object::new();
        for (call, number) in CALLS.into_iter().zip(numbers) {
            calls.number(call, number);
        }
        object.raw(key, &calls.end());
    }
    object.number("own_turns", sums.own_turns).number("own_ns", sums.own_ns);
    object.number("own_steps", sums.own_steps);
    object.end()
}

/// Writes counters of `/_whirligig/metrics`, which include the traffic of viewers.
fn totals(counters: &Counters) -> String {
    let mut object = Object::new();
    let counts: [(&str, &Count); 7] = [
        ("turns", &counters.turns),
        ("reads", &counters.reads),
        ("writes", &counters.writes),
        ("bytes_read", &counters.bytes_read),
        ("bytes_written", &counters.bytes_written),
        ("accepted", &counters.accepted),
        ("stale", &counters.stale),
    ];
    for (key, count) in counts {
        object.number(key, count.get());
    }
    object.number("responses", counters.answered_total()).number("closed", counters.closed_total());
    object.end()
}

fn phases(phases_ns: [u64; TurnPhase::WORK.len()]) -> String {
    let mut object = Object::new();
    for (phase, ns) in TurnPhase::WORK.into_iter().zip(phases_ns) {
        object.number(phase.name(), ns);
    }
    object.end()
}

fn push_strip_turn(turn: &StripTurn, out: &mut String) {
    let StripTurn { number, began_ns, waited_ns, took_ns, events, requests, open } = turn;
    let _ = write!(out, "[{number},{began_ns},{waited_ns},{took_ns},{events},{requests},{open}]");
}

fn push_stall(stall: &Stall, out: &mut String) {
    let mut object = Object::new();
    object.number("turn", stall.turn.into()).number("began_ns", stall.began_ns);
    object.number("took_ns", stall.took_ns).text("by", &stall.by).number("by_ns", stall.by_ns);
    match stall.conn {
        Some(id) => object.text("id", &id.to_string()),
        None => object.raw("id", "null"),
    };
    object.number("waiting", stall.waiting.into());
    out.push_str(&object.end());
}

fn push_turn((turn, is_slowest): (&TurnRecord, bool), out: &mut String) {
    let mut object = Object::new();
    let strip = turn.strip;
    object.number("turn", strip.number.into()).number("began_ns", strip.began_ns);
    object.number("waited_ns", strip.waited_ns).number("took_ns", strip.took_ns);
    object.text("start", &turn.start_text());
    object.raw("phases_ns", &phases(turn.phases_ns));
    object.flag("slowest", is_slowest).flag("sampled", turn.is_sampled);
    let steps = list(turn.steps.iter(), |step, out| {
        let _ = write!(out, "[{},", step.at_ns);
        push_json_string(&step.text_without_time().to_string(), out);
        out.push(',');
        push_json_string(&step.place(), out);
        out.push(']');
    });
    object.raw("steps", &steps).number("steps_left_out", turn.steps_left_out.into());
    out.push_str(&object.end());
}

fn push_number(number: u64, out: &mut String) {
    let _ = write!(out, "{number}");
}

/// Writes a JSON list.
pub(super) fn list<T>(items: impl Iterator<Item = T>, push: impl Fn(T, &mut String)) -> String {
    let mut out = String::from("[");
    for item in items {
        if out.len() > 1 {
            out.push(',');
        }
        push(item, &mut out);
    }
    out.push(']');
    out
}
