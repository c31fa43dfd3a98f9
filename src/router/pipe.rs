//! The router of a peer that has a child to itself: a plain pipe, behind the same gate.

use super::levels::{self, Level};
use super::{
    Exit, LaneId, Loss, MAX_IN_FLIGHT, Output, Profile, SessionId, TooLarge, lists, session,
};
use crate::jsonrpc::{Code, Field, Kind, Message, NO_DATA, RequestId, error_line};
use crate::mcp::Method;
use crate::permissions::{ListFilter, Permit};
use crate::utils::tally::{Share, Tally};
use foldhash::HashMap;

/// The most questions of the child that may be open; the oldest are forgotten first.
const MAX_ASKED: usize = 1024;

/// One peer, one child. Ids pass as they are; what is kept is what is owed to either side.
#[derive(Default)]
pub struct Pipe {
    /// With what the answer has to be passed through.
    in_flight: HashMap<RequestId, Option<ListFilter>>,
    /// How many those are, and those of all sessions of the user.
    counted: Share,
    /// The peer has asked for a list that rules may cut down, so answers have to be told apart.
    sees_cut_lists: bool,
    asked: Vec<RequestId>,
    /// The peer, once it has come.
    profile: Option<Profile>,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipe")
            .field("in_flight", &self.in_flight.len())
            .finish_non_exhaustive()
    }
}

impl Pipe {
    /// The only session of a pipe.
    pub const SESSION: SessionId = SessionId(0);

    /// The peer has come; the requests in flight of all sessions of its user are counted together.
    pub fn attach(&mut self, profile: Profile, of_user: &Tally) -> SessionId {
        self.profile = Some(profile);
        self.counted = of_user.share();
        Self::SESSION
    }

    /// The peer's rights have changed.
    pub fn revise(&mut self, profile: Profile) {
        self.profile = Some(profile);
    }

    /// How many requests of the peer wait for an answer.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.in_flight.len()
    }

    /// A message that the policy has let through.
    ///
    /// # Errors
    /// The process would be sent a line that is too long; nothing has been changed by the message.
    pub fn peer_message(&mut self, permit: &Permit, out: &mut Output) -> Result<(), TooLarge> {
        let message = permit.message();
        if message.is_misplaced() {
            let answer = super::misplaced(message).map(|line| (Self::SESSION, line));
            out.to_peer.extend(answer);
            return Ok(());
        }
        if message.may_outgrow(out.limits.to_child) {
            self.check_length(message, out)?;
        }
        match message.kind() {
            Kind::Request(id) => {
                if message.mcp_method() == Some(Method::SetLevel) && Level::asked(message).is_none()
                {
                    // As it is where the process is everybody's.
                    let line = super::invalid_params(id, levels::UNKNOWN);
                    out.to_peer.push((Self::SESSION, line.into()));
                    return Ok(());
                }
                if let Err(refusal) = self.check_new(id) {
                    out.to_peer.push((Self::SESSION, refusal.into()));
                    return Ok(());
                }
                self.sees_cut_lists |= permit.list().is_some();
                self.in_flight.insert(id.clone(), permit.list().cloned());
                self.count();
            }
            Kind::Notification => {
                if message.method() == "notifications/cancelled" {
                    let cancelled = message.quoted_id(Field::RequestId).map(|(id, _)| id);
                    match cancelled.and_then(|id| self.in_flight.remove_entry(&id)) {
                        // The list may still come, and its id must not be another's by then.
                        Some((id, Some(filter))) => {
                            self.in_flight.insert(id, Some(filter));
                        }
                        Some((_, None)) => {}
                        None => return Ok(()),
                    }
                    self.count();
                }
            }
            Kind::Response(id) => {
                if !self.take_asked(id.as_ref()) {
                    tracing::debug!("dropped an answer that nobody asked for");
                    return Ok(());
                }
            }
        }
        message.write(message.id(), &[], &mut out.to_child[LaneId::FIRST.0]);
        Ok(())
    }

    /// Refuses what is too long once it is written. An answer that is refused fails its question.
    #[cold]
    fn check_length(&mut self, message: &Message, out: &mut Output) -> Result<(), TooLarge> {
        let limit = out.limits.to_child;
        if !message.outgrows(limit, message.id(), &[]) {
            return Ok(());
        }
        if let Kind::Response(Some(id)) = message.kind()
            && self.take_asked(Some(id))
        {
            out.answer_too_large(LaneId::FIRST, id);
        }
        Err(TooLarge { limit })
    }

    /// Forgets a question; false where it is not open.
    fn take_asked(&mut self, id: Option<&RequestId>) -> bool {
        let place = self.asked.iter().position(|asked| Some(asked) == id);
        place.map(|place| self.asked.remove(place)).is_some()
    }

    fn count(&mut self) {
        self.counted.set(self.in_flight.len());
    }

    fn remove(&mut self, id: &RequestId) -> Option<Option<ListFilter>> {
        let removed = self.in_flight.remove(id);
        self.count();
        removed
    }

    fn check_new(&self, id: &RequestId) -> Result<(), Vec<u8>> {
        // It would reach the child as it is, and some give it back as another number.
        if matches!(id, RequestId::OtherNumber(_)) {
            let text = "Invalid Request: id is not a string or a plain integer";
            return Err(error_line(Some(id), Code::InvalidRequest, text, NO_DATA));
        }
        if self.in_flight.contains_key(id) {
            return Err(session::still_in_flight(id));
        }
        if self.counted.sum() >= MAX_IN_FLIGHT {
            return Err(session::too_many_in_flight(id));
        }
        Ok(())
    }

    /// A message from the child.
    pub fn child_message(&mut self, message: &Message, out: &mut Output) {
        match message.kind() {
            Kind::Request(id) if self.is_kept_from(message.method()) => {
                let line = super::nobody_to_ask(id, message.method());
                out.answer(LaneId::FIRST, &line);
                return;
            }
            Kind::Request(id) => {
                if !out.takes(message, Some(id), &[]) {
                    out.answer(LaneId::FIRST, &Loss::TOO_LARGE.request(id));
                    return;
                }
                if self.asked.len() >= MAX_ASKED {
                    self.asked.remove(0);
                }
                self.asked.push(id.clone());
            }
            Kind::Response(Some(id)) => match self.remove(id) {
                Some(Some(filter)) => {
                    if let Ok(edits) = filter.edits(message) {
                        out.deliver(Self::SESSION, message, Some(id), &edits);
                    } else {
                        out.to_peer
                            .push((Self::SESSION, lists::unreadable(id).into()));
                    }
                    return;
                }
                None if self.sees_cut_lists => {
                    tracing::debug!("dropped an answer that nobody waits for");
                    return;
                }
                _ => {}
            },
            Kind::Notification if !self.may_hear(message) => {
                tracing::debug!("dropped word of a resource that the peer may not subscribe to");
                return;
            }
            _ => {}
        }
        out.deliver(Self::SESSION, message, message.id(), &[]);
    }

    fn is_kept_from(&self, method: &str) -> bool {
        let profile = self.profile.as_ref();
        profile.is_some_and(|profile| profile.is_kept_from(method))
    }

    fn may_hear(&self, message: &Message) -> bool {
        let profile = self.profile.as_ref();
        profile.is_some_and(|profile| profile.may_hear(message))
    }

    /// The child has ended: what it owed is answered with errors.
    pub fn child_exited(&mut self, exit: &Exit, out: &mut Output) {
        for (id, _) in self.in_flight.drain() {
            out.to_peer.push((Self::SESSION, exit.error_line(&id)));
        }
        self.count();
    }
}
