//! One process of the MCP server, as the router sees it: its legacy handshake, and what must be
//! told to the process that replaces it.

use super::asks::{self, Asks};
use super::levels::Level;
use super::subscriptions::Subscriptions;
use super::tasks::Tasks;
use super::{LEGACY_REVISIONS, LaneId, NEWEST_LEGACY, OLDEST_MODERN, Output, SessionId};
use crate::jsonrpc::{Edit, Field, Message, Replacement, RequestId, write_string};
use crate::permissions::ListFilter;
use bytes::Bytes;
use std::collections::HashMap;

/// The `clientInfo` of the router itself.
const OWN_INFO: &str = concat!(
    r#"{"name":"mcp-remote","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// Whom a lane's process serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Service {
    /// There is no process.
    #[default]
    Idle,
    /// Nobody has spoken to it yet.
    Fresh,
    /// Somebody asked whether it is modern.
    Probing,
    /// Peers that say `initialize`, and those that say nothing of the kind.
    Legacy,
    /// Peers of 2026-07-28 and later.
    Modern,
}

/// What a request in flight is for, beyond being answered to its peer.
pub(super) enum Purpose {
    Forward,
    /// `server/discover`: the answer also tells the server's era.
    Discover,
    /// `resources/subscribe` to this URI.
    Subscribe(String),
    /// `logging/setLevel`: what the child was told.
    SetLevel(Level),
    /// `tasks/list`.
    ListTasks,
    /// A list that rules may cut down.
    List(ListFilter),
    /// `subscriptions/listen`, to be sent again to the next process.
    Listen(Box<Message>),
    /// The same, sent again: its acknowledgement is ours to read.
    Renewed(Box<Message>),
}

/// A request in flight, kept under the id that the child knows it by.
pub(super) struct Pending {
    pub session: SessionId,
    /// The peer's id.
    pub id: RequestId,
    /// The peer's progress token; the child's is our id.
    pub progress_token: Option<RequestId>,
    /// The request wants log messages (2026-07-28 server/utilities/logging).
    pub wants_logs: bool,
    pub purpose: Purpose,
}

/// How far the legacy handshake is.
#[derive(Default)]
pub(super) enum Handshake {
    #[default]
    Needed,
    Sent(Sent),
    /// With the child's answer.
    Done(Box<Message>),
    /// The child answered with an error; the next `initialize` of a peer tries again, everything
    /// else is passed on as it comes.
    Refused,
}

/// An `initialize` under way.
pub(super) struct Sent {
    ours: i64,
    /// The child replaces one that had its handshake.
    pub renewal: bool,
    /// Peers that wait for the answer, with their ids and the revisions they asked for.
    pub waiting: Vec<(SessionId, RequestId, Option<String>)>,
}

/// The router's own `server/discover`, under way.
pub(super) struct Probe {
    pub ours: i64,
    /// Answers to peers that wait for its outcome, by the ids that they answer.
    pub held: Vec<(i64, Message)>,
}

/// One process.
#[derive(Default)]
pub(super) struct Lane {
    pub service: Service,
    pub probe: Option<Probe>,
    pub handshake: Handshake,
    /// The process has ended and the next one has not started.
    pub down: bool,
    pub in_flight: HashMap<i64, Pending>,
    /// Lines for the child that wait for the end of the handshake, or for the process.
    pub held: Vec<u8>,
    /// The `clientInfo` of the first `initialize`.
    client: Option<Vec<u8>>,
    /// The log level that the child was told.
    pub level: Option<Level>,
    pub subscriptions: Subscriptions,
    pub asks: Asks,
    pub tasks: Tasks,
}

impl Lane {
    /// The lane as its next process finds it: with what that is told, and still asked.
    pub(super) fn renewed(
        self,
        service: Service,
        handshake: Handshake,
        in_flight: HashMap<i64, Pending>,
    ) -> Self {
        Self {
            service,
            handshake,
            in_flight,
            down: true,
            client: self.client,
            level: self.level,
            subscriptions: self.subscriptions,
            ..Self::default()
        }
    }

    /// Where lines for the child go now.
    pub(super) fn sink<'a>(&'a mut self, lane: LaneId, out: &'a mut Output) -> &'a mut Vec<u8> {
        match self.handshake {
            Handshake::Sent(_) => &mut self.held,
            _ if self.down => &mut self.held,
            _ => &mut out.to_child[lane.0],
        }
    }

    /// Tells the child that nobody waits for `ours` any more.
    pub(super) fn cancel(&mut self, lane: LaneId, ours: i64, reason: &str, out: &mut Output) {
        write_cancelled(ours, reason, self.sink(lane, out));
    }

    /// Sends a request of the router's own, whose answer is of no interest.
    pub(super) fn tell(
        &mut self,
        lane: LaneId,
        ours: i64,
        method: &str,
        member: &str,
        value: &str,
        out: &mut Output,
    ) {
        write_request(ours, method, member, value, self.sink(lane, out));
    }

    /// Sends `initialize`. `client` is the `clientInfo` to use, if this is its first time.
    pub(super) fn send_initialize(
        &mut self,
        lane: LaneId,
        ours: i64,
        client: Option<Vec<u8>>,
        renewal: bool,
        out: &mut Output,
    ) {
        let to_child = &mut out.to_child[lane.0];
        to_child.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
        RequestId::Number(ours).write(to_child);
        to_child.extend(b",\"method\":\"initialize\",\"params\":{\"protocolVersion\":");
        write_string(NEWEST_LEGACY, to_child);
        to_child.extend(b",\"capabilities\":");
        to_child.extend(asks::CAPABILITIES.as_bytes());
        to_child.extend(b",\"clientInfo\":");
        let client = client
            .or_else(|| self.client.take())
            .unwrap_or_else(|| OWN_INFO.into());
        to_child.extend_from_slice(&client);
        to_child.extend(b"}}\n");
        self.client = Some(client);
        self.handshake = Handshake::Sent(Sent {
            ours,
            renewal,
            waiting: Vec::new(),
        });
    }

    /// Notes a peer whose `initialize` the answer under way will serve.
    pub(super) fn wait_for_handshake(
        &mut self,
        session: SessionId,
        id: RequestId,
        requested: Option<String>,
    ) {
        if let Handshake::Sent(sent) = &mut self.handshake {
            sent.waiting.push((session, id, requested));
        }
    }

    /// The id of this peer's `initialize`, while the answer is under way.
    pub(super) fn initialize_of(&self, session: SessionId) -> Option<&RequestId> {
        let Handshake::Sent(sent) = &self.handshake else {
            return None;
        };
        sent.waiting
            .iter()
            .find(|(waiting, ..)| *waiting == session)
            .map(|(_, id, _)| id)
    }

    pub(super) fn forget_waiting(&mut self, session: SessionId) {
        if let Handshake::Sent(sent) = &mut self.handshake {
            sent.waiting.retain(|(waiting, ..)| *waiting != session);
        }
    }

    pub(super) fn handshake_is_answered_by(&self, ours: i64) -> bool {
        matches!(&self.handshake, Handshake::Sent(sent) if sent.ours == ours)
    }

    /// The child has answered `initialize`: says `notifications/initialized`, to a new process also
    /// what the old one knew, and lets go what was held. Gives the handshake that was.
    pub(super) fn end_handshake(
        &mut self,
        lane: LaneId,
        answer: &Message,
        mut fresh_id: impl FnMut() -> i64,
        out: &mut Output,
    ) -> Option<Sent> {
        let next = match answer.result() {
            Some(_) => Handshake::Done(Box::new(answer.clone())),
            None => Handshake::Refused,
        };
        let Handshake::Sent(sent) = std::mem::replace(&mut self.handshake, next) else {
            return None;
        };
        let to_child = &mut out.to_child[lane.0];
        if answer.result().is_some() {
            to_child.extend(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n");
            if sent.renewal {
                if let Some(level) = self.level {
                    write_request(
                        fresh_id(),
                        "logging/setLevel",
                        "level",
                        level.name(),
                        to_child,
                    );
                }
                for uri in self.subscriptions.uris() {
                    write_request(fresh_id(), "resources/subscribe", "uri", uri, to_child);
                }
            }
        }
        to_child.append(&mut self.held);
        Some(sent)
    }
}

pub(super) fn write_discover(id: i64, out: &mut Vec<u8>) {
    out.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
    RequestId::Number(id).write(out);
    out.extend(b",\"method\":\"server/discover\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":");
    write_string(OLDEST_MODERN, out);
    out.extend(b",\"io.modelcontextprotocol/clientInfo\":");
    out.extend(OWN_INFO.as_bytes());
    out.extend(b",\"io.modelcontextprotocol/clientCapabilities\":{}}}}\n");
}

pub(super) fn write_cancelled(id: i64, reason: &str, out: &mut Vec<u8>) {
    out.extend(
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":",
    );
    RequestId::Number(id).write(out);
    out.extend(b",\"reason\":");
    write_string(reason, out);
    out.extend(b"}}\n");
}

fn write_request(id: i64, method: &str, member: &str, value: &str, out: &mut Vec<u8>) {
    out.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
    RequestId::Number(id).write(out);
    out.extend(b",\"method\":");
    write_string(method, out);
    out.extend(b",\"params\":{");
    write_string(member, out);
    out.push(b':');
    write_string(value, out);
    out.extend(b"}}\n");
}

/// The child's answer to `initialize`, for a peer that asked with `id` for revision `requested`.
///
/// A peer that knows only an older revision than the child settled on is told its own: SDK clients
/// refuse an answer newer than they know, and what newer revisions add is optional in answers.
pub(super) fn answer_initialize(
    answer: &Message,
    id: &RequestId,
    requested: Option<&str>,
) -> Bytes {
    let age = |revision: &str| LEGACY_REVISIONS.iter().position(|known| *known == revision);
    let settled = answer.text(Field::ProtocolVersion);
    let older = match (requested, settled) {
        (Some(requested), Some(settled)) => {
            age(requested)
                .zip(age(&settled))
                .and_then(|(requested_age, settled_age)| {
                    (requested_age < settled_age).then_some(requested)
                })
        }
        _ => None,
    };
    let quoted = older.map(|revision| {
        let mut text = Vec::new();
        write_string(revision, &mut text);
        text
    });
    let edit = answer
        .span(Field::ProtocolVersion)
        .zip(quoted.as_deref())
        .map(|(span, text)| Edit {
            span,
            with: Replacement::Json(text),
        });
    answer.to_line(Some(id), edit.as_slice())
}
