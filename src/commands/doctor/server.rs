//! What a start of the server needs, without serving any clients.

use super::super::access::Reloader;
use super::super::ask_server::{ask, command_line};
use super::super::listeners::ListenPlan;
use super::report::{Report, Stopped};
use crate::audit;
use crate::child::CommandLine;
use crate::cli::ServerArgs;
use crate::server::Listening;
use crate::system::inherited::Sockets;
use crate::transport::tls;
use crate::utils::host::with_port;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A certificate that expires sooner than this, in days, should be renewed.
const SOON: i64 = 14;

/// The time limit for the MCP server to list what it offers.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) async fn examine(mut args: ServerArgs, report: &mut Report) -> Result<(), Stopped> {
    let certificate = args.tls_cert.clone();
    let policy = args.permissions_config.clone();
    let (_reloader, access) = Reloader::new(&mut args, &audit::Log::default())
        .await
        .map_err(|failure| report.failed("files", failure.to_string(), None))?;
    let guarded = access.borrow().requirements.is_some();
    match (guarded, policy) {
        (false, _) => report.doubtful(
            "tokens",
            "no secret: anyone who reaches the port can use the MCP server",
            "set MCP_REMOTE_JWT_SECRET, or stay on loopback",
        ),
        (true, None) => report.doubtful(
            "tokens",
            "tokens are asked for, and every token may do everything",
            "write a policy with 'mcp-remote generate-permissions', and name it by --permissions-config",
        ),
        (true, Some(file)) => {
            let file = file.display();
            report.good("tokens", format!("tokens are asked for; {file} says what their roles may do"));
        }
    }
    if let Some(file) = &certificate {
        dates(file, report)?;
    }
    ports(&args, !guarded, report).await?;
    let command = command_line(args.command)
        .map_err(|failure| report.failed("command", failure.to_string(), None))?;
    report.good("command", format!("'{command}' is found"));
    offers(&command, LIMIT, report).await
}

/// What the MCP server offers, and what it prints that is no message.
async fn offers(
    command: &CommandLine,
    limit: Duration,
    report: &mut Report,
) -> Result<(), Stopped> {
    let inventory = ask(command, limit).await;
    let inventory = inventory.map_err(|failure| report.failed("mcp", failure.to_string(), None))?;
    let server = inventory
        .server
        .as_deref()
        .unwrap_or("a server without a name");
    let revisions = inventory.revisions.join(" and ");
    let tools = super::super::tools(inventory.tools.len());
    report.good(
        "mcp",
        format!("{server} speaks MCP {revisions}, and has {tools}"),
    );
    if !inventory.notes.is_empty() {
        let detail = "not all that the MCP server writes can be used";
        report.doubtful("output", detail, &inventory.notes.join("; "));
    }
    Ok(())
}

fn dates(file: &Path, report: &mut Report) -> Result<(), Stopped> {
    let name = file.display();
    let end = tls::not_after_of(file)
        .map_err(|err| report.failed("certificate", err.to_string(), None))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let days = end.map(|end| (end - now.as_secs().cast_signed()).div_euclid(86_400));
    match days {
        Some(days) if days < 0 => {
            let detail = format!("{name} has expired {} days ago", -days);
            return Err(report.failed("certificate", detail, Some("renew it")));
        }
        Some(days) if days < SOON => {
            let detail = format!("{name} ends in {days} days");
            report.doubtful(
                "certificate",
                detail,
                "renew it, then send SIGHUP to the server",
            );
        }
        Some(days) => report.good("certificate", format!("{name} is valid for {days} days")),
        None => report.good("certificate", format!("{name} can be read")),
    }
    Ok(())
}

async fn ports(args: &ServerArgs, loopback: bool, report: &mut Report) -> Result<(), Stopped> {
    let places = ListenPlan {
        inherited: Sockets::default(),
        kind: args.transport.into(),
        host: args.host.clone(),
        port: args.port,
        further: args.listen.clone(),
    };
    let listeners = places
        .open(loopback)
        .await
        .map_err(|failure| report.failed("port", failure.to_string(), None))?;
    let place = match &args.host {
        Some(host) => with_port(host, args.port),
        None => format!("port {}", args.port),
    };
    let place = match (args.port, args.listen.len()) {
        (0, 0) => "a port is free (--port 0 takes any)".to_owned(),
        (_, 0) => format!("{place} is free"),
        _ => format!("{place} and all of --listen are free"),
    };
    let outside = listeners.iter().any(Listening::is_reachable_from_outside);
    if outside && args.tls_cert.is_none() {
        report.doubtful(
            "port",
            format!("{place}, and reachable from other machines in plain text"),
            "use --tls-cert and --tls-key, or --host 127.0.0.1 behind a tunnel",
        );
    } else {
        report.good("port", place);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
