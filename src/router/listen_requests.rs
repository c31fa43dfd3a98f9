//! Open `subscriptions/listen` (2026-07-28), which outlive the process that they were sent to.

use crate::jsonrpc::{Edit, Message, Replacement, RequestId};
use crate::utils::chunks::Chunks;

/// What a process is told again on behalf of one peer.
pub(super) const LISTEN: &str = "subscriptions/listen";

/// The most `subscriptions/listen` that one peer may have open.
pub const MAX_LISTEN_REQUESTS: usize = 256;

/// The longest of them, in bytes.
pub const MAX_LISTEN_SIZE: usize = 64 * 1024;

/// One that is open, to be sent again to the next process.
#[derive(Debug)]
pub(super) struct ListenRequest {
    pub request: Message,
    /// The peer has had its acknowledgement, so another one is ours to read.
    pub acknowledged: bool,
    /// The process that has it now has acknowledged it: what has not been may have ended a process,
    /// and is not sent to another.
    pub confirmed: bool,
    /// The process that had it is gone.
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

    /// How much memory it keeps, in bytes.
    pub(super) fn size(&self) -> usize {
        self.request.size()
    }

    /// True where a new process is to be sent it.
    pub(super) fn is_renewable(&self) -> bool {
        self.confirmed && !self.cancelled
    }

    /// Notes the acknowledgement of the process; true where the peer has had one already.
    pub(super) fn acknowledge(&mut self) -> bool {
        self.confirmed = true;
        std::mem::replace(&mut self.acknowledged, true)
    }

    /// Sends it again.
    pub(super) fn renew(&mut self, ours: i64, out: &mut Chunks) {
        self.lost = false;
        self.confirmed = false;
        let ours = RequestId::Number(ours);
        let token = self.request.progress_token().map(|(_, span)| Edit {
            span: *span,
            with: Replacement::Id(&ours),
        });
        self.request.write(Some(&ours), token.as_slice(), out);
    }
}
