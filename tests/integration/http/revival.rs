//! Sessions that continue after a restart of the server.

use crate::common::{Setup, TestClient, TestServer, now, request, token};
use crate::process::wait_gone;
use crate::support::http::{Http, Session, VERSION};
use rustix::process::Signal;
use serde_json::json;

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

fn token_for(user: &str, role: &str) -> String {
    token(&json!({"user": user, "roles": [role], "exp": now() + 3600}))
}

fn killed(server: TestServer) -> u16 {
    server.signal(Signal::KILL);
    wait_gone(server.pid());
    server.port
}

/// The next server, on the same port.
fn restarted(server: TestServer) -> TestServer {
    let port = killed(server);
    Setup::new("http").secret().port(port).start()
}

#[test]
fn a_session_goes_on_after_a_restart() {
    let server = Setup::new("http").secret().start();
    let session = Session::begin_with(server.port, &token_for("alice", "user"));
    let server = restarted(server);
    // Of several at once one revives it.
    let mut all: Vec<Http> = (0..8)
        .map(|id| session.send("POST", &[], &request(id, "tools/list", json!({}))))
        .collect();
    let mut listening = session.listen("0-17");
    for (id, http) in all.iter_mut().enumerate() {
        let answer = http.answer();
        assert_eq!(
            (answer.status(), answer.json()["id"].clone()),
            (200, json!(id))
        );
    }
    server.log.wait_for_times("from before the restart", 1);
    let seen = server.seen();
    assert_eq!(seen.matches("\"initialize\"").count(), 1, "{seen}");
    assert_eq!(seen.matches("notifications/initialized").count(), 1);
    assert!(seen.contains(r#""clientInfo":{"name":"t""#), "{seen}");
    // Messages without a request come on the stream that was listened to before.
    let notify = json!({"notify": "notifications/tools/list_changed"});
    session.post(&request(2, "tools/call", notify));
    let event = listening.event().expect("a notification");
    assert_eq!(event.data["method"], "notifications/tools/list_changed");
    // Requests in flight are lost, and no event of another stream comes in their place.
    let lost = session
        .send("GET", &[("Last-Event-ID", "3-1")], "")
        .answer();
    assert_eq!(lost.status(), 400);
    assert_eq!(session.send("DELETE", &[], "").answer().status(), 204);
    crate::process::eventually("it is gone for good", || {
        (session.post(LIST).status() == 404).then_some(())
    });
    server.log.wait_for_times("from before the restart", 1);
}

#[test]
fn what_is_altered_foreign_or_of_another_version_is_404() {
    let server = Setup::new("http").secret().start();
    let session = Session::begin_with(server.port, &token_for("alice", "user"));
    let ended = Session::begin_with(server.port, &session.token[7..]);
    assert_eq!(ended.send("DELETE", &[], "").answer().status(), 204);
    crate::process::eventually("a session of this process that has ended has ended", || {
        (ended.post(LIST).status() == 404).then_some(())
    });
    let server = restarted(server);
    let with = |id: &str, token: &str, version: &'static str| {
        let session = Session {
            port: server.port,
            id: id.to_owned(),
            version,
            token: token.to_owned(),
        };
        session.post(LIST).status()
    };
    let mallory = format!("Bearer {}", token_for("mallory", "user"));
    let admin = format!("Bearer {}", token_for("alice", "admin"));
    let (id, own, version) = (session.id.as_str(), session.token.as_str(), session.version);
    assert_eq!(with(id, &mallory, version), 404);
    assert_eq!(with(id, &admin, version), 404);
    for at in [0, 31, 33, id.len() / 2, id.len() - 2] {
        let mut altered = id.to_owned().into_bytes();
        altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
        assert_eq!(
            with(std::str::from_utf8(&altered).unwrap(), own, version),
            404,
            "{at}"
        );
    }
    assert_eq!(with(&id[..32], own, version), 404);
    assert!(!server.seen().contains("initialize"));
    assert_eq!(with(id, own, version), 200);
    assert_eq!(with(id, &mallory, version), 404);
    // The MCP server now uses another version, or the client names another one.
    let server = restarted(server);
    let mut http = session.send("POST", &[(VERSION, "2025-03-26")], LIST);
    assert_eq!(http.answer().status(), 400, "two versions");
    assert_eq!(
        Session {
            version: "2025-03-26",
            port: server.port,
            id: id.to_owned(),
            token: own.to_owned()
        }
        .post(LIST)
        .status(),
        404
    );
}

/// The setup of a session is repeated. The level that a client has set, its subscriptions and its tasks
/// are lost in a restart: with a server that has such features, the session is not revived.
#[test]
fn a_session_with_a_level_a_subscription_or_a_task_is_404() {
    let (subscribe, task) = (json!({"uri": "x:y"}), json!({"name": "x", "task": {}}));
    for (capabilities, asked, status) in [
        (json!({"tools": {"listChanged": true}}), None, 200),
        (
            json!({"prompts": {}, "resources": {"subscribe": false}, "completions": {}}),
            None,
            200,
        ),
        (
            json!({"logging": {}}),
            Some(("logging/setLevel", json!({"level": "error"}))),
            404,
        ),
        (
            json!({"resources": {"subscribe": true}}),
            Some(("resources/subscribe", subscribe)),
            404,
        ),
        (
            json!({"tasks": {"requests": {}}}),
            Some(("tools/call", task)),
            404,
        ),
        // It cannot be known that nothing was set, either.
        (json!({"logging": {}}), None, 404),
    ] {
        let text = capabilities.to_string();
        let start = |port| {
            let setup = Setup::new("http").secret().port(port);
            setup.echo(&["--capabilities", &text]).start()
        };
        let server = start(0);
        let session = Session::begin_with(server.port, &token_for("alice", "user"));
        if let Some((method, params)) = asked {
            assert_eq!(session.post(&request(1, method, params)).status(), 200);
        }
        let server = start(killed(server));
        for _ in 0..2 {
            assert_eq!(session.post(LIST).status(), status, "{capabilities}");
        }
        let renewed = server.seen().matches("\"initialize\"").count();
        assert_eq!(renewed, 1, "it was tried once: {capabilities}");
    }
}

/// A session that is unsigned, or has its own process, cannot be revived.
#[test]
fn what_cannot_be_renewed_is_404() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    assert_eq!(session.id.len(), 32);
    let _server = Setup::new("http").port(killed(server)).start();
    assert_eq!(session.post(LIST).status(), 404);

    let isolated = || Setup::new("http").secret().args(&["--isolate"]);
    let server = isolated().start();
    let session = Session::begin_with(server.port, &token_for("alice", "user"));
    assert_eq!(session.id.len(), 32);
    let _server = isolated().port(killed(server)).start();
    assert_eq!(session.post(LIST).status(), 404);
}

/// A server whose MCP server is not up yet says so; that is not a 404, on which clients give up.
#[test]
fn a_session_waits_for_its_mcp_server() {
    let server = Setup::new("http").secret().start();
    let session = Session::begin_with(server.port, &token_for("alice", "user"));
    let gate = server.beside("gate");
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", gate.display());
    let port = killed(server);
    let server = Setup::new("http").secret().port(port).shell(&wait).start();
    std::fs::create_dir_all(gate.parent().unwrap()).unwrap();
    let early = session.post(LIST);
    assert_eq!(early.status(), 503, "{early:?}");
    assert!(early.head.header("retry-after").is_some());
    std::fs::write(&gate, "").unwrap();
    crate::process::eventually("it goes on", || {
        let answer = session.post(LIST);
        assert_ne!(answer.status(), 404);
        (answer.status() == 200).then_some(())
    });
    drop(server);
}

/// The client does not repeat the host's handshake: its session still exists.
#[test]
fn our_client_goes_on_with_its_session() {
    let server = Setup::new("http").secret().start();
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    let again = [
        "--auto-reconnect",
        "--reconnect-delay",
        "50",
        "--max-attempts",
        "0",
    ];
    let token = token_for("alice", "user");
    let mut client = TestClient::http(&url, &again, &[("MCP_REMOTE_JWT_TOKEN", &token)]);
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "host", "version": "1"}});
    assert!(client.ask(0, "initialize", params)["result"].is_object());
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(client.ask(1, "tools/list", json!({}))["id"], 1);
    let server = restarted(server);
    let answer = client.ask(2, "tools/list", json!({}));
    assert_eq!(answer["id"], 2);
    assert!(answer["result"].is_object(), "{answer}");
    server.log.wait_for("from before the restart");
    assert!(!client.log.text().contains("has forgotten the session"));
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
}
