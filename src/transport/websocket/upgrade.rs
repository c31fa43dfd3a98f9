//! The upgrade from HTTP: which origins may request it, and its other headers.

use super::{Frames, Lines, Metered, WebSocket, config, to_io};
use crate::http::{Forwarded, Head, has_token};
use crate::transport::foreign::WrongTransport;
use crate::transport::{BoxedStream, foreign, tls};
use crate::utils::secret::Secret;
use bytes::Bytes;
use std::io;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{
    HeaderMap, HeaderValue, Response as HttpResponse, StatusCode, header,
};
use tokio_tungstenite::tungstenite::protocol::Role;

/// The most of a refused origin that is quoted and logged, in characters.
const MAX_LOGGED_ORIGIN: usize = 256;

/// The subprotocol that MCP clients offer.
const SUBPROTOCOL: &str = "mcp";

/// The other headers of the upgrade request.
#[derive(Debug, Default)]
pub struct Upgrade {
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<Secret>,
    /// The client behind a proxy.
    pub forwarded: Forwarded,
}

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// It comes from a web page whose origin is not allowed.
    #[error("origin {0:?} is not allowed")]
    Origin(String),
    /// A token in the URL, which ends up in logs and histories.
    #[error("a token in the URL; it belongs in 'Authorization: Bearer' or in the first frame")]
    TokenInUrl,
    /// The stream failed before there was a request.
    #[error(transparent)]
    Stream(io::Error),
    /// Not a WebSocket upgrade, or it failed.
    #[error(transparent)]
    Failed(Box<tungstenite::Error>),
}

impl UpgradeError {
    /// The same for a client, to whom every failure is one of the connection.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Failed(err) => match *err {
                tungstenite::Error::Http(answer) if wants_tls(&answer) => tls::Mismatch.into(),
                tungstenite::Error::Http(answer) => match wrong_transport(&answer) {
                    Some(wrong) => wrong.into(),
                    None => {
                        let status = answer.status();
                        io::Error::other(format!(
                            "the WebSocket upgrade is answered with HTTP {status}"
                        ))
                    }
                },
                tungstenite::Error::Protocol(ProtocolError::HttparseError(_)) => {
                    WrongTransport::NoHttp.into()
                }
                err => to_io(err),
            },
            Self::Stream(err) => err,
            Self::Origin(_) | Self::TokenInUrl => io::Error::other(self),
        }
    }
}

fn wrong_transport(answer: &HttpResponse<Option<Vec<u8>>>) -> Option<WrongTransport> {
    let body = answer.body().as_deref().unwrap_or_default();
    // Of a 426 the client is told the WebSocket versions that the server wants.
    WrongTransport::of_answer(answer.status().as_u16(), body)
        .filter(|wrong| *wrong != WrongTransport::WebSocket)
}

fn wants_tls(answer: &HttpResponse<Option<Vec<u8>>>) -> bool {
    let body = answer.body().as_deref().unwrap_or_default();
    foreign::wants_tls(answer.status().as_u16(), body)
}

impl WebSocket {
    /// Answers the upgrade of a client, whose `head` has been read from the stream. Until
    /// [`WebSocket::split`] the client may send `allowance` bytes at most, the head included, later
    /// messages of at most `limit`.
    ///
    /// # Errors
    /// A request that is no upgrade, or comes from a web page that is not allowed; it has been
    /// answered.
    pub async fn accept(
        stream: BoxedStream,
        head: Bytes,
        allowance: Option<usize>,
        limit: usize,
        allowed_origins: &[String],
    ) -> Result<(Self, Upgrade), UpgradeError> {
        let mut upgrade = Upgrade::default();
        let mut refused = None;
        let stream = Metered::new(stream, head, allowance);
        // The shape of the callback's error is the library's.
        #[allow(clippy::result_large_err)]
        let on_request = |request: &Request, response: Response| {
            let refuse = |status, text: &str| {
                let mut response = ErrorResponse::new(Some(text.to_owned()));
                *response.status_mut() = status;
                Err(response)
            };
            if let Some(origin) = refused_origin(request.headers(), allowed_origins) {
                refused = Some(UpgradeError::Origin(origin));
                return refuse(StatusCode::FORBIDDEN, "this origin is not allowed\n");
            }
            if request.uri().query().is_some_and(has_token) {
                refused = Some(UpgradeError::TokenInUrl);
                let text = "a token does not belong in a URL; send 'Authorization: Bearer', or the token as the first frame\n";
                return refuse(StatusCode::BAD_REQUEST, text);
            }
            let headers = request.headers();
            upgrade.bearer = Head::read(headers).bearer().map(Secret::from);
            upgrade.forwarded = Forwarded::read(headers);
            let mut response = response;
            if let Some(subprotocol) = subprotocol(headers) {
                let name = header::SEC_WEBSOCKET_PROTOCOL;
                response.headers_mut().insert(name, subprotocol);
            }
            Ok(response)
        };
        let config = config(limit);
        match tokio_tungstenite::accept_hdr_async_with_config(stream, on_request, Some(config))
            .await
        {
            Ok(mut socket) => {
                // Nothing has been read beyond the request: the library takes that for an error.
                socket.get_mut().frames = Some(Frames::default());
                let socket = Self {
                    socket,
                    lines: Lines::default(),
                    masks: false,
                };
                Ok((socket, upgrade))
            }
            Err(err) => Err(refused.unwrap_or_else(|| UpgradeError::Failed(Box::new(err)))),
        }
    }

    /// The same for a connection whose upgrade has been answered already, see [`Accepted::of`].
    pub async fn accepted(stream: BoxedStream, allowance: Option<usize>, limit: usize) -> Self {
        let stream = Metered::new(stream, Bytes::new(), allowance);
        let config = Some(config(limit));
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, config).await;
        socket.get_mut().frames = Some(Frames::default());
        Self {
            socket,
            lines: Lines::default(),
            masks: false,
        }
    }

    /// Upgrades a connection to a server; `url` names the host and path.
    ///
    /// # Errors
    /// What the server or the stream says.
    pub async fn connect(
        stream: BoxedStream,
        url: &str,
        limit: usize,
    ) -> Result<Self, UpgradeError> {
        // No subprotocol is offered: the library would refuse servers that do not take it up.
        let stream = Metered::new(stream, Bytes::new(), None);
        match tokio_tungstenite::client_async_with_config(url, stream, Some(config(limit))).await {
            Ok((socket, _)) => Ok(Self {
                socket,
                lines: Lines::default(),
                masks: true,
            }),
            Err(err) => Err(UpgradeError::Failed(Box::new(err))),
        }
    }
}

/// The answer to an upgrade request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// For `Sec-WebSocket-Accept`.
    pub key: HeaderValue,
    /// For `Sec-WebSocket-Protocol`, where the client has offered it.
    pub subprotocol: Option<HeaderValue>,
}

impl Accepted {
    /// The answer to a GET request with these headers; `None` where it is not a request to upgrade to
    /// WebSocket (RFC 6455 section 4.2.1).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
        let is_upgrade = lists(headers, &header::UPGRADE, "websocket")
            && lists(headers, &header::CONNECTION, "upgrade")
            && lists(headers, &header::SEC_WEBSOCKET_VERSION, "13");
        let key = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?;
        let subprotocol = subprotocol(headers);
        is_upgrade.then_some(Self { key, subprotocol })
    }
}

/// The subprotocol, if the client offers it.
fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_offered = lists(headers, &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    is_offered.then(|| HeaderValue::from_static(SUBPROTOCOL))
}

/// True if this word is in a header that lists words.
fn lists(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut words = values.flat_map(|value| value.split(','));
    words.any(|known| known.trim().eq_ignore_ascii_case(word))
}

/// The origin of a web page that is not allowed. Programs send no `Origin`.
fn refused_origin(headers: &HeaderMap, allowed: &[String]) -> Option<String> {
    let origin = String::from_utf8_lossy(headers.get(header::ORIGIN)?.as_bytes()).into_owned();
    let refused = !allowed.contains(&origin);
    refused.then(|| origin.chars().take(MAX_LOGGED_ORIGIN).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_token() {
        let upgrade = Upgrade {
            bearer: Some("hunter2".into()),
            ..Upgrade::default()
        };
        assert!(!format!("{upgrade:?}").contains("hunter"));
    }

    #[test]
    fn only_an_upgrade_to_websocket_is_one() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "x, mcp"),
        ];
        let accepted = Accepted::of(&headers(&good)).unwrap();
        // The example of RFC 6455.
        assert_eq!(accepted.key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted.subprotocol, Some(HeaderValue::from_static("mcp")));
        let without = |at: usize| [&good[..at], &good[at + 1..]].concat();
        for (at, missing) in good[..4].iter().enumerate() {
            assert_eq!(Accepted::of(&headers(&without(at))), None, "{missing:?}");
        }
        assert_eq!(
            Accepted::of(&headers(&without(4))).unwrap().subprotocol,
            None
        );
    }
}
