//! A peer that has closed its sending half: it still gets answers, and sends nothing more.

use super::session::Presence;
use super::{Output, ProcessId, Router, SessionId};

impl Router {
    /// Handles the half-close of a peer that still waits for answers: its subscriptions end, server requests
    /// to it are answered with an error, and it gets no more of either.
    pub fn half_closed(&mut self, id: SessionId, out: &mut Output) {
        let Self {
            peers, processes, ..
        } = self;
        let Some(mut session) = peers.sessions.remove(&id) else {
            return;
        };
        session.presence = Presence::Away;
        let open: Vec<(ProcessId, i64)> = session.open().collect();
        for (process, ours) in open {
            let process = &mut processes[process.0];
            let pending = process.in_flight.get(ours);
            if let Some(pending) = pending.filter(|pending| pending.is_listening()) {
                let own_id = pending.id.clone();
                process.abandon(ours, &session, peers.numbers.newest, out);
                session.answered(&own_id, ours);
            }
        }
        for process in processes {
            process.end_subscriptions(id, peers, out);
        }
        peers.sessions.insert(id, session);
    }
}
