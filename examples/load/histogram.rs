//! Latencies, counted in buckets: the memory is the same for a thousand and for a billion.
//!
//! Each power of two of nanoseconds is cut into 32 parts, so a figure is wrong by 3 % at the most.

use std::time::Duration;

const PARTS: u32 = 5; // as a power of two

pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; 64 << PARTS], count: 0, longest: Duration::ZERO }
    }
}

impl Histogram {
    pub fn add(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[index(nanoseconds)] += 1;
        self.count += 1;
        self.longest = self.longest.max(latency);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The latency that so many of a thousand stayed below.
    pub fn quantile(&self, of_thousand: u64) -> Duration {
        let rank = (self.count * of_thousand).div_ceil(1000);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return end_of(index).min(self.longest);
            }
        }
        self.longest
    }

    /// The same in at most `rows` wider buckets, from the first to the last that has any: where each begins, and
    /// its count.
    pub fn rows(&self, rows: usize) -> Vec<(Duration, u64)> {
        let first = self.buckets.iter().position(|&count| count > 0).unwrap_or(0);
        let last = self.buckets.iter().rposition(|&count| count > 0).unwrap_or(0);
        let widths = (0..).map(|power| 1 << power);
        let width = widths.into_iter().find(|width| last / width - first / width < rows).unwrap_or(1);
        let wide =
            self.buckets.chunks(width).enumerate().skip(first / width).take(last / width - first / width + 1);
        wide.map(|(number, part)| (start_of(number * width), part.iter().sum())).collect()
    }
}

/// The bucket: the exponent, and behind it the bits that follow the highest one.
fn index(nanoseconds: u64) -> usize {
    let exponent = (nanoseconds | 1 << PARTS).ilog2();
    let part = (nanoseconds >> (exponent - PARTS)) & ((1 << PARTS) - 1);
    ((exponent as usize) << PARTS) + part as usize
}

fn start_of(index: usize) -> Duration {
    let (exponent, part) = ((index >> PARTS) as u32, (index & ((1 << PARTS) - 1)) as u64);
    if exponent < PARTS {
        Duration::ZERO
    } else {
        Duration::from_nanos((1 << exponent) + (part << (exponent - PARTS)))
    }
}

fn end_of(index: usize) -> Duration {
    start_of(index + 1)
}
