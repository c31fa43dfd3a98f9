//! Whether the server stops, and how long what is under way may take then.

use std::time::Duration;
use tokio::sync::watch;

/// Whether the server stops.
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

    /// True from when the server stops.
    pub(super) fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Completes when the server stops. Cancel safe.
    pub(super) async fn begins(&self) {
        // An error says that the sender is gone, and with it the server.
        drop(self.begun.clone().wait_for(|begun| *begun).await);
    }
}
