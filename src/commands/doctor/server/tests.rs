//! MCP servers that say nothing, or too much.

use super::*;

const SOON: Duration = Duration::from_millis(200);

/// What a shell runs.
fn shell(script: &str) -> CommandLine {
    CommandLine::of(["sh", "-c", script].map(Into::into).into()).unwrap()
}

#[tokio::test]
async fn an_mcp_server_that_says_nothing() {
    let mut report = Report::new(true);
    let outcome = offers(&shell("cat > /dev/null"), SOON, &mut report).await;
    let (step, word, text) = report.last();
    assert!(outcome.is_err());
    assert_eq!((step, word), ("mcp", "failed"));
    assert!(
        text.contains("did not answer 'initialize' within 200ms"),
        "{text}"
    );
    assert!(text.contains("run it by itself to see why"), "{text}");
}
