//! What every connection needs. A module that needs only a part takes only that.

use super::Settings;
use super::access::Authorization;
use super::health::Health;
use super::intake::AHEAD_OF_ALL;
use super::places::Places;
use super::rate::Limiter;
use super::registry::Registry;
use super::sharing::Sharing;
use super::stopping::Stopping;
use crate::account::{Account, Address};
use crate::backlog::{self, Backlog};
use crate::router::Counted;
use crate::utils::tally::Tally;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, watch};

/// What every connection needs.
#[derive(Debug)]
pub(super) struct Context {
    pub settings: Settings,
    pub sharing: Sharing,
    /// Places for admitted connections.
    pub places: Arc<Places>,
    /// Counts messages, if there is a rate limit.
    pub rates: Option<Mutex<Limiter>>,
    /// Whether the MCP server answers.
    pub health: Health,
    /// Sessions that outlive their connections.
    pub registry: Arc<Registry>,
    /// A permit is a byte that may be read ahead of a client while the MCP server takes nothing.
    pub room_ahead: Semaphore,
    /// Counts the memory that is held for all peers together.
    pub backlog: Backlog,
    /// Whether the server is stopping.
    pub stopping: Stopping,
}

impl Context {
    /// For a server that stops once `stopped` is true.
    pub(super) fn new(
        settings: Settings,
        sharing: Sharing,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self {
            places: Places::new(settings.max_connections),
            rates: settings.rate.map(Limiter::new).map(Mutex::new),
            backlog: Backlog::new(settings.max_backlog),
            registry: Arc::new(Registry::new(settings.max_sessions)),
            health: Health::default(),
            room_ahead: Semaphore::new(AHEAD_OF_ALL),
            stopping: Stopping::new(stopped, settings.drain_timeout),
            sharing,
            settings,
        }
    }

    /// True while the MCP server answers; a shared one is asked.
    pub(super) async fn is_ready(&self) -> bool {
        let answers = match self.sharing.look() {
            Some(looked) => self.health.is_ready(|| looked).await,
            None => true,
        };
        answers && !self.stopping.has_begun()
    }

    /// The holder of the memory for a peer.
    pub(super) fn holder(
        &self,
        authorization: &Authorization,
        address: Address,
    ) -> backlog::Holder {
        let account = Account::of(authorization.identity(), address);
        self.backlog.holder(account)
    }

    /// The counters for a new session of a peer, including the one for all requests of its user.
    pub(super) fn counted(
        &self,
        authorization: &Authorization,
        address: Address,
        of_user: Tally,
    ) -> Counted {
        let holder = self.holder(authorization, address);
        Counted { of_user, holder }
    }
}
