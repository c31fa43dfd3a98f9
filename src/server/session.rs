//! The life of one session: over one connection, and, with a client that speaks
//! `mcp-remote/resume`, over those that follow.

use super::access::{Lapse, expiry, revoked};
use super::connection::carry;
use super::context::Context;
use super::end::{End, warn_of_backlog, why_cut};
use super::first::{First, first};
use super::isolated;
use super::link::Link;
use super::open;
use super::places::{NoPlace, Place, Spot};
use super::registry::{Handover, Registration};
use super::sharing::{Party, Placement};
use crate::control::Control;
use crate::handshake;
use crate::hub::{Cut, Session};
use crate::replay::Violation;
use crate::router::Presence;
use crate::transport;
use crate::transport::line::LineError;
use crate::transport::tls;
use bytes::Bytes;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::sync::Notify;

/// A client that lost its connection is back within so long, or for some time not.
const BACK_AT_ONCE: Duration = Duration::from_secs(5);

/// How a connection begins that does not go on with a session.
pub(super) enum Opening {
    /// It asks for a session that can be resumed.
    Resumable,
    /// It is one of a peer that knows nothing of that, and has said this.
    Plain(Bytes),
}

/// Why no session has begun on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unopened {
    /// The peer has left without a line.
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

/// Waits for the first line of a peer: a connection may go on with a session, and no MCP server is
/// started for it then. Gives the connection and what it wants, unless there is nothing more to do.
pub(super) async fn hello(
    mut link: Box<Link>,
    context: &Context,
) -> Result<(Box<Link>, Opening), Unopened> {
    let idle = context
        .settings
        .idle_timeout
        .unwrap_or(crate::liveness::FOREVER);
    let (standing, holder) = (link.standing.clone(), link.holder.clone());
    let bad = async {
        tokio::select! {
            () = expiry(standing.identity()) => Lapse::Expired,
            () = revoked(standing.clone(), None) => Lapse::Revoked,
        }
    };
    let (unopened, last_words) = tokio::select! {
        first = first(&mut link.reader) => match first {
            First::Object(line) => return open(link, line, context),
            First::Foreign(foreign) => {
                let reason = format_args!("the first line is no MCP message: {foreign}");
                tracing::warn!(%reason, "refused");
                link.trail.refused(&reason);
                (Unopened::Ended("refused"), Some(foreign.answer().into()))
            }
            First::End => (Unopened::Silent, None),
            First::Lost(LineError::Io(err)) if err.kind() == ErrorKind::ConnectionReset => {
                (Unopened::Silent, None)
            }
            First::Lost(err) => (Unopened::Ended(lost(&err)), None),
        },
        () = context.stopping.begins() => (Unopened::Ended("the server stops"), None),
        excess = holder.evicted() => {
            let reason = warn_of_backlog(excess);
            link.trail.ends(reason);
            return Err(Unopened::Ended(reason));
        }
        () = tokio::time::sleep(idle) => (Unopened::Ended("idle for too long"), None),
        lapse = bad => {
            (Unopened::Ended(lapse.name()), Some(handshake::authentication_failed(lapse.reason()).into()))
        }
    };
    link.trail.ends(unopened.reason());
    let Link { reader, writer, .. } = *link;
    transport::close(reader, writer, last_words.as_slice()).await;
    Err(unopened)
}

/// What a connection wants that begins with this line.
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
        _ => Ok((link, Opening::Plain(line))),
    }
}

/// Logs why a connection failed before its first line, and names it.
fn lost(err: &LineError) -> &'static str {
    match err {
        LineError::Io(err) if tls::is_mismatch(err) => {
            tracing::warn!(%err, "refused");
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

/// Serves a session from its first line to its end; gives the reason for the log.
pub(super) async fn serve(link: Box<Link>, opening: Opening, context: &Context) -> &'static str {
    let party = Party {
        standing: &link.standing,
        address: link.address,
        counted: context.counted(&link.standing, link.address, link.of_user()),
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

/// Serves a session that has, or may get, a process of its own, and runs that.
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

/// Refuses a session that would need one process too many.
async fn turn_away(mut link: Box<Link>, why: NoPlace) -> &'static str {
    let reason = isolated::reason(why);
    tracing::warn!("refused: {reason}");
    open::refused(&mut link.trail, &reason);
    let Link { reader, writer, .. } = *link;
    transport::close(reader, writer, &[isolated::refusal(why, None).into()]).await;
    reason
}

/// Serves a session over its connections, to its end; gives the reason for the log.
async fn live(
    mut link: Box<Link>,
    opening: Opening,
    placement: &Placement,
    context: &Context,
) -> &'static str {
    let session = &placement.session;
    // The place is the session's for as long as it lives, so that its client finds room.
    let place = link.place.take();
    let (registration, mut first, mut read) = match opening {
        Opening::Plain(read) => (None, None, Some(read)),
        Opening::Resumable => {
            let registration = register(&mut link, session, context);
            let first = Control::Resumed {
                session: registration.as_ref().map(|known| known.key.clone()),
                received: 0,
                resumed: false,
            };
            (registration, Some(first), None)
        }
    };
    loop {
        let first_line = first.take().map(|first| Bytes::from(first.to_line()));
        let known = registration.as_ref();
        let ended = carry(
            &mut link,
            read.take(),
            placement,
            context,
            known,
            first_line,
        )
        .await;
        let handover = match ended {
            (End::Replaced(handover), _) => {
                link.trail
                    .ends("its session goes on over another connection");
                handover
            }
            (End::Leave(reason), last_words) => {
                link.trail.ends(reason);
                let Link { reader, writer, .. } = *link;
                // Who comes back while this one closes begins anew.
                drop(registration);
                transport::close(reader, writer, &last_words).await;
                return reason;
            }
            (End::Abort(reason), _) => {
                link.trail.ends(reason);
                return reason;
            }
            (End::Lost(reason), _) => {
                link.trail.ends(reason);
                let Some(registration) = &registration else {
                    return reason;
                };
                // A client that may not even know of it gets another one.
                if session.replay(|replay| replay.is_unused()) {
                    return reason;
                }
                let session_key = registration.key.short();
                tracing::info!(
                    reason,
                    session = session_key,
                    "waiting for the client to come back"
                );
                let standing = link.standing.clone();
                drop(link);
                registration.set_waiting(true);
                session.set_presence(Presence::Lost);
                let spots = [place.as_ref().map(Place::spot), placement.spot()];
                let handover = tokio::select! {
                    // Whose place is gone must not go on, even where its client is just coming back.
                    biased;
                    () = gives_way(spots) => {
                        tracing::warn!(
                            session = session_key,
                            "all places are taken: the session of the user who has most ends before its time"
                        );
                        return "its place is needed";
                    }
                    handover = registration.handover() => handover,
                    reason = given_up(session, context) => return reason,
                    () = revoked(standing, Some(session)) => return Lapse::Revoked.name(),
                    never = stays_away(session) => match never {},
                };
                registration.set_waiting(false);
                handover
            }
        };
        let Handover {
            link: new,
            received,
        } = handover;
        link = new;
        // Its session has one.
        link.place = None;
        let Some(registration) = &registration else {
            return "there is no session";
        };
        match session.replay(|replay| {
            Ok::<_, Violation>((replay.resume(received)?, replay.receipts.acknowledge()))
        }) {
            Ok((resent, received)) => {
                tracing::info!(session = registration.key.short(), address = %link.address, resent, "resumed");
                link.trail.joined(registration.key.short());
                // While nobody was there, nobody took over what has changed.
                session.revise(link.standing.profile());
                session.set_presence(Presence::Connected);
                first = Some(Control::Resumed {
                    session: Some(registration.key.clone()),
                    received,
                    resumed: true,
                });
            }
            Err(violation) => {
                tracing::warn!(%violation, "refused to resume");
                let reason = "the client counts wrongly";
                link.trail.ends(reason);
                return reason;
            }
        }
    }
}

/// Completes when one of the places of a session that waits has been given to somebody else.
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

/// Completes when there is no point in waiting for the client of a session any longer.
async fn given_up(session: &Session, context: &Context) -> &'static str {
    let window = tokio::time::sleep(context.settings.resume_window);
    let cut = async {
        match session.cut().await {
            cut @ (Cut::Slow | Cut::Backlog(_)) => why_cut(cut, &context.stopping),
            // What the MCP server said last is still worth something.
            Cut::Stopped if session.is_settled() => context.stopping.why_cut(),
            Cut::Stopped => {
                context.stopping.begins().await;
                context.stopping.why_cut()
            }
        }
    };
    tokio::select! {
        () = window => "the client has not come back",
        reason = cut => reason,
    }
}

/// What the MCP server asks waits for a client that is back at once, and for no other.
async fn stays_away(session: &Session) -> std::convert::Infallible {
    tokio::time::sleep(BACK_AT_ONCE).await;
    session.set_presence(Presence::Away);
    std::future::pending().await
}

/// Makes a session one that can be resumed, where there is room.
fn register(link: &mut Link, session: &Session, context: &Context) -> Option<Registration> {
    if context.settings.resume_window.is_zero() {
        return None;
    }
    let registration = context.registry.register(&link.owner, session.watch())?;
    link.trail.joined(registration.key.short());
    session.replay(|replay| replay.start_keeping());
    Some(registration)
}
