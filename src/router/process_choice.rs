//! Which process serves which peers: servers on the official SDKs serve either legacy or modern peers in one
//! process, so each of the two gets its own.
//!
//! Before the first modern peer is served, the router itself probes whether the server is modern,
//! so that the result does not depend on what a peer sends: a malformed `server/discover` would
//! make every server look legacy.

use super::peers::Peers;
use super::pending::{Delivery, Pending, Purpose};
use super::process::{self, Process, Service};
use super::session::Session;
use super::{Command, Output, ProcessId, Router, SessionId};
use crate::jsonrpc::{Code, Field, Kind, MAX_CHILD_DEPTH, Message, NO_DATA, RequestId, error_line};
use crate::mcp::Method;

/// How many processes in a row may end while they are probed; then the server counts as legacy:
/// some legacy servers exit if the first message is not `initialize`.
const MAX_FATAL_PROBES: u8 = 2;

impl Router {
    /// The process that serves `message`, which is started if necessary.
    pub(super) fn process_for(
        &mut self,
        from: SessionId,
        message: &Message,
        out: &mut Output,
    ) -> ProcessId {
        let modern = self.is_modern(from, message);
        if let Some(session) = self.peers.get_mut(from) {
            session.modern = modern;
        }
        let modern = modern && self.legacy_only.is_none();
        let process = match self.serving(modern) {
            Some(process) => process,
            None => self.claim_for(modern, out),
        };
        if let Some(session) = self.peers.get_mut(from) {
            session.uses[process.0] = true;
        }
        process
    }

    /// True for a message of a modern peer, as far as is known.
    fn is_modern(&self, from: SessionId, message: &Message) -> bool {
        match message.mcp_method() {
            Some(Method::Initialize) => false,
            _ => {
                let session = self.peers.get(from);
                message.is_modern() || session.is_some_and(|session| session.modern)
            }
        }
    }

    /// The process that serves modern or legacy peers, if one does.
    fn serving(&self, modern: bool) -> Option<ProcessId> {
        let mut processes = self.processes.iter();
        let found = processes.find(|process| process.service.serves(modern));
        found.map(|process| process.id)
    }

    /// The process that a message would go to now, if any.
    #[must_use]
    pub fn destination(&self, from: SessionId, message: &Message) -> Option<ProcessId> {
        let asked = |id: &RequestId| {
            let RequestId::Number(ours) = id else {
                return None;
            };
            let asks = |process: &&Process| process.server_requests.get(*ours, from).is_some();
            let process = self.processes.iter().find(asks);
            process.map(|process| process.id)
        };
        match (message.kind(), message.mcp_method()) {
            (Kind::Response(id), _) => asked(id.as_ref()?),
            (Kind::Notification, Some(Method::Progress)) => {
                asked(&message.quoted_id(Field::ProgressToken)?.0)
            }
            (Kind::Notification, Some(Method::Cancelled)) => {
                let (id, _) = message.quoted_id(Field::RequestId)?;
                Some(self.peers.get(from)?.find(&id)?.0)
            }
            _ => {
                let modern = self.is_modern(from, message) && self.legacy_only.is_none();
                Some(self.serving(modern).unwrap_or_else(|| self.unclaimed()))
            }
        }
    }

    /// True for a cancellation of a request in flight.
    #[must_use]
    pub fn cancels(&self, from: SessionId, message: &Message) -> bool {
        message.mcp_method() == Some(Method::Cancelled)
            && *message.kind() == Kind::Notification
            && self.destination(from, message).is_some()
    }

    fn claim_for(&mut self, modern: bool, out: &mut Output) -> ProcessId {
        let id = self.unclaimed();
        let (process, peers) = self.process(id);
        if process.service != Service::Fresh {
            process.down = true;
            out.commands.push(Command::Start(id));
        }
        if modern {
            let ours = peers.numbers.next();
            process.service = Service::Probing(ours);
            process::send_discover(id, &process.ids.of(ours), out);
        } else {
            process.service = Service::Legacy;
        }
        id
    }

    /// A process that serves no peers yet.
    fn unclaimed(&self) -> ProcessId {
        let find = |service| {
            let mut processes = self.processes.iter();
            let found = processes.find(|process| process.service == service);
            found.map(|process| process.id)
        };
        // With one for legacy and one for modern peers, a matching one would have been found.
        let idle = || find(Service::Idle).unwrap_or(ProcessId::FIRST);
        find(Service::Fresh).unwrap_or_else(idle)
    }

    /// True while the process is being probed.
    #[must_use]
    pub fn is_probing(&self, process: ProcessId) -> bool {
        self.processes[process.0].is_probing()
    }

    /// Handles the result of the probe. Errors in the range that 2026-07-28 defines come from
    /// modern servers only (basic "Error Codes").
    pub(super) fn discovered(&mut self, id: ProcessId, answer: &Message, out: &mut Output) {
        self.fatal_probes = 0;
        let modern = answer.result().is_some()
            || answer
                .error_code()
                .is_some_and(|code| (-32099..=-32020).contains(&code));
        if modern {
            let (process, peers) = self.process(id);
            process.service = Service::Modern;
            return process.release(peers, out);
        }
        if self.set_legacy_only(answer.detached(), id, out) {
            return;
        }
        let (process, peers) = self.process(id);
        process.service = Service::Fresh;
        // A peer that goes ahead without `server/discover` gets the server's own error.
        if process.in_flight.is_empty() {
            process.forgotten.clear();
            process.discard();
        } else {
            process.release(peers, out);
        }
    }

    /// Handles the end of a process during the probe.
    pub(super) fn probe_was_fatal(&mut self, process: ProcessId, out: &mut Output) {
        self.fatal_probes += 1;
        if self.fatal_probes < MAX_FATAL_PROBES {
            return;
        }
        let text = "Method not found: the MCP server ends when it is asked";
        let id = RequestId::Number(0);
        let line = error_line(Some(&id), Code::MethodNotFound, text, NO_DATA);
        if let Ok(error) = Message::read(line.into(), MAX_CHILD_DEPTH) {
            self.set_legacy_only(error, process, out);
        }
    }

    /// Marks the server as legacy, with the `error` that answers further `server/discover`. True if another
    /// process serves legacy peers already, so that this one is not needed; what waits for it goes to the other.
    fn set_legacy_only(&mut self, error: Message, id: ProcessId, out: &mut Output) -> bool {
        let (process, peers) = self.process(id);
        process.answer_discovers(&error, peers, out);
        process.tools.tell_ready(out);
        self.legacy_only = Some(error);
        if self.serving(false).is_none() {
            return false;
        }
        self.hand_over(id, out);
        out.commands.push(Command::Stop(id));
        true
    }

    /// Lets the other process, a legacy one, serve what waits in the queue of this one.
    fn hand_over(&mut self, from: ProcessId, out: &mut Output) {
        let [first, second] = &mut self.processes;
        let (from, to) = match from {
            ProcessId::FIRST => (first, second),
            _ => (second, first),
        };
        to.open_handshake(None, &mut self.peers, out);
        for id in from.queue.sessions() {
            let lines = from.queue.leave(id);
            let Some(session) = self.peers.get_mut(id) else {
                continue;
            };
            session.uses[to.id.0] = true;
            for waiting in lines {
                let request = waiting.request;
                if request.is_none_or(|ours| from.hand_over(ours, session, to)) {
                    to.queue.push(id, waiting);
                }
            }
        }
    }
}

impl Service {
    /// True if it serves modern or legacy peers.
    fn serves(self, modern: bool) -> bool {
        match self {
            Self::Legacy => !modern,
            Self::Modern | Self::Probing(_) | Self::Returning(_) => modern,
            Self::Idle | Self::Fresh => false,
        }
    }
}

impl Process {
    /// True while it is being probed.
    pub(super) fn is_probing(&self) -> bool {
        matches!(self.service, Service::Probing(_))
    }

    /// Passes a queued request on; false if it has to be sent again by its peer.
    fn hand_over(&mut self, ours: i64, session: &mut Session, to: &mut Self) -> bool {
        let is_counted = |pending: &Pending| {
            let counted = [Method::Subscribe, Method::Unsubscribe];
            pending
                .method
                .is_some_and(|method| counted.contains(&method))
        };
        if self.in_flight.get(ours).is_none_or(is_counted) {
            return false;
        }
        let Some(pending) = self.in_flight.remove(ours) else {
            return false;
        };
        session.moved(&pending.id, ours, to.id);
        to.in_flight.insert(ours, pending);
        true
    }

    /// Answers all pending `server/discover` with the error of a legacy server.
    fn answer_discovers(&mut self, error: &Message, peers: &mut Peers, out: &mut Output) {
        let is_discover = |pending: &Pending| matches!(pending.purpose, Purpose::Discover);
        let asked = self.in_flight.iter();
        let asked = asked.filter(|(_, pending)| is_discover(pending));
        let mut asked: Vec<i64> = asked.map(|(ours, _)| ours).collect();
        asked.sort_unstable();
        let latest = peers.numbers.newest;
        for ours in asked {
            let Some(pending) = self.end(ours) else {
                continue;
            };
            let Some(session) = peers.get_mut(pending.session) else {
                continue;
            };
            if pending.delivery != Delivery::Queued {
                // Held lines may still be passed on.
                self.note(session.origin(None, latest));
                if !session.profile.is_own {
                    self.forgotten
                        .insert(ours, session.requester(pending.wants_logs));
                }
            }
            if session.answered(&pending.id, ours) {
                out.deliver(pending.session, error, Some(&pending.id), &[]);
            }
        }
    }
}
