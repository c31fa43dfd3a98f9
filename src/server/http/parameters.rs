//! Calls of 2026-07-28 whose headers must mirror their arguments, as the tools' schemas demand. The MCP
//! server is asked for its tools now and then.

use super::super::context::Context;
use super::super::health::ask;
use super::reply::{self, Reply};
use crate::http::{Mirrored, mismatch};
use crate::jsonrpc::Message;
use crate::mcp::Method;
use hyper::header::HeaderMap;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the list of tools is cached …
const STALE: Duration = Duration::from_secs(60);

/// … and how long if a call does not match it.
const DOUBTFUL: Duration = Duration::from_secs(5);

/// How long the MCP server may take to answer. Calls of unknown tools are not checked.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most pages of a list.
const MAX_PAGES: usize = 64;

/// The annotations of the known tools.
#[derive(Debug, Default)]
pub(super) struct KnownTools(Mutex<Option<(Instant, Arc<Mirrored>)>>);

impl KnownTools {
    /// Checks the headers of a call. Nothing is checked unless all share one MCP server, since each process
    /// may have different tools.
    ///
    /// # Errors
    /// They do not match the arguments.
    pub(super) async fn check(
        &self,
        context: &Context,
        headers: &HeaderMap,
        message: &Message,
    ) -> Result<(), Reply> {
        let is_call = message.mcp_method() == Some(Method::CallTool);
        if !is_call || !context.sharing.is_shared_by_all() {
            return Ok(());
        }
        let tools = self.no_older_than(STALE, context).await;
        if tools.check(headers, message).is_ok() {
            return Ok(());
        }
        let tools = self.no_older_than(DOUBTFUL, context).await;
        let checked = tools.check(headers, message);
        checked.map_err(|reason| reply::denied(mismatch(message.id(), reason)))
    }

    async fn no_older_than(&self, age: Duration, context: &Context) -> Arc<Mirrored> {
        // Concurrent callers share one request.
        let mut known = self.0.lock().await;
        if let Some((asked, tools)) = &*known
            && asked.elapsed() < age
        {
            return Arc::clone(tools);
        }
        let asked = tokio::time::timeout(PATIENCE, tools(context)).await;
        let tools = Arc::new(asked.unwrap_or_default());
        *known = Some((Instant::now(), Arc::clone(&tools)));
        tools
    }
}

/// Asks the MCP server for its tools.
async fn tools(context: &Context) -> Mirrored {
    let mut tools = Mirrored::default();
    let Some((session, _)) = context.sharing.look() else {
        return tools;
    };
    let mut cursor = None;
    for page in 0..MAX_PAGES {
        let mut params = json!({"_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "mcp-remote", "version": "tools"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }});
        if let Some(cursor) = cursor {
            params["cursor"] = cursor;
        }
        let question =
            json!({"jsonrpc": "2.0", "id": page, "method": "tools/list", "params": params});
        let answer = ask(&session, question.to_string().into()).await;
        let result = answer.as_ref().and_then(Message::result);
        cursor = result
            .and_then(|result| tools.learn(result))
            .map(Into::into);
        if cursor.is_none() {
            break;
        }
    }
    tools
}
