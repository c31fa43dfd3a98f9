//! What servers of ours tell a connection as a whole, before they hang up.

use super::answer::{Answer, Rejection};
use crate::jsonrpc::is_too_large;
use crate::transport::foreign::{self, WrongTransport};
use bytes::Bytes;
use serde::Deserialize;

/// The text of an error that a server of ours sends to a connection as a whole, before it hangs
/// up: it has too many connections, or could not start its MCP server.
#[must_use]
pub fn read_notice(line: &Bytes) -> Option<String> {
    Some(notice(line)?.message)
}

/// True for the notice of a server that speaks TLS to a client that does not.
#[must_use]
pub fn wants_tls(line: &Bytes) -> bool {
    let reason = notice(line).and_then(|error| error.data?.get("reason").cloned());
    reason.is_some_and(|reason| reason == "tls-required")
}

/// The transport that a server speaks which answers a line like this.
#[must_use]
pub fn wrong_transport(line: &Bytes) -> Option<WrongTransport> {
    if foreign::is_http_answer(line) {
        return Some(WrongTransport::Http);
    }
    let reason = notice(line)?.data?.get("reason").cloned()?;
    (reason == "wrong-transport").then_some(WrongTransport::WebSocket)
}

/// The bound in the notice of a server that a line is longer than it takes. It hangs up then.
#[must_use]
pub fn read_limit(line: &Bytes) -> Option<usize> {
    let data = notice(line)?.data?;
    if !is_too_large(data.get("reason")?.as_str()?) {
        return None;
    }
    usize::try_from(data.get("limit")?.as_u64()?).ok()
}

/// The same in the `error` of a response: the server has passed over the request, and goes on.
#[must_use]
pub fn read_limit_of(error: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    struct Error<'a> {
        #[serde(borrow)]
        data: Data<'a>,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        source: &'a str,
        reason: &'a str,
        limit: usize,
    }
    let Error { data } = serde_json::from_slice(error).ok()?;
    (data.source == "mcp-remote" && is_too_large(data.reason)).then_some(data.limit)
}

fn notice(line: &Bytes) -> Option<Rejection> {
    if !line.starts_with(b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":") {
        return None;
    }
    let answer: Answer = serde_json::from_slice(line).ok()?;
    let error = answer.error?;
    let source = error.data.as_ref()?.get("source")?;
    (source == "mcp-remote").then_some(error)
}
