//! One run: a job of the load generator against one server, and the cost to that server.

use serde::{Deserialize, Serialize};

use super::Fallible;
use super::histogram::Histogram;
use super::load::{self, Errors, Job, Mark};
use super::process::{Side, Usage, run_generator};

/// Busy share of the generator above which the generator counts as the limit.
pub const BUSY_MAX: f64 = 0.9;

/// Figures of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Round {
    /// Position of the run within its round, from 1.
    pub place: usize,
    /// Responses per second.
    pub rate: f64,
    /// Median of the latency in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the latency in microseconds.
    pub p99_us: f64,
    /// 99.9th percentile of the latency in microseconds.
    pub p999_us: f64,
    /// Processor time of the server per response, in microseconds.
    pub cpu_us_each: f64,
    /// Processor time in user mode, in steps of 10 ms. Only sums over many rounds are meaningful.
    pub user_ms: f64,
    /// Processor time in the kernel, in steps of 10 ms.
    pub system_ms: f64,
    /// Busy share of the generator.
    pub busy: f64,
    /// Threads of the server at the end.
    pub threads: u64,
    /// Resident memory of the server at the end.
    pub resident_bytes: u64,
    /// Number of errors of any kind.
    pub errors: u64,
}

/// A run with its details.
#[derive(Debug)]
pub struct Ran {
    /// The figures.
    pub round: Round,
    /// Context switches of the server per response. `None` if only some of them are known.
    pub switches_each: Option<f64>,
    /// Latencies in nanoseconds.
    pub latencies: Histogram,
    /// Errors by kind.
    pub errors: Errors,
}

/// Runs a job against a server. `place` is the position of the run within its round, from 1.
pub fn run(side: &mut Side, job: &Job, place: usize) -> Fallible<Ran> {
    let (mut before, mut after, mut resident) = (Usage::default(), Usage::default(), 0);
    let program = side.program();
    let outcome = run_generator(&program, job, &mut |mark| {
        match mark {
            Mark::Begin => before = side.usage()?,
            Mark::End => {
                after = side.usage()?;
                resident = side.resident_bytes();
            }
        }
        Ok(())
    })?;
    let mut latencies = load::histogram();
    for (value, count) in &outcome.latencies {
        latencies.record_many(*value, *count);
    }
    let us = |quantile| latencies.quantile(quantile) as f64 / 1e3;
    let spent = |of: fn(&Usage) -> u64| (of(&after).saturating_sub(of(&before))) as f64;
    let amount = outcome.amount.max(1.0);
    let round = Round {
        place,
        rate: outcome.amount / outcome.seconds,
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        cpu_us_each: spent(|usage| usage.cpu_ns) / 1e3 / amount,
        user_ms: spent(|usage| usage.user_ns) / 1e6,
        system_ms: spent(|usage| usage.system_ns) / 1e6,
        busy: outcome.busy,
        threads: after.threads,
        resident_bytes: resident,
        errors: outcome.errors.total(),
    };
    let switches = before.switches.zip(after.switches);
    let switches_each = switches.map(|(before, after)| after.saturating_sub(before) as f64 / amount);
    Ok(Ran { round, switches_each, latencies, errors: outcome.errors })
}
