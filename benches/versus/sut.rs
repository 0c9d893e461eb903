//! System under test: one server in one scenario, with the results of its runs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::Fallible;
use super::counts::{self, Counts, Watcher};
use super::histogram::Histogram;
use super::load::{self, Job, Mark, Outcome};
use super::process::{self, Side};
use super::results::{Activities, SideResult, Turns};
use super::round;

/// Quantiles in the results: the common ones, and enough between them for a curve.
const QUANTILES: [f64; 13] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

/// A running server and its results so far.
pub(crate) struct Sut {
    pub(crate) side: Side,
    pub(crate) result: SideResult,
    latencies: Histogram,
    /// Counters of the reactor before the rounds, with the time of reading them.
    before: Option<(Turns, u64)>,
}

impl Sut {
    pub(crate) fn new(side: Side) -> Fallible<Sut> {
        let before = turns(&side).map(|turns| (turns, load::now_ns()));
        let base_bytes = side.resident_bytes();
        let result = SideResult { name: side.name.clone(), base_bytes, ..SideResult::default() };
        Ok(Sut { side, result, latencies: load::histogram(), before })
    }

    /// Makes one run. `place` is its position within the round, from 1.
    pub(crate) fn run(&mut self, job: &Job, place: usize) -> Fallible<()> {
        let ran = round::run(&mut self.side, job, place)?;
        for (value, count) in ran.latencies.recorded() {
            self.latencies.record_many(value, count);
        }
        self.result.errors.add(&ran.errors);
        self.result.rounds.push(ran.round);
        Ok(())
    }

    /// Makes further runs that are traced instead of timed. Counts system calls and context
    /// switches per response.
    pub(crate) fn count_calls(&mut self, job: &Job) -> Fallible<()> {
        let each = |count: f64, outcome: &Outcome| count / outcome.answers_in_all.max(1) as f64;
        let mut known = Counts::default();
        if let Some(watcher) = Watcher::attach(&self.side.pids()) {
            let outcome = process::run_generator(&self.side.program(), job, &mut |_| Ok(()))?;
            known = watcher.finish();
            self.result.syscalls_each = known.calls.map(|calls| each(calls, &outcome));
            self.result.switches_each = known.switches.map(|switches| each(switches, &outcome));
        }
        if known.switches.is_none() {
            let pids = self.side.pids();
            let before = counts::switches(&pids);
            let mut after = before;
            let outcome = process::run_generator(&self.side.program(), job, &mut |mark| {
                if mark == Mark::End {
                    after = counts::switches(&pids);
                }
                Ok(())
            })?;
            self.result.switches_each = Some(each(after.saturating_sub(before) as f64, &outcome));
        }
        Ok(())
    }

    /// Ends the server and returns its results.
    pub(crate) fn finish(mut self) -> SideResult {
        if let (Some((before, at)), Some(after)) = (self.before, turns(&self.side)) {
            self.result.turns = Some(Turns {
                turns: after.turns - before.turns,
                events: after.events - before.events,
                working: after.working - before.working,
                wall: (load::now_ns() - at) as f64 / 1e9,
            });
        }
        let us = |quantile| self.latencies.quantile(quantile) as f64 / 1e3;
        self.result.spectrum_us = QUANTILES.map(|quantile| (quantile, us(quantile))).to_vec();
        self.result
    }
}

/// Reads the server's counters. Returns `None` for a peer.
fn metrics(side: &Side) -> Option<String> {
    if !side.is_ours() {
        return None;
    }
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, side.port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = b"GET /_whirligig/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Reads the reactor's counters of turns. Returns `None` for other servers.
fn turns(side: &Side) -> Option<Turns> {
    let text = metrics(side)?;
    Some(Turns {
        turns: value(&text, "whirligig_turns_total")?,
        events: value(&text, "whirligig_events_total")?,
        working: value(&text, "whirligig_turn_seconds_sum")?,
        wall: 0.0,
    })
}

/// Reads the time per activity of a reactor with a stopwatch.
pub(crate) fn activities(side: &Side) -> Option<Activities> {
    let text = metrics(side)?;
    let seconds = |activity: &str| {
        value(&text, &format!("whirligig_activity_seconds_total{{activity=\"{activity}\"}}"))
    };
    Some(Activities {
        waiting: seconds("waiting")?,
        reading: seconds("reading")?,
        handling: seconds("handling")?,
        writing: seconds("writing")?,
        keeping: seconds("keeping")?,
    })
}
