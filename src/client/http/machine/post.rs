//! From a message to an HTTP request: what may begin now, and with which headers.

use super::super::exchange::{ExchangeId, Header, Request, Verb};
use super::super::headers::{header, modern, modern_version};
use super::call::{Call, Link};
use super::outgoing::{Queued, Room};
use super::stream::Stream;
use super::{MAX_CALLS, MAX_OTHERS, Machine, Purpose};
use crate::http::{LAST_EVENT_ID, PROTOCOL_VERSION, SESSION_ID};
use crate::jsonrpc::Kind;
use crate::mcp::Method;
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use std::time::Instant;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

impl Machine {
    /// Something that can begin now.
    pub(super) fn begin(&mut self, now: Instant) -> Option<(ExchangeId, Request)> {
        if let Some(place) = self.calls.due(now) {
            return self.resume(place);
        }
        if self.listen.is_due(now) {
            return Some(self.listen());
        }
        if self.barrier.is_some() || !self.dialing.may_post(now) {
            return None;
        }
        let room = Room {
            requests: self.calls.len() < MAX_CALLS,
            others: self.others < MAX_OTHERS,
        };
        let queued = self.outgoing.take(room)?;
        let exchange = self.next_exchange();
        let is_probe = self.dialing.posting(exchange);
        let request = self.post(exchange, queued);
        Some((
            exchange,
            Request {
                is_probe,
                ..request
            },
        ))
    }

    fn next_exchange(&mut self) -> ExchangeId {
        self.last_exchange += 1;
        ExchangeId(self.last_exchange)
    }

    fn post(&mut self, exchange: ExchangeId, queued: Queued) -> Request {
        let is_modern = self.is_modern(&queued);
        let method = queued.message.mcp_method();
        let mut headers = vec![(CONTENT_TYPE, JSON), (ACCEPT, BOTH)];
        let mut session = None;
        if is_modern {
            headers.append(&mut self.modern_headers(&queued));
        } else if method != Some(Method::Initialize) {
            session.clone_from(&self.session.id);
            headers.extend(self.session_headers(session.as_ref()));
        }
        let is_list = queued.own && method == Some(Method::ListTools);
        if is_list || matches!(method, Some(Method::Initialize | Method::Initialized)) {
            self.barrier = Some(queued.place);
        }
        // A new server gets it, too, even if this one refuses it.
        self.rejoin.initialized |= method == Some(Method::Initialized);
        let request = Request {
            verb: Verb::Post,
            target: self.place.target.clone(),
            headers,
            body: queued.body.clone(),
            is_probe: false,
        };
        let purpose = match queued.request() {
            Some(_) => Purpose::Call(queued.place),
            None => {
                self.others += 1;
                Purpose::Other {
                    session: session.clone(),
                    queued: Box::new(queued.clone()),
                }
            }
        };
        if let Purpose::Call(_) = purpose {
            self.calls.insert(Call {
                queued,
                modern: is_modern,
                session,
                link: Link::Posted(exchange),
                stream: Stream::default(),
                cancelled: false,
            });
        }
        self.exchanges.insert(exchange, purpose);
        request
    }

    /// True for a message of 2026-07-28. A request says so itself; a notification has the revision that the
    /// host has used last.
    fn is_modern(&self, queued: &Queued) -> bool {
        match queued.message.kind() {
            Kind::Request(_) => queued.message.is_modern(),
            Kind::Notification => self.session.modern.is_some() && !self.session.established,
            Kind::Response(_) => false,
        }
    }

    fn modern_headers(&mut self, queued: &Queued) -> Vec<Header> {
        let message = &queued.message;
        let version = match message.kind() {
            Kind::Request(_) => {
                let version = modern_version(message);
                self.session.modern = Some(version.clone());
                version
            }
            _ => self.session.modern.clone().unwrap_or_default(),
        };
        let mut headers = modern(message, &version);
        if message.mcp_method() == Some(Method::CallTool) {
            headers.append(&mut self.tools.headers(message));
        }
        headers
    }

    /// The headers for the session in every request after `initialize`.
    fn session_headers(&self, session: Option<&HeaderValue>) -> impl Iterator<Item = Header> {
        let version = self.session.version.as_ref();
        let headers = [(SESSION_ID, session), (PROTOCOL_VERSION, version)];
        let headers = headers.map(|(name, value)| Some((name, value?.clone())));
        headers.into_iter().flatten()
    }

    fn get(&self, session: Option<&HeaderValue>, last_event_id: Option<&str>) -> Request {
        let mut headers = vec![(ACCEPT, EVENTS)];
        headers.extend(self.session_headers(session));
        headers.extend(last_event_id.and_then(|id| header(LAST_EVENT_ID, id)));
        Request {
            verb: Verb::Get,
            target: self.place.target.clone(),
            headers,
            body: Bytes::new(),
            is_probe: false,
        }
    }

    /// Resumes the stream on which the answer to this request is expected.
    fn resume(&mut self, place: u64) -> Option<(ExchangeId, Request)> {
        let exchange = self.next_exchange();
        let call = self.calls.get_mut(place)?;
        call.link = Link::Resuming(exchange);
        let (session, last) = (call.session.clone(), call.stream.last_event_id.clone());
        self.exchanges.insert(exchange, Purpose::Call(place));
        Some((exchange, self.get(session.as_ref(), last.as_deref())))
    }

    fn listen(&mut self) -> (ExchangeId, Request) {
        let exchange = self.next_exchange();
        self.listen.opening(exchange);
        let session = self.session.id.clone();
        let last = self.listen.stream.last_event_id.clone();
        let request = self.get(session.as_ref(), last.as_deref());
        self.exchanges.insert(exchange, Purpose::Listen { session });
        (exchange, request)
    }

    /// The request that ends the session, if there is one.
    pub(super) fn goodbye(&self) -> Option<Request> {
        let session = self.session.id.as_ref()?;
        Some(Request {
            verb: Verb::Delete,
            target: self.place.target.clone(),
            headers: self.session_headers(Some(session)).collect(),
            body: Bytes::new(),
            is_probe: false,
        })
    }
}
