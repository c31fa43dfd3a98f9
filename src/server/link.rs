//! An authenticated connection.

use super::access::Authorization;
use super::owner::Owner;
use super::places::Place;
use crate::account::Address;
use crate::audit::Trail;
use crate::backlog::Holder;
use crate::metrics;
use crate::transport::outlet::Lendable;
use crate::transport::{Reader, Writer};
use crate::utils::tally::Tally;

/// An authenticated connection.
pub(super) struct Link {
    pub reader: Reader,
    pub writer: Lendable<Writer>,
    pub authorization: Authorization,
    pub address: Address,
    pub transport: metrics::Transport,
    /// Its audit trail.
    pub trail: Trail,
    /// Its place among the connections; `None` if it can only take over that of its session.
    pub place: Option<Place>,
    /// The owner whose sessions it may resume.
    pub owner: Owner,
    /// Counts the memory for partial lines and lines read ahead.
    pub holder: Holder,
}

impl Link {
    /// Counts the requests in flight of all sessions of its user.
    pub(super) fn of_user(&self) -> Tally {
        self.place.as_ref().map(Place::of_user).unwrap_or_default()
    }

    /// Its two directions, without what else belongs to it.
    pub(super) fn into_halves(self) -> (Reader, Writer) {
        (self.reader, self.writer.into_inner())
    }
}
