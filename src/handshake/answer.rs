//! The server's answer to a token: written by one end, read by the other.

use super::MAX_TOKEN_LINE;
use crate::jsonrpc::Code;
use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The longest refusal, in bytes; it names the roles of a token.
const MAX_REFUSAL: usize = 2 * MAX_TOKEN_LINE;

/// What a server says of a token.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    pub jsonrpc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Welcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Rejection>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Welcome {
    pub authenticated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default)]
    pub roles: Vec<String>,
    /// The server takes `mcp-remote/resume`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resume: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Rejection {
    pub code: i64,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// The text of a refusal: one of this wire's own errors, without an `id` member. MCP servers use the
/// same codes for other things, but what they say never reaches a peer without an `id`.
#[must_use]
pub fn read_refusal(line: &Bytes) -> Option<String> {
    match refusal(line)? {
        (None, text) => Some(text),
        (Some(_), _) => None,
    }
}

/// What is a refusal but for its `id`, which may stand there as `null`.
pub(super) fn refusal(line: &Bytes) -> Option<(Option<Value>, String)> {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default, deserialize_with = "as_it_is")]
        id: Option<Value>,
        error: Rejection,
    }
    fn as_it_is<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(value).map(Some)
    }
    // No server escapes this name, and most lines need no closer look.
    if line.len() > MAX_REFUSAL || memmem::find(line, b"\"error\"").is_none() {
        return None;
    }
    let Refusal { id, error } = serde_json::from_slice(line).ok()?;
    let data = error.data.as_ref()?;
    let text = |name: &str| data.get(name)?.as_str().map(str::to_owned);
    let detail = if error.code == Code::AuthenticationFailed as i64 {
        text("reason")?
    } else if error.code == Code::AuthenticationTimeout as i64 {
        text("timeout")?
    } else if error.code == Code::InsufficientRoles as i64 {
        let required = data.get("required")?.as_array()?;
        let required: Vec<&str> = required.iter().filter_map(Value::as_str).collect();
        format!("one of the roles {} is required", required.join(", "))
    } else {
        return None;
    };
    let refused = id.as_ref().is_none_or(Value::is_null);
    refused.then(|| (id, format!("{} ({detail})", error.message)))
}
