//! Statistics of comparisons: paired ratios, their interval, and a verdict.
//!
//! In each round both servers run one after the other, so a slow second of the machine affects
//! both. The ratio within a round counts. The interval is that of the median ratio: the bootstrap
//! interval, widened to the exact interval that needs no assumption about the distribution. A
//! difference counts only if it exceeds both this interval and the noise, which is the difference
//! of a server from itself on this machine.

use serde::{Deserialize, Serialize};

/// Limit of a ratio in both directions. Beyond it, one of the two servers did almost nothing.
const RATIO_MAX: f64 = 1_000.0;
/// Probability with which an interval should contain the true value.
const CONFIDENCE: f64 = 0.95;
/// Lower bound of the noise of a closed loop, because a machine can be quiet for a few seconds by
/// chance.
pub const NOISE_MIN: f64 = 0.02;
/// Minimum number of rounds. With fewer, no interval can be given.
pub const ROUNDS_MIN: u32 = 5;
/// Number of bootstrap samples.
const RESAMPLES: usize = 4_000;

/// Random numbers, equal for equal seeds (SplitMix64).
#[derive(Clone, Debug)]
pub struct Lots(pub u64);

impl Lots {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Shuffles items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

/// Returns the median, or the mean of the two middle figures. Returns 0 for no figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Returns `first` over `other`, also if one of them is 0.
pub fn over(first: f64, other: f64) -> f64 {
    let least = f64::MIN_POSITIVE;
    (first.max(least) / other.max(least)).clamp(1.0 / RATIO_MAX, RATIO_MAX)
}

/// A median with its interval. [`coverage`] is the confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Median.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Estimates the median of `figures` with its percentile bootstrap interval, widened to the exact
/// bounds. With few figures, the bootstrap contains the true median less often than its level (7
/// figures: 87.5 % at a level of 95 %).
pub fn estimate(figures: &[f64], lots: &mut Lots) -> Estimate {
    if figures.is_empty() {
        return Estimate::default();
    }
    let medians = (0..RESAMPLES).map(|_| median(&resample(figures, lots))).collect();
    let drawn = interval(median(figures), medians);
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = bound_rank(sorted.len());
    let (low, high) = (sorted[rank - 1], sorted[sorted.len() - rank]);
    Estimate { value: drawn.value, low: drawn.low.min(low), high: drawn.high.max(high) }
}

/// Returns the rank of the figures that bound the median, counted from either end of the sorted
/// figures. This is the innermost rank with a confidence of 95 %, or the outermost rank if there is
/// none.
fn bound_rank(count: usize) -> usize {
    (2..=count / 2).rev().find(|rank| held_between(count, *rank) >= CONFIDENCE).unwrap_or(1)
}

/// Returns the probability that the true median lies between the figures of this rank from either
/// end. It does not if `count` coin tosses give fewer heads or fewer tails than this rank.
fn held_between(count: usize, rank: usize) -> f64 {
    let mut ways = 1.0;
    let mut outside = 0.0;
    for heads in 0..rank {
        outside += ways;
        ways *= (count - heads) as f64 / (heads + 1) as f64;
    }
    1.0 - 2.0 * outside / 2_f64.powi(i32::try_from(count).unwrap_or(i32::MAX))
}

/// Returns the least probability that the interval of so many paired rounds contains the true
/// median, for every distribution.
pub fn coverage(rounds: usize) -> f64 {
    if rounds == 0 { 0.0 } else { held_between(rounds, bound_rank(rounds)) }
}

/// Estimates the median of `figures` over that of `others`, with its percentile bootstrap interval.
/// Samples both separately, because nothing pairs them.
pub fn estimate_unpaired(figures: &[f64], others: &[f64], lots: &mut Lots) -> Estimate {
    if figures.is_empty() || others.is_empty() {
        return Estimate::default();
    }
    let ratio = |figures: &[f64], others: &[f64]| over(median(figures), median(others));
    let ratios = (0..RESAMPLES).map(|_| ratio(&resample(figures, lots), &resample(others, lots))).collect();
    interval(ratio(figures, others), ratios)
}

/// Draws a sample of the same size, with replacement.
fn resample(figures: &[f64], lots: &mut Lots) -> Vec<f64> {
    figures.iter().map(|_| figures[lots.below(figures.len())]).collect()
}

fn interval(value: f64, mut drawn: Vec<f64>) -> Estimate {
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn[((RESAMPLES - 1) as f64 * share).round() as usize];
    Estimate { value, low: at(0.025), high: at(0.975) }
}

/// Verdict of a comparison, about the first of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The first server was faster.
    Faster,
    /// The first server was slower.
    Slower,
    /// The difference, if any, is within the noise or the interval.
    NoDifference,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::NoDifference => "no difference",
        })
    }
}

/// Judges a ratio that is above 1 if the first server is better. `noise` is the ratio of a server
/// to itself, minus 1. There is a difference only if the interval lies on one side of 1 and the
/// ratio exceeds the noise.
pub fn judge(ratio: Estimate, noise: f64) -> Verdict {
    let band = 1.0 + noise.max(0.0);
    if ratio.low > 1.0 && ratio.value > band {
        Verdict::Faster
    } else if ratio.high < 1.0 && ratio.value < 1.0 / band && ratio.value > 0.0 {
        Verdict::Slower
    } else {
        Verdict::NoDifference
    }
}

/// Returns the noise: the distance between 1 and the far end of the interval.
pub fn noise_of(ratio: Estimate) -> f64 {
    let factor = |ratio: f64| ratio.max(1.0 / ratio.max(1.0 / RATIO_MAX)).min(RATIO_MAX);
    factor(ratio.low).max(factor(ratio.high)) - 1.0
}
