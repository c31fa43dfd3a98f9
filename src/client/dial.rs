//! One attempt to get a connection: connect, upgrade, authenticate.

use super::endpoint::Offer;
use super::settings::{CONNECT_TIMEOUT, Place, Port, Settings};
use crate::control::MAX_SERVER_LINE;
use crate::handshake::{self, Rejected};
use crate::system::local;
use crate::transport::line::LineError;
use crate::transport::tls::Plain;
use crate::transport::websocket::WebSocket;
use crate::transport::{BoxedStream, Connection, tcp};
use crate::utils::host::with_port;
use crate::utils::secret::Secret;
use std::io;

/// An authenticated connection.
pub(super) struct Dialed {
    pub connection: Connection,
    /// What to request from the server.
    pub offer: Offer,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The server refuses us; another attempt would not help.
    #[error("{0}")]
    Rejected(String),
    /// The server does not take tokens; another attempt would not help.
    #[error("{0}")]
    NotAsked(String),
    /// There is no token, or none that a server would accept.
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
            Rejected::NotAsked(reason) => Self::NotAsked(reason),
            Rejected::Lost(LineError::Io(err)) => Self::Io(err),
            Rejected::Lost(err) => Self::Io(io::Error::other(err)),
        }
    }
}

/// Makes one attempt, within [`CONNECT_TIMEOUT`].
pub(super) async fn dial(settings: &Settings, token: Option<&Secret>) -> Result<Dialed, DialError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, open(settings, token)).await {
        Ok(opened) => opened,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer").into()),
    }
}

async fn open(settings: &Settings, token: Option<&Secret>) -> Result<Dialed, DialError> {
    let mut connection = match &settings.place {
        Place::Tcp(port) => Connection::over_stream(reach(port).await?, MAX_SERVER_LINE),
        Place::WebSocket(port, path) => upgrade(port, path).await?,
        Place::Unix(path) => {
            let stream = Plain::new(local::connect(path).await?, Vec::new());
            Connection::over_stream(Box::new(stream), MAX_SERVER_LINE)
        }
    };
    let offer = match token {
        // Whether such a server supports sessions shows once it is offered one.
        None => Offer::Possible,
        Some(token) if handshake::present(&mut connection, token).await? => Offer::Promised,
        Some(_) => Offer::Nothing { admitted: true },
    };
    Ok(Dialed { connection, offer })
}

async fn reach(port: &Port) -> io::Result<BoxedStream> {
    let stream = tcp::connect(&port.host, port.number).await?;
    match &port.tls {
        None => Ok(Box::new(Plain::new(stream, Vec::new()))),
        Some(connector) => connector.connect(stream).await,
    }
}

async fn upgrade(port: &Port, path: &str) -> io::Result<Connection> {
    let stream = reach(port).await?;
    let scheme = if port.tls.is_some() { "wss" } else { "ws" };
    let url = format!("{scheme}://{}{path}", with_port(&port.host, port.number));
    let upgraded = WebSocket::connect(stream, &url, MAX_SERVER_LINE).await;
    let socket = upgraded.map_err(|err| err.into_io())?;
    Ok(Connection::WebSocket(Box::new(socket)))
}
