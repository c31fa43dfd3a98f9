//! How many messages each user may send.
//!
//! [`Limiter`] has no clock: the time comes in.

use crate::account::{Account, Address};
use crate::auth::Identity;
use crate::utils::bucket::{Bucket, Pace};
use crate::utils::lock::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The most users that are tracked at a time. A user who has been quiet for long enough needs no
/// tracking; beyond that the one who is closest to it is forgotten.
const MAX_USERS: usize = 8192;

/// A bucket for every user.
#[derive(Debug)]
pub(super) struct Limiter {
    pace: Pace,
    buckets: HashMap<Account, Bucket>,
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

    /// Counts one message of `account`.
    ///
    /// # Errors
    /// How long `account` has to wait; the message then does not count.
    pub(super) fn take(&mut self, account: &Account, now: Instant) -> Result<(), Duration> {
        if let Some(bucket) = self.buckets.get_mut(account) {
            return bucket.take(&self.pace, now);
        }
        if self.buckets.len() >= self.limit {
            self.make_room(now);
        }
        let mut bucket = Bucket::default();
        let taken = bucket.take(&self.pace, now);
        self.buckets.insert(account.clone(), bucket);
        taken
    }

    fn make_room(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
        if self.buckets.len() >= self.limit {
            let fullest = self
                .buckets
                .iter()
                .min_by_key(|(_, bucket)| bucket.full_at());
            if let Some(account) = fullest.map(|(account, _)| account.clone()) {
                self.buckets.remove(&account);
            }
        }
    }
}

/// A peer's view of its user's rate limit. Requests beyond it are refused, because their sender
/// waits for an answer; other messages are delayed together with all that follow, so that nothing
/// is lost.
pub(super) struct UserLimit<'a> {
    /// The limiter and the account, if there is a rate limit.
    rates: Option<(&'a Mutex<Limiter>, Account)>,
    /// Messages have been delayed, which has been logged.
    waited: bool,
}

impl<'a> UserLimit<'a> {
    /// For a peer with this identity and address; without `rates` nothing is counted.
    pub(super) fn new(
        rates: Option<&'a Mutex<Limiter>>,
        identity: &Identity,
        address: Address,
    ) -> Self {
        Self {
            rates: rates.map(|rates| (rates, Account::of(identity, address))),
            waited: false,
        }
    }

    pub(super) fn take(&mut self) -> Result<(), Duration> {
        let Some((rates, account)) = &self.rates else {
            return Ok(());
        };
        let mut rates = lock(rates);
        rates.take(account, tokio::time::Instant::now().into_std())
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
        let user = |name: &str| Account::User(name.to_owned());
        let start = Instant::now();
        let mut limiter = Limiter::new(Pace::new(1, 2));
        limiter.limit = 3;
        for name in ["a", "a", "b"] {
            assert_eq!(limiter.take(&user(name), start), Ok(()));
        }
        assert_eq!(limiter.take(&user("a"), start), Err(Duration::from_secs(1)));
        assert_eq!(limiter.take(&user("c"), start), Ok(()));
        // No room: a user with a message left is forgotten; never the one with none.
        assert_eq!(limiter.take(&user("d"), start), Ok(()));
        assert_eq!(limiter.buckets.len(), 3);
        assert!(limiter.take(&user("a"), start).is_err());
        // Later all are quiet, and no user is tracked.
        let later = start + Duration::from_secs(10);
        assert_eq!(limiter.take(&user("e"), later), Ok(()));
        assert_eq!(limiter.buckets.len(), 1);
    }

    /// A peer without a user could otherwise use a new address of its network for each message.
    #[test]
    fn a_network_of_ipv6_is_counted_together() {
        let of = |address: &str| {
            let address = Address::Network(address.parse().unwrap());
            Account::of(&Identity::default(), address)
        };
        let start = Instant::now();
        let mut limiter = Limiter::new(Pace::new(1, 1));
        assert_eq!(limiter.take(&of("[2001:db8::1]:1"), start), Ok(()));
        assert!(limiter.take(&of("[2001:db8::2]:2"), start).is_err());
        assert_eq!(limiter.take(&of("[2001:db8:0:1::1]:1"), start), Ok(()));
        assert_eq!(limiter.take(&of("192.0.2.1:1"), start), Ok(()));
        assert_eq!(limiter.take(&of("192.0.2.2:1"), start), Ok(()));
    }
}
