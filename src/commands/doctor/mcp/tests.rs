//! An MCP server that does not answer. The clock is paused.

use super::*;
use crate::control::MAX_SERVER_LINE;

#[tokio::test(start_paused = true)]
async fn an_mcp_server_that_does_not_answer() {
    let (near, _far) = tokio::io::duplex(4096);
    let connection = Connection::over_stream(Box::new(near), MAX_SERVER_LINE);
    let mut report = Report::new(true);
    let outcome = ask(connection, None, &mut report).await;
    let (step, word, text) = report.last();
    assert!(outcome.is_err());
    assert_eq!((step, word), ("mcp", "failed"));
    assert!(text.contains("does not answer within 90 s"), "{text}");
    assert!(text.contains("look at the log of the server"), "{text}");
}
