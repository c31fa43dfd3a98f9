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

/// What was answered holds for so long, so that health checks do not keep the MCP server busy.
const FRESH: Duration = Duration::from_secs(5);

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every legacy server answers.
const PING: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#;

/// What every server of 2026-07-28 answers.
const DISCOVER: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcp-remote","version":"health"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;

/// What the last question has shown.
#[derive(Debug, Default)]
pub(super) struct Health {
    last: Mutex<Option<(Instant, bool)>>,
}

impl Health {
    /// True where the MCP server answers. One question at a time: whoever comes meanwhile gets the same
    /// answer. `session` begins a session, and tells whether there are modern peers alone.
    pub(super) async fn is_ready(&self, session: impl FnOnce() -> (Session, bool)) -> bool {
        let mut last = self.last.lock().await;
        if let Some((asked, answers)) = *last
            && asked.elapsed() < FRESH
        {
            return answers;
        }
        let (session, modern) = session();
        let asking = async {
            // One that is only modern refuses the first, and one that is not is not sent the second.
            (!modern && ask(&session, Bytes::from_static(PING)).await.is_some())
                || ask(&session, Bytes::from_static(DISCOVER)).await.is_some()
        };
        let answers = tokio::time::timeout(PATIENCE, asking).await;
        let answers = answers.unwrap_or(false);
        *last = Some((Instant::now(), answers));
        answers
    }
}

/// The answer to a question of our own, where it is a result.
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
