//! One process of the MCP server, as the router sees it: its legacy handshake, and what must be
//! told to the process that replaces it.

use super::asks::{self, Asks};
use super::delivery::Origin;
use super::evidence::{Evidence, Sender};
use super::levels::Level;
use super::pending::{Pending, Purpose};
use super::requesters::{Forgotten, Owners};
use super::revision::{self, Revision};
use super::subscriptions::Subscriptions;
use super::tasks::Tasks;
use super::turns::Turns;
use super::{Exit, LaneId, Output, SessionId};
use crate::json::write_string;
use crate::jsonrpc::{Edit, Field, Message, Replacement, RequestId};
use crate::utils::rope::{Line, Rope};
use foldhash::HashMap;

/// The `clientInfo` of the router itself.
const OURSELVES: &str = concat!(
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
    /// The router has asked it, under this id, whether it is modern.
    Probing(i64),
    /// Peers that say `initialize`, and those that say nothing of the kind.
    Legacy,
    /// Peers of 2026-07-28 and later.
    Modern,
    /// The same, but the process replaces another: nothing of a peer is given to it before it has
    /// answered what the router has asked it, under this id once it runs.
    Returning(Option<i64>),
}

/// How far the legacy handshake is.
#[derive(Debug, Default)]
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
#[derive(Debug)]
pub(super) struct Sent {
    ours: i64,
    /// The process is a successor.
    pub renewal: bool,
    /// Whose `clientInfo` it quotes, unless a process has answered that before.
    pub introduced: Option<Sender>,
    /// Peers that wait for the answer, with their ids and the revisions they asked for, where we know
    /// those.
    pub waiting: Vec<(SessionId, RequestId, Option<Revision>)>,
}

/// One process.
#[derive(Default)]
pub(super) struct Lane {
    pub service: Service,
    pub handshake: Handshake,
    /// The process has ended and the next one has not started.
    pub down: bool,
    /// It follows a process that had its handshake or ended in it, and has not yet had its own.
    pub is_successor: bool,
    /// It has been sent a request of a peer.
    pub engaged: bool,
    pub in_flight: HashMap<i64, Pending>,
    /// Requests beyond those that the process may still answer.
    pub forgotten: Forgotten,
    /// Those whose sessions have used the process and ended.
    pub departed: Owners,
    /// Lines for the child that wait for the end of the handshake, for its era, or for the process.
    pub held: Rope,
    /// The `clientInfo` of the first peer whose `initialize` has been answered.
    client: Option<Vec<u8>>,
    /// What the process has been given by whom.
    pub evidence: Evidence,
    /// While one sender is heard at a time.
    pub turns: Option<Turns>,
    /// The log level that the child was told.
    pub level: Option<Level>,
    pub subscriptions: Subscriptions,
    pub asks: Asks,
    pub tasks: Tasks,
}

impl Lane {
    /// The lane as its next process finds it: with what that is told, and still asked.
    pub(super) fn renewed(self, in_flight: HashMap<i64, Pending>, exit: &Exit) -> Self {
        let service = match self.service {
            Service::Probing(_) => Service::Fresh,
            Service::Modern => Service::Returning(None),
            other => other,
        };
        let (handshake, interrupted) = match self.handshake {
            Handshake::Sent(_) => (Handshake::Needed, true),
            other => (other, false),
        };
        let renewed = Self {
            is_successor: self.is_successor
                || interrupted
                || matches!(handshake, Handshake::Done(_)),
            service,
            handshake,
            in_flight,
            down: true,
            turns: exit.suspicious.then(Turns::default),
            ..Self::default()
        };
        if exit.forgets {
            return renewed;
        }
        Self {
            // What has not been answered is not sent again: the process may have ended at it.
            client: self.client.filter(|_| !interrupted),
            level: self.level,
            subscriptions: self.subscriptions,
            ..renewed
        }
    }

    /// Forgets a request that nobody waits for any more.
    pub(super) fn forget(&mut self, ours: i64) -> Option<Pending> {
        let pending = self.in_flight.remove(&ours)?;
        if let Purpose::Subscribe { via } = pending.purpose {
            self.subscriptions.forget(ours, via);
        }
        Some(pending)
    }

    /// Tells the child that nobody waits for `ours` any more, which was a request of `sender`.
    pub(super) fn cancel(
        &mut self,
        lane: LaneId,
        ours: i64,
        reason: &str,
        origin: Origin<'_>,
        out: &mut Output,
    ) {
        write_cancelled(ours, reason, self.sink_of(lane, origin, out));
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

    /// Sends `initialize`, with the `clientInfo` of `client` if this is the first time.
    pub(super) fn send_initialize(
        &mut self,
        lane: LaneId,
        ours: i64,
        client: Option<(Vec<u8>, Sender)>,
        out: &mut Output,
    ) {
        let to_child = out.to_child[lane.0].small();
        to_child.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
        RequestId::Number(ours).write(to_child);
        to_child.extend(b",\"method\":\"initialize\",\"params\":{\"protocolVersion\":");
        write_string(Revision::NEWEST.name(), to_child);
        to_child.extend(b",\"capabilities\":");
        to_child.extend(asks::CAPABILITIES.as_bytes());
        to_child.extend(b",\"clientInfo\":");
        let (client, introduced) = client.unzip();
        let client = client.or_else(|| self.client.take());
        if client.is_some() {
            self.evidence.renew(None);
        }
        to_child.extend_from_slice(client.as_deref().unwrap_or(OURSELVES.as_bytes()));
        to_child.extend(b"}}\n");
        self.client = client;
        self.handshake = Handshake::Sent(Sent {
            ours,
            renewal: self.is_successor,
            introduced,
            waiting: Vec::new(),
        });
    }

    /// Notes a peer whose `initialize` the answer under way will serve.
    pub(super) fn wait_for_handshake(
        &mut self,
        session: SessionId,
        id: RequestId,
        requested: Option<Revision>,
    ) {
        if let Handshake::Sent(sent) = &mut self.handshake {
            sent.waiting.push((session, id, requested));
        }
    }

    /// True while a peer waits for the answer to its `initialize`.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(&self.handshake, Handshake::Sent(sent) if !sent.waiting.is_empty())
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
            Some(_) => Handshake::Done(Box::new(answer.detached())),
            None => Handshake::Refused,
        };
        let Handshake::Sent(sent) = std::mem::replace(&mut self.handshake, next) else {
            return None;
        };
        if answer.result().is_some() {
            self.is_successor = false;
            out.to_child[lane.0]
                .extend(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n");
            if sent.renewal {
                self.renew(&mut fresh_id, &mut out.to_child[lane.0]);
            }
        } else {
            self.client = None;
        }
        self.release(lane, fresh_id(), out);
        Some(sent)
    }

    /// Tells a process what its predecessor knew.
    fn renew(&mut self, mut fresh_id: impl FnMut() -> i64, to_child: &mut Rope) {
        let mut request = |method, member, value: &str| {
            let ours = fresh_id();
            write_request(ours, method, member, value, to_child);
            ours
        };
        let mut last = None;
        if let Some(level) = self.level {
            last = Some(request("logging/setLevel", "level", level.name()));
        }
        for uri in self.subscriptions.agreed() {
            last = Some(request("resources/subscribe", "uri", uri));
        }
        if last.is_some() {
            self.evidence.renew(last);
        }
    }
}

/// Asks a process whether it is modern.
pub(super) fn write_discover(ours: i64, out: &mut Rope) {
    let out = out.small();
    out.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
    RequestId::Number(ours).write(out);
    out.extend(b",\"method\":\"server/discover\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":");
    write_string(revision::MODERN, out);
    out.extend(b",\"io.modelcontextprotocol/clientInfo\":");
    out.extend(OURSELVES.as_bytes());
    out.extend(b",\"io.modelcontextprotocol/clientCapabilities\":{}}}}\n");
}

pub(super) fn write_cancelled(id: i64, reason: &str, out: &mut Rope) {
    let out = out.small();
    out.extend(
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":",
    );
    RequestId::Number(id).write(out);
    out.extend(b",\"reason\":");
    write_string(reason, out);
    out.extend(b"}}\n");
}

fn write_request(id: i64, method: &str, member: &str, value: &str, out: &mut Rope) {
    let out = out.small();
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
    requested: Option<Revision>,
) -> Line {
    let settled = answer.text(Field::ProtocolVersion);
    let settled = settled.and_then(|text| Revision::parse(&text));
    let quoted = requested
        .filter(|requested| settled.is_some_and(|settled| *requested < settled))
        .map(|older| format!("\"{}\"", older.name()));
    let edit = answer
        .span(Field::ProtocolVersion)
        .zip(quoted.as_deref())
        .map(|(span, text)| Edit {
            span,
            with: Replacement::Json(text.as_bytes()),
        });
    answer.to_line(Some(id), edit.as_slice())
}
