//! A timer that is set often and rings rarely.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes its task at the time it was set to, or earlier: setting it to a later time costs nothing
/// until the earlier one has come.
#[derive(Debug)]
pub struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// One that rings at this time. Within a runtime.
    #[must_use]
    pub fn at(time: Instant) -> Self {
        Self(Box::pin(sleep_until(time)))
    }

    /// Lets it ring at this time.
    pub fn set(&mut self, time: Instant) {
        if self.0.is_elapsed() || time < self.0.deadline() {
            self.0.as_mut().reset(time);
        }
    }
}

/// Completes when it rings. Cancel safe.
impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_rings_in_time_however_often_it_is_set() {
        let began = Instant::now();
        let second = Duration::from_secs(1);
        let mut alarm = Alarm::at(began + 100 * second);
        alarm.set(began + 3 * second);
        alarm.set(began + 5 * second);
        (&mut alarm).await;
        assert_eq!(began.elapsed(), 3 * second, "early, as it was set before");
        alarm.set(began + 5 * second);
        (&mut alarm).await;
        assert_eq!(began.elapsed(), 5 * second);
        alarm.set(began + 20 * second);
        alarm.set(began + 6 * second);
        alarm.await;
        assert_eq!(began.elapsed(), 6 * second);
    }
}
