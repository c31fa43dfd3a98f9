//! A flag that one task waits for.

use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// Raised by anybody, taken down by the one task that waits for it. Cheaper than what may have many
/// waiters: it keeps no list of them. Where two wait, the one that began last is woken.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicBool,
    waiter: AtomicWaker,
}

impl Signal {
    /// One that is not raised.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            raised: AtomicBool::new(false),
            waiter: AtomicWaker::new(),
        }
    }

    /// Wakes the task that waits, or the next one that does.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waiter.wake();
    }

    /// Completes when the signal is raised, and takes it down. Cancel safe.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.take() {
                return Poll::Ready(());
            }
            self.waiter.register(context.waker());
            // It may have been raised between the two.
            if self.take() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn take(&self) -> bool {
        self.raised.load(Ordering::Relaxed) && self.raised.swap(false, Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::Arc;

    #[tokio::test]
    async fn it_is_kept_for_who_comes_later_and_given_once() {
        let signal = Signal::default();
        assert!(signal.wait().now_or_never().is_none());
        signal.raise();
        signal.raise();
        signal.wait().await;
        assert!(signal.wait().now_or_never().is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn none_is_lost_between_threads() {
        let signals = Arc::new([Signal::default(), Signal::default()]);
        let player = |own: usize| {
            let signals = Arc::clone(&signals);
            async move {
                for _ in 0..10_000 {
                    signals[own].wait().await;
                    signals[1 - own].raise();
                }
            }
        };
        let players = [tokio::spawn(player(0)), tokio::spawn(player(1))];
        signals[0].raise();
        for player in players {
            player.await.unwrap();
        }
    }
}
