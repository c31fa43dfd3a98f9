//! Errors that replace messages of a process which had to be dropped.

use crate::jsonrpc::{Code, ErrorData, Executed, NO_DATA, RequestId, error_line};

/// Why a message was dropped.
#[derive(Debug)]
pub struct Loss {
    answer: &'static str,
    data: ErrorData,
    request: &'static str,
}

impl Loss {
    /// It is longer than its receiver accepts.
    pub const TOO_LARGE: Self = Self {
        answer: "The MCP server's answer is too large",
        data: ErrorData::new("answer-too-large", Executed::Unknown),
        request: "Invalid Request: too large",
    };

    /// It cannot be parsed as a message.
    pub const UNREADABLE: Self = Self {
        answer: "The MCP server's answer cannot be read",
        data: ErrorData::new("answer-unreadable", Executed::Unknown),
        request: "Invalid Request: cannot be read",
    };

    /// The line for the peer that waits for the dropped answer.
    #[must_use]
    pub fn answer(&self, id: &RequestId) -> Vec<u8> {
        error_line(Some(id), Code::InternalError, self.answer, Some(&self.data))
    }

    /// The line for the process whose request was dropped.
    #[must_use]
    pub fn request(&self, id: &RequestId) -> Vec<u8> {
        error_line(Some(id), Code::InvalidRequest, self.request, NO_DATA)
    }
}
