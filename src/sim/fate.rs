//! The fate of a failing run: in which of its steps did failure become certain?
//!
//! A *future* at step `k` of a run has the first `k` steps of the run, and then the chances of
//! another seed. The share of futures that fail is the fate at `k`. [`FateLine`] chooses the steps
//! to examine: some that are spread over the run, and then, by bisection, the step from which
//! nearly all futures fail. The caller runs the futures, in pieces of any size. This file must not
//! know clocks, processors or pages.

use std::ops::Range;

use crate::observe::Object;
use crate::observe::step::{Step, TimedStep};
use crate::sim::scenario::{Fork, Run, Scenario, Setup};

/// Largest number of steps of a run that are examined.
pub const POINTS_MAX: usize = 24;

/// Number of futures of a step.
pub const FUTURES: u32 = 50;

/// Failing futures from which a run counts as decided: nine of ten.
const DECIDED: u32 = 45;

/// Number of parts of the run between the steps that are examined first.
const PARTS: usize = 8;

/// The fate at one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Number of steps that stay as they are.
    pub step: usize,
    /// Number of futures that fail, of [`FUTURES`].
    pub failed: u32,
}

impl Point {
    fn is_decided(self) -> bool {
        self.failed >= DECIDED
    }
}

/// The step that decides a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nearly all futures fail already before the first step.
    FromTheBeginning(Point),
    /// The last examined step before which other futures are possible, and the next step.
    Step(Point, Point),
    /// The search has not ended; the step comes after the first and not after the second of these.
    Between(Point, Point),
}

/// Examined steps of a run that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FateLine {
    /// Steps that can be examined. A phase is reported together with its first operation, so no
    /// future begins between the two.
    places: Vec<usize>,
    /// In the order of the steps. At the last step of the run nothing is left to chance.
    points: Vec<Point>,
}

impl FateLine {
    /// Begins the line of a failing run with these steps.
    #[must_use]
    pub fn of(steps: &[TimedStep]) -> FateLine {
        let is_phase = |at: usize| steps.get(at).is_some_and(|step| matches!(step.step, Step::Phase(_)));
        let within = (1..steps.len()).filter(|step| !is_phase(step - 1));
        let mut places: Vec<usize> = std::iter::once(0).chain(within).chain([steps.len()]).collect();
        places.dedup();
        FateLine { places, points: vec![Point { step: steps.len(), failed: FUTURES }] }
    }

    /// Returns the examined steps in their order.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Adds the fate at a step, unless that step was examined before or cannot be.
    pub fn add(&mut self, point: Point) {
        let place = self.points.binary_search_by_key(&point.step, |other| other.step);
        if let (Err(at), Ok(_)) = (place, self.places.binary_search(&point.step)) {
            self.points.insert(at, point);
        }
    }

    /// Returns the next step to examine, or `None` if the search has ended.
    #[must_use]
    pub fn next_step(&self) -> Option<usize> {
        if let Some(step) = self.spread().next() {
            return Some(step);
        }
        let (before, after) = self.gap()?;
        let (first, last) = (self.place(before), self.place(after));
        let is_left = last - first > 1 && self.points.len() < POINTS_MAX;
        is_left.then(|| self.places[first + (last - first) / 2])
    }

    /// Returns how many steps will be examined, with those that have been. An estimate until the
    /// search has ended.
    #[must_use]
    pub fn expected(&self) -> usize {
        let left = self.spread().count();
        let width = match self.gap() {
            _ if left > 0 => self.places.len().div_ceil(PARTS),
            Some((before, after)) => self.place(after) - self.place(before),
            None => 1,
        };
        let halvings = width.next_power_of_two().trailing_zeros() as usize;
        (self.points.len() + left + halvings).min(POINTS_MAX)
    }

    /// Returns the step that decides the run, as far as the examined steps show it.
    #[must_use]
    pub fn decision(&self) -> Decision {
        match self.gap() {
            None => Decision::FromTheBeginning(self.points[0]),
            Some((before, after)) if self.place(after) - self.place(before) > 1 => {
                Decision::Between(before, after)
            }
            Some((before, after)) => Decision::Step(before, after),
        }
    }

    /// Returns the number of the deciding step, 0 for the beginning, or `None` if the search has
    /// not ended.
    #[must_use]
    pub fn decided_at(&self) -> Option<usize> {
        match self.decision() {
            _ if self.next_step().is_some() => None,
            Decision::FromTheBeginning(_) => Some(0),
            Decision::Step(_, after) => Some(after.step),
            Decision::Between(..) => None,
        }
    }

    /// Iterates over the steps that are spread over the run and not examined yet.
    fn spread(&self) -> impl Iterator<Item = usize> {
        let last = self.places.len() - 1;
        let steps = (0..PARTS).map(move |part| self.places[last * part / PARTS]);
        steps.filter(|step| self.points.iter().all(|point| point.step != *step))
    }

    /// Returns the last examined step that is not decided, and the next one.
    fn gap(&self) -> Option<(Point, Point)> {
        let last = self.points.iter().rposition(|point| !point.is_decided())?;
        Some((self.points[last], *self.points.get(last + 1)?))
    }

    fn place(&self, point: Point) -> usize {
        self.places.binary_search(&point.step).unwrap_or_default()
    }

    /// Returns the result as text.
    #[must_use]
    pub fn sentence(&self) -> String {
        let of = |point: Point| match point.failed {
            1 => format!("1 of {FUTURES} futures fails"),
            failed => format!("{failed} of {FUTURES} futures fail"),
        };
        if self.points.len() < 2 && self.next_step().is_some() {
            return "No step has been examined.".to_owned();
        }
        match self.decision() {
            Decision::FromTheBeginning(point) if self.next_step().is_some() => {
                format!("The search has not ended. Before the first step {}.", of(point))
            }
            Decision::FromTheBeginning(point) => format!(
                "Failure is certain from the beginning: before the first step {}. So chance has {} part in it.",
                of(point),
                if point.failed == FUTURES { "no" } else { "little" }
            ),
            Decision::Step(before, after) => {
                format!("Step {} decides: before it {}, after it {}.", after.step, of(before), of(after))
            }
            Decision::Between(before, after) => format!(
                "The search has not ended. After step {} {}, after step {} {}.",
                before.step,
                of(before),
                after.step,
                of(after)
            ),
        }
    }

    /// Returns the line as JSON: one object with the number of futures of a step, the examined
    /// steps with their failing futures, the next step to examine or null, the deciding step (0 for
    /// the beginning) or null, and a sentence.
    #[must_use]
    pub fn json(&self) -> String {
        let point = |point: &Point| {
            let mut object = Object::new();
            object.number("step", point.step as u64).number("failed", point.failed.into());
            object.end()
        };
        let points: Vec<String> = self.points.iter().map(point).collect();
        let optional = |step: Option<usize>| step.map_or_else(|| "null".to_owned(), |step| step.to_string());
        let mut object = Object::new();
        object.number("futures", FUTURES.into()).raw("points", &format!("[{}]", points.join(",")));
        object.raw("next", &optional(self.next_step())).raw("decided_at", &optional(self.decided_at()));
        object.number("expected", self.expected() as u64).text("sentence", &self.sentence());
        object.end()
    }
}

/// Runs some of the futures of a run at a step. Returns how many fail. Future number `n`, from 0,
/// has the seed `n + 1`, or the one after it if the run itself has a seed up to that.
#[must_use]
pub fn failing_futures(scenario: &Scenario, setup: Setup, step: usize, which: Range<u32>) -> u32 {
    let fails = |number: &u32| {
        let seed = u64::from(*number) + 1;
        let seed = if setup.seed.is_some_and(|own| own > 0 && own <= seed) { seed + 1 } else { seed };
        Run::forked(scenario, setup, Fork { step, seed }).first_symptom().is_some()
    };
    which.filter(fails).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::decision::WrongDecisions;
    use crate::observe::step::{Fact, Stop};
    use crate::sim::bugs::{BUGS, Bug};
    use crate::sim::scenario::{Report, all, embedded};
    use crate::sim::world::Rng;

    fn setup(bug: &str, seed: Option<u64>) -> Setup {
        Setup { wrong: Bug::named(bug).map_or(WrongDecisions::NONE, Bug::wrong), seed }
    }

    /// Every scenario without a bug and with each, as written and with seeds.
    fn runs(mut visit: impl FnMut(&Scenario, Setup, &Report)) {
        for scenario in all() {
            for bug in std::iter::once("none").chain(BUGS.iter().map(|bug| bug.name)) {
                for seed in [None, Some(7)] {
                    let setup = setup(bug, seed);
                    visit(&scenario, setup, &Run::of(&scenario, setup).finish());
                }
            }
        }
    }

    fn forked(scenario: &Scenario, setup: Setup, step: usize, seed: u64) -> Report {
        Run::forked(scenario, setup, Fork { step, seed }).finish()
    }

    fn search(scenario: &Scenario, setup: Setup) -> FateLine {
        let mut line = FateLine::of(&Run::of(scenario, setup).finish().steps);
        while let Some(step) = line.next_step() {
            line.add(Point { step, failed: failing_futures(scenario, setup, step, 0..FUTURES) });
        }
        line
    }

    #[test]
    fn a_fork_at_the_last_step_is_the_run_itself() {
        runs(|scenario, setup, run| {
            let fork = forked(scenario, setup, run.steps.len(), 4711);
            assert_eq!(fork.hash(), run.hash(), "{} {setup:?}", scenario.name);
            assert_eq!(fork.symptom, run.symptom, "{} {setup:?}", scenario.name);
        });
    }

    #[test]
    fn a_fork_at_step_0_is_the_run_with_that_seed() {
        runs(|scenario, setup, _| {
            let seeded = Run::of(scenario, Setup { seed: Some(4711), ..setup }).finish();
            let fork = forked(scenario, setup, 0, 4711);
            assert_eq!(fork.hash(), seeded.hash(), "{} {setup:?}", scenario.name);
            assert_eq!(fork.symptom, seeded.symptom);
        });
    }

    #[test]
    fn a_future_has_the_steps_of_the_run_until_its_fork() {
        let (mut rng, mut changed) = (Rng(7), 0);
        runs(|scenario, setup, run| {
            let step = rng.below(run.steps.len() as u64) as usize;
            let future = forked(scenario, setup, step, 1 + rng.below(1000));
            assert_eq!(future.steps[..step], run.steps[..step], "{} {setup:?}", scenario.name);
            changed += u32::from(future.steps != run.steps);
        });
        assert!(changed > 300, "only {changed} futures differ from their runs");
    }

    #[test]
    fn the_share_at_the_last_step_of_a_failing_run_is_1() {
        let mut failing = 0;
        runs(|scenario, setup, run| {
            if run.symptom.is_some() {
                failing += 1;
                assert_eq!(failing_futures(scenario, setup, run.steps.len(), 0..5), 5, "{}", scenario.name);
                let line = FateLine::of(&run.steps);
                assert_eq!(line.points(), [Point { step: run.steps.len(), failed: FUTURES }]);
            }
        });
        assert!(failing > 30, "only {failing} runs fail");
    }

    /// Two jobs of equal length meet in the inbox if both begin in one turn. The loop takes one.
    #[test]
    fn a_lost_wake_up_is_decided_when_the_second_job_begins() {
        let (scenario, setup) = (embedded("two-results").unwrap(), setup("lost-wake-up", None));
        let line = search(&scenario, setup);
        let run = Run::of(&scenario, setup).finish();
        let step = line.decided_at().unwrap();
        assert!(matches!(run.steps[step - 1].step, Step::Fact(Fact::JobBegins(_))), "{line:?}");
        assert!(line.points()[0].failed < 20, "{line:?}");
        assert!(line.sentence().starts_with(&format!("Step {step} decides: before it ")));
    }

    /// Clients that connect in one moment are reported by one event. Until the first one connects,
    /// each of them may come later than the others.
    #[test]
    fn a_client_that_has_not_connected_may_still_come_later() {
        let (scenario, setup) = (embedded("listen-queue").unwrap(), setup("accept-once", None));
        let line = search(&scenario, setup);
        let run = Run::of(&scenario, setup).finish();
        let Decision::Step(before, after) = line.decision() else { panic!("{line:?}") };
        assert!(matches!(run.steps[after.step - 1].step, Step::Fact(Fact::Connects(_))), "{line:?}");
        assert!(before.failed < 30 && after.failed == FUTURES, "{line:?}");
    }

    #[test]
    fn dropped_bytes_are_decided_by_a_short_write() {
        for name in ["stale-answer", "partial-head", "two-results"] {
            let scenario = embedded(name).unwrap();
            let fails = |seed: &u64| {
                Run::of(&scenario, setup("unsent-dropped", Some(*seed))).first_symptom().is_some()
            };
            let setup = setup("unsent-dropped", (1..500).find(fails));
            let line = search(&scenario, setup);
            let step = Run::of(&scenario, setup).finish().steps[line.decided_at().unwrap() - 1].step;
            assert!(matches!(step, Step::Write(moved) if moved.stop == Stop::Short), "{name} {line:?}");
        }
    }

    #[test]
    fn chance_has_no_part_in_a_failure_that_every_seed_has() {
        let line = search(&embedded("stale-answer").unwrap(), setup("no-generations", None));
        assert_eq!(line.decided_at(), Some(0));
        assert!(line.sentence().ends_with("50 of 50 futures fail. So chance has no part in it."));
        assert!(line.json().contains("\"next\":null,\"decided_at\":0,"), "{}", line.json());
    }

    #[test]
    fn the_own_seed_is_no_future() {
        let scenario = embedded("stale-answer").unwrap();
        let setup = setup("unsent-dropped", Some(39));
        let fails = |seed| Run::forked(&scenario, setup, Fork { step: 0, seed }).first_symptom().is_some();
        let others = (1..=u64::from(FUTURES) + 1).filter(|seed| *seed != 39 && fails(*seed)).count();
        assert_eq!(failing_futures(&scenario, setup, 0, 0..FUTURES) as usize, others);
    }

    /// The search needs few steps, also for the longest run.
    #[test]
    fn bisection_finds_the_step_in_any_run() {
        let steps = Run::of(&embedded("slow-reader").unwrap(), Setup::default()).finish().steps;
        let mut rng = Rng(9);
        for len in [1, 2, 7, 8, 9, 100, 2000, 200_000] {
            let steps: Vec<TimedStep> = steps.iter().copied().cycle().take(len).collect();
            for _ in 0..if len > 1000 { 5 } else { 50 } {
                let mut line = FateLine::of(&steps);
                let decides = line.places[rng.below(line.places.len() as u64) as usize];
                let (mut examined, mut expected) = (1, usize::MAX);
                while let Some(step) = line.next_step() {
                    line.add(Point { step, failed: if step >= decides { DECIDED } else { DECIDED - 1 } });
                    examined += 1;
                    assert!(line.points().len() == examined && examined <= line.expected());
                    assert!(line.expected() <= expected.max(PARTS + 1));
                    expected = line.expected();
                }
                assert_eq!(line.decided_at(), Some(decides), "{len} {line:?}");
                assert!(examined <= POINTS_MAX);
            }
        }
    }
}
