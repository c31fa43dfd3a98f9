//! The listeners of the server: each has its own transport, and all lead to the same hub.

use super::Settings;
use crate::account::Address;
use crate::http::Site;
use crate::system::local;
use crate::transport::Protocol;
use crate::transport::socket::Socket;
use crate::transport::tcp::Listeners;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// One connection for each peer, which carries lines.
    Lines(Protocol),
    /// MCP over HTTP.
    Http,
    /// Health checks over HTTP.
    Health,
    /// Metrics for Prometheus, over HTTP.
    Metrics,
}

impl std::fmt::Display for ListenerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lines(protocol) => protocol.fmt(f),
            Self::Http => f.write_str("HTTP"),
            Self::Health => f.write_str("health"),
            Self::Metrics => f.write_str("metrics"),
        }
    }
}

/// An open listener.
#[derive(Debug)]
pub enum Listening {
    /// A port and its protocol.
    Port(ListenerKind, Listeners),
    /// A Unix socket, which carries lines.
    Unix(local::Listener),
}

impl Listening {
    /// True if other machines can reach the MCP server through it.
    #[must_use]
    pub fn is_reachable_from_outside(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Port(ListenerKind::Health | ListenerKind::Metrics, _) => false,
            Self::Port(_, listeners) => listeners.is_reachable_from_outside(),
        }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Socket, Address)>> {
        match self {
            Self::Port(_, listeners) => listeners.poll_accept(context).map_ok(|(stream, from)| {
                crate::transport::tcp::tune(&stream);
                (Socket::Tcp(stream), Address::Network(from))
            }),
            Self::Unix(listener) => listener
                .poll_accept(context)
                .map_ok(|stream| (Socket::Unix(stream), Address::Unix)),
        }
    }
}

/// How to serve a connection, depending on its listener.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Lines(Protocol),
    /// As requests for this site.
    Http(Arc<Site>),
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Arrived {
    pub socket: Socket,
    pub address: Address,
    pub way: Way,
}

/// All listeners.
#[derive(Debug)]
pub(super) struct ListenerSet {
    all: Vec<(Listening, Way)>,
    /// The listener to poll first, so that a busy one does not starve the others.
    first: AtomicUsize,
}

impl ListenerSet {
    pub(super) fn new(all: Vec<Listening>, settings: &Settings) -> Self {
        let with_way = |listening: Listening| {
            let way = match &listening {
                Listening::Port(ListenerKind::Lines(protocol), _) => Way::Lines(*protocol),
                Listening::Port(ListenerKind::Http, listeners) => {
                    Way::Http(Arc::new(site(listeners, settings)))
                }
                Listening::Port(ListenerKind::Health, _) => Way::Http(Arc::new(HEALTH)),
                Listening::Port(ListenerKind::Metrics, listeners) => Way::Http(Arc::new(Site {
                    metrics: true,
                    // A page whose name resolves to this machine sends no Origin.
                    loopback: !listeners.is_reachable_from_outside(),
                    ..HEALTH
                })),
                Listening::Unix(_) => Way::Lines(Protocol::Unix),
            };
            (listening, way)
        };
        Self {
            all: all.into_iter().map(with_way).collect(),
            first: AtomicUsize::new(0),
        }
    }

    /// Accepts the next connection. Cancel safe.
    ///
    /// # Errors
    /// The system's error; all listeners stay open.
    pub(super) async fn accept(&self) -> io::Result<Arrived> {
        poll_fn(|context| {
            let first = self.first.load(Ordering::Relaxed);
            for step in 0..self.all.len() {
                let at = (first + step) % self.all.len();
                let (listening, way) = &self.all[at];
                if let Poll::Ready(accepted) = listening.poll_accept(context) {
                    self.first.store(at + 1, Ordering::Relaxed);
                    return Poll::Ready(accepted.map(|(socket, address)| Arrived {
                        socket,
                        address,
                        way: way.clone(),
                    }));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// A site with health checks alone: accepts any host name, but no web page.
const HEALTH: Site = Site {
    path: None,
    metrics: false,
    port: 0,
    loopback: false,
    tls: false,
    allowed_origins: Vec::new(),
    public_origin: None,
    resource: None,
};

/// The addresses of the server, for requests over HTTP.
fn site(listeners: &Listeners, settings: &Settings) -> Site {
    Site {
        metrics: false,
        path: Some(settings.path.clone()),
        port: listeners.port().unwrap_or_default(),
        loopback: !listeners.is_reachable_from_outside(),
        tls: settings.access.borrow().tls.is_some(),
        allowed_origins: settings.allowed_origins.clone(),
        public_origin: settings.public_origin.clone(),
        resource: settings.resource.clone(),
    }
}
