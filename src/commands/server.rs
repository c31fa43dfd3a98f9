//! `server`.

use super::{Failure, print, runtime, start_logs};
use crate::auth::Verifier;
use crate::child::CommandLine;
use crate::cli::ServerArgs;
use crate::handshake::Guard;
use crate::hub::{Hub, HubError, Limits};
use crate::permissions::Policy;
use crate::server::{self, Backend, Settings};
use crate::shutdown::Signals;
use crate::transport::tcp::Listeners;
use crate::transport::tls::{Acceptor, FileError, Identity};
use crate::utils::secret::Sources;
use std::path::Path;

/// Longest line from a child, in bytes.
const MAX_CHILD_MESSAGE: usize = 64 << 20;

/// Most bytes that may wait for one peer.
const MAX_OUTBOX: usize = 64 << 20;

pub(super) fn run(args: ServerArgs) -> Result<(), Failure> {
    start_logs(args.log.log_format);
    let guard = read_guard(&args)?;
    let policy = match &args.permissions_config {
        Some(path) => Some(read_policy(path, guard.is_some())?),
        None => None,
    };
    let tls = read_tls(&args)?;
    let mut command = args.command.into_iter();
    let program = command
        .next()
        .ok_or_else(|| Failure::new("no command behind '--'"))?;
    let command = CommandLine {
        program,
        arguments: command.collect(),
    };
    command.find().map_err(|source| HubError::Start {
        command: command.to_string(),
        source,
    })?;
    let settings = Settings {
        protocol: args.transport.into(),
        tls,
        policy,
        max_message_size: args.max_message_size.0,
        max_connections: args.max_connections as usize,
        auth_timeout: args.auth_timeout,
        idle_timeout: args.idle_timeout,
        resume_window: args.resume_window,
        max_sessions: args.max_sessions as usize,
        keepalive_interval: args.keepalive.keepalive_interval,
        keepalive_timeout: args.keepalive.keepalive_timeout,
        drain_timeout: args.drain_timeout,
        allowed_origins: args.allow_origin,
        guard,
    };
    let limits = Limits {
        child_message: MAX_CHILD_MESSAGE,
        outbox: MAX_OUTBOX,
        restarts: args.max_restarts,
    };
    let backend = if args.isolate {
        Backend::Isolated {
            command,
            limits,
            max_children: args.max_children as usize,
        }
    } else {
        let (hub, driver) = Hub::shared(command, limits);
        Backend::Shared(hub, driver)
    };
    runtime()?.block_on(serve(args.host.as_deref(), args.port, settings, backend))
}

async fn serve(
    host: Option<&str>,
    port: u16,
    settings: Settings,
    backend: Backend,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let loopback = settings.guard.is_none();
    let listeners = Listeners::bind(host, port, loopback).await.map_err(|err| {
        let place = host.map_or_else(|| format!("port {port}"), |host| format!("{host}:{port}"));
        Failure::new(format!("could not listen on {place}: {err}; choose another --port or --host, or stop what listens there"))
    })?;
    if loopback && listeners.is_reachable_from_outside() {
        tracing::warn!(
            "everybody who reaches this port may use the MCP server: set MCP_REMOTE_JWT_SECRET"
        );
    }
    if settings.tls.is_none() && listeners.is_reachable_from_outside() {
        tracing::warn!(
            "tokens and messages cross the network in plain text: use --tls-cert and --tls-key, or listen on loopback (--host 127.0.0.1) behind a tunnel"
        );
    }
    let protocol = settings.protocol;
    print(&format!(
        "MCP Remote {protocol} server listening on port {}\n",
        listeners.port()?
    ))?;
    let (asked, stop) = tokio::sync::oneshot::channel();
    let shutdown = async {
        let signal = signals.stop().await;
        tracing::info!(signal, "stopping; a second signal ends at once");
        let _running = asked.send(());
        // The MCP server's process group is killed as its handle is dropped.
        signals.stop().await
    };
    let running = server::run(listeners, settings, backend, async {
        if stop.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    tokio::select! {
        outcome = running => Ok(outcome?),
        _second = shutdown => Ok(()),
    }
}

fn read_guard(args: &ServerArgs) -> Result<Option<Guard>, Failure> {
    let sources = Sources {
        what: "JWT secret",
        variable: "MCP_REMOTE_JWT_SECRET",
        flag: args.secret.jwt_secret.as_ref(),
        file: args.secret.jwt_secret_file.as_deref(),
    };
    let required_roles: Vec<String> = args
        .require_roles
        .iter()
        .map(|role| role.trim().to_owned())
        .filter(|role| !role.is_empty())
        .collect();
    match sources.read()? {
        Some(secret) => Ok(Some(Guard {
            verifier: Verifier::new(&secret),
            required_roles,
        })),
        None if required_roles.is_empty() => Ok(None),
        None => Err(Failure::new(
            "--require-roles needs a secret, since only a token has roles; set MCP_REMOTE_JWT_SECRET",
        )),
    }
}

fn read_tls(args: &ServerArgs) -> Result<Option<Acceptor>, FileError> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(None);
    };
    Acceptor::load(Identity { certificate, key }, args.tls_client_ca.as_deref()).map(Some)
}

fn read_policy(path: &Path, has_secret: bool) -> Result<Policy, Failure> {
    let name = path.display();
    if !has_secret {
        return Err(Failure::new(format!(
            "the policy file {name} needs a secret, since only a token has roles; set MCP_REMOTE_JWT_SECRET"
        )));
    }
    let policy = super::read_policy(path)?;
    for role in policy.mute_roles() {
        tracing::warn!(role, file = %name, "this role can open no session: it allows neither 'initialize' (legacy clients) nor 'server/discover' (modern ones)");
    }
    Ok(policy)
}
