//! Requests that are not served: an HTTP status, and a JSON-RPC error in the body.

use crate::jsonrpc::{Code, ErrorData, Executed, RequestId, error_line, refusal_line};
use hyper::StatusCode;
use serde::Serialize;

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The status of the answer.
    pub status: StatusCode,
    /// Its body: one JSON-RPC error.
    pub line: Vec<u8>,
    /// For the log.
    pub reason: &'static str,
}

impl Denied {
    /// Refuses a request without a known id, or that is not JSON-RPC. `word` is for programs to test.
    #[must_use]
    pub fn plain(status: StatusCode, word: &'static str, reason: &'static str) -> Self {
        let data = ErrorData::new(word, Executed::No);
        let text = format!("Invalid Request: {reason}");
        Self {
            status,
            line: refusal_line(Code::InvalidRequest, &text, &data),
            reason,
        }
    }

    /// Refuses a message with this id, with the status that belongs to the code.
    #[must_use]
    pub fn message(
        id: Option<&RequestId>,
        code: Code,
        reason: &'static str,
        data: &impl Serialize,
    ) -> Self {
        let line = match id {
            Some(id) => error_line(Some(id), code, reason, Some(data)),
            None => refusal_line(code, reason, data),
        };
        Self {
            status: status_of(Some(code as i64)),
            line,
            reason,
        }
    }
}

/// The status of an answer of 2026-07-28 that is an error of this code, or none (basic/transports,
/// "Streamable HTTP").
#[must_use]
pub fn status_of(code: Option<i64>) -> StatusCode {
    match code {
        Some(-32700 | -32600 | -32602 | -32022..=-32020) => StatusCode::BAD_REQUEST,
        Some(-32601) => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_status() {
        for (code, status) in [
            (None, 200),
            (Some(-32603), 200),
            (Some(7), 200),
            (Some(-32023), 200),
            (Some(-32022), 400),
            (Some(-32021), 400),
            (Some(-32020), 400),
            (Some(-32019), 200),
            (Some(-32602), 400),
            (Some(-32601), 404),
            (Some(-32700), 400),
        ] {
            assert_eq!(status_of(code).as_u16(), status, "{code:?}");
        }
    }

    #[test]
    fn what_has_no_id_says_none() {
        let denied = Denied::plain(
            StatusCode::FORBIDDEN,
            "origin",
            "this origin is not allowed",
        );
        let line = String::from_utf8(denied.line).unwrap();
        assert!(
            line.starts_with("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32600,"),
            "{line}"
        );
    }
}
