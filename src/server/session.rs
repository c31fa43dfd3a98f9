//! One session: over one connection, and, with a client that speaks `mcp-remote/resume`, over those
//! that follow.

use super::access::{Authorization, Invalidated, apply_rights, expiry, revoked};
use super::connection::{Carrier, First};
use super::context::Context;
use super::end::{Disposition, Reason, warn_of_backlog, why_cut};
use super::first::{self, first};
use super::intake::Line;
use super::isolated::{self, NoProcess};
use super::link::Link;
use super::open;
use super::places::{Place, Spot};
use super::registry::{Handover, Registration};
use super::sharing::{Party, Placement};
use crate::audit::Trail;
use crate::control::Control;
use crate::handshake;
use crate::hub::{Cut, Session};
use crate::replay::Violation;
use crate::router::Presence;
use crate::transport;
use crate::transport::line::LineError;
use crate::transport::tls;
use crate::utils::seldom::Seldom;
use bytes::Bytes;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::sync::Notify;

/// How soon a client that has lost its connection usually comes back.
const BACK_AT_ONCE: Duration = Duration::from_secs(5);

/// How a connection begins that does not resume a session.
pub(super) enum Opening {
    /// It requests a session that can be resumed.
    Resumable,
    /// Its peer cannot resume, and has sent this first line.
    Plain(Line),
}

/// Why no session has begun on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unopened {
    /// The peer has disconnected without a line.
    Silent,
    /// For this reason.
    Ended(&'static str),
}

impl Unopened {
    /// For the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Silent => "the peer has left",
            Self::Ended(reason) => reason,
        }
    }
}

/// Waits for the first line of a peer, because a connection that resumes a session needs no new MCP
/// server. Returns the connection and how it begins, unless there is nothing more to do.
pub(super) async fn hello(
    mut link: Box<Link>,
    context: &Context,
) -> Result<(Box<Link>, Opening), Unopened> {
    let idle = context
        .settings
        .idle_timeout
        .unwrap_or(crate::liveness::FOREVER);
    let (authorization, holder) = (link.authorization.clone(), link.holder.clone());
    let bad = async {
        tokio::select! {
            () = expiry(authorization.identity().expires) => Invalidated::Expired,
            () = revoked(authorization.clone(), None) => Invalidated::Revoked,
        }
    };
    let (unopened, last_words) = tokio::select! {
        first = first(&mut link.reader) => match first {
            first::First::Object(line) => {
                link.trail.begins();
                return open(link, line, context);
            }
            first::First::TooLong(refusal) => {
                link.trail.begins();
                return Ok((link, Opening::Plain(Line::TooLong(refusal))));
            }
            first::First::Foreign(foreign) => {
                let reason = format_args!("the first line is no MCP message: {foreign}");
                static SEEN: Seldom = Seldom::new();
                open::note_stranger(&SEEN, &reason);
                link.trail.refused(&reason);
                (Unopened::Ended("refused"), Some(foreign.answer().into()))
            }
            first::First::End => (Unopened::Silent, None),
            first::First::Lost(LineError::Io(err)) if err.kind() == ErrorKind::ConnectionReset => {
                (Unopened::Silent, None)
            }
            first::First::Lost(err) => (Unopened::Ended(lost(&err)), None),
        },
        () = context.stopping.begins() => (Unopened::Ended("the server stops"), None),
        excess = holder.evicted() => {
            let reason = warn_of_backlog(excess).name();
            link.trail.ends(reason);
            return Err(Unopened::Ended(reason));
        }
        () = tokio::time::sleep(idle) => (Unopened::Ended("idle for too long"), None),
        invalidated = bad => {
            (Unopened::Ended(invalidated.name()), Some(handshake::authentication_failed(invalidated.reason()).into()))
        }
    };
    link.trail.ends(unopened.reason());
    let Link { reader, writer, .. } = *link;
    transport::close(reader, writer.into_inner(), last_words.as_slice()).await;
    Err(unopened)
}

/// How a connection begins that sends this first line.
fn open(link: Box<Link>, line: Bytes, context: &Context) -> Result<(Box<Link>, Opening), Unopened> {
    match Control::read(&line) {
        Some(Control::Resume {
            session: Some(key),
            received,
        }) => match context.registry.hand_over(&key, link, received) {
            Ok(()) => Err(Unopened::Ended("its session goes on")),
            Err(back) => Ok((back, Opening::Resumable)),
        },
        Some(Control::Resume { session: None, .. }) => Ok((link, Opening::Resumable)),
        _ => Ok((link, Opening::Plain(Line::Whole(line)))),
    }
}

/// Logs why a connection failed before its first line, and returns the reason.
fn lost(err: &LineError) -> &'static str {
    match err {
        LineError::Io(err) if tls::is_mismatch(err) => {
            open::note_stranger(&open::TLS, err);
            "it speaks TLS"
        }
        LineError::Pings | LineError::Empty => {
            tracing::warn!(%err, "connection ended");
            "too much without a message"
        }
        _ => {
            tracing::debug!(%err, "connection lost");
            "connection lost"
        }
    }
}

/// Serves a session from its first line to its end; returns the reason for the log.
pub(super) async fn serve(link: Box<Link>, opening: Opening, context: &Context) -> &'static str {
    let party = Party {
        authorization: &link.authorization,
        address: link.address,
        transport: link.transport,
        counted: context.counted(&link.authorization, link.address, link.of_user()),
    };
    let sharing = &context.sharing;
    match sharing.place(party) {
        Ok(placement) if sharing.is_shared_by_all() => {
            live(link, opening, &placement, context).await
        }
        Ok(placement) => Box::pin(serve_apart(link, opening, &placement, context)).await,
        Err(why) => Box::pin(turn_away(link, why)).await,
    }
}

/// Serves a session that has, or may get, a process of its own, and runs that process.
async fn serve_apart(
    link: Box<Link>,
    opening: Opening,
    placement: &Placement,
    context: &Context,
) -> &'static str {
    let left = Notify::new();
    let living = async {
        let end = live(link, opening, placement, context).await;
        left.notify_one();
        end
    };
    tokio::join!(living, placement.run_own(&left, &context.stopping)).0
}

/// Refuses a session for which there is no process.
async fn turn_away(mut link: Box<Link>, why: NoProcess) -> &'static str {
    let reason = isolated::reason(why);
    tracing::warn!("refused: {reason}");
    open::refused(&mut link.trail, &reason);
    let Link { reader, writer, .. } = *link;
    transport::close(
        reader,
        writer.into_inner(),
        &[isolated::refusal(why, None).into()],
    )
    .await;
    reason
}

/// Serves a session over its connections, to its end; returns the reason for the log.
async fn live(
    mut link: Box<Link>,
    opening: Opening,
    placement: &Placement,
    context: &Context,
) -> &'static str {
    // The session keeps the place for as long as it lives, so that its client can come back.
    let place = link.place.take();
    let (registration, first) = match opening {
        Opening::Plain(read) => (None, First::Read(read)),
        Opening::Resumable => {
            let registration = register(&mut link, &placement.session, context);
            let first = Control::Resumed {
                session: registration.as_ref().map(|known| known.key.clone()),
                received: 0,
                resumed: false,
            };
            (registration, First::Send(first.to_line().into()))
        }
    };
    let life = Life {
        placement,
        context,
        place,
        registration,
    };
    life.run(link, first).await.name()
}

/// A session that is being served.
struct Life<'a> {
    placement: &'a Placement,
    context: &'a Context,
    place: Option<Place>,
    /// Its place in the registry, if it can be resumed.
    registration: Option<Registration>,
}

impl Life<'_> {
    /// Serves it over one connection after the other; returns the reason for its end.
    async fn run(mut self, mut link: Box<Link>, mut first: First) -> Reason {
        loop {
            let carrier = Carrier {
                placement: self.placement,
                context: self.context,
                registration: self.registration.as_ref(),
            };
            let ended = carrier.carry(&mut link, first).await;
            let reason = ended.end.reason;
            link.trail.ends(reason.name());
            let next = match ended.end.disposition {
                Disposition::Replaced => ended.handover.ok_or(reason),
                Disposition::Lost => {
                    Box::pin(self.close_and_wait(link, ended.last_words, reason)).await
                }
                Disposition::Close => {
                    let Link { reader, writer, .. } = *link;
                    // A client that comes back while this connection closes gets a new session.
                    drop(self.registration.take());
                    transport::close(reader, writer.into_inner(), ended.last_words.as_slice())
                        .await;
                    return reason;
                }
                Disposition::Abort => return reason,
            };
            let resumed = next.and_then(|handover| self.resume(handover));
            (link, first) = match resumed {
                Ok(resumed) => resumed,
                Err(reason) => return reason,
            };
        }
    }

    /// Closes a connection, and waits for the next one meanwhile.
    ///
    /// # Errors
    /// Why there is none.
    async fn close_and_wait(
        &self,
        link: Box<Link>,
        last_words: Option<Bytes>,
        reason: Reason,
    ) -> Result<Handover, Reason> {
        let authorization = link.authorization.clone();
        let trail = link.trail.part();
        let (reader, writer) = link.into_halves();
        let mut waiting = std::pin::pin!(self.wait(authorization, &trail, reason));
        let mut closing = std::pin::pin!(async {
            if last_words.is_some() {
                transport::close(reader, writer, last_words.as_slice()).await;
            }
        });
        let next = tokio::select! {
            biased;
            next = &mut waiting => next,
            () = &mut closing => return waiting.await,
        };
        // A client that is back already has left this connection.
        if next.is_err() {
            closing.await;
        }
        next
    }

    /// Waits for the client after its connection was lost for this reason.
    ///
    /// # Errors
    /// Why there is no further connection.
    async fn wait(
        &self,
        authorization: Authorization,
        trail: &Trail,
        reason: Reason,
    ) -> Result<Handover, Reason> {
        let session = &self.placement.session;
        let registration = self.registration.as_ref().ok_or(reason)?;
        // A client that may not know of the session yet will begin a new one.
        if session.replay(|replay| replay.is_unused()) {
            return Err(reason);
        }
        let key = registration.key.short();
        let reason = reason.name();
        tracing::info!(reason, session = key, "waiting for the client to come back");
        registration.set_waiting(true);
        session.set_presence(Presence::Lost);
        let spots = [self.place.as_ref().map(Place::spot), self.placement.spot()];
        let handover = tokio::select! {
            // A session whose place is gone must end, even if its client is just coming back.
            biased;
            () = gives_way(spots) => {
                tracing::warn!(
                    session = key,
                    "all places are taken: the session of the user who has most ends before its time"
                );
                Err(Reason::PlaceNeeded)
            }
            handover = registration.handover() => Ok(handover),
            reason = given_up(session, self.context) => Err(reason),
            () = revoked(authorization, Some((session, trail))) => Err(Reason::Invalidated(Invalidated::Revoked)),
            never = stays_away(session) => match never {},
        }?;
        registration.set_waiting(false);
        Ok(handover)
    }

    /// Continues on another connection.
    ///
    /// # Errors
    /// The client's state does not fit.
    fn resume(&self, handover: Handover) -> Result<(Box<Link>, First), Reason> {
        let Handover { mut link, received } = handover;
        // The session has a place already.
        link.place = None;
        let session = &self.placement.session;
        let registration = self.registration.as_ref().ok_or(Reason::HungUp)?;
        let resumed = session.replay(|replay| {
            Ok::<_, Violation>((replay.resume(received)?, replay.receipts.acknowledge()))
        });
        let (resent, received) = resumed.map_err(|violation| {
            tracing::warn!(%violation, "refused to resume");
            link.trail.ends(Reason::WrongCount.name());
            Reason::WrongCount
        })?;
        let key = registration.key.short();
        tracing::info!(session = key, address = %link.address, resent, "resumed");
        link.trail.joined(key);
        // Changes since the last connection, and since this one was admitted, have not been applied yet. If its token is
        // revoked, that ends this one.
        let _valid = link.authorization.renew();
        apply_rights(&link.authorization, session, &link.trail);
        session.set_presence(Presence::Connected);
        let first = Control::Resumed {
            session: Some(registration.key.clone()),
            received,
            resumed: true,
        };
        Ok((link, First::Send(first.to_line().into())))
    }
}

/// Completes when one of the places of a waiting session has been given to another user.
async fn gives_way([place, child]: [Option<Spot>; 2]) {
    let lost = async |spot: Option<Spot>| match spot {
        Some(spot) => spot.wait().gives_way().await,
        None => std::future::pending().await,
    };
    tokio::select! {
        () = lost(place) => {}
        () = lost(child) => {}
    }
}

/// Completes when it is pointless to wait for the client of a session any longer.
async fn given_up(session: &Session, context: &Context) -> Reason {
    let window = tokio::time::sleep(context.settings.resume_window);
    let stopping = &context.stopping;
    let cut = async {
        let cut = session.cut().await;
        // The last messages of the MCP server are still worth delivering.
        if cut == Cut::Stopped && !session.is_settled() {
            stopping.begins().await;
        }
        why_cut(cut, stopping)
    };
    tokio::select! {
        () = window => Reason::NotBack,
        reason = cut => reason,
    }
}

/// Server requests wait for a client only if it comes back soon.
async fn stays_away(session: &Session) -> std::convert::Infallible {
    tokio::time::sleep(BACK_AT_ONCE).await;
    session.set_presence(Presence::Away);
    std::future::pending().await
}

/// Makes a session resumable, if there is room in the registry.
fn register(link: &mut Link, session: &Session, context: &Context) -> Option<Registration> {
    if context.settings.resume_window.is_zero() {
        return None;
    }
    let registration = context.registry.register(&link.owner, session.watch())?;
    link.trail.joined(registration.key.short());
    session.replay(|replay| replay.start_keeping());
    Some(registration)
}
