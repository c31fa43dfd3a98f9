//! Calls that a server has refused because their arguments must be mirrored in headers that we did not know
//! of.

use super::Machine;
use crate::client::endpoint::OWN;
use crate::jsonrpc::{Field, Message};
use crate::mcp::Method;

/// The headers do not match the body (2026-07-28 Streamable HTTP "Server Validation").
const HEADER_MISMATCH: i64 = -32020;

impl Machine {
    /// True for the refusal of a call that is posted again after the list of tools was read again. It was not
    /// executed, and is posted again at most once.
    pub(super) fn asks_for_headers(&mut self, place: u64, answer: &Message) -> bool {
        let Some(call) = self.calls.get(place) else {
            return false;
        };
        let message = &call.queued.message;
        let is_mirrored = call.modern && message.mcp_method() == Some(Method::CallTool);
        let is_first = call.queued.refused == 0 && !call.cancelled;
        if !is_mirrored || !is_first || answer.error_code() != Some(HEADER_MISMATCH) {
            return false;
        }
        let Some(meta) = message.raw(Field::Meta) else {
            return false;
        };
        let id = format!("{OWN}tools-{place}");
        let mut list =
            format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"tools/list","params":{{"_meta":"#)
                .into_bytes();
        list.extend_from_slice(meta);
        list.extend_from_slice(b"}}\n");
        if let Some(mut call) = self.remove_call(place) {
            call.queued.refused += 1;
            self.outgoing.put_back(call.queued);
            self.push_own(&list.into());
        }
        true
    }
}
