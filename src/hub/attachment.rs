//! Which hub a session is attached to: it may be moved once.

use super::Hub;
use crate::router::SessionId;
use std::sync::OnceLock;

/// The hub of a session, and the session's name there.
#[derive(Debug)]
pub(super) struct Attachment {
    first: (SessionId, Hub),
    moved: OnceLock<(SessionId, Hub)>,
}

impl Attachment {
    pub(super) fn new(id: SessionId, hub: Hub) -> Self {
        Self {
            first: (id, hub),
            moved: OnceLock::new(),
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.at().0
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.at().1
    }

    /// How many requests of the peer wait for an answer there.
    pub(super) fn in_flight(&self) -> usize {
        let (id, hub) = self.at();
        hub.in_flight(*id)
    }

    fn at(&self) -> &(SessionId, Hub) {
        self.moved.get().unwrap_or(&self.first)
    }

    /// Notes the hub that the session is attached to from now on.
    pub(super) fn move_to(&self, id: SessionId, hub: Hub) {
        let again = self.moved.set((id, hub)).is_err();
        debug_assert!(!again, "a session moves once");
        self.first.1.0.started.notify_waiters();
    }

    pub(super) fn has_moved(&self) -> bool {
        self.moved.get().is_some()
    }
}
