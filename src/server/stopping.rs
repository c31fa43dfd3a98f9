//! Whether the server is stopping, and how long pending requests may take then.

use std::time::Duration;
use tokio::sync::watch;

/// Whether the server is stopping.
#[derive(Clone, Debug)]
pub(super) struct Stopping {
    begun: watch::Receiver<bool>,
    /// How long requests in flight may take then.
    pub drain_timeout: Duration,
}

impl Stopping {
    /// The server stops once `begun` is true.
    pub(super) fn new(begun: watch::Receiver<bool>, drain_timeout: Duration) -> Self {
        Self {
            begun,
            drain_timeout,
        }
    }

    /// True once the server is stopping.
    pub(super) fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Completes when the server begins to stop. Cancel safe.
    pub(super) async fn begins(&self) {
        // An error means that the sender, and with it the server, is gone.
        drop(self.begun.clone().wait_for(|begun| *begun).await);
    }
}
