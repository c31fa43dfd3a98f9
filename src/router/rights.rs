//! Rights that change while a peer is connected.

use super::peers::Peers;
use super::pending::Purpose;
use super::process::Process;
use super::session::Session;
use super::{Output, SessionId};
use crate::jsonrpc::{MAX_PEER_DEPTH, Message};
use crate::permissions::{Denial, Rights};
use crate::utils::chunks::Chunks;

/// Why subscriptions that are no longer allowed are cancelled at the child.
const NOT_ALLOWED: &str = "the client may not do this any more";

impl Process {
    /// Applies changed rights of a session: refuses what waits for its turn, ends the subscriptions, and cuts down the
    /// lists to come, as far as they no longer allow it. Returns what has been refused or ended.
    pub(super) fn apply_rights(
        &mut self,
        id: SessionId,
        rights: &Rights,
        peers: &mut Peers,
        out: &mut Output,
    ) -> Vec<Denial> {
        for uri in self.subscriptions.of(id) {
            if may_subscribe(rights, &uri) || self.subscriptions.remove(&uri, id) {
                continue;
            }
            let ours = peers.numbers.next();
            self.tell(ours, "resources/unsubscribe", "uri", &uri, out);
        }
        let latest = peers.numbers.newest;
        let Some(session) = peers.get_mut(id) else {
            return Vec::new();
        };
        for (_, ours) in session.requests() {
            self.in_flight.apply_rights(ours, rights);
        }
        let mut refused = self.refuse_waiting(id, rights, session, out);
        for (ours, denial) in self.forbidden_listen_requests(session, rights) {
            self.end_listen(ours, &denial, session, latest, out);
            refused.push(denial);
        }
        refused
    }

    /// Judges the waiting lines of a session again.
    fn refuse_waiting(
        &mut self,
        id: SessionId,
        rights: &Rights,
        session: &mut Session,
        out: &mut Output,
    ) -> Vec<Denial> {
        let mut refused = Vec::new();
        let mut keeps = |line: &Chunks, request: Option<i64>| {
            let line = line.pieces().collect::<Vec<_>>().concat();
            let message = Message::read(line.into(), MAX_PEER_DEPTH).ok();
            let Some(denial) = message.and_then(|message| rights.decide(message).err()) else {
                return true;
            };
            refused.push((request, denial));
            false
        };
        self.queue
            .retain(id, |waiting| keeps(&waiting.line, waiting.request));
        if let Some(turns) = &mut self.turns {
            turns.retain(id, |line| keeps(&line.text, line.request));
        }
        let answer = |(ours, mut denial): (Option<i64>, Denial)| {
            denial.id = ours.and_then(|ours| {
                let pending = self.end(ours)?;
                let is_awaited = session.answered(&pending.id, ours);
                is_awaited.then_some(pending.id)
            });
            if let Some(line) = denial.to_line() {
                out.tell(id, line);
            }
            denial
        };
        refused.into_iter().map(answer).collect()
    }

    fn forbidden_listen_requests(&self, session: &Session, rights: &Rights) -> Vec<(i64, Denial)> {
        let judge = |ours: i64| match &self.in_flight.get(ours)?.purpose {
            Purpose::Listen(listen) if !listen.cancelled => {
                let denial = rights.decide(listen.request.clone()).err()?;
                Some((ours, denial))
            }
            _ => None,
        };
        let own = session.requests().filter_map(|(_, ours)| judge(ours));
        let mut found: Vec<_> = own.collect();
        found.sort_unstable_by_key(|(ours, _)| *ours);
        found
    }

    /// The request is answered as if it came now.
    fn end_listen(
        &mut self,
        ours: i64,
        denial: &Denial,
        session: &mut Session,
        latest: i64,
        out: &mut Output,
    ) {
        let Some(pending) = self.end(ours) else {
            return;
        };
        session.answered(&pending.id, ours);
        if pending.is_cancellable() {
            self.cancel(ours, NOT_ALLOWED, session.origin(None, latest), out);
        }
        if let Some(line) = denial.to_line() {
            out.tell(pending.session, line);
        }
    }
}

/// Applies the policy as if the peer subscribed now.
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
