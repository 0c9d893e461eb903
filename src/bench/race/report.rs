//! Results of a race as values, and their JSON.
//!
//! Terminal, page and `--json` show these values. Must not know how they are measured.

use serde::Serialize;

use super::{CARDS, Plan, processors};
use crate::bench::MODELS;
use crate::bench::round::{BUSY_MAX, Ran};
use crate::bench::scenario::Scenario;
use crate::bench::stats::{Estimate, Lots, Verdict, coverage, estimate, judge, median, over};

/// Version of the JSON form.
const VERSION: u32 = 1;

/// All results so far.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    record: &'static str,
    version: u32,
    /// Version of the program.
    program: &'static str,
    /// Number of rounds in each scenario.
    pub rounds: u32,
    /// Milliseconds of each measurement.
    pub measured_ms: u64,
    /// Probability with which an interval contains the true ratio.
    pub confidence: f64,
    /// Processors of the server. Empty if it shares one with the generator.
    pub server_processors: Vec<usize>,
    /// Processors of the load generator.
    pub generator_processors: Vec<usize>,
    /// Reasons to doubt all figures.
    pub warnings: Vec<String>,
    /// Difference between two servers of one model, as a ratio minus 1. `None` until it is known.
    pub noise: Option<f64>,
    /// Scenarios in their order, including those that have not run yet.
    pub scenarios: Vec<Compared>,
}

impl Report {
    /// Creates the report of a race that has not begun.
    #[must_use]
    pub fn new(plan: &Plan) -> Report {
        let (server_processors, generator_processors) = processors();
        let mut warnings = Vec::new();
        if server_processors.is_empty() {
            warnings.push("one processor: servers and load generator share it".to_owned());
        }
        if cfg!(debug_assertions) {
            warnings.push("a build without optimisation: its figures mean little".to_owned());
        }
        Report {
            record: "whirligig-race",
            version: VERSION,
            program: env!("CARGO_PKG_VERSION"),
            rounds: plan.rounds,
            measured_ms: plan.measure_ms,
            confidence: coverage(plan.rounds as usize),
            server_processors,
            generator_processors,
            warnings,
            noise: None,
            scenarios: plan.scenarios.iter().map(Compared::new).collect(),
        }
    }

    /// Returns the report as JSON without a line end.
    ///
    /// # Errors
    /// Never with these types.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// Both models in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Name of the scenario.
    pub name: String,
    /// Description in one line.
    pub title: String,
    question: Option<&'static str>,
    lesson: Option<&'static str>,
    /// Number of connections that send requests.
    pub connections: u32,
    /// The models, in the order of [`MODELS`].
    pub sides: [Racer; 2],
    /// Responses per second of the reactor over those of the threads.
    pub ratio: Option<Estimate>,
    /// Processor time per response of the reactor over that of the threads.
    pub cpu_ratio: Option<Estimate>,
    /// Verdict on the reactor. `None` until the scenario has ended.
    pub verdict: Option<Verdict>,
    /// The verdict in words.
    pub words: Option<String>,
    /// True if the load generator limited one of the rates. Then the ratio is too close to 1.
    pub is_generator_bound: bool,
}

impl Compared {
    fn new(scenario: &Scenario) -> Compared {
        let card = CARDS.iter().find(|card| card.name == scenario.name);
        Compared {
            name: scenario.name.clone(),
            title: scenario.title.clone(),
            question: card.map(|card| card.question),
            lesson: card.map(|card| card.lesson),
            connections: scenario.connections,
            sides: MODELS.map(Racer::new),
            ratio: None,
            cpu_ratio: None,
            verdict: None,
            words: None,
            is_generator_bound: false,
        }
    }

    /// Adds a run of the server at this place.
    pub(super) fn add(&mut self, place: usize, run: Run) {
        self.sides[place].add(run);
    }

    /// Compares the runs of both servers, in pairs by round.
    pub(super) fn judge(&mut self, noise: f64, lots: &mut Lots) {
        let [first, other] = &self.sides;
        let ratios = |figure: fn(&Run) -> f64| -> Vec<f64> {
            let pairs = first.runs.iter().zip(&other.runs);
            pairs.map(|(first, other)| over(figure(first), figure(other))).collect()
        };
        let ratio = estimate(&ratios(|run| run.rate), lots);
        let verdict = judge(ratio, noise);
        self.cpu_ratio = Some(estimate(&ratios(|run| run.cpu_us_each), lots));
        (self.ratio, self.verdict) = (Some(ratio), Some(verdict));
        self.words = Some(words(ratio.value, verdict));
        self.is_generator_bound = self.sides.iter().any(|side| side.generator_busy > BUSY_MAX);
    }

    /// Returns the number of errors of both models.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.sides.iter().map(|side| side.errors).sum()
    }
}

/// Returns the verdict in words. `ratio` is that of the reactor over the threads.
fn words(ratio: f64, verdict: Verdict) -> String {
    match verdict {
        Verdict::Faster => format!("{} {ratio:.2} times as fast", MODELS[0]),
        Verdict::Slower => format!("{} {:.2} times as fast", MODELS[1], 1.0 / ratio),
        Verdict::NoDifference => "no difference within the noise".to_owned(),
    }
}

/// One model in one scenario: the median of its runs.
#[derive(Clone, Debug, Serialize)]
pub struct Racer {
    /// Name of the model.
    pub model: &'static str,
    /// Responses per second.
    pub rate: f64,
    /// Median of the service time in microseconds, from sending a request to its whole response.
    pub p50_us: f64,
    /// 99th percentile of the service time in microseconds.
    pub p99_us: f64,
    /// Processor time per response in microseconds.
    pub cpu_us_each: f64,
    /// Context switches per response.
    pub switches_each: f64,
    /// Threads of the server at the end of a run.
    pub threads: f64,
    /// Busy share of the load generator.
    pub generator_busy: f64,
    /// Errors of all runs.
    pub errors: u64,
    /// Runs in their order.
    pub runs: Vec<Run>,
}

impl Racer {
    fn new(model: &'static str) -> Racer {
        Racer {
            model,
            rate: 0.0,
            p50_us: 0.0,
            p99_us: 0.0,
            cpu_us_each: 0.0,
            switches_each: 0.0,
            threads: 0.0,
            generator_busy: 0.0,
            errors: 0,
            runs: Vec::new(),
        }
    }

    fn add(&mut self, run: Run) {
        self.errors += run.errors;
        self.runs.push(run);
        let middle = |figure: fn(&Run) -> f64| median(&self.runs.iter().map(figure).collect::<Vec<f64>>());
        self.rate = middle(|run| run.rate);
        self.p50_us = middle(|run| run.p50_us);
        self.p99_us = middle(|run| run.p99_us);
        self.cpu_us_each = middle(|run| run.cpu_us_each);
        self.switches_each = middle(|run| run.switches_each);
        self.threads = middle(|run| run.threads);
        self.generator_busy = middle(|run| run.generator_busy);
    }
}

/// Figures of one run, with the units of [`Racer`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    pub(super) rate: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us_each: f64,
    switches_each: f64,
    threads: f64,
    generator_busy: f64,
    errors: u64,
}

impl Run {
    pub(super) fn of(ran: &Ran) -> Run {
        let round = &ran.round;
        Run {
            rate: round.rate,
            p50_us: round.p50_us,
            p99_us: round.p99_us,
            cpu_us_each: round.cpu_us_each,
            switches_each: ran.switches_each.unwrap_or(0.0),
            threads: round.threads as f64,
            generator_busy: round.busy,
            errors: round.errors,
        }
    }
}
