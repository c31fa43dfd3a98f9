//! `server`.

mod environment;
mod settings;
mod warnings;

use super::access::Reloader;
use super::banner::{self, Banner};
use super::listeners::{self, ListenPlan};
use super::{Failure, logs, runtime, warn_of_variables};
use crate::audit;
use crate::cli::{LogFormat, ServerArgs};
use crate::hub::HubError;
use crate::metrics;
use crate::server::{self, Backend, Listening, Settings};
use crate::system::asked::{Asked, HangUp};
use crate::system::descriptors;
use crate::system::inherited::Sockets;
use crate::system::orphans;
use crate::system::signals::Signals;
use crate::system::supervisor::Supervisor;
use std::path::PathBuf;
use tokio::sync::oneshot;

pub(super) fn run(mut args: ServerArgs, release: fn()) -> Result<(), Failure> {
    let inherited = Sockets::take().map_err(|err| {
        let remedy = "they have to be stream sockets, TCP or Unix, with Accept=no";
        Failure::caused("cannot use the sockets of LISTEN_FDS", err).with_remedy(Some(remedy))
    })?;
    let _logs = logs::start(args.log.log_format);
    warn_of_variables();
    if args.metrics.is_some() {
        metrics::enable(logs::lost_lines);
    }
    descriptors::raise();
    orphans::adopt();
    warnings::few_descriptors(&args);
    warnings::idle_settings(&args);
    warnings::odd_origins(&args.allow_origin);
    let policy_file = args.permissions_config.clone();
    let make_token = banner::make_token(&args);
    let certified = args.tls_cert.as_deref().and_then(banner::certified);
    let resource = settings::resource(&args);
    let runtime = runtime(release)?;
    let audit = open_audit_log(
        args.audit_log.take(),
        args.audit_log_mode,
        args.audit_allowed,
    )?;
    let (reloader, access) = runtime.block_on(Reloader::new(&mut args, &audit))?;
    let has_users = access.borrow().requirements.is_some();
    let backend = settings::backend(&mut args, has_users)?;
    let supervisor = Supervisor::from_environment().map_err(|err| {
        Failure::caused("could not reach the service manager at NOTIFY_SOCKET", err)
    })?;
    let is_text = matches!(args.log.log_format, LogFormat::Text);
    let places = settings::places(&mut args, inherited);
    let settings = settings::settings(args, resource, access, audit.clone(), supervisor);
    let banner = (is_text && logs::is_on_terminal()).then(|| Banner {
        command: backend.command.to_string(),
        policy: policy_file,
        path: settings.path.clone(),
        public_origin: settings.public_origin.clone(),
        make_token: make_token.filter(|_| has_users),
        certified,
    });
    let outcome = runtime.block_on(serve(places, settings, backend, &reloader, banner));
    // Ends whatever is still connected, which is an event each.
    drop(runtime);
    orphans::finish();
    audit.close();
    outcome
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
    places: ListenPlan,
    settings: Settings,
    backend: Backend,
    reloader: &Reloader,
    banner: Option<Banner>,
) -> Result<(), Failure> {
    // Before the signals are taken over: it depends on whether SIGHUP was ignored when we were started.
    let hang_up = HangUp::at_start();
    let signals = Signals::listen()?;
    let audit = settings.audit.clone();
    let supervisor = settings.supervisor.clone();
    let loopback = settings.access.borrow().requirements.is_none();
    let listeners = places.open(loopback).await?;
    let outside = listeners.iter().any(Listening::is_reachable_from_outside);
    if outside {
        warnings::exposure(&settings.access.borrow());
    }
    listeners::announce(&listeners)?;
    if let Some(banner) = banner {
        logs::write_stderr(banner.text(&listeners, &settings.access.borrow(), outside));
    }
    tell_who_may_connect(&settings.access.borrow(), outside);
    let (asked, stop) = oneshot::channel();
    let second_signal = on_signals((signals, hang_up), reloader, &audit, &supervisor, asked);
    let running = server::run(listeners, settings, backend, async {
        if stop.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    tokio::select! {
        Err(err) = orphans::watch() => Err(err.into()),
        outcome = running => outcome.map_err(explain),
        never = reloader.refresh_keys() => match never {},
        () = second_signal => Ok(()),
    }
}

/// Reloads on SIGHUP, stops through `stop` on the first signal that asks for it, and returns on the second.
async fn on_signals(
    (mut signals, hang_up): (Signals, HangUp),
    reloader: &Reloader,
    audit: &audit::Log,
    supervisor: &Supervisor,
    stop: oneshot::Sender<()>,
) {
    let signal = loop {
        match signals.next().await {
            Asked::Stop(signal) => break signal,
            Asked::HangUp if hang_up == HangUp::Stop => break "SIGHUP",
            Asked::HangUp => {
                supervisor.reloading();
                audit.reopen();
                audit.reloaded(&descriptors::with_reserve(|| reloader.reload()));
                supervisor.ready();
            }
        }
    };
    supervisor.stopping();
    tracing::info!(signal, "stopping; a second signal ends at once");
    let _running = stop.send(());
    // The MCP server's process group is killed as its handle is dropped.
    while signals.next().await == Asked::HangUp {}
}

/// Logs in one line who may connect: from where, protected by what, and with which roles.
fn tell_who_may_connect(access: &server::Access, outside: bool) {
    let roles: Option<Vec<&str>> = access
        .policy
        .as_ref()
        .map(|policy| policy.role_names().collect());
    let policy = match access.policy {
        Some(_) => None,
        None => Some("none"),
    };
    tracing::info!(
        from = if outside {
            "other machines"
        } else {
            "this machine"
        },
        tls = access.tls.is_some(),
        tokens = access.requirements.is_some(),
        policy,
        roles = roles.map(|roles| roles.join(",")),
        "peers may connect"
    );
}
