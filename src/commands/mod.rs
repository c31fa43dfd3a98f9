//! One file per subcommand: opens files, builds settings, prints.

mod access;
mod check;
mod client;
mod client_http;
mod client_shared;
mod failure;
mod generate_secret;
mod generate_token;
mod inspect_token;
mod server;

use crate::cli::{Cli, Command, Deferred, LogFormat, SecretArgs};
use crate::permissions::Policy;
use crate::reaper;
use crate::utils::escape::Escaping;
use crate::utils::secret::{Secret, SecretError, Sources};
use crate::utils::spare;
use crate::utils::text;
use failure::{Exit, Failure};
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use tracing::field::Field;
use tracing::{Level, Metadata};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Runs what was typed. Exit codes: 0 done, 1 failed (one line on stderr says why); bad usage, 2,
/// is clap's. `release` is called now and then, to give memory that is free back to the system.
#[must_use]
pub fn run(cli: Cli, release: fn()) -> ExitCode {
    let outcome = match cli.command {
        Command::Server(Deferred(args)) => server::run(*args, release),
        Command::Client(Deferred(args)) => client::run(*args, release),
        Command::ReapOrphans => reaper::run(std::io::stdin().lock()).map_err(Failure::from),
        Command::GenerateSecret(Deferred(args)) => generate_secret::run(&args),
        Command::GenerateToken(Deferred(args)) => generate_token::run(&args),
        Command::Check(Deferred(args)) => return check::run(&args).into(),
        Command::InspectToken(Deferred(args)) => inspect_token::run(&args),
    };
    let exit = match outcome {
        Ok(()) => Exit::Done,
        Err(failure) => {
            failure.print();
            Exit::Failed
        }
    };
    exit.into()
}

fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let name = path.display();
    let text = text::read(path)
        .map_err(|err| Failure::caused(format!("could not read the policy file {name}"), err))?;
    Policy::parse(&text)
        .map_err(|err| Failure::caused(format!("the policy file {name} is not valid"), err))
}

/// Logs to stderr. `RUST_LOG` decides what; else `DEBUG=true` shows debug lines.
fn start_logs(format: LogFormat) {
    let debug = std::env::var("DEBUG").is_ok_and(|value| value == "true");
    let level = if debug {
        "info,mcp_remote=debug"
    } else {
        "info"
    };
    let asked = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.trim().is_empty());
    let chosen = asked.and_then(|filter| filter.parse::<Targets>().ok());
    let chosen = chosen.unwrap_or_else(|| level.parse().unwrap_or_default());
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        // Complaints about a stderr that is gone would go there, too, and panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let no_payloads = filter_fn(|metadata| !shows_payloads(metadata));
    match format {
        LogFormat::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let fields = debug_fn(write_field).delimited(" ");
            let lines = builder.with_ansi(ansi).fmt_fields(fields).finish();
            lines.with(chosen).with(no_payloads).init();
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true);
            builder.finish().with(chosen).with(no_payloads).init();
        }
    }
}

/// One field of a log line, of spans and of events. All that others can put into a log is written
/// here and nowhere else, so nothing in it reaches the terminal as a command or as a line of its own.
fn write_field(
    writer: &mut Writer<'_>,
    field: &Field,
    value: &dyn std::fmt::Debug,
) -> std::fmt::Result {
    let name = field.name();
    let name = name.strip_prefix("r#").unwrap_or(name);
    match (name, writer.has_ansi_escapes()) {
        ("message", _) => {}
        (name, true) => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        (name, false) => write!(writer, "{name}=")?,
    }
    write!(Escaping(writer), "{value:?}")
}

/// Libraries trace what goes through them, and the WebSocket library shows the reasons of close
/// frames from debug on: never shown, whatever `RUST_LOG` says.
fn shows_payloads(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = ["mcp_remote", "child"].iter().any(|name| {
        target
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    });
    let most = if target.contains("tungstenite") {
        Level::INFO
    } else {
        Level::DEBUG
    };
    !ours && *metadata.level() > most
}

/// The secrets of whatever source there is; the first is the newest.
fn read_secrets(args: &SecretArgs) -> Result<Option<Vec<Secret>>, SecretError> {
    let sources = Sources {
        what: "JWT secret",
        variable: "MCP_REMOTE_JWT_SECRET",
        flags: &args.jwt_secret,
        file: args.jwt_secret_file.as_deref(),
    };
    sources.read_all()
}

/// Prints to stdout, which may have been closed: nobody wants to know then.
fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// One thread does it all: a message then never waits for another thread to wake up.
fn runtime(release: fn()) -> std::io::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.spawn(spare::tidy(release));
    Ok(runtime)
}
