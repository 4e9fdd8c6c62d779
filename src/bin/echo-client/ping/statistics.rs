//! Statistics of many durations: round-trip times and connect times.
//!
//! Invariant: the memory is bounded. Up to 1000 values, the percentiles are exact. Beyond that,
//! they are at most 0.8 % too large. The other figures are always exact.

use std::time::Duration;

use echo_reactor::cli::Histogram;

/// How many values are kept for exact percentiles.
const MAX_EXACT: usize = 1000;

#[derive(Default)]
pub struct Statistics {
    /// The first [`MAX_EXACT`] values.
    values: Vec<Duration>,
    /// All values.
    histogram: Histogram,
    shortest: Duration,
    /// In milliseconds.
    mean: f64,
    /// The sum of the squared distances from the mean. Welford's algorithm computes it without a
    /// loss of precision.
    squares: f64,
}

/// The statistics, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub min: f64,
    pub avg: f64,
    pub median: f64,
    pub p99: f64,
    pub max: f64,
    /// The standard deviation, under the name that `ping` uses.
    pub mdev: f64,
}

impl Statistics {
    #[allow(clippy::cast_precision_loss)] // below 2^53
    pub fn add(&mut self, value: Duration) {
        if self.values.len() < MAX_EXACT {
            self.values.push(value);
        }
        self.shortest = if self.count() == 0 { value } else { self.shortest.min(value) };
        self.histogram.add(value);
        let distance = milliseconds(value) - self.mean;
        self.mean += distance / self.count() as f64;
        self.squares += distance * (milliseconds(value) - self.mean);
    }

    pub fn count(&self) -> u64 {
        self.histogram.count()
    }

    /// Returns the statistics, or `None` if there is no value.
    #[allow(clippy::cast_precision_loss)] // below 2^53
    pub fn summary(&self) -> Option<Summary> {
        if self.count() == 0 {
            return None;
        }
        let (median, p99) = if self.count() == self.values.len() as u64 {
            exact_percentiles(self.values.clone())
        } else {
            (self.histogram.quantile(500), self.histogram.quantile(990))
        };
        Some(Summary {
            min: milliseconds(self.shortest),
            avg: self.mean,
            median: milliseconds(median),
            p99: milliseconds(p99),
            max: milliseconds(self.histogram.max()),
            mdev: (self.squares / self.count() as f64).sqrt(),
        })
    }
}

/// Returns the median and the 99th percentile. The median of an even number of values is the mean
/// of the middle two. The percentile is the nearest rank.
fn exact_percentiles(mut values: Vec<Duration>) -> (Duration, Duration) {
    values.sort_unstable();
    let (middle, rank) = (values.len() / 2, (values.len() * 99).div_ceil(100));
    let median = if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2
    } else {
        values[middle]
    };
    (median, values[rank - 1])
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(values: impl Iterator<Item = u64>) -> Summary {
        let mut statistics = Statistics::default();
        values.for_each(|value| statistics.add(Duration::from_millis(value)));
        statistics.summary().unwrap()
    }

    #[test]
    fn statistics_of_few_values_are_exact() {
        assert_eq!(Statistics::default().summary(), None);
        let one = summary([5].into_iter());
        assert_eq!(one, Summary { min: 5.0, avg: 5.0, median: 5.0, p99: 5.0, max: 5.0, mdev: 0.0 });
        let four = summary([4, 1, 3, 8].into_iter());
        assert_eq!((four.min, four.median, four.p99, four.max), (1.0, 3.5, 8.0, 8.0));
        assert!((four.avg - 4.0).abs() < 1e-9, "{}", four.avg);
        assert!((four.mdev.powi(2) - 6.5).abs() < 1e-9, "{}", four.mdev);
        let thousand = summary(1..=1000);
        assert!((thousand.median - 500.5).abs() < 1e-9 && (thousand.p99 - 990.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_of_many_values_are_at_most_0_8_percent_too_large() {
        let mut statistics = Statistics::default();
        (0..=MAX_EXACT).for_each(|_| statistics.add(Duration::ZERO));
        assert_eq!(statistics.values.len(), MAX_EXACT, "the memory is bounded");
        let many = summary((1..=100_000).rev());
        assert_eq!((many.min, many.max), (1.0, 100_000.0));
        assert!((many.avg - 50_000.5).abs() < 1e-6, "{}", many.avg);
        assert!((50_000.0..50_400.0).contains(&many.median), "{}", many.median);
        assert!((99_000.0..99_792.0).contains(&many.p99), "{}", many.p99);
        assert!((many.mdev - 28_867.513).abs() < 0.01, "{}", many.mdev);
    }
}
