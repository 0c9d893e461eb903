//! The race of `whirligig race`: both models in a few scenarios, each with a question before and a
//! verdict after it.
//!
//! Both servers of a scenario run all the time, but only one of them has requests at any time. In
//! each round both get the same load one after the other, in a random order, so a slow second of
//! the machine affects both. A model first runs against itself, which shows the noise.
//! `report` has the results, and `page` shows them. Must not know the terminal.

pub mod page;
pub mod report;

use std::sync::Arc;

use super::check::check;
use super::folder::Folder;
use super::load::{Arrival, Habit, Job};
use super::process::Side;
use super::program::Program;
use super::round;
use super::scenario::{self, Pace, Scenario};
use super::server::Role;
use super::stats::{Lots, NOISE_MIN, estimate, noise_of, over};
use super::{Fallible, MODELS, TIMEOUT_MS, cpu};
use report::{Compared, Report, Run};

/// Scenario in which each model runs against itself.
const NOISE_SCENARIO: &str = "hello";

/// A scenario of the race with its question and its explanation.
struct Card {
    name: &'static str,
    is_quick: bool,
    question: &'static str,
    lesson: &'static str,
}

/// Scenarios that run if none are chosen. They include one that threads win, and its remedy.
const CARDS: [Card; 7] = [
    Card {
        name: "hello",
        is_quick: true,
        question: "64 clients keep their connections open and each asks for 13 bytes, again and again.",
        lesson: "Compare the context switches. A thread sleeps until its client asks again, so the kernel switches \
                 to it for each response. The loop finds many clients ready in one poll and answers them in one turn.",
    },
    Card {
        name: "close",
        is_quick: true,
        question: "Each client opens a new connection for each response, 64 at once.",
        lesson: "The kernel's work for a connection costs both models the same. The twin also starts and ends a \
                 thread for each connection.",
    },
    Card {
        name: "cpu",
        is_quick: true,
        question: "Each response first needs 0.1 ms of computation. There is one processor for the server.",
        lesson: "The computation outweighs everything that the models do differently, and neither makes it shorter.",
    },
    Card {
        name: "block",
        is_quick: true,
        question: "The handler of every fiftieth request sleeps for 10 ms, in the thread that calls it.",
        lesson: "A handler that blocks holds up one thread, but on a loop it holds up all clients. Compare p99. On \
                 a loop, blocking work belongs into a job.",
    },
    Card {
        name: "block-jobs-64",
        is_quick: false,
        question: "The same handler sleeps as a job on a pool of 64 threads beside the loop. The twin runs it inline.",
        lesson: "The loop goes on while the jobs sleep, so it is not held up any more.",
    },
    Card {
        name: "pipelined",
        is_quick: false,
        question: "16 clients send 16 requests in one write, before they read the first response.",
        lesson: "Both models read all 16 requests at once and send the responses together. Compare the processor time.",
    },
    Card {
        name: "connections-1000",
        is_quick: false,
        question: "1,000 clients keep their connections open and ask for 13 bytes.",
        lesson: "The twin has 1,000 threads, each with its own stack. The loop has one thread, and a record for each client.",
    },
];

/// Settings of a race.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Scenarios in their order.
    pub scenarios: Vec<Scenario>,
    /// Number of rounds in each scenario.
    pub rounds: u32,
    /// Milliseconds of load before each measurement.
    pub warm_ms: u64,
    /// Milliseconds of each measurement.
    pub measure_ms: u64,
    /// Seed of the order within the rounds.
    pub seed: u64,
}

impl Plan {
    /// Returns the number of runs, those against the own model included.
    #[must_use]
    pub fn runs(&self) -> u64 {
        (self.scenarios.len() + MODELS.len()) as u64 * u64::from(self.rounds) * MODELS.len() as u64
    }
}

/// Returns the scenarios of a race without a choice. A quick one has fewer.
#[must_use]
pub fn usual(is_quick: bool) -> Vec<Scenario> {
    let cards = CARDS.iter().filter(|card| card.is_quick || !is_quick);
    cards.filter_map(|card| scenario::named(card.name)).collect()
}

/// Returns all scenarios that can be raced: those of a closed loop. The others need a rate that
/// both servers can hold, which `cargo bench --bench versus` finds first.
#[must_use]
pub fn possible() -> Vec<Scenario> {
    scenario::all().into_iter().filter(|scenario| scenario.pace == Pace::Closed).collect()
}

/// Progress of a race.
#[derive(Debug)]
pub enum News<'a> {
    /// One more run has ended, while the models ran against themselves.
    Warming,
    /// The noise is known.
    Noise,
    /// One more run of this scenario has ended.
    Run(&'a Compared),
    /// This scenario has its verdict.
    Judged(&'a Compared),
}

/// Runs a race. Adds its results to `report` and calls `tell` between runs, never during one. An
/// error from `tell` ends the race.
pub fn run(
    program: &Arc<Program>,
    plan: &Plan,
    report: &mut Report,
    tell: &mut dyn FnMut(&Report, &News<'_>) -> Fallible<()>,
) -> Fallible<()> {
    let folder = Folder::new()?;
    scenario::write_docroot(folder.path())?;
    let mut track = Track { program, plan, folder, lots: Lots(plan.seed) };
    let hello = scenario::named(NOISE_SCENARIO).ok_or("no scenario for the noise")?;
    let mut noise = NOISE_MIN;
    for model in MODELS {
        let mut rates = [Vec::new(), Vec::new()];
        track.rounds(&hello, [model, model], &mut |place, run| {
            rates[place].push(run.rate);
            tell(report, &News::Warming)
        })?;
        let pairs: Vec<f64> =
            rates[0].iter().zip(&rates[1]).map(|(first, other)| over(*first, *other)).collect();
        noise = noise.max(noise_of(estimate(&pairs, &mut track.lots)));
    }
    report.noise = Some(noise);
    tell(report, &News::Noise)?;
    for (at, scenario) in plan.scenarios.iter().enumerate() {
        let mut compared = report.scenarios[at].clone();
        track.rounds(scenario, MODELS, &mut |place, run| {
            compared.add(place, run);
            report.scenarios[at] = compared.clone();
            tell(report, &News::Run(&compared))
        })?;
        compared.judge(noise, &mut track.lots);
        report.scenarios[at] = compared.clone();
        tell(report, &News::Judged(&compared))?;
    }
    Ok(())
}

/// The processors for the server and for the load generator. Each gets its own if there are at
/// least two; otherwise both lists are empty.
#[must_use]
pub fn processors() -> (Vec<usize>, Vec<usize>) {
    let all = cpu::processors();
    match all.split_first() {
        Some((first, others)) if !others.is_empty() => (vec![*first], others.to_vec()),
        _ => (Vec::new(), Vec::new()),
    }
}

/// Everything that a scenario needs to run.
struct Track<'a> {
    program: &'a Arc<Program>,
    plan: &'a Plan,
    folder: Folder,
    lots: Lots,
}

impl Track<'_> {
    /// Runs all rounds of a scenario on two servers. Calls `done` with the place of the server in
    /// `models`.
    fn rounds(
        &mut self,
        scenario: &Scenario,
        models: [&str; 2],
        done: &mut dyn FnMut(usize, Run) -> Fallible<()>,
    ) -> Fallible<()> {
        let mut sides = Vec::new();
        for model in models {
            let side = self.start(scenario, model)?;
            check(side.port, &scenario.asks, scenario.habit == Habit::Close)
                .map_err(|error| format!("{} on {model}: {error}", scenario.name))?;
            sides.push(side);
        }
        for _ in 0..self.plan.rounds {
            let mut order = [0, 1];
            self.lots.shuffle(&mut order);
            for (position, place) in order.into_iter().enumerate() {
                let job = self.job(scenario, sides[place].port);
                let ran = round::run(&mut sides[place], &job, position + 1)
                    .map_err(|error| format!("{} on {}: {error}", scenario.name, models[place]))?;
                done(place, Run::of(&ran))?;
            }
        }
        Ok(())
    }

    fn start(&self, scenario: &Scenario, model: &str) -> Fallible<Side> {
        let role = Role {
            threads: model == MODELS[1],
            root: self.folder.path().to_owned(),
            cpus: processors().0,
            slow_us: 0,
            job_threads: scenario.job_threads,
            stopwatch: false,
        };
        Side::start(self.program, model, &role)
    }

    fn job(&self, scenario: &Scenario, port: u16) -> Job {
        let cpus = processors().1;
        Job {
            port,
            arrival: Arrival::Closed,
            connections: scenario.connections,
            habit: scenario.habit,
            asks: scenario.asks.clone(),
            crowd: scenario.crowd,
            warm_ms: self.plan.warm_ms,
            measure_ms: self.plan.measure_ms,
            timeout_ms: TIMEOUT_MS,
            spin: !cpus.is_empty(),
            cpus,
        }
    }
}
