//! What the router knows of one peer.

use super::asks::Capabilities;
use super::levels::Level;
use super::tasks::Owner;
use super::{LaneId, MAX_CANCELLED, MAX_IN_FLIGHT};
use crate::jsonrpc::{Code, ErrorData, Executed, NO_DATA, RequestId, error_line};
use foldhash::HashMap;
use std::collections::VecDeque;

/// Who a peer is, as far as it matters for routing.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The user of its token.
    pub user: Option<String>,
    /// Requests of the child that its roles block, such as `roots/list`.
    pub blocked: Vec<&'static str>,
}

/// One peer's side of the table.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub owner: Owner,
    pub blocked: Vec<&'static str>,
    /// An `initialize` of this peer has been answered with a result.
    pub initialized: bool,
    /// It has said `notifications/initialized`, so it can be asked.
    pub ready: bool,
    pub capabilities: Capabilities,
    /// Its last era-telling message was a modern one.
    pub modern: bool,
    /// The log level it asked for.
    pub level: Option<Level>,
    /// Its requests in flight, by its own id.
    in_flight: HashMap<RequestId, (LaneId, i64)>,
    /// Those it cancelled, oldest first: an answer may still come, and is then passed on.
    cancelled: VecDeque<(LaneId, i64)>,
}

impl Session {
    pub(super) fn new(profile: Profile) -> Self {
        Self {
            owner: profile.user,
            blocked: profile.blocked,
            ..Self::default()
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The youngest of its requests on `lane`.
    pub(super) fn youngest(&self, lane: LaneId) -> Option<i64> {
        let here = self.in_flight.values().filter(|(at, _)| *at == lane);
        here.map(|(_, ours)| *ours).max()
    }

    /// Every request that it waits for.
    pub(super) fn open(&self) -> impl Iterator<Item = (LaneId, i64)> {
        self.in_flight.values().copied()
    }

    /// Every request that the child may still answer.
    pub(super) fn requests(&self) -> impl Iterator<Item = (LaneId, i64)> {
        self.in_flight.values().chain(&self.cancelled).copied()
    }

    /// Refuses an id that is still in flight (2026-07-28 basic "Requests"), a second `initialize`
    /// while the first waits (with the id `opening`), and one request too many, with the line to
    /// answer.
    pub(super) fn check_new(
        &self,
        id: &RequestId,
        initialize: bool,
        opening: Option<&RequestId>,
    ) -> Result<(), Vec<u8>> {
        if initialize && opening.is_some() {
            let text = "Invalid Request: initialize is already under way";
            return Err(error_line(Some(id), Code::InvalidRequest, text, NO_DATA));
        }
        if self.in_flight.contains_key(id) || opening == Some(id) {
            return Err(still_in_flight(id));
        }
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return Err(too_many_in_flight(id));
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
        self.cancelled.retain(|(_, known)| *known != ours);
        false
    }

    /// Where a request in flight went.
    pub(super) fn find(&self, id: &RequestId) -> Option<(LaneId, i64)> {
        self.in_flight.get(id).copied()
    }

    /// Moves a request to the cancelled ones; gives the oldest of those where there are too many.
    pub(super) fn cancel(&mut self, id: &RequestId) -> Option<(LaneId, i64)> {
        self.cancelled.push_back(self.in_flight.remove(id)?);
        if self.cancelled.len() > MAX_CANCELLED {
            self.cancelled.pop_front()
        } else {
            None
        }
    }
}

pub(super) fn still_in_flight(id: &RequestId) -> Vec<u8> {
    let text = "Invalid Request: a request with this id is still in flight";
    error_line(Some(id), Code::InvalidRequest, text, NO_DATA)
}

pub(super) fn too_many_in_flight(id: &RequestId) -> Vec<u8> {
    let data = ErrorData::new("too-many-requests", Executed::No);
    error_line(
        Some(id),
        Code::InternalError,
        "Too many requests in flight",
        Some(&data),
    )
}
