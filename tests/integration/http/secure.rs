//! TLS under HTTP, with and without client certificates.

use crate::certificates::Files;
use crate::common::{Setup, TestClient, request, token_with};
use crate::process::eventually;
use crate::support::http::Http;
use serde_json::{Value, json};

fn url(port: u16) -> String {
    format!("https://localhost:{port}/mcp")
}

fn initialize() -> Value {
    json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    })
}

/// A client of this server that trusts `ca`, with further flags.
fn client(files: &Files, port: u16, more: &[String]) -> TestClient {
    let ca = ["--tls-ca".to_owned(), files.path("ca.pem")];
    let flags: Vec<&str> = ca.iter().chain(more).map(String::as_str).collect();
    let token = token_with(&["user"]);
    TestClient::http(&url(port), &flags, &[("MCP_REMOTE_JWT_TOKEN", &token)])
}

#[test]
fn clients_show_a_certificate_over_http_where_one_is_wanted() {
    let files = Files::new();
    let ca = files.path("ca.pem");
    let setup = files.server("http").args(&["--tls-client-ca", &ca]);
    let server = setup.secret().audited("audit.jsonl").start();
    let mut alice = client(&files, server.port, &files.identity("client"));
    let answer = alice.ask(1, "initialize", initialize());
    assert_eq!(answer["result"]["serverInfo"]["name"], "echo", "{answer}");
    let subject = r#","certificate":"CN=alice, O=Tests\\, Inc.","user":"alice","#;
    eventually("the subject is on record", || {
        let audit = std::fs::read_to_string(server.beside("audit.jsonl")).unwrap();
        audit.contains(subject).then_some(())
    });
    for (flags, says) in [
        (Vec::new(), "give one with --tls-cert"),
        (files.identity("stranger"), "does not accept this client's"),
    ] {
        let mut other = client(&files, server.port, &flags);
        other.send(&request(1, "initialize", initialize()));
        let answer = other.next();
        assert_eq!(
            (&answer["id"], answer["error"].is_object()),
            (&json!(1), true),
            "{answer}"
        );
        assert_eq!(other.wait(), Some(1));
        other.log.wait_for(says);
        server.log.wait_for("refused: no TLS");
    }
}

#[test]
fn both_ends_of_http_speak_tls_or_neither() {
    let files = Files::new();
    let secure = files.server("http").start();
    let mut http = Http::connect(secure.port);
    http.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = http.answer();
    assert_eq!(answer.status(), 400);
    assert!(answer.body.contains("TLS"), "{answer:?}");
    let plain = Setup::new("http").start();
    let mut mistaken = client(&files, plain.port, &[]);
    mistaken.send(&request(1, "initialize", initialize()));
    let answer = mistaken.next();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("does not speak TLS"), "{answer}");
    assert_eq!(mistaken.wait(), Some(1));
}
