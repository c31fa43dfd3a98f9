//! Connections that are kept for the next request.

use super::dial::dial;
use super::headers;
use super::settings::Settings;
use crate::utils::lock::lock;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A connection that was idle for longer is not reused. Many servers close these after 5 s, and a
/// request at that moment may or may not have been executed.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

/// The most connections that are kept.
const MAX_IDLE: usize = 8;

struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// All connections to the server.
pub(super) struct Pool {
    pub settings: Settings,
    /// See [`headers::common`].
    pub headers: HeaderMap,
    idle: Mutex<Vec<Idle>>,
    /// The tasks that drive them, which end with this.
    connections: Mutex<JoinSet<()>>,
    /// The server has accepted a token.
    pub accepted: AtomicBool,
}

impl Pool {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            headers: headers::common(&settings),
            settings,
            idle: Mutex::default(),
            connections: Mutex::default(),
            accepted: AtomicBool::new(false),
        }
    }

    /// Takes one that is open and not in use.
    pub(super) fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = lock(&self.idle);
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < MAX_IDLE_TIME);
        let at = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.remove(at).sender)
    }

    /// Makes a new one.
    pub(super) async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let Settings {
            place, tls, proxy, ..
        } = &self.settings;
        let (sender, connection) = dial(place, tls.as_ref(), proxy.as_ref()).await?;
        let mut connections = lock(&self.connections);
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            if let Err(err) = connection.await {
                tracing::debug!(%err, "a connection has ended");
            }
        });
        Ok(sender)
    }

    /// Keeps one whose last response has been read.
    pub(super) fn give_back(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            let since = Instant::now();
            idle.push(Idle { sender, since });
        }
    }
}
