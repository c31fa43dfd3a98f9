//! The life of one connection: open, authenticate, carry messages, close.

use super::{Settings, Source};
use crate::auth::Identity;
use crate::handshake::{self, MAX_TOKEN_LINE, Refused};
use crate::hub::{Cut, Hub, Session};
use crate::jsonrpc::{
    Code, ErrorData, Executed, MAX_PEER_DEPTH, Message, NO_DATA, Refusal, error_line,
};
use crate::permissions::{Denial, Rights};
use crate::router::{ASKED_OF_PEERS, Profile};
use crate::transport::line::LineError;
use crate::transport::websocket::{PING_EVERY, Upgrade, UpgradeError, WebSocket};
use crate::transport::{self, Connection, Protocol, Reader, Writer};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tracing::Instrument;

/// What a stranger may send over WebSocket, upgrade request and framing included, in bytes.
const UPGRADE_ALLOWANCE: usize = MAX_TOKEN_LINE + 16 * 1024;

/// A peer that ends its half of the connection still gets answers for so long.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// The most of a method name that is logged, in bytes.
const MAX_LOGGED_METHOD: usize = 128;

/// The longest time that tokio's timers take without trouble.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What every connection needs to know.
#[derive(Debug)]
pub(super) struct Context {
    pub settings: Settings,
    pub source: Source,
    /// Turns true when the server stops.
    pub stopped: watch::Receiver<bool>,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    number: u64,
    context: Arc<Context>,
    _place: OwnedSemaphorePermit,
) {
    let span = tracing::info_span!("peer", id = number, %address, user = tracing::field::Empty, roles = tracing::field::Empty);
    async {
        tracing::info!("connected");
        let settings = &context.settings;
        let Some((connection, identity)) = enter(stream, settings).await else {
            return;
        };
        let span = tracing::Span::current();
        span.record("user", identity.name());
        span.record("roles", identity.roles.join(","));
        if settings.guard.is_some() {
            tracing::info!("authenticated");
        }
        let rights = match &settings.policy {
            Some(policy) => policy.rights(&identity.roles),
            None => Rights::everything(),
        };
        let blocked = ASKED_OF_PEERS
            .into_iter()
            .filter(|method| rights.blocks(method))
            .collect();
        let profile = Profile {
            user: identity.user.clone(),
            blocked,
        };
        let end = match &context.source {
            Source::Shared(hub) => {
                let session = hub.attach(profile);
                carry(connection, &session, &rights, &identity, settings).await
            }
            Source::Isolated {
                command,
                limits,
                places,
            } => {
                let Ok(_place) = places.try_acquire() else {
                    tracing::warn!("refused: too many MCP servers");
                    let data = ErrorData::new("too-many-children", Executed::No);
                    let line = error_line(
                        None,
                        Code::InternalError,
                        "Too many MCP servers",
                        Some(&data),
                    );
                    say_and_close(connection, line).await;
                    return;
                };
                let (hub, driver) = Hub::isolated(command.clone(), *limits);
                let session = hub.attach(profile);
                let left = tokio::sync::Notify::new();
                let carrying = async {
                    let end = carry(connection, &session, &rights, &identity, settings).await;
                    left.notify_one();
                    end
                };
                let leaving = async {
                    let mut stopped = context.stopped.clone();
                    tokio::select! {
                        () = left.notified() => {}
                        _ = stopped.wait_for(|stopped| *stopped) => {}
                    }
                };
                let (end, outcome) = tokio::join!(carrying, driver.run(leaving));
                if let Err(err) = outcome {
                    tracing::error!(%err, "the MCP server of this peer is lost");
                }
                end
            }
        };
        tracing::info!(reason = end, "disconnected");
    }
    .instrument(span)
    .await;
}

/// Opens the transport and authenticates, both within the time there is for it.
async fn enter(stream: TcpStream, settings: &Settings) -> Option<(Connection, Identity)> {
    let deadline = Instant::now() + settings.auth_timeout;
    let opened = tokio::time::timeout_at(deadline, open(stream, settings)).await;
    let (mut connection, upgrade) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(err)) => {
            tracing::warn!(%err, "refused: no WebSocket");
            return None;
        }
        Err(_) => {
            tracing::warn!("refused: no WebSocket upgrade in time");
            return None;
        }
    };
    let Some(guard) = &settings.guard else {
        return Some((connection, Identity::default()));
    };
    let admitted = handshake::admit(&mut connection, guard, upgrade.bearer.as_deref(), now());
    let refusal = match tokio::time::timeout_at(deadline, admitted).await {
        Ok(Ok(identity)) => return Some((connection, identity)),
        Ok(Err(refused)) => {
            log_refusal(&refused);
            refused.to_line()
        }
        Err(_) => {
            tracing::warn!("refused: no token in time");
            Some(handshake::authentication_timeout(settings.auth_timeout))
        }
    };
    if let Some(line) = refusal {
        say_and_close(connection, line).await;
    }
    None
}

fn log_refusal(refused: &Refused) {
    match refused {
        Refused::HungUp | Refused::Gone(_) => tracing::info!(reason = %refused, "disconnected"),
        _ => tracing::warn!(reason = %refused, "refused"),
    }
}

async fn open(
    stream: TcpStream,
    settings: &Settings,
) -> Result<(Connection, Upgrade), UpgradeError> {
    let limit = if settings.guard.is_some() {
        MAX_TOKEN_LINE
    } else {
        settings.max_message_size
    };
    match settings.protocol {
        Protocol::Tcp => Ok((
            Connection::over_stream(Box::new(stream), limit),
            Upgrade::default(),
        )),
        Protocol::WebSocket => {
            let allowance = settings.guard.as_ref().map(|_| UPGRADE_ALLOWANCE);
            let origins = &settings.allowed_origins;
            let (socket, upgrade) =
                WebSocket::accept(stream, allowance, settings.max_message_size, origins).await?;
            Ok((Connection::WebSocket(Box::new(socket)), upgrade))
        }
    }
}

/// Tells a connection beyond the bound that it is one.
pub(super) async fn turn_away(
    stream: TcpStream,
    address: SocketAddr,
    context: Arc<Context>,
    _place: OwnedSemaphorePermit,
) {
    let settings = &context.settings;
    tracing::warn!(peer = %address, limit = settings.max_connections, "refused: too many connections");
    let data = ErrorData::new("too-many-connections", Executed::No);
    let line = error_line(
        None,
        Code::InternalError,
        "Too many connections",
        Some(&data),
    );
    if let Ok(Ok((connection, _))) =
        tokio::time::timeout(settings.auth_timeout, open(stream, settings)).await
    {
        say_and_close(connection, line).await;
    }
}

async fn say_and_close(mut connection: Connection, line: Vec<u8>) {
    let said = tokio::time::timeout(HALF_CLOSED, connection.send(line)).await;
    if let Ok(Ok(())) = said {
        connection.close().await;
    }
}

/// Carries messages both ways until one side ends; gives the reason for the log.
async fn carry(
    connection: Connection,
    session: &Session,
    rights: &Rights,
    identity: &Identity,
    settings: &Settings,
) -> &'static str {
    let (mut reader, mut writer) = connection.split(settings.max_message_size);
    let activity = Activity::default();
    let mut last_words: Vec<Bytes> = Vec::new();
    let end = {
        let upstream = upstream(&mut reader, session, rights, &activity);
        let mut downstream = std::pin::pin!(downstream(&mut writer, session, &activity));
        tokio::select! {
            end = upstream => match end {
                UpstreamEnd::HalfClosed => {
                    let answered = async {
                        while session.owed() > 0 || activity.is_sending() {
                            activity.wait().await;
                        }
                    };
                    tokio::select! {
                        () = answered => {}
                        _ = &mut downstream => {}
                        () = tokio::time::sleep(HALF_CLOSED) => {}
                    }
                    "the peer has left"
                }
                UpstreamEnd::TooLong(limit) => {
                    let text = format!("Invalid Request: a message is longer than {limit} bytes");
                    last_words.push(error_line(None, Code::InvalidRequest, &text, NO_DATA).into());
                    "a message is too long"
                }
                UpstreamEnd::Lost(err) => {
                    tracing::debug!(%err, "connection lost");
                    "connection lost"
                }
            },
            end = &mut downstream => end,
            () = expiry(identity) => {
                last_words.push(handshake::authentication_failed("Token expired").into());
                "token expired"
            }
            () = activity.idle(settings.idle_timeout) => "idle for too long",
        }
    };
    // Half a line cannot be followed by another.
    if activity.is_sending() {
        last_words.clear();
    }
    transport::close(reader, writer, &last_words).await;
    end
}

enum UpstreamEnd {
    /// The peer says no more; it may still listen.
    HalfClosed,
    TooLong(usize),
    Lost(LineError),
}

/// From the peer to the MCP server, each line through the gate and the policy.
async fn upstream(
    reader: &mut Reader,
    session: &Session,
    rights: &Rights,
    activity: &Activity,
) -> UpstreamEnd {
    loop {
        let line = match reader.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return UpstreamEnd::HalfClosed,
            Err(LineError::TooLong { limit }) => return UpstreamEnd::TooLong(limit),
            Err(err) => return UpstreamEnd::Lost(err),
        };
        activity.mark();
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match Message::read(line, MAX_PEER_DEPTH) {
            Ok(message) => match rights.decide(message) {
                Ok(permit) => session.send(permit).await,
                Err(denial) => deny(&denial, session),
            },
            Err(refusal) => refuse(&refusal, session),
        }
    }
}

fn deny(denial: &Denial, session: &Session) {
    let method = denial
        .method
        .get(..MAX_LOGGED_METHOD)
        .unwrap_or(&denial.method);
    let rule = denial.rule.as_ref().map(ToString::to_string);
    let id = denial.id.as_ref().map(ToString::to_string);
    tracing::info!(
        method,
        id,
        rule = rule.as_deref().unwrap_or("no rule allows it"),
        "blocked"
    );
    if let Some(line) = denial.to_line() {
        session.reply(line);
    }
}

fn refuse(refusal: &Refusal, session: &Session) {
    tracing::info!(reason = refusal.reason, "refused a message");
    session.reply(refusal.to_line());
}

/// From the MCP server to the peer.
async fn downstream(writer: &mut Writer, session: &Session, activity: &Activity) -> &'static str {
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        let sent = tokio::select! {
            lines = session.receive() => match lines {
                Ok(lines) => {
                    activity.sending.store(true, Ordering::Relaxed);
                    writer.send(&lines).await
                }
                Err(Cut::Slow) => return "it reads too slowly, its queue is full",
                Err(Cut::Stopped) => return "the server stops",
            },
            _ = pings.tick() => match writer.ping().await {
                Ok(()) => continue,
                Err(err) => Err(err),
            },
        };
        if let Err(err) = sent {
            tracing::debug!(%err, "connection lost");
            return "connection lost";
        }
        activity.sending.store(false, Ordering::Relaxed);
        activity.mark();
    }
}

/// Completes when the token expires; waits for ever when it does not.
async fn expiry(identity: &Identity) {
    let Some(expires) = identity.expires else {
        return std::future::pending().await;
    };
    loop {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let left = Duration::from_secs(expires).saturating_sub(elapsed);
        if left.is_zero() {
            return;
        }
        // In steps, so that a clock that jumps (a suspended machine) is noticed.
        tokio::time::sleep(left.min(Duration::from_secs(60))).await;
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// When something last happened on a connection.
struct Activity {
    last: Mutex<Instant>,
    /// Lines have been taken from the session and not yet been sent altogether.
    sending: AtomicBool,
    changed: tokio::sync::Notify,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            sending: AtomicBool::new(false),
            changed: tokio::sync::Notify::new(),
        }
    }
}

impl Activity {
    fn mark(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.changed.notify_waiters();
    }

    fn is_sending(&self) -> bool {
        self.sending.load(Ordering::Relaxed)
    }

    /// Waits for the next mark.
    async fn wait(&self) {
        self.changed.notified().await;
    }

    /// Completes when nothing has happened for `limit`.
    async fn idle(&self, limit: Option<Duration>) {
        let limit = limit.unwrap_or(FOREVER);
        loop {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= limit {
                return;
            }
            tokio::time::sleep_until(last + limit).await;
        }
    }
}
