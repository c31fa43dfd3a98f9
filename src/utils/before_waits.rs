//! Something to be done before a future has to wait.

use std::future::{Future, poll_fn};
use std::task::Poll;

/// As `future`; `act` is called each time that it has to wait.
pub async fn before_waits<T>(future: impl Future<Output = T>, act: impl Fn()) -> T {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        if matches!(polled, Poll::Pending) {
            act();
        }
        polled
    })
    .await
}
