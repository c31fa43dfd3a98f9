//! The far end of an HTTP connection. Each request may come from another user, since reverse proxies share
//! their connections.

use super::super::access::{Authorization, authenticate};
use super::super::context::Context;
use super::super::owner::Owner;
use super::super::places::{NoPlace, Place};
use super::super::refusals::Refusals;
use super::super::unauthenticated;
use super::feed::Patience;
use super::reply::{self, Reply};
use super::sessions::HttpSessions;
use crate::account::{Account, Address, Network};
use crate::audit::Trail;
use crate::auth::Identity;
use crate::backlog;
use crate::handshake::Refused;
use crate::http::{Forwarded, Head, Site};
use crate::metrics::{self, AuthFailure};
use crate::transport::tls::Holder;
use crate::transport::websocket::{Accepted, Upgrade};
use crate::utils::lock::lock;
use crate::utils::secret::Secret;
use crate::utils::shorten::shorten;
use crate::utils::tally::Tally;
use hyper::upgrade::OnUpgrade;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;
use tracing::Span;
use tracing::field::Empty;

/// The most users of one connection that are remembered.
const MAX_BEARERS: usize = 16;

/// How much of an unknown path is logged, in bytes.
const MAX_PATH: usize = 100;

/// One connection.
pub(super) struct Visitor {
    pub context: Arc<Context>,
    pub http_sessions: Arc<HttpSessions>,
    /// The site it is connected to.
    pub site: Arc<Site>,
    pub address: Address,
    pub certificate: Option<Holder>,
    pub patience: Patience,
    state: Mutex<State>,
    admitted: watch::Sender<bool>,
    /// It has requested a path that does not exist.
    has_strayed: AtomicBool,
}

struct State {
    trail: Trail,
    place: Option<Place>,
    /// The users so far, the latest last, so that their counters are kept.
    bearers: VecDeque<Arc<Bearer>>,
    /// What follows HTTP on this connection.
    upgrade: Option<(OnUpgrade, Upgrade)>,
}

/// A user who is admitted.
pub(super) struct Bearer {
    /// Its address.
    pub address: Address,
    /// As of its latest request.
    authorization: Mutex<Authorization>,
    pub trail: Arc<Trail>,
    pub refusals: Refusals<Arc<Trail>>,
    /// Counts the requests in flight of all sessions of this user.
    pub of_user: Tally,
    /// The owner whose sessions it may use.
    pub owner: Owner,
    /// Counts the memory kept for bodies that have arrived in part.
    pub holder: backlog::Holder,
    /// What it asks for is logged in this one: in the span of the connection, the names of all its users would gather.
    pub span: Span,
}

impl Bearer {
    /// What it may do, as of its latest request.
    pub(super) fn authorization(&self) -> Authorization {
        lock(&self.authorization).clone()
    }

    fn span(identity: &Identity, client: Option<Address>) -> Span {
        if identity.token.is_none() && client.is_none() {
            return Span::none();
        }
        let span = tracing::info_span!("sender", client = Empty, user = Empty, roles = Empty);
        if let Some(client) = client {
            span.record("client", tracing::field::display(client));
        }
        if identity.token.is_some() {
            span.record("user", identity.name());
            span.record("roles", identity.roles.join(","));
        }
        span
    }
}

impl Drop for Bearer {
    fn drop(&mut self) {
        self.span.in_scope(|| self.refusals.report_now());
    }
}

impl Visitor {
    pub(super) fn new(
        (context, http_sessions): (Arc<Context>, Arc<HttpSessions>),
        site: Arc<Site>,
        address: Address,
        certificate: Option<Holder>,
        trail: Trail,
    ) -> Self {
        Self {
            context,
            http_sessions,
            site,
            address,
            certificate,
            patience: Patience::default(),
            state: Mutex::new(State {
                trail,
                place: None,
                bearers: VecDeque::new(),
                upgrade: None,
            }),
            admitted: watch::Sender::new(false),
            has_strayed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Completes when a request has been authenticated. Cancel safe.
    pub(super) async fn admitted(&self) {
        // The sender lives as long as this does.
        drop(
            self.admitted
                .subscribe()
                .wait_for(|admitted| *admitted)
                .await,
        );
    }

    /// Logs the first request of the connection for a path that does not exist.
    pub(super) fn note_stray(&self, path: &str) {
        if !self.has_strayed.swap(true, Ordering::Relaxed) {
            let path = shorten(path, MAX_PATH);
            tracing::info!(path, "404: there is no such path");
        }
    }

    /// Ends the connection for this reason.
    pub(super) fn ends(&self, reason: &'static str) {
        self.lock().trail.ends(reason);
    }

    pub(super) fn gives_way(&self) -> &'static str {
        unauthenticated::gives_way(&mut self.lock().trail);
        "it has given way"
    }

    /// Switches to WebSocket after this reply. A client that has sent no token yet sends it as the first
    /// frame.
    pub(super) fn upgrade(&self, head: &Head<'_>, to: (OnUpgrade, Accepted)) -> Reply {
        let (upgrade, accepted) = to;
        let bearer = head.bearer().map(Secret::from);
        let forwarded = Forwarded::read(head.all);
        self.lock().upgrade = Some((upgrade, Upgrade { bearer, forwarded }));
        reply::switching(accepted)
    }

    /// What follows HTTP on this connection, if anything.
    pub(super) fn take_upgrade(&self) -> Option<(OnUpgrade, Upgrade)> {
        self.lock().upgrade.take()
    }

    /// The address of the client that sends a request, which a proxy may send on its behalf.
    pub(super) fn client(&self, head: &Head<'_>) -> Address {
        let trusted = &self.context.settings.trusted_proxies;
        if trusted.is_empty() {
            return self.address;
        }
        Forwarded::read(head.all).client(self.address, trusted)
    }

    /// Authenticates the sender of this request.
    ///
    /// # Errors
    /// The refusal of a sender that is not admitted.
    pub(super) async fn identify(&self, head: &Head<'_>) -> Result<Arc<Bearer>, Reply> {
        let address = self.client(head);
        let token = head.bearer();
        if let Some(known) = token.and_then(|token| self.known(token, address)) {
            return Ok(known);
        }
        let mut access = self.context.settings.access.clone();
        let identity = if access.borrow_and_update().requirements.is_none() {
            Identity::default()
        } else {
            let Some(token) = token else {
                let shown = head.authorization.is_present();
                metrics::refused(AuthFailure::NoToken);
                return Err(self.refuse("no token", address, reply::unauthorized(shown)));
            };
            match Box::pin(authenticate(&mut access, &token.into())).await {
                Ok(identity) => identity,
                Err(refused) => return Err(self.turn_away(&refused, address)),
            }
        };
        let state = &mut *self.lock();
        let mut known = state.bearers.iter();
        let is_known = |known: &&Arc<Bearer>| {
            is_same(known.authorization().identity(), &identity)
                && Network::of(known.address) == Network::of(address)
        };
        if let Some(known) = known.find(is_known) {
            return Ok(Arc::clone(known));
        }
        self.enter(state, Authorization::new(access, identity), address)
    }

    /// The user that has shown this token on this connection before, where it still holds: verifying it for each
    /// request would take a third of the time of a short one.
    fn known(&self, token: &str, address: Address) -> Option<Arc<Bearer>> {
        let state = self.lock();
        let mut known = state.bearers.iter();
        let known = known.find(|known| {
            let authorization = lock(&known.authorization);
            let shown = authorization.identity().token.as_ref();
            shown.is_some_and(|shown| shown.is(token))
                && Network::of(known.address) == Network::of(address)
        })?;
        let holds = lock(&known.authorization).holds();
        holds.then(|| Arc::clone(known))
    }

    /// Adds a user that is new on this connection.
    fn enter(
        &self,
        state: &mut State,
        authorization: Authorization,
        address: Address,
    ) -> Result<Arc<Bearer>, Reply> {
        let identity = authorization.identity();
        let trail = self.trail_of(state, Some(identity), address);
        let span = Bearer::span(identity, (address != self.address).then_some(address));
        if state.place.is_none() {
            match self.place(identity, address) {
                Ok(place) => state.place = Some(place),
                Err(refused) => {
                    span.in_scope(|| log_refusal(&refused, address, &trail));
                    return Err(reply::refused(&refused));
                }
            }
        }
        if identity.token.is_some() {
            let access = &self.context.settings.access;
            span.in_scope(|| {
                tracing::info!("authenticated");
                access.borrow().warn_without_roles(identity);
            });
            trail.authenticated();
        }
        let trail = Arc::new(trail);
        let certificate = self.certificate.clone();
        let rights = authorization.rights();
        let owner = self.context.sharing.owner(identity, rights, certificate);
        let bearer = Arc::new(Bearer {
            refusals: Refusals::new(Arc::clone(&trail)),
            trail,
            owner,
            of_user: state.place.as_ref().map(Place::of_user).unwrap_or_default(),
            holder: self.context.holder(&authorization, address),
            span,
            address,
            authorization: Mutex::new(authorization),
        });
        if state.bearers.len() >= MAX_BEARERS {
            state.bearers.pop_front();
        }
        state.bearers.push_back(Arc::clone(&bearer));
        self.admitted.send_replace(true);
        Ok(bearer)
    }

    fn place(&self, identity: &Identity, address: Address) -> Result<Place, Refused> {
        if self.context.stopping.has_begun() {
            return Err(Refused::Stopping);
        }
        let account = Account::of(identity, address);
        let place = self.context.places.take(&account);
        place.map_err(|why| match why {
            NoPlace::Full => Refused::Full,
            NoPlace::TooManyOfUser => Refused::TooManyOfUser,
        })
    }

    /// Records that a request was refused before it was examined. The connection ends, so that there are no
    /// more such records than connections.
    pub(super) fn refuse(&self, reason: &'static str, client: Address, reply: Reply) -> Reply {
        tracing::info!(reason, %client, "refused a request");
        self.trail_of(&self.lock(), None, client).refused(&reason);
        reply::last(reply)
    }

    fn turn_away(&self, refused: &Refused, client: Address) -> Reply {
        let trail = self.trail_of(&self.lock(), refused.identity(), client);
        log_refusal(refused, client, &trail);
        reply::last(reply::refused(refused))
    }

    /// The audit trail of one user of this connection, which is on record from here on.
    fn trail_of(&self, state: &State, identity: Option<&Identity>, client: Address) -> Trail {
        state.trail.begins();
        let mut trail = state.trail.part();
        if client != self.address {
            trail.speaks_for(client);
        }
        if let Some(identity) = identity {
            trail.identified(identity);
        }
        trail
    }
}

fn log_refusal(refused: &Refused, client: Address, trail: &Trail) {
    refused.failure().into_iter().for_each(metrics::refused);
    tracing::warn!(reason = %refused, %client, "refused");
    trail.refused(refused);
}

/// True if both have shown the same token, or none.
fn is_same(one: &Identity, other: &Identity) -> bool {
    match (&one.token, &other.token) {
        (Some(one), Some(other)) => one.is_same(other),
        (None, None) => true,
        _ => false,
    }
}
