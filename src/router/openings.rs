//! The state of the handshake with a legacy process, and the peers that wait for it.

use super::SessionId;
use super::evidence::Sender;
use super::revision::{self, Revision};
use super::versions::{Asked, Version};
use crate::backlog::Piece;
use crate::json::write_string;
use crate::jsonrpc::{Message, RequestId};

/// The `clientInfo` of the router itself.
pub(super) const OURSELVES: &str = concat!(
    r#"{"name":"mcp-remote","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// Writes the `_meta` of a request of the router's own to a modern process.
pub(super) fn write_meta(out: &mut Vec<u8>) {
    out.extend(b"\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":");
    write_string(revision::MODERN, out);
    out.extend(b",\"io.modelcontextprotocol/clientInfo\":");
    out.extend(OURSELVES.as_bytes());
    out.extend(b",\"io.modelcontextprotocol/clientCapabilities\":{}}");
}

/// The state of the handshake.
#[derive(Debug, Default)]
pub(super) enum Handshake {
    #[default]
    Needed,
    Sent(Sent),
    /// With the child's answer.
    Done(Box<Message>),
    /// The child answered with an error; the next `initialize` of a peer retries, everything else
    /// is passed on.
    Refused,
}

/// An `initialize` in flight.
#[derive(Debug)]
pub(super) struct Sent {
    pub ours: i64,
    /// The requested version, and those that were refused before.
    pub asked: Asked,
    /// The process replaces another one.
    pub is_renewal: bool,
    /// The peer that sent it, unless it is the router's own.
    pub requester: Option<SessionId>,
    /// The peer whose `clientInfo` it contains, unless a process has answered that before.
    pub introduced: Option<Sender>,
}

/// A pending `initialize` of a peer.
#[derive(Debug)]
pub(super) struct Opening {
    pub session: SessionId,
    pub id: RequestId,
    /// The requested revision, if we know it.
    pub revision: Option<Revision>,
    /// The requested version, if it is valid.
    pub version: Option<Version>,
    /// Its `clientInfo`, until it is sent.
    pub client: Option<Vec<u8>>,
    /// Counts the memory of all this.
    pub _kept: Piece,
}
