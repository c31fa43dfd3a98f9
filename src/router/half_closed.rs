//! A peer that has ended its sending half: it still gets answers, and says nothing more.

use super::session::{Presence, Session};
use super::{Delivery, Output, PEER_LEFT, ProcessId, Router, SessionId};
use crate::jsonrpc::{Code, NO_DATA, error_line};

impl Router {
    /// A peer says nothing more, though it waits for answers: what comes by no request of it ends, and
    /// what it has been asked is answered with an error. It is asked nothing from here on.
    pub fn half_closed(&mut self, id: SessionId, out: &mut Output) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        session.presence = Presence::Away;
        let open: Vec<(ProcessId, i64)> = session.open().collect();
        for (process, ours) in open {
            let pending = self.processes[process.0].in_flight.get(ours);
            if let Some(pending) = pending.filter(|pending| pending.is_listening()) {
                let own_id = pending.id.clone();
                self.abandon(process, ours, &session, out);
                session.answered(&own_id, ours);
            }
        }
        for process in ProcessId::ALL {
            self.end_subscriptions(process, id, out);
        }
        self.sessions.insert(id, session);
    }

    /// Nobody waits for a request any more: it is cancelled where the process knows of it.
    pub(super) fn abandon(
        &mut self,
        process: ProcessId,
        ours: i64,
        session: &Session,
        out: &mut Output,
    ) {
        let pending = self.forget(process, ours, &session.owner);
        let origin = session.origin(None, self.next_id);
        let state = &mut self.processes[process.0];
        match pending {
            Some(pending) if pending.delivery == Delivery::Queued => {}
            Some(pending) if pending.is_cancellable() => {
                state.cancel(process, ours, PEER_LEFT, origin, out);
            }
            // It may still be at work on it.
            _ => state.note(origin),
        }
    }

    /// Ends the subscriptions of a session, and answers what it has been asked with errors.
    pub(super) fn end_subscriptions(
        &mut self,
        process: ProcessId,
        id: SessionId,
        out: &mut Output,
    ) {
        for uri in self.processes[process.0].subscriptions.leave(id) {
            let ours = self.fresh_id();
            self.processes[process.0].tell(
                process,
                ours,
                "resources/unsubscribe",
                "uri",
                &uri,
                out,
            );
        }
        for question in self.processes[process.0].asks.leave(id) {
            let line = error_line(Some(&question), Code::InternalError, PEER_LEFT, NO_DATA);
            out.answer(process, &line);
        }
    }
}
