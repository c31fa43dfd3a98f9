//! A connection that has been accepted, and has not shown yet who is at its other end.

use super::Settings;
use super::open::refused;
use super::pending::PendingConnection;
use crate::account::Address;
use crate::audit::Trail;
use crate::utils::seldom::Seldom;
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

/// What is known of such a connection, whatever is spoken on it.
pub(super) struct Unauthenticated {
    pub address: Address,
    /// Names it in logs.
    pub number: u64,
    pub trail: Trail,
    /// When authentication has to be complete.
    pub deadline: Instant,
    /// Its place among its kind.
    pub pending: PendingConnection,
}

impl Unauthenticated {
    /// One that begins now.
    pub(super) fn begin(
        settings: &Settings,
        address: Address,
        number: u64,
        pending: PendingConnection,
    ) -> Self {
        Self {
            address,
            number,
            trail: Trail::begin(&settings.audit, number, address),
            deadline: Instant::now() + settings.auth_timeout,
            pending,
        }
    }

    /// The log span of its whole life.
    pub(super) fn span(&self) -> Span {
        let Self {
            number, address, ..
        } = self;
        tracing::info_span!("peer", id = number, %address, client = Empty, certificate = Empty, user = Empty, roles = Empty)
    }
}

/// The connection is closed for one that has come later.
pub(super) fn gives_way(trail: &mut Trail) {
    let reason = "too many connections that do not say who they are";
    static DISPLACED: Seldom = Seldom::new();
    tracing::debug!("refused: {reason}");
    if let Some(count) = DISPLACED.count() {
        tracing::warn!(
            count,
            "{reason} (--max-pending, --max-pending-per-address): the oldest are closed"
        );
    }
    refused(trail, &reason);
}

/// The connection has not been opened in time.
pub(super) fn is_late(trail: &mut Trail) {
    let reason = "no connection in time";
    tracing::info!("refused: {reason}");
    refused(trail, &reason);
}
