//! Server requests (legacy: sampling, elicitation) and their addressees. MCP does not say which
//! client's request a server request belongs to, and it may contain what that user wrote. So a peer
//! gets one only if it is certainly on its behalf.

use super::addressee::Addressee;
use super::own_answer::{OwnAnswer, nobody_to_ask};
use super::peers::Peers;
use super::process::{self, Process, Service};
use super::server_requests::{Need, Parked, ServerRequest};
use super::session::{Presence, Session};
use super::{Loss, Output, SessionId};
use crate::jsonrpc::{
    Code, Edit, ErrorData, Executed, Kind, Message, Replacement, RequestId, error_line,
};
use crate::mcp::Method;
use crate::utils::chunks::Chunks;
use std::time::Instant;

/// Whether a server request can be sent to a client.
enum Asking {
    Now(Addressee, Need),
    /// Once this session has finished its handshake, or is back.
    Later(Addressee),
    /// Not without the risk that it reaches the wrong peer, or none.
    Ambiguous,
    /// There is no peer, or the addressee does not support it.
    Unsupported,
}

impl Process {
    /// Handles a request of the process; `now` is called only if it is passed on.
    pub(super) fn server_request(
        &mut self,
        id: &RequestId,
        message: &Message,
        now: impl FnOnce() -> Instant,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        if message.mcp_method() == Some(Method::Ping) {
            out.answer(self.id, &OwnAnswer::Done.to_line(id));
            return;
        }
        self.ask_somebody(id, message, now, peers, out);
    }

    /// Sends a server request to its addressee; the process sent it at `asked`.
    fn ask_somebody(
        &mut self,
        id: &RequestId,
        message: &Message,
        asked: impl FnOnce() -> Instant,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        match self.asking(message, peers) {
            Asking::Now(of, need) if !self.server_requests.is_full_for(&of) => {
                let progress_token = message.progress_token().map(|(token, _)| token.clone());
                let request = ServerRequest {
                    of,
                    id: id.clone(),
                    progress_token,
                    asked: asked(),
                };
                self.ask(request, need, message, peers, out);
            }
            Asking::Later(of) if self.server_requests.may_park(&of, message) => {
                out.timed |= self.server_requests.oldest().is_none();
                self.server_requests.park(Parked {
                    of,
                    question: message.detached(),
                    asked: asked(),
                });
            }
            Asking::Now(..) => {
                let data = ErrorData::new("too-many-questions", Executed::No);
                let text = "The client has not yet answered the questions before this one";
                let line = error_line(Some(id), Code::InternalError, text, Some(&data));
                out.answer(self.id, &line);
            }
            Asking::Unsupported => {
                out.answer(self.id, &nobody_to_ask(id, message.method()));
            }
            Asking::Later(_) | Asking::Ambiguous => self.refuse_question(id, message, peers, out),
        }
    }

    fn asking(&self, question: &Message, peers: &Peers) -> Asking {
        let need = Need::of(question)
            .filter(|_| self.service == Service::Legacy && self.served(peers).next().is_some());
        let Some(need) = need else {
            return Asking::Unsupported;
        };
        let Some((id, session)) = self.requester(question, peers) else {
            return Asking::Ambiguous;
        };
        let is_able = session.initialized
            && !session.modern
            && !session.profile.is_kept_from(question.method())
            && need.is_met_by(&session.capabilities);
        let of = Addressee::new(id, &session.owner);
        match session.presence {
            Presence::Away => Asking::Ambiguous,
            _ if !is_able => Asking::Unsupported,
            Presence::Connected if session.ready => Asking::Now(of, need),
            Presence::Connected | Presence::Lost => Asking::Later(of),
        }
    }

    /// The session that a server request is certainly for: if it belongs to a task, the only
    /// session of the task's owner; else the one whose requests are all that the process may be
    /// working on; if there are none, the only session that it serves, unless another user has used
    /// it before.
    fn requester<'a>(
        &self,
        question: &Message,
        peers: &'a Peers,
    ) -> Option<(SessionId, &'a Session)> {
        let served = || self.served(peers);
        if let Some(task) = question.related_task() {
            let owner = self.tasks.owner(&task)?;
            return only(served().filter(|(_, session)| session.profile.user == *owner));
        }
        let mut busy = served()
            .filter(|(id, _)| self.in_flight.is_at_work_for(*id))
            .peekable();
        let works = busy.peek().is_some();
        let (id, session) = if works { only(busy) } else { only(served()) }?;
        let is_attached = |session| peers.sessions.contains_key(&session);
        let certain = self.forgotten.are_of(id, &session.owner, is_attached)
            && (works || self.departed.are_all(&session.owner));
        certain.then_some((id, session))
    }

    /// The peers that have sent something to the process, or to its predecessors.
    fn served<'a>(
        &self,
        peers: &'a Peers,
    ) -> impl Iterator<Item = (SessionId, &'a Session)> + use<'a> {
        let id = self.id;
        let sessions = peers.sessions.iter();
        sessions
            .filter(move |(_, session)| session.uses[id.0] && !session.profile.is_own)
            .map(|(id, session)| (*id, session))
    }

    fn refuse_question(
        &self,
        id: &RequestId,
        message: &Message,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        peers.refused_questions += 1;
        let count = peers.refused_questions;
        // Log the first, the tenth, the hundredth and so on: a process may go on forever.
        if count == 10u64.pow(count.ilog10()) {
            tracing::warn!(
                method = message.method(),
                count,
                "refused a question of the MCP server, since it is not certain which client it is for; --isolate=asking gives each client that can be asked a process of its own"
            );
        }
        let data = ErrorData::new("ambiguous-requester", Executed::No);
        let text = "It is not certain which client this question is for";
        let line = error_line(Some(id), Code::InternalError, text, Some(&data));
        out.answer(self.id, &line);
    }

    fn ask(
        &mut self,
        request: ServerRequest,
        need: Need,
        message: &Message,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        let ours = peers.numbers.next();
        let known = RequestId::Number(ours);
        let edit = message.progress_token().map(|(_, span)| Edit {
            span: *span,
            with: Replacement::Id(&known),
        });
        if !out.deliver(request.of.session, message, Some(&known), edit.as_slice()) {
            out.answer(self.id, &Loss::TOO_LARGE.request(&request.id));
            return;
        }
        out.timed |= self.server_requests.oldest().is_none();
        if let Need::Url {
            elicitation: Some(elicitation),
        } = need
        {
            let of = request.of.clone();
            self.server_requests.remember_elicitation(elicitation, of);
        }
        // Its messages no longer wait for room, since the answer may be behind them.
        self.queue.look_again(request.of.session);
        self.server_requests.insert(ours, request);
    }

    /// Fails the server requests that were sent by then, and cancels them at their peers; late
    /// answers will be dropped.
    pub(super) fn expire_questions(&mut self, asked_by: Instant, out: &mut Output) {
        let (open, parked) = self.server_requests.take_older(asked_by);
        for (ours, ServerRequest { of, id, .. }) in open {
            tracing::info!(session = %of.session, "the client has not answered a request of the MCP server in time (--question-timeout)");
            out.answer(self.id, &overdue(&id, Executed::Unknown));
            let mut line = Chunks::default();
            process::write_cancelled(&RequestId::Number(ours), OVERDUE, &mut line);
            out.tell(of.session, line);
        }
        for id in parked.iter().filter_map(|parked| parked.question.id()) {
            out.answer(self.id, &overdue(id, Executed::No));
        }
    }

    /// Sends the server requests that waited for a session, if they are still certainly for it.
    pub(super) fn ask_parked(&mut self, session: SessionId, peers: &mut Peers, out: &mut Output) {
        for parked in self.server_requests.take_parked(session) {
            let Kind::Request(id) = parked.question.kind() else {
                continue;
            };
            let requester = self.requester(&parked.question, peers);
            if requester.is_some_and(|(requester, _)| requester == session) {
                self.ask_somebody(id, &parked.question, || parked.asked, peers, out);
            } else {
                self.refuse_question(id, &parked.question, peers, out);
            }
        }
    }
}

/// Why a server request is cancelled.
pub(super) const OVERDUE: &str = "no answer in time";

/// The error for a server request that its peer has not answered in time.
pub(super) fn overdue(id: &RequestId, executed: Executed) -> Vec<u8> {
    let data = ErrorData::new("question-timeout", executed);
    let text = "The client did not answer in time";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

/// The only item, if there is just one.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next();
    first.filter(|_| all.next().is_none())
}
