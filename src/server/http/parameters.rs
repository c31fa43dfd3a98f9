//! Calls of 2026-07-28 whose headers have to say what their arguments say, as the schemas of the tools ask
//! for: the MCP server is asked for its tools, now and then.

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

/// What the MCP server has said of its tools holds for so long …
const STALE: Duration = Duration::from_secs(60);

/// … or so long where a call does not agree with it.
const DOUBTFUL: Duration = Duration::from_secs(5);

/// How long it may take to answer. What is not known is not checked.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most pages of a list.
const MAX_PAGES: usize = 64;

/// What is known of the tools.
#[derive(Debug, Default)]
pub(super) struct KnownTools(Mutex<Option<(Instant, Arc<Mirrored>)>>);

impl KnownTools {
    /// Checks the headers of a call. Where not all share one MCP server, each may have other tools: then
    /// nothing is checked, as by anybody who does not know them.
    ///
    /// # Errors
    /// They do not say what the arguments say.
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
        // One question at a time: whoever comes meanwhile gets the same answer.
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

/// What the MCP server says of its tools.
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
