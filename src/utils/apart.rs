//! A future that is polled when it was woken itself, and not whenever its task was.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::{Future, pending};

/// As `future`. A task that waits for many things at once would otherwise look at all of them each
/// time that one of them happens.
pub async fn apart<F: Future>(future: F) -> F::Output {
    let mut alone = FuturesUnordered::new();
    alone.push(future);
    match alone.next().await {
        Some(output) => output,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    #[tokio::test]
    async fn others_that_are_woken_do_not_poll_it() {
        let mut polls = 0;
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        {
            let mut quiet = pin!(apart(poll_fn(|context| {
                polls += 1;
                receiver.poll_recv(context)
            })));
            for _ in 0..10 {
                tokio::select! {
                    biased;
                    _ = &mut quiet => panic!("nothing was sent"),
                    () = tokio::task::yield_now() => {}
                }
            }
            sender.send(7).await.unwrap();
            assert_eq!(quiet.await, Some(7));
        }
        assert!(polls <= 3, "{polls}");
        let never = poll_fn(|_| Poll::<()>::Pending);
        assert!(futures_util::FutureExt::now_or_never(apart(never)).is_none());
    }
}
