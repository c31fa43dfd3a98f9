//! One session over HTTP: its state and its life.

use super::super::access::{Authorization, Invalidated, invalidated};
use super::super::context::Context;
use super::super::end::why_cut;
use super::super::owner::Owner;
use super::super::sharing::Placement;
use super::super::stopping::Stopping;
use super::feed::Source;
use super::ids;
use crate::http::{EventId, Next, Reading, Streams, write_event};
use crate::jsonrpc::{MAX_CHILD_DEPTH, Message};
use crate::router::Presence;
use crate::utils::chunks::{Line, Pieces};
use crate::utils::lock::lock;
use bytes::Bytes;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How soon a client that has hung up usually opens its next stream.
const BACK_AT_ONCE: Duration = Duration::from_secs(5);

/// How often ended streams are cleaned up.
const SWEEP: Duration = Duration::from_secs(30);

/// One session.
#[derive(Debug)]
pub(super) struct HttpSession {
    pub id: String,
    owner: Mutex<Owner>,
    pub placement: Placement,
    streams: Mutex<Streams>,
    /// That of the token that expires last.
    authorization: Mutex<Authorization>,
    renewed: Notify,
    last: Mutex<Instant>,
    over: AtomicBool,
    /// It is ready for messages of its client.
    ready: AtomicBool,
    end: Notify,
    /// A reader has come or gone.
    attended: Notify,
}

impl HttpSession {
    pub(super) fn new(
        (owner, id): (Owner, String),
        placement: Placement,
        streams: Streams,
        authorization: Authorization,
    ) -> Self {
        Self {
            id,
            owner: Mutex::new(owner),
            placement,
            streams: Mutex::new(streams),
            authorization: Mutex::new(authorization),
            renewed: Notify::new(),
            last: Mutex::new(Instant::now()),
            over: AtomicBool::new(false),
            ready: AtomicBool::new(true),
            end: Notify::new(),
            attended: Notify::new(),
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
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn streams(&self) -> MutexGuard<'_, Streams> {
        lock(&self.streams)
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.end.notify_one();
    }

    /// Notes activity.
    fn mark(&self) {
        *lock(&self.last) = Instant::now();
    }

    /// When it was last active; `None` while a request is pending.
    pub(super) fn idle_since(&self) -> Option<std::time::Instant> {
        let idle = self.streams().is_idle();
        let last = lock(&self.last);
        idle.then(|| last.into_std())
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
        let session = &self.placement.session;
        session.set_rights(authorization.profile());
        self.renewed.notify_one();
    }

    /// Takes note of a token that `owner` has shown; `None` if the session is another's by now.
    pub(super) fn uses(&self, owner: &Owner, authorization: &Authorization) -> Option<()> {
        self.for_owner(owner, || self.note(authorization))
    }

    fn note(&self, authorization: &Authorization) {
        self.mark();
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
            session.end();
        }
    }
}

/// The reader of one of its streams, until it is dropped. It ends with the token of its request, even where the
/// session goes on with another.
pub(super) struct Reader {
    session: Arc<HttpSession>,
    reading: Reading,
    authorization: Authorization,
    /// `authorization` is no longer valid.
    is_invalidated: bool,
}

/// An event for a client.
pub(super) struct Event {
    pub id: EventId,
    pub line: Line,
    pub is_answer: bool,
}

impl Reader {
    pub(super) fn new(
        session: &Arc<HttpSession>,
        reading: Reading,
        authorization: Authorization,
    ) -> Self {
        session.attended.notify_one();
        Self {
            session: Arc::clone(session),
            reading,
            authorization,
            is_invalidated: false,
        }
    }

    pub(super) fn session(&self) -> &HttpSession {
        &self.session
    }

    pub(super) fn authorization(&self) -> &Authorization {
        &self.authorization
    }

    /// True once its session has another owner, or its stream another reader.
    pub(super) fn is_displaced(&self) -> bool {
        !self.session.streams().is_read_by(&self.reading)
    }

    /// True once it has ended with its token.
    pub(super) fn is_invalidated(&self) -> bool {
        self.is_invalidated
    }

    /// See [`Streams::make_resumable`].
    pub(super) fn make_resumable(&self) -> EventId {
        self.session.streams().make_resumable(&self.reading)
    }

    /// The next event; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            // Checked before each event: a slow client takes what waits long after it came.
            self.is_invalidated |= !self.authorization.holds();
            if self.is_invalidated {
                return None;
            }
            let next = self.session.streams().next(&self.reading);
            match next {
                Next::Event {
                    id,
                    line,
                    is_answer,
                } => {
                    self.session.mark();
                    return Some(Event {
                        id,
                        line,
                        is_answer,
                    });
                }
                Next::End => return None,
                Next::Wait => tokio::select! {
                    () = self.reading.wake.wait() => {}
                    invalidated = invalidated(&mut self.authorization, None) => {
                        tracing::info!(reason = invalidated.name(), "a stream ends");
                        self.is_invalidated = true;
                    }
                },
            }
        }
    }
}

impl Source for Reader {
    async fn next_event(&mut self) -> Option<Bytes> {
        let event = self.next().await?;
        Some(write_event(Some(event.id), Some(&event.line)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let now = Instant::now().into_std();
        self.session.streams().leave(&self.reading, now);
        self.session.attended.notify_one();
    }
}

/// Serves a session to its end, and forgets it then.
pub(super) async fn live(
    session: Arc<HttpSession>,
    context: Arc<Context>,
    forget: impl FnOnce(&HttpSession),
) {
    let left = Notify::new();
    let limit = ids::lifetime(&context.settings);
    let living = async {
        tracing::info!("session begins");
        let reason = tokio::select! {
            reason = pump(&session, &context.stopping) => reason,
            cut = session.placement.session.overflowed() => {
                session.streams().drop_all();
                why_cut(cut, &context.stopping).name()
            }
            invalidated = session_invalidated(&session) => invalidated.name(),
            () = session.end.notified() => "its client has left it, or another one needs its place",
            () = idle(&session, limit) => "idle for too long",
            never = attend(&session) => match never {},
        };
        forget(&session);
        session.over.store(true, Ordering::Relaxed);
        session.streams().close();
        tracing::info!(reason, "session ends");
        left.notify_one();
    };
    if context.sharing.is_shared_by_all() {
        living.await;
    } else {
        tokio::join!(living, session.placement.run_own(&left, &context.stopping));
    }
}

/// Moves lines of the hub for the client to its streams.
async fn pump(session: &HttpSession, stopping: &Stopping) -> &'static str {
    let hub = &session.placement.session;
    loop {
        match hub.take() {
            Ok(lines) if lines.is_empty() => hub.changed().await,
            Ok(lines) => {
                for line in lines {
                    match Message::read(line.joined(), MAX_CHILD_DEPTH) {
                        Ok(message) => session.streams().push(&message, line),
                        Err(err) => tracing::warn!(%err, "dropped a line for a client"),
                    }
                }
            }
            Err(cut) => return why_cut(cut, stopping).name(),
        }
    }
}

/// Completes when the last token of a session is no longer valid.
async fn session_invalidated(session: &HttpSession) -> Invalidated {
    loop {
        let mut authorization = lock(&session.authorization).clone();
        tokio::select! {
            invalidated = invalidated(&mut authorization, Some(&session.placement.session)) => return invalidated,
            () = session.renewed.notified() => {}
        }
    }
}

/// Completes when the session has been idle for `limit` without pending requests.
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

/// Tells the router whether the client can receive server requests.
async fn attend(session: &HttpSession) -> Infallible {
    let hub = &session.placement.session;
    let mut presence = Presence::Connected;
    loop {
        let changed = if presence == Presence::Lost {
            tokio::time::timeout(BACK_AT_ONCE, session.attended.notified()).await
        } else {
            session.attended.notified().await;
            Ok(())
        };
        let now = match (session.streams().is_attended(), changed) {
            (true, _) => Presence::Connected,
            (false, Err(_)) => Presence::Away,
            (false, Ok(())) if presence == Presence::Away => Presence::Away,
            (false, Ok(())) => Presence::Lost,
        };
        if now != presence {
            hub.set_presence(now);
            presence = now;
        }
    }
}
