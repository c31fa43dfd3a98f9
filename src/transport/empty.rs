//! Input that costs work and is not a message: empty lines and frames, acknowledgements of nothing new.

use crate::utils::bucket::{Bucket, Pace};
use std::time::Instant;

/// How many of these one connection may send per second …
const EMPTY_PER_SECOND: u32 = 1_000;
/// … and in a burst: far more than any client has reason to.
const EMPTY_BURST: u32 = 10_000;

/// Counts them on one connection.
#[derive(Debug)]
pub struct Empties {
    pace: Pace,
    bucket: Bucket,
}

impl Default for Empties {
    fn default() -> Self {
        Self {
            pace: Pace::new(EMPTY_PER_SECOND, EMPTY_BURST),
            bucket: Bucket::default(),
        }
    }
}

impl Empties {
    /// Counts this many; false if that is too many.
    #[must_use]
    pub fn count(&mut self, count: usize, now: Instant) -> bool {
        (0..count).all(|_| self.bucket.take(&self.pace, now).is_ok())
    }

    /// Uncounts one that turned out to be a message.
    pub fn discount(&mut self) {
        self.bucket.give_back(&self.pace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn many_at_once_or_for_long_are_too_many() {
        let start = Instant::now();
        let (burst, rate) = (EMPTY_BURST as usize, EMPTY_PER_SECOND as usize);
        let mut empties = Empties::default();
        assert!(empties.count(burst, start));
        assert!(!empties.count(1, start));
        assert!(empties.count(rate, start + Duration::from_secs(1)));
        assert!(!empties.count(1, start + Duration::from_secs(1)));
        empties.discount();
        assert!(empties.count(1, start + Duration::from_secs(1)));
    }
}
