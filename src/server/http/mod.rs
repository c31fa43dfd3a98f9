//! MCP over HTTP, request by request. The decisions are made in [`crate::http`]; a body is a line for the
//! gate like any other, and lines of the hub for a session go out as JSON or as events.

// The error type is as large as a reply, because it is one.
#![allow(clippy::result_large_err)]

mod begin;
mod body;
mod feed;
mod gate;
mod ids;
mod in_place;
mod listen;
mod parameters;
mod post;
mod reader;
mod reply;
mod requests;
mod revive;
mod session;
mod sessions;
mod stateless;
mod visitor;

pub(super) use sessions::HttpSessions;

use super::arrival::{Arrival, arrival};
use super::context::Context;
use super::listeners::ListenerKind;
use super::open;
use super::peer;
use super::pending::PendingConnection;
use super::unauthenticated::{Unauthenticated, gives_way, is_late};
use crate::http::Site;
use crate::transport::BoxedStream;
use crate::transport::socket::Socket;
use crate::utils::own_waker::own_waker;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use visitor::Visitor;

/// The idle timeout of connections: longer than that of common reverse proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(
    (socket, site): (Socket, Arc<Site>),
    who: Unauthenticated,
    context: Arc<Context>,
    http_sessions: Arc<HttpSessions>,
) {
    tracing::debug!("connected");
    let kind = match site.path {
        Some(_) => ListenerKind::Http,
        None => ListenerKind::Health,
    };
    let Unauthenticated {
        address,
        number,
        mut trail,
        deadline,
        mut pending,
    } = who;
    let settings = &context.settings;
    let spot = pending.spot();
    let opening = async {
        if arrival(&socket, deadline).await == Arrival::Speaks {
            spot.on_first_byte();
        }
        open::secure(socket, kind, settings, &mut trail).await
    };
    let opened = tokio::select! {
        opened = tokio::time::timeout_at(deadline, opening) => opened,
        () = pending.evicted() => return gives_way(&mut trail),
    };
    let (stream, certificate) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(err)) => {
            return Box::pin(open::turn_down(err, kind, &mut trail, context.is_ready())).await;
        }
        Err(_) => return is_late(&mut trail),
    };
    let visitor = Visitor::new((context, http_sessions), site, address, certificate, trail);
    let all_pending = pending.all();
    let mut pending = Some(pending);
    let end = Box::pin(converse(stream, &visitor, &mut pending, deadline)).await;
    visitor.ends(end);
    tracing::debug!(reason = end, "disconnected");
    if let Some((upgrade, said)) = visitor.take_upgrade()
        && let Ok(upgraded) = upgrade.await
    {
        let context = Arc::clone(&visitor.context);
        let certificate = visitor.certificate.clone();
        drop(visitor);
        let stream = Box::new(TokioIo::new(upgraded));
        let pending = match pending {
            Some(pending) => pending,
            // It was authenticated for its requests, and has to be once more.
            None => all_pending.enter(address, Duration::ZERO).await,
        };
        let who = Unauthenticated::begin(&context.settings, address, number, pending);
        peer::serve_upgraded((stream, certificate), said, who, &context).await;
    }
}

/// Answers the requests of a connection; returns the reason for its end.
async fn converse(
    stream: BoxedStream,
    visitor: &Visitor,
    pending: &mut Option<PendingConnection>,
    deadline: Instant,
) -> &'static str {
    let service = service_fn(|request| requests::answer(visitor, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE.max(visitor.context.settings.auth_timeout))
        .max_buf_size(MAX_HEAD)
        // The buffer may grow beyond its bound.
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => Some(served),
        () = visitor.admitted() => None,
        () = evicted(pending) => return visitor.gives_way(),
        () = tokio::time::sleep_until(deadline) => return "nothing that it may do, in time",
    };
    let served = match served {
        Some(served) => served,
        None => {
            // Once authenticated, the connection is no longer pending.
            drop(pending.take());
            let stopping = own_waker(visitor.context.stopping.begins());
            tokio::select! {
                served = connection.as_mut() => served,
                () = stopping => {
                    // Requests in flight are still answered.
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    match served {
        Ok(()) => "the peer has left",
        Err(err) => {
            tracing::debug!(%err, "connection ended");
            "connection lost"
        }
    }
}

async fn evicted(pending: &mut Option<PendingConnection>) {
    match pending {
        Some(pending) => pending.evicted().await,
        None => std::future::pending().await,
    }
}
