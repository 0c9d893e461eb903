//! Results as values, with their form in `results.json`, CSV and Markdown.
//!
//! `benches/versus/results.schema.json` describes the JSON, and a test compares the two. Every
//! picture and table is generated from these values only, so a report can be generated again from
//! the file.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::load::Errors;
use super::machine::Machine;
use super::round::BUSY_MAX;
pub(crate) use super::round::Round;
use super::stats::{Estimate, Verdict, coverage, median};
use super::words::{grouped, ratio_words, time};

/// Name and version of the JSON schema.
pub(crate) const SCHEMA: &str = "whirligig-versus/1";
/// Explanation printed with figures that the generator limited.
pub(crate) const GENERATOR_BOUND: &str = "the generator was busy for more than 90 % of the time and limited the rate; the ratio is then too close to 1";

/// Results of a whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) schema: String,
    pub(crate) when: String,
    pub(crate) command: String,
    /// `quick`, `usual` or `full`.
    pub(crate) mode: String,
    pub(crate) seed: u64,
    pub(crate) rounds: u32,
    pub(crate) measured_ms: u64,
    pub(crate) machine: Machine,
    pub(crate) noise: Noise,
    pub(crate) warnings: Vec<String>,
    pub(crate) scenarios: Vec<Compared>,
    pub(crate) not_run: Vec<NotRun>,
}

/// Difference between two servers of the same kind on this machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// Noise of the throughput in a closed loop, as a ratio minus 1.
    pub(crate) closed: f64,
    /// Noise of the 99th percentile in an open loop, as a ratio minus 1.
    pub(crate) open: f64,
    pub(crate) checks: Vec<NoiseCheck>,
}

/// Comparison of two servers of the same kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NoiseCheck {
    pub(crate) name: String,
    pub(crate) ratio: Estimate,
}

/// A scenario that was left out, with the reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NotRun {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// Kind of loop of a scenario. Determines its main figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Loop {
    /// Figure: responses per second. More is better.
    Closed,
    /// Figure: 99th percentile of the latency, counted from the time at which a request was due.
    /// Less is better.
    Open,
}

/// One scenario on all servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) title: String,
    #[serde(rename = "loop")]
    pub(crate) pace: Loop,
    pub(crate) connections: u32,
    /// Open loop: offered requests per second.
    pub(crate) offered: Option<f64>,
    pub(crate) on_ladder: bool,
    pub(crate) sides: Vec<SideResult>,
    pub(crate) ratios: Vec<Ratio>,
}

/// Comparison of the first server with another one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) against: String,
    /// Ratio above 1 if the first server is better. Closed loop: rate of the first over the other.
    /// Open loop: latency of the other over the first.
    pub(crate) ratio: Estimate,
    pub(crate) verdict: Verdict,
}

/// One server in one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SideResult {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Round>,
    /// Latency in microseconds by quantile, over all rounds. Closed loop: service time. Open loop:
    /// counted from the time at which the request was due.
    pub(crate) spectrum_us: Vec<(f64, f64)>,
    pub(crate) errors: Errors,
    /// Resident memory before the first connection.
    pub(crate) base_bytes: u64,
    /// System calls per response. Counted in another run that is not timed. `None` without a
    /// tracer.
    pub(crate) syscalls_each: Option<f64>,
    pub(crate) switches_each: Option<f64>,
    /// Counters of the reactor.
    pub(crate) turns: Option<Turns>,
    /// Time per activity, measured in a further run of the reactor with its stopwatch.
    pub(crate) activities: Option<Activities>,
}

/// Seconds of a loop by activity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Activities {
    pub(crate) waiting: f64,
    pub(crate) reading: f64,
    pub(crate) handling: f64,
    pub(crate) writing: f64,
    pub(crate) keeping: f64,
}

impl std::ops::Sub for Activities {
    type Output = Activities;

    fn sub(self, before: Activities) -> Activities {
        Activities {
            waiting: self.waiting - before.waiting,
            reading: self.reading - before.reading,
            handling: self.handling - before.handling,
            writing: self.writing - before.writing,
            keeping: self.keeping - before.keeping,
        }
    }
}

/// Counters of the reactor from `/_whirligig/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Turns {
    pub(crate) turns: f64,
    pub(crate) events: f64,
    /// Seconds of all turns without their waits.
    pub(crate) working: f64,
    /// Seconds between the first and the last reading of the counters.
    pub(crate) wall: f64,
}

impl SideResult {
    pub(crate) fn figures(&self, figure: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }

    pub(crate) fn middle(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(&self.figures(figure))
    }

    /// Returns the resident bytes added by each connection. `None` if there are too few connections
    /// to measure this.
    pub(crate) fn bytes_each(&self, connections: u32) -> Option<f64> {
        let grown = self.middle(|round| round.resident_bytes as f64) - self.base_bytes as f64;
        (connections >= 256).then(|| grown.max(0.0) / f64::from(connections))
    }

    /// Returns the share of processor time in user mode.
    pub(crate) fn user_share(&self) -> Option<f64> {
        let sum = |figure: fn(&Round) -> f64| self.rounds.iter().map(figure).sum::<f64>();
        let (user, system) = (sum(|round| round.user_ms), sum(|round| round.system_ms));
        (user + system > 0.0).then(|| user / (user + system))
    }

    pub(crate) fn generator_was_limit(&self) -> bool {
        self.middle(|round| round.busy) > BUSY_MAX
    }
}

impl Compared {
    /// Returns the ratio to the twin. In most runs there is no other.
    pub(crate) fn main_ratio(&self) -> Option<&Ratio> {
        self.ratios.first()
    }

    /// Returns whether the generator limited one of the two rates in the main ratio.
    pub(crate) fn generator_was_limit(&self) -> bool {
        self.sides.iter().take(2).any(SideResult::generator_was_limit)
    }

    pub(crate) fn side(&self, name: &str) -> Option<&SideResult> {
        self.sides.iter().find(|side| side.name == name)
    }
}

impl Results {
    pub(crate) fn scenario(&self, name: &str) -> Option<&Compared> {
        self.scenarios.iter().find(|scenario| scenario.name == name)
    }

    /// Returns the least probability with which an interval contains the true ratio. The scenario
    /// with the fewest rounds determines it.
    pub(crate) fn coverage(&self) -> f64 {
        let sides = self.scenarios.iter().flat_map(|scenario| &scenario.sides);
        coverage(sides.map(|side| side.rounds.len()).min().unwrap_or(0))
    }

    /// Formats the coverage, rounded down: `96 %`.
    pub(crate) fn coverage_words(&self) -> String {
        format!("{:.0} %", (self.coverage() * 100.0).floor())
    }

    /// Formats machine, revision, rounds and seed in one line.
    pub(crate) fn conditions(&self) -> String {
        let machine = &self.machine;
        format!(
            "{}, {} processors, {}; {}; revision {}; {} rounds of {} ms, seed {}",
            machine.cpu,
            machine.processors,
            machine.kernel,
            machine.rustc,
            machine.revision,
            self.rounds,
            self.measured_ms,
            self.seed
        )
    }

    /// Groups the names of scenarios that did not run by their reason.
    pub(crate) fn left_out(&self) -> Vec<(&str, Vec<&str>)> {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for item in &self.not_run {
            match reasons.iter_mut().find(|(why, _)| *why == item.why) {
                Some((_, names)) => names.push(&item.name),
                None => reasons.push((&item.why, vec![&item.name])),
            }
        }
        reasons
    }

    /// Returns the ratio in `varied` over the ratio in `file-1k`, minus 1. Shows whether varying
    /// requests change which model is faster.
    pub(crate) fn varied_shift(&self) -> Option<f64> {
        let ratio = |name| self.scenario(name)?.main_ratio().map(|ratio| ratio.ratio.value);
        Some(ratio("varied")? / ratio("file-1k")? - 1.0)
    }

    /// Formats the results as CSV with one line per run and server.
    pub(crate) fn csv(&self) -> String {
        let mut csv =
            "scenario,loop,connections,offered,side,round,place,rate,p50_us,p99_us,p999_us,cpu_us_each,\
                       user_ms,system_ms,generator_busy,threads,resident_bytes,errors\n"
                .to_owned();
        for scenario in &self.scenarios {
            let pace = if scenario.pace == Loop::Open { "open" } else { "closed" };
            let offered = scenario.offered.map(|rate| format!("{rate:.0}")).unwrap_or_default();
            for side in &scenario.sides {
                for (number, round) in side.rounds.iter().enumerate() {
                    let _ = writeln!(
                        csv,
                        "{},{pace},{},{offered},{},{},{},{:.1},{:.1},{:.1},{:.1},{:.3},{:.0},{:.0},{:.3},{},{},{}",
                        scenario.name,
                        scenario.connections,
                        csv_word(&side.name),
                        number + 1,
                        round.place,
                        round.rate,
                        round.p50_us,
                        round.p99_us,
                        round.p999_us,
                        round.cpu_us_each,
                        round.user_ms,
                        round.system_ms,
                        round.busy,
                        round.threads,
                        round.resident_bytes,
                        round.errors
                    );
                }
            }
        }
        csv
    }

    /// Formats the results as two tables, one per kind of loop, followed by the conditions.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (pace, heading, unit) in [
            (Loop::Closed, "Closed loop: responses per second", "req/s"),
            (
                Loop::Open,
                "Open loop: 99th percentile, counted from the time at which a request was due",
                "p99",
            ),
        ] {
            let lines: Vec<String> =
                self.scenarios.iter().filter(|s| s.pace == pace).map(markdown_line).collect();
            if lines.is_empty() {
                continue;
            }
            let _ = writeln!(
                text,
                "{heading}:\n\n| scenario | reactor {unit} | threads {unit} | ratio ({}) | the reactor is |\n\
                 |---|---:|---:|---:|---|\n{}\n",
                self.coverage_words(),
                lines.join("\n")
            );
        }
        if self.scenarios.iter().any(Compared::generator_was_limit) {
            let _ = writeln!(text, "Generator-bound: {GENERATOR_BOUND}.\n");
        }
        let _ = writeln!(text, "{}. Measured by `{}`.", self.conditions(), self.command);
        for warning in &self.warnings {
            let _ = writeln!(text, "\n**{warning}**");
        }
        text
    }
}

/// Quotes a name chosen by the user for CSV.
fn csv_word(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

fn markdown_line(scenario: &Compared) -> String {
    let figure = |side: Option<&SideResult>| side.map_or("-".to_owned(), |side| figure(scenario.pace, side));
    let (ratio, verdict) = match scenario.main_ratio() {
        Some(ratio) => (ratio_words(ratio.ratio), ratio.verdict.to_string()),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let errors: u64 = scenario.sides.iter().map(|side| side.errors.total()).sum();
    let errors = if errors == 0 { String::new() } else { format!(" ({errors} errors)") };
    let bound = if scenario.generator_was_limit() { " (generator-bound)" } else { "" };
    format!(
        "| {} | {} | {} | {ratio} | {verdict}{bound}{errors} |",
        scenario.title,
        figure(scenario.side("reactor")),
        figure(scenario.side("threads"))
    )
}

/// Formats the main figure of a server, with its unit if the heading does not contain it.
pub(crate) fn figure(pace: Loop, side: &SideResult) -> String {
    match pace {
        Loop::Closed => grouped(side.middle(|round| round.rate)),
        Loop::Open => time(side.middle(|round| round.p99_us)),
    }
}
