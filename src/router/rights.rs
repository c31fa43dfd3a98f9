//! Rights that change while a peer is connected.

use super::pending::Purpose;
use super::session::{Profile, Session};
use super::{Output, ProcessId, Router, SessionId};
use crate::jsonrpc::{MAX_PEER_DEPTH, Message};
use crate::permissions::{Denial, Rights};

/// Why subscriptions that are not allowed any more are cancelled at the child.
const NOT_ALLOWED: &str = "the client may not do this any more";

impl Router {
    /// The rights of a peer have changed. What it is subscribed to and might not subscribe to any
    /// more, it loses.
    pub fn set_rights(&mut self, id: SessionId, profile: Profile, out: &mut Output) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let rights = profile.rights.clone();
        session.profile = profile;
        for process in ProcessId::ALL {
            for uri in self.processes[process.0].subscriptions.of(id) {
                if may_subscribe(&rights, &uri)
                    || self.processes[process.0].subscriptions.remove(&uri, id)
                {
                    continue;
                }
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
            for (ours, denial) in self.forbidden_listen_requests(process, id, &rights) {
                self.end_listen(process, id, ours, &denial, out);
            }
        }
    }

    fn forbidden_listen_requests(
        &self,
        process: ProcessId,
        id: SessionId,
        rights: &Rights,
    ) -> Vec<(i64, Denial)> {
        let session = self.sessions.get(&id);
        let own = session.into_iter().flat_map(Session::requests);
        let judge = |ours: i64| match &self.processes[process.0].in_flight.get(ours)?.purpose {
            Purpose::Listen(listen) if !listen.cancelled => {
                let denial = rights.decide(listen.request.clone()).err()?;
                Some((ours, denial))
            }
            _ => None,
        };
        let mut found: Vec<_> = own.filter_map(|(_, ours)| judge(ours)).collect();
        found.sort_unstable_by_key(|(ours, _)| *ours);
        found
    }

    /// The request is answered as it would be if it came now.
    fn end_listen(
        &mut self,
        process: ProcessId,
        id: SessionId,
        ours: i64,
        denial: &Denial,
        out: &mut Output,
    ) {
        let Some(pending) = self.processes[process.0].end(ours) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.answered(&pending.id, ours);
        if pending.is_cancellable() {
            let origin = session.origin(None, self.next_id);
            self.processes[process.0].cancel(process, ours, NOT_ALLOWED, origin, out);
        }
        if let Some(line) = denial.to_line() {
            out.to_peer.push((id, line.into()));
        }
    }
}

/// Asks the policy as if the peer subscribed now.
fn may_subscribe(rights: &Rights, uri: &str) -> bool {
    let request = serde_json::json!({
        "jsonrpc": "2.0",
        "id": 0,
        "method": "resources/subscribe",
        "params": {"uri": uri},
    });
    let line = request.to_string().into();
    Message::read(line, MAX_PEER_DEPTH).is_ok_and(|message| rights.decide(message).is_ok())
}
