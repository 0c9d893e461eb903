//! Histogram of latencies with three significant digits, in bounded memory.
//!
//! Values below 2,048 have a bucket each. Above, each power of two is divided into 1,024 buckets,
//! so the values of one bucket differ by less than a thousandth. The layout and the quantiles are
//! those of HdrHistogram, and a test compares the two. Must not know what a value means.

/// Number of buckets for each power of two.
const BUCKETS_EACH: u64 = 1_024;

/// Counts of values up to a limit.
#[derive(Clone, Debug)]
pub struct Histogram {
    value_max: u64,
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Creates an empty histogram. Values above `value_max` count as `value_max`.
    pub fn new(value_max: u64) -> Histogram {
        Histogram { value_max, counts: vec![0; bucket(value_max) + 1], total: 0 }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Counts a value `count` times.
    pub fn record_many(&mut self, value: u64, count: u64) {
        self.counts[bucket(value.min(self.value_max))] += count;
        self.total += count;
    }

    /// Returns the largest value of each bucket that has a count, with that count, smallest value
    /// first.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        let counted = self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0);
        counted.map(|(bucket, count)| (last_of(bucket), count))
    }

    /// Returns the value that this share of all values does not exceed. The share 0 is the smallest
    /// value. Returns 0 if nothing was counted.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut sum = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            sum += count;
            if sum >= wanted {
                return if share == 0.0 { first_of(bucket) } else { last_of(bucket) };
            }
        }
        0
    }
}

/// Returns the bucket of a value.
fn bucket(value: u64) -> usize {
    let shift = shift_of(value);
    (u64::from(shift) * BUCKETS_EACH + (value >> shift)) as usize
}

/// Returns the number of low bits that a bucket ignores.
fn shift_of(value: u64) -> u32 {
    (u64::BITS - value.leading_zeros()).saturating_sub((2 * BUCKETS_EACH).ilog2())
}

fn first_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / BUCKETS_EACH).saturating_sub(1);
    (bucket - shift * BUCKETS_EACH) << shift
}

fn last_of(bucket: usize) -> u64 {
    first_of(bucket + 1) - 1
}
