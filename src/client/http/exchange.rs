//! One HTTP request and its events, in the terms of the machine and the shell.

use crate::transport::sse;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use std::time::Duration;

/// Names one exchange; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ExchangeId(pub u64);

/// The method of an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Post,
    Get,
    Delete,
}

/// A header of a request.
pub(super) type Header = (HeaderName, HeaderValue);

/// A request, without what is common to all of them.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Request {
    pub verb: Verb,
    pub target: PathAndQuery,
    pub headers: Vec<Header>,
    /// Empty for all but a POST.
    pub body: Bytes,
    /// Whether the server can be reached is worth a report.
    pub is_probe: bool,
}

/// What kind of body a response has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    Json,
    EventStream,
    /// None, or of a type that MCP does not use.
    #[default]
    Other,
}

/// The head of a response, as far as it concerns us.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub status: u16,
    pub content: Content,
    /// The session that the server has begun, if any.
    pub session: Option<HeaderValue>,
    pub retry_after: Option<Duration>,
    /// The value of `WWW-Authenticate`.
    pub challenge: Option<String>,
    pub location: Option<String>,
}

impl Head {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// An event of an exchange.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The whole response. The exchange is over.
    Answered(Head, Bytes),
    /// The head of a stream of events.
    Opened(Head),
    /// An event of the stream.
    Streamed(sse::Event),
    /// The stream has ended, whether intended or not. The exchange is over.
    Ended(String),
    /// There is no complete response. The exchange is over.
    Failed(Failed),
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The connection or the response; another attempt may work.
    Connection,
    /// TLS; another attempt would fail as well.
    Tls,
    /// The response is no HTTP.
    Foreign,
    /// There is no token, or none that a server would accept.
    Token,
}

/// Why there is no response.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// The server may have read the request.
    pub sent: bool,
    pub cause: Cause,
    pub reason: String,
}
