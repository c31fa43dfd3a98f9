//! Whether the MCP server answers: it is asked, not assumed.

use crate::hub::Session;
use crate::jsonrpc::{MAX_CHILD_DEPTH, MAX_PEER_DEPTH, Message};
use crate::permissions::Rights;
use crate::transport::outlet::Flush;
use crate::utils::chunks::{Line, Pieces};
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer is cached, so that health checks do not keep the MCP server busy.
const FRESH: Duration = Duration::from_secs(5);

/// How long the MCP server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request that every legacy server answers.
const PING: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#;

/// A request that every server of 2026-07-28 answers.
const DISCOVER: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcp-remote","version":"health"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;

/// The result of the last check.
#[derive(Debug, Default)]
pub(super) struct Health {
    last: Mutex<Option<(Instant, bool)>>,
}

impl Health {
    /// True if the MCP server answers. Concurrent callers share one check. `session` begins a session, and
    /// tells whether there are only modern peers.
    pub(super) async fn is_ready(&self, session: impl FnOnce() -> (Session, bool)) -> bool {
        let mut last = self.last.lock().await;
        if let Some((asked, answers)) = *last
            && asked.elapsed() < FRESH
        {
            return answers;
        }
        let (session, modern) = session();
        let asking = async {
            // A modern-only server refuses the first request; other servers are not sent the
            // second.
            (!modern && ask(&session, Bytes::from_static(PING)).await.is_some())
                || ask(&session, Bytes::from_static(DISCOVER)).await.is_some()
        };
        let answers = tokio::time::timeout(PATIENCE, asking).await;
        let answers = answers.unwrap_or(false);
        *last = Some((Instant::now(), answers));
        answers
    }
}

/// The answer to our own request, if it is a result.
pub(super) async fn ask(session: &Session, question: Bytes) -> Option<Message> {
    let message = Message::read(question, MAX_PEER_DEPTH).ok()?;
    let permit = Rights::everything().decide(message).ok()?;
    session.send(&permit, None).ok()?;
    session.flush();
    loop {
        let lines = session.take().ok()?;
        if lines.is_empty() {
            session.changed().await;
            continue;
        }
        let answer = |line: Line| Message::read(line.joined(), MAX_CHILD_DEPTH).ok();
        let mut answers = lines.into_iter().filter_map(answer);
        return answers.find(|message| message.result().is_some());
    }
}
