//! Lines that arrive together are written together.

use std::future::{Future, poll_fn};

/// What gathers lines until it is told to write them.
pub trait Flush {
    /// Writes what has been gathered, at once as far as possible.
    fn flush(&self);
}

/// Gathers as long as there is more at once: flushes before its owner has to wait, and when dropped.
#[derive(Debug)]
pub struct Batch<'a, F: Flush>(&'a F);

impl<'a, F: Flush> Batch<'a, F> {
    /// Gathers in `outlet`.
    pub fn new(outlet: &'a F) -> Self {
        Self(outlet)
    }

    /// Awaits what is to be handled next, and flushes if that is not there yet.
    pub async fn next<T>(&self, next: impl Future<Output = T>) -> T {
        let mut next = std::pin::pin!(next);
        poll_fn(|context| {
            let polled = next.as_mut().poll(context);
            if polled.is_pending() {
                self.0.flush();
            }
            polled
        })
        .await
    }
}

impl<F: Flush> Drop for Batch<'_, F> {
    fn drop(&mut self) {
        self.0.flush();
    }
}
