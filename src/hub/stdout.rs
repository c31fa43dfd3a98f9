//! Reads the output of a process.

use super::Shared;
use crate::jsonrpc::Outline;
use crate::router::{Loss, ProcessId};
use crate::transport::line::{LineError, LineReader};
use crate::transport::outlet::{Batch, Flush};
use tokio::process::ChildStdout;
use tokio::time::Instant;

/// Reads a process's lines to the end of its stdout.
pub(super) async fn read(
    shared: &Shared,
    process: ProcessId,
    stdout: &mut LineReader<ChildStdout>,
) {
    // Lines that arrived together are handled before one flush.
    let batch = Batch::new(shared);
    let mut silent = true;
    loop {
        let next = async {
            shared.wait_for_answers_written(process).await;
            stdout.next().await
        };
        let line = batch.next(next).await;
        if std::mem::take(&mut silent) {
            let alive = &mut shared.lock().processes[process.0].alive;
            alive.get_or_insert_with(Instant::now);
            shared.asked[process.0].raise();
        }
        match line {
            Ok(Some(line)) => shared.child_message(process, line),
            Ok(None) => return,
            Err(err @ LineError::TooLong { .. }) => {
                // This may wait for long.
                shared.flush();
                let mut outline = Outline::default();
                match stdout.skip(|piece| outline.see(piece)).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(err) => return unreadable(&err),
                }
                tracing::error!(%err, "dropped a message of the MCP server");
                shared.child_unread(process, outline.kind(), &Loss::TOO_LARGE);
            }
            Err(err) => return unreadable(&err),
        }
    }
}

fn unreadable(err: &dyn std::error::Error) {
    tracing::debug!(%err, "could not read the MCP server's stdout");
}
