//! A connection that has been accepted and is not authenticated yet.

use super::Settings;
use super::open::refused;
use super::pending::PendingConnection;
use crate::account::Address;
use crate::audit::Trail;
use crate::utils::seldom::Seldom;
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

/// The state of such a connection, on any transport.
pub(super) struct Unauthenticated {
    pub address: Address,
    /// Its number in logs.
    pub number: u64,
    pub trail: Trail,
    /// The deadline for authentication.
    pub deadline: Instant,
    /// Its place among the pending connections.
    pub pending: PendingConnection,
}

impl Unauthenticated {
    /// A connection that begins now.
    pub(super) fn begin(
        settings: &Settings,
        address: Address,
        number: u64,
        pending: PendingConnection,
    ) -> Self {
        Self {
            address,
            number,
            trail: Trail::new(&settings.audit, number, address),
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

/// Closes the connection in favor of a later one.
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

/// Closes a connection that missed the deadline before it was open.
pub(super) fn is_late(trail: &mut Trail) {
    let reason = "no connection in time";
    tracing::info!("refused: {reason}");
    refused(trail, &reason);
}
