//! What the user reads: the conditions, one table, and every error.

use std::io::{self, Write};

use crate::load::Outcome;
use crate::{MODELS, Results, server};

/// Under which conditions it is measured: without them the numbers mean nothing.
pub(crate) fn header(
    out: &mut impl Write,
    connections: u32,
    rounds: u32,
    secs: f64,
    seed: u64,
) -> io::Result<()> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let place = match server::taskset() {
        Some(_) => format!(
            "server on processor {}, generator on processor {}",
            server::SERVER_CPU,
            server::GENERATOR_CPU
        ),
        None => "nothing pinned (no taskset, or one processor): expect noise".to_owned(),
    };
    writeln!(out, "{connections} connections, {rounds} rounds of {secs} s, order drawn with --seed {seed}")?;
    writeln!(out, "Linux {}, {cpus} processors; {place}\n", kernel.trim())
}

/// One line for each workload and model, and one for their ratio.
pub(crate) fn results(out: &mut impl Write, results: &[Results]) -> io::Result<()> {
    writeln!(
        out,
        "{:<9}{:<9}{:>10}{:>20}{:>12}{:>9}{:>9}{:>8}",
        "workload", "model", "req/s", "least to most", "CPU us/req", "p50 us", "p99 us", "errors"
    )?;
    for result in results {
        line(out, result)?;
        let pair = results.iter().find(|other| other.workload == result.workload && other.model == MODELS[0]);
        if let (Some(reactor), true) = (pair, result.model == MODELS[1]) {
            ratio(out, reactor, result)?;
        }
    }
    for result in results {
        for outcome in result.outcomes.iter().filter(|outcome| outcome.errors > 0) {
            let Results { workload, model, .. } = result;
            writeln!(out, "{workload}/{model}: {} errors, first: {}", outcome.errors, outcome.first_error)?;
        }
    }
    Ok(())
}

fn line(out: &mut impl Write, result: &Results) -> io::Result<()> {
    let figures = |figure: fn(&Outcome) -> f64| sorted(result.outcomes.iter().map(figure));
    let rates = figures(Outcome::rate);
    let spread = format!("{:.0} to {:.0}", rates[0], rates[rates.len() - 1]);
    writeln!(
        out,
        "{:<9}{:<9}{:>10.0}{:>20}{:>12.2}{:>9.0}{:>9.0}{:>8}",
        result.workload,
        result.model,
        median(&rates),
        spread,
        median(&figures(Outcome::cpu_us_each)),
        median(&figures(|outcome| outcome.p50_us)),
        median(&figures(|outcome| outcome.p99_us)),
        result.outcomes.iter().map(|outcome| outcome.errors).sum::<u64>(),
    )
}

/// The loop over the twin, from the ratios of the same rounds, so that slow seconds of the machine cancel out.
fn ratio(out: &mut impl Write, reactor: &Results, threads: &Results) -> io::Result<()> {
    let ratios = |figure: fn(&Outcome) -> f64| {
        let pairs = reactor.outcomes.iter().zip(&threads.outcomes);
        sorted(pairs.map(|(reactor, threads)| figure(reactor) / figure(threads)))
    };
    let rates = ratios(Outcome::rate);
    let spread = format!("{:.2} to {:.2}", rates[0], rates[rates.len() - 1]);
    let cpu = median(&ratios(Outcome::cpu_us_each));
    writeln!(out, "{:<9}{:<9}{:>10.2}{:>20}{:>12.2}\n", "", "ratio", median(&rates), spread, cpu)
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}
