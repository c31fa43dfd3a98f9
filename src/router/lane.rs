//! One process of the MCP server, as the router sees it: its legacy handshake, and what must be
//! told to the process that replaces it.

use super::asks::{self, Asks};
use super::levels::Level;
use super::listens::Listen;
use super::requesters::{Forgotten, Owners};
use super::revision::{self, Revision};
use super::subscriptions::Subscriptions;
use super::tasks::Tasks;
use super::{LaneId, Output, SessionId};
use crate::json::write_string;
use crate::jsonrpc::{Edit, Field, Message, Replacement, RequestId};
use crate::permissions::ListFilter;
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
}

/// What a request in flight is for, beyond being answered to its peer.
#[derive(Debug)]
pub(super) enum Purpose {
    Forward,
    /// `server/discover`, which is not sent to a server that is found to be legacy.
    Discover,
    /// `resources/subscribe`, which the child was sent under this id: its own, or that of another
    /// peer that asked first.
    Subscribe {
        via: i64,
    },
    /// `resources/unsubscribe`, by the last one who was subscribed.
    Unsubscribe,
    /// `logging/setLevel`: what the child was told.
    SetLevel(Level),
    /// `tasks/list`.
    ListTasks,
    /// A list that rules may cut down.
    List(ListFilter),
    /// `subscriptions/listen`, to be sent again to the next process.
    Listen(Box<Listen>),
}

/// A request in flight, kept under the id that the child knows it by.
#[derive(Debug)]
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

impl Pending {
    /// False for what changes what the process knows of all its peers, which a cancellation would
    /// leave unknown to us, and for what it has not heard of.
    pub(super) fn is_cancellable(&self) -> bool {
        match &self.purpose {
            Purpose::Subscribe { .. } | Purpose::Unsubscribe | Purpose::SetLevel(_) => false,
            Purpose::Listen(listen) => !listen.lost,
            _ => true,
        }
    }

    /// True where the process gets to hear of it under its own id, `ours`.
    pub(super) fn is_sent(&self, ours: i64) -> bool {
        match &self.purpose {
            Purpose::Subscribe { via } => *via == ours,
            Purpose::Listen(listen) => !listen.lost,
            _ => true,
        }
    }
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
    /// It follows a process that had its handshake, and has not yet had its own.
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
            is_successor: self.is_successor || matches!(handshake, Handshake::Done(_)),
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
    pub(super) fn sink<'a>(&'a mut self, lane: LaneId, out: &'a mut Output) -> &'a mut Rope {
        match self.handshake {
            Handshake::Sent(_) => &mut self.held,
            _ if self.down || matches!(self.service, Service::Probing(_)) => &mut self.held,
            _ => &mut out.to_child[lane.0],
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

    /// Asks the process whether it is modern.
    pub(super) fn probe(&mut self, lane: LaneId, ours: i64, out: &mut Output) {
        self.service = Service::Probing(ours);
        let to_child = out.to_child[lane.0].small();
        to_child.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
        RequestId::Number(ours).write(to_child);
        to_child.extend(b",\"method\":\"server/discover\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":");
        write_string(revision::MODERN, to_child);
        to_child.extend(b",\"io.modelcontextprotocol/clientInfo\":");
        to_child.extend(OURSELVES.as_bytes());
        to_child.extend(b",\"io.modelcontextprotocol/clientCapabilities\":{}}}}\n");
    }

    /// Sends `initialize`. `client` is the `clientInfo` to use, if this is its first time.
    pub(super) fn send_initialize(
        &mut self,
        lane: LaneId,
        ours: i64,
        client: Option<Vec<u8>>,
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
        let client = client
            .or_else(|| self.client.take())
            .unwrap_or_else(|| OURSELVES.into());
        to_child.extend_from_slice(&client);
        to_child.extend(b"}}\n");
        self.client = Some(client);
        self.handshake = Handshake::Sent(Sent {
            ours,
            renewal: self.is_successor,
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
        let to_child = &mut out.to_child[lane.0];
        if answer.result().is_some() {
            self.is_successor = false;
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
                for uri in self.subscriptions.agreed() {
                    write_request(fresh_id(), "resources/subscribe", "uri", uri, to_child);
                }
            }
        }
        to_child.append(&mut self.held);
        Some(sent)
    }
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
