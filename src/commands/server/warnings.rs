//! What `server` warns of as it starts.

use crate::cli::ServerArgs;
use crate::router::PROCESSES;
use crate::server::{Access, Isolation};
use crate::system::descriptors::{self, Shortfall};

/// Warns of values of `--allow-origin` that match no browser's Origin header.
pub(super) fn odd_origins(origins: &[String]) {
    for origin in origins.iter().filter(|origin| !is_origin(origin)) {
        tracing::warn!(
            origin,
            "--allow-origin is no origin, so it matches none: one has the form https://host or http://host:port"
        );
    }
}

/// Warns of settings for listeners that this server does not have.
pub(super) fn idle_settings(args: &ServerArgs) {
    for (flag, listeners) in args.idle() {
        tracing::warn!("{flag} has no effect: this server has no listener for {listeners}");
    }
}

/// An Origin header has a scheme and a host, and nothing after them.
fn is_origin(origin: &str) -> bool {
    let host = origin.split_once("://").map(|(_, host)| host);
    origin == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
}

/// Warns if the limit on file descriptors is too low for the limits on connections and processes.
pub(super) fn few_descriptors(args: &ServerArgs) {
    let listeners = args.listen.len() as u64;
    let sockets = u64::from(args.max_connections) + u64::from(args.max_pending) + 2 * listeners;
    let (shared, isolated) = (PROCESSES as u64, args.max_children.into());
    let children = match args.isolate {
        Isolation::Never => shared,
        Isolation::Asking => shared + isolated,
        Isolation::Always => isolated,
    };
    if let Some(Shortfall { limit, needed }) = descriptors::shortfall(sockets, children) {
        tracing::warn!(
            limit,
            needed,
            "too few file descriptors for --max-connections and --max-pending (and --max-children): raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd), or lower them"
        );
    }
}

/// Warns of what other machines may do or read, for a server that they can reach.
pub(super) fn exposure(access: &Access) {
    if access.requirements.is_none() {
        tracing::warn!(
            "anyone who reaches this port may use the MCP server: set MCP_REMOTE_JWT_SECRET"
        );
    }
    if access.tls.is_none() {
        tracing::warn!(
            "tokens and messages cross the network in plain text: use --tls-cert and --tls-key, or listen on loopback (--host 127.0.0.1) behind a tunnel"
        );
    }
}
