//! Streams of events for a client, with comments as keepalives.

use crate::http::COMMENT;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use hyper::body::Frame;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

/// An answer that takes longer gets a stream: proxies in between must not time out, and the client needs an
/// id to resume with.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Where events come from.
pub(super) trait Source: Send + 'static {
    /// The next event; `None` at the end. Cancel safe.
    fn next_event(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The remaining events of `source`. They are pulled as the client reads them, so that a slow one delays only
/// its own stream.
pub(super) fn events(
    source: impl Source,
    begin: Vec<Bytes>,
    pace: Duration,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static {
    let begin = VecDeque::from(begin);
    stream::unfold((source, begin), move |(mut source, mut begin)| async move {
        let event = match begin.pop_front() {
            Some(event) => event,
            None => match tokio::time::timeout(pace, source.next_event()).await {
                Ok(event) => event?,
                Err(_silence) => Bytes::from_static(COMMENT),
            },
        };
        Some((Ok(Frame::data(event)), (source, begin)))
    })
}
