//! The sessions and their common counters: what every process needs to know of its peers.

use super::changes::{Changes, List};
use super::levels::Level;
use super::session::Session;
use super::wire_ids::Numbers;
use super::{Counted, Output, ProcessId, Profile, SessionId};
use crate::jsonrpc::Message;
use crate::utils::chunks::Line;
use std::collections::BTreeMap;
use std::time::Instant;

/// All sessions.
#[derive(Default)]
pub(super) struct Peers {
    /// In order of arrival, so that broadcasts and choices are deterministic.
    pub sessions: BTreeMap<SessionId, Session>,
    next_session: u64,
    /// The numbers of requests to processes and peers.
    pub numbers: Numbers,
    /// How many server requests were refused because their addressee was not certain.
    pub refused_questions: u64,
    /// Recent notifications of changed lists.
    pub changes: Changes<Receiver>,
}

/// The receiver of a notification of a changed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Receiver {
    Session(SessionId),
    /// The peer of a `subscriptions/listen` to this process, by its number.
    Listen(ProcessId, i64),
}

impl Peers {
    pub(super) fn add(&mut self, profile: Profile, counted: &Counted) -> SessionId {
        self.next_session += 1;
        let id = SessionId(self.next_session);
        self.sessions.insert(id, Session::new(id, profile, counted));
        id
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    /// The legacy sessions that broadcasts go to.
    pub(super) fn receivers(&self, wanted: impl Fn(&Session) -> bool) -> Vec<SessionId> {
        let legacy = self
            .sessions
            .iter()
            .filter(|(_, session)| session.gets_broadcasts());
        legacy
            .filter(|(_, session)| wanted(session))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn may_hear(&self, session: SessionId, message: &Message) -> bool {
        let session = self.get(session);
        session.is_some_and(|session| session.profile.may_hear(message))
    }

    /// The most verbose log level that a session has asked for.
    pub(super) fn most_verbose(&self) -> Option<Level> {
        self.sessions
            .values()
            .filter_map(|session| session.level)
            .min()
    }

    /// Notifies a session that a list has changed, now or once that is due.
    pub(super) fn tell_change(
        &mut self,
        receiver: Receiver,
        session: SessionId,
        list: List,
        line: Line,
        now: Instant,
        out: &mut Output,
    ) {
        out.timed |= self.changes.is_empty();
        let line = self.changes.admit(receiver, list, line, now);
        out.to_peer.extend(line.map(|line| (session, line.into())));
    }
}
