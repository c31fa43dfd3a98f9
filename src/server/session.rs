//! The life of one session: messages both ways over one connection, and, with a client that speaks
//! `mcp-remote/resume`, over the connections that follow.

use super::access::{Lapse, expiry, revoked};
use super::link::{End, Link, carry};
use super::peer::Context;
use super::registry::{Handover, Registration};
use super::upstream::Read;
use crate::control::Control;
use crate::handshake;
use crate::hub::Session;
use crate::replay::Violation;
use crate::transport;
use crate::utils::apart::apart;
use bytes::Bytes;

/// Waits for the first line of a peer, so that no MCP server is started for a connection that goes
/// on with a session. Gives the connection and what it said, unless there is nothing more to do.
pub(super) async fn hello(mut link: Link, context: &Context) -> Result<(Link, Read), &'static str> {
    let idle = context.settings.idle_timeout.unwrap_or(super::FOREVER);
    let standing = link.standing.clone();
    let bad = async {
        tokio::select! {
            () = expiry(standing.identity()) => Lapse::Expired,
            () = revoked(standing.clone()) => Lapse::Revoked,
        }
    };
    let (reason, last_words) = tokio::select! {
        read = link.reader.next() => match read {
            Ok(None) => {
                let reason = "the peer has left";
                link.trail.ends(reason);
                return Err(reason);
            }
            Ok(Some(line)) => return match Control::read(&line) {
                Some(Control::Resume { session: Some(key), received }) => {
                    match context.registry.hand_over(&key, link, received) {
                        Ok(()) => Err("its session goes on"),
                        Err(back) => Ok((*back, Ok(Some(line)))),
                    }
                }
                _ => Ok((link, Ok(Some(line)))),
            },
            Err(err) => return Ok((link, Err(err))),
        },
        () = context.stopping() => ("the server stops", None),
        () = tokio::time::sleep(idle) => ("idle for too long", None),
        lapse = bad => {
            (lapse.name(), Some(handshake::authentication_failed(lapse.reason()).into()))
        }
    };
    link.trail.ends(reason);
    transport::close(link.reader, link.writer, last_words.as_slice()).await;
    Err(reason)
}

/// Serves a session over its connections, to its end; gives the reason for the log. `read` is what
/// the first connection has said already.
pub(super) async fn live(
    link: Link,
    mut read: Option<Read>,
    session: &Session,
    context: &Context,
) -> &'static str {
    let settings = &context.settings;
    let mut registration: Option<Registration> = None;
    let mut first: Option<Bytes> = None;
    let mut link = Box::new(link);
    loop {
        let resumable = registration.is_some();
        let ended = tokio::select! {
            ended = carry(&mut link, read.take(), session, context, resumable, first.take()) => Ok(ended),
            handover = apart(next_handover(&mut registration)) => Err(handover),
        };
        let handover = match ended {
            Err(handover) => {
                link.trail
                    .ends("its session goes on over another connection");
                handover
            }
            Ok((End::Resume(wanted, received), _)) => {
                if let Some(key) = wanted {
                    match context.registry.hand_over(&key, *link, received) {
                        Ok(()) => return "its session goes on",
                        Err(back) => link = back,
                    }
                }
                (registration, first) = open(&mut link, session, context);
                continue;
            }
            Ok((End::Leave(reason), last_words)) => {
                link.trail.ends(reason);
                let Link { reader, writer, .. } = *link;
                // Who comes back while this one closes begins anew.
                drop(registration);
                transport::close(reader, writer, &last_words).await;
                return reason;
            }
            Ok((End::Lost(reason), _)) => {
                link.trail.ends(reason);
                let Some(registration) = &mut registration else {
                    return reason;
                };
                let standing = link.standing.clone();
                drop(link);
                let key = registration.key.short().to_owned();
                tracing::info!(reason, session = key, "waiting for the client to come back");
                tokio::select! {
                    handover = registration.handover() => handover,
                    () = tokio::time::sleep(settings.resume_window) => return "the client has not come back",
                    () = session.overflowed() => return "its queue is full",
                    () = revoked(standing) => return Lapse::Revoked.name(),
                    () = context.stopping() => return "the server stops",
                }
            }
        };
        let Handover {
            link: new,
            received,
        } = handover;
        link = Box::new(new);
        let Some(registration) = &registration else {
            return "there is no session";
        };
        let resumed = session.replay(|replay| {
            let again = replay.resume(received)?;
            Ok::<_, Violation>((again, replay.tell()))
        });
        match resumed {
            Ok((again, received)) => {
                tracing::info!(session = registration.key.short(), address = %link.address, again, "resumed");
                link.trail.joined(registration.key.short());
                // While nobody was there, nobody took over what has changed.
                session.revise(link.standing.profile(), link.standing.rights());
                let session = Some(registration.key.clone());
                first = Some(
                    Control::Resumed {
                        session,
                        received,
                        resumed: true,
                    }
                    .to_line()
                    .into(),
                );
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

async fn next_handover(registration: &mut Option<Registration>) -> Handover {
    match registration {
        Some(registration) => registration.handover().await,
        None => std::future::pending().await,
    }
}

/// Makes a session one that can be resumed, where there is room; gives what to tell the client.
fn open(
    link: &mut Link,
    session: &Session,
    context: &Context,
) -> (Option<Registration>, Option<Bytes>) {
    let enabled = !context.settings.resume_window.is_zero();
    let registration = if enabled {
        context
            .registry
            .register(link.standing.identity(), session.watch())
    } else {
        None
    };
    if let Some(registration) = &registration {
        link.trail.joined(registration.key.short());
        session.replay(|replay| replay.keep());
    }
    let key = registration
        .as_ref()
        .map(|registration| registration.key.clone());
    let line = Control::Resumed {
        session: key,
        received: 0,
        resumed: false,
    }
    .to_line();
    (registration, Some(line.into()))
}
