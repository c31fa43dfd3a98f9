//! One attempt to get a connection: connect, upgrade, authenticate.

use super::endpoint::Offer;
use super::settings::{CONNECT_TIMEOUT, Settings};
use crate::auth;
use crate::control::MAX_SERVER_LINE;
use crate::handshake::{self, Rejected};
use crate::transport::line::LineError;
use crate::transport::tls::Plain;
use crate::transport::websocket::WebSocket;
use crate::transport::{BoxedStream, Connection, Protocol, tcp};
use crate::utils::host::with_port;
use crate::utils::secret::Secret;
use crate::utils::span::span;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// A token that expired less than so many seconds ago may still be good by the server's clock.
const CLOCK_SKEW: f64 = 60.0;

/// An authenticated connection.
pub(super) struct Dialed {
    pub connection: Connection,
    /// What the server may be asked for.
    pub offer: Offer,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The server refuses us; another attempt would not help.
    #[error("{0}")]
    Rejected(String),
    /// No server would take this token.
    #[error("the token {0}")]
    Token(String),
    /// There is no connection.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Rejected> for DialError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::ByServer(reason) => Self::Rejected(reason),
            Rejected::Lost(LineError::Io(err)) => Self::Io(err),
            Rejected::Lost(err) => Self::Io(io::Error::other(err)),
        }
    }
}

/// Makes one attempt, within [`CONNECT_TIMEOUT`].
pub(super) async fn dial(settings: &Settings) -> Result<Dialed, DialError> {
    if let Some(token) = &settings.token {
        inspect(token).map_err(DialError::Token)?;
    }
    match tokio::time::timeout(CONNECT_TIMEOUT, open(settings)).await {
        Ok(opened) => opened,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer").into()),
    }
}

/// Looks at a token before any server does. Each attempt looks again, since time passes.
///
/// # Errors
/// What is wrong with it, with the remedy.
fn inspect(token: &Secret) -> Result<(), String> {
    if let Some(mistake) = auth::mistake(token) {
        return Err(mistake.to_owned());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    match auth::expired_for(token, now.unwrap_or_default().as_secs()) {
        Some(ago) if ago > CLOCK_SKEW => Err(format!(
            "expired {} ago; make a new one with 'generate-token', or set this machine's clock",
            span(ago)
        )),
        _ => Ok(()),
    }
}

async fn open(settings: &Settings) -> Result<Dialed, DialError> {
    let stream = tcp::connect(&settings.host, settings.port).await?;
    let (scheme, stream): (_, BoxedStream) = match &settings.tls {
        None => ("ws", Box::new(Plain::new(stream, Vec::new()))),
        Some(connector) => ("wss", connector.connect(stream).await?),
    };
    let mut connection = match settings.protocol {
        Protocol::Tcp => Connection::over_stream(stream, MAX_SERVER_LINE),
        Protocol::WebSocket => upgrade(settings, scheme, stream).await?,
    };
    let offer = match &settings.token {
        // Whether such a server knows sessions shows when it is offered one.
        None => Offer::Possible,
        Some(token) if handshake::present(&mut connection, token).await? => Offer::Promised,
        Some(_) => Offer::Nothing,
    };
    Ok(Dialed { connection, offer })
}

async fn upgrade(settings: &Settings, scheme: &str, stream: BoxedStream) -> io::Result<Connection> {
    let Settings {
        host, port, path, ..
    } = settings;
    let url = format!("{scheme}://{}{path}", with_port(host, *port));
    let upgraded = WebSocket::connect(stream, &url, MAX_SERVER_LINE).await;
    let socket = upgraded.map_err(|err| err.into_io())?;
    Ok(Connection::WebSocket(Box::new(socket)))
}
