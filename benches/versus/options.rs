//! Command line of the benchmark, and the measurement plan derived from it.

use clap::Parser;

use super::cpu;
use super::measure::Plan;
use super::process::Peer;
use super::scenario::{Depth, Scenario};
use super::stats::{ROUNDS_MIN, Verdict};
use super::{Fallible, scenario};

/// Time limit of a quick run without its report. Keeps the run below the documented 90 seconds.
const QUICK_MS: u64 = 80_000;

/// Compares the reactor with the thread-per-connection model.
#[derive(Clone, Debug, Parser)]
#[command(bin_name = "cargo bench --bench versus --", max_term_width = 100)]
pub(crate) struct Options {
    /// Run fewer scenarios in short runs: at most 90 seconds
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Run all scenarios in long runs: about 20 minutes
    #[arg(long)]
    full: bool,
    /// Run only scenarios with TEXT in their name, including those of other modes
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Print the names of the scenarios and exit
    #[arg(long)]
    pub(crate) list: bool,
    /// Save the results under NAME in target/versus
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    pub(crate) save: Option<String>,
    /// Compare with results saved under NAME
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    pub(crate) baseline: Option<String>,
    /// Write the report of results saved under NAME again, without measuring
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    pub(crate) report: Option<String>,
    /// Open the report in the browser
    #[arg(long)]
    pub(crate) open: bool,
    /// Measure another server in the same rounds. COMMAND starts it and can contain {port},
    /// {docroot} and {tmp}
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    peers: Vec<Peer>,
    /// Seed of the random order of rounds; repeats an earlier order
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Number of rounds [default: 7, 9 or 15]; fewer than 5 give no interval
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(i64::from(ROUNDS_MIN)..=1000))]
    rounds: Option<u32>,
    /// Processors for each server; the reactor runs one loop on each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=512))]
    processors: u16,
    /// Update the README's picture and benches/versus/results.md from benches/versus/results.json,
    /// without measuring
    #[arg(long)]
    pub(crate) readme: bool,
    /// Write the results to benches/versus/results.json and update picture and table
    #[arg(long)]
    pub(crate) publish: bool,
    /// Delay each response of the reactor by MICROSECONDS; the benchmark must then find it slower
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0, hide = true)]
    slow_reactor: u64,
    /// Fail unless every scenario has this verdict
    #[arg(long, value_name = "VERDICT", hide = true, value_parser = verdict)]
    pub(crate) expect: Option<Verdict>,
    /// Ignored; cargo passes it
    #[arg(long, hide = true)]
    bench: bool,
}

fn plain_name(text: &str) -> Result<String, String> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    if !text.is_empty() && !text.starts_with('.') && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("expected letters, digits, '-', '_' and '.', but no '.' at the start".to_owned())
}

fn verdict(text: &str) -> Result<Verdict, String> {
    let all = [Verdict::Faster, Verdict::Slower, Verdict::NoDifference];
    let found = all.into_iter().find(|verdict| verdict.to_string() == text);
    found.ok_or_else(|| "expected faster, slower or 'no difference'".to_owned())
}

impl Options {
    /// Returns the mode of this run.
    pub(crate) fn depth(&self) -> Depth {
        match (self.quick, self.full) {
            (true, _) => Depth::Quick,
            (false, true) => Depth::Full,
            (false, false) => Depth::Usual,
        }
    }

    /// Returns the scenarios to run and those left out, in the order of the report. A filter
    /// selects from all scenarios.
    pub(crate) fn choose(&self) -> Fallible<(Vec<Scenario>, Vec<Scenario>)> {
        let chosen = |scenario: &Scenario| match &self.filter {
            Some(text) => scenario.name.contains(text.as_str()),
            None => scenario.depth <= self.depth(),
        };
        let (run, left_out): (Vec<_>, Vec<_>) = scenario::all().into_iter().partition(chosen);
        if run.is_empty() {
            return Err("no scenario name contains this text; --list prints the names".into());
        }
        Ok((run, left_out))
    }

    /// Returns the reason why a scenario is left out.
    pub(crate) fn why_left_out(&self, scenario: &Scenario) -> String {
        match (&self.filter, scenario.depth) {
            (Some(filter), _) => format!("--filter {filter}"),
            (None, Depth::Full) => "only with --full".to_owned(),
            (None, Depth::Quick | Depth::Usual) => "not with --quick".to_owned(),
        }
    }

    /// Returns the plan for the available processors. The generator gets a processor of its own if
    /// there are at least two.
    pub(crate) fn plan(&self, seed: u64) -> Plan {
        let (rounds, warm_ms, measure_ms) = match self.depth() {
            Depth::Quick => (7, 30, 120),
            Depth::Usual => (9, 80, 400),
            Depth::Full => (15, 150, 800),
        };
        let all = cpu::processors();
        let servers = usize::from(self.processors).min(all.len().saturating_sub(1));
        let (server_cpus, generator_cpus) = all.split_at(servers);
        let alone = servers > 0;
        Plan {
            rounds: self.rounds.unwrap_or(rounds),
            warm_ms,
            measure_ms,
            budget_ms: (self.depth() == Depth::Quick).then_some(QUICK_MS),
            seed: self.seed.unwrap_or(seed),
            server_cpus: server_cpus.to_vec(),
            generator_cpus: if alone { generator_cpus.to_vec() } else { Vec::new() },
            spin: alone,
            peers: self.peers.clone(),
            counts_all: self.depth() != Depth::Quick,
            slow_us: self.slow_reactor,
        }
    }
}
