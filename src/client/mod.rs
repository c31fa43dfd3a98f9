//! The client: an MCP server to the host that started it, a peer to the server far away.

mod host;
mod ledger;

use crate::handshake::{self, Rejected};
use crate::jsonrpc::{ErrorData, Executed};
use crate::transport::line::LineError;
use crate::transport::websocket::{PING_EVERY, UpgradeError, WebSocket};
use crate::transport::{Connection, Protocol, Reader, Writer, tcp};
use crate::utils::backoff;
use crate::utils::secret::Secret;
use bytes::Bytes;
use host::{HostInput, HostOutput};
use ledger::{CONNECTION_LOST, Ledger, Verdict};
use std::future::Future;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a connection may take to stand, authentication included. The server gives up after 10
/// seconds by default; whoever takes longer is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest line from the server, in bytes: what a server lets through from its child.
const MAX_SERVER_LINE: usize = 64 << 20;

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
    /// The token, if the server wants one.
    pub token: Option<Secret>,
    /// Whether and how to come back; `None` for not at all.
    pub reconnect: Option<Reconnect>,
}

/// How to come back.
#[derive(Clone, Copy, Debug)]
pub struct Reconnect {
    /// Tries in a row before giving up.
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

/// How a connection ended.
enum End {
    /// The host has left and has all its answers, or reads no more.
    Done,
    /// The connection is gone.
    Lost(String),
    /// The server does not want us.
    Rejected(String),
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
    let mut client = Client {
        address: format!("{}:{}", settings.host, settings.port),
        settings,
        input: HostInput::start(),
        output: tokio::sync::Mutex::new(HostOutput::new()),
        ledger: Mutex::default(),
        answered: Notify::new(),
    };
    let outcome = tokio::select! {
        outcome = client.live() => outcome,
        () = shutdown => Ok(()),
        () = host::parent_gone() => Ok(()),
    };
    if let Err(err) = &outcome {
        let (text, data) = match err {
            ClientError::Rejected(_) => (
                "Authentication failed",
                ErrorData::new("authentication-failed", Executed::No),
            ),
            _ => ("Connection lost", CONNECTION_LOST),
        };
        client.answer_owed(text, &data).await;
        client.answer_queued(text).await;
    }
    outcome
}

struct Client {
    settings: Settings,
    address: String,
    input: HostInput,
    output: tokio::sync::Mutex<HostOutput>,
    ledger: Mutex<Ledger>,
    /// The ledger has changed by an answer.
    answered: Notify,
}

impl Client {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn live(&mut self) -> Result<(), ClientError> {
        let mut lost_at: Option<Instant> = None;
        loop {
            let Some(connection) = self.connect(lost_at.is_some()).await? else {
                return Ok(());
            };
            match lost_at {
                Some(since) => {
                    tracing::info!(address = %self.address, after = ?since.elapsed(), "connected again")
                }
                None => tracing::info!(address = %self.address, "connected"),
            }
            let reason = match self.carry(connection).await {
                End::Done => return Ok(()),
                End::Rejected(reason) => return Err(ClientError::Rejected(reason)),
                End::Lost(reason) => reason,
            };
            if self.settings.reconnect.is_none() {
                return Err(ClientError::Lost {
                    address: self.address.clone(),
                    reason,
                });
            }
            tracing::warn!(address = %self.address, reason, "connection lost, reconnecting");
            self.answer_owed("Connection lost", &CONNECTION_LOST).await;
            lost_at = Some(Instant::now());
        }
    }

    /// Makes a connection, in as many tries as the settings allow; `None` when the host left
    /// meanwhile and nothing waits to be sent.
    async fn connect(&mut self, again: bool) -> Result<Option<Connection>, ClientError> {
        let policy = self.settings.reconnect;
        let mut tries = 0;
        let mut pause = match policy {
            Some(policy) if again => Some(backoff::delay(policy.delay, 0)),
            _ => None,
        };
        loop {
            if let Some(pause) = pause {
                tries += 1;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.input.abandoned() => return Ok(None),
                }
            }
            let failure = match tokio::time::timeout(CONNECT_TIMEOUT, open(&self.settings)).await {
                Ok(Ok(connection)) => return Ok(Some(connection)),
                Ok(Err(OpenError::Rejected(reason))) => return Err(ClientError::Rejected(reason)),
                Ok(Err(OpenError::Io(err))) => err,
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
                Some(policy) if tries >= policy.max_attempts => {
                    return Err(ClientError::GaveUp {
                        address: self.address.clone(),
                        attempts: tries,
                        last: failure.to_string(),
                    });
                }
                Some(policy) => pause = Some(backoff::delay(policy.delay, tries)),
            }
        }
    }

    /// Carries messages over one connection to its end.
    async fn carry(&mut self, connection: Connection) -> End {
        let (mut reader, mut writer) = connection.split(MAX_SERVER_LINE);
        let replayed = Notify::new();
        let replay = self.ledger().replay();
        let ledger = &self.ledger;
        let up = upstream(
            &mut writer,
            &mut self.input,
            ledger,
            replay,
            &replayed,
            &self.answered,
        );
        let down = downstream(&mut reader, &self.output, ledger, &replayed, &self.answered);
        let end = tokio::select! {
            end = up => end,
            end = down => end,
        };
        if matches!(end, End::Done) {
            crate::transport::close(reader, writer, &[]).await;
        }
        end
    }

    async fn answer_owed(&self, text: &str, data: &ErrorData) {
        let errors = self.ledger().lost(text, data);
        self.write_all(errors).await;
    }

    /// Answers what never was sent.
    async fn answer_queued(&mut self, text: &str) {
        while let Some(line) = self.input.try_next() {
            self.ledger().send(&line);
        }
        self.answer_owed(text, &ErrorData::new("connection-lost", Executed::No))
            .await;
    }

    async fn write_all(&self, lines: Vec<Vec<u8>>) {
        let mut output = self.output.lock().await;
        for line in lines {
            if output.write(&line).await.is_err() {
                return;
            }
        }
        // A host that has hung up does not miss them.
        let _hung_up = output.flush().await;
    }
}

enum OpenError {
    Rejected(String),
    Io(io::Error),
}

/// Makes one try: connects, upgrades, authenticates.
async fn open(settings: &Settings) -> Result<Connection, OpenError> {
    let stream = tcp::connect(&settings.host, settings.port)
        .await
        .map_err(OpenError::Io)?;
    let mut connection = match settings.protocol {
        Protocol::Tcp => Connection::over_stream(Box::new(stream), MAX_SERVER_LINE),
        Protocol::WebSocket => {
            let host = if settings.host.contains(':') {
                format!("[{}]", settings.host)
            } else {
                settings.host.clone()
            };
            let url = format!("ws://{host}:{}{}", settings.port, settings.path);
            let upgraded = WebSocket::connect(Box::new(stream), &url, MAX_SERVER_LINE).await;
            Connection::WebSocket(Box::new(upgraded.map_err(|err| match err {
                UpgradeError::Failed(err) => OpenError::Io(io::Error::other(err)),
                UpgradeError::Origin(_) => OpenError::Io(io::Error::other(err)),
            })?))
        }
    };
    if let Some(token) = &settings.token {
        handshake::present(&mut connection, token)
            .await
            .map_err(|err| match err {
                Rejected::ByServer(reason) => OpenError::Rejected(reason),
                Rejected::Lost(LineError::Io(err)) => OpenError::Io(err),
                Rejected::Lost(err) => OpenError::Io(io::Error::other(err)),
            })?;
    }
    Ok(connection)
}

/// From the host to the server, after the replay of the handshake.
async fn upstream(
    writer: &mut Writer,
    input: &mut HostInput,
    ledger: &Mutex<Ledger>,
    replay: Option<Vec<u8>>,
    replayed: &Notify,
    answered: &Notify,
) -> End {
    let lost = |err: io::Error| End::Lost(err.to_string());
    if let Some(replay) = replay {
        if let Err(err) = writer.send(&[replay.into()]).await {
            return lost(err);
        }
        if tokio::time::timeout(CONNECT_TIMEOUT, replayed.notified())
            .await
            .is_err()
        {
            return End::Lost("the server does not answer initialize".to_owned());
        }
        let end = ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replay_end();
        if let Err(err) = writer.send(end.as_slice()).await {
            return lost(err);
        }
    }
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        let lines = tokio::select! {
            lines = input.next() => lines,
            _ = pings.tick() => match writer.ping().await {
                Ok(()) => continue,
                Err(err) => return lost(err),
            },
        };
        let Some(lines) = lines else { break };
        {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            for line in &lines {
                ledger.send(&line.slice(..line.len().saturating_sub(1)));
            }
        }
        if let Err(err) = writer.send(&lines).await {
            return lost(err);
        }
    }
    // The host says no more, but still listens.
    loop {
        let changed = answered.notified();
        if ledger.lock().unwrap_or_else(PoisonError::into_inner).owed() == 0 {
            return End::Done;
        }
        changed.await;
    }
}

/// From the server to the host.
async fn downstream(
    reader: &mut Reader,
    output: &tokio::sync::Mutex<HostOutput>,
    ledger: &Mutex<Ledger>,
    replayed: &Notify,
    answered: &Notify,
) -> End {
    let mut output = output.lock().await;
    loop {
        let line = match reader.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return End::Lost("the server hung up".to_owned()),
            Err(err) => return End::Lost(err.to_string()),
        };
        if let Some(reason) = handshake::read_refusal(&line) {
            return End::Rejected(reason);
        }
        if let Some(notice) = handshake::read_notice(&line) {
            return End::Lost(notice);
        }
        let verdict = ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .receive(&line);
        match verdict {
            Verdict::Pass => {
                if output.write_line(&line).await.is_err() {
                    return End::Done;
                }
                answered.notify_waiters();
            }
            Verdict::Drop => tracing::debug!("dropped a line of the server that is no JSON"),
            Verdict::Replayed(succeeded) => {
                if !succeeded {
                    tracing::warn!("the server did not take the handshake a second time");
                }
                replayed.notify_one();
            }
        }
    }
}

/// The lines of a batch, each with its newline.
type Lines = Vec<Bytes>;
