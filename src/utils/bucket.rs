//! Token buckets: so much per second, and so much at once.
//!
//! No clock: the time comes in. A bucket is one point in time, the moment when it is full again,
//! so that nothing has to be filled up and nothing rounds.

use std::time::{Duration, Instant};

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time in which one token comes.
    every: Duration,
    /// The time in which an empty bucket fills up.
    whole: Duration,
}

impl Pace {
    /// `rate` tokens per second, at most `burst` at once; less than one of either counts as one.
    #[must_use]
    pub fn new(rate: u32, burst: u32) -> Self {
        let every = Duration::from_secs(1) / rate.max(1);
        Self {
            every,
            whole: every.saturating_mul(burst.max(1)),
        }
    }
}

/// One bucket; full at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one token.
    ///
    /// # Errors
    /// How long to wait for one, when there is none.
    pub fn take(&mut self, pace: &Pace, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + pace.every;
        let wait = (full_at - now).saturating_sub(pace.whole);
        if wait.is_zero() {
            self.full_at = Some(full_at);
            Ok(())
        } else {
            Err(wait)
        }
    }

    /// Gives one token back that has turned out not to be needed.
    pub fn give_back(&mut self, pace: &Pace) {
        self.full_at = self
            .full_at
            .and_then(|full_at| full_at.checked_sub(pace.every));
    }

    /// True when nothing is missing, as in a new one.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }

    /// When it is full again; `None` for a new one.
    #[must_use]
    pub fn full_at(&self) -> Option<Instant> {
        self.full_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let (pace, start) = (Pace::new(10, 3), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(&pace, at(0)), Ok(()));
        }
        assert_eq!(bucket.take(&pace, at(0)), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(&pace, at(60)), Err(Duration::from_millis(40)));
        assert_eq!(bucket.take(&pace, at(100)), Ok(()));
        assert_eq!(bucket.take(&pace, at(100)), Err(Duration::from_millis(100)));
        assert!(!bucket.is_full(at(399)) && bucket.is_full(at(400)));
        for _ in 0..3 {
            assert_eq!(bucket.take(&pace, at(9_000)), Ok(()));
        }
        assert!(bucket.take(&pace, at(9_000)).is_err());
        bucket.give_back(&pace);
        assert_eq!(bucket.take(&pace, at(9_000)), Ok(()));
        // It holds no more than its capacity, however much is returned.
        (0..9).for_each(|_| bucket.give_back(&pace));
        let taken = (0..9).filter(|_| bucket.take(&pace, at(9_000)).is_ok());
        assert_eq!(taken.count(), 3);
    }

    proptest! {
        /// In no period more than the burst and what the rate adds in it; and a caller that waits
        /// as long as it was told gets its token.
        #[test]
        fn the_bound_holds(rate in 1u32..2000, burst in 1u32..50, steps in prop::collection::vec(0u64..2_000_000, 1..200)) {
            let pace = Pace::new(rate, burst);
            let start = Instant::now();
            let (mut bucket, mut now, mut taken) = (Bucket::default(), start, Vec::new());
            for step in steps {
                now += Duration::from_micros(step);
                match bucket.take(&pace, now) {
                    Ok(()) => taken.push(now),
                    Err(wait) => prop_assert_eq!(bucket.clone().take(&pace, now + wait), Ok(())),
                }
            }
            for (at, first) in taken.iter().enumerate() {
                for (count, last) in taken[at..].iter().enumerate() {
                    let brought = (*last - *first).as_nanos() / pace.every.as_nanos();
                    prop_assert!(count as u128 <= u128::from(burst) + brought);
                }
            }
        }
    }
}
