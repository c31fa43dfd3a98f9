//! Why the client gave up.

use super::end::Lost;
use super::endpoint::Failure;
use crate::transport::tcp::NO_ADDRESS;
use crate::utils::chain::Chain;
use std::error::Error;
use std::io;
use std::time::Duration;

/// Why the client gave up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection could be made.
    #[error("could not connect to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The server refuses us.
    #[error("{0}")]
    Rejected(String),
    /// The token is unusable, so no server was contacted.
    #[error("the token {0}")]
    Token(String),
    /// The server requires a token, and there is none.
    #[error("Authentication failed: the server wants a token")]
    NoToken,
    /// An HTTP server requires a token, or another one.
    #[error("Authentication failed: {address} answers with HTTP 401; {wants}")]
    Unauthorized {
        /// Host and port.
        address: String,
        /// Its challenge, in words.
        wants: String,
    },
    /// TLS or tokens are used by one end only, TLS fails, or the transport is another one; retrying will not help.
    #[error("no connection to {address}: {reason}")]
    Mismatch {
        /// Host and port.
        address: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// The connection was lost, and reconnecting is not allowed.
    #[error("connection lost: {address}")]
    Lost {
        /// Host and port.
        address: String,
        /// What went wrong.
        source: Lost,
    },
    /// The host has left, and its pending requests were not answered in time.
    #[error("{address} has not answered for {limit:?} since stdin was closed")]
    Unanswered {
        /// Host and port.
        address: String,
        /// How long we have waited.
        limit: Duration,
    },
    /// All attempts to reconnect failed.
    #[error("gave up on {address} after {attempts} tries")]
    GaveUp {
        /// Host and port.
        address: String,
        /// How many failed in a row.
        attempts: u32,
        /// Whether there has ever been a connection.
        connected: bool,
        /// Why the last one failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ClientError {
    /// What the user can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            // Of a Unix socket the address is a path.
            Self::Connect { address, .. } if address.contains('/') => Some(
                "does the server listen there (--listen unix://…), and may this user use the socket?",
            ),
            Self::Connect { .. } | Self::GaveUp { .. }
                if Chain(self).to_string().contains(NO_ADDRESS) =>
            {
                Some("is the name right, and does this machine's network know it?")
            }
            Self::Connect { .. }
            | Self::GaveUp {
                connected: false, ..
            } => Some("is the server running there, and are host, port and transport right?"),
            Self::GaveUp { .. } => Some(
                "is the server still running there? With --max-attempts 0 the client never gives up",
            ),
            Self::Rejected(reason) if reason.starts_with("Insufficient roles") => {
                Some("use a token with one of these roles")
            }
            Self::Rejected(reason) if reason.starts_with("Authentication timeout") => {
                Some("try again; --auth-timeout of the server is how long it waits for the token")
            }
            Self::Rejected(reason) if reason.contains("Token ") => Some("get a new token"),
            Self::Rejected(_) => Some(
                "get a token for this server: its secret or keys, issuer and audience decide; 'mcp-remote inspect-token' there says why",
            ),
            Self::NoToken => {
                Some("set MCP_REMOTE_JWT_TOKEN, or use --jwt-token-file or --jwt-token")
            }
            Self::Unauthorized { .. } => Some(
                "get a token for this server, and give it by MCP_REMOTE_JWT_TOKEN, --jwt-token-file or --header 'Authorization: Bearer ${TOKEN}'",
            ),
            Self::Lost { .. } => Some("use --auto-reconnect to reconnect automatically"),
            Self::Unanswered { .. } => Some("--answer-timeout is how long to wait"),
            Self::Token(_) | Self::Mismatch { .. } => None,
        }
    }

    /// What is wrong and the remedy, on one line.
    #[must_use]
    pub fn line(&self) -> String {
        let text = Chain(self).to_string();
        match self.remedy() {
            Some(remedy) => format!("{text}; {remedy}"),
            None => text,
        }
    }

    /// The text with which the host's requests fail.
    pub(super) fn failure(&self) -> Failure {
        let line = self.line();
        match self {
            Self::Rejected(_) | Self::Token(_) | Self::NoToken | Self::Unauthorized { .. } => {
                Failure::AUTHENTICATION_FAILED.because(line)
            }
            Self::Unanswered { .. } => Failure::NO_ANSWER.because(line),
            Self::Lost { .. }
            | Self::GaveUp {
                connected: true, ..
            } => Failure::CONNECTION_LOST.because(line),
            Self::Connect { .. } | Self::Mismatch { .. } | Self::GaveUp { .. } => {
                Failure::NOT_CONNECTED.because(line)
            }
        }
    }
}
