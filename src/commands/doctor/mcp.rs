//! What the MCP server at the far end offers.

use super::super::ask_server::patiently;
use super::report::{Report, Stopped};
use crate::control::Control;
use crate::handshake;
use crate::inventory::{Fault, Inventory, Session};
use crate::transport::Connection;
use crate::transport::line::{LineError, LineReader};
use bytes::Bytes;
use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The time limit for the MCP server, in total: it may have to be started first.
const LIMIT: Duration = Duration::from_secs(90);

/// The longest line of the client, in bytes.
const MAX_LINE: usize = 64 << 20;

/// How much of the client's stderr is read.
const MAX_STDERR: u64 = 64 * 1024;

/// The first id of the second conversation on a connection; the first has used a few.
const SECOND: u64 = 1_000_000;

const TOKEN_REMEDY: &str = "give the token by MCP_REMOTE_JWT_TOKEN or --jwt-token-file; the operator of the server, or its identity provider, issues them";
const POLICY_REMEDY: &str =
    "the policy of the server gives the token's roles neither 'initialize' nor 'server/discover'";
const EMPTY_REMEDY: &str = "the MCP server offers nothing, or the server's policy hides all of it from the roles of this token: 'mcp-remote check --against' there says which";
const PATH_REMEDY: &str = "is the path of --url right, and is an MCP server there?";

/// Why the MCP server does not list what it offers.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Refused(String),
    #[error("the connection was closed")]
    Closed,
    #[error(transparent)]
    Line(#[from] LineError),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Lines to and from an MCP server.
enum Talk {
    Network(Connection),
    Client(ChildStdin, LineReader<ChildStdout>),
}

impl Talk {
    async fn send(&mut self, lines: Vec<u8>) {
        // A failed write shows up in what is received.
        let _broken = match self {
            Self::Network(connection) => connection.send(lines).await,
            Self::Client(stdin, _) => stdin.write_all(&lines).await,
        };
    }

    async fn next(&mut self) -> Result<Bytes, Broken> {
        let line = match self {
            Self::Network(connection) => connection.next().await?,
            Self::Client(_, stdout) => stdout.next().await?,
        };
        let line = line.ok_or(Broken::Closed)?;
        if let Some(refusal) = handshake::read_refusal(&line) {
            return Err(Broken::Refused(refusal));
        }
        if handshake::wants_tls(&line) {
            let text = "the server wants TLS; use --tls or wss://";
            return Err(Broken::Refused(text.to_owned()));
        }
        match handshake::wrong_transport(&line) {
            Some(wrong) => Err(Broken::Refused(wrong.to_string())),
            None => Ok(line),
        }
    }
}

/// Queries over an open connection, and closes it.
pub(super) async fn ask(
    connection: Connection,
    can_resume: Option<bool>,
    report: &mut Report,
) -> Result<(), Stopped> {
    let mut talk = Talk::Network(connection);
    let offers = can_resume != Some(false);
    if offers {
        let resume = Control::Resume {
            session: None,
            received: 0,
        };
        talk.send(resume.to_line()).await;
    }
    let asked = patiently(LIMIT, converse(&mut talk, offers, report)).await;
    talk.send(Control::Leave {}.to_line()).await;
    conclude(asked.ok(), report)
}

/// Tries 2026-07-28 first and then the handshake of the older revisions, as SDKs do.
async fn converse(talk: &mut Talk, offers: bool, report: &mut Report) -> Result<Inventory, Broken> {
    let (mut session, mut first) = Session::new(true, 1);
    let mut modern = true;
    let mut is_first = offers;
    talk.send(std::mem::take(&mut first)).await;
    loop {
        let line = talk.next().await?;
        if std::mem::take(&mut is_first) {
            match Control::read(&line) {
                Some(Control::Resumed {
                    session: Some(_), ..
                }) => report.good("resume", "a lost connection can be taken up again"),
                _ => report.good("resume", "the server does not offer it"),
            }
        }
        match session.receive(&line) {
            Ok(step) => {
                if !step.send.is_empty() {
                    talk.send(step.send).await;
                }
                if step.done {
                    return Ok(session.into_inventory());
                }
            }
            Err(Fault::Refused { .. }) if modern => {
                modern = false;
                (session, first) = Session::new(false, SECOND);
                talk.send(std::mem::take(&mut first)).await;
            }
            Err(fault) => return Err(fault.into()),
        }
    }
}

fn conclude(asked: Option<Result<Inventory, Broken>>, report: &mut Report) -> Result<(), Stopped> {
    let inventory = match asked {
        Some(Ok(inventory)) => inventory,
        Some(Err(broken)) => return Err(give_up(&broken, report)),
        None => {
            let detail = format!(
                "the MCP server does not answer within {} s",
                LIMIT.as_secs()
            );
            let remedy = "look at the log of the server: does its MCP server start?";
            return Err(report.failed("mcp", detail, Some(remedy)));
        }
    };
    let server = inventory
        .server
        .as_deref()
        .unwrap_or("a server without a name");
    let revision = inventory.revisions.join(", ");
    report.good("mcp", format!("{server} speaks MCP {revision}"));
    let counts = format!(
        "tools: {}, prompts: {}, resources: {}, resource templates: {}",
        inventory.tools.len(),
        inventory.prompts.len(),
        inventory.resources.len(),
        inventory.templates.len()
    );
    let offers_nothing = inventory.tools.is_empty()
        && inventory.prompts.is_empty()
        && inventory.resources.is_empty()
        && inventory.templates.is_empty();
    if !inventory.notes.is_empty() {
        report.doubtful("lists", counts, &inventory.notes.join("; "));
    } else if offers_nothing {
        report.doubtful("lists", counts, EMPTY_REMEDY);
    } else {
        report.good("lists", counts);
    }
    Ok(())
}

fn give_up(broken: &Broken, report: &mut Report) -> Stopped {
    let text = broken.to_string();
    let remedies = [
        ("Authentication", TOKEN_REMEDY),
        ("Access denied", POLICY_REMEDY),
        ("HTTP 4", PATH_REMEDY),
    ];
    let found = remedies.iter().find(|(part, _)| text.contains(part));
    match (broken, found) {
        (Broken::Refused(_), Some((_, TOKEN_REMEDY))) => {
            let text = format!("the server wants a token, and none is given: {text}");
            report.failed("mcp", text, Some(TOKEN_REMEDY))
        }
        (_, Some((_, remedy))) => report.failed("mcp", text, Some(remedy)),
        (Broken::Refused(_), None) => report.failed("mcp", text, None),
        (_, None) => report.failed("mcp", text, Some("look at the log of the server")),
    }
}

/// Queries through `mcp-remote client`, with the arguments of this process: exactly what a host does.
pub(super) async fn through_client(report: &mut Report) -> Result<(), Stopped> {
    let own = |argument: &OsString| argument != "doctor" && argument != "--json";
    let arguments = std::env::args_os().skip(1).filter(own);
    let program = std::env::current_exe().unwrap_or_else(|_| "mcp-remote".into());
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut client = match started {
        Ok(client) => client,
        Err(err) => return Err(report.failed("mcp", err.to_string(), None)),
    };
    let pipes = (
        client.stdin.take(),
        client.stdout.take(),
        client.stderr.take(),
    );
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(report.failed("mcp", "a pipe of the client is missing", None));
    };
    let mut said = String::new();
    let mut stderr = stderr.take(MAX_STDERR);
    let mut talk = Talk::Client(stdin, LineReader::new(stdout, MAX_LINE));
    let asked = patiently(LIMIT, converse(&mut talk, false, report)).await;
    drop(talk);
    let ended = timeout(Duration::from_secs(5), async {
        // Bytes that are not text end it early, which is fine.
        let _read = stderr.read_to_string(&mut said).await;
        client.wait().await
    });
    let _killed_when_late = ended.await;
    let error = said.lines().find_map(|line| line.strip_prefix("error: "));
    if let (Some(error), Ok(Err(_))) = (error, &asked) {
        return Err(report.failed("mcp", error, None));
    }
    conclude(asked.ok(), report)
}

#[cfg(test)]
mod tests;
