//! What a process asks (legacy: sampling, elicitation), and whom: MCP does not say for whose request
//! a question is, and it holds what that user wrote. So a peer is asked only where it is certain
//! that the question is on its behalf.

use super::addressee::Addressee;
use super::asks::{Ask, Need, Parked};
use super::from_peer::OwnAnswer;
use super::process::{self, Service};
use super::session::{Presence, Session};
use super::{Loss, Output, ProcessId, Router, SessionId, nobody_to_ask};
use crate::jsonrpc::{
    Code, Edit, ErrorData, Executed, Kind, Message, Replacement, RequestId, error_line,
};
use crate::utils::chunks::Chunks;
use std::time::Instant;

/// Whether a question can be asked.
enum Asking {
    Now(Addressee, Need),
    /// When this session has finished its handshake, or is back.
    Later(Addressee),
    /// Not without the risk that the wrong peer is asked, or that nobody hears it.
    Ambiguous,
    /// There is no peer, or the one that it is for cannot be asked this.
    Unsupported,
}

impl Router {
    pub(super) fn request_of_child(
        &mut self,
        process: ProcessId,
        id: &RequestId,
        message: &Message,
        now: impl FnOnce() -> Instant,
        out: &mut Output,
    ) {
        if message.method() == "ping" {
            let line = OwnAnswer::Done.to_line(id);
            out.answer(process, &line);
            return;
        }
        self.ask_somebody(process, id, message, now, out);
    }

    /// Asks the peer that a question is certainly for; the process has `asked` it then.
    fn ask_somebody(
        &mut self,
        process: ProcessId,
        id: &RequestId,
        message: &Message,
        asked: impl FnOnce() -> Instant,
        out: &mut Output,
    ) {
        let asking = self.asking(process, message);
        let asks = &mut self.processes[process.0].asks;
        match asking {
            Asking::Now(of, need) if !asks.is_full_for(&of) => {
                let progress_token = message.progress_token().map(|(token, _)| token.clone());
                let ask = Ask {
                    of,
                    id: id.clone(),
                    progress_token,
                    asked: asked(),
                };
                self.ask(process, ask, need, message, out);
            }
            Asking::Later(of) if asks.may_park(&of, message) => {
                out.timed |= asks.oldest().is_none();
                asks.park(Parked {
                    of,
                    question: message.detached(),
                    asked: asked(),
                });
            }
            Asking::Now(..) => {
                let data = ErrorData::new("too-many-questions", Executed::No);
                let text = "The client has not yet answered the questions before this one";
                let line = error_line(Some(id), Code::InternalError, text, Some(&data));
                out.answer(process, &line);
            }
            Asking::Unsupported => {
                out.answer(process, &nobody_to_ask(id, message.method()));
            }
            Asking::Later(_) | Asking::Ambiguous => self.refuse_question(process, id, message, out),
        }
    }

    fn asking(&self, process: ProcessId, question: &Message) -> Asking {
        let need = Need::of(question).filter(|_| {
            let legacy = self.processes[process.0].service == Service::Legacy;
            legacy && self.served(process).next().is_some()
        });
        let Some(need) = need else {
            return Asking::Unsupported;
        };
        let Some((id, session)) = self.requester(process, question) else {
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

    /// The session that a question is certainly for: the only one of the task's owner where it
    /// belongs to a task; else the one whose requests are all that the process may be working on;
    /// where it works on nothing, the only one that it serves, if no other user has left it before.
    fn requester(&self, process: ProcessId, question: &Message) -> Option<(SessionId, &Session)> {
        let state = &self.processes[process.0];
        let served = || self.served(process);
        if let Some(task) = question.related_task() {
            let owner = state.tasks.owner(&task)?;
            return only(served().filter(|(_, session)| session.profile.user == *owner));
        }
        let mut busy = served()
            .filter(|(id, _)| state.in_flight.is_at_work_for(*id))
            .peekable();
        let works = busy.peek().is_some();
        let (id, session) = if works { only(busy) } else { only(served()) }?;
        let is_attached = |session| self.sessions.contains_key(&session);
        let certain = state.forgotten.are_of(id, &session.owner, is_attached)
            && (works || state.departed.are_all(&session.owner));
        certain.then_some((id, session))
    }

    /// The sessions that have said something to a process, or to one before it.
    fn served(&self, process: ProcessId) -> impl Iterator<Item = (SessionId, &Session)> {
        let sessions = self.sessions.iter();
        sessions
            .filter(move |(_, session)| session.uses[process.0])
            .map(|(id, session)| (*id, session))
    }

    fn refuse_question(
        &mut self,
        process: ProcessId,
        id: &RequestId,
        message: &Message,
        out: &mut Output,
    ) {
        self.refused_questions += 1;
        let count = self.refused_questions;
        // At the first, the tenth, the hundredth and so on: a process may ask for ever.
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
        out.answer(process, &line);
    }

    fn ask(
        &mut self,
        process: ProcessId,
        ask: Ask,
        need: Need,
        message: &Message,
        out: &mut Output,
    ) {
        let ours = self.fresh_id();
        let known = RequestId::Number(ours);
        let edit = message.progress_token().map(|(_, span)| Edit {
            span: *span,
            with: Replacement::Id(&known),
        });
        if !out.deliver(ask.of.session, message, Some(&known), edit.as_slice()) {
            out.answer(process, &Loss::TOO_LARGE.request(&ask.id));
            return;
        }
        let asks = &mut self.processes[process.0].asks;
        out.timed |= asks.oldest().is_none();
        if let Need::Url {
            elicitation: Some(elicitation),
        } = need
        {
            asks.remember_elicitation(elicitation, ask.of.clone());
        }
        asks.insert(ours, ask);
    }

    /// When the oldest question was asked that nobody has answered.
    #[must_use]
    pub fn oldest_question(&self) -> Option<Instant> {
        self.processes
            .iter()
            .filter_map(|process| process.asks.oldest())
            .min()
    }

    /// Fails the questions that a process has asked by then, and takes them back from their peers; late
    /// answers will be dropped.
    pub fn expire_questions(&mut self, asked_by: Instant, out: &mut Output) {
        for process in ProcessId::ALL {
            let (open, parked) = self.processes[process.0].asks.take_older(asked_by);
            for (ours, Ask { of, id, .. }) in open {
                tracing::info!(session = %of.session, "the client has not answered a request of the MCP server in time (--question-timeout)");
                out.answer(process, &overdue(&id, Executed::Unknown));
                let mut line = Chunks::default();
                process::write_cancelled(&RequestId::Number(ours), OVERDUE, &mut line);
                out.to_peer.push((of.session, line.into()));
            }
            for id in parked.iter().filter_map(|parked| parked.question.id()) {
                out.answer(process, &overdue(id, Executed::No));
            }
        }
    }

    /// Asks what waited for a session, where it is still certain that it is for that one.
    pub(super) fn ask_parked(&mut self, session: SessionId, out: &mut Output) {
        for process in ProcessId::ALL {
            for parked in self.processes[process.0].asks.take_parked(session) {
                let Kind::Request(id) = parked.question.kind() else {
                    continue;
                };
                let requester = self.requester(process, &parked.question);
                if requester.is_some_and(|(requester, _)| requester == session) {
                    self.ask_somebody(process, id, &parked.question, || parked.asked, out);
                } else {
                    self.refuse_question(process, id, &parked.question, out);
                }
            }
        }
    }

    /// Notes whether a session's client can be reached, which decides what waits for it.
    pub fn set_presence(&mut self, id: SessionId, presence: Presence, out: &mut Output) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.presence = presence;
        if presence != Presence::Lost {
            self.ask_parked(id, out);
        }
    }
}

/// Why a question is taken back.
pub(super) const OVERDUE: &str = "no answer in time";

/// The answer to a question that its peer has not answered in time.
pub(super) fn overdue(id: &RequestId, executed: Executed) -> Vec<u8> {
    let data = ErrorData::new("question-timeout", executed);
    let text = "The client did not answer in time";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

/// The only one of them.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next();
    first.filter(|_| all.next().is_none())
}
