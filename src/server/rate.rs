//! How many messages each user may send.
//!
//! [`Limiter`] has no clock: the time comes in.

use super::peer::Context;
use crate::auth::Identity;
use crate::utils::bucket::{Bucket, Pace};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
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

/// A peer's part of what its user may send. Requests beyond it are refused, since somebody waits for
/// an answer; everything else waits, and what stands behind it, so that nothing gets lost.
pub(super) struct Ticket<'a> {
    rates: Option<&'a Mutex<Limiter>>,
    /// The user, or where there is none the address.
    who: String,
    /// Some have had to wait, which has been logged.
    waited: bool,
}

impl<'a> Ticket<'a> {
    pub(super) fn new(context: &'a Context, identity: &Identity, address: SocketAddr) -> Self {
        let rates = context.rates.as_ref();
        let who = match (&identity.user, rates) {
            (_, None) => String::new(),
            (Some(user), _) => format!("user {user}"),
            (None, _) => format!("address {}", address.ip()),
        };
        Self {
            rates,
            who,
            waited: false,
        }
    }

    pub(super) fn take(&mut self) -> Result<(), Duration> {
        let Some(rates) = self.rates else {
            return Ok(());
        };
        let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(&self.who, tokio::time::Instant::now().into_std())
    }

    pub(super) async fn wait(&mut self) {
        while let Err(wait) = self.take() {
            if !self.waited {
                tracing::warn!("messages wait: there are more of them than --rate-limit allows");
                self.waited = true;
            }
            tokio::time::sleep(wait).await;
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
