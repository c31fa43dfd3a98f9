//! Lists that rules cut down, where they cannot be.

use crate::jsonrpc::{Code, ErrorData, Executed, RequestId, error_line};

/// What a peer gets in the place of a list that could hold things which it may not see.
pub(super) fn unreadable(id: &RequestId) -> Vec<u8> {
    tracing::warn!(
        "withheld a list of the MCP server that cannot be cut down: it is not the list that was asked for, or members stand twice"
    );
    let data = ErrorData::new("unreadable-list", Executed::Unknown);
    let text = "The MCP server's list cannot be read";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}
