//! The life of a process as the router sees it: its handshake, its end, and what its successor is
//! told.

use super::lane::{self, Handshake, Lane, Service};
use super::pending::{Pending, Purpose};
use super::revision::Revision;
use super::{Cause, Exit, LaneId, Output, Router, SessionId};
use crate::jsonrpc::{Field, Message, RequestId};
use crate::utils::rope::{Line, Rope};
use foldhash::HashMap;
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
        self.open_handshake(lane, Some((from, message)), out);
        self.lanes[lane.0].wait_for_handshake(from, id.clone(), requested);
    }

    /// Sends `initialize` to a legacy lane that needs it: for the peer whose `message` this is, or
    /// in the router's own name where a peer goes ahead without one.
    pub(super) fn open_handshake(
        &mut self,
        lane: LaneId,
        message: Option<(SessionId, &Message)>,
        out: &mut Output,
    ) {
        let state = &self.lanes[lane.0];
        let due = match state.handshake {
            Handshake::Needed => true,
            Handshake::Refused => message.is_some(),
            Handshake::Sent(_) | Handshake::Done(_) => false,
        };
        if state.service == Service::Legacy && due {
            // What a peer calls itself may have ended the predecessor.
            let is_retry = matches!(state.handshake, Handshake::Needed) && state.is_successor;
            let client = message.filter(|_| !is_retry).and_then(|(from, message)| {
                let sender = self.sessions.get(&from)?.sender.clone();
                Some((message.carry(Field::ClientInfo)?, sender))
            });
            let ours = self.fresh_id();
            self.lanes[lane.0].send_initialize(lane, ours, client, out);
        }
    }

    /// Why the process of this lane has ended, to be asked before [`Router::child_exited`].
    #[must_use]
    pub fn cause_of_end(&self, lane: LaneId) -> Cause {
        let state = &self.lanes[lane.0];
        let introduced = match &state.handshake {
            Handshake::Sent(sent) => sent.introduced.as_ref(),
            _ => None,
        };
        let open = state.in_flight.iter().filter_map(|(ours, pending)| {
            let session = self.sessions.get(&pending.session)?;
            let is_confirmed =
                matches!(&pending.purpose, Purpose::Listen(listen) if listen.confirmed);
            let is_open =
                session.waits_for(&pending.id, *ours) && !is_confirmed && !state.holds(*ours);
            is_open.then_some(&session.sender)
        });
        match state.evidence.cause(introduced, open) {
            Cause::Itself if self.is_probing(lane) => Cause::Probe,
            cause => cause,
        }
    }

    /// A lane's process has ended: everybody who waits for it gets an error. Where another one
    /// follows, the handshake is kept for it, and of log level and subscriptions what the process has
    /// agreed to.
    pub fn child_exited(&mut self, lane: LaneId, exit: &Exit, out: &mut Output) {
        if self.is_probing(lane) && self.legacy_only.is_none() {
            self.probe_was_fatal(lane, out);
        }
        let mut old = std::mem::take(&mut self.lanes[lane.0]);
        old.subscriptions.lapse();
        let _lost = out.take(lane, Rope::default());
        let kept = self.end_requests(&mut old, exit, out);
        for (ours, ask) in old.asks.all() {
            let mut line = Rope::default();
            lane::write_cancelled(ours, "the MCP server has exited", &mut line);
            out.to_peer.push((ask.session, line.into()));
        }
        if let Handshake::Sent(sent) = &old.handshake {
            let waiting = sent.waiting.iter();
            let errors = waiting.map(|(session, id, _)| (*session, exit.error_line(id)));
            out.to_peer.extend(errors);
        }
        if exit.restarts {
            self.lanes[lane.0] = old.renewed(kept, exit);
        }
    }

    /// Answers what the process has not answered; gives what its successor is still asked.
    fn end_requests(
        &mut self,
        old: &mut Lane,
        exit: &Exit,
        out: &mut Output,
    ) -> HashMap<i64, Pending> {
        let renews = exit.restarts && !exit.forgets && old.service == Service::Modern;
        let mut kept = HashMap::default();
        let mut in_flight: Vec<_> = std::mem::take(&mut old.in_flight).into_iter().collect();
        in_flight.sort_unstable_by_key(|(ours, _)| *ours);
        let mut level_is_open = false;
        for (ours, mut pending) in in_flight {
            let Some(session) = self.sessions.get_mut(&pending.session) else {
                continue;
            };
            if let Purpose::SetLevel(_) = pending.purpose {
                session.level = None;
                level_is_open = true;
            }
            match &mut pending.purpose {
                Purpose::Listen(listen) if renews && listen.is_renewable() => {
                    listen.lost = true;
                    kept.insert(ours, pending);
                }
                _ if session.answered(&pending.id, ours) => {
                    out.to_peer
                        .push((pending.session, exit.error_line(&pending.id)));
                }
                _ => {}
            }
        }
        if level_is_open {
            // What it was told before was what the others want.
            old.level = self.most_verbose();
        }
        kept
    }

    /// True where a process hears one sender at a time: [`Router::tick`] is to be called now and then,
    /// and [`Router::end_turns`] once it has lived for long enough.
    #[must_use]
    pub fn takes_turns(&self, lane: LaneId) -> bool {
        self.lanes[lane.0].takes_turns()
    }

    /// Some time has passed: who has had its turn since the last tick has had it for long enough.
    pub fn tick(&mut self, lane: LaneId, out: &mut Output) {
        self.lanes[lane.0].tick(lane, self.next_id, out);
    }

    /// The process is all right: it hears everybody.
    pub fn end_turns(&mut self, lane: LaneId, out: &mut Output) {
        self.lanes[lane.0].end_turns(lane, self.next_id, out);
    }

    /// A lane's process has started. What its predecessor knew is told to it once it has answered a
    /// request of the router's own: one that ends before that ends by itself.
    pub fn child_started(&mut self, lane: LaneId, out: &mut Output) {
        let probing = self.is_probing(lane);
        let state = &mut self.lanes[lane.0];
        state.down = false;
        if probing || matches!(state.handshake, Handshake::Sent(_)) {
            return;
        }
        let ours = self.fresh_id();
        let state = &mut self.lanes[lane.0];
        if let Service::Returning(asked) = &mut state.service {
            *asked = Some(ours);
            lane::write_discover(ours, &mut out.to_child[lane.0]);
        } else if state.is_successor {
            state.send_initialize(lane, ours, None, out);
        } else {
            state.release(lane, ours, out);
        }
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
