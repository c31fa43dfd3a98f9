//! Streams of events for a client, with comments as keepalives.

use crate::http::COMMENT;
use crate::utils::alarm::Alarm;
use crate::utils::lock::lock;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use hyper::body::Frame;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{Instrument, Span};

/// An answer that takes longer gets a stream: proxies in between must not time out, and the client needs an
/// id to resume with.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the requests of one connection wait for their answers: one timer for all of them, because setting one for
/// each takes a system call.
#[derive(Debug, Default)]
pub(super) struct Patience(Mutex<Option<Alarm>>);

impl Patience {
    /// When a request that comes now has waited for long enough.
    pub(super) fn end() -> Instant {
        Instant::now() + PATIENCE
    }

    /// The outcome of `next`; `None` if it takes until `end`. A connection has one request at a time, so one waits
    /// here. Cancel safe if `next` is.
    pub(super) async fn until<T>(&self, end: Instant, next: impl Future<Output = T>) -> Option<T> {
        let mut next = pin!(next);
        poll_fn(|context| {
            if let Poll::Ready(outcome) = next.as_mut().poll(context) {
                return Poll::Ready(Some(outcome));
            }
            let mut alarm = lock(&self.0);
            let alarm = alarm.get_or_insert_with(|| Alarm::at(end));
            // It may still be set for an earlier request.
            while Pin::new(&mut *alarm).poll(context).is_ready() {
                if Instant::now() >= end {
                    return Poll::Ready(None);
                }
                alarm.set(end);
            }
            Poll::Pending
        })
        .await
    }
}

/// Where events come from.
pub(super) trait Source: Send + 'static {
    /// The next event; `None` at the end. Cancel safe.
    fn next_event(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The remaining events of `source`. They are pulled as the client reads them, so that a slow one delays only
/// its own stream, and logged in the span of the request.
pub(super) fn events(
    source: impl Source,
    begin: Vec<Bytes>,
    pace: Duration,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static {
    let begin = VecDeque::from(begin);
    let begun = (source, begin, Span::current());
    stream::unfold(begun, move |(mut source, mut begin, span)| async move {
        let event = match begin.pop_front() {
            Some(event) => event,
            None => {
                let next = tokio::time::timeout(pace, source.next_event());
                match next.instrument(span.clone()).await {
                    Ok(event) => event?,
                    Err(_silence) => Bytes::from_static(COMMENT),
                }
            }
        };
        Some((Ok(Frame::data(event)), (source, begin, span)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test(start_paused = true)]
    async fn each_request_waits_for_its_own_time() {
        let patience = Patience::default();
        let second = Duration::from_secs(1);
        assert_eq!(patience.until(Patience::end(), ready(1)).await, Some(1));
        // The timer is set for this request, which is answered before.
        let soon = tokio::time::sleep(second);
        assert_eq!(patience.until(Patience::end(), soon).await, Some(()));
        for _ in 0..2 {
            let began = Instant::now();
            let end = Patience::end();
            assert_eq!(patience.until(end, pending::<()>()).await, None);
            assert_eq!(began.elapsed(), PATIENCE);
            assert_eq!(patience.until(end, pending::<()>()).await, None);
            assert_eq!(patience.until(end, ready(2)).await, Some(2));
            assert_eq!(began.elapsed(), PATIENCE);
        }
    }
}
