//! A command that prints a token.

use crate::handshake::MAX_TOKEN_LINE;
use crate::system::process::{Group, SHELL};
use crate::transport::line::{LineError, LineReader};
use crate::utils::secret::Secret;
use crate::utils::text;
use bytes::Bytes;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinSet;

/// The longest line of its stderr that is shown, in bytes.
const MAX_STDERR_LINE: usize = 2048;

/// How many lines of its stderr are shown.
const MAX_STDERR_LINES: usize = 50;

/// How long the last lines on stderr may take to arrive once it has exited.
const STDERR_GRACE: Duration = Duration::from_millis(100);

/// The command. Dropping it early kills it and what it has started.
struct Helper(Child, Group);

impl Drop for Helper {
    fn drop(&mut self) {
        // It has no process id any more once it has been waited for.
        if self.0.id().is_some() {
            self.1.kill();
        }
    }
}

/// Runs a shell command, and returns its output, trimmed.
///
/// # Errors
/// Why there is no token; contains nothing of its output.
pub(super) async fn run(command: &str, limit: Duration) -> Result<Secret, String> {
    let [shell, flag] = SHELL;
    let mut builder = Command::new(shell);
    builder
        .args([flag, command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let started = Group::start(&mut builder);
    let (process, group) = started.map_err(|err| format!("it could not be started: {err}"))?;
    let mut helper = Helper(process, group);
    let (Some(stdout), Some(stderr)) = (helper.0.stdout.take(), helper.0.stderr.take()) else {
        return Err("a pipe to it is missing".to_owned());
    };
    let mut shown = JoinSet::new();
    shown.spawn(show(stderr));
    let (output, status) = match tokio::time::timeout(limit, end(&mut helper.0, stdout)).await {
        Ok(ended) => ended?,
        Err(_) => return Err(format!("it did not end within {limit:?}")),
    };
    // Its last lines may still be in the pipe, which other processes may hold open.
    let _late = tokio::time::timeout(STDERR_GRACE, shown.join_next()).await;
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    let text = text::text_of(output).map_err(|err| format!("what it prints: {err}"))?;
    Ok(text.trim().to_owned().into())
}

/// Reads what it prints, to its end.
async fn end(process: &mut Child, stdout: ChildStdout) -> Result<(Vec<u8>, ExitStatus), String> {
    let failed = |err: io::Error| err.to_string();
    let mut output = Vec::new();
    let bound = MAX_TOKEN_LINE + 1;
    let mut bounded = stdout.take(bound as u64);
    bounded.read_to_end(&mut output).await.map_err(failed)?;
    if output.len() == bound {
        return Err(format!("it prints more than {MAX_TOKEN_LINE} bytes"));
    }
    Ok((output, process.wait().await.map_err(failed)?))
}

/// Logs its stderr, and discards what exceeds the bounds.
async fn show(stderr: ChildStderr) {
    let mut lines = LineReader::new(stderr, MAX_STDERR_LINE);
    let mut number = 0;
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(LineError::TooLong { .. }) => Bytes::from_static(b"(a very long line)"),
            Err(_) => return,
        };
        number += 1;
        if number <= MAX_STDERR_LINES {
            report(&line);
        }
    }
    report(&lines.rest());
}

fn report(line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    if !text.is_empty() {
        tracing::info!(target: "token_command", "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn ran(command: &str, limit: Duration) -> Result<String, String> {
        let token = run(command, limit).await;
        token.map(|token| token.expose().to_owned())
    }

    #[tokio::test]
    async fn what_it_prints_is_the_token_without_white_space_around_it() {
        assert_eq!(ran("echo; echo ' a.b.c '", LONG).await, Ok("a.b.c".into()));
        assert_eq!(
            ran("echo x >&2; printf %s \"$0\"", LONG).await,
            Ok("/bin/sh".into())
        );
        // It must not wait for input.
        assert_eq!(
            ran("read answer; echo \"a$answer\"", LONG).await,
            Ok("a".into())
        );
    }

    #[tokio::test]
    async fn misuse_is_named_and_nothing_of_the_output_is() {
        for (command, says) in [
            ("echo s3cret; exit 3", "it ended with exit status: 3"),
            ("echo s3cret; kill -9 $$", "signal: 9"),
            ("yes s3cret", "more than 16384 bytes"),
            ("printf 's3cret\\377\\377'", "not UTF-8"),
            ("no-such-command-s3 2>/dev/null", "exit status: 127"),
        ] {
            let err = ran(command, LONG).await.unwrap_err();
            assert!(
                err.contains(says) && !err.contains("s3cret"),
                "{command}: {err}"
            );
        }
    }

    /// Its children are killed with it.
    #[tokio::test]
    async fn one_that_hangs_is_ended_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let command = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let err = ran(&command, Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(err, "it did not end within 500ms");
        let pid = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let begun = std::time::Instant::now();
        // The process that inherits it reaps it.
        while rustix::process::test_kill_process(pid).is_ok() && begun.elapsed() < LONG {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            if stat.is_ok_and(|stat| stat.contains(") Z ")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(begun.elapsed() < LONG);
    }
}
