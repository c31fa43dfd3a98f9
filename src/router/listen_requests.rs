//! Open `subscriptions/listen` (2026-07-28), which outlive the process that they were sent to.

use super::pending::Pending;
use super::process::Process;
use super::{Output, SessionId};
use crate::jsonrpc::{Edit, Message, Replacement, RequestId};
use crate::utils::chunks::Chunks;
use serde::Deserialize;

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

impl Process {
    /// Sends the listen requests of the last process to this one, and what was held for it.
    pub(super) fn renew_listen_requests(&mut self, latest: i64, out: &mut Output) {
        for (ours, listen) in self.in_flight.lost_listen_requests() {
            self.engaged = true;
            self.evidence.renew(None);
            self.renewals.insert(ours, LISTEN);
            out.note_asked(self.id);
            listen.renew(ours, out.lines(self.id));
        }
        self.release(latest, out);
    }

    /// Listen requests are kept for the next process, so what one peer can make us keep is bounded.
    pub(super) fn may_listen(&self, from: SessionId, message: &Message) -> bool {
        message.size() <= MAX_LISTEN_SIZE
            && self.in_flight.listen_requests_of(from) < MAX_LISTEN_REQUESTS
    }
}

impl Pending {
    /// For a subscription that was renewed with a new process: tells the peer, which has had its
    /// `acknowledgement`, what it may have missed.
    pub(super) fn tell_missed_changes(&self, acknowledgement: &Message, out: &mut Output) {
        if self.is_listening() {
            for line in changes_after_renewal(acknowledgement, &self.id) {
                out.tell(self.session, line);
            }
        }
    }
}

fn changes_after_renewal(acknowledgement: &Message, id: &RequestId) -> Vec<Vec<u8>> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Filter {
        tools_list_changed: bool,
        prompts_list_changed: bool,
        resources_list_changed: bool,
    }
    #[derive(Deserialize)]
    struct Params {
        #[serde(default)]
        notifications: Filter,
    }
    let params: Option<Params> = acknowledgement
        .params()
        .and_then(|raw| serde_json::from_slice(raw).ok());
    let Some(Params { notifications }) = params else {
        return Vec::new();
    };
    [
        ("tools", notifications.tools_list_changed),
        ("prompts", notifications.prompts_list_changed),
        ("resources", notifications.resources_list_changed),
    ]
    .into_iter()
    .filter(|(_, promised)| *promised)
    .map(|(family, _)| {
        let mut line = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/{family}/list_changed\",\"params\":{{\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":").into_bytes();
        id.write(&mut line);
        line.extend(b"}}}\n");
        line
    })
    .collect()
}
