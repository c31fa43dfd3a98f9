//! Events of exchanges, and messages of the server on their streams.

use super::super::answer::{Outcome, judge};
use super::super::exchange::{Event, ExchangeId, Head};
use super::call::{Call, Link};
use super::{Action, Machine, Purpose};
use crate::client::endpoint::{Rejoin, Verdict, is_own};
use crate::jsonrpc::{Kind, MAX_CHILD_DEPTH, Message, RequestId};
use crate::mcp::Method;
use crate::transport::sse;
use crate::utils::chunks::Pieces;
use bytes::Bytes;
use hyper::header::HeaderValue;
use std::time::Instant;

impl Machine {
    /// The server has been reached for this exchange.
    pub(in crate::client::http) fn on_connected(&mut self, exchange: ExchangeId) {
        self.dialing.on_event_of(exchange);
    }

    /// Handles an event of an exchange.
    pub(in crate::client::http) fn on_event(
        &mut self,
        exchange: ExchangeId,
        event: Event,
        now: Instant,
    ) {
        self.dialing.on_event_of(exchange);
        if let Event::Opened(head) | Event::Answered(head, _) = &event
            && !matches!(head.status, 429 | 500..)
        {
            self.dialing.succeeded();
        }
        // Events of abandoned exchanges are ignored.
        let Some(purpose) = self.exchanges.remove(&exchange) else {
            return;
        };
        let is_over = !matches!(event, Event::Opened(_) | Event::Streamed(_));
        match purpose {
            Purpose::Call(place) => {
                if !is_over {
                    self.exchanges.insert(exchange, purpose);
                }
                self.on_call(place, exchange, event, now);
            }
            Purpose::Listen { session } => {
                if !is_over {
                    let session = session.clone();
                    self.exchanges.insert(exchange, Purpose::Listen { session });
                }
                self.on_listen(session.as_ref(), event, now);
            }
            Purpose::Other { .. } => {
                // What follows the head is of no use.
                let event = match event {
                    Event::Opened(head) => {
                        self.ends.push_back(Action::Release(exchange));
                        Event::Answered(head, Bytes::new())
                    }
                    event => event,
                };
                self.on_other(purpose, event, now);
            }
        }
    }

    fn on_call(&mut self, place: u64, exchange: ExchangeId, event: Event, now: Instant) {
        let Some(call) = self.calls.get_mut(place) else {
            return;
        };
        match event {
            Event::Opened(head) => {
                let is_posted = matches!(call.link, Link::Posted(_));
                call.link = Link::Streaming(exchange);
                call.stream.opened(now);
                if is_posted {
                    self.on_head(place, &head);
                }
            }
            Event::Streamed(event) => {
                call.stream.note(&event);
                self.on_streamed(&event, Some(place));
            }
            Event::Ended(reason) => self.on_interrupted(place, &reason, now),
            Event::Answered(head, body) => match call.link {
                Link::Resuming(_) => self.on_not_resumed(place, &head, now),
                _ => self.on_answered(place, &head, body, now),
            },
            Event::Failed(failed) => match call.link {
                Link::Resuming(_) => self.on_interrupted(place, &failed.reason, now),
                _ => self.on_failed(place, failed, now),
            },
        }
    }

    /// The head of a successful response to a request.
    fn on_head(&mut self, place: u64, head: &Head) {
        self.moves = 0;
        self.heard = true;
        self.last_fault = None;
        let call = self.calls.get(place).filter(|call| !call.cancelled);
        let method = call.and_then(|call| call.queued.message.mcp_method());
        if method == Some(Method::Initialize) {
            self.session.begin(head.session.as_ref());
        }
    }

    fn on_answered(&mut self, place: u64, head: &Head, body: Bytes, now: Instant) {
        let Some(call) = self.calls.get(place) else {
            return;
        };
        let in_session = call.session.is_some();
        let outcome = judge(head, &body, call.queued.request(), in_session);
        if head.is_success() {
            self.on_head(place, head);
        }
        if let Outcome::Answer(answer) = outcome {
            if self.asks_for_headers(place, &answer) {
                return;
            }
            return self.complete(place, &answer);
        }
        let Some(call) = self.remove_call(place) else {
            return;
        };
        let session = call.session.as_ref();
        if call.cancelled {
            if matches!(outcome, Outcome::SessionLost) {
                self.on_session_lost(session, now);
            }
            return;
        }
        let refused = self.on_outcome(outcome, call.queued, session, now);
        if let Some((queued, refused)) = refused {
            self.on_refused(&queued, &refused);
        }
    }

    /// Handles the answer to a request.
    fn complete(&mut self, place: u64, answer: &Message) {
        let Some(call) = self.remove_call(place) else {
            return;
        };
        if let Some(exchange) = call.link.exchange()
            && self.exchanges.remove(&exchange).is_some()
        {
            self.ends.push_back(Action::Release(exchange));
        }
        let Some(id) = call.queued.request() else {
            return;
        };
        let request = &call.queued.message;
        if request.mcp_method() == Some(Method::Initialize) && !call.cancelled {
            self.on_initialize_answered(answer);
        }
        if is_own(id) && call.queued.own {
            if self.rejoin.is_initialize_id(id) {
                self.on_renewed(answer.result().is_some());
            } else if request.mcp_method() == Some(Method::ListTools) {
                self.tools.observe(answer);
            } else {
                self.rejoin.on_response(id);
            }
            return;
        }
        self.session.renewals = 0;
        if answer.result().is_some() && Rejoin::concerns(request.mcp_method()) {
            self.rejoin.remember(request.clone());
        }
        self.answer_host(&call, id, answer);
    }

    /// Hands the host the answer to a request of its own.
    fn answer_host(&mut self, call: &Call, id: &RequestId, answer: &Message) {
        let method = call.queued.message.mcp_method();
        if call.modern && method == Some(Method::ListTools) {
            let edits = self.tools.observe(answer);
            let line = answer.to_line(Some(id), &edits.as_edits()).joined();
            return self.push_line(line);
        }
        self.push_line(answer.to_line(Some(id), &[]).joined());
    }

    /// Removes a request without an answer. The messages behind it may be posted now.
    pub(super) fn remove_call(&mut self, place: u64) -> Option<Call> {
        self.clear_barrier(place);
        self.calls.remove(place)
    }

    pub(super) fn clear_barrier(&mut self, place: u64) {
        self.barrier.take_if(|barrier| *barrier == place);
    }

    /// Handles an event of the stream that belongs to no request.
    fn on_listen(&mut self, session: Option<&HeaderValue>, event: Event, now: Instant) {
        match event {
            Event::Opened(_) => self.listen.opened(now),
            Event::Streamed(event) => {
                self.listen.stream.note(&event);
                self.on_streamed(&event, None);
            }
            Event::Ended(_) | Event::Failed(_) => self.listen.lost(now, None),
            Event::Answered(head, _) => match head.status {
                // Some servers send this status if they have no such stream.
                404 if session.is_some() && self.listen.was_open => {
                    self.on_session_lost(session, now);
                }
                // The next token may be late.
                status @ (401 | 403) => {
                    if !std::mem::replace(&mut self.listen.refused, true) {
                        tracing::warn!(
                            status,
                            "the server refuses the stream for its own messages with this token, trying again"
                        );
                    }
                    self.listen.lost(now, head.retry_after);
                }
                408 | 409 | 429 | 500 | 502..=599 => self.listen.lost(now, head.retry_after),
                status => {
                    tracing::debug!(status, "the server has no stream beside those of requests");
                    self.listen.stop();
                }
            },
        }
    }

    /// Handles an event of a stream: of the request at `place`, or of none.
    fn on_streamed(&mut self, event: &sse::Event, place: Option<u64>) {
        if !event.is_message() {
            return;
        }
        match Message::read(event.data.clone(), MAX_CHILD_DEPTH) {
            Ok(message) => self.on_message(&message, place),
            Err(refusal) => {
                tracing::warn!(%refusal, "dropped an event of the server that is no message")
            }
        }
    }

    fn on_message(&mut self, message: &Message, place: Option<u64>) {
        let call = place.and_then(|place| self.calls.get(place));
        match message.kind() {
            Kind::Response(id) => {
                let found = match id {
                    Some(id) => self.calls.find(id, place),
                    // An error without an id belongs to the request of its stream.
                    None => place,
                };
                match found {
                    Some(place) => self.complete(place, message),
                    None => tracing::debug!("dropped an answer that nobody waits for"),
                }
            }
            Kind::Request(_) if call.is_some_and(|call| call.modern) => {
                tracing::warn!(
                    "dropped a request of the server, which may not ask in this revision"
                );
            }
            Kind::Request(id) => {
                let verdict = self.server_requests.on_request(id, message);
                self.pass(verdict, message);
            }
            Kind::Notification if message.mcp_method() == Some(Method::Cancelled) => {
                let verdict = self.server_requests.on_cancelled(message);
                self.pass(verdict, message);
            }
            Kind::Notification => self.pass(Verdict::Pass, message),
        }
    }

    fn pass(&mut self, verdict: Verdict, message: &Message) {
        match verdict {
            Verdict::Change(line) => self.push_line(line),
            // Serialized again, because an event may contain newlines.
            _ => self.push_line(message.to_line(message.id(), &[]).joined()),
        }
    }
}
