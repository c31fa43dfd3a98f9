//! Handles posted messages without an answer: posts them again, resumes them, or fails them.

use super::super::answer::{Outcome, Refused, judge};
use super::super::exchange::{Cause, Event, Failed, Head};
use super::call::{Call, Link};
use super::outgoing::Queued;
use super::{Action, GiveUp, Machine, Purpose};
use crate::client::endpoint::Failure;
use crate::jsonrpc::{ErrorData, Executed};
use crate::mcp::Method;
use crate::transport::foreign;
use crate::utils::span::brief;
use hyper::header::HeaderValue;
use std::time::{Duration, Instant};

/// The most redirects in a row.
const MAX_MOVES: u32 = 5;

/// How many times in a row a stream is resumed on which nothing arrives.
const MAX_RESUMES: u32 = 5;

impl Machine {
    /// Handles the outcome of a posted message. Returns the message if it fails for good.
    pub(super) fn on_outcome(
        &mut self,
        outcome: Outcome,
        queued: Queued,
        session: Option<&HeaderValue>,
        now: Instant,
    ) -> Option<(Queued, Refused)> {
        let failed = |text: &str, status| Refused {
            text: text.to_owned(),
            status,
            executed: Executed::No,
            is_final: false,
        };
        match outcome {
            Outcome::Accepted | Outcome::Answer(_) => None,
            Outcome::WantsTls(_) if !self.place.tls => {
                self.give_up_before(queued, GiveUp::Mismatch(foreign::WANTS_TLS.to_owned()))
            }
            Outcome::Failed(refused) if refused.is_final && self.is_first(&queued) => {
                self.give_up_before(queued, GiveUp::Mismatch(refused.text))
            }
            Outcome::Failed(refused) | Outcome::WantsTls(refused) => Some((queued, refused)),
            Outcome::SessionLost => {
                self.on_session_lost(session, now);
                let copy = queued.clone();
                let is_posted_again = self.post_again(queued);
                let text = "the server says again and again that it does not know the session";
                (!is_posted_again).then(|| (copy, failed(text, 404)))
            }
            Outcome::Unauthorized(challenge) => {
                self.give_up_before(queued, GiveUp::Unauthorized(challenge))
            }
            Outcome::Unentitled(refusal) => {
                self.give_up_before(queued, GiveUp::Unentitled(refusal))
            }
            Outcome::Later(wait) if self.dialing.may_retry() => {
                self.outgoing.put_back(queued);
                self.on_unreachable(
                    "the server asks to come back later".to_owned(),
                    Some(wait),
                    now,
                );
                None
            }
            Outcome::Later(_) => Some((
                queued,
                failed(
                    "the server asks to come back later; --auto-reconnect does that",
                    503,
                ),
            )),
            Outcome::Moved(location) => self.on_moved(&location, queued),
        }
    }

    /// The server names another place for a message.
    fn on_moved(&mut self, location: &str, queued: Queued) -> Option<(Queued, Refused)> {
        match self.place.redirect(location) {
            Some(target) if self.moves < MAX_MOVES => {
                self.moves += 1;
                self.place.target = target;
                self.outgoing.put_back(queued);
                None
            }
            _ => {
                self.moves = 0;
                let refused = Refused {
                    text: format!(
                        "the server sends us to {location}, which is not on the host that --url names; give that place by --url if it is the right one"
                    ),
                    status: 307,
                    executed: Executed::No,
                    is_final: false,
                };
                Some((queued, refused))
            }
        }
    }

    /// True for the host's `initialize` before any server has answered.
    fn is_first(&self, queued: &Queued) -> bool {
        let is_initialize = queued.message.mcp_method() == Some(Method::Initialize);
        is_initialize && !queued.own && !self.heard
    }

    /// Logs why a request of the host fails, once for each cause in a row.
    fn report(&mut self, reason: &str) {
        if self.last_fault.as_deref() != Some(reason) {
            tracing::warn!(reason, "a request of the host has failed");
            self.last_fault = Some(reason.to_owned());
        }
    }

    /// Gives up; the server has not executed this message.
    fn give_up_before(&mut self, queued: Queued, reason: GiveUp) -> Option<(Queued, Refused)> {
        self.outgoing.put_back(queued);
        self.failure = Some(reason);
        None
    }

    pub(super) fn on_refused(&mut self, queued: &Queued, refused: &Refused) {
        match queued.request() {
            Some(id) if !queued.own => {
                self.report(&refused.text);
                let data = ErrorData::new("http-status", refused.executed);
                let data = data.with_http_status(refused.status);
                self.fail(id, &format!("HTTP error: {}", refused.text), &data);
            }
            Some(id) if self.rejoin.is_initialize_id(id) => self.on_renewed(false),
            Some(id) => self.rejoin.on_response(id),
            None => {
                let (method, reason) = (queued.message.method(), &refused.text);
                tracing::warn!(method, reason, "the server rejected a message of the host");
                self.release_cancelled(queued);
            }
        }
    }

    /// There is no response to a POST.
    pub(super) fn on_failed(&mut self, place: u64, failed: Failed, now: Instant) {
        let Some(call) = self.remove_call(place) else {
            return;
        };
        if failed.cause == Cause::Foreign && self.is_first(&call.queued) && !call.cancelled {
            self.give_up_before(call.queued, GiveUp::Mismatch(failed.reason));
            return;
        }
        if call.queued.own || !failed.sent {
            if !call.cancelled {
                self.outgoing.put_back(call.queued);
            }
            return self.on_unreachable_or_tls(failed, now);
        }
        self.on_lost(&call, failed.reason);
    }

    fn on_lost(&mut self, call: &Call, reason: String) {
        if let (false, false, Some(id)) = (call.queued.own, call.cancelled, call.queued.request()) {
            self.report(&reason);
            let failure = Failure::CONNECTION_LOST.because(reason);
            self.push_line(failure.line(id, Executed::Unknown).into());
        }
    }

    pub(super) fn on_unreachable_or_tls(&mut self, failed: Failed, now: Instant) {
        match failed.cause {
            Cause::Tls => self.failure = Some(GiveUp::Mismatch(failed.reason)),
            Cause::Token => self.failure = Some(GiveUp::Token(failed.reason)),
            Cause::Connection | Cause::Foreign => self.on_unreachable(failed.reason, None, now),
        }
    }

    pub(super) fn on_unreachable(&mut self, reason: String, wait: Option<Duration>, now: Instant) {
        if self.dialing.failures() == 0 && self.dialing.may_retry() {
            tracing::warn!(reason, "the server cannot be reached, trying again");
        }
        let attempts = self.dialing.failures();
        if !self.dialing.failed(now, wait) {
            self.failure = Some(if self.dialing.may_retry() {
                GiveUp::Exhausted { attempts, reason }
            } else {
                GiveUp::Unreachable(reason)
            });
        }
    }

    /// A stream has ended without the answer that was expected on it.
    pub(super) fn on_interrupted(&mut self, place: u64, reason: &str, now: Instant) {
        let Some(call) = self.calls.get_mut(place) else {
            return;
        };
        let pause = call.stream.lost(now);
        let can_resume = call.stream.last_event_id.is_some() && !call.modern && !call.cancelled;
        if can_resume && call.stream.failures < MAX_RESUMES {
            tracing::debug!(reason, pause = %brief(pause), "a stream has ended, resuming it");
            call.link = Link::Waiting(now + pause);
            return;
        }
        self.forget_call(place, reason.to_owned(), now);
    }

    /// The server does not resume a stream.
    pub(super) fn on_not_resumed(&mut self, place: u64, head: &Head, now: Instant) {
        let session = self.calls.get(place).and_then(|call| call.session.clone());
        let reason = format!(
            "the server does not resume the stream: HTTP {}",
            head.status
        );
        match head.status {
            401 => {
                self.forget_call(place, reason, now);
                self.failure = Some(GiveUp::Unauthorized(head.challenge.clone()));
            }
            409 | 429 | 500..=599 => self.on_interrupted(place, &reason, now),
            status => {
                self.forget_call(place, reason, now);
                if status == 404 {
                    self.on_session_lost(session.as_ref(), now);
                }
            }
        }
    }

    /// The answer to a request will not come.
    fn forget_call(&mut self, place: u64, reason: String, now: Instant) {
        if let Some(call) = self.remove_call(place) {
            if call.queued.own {
                self.outgoing.put_back(call.queued);
                self.on_unreachable(reason, None, now);
            } else {
                self.on_lost(&call, reason);
            }
        }
    }

    /// Handles the result of posting a notification or an answer.
    pub(super) fn on_other(&mut self, purpose: Purpose, event: Event, now: Instant) {
        let Purpose::Other { queued, session } = purpose else {
            return;
        };
        self.others = self.others.saturating_sub(1);
        self.clear_barrier(queued.place);
        match event {
            Event::Answered(head, body) => {
                let outcome = judge(&head, &body, None, session.is_some());
                if matches!(outcome, Outcome::Accepted) {
                    return self.on_taken(&queued, now);
                }
                let refused = self.on_outcome(outcome, *queued, session.as_ref(), now);
                if let Some((queued, refused)) = refused {
                    self.on_refused(&queued, &refused);
                }
            }
            Event::Failed(failed) if !failed.sent => {
                self.outgoing.put_back(*queued);
                self.on_unreachable_or_tls(failed, now);
            }
            _ => {
                let method = queued.message.method();
                tracing::warn!(method, "a message of the host may be lost");
                self.release_cancelled(&queued);
            }
        }
    }

    pub(super) fn on_taken(&mut self, queued: &Queued, now: Instant) {
        self.moves = 0;
        if queued.message.mcp_method() == Some(Method::Initialized) {
            self.on_initialized_taken(now);
        }
        self.release_cancelled(queued);
    }

    /// The server has got the cancellation of a request, or never will: its stream may end.
    pub(super) fn release_cancelled(&mut self, cancellation: &Queued) {
        let place = cancellation.cancels;
        if let Some(call) = place.and_then(|place| self.remove_call(place))
            && let Some(exchange) = call.link.exchange()
        {
            self.forget_exchange(exchange);
            self.ends.push_back(Action::Release(exchange));
        }
    }
}
