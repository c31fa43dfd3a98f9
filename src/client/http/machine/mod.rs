//! The client's end of MCP over HTTP: what is posted and when, the session, pending requests of the host, and
//! the streams to resume.
//!
//! A state machine without I/O and without a clock: lines of the host, events of exchanges, and times come
//! in; [`Action`]s and lines for the host go out.

mod call;
mod dialing;
mod from_host;
mod from_server;
mod listen;
mod mirror;
mod outcome;
mod outgoing;
mod post;
mod session;
mod stream;

use super::exchange::{ExchangeId, Request};
use super::place::Place;
use super::tools::Tools;
use crate::client::endpoint::{Failure, HostPhase, Rejoin, ServerRequests};
use crate::client::settings::Reconnect;
use crate::jsonrpc::{Code, ErrorData, Executed, RequestId, error_line};
use bytes::Bytes;
use call::Calls;
use dialing::Dialing;
use foldhash::HashMap;
use hyper::header::HeaderValue;
use listen::Listen;
use outgoing::{Outgoing, Queued};
use session::Session;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most requests that are open at a time. Further ones wait.
pub(super) const MAX_CALLS: usize = 128;

/// The most notifications and answers that are being posted at a time, besides the requests.
pub(super) const MAX_OTHERS: usize = 32;

/// How long posting the last notifications of a host that has left may take.
const LAST_POST_TIMEOUT: Duration = Duration::from_secs(1);

/// The next action.
pub(super) enum Action {
    /// Begin this exchange, and poll again.
    Begin(ExchangeId, Request),
    /// Nothing more is expected of this exchange: let it end soon, and poll again.
    Release(ExchangeId),
    /// Abandon this exchange, and poll again.
    Abort(ExchangeId),
    /// Wait for an event, and poll again at this time at the latest.
    Wait {
        /// Whether the host may be read.
        read_host: bool,
        until: Option<Instant>,
    },
    /// Nothing remains to be done, except for this last request.
    Finish(Option<Request>),
    /// Give up.
    GiveUp(GiveUp),
}

/// Why the machine gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GiveUp {
    /// The server requires a token; with its challenge.
    Unauthorized(Option<String>),
    /// The token lacks the roles that the server requires of everybody; in words.
    Unentitled(String),
    /// TLS fails, or only one end uses it, or the transport is another one, or there is no MCP server.
    Mismatch(String),
    /// There is no token, or none that a server would accept.
    Token(String),
    /// The host has left, and its pending requests were not answered in time.
    Unanswered,
    /// The server cannot be reached, and retries are not allowed.
    Unreachable(String),
    /// The server could not be reached this many times in a row.
    Exhausted { attempts: u32, reason: String },
}

/// The purpose of an exchange.
enum Purpose {
    /// The request at this place, posted or resumed.
    Call(u64),
    /// A notification or an answer.
    Other {
        queued: Box<Queued>,
        session: Option<HeaderValue>,
    },
    /// The stream that belongs to no request.
    Listen { session: Option<HeaderValue> },
}

/// The client's end of MCP over HTTP.
pub(super) struct Machine {
    place: Place,
    outgoing: Outgoing,
    calls: Calls,
    exchanges: HashMap<ExchangeId, Purpose>,
    /// How many of the exchanges are for notifications and answers.
    others: usize,
    session: Session,
    rejoin: Rejoin,
    server_requests: ServerRequests,
    tools: Tools,
    listen: Listen,
    dialing: Dialing,
    /// Nothing else is posted before the message at this place was answered.
    barrier: Option<u64>,
    /// A server has answered a request with success.
    heard: bool,
    /// Why the last request of the host has failed, if none has succeeded since.
    last_fault: Option<String>,
    /// Redirects in a row.
    moves: u32,
    host: HostPhase,
    /// When the host had left and had all its answers.
    served_at: Option<Instant>,
    last_exchange: u64,
    for_host: Vec<Bytes>,
    ends: VecDeque<Action>,
    failure: Option<GiveUp>,
}

impl Machine {
    /// `jitter` randomizes the pauses between attempts.
    pub(super) fn new(
        place: Place,
        reconnect: Option<Reconnect>,
        jitter: fn(Duration) -> Duration,
    ) -> Self {
        Self {
            place,
            outgoing: Outgoing::default(),
            calls: Calls::default(),
            exchanges: HashMap::default(),
            others: 0,
            session: Session::default(),
            rejoin: Rejoin::default(),
            server_requests: ServerRequests::default(),
            tools: Tools::default(),
            listen: Listen::default(),
            dialing: Dialing::new(reconnect, jitter),
            barrier: None,
            heard: false,
            last_fault: None,
            moves: 0,
            host: HostPhase::default(),
            served_at: None,
            last_exchange: 0,
            for_host: Vec::new(),
            ends: VecDeque::new(),
            failure: None,
        }
    }

    /// Takes the lines for the host, without newlines.
    pub(super) fn take_for_host(&mut self) -> std::vec::Drain<'_, Bytes> {
        self.for_host.drain(..)
    }

    /// True once the host has sent something.
    pub(super) fn has_heard_host(&self) -> bool {
        self.host > HostPhase::Silent
    }

    /// True once the server has answered the handshake, or a request without one.
    pub(super) fn is_established(&self) -> bool {
        self.session.established
    }

    /// The next action.
    pub(super) fn poll(&mut self, now: Instant) -> Action {
        if let Some(end) = self.ends.pop_front() {
            return end;
        }
        if let Some(failure) = self.failure.clone() {
            return Action::GiveUp(failure);
        }
        if self.is_done(now) {
            return Action::Finish(self.goodbye());
        }
        if let Some((exchange, request)) = self.begin(now) {
            return Action::Begin(exchange, request);
        }
        let times = [
            self.dialing.wakes_at().filter(|_| !self.outgoing.is_idle()),
            self.calls.wakes_at(),
            self.listen.wakes_at(),
            self.served_at.map(|served| served + LAST_POST_TIMEOUT),
        ];
        Action::Wait {
            read_host: self.host < HostPhase::Finished && self.outgoing.has_room(),
            // Overdue actions do not wait for time.
            until: times.into_iter().flatten().filter(|time| *time > now).min(),
        }
    }

    /// True when nothing remains to be done.
    fn is_done(&mut self, now: Instant) -> bool {
        if self.host == HostPhase::Abandoned {
            return true;
        }
        let is_served = self.host == HostPhase::Finished
            && self.calls.awaited() == 0
            && self.outgoing.is_empty();
        if !is_served {
            self.served_at = None;
            return false;
        }
        let served_at = *self.served_at.get_or_insert(now);
        self.others == 0 || served_at + LAST_POST_TIMEOUT <= now
    }

    /// Gives up: every request of the host fails, including those that it has written and we have not read
    /// yet.
    pub(super) fn give_up(&mut self, failure: &Failure, unread: Vec<Bytes>) {
        for call in self.calls.drain() {
            if let (false, false, Some(id)) =
                (call.queued.own, call.cancelled, call.queued.request())
            {
                self.push_line(failure.line(id, Executed::Unknown).into());
            }
        }
        self.on_host_lines(unread);
        for queued in self.outgoing.drain() {
            if let Some(id) = queued.request() {
                self.push_line(failure.line(id, Executed::No).into());
            }
        }
    }

    /// An exchange is abandoned: another one probes whether the server can be reached.
    fn forget_exchange(&mut self, exchange: ExchangeId) {
        self.exchanges.remove(&exchange);
        self.dialing.on_event_of(exchange);
    }

    /// Tells the host that a request has failed.
    fn fail(&mut self, id: &RequestId, text: &str, data: &ErrorData) {
        let line = error_line(Some(id), Code::InternalError, text, Some(data));
        self.push_line(line.into());
    }

    /// A line for the host, which ends with its newline.
    fn push_line(&mut self, line: Bytes) {
        self.for_host
            .push(line.slice(..line.len().saturating_sub(1)));
    }
}

#[cfg(test)]
mod tests;
