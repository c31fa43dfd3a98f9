//! The client: an MCP server to the host that started it, a peer to the server far away.

mod host;
mod ledger;
mod link;
mod state;

use crate::handshake::{self, Rejected};
use crate::jsonrpc::{ErrorData, Executed};
use crate::transport::line::LineError;
use crate::transport::tls::{self, Connector, Plain};
use crate::transport::websocket::WebSocket;
use crate::transport::{BoxedStream, Connection, Protocol, tcp};
use crate::utils::apart::apart;
use crate::utils::backoff;
use crate::utils::secret::Secret;
use bytes::Bytes;
use host::HostInput;
use link::{End, Link};
use state::News;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection may take to stand, authentication included. The server gives up after 10
/// seconds by default; whoever takes longer is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest line from the server, in bytes: what a server lets through from its child, and a little
/// for the ids that it puts back.
const MAX_SERVER_LINE: usize = (64 << 20) + (64 << 10);

/// How long a connection may still take to stand when the host has left and said nothing.
const ABANDONED: Duration = Duration::from_secs(1);

/// A host that has left and waits for nothing is served for so long: until the server has what the
/// host said last, and has said what it thinks of it.
const COURTESY: Duration = Duration::from_secs(1);

/// How long a goodbye may take when we are told to leave.
const GOODBYE: Duration = Duration::from_millis(500);

/// How long the host may take to read what it is owed when we leave.
const LAST_WRITES: Duration = Duration::from_secs(1);

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
    pub token: Option<Secret>,
    /// Whether and how to come back; `None` for not at all.
    pub reconnect: Option<Reconnect>,
    /// The pace of signs of life.
    pub keepalive_interval: Duration,
    /// A server that is not heard of for so long is out of reach.
    pub keepalive_timeout: Duration,
}

/// How to come back.
#[derive(Clone, Copy, Debug)]
pub struct Reconnect {
    /// Tries in a row before giving up; 0 for no end.
    pub max_attempts: u32,
    /// The pause before the first try; it doubles from try to try.
    pub delay: Duration,
}

/// Why the client gave up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection to be had.
    #[error(
        "could not connect to {address}: {source}; is the server running there, and is this the right port and transport?"
    )]
    Connect {
        /// Host and port.
        address: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The server does not let us in.
    #[error("{0}; check the token (--jwt-token, MCP_REMOTE_JWT_TOKEN), its expiry and its roles")]
    Rejected(String),
    /// The server wants a token, and we have none.
    #[error(
        "Authentication failed: the server wants a token; set MCP_REMOTE_JWT_TOKEN, or use --jwt-token-file or --jwt-token"
    )]
    NoToken,
    /// TLS does not come to stand, or only one end speaks it; trying again will not help.
    #[error("no connection to {address}: {reason}")]
    Tls {
        /// Host and port.
        address: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// The connection was lost and may not be made again.
    #[error("connection to {address} lost: {reason}; use --auto-reconnect to come back by itself")]
    Lost {
        /// Host and port.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// Every try to come back failed.
    #[error("gave up on {address} after {attempts} tries: {last}")]
    GaveUp {
        /// Host and port.
        address: String,
        /// How many.
        attempts: u32,
        /// Why the last one failed.
        last: String,
    },
}

/// Carries our stdin to the server and its answers to our stdout, until the host leaves or
/// `shutdown` completes.
///
/// # Errors
/// Why it gave up. What the host was owed has been answered with errors.
pub async fn run(
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    let link = Link::new(settings.keepalive_interval, settings.keepalive_timeout);
    let mut client = Client {
        address: format!("{}:{}", settings.host, settings.port),
        settings,
        input: HostInput::start(),
        link: &link,
    };
    let told_to_leave = apart(async {
        let forsaken = async {
            link.served().await;
            tokio::time::sleep(COURTESY).await;
        };
        tokio::select! {
            () = shutdown => {}
            () = host::parent_gone() => {}
            () = forsaken => {}
        }
    });
    let outcome = {
        let mut living = std::pin::pin!(client.live());
        tokio::select! {
            outcome = &mut living => outcome,
            () = told_to_leave => {
                link.leave();
                // A server that does not take our goodbye does without.
                tokio::time::timeout(GOODBYE, living).await.unwrap_or(Ok(()))
            }
        }
    };
    if let Err(err) = &outcome {
        let (text, data): (_, fn(Executed) -> ErrorData) = match err {
            ClientError::Rejected(_) | ClientError::NoToken => {
                ("Authentication failed", |executed| {
                    ErrorData::new("authentication-failed", executed)
                })
            }
            _ => ("Connection lost", |executed| {
                ErrorData::new("connection-lost", executed)
            }),
        };
        link.give_up(text, data, &mut client.input).await;
    }
    // A host that does not read does not keep us.
    let _unread = tokio::time::timeout(LAST_WRITES, link.finish()).await;
    outcome
}

struct Client<'a> {
    settings: Settings,
    address: String,
    input: HostInput,
    link: &'a Link,
}

impl Client<'_> {
    async fn live(&mut self) -> Result<(), ClientError> {
        let mut lost_at: Option<Instant> = None;
        let mut tries = 0;
        loop {
            let Some((connection, resume)) = self.connect(lost_at.is_some(), &mut tries).await?
            else {
                return Ok(());
            };
            let began = Instant::now();
            let met = AtomicBool::new(false);
            let promised = resume && self.settings.token.is_some();
            let resume = resume && self.settings.reconnect.is_some();
            let address = &self.address;
            let end = self.link.carry(connection, resume, promised, &mut self.input, |news| match (lost_at, met.swap(true, Ordering::Relaxed), news) {
                (_, true, _) => {}
                (None, ..) => tracing::info!(%address, "connected"),
                (Some(since), _, News::Resumed { resent }) => {
                    tracing::info!(%address, after = ?since.elapsed(), resent, "connected again, nothing is lost");
                }
                (Some(since), _, News::Anew { failed }) => {
                    tracing::warn!(%address, after = ?since.elapsed(), failed, "connected again, to a server that does not know us any more");
                }
            });
            let reason = match end.await {
                End::Done => return Ok(()),
                End::Rejected(reason) if self.settings.token.is_some() => {
                    return Err(ClientError::Rejected(reason));
                }
                End::Rejected(_) => return Err(ClientError::NoToken),
                End::Tls(reason) => return Err(self.no_tls(reason)),
                End::Lost(reason) => reason,
                End::Dismissed => {
                    tracing::info!(%address, "the server has ended the idle session");
                    tokio::select! {
                        biased;
                        () = std::future::ready(()), if self.link.is_owing() => {}
                        () = self.input.stirs() => {}
                        () = self.link.left() => return Ok(()),
                        () = self.link.unread() => return Ok(()),
                    }
                    if self.input.has_left() && self.link.end() {
                        return Ok(());
                    }
                    (tries, lost_at) = (0, None);
                    continue;
                }
            };
            if self.settings.reconnect.is_none() {
                return Err(ClientError::Lost {
                    address: self.address.clone(),
                    reason,
                });
            }
            self.link.lose();
            // A connection on which the server has said nothing is one more try, unless it stood
            // for a while: others say nothing before they are asked.
            if met.into_inner() || began.elapsed() >= CONNECT_TIMEOUT {
                tries = 0;
                lost_at = None;
            }
            if lost_at.is_none() {
                tracing::warn!(address = %self.address, reason, "connection lost, reconnecting");
                lost_at = Some(Instant::now());
            }
        }
    }

    /// Makes a connection, in as many tries as the settings allow; `None` when the host left
    /// meanwhile and nothing waits to be sent. Also gives whether the server takes
    /// `mcp-remote/resume`.
    async fn connect(
        &mut self,
        again: bool,
        tries: &mut u32,
    ) -> Result<Option<(Connection, bool)>, ClientError> {
        let policy = self.settings.reconnect;
        let mut pause = match policy {
            Some(policy) if again => Some(backoff::delay(policy.delay, *tries)),
            _ => None,
        };
        let mut last = None;
        loop {
            if let Some(policy) = policy
                && policy.max_attempts > 0
                && *tries >= policy.max_attempts
            {
                return Err(ClientError::GaveUp {
                    address: self.address.clone(),
                    attempts: *tries,
                    last: last.unwrap_or_else(|| "the server says nothing".to_owned()),
                });
            }
            if let Some(pause) = pause {
                *tries += 1;
                tokio::select! {
                    () = tokio::time::sleep(backoff::jitter(pause)) => {}
                    () = abandoned(&mut self.input, self.link) => return Ok(None),
                    () = self.link.unread() => return Ok(None),
                    () = self.link.left() => return Ok(None),
                }
            }
            let abandoned = async {
                abandoned(&mut self.input, self.link).await;
                tokio::time::sleep(ABANDONED).await;
            };
            let opened = tokio::select! {
                opened = tokio::time::timeout(CONNECT_TIMEOUT, open(&self.settings)) => opened,
                () = abandoned => return Ok(None),
                () = self.link.left() => return Ok(None),
            };
            let failure = match opened {
                Ok(Ok(opened)) => return Ok(Some(opened)),
                Ok(Err(OpenError::Rejected(reason))) => return Err(ClientError::Rejected(reason)),
                Ok(Err(OpenError::Io(err))) => match tls::explain(&err) {
                    Some(reason) => return Err(self.no_tls(reason)),
                    None => err,
                },
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer"),
            };
            tracing::debug!(address = %self.address, err = %failure, tries, "no connection");
            match policy {
                None => {
                    let address = self.address.clone();
                    return Err(ClientError::Connect {
                        address,
                        source: failure,
                    });
                }
                Some(policy) => {
                    last = Some(failure.to_string());
                    pause = Some(backoff::delay(policy.delay, *tries));
                }
            }
        }
    }

    fn no_tls(&self, reason: String) -> ClientError {
        ClientError::Tls {
            address: self.address.clone(),
            reason,
        }
    }
}

/// Completes when the host has left and there is nothing more to do for it. Cancel safe.
async fn abandoned(input: &mut HostInput, link: &Link) {
    input.abandoned().await;
    if !link.end() {
        std::future::pending::<()>().await;
    }
}

enum OpenError {
    Rejected(String),
    Io(io::Error),
}

/// Makes one try: connects, upgrades, authenticates. A server that wants no token may take
/// `mcp-remote/resume`: that shows when it is asked.
async fn open(settings: &Settings) -> Result<(Connection, bool), OpenError> {
    let stream = tcp::connect(&settings.host, settings.port)
        .await
        .map_err(OpenError::Io)?;
    let (scheme, stream) = match &settings.tls {
        None => (
            "ws",
            Box::new(Plain::new(stream, Vec::new())) as BoxedStream,
        ),
        Some(connector) => {
            let stream = connector.connect(stream).await.map_err(OpenError::Io)?;
            ("wss", stream)
        }
    };
    let mut connection = match settings.protocol {
        Protocol::Tcp => Connection::over_stream(stream, MAX_SERVER_LINE),
        Protocol::WebSocket => {
            let host = if settings.host.contains(':') {
                format!("[{}]", settings.host)
            } else {
                settings.host.clone()
            };
            let url = format!("{scheme}://{host}:{}{}", settings.port, settings.path);
            let upgraded = WebSocket::connect(stream, &url, MAX_SERVER_LINE).await;
            let socket = upgraded.map_err(|err| OpenError::Io(err.into_io()))?;
            Connection::WebSocket(Box::new(socket))
        }
    };
    let resume = match &settings.token {
        Some(token) => {
            handshake::present(&mut connection, token)
                .await
                .map_err(|err| match err {
                    Rejected::ByServer(reason) => OpenError::Rejected(reason),
                    Rejected::Lost(LineError::Io(err)) => OpenError::Io(err),
                    Rejected::Lost(err) => OpenError::Io(io::Error::other(err)),
                })?
        }
        None => true,
    };
    Ok((connection, resume))
}

/// The lines of a batch, each with its newline.
type Lines = Vec<Bytes>;
