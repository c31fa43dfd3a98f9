//! One file per subcommand: opens files, builds settings, prints.

mod access;
mod ask_server;
mod banner;
mod check;
mod client;
mod client_http;
mod client_shared;
mod completions;
mod doctor;
mod failure;
mod generate_permissions;
mod generate_secret;
mod generate_token;
mod inspect_token;
mod keys;
mod listeners;
mod log_line;
mod logs;
mod man;
mod offers;
mod pins;
mod server;
mod unknown_variables;
mod update_permissions;

use crate::cli::{Cli, Command, Deferred, SecretArgs, port_of_a_service};
use crate::permissions::Policy;
use crate::system::{files, reaper};
use crate::utils::secret::{Secret, SecretError, Sources};
use crate::utils::spare;
use crate::utils::text;
use failure::{Exit, Failure};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Runs the command line. Exit codes: 0 done, 1 failed (one line on stderr says why), 2 bad usage. `release`
/// is called now and then, to return free memory to the system.
#[must_use]
pub fn run(cli: Cli, release: fn()) -> ExitCode {
    let done = |outcome: Result<(), Failure>| outcome.map(|()| Exit::Done);
    let outcome = match cli.command {
        Command::Server(Deferred(args)) => done(server::run(*args, release)),
        Command::Client(Deferred(args)) => done(client::run(*args, release)),
        Command::ReapOrphans => done(reaper::run(std::io::stdin().lock()).map_err(Failure::from)),
        Command::GenerateSecret(Deferred(args)) => done(generate_secret::run(&args)),
        Command::GenerateToken(Deferred(args)) => done(generate_token::run(&args)),
        Command::GeneratePermissions(Deferred(args)) => {
            done(generate_permissions::run(*args, release))
        }
        Command::Doctor(Deferred(args)) => Ok(doctor::run(*args, release)),
        Command::Check(Deferred(args)) => Ok(check::run(&args)),
        Command::InspectToken(Deferred(args)) => inspect_token::run(*args, release),
        Command::Completions(Deferred(args)) => done(completions::run(&args)),
        Command::Man(Deferred(args)) => done(man::run(&args)),
    };
    let exit = outcome.unwrap_or_else(|failure| {
        failure.print();
        failure.exit()
    });
    exit.into()
}

/// Warns of variables of the environment that are surely not meant as they stand.
fn warn_of_variables() {
    warn_of_port_of_a_service();
    unknown_variables::warn();
}

fn warn_of_port_of_a_service() {
    if let Some(value) = port_of_a_service() {
        tracing::warn!(
            value,
            "MCP_REMOTE_PORT is ignored: it has the form that Kubernetes gives it for a Service named 'mcp-remote'; use --port, or 'enableServiceLinks: false'"
        );
    }
}

/// Says that others on this machine can read what should be secret.
fn warn_of_readers(file: &Path) {
    if let Ok(metadata) = file.metadata()
        && files::is_readable_by_all(&metadata)
    {
        let file = file.display();
        tracing::warn!("every user of this machine can read {file}: chmod 600 {file}");
    }
}

fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let name = path.display();
    let text = text::read(path)
        .map_err(|err| Failure::caused(format!("could not read the policy file {name}"), err))
        .map_err(Failure::into_usage)?;
    Policy::parse(&text)
        .map_err(|err| Failure::caused(format!("the policy file {name} is not valid"), err))
        .map_err(Failure::into_usage)
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

/// So many tools, in words.
fn tools(count: usize) -> String {
    match count {
        1 => "1 tool".to_owned(),
        count => format!("{count} tools"),
    }
}

/// Prints to stdout; if that is closed, the text is dropped silently.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::caused("could not write to stdout", err))
        }
        _ => Ok(()),
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
