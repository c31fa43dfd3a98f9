//! An SDK's client with `mcp-remote client` as its server, and the notes server far away.

use crate::common::{BOTH, Setup, TestServer, client_command, example, token_with};
use crate::process::PATIENCE;
use rmcp::model::{CallToolRequestParams, ProtocolVersion, ReadResourceRequestParams};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{RoleClient, ServiceError};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::process::Command;

type Client = RunningService<RoleClient, ()>;

const MODERN: ProtocolVersion = ProtocolVersion::V_2026_07_28;

fn notes(transport: &'static str, policy: Option<&Value>) -> TestServer {
    let setup = match policy {
        Some(policy) => Setup::new(transport).policy(policy),
        None => Setup::new(transport).secret(),
    };
    setup
        .program(&[example("notes_server").to_str().unwrap()])
        .start()
}

async fn connect(
    transport: &str,
    server: &TestServer,
    role: &str,
    mode: ClientLifecycleMode,
) -> Client {
    let mut command = Command::from(client_command(transport, server.port));
    command.env("MCP_REMOTE_JWT_TOKEN", token_with(&[role]));
    let builder = TokioChildProcess::builder(command).stderr(Stdio::null());
    let (child, _) = builder.spawn().unwrap();
    let connected = tokio::time::timeout(PATIENCE, ().serve_with_lifecycle(child, mode));
    connected.await.expect("no hang").expect("a session")
}

async fn call(
    client: &Client,
    tool: &'static str,
    arguments: Value,
) -> Result<Value, ServiceError> {
    let params = CallToolRequestParams::new(tool);
    let params = params.with_arguments(arguments.as_object().unwrap().clone());
    let called = tokio::time::timeout(PATIENCE, client.call_tool(params));
    let result = called.await.expect("no hang")?;
    Ok(serde_json::to_value(result.content).unwrap()[0]["text"].take())
}

fn modes() -> [ClientLifecycleMode; 3] {
    let preferred_versions = vec![MODERN];
    [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover {
            preferred_versions: preferred_versions.clone(),
        },
        ClientLifecycleMode::Auto {
            preferred_versions,
            legacy_version: None,
        },
    ]
}

/// Legacy and modern clients at once, each with the same ids, on one server.
#[tokio::test]
async fn clients_of_both_eras_share_a_server() {
    for transport in BOTH {
        let server = notes(transport, None);
        let mut clients = Vec::new();
        for mode in modes() {
            clients.push(connect(transport, &server, "user", mode).await);
        }
        for (name, client) in ["a", "b", "c"].iter().zip(&clients) {
            assert_eq!(
                client
                    .peer_info()
                    .unwrap()
                    .server_info
                    .as_ref()
                    .unwrap()
                    .name,
                "notes"
            );
            assert!(client.list_all_tools().await.unwrap().len() >= 4);
            let text = format!("written by {name} over {transport} ☃");
            let arguments = json!({"name": name, "text": text});
            call(client, "write_note", arguments).await.unwrap();
            let read = call(client, "read_note", json!({"name": name})).await;
            assert_eq!(read.unwrap(), json!(text));
        }
        let reads = clients.iter().map(async |client| {
            let mut texts = Vec::new();
            for round in 0..20 {
                let name = ["a", "b", "c"][round % 3];
                texts.push(
                    call(client, "read_note", json!({"name": name}))
                        .await
                        .is_ok(),
                );
            }
            texts.len()
        });
        assert_eq!(futures_util::future::join_all(reads).await, [20, 20, 20]);
        for client in clients {
            client.cancel().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_long_text_survives_the_way() {
    let server = notes("ws", None);
    let client = connect("ws", &server, "user", ClientLifecycleMode::Initialize).await;
    let text = "0123456789 ☃\n".repeat(200_000);
    call(&client, "write_note", json!({"name": "long", "text": text}))
        .await
        .unwrap();
    let read = call(&client, "read_note", json!({"name": "long"}))
        .await
        .unwrap();
    assert!(read == json!(text), "changed on the way");
    let params = ReadResourceRequestParams::new("note:///long");
    let resource = serde_json::to_value(client.read_resource(params).await.unwrap()).unwrap();
    assert!(
        resource["contents"][0]["text"] == json!(text),
        "changed on the way"
    );
}

#[tokio::test]
async fn a_role_that_may_only_read_is_held_to_it() {
    let policy = json!({"permissions": {"reader": {
        "allowedMethods": ["initialize", "tools/list", "ping"],
        "blockedMethods": ["tools/call"],
    }}});
    for transport in BOTH {
        let server = notes(transport, Some(&policy));
        let client = connect(
            transport,
            &server,
            "reader",
            ClientLifecycleMode::Initialize,
        )
        .await;
        assert!(!client.list_all_tools().await.unwrap().is_empty());
        match call(&client, "read_note", json!({"name": "x"})).await {
            Err(ServiceError::McpError(error)) => {
                assert_eq!(error.code.0, -32601);
                assert_eq!(
                    error.message,
                    "Method not allowed: Access denied for method 'tools/call'"
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(!client.list_all_tools().await.unwrap().is_empty());
    }
}

/// A note that is not there is the server's answer, not the proxy's.
#[tokio::test]
async fn errors_of_the_server_are_the_servers() {
    let server = notes("tcp", None);
    let client = connect("tcp", &server, "user", ClientLifecycleMode::Initialize).await;
    let params = ReadResourceRequestParams::new("note:///nowhere");
    assert!(matches!(
        client.read_resource(params).await,
        Err(ServiceError::McpError(_))
    ));
    let missing = call(&client, "read_note", json!({"name": "nowhere"})).await;
    assert!(missing.unwrap().as_str().unwrap().contains("nowhere"));
}
