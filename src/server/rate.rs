//! How many messages each user may send.
//!
//! No clock: the time comes in.

use crate::utils::bucket::{Bucket, Pace};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The most users that are counted at a time. Whoever has been quiet for long enough needs no
/// counting; beyond that the one who is nearest to it is forgotten.
const MAX_USERS: usize = 8192;

/// A bucket for every user.
#[derive(Debug)]
pub(super) struct Limiter {
    pace: Pace,
    buckets: HashMap<Box<str>, Bucket>,
    limit: usize,
}

impl Limiter {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            buckets: HashMap::new(),
            limit: MAX_USERS,
        }
    }

    /// Counts one message of `user`.
    ///
    /// # Errors
    /// How long `user` has to wait; the message then does not count.
    pub(super) fn take(&mut self, user: &str, now: Instant) -> Result<(), Duration> {
        if let Some(bucket) = self.buckets.get_mut(user) {
            return bucket.take(&self.pace, now);
        }
        if self.buckets.len() >= self.limit {
            self.make_room(now);
        }
        let mut bucket = Bucket::default();
        let taken = bucket.take(&self.pace, now);
        self.buckets.insert(user.into(), bucket);
        taken
    }

    fn make_room(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
        if self.buckets.len() >= self.limit {
            let fullest = self
                .buckets
                .iter()
                .min_by_key(|(_, bucket)| bucket.full_at());
            if let Some(user) = fullest.map(|(user, _)| user.clone()) {
                self.buckets.remove(&user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_counted_apart_and_bounded_in_number() {
        let start = Instant::now();
        let mut limiter = Limiter::new(Pace::new(1, 2));
        limiter.limit = 3;
        for user in ["a", "a", "b"] {
            assert_eq!(limiter.take(user, start), Ok(()));
        }
        assert_eq!(limiter.take("a", start), Err(Duration::from_secs(1)));
        assert_eq!(limiter.take("c", start), Ok(()));
        // No room: of those who have one message left, one is forgotten; never the one who has none.
        assert_eq!(limiter.take("d", start), Ok(()));
        assert_eq!(limiter.buckets.len(), 3);
        assert!(limiter.take("a", start).is_err());
        // Later all are quiet, and nobody is kept.
        let later = start + Duration::from_secs(10);
        assert_eq!(limiter.take("e", later), Ok(()));
        assert_eq!(limiter.buckets.len(), 1);
    }
}
