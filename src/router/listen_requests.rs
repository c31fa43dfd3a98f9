//! Open `subscriptions/listen` (2026-07-28), which outlive the process that they were sent to.

use crate::jsonrpc::{Edit, Message, Replacement, RequestId};
use crate::utils::chunks::Chunks;

/// A request that is renewed with each process on behalf of one peer.
pub(super) const LISTEN: &str = "subscriptions/listen";

/// The most `subscriptions/listen` that one peer may have open.
pub const MAX_LISTEN_REQUESTS: usize = 256;

/// The longest of them, in bytes.
pub const MAX_LISTEN_SIZE: usize = 64 * 1024;

/// An open one, to be renewed with the next process.
#[derive(Debug)]
pub(super) struct ListenRequest {
    pub request: Message,
    /// The peer has had its acknowledgement, so the router consumes further ones.
    pub acknowledged: bool,
    /// Its current process has acknowledged it: one without that may have ended a process, and is
    /// not sent to another.
    pub confirmed: bool,
    /// Its process is gone.
    pub lost: bool,
    /// The peer has cancelled it.
    pub cancelled: bool,
}

impl ListenRequest {
    pub(super) fn new(request: &Message) -> Self {
        Self {
            request: request.detached(),
            acknowledged: false,
            confirmed: false,
            lost: false,
            cancelled: false,
        }
    }

    /// Its memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.request.size()
    }

    /// True if it is to be sent to a new process.
    pub(super) fn is_renewable(&self) -> bool {
        self.confirmed && !self.cancelled
    }

    /// Notes the acknowledgement of the process; true if the peer has already had one.
    pub(super) fn acknowledge(&mut self) -> bool {
        self.confirmed = true;
        std::mem::replace(&mut self.acknowledged, true)
    }

    /// Sends it again.
    pub(super) fn renew(&mut self, id: &RequestId, out: &mut Chunks) {
        self.lost = false;
        self.confirmed = false;
        let token = self.request.progress_token().map(|(_, span)| Edit {
            span: *span,
            with: Replacement::Id(id),
        });
        self.request.write(Some(id), token.as_slice(), out);
    }
}
