//! Several listeners (`--listen`): all connections share the MCP server, the policy and the
//! audit log, and none sees the responses of another.

use crate::common::{Setup, TestClient, TestServer, request, token_with};
use crate::process::eventually;
use crate::support::http::Session;
use crate::wire::TestPeer;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

/// The ports of WebSocket and HTTP, beside the one of TCP and the socket `x.sock`.
fn four_listeners(setup: Setup) -> (TestServer, u16, u16) {
    let server = setup
        .args(&["--listen", "ws://127.0.0.1:0,http://127.0.0.1:0"])
        .unix("x.sock")
        .start();
    let [websocket, http] = [(); 2].map(|()| server.next_listener().parse().unwrap());
    assert_eq!(server.next_listener(), path(&server));
    (server, websocket, http)
}

fn path(server: &TestServer) -> String {
    server.beside("x.sock").display().to_string()
}

fn unix_client(server: &TestServer, args: &[&str], token: &str) -> TestClient {
    let path = path(server);
    TestClient::of_command(&["client", "unix", "--path", &path], args, token)
}

fn call(progress: u32) -> (Value, &'static str) {
    let params = json!({"name": "mine", "progress": progress, "delayMs": 300, "_meta": {"progressToken": 1}});
    (params, "tools/call")
}

#[test]
fn peers_at_four_listeners_share_a_child_and_never_meet() {
    let policy =
        json!({"permissions": {"user": {"allowedMethods": ["*"], "allowedTools": ["mine"]}}});
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let audit_flag = audit.display().to_string();
    let setup = Setup::new("tcp").policy(&policy);
    let (server, websocket, http) = four_listeners(setup.args(&["--audit-log", &audit_flag]));
    let token = token_with(&["user"]);

    let mut tcp = server.peer_with(&token);
    let (_, mut ws) = TestPeer::upgrade(websocket, "");
    assert_eq!(ws.login(&token)["result"]["authenticated"], true);
    let session = Session::begin_with(http, &token);
    let mut unix = unix_client(&server, &[], &token);

    // The same id and the same progress token everywhere, all at once.
    let ask = |progress| {
        let (params, method) = call(progress);
        request(7, method, params)
    };
    tcp.send(&ask(1));
    ws.send(&ask(2));
    unix.send(&ask(3));
    let mut over_http = session.stream(&ask(4));
    let expect = |progress: u32, messages: Vec<Value>| {
        let (answer, before) = messages.split_last().unwrap();
        assert_eq!(answer["id"], 7, "{answer}");
        assert_eq!(answer["result"]["params"]["progress"], progress, "{answer}");
        assert_eq!(before.len(), progress as usize, "{before:?}");
        for message in before {
            assert_eq!(message["params"]["progressToken"], 1, "{message}");
        }
    };
    expect(1, (0..=1).map(|_| tcp.next()).collect());
    expect(2, (0..=2).map(|_| ws.next()).collect());
    expect(3, (0..=3).map(|_| unix.next()).collect());
    let events = over_http.events().into_iter().map(|event| event.data);
    expect(4, events.filter(|data| !data.is_null()).collect());

    // One policy.
    let forbidden = request(8, "tools/call", json!({"name": "other"}));
    tcp.send(&forbidden);
    ws.send(&forbidden);
    unix.send(&forbidden);
    let denied = session.post(&forbidden).json();
    for answer in [tcp.next(), ws.next(), unix.next(), denied] {
        assert_eq!(answer["id"], 8, "{answer}");
        assert!(answer["error"]["code"].is_i64(), "{answer}");
    }
    // One child, and one audit log.
    let seen = server.seen();
    assert_eq!(seen.matches("\"initialize\"").count(), 1, "{seen}");
    assert_eq!(seen.matches("tools/call").count(), 4, "{seen}");
    let blocked = || std::fs::read_to_string(&audit).unwrap_or_default();
    eventually("all are on record", || {
        (blocked().matches(r#""event":"block"#).count() == 4).then_some(())
    });
    let lines = blocked();
    assert!(lines.contains(r#""peer":"unix""#), "{lines}");
    assert!(lines.contains(r#""peer":"127.0.0.1:"#), "{lines}");
}

#[test]
fn a_unix_socket_is_its_owners_and_goes_with_the_server() {
    let (server, ..) = four_listeners(Setup::new("tcp"));
    let path = path(&server);
    let mode = std::fs::symlink_metadata(&path)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // A second server does not take over the first one's socket.
    let other = Setup::new("tcp");
    let outcome = other.args(&["--listen", &format!("unix://{path}")]).run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains(&format!("could not listen on {path}")),
        "{outcome:?}"
    );
    assert_eq!(
        unix_client(&server, &[], "").ask(1, "ping", json!({}))["id"],
        1
    );
    server.stop();
    assert!(!std::path::Path::new(&path).exists());

    // A killed server leaves it behind, and the next one replaces it.
    let (mut killed, ..) = four_listeners(Setup::new("tcp"));
    killed.signal(Signal::KILL);
    killed.wait();
    let left = killed.beside("x.sock");
    assert!(left.exists());
    let url = format!("unix://{}", left.display());
    let next = Setup::new("tcp").args(&["--listen", &url]).start();
    assert_eq!(next.next_listener(), left.display().to_string());
    let words = ["client", "unix", "--path", left.to_str().unwrap()];
    let mut client = TestClient::of_command(&words, &[], "");
    assert_eq!(client.ask(1, "ping", json!({}))["id"], 1);
    // What is not a socket stays.
    let file = next.beside("file");
    std::fs::write(&file, "mine").unwrap();
    let outcome = Setup::new("tcp")
        .args(&["--listen", &format!("unix://{}", file.display())])
        .run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

/// A web page cannot use it, should a browser or a proxy send HTTP there.
#[test]
fn http_is_turned_away_at_a_unix_socket() {
    let (server, ..) = four_listeners(Setup::new("tcp"));
    let stream = UnixStream::connect(path(&server)).unwrap();
    let evil = request(1, "tools/call", json!({"name": "evil"}));
    (&stream)
        .write_all(format!("POST / HTTP/1.1\r\nHost: x\r\n\r\n{evil}\n").as_bytes())
        .unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 400"), "{line}");
    assert!(!server.seen().contains("evil"));
}

/// Bug: the remedy was "stop what listens there", whatever was wrong.
#[test]
fn what_keeps_a_port_from_opening_is_told_apart() {
    // The address is reserved for documentation (RFC 5737).
    for (url, says) in [
        (
            "tcp://203.0.113.5:0",
            "this machine does not have that address",
        ),
        ("tcp://nowhere.invalid:0", "is the name or the path right"),
    ] {
        let outcome = Setup::new("tcp").args(&["--listen", url]).run();
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(says), "{outcome:?}");
    }
}
