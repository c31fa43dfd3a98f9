//! `doctor`: tries every step of a connection, or of a server start, and reports how each went and, at the one
//! that fails, what to do about it.

pub(super) mod entry;
mod mcp;
mod network;
mod report;
mod server;

use super::client::{Kind, settings};
use super::failure::Exit;
use super::{Failure, logs, runtime, warn_of_variables};
use crate::cli::{ClientArgs, Deferred, DoctorArgs, DoctorTarget};
use crate::client::http;
use crate::client::{Place, Settings};
use crate::control::MAX_SERVER_LINE;
use crate::transport::tls::Connector;
use crate::transport::{BoxedStream, Connection};
use report::{Report, Stopped};

/// Checks a server as a client would, from the token to the lists.
pub(super) fn run(args: DoctorArgs, release: fn()) -> Exit {
    let _logs = logs::start_quiet();
    warn_of_variables();
    let mut report = Report::new(args.json);
    let runtime = match runtime(release) {
        Ok(runtime) => runtime,
        Err(err) => {
            Failure::from(err).print();
            return Exit::Failed;
        }
    };
    match args.target {
        DoctorTarget::Client(Deferred(args)) => {
            let outcome = runtime.block_on(client(&args, &mut report));
            let found = outcome.ok();
            let verdict = match report.has_doubts() {
                true => "It works, with the warnings above.",
                false => "Everything works.",
            };
            let text = found.as_ref().map(|()| entry::text(&args, verdict));
            report.finish(
                text.as_deref().unwrap_or("\nIt stops here.\n"),
                found.map(|()| entry::entries(&args)),
            );
        }
        DoctorTarget::Server(Deferred(args)) => {
            let outcome = runtime.block_on(server::examine(*args, &mut report));
            let text = match outcome {
                Ok(()) => "\nThe server can be started like this.\n",
                Err(Stopped) => "\nIt stops here.\n",
            };
            report.finish(text, None);
        }
    }
    // A name lookup runs on its own thread, which is not waited for.
    runtime.shutdown_background();
    if report.is_good() {
        Exit::Done
    } else {
        Exit::Failed
    }
}

async fn client(args: &ClientArgs, report: &mut Report) -> Result<(), Stopped> {
    let settings =
        settings(args).map_err(|failure| report.failed("settings", failure.to_string(), None))?;
    match settings {
        Kind::Lines(settings) => lines(&settings, report).await,
        Kind::Http(settings) => over_http(&settings, report).await,
    }
}

async fn lines(settings: &Settings, report: &mut Report) -> Result<(), Stopped> {
    let token = network::token(&settings.tokens, report).await?;
    let mut connection = match &settings.place {
        Place::Tcp(port) => {
            let stream = reach(&port.host, port.number, port.tls.as_ref(), report).await?;
            Connection::over_stream(stream, MAX_SERVER_LINE)
        }
        Place::WebSocket(port, path) => {
            let stream = reach(&port.host, port.number, port.tls.as_ref(), report).await?;
            network::upgrade(stream, port, path, report).await?
        }
        Place::Unix(path) => network::over_unix(path, report).await?,
    };
    let can_resume = network::authenticate(&mut connection, token.as_ref(), report).await?;
    mcp::ask(connection, can_resume, report).await
}

async fn over_http(settings: &http::Settings, report: &mut Report) -> Result<(), Stopped> {
    network::token(&settings.tokens, report).await?;
    let place = &settings.place;
    match &settings.proxy {
        Some(_) => report.good(
            "proxy",
            "the connection goes through the proxy of the environment",
        ),
        None => drop(reach(&place.host, place.port, settings.tls.as_ref(), report).await?),
    }
    mcp::through_client(report).await
}

/// A connection to a port, with TLS where requested.
async fn reach(
    host: &str,
    port: u16,
    tls: Option<&Connector>,
    report: &mut Report,
) -> Result<BoxedStream, Stopped> {
    let stream = network::reach(host, port, report).await?;
    network::secure(stream, tls, report).await
}
