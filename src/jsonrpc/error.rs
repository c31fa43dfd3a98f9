//! Errors that the proxy itself makes, as lines on the wire.

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
    /// JSON, but not a message we take.
    InvalidRequest = -32600,
    /// Forbidden, or unknown.
    MethodNotFound = -32601,
    /// Params that name what there is not.
    InvalidParams = -32602,
    /// The proxy could not get an answer.
    InternalError = -32603,
    /// The headers of an HTTP request do not say what its body says (2026-07-28).
    HeaderMismatch = -32020,
    /// The client has not declared a capability that its request needs (2026-07-28).
    MissingCapability = -32021,
    /// A revision of MCP that there is not (2026-07-28).
    UnsupportedVersion = -32022,
    /// The token lacks every role that the server demands.
    InsufficientRoles = -32001,
    /// The token is not good.
    AuthenticationFailed = -32002,
    /// No token within the time.
    AuthenticationTimeout = -32003,
}

/// Whether a request that failed may have been executed by the MCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Executed {
    /// It never reached the MCP server.
    No,
    /// It may have.
    Unknown,
}

/// The `data` of an error that the proxy makes about itself.
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
    /// `reason` is a fixed word that programs may test for.
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

    /// Adds what a person wants to know.
    #[must_use]
    pub fn with_detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    /// Adds when it makes sense to try again: never too early, so the last millisecond is whole.
    #[must_use]
    pub fn with_retry_after(mut self, wait: std::time::Duration) -> Self {
        self.retry_after_ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).ok();
        self
    }

    /// Adds the HTTP status that the MCP server gave.
    #[must_use]
    pub fn with_http_status(mut self, status: u16) -> Self {
        self.status = Some(format!("HTTP {status}"));
        self
    }

    /// Adds how the MCP server ended. What it wrote on stderr is for its operator alone.
    #[must_use]
    pub fn with_exit(mut self, status: String) -> Self {
        self.status = Some(status);
        self
    }
}

/// An error answer as one line, newline included. `id` is `None` for the JSON `null`.
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

/// Which form of a message is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// The line that has come.
    AsRead,
    /// The line that the MCP server would get, in which some characters are escaped.
    AsWritten,
}

/// The answer to a message that is longer than `limit` bytes.
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

/// The answer to a request of the MCP server in the place of one that cannot be read.
#[must_use]
pub fn unreadable_answer(id: &RequestId) -> Vec<u8> {
    let data = ErrorData::new("answer-unreadable", Executed::Unknown);
    let text = "The client's answer cannot be read";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

/// The one error that ends a token exchange: without an id, as existing clients expect it.
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
    // Plain structs of strings always serialise; were one not to, the error goes without data.
    if let Some(data) = data.and_then(|data| serde_json::to_vec(data).ok()) {
        out.extend(b",\"data\":");
        out.extend(data);
    }
    out.push(b'}');
}

/// For error lines that carry no data.
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
