//! The session with a legacy server: its id and protocol version, and its renewal when the server
//! has forgotten it.

use super::outgoing::Queued;
use super::{Action, Machine};
use crate::client::endpoint::without_newline;
use crate::json::{members, unescape};
use crate::jsonrpc::{MAX_CHILD_DEPTH, Message};
use crate::mcp::Method;
use bytes::Bytes;
use hyper::header::HeaderValue;
use std::time::Instant;

/// How often a message is posted to a server that does not know the session.
const MAX_REFUSED: u32 = 2;

/// How many times in a row a session is renewed at once; after that with pauses.
const MAX_RENEWALS: u32 = 3;

/// The state of the session with a legacy server.
#[derive(Default)]
pub(super) struct Session {
    pub id: Option<HeaderValue>,
    /// The negotiated protocol version.
    pub version: Option<HeaderValue>,
    /// The server has answered `initialize`.
    pub established: bool,
    /// The protocol version of the last modern request.
    pub modern: Option<String>,
    /// How many times in a row it was renewed without any use.
    pub renewals: u32,
}

impl Session {
    /// The server has begun to answer `initialize`, and gives the session this id. An id that is not a valid
    /// header value is ignored.
    pub(super) fn begin(&mut self, id: Option<&HeaderValue>) {
        self.id = id.filter(|id| is_visible(id.as_bytes())).cloned();
        if let Some(id) = &mut self.id {
            id.set_sensitive(true);
        }
    }

    /// The server has answered `initialize`.
    fn establish(&mut self, result: &[u8]) {
        self.established = true;
        let version = members(result, ["protocolVersion"])
            .and_then(|[version]| unescape(version?.of(result)).map(|text| text.into_owned()));
        let version = version.filter(|version| is_visible(version.as_bytes()));
        self.version = version.and_then(|version| version.try_into().ok());
    }
}

fn is_visible(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_graphic)
}

impl Machine {
    /// `initialize` has been answered, the host's or our own.
    pub(super) fn on_initialize_answered(&mut self, answer: &Message) {
        match answer.result() {
            Some(result) => self.session.establish(result),
            None => self.session.id = None,
        }
    }

    /// `notifications/initialized` has been taken.
    pub(super) fn on_initialized_taken(&mut self, now: Instant) {
        if self.session.established {
            self.end_listening();
            self.listen.start(now);
        }
    }

    /// There is a newer token: reopens the stream for other messages with it, so that the server gets it
    /// before the old one expires.
    pub(in crate::client::http) fn on_token_renewed(&mut self, now: Instant) {
        if let Some(exchange) = self.listen.reopen(now) {
            self.exchanges.remove(&exchange);
            self.ends.push_back(Action::Abort(exchange));
        }
    }

    /// Another token is in use: if the stream for other messages waits to be opened, that is now.
    pub(in crate::client::http) fn on_token_replaced(&mut self, now: Instant) {
        self.listen.hurry(now);
    }

    pub(super) fn end_listening(&mut self) {
        if let Some(exchange) = self.listen.stop() {
            self.exchanges.remove(&exchange);
            self.ends.push_back(Action::Abort(exchange));
        }
    }

    /// The server does not know this session: repeats the host's handshake behind the scenes, unless that has
    /// been done since.
    pub(super) fn on_session_lost(&mut self, lost: Option<&HeaderValue>, now: Instant) {
        if lost.is_none() || self.session.id.as_ref() != lost {
            return;
        }
        self.session.id = None;
        self.session.established = false;
        self.barrier = None;
        self.end_listening();
        self.outgoing.drop_obsolete();
        for line in self.server_requests.abandon() {
            self.push_line(line.into());
        }
        self.session.renewals += 1;
        if self.session.renewals > MAX_RENEWALS {
            let reason = "the server forgets its sessions at once".to_owned();
            self.on_unreachable(reason, None, now);
        }
        tracing::info!("the server has forgotten the session; renewing it");
        if let Some(line) = self.rejoin.initialize_again() {
            self.push_own(&line);
        }
    }

    /// Our own `initialize` has been answered.
    pub(super) fn on_renewed(&mut self, succeeded: bool) {
        if !succeeded {
            tracing::warn!("the server did not accept the repeated 'initialize'");
        }
        for line in self.rejoin.rest() {
            self.push_own(&line);
        }
    }

    /// Queues one of our own lines, with its newline, before those of the host.
    pub(super) fn push_own(&mut self, line: &Bytes) {
        let body = without_newline(line);
        // It was parsed when it came from the host.
        if let Ok(message) = Message::read(body.clone(), MAX_CHILD_DEPTH) {
            self.outgoing.push(message, body, true);
        }
    }

    /// Puts back a message that was refused because the server does not know our session. False if that has
    /// happened too often.
    pub(super) fn post_again(&mut self, mut queued: Queued) -> bool {
        queued.refused += 1;
        if queued.refused >= MAX_REFUSED {
            return false;
        }
        let is_obsolete = queued.own
            || matches!(queued.message.kind(), crate::jsonrpc::Kind::Response(_))
            || queued.message.mcp_method() == Some(Method::Initialized);
        if !is_obsolete {
            self.outgoing.put_back(queued);
        }
        true
    }
}
