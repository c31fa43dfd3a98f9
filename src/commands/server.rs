//! `server`.

use super::access::Reloader;
use super::banner::Banner;
use super::listeners::{self, Places};
use super::{Failure, logs, runtime, warn_of_port_of_a_service};
use crate::audit;
use crate::backlog;
use crate::child::CommandLine;
use crate::cli::{LogFormat, ServerArgs};
use crate::control::MAX_SERVER_LINE;
use crate::http::Resource;
use crate::hub::{Deadlines, HubError, Limits};
use crate::metrics;
use crate::router::{LineLimits, PROCESSES};
use crate::server::{
    self, Access, Backend, Bounds, ChildPer, Environment, Isolation, Listening, Settings,
};
use crate::system::asked::{Asked, HangUp};
use crate::system::descriptors::{self, Shortfall};
use crate::system::inherited::Sockets;
use crate::system::orphans;
use crate::system::signals::Signals;
use crate::system::supervisor::Supervisor;
use crate::utils::bucket::Pace;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Longest line from a child, in bytes.
const MAX_CHILD_MESSAGE: usize = 64 << 20;

/// One user may have such a part of all places …
const SHARES: u32 = 4;

/// … or so many, where that is more: one person has several hosts open.
const MIN_SHARE: u32 = 4;

/// Most bytes that may wait for one peer.
const MAX_OUTBOX: usize = 64 << 20;

pub(super) fn run(mut args: ServerArgs, release: fn()) -> Result<(), Failure> {
    let inherited = Sockets::take().map_err(|err| {
        let remedy = "they have to be stream sockets, TCP or Unix, with Accept=no";
        Failure::caused("cannot use the sockets of LISTEN_FDS", err).with_remedy(Some(remedy))
    })?;
    let _logs = logs::start(args.log.log_format);
    warn_of_port_of_a_service();
    if args.metrics.is_some() {
        metrics::enable(logs::lost_lines);
    }
    descriptors::raise();
    orphans::adopt();
    warn_of_few_descriptors(&args);
    let odd = args.allow_origin.iter().filter(|origin| !is_origin(origin));
    for origin in odd {
        tracing::warn!(
            origin,
            "--allow-origin is no origin, so it matches none: one has the form https://host or http://host:port"
        );
    }
    let required_roles = args.require_roles.clone();
    let is_text = matches!(args.log.log_format, LogFormat::Text);
    let policy_file = args.permissions_config.clone();
    let runtime = runtime(release)?;
    let audit = open_audit_log(
        args.audit_log.take(),
        args.audit_log_mode,
        args.audit_allowed,
    )?;
    let (reloader, access) = runtime.block_on(Reloader::new(&mut args, &audit))?;
    let resource = resource(&args, &required_roles);
    let environment = child_environment(&mut args, access.borrow().requirements.is_some())?;
    let command =
        CommandLine::of(args.command).ok_or_else(|| Failure::new("no command behind '--'"))?;
    command.find().map_err(|source| {
        explain(HubError::Start {
            command: command.to_string(),
            source,
        })
    })?;
    let has_users = access.borrow().requirements.is_some();
    let bounds = |total: u32| {
        let share = has_users.then_some((total / SHARES).max(MIN_SHARE));
        Bounds {
            total: total as usize,
            per_user: args.max_per_user.or(share).map(|most| most as usize),
        }
    };
    let settings = Settings {
        resource,
        path: args.path,
        public_origin: args.public_url.map(|url| url.0),
        access,
        max_message_size: args.max_message_size.0,
        max_connections: bounds(args.max_connections),
        max_backlog: backlog::Bounds {
            total: args.max_backlog.0,
            per_user: has_users.then_some(args.max_backlog.0 / 2),
        },
        max_pending: args.max_pending as usize,
        max_pending_per_address: args.max_pending_per_address as usize,
        trusted_proxies: args.trusted_proxy,
        proxy_protocol: args.proxy_protocol,
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
        allowed_origins: args.allow_origin,
        audit: audit.clone(),
        supervisor: Supervisor::from_environment().map_err(|err| {
            Failure::caused("could not reach the service manager at NOTIFY_SOCKET", err)
        })?,
    };
    let limits = Limits {
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
    };
    let backend = Backend {
        isolation: args.isolate,
        command,
        environment,
        per: args.child_per,
        limits,
        max_children: bounds(args.max_children),
    };
    let banner = (is_text && logs::is_on_terminal()).then(|| Banner {
        command: backend.command.to_string(),
        policy: policy_file,
        path: settings.path.clone(),
        public_origin: settings.public_origin.clone(),
    });
    let places = Places {
        kind: args.transport.into(),
        inherited,
        host: args.host,
        port: args.port,
        further: args
            .listen
            .into_iter()
            .chain(args.health)
            .chain(args.metrics)
            .collect(),
    };
    let outcome = runtime.block_on(serve(places, settings, backend, &reloader, banner));
    // Ends whatever is still connected, which is an event each.
    drop(runtime);
    orphans::finish();
    audit.close();
    outcome
}

/// What is said to clients that shall get a token from an authorization server.
fn resource(args: &ServerArgs, required_roles: &[String]) -> Option<Resource> {
    let origin = args.public_url.as_ref()?;
    if args.authorization_server.is_empty() {
        return None;
    }
    // Roles that stand in another claim are none that a client could ask for.
    let claim = args.demands.roles_claim.as_deref();
    let scopes = match claim {
        Some("scope" | "scp") => Some(required_roles),
        _ => None,
    };
    let servers = &args.authorization_server;
    Some(Resource::new(&origin.0, &args.path, servers, scopes))
}

/// What isolated processes are told of their user.
fn child_environment(args: &mut ServerArgs, has_users: bool) -> Result<Environment, Failure> {
    let environment = Environment {
        variables: std::mem::take(&mut args.child_env),
        folder: args.child_env_dir.take(),
    };
    let flag = match (&*environment.variables, &environment.folder, args.child_per) {
        ([_, ..], _, _) => "--child-env",
        (_, Some(_), _) => "--child-env-dir",
        (_, _, ChildPer::User) => "--child-per user",
        ([], None, ChildPer::Session) => return Ok(environment),
    };
    if args.isolate != Isolation::Always {
        return Err(Failure::usage(format!(
            "{flag} needs --isolate: a process that all share has no user"
        )));
    }
    if args.child_per == ChildPer::User && environment.names_session() {
        return Err(Failure::usage(
            "{session} in --child-env and --child-per user exclude each other: such a process serves several sessions",
        ));
    }
    let names: BTreeSet<_> = environment.variables.iter().map(|it| &it.name).collect();
    if names.len() < environment.variables.len() {
        return Err(Failure::usage("--child-env sets a variable twice"));
    }
    if let Some(folder) = environment
        .folder
        .as_ref()
        .filter(|folder| !folder.is_dir())
    {
        let text = format!("--child-env-dir {} is no folder", folder.display());
        return Err(Failure::new(text));
    }
    if !has_users {
        return Err(Failure::new(format!(
            "{flag} needs a secret, since it is about the users of tokens; set MCP_REMOTE_JWT_SECRET"
        )));
    }
    Ok(environment)
}

/// The start in one line: from where, protected by what, and with which roles.
fn tell_who_may_come(access: &Access, outside: bool) {
    let roles: Option<Vec<&str>> = access
        .policy
        .as_ref()
        .map(|policy| policy.role_names().collect());
    tracing::info!(
        from = if outside {
            "other machines"
        } else {
            "this machine"
        },
        tls = access.tls.is_some(),
        tokens = access.requirements.is_some(),
        roles = roles.map(|roles| roles.join(",")),
        "peers may connect"
    );
}

/// What browsers send has a scheme and a host, and nothing behind them.
fn is_origin(origin: &str) -> bool {
    let host = origin.split_once("://").map(|(_, host)| host);
    origin == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
}

fn warn_of_few_descriptors(args: &ServerArgs) {
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

fn open_audit_log(path: Option<PathBuf>, mode: u32, allowed: bool) -> Result<audit::Log, Failure> {
    let Some(path) = path else {
        return Ok(audit::Log::default());
    };
    let name = path.display().to_string();
    audit::Log::open(audit::Place { path, mode }, allowed).map_err(|err| {
        Failure::caused(format!("could not open the audit log {name}"), err)
            .with_remedy(Some("check --audit-log and who may write there"))
    })
}

fn explain(err: HubError) -> Failure {
    let remedy = err.remedy();
    Failure::from(err).with_remedy(Some(remedy))
}

async fn serve(
    places: Places,
    settings: Settings,
    backend: Backend,
    reloader: &Reloader,
    banner: Option<Banner>,
) -> Result<(), Failure> {
    let hang_up = HangUp::at_start();
    let mut signals = Signals::listen()?;
    let audit = settings.audit.clone();
    let supervisor = settings.supervisor.clone();
    let loopback = settings.access.borrow().requirements.is_none();
    let listeners = places.open(loopback).await?;
    let outside = listeners.iter().any(Listening::is_reachable_from_outside);
    if loopback && outside {
        tracing::warn!(
            "everybody who reaches this port may use the MCP server: set MCP_REMOTE_JWT_SECRET"
        );
    }
    let plain = settings.access.borrow().tls.is_none();
    if plain && outside {
        tracing::warn!(
            "tokens and messages cross the network in plain text: use --tls-cert and --tls-key, or listen on loopback (--host 127.0.0.1) behind a tunnel"
        );
    }
    listeners::announce(&listeners)?;
    if let Some(banner) = banner {
        logs::write_stderr(banner.text(&listeners, &settings.access.borrow(), outside));
    }
    tell_who_may_come(&settings.access.borrow(), outside);
    let (asked, stop) = tokio::sync::oneshot::channel();
    let shutdown = async {
        let signal = loop {
            match signals.next().await {
                Asked::Stop(signal) => break signal,
                Asked::HangUp if hang_up == HangUp::Stop => break "SIGHUP",
                Asked::HangUp => {
                    supervisor.reloading();
                    audit.reopen();
                    audit.reloaded(&descriptors::lend(|| reloader.reload()));
                    supervisor.ready();
                }
            }
        };
        supervisor.stopping();
        tracing::info!(signal, "stopping; a second signal ends at once");
        let _running = asked.send(());
        // The MCP server's process group is killed as its handle is dropped.
        while signals.next().await == Asked::HangUp {}
    };
    let running = server::run(listeners, settings, backend, async {
        if stop.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    tokio::select! {
        Err(err) = orphans::watch() => Err(err.into()),
        outcome = running => outcome.map_err(explain),
        never = reloader.refresh_keys() => match never {},
        _second = shutdown => Ok(()),
    }
}
