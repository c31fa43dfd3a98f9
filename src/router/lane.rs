//! One process of the MCP server, as the router sees it, and its legacy handshake.

use super::{LEGACY_REVISIONS, LaneId, NEWEST_LEGACY, Output, SessionId};
use crate::jsonrpc::{Edit, Field, Message, Replacement, RequestId, write_string};
use bytes::Bytes;
use std::collections::HashMap;

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

/// What a request in flight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be answered to its peer, nothing else.
    Forward,
    /// The answer also tells the server's era.
    Discover,
}

/// A request in flight, kept under the id that the child knows it by.
#[derive(Debug)]
pub(super) struct Pending {
    pub session: SessionId,
    /// The peer's id.
    pub id: RequestId,
    /// The peer's progress token; the child's is our id.
    pub progress_token: Option<RequestId>,
    pub purpose: Purpose,
}

/// How far the legacy handshake is.
#[derive(Debug, Default)]
pub(super) enum Handshake {
    #[default]
    Needed,
    Sent(Sent),
    /// With the child's answer.
    Done(Message),
    /// The child answered with an error; the next `initialize` of a peer tries again, everything
    /// else is passed on as it comes.
    Refused,
}

/// An `initialize` under way.
#[derive(Debug)]
pub(super) struct Sent {
    ours: i64,
    /// Peers that wait for the answer, with their ids and the revisions they asked for.
    pub waiting: Vec<(SessionId, RequestId, Option<String>)>,
}

impl Handshake {
    pub(super) fn is_answered_by(&self, ours: i64) -> bool {
        matches!(self, Self::Sent(sent) if sent.ours == ours)
    }
}

/// One process.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub service: Service,
    pub handshake: Handshake,
    pub in_flight: HashMap<i64, Pending>,
    /// Lines for the child that wait for the end of the handshake.
    pub held: Vec<u8>,
}

impl Lane {
    /// Where lines for the child go now.
    pub(super) fn sink<'a>(&'a mut self, lane: LaneId, out: &'a mut Output) -> &'a mut Vec<u8> {
        match self.handshake {
            Handshake::Sent(_) => &mut self.held,
            _ => &mut out.to_child[lane.0],
        }
    }

    /// Tells the child that nobody waits for `ours` any more.
    pub(super) fn cancel(
        &mut self,
        lane: LaneId,
        ours: i64,
        reason: Option<&str>,
        out: &mut Output,
    ) {
        let sink = self.sink(lane, out);
        sink.extend(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":");
        RequestId::Number(ours).write(sink);
        if let Some(reason) = reason {
            sink.extend(b",\"reason\":");
            write_string(reason, sink);
        }
        sink.extend(b"}}\n");
    }

    pub(super) fn send_initialize(
        &mut self,
        lane: LaneId,
        ours: i64,
        client: Option<&[u8]>,
        out: &mut Output,
    ) {
        let to_child = &mut out.to_child[lane.0];
        to_child.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
        RequestId::Number(ours).write(to_child);
        to_child.extend(b",\"method\":\"initialize\",\"params\":{\"protocolVersion\":");
        write_string(NEWEST_LEGACY, to_child);
        to_child.extend(b",\"capabilities\":{},\"clientInfo\":");
        to_child.extend(
            client.unwrap_or(
                concat!(
                    r#"{"name":"mcp-remote","version":""#,
                    env!("CARGO_PKG_VERSION"),
                    r#""}"#
                )
                .as_bytes(),
            ),
        );
        to_child.extend(b"}}\n");
        self.handshake = Handshake::Sent(Sent {
            ours,
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

    pub(super) fn waiting_for(&self, session: SessionId) -> usize {
        match &self.handshake {
            Handshake::Sent(sent) => sent
                .waiting
                .iter()
                .filter(|(waiting, ..)| *waiting == session)
                .count(),
            _ => 0,
        }
    }

    pub(super) fn forget_waiting(&mut self, session: SessionId) {
        if let Handshake::Sent(sent) = &mut self.handshake {
            sent.waiting.retain(|(waiting, ..)| *waiting != session);
        }
    }

    /// The child has answered `initialize`: lets go what was held, and gives who waited.
    pub(super) fn end_handshake(
        &mut self,
        lane: LaneId,
        answer: &Message,
        out: &mut Output,
    ) -> Vec<(SessionId, RequestId, Option<String>)> {
        let (next, to_child) = match answer.result() {
            Some(_) => (
                Handshake::Done(answer.clone()),
                &b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n"[..],
            ),
            None => (Handshake::Refused, &b""[..]),
        };
        out.to_child[lane.0].extend(to_child);
        out.to_child[lane.0].append(&mut self.held);
        match std::mem::replace(&mut self.handshake, next) {
            Handshake::Sent(sent) => sent.waiting,
            _ => Vec::new(),
        }
    }
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
    let mut line = Vec::new();
    answer.write(Some(id), edit.as_slice(), &mut line);
    line.into()
}
