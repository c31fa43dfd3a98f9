//! How far the handshake with a legacy process is, and the peers that wait for it.

use super::SessionId;
use super::evidence::Sender;
use super::revision::Revision;
use super::versions::{Asked, Version};
use crate::backlog::Piece;
use crate::jsonrpc::{Message, RequestId};

/// The `clientInfo` of the router itself.
pub(super) const OURSELVES: &str = concat!(
    r#"{"name":"mcp-remote","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// How far the handshake is.
#[derive(Debug, Default)]
pub(super) enum Handshake {
    #[default]
    Needed,
    Sent(Sent),
    /// With the child's answer.
    Done(Box<Message>),
    /// The child answered with an error; the next `initialize` of a peer tries again, everything
    /// else is passed on as it comes.
    Refused,
}

/// An `initialize` under way.
#[derive(Debug)]
pub(super) struct Sent {
    pub ours: i64,
    /// What it asks for, and what has been refused before.
    pub asked: Asked,
    /// The process is a successor.
    pub is_renewal: bool,
    /// Whose it is, if it is not the router's own.
    pub requester: Option<SessionId>,
    /// Whose `clientInfo` it quotes, unless a process has answered that before.
    pub introduced: Option<Sender>,
}

/// An `initialize` of a peer that waits for an answer.
#[derive(Debug)]
pub(super) struct Opening {
    pub session: SessionId,
    pub id: RequestId,
    /// What it asked for, where we know that.
    pub revision: Option<Revision>,
    /// The same, where it is a version at all.
    pub version: Option<Version>,
    /// Its `clientInfo`, until that is sent.
    pub client: Option<Vec<u8>>,
    /// Counts the memory of all this.
    pub _kept: Piece,
}
