//! Counts latencies in buckets, so the memory does not grow with their number.
//!
//! Invariant: each power of two of nanoseconds is divided into 128 buckets, so a quantile is at
//! most 0.8 % too large.

use std::time::Duration;

/// The binary logarithm of the number of buckets for each power of two.
const BUCKET_BITS: u32 = 7;

/// The number of latencies in each bucket.
#[derive(Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; 64 << BUCKET_BITS], count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn add(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[index(nanoseconds)] += 1;
        self.count += 1;
        self.max = self.max.max(latency);
    }

    /// Returns the number of latencies.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the longest latency.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Returns the latency that `per_mille` of every thousand latencies do not exceed: 500 is the
    /// median.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let rank = (self.count * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return end_of(index).min(self.max);
            }
        }
        self.max
    }

    /// Merges the buckets into at most `rows` rows, from the first to the last that is not empty.
    /// Returns the start and the count of each row.
    #[must_use]
    pub fn rows(&self, rows: usize) -> Vec<(Duration, u64)> {
        let first = self.buckets.iter().position(|&count| count > 0).unwrap_or(0);
        let last = self.buckets.iter().rposition(|&count| count > 0).unwrap_or(0);
        let mut width = 1;
        while last / width - first / width >= rows {
            width *= 2;
        }
        let row = |number| (start_of(number), self.buckets[number..number + width].iter().sum());
        (first / width..=last / width).map(|number| row(number * width)).collect()
    }
}

/// Returns the index of a bucket: the exponent, followed by the bits after the highest one. The
/// shortest latency that has its own bucket is 128 ns.
#[allow(clippy::cast_possible_truncation)] // less than 64 << BUCKET_BITS
fn index(nanoseconds: u64) -> usize {
    let nanoseconds = nanoseconds.max(1 << BUCKET_BITS);
    let exponent = nanoseconds.ilog2();
    let part = (nanoseconds >> (exponent - BUCKET_BITS)) & ((1 << BUCKET_BITS) - 1);
    ((exponent as usize) << BUCKET_BITS) + part as usize
}

#[allow(clippy::cast_possible_truncation)] // as above
fn start_of(index: usize) -> Duration {
    let (exponent, part) = ((index >> BUCKET_BITS) as u32, (index & ((1 << BUCKET_BITS) - 1)) as u64);
    if exponent < BUCKET_BITS {
        Duration::ZERO
    } else {
        Duration::from_nanos((1 << exponent) + (part << (exponent - BUCKET_BITS)))
    }
}

fn end_of(index: usize) -> Duration {
    start_of(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_is_at_most_0_8_percent_too_large() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|number| histogram.add(Duration::from_nanos(number * 991)));
        for (quantile, exact) in [(1, 100.0), (500, 50_000.0), (990, 99_000.0), (1000, 100_000.0)] {
            let ratio = histogram.quantile(quantile).as_secs_f64() / (exact * 991e-9);
            assert!((1.0..1.008).contains(&ratio), "{quantile}: {ratio}");
        }
        assert_eq!(histogram.max(), Duration::from_micros(99_100));
        assert_eq!(Histogram::default().quantile(500), Duration::ZERO);
    }

    #[test]
    fn rows_have_equal_numbers_of_buckets_and_begin_and_end_with_one_that_is_not_empty() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::ZERO);
        assert_eq!(histogram.rows(20), [(Duration::from_nanos(128), 1)]);
        histogram = Histogram::default();
        assert_eq!(histogram.rows(20), [(Duration::ZERO, 0)]);
        for latency in [1000, 3000, 3001, 4000] {
            histogram.add(Duration::from_nanos(latency));
        }
        for (rows, expected, filled) in [
            (256, 129, vec![(1000, 1), (2976, 2), (4000, 1)]),
            (17, 17, vec![(960, 1), (2816, 2), (3840, 1)]),
            (16, 9, vec![(896, 1), (2560, 2), (3584, 1)]),
        ] {
            let mut found = histogram.rows(rows);
            assert_eq!(found.len(), expected);
            found.retain(|&(_, count)| count > 0);
            let filled = filled.into_iter().map(|(start, count)| (Duration::from_nanos(start), count));
            assert_eq!(found, filled.collect::<Vec<_>>());
        }
    }
}
