//! Requests in flight.

use super::SessionId;
use super::levels::Level;
use super::listen_requests::ListenRequest;
use crate::backlog::{Piece, Sum};
use crate::jsonrpc::{Message, RequestId};
use crate::mcp::Method;
use crate::permissions::{ListFilter, PinnedCall, Rights};
use std::time::Instant;

/// The purpose of a request in flight, beyond being answered.
#[derive(Debug)]
pub(super) enum Purpose {
    Forward,
    /// The same, and it names a task of the process, which may be another user's in the next one.
    OfTask,
    /// `server/discover`, which is not sent to a server that turns out to be legacy.
    Discover,
    /// `resources/subscribe`, which was sent to the child with this number: its own, or that of another
    /// peer that asked first.
    Subscribe {
        via: i64,
    },
    /// `resources/unsubscribe`, of the last subscriber.
    Unsubscribe,
    /// `logging/setLevel`, with the level that the peer asked for, and the one that was sent to the child.
    SetLevel {
        asked: Level,
        sent: Level,
    },
    /// `tasks/list`.
    ListTasks,
    /// A list that the policy may filter.
    List(ListFilter),
    /// `subscriptions/listen`, to be sent again to the next process.
    Listen(Box<ListenRequest>),
}

/// Whether a request has been sent to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Given,
    /// It waits for the turn of its session, and can be taken back.
    Queued,
    /// It waits until the process is ready or, while senders take turns, for the turn of its sender.
    Held,
}

/// A request in flight, stored under its number.
#[derive(Debug)]
pub(super) struct Pending {
    pub session: SessionId,
    /// The peer's id.
    pub id: RequestId,
    /// The peer's progress token; the child's is the id that it knows the request by.
    pub progress_token: Option<RequestId>,
    /// `None` for one that MCP does not define.
    pub method: Option<Method>,
    /// The request wants log messages (2026-07-28 server/utilities/logging).
    pub wants_logs: bool,
    pub delivery: Delivery,
    /// When it was sent to the process, if times are measured.
    pub since: Option<Instant>,
    pub purpose: Purpose,
    /// The call of a pinned tool, if it has to wait.
    pub pinned: Option<Box<PinnedCall>>,
    /// Counts the memory of all this.
    pub _kept: Piece,
}

/// The memory of a request in flight besides its ids and tokens, in bytes: its entries in the
/// tables.
const PLACES: usize = 256;

impl Purpose {
    /// Its memory, in bytes.
    fn size(&self) -> usize {
        match self {
            Self::Listen(listen) => listen.size(),
            _ => 0,
        }
    }

    /// True if it changes the shared state of the process.
    pub(super) fn is_shared(&self) -> bool {
        matches!(
            self,
            Self::Subscribe { .. } | Self::Unsubscribe | Self::SetLevel { .. }
        )
    }
}

impl Pending {
    /// A request that is sent to its process at once. `kept` counts its memory.
    pub(super) fn new(
        session: SessionId,
        id: &RequestId,
        message: &Message,
        purpose: Purpose,
        kept: &Sum,
    ) -> Self {
        let token = message.progress_token().map(|(token, _)| token);
        // Its id is in two tables.
        let size = PLACES + 2 * id.size() + token.map_or(0, RequestId::size) + purpose.size();
        Self {
            session,
            id: id.clone(),
            progress_token: token.cloned(),
            method: message.mcp_method(),
            wants_logs: message.wants_logs(),
            delivery: Delivery::Given,
            since: None,
            purpose,
            pinned: None,
            _kept: kept.piece(size),
        }
    }

    /// The answer to a list is cut down to what these rights allow.
    pub(super) fn apply_rights(&mut self, rights: &Rights) {
        if let Purpose::List(_) | Purpose::Forward = self.purpose {
            let filter = self.method.and_then(|method| rights.list_filter(method));
            self.purpose = filter.map_or(Purpose::Forward, Purpose::List);
        }
    }

    /// True for a `subscriptions/listen` that its process has not acknowledged and its peer has not
    /// cancelled.
    pub(super) fn is_unconfirmed_listen(&self) -> bool {
        matches!(&self.purpose, Purpose::Listen(listen) if !listen.confirmed && !listen.cancelled)
    }

    /// False for shared state, which a cancellation would leave unknown, and for requests that the process
    /// has not got.
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

    /// True if the process gets, or has got, it under its own id, `ours`.
    pub(super) fn is_sent(&self, ours: i64) -> bool {
        match &self.purpose {
            _ if self.delivery == Delivery::Queued => false,
            Purpose::Subscribe { via } => *via == ours,
            Purpose::Listen(listen) => !listen.lost,
            _ => true,
        }
    }
}
