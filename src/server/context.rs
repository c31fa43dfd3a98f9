//! What every connection needs. A module that needs only a part of it takes only that.

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
    /// Places for connections that are in.
    pub places: Arc<Places>,
    /// Counts messages, where users may not send any number of them.
    pub rates: Option<Mutex<Limiter>>,
    /// Whether the MCP server answers.
    pub health: Health,
    /// Sessions that outlive their connections.
    pub registry: Arc<Registry>,
    /// A permit is a byte that may be read ahead of a client while the MCP server takes nothing.
    pub room_ahead: Semaphore,
    /// Counts the memory that all peers take together.
    pub backlog: Backlog,
    /// Whether the server stops.
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

    /// True while the MCP server answers: it is asked, where all share one.
    pub(super) async fn is_ready(&self) -> bool {
        let answers = match self.sharing.look() {
            Some(looked) => self.health.is_ready(|| looked).await,
            None => true,
        };
        answers && !self.stopping.has_begun()
    }

    /// Who holds what is kept for a peer.
    pub(super) fn holder(
        &self,
        authorization: &Authorization,
        address: Address,
    ) -> backlog::Holder {
        let account = Account::of(authorization.identity(), address);
        self.backlog.holder(account)
    }

    /// What a new session of a peer is counted in, beside the requests of its user.
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
