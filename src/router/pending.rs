//! Requests in flight.

use super::SessionId;
use super::levels::Level;
use super::listen_requests::ListenRequest;
use crate::backlog::{Piece, Sum};
use crate::jsonrpc::{Message, RequestId};
use crate::permissions::ListFilter;
use std::time::Instant;

/// What a request in flight is for, beyond being answered to its peer.
#[derive(Debug)]
pub(super) enum Purpose {
    Forward,
    /// The same, and it names a task of the process: to the next one that may be another's.
    OfTask,
    /// `server/discover`, which is not sent to a server that is found to be legacy.
    Discover,
    /// `resources/subscribe`, which the child was sent under this id: its own, or that of another
    /// peer that asked first.
    Subscribe {
        via: i64,
    },
    /// `resources/unsubscribe`, by the last one who was subscribed.
    Unsubscribe,
    /// `logging/setLevel`: what the child was told.
    SetLevel(Level),
    /// `tasks/list`.
    ListTasks,
    /// A list that rules may cut down.
    List(ListFilter),
    /// `subscriptions/listen`, to be sent again to the next process.
    Listen(Box<ListenRequest>),
}

/// Whether the process has been given a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Given,
    /// It waits for the turn of its session, and can be taken back.
    Queued,
    /// It waits for the turn of its sender, while those are heard one at a time.
    Held,
}

/// A request in flight, kept under the id that the child knows it by.
#[derive(Debug)]
pub(super) struct Pending {
    pub session: SessionId,
    /// The peer's id.
    pub id: RequestId,
    /// The peer's progress token; the child's is our id.
    pub progress_token: Option<RequestId>,
    /// The request wants log messages (2026-07-28 server/utilities/logging).
    pub wants_logs: bool,
    pub delivery: Delivery,
    /// Since when the process has had it, where times are measured.
    pub since: Option<Instant>,
    pub purpose: Purpose,
    /// Counts the memory of all this.
    pub _kept: Piece,
}

/// What a request in flight keeps beside its ids and tokens, in bytes: its places in the tables.
const PLACES: usize = 256;

impl Purpose {
    /// The memory that it keeps, in bytes.
    fn size(&self) -> usize {
        match self {
            Self::Listen(listen) => listen.size(),
            _ => 0,
        }
    }

    /// True for what changes what the process knows of all its peers.
    pub(super) fn is_shared(&self) -> bool {
        matches!(
            self,
            Self::Subscribe { .. } | Self::Unsubscribe | Self::SetLevel(_)
        )
    }
}

impl Pending {
    /// A request that its process is given at once. `kept` counts the memory that it takes.
    pub(super) fn new(
        session: SessionId,
        id: &RequestId,
        message: &Message,
        purpose: Purpose,
        kept: &Sum,
    ) -> Self {
        let token = message.progress_token().map(|(token, _)| token);
        // Its id stands in two tables.
        let size = PLACES + 2 * id.size() + token.map_or(0, RequestId::size) + purpose.size();
        Self {
            session,
            id: id.clone(),
            progress_token: token.cloned(),
            wants_logs: message.wants_logs(),
            delivery: Delivery::Given,
            since: None,
            purpose,
            _kept: kept.piece(size),
        }
    }

    /// True for a `subscriptions/listen` that its process has not acknowledged and its peer wants.
    pub(super) fn is_unconfirmed_listen(&self) -> bool {
        matches!(&self.purpose, Purpose::Listen(listen) if !listen.confirmed && !listen.cancelled)
    }

    /// False for what is shared, where a cancellation would leave unknown to us what the process knows,
    /// and for what it has not heard of.
    pub(super) fn is_cancellable(&self) -> bool {
        match &self.purpose {
            _ if self.delivery == Delivery::Queued => false,
            Purpose::Listen(listen) => !listen.lost,
            purpose => !purpose.is_shared(),
        }
    }

    /// True for a `subscriptions/listen` that its peer has not cancelled.
    pub(super) fn is_listening(&self) -> bool {
        matches!(&self.purpose, Purpose::Listen(listen) if !listen.cancelled)
    }

    /// True where the process hears, or has heard, of it under its own id, `ours`.
    pub(super) fn is_sent(&self, ours: i64) -> bool {
        match &self.purpose {
            _ if self.delivery == Delivery::Queued => false,
            Purpose::Subscribe { via } => *via == ours,
            Purpose::Listen(listen) => !listen.lost,
            _ => true,
        }
    }
}
