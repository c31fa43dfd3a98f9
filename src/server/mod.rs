//! The server: accepts connections, each served by a task of its own.

mod peer;

use crate::handshake::Guard;
use crate::hub::{Driver, Hub, HubError};
use crate::permissions::Policy;
use crate::transport::Protocol;
use crate::transport::tcp::Listeners;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

/// How long to wait when the system cannot give us a connection (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections beyond the bound are told so at a time; more are just closed.
const TURNED_AWAY_AT_ONCE: usize = 64;

/// How long peers may take to receive what waits for them when the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// What holds for every peer.
#[derive(Debug)]
pub struct Settings {
    /// The transport.
    pub protocol: Protocol,
    /// What peers must show; `None` lets everybody in.
    pub guard: Option<Guard>,
    /// What roles may do; `None` allows everything.
    pub policy: Option<Policy>,
    /// Longest line from a peer, in bytes.
    pub max_message_size: usize,
    /// Most connections at a time.
    pub max_connections: usize,
    /// From accept to the end of authentication.
    pub auth_timeout: Duration,
    /// A connection on which nothing happens for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// Origins of web pages that may connect (WebSocket).
    pub allowed_origins: Vec<String>,
}

/// Serves until `shutdown` completes or the MCP server is lost.
///
/// # Errors
/// Why the MCP server is lost.
pub async fn run(
    listeners: Listeners,
    settings: Settings,
    hub: Hub,
    driver: Driver,
    shutdown: impl Future<Output = ()>,
) -> Result<(), HubError> {
    let stop = Notify::new();
    let mut peers = JoinSet::new();
    let outcome = {
        let mut driver = std::pin::pin!(driver.run(stop.notified()));
        let accepted = tokio::select! {
            outcome = &mut driver => Some(outcome),
            () = shutdown => None,
            never = accept(&listeners, Arc::new(settings), &hub, &mut peers) => match never {},
        };
        drop(listeners);
        match accepted {
            Some(outcome) => outcome,
            None => {
                stop.notify_one();
                driver.await
            }
        }
    };
    let drain = async { while peers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drain).await.is_err() {
        tracing::warn!("some peers did not take their last messages");
    }
    outcome
}

async fn accept(
    listeners: &Listeners,
    settings: Arc<Settings>,
    hub: &Hub,
    peers: &mut JoinSet<()>,
) -> std::convert::Infallible {
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE));
    let mut number: u64 = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listeners.accept() => accepted,
            Some(_) = peers.join_next() => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                tracing::error!(%err, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        number += 1;
        crate::transport::tcp::tune(&stream);
        let settings = Arc::clone(&settings);
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            peers.spawn(peer::serve(
                stream,
                address,
                number,
                settings,
                hub.clone(),
                place,
            ));
        } else if let Ok(place) = Arc::clone(&turned_away).try_acquire_owned() {
            peers.spawn(peer::turn_away(stream, address, settings, place));
        } else {
            tracing::warn!(peer = %address, "too many connections, closed one more");
        }
    }
}
