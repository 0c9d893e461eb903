//! The command line of the comparison, and the plan that follows from it.

use clap::Parser;

use super::cpu;
use super::measure::{Plan, ROUNDS_MIN};
use super::process::Peer;
use super::scenario::{Depth, Scenario};
use super::stats::Verdict;
use super::{Fallible, scenario};

/// What a quick run may take up to its report: less than the 90 seconds that it promises.
const QUICK_MS: u64 = 80_000;

/// Compares the poll loop with a thread per connection.
#[derive(Clone, Debug, Parser)]
#[command(bin_name = "cargo bench --bench versus --", max_term_width = 100)]
pub(crate) struct Options {
    /// Fewer scenarios and short runs: a look within 90 seconds
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// All scenarios, long runs: some 20 minutes
    #[arg(long)]
    full: bool,
    /// Only scenarios with this in their name, whatever their length
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Shows the names of the scenarios and ends
    #[arg(long)]
    pub(crate) list: bool,
    /// Keeps the results under this name in target/versus
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    pub(crate) save: Option<String>,
    /// Compares with results that were kept under this name
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    pub(crate) baseline: Option<String>,
    /// Makes the report of results that were kept under this name again; measures nothing
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    pub(crate) report: Option<String>,
    /// Opens the report in the browser
    #[arg(long)]
    pub(crate) open: bool,
    /// Measures another server, too, in the same rounds: its command with {port}, {docroot} and
    /// {tmp}
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    peers: Vec<Peer>,
    /// Draws the same order again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Rounds, in place of 7, 9 or 15; of fewer than 5 no interval can be told
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(i64::from(ROUNDS_MIN)..=1000))]
    rounds: Option<u32>,
    /// Processors for each server; the reactor then runs as many loops
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=512))]
    processors: u16,
    /// Makes the README's picture and table again from benches/versus/results.json; measures
    /// nothing
    #[arg(long)]
    pub(crate) readme: bool,
    /// Keeps what this run measures as benches/versus/results.json, and makes the README again
    #[arg(long)]
    pub(crate) publish: bool,
    /// Makes each answer of the reactor take so many microseconds more: the comparison must call it
    /// slower
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0, hide = true)]
    slow_reactor: u64,
    /// Fails unless this is the verdict in every scenario
    #[arg(long, value_name = "VERDICT", hide = true, value_parser = verdict)]
    pub(crate) expect: Option<Verdict>,
    /// Passed by cargo, means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

fn plain_name(text: &str) -> Result<String, String> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    if !text.is_empty() && !text.starts_with('.') && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("letters, digits, '-', '_' and '.'".to_owned())
}

fn verdict(text: &str) -> Result<Verdict, String> {
    let all = [Verdict::Faster, Verdict::Slower, Verdict::NoDifference];
    let found = all.into_iter().find(|verdict| verdict.to_string() == text);
    found.ok_or_else(|| "faster, slower or 'no difference'".to_owned())
}

impl Options {
    /// How deep this run goes.
    pub(crate) fn depth(&self) -> Depth {
        match (self.quick, self.full) {
            (true, _) => Depth::Quick,
            (false, true) => Depth::Full,
            (false, false) => Depth::Usual,
        }
    }

    /// What is run and what is left out, each in the order of the report. A filter chooses among
    /// all.
    pub(crate) fn choose(&self) -> Fallible<(Vec<Scenario>, Vec<Scenario>)> {
        let chosen = |scenario: &Scenario| match &self.filter {
            Some(text) => scenario.name.contains(text.as_str()),
            None => scenario.depth <= self.depth(),
        };
        let (run, left_out): (Vec<_>, Vec<_>) = scenario::all().into_iter().partition(chosen);
        if run.is_empty() {
            return Err("no scenario has that in its name; --list shows the names".into());
        }
        Ok((run, left_out))
    }

    /// Why a scenario is left out.
    pub(crate) fn why_left_out(&self, scenario: &Scenario) -> String {
        match (&self.filter, scenario.depth) {
            (Some(filter), _) => format!("--filter {filter}"),
            (None, Depth::Full) => "only with --full".to_owned(),
            (None, Depth::Quick | Depth::Usual) => "not with --quick".to_owned(),
        }
    }

    /// How to measure, on these processors. The generator gets one of its own where there are two.
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
