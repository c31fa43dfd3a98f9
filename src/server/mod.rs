//! The server: accepts connections, each served by a task of its own.

mod access;
mod activity;
mod arrival;
mod connection;
mod context;
mod downstream;
mod end;
mod first;
mod health;
mod http;
mod isolated;
mod link;
mod open;
mod owner;
mod peer;
mod places;
mod rate;
mod refusals;
mod registry;
mod session;
mod sharing;
mod stopping;
mod strangers;
mod unauthenticated;
mod upstream;

pub use access::Access;
pub use places::Bounds;
pub use sharing::{Backend, Isolation};

use crate::audit;
use crate::backlog;
use crate::descriptors;
use crate::http::Site;
use crate::hub::HubError;
use crate::transport::Protocol;
use crate::transport::tcp::Listeners;
use crate::utils::bucket::Pace;
use context::Context;
use http::House;
use rustix::io::Errno;
use sharing::Sharing;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use strangers::Strangers;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::Instrument;
use unauthenticated::Unauthenticated;

/// How long to wait when the system cannot give us a connection (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection may have said nothing over HTTP before it counts for its address.
const HTTP_GRACE: Duration = Duration::from_secs(1);

/// How long peers may take to receive what waits for them when the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// One connection for each peer, with lines on it.
    Lines(Protocol),
    /// MCP over HTTP.
    Http,
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lines(protocol) => protocol.fmt(f),
            Self::Http => f.write_str("HTTP"),
        }
    }
}

/// What holds for every peer.
#[derive(Debug)]
pub struct Settings {
    /// What is spoken on the port.
    pub door: Door,
    /// The path with MCP (HTTP).
    pub path: String,
    /// Where clients find the server, through a proxy say, without a path (HTTP).
    pub public_origin: Option<String>,
    /// Who comes in and what they may do, at present.
    pub access: watch::Receiver<Arc<Access>>,
    /// Longest line from a peer, in bytes.
    pub max_message_size: usize,
    /// Most connections at a time, sessions that wait for their client included, strangers aside.
    pub max_connections: Bounds,
    /// Most connections at a time that have not shown yet who they are …
    pub max_pending: usize,
    /// … and most of these from one address.
    pub max_pending_per_address: usize,
    /// How much memory all peers may take together.
    pub max_backlog: backlog::Bounds,
    /// How many messages a user may send; `None` for any number.
    pub rate: Option<Pace>,
    /// From accept to the end of authentication.
    pub auth_timeout: Duration,
    /// A connection on which nothing happens for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// How long a session waits for its client to come back; zero for not at all.
    pub resume_window: Duration,
    /// Most sessions that can be resumed, connected or not.
    pub max_sessions: usize,
    /// The pace of signs of life, to clients that can resume.
    pub keepalive_interval: Duration,
    /// A client that can resume and is not heard of for so long has lost its connection.
    pub keepalive_timeout: Duration,
    /// How long requests in flight may take when the server stops.
    pub drain_timeout: Duration,
    /// Origins of web pages that may connect (WebSocket, HTTP).
    pub allowed_origins: Vec<String>,
    /// What happens is recorded there.
    pub audit: audit::Log,
}

impl Settings {
    /// True where a peer has to say something before it is in: a token, or an upgrade request.
    fn must_speak(&self) -> bool {
        self.door != Door::Lines(Protocol::Tcp) || self.access.borrow().guard.is_some()
    }
}

/// Serves until `shutdown` completes or the MCP server is lost.
///
/// # Errors
/// Why the MCP server is lost.
pub async fn run(
    listeners: Listeners,
    settings: Settings,
    backend: Backend,
    shutdown: impl Future<Output = ()>,
) -> Result<(), HubError> {
    let (sharing, driver) = Sharing::new(backend);
    let stop = Notify::new();
    let driving = async {
        match driver {
            Some(driver) => driver.run(stop.notified()).await,
            None => {
                stop.notified().await;
                Ok(())
            }
        }
    };
    let (stopping, stopped) = watch::channel(false);
    let house = Arc::new(House::new(&settings, site(&listeners, &settings)));
    let context = Arc::new(Context::new(settings, sharing, stopped));
    let mut arrivals = Arrivals::new(Arc::clone(&context), Arc::clone(&house));
    let outcome = {
        let mut driving = std::pin::pin!(driving);
        let ended = tokio::select! {
            outcome = &mut driving => Some(outcome),
            () = shutdown => None,
            never = arrivals.accept(&listeners) => match never {},
        };
        stopping.send_replace(true);
        match ended {
            Some(outcome) => {
                drop(listeners);
                outcome
            }
            None => {
                let patience = context.settings.drain_timeout;
                let returning = async {
                    // Closed as soon as nobody is expected.
                    let listeners = listeners;
                    tokio::select! {
                        biased;
                        _ = tokio::time::timeout(patience, context.registry.nobody_awaited()) => {}
                        never = arrivals.accept(&listeners) => match never {},
                    }
                };
                let idle = context.sharing.idle(patience);
                tokio::select! {
                    _drained = async { tokio::join!(returning, idle) } => {}
                    // Should it end by itself now, that is no failure any more.
                    _ended = &mut driving => return Ok(()),
                }
                stop.notify_one();
                driving.await
            }
        }
    };
    let drain = async {
        while arrivals.peers.join_next().await.is_some() {}
        house.ended().await;
    };
    let patience = DRAIN + context.sharing.patience(context.settings.drain_timeout);
    if tokio::time::timeout(patience, drain).await.is_err() {
        tracing::warn!("some peers did not take their last messages");
    }
    outcome
}

/// Where the server is, for requests over HTTP.
fn site(listeners: &Listeners, settings: &Settings) -> Site {
    Site {
        path: settings.path.clone(),
        port: listeners.port().unwrap_or_default(),
        loopback: !listeners.is_reachable_from_outside(),
        tls: settings.access.borrow().tls.is_some(),
        allowed_origins: settings.allowed_origins.clone(),
        public_origin: settings.public_origin.clone(),
    }
}

/// Whoever has come, and is still here.
struct Arrivals {
    context: Arc<Context>,
    house: Arc<House>,
    strangers: Arc<Strangers>,
    peers: JoinSet<()>,
    number: u64,
}

impl Arrivals {
    fn new(context: Arc<Context>, house: Arc<House>) -> Self {
        let Settings {
            max_pending,
            max_pending_per_address,
            ..
        } = context.settings;
        let grace = match context.settings.door {
            Door::Lines(_) => Duration::ZERO,
            Door::Http => HTTP_GRACE,
        };
        let strangers = Strangers::new(max_pending, max_pending_per_address, grace);
        Self {
            context,
            house,
            strangers: Arc::new(strangers),
            peers: JoinSet::new(),
            number: 0,
        }
    }

    /// Serves whoever comes. Cancel safe.
    async fn accept(&mut self, listeners: &Listeners) -> std::convert::Infallible {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = accept_beyond_reserve(listeners) => accepted,
                Some(_) = self.peers.join_next() => continue,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(err) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%err, "could not accept a connection, trying again");
                    }
                    if descriptors::is_shortage(&err) {
                        self.strangers.push_out_oldest();
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            failing = false;
            self.serve(stream, address);
            // Whoever shows a token at once gets to it before the next one pushes it out.
            tokio::task::yield_now().await;
        }
    }

    /// Serves a connection in a task of its own.
    fn serve(&mut self, stream: TcpStream, address: SocketAddr) {
        self.number += 1;
        crate::transport::tcp::tune(&stream);
        let stranger = self.strangers.enter(address);
        let settings = &self.context.settings;
        let who = Unauthenticated::begin(settings, address, self.number, stranger);
        let span = who.span();
        let context = Arc::clone(&self.context);
        match settings.door {
            Door::Http => {
                let life = http::serve(stream, who, context, Arc::clone(&self.house));
                self.peers.spawn(life.instrument(span))
            }
            Door::Lines(_) => {
                let life = peer::serve(stream, who, context);
                self.peers.spawn(life.instrument(span))
            }
        };
    }
}

/// The next connection, unless it would take a descriptor that those who are in may depend on.
async fn accept_beyond_reserve(listeners: &Listeners) -> io::Result<(TcpStream, SocketAddr)> {
    if descriptors::restore() {
        listeners.accept().await
    } else {
        Err(Errno::MFILE.into())
    }
}
