//! Errors that the proxy itself generates, as lines on the wire.

use super::RequestId;
use crate::json::write_string;
use serde::Serialize;

/// The codes we send. Those from −32603 down are JSON-RPC's, −32020 to −32022 MCP's; the three of the
/// token exchange are this wire's own and older than MCP's policy on codes (2026-07-28 basic "Error
/// Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// Not JSON.
    ParseError = -32700,
    /// JSON, but not a message we accept.
    InvalidRequest = -32600,
    /// Forbidden, or unknown.
    MethodNotFound = -32601,
    /// Params that name something that does not exist.
    InvalidParams = -32602,
    /// The proxy could not get a response.
    InternalError = -32603,
    /// The headers of an HTTP request do not match its body (2026-07-28).
    HeaderMismatch = -32020,
    /// The client has not declared a capability that its request needs (2026-07-28).
    MissingCapability = -32021,
    /// An MCP revision that does not exist (2026-07-28).
    UnsupportedVersion = -32022,
    /// The token has none of the roles that the server requires.
    InsufficientRoles = -32001,
    /// The token is invalid.
    AuthenticationFailed = -32002,
    /// No token within the time limit.
    AuthenticationTimeout = -32003,
}

/// Whether a request that failed may have been executed by the MCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Executed {
    /// It never reached the MCP server.
    No,
    /// It may have reached it.
    Unknown,
}

/// The `data` of an error that the proxy generates.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorData {
    source: &'static str,
    reason: &'static str,
    executed: Executed,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(rename = "retryAfterMs", skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl ErrorData {
    /// `reason` is a fixed word that programs may check for.
    #[must_use]
    pub const fn new(reason: &'static str, executed: Executed) -> Self {
        Self {
            source: "mcp-remote",
            reason,
            executed,
            status: None,
            retry_after_ms: None,
            limit: None,
            detail: None,
        }
    }

    /// Adds the bound that was exceeded.
    #[must_use]
    pub const fn with_limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Adds a text for people.
    #[must_use]
    pub fn with_detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    /// Adds when to retry: rounded up to a whole millisecond, so never too early.
    #[must_use]
    pub fn with_retry_after(mut self, wait: std::time::Duration) -> Self {
        self.retry_after_ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).ok();
        self
    }

    /// Adds the MCP server's HTTP status.
    #[must_use]
    pub fn with_http_status(mut self, status: u16) -> Self {
        self.status = Some(format!("HTTP {status}"));
        self
    }

    /// Adds how the MCP server exited. Its stderr is for the operator only.
    #[must_use]
    pub fn with_exit(mut self, status: String) -> Self {
        self.status = Some(status);
        self
    }
}

/// An error response as one line, newline included. `id` is `None` for the JSON `null`.
#[must_use]
pub fn error_line(
    id: Option<&RequestId>,
    code: Code,
    message: &str,
    data: Option<&impl Serialize>,
) -> Vec<u8> {
    let mut line = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
    match id {
        Some(id) => id.write(&mut line),
        None => line.extend(b"null"),
    }
    line.extend(b",\"error\":");
    write_error(code, message, data, &mut line);
    line.extend(b"}\n");
    line
}

const MESSAGE_TOO_LARGE: ErrorData = ErrorData::new("message-too-large", Executed::No);

/// True for the `reason` of [`too_large_line`].
#[must_use]
pub fn is_too_large(reason: &str) -> bool {
    reason == MESSAGE_TOO_LARGE.reason
}

/// Which form of a message is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// The line that has come.
    AsRead,
    /// The line that the MCP server would get, in which some characters are escaped.
    AsWritten,
}

/// The response to a message that is longer than `limit` bytes.
#[must_use]
pub fn too_large_line(id: Option<&RequestId>, limit: usize, measured: Measured) -> Vec<u8> {
    let form = match measured {
        Measured::AsRead => "",
        Measured::AsWritten => " as it is written for the MCP server",
    };
    let text = format!("Invalid Request: a message is longer than {limit} bytes{form}");
    let data = MESSAGE_TOO_LARGE.with_limit(limit);
    error_line(id, Code::InvalidRequest, &text, Some(&data))
}

/// The response to a request of the MCP server, in place of one that cannot be read.
#[must_use]
pub fn unreadable_answer(id: &RequestId) -> Vec<u8> {
    let data = ErrorData::new("answer-unreadable", Executed::Unknown);
    let text = "The client's answer cannot be read";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

/// The one error that ends a token exchange: without an id, as existing clients expect.
#[must_use]
pub fn refusal_line(code: Code, message: &str, data: &impl Serialize) -> Vec<u8> {
    let mut line = b"{\"jsonrpc\":\"2.0\",\"error\":".to_vec();
    write_error(code, message, Some(data), &mut line);
    line.extend(b"}\n");
    line
}

fn write_error(code: Code, message: &str, data: Option<&impl Serialize>, out: &mut Vec<u8>) {
    out.extend(format!("{{\"code\":{},\"message\":", code as i32).as_bytes());
    write_string(message, out);
    // Plain structs of strings always serialise; if one did not, the error is sent without data.
    if let Some(data) = data.and_then(|data| serde_json::to_vec(data).ok()) {
        out.extend(b",\"data\":");
        out.extend(data);
    }
    out.push(b'}');
}

/// For error lines without data.
pub const NO_DATA: Option<&()> = None;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_written_as_documented() {
        assert_eq!(
            error_line(Some(&RequestId::Number(0)), Code::MethodNotFound, "Method not allowed: Access denied for method 'tools/call'", NO_DATA),
            b"{\"jsonrpc\":\"2.0\",\"id\":0,\"error\":{\"code\":-32601,\"message\":\"Method not allowed: Access denied for method 'tools/call'\"}}\n"
        );
        assert_eq!(
            String::from_utf8(error_line(
                None,
                Code::InternalError,
                "x",
                Some(&ErrorData::new("child-exited", Executed::Unknown))
            ))
            .unwrap(),
            "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32603,\"message\":\"x\",\"data\":{\"source\":\"mcp-remote\",\"reason\":\"child-exited\",\"executed\":\"unknown\"}}}\n"
        );
    }
}
