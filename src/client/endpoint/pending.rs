//! What is pending between host and server: requests in flight both ways, and lines that the server
//! has yet to complain about.
//!
//! Pure: lines go in, verdicts come out.

use super::line::{ServerLine, Verdict};
use super::rejoin::{Rejoin, is_own};
use super::server_requests::ServerRequests;
use crate::jsonrpc::{
    Code, ErrorData, Executed, Kind, MAX_CHILD_DEPTH, MAX_PEER_DEPTH, Measured, Message, RequestId,
    error_line, too_large_line,
};
use crate::mcp::{Field, Method};
use bytes::Bytes;
use foldhash::HashMap;
use std::borrow::Cow;

/// Why requests fail that will not be answered.
#[derive(Debug)]
pub(in crate::client) struct Failure {
    message: Cow<'static, str>,
    reason: &'static str,
    /// It is the server's refusal, or there was no connection.
    is_refusal: bool,
    detail: Option<String>,
}

impl Failure {
    pub(in crate::client) const CONNECTION_LOST: Self = Self {
        message: Cow::Borrowed("Connection lost"),
        reason: "connection-lost",
        is_refusal: false,
        detail: None,
    };

    pub(in crate::client) const NOT_CONNECTED: Self = Self {
        message: Cow::Borrowed("Could not connect"),
        reason: "connection-lost",
        is_refusal: true,
        detail: None,
    };

    pub(in crate::client) const AUTHENTICATION_FAILED: Self = Self {
        message: Cow::Borrowed("Authentication failed"),
        reason: "authentication-failed",
        is_refusal: true,
        detail: None,
    };

    pub(in crate::client) const NO_ANSWER: Self = Self {
        message: Cow::Borrowed("No answer"),
        reason: "answer-timeout",
        is_refusal: false,
        detail: None,
    };

    pub(super) fn is_refusal(&self) -> bool {
        self.is_refusal
    }

    /// Adds the cause, to the message too, which is all that most hosts show.
    pub(in crate::client) fn because(mut self, detail: String) -> Self {
        let what = self.message.len();
        let begin = detail.get(..what).unwrap_or_default();
        let cause = if begin.eq_ignore_ascii_case(&self.message) {
            detail.get(what..).unwrap_or_default().to_owned()
        } else {
            format!(": {detail}")
        };
        self.message.to_mut().push_str(&cause);
        self.with_detail(detail)
    }

    /// The error for the request with this id.
    pub(in crate::client) fn line(&self, id: &RequestId, executed: Executed) -> Vec<u8> {
        let data = ErrorData::new(self.reason, executed).with_detail(self.detail.clone());
        error_line(Some(id), Code::InternalError, &self.message, Some(&data))
    }

    /// Adds the cause.
    pub(in crate::client) fn with_detail(mut self, detail: String) -> Self {
        self.detail = Some(detail);
        self
    }
}

/// A request of the host without an answer.
#[derive(Debug)]
struct InFlight {
    /// Its place in the order of sending.
    place: u64,
    /// The length of its line, in bytes.
    size: usize,
    /// It stays open for as long as the host likes.
    is_subscription: bool,
    /// The request itself, if it must be repeated to a new server.
    rejoin: Option<Message>,
}

/// What is pending between one host and its server.
#[derive(Debug, Default)]
pub(super) struct Pending {
    in_flight: HashMap<RequestId, InFlight>,
    server_requests: ServerRequests,
    rejoin: Rejoin,
    /// Invalid lines that were sent and that the server has not answered with an error yet.
    unparsable: usize,
    sent: u64,
}

impl Pending {
    /// A line of the host, newline included, as it is to be sent later; `None` for a response that
    /// is no longer awaited.
    pub(super) fn on_host_line(&mut self, line: Bytes) -> Option<Bytes> {
        self.server_requests.on_host_line(line)
    }

    /// Notes that a line of the host, without its newline, is about to be sent. Invalid messages are sent,
    /// too: the server answers them with an error. True for an `initialize`.
    pub(super) fn on_sent(&mut self, line: &Bytes) -> bool {
        let Ok(message) = Message::read(line.clone(), MAX_PEER_DEPTH) else {
            self.unparsable += 1;
            return false;
        };
        let mut is_initialize = false;
        match message.kind() {
            Kind::Request(id) if is_own(id) => {}
            Kind::Request(id) => {
                self.sent += 1;
                let id = id.clone();
                let method = message.mcp_method();
                is_initialize = method == Some(Method::Initialize);
                let request = InFlight {
                    place: self.sent,
                    size: line.len(),
                    is_subscription: method == Some(Method::Listen),
                    rejoin: Rejoin::concerns(method).then_some(message),
                };
                self.in_flight.insert(id, request);
            }
            Kind::Notification => match message.mcp_method() {
                Some(Method::Initialized) => self.rejoin.initialized = true,
                Some(Method::Cancelled) => {
                    if let Some((id, _)) = message.quoted_id(Field::RequestId) {
                        self.in_flight.remove(&id);
                    }
                }
                _ => {}
            },
            Kind::Response(_) => {}
        }
        is_initialize
    }

    /// Notes that a line that was sent has not been received: it will be sent again.
    pub(super) fn on_unsent(&mut self, line: &Bytes) {
        let Ok(message) = Message::read(line.clone(), MAX_PEER_DEPTH) else {
            self.unparsable = self.unparsable.saturating_sub(1);
            return;
        };
        match message.kind() {
            Kind::Request(id) => {
                self.in_flight.remove(id);
            }
            Kind::Notification if message.mcp_method() == Some(Method::Initialized) => {
                self.rejoin.initialized = false;
            }
            Kind::Notification | Kind::Response(_) => {}
        }
    }

    /// True for lines that a new server must not get: our own, which are generated again, and responses to
    /// requests of another server.
    pub(super) fn is_obsolete(&self, line: &Bytes) -> bool {
        let Ok(message) = Message::read(line.clone(), MAX_CHILD_DEPTH) else {
            return false;
        };
        match message.kind() {
            Kind::Request(id) => is_own(id),
            Kind::Notification => {
                self.rejoin.initialized && message.mcp_method() == Some(Method::Initialized)
            }
            Kind::Response(_) => true,
        }
    }

    /// Handles a line from the server.
    pub(super) fn on_server_line(&mut self, line: &ServerLine) -> Verdict {
        let Some(message) = &line.message else {
            return if line.is_json() {
                Verdict::Pass
            } else {
                Verdict::Drop
            };
        };
        match message.kind() {
            Kind::Response(Some(id)) => self.on_response(id, message.result().is_some()),
            Kind::Response(None) => {
                self.unparsable = self.unparsable.saturating_sub(1);
                Verdict::Pass
            }
            Kind::Request(id) => self.server_requests.on_request(id, message),
            Kind::Notification if message.mcp_method() == Some(Method::Cancelled) => {
                self.server_requests.on_cancelled(message)
            }
            Kind::Notification => Verdict::Pass,
        }
    }

    fn on_response(&mut self, id: &RequestId, succeeded: bool) -> Verdict {
        if let Some(answered) = self.in_flight.remove(id) {
            if let (Some(request), true) = (answered.rejoin, succeeded) {
                self.rejoin.remember(request);
            }
            Verdict::Pass
        } else if !is_own(id) {
            // The server may accept lines that we cannot parse.
            self.unparsable = self.unparsable.saturating_sub(1);
            Verdict::Pass
        } else if self.rejoin.is_initialize_id(id) {
            Verdict::Rejoined(succeeded)
        } else {
            self.rejoin.on_response(id);
            Verdict::Drop
        }
    }

    /// The server accepts no lines of more than `limit` bytes: returns errors for the requests in flight that
    /// are longer, in order, and drops such lines from what a new server gets.
    pub(super) fn refuse_longer(&mut self, limit: usize) -> Vec<Vec<u8>> {
        self.rejoin.forget_longer(limit);
        let long = self.in_flight.extract_if(|_, request| request.size > limit);
        let mut long: Vec<_> = long.collect();
        long.sort_unstable_by_key(|(_, request)| request.place);
        let refuse = |(id, _): &(_, _)| too_large_line(Some(id), limit, Measured::AsRead);
        long.iter().map(refuse).collect()
    }

    /// How many requests of the host are pending that will be answered by themselves.
    pub(super) fn awaited(&self) -> usize {
        let requests = self.in_flight.values();
        requests.filter(|request| !request.is_subscription).count()
    }

    /// True while the host's `initialize` is pending.
    pub(super) fn awaits_initialize(&self) -> bool {
        let method = |request: &InFlight| request.rejoin.as_ref()?.mcp_method();
        let mut requests = self.in_flight.values();
        requests.any(|request| method(request) == Some(Method::Initialize))
    }

    /// How many requests of the host are pending.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// True while an error for an invalid line is still expected.
    pub(super) fn expects_complaint(&self) -> bool {
        self.unparsable > 0
    }

    /// The server has forgotten the host: returns errors for requests in flight, in order, and
    /// cancellations of server requests.
    pub(super) fn fail_all(&mut self, failure: &Failure, executed: Executed) -> Vec<Vec<u8>> {
        self.unparsable = 0;
        let mut failed: Vec<_> = self.in_flight.drain().collect();
        failed.sort_unstable_by_key(|(_, request)| request.place);
        let errors = failed.iter().map(|(id, _)| failure.line(id, executed));
        let mut lines: Vec<_> = errors.collect();
        lines.append(&mut self.server_requests.abandon());
        lines
    }

    /// The requests that restore the host's state in a new server.
    pub(super) fn rejoin(&mut self) -> &mut Rejoin {
        &mut self.rejoin
    }
}

#[cfg(test)]
mod tests;
