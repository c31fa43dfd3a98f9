//! The requests that were posted and are not answered yet.

use super::super::exchange::ExchangeId;
use super::outgoing::Queued;
use super::stream::Stream;
use crate::jsonrpc::RequestId;
use crate::mcp::Method;
use hyper::header::HeaderValue;
use std::collections::BTreeMap;
use std::time::Instant;

/// Where the answer to a request is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// In the response to its POST, which has not arrived yet.
    Posted(ExchangeId),
    /// On a stream.
    Streaming(ExchangeId),
    /// On a stream that is to be resumed at this time.
    Waiting(Instant),
    /// On a stream that we have asked to resume.
    Resuming(ExchangeId),
}

impl Link {
    /// The exchange in flight.
    pub(super) fn exchange(self) -> Option<ExchangeId> {
        match self {
            Self::Posted(id) | Self::Streaming(id) | Self::Resuming(id) => Some(id),
            Self::Waiting(_) => None,
        }
    }
}

/// A request without an answer.
pub(super) struct Call {
    pub queued: Queued,
    pub modern: bool,
    /// The session that it named.
    pub session: Option<HeaderValue>,
    pub link: Link,
    pub stream: Stream,
    /// The host has cancelled it.
    pub cancelled: bool,
}

impl Call {
    /// True if the host waits for it and it will be answered by itself.
    fn is_awaited(&self) -> bool {
        let is_subscription = self.queued.message.mcp_method() == Some(Method::Listen);
        !self.queued.own && !self.cancelled && !is_subscription
    }
}

/// All of them, by their place.
#[derive(Default)]
pub(super) struct Calls(BTreeMap<u64, Call>);

impl Calls {
    pub(super) fn insert(&mut self, call: Call) {
        self.0.insert(call.queued.place, call);
    }

    pub(super) fn get(&self, place: u64) -> Option<&Call> {
        self.0.get(&place)
    }

    pub(super) fn get_mut(&mut self, place: u64) -> Option<&mut Call> {
        self.0.get_mut(&place)
    }

    pub(super) fn remove(&mut self, place: u64) -> Option<Call> {
        self.0.remove(&place)
    }

    /// The place of the request with this id; the one at `near` if there are several.
    pub(super) fn find(&self, id: &RequestId, near: Option<u64>) -> Option<u64> {
        let has_id = |place: &u64| {
            let call = self.0.get(place);
            call.is_some_and(|call| call.queued.request() == Some(id))
        };
        near.filter(has_id)
            .or_else(|| self.0.keys().copied().find(has_id))
    }

    /// How many requests are open.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many the host waits for.
    pub(super) fn awaited(&self) -> usize {
        self.0.values().filter(|call| call.is_awaited()).count()
    }

    /// One whose stream is to be resumed now.
    pub(super) fn due(&self, now: Instant) -> Option<u64> {
        let is_due = |call: &Call| matches!(call.link, Link::Waiting(time) if time <= now);
        let mut due = self.0.iter().filter(|(_, call)| is_due(call));
        due.next().map(|(place, _)| *place)
    }

    /// When the next stream is to be resumed.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let times = self.0.values().filter_map(|call| match call.link {
            Link::Waiting(time) => Some(time),
            _ => None,
        });
        times.min()
    }

    /// Takes all of them, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Call> + use<> {
        std::mem::take(&mut self.0).into_values()
    }
}
