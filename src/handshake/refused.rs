//! Why a peer is not admitted, and what it is told.

use crate::auth::{Identity, TokenError};
use crate::jsonrpc::{Code, ErrorData, Executed, error_line, refusal_line};
use crate::metrics::AuthFailure;
use crate::transport::foreign;
use crate::transport::line::LineError;
use serde::Serialize;
use std::time::Duration;

/// Why a peer is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The token is no good; why is for the log, not for the peer.
    #[error("invalid token: {error}")]
    Token {
        /// What is wrong with it.
        error: TokenError,
        /// Whom it names, where we have signed it.
        bearer: Option<Box<Identity>>,
    },
    /// What is shown is plainly not a token.
    #[error("the token {0}")]
    Mistake(&'static str),
    /// What came first cannot be a token.
    #[error("the first line is no token: {0}")]
    NoToken(&'static str),
    /// A message has come instead of a token.
    #[error("no token: the first line is a message")]
    Message,
    /// An HTTP request has come instead of a token.
    #[error("the first line is no token, it is the head of an HTTP request")]
    Http,
    /// The token is good, its roles are not enough.
    #[error("user '{}' has none of the required roles", .identity.name())]
    Roles {
        /// Who it was.
        identity: Box<Identity>,
        /// What was required.
        required: Vec<String>,
    },
    /// All places are taken.
    #[error("too many connections")]
    Full,
    /// Its user has as many places as a user may have.
    #[error("too many connections of this user")]
    TooManyOfUser,
    /// The server stops, and serves only those who have a session.
    #[error("the server stops")]
    Stopping,
    /// It went away or the stream failed.
    #[error("connection lost before authentication: {0}")]
    Gone(LineError),
    /// It hung up.
    #[error("hung up before authentication")]
    HungUp,
}

impl Refused {
    /// What it counts as, where it has to do with the token.
    #[must_use]
    pub fn failure(&self) -> Option<AuthFailure> {
        match self {
            Self::Token { error, .. } => Some(match error {
                TokenError::Expired => AuthFailure::Expired,
                TokenError::Revoked => AuthFailure::Revoked,
                _ => AuthFailure::InvalidToken,
            }),
            Self::Mistake(_) => Some(AuthFailure::InvalidToken),
            Self::NoToken(_) | Self::Message | Self::Http => Some(AuthFailure::NoToken),
            Self::Roles { .. } => Some(AuthFailure::Roles),
            Self::Full | Self::TooManyOfUser | Self::Stopping | Self::Gone(_) | Self::HungUp => {
                None
            }
        }
    }

    /// Who it was, where a token of ours says so.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Token { bearer, .. } => bearer.as_deref(),
            Self::Roles { identity, .. } => Some(identity),
            _ => None,
        }
    }

    /// What the peer is told; nothing where it is gone.
    #[must_use]
    pub fn to_line(&self) -> Option<Vec<u8>> {
        match self {
            Self::Token { .. } | Self::Mistake(_) | Self::NoToken(_) | Self::Message => {
                Some(authentication_failed("Invalid token"))
            }
            Self::Http => Some(foreign::no_http()),
            Self::Roles { identity, required } => {
                #[derive(Serialize)]
                struct Data<'a> {
                    required: &'a [String],
                    provided: &'a [String],
                }
                let data = Data {
                    required,
                    provided: &identity.roles,
                };
                Some(refusal_line(
                    Code::InsufficientRoles,
                    "Insufficient roles",
                    &data,
                ))
            }
            Self::Full => {
                let data = ErrorData::new("too-many-connections", Executed::No);
                let text = "Too many connections";
                Some(error_line(None, Code::InternalError, text, Some(&data)))
            }
            Self::TooManyOfUser => {
                let data = ErrorData::new("too-many-of-user", Executed::No);
                let text = "Too many connections of this user (--max-per-user)";
                Some(error_line(None, Code::InternalError, text, Some(&data)))
            }
            Self::Stopping => {
                let data = ErrorData::new("stopping", Executed::No);
                let text = "The server stops";
                Some(error_line(None, Code::InternalError, text, Some(&data)))
            }
            Self::Gone(_) | Self::HungUp => None,
        }
    }
}

/// The error -32002 with a reason that tells nothing about the token.
#[must_use]
pub fn authentication_failed(reason: &'static str) -> Vec<u8> {
    let data = std::collections::BTreeMap::from([("reason", reason)]);
    refusal_line(Code::AuthenticationFailed, "Authentication failed", &data)
}

/// The error -32003.
#[must_use]
pub fn authentication_timeout(limit: Duration) -> Vec<u8> {
    let text = match (limit.as_secs(), limit.subsec_millis()) {
        (seconds, 0) => format!("{seconds} seconds"),
        _ => format!("{} milliseconds", limit.as_millis()),
    };
    let data = std::collections::BTreeMap::from([("timeout", text)]);
    refusal_line(Code::AuthenticationTimeout, "Authentication timeout", &data)
}
