//! The pauses between attempts.

use std::time::Duration;

/// No pause is longer than this, whatever the schedule says.
pub const MAX_DELAY: Duration = Duration::from_secs(30);

/// The pause before try number `attempt` (from 0): `initial` × 2^attempt, at most [`MAX_DELAY`].
#[must_use]
pub fn delay(initial: Duration, attempt: u32) -> Duration {
    initial
        .saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX))
        .min(MAX_DELAY)
}

/// A random part of `pause`, at least half of it, so that many clients of one server do not come
/// back all at once.
#[must_use]
pub fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_thirty_seconds() {
        let second = Duration::from_secs(1);
        let seconds: Vec<u64> = [0, 1, 2, 4, 5, 31, 32, u32::MAX]
            .iter()
            .map(|attempt| delay(second, *attempt).as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 16, 30, 30, 30, 30]);
        assert_eq!(delay(Duration::ZERO, 40), Duration::ZERO);
    }

    #[test]
    fn the_schedule_is_the_upper_bound() {
        let second = Duration::from_secs(1);
        let pauses: Vec<Duration> = (0..1000).map(|_| jitter(second)).collect();
        assert!(
            pauses
                .iter()
                .all(|pause| (second / 2..=second).contains(pause))
        );
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(
            *most - *least > second / 4,
            "all at once: {least:?} to {most:?}"
        );
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }
}
