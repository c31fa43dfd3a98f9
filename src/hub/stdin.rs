//! Feeds a process: senders write to its stdin directly, and what would block is written here.

use super::Shared;
use crate::router::ProcessId;
use crate::system::pipe::{self, HangUp};
use crate::transport::outlet::TryWrite;
use crate::utils::own_waker::own_waker;
use std::io;
use tokio::process::ChildStdin;
use tokio::sync::{Notify, watch};

/// Completes when the process is asked to stop.
pub(super) async fn asked(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl TryWrite for ChildStdin {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        pipe::try_write(self, bytes)
    }
}

/// Writes queued lines to a process, and closes its stdin when it is asked to stop. Signals when
/// the process has closed its end.
pub(super) async fn feed(
    shared: &Shared,
    process: ProcessId,
    stdin: ChildStdin,
    stopped: watch::Receiver<bool>,
    deaf: &Notify,
) {
    let hang_up = HangUp::watch(&stdin);
    let outlet = &shared.stdin[process.0];
    tokio::select! {
        failure = outlet.drive(stdin, || shared.written(process)) => {
            tracing::debug!(%failure, "the MCP server does not read its stdin any more");
        }
        () = own_waker(asked(stopped)) => return,
        () = hang_up.happens() => {}
    }
    deaf.notify_one();
    drop(hang_up);
    std::future::pending().await
}
