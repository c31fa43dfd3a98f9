//! The router's state of one peer.

use super::evidence::{Origin, Sender};
use super::levels::Level;
use super::requesters::Requester;
use super::server_requests::Capabilities;
use super::tasks::Owner;
use super::{MAX_CANCELLED, MAX_IN_FLIGHT, PROCESSES, ProcessId, SessionId};
use crate::backlog::{Holder, Sum};
use crate::jsonrpc::{Code, ErrorData, Executed, Field, Message, NO_DATA, RequestId, error_line};
use crate::mcp::{ItemKind, Method};
use crate::permissions::Rights;
use crate::utils::tally::{Share, Tally};
use foldhash::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// The identity of a peer, as far as it matters for routing.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The user of its token.
    pub user: Option<String>,
    /// What it may do, and so what it may be notified of.
    pub rights: Rights,
    /// It is the proxy itself, which checks whether the MCP server answers: no question of that is ever for it.
    pub is_own: bool,
}

impl Profile {
    /// A peer without a token, if there is no policy.
    #[must_use]
    pub fn anybody() -> Self {
        Self {
            user: None,
            rights: Rights::everything(),
            is_own: false,
        }
    }

    /// The proxy itself.
    #[must_use]
    pub fn own() -> Self {
        Self {
            is_own: true,
            ..Self::anybody()
        }
    }

    /// True if its roles block this server request.
    pub(super) fn is_kept_from(&self, method: &str) -> bool {
        let mut asked = Method::asked_of_clients();
        asked.any(|known| known.name() == method) && self.rights.blocks(method)
    }

    /// False for a log message if its roles block those, and for a change to a resource that it may not subscribe to: a
    /// subscription may cover more than its own URI.
    pub(super) fn may_hear(&self, notification: &Message) -> bool {
        match notification.mcp_method() {
            Some(Method::LogMessage) => return !self.rights.blocks(notification.method()),
            Some(Method::ResourceUpdated) => {}
            _ => return true,
        }
        let method = match notification.subscription() {
            Some(_) => "subscriptions/listen",
            None => "resources/subscribe",
        };
        let kind = ItemKind::Resource;
        match notification.text(Field::Uri) {
            Some(uri) => {
                let verdict = self.rights.judge_item(method, kind, &uri);
                verdict.is_none_or(|verdict| verdict.is_ok())
            }
            None => !self.rights.bounds(method, kind),
        }
    }
}

/// The counters for a session's resources. The default ones have no bounds.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Requests in flight of all sessions of its user.
    pub of_user: Tally,
    /// The memory of the session.
    pub holder: Holder,
}

/// Whether a session's client is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It has a connection.
    #[default]
    Connected,
    /// It has just lost its connection, and may be back soon.
    Lost,
    /// It has not come back soon.
    Away,
}

/// One peer's side of the table.
pub(super) struct Session {
    id: SessionId,
    pub profile: Profile,
    /// The sender that its messages count against.
    pub sender: Sender,
    /// The user of its profile, which never changes.
    pub owner: Arc<Owner>,
    pub presence: Presence,
    /// The processes that it has sent something to.
    pub uses: [bool; PROCESSES],
    /// An `initialize` of this peer was answered with a result.
    pub initialized: bool,
    /// It has sent `notifications/initialized`, so it can receive server requests.
    pub ready: bool,
    pub capabilities: Capabilities,
    /// Its last message that shows its protocol generation was modern.
    pub modern: bool,
    /// The log level it asked for …
    pub level: Option<Level>,
    /// … and the last one that it was not refused.
    agreed_level: Option<Level>,
    /// Its requests in flight, by its own id.
    in_flight: HashMap<RequestId, (ProcessId, i64)>,
    /// Their number, and that of all sessions of its user.
    counted: Share,
    /// Counts the memory kept for its requests and subscriptions.
    pub kept: Sum,
    /// Those it cancelled, oldest first: an answer may still come, and is then dropped.
    cancelled: VecDeque<(RequestId, ProcessId, i64)>,
}

impl Session {
    pub(super) fn new(id: SessionId, profile: Profile, counted: &Counted) -> Self {
        let user = profile.user.as_deref();
        Self {
            id,
            sender: user.map_or(Sender::Session(id), |user| Sender::User(user.into())),
            owner: Arc::new(profile.user.clone()),
            profile,
            presence: Presence::default(),
            uses: [false; PROCESSES],
            initialized: false,
            ready: false,
            capabilities: Capabilities::default(),
            modern: false,
            level: None,
            agreed_level: None,
            in_flight: HashMap::default(),
            counted: counted.of_user.share(),
            kept: counted.holder.sum(),
            cancelled: VecDeque::new(),
        }
    }

    /// The origin of one of its lines: a `request` with this number or a message without an answer, while
    /// `latest` is the newest number.
    pub(super) fn origin(&self, request: Option<i64>, latest: i64) -> Origin<'_> {
        Origin {
            session: self.id,
            sender: &self.sender,
            request,
            latest,
            kept: &self.kept,
        }
    }

    /// The requester of one of its requests.
    pub(super) fn requester(&self, wants_logs: bool) -> Requester {
        Requester {
            session: self.id,
            owner: Arc::clone(&self.owner),
            wants_logs,
        }
    }

    /// True if it gets the broadcasts of a legacy process.
    pub(super) fn gets_broadcasts(&self) -> bool {
        self.initialized && !self.modern
    }

    /// A level that is refused leaves the one before it, unless the session has asked for another meanwhile.
    pub(super) fn level_answered(&mut self, asked: Level, agreed: bool) {
        if agreed {
            self.agreed_level = Some(asked);
        } else if self.level == Some(asked) {
            self.level = self.agreed_level;
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn count(&mut self) {
        self.counted.set(self.in_flight.len());
    }

    /// All its pending requests.
    pub(super) fn open(&self) -> impl Iterator<Item = (ProcessId, i64)> {
        self.in_flight.values().copied()
    }

    /// All its requests that the child may still answer.
    pub(super) fn requests(&self) -> impl Iterator<Item = (ProcessId, i64)> {
        let cancelled = self.cancelled.iter();
        self.open()
            .chain(cancelled.map(|(_, process, ours)| (*process, *ours)))
    }

    /// Refuses an id that is still in flight (2026-07-28 basic "Requests"), a second `initialize`
    /// while the first one (with the id `opening`) is pending, and a request beyond the limit, with
    /// the error to send.
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
        if self.counted.sum() >= MAX_IN_FLIGHT {
            return Err(too_many_in_flight(id));
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, id: RequestId, process: ProcessId, ours: i64) {
        self.in_flight.insert(id, (process, ours));
        self.count();
    }

    /// Removes a request that was answered; false if it was no longer awaited.
    pub(super) fn answered(&mut self, id: &RequestId, ours: i64) -> bool {
        match self.in_flight.remove_entry(id) {
            Some((_, (_, known))) if known == ours => {
                self.count();
                return true;
            }
            Some((id, another)) => drop(self.in_flight.insert(id, another)),
            None => {}
        }
        let mut cancelled = self.cancelled.iter();
        if let Some(at) = cancelled.position(|(_, _, known)| *known == ours) {
            self.forget_cancelled(at);
        }
        false
    }

    /// True if this request is pending and the peer has not cancelled it.
    pub(super) fn waits_for(&self, id: &RequestId, ours: i64) -> bool {
        let known = self.in_flight.get(id);
        known.is_some_and(|(_, known)| *known == ours)
    }

    /// Another process gets this request.
    pub(super) fn moved(&mut self, id: &RequestId, ours: i64, to: ProcessId) {
        if let Some((process, known)) = self.in_flight.get_mut(id)
            && *known == ours
        {
            *process = to;
        }
    }

    /// The process that a request in flight was sent to.
    pub(super) fn find(&self, id: &RequestId) -> Option<(ProcessId, i64)> {
        self.in_flight.get(id).copied()
    }

    /// Forgets the cancelled request with this id, which is about to be reused.
    pub(super) fn take_cancelled(&mut self, id: &RequestId) -> Option<(ProcessId, i64)> {
        let at = self.cancelled.iter().position(|(known, ..)| known == id)?;
        self.forget_cancelled(at)
    }

    fn forget_cancelled(&mut self, at: usize) -> Option<(ProcessId, i64)> {
        let (_, process, ours) = self.cancelled.remove(at)?;
        Some((process, ours))
    }

    /// Moves a request to the cancelled ones; returns the oldest of these if there are too many.
    pub(super) fn cancel(&mut self, id: &RequestId) -> Option<(ProcessId, i64)> {
        let (id, (process, ours)) = self.in_flight.remove_entry(id)?;
        self.count();
        self.cancelled.push_back((id, process, ours));
        if self.cancelled.len() <= MAX_CANCELLED {
            return None;
        }
        self.forget_cancelled(0)
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
