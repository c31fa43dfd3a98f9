//! The server: accepts connections, each served by a task of its own.

mod access;
mod activity;
mod arrival;
mod connection;
mod context;

mod downstream;
mod end;
mod environment;
mod first;
mod health;
mod http;
mod intake;
mod isolated;
mod key_refresh;
mod link;
mod listeners;
mod open;
mod owner;
mod passed;
mod peer;
mod pending;
mod phase;
mod places;
mod rate;
mod refusals;
mod registry;
mod session;
mod sharing;
mod stopping;
mod supervised;
mod unauthenticated;
mod upstream;
mod users;

pub use access::Access;
pub use environment::{Environment, Variable};
pub use isolated::ChildPer;
pub use key_refresh::KeyRefresh;
pub use listeners::{ListenerKind, Listening};
pub use places::Bounds;
pub use sharing::{Backend, Isolation};

use crate::account::Address;
use crate::audit;
use crate::backlog;
use crate::http::Resource;
use crate::hub::HubError;
use crate::metrics::{Open, Transport};
use crate::system::descriptors;
use crate::system::supervisor::Supervisor;
use crate::transport::Protocol;
use crate::utils::bucket::Pace;
use crate::utils::cidr::Cidr;
use context::Context;
use http::HttpSessions;
use listeners::{Arrived, ListenerSet, Way};
use pending::{PendingConnection, PendingConnections};
use sharing::Sharing;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::Instrument;
use unauthenticated::Unauthenticated;

/// How long to wait if accepting a connection fails, for example because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection may have said nothing before it counts for its address.
const GRACE: Duration = Duration::from_secs(1);

/// How long peers may take to receive their last messages when the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// The settings for all peers.
#[derive(Debug)]
pub struct Settings {
    /// The path with MCP (HTTP).
    pub path: String,
    /// The origin by which clients reach the server, for example through a proxy (HTTP).
    pub public_origin: Option<String>,
    /// Tells clients where to get a token (OAuth, HTTP).
    pub resource: Option<Resource>,
    /// Who is admitted and what they may do, at present.
    pub access: watch::Receiver<Arc<Access>>,
    /// Longest line from a peer, in bytes.
    pub max_message_size: usize,
    /// Most connections at a time, sessions that wait for their client included, pending ones aside.
    pub max_connections: Bounds,
    /// Most connections at a time that are not authenticated yet …
    pub max_pending: usize,
    /// … and most of these from one address.
    pub max_pending_per_address: usize,
    /// How much memory may be held for all peers together.
    pub max_backlog: backlog::Bounds,
    /// Proxies that are trusted to name the address of their client.
    pub trusted_proxies: Vec<Cidr>,
    /// They name it at the beginning of each TCP connection (PROXY protocol).
    pub proxy_protocol: bool,
    /// How many messages a user may send; `None` for any number.
    pub rate: Option<Pace>,
    /// From accept to the end of authentication.
    pub auth_timeout: Duration,
    /// A connection without activity for this long is closed.
    pub idle_timeout: Option<Duration>,
    /// How long a session waits for its client to come back; zero for not at all.
    pub resume_window: Duration,
    /// Most sessions that can be resumed, connected or not.
    pub max_sessions: usize,
    /// The interval of keepalives to clients that can resume.
    pub keepalive_interval: Duration,
    /// A client that can resume and sends nothing for this long has lost its connection.
    pub keepalive_timeout: Duration,
    /// How long requests in flight may take when the server stops.
    pub drain_timeout: Duration,
    /// Origins of web pages that may connect (WebSocket, HTTP).
    pub allowed_origins: Vec<String>,
    /// The audit log.
    pub audit: audit::Log,
    /// The service manager, which is told when we are ready.
    pub supervisor: Supervisor,
}

impl Settings {
    /// True if a peer has to send something before it is admitted: a token, or an upgrade request.
    fn must_speak(&self, protocol: Protocol) -> bool {
        protocol == Protocol::WebSocket || self.access.borrow().requirements.is_some()
    }

    fn trusts(&self, address: Address) -> bool {
        let trusted = &self.trusted_proxies;
        matches!(address, Address::Network(socket)
            if trusted.iter().any(|range| range.contains(socket.ip())))
    }

    /// How long a new connection is exempt from the bound for its address.
    fn grace(&self, address: Address) -> Duration {
        if self.trusts(address) {
            // A proxy's connections are those of all its clients, and count once the client is known.
            self.auth_timeout
        } else {
            GRACE
        }
    }
}

/// Serves until `shutdown` completes or the MCP server is lost.
///
/// # Errors
/// Why the MCP server is lost.
pub async fn run(
    listeners: Vec<Listening>,
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
    let listeners = ListenerSet::new(listeners, &settings);
    let http_sessions = Arc::new(HttpSessions::new(&settings));
    let context = Arc::new(Context::new(settings, sharing, stopped));
    let mut arrivals = Arrivals::new(Arc::clone(&context), Arc::clone(&http_sessions));
    let attended = Arc::clone(&context);
    let attending = async move { supervised::attend(&attended).await };
    arrivals.peers.spawn(attending);
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
                let drained = drain(listeners, &mut arrivals, &context);
                let has_ended = tokio::select! {
                    () = drained => false,
                    _ended = &mut driving => true,
                };
                if has_ended {
                    // That it ends by itself is no longer a failure.
                    Ok(())
                } else {
                    stop.notify_one();
                    driving.await
                }
            }
        }
    };
    wait_for_peers(&mut arrivals, &http_sessions, &context).await;
    outcome
}

/// Lets peers take their last messages, for a limited time.
async fn wait_for_peers(arrivals: &mut Arrivals, http_sessions: &HttpSessions, context: &Context) {
    let ended = async {
        while arrivals.peers.join_next().await.is_some() {}
        http_sessions.ended().await;
        context.sharing.ended().await;
    };
    let patience = DRAIN + context.sharing.patience(context.settings.drain_timeout);
    if tokio::time::timeout(patience, ended).await.is_err() {
        tracing::warn!("some peers did not take their last messages");
    }
}

/// Waits until no request is pending any more, within the drain timeout; meanwhile clients that
/// have lost their connection may come back for their answers.
async fn drain(listeners: ListenerSet, arrivals: &mut Arrivals, context: &Context) {
    let patience = context.settings.drain_timeout;
    let returning = async {
        // The listeners close as soon as no client is expected back.
        let listeners = listeners;
        tokio::select! {
            biased;
            _ = tokio::time::timeout(patience, context.registry.nobody_awaited()) => {}
            never = arrivals.accept(&listeners) => match never {},
        }
    };
    tokio::join!(returning, context.sharing.idle(patience));
}

/// All connections that are open.
struct Arrivals {
    context: Arc<Context>,
    http_sessions: Arc<HttpSessions>,
    pending: Arc<PendingConnections>,
    peers: JoinSet<()>,
    /// Has been accepted, and waits for room.
    next: Option<Arrived>,
    number: u64,
}

impl Arrivals {
    fn new(context: Arc<Context>, http_sessions: Arc<HttpSessions>) -> Self {
        let Settings {
            max_pending,
            max_pending_per_address,
            ..
        } = context.settings;
        let pending = PendingConnections::new(max_pending, max_pending_per_address);
        Self {
            context,
            http_sessions,
            pending: Arc::new(pending),
            peers: JoinSet::new(),
            next: None,
            number: 0,
        }
    }

    /// Accepts and serves connections. Cancel safe.
    async fn accept(&mut self, listeners: &ListenerSet) -> std::convert::Infallible {
        let mut failing = false;
        loop {
            self.serve_next().await;
            let accepted = tokio::select! {
                accepted = accept_beyond_reserve(listeners) => accepted,
                Some(_) = self.peers.join_next() => continue,
            };
            let arrived = match accepted {
                Ok(accepted) => accepted,
                Err(err) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%err, "could not accept a connection, trying again");
                    }
                    if descriptors::is_shortage(&err) {
                        self.pending.evict_oldest();
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            failing = false;
            self.next = Some(arrived);
            // A client that shows a token at once gets to it before the next one pushes it out.
            tokio::task::yield_now().await;
        }
    }

    /// Serves the connection that has come last, if any, once there is room for it. Cancel safe.
    async fn serve_next(&mut self) {
        let Some(Arrived { address, .. }) = self.next else {
            return;
        };
        let grace = self.context.settings.grace(address);
        let pending = self.pending.enter(address, grace).await;
        if let Some(arrived) = self.next.take() {
            self.serve(arrived, pending);
        }
    }

    /// Serves a connection in a task of its own.
    fn serve(&mut self, arrived: Arrived, pending: PendingConnection) {
        self.number += 1;
        let Arrived {
            socket,
            address,
            way,
        } = arrived;
        let settings = &self.context.settings;
        let who = Unauthenticated::begin(settings, address, self.number, pending);
        let span = who.span();
        let context = Arc::clone(&self.context);
        match way {
            Way::Http(site) => {
                let is_peer = site.path.is_some();
                let open = is_peer.then(|| Open::connection(Transport::Http));
                let life = http::serve(
                    (socket, site),
                    who,
                    context,
                    Arc::clone(&self.http_sessions),
                );
                self.peers
                    .spawn(counted(open, Box::pin(life)).instrument(span))
            }
            Way::Lines(protocol) => {
                let open = Open::connection(protocol.into());
                let life = peer::serve((socket, protocol), who, context);
                self.peers
                    .spawn(counted(open, Box::pin(life)).instrument(span))
            }
        };
    }
}

/// Counts a connection in the metrics until it ends. Its future is boxed, because an async function stores twice
/// what it is given by value.
async fn counted(open: impl Into<Option<Open>>, life: Pin<Box<dyn Future<Output = ()> + Send>>) {
    let _open = open.into();
    life.await;
}

/// Accepts the next connection, unless it would take one of the reserved descriptors that existing
/// connections may need.
async fn accept_beyond_reserve(listeners: &ListenerSet) -> io::Result<Arrived> {
    if descriptors::restore() {
        listeners.accept().await
    } else {
        Err(descriptors::none_left())
    }
}
