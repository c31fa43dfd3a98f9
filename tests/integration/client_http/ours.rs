//! Our own server at the other end.

use super::*;
use crate::common::{Setup, token_with};

/// Its session is lost with a killed server, and the host does not notice.
#[test]
fn our_own_server_is_reached_and_may_be_restarted() {
    let server = Setup::new("http").secret().start();
    let port = server.port;
    let url = format!("http://127.0.0.1:{port}/mcp");
    let token = token_with(&["user"]);
    let args = [
        "--auto-reconnect",
        "--reconnect-delay",
        "50",
        "--max-attempts",
        "0",
    ];
    let mut client = TestClient::http(&url, &args, &[("MCP_REMOTE_JWT_TOKEN", &token)]);
    let answer = client.ask(0, "initialize", initialize());
    assert_eq!(
        answer["result"]["protocolVersion"], "2025-06-18",
        "{answer}"
    );
    client.send(READY);
    for id in 1..20 {
        let answer = client.ask(id, "tools/list", json!({}));
        assert_eq!(
            (&answer["id"], &answer["error"]),
            (&json!(id), &Value::Null)
        );
    }
    drop(server);
    client.send(&request(20, "tools/list", json!({})));
    let server = Setup::new("http").secret().port(port).start();
    let answer = client.next();
    assert_eq!(
        (&answer["id"], &answer["error"]),
        (&json!(20), &Value::Null),
        "{answer}"
    );
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
    drop(server);
}

#[test]
fn our_own_server_is_reached_without_a_session() {
    let server = Setup::new("http").echo(&["--modern"]).start();
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    let mut client = TestClient::http(&url, &[], &[]);
    let meta = json!({"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}});
    let params = json!({"name":"t","arguments":{},"_meta":meta});
    let answer = client.ask(1, "tools/call", params);
    assert_eq!(
        (&answer["id"], &answer["error"]),
        (&json!(1), &Value::Null),
        "{answer}"
    );
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
}

#[test]
fn our_own_server_refuses_a_wrong_token() {
    let server = Setup::new("http").secret().start();
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    let mut client = TestClient::http(&url, &[], &[("MCP_REMOTE_JWT_TOKEN", "a.b.c")]);
    client.send(&request(0, "initialize", initialize()));
    assert_failed(&client.next(), 0, "authentication-failed", "no");
    assert_eq!(client.wait(), Some(1));
    client.log.wait_for("HTTP 401");
}
