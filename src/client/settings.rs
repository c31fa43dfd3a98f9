//! What the client is told at start.

use super::token::Tokens;
use crate::transport::Protocol;
use crate::transport::tls::Connector;
use std::time::Duration;

/// How long a connection may take until it can carry messages, authentication included: more than the
/// 10 seconds after which a server gives up by default.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the server is and how to get in.
#[derive(Debug)]
pub struct Settings {
    /// The transport.
    pub protocol: Protocol,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The path of the upgrade request (WebSocket).
    pub path: String,
    /// TLS under the transport; `None` for plain text.
    pub tls: Option<Connector>,
    /// The token, if the server wants one.
    pub tokens: Tokens,
    /// How to reconnect; `None` for not at all.
    pub reconnect: Option<Reconnect>,
    /// The interval of signs of life.
    pub keepalive_interval: Duration,
    /// A connection on which nothing arrives for so long is lost.
    pub keepalive_timeout: Duration,
}

/// How to reconnect.
#[derive(Clone, Copy, Debug)]
pub struct Reconnect {
    /// How many attempts in a row may fail; 0 for any number.
    pub max_attempts: u32,
    /// The pause before the first attempt; it doubles with each.
    pub delay: Duration,
}
