//! Feeds a process: what its stdin does not take at once is written here.

use super::{IdleStdin, Shared};
use crate::router::ProcessId;
use crate::system::pipe::HangUp;
use crate::utils::chunks::Chunks;
use crate::utils::own_waker::own_waker;
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::{Notify, watch};

/// Completes when the process is asked to stop.
pub(super) async fn asked(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Gives a process its lines, and closes its stdin when it is asked to leave. When the process
/// does not take them any more, says so.
pub(super) async fn feed(
    shared: &Shared,
    process: ProcessId,
    stdin: ChildStdin,
    stopped: watch::Receiver<bool>,
    deaf: &Notify,
) {
    let lent = Lent { shared, process };
    let hang_up = HangUp::watch(&stdin);
    lent.put(stdin);
    let write = async {
        let mut lines = Chunks::default();
        loop {
            let Some(mut stdin) = lent.take(&mut lines) else {
                shared.to_child[process.0].wait().await;
                continue;
            };
            let written = write_all(&mut stdin, &lines).await;
            lines.clear();
            shared.written();
            shared.drained.notify_waiters();
            if let Err(err) = written {
                tracing::debug!(%err, "the MCP server does not read its stdin any more");
                return;
            }
            lent.put(stdin);
            shared.flush();
        }
    };
    tokio::select! {
        () = write => {}
        () = own_waker(asked(stopped)) => return,
        () = hang_up.happens() => {}
    }
    deaf.notify_one();
    drop((lent, hang_up));
    std::future::pending().await
}

/// The stdin of a process, which others may write to while there is nothing to feed to it. It is closed
/// when this is dropped.
struct Lent<'a> {
    shared: &'a Shared,
    process: ProcessId,
}

impl Lent<'_> {
    fn put(&self, stdin: ChildStdin) {
        let full = false;
        self.shared.lock().idle_stdin[self.process.0] = Some(IdleStdin { stdin, full });
    }

    /// Takes it back with the lines that wait for the process, if some do; `lines` is empty.
    fn take(&self, lines: &mut Chunks) -> Option<ChildStdin> {
        let state = &mut *self.shared.lock();
        if state.out.to_child[self.process.0].is_empty() {
            return None;
        }
        *lines = state.out.take(self.process, std::mem::take(lines));
        state.writing = lines.len();
        state.count_waiting();
        state.idle_stdin[self.process.0]
            .take()
            .map(|idle| idle.stdin)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.shared.lock().idle_stdin[self.process.0] = None;
    }
}

async fn write_all(stdin: &mut ChildStdin, lines: &Chunks) -> io::Result<()> {
    for piece in lines.pieces() {
        stdin.write_all(piece).await?;
    }
    Ok(())
}
