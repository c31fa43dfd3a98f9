//! The token exchange, both sides: the client's first line is its token, the server answers one
//! line without an id.

use crate::auth::{self, Identity, TokenError, Verifier};
use crate::jsonrpc::{Code, ErrorData, Executed, error_line, is_too_large, refusal_line};
use crate::metrics::Failure;
use crate::transport::Connection;
use crate::transport::foreign::{self, WrongTransport};
use crate::transport::line::LineError;
use crate::transport::tls::Mismatch;
use crate::utils::secret::Secret;
use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The longest first line that a peer may send before it is authenticated, in bytes.
pub const MAX_TOKEN_LINE: usize = 16 * 1024;

/// The longest refusal, in bytes; it names the roles of a token.
const MAX_REFUSAL: usize = 2 * MAX_TOKEN_LINE;

/// What a server demands of a peer.
#[derive(Debug)]
pub struct AuthRequirements {
    /// Checks tokens.
    pub verifier: Verifier,
    /// One of these roles is needed; empty for none.
    pub required_roles: Vec<String>,
}

impl AuthRequirements {
    /// Who the bearer of this token is. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why the token is not accepted.
    pub fn check(&self, token: &Secret, now: u64) -> Result<Identity, Refused> {
        if let Some(mistake) = auth::mistake(token) {
            return Err(Refused::Mistake(mistake));
        }
        let verified = self.verifier.verify(token, now);
        let identity = verified.map_err(|error| Refused::Token {
            error,
            bearer: self.verifier.bearer(token).map(Box::new),
        })?;
        if identity.has_any_role(&self.required_roles) {
            Ok(identity)
        } else {
            Err(Refused::Roles {
                identity: Box::new(identity),
                required: self.required_roles.clone(),
            })
        }
    }
}

/// Why a peer does not come in.
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
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Token { error, .. } => Some(match error {
                TokenError::Expired => Failure::Expired,
                TokenError::Revoked => Failure::Revoked,
                _ => Failure::InvalidToken,
            }),
            Self::Mistake(_) => Some(Failure::InvalidToken),
            Self::NoToken(_) | Self::Http => Some(Failure::NoToken),
            Self::Roles { .. } => Some(Failure::Roles),
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
            Self::Token { .. } | Self::Mistake(_) | Self::NoToken(_) => {
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

#[derive(Serialize, Deserialize)]
struct Answer {
    jsonrpc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Welcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Rejection>,
}

#[derive(Serialize, Deserialize)]
struct Welcome {
    authenticated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    /// The server takes `mcp-remote/resume`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resume: bool,
}

#[derive(Serialize, Deserialize)]
struct Rejection {
    code: i64,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// The server's side.
#[derive(Debug)]
pub struct Authenticator<C> {
    /// Says whose a token is; `None` lets everybody in, without a word.
    pub check: Option<C>,
    /// Offers sessions that outlive their connection.
    pub resume: bool,
}

impl<C: AsyncFnOnce(&Secret) -> Result<Identity, Refused>> Authenticator<C> {
    /// Reads the token, or takes the one of the upgrade request, asks for a `place` inside, and
    /// answers. The caller limits the time.
    ///
    /// # Errors
    /// Why the peer does not come in; the caller tells it with [`Refused::to_line`].
    pub async fn admit<P>(
        self,
        connection: &mut Connection,
        bearer: Option<&Secret>,
        place: impl FnOnce(&Identity) -> Result<P, Refused>,
    ) -> Result<(Identity, P), Refused> {
        let enter = |identity: Identity| {
            let place = place(&identity)?;
            Ok((identity, place))
        };
        let Some(check) = self.check else {
            return enter(Identity::default());
        };
        if let Some(token) = bearer {
            return enter(check(token).await?);
        }
        let line = match connection.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return Err(Refused::HungUp),
            Err(LineError::TooLong { .. }) => return Err(Refused::NoToken("too long")),
            Err(err) => return Err(Refused::Gone(err)),
        };
        if line.len() > MAX_TOKEN_LINE {
            return Err(Refused::NoToken("too long"));
        }
        if matches!(connection, Connection::Line(..)) && foreign::is_http_request(&line) {
            return Err(Refused::Http);
        }
        let token = std::str::from_utf8(&line).map_err(|_| Refused::NoToken("not UTF-8"))?;
        let (identity, place) = enter(check(&token.trim().to_owned().into()).await?)?;
        let line = welcome(&identity, self.resume).map_err(|err| Refused::Gone(err.into()))?;
        let sent = connection.send(line).await;
        sent.map_err(|err| Refused::Gone(err.into()))?;
        Ok((identity, place))
    }
}

fn welcome(identity: &Identity, resume: bool) -> std::io::Result<Vec<u8>> {
    let welcome = Welcome {
        authenticated: true,
        user: identity.user.clone(),
        roles: identity.roles.clone(),
        resume,
    };
    let answer = Answer {
        jsonrpc: "2.0".to_owned(),
        result: Some(welcome),
        error: None,
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    Ok(line)
}

/// Why the client did not get in.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// The server said no; trying again will not help.
    #[error("authentication failed: {0}")]
    ByServer(String),
    /// The connection failed; trying again may help.
    #[error("connection lost during authentication: {0}")]
    Lost(#[from] LineError),
}

/// The client's side: sends the token, alone, and waits for the answer. Gives whether the server
/// takes `mcp-remote/resume`.
///
/// # Errors
/// Why it did not work.
pub async fn present(connection: &mut Connection, token: &Secret) -> Result<bool, Rejected> {
    let line = format!("{}\n", token.expose().trim()).into_bytes();
    connection.send(line).await.map_err(LineError::from)?;
    let Some(line) = connection.next().await? else {
        let hung_up = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the server hung up");
        return Err(LineError::from(hung_up).into());
    };
    // Nobody else has been able to say anything yet.
    if let Some((_, refusal)) = refusal(&line) {
        return Err(Rejected::ByServer(refusal));
    }
    if wants_tls(&line) {
        return Err(LineError::Io(Mismatch.into()).into());
    }
    if let Some(wrong) = wrong_transport(&line) {
        return Err(LineError::Io(wrong.into()).into());
    }
    if let Some(notice) = read_notice(&line) {
        return Err(LineError::from(std::io::Error::other(notice)).into());
    }
    match serde_json::from_slice::<Answer>(&line) {
        Ok(Answer {
            result:
                Some(Welcome {
                    authenticated: true,
                    resume,
                    ..
                }),
            ..
        }) => Ok(resume),
        Ok(Answer {
            error: Some(error), ..
        }) => Err(Rejected::ByServer(format!(
            "the server answered '{}'; does it want a token at all?",
            error.message
        ))),
        _ => Err(Rejected::ByServer(
            "the server answered something else; is it mcp-remote?".to_owned(),
        )),
    }
}

/// The text of a refusal: one of this wire's own errors, without an `id` member. MCP servers use the
/// same codes for other things, but what they say never reaches a peer without an `id`.
#[must_use]
pub fn read_refusal(line: &Bytes) -> Option<String> {
    match refusal(line)? {
        (None, text) => Some(text),
        (Some(_), _) => None,
    }
}

/// What is a refusal but for its `id`, which may stand there as `null`.
fn refusal(line: &Bytes) -> Option<(Option<Value>, String)> {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default, deserialize_with = "as_it_is")]
        id: Option<Value>,
        error: Rejection,
    }
    fn as_it_is<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(value).map(Some)
    }
    // Nobody writes the name with escapes, and most lines need not be looked at any closer.
    if line.len() > MAX_REFUSAL || memmem::find(line, b"\"error\"").is_none() {
        return None;
    }
    let Refusal { id, error } = serde_json::from_slice(line).ok()?;
    let data = error.data.as_ref()?;
    let text = |name: &str| data.get(name)?.as_str().map(str::to_owned);
    let detail = if error.code == Code::AuthenticationFailed as i64 {
        text("reason")?
    } else if error.code == Code::AuthenticationTimeout as i64 {
        text("timeout")?
    } else if error.code == Code::InsufficientRoles as i64 {
        format!("one of {} is required", data.get("required")?)
    } else {
        return None;
    };
    let refused = id.as_ref().is_none_or(Value::is_null);
    refused.then(|| (id, format!("{} ({detail})", error.message)))
}

/// The text of an error that a server of ours sends to a connection as a whole, before it hangs
/// up: it has too many connections, or could not start its MCP server.
#[must_use]
pub fn read_notice(line: &Bytes) -> Option<String> {
    Some(notice(line)?.message)
}

/// True for the notice of a server that speaks TLS to a client that does not.
#[must_use]
pub fn wants_tls(line: &Bytes) -> bool {
    let reason = notice(line).and_then(|error| error.data?.get("reason").cloned());
    reason.is_some_and(|reason| reason == "tls-required")
}

/// The transport that a server speaks which answers a line like this.
#[must_use]
pub fn wrong_transport(line: &Bytes) -> Option<WrongTransport> {
    if foreign::is_http_answer(line) {
        return Some(WrongTransport::Http);
    }
    let reason = notice(line)?.data?.get("reason").cloned()?;
    (reason == "wrong-transport").then_some(WrongTransport::WebSocket)
}

/// The bound in the notice of a server that a line is longer than it takes. It hangs up then.
#[must_use]
pub fn read_limit(line: &Bytes) -> Option<usize> {
    let data = notice(line)?.data?;
    if !is_too_large(data.get("reason")?.as_str()?) {
        return None;
    }
    usize::try_from(data.get("limit")?.as_u64()?).ok()
}

/// The same in the `error` of a response: the server has passed over the request, and goes on.
#[must_use]
pub fn read_limit_of(error: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    struct Error<'a> {
        #[serde(borrow)]
        data: Data<'a>,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        source: &'a str,
        reason: &'a str,
        limit: usize,
    }
    let Error { data } = serde_json::from_slice(error).ok()?;
    (data.source == "mcp-remote" && is_too_large(data.reason)).then_some(data.limit)
}

fn notice(line: &Bytes) -> Option<Rejection> {
    if !line.starts_with(b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":") {
        return None;
    }
    let answer: Answer = serde_json::from_slice(line).ok()?;
    let error = answer.error?;
    let source = error.data.as_ref()?.get("source")?;
    (source == "mcp-remote").then_some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bug: an error of the MCP server that named no request and had one of the codes of a refusal
    /// ended the client.
    #[test]
    fn only_a_refusal_is_one() {
        let read = |line: Vec<u8>| read_refusal(&line.into());
        assert_eq!(
            read(authentication_failed("Token expired")).as_deref(),
            Some("Authentication failed (Token expired)")
        );
        assert_eq!(
            read(authentication_timeout(Duration::from_secs(10))).as_deref(),
            Some("Authentication timeout (10 seconds)")
        );
        let identity = Box::new(Identity::default());
        let required = vec!["a".to_owned(), "b".to_owned()];
        let roles = Refused::Roles { identity, required };
        assert_eq!(
            roles.to_line().and_then(read).as_deref(),
            Some("Insufficient roles (one of [\"a\",\"b\"] is required)")
        );
        for other in [
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32002,"message":"x","data":{"reason":"y"}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"x","data":{"reason":"y"}}}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Resource not found","data":{"uri":"file:///x"}}}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Request timeout"}}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"x","data":{"reason":"y"}}}"#,
        ] {
            assert_eq!(read(other.into()), None, "{other}");
        }
    }
}
