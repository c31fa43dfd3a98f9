//! `client`.

use super::client_shared::{connector, reconnect, refuse_certificates, tokens};
use super::{Failure, client_http, logs, runtime, warn_of_readers, warn_of_variables};
use crate::cli::{ClientArgs, ClientTransport};
use crate::client::{self, Place, Port, Settings};
use crate::system::signals::Signals;
use crate::transport::tls::Connector;
use std::io::IsTerminal;
use tokio_tungstenite::tungstenite::http::Uri;

pub(super) fn run(args: ClientArgs, release: fn()) -> Result<(), Failure> {
    let _logs = logs::start(args.log.log_format);
    warn_of_variables();
    let settings = settings(&args)?;
    if args.token.jwt_token.is_some() {
        tracing::warn!(
            "--jwt-token can be read in 'ps' by every user of this machine: use MCP_REMOTE_JWT_TOKEN or --jwt-token-file"
        );
    }
    if args.has_idle_reconnection() {
        tracing::warn!(
            "--max-attempts and --reconnect-delay have no effect without --auto-reconnect: add it"
        );
    }
    let token = args.token.jwt_token_file.clone();
    let token = token.or_else(|| std::env::var_os("MCP_REMOTE_JWT_TOKEN_FILE").map(Into::into));
    let files = token.iter().chain(&args.tls_key).chain(&args.header_file);
    files.for_each(|file| warn_of_readers(file));
    if std::io::stdin().is_terminal() {
        tracing::info!(
            "waiting for MCP messages on stdin, where a host writes them; by hand, try the connection with 'mcp-remote doctor client'"
        );
    }
    let runtime = runtime(release)?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let shutdown = async move {
            let signal = signals.stop().await;
            tracing::info!(signal, "stopping");
        };
        // As a task it is woken by others without asking the system for events in between.
        let outcome = match settings {
            Kind::Lines(settings) => tokio::spawn(client::run(settings, shutdown)).await?,
            Kind::Http(settings) => tokio::spawn(client::http::run(settings, shutdown)).await?,
        };
        outcome.map_err(|err| {
            let remedy = err.remedy();
            Failure::from(err).with_remedy(remedy)
        })
    });
    // A thread may still wait for a line on stdin; nothing waits for that thread.
    runtime.shutdown_background();
    outcome
}

/// Which of the two clients runs.
#[derive(Debug)]
pub(super) enum Kind {
    Lines(Settings),
    Http(client::http::Settings),
}

/// Reads what the arguments name.
///
/// # Errors
/// Which of them is invalid, and why.
pub(super) fn settings(args: &ClientArgs) -> Result<Kind, Failure> {
    if args.transport != ClientTransport::Unix && args.path.is_some() {
        return Err(Failure::usage("--path is for 'client unix'"));
    }
    if args.transport == ClientTransport::Http {
        return Ok(Kind::Http(client_http::settings(args)?));
    }
    if !args.header.is_empty() || args.header_file.is_some() {
        return Err(Failure::usage(
            "--header and --header-file are for 'client http'",
        ));
    }
    let place = match args.transport {
        ClientTransport::Unix => unix(args)?,
        transport => {
            let located = locate(args)?;
            let port = Port {
                tls: read_tls(args, &located)?,
                host: located.host,
                number: located.port,
            };
            match transport {
                ClientTransport::Ws => Place::WebSocket(port, located.path),
                _ => Place::Tcp(port),
            }
        }
    };
    Ok(Kind::Lines(Settings {
        place,
        tokens: tokens(args)?,
        answer_timeout: args.answer_timeout,
        keepalive_interval: args.keepalive.keepalive_interval,
        keepalive_timeout: args.keepalive.keepalive_timeout,
        reconnect: reconnect(args),
    }))
}

fn unix(args: &ClientArgs) -> Result<Place, Failure> {
    let path = args.path.clone().ok_or_else(|| {
        Failure::usage("'client unix' needs --path /path/to.sock, the socket of the server")
    })?;
    if args.tls || args.url.is_some() {
        return Err(Failure::usage(
            "--tls and --url are not for 'client unix': a Unix socket stays on this machine",
        ));
    }
    refuse_certificates(args, "a Unix socket has none")?;
    Ok(Place::Unix(path))
}

/// The address of a server in the network.
struct Located {
    host: String,
    port: u16,
    path: String,
    tls: bool,
}

fn locate(args: &ClientArgs) -> Result<Located, Failure> {
    let Some(url) = &args.url else {
        return Ok(Located {
            host: args.host.clone(),
            port: args.port.ok_or_else(|| {
                Failure::usage(
                    "the port of the server is missing: use --port, or with 'client ws' --url",
                )
            })?,
            path: "/".to_owned(),
            tls: args.tls,
        });
    };
    if args.transport != ClientTransport::Ws {
        return Err(Failure::usage(
            "--url is for 'client ws' and 'client http'; use --host and --port with tcp",
        ));
    }
    let bad = |why: &str| {
        Failure::usage(format!(
            "--url is not of the form ws://host:port/path: {why}"
        ))
    };
    let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
    let (tls, port) = match uri.scheme_str() {
        Some("ws") if args.tls => return Err(bad("with --tls it must begin with wss://")),
        Some("ws") => (false, 80),
        Some("wss") => (true, 443),
        _ => return Err(bad("it must begin with ws:// or wss://")),
    };
    let authority = uri.authority().map(|authority| authority.as_str());
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err(bad(
            "it has a user; give the token by MCP_REMOTE_JWT_TOKEN or --jwt-token-file",
        ));
    }
    if uri.query().is_some() {
        return Err(bad(
            "it has a query; give the token by MCP_REMOTE_JWT_TOKEN or --jwt-token-file",
        ));
    }
    let host = uri
        .host()
        .ok_or_else(|| bad("no host"))?
        .trim_matches(['[', ']']);
    Ok(Located {
        host: host.to_owned(),
        port: uri.port_u16().unwrap_or(port),
        path: uri.path().to_owned(),
        tls,
    })
}

fn read_tls(args: &ClientArgs, place: &Located) -> Result<Option<Connector>, Failure> {
    if place.tls {
        return Ok(Some(connector(args, &place.host)?));
    }
    refuse_certificates(args, "add --tls, or give a --url that begins with wss://")?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Deferred};
    use crate::transport::Pulse;
    use clap::Parser;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn settings_do_not_show_the_token() {
        let typed = "mcp-remote client tcp --port 1 --jwt-token hunter2";
        let Command::Client(Deferred(args)) = Cli::parse_from(typed.split(' ')).command else {
            panic!("not a client");
        };
        let Ok(Kind::Lines(settings)) = settings(&args) else {
            panic!("no settings")
        };
        assert!(settings.tokens.is_some());
        assert!(!format!("{settings:?}").contains("hunter"));
    }

    /// In virtual time, with default settings.
    #[tokio::test(start_paused = true)]
    async fn silence_of_45_seconds_is_found_and_less_is_not() {
        let limits = ["client tcp --port 1", "server tcp --port 1 -- x"].map(|typed| {
            let typed = ["mcp-remote"].into_iter().chain(typed.split(' '));
            match Cli::parse_from(typed).command {
                Command::Client(Deferred(args)) => args.keepalive,
                Command::Server(Deferred(args)) => args.keepalive,
                _ => panic!("neither client nor server"),
            }
        });
        let second = Duration::from_secs(1);
        for limit in limits {
            assert_eq!(limit.keepalive_interval, 15 * second);
            assert_eq!(limit.keepalive_timeout, 45 * second);
            let pulse = Pulse::default();
            let began = Instant::now();
            let beats = async {
                // An hour of it, each one just in time.
                while began.elapsed() < 3600 * second {
                    tokio::time::sleep(limit.keepalive_timeout - 3 * second).await;
                    pulse.beat();
                }
                Instant::now()
            };
            let stop = async {
                pulse.stop(limit.keepalive_timeout).await;
                Instant::now()
            };
            let (last, found) = tokio::join!(beats, stop);
            let silent = found - last;
            assert!(silent >= 45 * second && silent < 48 * second, "{silent:?}");
        }
    }
}
