//! What was meant by a command line that is wrong in a known way.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// The transports, for an error about one in place of a command.
const TRANSPORTS: [&str; 4] = ["tcp", "ws", "http", "unix"];

/// Adds to the error what was meant, if that can be told.
pub(super) fn add(err: &mut clap::Error, typed: &[OsString]) {
    match (err.kind(), err.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => {
            let unknown = unknown.clone();
            add_to_unknown(err, &unknown, typed);
        }
        (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing)))
            if missing.iter().any(|name| name == "<TRANSPORT>") =>
        {
            let of_client = if typed.iter().any(|word| word == "client") {
                " or unix"
            } else {
                ""
            };
            tip(
                err,
                format!("the transport comes first: tcp, ws, http{of_client}"),
            );
        }
        _ => add_to_subcommand(err),
    }
}

fn add_to_unknown(err: &mut clap::Error, unknown: &str, typed: &[OsString]) {
    if unknown == "--token" {
        let meant = ContextValue::String("--jwt-token".to_owned());
        err.insert(ContextKind::SuggestedArg, meant);
    } else if let Some(text) = misplaced(unknown, typed) {
        tip(err, text);
    } else if err.get(ContextKind::SuggestedArg).is_some() {
        // Who mistypes a flag of ours does not mean it for the MCP server.
        err.insert(ContextKind::Suggested, ContextValue::StyledStrs(Vec::new()));
    }
}

/// A transport in place of a command.
fn add_to_subcommand(err: &mut clap::Error) {
    if let Some(ContextValue::String(word)) = err.get(ContextKind::InvalidSubcommand)
        && TRANSPORTS.contains(&word.as_str())
    {
        let text = format!("say which end it is: server {word}, client {word}");
        tip(err, text);
    }
}

fn tip(err: &mut clap::Error, text: String) {
    let tips = ContextValue::StyledStrs(vec![text.into()]);
    err.insert(ContextKind::Suggested, tips);
}

/// What to say of a word that stands where none is expected.
fn misplaced(unknown: &str, typed: &[OsString]) -> Option<String> {
    if unknown.starts_with('-') {
        return None;
    }
    let is_typed = |name: &str| typed.iter().any(|word| word == name);
    let at = typed.iter().position(|word| word == unknown)?;
    let before = at.checked_sub(1).and_then(|before| typed.get(before));
    let networked = is_typed("server") || is_typed("client");
    if before.is_some_and(|word| word == "--isolate") {
        Some(format!("its value follows '=': --isolate={unknown}"))
    } else if networked && unknown.parse::<u16>().is_ok() && !is_typed("--port") {
        Some(format!("the port has a flag: --port {unknown}"))
    } else if networked
        && let Some((host, port)) = unknown.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && !host.contains('/')
    {
        Some(format!(
            "host and port have flags: --host {host} --port {port}"
        ))
    } else if is_typed("client") && unknown.contains("://") {
        Some(format!("the URL has a flag: --url {unknown}"))
    } else {
        let starts = is_typed("server") || is_typed("generate-permissions");
        (starts && !is_typed("--"))
            .then(|| format!("the command of the MCP server follows '--': -- {unknown} …"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    #[test]
    fn mistakes_get_the_tip_that_helps() {
        for (typed, says, never) in [
            (
                "server --port 1 -- x",
                "tip: the transport comes first: tcp, ws, http\n",
                "unix",
            ),
            (
                "client --port 1",
                "comes first: tcp, ws, http or unix",
                "--\n",
            ),
            (
                "doctor tcp --port 1",
                "which end it is: server tcp, client tcp",
                "similar",
            ),
            (
                "ws --port 1",
                "which end it is: server ws, client ws",
                "similar",
            ),
            // Bug: another tip said to pass it on to the MCP server.
            (
                "server tcp --prot 1 -- x",
                "similar argument exists: '--port'",
                "as a value",
            ),
            (
                "server tcp --port 1 npx x",
                "follows '--': -- npx",
                "as a value",
            ),
            ("client tcp 8080", "--port 8080", "as a value"),
            (
                "client tcp mcp.example:80",
                "--host mcp.example --port 80",
                "as a value",
            ),
        ] {
            let typed: Vec<OsString> = typed.split(' ').map(Into::into).collect();
            let whole = [OsString::from("mcp-remote")]
                .into_iter()
                .chain(typed.clone());
            let mut err = Cli::try_parse_from(whole).unwrap_err();
            add(&mut err, &typed);
            let text = err.to_string();
            assert!(
                text.contains(says) && !text.contains(never),
                "{typed:?}: {text}"
            );
        }
    }

    #[test]
    fn numbers_say_what_is_needed() {
        for (typed, says) in [
            (
                "server tcp --port 1 --max-connections many -- x",
                "a whole number from 1 to",
            ),
            (
                "server tcp --port 1 --max-connections -5 -- x",
                "a whole number from 1 to",
            ),
            (
                "server tcp --port 1 --max-restarts -1 -- x",
                "a whole number from 0 to",
            ),
            (
                "client tcp --port 1 --reconnect-delay 1s",
                "a whole number of milliseconds is needed",
            ),
            (
                "server tcp --port 1 --resume-window 5 -- x",
                "use for instance 60s",
            ),
            (
                "server tcp --port x -- x",
                "a port is a number from 0 to 65535",
            ),
        ] {
            let typed = format!("mcp-remote {typed}");
            let text = Cli::try_parse_from(typed.split(' '))
                .unwrap_err()
                .to_string();
            assert!(text.contains(says), "{typed}: {text}");
        }
    }
}
