//! From the token and the server's name to an authenticated connection.

use super::report::{Report, Stopped};
use crate::auth;
use crate::client::{Port, Tokens};
use crate::control::MAX_SERVER_LINE;
use crate::handshake::{self, Rejected};
use crate::system::local;
use crate::transport::line::LineError;
use crate::transport::tls::{self, Connector, Plain, Seen};
use crate::transport::websocket::WebSocket;
use crate::transport::{BoxedStream, Connection, foreign, tcp};
use crate::utils::chain::Chain;
use crate::utils::host::with_port;
use crate::utils::secret::Secret;
use crate::utils::span::span;
use serde_json::Value;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The time limit of one step.
const LIMIT: Duration = Duration::from_secs(15);

/// A certificate that expires sooner than this, in days, should be renewed.
const SOON: i64 = 14;

const CONNECT_REMEDY: &str = "is the server running there, and is this the right host and port? A firewall, or a container without a published port, looks the same";

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// The token's claims, unverified; its expiry is known without the server.
pub(super) async fn token(tokens: &Tokens, report: &mut Report) -> Result<Option<Secret>, Stopped> {
    let checked = tokens.for_connection().await;
    let token = match &checked {
        Ok(token) => token.clone(),
        Err(_) => tokens.current().await,
    };
    let says = token.as_ref().map(says);
    match (checked, says) {
        (Err(fault), says) => {
            let says = says.flatten().map(|says| says.bearer + "; ");
            let detail = format!("{}the token {fault}", says.unwrap_or_default());
            Err(report.failed("token", detail, None))
        }
        (Ok(token), None) => {
            report.good("token", "none is given");
            Ok(token)
        }
        (Ok(token), Some(None)) => {
            report.good("token", "one that only its server can read");
            Ok(token)
        }
        (Ok(token), Some(Some(says))) => {
            if says.has_ended {
                let remedy = "get another token: servers refuse this one";
                report.doubtful("token", says.text, remedy);
            } else if says.has_roles {
                report.good("token", says.text);
            } else {
                let remedy = "with a policy on the server it may do nothing: make one with --roles";
                report.doubtful("token", says.text, remedy);
            }
            Ok(token)
        }
    }
}

/// A token's description of itself.
struct Says {
    bearer: String,
    /// Subject and expiry.
    text: String,
    has_roles: bool,
    has_ended: bool,
}

fn says(token: &Secret) -> Option<Says> {
    let (_, claims) = auth::read_unverified(token).ok()?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let user = text("user").or_else(|| text("sub"));
    let roles = claims.get("roles").and_then(Value::as_array);
    let roles: Vec<&str> = roles
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let user = user.map_or_else(
        || "for no user in particular".to_owned(),
        |user| format!("for user '{user}'"),
    );
    let with = match roles.is_empty() {
        true => "without roles".to_owned(),
        false => format!("with the roles {}", roles.join(", ")),
    };
    let left = claims.get("exp").and_then(Value::as_f64);
    let left = left.map(|exp| exp - now() as f64);
    let end = match left {
        Some(left) if left > 0.0 => format!(", ends in {}", span(left)),
        Some(left) => format!(", expired {} ago", span(-left)),
        None => ", never ends".to_owned(),
    };
    Some(Says {
        text: format!("{user}, {with}{end}"),
        bearer: format!("{user}, {with}"),
        has_roles: !roles.is_empty(),
        has_ended: left.is_some_and(|left| left <= 0.0),
    })
}

/// Resolves the name, and tries each of its addresses.
pub(super) async fn reach(
    host: &str,
    port: u16,
    report: &mut Report,
) -> Result<TcpStream, Stopped> {
    let addresses = resolve(host, tcp::look_up(host, port), report).await?;
    connect(addresses, report).await
}

async fn resolve(
    host: &str,
    lookup: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    report: &mut Report,
) -> Result<Vec<SocketAddr>, Stopped> {
    let addresses = match timeout(LIMIT, lookup).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(err)) => {
            let remedy = "check --host, or --url: is the name right, and does this machine's network know it?";
            return Err(report.failed("name", err.to_string(), Some(remedy)));
        }
        Err(_) => {
            let detail = format!("nobody says what the address of '{host}' is");
            return Err(report.failed("name", detail, Some("check the network's name server")));
        }
    };
    let list: Vec<String> = addresses.iter().map(|it| it.ip().to_string()).collect();
    report.good("name", format!("'{host}' is {}", list.join(", ")));
    Ok(addresses)
}

async fn connect(addresses: Vec<SocketAddr>, report: &mut Report) -> Result<TcpStream, Stopped> {
    let (mut first, mut faults) = (None, Vec::new());
    for address in addresses {
        let fault = match timeout(LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                report.good("connect", format!("{address} answers"));
                first = first.or(Some(stream));
                continue;
            }
            Ok(Err(err)) => format!("{address}: {err}"),
            Err(_) => format!("{address}: no answer within {} s", LIMIT.as_secs()),
        };
        faults.push(fault);
    }
    let Some(stream) = first else {
        return Err(report.failed("connect", faults.join("; "), Some(CONNECT_REMEDY)));
    };
    if !faults.is_empty() {
        let remedy = "clients use another of its addresses, and may lose some time";
        report.doubtful("connect", faults.join("; "), remedy);
    }
    tcp::tune(&stream);
    Ok(stream)
}

/// TLS, where requested.
pub(super) async fn secure(
    stream: TcpStream,
    tls: Option<&Connector>,
    report: &mut Report,
) -> Result<BoxedStream, Stopped> {
    let Some(connector) = tls else {
        return Ok(Box::new(Plain::new(stream, Vec::new())));
    };
    match timeout(LIMIT, connector.connect_and_look(stream)).await {
        Ok(Ok((stream, seen))) => {
            certificate(&seen, report);
            Ok(stream)
        }
        Ok(Err(err)) => Err(broken("tls", &err, report)),
        Err(_) => {
            let remedy = "is this a TLS port? Without one leave out --tls, or use ws:// or http://";
            Err(report.failed("tls", "the server does not answer", Some(remedy)))
        }
    }
}

fn certificate(seen: &Seen, report: &mut Report) {
    let subject = seen.subject.as_deref().unwrap_or("somebody");
    let chain = match seen.certificates {
        1 => "1 certificate".to_owned(),
        many => format!("{many} certificates"),
    };
    let detail = format!("{}, {subject}, a chain of {chain}", seen.version);
    let days = seen
        .not_after
        .map(|end| (end - now().cast_signed()) / 86_400);
    match days {
        Some(days) if days < SOON => report.doubtful(
            "tls",
            format!("{detail}, which ends in {days} days"),
            "renew the server's certificate",
        ),
        Some(days) => report.good("tls", format!("{detail}, valid for {days} days")),
        None => report.good("tls", detail),
    }
}

/// A connection error, with the client's explanation.
fn broken(step: &'static str, err: &io::Error, report: &mut Report) -> Stopped {
    match tls::explain(err).or_else(|| foreign::explain(err)) {
        Some(reason) => report.failed(step, reason, None),
        None => report.failed(step, Chain(err).to_string(), Some(CONNECT_REMEDY)),
    }
}

/// The connection to a Unix socket.
pub(super) async fn over_unix(path: &Path, report: &mut Report) -> Result<Connection, Stopped> {
    // This never waits: the system accepts or refuses at once.
    match local::connect(path).await {
        Ok(stream) => {
            report.good("connect", format!("{} answers", path.display()));
            let stream = Box::new(Plain::new(stream, Vec::new()));
            Ok(Connection::over_stream(stream, MAX_SERVER_LINE))
        }
        Err(err) => {
            let remedy = "does the server listen there (--listen unix://…), and may this user use the socket?";
            let detail = format!("{}: {err}", path.display());
            Err(report.failed("connect", detail, Some(remedy)))
        }
    }
}

/// The WebSocket upgrade.
pub(super) async fn upgrade(
    stream: BoxedStream,
    port: &Port,
    path: &str,
    report: &mut Report,
) -> Result<Connection, Stopped> {
    let scheme = if port.tls.is_some() { "wss" } else { "ws" };
    let url = format!("{scheme}://{}{path}", with_port(&port.host, port.number));
    match timeout(LIMIT, WebSocket::connect(stream, &url, MAX_SERVER_LINE)).await {
        Ok(Ok(socket)) => {
            report.good("upgrade", format!("{url} speaks WebSocket"));
            Ok(Connection::WebSocket(Box::new(socket)))
        }
        Ok(Err(err)) => {
            let err = err.into_io();
            let text = Chain(&err).to_string();
            if tls::explain(&err)
                .or_else(|| foreign::explain(&err))
                .is_none()
            {
                let remedy = "is the path of --url right, and does a reverse proxy between pass upgrades on?";
                return Err(report.failed("upgrade", text, Some(remedy)));
            }
            Err(broken("upgrade", &err, report))
        }
        Err(_) => {
            let remedy = "is this a WebSocket port? For 'server tcp' use 'client tcp'";
            Err(report.failed("upgrade", "the server does not answer", Some(remedy)))
        }
    }
}

/// Sends the token. Returns whether sessions can be resumed, if known.
pub(super) async fn authenticate(
    connection: &mut Connection,
    token: Option<&Secret>,
    report: &mut Report,
) -> Result<Option<bool>, Stopped> {
    let Some(token) = token else {
        return Ok(None);
    };
    let step = "login";
    let remedy = "check that the token was made with this server's secret, has neither expired nor been revoked, and has the roles that the server requires; 'mcp-remote inspect-token' on the server says why";
    match timeout(LIMIT, handshake::present(connection, token)).await {
        Ok(Ok(can_resume)) => {
            report.good(step, "the server accepts it");
            Ok(Some(can_resume))
        }
        Ok(Err(Rejected::ByServer(reason))) => Err(report.failed(step, reason, Some(remedy))),
        Ok(Err(Rejected::NotAsked(reason))) => Err(report.failed(step, reason, None)),
        Ok(Err(Rejected::Lost(LineError::Io(err)))) => Err(broken(step, &err, report)),
        Ok(Err(Rejected::Lost(err))) => Err(report.failed(step, err.to_string(), None)),
        Err(_) => {
            let remedy = "is it mcp-remote, with a secret, of this transport?";
            Err(report.failed(step, "the server does not answer to it", Some(remedy)))
        }
    }
}

#[cfg(test)]
mod tests;
