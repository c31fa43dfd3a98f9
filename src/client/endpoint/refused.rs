//! Lines of the host that the server does not take, since they are too long.

use super::line::without_newline;
use crate::jsonrpc::{Kind, MAX_PEER_DEPTH, Measured, Message, too_large_line};
use bytes::Bytes;

/// What the host is told of a line, newline included, that is longer than the server takes: nothing
/// where it waits for no answer.
pub(super) fn refusal(line: &Bytes, limit: usize) -> Option<Vec<u8>> {
    let message = Message::read(without_newline(line), MAX_PEER_DEPTH).ok();
    match message.as_ref().map(Message::kind) {
        Some(Kind::Request(id)) => Some(too_large_line(Some(id), limit, Measured::AsRead)),
        _ => {
            tracing::warn!(
                limit,
                "dropped a message of the host that is longer than the server takes"
            );
            None
        }
    }
}
