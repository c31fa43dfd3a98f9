//! The life of a process as the router sees it: its handshake, its end, and what its successor is
//! told.

use super::lane::{self, Handshake, Purpose, Service};
use super::listens::Listen;
use super::revision::Revision;
use super::{Exit, LaneId, Output, Router, SessionId};
use crate::jsonrpc::{Field, Message, RequestId};
use crate::utils::rope::{Line, Rope};
use serde::Deserialize;

impl Router {
    pub(super) fn initialize(
        &mut self,
        lane: LaneId,
        from: SessionId,
        id: &RequestId,
        message: &Message,
        out: &mut Output,
    ) {
        if let Some(session) = self.sessions.get_mut(&from) {
            let capabilities = message.raw(Field::Capabilities);
            session.capabilities = capabilities
                .and_then(|raw| serde_json::from_slice(raw).ok())
                .unwrap_or_default();
        }
        let requested = message
            .text(Field::ProtocolVersion)
            .and_then(|text| Revision::parse(&text));
        let state = &mut self.lanes[lane.0];
        if let Handshake::Done(answer) = &state.handshake {
            out.to_peer
                .push((from, lane::answer_initialize(answer, id, requested)));
            if let Some(session) = self.sessions.get_mut(&from) {
                session.initialized = true;
            }
            return;
        }
        self.open_handshake(lane, Some(message), out);
        self.lanes[lane.0].wait_for_handshake(from, id.clone(), requested);
    }

    /// Sends `initialize` to a legacy lane that needs it: for the peer whose `message` this is, or
    /// in the router's own name where a peer goes ahead without one.
    pub(super) fn open_handshake(
        &mut self,
        lane: LaneId,
        message: Option<&Message>,
        out: &mut Output,
    ) {
        let state = &self.lanes[lane.0];
        let due = match state.handshake {
            Handshake::Needed => true,
            Handshake::Refused => message.is_some(),
            Handshake::Sent(_) | Handshake::Done(_) => false,
        };
        if state.service == Service::Legacy && due {
            let ours = self.fresh_id();
            let client = message.and_then(|message| message.carry(Field::ClientInfo));
            self.lanes[lane.0].send_initialize(lane, ours, client, out);
        }
    }

    /// A lane's process has ended: everybody who waits for it gets an error. Where another one
    /// follows, the handshake, log level and subscriptions are kept for it.
    pub fn child_exited(&mut self, lane: LaneId, exit: &Exit, out: &mut Output) {
        if self.is_probing(lane) && self.legacy_only.is_none() {
            self.probe_was_fatal(lane, out);
        }
        let mut old = std::mem::take(&mut self.lanes[lane.0]);
        old.subscriptions.lapse();
        let _lost = out.take(lane, Rope::default());
        let mut in_flight: Vec<_> = std::mem::take(&mut old.in_flight).into_iter().collect();
        in_flight.sort_unstable_by_key(|(ours, _)| *ours);
        for (ours, mut pending) in in_flight {
            let Some(session) = self.sessions.get_mut(&pending.session) else {
                continue;
            };
            match &mut pending.purpose {
                Purpose::Listen(listen)
                    if exit.restarts && old.service == Service::Modern && !listen.cancelled =>
                {
                    listen.lost = true;
                    self.lanes[lane.0].in_flight.insert(ours, pending);
                }
                _ if session.answered(&pending.id, ours) => {
                    out.to_peer
                        .push((pending.session, exit.error_line(&pending.id)));
                }
                _ => {}
            }
        }
        for (ours, ask) in old.asks.all() {
            let mut line = Rope::default();
            lane::write_cancelled(ours, "the MCP server has exited", &mut line);
            out.to_peer.push((ask.session, line.into()));
        }
        let handshake = match std::mem::take(&mut old.handshake) {
            Handshake::Sent(sent) => {
                let errors = sent
                    .waiting
                    .iter()
                    .map(|(session, id, _)| (*session, exit.error_line(id)));
                out.to_peer.extend(errors);
                Handshake::Needed
            }
            other => other,
        };
        if exit.restarts {
            let service = match old.service {
                Service::Probing(_) => Service::Fresh,
                other => other,
            };
            let in_flight = std::mem::take(&mut self.lanes[lane.0].in_flight);
            self.lanes[lane.0] = old.renewed(service, handshake, in_flight);
        }
    }

    /// A lane's process has started. What its predecessor knew is told to it.
    pub fn child_started(&mut self, lane: LaneId, out: &mut Output) {
        let probing = self.is_probing(lane);
        let state = &mut self.lanes[lane.0];
        state.down = false;
        if probing || matches!(state.handshake, Handshake::Sent(_)) {
            return;
        }
        if state.is_successor {
            let ours = self.fresh_id();
            self.lanes[lane.0].send_initialize(lane, ours, None, out);
            return;
        }
        let state = &mut self.lanes[lane.0];
        let mut listens: Vec<(i64, &mut Listen)> = Vec::new();
        for (ours, pending) in &mut state.in_flight {
            match &mut pending.purpose {
                Purpose::Listen(listen) if listen.lost => listens.push((*ours, listen)),
                _ => {}
            }
        }
        listens.sort_unstable_by_key(|(ours, _)| *ours);
        for (ours, listen) in listens {
            state.engaged = true;
            listen.renew(ours, &mut out.to_child[lane.0]);
        }
        out.to_child[lane.0].append(&mut state.held);
    }

    pub(super) fn handshake_answered(&mut self, lane: LaneId, answer: &Message, out: &mut Output) {
        let next_id = &mut self.next_id;
        let fresh_id = || {
            *next_id += 1;
            *next_id
        };
        let Some(sent) = self.lanes[lane.0].end_handshake(lane, answer, fresh_id, out) else {
            return;
        };
        if sent.renewal && answer.result().is_some() {
            self.announce_changes(answer, out);
        }
        for (session, id, requested) in sent.waiting {
            out.to_peer
                .push((session, lane::answer_initialize(answer, &id, requested)));
            if let Some(session) = self.sessions.get_mut(&session) {
                session.initialized |= answer.result().is_some();
            }
        }
    }

    /// A new process may offer other things than the old one: peers that were promised word of it
    /// get word.
    fn announce_changes(&mut self, answer: &Message, out: &mut Output) {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Promise {
            list_changed: bool,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Capabilities {
            tools: Promise,
            prompts: Promise,
            resources: Promise,
        }
        let raw = answer.raw(Field::Capabilities);
        let promised: Capabilities = raw
            .and_then(|raw| serde_json::from_slice(raw).ok())
            .unwrap_or_default();
        for (family, promise) in [
            ("tools", promised.tools),
            ("prompts", promised.prompts),
            ("resources", promised.resources),
        ] {
            if promise.list_changed {
                let line = format!(
                    "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/{family}/list_changed\"}}\n"
                );
                let line = Line::from(line.into_bytes());
                for session in self.receivers(|_| true) {
                    out.to_peer.push((session, line.clone()));
                }
            }
        }
    }
}
