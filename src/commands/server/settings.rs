//! The arguments of `server` as the settings of what runs.

use super::environment::environment;
use super::{Failure, ListenPlan};
use crate::audit;
use crate::backlog;
use crate::child::CommandLine;
use crate::cli::ServerArgs;
use crate::control::MAX_SERVER_LINE;
use crate::http::Resource;
use crate::hub::{Deadlines, HubError, Limits};
use crate::router::LineLimits;
use crate::server::{Access, Backend, Bounds, Settings};
use crate::system::inherited::Sockets;
use crate::system::supervisor::Supervisor;
use crate::utils::bucket::Pace;
use std::sync::Arc;
use tokio::sync::watch;

/// Longest line from a child, in bytes.
const MAX_CHILD_MESSAGE: usize = 64 << 20;

/// One user may hold this fraction of all places …
const USER_SHARE: u32 = 4;

/// … or this many, if that is more: one person has several hosts open.
const MIN_USER_SHARE: u32 = 4;

/// Most bytes that may wait for one peer.
const MAX_OUTBOX: usize = 64 << 20;

/// The metadata for clients that get their token from an authorization server.
pub(super) fn resource(args: &ServerArgs) -> Option<Resource> {
    let origin = args.public_url.as_ref()?;
    if args.authorization_server.is_empty() {
        return None;
    }
    // A client cannot ask for roles that stand in any other claim.
    let claim = args.demands.roles_claim.as_deref();
    let scopes = match claim {
        Some("scope" | "scp") => Some(&*args.require_roles),
        _ => None,
    };
    let servers = &args.authorization_server;
    Some(Resource::new(&origin.0, &args.path, servers, scopes))
}

/// The MCP server and how it is run. Takes what it needs out of `args`.
///
/// # Errors
/// A command that is not there, or an environment that makes no sense.
pub(super) fn backend(args: &mut ServerArgs, has_users: bool) -> Result<Backend, Failure> {
    let environment = environment(args, has_users)?;
    let command = CommandLine::of(std::mem::take(&mut args.command))
        .ok_or_else(|| Failure::new("no command after '--'"))?;
    command.find().map_err(|source| {
        let remedy = Some(command.remedy());
        let command = command.to_string();
        Failure::from(HubError::Start { command, source }).with_remedy(remedy)
    })?;
    Ok(Backend {
        isolation: args.isolate,
        command,
        environment,
        per: args.child_per,
        limits: limits(args),
        max_children: bounds(args.max_children, args, has_users),
    })
}

/// Where to listen. Takes what it needs out of `args`.
pub(super) fn places(args: &mut ServerArgs, inherited: Sockets) -> ListenPlan {
    let further = std::mem::take(&mut args.listen).into_iter();
    ListenPlan {
        kind: args.transport.into(),
        inherited,
        host: args.host.take(),
        port: args.port,
        further: further
            .chain(args.health.take())
            .chain(args.metrics.take())
            .collect(),
    }
}

/// What holds for every peer.
pub(super) fn settings(
    args: ServerArgs,
    resource: Option<Resource>,
    access: watch::Receiver<Arc<Access>>,
    audit: audit::Log,
    supervisor: Supervisor,
) -> Settings {
    let has_users = access.borrow().requirements.is_some();
    Settings {
        resource,
        access,
        max_message_size: args.max_message_size.0,
        max_connections: bounds(args.max_connections, &args, has_users),
        max_backlog: backlog::Bounds {
            total: args.max_backlog.0,
            per_user: has_users.then_some(args.max_backlog.0 / 2),
        },
        max_pending: args.max_pending as usize,
        max_pending_per_address: args.max_pending_per_address as usize,
        rate: args.rate_limit.map(|rate| {
            let burst = args.rate_burst.unwrap_or(rate.saturating_mul(2));
            Pace::new(rate, burst)
        }),
        auth_timeout: args.auth_timeout,
        idle_timeout: args.idle_timeout,
        resume_window: args.resume_window,
        max_sessions: args.max_sessions as usize,
        keepalive_interval: args.keepalive.keepalive_interval,
        keepalive_timeout: args.keepalive.keepalive_timeout,
        drain_timeout: args.drain_timeout,
        proxy_protocol: args.proxy_protocol,
        trusted_proxies: args.trusted_proxy,
        allowed_origins: args.allow_origin,
        path: args.path,
        public_origin: args.public_url.map(|url| url.0),
        audit,
        supervisor,
    }
}

fn limits(args: &ServerArgs) -> Limits {
    Limits {
        child_message: MAX_CHILD_MESSAGE,
        lines: LineLimits {
            to_child: args.max_message_size.0,
            to_peer: MAX_SERVER_LINE,
        },
        outbox: MAX_OUTBOX,
        deadlines: Deadlines {
            handshake: args.handshake_timeout,
            start: args.start_timeout,
            question: args.question_timeout,
        },
        restarts: args.max_restarts,
        in_flight: args.max_in_flight as usize,
    }
}

/// A limit on all users together, and the part of it that one user may take.
fn bounds(total: u32, args: &ServerArgs, has_users: bool) -> Bounds {
    let share = has_users.then_some((total / USER_SHARE).max(MIN_USER_SHARE));
    Bounds {
        total: total as usize,
        per_user: args.max_per_user.or(share).map(|most| most as usize),
    }
}
