//! How often, and with which pauses, the client tries to connect.
//!
//! Pure: no I/O, no clock.

use super::settings::Reconnect;
use crate::utils::backoff;
use std::time::Duration;

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Retry {
    policy: Reconnect,
    failures: u32,
}

impl Retry {
    pub(super) fn new(policy: Reconnect) -> Self {
        Self {
            policy,
            failures: 0,
        }
    }

    /// Notes that an attempt has failed, or a connection was lost. Returns the longest pause before the next
    /// attempt, or `None` if there were too many.
    pub(super) fn failed(&mut self) -> Option<Duration> {
        let Reconnect {
            max_attempts,
            delay,
        } = self.policy;
        if max_attempts > 0 && self.failures >= max_attempts {
            return None;
        }
        let pause = backoff::delay(delay, self.failures);
        self.failures = self.failures.saturating_add(1);
        Some(pause)
    }

    /// Notes a useful connection.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How many attempts have failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(max_attempts: u32) -> Retry {
        Retry::new(Reconnect {
            max_attempts,
            delay: Duration::from_secs(1),
        })
    }

    #[test]
    fn pauses_double_until_there_have_been_enough() {
        let mut retry = retry(3);
        let pauses: Vec<_> = std::iter::from_fn(|| retry.failed()).collect();
        assert_eq!(pauses, [1, 2, 4].map(Duration::from_secs));
        assert_eq!(retry.failures(), 3);
        assert_eq!(retry.failed(), None, "and stay so");
    }

    #[test]
    fn a_success_starts_over() {
        let mut retry = retry(3);
        for _ in 0..10 {
            assert_eq!(retry.failed(), Some(Duration::from_secs(1)));
            retry.succeeded();
        }
    }

    #[test]
    fn zero_attempts_are_any_number() {
        let mut retry = retry(0);
        assert!((0..1000).all(|_| retry.failed().is_some()));
        assert_eq!(retry.failed(), Some(backoff::MAX_DELAY));
    }
}
