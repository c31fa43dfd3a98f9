//! The settings of the client.

use super::token::Tokens;
use crate::transport::tls::Connector;
use crate::utils::host::with_port;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection may take until it can carry messages, authentication included: more than the
/// 10 seconds after which a server gives up by default.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The address and transport of a server.
#[derive(Debug)]
pub enum Place {
    /// Lines over TCP.
    Tcp(Port),
    /// WebSocket, with the path of the upgrade request.
    WebSocket(Port, String),
    /// Lines over the Unix socket at this path.
    Unix(PathBuf),
}

/// A port of a server.
#[derive(Debug)]
pub struct Port {
    /// Name or address.
    pub host: String,
    /// Its number.
    pub number: u16,
    /// TLS under the transport; `None` for plain text.
    pub tls: Option<Connector>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) | Self::WebSocket(port, _) => {
                f.write_str(&with_port(&port.host, port.number))
            }
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The server and how to authenticate.
#[derive(Debug)]
pub struct Settings {
    /// The address and transport of the server.
    pub place: Place,
    /// The token, if the server wants one.
    pub tokens: Tokens,
    /// How to reconnect; `None` for not at all.
    pub reconnect: Option<Reconnect>,
    /// How long answers may take once the host has closed our stdin.
    pub answer_timeout: Duration,
    /// The interval of keepalives.
    pub keepalive_interval: Duration,
    /// A connection on which nothing arrives for this long is lost.
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
