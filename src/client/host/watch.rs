//! Detects that the machine was suspended.

use std::time::{Duration, SystemTime};

/// How often to compare the clocks.
const CHECK: Duration = Duration::from_secs(1);

/// A clock that is this far ahead of the timers shows that the machine was suspended.
const ASLEEP: Duration = Duration::from_secs(10);

/// Completes after the machine was suspended: timers stop then, the `clock` does not. No event
/// tells that of a virtual machine.
pub(in crate::client) async fn machine_slept(clock: impl Fn() -> SystemTime) {
    let mut checks = tokio::time::interval(CHECK);
    loop {
        let (timer, begin) = (tokio::time::Instant::now(), clock());
        checks.tick().await;
        checks.tick().await;
        // A clock that was set back proves nothing.
        let passed = clock().duration_since(begin).unwrap_or_default();
        if passed > timer.elapsed() + ASLEEP {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    /// When a jump of the clock by this many seconds, after 100 s, is noticed.
    async fn noticed(jump: i64) -> Option<u64> {
        let began = Instant::now();
        let clock = || {
            let passed = began.elapsed();
            let jumped: i64 = if passed.as_secs() < 100 { 0 } else { jump };
            let seconds = (1 << 30) + jumped;
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()) + passed
        };
        let day = Duration::from_secs(24 * 3600);
        let slept = tokio::time::timeout(day, machine_slept(clock)).await;
        slept.ok().map(|()| began.elapsed().as_secs())
    }

    /// A laptop that is closed for an hour, in virtual time; and clocks that are set.
    #[tokio::test(start_paused = true)]
    async fn suspension_is_told_from_a_clock_that_is_set() {
        let noticed_at = noticed(3600).await.unwrap();
        assert!((100..=103).contains(&noticed_at), "{noticed_at}");
        for set in [5, -5, -3600] {
            assert_eq!(noticed(set).await, None, "a clock was set by {set} s");
        }
    }
}
