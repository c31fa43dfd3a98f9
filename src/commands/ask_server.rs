//! Starts a stdio MCP server and asks it what it offers, in both eras.

use super::Failure;
use crate::child::{Child, CommandLine};
use crate::inventory::{Fault, Inventory, Session};
use crate::jsonrpc::{MAX_CHILD_DEPTH, Message, recover};
use crate::transport::line::{LineError, LineReader};
use crate::utils::span::brief;
use bytes::Bytes;
use std::ffi::OsString;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

/// The longest line of a server that is only asked what it offers, in bytes.
const MAX_LINE: usize = 64 << 20;

/// The most that is shown of a line that is no message, in characters.
const MAX_EXCERPT: usize = 60;

/// How long a server may take to answer as one of 2026-07-28, beyond what it took as an older one: what
/// does not know that revision need not answer at all.
const MODERN_EXTRA: Duration = Duration::from_secs(5);

/// How often the log says that an answer is waited for.
const REPORT: Duration = Duration::from_secs(15);

/// Why a server did not answer what it offers.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("it did not answer '{0}' within {1}")]
    Silent(&'static str, humantime::Duration),
    #[error("it ended ({status}) before it answered '{asked}'{}", last_line(.stderr))]
    Ended {
        asked: &'static str,
        status: String,
        stderr: Option<String>,
    },
    #[error("its output could not be read")]
    Line(#[from] LineError),
    #[error(transparent)]
    Fault(#[from] Fault),
}

fn last_line(stderr: &Option<String>) -> String {
    let last = stderr.as_ref();
    last.map_or_else(String::new, |line| {
        format!("; its last lines on stderr: {line}")
    })
}

/// Why a conversation ended early.
enum Early {
    /// The other end closed it.
    Closed,
    Failed(AskError),
}

/// The command behind `--`.
///
/// # Errors
/// That there is none, or no such program.
pub(super) fn command_line(command: Vec<OsString>) -> Result<CommandLine, Failure> {
    let command = CommandLine::of(command).ok_or_else(|| Failure::new("no command after '--'"))?;
    command.find().map_err(|err| {
        Failure::caused(format!("could not start the MCP server '{command}'"), err)
            .with_remedy(Some(command.remedy()))
    })?;
    Ok(command)
}

/// All that the server of this command offers to clients of either era. Each gets a process of its own:
/// most servers serve one era in one process.
///
/// # Errors
/// That it answers neither.
pub(super) async fn ask(command: &CommandLine, limit: Duration) -> Result<Inventory, Failure> {
    let mut inventory = ask_both(command, limit).await?;
    if let Some(stray) = inventory.stray.take() {
        inventory.notes.push(format!(
            "a line of its stdout is no JSON-RPC message, and is dropped: '{stray}'; its log and other output belong on stderr"
        ));
    }
    Ok(inventory)
}

async fn ask_both(command: &CommandLine, limit: Duration) -> Result<Inventory, Failure> {
    let began = Instant::now();
    let legacy = ask_one(command, false, limit).await?;
    let limit = modern_limit(limit, &legacy, began.elapsed());
    let modern = ask_one(command, true, limit).await?;
    match (legacy, modern) {
        (Ok(mut inventory), Ok(modern)) => {
            inventory.merge(modern);
            Ok(inventory)
        }
        (Ok(inventory), Err(err)) => {
            tracing::debug!(%err, "the MCP server does not speak 2026-07-28");
            Ok(inventory)
        }
        (Err(err), Ok(inventory)) => {
            tracing::debug!(%err, "the MCP server speaks 2026-07-28 alone");
            Ok(inventory)
        }
        (Err(legacy), Err(_)) => {
            let failure = Failure::caused(
                format!("could not ask the MCP server '{command}' what it offers"),
                legacy,
            );
            Err(failure.with_remedy(Some("run it by itself to see why")))
        }
    }
}

/// The time limit as a server of 2026-07-28 for one that took this long as an older one.
fn modern_limit<T>(limit: Duration, legacy: &Result<T, AskError>, took: Duration) -> Duration {
    match legacy {
        Ok(_) => limit.min(took * 2 + MODERN_EXTRA),
        // The time is over; a little more shows whether it only ignores older clients.
        Err(AskError::Silent(..)) => limit.min(MODERN_EXTRA),
        Err(_) => limit,
    }
}

async fn ask_one(
    command: &CommandLine,
    modern: bool,
    limit: Duration,
) -> Result<Result<Inventory, AskError>, Failure> {
    let started = Child::spawn(command, MAX_LINE, false);
    let (mut child, mut pipes) = started.map_err(|err| {
        Failure::caused(format!("could not start the MCP server '{command}'"), err)
    })?;
    let (mut session, first) = Session::new(modern, 1);
    let mut stray = None;
    let talk = converse(
        &mut session,
        &first,
        &mut pipes.stdout,
        &mut pipes.stdin,
        &mut stray,
    );
    let outcome = patiently(limit, talk).await;
    drop(pipes);
    let status = child.stop().await;
    let stderr = child.reap().await;
    let asked = session.asked();
    Ok(match outcome {
        Ok(Ok(())) => Ok(Inventory {
            stray,
            ..session.into_inventory()
        }),
        Ok(Err(Early::Failed(err))) => Err(err),
        Ok(Err(Early::Closed)) => Err(AskError::Ended {
            asked,
            status: status.map_or_else(|err| err.to_string(), |status| status.to_string()),
            stderr,
        }),
        Err(_) => Err(AskError::Silent(asked, limit.into())),
    })
}

/// Limits the time of a conversation with an MCP server; the log says that it goes on.
pub(super) async fn patiently<T>(
    limit: Duration,
    talk: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let mut waited = Duration::ZERO;
    let reports = async {
        loop {
            sleep(REPORT).await;
            waited += REPORT;
            let (waited, limit) = (brief(waited), brief(limit));
            tracing::warn!(%waited, %limit, "waiting for the MCP server to answer");
        }
    };
    tokio::select! {
        outcome = timeout(limit, talk) => outcome,
        never = reports => match never {},
    }
}

/// Carries a session over a connection of lines, to its end.
async fn converse<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    session: &mut Session,
    first: &[u8],
    lines: &mut LineReader<R>,
    writer: &mut W,
    stray: &mut Option<String>,
) -> Result<(), Early> {
    // A failed write shows in what is read.
    let mut broken = writer.write_all(first).await.is_err();
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return Err(Early::Closed),
            Err(err) => return Err(Early::Failed(err.into())),
        };
        if stray.is_none() && is_stray(&line) {
            *stray = Some(excerpt(&line));
        }
        let step = session
            .receive(&line)
            .map_err(|fault| Early::Failed(fault.into()))?;
        if !step.send.is_empty() && !broken {
            broken = writer.write_all(&step.send).await.is_err();
        }
        if step.done {
            return Ok(());
        }
    }
}

/// True for a line that a server of ours drops: nothing on it is a message.
fn is_stray(line: &Bytes) -> bool {
    if Message::read(line.clone(), MAX_CHILD_DEPTH).is_ok() {
        return false;
    }
    let found = recover(line);
    found.is_empty() && !line.trim_ascii().is_empty()
}

fn excerpt(line: &Bytes) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim().chars().take(MAX_EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    /// Captures the log.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Bug: a server that said nothing was waited for twice as long as `--timeout` says.
    #[test]
    fn a_server_that_says_nothing_gets_its_time_once() {
        let limit = Duration::from_secs(120);
        let silent = Err::<(), _>(AskError::Silent("initialize", limit.into()));
        assert_eq!(modern_limit(limit, &silent, limit), MODERN_EXTRA);
        let took = Duration::from_secs(10);
        let late = took * 2 + MODERN_EXTRA;
        assert_eq!(modern_limit(limit, &Ok(()), took), late);
        let short = Duration::from_secs(1);
        assert_eq!(modern_limit(short, &silent, short), short);
    }

    /// Bug: for minutes nothing was printed at all.
    #[tokio::test(start_paused = true)]
    async fn the_log_says_what_is_waited_for() {
        let kept = Kept::default();
        let writer = kept.clone();
        let logs = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let _logs = tracing::subscriber::set_default(logs.finish());
        let began = Instant::now();
        let limit = Duration::from_secs(50);
        let outcome = patiently(limit, std::future::pending::<()>()).await;
        assert!(outcome.is_err());
        assert_eq!(began.elapsed(), limit);
        let said = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let line = "waiting for the MCP server to answer waited=15s limit=50s";
        assert!(said.contains(line), "{said}");
        assert_eq!(said.matches("waiting for").count(), 3, "{said}");
    }
}
