//! An SDK's client with `mcp-remote client` as its server, and the notes server at the far end.

use crate::common::{BOTH, Setup, TestServer, client_command, example, token_with};
use crate::process::{PATIENCE, wait_gone};
use rmcp::model::{CallToolRequestParams, ProtocolVersion, ReadResourceRequestParams};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{RoleClient, ServiceError};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener};
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

/// The SDK's own client over HTTP. Without a second TLS library in the tests it supports only Unix sockets, so its
/// bytes are forwarded to the server's port.
async fn connect_by_url(port: u16, mode: ClientLifecycleMode) -> Client {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let _folder = folder;
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
                copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    let url = format!("http://127.0.0.1:{port}/mcp");
    let config =
        StreamableHttpClientTransportConfig::with_uri(url).auth_header(token_with(&["user"]));
    let path = path.to_str().unwrap();
    let transport = StreamableHttpClientTransport::from_unix_socket_with_config(path, config);
    let connected = tokio::time::timeout(PATIENCE, ().serve_with_lifecycle(transport, mode));
    connected.await.expect("no hang").expect("a session")
}

#[tokio::test]
async fn clients_of_both_eras_reach_a_server_by_url() {
    let server = notes("http", None);
    let mut clients = Vec::new();
    for mode in modes() {
        clients.push(connect_by_url(server.port, mode).await);
    }
    for (name, client) in ["a", "b", "c"].iter().zip(&clients) {
        assert!(client.list_all_tools().await.unwrap().len() >= 4);
        let text = format!("written by {name} ☃");
        let arguments = json!({"name": name, "text": text});
        call(client, "write_note", arguments).await.unwrap();
        let read = call(client, "read_note", json!({"name": name})).await;
        assert_eq!(read.unwrap(), json!(text));
        let missing = call(client, "no_such_tool", json!({})).await;
        assert!(
            matches!(missing, Err(ServiceError::McpError(_))),
            "{missing:?}"
        );
    }
    for client in clients {
        client.cancel().await.unwrap();
    }
}

/// The session continues, and the client does not send `initialize` again.
#[tokio::test]
async fn a_client_by_url_does_not_notice_that_the_server_was_restarted() {
    let notes = example("notes_server");
    let start = |port| {
        let setup = Setup::new("http").secret().port(port);
        setup.program(&[notes.to_str().unwrap()]).start()
    };
    let server = start(0);
    let client = connect_by_url(server.port, ClientLifecycleMode::Initialize).await;
    call(&client, "list_notes", json!({})).await.unwrap();
    server.signal(Signal::KILL);
    wait_gone(server.pid());
    let server = start(server.port);
    call(&client, "list_notes", json!({})).await.unwrap();
    server
        .log
        .wait_for("a session from before the restart goes on");
    client.cancel().await.unwrap();
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

/// A missing note is the server's error, not the proxy's.
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
