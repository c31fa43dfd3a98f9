//! Notifications to the service manager while we serve.

use super::context::Context;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often to ask whether the MCP server answers, before it does. Not an event: a server that is never asked
/// anything never answers.
const LOOK: Duration = Duration::from_millis(200);

/// Notifies it once the MCP server has answered, and of the progress of this runtime.
pub(super) async fn attend(context: &Context) {
    let supervisor = &context.settings.supervisor;
    if !supervisor.is_there() {
        return;
    }
    let serve = async {
        let began = Instant::now();
        while let Some(looked) = context.sharing.look() {
            if context.health.is_ready(|| looked).await {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        supervisor.ready();
        tracing::debug!(after = ?began.elapsed(), "told the service manager that we are ready");
    };
    let beat = async {
        let Some(pace) = supervisor.pace().filter(|pace| !pace.is_zero()) else {
            return;
        };
        let mut beat = interval(pace);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            supervisor.alive();
        }
    };
    tokio::select! {
        _done = async { tokio::join!(serve, beat) } => {}
        () = context.stopping.begins() => {}
    }
}
