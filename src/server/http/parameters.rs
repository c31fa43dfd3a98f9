//! Calls of 2026-07-28 whose headers must mirror their arguments, as the tools' schemas demand. The MCP
//! server is asked for its tools now and then; if it does not answer, what it said before holds.

use super::super::context::Context;
use super::super::health::ask;
use super::super::refusals::Refusals;
use super::reply::{self, Reply};
use crate::audit::Trail;
use crate::http::{Mirrored, mismatch, repeats_arguments};
use crate::jsonrpc::{Code, ErrorData, Executed, Message, error_line};
use crate::mcp::Method;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the list of tools is cached …
const STALE: Duration = Duration::from_secs(60);

/// … and how long if a call does not match it, or the MCP server has not said it when it was last asked.
const DOUBTFUL: Duration = Duration::from_secs(5);

/// How long the MCP server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most pages of a list.
const MAX_PAGES: usize = 64;

/// The annotations of the known tools.
#[derive(Debug, Default)]
pub(super) struct KnownTools(Mutex<Option<Asked>>);

/// When the MCP server was last asked for its tools, and what is known of them.
#[derive(Clone, Debug)]
struct Asked {
    at: Instant,
    answered: bool,
    /// From the last answer; `None` before the first.
    tools: Option<Arc<Mirrored>>,
}

impl Asked {
    /// True if it must be asked again for a list no older than `age`.
    fn is_older_than(&self, age: Duration) -> bool {
        let age = if self.answered {
            age
        } else {
            age.min(DOUBTFUL)
        };
        self.at.elapsed() >= age
    }

    /// It has now been asked again. What is known stays known if it has not answered, or not with a list.
    fn again(known: Option<Self>, answer: Option<Mirrored>) -> Self {
        Self {
            at: Instant::now(),
            answered: answer.is_some(),
            tools: answer.map(Arc::new).or_else(|| known?.tools),
        }
    }
}

impl KnownTools {
    /// Checks the headers of a call. Nothing is checked unless all share one MCP server, since each process
    /// may have different tools.
    ///
    /// # Errors
    /// They do not match the arguments; or there are any, and the MCP server has never said what they are for.
    pub(super) async fn check(
        &self,
        context: &Context,
        refusals: &Refusals<Arc<Trail>>,
        headers: &HeaderMap,
        message: &Message,
    ) -> Result<(), Reply> {
        let is_call = message.mcp_method() == Some(Method::CallTool);
        if !is_call || !context.sharing.is_shared_by_all() {
            return Ok(());
        }
        let Some(tools) = self.no_older_than(STALE, context).await else {
            let refused = repeats_arguments(headers).then(|| unknown(message));
            return refused.map_or(Ok(()), Err);
        };
        if tools.check(headers, message).is_ok() {
            return Ok(());
        }
        let tools = self.no_older_than(DOUBTFUL, context).await.unwrap_or(tools);
        let checked = tools.check(headers, message);
        checked.map_err(|reason| {
            refusals.unfit(message, reason);
            reply::denied(mismatch(message.id(), reason))
        })
    }

    /// The tools, asked for again if the list is older than this; the old ones if there is no answer, and `None` if
    /// there has never been one.
    async fn no_older_than(&self, age: Duration, context: &Context) -> Option<Arc<Mirrored>> {
        // Concurrent callers share one request.
        let mut known = self.0.lock().await;
        if known.as_ref().is_none_or(|known| known.is_older_than(age)) {
            let answer = tokio::time::timeout(PATIENCE, tools(context)).await;
            *known = Some(Asked::again(known.take(), answer.ok().flatten()));
        }
        known.as_ref()?.tools.clone()
    }
}

/// The answer to a call whose headers cannot be compared.
fn unknown(message: &Message) -> Reply {
    let data = ErrorData::new("tools-unknown", Executed::No);
    let text =
        "The MCP server has not said what its tools are, so Mcp-Param headers cannot be compared";
    let line = error_line(message.id(), Code::InternalError, text, Some(&data));
    reply::later(reply::json(StatusCode::SERVICE_UNAVAILABLE, &line.into()))
}

/// Asks the MCP server for its tools; `None` if it does not answer with a list.
async fn tools(context: &Context) -> Option<Mirrored> {
    let mut tools = Mirrored::default();
    let (session, _) = context.sharing.look()?;
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
        let answer = ask(&session, question.to_string().into()).await?;
        cursor = tools.learn(answer.result()?).ok()?.map(Into::into);
        if cursor.is_none() {
            break;
        }
    }
    Some(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bug: when the MCP server did not answer, its tools counted as having no annotations.
    #[tokio::test(start_paused = true)]
    async fn what_is_known_stays_known_and_is_soon_asked_for_again() {
        let tools = |asked: &Asked| asked.tools.clone();
        let asked = Asked::again(None, None);
        assert!(tools(&asked).is_none());
        tokio::time::advance(DOUBTFUL).await;
        assert!(asked.is_older_than(STALE));
        let asked = Asked::again(Some(asked), Some(Mirrored::default()));
        let known = tools(&asked).unwrap();
        tokio::time::advance(DOUBTFUL).await;
        assert!(asked.is_older_than(DOUBTFUL) && !asked.is_older_than(STALE));
        let asked = Asked::again(Some(asked), None);
        assert!(Arc::ptr_eq(&known, &tools(&asked).unwrap()));
        // Not asked for each call that does not match.
        assert!(!asked.is_older_than(DOUBTFUL));
        tokio::time::advance(DOUBTFUL).await;
        assert!(asked.is_older_than(STALE));
    }
}
