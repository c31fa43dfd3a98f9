//! From a peer to the MCP server.

use super::own_answer::{invalid_params, misplaced};
use super::pending::{Delivery, Purpose};
use super::process::Process;
use super::queue::Place;
use super::session::Session;
use super::{Output, Router, SessionId, TooLarge, handshake};
use crate::json::Span;
use crate::jsonrpc::{Edit, Field, Kind, Message, Replacement, RequestId};
use crate::mcp::Method;
use crate::permissions::Permit;
use crate::utils::chunks::Chunks;

/// While this many bytes wait to be written to a process, peers' progress on server requests is dropped,
/// because it is not queued.
const MAX_PROGRESS: usize = 64 * 1024;

/// False for a message that never waits behind others: an answer, or a notification that is for the router or about a
/// request in flight.
pub(super) fn is_queued(message: &Message) -> bool {
    match message.kind() {
        Kind::Request(_) => true,
        Kind::Response(_) => false,
        Kind::Notification => !matches!(
            message.mcp_method(),
            Some(Method::Initialized | Method::Cancelled | Method::Progress | Method::RootsChanged)
        ),
    }
}

impl Router {
    /// Handles a message that the policy has permitted.
    ///
    /// # Errors
    /// The line for the process would be too long; the message has changed nothing.
    pub fn peer_message(
        &mut self,
        from: SessionId,
        permit: &Permit,
        out: &mut Output,
    ) -> Result<(), TooLarge> {
        let message = permit.message();
        if message.is_misplaced() {
            out.to_peer
                .extend(misplaced(message).map(|line| (from, line.into())));
            return Ok(());
        }
        if message.may_outgrow(out.limits.to_child) {
            self.check_length(from, message, out)?;
        }
        match message.kind() {
            Kind::Request(id) => self.request(from, id, permit, out),
            Kind::Notification => self.notification(from, message, out),
            Kind::Response(id) => self.answer_of_peer(from, id.as_ref(), message, out),
        }
        Ok(())
    }

    fn request(&mut self, from: SessionId, id: &RequestId, permit: &Permit, out: &mut Output) {
        if self.peers.get(from).is_none() {
            return;
        }
        let message = permit.message();
        let method = message.mcp_method();
        if let Err(refusal) = self.check_new(from, id, message) {
            return out.tell(from, refusal);
        }
        if let (Some(error), Some(Method::Discover)) = (&self.legacy_only, method) {
            out.deliver(from, error, Some(id), &[]);
            return;
        }
        let process = self.process_for(from, message, out);
        let (process, peers) = self.process(process);
        if method == Some(Method::Initialize) {
            return process.initialize(from, id, message, peers, out);
        }
        process.open_handshake(None, peers, out);
        let session = peers.get(from);
        // A peer that goes ahead after its handshake can receive server requests, even without
        // `initialized`.
        let is_ready = session.is_some_and(|session| session.initialized && !session.ready);
        let process = process.id;
        if is_ready && method != Some(Method::Ping) {
            self.is_ready(from, out);
        }
        let (process, peers) = self.process(process);
        if process.tools.admit(permit, (from, id), out) {
            process.request(from, id, permit, peers, out);
        }
    }

    /// The error for a request that is refused no matter which process would serve it.
    fn check_new(
        &mut self,
        from: SessionId,
        id: &RequestId,
        message: &Message,
    ) -> Result<(), Vec<u8>> {
        let is_initialize = message.mcp_method() == Some(Method::Initialize);
        let Some(session) = self.peers.get_mut(from) else {
            return Ok(());
        };
        // The late answer to the old request must not be taken for the answer to the new one.
        if let Some((process, ours)) = session.take_cancelled(id) {
            self.processes[process.0].forget(ours, session);
        }
        let mut processes = self.processes.iter();
        let opening = processes.find_map(|process| process.initialize_of(from));
        session.check_new(id, is_initialize, opening)?;
        if is_initialize {
            handshake::check(message).map_err(|reason| invalid_params(id, reason))?;
        }
        Ok(())
    }

    /// Notes that a peer can receive server requests from now on.
    fn is_ready(&mut self, peer: SessionId, out: &mut Output) {
        match self.peers.get_mut(peer) {
            Some(session) if !session.ready => session.ready = true,
            _ => return,
        }
        self.ask_parked(peer, out);
    }

    fn notification(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        match message.mcp_method() {
            // The router has sent it for all peers.
            Some(Method::Initialized) => self.is_ready(from, out),
            Some(Method::Cancelled) => self.cancelled_by_peer(from, message, out),
            Some(Method::Progress) => self.progress_of_peer(from, message, out),
            // A shared child was told that there are no roots.
            Some(Method::RootsChanged) => {}
            _ => {
                let process = self.process_for(from, message, out);
                let (process, peers) = self.process(process);
                process.open_handshake(None, peers, out);
                if !process.takes_notifications() && process.in_flight.is_empty() {
                    tracing::debug!("dropped a notification to a process that knows no client yet");
                    return;
                }
                if process.is_overfull_for(from) {
                    tracing::debug!(session = %from, "dropped a notification, because too many messages wait");
                } else if let Some(session) = peers.get(from) {
                    let origin = session.origin(None, peers.numbers.newest);
                    let write = |line: &mut Chunks| message.write(None, &[], line);
                    process.send_or_queue(from, origin, Place::None, out, write);
                }
            }
        }
    }

    /// A peer may cancel its own requests and no others; `initialize` not at all (2025-11-25
    /// basic/utilities/cancellation).
    fn cancelled_by_peer(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        let latest = self.peers.numbers.newest;
        let Some(session) = self.peers.get_mut(from) else {
            return;
        };
        let quoted = message.quoted_id(Field::RequestId);
        let found =
            quoted.and_then(|(id, span)| Some((session.find(&id)?, session.cancel(&id), span)));
        let Some(((process, ours), forgotten, span)) = found else {
            tracing::debug!(session = %from, "dropped a cancellation of nothing in flight");
            return;
        };
        if let Some((process, ours)) = forgotten {
            self.processes[process.0].forget(ours, session);
        }
        let process = &mut self.processes[process.0];
        process.cancel_request(from, ours, (message, span), session, latest, out);
    }

    /// Progress on a server request to this peer.
    fn progress_of_peer(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        let Some((RequestId::Number(ours), span)) = message.quoted_id(Field::ProgressToken) else {
            return;
        };
        for process in &mut self.processes {
            let request = process.server_requests.get(ours, from);
            let token = request.and_then(|request| request.progress_token.clone());
            if let Some(token) = token {
                if out.unwritten(process.id) >= MAX_PROGRESS {
                    tracing::debug!("dropped progress for a process that reads too slowly");
                    return;
                }
                let edit = Edit {
                    span,
                    with: Replacement::Id(&token),
                };
                process.note_direct(self.peers.get(from), self.peers.numbers.newest);
                message.write(None, &[edit], out.lines(process.id));
                return;
            }
        }
        tracing::debug!(session = %from, "dropped progress on nothing that was asked");
    }

    /// An answer passes if this very request was sent to this peer, once.
    fn answer_of_peer(
        &mut self,
        from: SessionId,
        id: Option<&RequestId>,
        message: &Message,
        out: &mut Output,
    ) {
        if let Some(RequestId::Number(ours)) = id {
            for process in &mut self.processes {
                if let Some(request) = process.server_requests.take(*ours, from) {
                    process.note_direct(self.peers.get(from), self.peers.numbers.newest);
                    // Not held with the rest: a child may send requests before it answers
                    // `initialize`.
                    message.write(Some(&request.id), &[], out.lines(process.id));
                    return;
                }
            }
        }
        tracing::debug!(session = %from, "dropped an answer that nobody asked for");
    }
}

impl Process {
    /// The session has cancelled its request `ours` with this message, which quotes its id there.
    fn cancel_request(
        &mut self,
        from: SessionId,
        ours: i64,
        (message, quoted): (&Message, Span),
        session: &mut Session,
        latest: i64,
        out: &mut Output,
    ) {
        let waits = self.holds(ours);
        if let Some(pending) = self.in_flight.get(ours)
            && (waits || !pending.is_cancellable())
        {
            if waits
                || pending.delivery == Delivery::Queued
                || matches!(pending.purpose, Purpose::Listen(_))
            {
                session.answered(&pending.id, ours);
                self.end(ours);
            }
            return;
        }
        self.in_flight.cancel_listen(ours);
        // Some servers never answer a cancelled request.
        self.queue.close(from, ours);
        let origin = session.origin(None, latest);
        let ours = self.ids.of(ours);
        let edit = Edit {
            span: quoted,
            with: Replacement::Id(&ours),
        };
        message.write(None, &[edit], self.sink_of(origin, out));
    }

    /// Notes that the process gets a line of a peer at once, even if others are held.
    fn note_direct(&mut self, session: Option<&Session>, latest: i64) {
        if let Some(session) = session {
            self.evidence.note(&session.sender, false, false, latest);
        }
    }
}
