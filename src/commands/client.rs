//! `client`.

use super::{Failure, runtime, start_logs};
use crate::cli::{ClientArgs, Transport};
use crate::client::{self, Reconnect, Settings};
use crate::shutdown::Signals;
use crate::utils::secret::Sources;
use std::time::Duration;
use tokio_tungstenite::tungstenite::http::Uri;

pub(super) fn run(args: ClientArgs) -> Result<(), Failure> {
    start_logs(args.log.log_format);
    let token = Sources {
        what: "JWT token",
        variable: "MCP_REMOTE_JWT_TOKEN",
        flag: args.jwt_token.as_ref(),
        file: args.jwt_token_file.as_deref(),
    };
    let (host, port, path) = locate(&args)?;
    let settings = Settings {
        protocol: args.transport.into(),
        host,
        port,
        path,
        token: token.read()?,
        keepalive_interval: args.keepalive.keepalive_interval,
        keepalive_timeout: args.keepalive.keepalive_timeout,
        reconnect: args.auto_reconnect.then_some(Reconnect {
            max_attempts: args.max_attempts,
            delay: Duration::from_millis(args.reconnect_delay),
        }),
    };
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let shutdown = async {
            let signal = signals.stop().await;
            tracing::info!(signal, "stopping");
        };
        Ok(client::run(settings, shutdown).await?)
    });
    // A thread may still wait for a line on stdin; nothing waits for that thread.
    runtime.shutdown_background();
    outcome
}

/// Host, port and path.
fn locate(args: &ClientArgs) -> Result<(String, u16, String), Failure> {
    let Some(url) = &args.url else {
        let port = args.port.ok_or_else(|| Failure::new("no --port"))?;
        return Ok((args.host.clone(), port, "/".to_owned()));
    };
    if !matches!(args.transport, Transport::Ws) {
        return Err(Failure::new(
            "--url is for 'client ws'; use --host and --port with tcp",
        ));
    }
    let bad = |why: &str| {
        Failure::new(format!(
            "--url is not of the form ws://host:port/path: {why}"
        ))
    };
    let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => {
            return Err(bad(
                "wss:// needs TLS, which this version does not have; use a TLS tunnel",
            ));
        }
        _ => return Err(bad("it must begin with ws://")),
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
    Ok((
        host.to_owned(),
        uri.port_u16().unwrap_or(80),
        uri.path().to_owned(),
    ))
}
