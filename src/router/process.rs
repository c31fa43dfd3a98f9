//! One process of the MCP server, as the router sees it: its legacy handshake, and the state that
//! the process which replaces it must get.

use super::evidence::{Evidence, Origin};
use super::in_flight::InFlight;
use super::known_tools::KnownTools;
use super::levels::Level;
use super::listen_requests::LISTEN;
use super::openings::{Handshake, Opening, write_meta};
use super::peers::Peers;
use super::pending::{Delivery, Pending, Purpose};
use super::queue::{Queue, Window};
use super::requesters::{Forgotten, Owners};
use super::server_requests::ServerRequests;
use super::session::Session;
use super::subscriptions::Subscriptions;
use super::tasks::Tasks;
use super::turns::Turns;
use super::versions::Version;
use super::wire_ids::{Numbers, WireIds};
use super::{Exit, Output, PEER_LEFT, ProcessId, SessionId};
use crate::json::write_string;
use crate::jsonrpc::{Code, NO_DATA, RequestId, error_line};
use crate::utils::chunks::Chunks;
use std::collections::BTreeMap;

/// The peers that a process serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Service {
    /// There is no process.
    #[default]
    Idle,
    /// No peer has used it yet.
    Fresh,
    /// The router is probing, with the request of this number, whether it is modern.
    Probing(i64),
    /// Peers that send `initialize`, and those that send neither this nor anything modern.
    Legacy,
    /// Peers of 2026-07-28 and later.
    Modern,
    /// The same, but the process replaces another: it gets no messages of peers before it has
    /// answered the router's own request, which has this number once it runs.
    Returning(Option<i64>),
}

/// One process.
#[derive(Default)]
pub(super) struct Process {
    pub id: ProcessId,
    /// The ids under which it gets requests.
    pub ids: WireIds,
    pub service: Service,
    pub handshake: Handshake,
    /// The process has ended and the next one has not started.
    pub down: bool,
    /// It follows a process that had its handshake or ended in it, and has not yet had its own.
    pub is_successor: bool,
    /// It was sent a request of a peer.
    pub engaged: bool,
    pub in_flight: InFlight,
    /// Forgotten requests that the process may still be working on.
    pub forgotten: Forgotten,
    /// The owners of ended sessions that have used the process.
    pub departed: Owners,
    /// Lines that are held until the handshake has ended, the protocol generation is known, or the
    /// process has started.
    pub held: Chunks,
    /// The requests of peers among these, by number.
    pub held_requests: Vec<i64>,
    /// The `clientInfo` of the first peer whose `initialize` was answered.
    pub client: Option<Vec<u8>>,
    /// The protocol version that a process has agreed to.
    pub version: Option<Version>,
    /// Peers whose `initialize` is pending, in order.
    pub openings: Vec<Opening>,
    /// Which senders' messages the process was sent.
    pub evidence: Evidence,
    /// Pending requests that restore the predecessor's state, with their methods.
    pub renewals: BTreeMap<i64, &'static str>,
    /// Queued lines of peers.
    pub queue: Queue,
    /// Set while senders take turns.
    pub turns: Option<Turns>,
    /// The log level that was sent to the child.
    pub level: Option<Level>,
    pub subscriptions: Subscriptions,
    pub server_requests: ServerRequests,
    pub tasks: Tasks,
    /// What it says of its tools, where they are pinned.
    pub tools: KnownTools,
}

impl Process {
    /// A process that does not run; `window` bounds what it has in flight.
    pub(super) fn new(id: ProcessId, window: Window, ids: WireIds) -> Self {
        Self {
            id,
            ids,
            queue: Queue::new(window),
            ..Self::default()
        }
    }

    /// The state that the next process starts with: what is restored, and what is still requested.
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
            ids: self.ids,
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
            // Unanswered requests are not sent again: the process may have ended because of them.
            client: self.client.filter(|_| !interrupted),
            level: self.level,
            subscriptions: self.subscriptions,
            ..renewed
        }
    }

    /// Forgets a request that is no longer awaited, but not that the process may be working on it.
    pub(super) fn forget(&mut self, ours: i64, session: &Session) -> Option<Pending> {
        let pending = self.end(ours)?;
        if let Purpose::Subscribe { via } = pending.purpose {
            self.subscriptions.forget(ours, via);
        }
        if pending.is_sent(ours) && !session.profile.is_own {
            self.forgotten
                .insert(ours, session.requester(pending.wants_logs));
        }
        Some(pending)
    }

    /// Cancels a request that is no longer awaited, if the process has got it.
    pub(super) fn abandon(&mut self, ours: i64, session: &Session, latest: i64, out: &mut Output) {
        let origin = session.origin(None, latest);
        match self.forget(ours, session) {
            Some(pending) if pending.delivery == Delivery::Queued => {}
            Some(pending) if pending.is_cancellable() => {
                self.cancel(ours, PEER_LEFT, origin, out);
            }
            // It may still be working on it.
            _ => self.note(origin),
        }
    }

    /// Ends the subscriptions of a session, and answers server requests to it with errors.
    pub(super) fn end_subscriptions(&mut self, id: SessionId, peers: &mut Peers, out: &mut Output) {
        for uri in self.subscriptions.leave(id) {
            let ours = peers.numbers.next();
            self.tell(ours, "resources/unsubscribe", "uri", &uri, out);
        }
        for question in self.server_requests.leave(id) {
            let line = error_line(Some(&question), Code::InternalError, PEER_LEFT, NO_DATA);
            out.answer(self.id, &line);
        }
    }

    /// Removes a session; only what the process may still be working on remains.
    pub(super) fn leave(
        &mut self,
        id: SessionId,
        session: &Session,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        if session.uses[self.id.0] && !session.profile.is_own {
            self.departed.add(&session.owner);
        }
        self.take_opening(id);
        self.tasks.leave(id);
        self.end_subscriptions(id, peers, out);
        self.lower_level(peers, out);
    }

    /// True if this request is pending and will be answered by itself.
    pub(super) fn is_awaited(&self, ours: i64) -> bool {
        let pending = self.in_flight.get(ours);
        pending.is_some_and(|pending| !matches!(pending.purpose, Purpose::Listen(_)))
    }

    pub(super) fn owns(&self, peer: SessionId, task: &str, peers: &Peers) -> bool {
        let session = peers.get(peer);
        session.is_some_and(|session| self.tasks.is_owned_by(task, &session.profile.user))
    }

    /// The numbers of all requests that the process may still refer to by their ids.
    pub(super) fn open_requests(&self, numbers: &Numbers) -> Vec<i64> {
        let handshake = match &self.handshake {
            Handshake::Sent(sent) => Some(sent.ours),
            _ => None,
        };
        let probe = match self.service {
            Service::Probing(ours) => Some(ours),
            Service::Returning(ours) => ours,
            _ => None,
        };
        let list = self.tools.asked();
        let list = list.and_then(|id| self.ids.number(id, numbers));
        let mut open: Vec<i64> = [handshake, probe, list].into_iter().flatten().collect();
        open.extend(self.renewals.keys());
        open.extend(self.in_flight.iter().map(|(ours, _)| ours));
        open.extend(self.forgotten.numbers());
        open.extend(self.subscriptions.asked());
        open.extend(self.tasks.with_progress());
        open
    }

    /// Removes a request that is over, or that was withdrawn before the process got it: what waits for its turn is queued.
    pub(super) fn end(&mut self, ours: i64) -> Option<Pending> {
        let mut pending = self.in_flight.remove(ours)?;
        match pending.delivery {
            Delivery::Queued => self.queue.take_back(pending.session, ours),
            Delivery::Given => self.queue.close(pending.session, ours),
            Delivery::Held => {
                self.queue.close(pending.session, ours);
                if (self.turns.as_mut()).is_some_and(|turns| turns.take_back(ours)) {
                    pending.delivery = Delivery::Queued;
                }
            }
        }
        Some(pending)
    }

    /// Cancels `ours`, a request of `sender`, at the child.
    pub(super) fn cancel(&mut self, ours: i64, reason: &str, origin: Origin<'_>, out: &mut Output) {
        write_cancelled(&self.ids.of(ours), reason, self.sink_of(origin, out));
    }

    /// Sends one of the router's own requests, whose answer is ignored.
    pub(super) fn tell(
        &mut self,
        ours: i64,
        method: &str,
        member: &str,
        value: &str,
        out: &mut Output,
    ) {
        // A process that ends next may have ended because of it.
        self.evidence.renew(None);
        let id = self.ids.of(ours);
        write_request(&id, method, member, value, self.sink(out));
    }

    /// Restores the predecessor's state in a process.
    pub(super) fn renew(&mut self, peers: &mut Peers, out: &mut Output) {
        let (id, ids, renewals) = (self.id, &self.ids, &mut self.renewals);
        let mut request = |method, member, value: &str| {
            let ours = peers.numbers.next();
            write_request(&ids.of(ours), method, member, value, out.lines(id));
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

    /// The oldest one that is still awaited.
    pub(super) fn open_renewal(&self) -> Option<(i64, &'static str)> {
        let is_open = |(ours, method): &(i64, &str)| match self.in_flight.get(*ours) {
            Some(pending) => pending.is_unconfirmed_listen(),
            // The router's own requests are not in the table of peers' requests.
            None => *method != LISTEN,
        };
        let mut renewals = self.renewals.iter().map(|(ours, method)| (*ours, *method));
        renewals.find(is_open)
    }
}

/// Probes whether a process is modern.
pub(super) fn send_discover(process: ProcessId, id: &RequestId, out: &mut Output) {
    out.note_asked(process);
    let out = out.lines(process).small();
    out.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
    id.write(out);
    out.extend(b",\"method\":\"server/discover\",\"params\":{");
    write_meta(out);
    out.extend(b"}}\n");
}

/// True if such a request fits the limit, under any id.
pub(super) fn fits_request(method: &str, member: &str, value: &str, limit: usize) -> bool {
    let mut line = Chunks::default();
    write_request(
        &RequestId::Number(i64::MAX),
        method,
        member,
        value,
        &mut line,
    );
    line.len() <= limit.saturating_add(1)
}

/// The cancellation of the request `id`.
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

fn write_request(id: &RequestId, method: &str, member: &str, value: &str, out: &mut Chunks) {
    let out = out.small();
    out.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
    id.write(out);
    out.extend(b",\"method\":");
    write_string(method, out);
    out.extend(b",\"params\":{");
    write_string(member, out);
    out.push(b':');
    write_string(value, out);
    out.extend(b"}}\n");
}
