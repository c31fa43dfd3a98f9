//! Answers to requests of the MCP server that its client cannot answer.

use super::super::access::Authorization;
use super::super::sharing::Placement;
use crate::jsonrpc::{
    Code, ErrorData, Executed, MAX_PEER_DEPTH, Message, RequestId, error_line, unreadable_answer,
};
use crate::transport::outlet::Flush;

/// The MCP server waits for an answer that cannot be parsed: it gets an error instead.
pub(super) fn answer_unreadable(
    placement: &Placement,
    authorization: &Authorization,
    id: &RequestId,
) {
    answer_for(placement, authorization, unreadable_answer(id));
}

/// The MCP server waits for an answer of a client that cannot get the request.
pub(super) fn answer_unreachable(
    placement: &Placement,
    authorization: &Authorization,
    id: &RequestId,
) {
    let data = ErrorData::new("client-unreachable", Executed::No);
    let text = "The client reads no stream on which it could get this request";
    let line = error_line(Some(id), Code::InternalError, text, Some(&data));
    answer_for(placement, authorization, line);
}

/// Sends the MCP server an answer in place of a client's.
fn answer_for(placement: &Placement, authorization: &Authorization, line: Vec<u8>) {
    let message = Message::read(line.into(), MAX_PEER_DEPTH).ok();
    if let Some(permit) = message.and_then(|message| authorization.rights().decide(message).ok()) {
        // It is short.
        let _sent = placement.session.send(&permit, None);
        placement.session.flush();
    }
}
