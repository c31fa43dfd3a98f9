//! What the router knows of one peer.

use super::{LaneId, MAX_CANCELLED, MAX_IN_FLIGHT};
use crate::jsonrpc::{Code, ErrorData, Executed, NO_DATA, RequestId, error_line};
use std::collections::{HashMap, VecDeque};

/// One peer's side of the table.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// An `initialize` of this peer has been answered with a result.
    pub initialized: bool,
    /// Its last era-telling message was a modern one.
    pub modern: bool,
    /// Its requests in flight, by its own id.
    in_flight: HashMap<RequestId, (LaneId, i64)>,
    /// Those it cancelled, oldest first: an answer may still come, and is then passed on.
    cancelled: VecDeque<(RequestId, LaneId, i64)>,
}

impl Session {
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Every request that the child may still answer.
    pub(super) fn requests(&self) -> impl Iterator<Item = (LaneId, i64)> {
        let cancelled = self.cancelled.iter().map(|(_, lane, ours)| (*lane, *ours));
        self.in_flight.values().copied().chain(cancelled)
    }

    /// Refuses an id that is still in flight (2026-07-28 basic "Requests"), a second `initialize`
    /// while the first waits (`twice`), and one request too many, with the line to answer.
    pub(super) fn check_new(&self, id: &RequestId, twice: bool) -> Result<(), Vec<u8>> {
        if twice {
            let text = "Invalid Request: initialize is already under way";
            return Err(error_line(Some(id), Code::InvalidRequest, text, NO_DATA));
        }
        if self.in_flight.contains_key(id) {
            let text = "Invalid Request: a request with this id is still in flight";
            return Err(error_line(Some(id), Code::InvalidRequest, text, NO_DATA));
        }
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            let data = ErrorData::new("too-many-requests", Executed::No);
            let text = "Too many requests in flight";
            return Err(error_line(Some(id), Code::InternalError, text, Some(&data)));
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, id: RequestId, lane: LaneId, ours: i64) {
        self.in_flight.insert(id, (lane, ours));
    }

    /// Forgets a request that has its answer; false when it was not waited for any more.
    pub(super) fn answered(&mut self, id: &RequestId, ours: i64) -> bool {
        if self
            .in_flight
            .get(id)
            .is_some_and(|(_, known)| *known == ours)
        {
            self.in_flight.remove(id);
            return true;
        }
        self.cancelled.retain(|(_, _, known)| *known != ours);
        false
    }

    /// Moves a request to the cancelled ones; gives where it went, and the oldest cancelled one
    /// where there were too many.
    pub(super) fn cancel(
        &mut self,
        id: &RequestId,
    ) -> Option<(LaneId, i64, Option<(LaneId, i64)>)> {
        let (id, (lane, ours)) = self.in_flight.remove_entry(id)?;
        self.cancelled.push_back((id, lane, ours));
        let evicted = if self.cancelled.len() > MAX_CANCELLED {
            self.cancelled
                .pop_front()
                .map(|(_, lane, ours)| (lane, ours))
        } else {
            None
        };
        Some((lane, ours, evicted))
    }
}
