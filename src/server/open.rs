//! From a socket to a connection: TLS, the WebSocket upgrade, and the answer to peers that speak
//! another protocol.

use super::Settings;
use super::listeners::ListenerKind;
use crate::audit::Trail;
use crate::handshake::{self, MAX_TOKEN_LINE};
use crate::jsonrpc::{Code, ErrorData, Executed, error_line};
use crate::metrics::{self, AuthFailure};
use crate::transport::foreign;
use crate::transport::socket::Socket;
use crate::transport::tls::{self, AcceptError, Holder, Mismatch, Plain, Shown};
use crate::transport::websocket::request::{self, Answer, Request};
use crate::transport::websocket::{Upgrade, UpgradeError, WebSocket};
use crate::transport::{BoxedStream, Connection, Protocol};
use crate::utils::seldom::Seldom;
use std::fmt::Display;
use std::future::Future;

/// The most that a pending connection may send over WebSocket, upgrade request and framing included, in
/// bytes.
pub(super) const UPGRADE_ALLOWANCE: usize = MAX_TOKEN_LINE + 16 * 1024;

/// For the audit log: the connection ends because it is not admitted.
pub(super) fn refused(trail: &mut Trail, reason: &dyn Display) {
    trail.refused(reason);
    trail.ends("refused");
}

/// Ends a connection that has missed its deadline, with an error if it should have sent a token.
pub(super) async fn silent(
    stream: Socket,
    protocol: Protocol,
    settings: &Settings,
    trail: &mut Trail,
) {
    let wants_token = match protocol {
        Protocol::Tcp => settings.access.borrow().tls.is_none(),
        Protocol::Unix => true,
        Protocol::WebSocket => false,
    };
    let reason = if wants_token {
        "no token in time"
    } else {
        "no connection in time"
    };
    tracing::debug!("refused: {reason}");
    refused(trail, &reason);
    if wants_token {
        metrics::refused(AuthFailure::Timeout);
        let line = handshake::authentication_timeout(settings.auth_timeout);
        over(Box::new(stream)).close_with(line).await;
    }
}

/// Logs peers that speak another protocol, at the first, the tenth, the hundredth and so on, since most of
/// them are port scans. A misconfigured client is told what is wrong.
pub(super) fn note_stranger(of_its_kind: &Seldom, reason: &dyn Display) {
    match of_its_kind.count() {
        Some(count) => tracing::info!(count, "refused: {reason}"),
        None => tracing::debug!("refused: {reason}"),
    }
}

/// Counts peers that speak TLS to a plain port.
pub(super) static TLS: Seldom = Seldom::new();

fn note_tls() {
    note_stranger(&TLS, &Mismatch);
}

/// Why no connection could be opened.
pub(super) enum OpenError {
    Tls(AcceptError),
    Upgrade(UpgradeError),
    /// An HTTP request that is no upgrade.
    Plain(Answer, BoxedStream),
    /// A health check that asks whether the MCP server answers; true if the reply has a body.
    Readiness(bool, BoxedStream),
    /// Something other than HTTP on a WebSocket port.
    Foreign(BoxedStream),
    /// The peer has disconnected, or the stream failed, before the upgrade.
    Gone(&'static str),
}

/// Logs it, and tells the peer if possible.
pub(super) async fn turn_down(
    err: OpenError,
    kind: ListenerKind,
    trail: &mut Trail,
    is_ready: impl Future<Output = bool>,
) {
    match err {
        OpenError::Readiness(with_body, stream) => {
            let answer = request::readiness(is_ready.await, with_body);
            answer_health(answer, stream).await;
        }
        OpenError::Upgrade(err) => {
            static SEEN: Seldom = Seldom::new();
            let reason = format!("no WebSocket: {err}");
            note_stranger(&SEEN, &reason);
            refused(trail, &reason);
        }
        OpenError::Plain(answer, stream) => answer_plain(answer, stream, trail).await,
        OpenError::Foreign(stream) => {
            let text = "this port speaks WebSocket; use 'mcp-remote client ws'";
            static SEEN: Seldom = Seldom::new();
            let reason = "it does not speak WebSocket";
            note_stranger(&SEEN, &reason);
            refused(trail, &reason);
            let data = ErrorData::new("wrong-transport", Executed::No);
            let text = format!("Invalid Request: {text}");
            let answer = error_line(None, Code::InvalidRequest, &text, Some(&data));
            over(stream).close_with(answer).await;
        }
        OpenError::Gone(reason) => {
            tracing::debug!("disconnected, {reason}");
        }
        OpenError::Tls(AcceptError::Gone(err)) => {
            tracing::debug!(reason = %err, "disconnected before TLS");
        }
        OpenError::Tls(err) => {
            static SEEN: Seldom = Seldom::new();
            let reason = format!("no TLS: {err}");
            note_stranger(&SEEN, &reason);
            refused(trail, &reason);
            match err {
                AcceptError::Plain(stream) => {
                    let data = ErrorData::new("tls-required", Executed::No);
                    let answer = wrong_port(kind, "this port speaks TLS", &data);
                    over(Box::new(stream)).close_with(answer).await;
                }
                // The alert that says why must still reach the peer.
                AcceptError::Handshake(_, stream) => over(Box::new(stream)).close().await,
                AcceptError::Gone(_) => {}
            }
        }
    }
}

/// Answers a health check.
async fn answer_health(answer: Answer, stream: BoxedStream) {
    tracing::debug!(
        status = answer.status,
        "answered an HTTP request for health"
    );
    over(stream).close_with(answer.bytes).await;
}

/// Answers an HTTP request that is no upgrade: of a health check, a load balancer, a browser.
async fn answer_plain(answer: Answer, stream: BoxedStream, trail: &mut Trail) {
    tracing::debug!(
        status = answer.status,
        "answered an HTTP request that is no WebSocket upgrade"
    );
    if answer.is_error() {
        refused(trail, &"an HTTP request that is no WebSocket upgrade");
    }
    over(stream).close_with(answer.bytes).await;
}

/// Lines of a pending connection may be as long as a token, whether or not one is required.
fn over(stream: BoxedStream) -> Connection {
    Connection::over_stream(stream, MAX_TOKEN_LINE)
}

/// The answer to a peer if only one end speaks TLS: a JSON-RPC error, or an HTTP response instead
/// of the upgrade.
fn wrong_port(kind: ListenerKind, text: &str, data: &ErrorData) -> Vec<u8> {
    match kind {
        ListenerKind::Lines(Protocol::Tcp | Protocol::Unix) => {
            let text = format!("Invalid Request: {text}");
            error_line(None, Code::InvalidRequest, &text, Some(data))
        }
        ListenerKind::Lines(Protocol::WebSocket)
        | ListenerKind::Http
        | ListenerKind::Health
        | ListenerKind::Metrics => foreign::bad_request(text),
    }
}

/// An open connection: what came with the upgrade, and the certificate that was shown.
pub(super) type Opened = (Connection, Upgrade, Option<Holder>);

/// Adds TLS to the connection, if the port speaks it.
pub(super) async fn secure(
    socket: Socket,
    kind: ListenerKind,
    settings: &Settings,
    trail: &mut Trail,
) -> Result<(BoxedStream, Option<Holder>), OpenError> {
    // Cloned, because the channel's lock must not be held across an await.
    let tls = settings.access.borrow().tls.clone();
    let (acceptor, stream) = match (tls, socket) {
        (Some(acceptor), Socket::Tcp(stream))
            if !matches!(kind, ListenerKind::Health | ListenerKind::Metrics) =>
        {
            (acceptor, stream)
        }
        // Local connections need no TLS, and health checks do not speak it.
        (_, socket) => {
            let data = ErrorData::new("no-tls", Executed::No);
            let answer = wrong_port(kind, "this port does not speak TLS", &data);
            let plain = Plain::new(socket, answer);
            let plain = match kind {
                // A peer that reads lines is told.
                ListenerKind::Lines(_) => plain,
                ListenerKind::Http | ListenerKind::Health | ListenerKind::Metrics => {
                    plain.noticed_by(note_tls)
                }
            };
            return Ok((Box::new(plain), None));
        }
    };
    let accepted = acceptor.accept(stream).await.map_err(OpenError::Tls)?;
    let mut certificate = None;
    if let Some(Shown { subject, holder }) = accepted.certificate {
        trail.certified(&subject);
        tracing::Span::current().record("certificate", subject);
        certificate = Some(holder);
    }
    Ok((accepted.stream, certificate))
}

/// Opens the transport: TLS and the upgrade, if any.
pub(super) async fn open(
    socket: Socket,
    protocol: Protocol,
    settings: &Settings,
    trail: &mut Trail,
) -> Result<Opened, OpenError> {
    let kind = ListenerKind::Lines(protocol);
    let (stream, certificate) = secure(socket, kind, settings, trail).await?;
    if protocol != Protocol::WebSocket {
        return Ok((over(stream), Upgrade::default(), certificate));
    }
    let (connection, upgrade) = upgrade(stream, settings).await?;
    Ok((connection, upgrade, certificate))
}

async fn upgrade(
    mut stream: BoxedStream,
    settings: &Settings,
) -> Result<(Connection, Upgrade), OpenError> {
    let head = match request::read(&mut stream, UPGRADE_ALLOWANCE).await {
        Ok(Request::Upgrade(head)) => head,
        Ok(Request::Plain(answer)) => return Err(OpenError::Plain(answer, stream)),
        Ok(Request::Readiness(with_body)) => return Err(OpenError::Readiness(with_body, stream)),
        Ok(Request::Foreign) => return Err(OpenError::Foreign(stream)),
        Ok(Request::End) => return Err(OpenError::Gone("gone before the upgrade")),
        Err(err) if tls::is_mismatch(&err) => {
            return Err(OpenError::Upgrade(UpgradeError::Stream(err)));
        }
        Err(_) => return Err(OpenError::Gone("gone before the upgrade")),
    };
    let allowance = Some(UPGRADE_ALLOWANCE);
    let origins = &settings.allowed_origins;
    let accepted = WebSocket::accept(stream, head, allowance, settings.max_message_size, origins);
    let (socket, upgrade) = accepted.await.map_err(OpenError::Upgrade)?;
    Ok((Connection::WebSocket(Box::new(socket)), upgrade))
}
