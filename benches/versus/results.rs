//! What was measured, as values: the form of `results.json`, and the same as CSV and Markdown.
//!
//! `benches/versus/results.schema.json` describes the form; a test holds the two together. Every
//! picture and table is made of these values and of nothing else, so that a report can be made
//! again from the file.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::load::Errors;
use super::machine::Machine;
use super::stats::{Estimate, Verdict, coverage, median};

/// Name and version of the form.
pub(crate) const SCHEMA: &str = "whirligig-versus/1";
/// A generator that is busier than this measures itself.
pub(crate) const BUSY_MAX: f64 = 0.9;

/// What that means for a figure.
pub(crate) const GENERATOR_BOUND: &str =
    "the generator was busy for more than 90 % and so the limit; a ratio of rates is then too near to 1";

/// A whole run.
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

/// By how much a server differs from itself here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// Of throughput in a closed loop, as a ratio less 1.
    pub(crate) closed: f64,
    /// Of the 99th percentile in an open one.
    pub(crate) open: f64,
    pub(crate) checks: Vec<NoiseCheck>,
}

/// A server against another one of the same kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NoiseCheck {
    pub(crate) name: String,
    pub(crate) ratio: Estimate,
}

/// A scenario that was left out, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NotRun {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// How a scenario is paced, and so what its figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Loop {
    /// Figure: answers a second. More is better.
    Closed,
    /// Figure: 99th percentile of the latency from the moment a request was due. Less is better.
    Open,
}

/// One scenario on all sides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) title: String,
    #[serde(rename = "loop")]
    pub(crate) pace: Loop,
    pub(crate) connections: u32,
    /// Open: what was offered, a second.
    pub(crate) offered: Option<f64>,
    pub(crate) on_ladder: bool,
    pub(crate) sides: Vec<SideResult>,
    pub(crate) ratios: Vec<Ratio>,
}

/// The first side against another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) against: String,
    /// Above 1 the first side is better: of rates the first over the other, of latencies the other
    /// over the first.
    pub(crate) ratio: Estimate,
    pub(crate) verdict: Verdict,
}

/// One server in one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SideResult {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Round>,
    /// Latency in microseconds by quantile, over all rounds. Closed: service time. Open: from when
    /// it was due.
    pub(crate) spectrum_us: Vec<(f64, f64)>,
    pub(crate) errors: Errors,
    /// Resident memory before the first connection.
    pub(crate) base_bytes: u64,
    /// By another run, which is not timed: they need a look into the kernel. None where `perf`
    /// cannot.
    pub(crate) syscalls_each: Option<f64>,
    pub(crate) switches_each: Option<f64>,
    /// The reactor's own count.
    pub(crate) turns: Option<Turns>,
    /// What its time goes into, by a further run under its stopwatch.
    pub(crate) activities: Option<Activities>,
}

/// Seconds by what a loop spends them on.
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

/// What the loop did, from `/_whirligig/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Turns {
    pub(crate) turns: f64,
    pub(crate) events: f64,
    /// Seconds of turns after their waits.
    pub(crate) working: f64,
    /// Seconds from first look to last.
    pub(crate) wall: f64,
}

/// One run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Whether it was first, second and so on in its round.
    pub(crate) place: usize,
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) cpu_us_each: f64,
    /// The share of processor time in user mode; in steps of 10 ms, so only many rounds together
    /// say something.
    pub(crate) user_ms: f64,
    pub(crate) system_ms: f64,
    /// Of the generator.
    pub(crate) busy: f64,
    pub(crate) threads: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) errors: u64,
}

impl SideResult {
    pub(crate) fn figures(&self, figure: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }

    pub(crate) fn middle(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(&self.figures(figure))
    }

    /// Resident memory that came with the connections, for each of them; none where they are too
    /// few to tell.
    pub(crate) fn bytes_each(&self, connections: u32) -> Option<f64> {
        let grown = self.middle(|round| round.resident_bytes as f64) - self.base_bytes as f64;
        (connections >= 256).then(|| grown.max(0.0) / f64::from(connections))
    }

    /// The share of processor time spent in user mode.
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
    /// The ratio against the twin, in most runs the only one.
    pub(crate) fn main_ratio(&self) -> Option<&Ratio> {
        self.ratios.first()
    }

    /// Whether the ratio against the twin says as much about the generator as about the servers.
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

    /// How often at least an interval holds the true ratio: that of the scenario with the fewest
    /// rounds.
    pub(crate) fn coverage(&self) -> f64 {
        let sides = self.scenarios.iter().flat_map(|scenario| &scenario.sides);
        coverage(sides.map(|side| side.rounds.len()).min().unwrap_or(0))
    }

    /// The same in words, not rounded up: `96 %`.
    pub(crate) fn coverage_words(&self) -> String {
        format!("{:.0} %", (self.coverage() * 100.0).floor())
    }

    /// Machine, revision, rounds and seed in one line.
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

    /// The names of what was not run, by the reason.
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

    /// The ratio of `varied` over that of `file-1k`, less 1: whether what varies changes who is
    /// faster.
    pub(crate) fn varied_shift(&self) -> Option<f64> {
        let ratio = |name| self.scenario(name)?.main_ratio().map(|ratio| ratio.ratio.value);
        Some(ratio("varied")? / ratio("file-1k")? - 1.0)
    }

    /// One line a run of one server: for those who want to compute something else.
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

    /// Two tables, one for each kind of loop, and under which conditions.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (pace, heading, unit) in [
            (Loop::Closed, "Closed loop: answers a second", "req/s"),
            (Loop::Open, "Open loop: 99th percentile from the moment a request was due", "p99"),
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

/// A name that a user chose, fit for CSV.
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

/// The figure a side is judged by, with its unit where that is not in the heading.
pub(crate) fn figure(pace: Loop, side: &SideResult) -> String {
    match pace {
        Loop::Closed => grouped(side.middle(|round| round.rate)),
        Loop::Open => time(side.middle(|round| round.p99_us)),
    }
}

/// `1.43 (1.38 to 1.50)`.
pub(crate) fn ratio_words(ratio: Estimate) -> String {
    format!("{:.2} ({:.2} to {:.2})", ratio.value, ratio.low, ratio.high)
}

/// Microseconds in the unit people would say.
pub(crate) fn time(us: f64) -> String {
    match us {
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// Bytes in the unit people would say.
pub(crate) fn bytes(count: f64) -> String {
    match count {
        count if count < 10_000.0 => format!("{count:.0} B"),
        count if count < 10.0 * 1024.0 * 1024.0 => format!("{:.0} KiB", count / 1024.0),
        count => format!("{:.0} MiB", count / 1024.0 / 1024.0),
    }
}

/// A number with commas: `123,456`.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
