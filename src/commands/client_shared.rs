//! What the two kinds of `client` read from their arguments alike.

use super::Failure;
use crate::cli::ClientArgs;
use crate::client::{Reconnect, TokenSource, Tokens};
use crate::transport::tls::{Connector, Identity};
use crate::utils::secret::Sources;
use std::path::PathBuf;
use std::time::Duration;

/// The token, if one is given in any way: on the command line, else in the environment. A file is read
/// now as well, so that a mistake is told at once.
pub(super) fn tokens(args: &ClientArgs) -> Result<Tokens, Failure> {
    const VARIABLE: &str = "MCP_REMOTE_JWT_TOKEN";
    let variable = |suffix: &str| std::env::var_os(format!("{VARIABLE}{suffix}"));
    let (typed, file) = (&args.token.jwt_token, &args.token.jwt_token_file);
    let on_command_line = typed.is_some() || file.is_some();
    let in_environment = variable("").is_some() || variable("_FILE").is_some();
    let command = match &args.jwt_token_command {
        Some(command) => Some(command.clone().into()),
        None if on_command_line || in_environment => None,
        None => variable("_COMMAND"),
    };
    if let Some(command) = command {
        let command = command.into_string().map_err(|_| {
            Failure::new(format!(
                "the command in {VARIABLE}_COMMAND is not UTF-8 text"
            ))
        })?;
        if command.trim().is_empty() {
            return Err(Failure::new("--jwt-token-command is empty"));
        }
        return Ok(Tokens::new(Some(TokenSource::Command(command)), None));
    }
    let sources = Sources {
        what: "JWT token",
        variable: VARIABLE,
        flags: typed.as_slice(),
        file: file.as_deref(),
    };
    let Some(token) = sources.read()? else {
        return Ok(Tokens::new(None, None));
    };
    let file = match (file, typed) {
        (Some(file), _) => Some(file.clone()),
        (None, None) if variable("").is_none() => variable("_FILE").map(PathBuf::from),
        (None, _) => None,
    };
    let source = match file {
        Some(file) => TokenSource::File(file),
        None => TokenSource::Fixed(token.clone()),
    };
    Ok(Tokens::new(Some(source), Some(token)))
}

/// How to reconnect, if at all.
pub(super) fn reconnect(args: &ClientArgs) -> Option<Reconnect> {
    args.auto_reconnect.then_some(Reconnect {
        max_attempts: args.max_attempts,
        delay: Duration::from_millis(args.reconnect_delay.into()),
    })
}

/// TLS for a server of this name.
pub(super) fn connector(args: &ClientArgs, host: &str) -> Result<Connector, Failure> {
    let identity = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        _ => None,
    };
    Ok(Connector::load(
        host,
        ("--tls-ca", args.tls_ca.as_deref()),
        identity,
    )?)
}

/// Flags for certificates imply TLS: better no connection than one in plain text.
pub(super) fn refuse_certificates(args: &ClientArgs, remedy: &str) -> Result<(), Failure> {
    if args.tls_ca.is_some() || args.tls_cert.is_some() || args.tls_key.is_some() {
        return Err(Failure::usage(format!(
            "--tls-ca, --tls-cert and --tls-key are for TLS; {remedy}",
        )));
    }
    Ok(())
}
