//! One process of the MCP server, as the router sees it: its legacy handshake, and what must be
//! told to the process that replaces it.

use super::evidence::{Evidence, Origin};
use super::in_flight::InFlight;
use super::levels::Level;
use super::listen_requests::LISTEN;
use super::openings::{Handshake, OURSELVES, Opening};
use super::peers::Peers;
use super::pending::{Delivery, Pending, Purpose};
use super::queue::{Queue, Window};
use super::requesters::{Forgotten, Owners};
use super::revision;
use super::server_requests::ServerRequests;
use super::session::Session;
use super::subscriptions::Subscriptions;
use super::tasks::{Owner, Tasks};
use super::turns::Turns;
use super::versions::Version;
use super::{Exit, Output, PEER_LEFT, ProcessId, SessionId};
use crate::json::write_string;
use crate::jsonrpc::{Code, NO_DATA, RequestId, error_line};
use crate::utils::chunks::Chunks;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whom a process serves.
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

/// One process.
#[derive(Default)]
pub(super) struct Process {
    pub id: ProcessId,
    pub service: Service,
    pub handshake: Handshake,
    /// The process has ended and the next one has not started.
    pub down: bool,
    /// It follows a process that had its handshake or ended in it, and has not yet had its own.
    pub is_successor: bool,
    /// It has been sent a request of a peer.
    pub engaged: bool,
    pub in_flight: InFlight,
    /// Requests beyond those that the process may still answer.
    pub forgotten: Forgotten,
    /// Those whose sessions have used the process and ended.
    pub departed: Owners,
    /// Lines for the child that wait for the end of the handshake, for its era, or for the process.
    pub held: Chunks,
    /// The `clientInfo` of the first peer whose `initialize` has been answered.
    pub client: Option<Vec<u8>>,
    /// The protocol version that a process has agreed to.
    pub version: Option<Version>,
    /// Peers whose `initialize` waits for an answer, in order.
    pub openings: Vec<Opening>,
    /// What the process has been given by whom.
    pub evidence: Evidence,
    /// What the process was told of its predecessor's state and has not answered, with the methods.
    pub renewals: BTreeMap<i64, &'static str>,
    /// What peers have said and the process has not been given.
    pub queue: Queue,
    /// While one sender is heard at a time.
    pub turns: Option<Turns>,
    /// The log level that the child was told.
    pub level: Option<Level>,
    pub subscriptions: Subscriptions,
    pub server_requests: ServerRequests,
    pub tasks: Tasks,
}

impl Process {
    /// One that does not run; it is given so much ahead.
    pub(super) fn new(id: ProcessId, window: Window) -> Self {
        Self {
            id,
            queue: Queue::new(window),
            ..Self::default()
        }
    }

    /// What the next process finds: with what that is told, and still asked.
    pub(super) fn renewed(self, in_flight: InFlight, exit: &Exit) -> Self {
        let service = match self.service {
            Service::Probing(_) => Service::Fresh,
            Service::Modern | Service::Returning(_) => Service::Returning(None),
            other => other,
        };
        let (handshake, interrupted) = match self.handshake {
            Handshake::Sent(_) => (Handshake::Needed, true),
            Handshake::Refused => (Handshake::Needed, false),
            other => (other, false),
        };
        let mut queue = self.queue;
        if !matches!(handshake, Handshake::Done(_)) {
            queue.drop_leading_notifications();
        }
        let renewed = Self {
            id: self.id,
            is_successor: self.is_successor
                || interrupted
                || matches!(handshake, Handshake::Done(_)),
            service,
            handshake,
            in_flight,
            down: true,
            openings: self.openings,
            version: self.version,
            queue: queue.renewed(),
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

    /// Forgets a request that nobody waits for any more, but not that the process may be working on
    /// it.
    pub(super) fn forget(&mut self, ours: i64, owner: &Arc<Owner>) -> Option<Pending> {
        let pending = self.end(ours)?;
        if let Purpose::Subscribe { via } = pending.purpose {
            self.subscriptions.forget(ours, via);
        }
        if pending.is_sent(ours) {
            self.forgotten.insert(ours, pending.session, owner);
        }
        Some(pending)
    }

    /// Nobody waits for a request any more: it is cancelled where the process knows of it.
    pub(super) fn abandon(&mut self, ours: i64, session: &Session, latest: i64, out: &mut Output) {
        let origin = session.origin(None, latest);
        match self.forget(ours, &session.owner) {
            Some(pending) if pending.delivery == Delivery::Queued => {}
            Some(pending) if pending.is_cancellable() => {
                self.cancel(ours, PEER_LEFT, origin, out);
            }
            // It may still be at work on it.
            _ => self.note(origin),
        }
    }

    /// Ends the subscriptions of a session, and answers what it has been asked with errors.
    pub(super) fn end_subscriptions(&mut self, id: SessionId, peers: &mut Peers, out: &mut Output) {
        for uri in self.subscriptions.leave(id) {
            let ours = peers.fresh_id();
            self.tell(ours, "resources/unsubscribe", "uri", &uri, out);
        }
        for question in self.server_requests.leave(id) {
            let line = error_line(Some(&question), Code::InternalError, PEER_LEFT, NO_DATA);
            out.answer(self.id, &line);
        }
    }

    /// A session has gone, and nothing of it stays but what the process may still be working on.
    pub(super) fn leave(
        &mut self,
        id: SessionId,
        session: &Session,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        if session.uses[self.id.0] {
            self.departed.add(&session.owner);
        }
        self.take_opening(id);
        self.tasks.leave(id);
        self.end_subscriptions(id, peers, out);
        self.lower_level(peers, out);
    }

    /// True where this request waits for an answer that will come by itself.
    pub(super) fn is_awaited(&self, ours: i64) -> bool {
        let pending = self.in_flight.get(ours);
        pending.is_some_and(|pending| !matches!(pending.purpose, Purpose::Listen(_)))
    }

    pub(super) fn owns(&self, peer: SessionId, task: &str, peers: &Peers) -> bool {
        let session = peers.get(peer);
        session.is_some_and(|session| self.tasks.is_owned_by(task, &session.profile.user))
    }

    /// A request is over, or taken back before the process was given it.
    pub(super) fn end(&mut self, ours: i64) -> Option<Pending> {
        let pending = self.in_flight.remove(ours)?;
        match pending.delivery {
            Delivery::Queued => self.queue.take_back(pending.session, ours),
            Delivery::Given | Delivery::Held => self.queue.close(pending.session, ours),
        }
        Some(pending)
    }

    /// Tells the child that nobody waits for `ours` any more, which was a request of `sender`.
    pub(super) fn cancel(&mut self, ours: i64, reason: &str, origin: Origin<'_>, out: &mut Output) {
        write_cancelled(&RequestId::Number(ours), reason, self.sink_of(origin, out));
    }

    /// Sends a request of the router's own, whose answer is of no interest.
    pub(super) fn tell(
        &mut self,
        ours: i64,
        method: &str,
        member: &str,
        value: &str,
        out: &mut Output,
    ) {
        write_request(ours, method, member, value, self.sink(out));
    }

    /// Tells a process what its predecessor knew.
    pub(super) fn renew(&mut self, peers: &mut Peers, out: &mut Output) {
        let (id, renewals) = (self.id, &mut self.renewals);
        let mut request = |method, member, value: &str| {
            let ours = peers.fresh_id();
            write_request(ours, method, member, value, out.lines(id));
            renewals.insert(ours, method);
            out.note_asked(id);
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

    /// The oldest of them that is still waited for.
    pub(super) fn open_renewal(&self) -> Option<(i64, &'static str)> {
        let is_open = |(ours, method): &(i64, &str)| match self.in_flight.get(*ours) {
            Some(pending) => pending.is_unconfirmed_listen(),
            // The router's own are not among those of peers.
            None => *method != LISTEN,
        };
        let mut renewals = self.renewals.iter().map(|(ours, method)| (*ours, *method));
        renewals.find(is_open)
    }
}

/// Asks a process whether it is modern.
pub(super) fn send_discover(process: ProcessId, ours: i64, out: &mut Output) {
    out.note_asked(process);
    let out = out.lines(process).small();
    out.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
    RequestId::Number(ours).write(out);
    out.extend(b",\"method\":\"server/discover\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":");
    write_string(revision::MODERN, out);
    out.extend(b",\"io.modelcontextprotocol/clientInfo\":");
    out.extend(OURSELVES.as_bytes());
    out.extend(b",\"io.modelcontextprotocol/clientCapabilities\":{}}}}\n");
}

/// True where such a request of the router's own is no longer than `limit`, under any id.
pub(super) fn fits_request(method: &str, member: &str, value: &str, limit: usize) -> bool {
    let mut line = Chunks::default();
    write_request(i64::MAX, method, member, value, &mut line);
    line.len() <= limit.saturating_add(1)
}

/// Tells that nobody waits any more for the answer to what was asked under `id`.
pub(super) fn write_cancelled(id: &RequestId, reason: &str, out: &mut Chunks) {
    let out = out.small();
    out.extend(
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":",
    );
    id.write(out);
    out.extend(b",\"reason\":");
    write_string(reason, out);
    out.extend(b"}}\n");
}

fn write_request(id: i64, method: &str, member: &str, value: &str, out: &mut Chunks) {
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
