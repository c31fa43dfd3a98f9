//! Waits until the tools of a process are known, for calls of pinned tools.

use super::{Hub, Outbox};
use crate::jsonrpc::Message;
use crate::permissions::PinnedCall;
use crate::router::{SessionId, ToolsKnown};
use crate::transport::outlet::Flush;
use tokio::time::Instant;

/// Waits until the tools of the process that would serve a call are known. `message` is the call. False if they are
/// not known in time. Cancel safe.
pub(super) async fn learn_tools(
    (hub, from): (&Hub, SessionId),
    (message, call): (&Message, &PinnedCall),
    outbox: &Outbox,
) -> bool {
    let limits = hub.0.limits.deadlines;
    let begun = Instant::now();
    let mut asked = None;
    loop {
        // Before the check, so that no notification in between is missed.
        let learned = hub.0.learned.notified();
        let now = Instant::now();
        let known = hub
            .0
            .gather(|routing, out| routing.learn_tools(from, (message, call), now.into_std(), out));
        hub.0.flush();
        match known {
            ToolsKnown::Yes => return true,
            ToolsKnown::NotReady => {}
            ToolsKnown::Asked { failures } => {
                let (_, before) = *asked.get_or_insert((now, failures));
                if failures > before {
                    return false;
                }
            }
        }
        let due = match asked {
            Some((asked, _)) => asked.checked_add(limits.handshake),
            // A process that does not get ready is ended, but another one may follow.
            None => begun.checked_add(limits.start),
        };
        let overdue = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = learned => {}
            _cut = outbox.until_cut() => return false,
            () = overdue => {
                tracing::warn!("the MCP server has not said in time what its tools are (--handshake-timeout)");
                hub.0.handle(|routing, out| routing.give_up_tools(from, message, out));
                return false;
            }
        }
    }
}
