//! The beginning of every connection: open, authenticate, find its session.

use super::Settings;
use super::access::{Access, Authorization, authenticate};
use super::arrival::{Arrival, arrival};
use super::context::Context;
use super::link::Link;
use super::listeners::ListenerKind;
use super::open::{
    Opened, TLS, UPGRADE_ALLOWANCE, note_stranger, open, refused, silent, turn_down,
};
use super::pending::Spot;
use super::places::{NoPlace, Place};
use super::session::{self, Unopened};
use super::unauthenticated::{Unauthenticated, gives_way, is_late};
use crate::account::{Account, Address};
use crate::audit::Trail;
use crate::auth::Identity;
use crate::control::{Control, SessionKey};
use crate::handshake::{self, Refused};
use crate::metrics::{self, AuthFailure, Transport};
use crate::transport::line::LineError;
use crate::transport::outlet::Lendable;
use crate::transport::proxy_header;
use crate::transport::socket::Socket;
use crate::transport::tls::{self, Holder};
use crate::transport::websocket::{Upgrade, WebSocket};
use crate::transport::{self, BoxedStream, Connection, Protocol};
use crate::utils::secret::Secret;
use crate::utils::seldom::Seldom;
use bytes::Bytes;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How an authenticated peer is admitted.
enum Entry {
    /// It has a place.
    Free(Place),
    /// It may only resume a session, since it gets no place of its own for this reason.
    Returning(Refused),
}

/// Takes a place for a peer. If there is none, or the server is stopping, it may still resume a
/// session, which has a place.
fn place(
    context: &Context,
    identity: &Identity,
    address: Address,
    certificate: Option<Holder>,
) -> Result<Entry, Refused> {
    let refusal = if context.stopping.has_begun() {
        Refused::Stopping
    } else {
        match context.places.take(&Account::of(identity, address)) {
            Ok(place) => return Ok(Entry::Free(place)),
            Err(NoPlace::Full) => Refused::Full,
            Err(NoPlace::TooManyOfUser) => Refused::TooManyOfUser,
        }
    };
    let rights = context.settings.access.borrow().rights(identity);
    let owner = context.sharing.owner(identity, &rights, certificate);
    if context.registry.knows(&owner) {
        Ok(Entry::Returning(refusal))
    } else {
        Err(refusal)
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(
    (socket, protocol): (Socket, Protocol),
    who: Unauthenticated,
    context: Arc<Context>,
) {
    tracing::debug!("accepted");
    let has_spoken = context.settings.must_speak(protocol);
    let entrance = Entrance::Socket(socket, protocol);
    if let Some(link) = link(entrance, who, &context).await {
        stay(link, has_spoken, &context).await;
    }
}

/// Serves a WebSocket that a request over HTTP has asked for.
pub(super) async fn serve_upgraded(
    (stream, certificate): (BoxedStream, Option<Holder>),
    upgrade: Upgrade,
    who: Unauthenticated,
    context: &Context,
) {
    let limit = context.settings.max_message_size;
    let socket = WebSocket::accepted(stream, Some(UPGRADE_ALLOWANCE), limit).await;
    let connection = Connection::WebSocket(Box::new(socket));
    let entrance = Entrance::Upgraded(Box::new((connection, upgrade, certificate)));
    if let Some(link) = link(entrance, who, context).await {
        stay(link, true, context).await;
    }
}

/// How a pending connection arrives.
enum Entrance {
    Socket(Socket, Protocol),
    /// Over HTTP.
    Upgraded(Box<Opened>),
}

/// Serves an admitted peer to its end. `has_spoken` is true if it had to send something to be admitted.
async fn stay(link: Box<Link>, has_spoken: bool, context: &Context) {
    if has_spoken {
        tracing::info!("connected");
        link.trail.begins();
    }
    // Box the large, rare futures so that idle tasks stay small.
    let end = match Box::pin(session::hello(link, context)).await {
        Err(Unopened::Silent) if !has_spoken => {
            return tracing::debug!("disconnected, it has said nothing");
        }
        Err(unopened) => unopened.reason(),
        Ok((link, opening)) => {
            if !has_spoken {
                tracing::info!("connected");
            }
            session::serve(link, opening, context).await
        }
    };
    tracing::info!(reason = end, "disconnected");
}

/// An authenticated connection with its place. Without one it may resume a session, and stays
/// pending until it has.
async fn link(entrance: Entrance, who: Unauthenticated, context: &Context) -> Option<Box<Link>> {
    let Unauthenticated {
        address: peer,
        mut trail,
        deadline,
        mut pending,
        ..
    } = who;
    let settings = &context.settings;
    let mut access = settings.access.clone();
    let transport = match &entrance {
        Entrance::Socket(_, protocol) => (*protocol).into(),
        Entrance::Upgraded(_) => Transport::WebSocket,
    };
    let entering = enter(
        entrance,
        (peer, pending.spot(), deadline),
        context,
        &mut access,
        &mut trail,
    );
    let entered = tokio::select! {
        entered = Box::pin(entering) => entered,
        () = pending.evicted() => {
            gives_way(&mut trail);
            return None;
        }
    };
    let (mut entered, entry) = entered?;
    note_identity(&entered.identity, settings, &mut trail);
    let refusal = match entry {
        Entry::Free(place) => {
            return Some(entered.into_link(Some(place), access, (transport, trail), context));
        }
        Entry::Returning(refusal) => refusal,
    };
    let session = tokio::select! {
        session = named_session(&mut entered.connection, settings.auth_timeout) => session,
        () = pending.evicted() => {
            gives_way(&mut trail);
            return None;
        }
    };
    let link = entered.into_link(None, access, (transport, trail), context);
    tokio::select! {
        () = Box::pin(take_over(link, session, refusal, context)) => {}
        // It has been refused, with an error if it still reads.
        () = pending.evicted() => {}
    }
    None
}

/// Records who was admitted.
fn note_identity(identity: &Identity, settings: &Settings, trail: &mut Trail) {
    let span = tracing::Span::current();
    span.record("user", identity.name());
    span.record("roles", identity.roles.join(","));
    if identity.token.is_some() {
        tracing::info!("authenticated");
        settings.access.borrow().warn_without_roles(identity);
        trail.identified(identity);
        trail.authenticated();
    }
}

/// Waits for the first byte; `None` if none comes.
async fn first_byte(
    socket: Socket,
    protocol: Protocol,
    (spot, deadline): (&Spot, Instant),
    settings: &Settings,
    trail: &mut Trail,
) -> Option<Socket> {
    match arrival(&socket, deadline).await {
        Arrival::Speaks => {
            spot.on_first_byte();
            Some(socket)
        }
        Arrival::Silent => {
            silent(socket, protocol, settings, trail).await;
            None
        }
        Arrival::Gone => {
            tracing::debug!("disconnected, it has said nothing");
            None
        }
    }
}

/// The address of the client: the peer's, or the one in the PROXY header if the peer is a proxy that sends
/// one.
async fn named_ahead(
    entrance: &mut Entrance,
    peer: Address,
    deadline: Instant,
    settings: &Settings,
    trail: &mut Trail,
) -> Option<Address> {
    let Entrance::Socket(socket, Protocol::Tcp) = entrance else {
        return Some(peer);
    };
    if !settings.proxy_protocol || !settings.trusts(peer) {
        return Some(peer);
    }
    if arrival(socket, deadline).await == Arrival::Gone {
        tracing::debug!("disconnected, it has said nothing");
        return None;
    }
    let read = proxy_header::read(socket);
    let reason: &dyn Display = match tokio::time::timeout_at(deadline, read).await {
        Ok(Ok(client)) => return Some(client.map_or(peer, Address::Network)),
        Ok(Err(err)) => &{ err },
        Err(_) => &"no PROXY header in time",
    };
    tracing::warn!("refused: {reason}");
    refused(trail, reason);
    None
}

/// Notes the address of the client behind a proxy.
fn note_client(address: Address, spot: &Spot, trail: &mut Trail) {
    tracing::Span::current().record("client", tracing::field::display(address));
    trail.speaks_for(address);
    spot.is_of(address);
}

/// Opens the transport, unless it is open already.
async fn begin(
    entrance: Entrance,
    (spot, deadline): (&Spot, Instant),
    context: &Context,
    trail: &mut Trail,
) -> Option<Opened> {
    let settings = &context.settings;
    let (mut socket, protocol) = match entrance {
        Entrance::Socket(socket, protocol) => (socket, protocol),
        Entrance::Upgraded(opened) => return Some(*opened),
    };
    if settings.must_speak(protocol) || settings.access.borrow().tls.is_some() {
        socket = first_byte(socket, protocol, (spot, deadline), settings, trail).await?;
    }
    match tokio::time::timeout_at(deadline, open(socket, protocol, settings, trail)).await {
        Ok(Ok(opened)) => Some(opened),
        Ok(Err(err)) => {
            let kind = ListenerKind::Lines(protocol);
            Box::pin(turn_down(err, kind, trail, context.is_ready())).await;
            None
        }
        Err(_) => {
            is_late(trail);
            None
        }
    }
}

/// An admitted connection.
struct Entered {
    connection: Connection,
    /// The address of its client.
    address: Address,
    identity: Identity,
    certificate: Option<Holder>,
}

impl Entered {
    /// The connection, ready to carry messages.
    fn into_link(
        self,
        place: Option<Place>,
        access: watch::Receiver<Arc<Access>>,
        (transport, trail): (Transport, Trail),
        context: &Context,
    ) -> Box<Link> {
        let (mut reader, writer) = self.connection.split(context.settings.max_message_size);
        let holder = context
            .backlog
            .holder(Account::of(&self.identity, self.address));
        reader.hold(holder.part());
        let authorization = Authorization::new(access, self.identity);
        let (identity, rights) = (authorization.identity(), authorization.rights());
        Box::new(Link {
            reader,
            writer: Lendable::new(writer),
            owner: context.sharing.owner(identity, rights, self.certificate),
            holder,
            authorization,
            address: self.address,
            transport,
            trail,
            place,
        })
    }
}

/// Opens the transport and authenticates, both before the deadline.
async fn enter(
    mut entrance: Entrance,
    (peer, spot, deadline): (Address, Spot, Instant),
    context: &Context,
    access: &mut watch::Receiver<Arc<Access>>,
    trail: &mut Trail,
) -> Option<(Entered, Entry)> {
    let settings = &context.settings;
    let client = named_ahead(&mut entrance, peer, deadline, settings, trail).await?;
    if client != peer {
        note_client(client, &spot, trail);
    }
    let (mut connection, upgrade, certificate) =
        begin(entrance, (&spot, deadline), context, trail).await?;
    let address = upgrade.forwarded.client(client, &settings.trusted_proxies);
    if address != client {
        note_client(address, &spot, trail);
    }
    // Changes from here on are noticed once the peer is admitted.
    let asks = access.borrow_and_update().requirements.is_some();
    let authenticator = handshake::Authenticator {
        check: asks.then_some(async |token: &Secret| authenticate(access, token).await),
        resume: !settings.resume_window.is_zero(),
    };
    let place = |identity: &Identity| place(context, identity, address, certificate.clone());
    let admitted = authenticator.admit(&mut connection, upgrade.bearer.as_ref(), place);
    let refusal = match tokio::time::timeout_at(deadline, admitted).await {
        Ok(Ok((identity, entry))) => {
            let entered = Entered {
                connection,
                address,
                identity,
                certificate,
            };
            return Some((entered, entry));
        }
        Ok(Err(refusal)) => {
            log_refusal(&refusal, trail);
            refusal.to_line()
        }
        Err(_) => {
            let reason = "no token in time";
            metrics::refused(AuthFailure::Timeout);
            tracing::info!("refused: {reason}");
            refused(trail, &reason);
            Some(handshake::authentication_timeout(settings.auth_timeout))
        }
    };
    if let Some(line) = refusal {
        connection.close_with(line).await;
    }
    None
}

/// Reads which session a connection without a place wants to resume from its first line, which may
/// be as long as a token, and how many lines its client has received.
async fn named_session(connection: &mut Connection, limit: Duration) -> Option<(SessionKey, u64)> {
    let first = tokio::time::timeout(limit, connection.next()).await;
    let line = first.ok()?.ok()??;
    match Control::read(&line) {
        Some(Control::Resume { session, received }) => Some((session?, received)),
        _ => None,
    }
}

/// Lets a connection without a place resume the session that it names, or refuses it.
async fn take_over(
    mut link: Box<Link>,
    session: Option<(SessionKey, u64)>,
    refusal: Refused,
    context: &Context,
) {
    link.trail.begins();
    if let Some((key, received)) = session {
        match context.registry.hand_over(&key, link, received) {
            Ok(()) => return tracing::info!(reason = "its session goes on", "disconnected"),
            Err(back) => link = back,
        }
    }
    log_refusal(&refusal, &mut link.trail);
    let last_words = refusal.to_line().map(Bytes::from);
    let Link { reader, writer, .. } = *link;
    transport::close(reader, writer.into_inner(), last_words.as_slice()).await;
}

fn log_refusal(refusal: &Refused, trail: &mut Trail) {
    refusal.failure().into_iter().for_each(metrics::refused);
    match refusal {
        Refused::Gone(LineError::Io(err)) if tls::is_mismatch(err) => {
            note_stranger(&TLS, err);
            refused(trail, err);
        }
        Refused::Http | Refused::NoToken(_) => {
            static SEEN: Seldom = Seldom::new();
            note_stranger(&SEEN, refusal);
            refused(trail, refusal);
        }
        Refused::HungUp | Refused::Gone(_) => {
            tracing::debug!(reason = %refusal, "disconnected");
        }
        _ => {
            tracing::warn!(reason = %refusal, "refused");
            if let Some(identity) = refusal.identity() {
                trail.identified(identity);
            }
            refused(trail, refusal);
        }
    }
}
