//! Messages that wait to be posted: their order and bounds.

use crate::jsonrpc::{Kind, Message, RequestId};
use crate::replay;
use bytes::Bytes;
use std::collections::VecDeque;

/// The most that may wait to be posted, in bytes. Beyond that the host is not read.
const MAX_WAITING: usize = 64 << 20;

/// A message to be posted.
#[derive(Clone)]
pub(super) struct Queued {
    /// Its unique place in the order of posting.
    pub place: u64,
    pub message: Message,
    /// Its line, without a newline.
    pub body: Bytes,
    /// Our own: it restores the host's state in a new server.
    pub own: bool,
    /// How often it was refused because the server did not know our session.
    pub refused: u32,
    /// The place of the request that it cancels.
    pub cancels: Option<u64>,
}

impl Queued {
    /// The id, if it is a request.
    pub(super) fn request(&self) -> Option<&RequestId> {
        match self.message.kind() {
            Kind::Request(id) => Some(id),
            _ => None,
        }
    }
}

/// Which messages may be posted now.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub requests: bool,
    pub others: bool,
}

/// The queues. Requests, and the messages that the server needs to answer them, do not wait for
/// each other.
#[derive(Default)]
pub(super) struct Outgoing {
    own: VecDeque<Queued>,
    requests: VecDeque<Queued>,
    others: VecDeque<Queued>,
    last_place: u64,
    bytes: usize,
}

impl Outgoing {
    /// Adds a message at the end.
    pub(super) fn push(&mut self, message: Message, body: Bytes, own: bool) {
        self.add(message, body, own, None);
    }

    /// Adds a cancellation of the request at this place at the end.
    pub(super) fn push_cancellation(&mut self, message: Message, body: Bytes, cancels: u64) {
        self.add(message, body, false, Some(cancels));
    }

    fn add(&mut self, message: Message, body: Bytes, own: bool, cancels: Option<u64>) {
        self.last_place += 1;
        let queued = Queued {
            place: self.last_place,
            message,
            body,
            own,
            refused: 0,
            cancels,
        };
        self.bytes += replay::cost(&queued.body);
        self.queue(&queued).push_back(queued);
    }

    /// Puts back a message that the server has not accepted, at its place in the order.
    pub(super) fn put_back(&mut self, queued: Queued) {
        self.bytes += replay::cost(&queued.body);
        let queue = self.queue(&queued);
        let at = queue.partition_point(|other| other.place < queued.place);
        queue.insert(at, queued);
    }

    fn queue(&mut self, queued: &Queued) -> &mut VecDeque<Queued> {
        if queued.own {
            &mut self.own
        } else if queued.request().is_some() {
            &mut self.requests
        } else {
            &mut self.others
        }
    }

    /// Takes the next message that may be posted: our own first, because the server needs them to accept the
    /// others.
    pub(super) fn take(&mut self, room: Room) -> Option<Queued> {
        let place = |queue: &VecDeque<Queued>, has_room: bool| {
            let first = queue.front().filter(|_| has_room);
            first.map_or(u64::MAX, |queued| queued.place)
        };
        let request = place(&self.requests, room.requests);
        let other = place(&self.others, room.others);
        let queue = if !self.own.is_empty() {
            &mut self.own
        } else if request < other {
            &mut self.requests
        } else if other < u64::MAX {
            &mut self.others
        } else {
            return None;
        };
        let queued = queue.pop_front()?;
        self.bytes -= replay::cost(&queued.body);
        Some(queued)
    }

    /// Removes a request of the host that has not been posted. True if there was one.
    pub(super) fn remove_request(&mut self, id: &RequestId) -> bool {
        let at = self
            .requests
            .iter()
            .position(|queued| queued.request() == Some(id));
        let removed = at.and_then(|at| self.requests.remove(at));
        if let Some(removed) = &removed {
            self.bytes -= replay::cost(&removed.body);
        }
        removed.is_some()
    }

    /// Drops what is useless in another session: our own messages, which are generated again, and the host's
    /// answers to requests of the last server.
    pub(super) fn drop_obsolete(&mut self) {
        self.own.clear();
        self.others
            .retain(|queued| !matches!(queued.message.kind(), Kind::Response(_)));
        let waiting = self.requests.iter().chain(&self.others);
        self.bytes = waiting.map(|queued| replay::cost(&queued.body)).sum();
    }

    /// Takes all messages of the host, in order.
    pub(super) fn drain(&mut self) -> Vec<Queued> {
        self.own.clear();
        self.bytes = 0;
        let mut all: Vec<Queued> = self
            .requests
            .drain(..)
            .chain(self.others.drain(..))
            .collect();
        all.sort_unstable_by_key(|queued| queued.place);
        all
    }

    /// True if no message of the host waits.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.others.is_empty()
    }

    /// True if no message waits at all.
    pub(super) fn is_idle(&self) -> bool {
        self.own.is_empty() && self.is_empty()
    }

    /// True while more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MAX_WAITING
    }
}
