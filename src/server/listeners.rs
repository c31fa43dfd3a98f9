//! What the server listens on: each listener has a transport of its own, and all lead to the same hub.

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

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// One connection for each peer, with lines on it.
    Lines(Protocol),
    /// MCP over HTTP.
    Http,
    /// Answers to health checks, over HTTP.
    Health,
    /// Numbers for Prometheus, over HTTP.
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

/// What a server listens on.
#[derive(Debug)]
pub enum Listening {
    /// A port, with what is spoken there.
    Port(ListenerKind, Listeners),
    /// A Unix socket, with lines.
    Unix(local::Listener),
}

impl Listening {
    /// True when somebody on another machine can get to the MCP server.
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

/// How a connection has to be served, by the listener it came through.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Lines(Protocol),
    /// As requests for this site.
    Http(Arc<Site>),
}

/// A connection that has come.
#[derive(Debug)]
pub(super) struct Arrived {
    pub socket: Socket,
    pub address: Address,
    pub way: Way,
}

/// All of them.
#[derive(Debug)]
pub(super) struct ListenerSet {
    all: Vec<(Listening, Way)>,
    /// Where to look first: one that is never quiet does not keep the others waiting.
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
                Listening::Port(ListenerKind::Metrics, _) => Way::Http(Arc::new(Site {
                    metrics: true,
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

    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// What the system says; all stay open.
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

/// Where there are only answers to health checks: whatever name it is asked by, but by no web page.
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

/// Where the server is, for requests over HTTP.
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
