//! One session over HTTP: its state and its life.

use super::super::access::{Authorization, Invalidated, apply_rights, invalidated, revoked};
use super::super::context::Context;
use super::super::end::why_cut;
use super::super::owner::Owner;
use super::super::sharing::Placement;
use super::{ids, in_place};
use crate::audit::Trail;
use crate::http::{Reading, Streams};
use crate::hub::Cut;
use crate::jsonrpc::{MAX_CHILD_DEPTH, Message, RequestId};
use crate::router::{ForPeer, Presence};
use crate::utils::chunks::Pieces;
use crate::utils::lock::lock;
use crate::utils::signal::Signal;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How soon a client that has hung up usually opens its next stream.
const BACK_AT_ONCE: Duration = Duration::from_secs(5);

/// How often ended streams are cleaned up.
const SWEEP: Duration = Duration::from_secs(30);

/// One session. Of its locks, `owner`, `presence` and `sending` may be held while that of the hub is taken, and the hub takes
/// `streams` when it delivers; the others are held for a moment, and no lock is taken meanwhile.
#[derive(Debug)]
pub(super) struct HttpSession {
    pub id: Arc<str>,
    owner: Mutex<Owner>,
    pub placement: Placement,
    trail: Arc<Trail>,
    streams: Arc<Mutex<Streams>>,
    /// That of the token that expires last.
    authorization: Mutex<Authorization>,
    renewed: Notify,
    last: Mutex<Instant>,
    /// Why it has ended, once it has.
    over: OnceLock<&'static str>,
    /// It is ready for messages of its client.
    ready: AtomicBool,
    end: Notify,
    /// It has ended.
    ended: Notify,
    /// What the router knows of its client, and since when.
    presence: Mutex<(Presence, Instant)>,
    /// Its client has just hung up.
    hung_up: Signal,
    /// Held while a request is sent or cancelled, so that the MCP server gets no cancellation before its request.
    sending: Mutex<()>,
}

impl HttpSession {
    pub(super) fn new(
        (owner, id): (Owner, Arc<str>),
        placement: Placement,
        trail: Arc<Trail>,
        streams: Streams,
        authorization: Authorization,
    ) -> Self {
        let streams = Arc::new(Mutex::new(streams));
        let pushed = Arc::clone(&streams);
        placement
            .session
            .deliver_to(move |for_peer| push(&pushed, for_peer));
        Self {
            id,
            owner: Mutex::new(owner),
            placement,
            trail,
            streams,
            authorization: Mutex::new(authorization),
            renewed: Notify::new(),
            last: Mutex::new(Instant::now()),
            over: OnceLock::new(),
            ready: AtomicBool::new(true),
            end: Notify::new(),
            ended: Notify::new(),
            presence: Mutex::new((Presence::Connected, Instant::now())),
            hung_up: Signal::new(),
            sending: Mutex::default(),
        }
    }

    /// The same session, not ready yet.
    pub(super) fn awaiting_revival(self) -> Self {
        self.ready.store(false, Ordering::Relaxed);
        self
    }

    /// True unless it is still being revived.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Marks it as revived.
    pub(super) fn mark_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// True once it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.get().is_some()
    }

    pub(super) fn streams(&self) -> MutexGuard<'_, Streams> {
        lock(&self.streams)
    }

    /// Ends the stream of a request that the client has cancelled. One that has not been sent never will be.
    pub(super) fn cancel(&self, request: &RequestId) {
        let _sending = lock(&self.sending);
        self.streams().cancel(request);
    }

    /// Sends the request of this stream; `None` if the stream has ended.
    pub(super) fn send<T>(&self, reading: &Reading, send: impl FnOnce() -> T) -> Option<T> {
        let _sending = lock(&self.sending);
        let begins = self.streams().begin(reading);
        begins.then(send)
    }

    /// Ends it. Of several reasons the first holds.
    pub(super) fn end(&self, reason: &'static str) {
        let _first = self.over.set(reason);
        self.end.notify_one();
    }

    /// Completes once it has ended. Cancel safe.
    pub(super) async fn ended(&self) {
        // Before the check, so that no end in between is missed.
        let ended = self.ended.notified();
        if !self.is_over() {
            ended.await;
        }
    }

    /// Tells the router whether the client can receive server requests, after a reader has come or gone.
    pub(super) fn note_presence(&self, now: Instant) {
        let mut known = lock(&self.presence);
        let is_attended = self.streams().can_be_asked();
        let presence = match known.0 {
            _ if is_attended => Presence::Connected,
            Presence::Away => Presence::Away,
            Presence::Connected | Presence::Lost => Presence::Lost,
        };
        if presence == known.0 {
            return;
        }
        *known = (presence, now);
        self.placement.session.set_presence(presence);
        if presence == Presence::Lost {
            self.hung_up.raise();
        }
    }

    /// Tells the router that the client has not come back soon. Gives when to look again, while that may still
    /// happen.
    fn note_absence(&self) -> Option<Instant> {
        let mut known = lock(&self.presence);
        let (Presence::Lost, since) = *known else {
            return None;
        };
        let now = Instant::now();
        let due = since + BACK_AT_ONCE;
        if now < due {
            return Some(due);
        }
        *known = (Presence::Away, now);
        self.placement.session.set_presence(Presence::Away);
        None
    }

    /// Refuses the requests of the MCP server that wait for a client which is away. A shared process is answered by the
    /// router, which knows whom it asks.
    fn refuse_questions(&self) {
        let unheard = {
            let known = lock(&self.presence);
            if known.0 != Presence::Away {
                return;
            }
            self.streams().take_unheard()
        };
        for id in unheard {
            in_place::answer_unreachable(&self.placement, &self.authorization(), &id);
        }
    }

    /// Notes that its client was there.
    pub(super) fn mark(&self, now: Instant) {
        *lock(&self.last) = now;
    }

    /// When its client was last there; `None` while it is: while any of the streams has a reader.
    pub(super) fn idle_since(&self) -> Option<std::time::Instant> {
        let is_attended = self.streams().is_attended();
        let last = lock(&self.last);
        (!is_attended).then(|| last.into_std())
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> Owner {
        lock(&self.owner).clone()
    }

    /// It is this one's from here on, and the streams of the former one end.
    pub(super) fn belongs_to(&self, owner: Owner) {
        let mut current = lock(&self.owner);
        *current = owner;
        self.streams().displace_all(Instant::now().into_std());
    }

    /// Takes a step of this owner, unless the session has got another one meanwhile.
    pub(super) fn for_owner<T>(&self, owner: &Owner, step: impl FnOnce() -> T) -> Option<T> {
        // The lock is held to the end, so that the session gets no other owner before the step is done.
        let current = lock(&self.owner);
        (*current == *owner).then(step)
    }

    /// Goes on with another token, which has more roles.
    pub(super) fn widen(&self, authorization: &Authorization) {
        *lock(&self.authorization) = authorization.clone();
        apply_rights(authorization, &self.placement.session, &self.trail);
        self.renewed.notify_one();
    }

    /// That of the token that expires last, of those that its owner has shown.
    pub(super) fn authorization(&self) -> Authorization {
        lock(&self.authorization).clone()
    }

    /// Takes note of a token that `owner` has shown; `None` if the session is another's by now.
    pub(super) fn uses(&self, owner: &Owner, authorization: &Authorization) -> Option<()> {
        self.for_owner(owner, || self.note(authorization))
    }

    fn note(&self, authorization: &Authorization) {
        self.mark(Instant::now());
        let mut known = lock(&self.authorization);
        let expires =
            |authorization: &Authorization| authorization.identity().expires.unwrap_or(u64::MAX);
        if expires(authorization) > expires(&known) {
            *known = authorization.clone();
            self.renewed.notify_one();
        }
    }
}

/// A session that ends when this is dropped before it is known to its client.
pub(super) struct Tentative<'a>(Option<&'a Arc<HttpSession>>);

impl<'a> Tentative<'a> {
    pub(super) fn new(session: &'a Arc<HttpSession>) -> Self {
        Self(Some(session))
    }

    pub(super) fn survives(mut self) {
        self.0 = None;
    }
}

impl Drop for Tentative<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            session.end("it has not begun: 'initialize' has failed, or its client has left");
        }
    }
}

/// Serves a session to its end, and forgets it then.
pub(super) async fn live(
    session: Arc<HttpSession>,
    context: Arc<Context>,
    forget: impl FnOnce(&HttpSession),
) {
    if context.sharing.is_shared_by_all() {
        return watch(&session, &context, forget).await;
    }
    let left = Notify::new();
    let watched = async {
        watch(&session, &context, forget).await;
        left.notify_one();
    };
    let own = session.placement.run_own(&left, &context.stopping);
    // Boxed, so that sessions without a process of their own stay small.
    Box::pin(async { tokio::join!(watched, own) }).await;
}

/// Waits for the end of a session, and forgets it then.
async fn watch(session: &HttpSession, context: &Context, forget: impl FnOnce(&HttpSession)) {
    tracing::info!("session begins");
    let reason = tokio::select! {
        cut = session.placement.session.cut() => {
            if cut != Cut::Stopped {
                session.streams().drop_all();
            }
            why_cut(cut, &context.stopping).name()
        }
        invalidated = session_invalidated(session, context.settings.resume_window) => invalidated.name(),
        () = session.end.notified() => session.over.get().copied().unwrap_or_default(),
        () = idle(session, ids::lifetime(&context.settings)) => "idle for too long",
        never = watch_absence(session) => match never {},
    };
    forget(session);
    let reason = *session.over.get_or_init(|| reason);
    session.streams().close();
    session.ended.notify_waiters();
    tracing::info!(reason, "session ends");
}

/// Adds a line of the hub for the client to its streams.
fn push(streams: &Mutex<Streams>, ForPeer { line, answers }: ForPeer) {
    if let Some(request) = answers {
        return lock(streams).push_answer(&request, line);
    }
    match Message::read(line.joined(), MAX_CHILD_DEPTH) {
        Ok(message) => lock(streams).push(&message, line),
        Err(err) => tracing::warn!(%err, "dropped a line for a client"),
    }
}

/// Completes when the last token of a session is revoked, or has expired `window` ago: many clients get a new
/// token only once the old one is refused.
async fn session_invalidated(session: &HttpSession, window: Duration) -> Invalidated {
    loop {
        let mut authorization = session.authorization();
        let rights_of = Some((&session.placement.session, &*session.trail));
        let waited = async {
            let why = invalidated(&mut authorization, rights_of).await;
            if why == Invalidated::Revoked || window.is_zero() {
                return why;
            }
            tracing::info!("the token of a session has expired, it waits for another one");
            tokio::select! {
                () = revoked(authorization, rights_of) => Invalidated::Revoked,
                () = tokio::time::sleep(window) => Invalidated::Expired,
            }
        };
        tokio::select! {
            invalidated = waited => return invalidated,
            () = session.renewed.notified() => {
                // It may know changes that the last one has not been told of, and is not told of them again.
                let mut authorization = lock(&session.authorization).clone();
                // If it is no longer valid, that ends the next round.
                let _valid = authorization.renew();
                apply_rights(&authorization, &session.placement.session, &session.trail);
            }
        }
    }
}

/// Completes when the session has been idle for `limit`, even if requests are pending: nobody waits for them.
async fn idle(session: &HttpSession, limit: Duration) {
    loop {
        tokio::time::sleep(limit.min(SWEEP)).await;
        let now = Instant::now().into_std();
        session.streams().sweep(now);
        let since = session.idle_since();
        if since.is_some_and(|since| now.saturating_duration_since(since) >= limit) {
            return;
        }
    }
}

/// Tells the router when the client has hung up and does not come back soon, and refuses what it is asked then.
async fn watch_absence(session: &HttpSession) -> Infallible {
    let unheard = session.streams().unheard();
    loop {
        tokio::select! {
            () = session.hung_up.wait() => {}
            () = unheard.wait() => {}
        }
        // Not woken by each request meanwhile.
        while let Some(due) = session.note_absence() {
            tokio::time::sleep_until(due).await;
        }
        session.refuse_questions();
    }
}

#[cfg(test)]
mod tests;
