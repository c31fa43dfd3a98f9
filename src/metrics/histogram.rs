//! Times, counted by their size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of the buckets, in microseconds: the proxy takes some ten of them, tools take seconds.
const ENDS: [u64; 18] = [
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    120_000_000,
];

/// Times, counted by their size.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// The last one is for all that is longer.
    buckets: [AtomicU64; ENDS.len() + 1],
    /// In nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, time: Duration) {
        let micros = time.as_nanos().div_ceil(1000);
        let bucket = ENDS.partition_point(|end| u128::from(*end) < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The sum in seconds, how many there are, and how many of them are in each bucket, by its end.
    pub(super) fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let ends = ENDS.iter().map(|end| *end as f64 / 1e6);
        let counts = self.buckets.iter().map(|it| it.load(Ordering::Relaxed));
        let buckets: Vec<_> = ends.chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (
            self.sum.load(Ordering::Relaxed) as f64 / 1e9,
            count,
            buckets,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_does_not_end_before_it() {
        let histogram = Histogram::default();
        for nanos in [
            0,
            10_000,
            10_001,
            999_999_999,
            1_000_000_000,
            121_000_000_000,
        ] {
            histogram.observe(Duration::from_nanos(nanos));
        }
        let (sum, count, buckets) = histogram.read();
        assert_eq!((sum, count), (123.000_020, 6));
        let filled: Vec<_> = buckets
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            filled,
            [(1e-5, 2), (2.5e-5, 1), (1.0, 2), (f64::INFINITY, 1)]
        );
    }
}
