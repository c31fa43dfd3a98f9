//! A server on the `rmcp` crate behind us, with `rmcp` clients and handwritten ones: what the table of SDKs
//! in `tests/sdk` does not cover.

use crate::common::{BOTH, Setup, TestServer, client_command, example, now, request, token};
use crate::process::{PATIENCE, eventually, kill};
use crate::wire::TestPeer;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities, ClientConfig,
    GetTaskParams, Implementation, ProtocolVersion, TaskPayload,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{RoleClient, ServiceError};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::process::Command;

type Client = RunningService<RoleClient, ClientConfig>;

const MODERN: &str = "io.modelcontextprotocol/protocolVersion";

fn server(transport: &'static str, args: &[&str]) -> TestServer {
    let program = example("rmcp_server");
    let setup = Setup::new(transport).args(args).secret();
    setup.program(&[program.to_str().unwrap()]).start()
}

fn token_of(user: &str) -> String {
    token(&json!({"user": user, "roles": [], "exp": now() + 3600}))
}

fn discover() -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    ClientLifecycleMode::Discover { preferred_versions }
}

/// A client that supports tasks.
async fn connect(
    transport: &str,
    server: &TestServer,
    user: &str,
    mode: ClientLifecycleMode,
) -> Client {
    let mut command = Command::from(client_command(transport, server.port));
    command.env("MCP_REMOTE_JWT_TOKEN", token_of(user));
    let builder = TokioChildProcess::builder(command).stderr(Stdio::null());
    let (child, _) = builder.spawn().unwrap();
    let capabilities = ClientCapabilities::builder().enable_tasks().build();
    let client = ClientConfig::new(capabilities, Implementation::new(user, "1"));
    let connected = client.serve_with_lifecycle(child, mode);
    let connected = tokio::time::timeout(PATIENCE, connected).await;
    connected.expect("no hang").expect("a session")
}

/// Calls the background tool; returns the id of its task.
async fn start_work(client: &Client, millis: u64, tag: &str) -> String {
    let arguments = json!({"ms": millis, "tag": tag});
    let params = CallToolRequestParams::new("work");
    let params = params.with_arguments(arguments.as_object().unwrap().clone());
    match client.call_tool_once(params).await {
        Ok(CallToolResponse::Task(created)) => created.task.task_id,
        other => panic!("{other:?}"),
    }
}

/// The result of a task.
async fn outcome(client: &Client, task: &str) -> TaskPayload {
    let wait = async {
        loop {
            let params = GetTaskParams::new(task.to_owned());
            let task = client.get_task(params).await.unwrap().task;
            if task.status().is_terminal() {
                return task.payload;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("no hang")
}

fn code<T: std::fmt::Debug>(answer: Result<T, ServiceError>) -> i32 {
    match answer {
        Err(ServiceError::McpError(error)) => error.code.0,
        other => panic!("{other:?}"),
    }
}

/// Tasks of 2026-07-28 belong to the user who created them, on a shared process.
#[tokio::test]
async fn tasks_are_their_users() {
    for transport in BOTH {
        let server = server(transport, &[]);
        let alice = connect(transport, &server, "alice", discover()).await;
        let bob = connect(transport, &server, "bob", discover()).await;
        let also_alice = connect(transport, &server, "alice", discover()).await;
        let (short, long) = (
            start_work(&alice, 50, "short").await,
            start_work(&alice, 600_000, "long").await,
        );
        let of_bob = start_work(&bob, 50, "of bob").await;
        for (client, task, tag) in [(&also_alice, &short, "short"), (&bob, &of_bob, "of bob")] {
            match outcome(client, task).await {
                TaskPayload::Completed { result } => {
                    assert_eq!(result["content"][0]["text"], format!("{tag}: worked"));
                }
                other => panic!("{other:?}"),
            }
        }
        // For others they do not exist, and cannot be cancelled.
        for task in [&*short, &*long, "made up"] {
            let get = bob.get_task(GetTaskParams::new(task.to_owned())).await;
            assert_eq!(code(get), -32602);
            let cancel = CancelTaskParams::new(task.to_owned());
            assert_eq!(code(bob.cancel_task(cancel).await), -32602);
        }
        let cancel = CancelTaskParams::new(long.clone());
        also_alice.cancel_task(cancel).await.unwrap();
        assert!(matches!(
            outcome(&alice, &long).await,
            TaskPayload::Cancelled
        ));
        for client in [alice, bob, also_alice] {
            client.cancel().await.unwrap();
        }
    }
}

/// An isolated process gets its client's capabilities, whatever the proxy knows of them.
#[tokio::test]
async fn an_isolated_legacy_client_has_its_tasks() {
    let server = server("tcp", &["--isolate"]);
    let client = connect("tcp", &server, "alice", ClientLifecycleMode::Initialize).await;
    let task = start_work(&client, 50, "mine").await;
    assert!(matches!(
        outcome(&client, &task).await,
        TaskPayload::Completed { .. }
    ));
    client.cancel().await.unwrap();
}

/// `rmcp` ends a server whose first message is not a request, and confuses two requests with one id.
#[test]
fn what_ends_a_server_on_rmcp_does_not_reach_it() {
    let modern = json!({"_meta": {MODERN: "2026-07-28"}});
    for first in [
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized", "params": modern}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
        json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed", "params": modern}),
        json!({"jsonrpc": "2.0", "method": "x/hello"}),
    ] {
        let server = server("tcp", &[]);
        let token = token_of("alice");
        let mut peer = server.peer_with(&token);
        peer.send(&first.to_string());
        peer.send(&first.to_string());
        assert_eq!(peer.ask("p", "ping", json!({}))["id"], "p", "{first}");
        let mut legacy = server.peer_with(&token);
        assert_eq!(
            legacy.initialize()["result"]["serverInfo"]["name"],
            "rmcp-server"
        );
        let mut others = [server.peer_with(&token), server.peer_with(&token)];
        for (tag, peer) in others.iter_mut().enumerate() {
            let arguments = json!({"ms": 300, "tag": tag.to_string()});
            let params = json!({"name": "slow", "arguments": arguments});
            peer.send(&request(7, "tools/call", params));
        }
        for (tag, peer) in others.iter_mut().enumerate() {
            let answer = peer.next();
            let text = format!("{tag}: done after 4 steps");
            assert_eq!(
                (&answer["id"], &answer["result"]["content"][0]["text"]),
                (&json!(7), &json!(text)),
                "{answer}"
            );
        }
        assert!(!server.log.text().contains("MCP server ended"), "{first}");
    }
}

/// A server that exits when its first message is not `initialize`, like older ones on `rmcp`.
const FRAIL: &str = r#"IFS= read -r first || exit 0
case "$first" in
*'"initialize"'*) { printf '%s\n' "$first"; exec cat; } | "$0" "$@"; exit ;;
*) echo "expect initialize request" >&2; exit 1 ;;
esac"#;

/// Today most clients probe for the era first; this ended a server that exits when it
/// is probed, and with it ours.
#[test]
fn a_server_that_ends_when_it_is_asked_for_its_era_serves_legacy_peers() {
    let server = Setup::new("tcp").shell(FRAIL).start();
    let probe =
        json!({"_meta": {MODERN: "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}});
    let mut peer = server.peer();
    let first = peer.ask(1, "server/discover", probe.clone());
    assert_eq!(first["error"]["data"]["reason"], "child-exited", "{first}");
    assert_eq!(peer.initialize()["result"]["serverInfo"]["name"], "echo");
    assert_eq!(peer.ask(2, "x", json!({}))["result"]["method"], "x");
    for _ in 0..2 {
        let mut other = server.peer();
        let answer = other.ask(1, "server/discover", probe.clone());
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
        assert_eq!(other.initialize()["result"]["serverInfo"]["name"], "echo");
    }
    assert_eq!(peer.ask(3, "x", json!({}))["result"]["method"], "x");
    // No process is kept that was only probed.
    eventually("one process is left", || {
        let log = server.log.text();
        let count = |text| log.matches(text).count();
        (count("MCP server started") == count("MCP server ended pid=") + 1).then_some(())
    });
}

/// The same, with a real client of each kind.
#[tokio::test]
async fn clients_of_every_kind_reach_a_server_that_ends_when_it_is_asked() {
    let server = Setup::new("tcp").secret().shell(FRAIL).start();
    for round in 0..3 {
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        let auto = ClientLifecycleMode::Auto {
            preferred_versions,
            legacy_version: None,
        };
        for mode in [auto, ClientLifecycleMode::Initialize] {
            let client = connect("tcp", &server, "alice", mode).await;
            let name = client
                .peer_info()
                .and_then(|info| info.server_info.clone())
                .map(|info| info.name);
            assert_eq!(name.as_deref(), Some("echo"), "round {round}");
            client.cancel().await.unwrap();
        }
    }
}

/// The state of a process survives it: a subscription of 2026-07-28 that was open when it was
/// killed continues with the next one, and its client notices nothing.
#[test]
fn an_open_subscription_survives_its_process() {
    let server = server("tcp", &[]);
    let mut peer = server.peer_with(&token_of("alice"));
    let meta = json!({
        MODERN: "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let filter = json!({"toolsListChanged": true, "resourceSubscriptions": ["note://one"]});
    let listen = json!({"_meta": meta, "notifications": filter});
    peer.send(&request("listen-1", "subscriptions/listen", listen));
    let subscription =
        |line: &Value| line["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
    let acknowledged = peer.next();
    assert_eq!(
        acknowledged["method"],
        "notifications/subscriptions/acknowledged"
    );
    assert_eq!(subscription(&acknowledged), "listen-1");
    let touch = json!({"_meta": meta, "name": "touch", "arguments": {"uri": "note://one"}});
    // `rmcp` acknowledges a subscription a moment before it is active.
    let touch_until_told = |peer: &mut TestPeer| {
        eventually("an update", || {
            peer.send(&request("touch", "tools/call", touch.clone()));
            let first = peer.next();
            if first["id"] == "touch" {
                return None;
            }
            assert_eq!(peer.next()["id"], "touch");
            assert_eq!(first["method"], "notifications/resources/updated");
            Some(subscription(&first))
        })
    };
    assert_eq!(touch_until_told(&mut peer), "listen-1");
    let started = server.log.wait_for("MCP server started");
    let (_, pid) = started.split_once("pid=").unwrap();
    kill(pid.split_whitespace().next().unwrap().parse().unwrap());
    let changed = peer.next();
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    assert_eq!(subscription(&changed), "listen-1");
    assert_eq!(touch_until_told(&mut peer), "listen-1");
}
