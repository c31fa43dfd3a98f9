//! Lines of the host that are too long for the server.

use super::line::without_newline;
use crate::jsonrpc::{Kind, MAX_PEER_DEPTH, Measured, Message, too_large_line};
use bytes::Bytes;

/// The error for a line, newline included, that is longer than the server accepts; `None` if it
/// needs no answer.
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
