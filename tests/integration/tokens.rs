//! Tokens over their whole life: what is required of them, rotation, revocation, and what changes
//! while peers are connected.

use crate::common::{BOTH, SECRET, Setup, TestClient, TestServer, now, request, token};
use crate::process::{Outcome, assert_fails, binary, run};
use crate::wire::TestPeer;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const OLD: &str = "the secret of yesterday, long enough for all";
const NEW: &str = "the secret of tomorrow, long enough for all";
const REVOKED: &str = r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Authentication failed","data":{"reason":"Token revoked"}}}"#;

/// Files that can be changed while a server runs.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }
}

fn signed(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
}

fn of(user: &str, id: &str) -> Value {
    json!({"user": user, "roles": ["user"], "jti": id, "exp": now() + 3600})
}

fn assert_refused(server: &TestServer, token: &str) {
    let answer = server.peer().login(token);
    // Whatever it was, the peer is not told.
    assert_eq!(answer["error"]["data"], json!({"reason": "Invalid token"}));
}

fn assert_alive(peer: &mut TestPeer) {
    assert_eq!(peer.ask(0, "ping", json!({}))["id"], 0);
}

fn assert_ended(peer: &mut TestPeer) {
    assert_eq!(peer.next_line().as_deref(), Some(REVOKED));
    peer.assert_closed();
}

#[test]
fn issuer_and_audience_are_required_when_asked_for() {
    let flags = ["--jwt-issuer", "us", "--jwt-audience", "notes"];
    let server = Setup::new("tcp").secret().args(&flags).start();
    for claims in [
        json!({"iss": "us", "aud": "notes"}),
        json!({"iss": "us", "aud": ["mail", "notes"]}),
    ] {
        server.assert_serving_with(&token(&claims));
    }
    for (claims, why) in [
        (json!({"aud": "notes"}), "not from the required issuer"),
        (json!({"iss": "us"}), "not for the required audience"),
        (
            json!({"iss": "us", "aud": ["mail"]}),
            "not for the required audience",
        ),
        (
            json!({"iss": ["us"], "aud": "notes"}),
            "claim 'iss' has the wrong type",
        ),
    ] {
        assert_refused(&server, &token(&claims));
        server.log.wait_for(why);
    }
    let made = run(
        binary()
            .args([
                "generate-token",
                "--quiet",
                "--issuer",
                "us",
                "--audience",
                "notes",
            ])
            .env("MCP_REMOTE_JWT_SECRET", SECRET),
        b"",
    );
    server.assert_serving_with(made.stdout.trim_end());
}

/// Bug: a token of an issuer whose clock was two seconds ahead was refused for good.
#[test]
fn clocks_may_differ_but_the_end_is_exact() {
    let fresh = json!({"nbf": now() + 30, "iat": now() + 30, "exp": now() + 3600});
    let server = Setup::new("tcp").secret().start();
    server.assert_serving_with(&token(&fresh));
    for (claims, why) in [
        (json!({"nbf": now() + 300}), "claim 'nbf' is still to come"),
        (json!({"iat": now() + 300}), "claim 'iat' is still to come"),
        (json!({"exp": now() - 1}), "expired"),
    ] {
        assert_refused(&server, &token(&claims));
        server.log.wait_for(why);
    }
    let strict = Setup::new("tcp").secret().args(&["--jwt-leeway", "0s"]);
    assert_refused(&strict.start(), &token(&fresh));
    let inspect = |flags: &[&str]| {
        let mut command = binary();
        command.arg("inspect-token").arg(token(&fresh)).args(flags);
        run(command.env("MCP_REMOTE_JWT_SECRET", SECRET), b"")
    };
    assert_eq!(inspect(&[]).code, Some(0));
    let refused = inspect(&["--jwt-leeway=0s"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("nbf is"), "{refused:?}");
}

/// Bug: roles that stand in another claim read as "Access denied for method 'initialize'", and nothing
/// said why.
#[test]
fn a_token_without_roles_under_a_policy_is_warned_of() {
    let policy = json!({"permissions": {"user": {"allowedMethods": ["*"]}}});
    let warning = "this token has no roles";
    let server = Setup::new("tcp").policy(&policy).start();
    server.assert_serving_with(&token(&json!({"user": "alice", "roles": ["user"]})));
    assert!(!server.log.text().contains(warning));
    let mut peer = server.peer_with(&token(&json!({"user": "bob", "groups": ["user"]})));
    assert_eq!(peer.ask(1, "ping", json!({}))["error"]["code"], -32601);
    let line = server.log.wait_for(warning);
    assert!(
        line.contains("WARN") && line.contains("'roles'") && line.contains("bob"),
        "{line}"
    );
    // Where the operator says that they stand there, they do.
    let elsewhere = Setup::new("tcp").policy(&policy);
    let server = elsewhere.args(&["--roles-claim", "org.groups"]).start();
    server.assert_serving_with(&token(&json!({"user": "bob", "org": {"groups": ["user"]}})));
    server.assert_serving_with(&token(&json!({"user": "bob", "org": {"groups": "x user"}})));
    assert!(!server.log.text().contains(warning));
    let mut peer = server.peer_with(&token(&json!({"user": "bob", "roles": ["user"]})));
    assert_eq!(peer.ask(1, "ping", json!({}))["error"]["code"], -32601);
    let line = server.log.wait_for(warning);
    assert!(line.contains("'org.groups'"), "{line}");
    // Where there is no policy, nothing depends on roles.
    let open = Setup::new("tcp").secret().start();
    open.assert_serving_with(&token(&json!({"user": "bob"})));
    assert!(!open.stop().contains(warning));
}

/// Rightly signed, but `jsonwebtoken` makes no such tokens.
#[test]
fn repeated_members_and_critical_extensions_are_refused() {
    let sign = |header: &str, claims: &str| {
        let message = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let key = EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
        format!("{message}.{}", signature.unwrap())
    };
    let header = r#"{"alg":"HS256"}"#;
    let server = Setup::new("tcp").secret().start();
    server.assert_serving_with(&sign(header, r#"{"user":"alice","roles":["a"]}"#));
    for (header, claims, why) in [
        (
            header,
            r#"{"user":"alice","roles":["a"],"r\u006fles":["admin"]}"#,
            "stands twice",
        ),
        (
            r#"{"alg":"HS256","k\u0069d":"1","kid":"2"}"#,
            r#"{"user":"bob"}"#,
            "stands twice",
        ),
        (
            r#"{"alg":"HS256","crit":["x"],"x":1}"#,
            r#"{"user":"bob"}"#,
            "'crit'",
        ),
        (
            r#"{"alg":"HS256","crit":["b64"],"b64":true}"#,
            r#"{"user":"bob"}"#,
            "'crit'",
        ),
    ] {
        let server = Setup::new("tcp").secret().start();
        assert_refused(&server, &sign(header, claims));
        server.log.wait_for(why);
    }
    let inspected = run(
        binary().args(["inspect-token", &sign(header, r#"{"exp":1,"exp":2}"#)]),
        b"",
    );
    assert_fails(&inspected, 1, "stands twice");
}

#[test]
fn what_is_about_tokens_needs_a_secret() {
    for flag in [
        "--jwt-issuer",
        "--jwt-audience",
        "--revoked",
        "--permissions-config",
    ] {
        let outcome = Setup::new("tcp").args(&[flag, "x"]).run();
        assert_fails(&outcome, 2, &format!("{flag} needs a secret"));
    }
}

#[test]
fn several_secrets_are_good_at_once() {
    let files = Files::new();
    let file = files.write("secrets", &format!("{NEW}  \n\n{OLD}\n"));
    for flags in [
        ["--jwt-secret-file", &file, "--log-format", "text"],
        ["--jwt-secret", NEW, "--jwt-secret", OLD],
    ] {
        let server = Setup::new("tcp").args(&flags).start();
        for secret in [NEW, OLD] {
            server.assert_serving_with(&signed(&of("alice", "1"), secret));
        }
        assert_refused(&server, &token(&of("alice", "1")));
        let signing = [&["generate-token", "--quiet"], &flags[..2]].concat();
        let made = run(binary().args(signing), b"").stdout;
        let only_new = Setup::new("tcp").env("MCP_REMOTE_JWT_SECRET", NEW).start();
        only_new.assert_serving_with(made.trim_end());
    }
}

#[test]
fn revoked_tokens_do_not_come_in() {
    let files = Files::new();
    let file = files.write("revoked", "# stolen laptop\njti:a1\nb1\n\nuser:mallory\n");
    for transport in BOTH {
        let server = Setup::new(transport)
            .secret()
            .args(&["--revoked", &file])
            .start();
        server.assert_serving_with(&token(&of("alice", "a2")));
        server.assert_serving_with(&token(&json!({"user": "alice"})));
        for claims in [of("alice", "a1"), of("bob", "b1"), of("mallory", "c1")] {
            assert_refused(&server, &token(&claims));
        }
        assert_refused(&server, &token(&json!({"sub": "mallory"})));
        server.log.wait_for("invalid token: revoked");
    }
    let setup = Setup::new("tcp").secret().env("MCP_REMOTE_REVOKED", &file);
    assert_refused(&setup.start(), &token(&of("alice", "a1")));
}

#[test]
fn a_broken_list_of_revocations_is_no_list() {
    let files = Files::new();
    for (text, says) in [
        (
            "a1\nusr:bob\n",
            "line 2: it begins with neither 'jti:' nor 'user:'",
        ),
        ("\n\njti:\n", "line 3: nothing behind 'jti:'"),
        ("a1 # stolen", "line 1: white space in an id"),
    ] {
        let file = files.write("revoked", text);
        let outcome = Setup::new("tcp").secret().args(&["--revoked", &file]).run();
        assert_fails(&outcome, 1, &format!("{file} are not valid: {says}"));
    }
    let outcome = Setup::new("tcp")
        .secret()
        .args(&["--revoked", "/no/file"])
        .run();
    assert_fails(&outcome, 1, "could not read the revocations /no/file");
}

#[test]
fn revocations_are_reloaded_and_end_connections() {
    for transport in BOTH {
        let files = Files::new();
        let file = files.write("revoked", "");
        let server = Setup::new(transport)
            .secret()
            .args(&["--revoked", &file])
            .start();
        let mut peers = [of("alice", "a1"), of("alice", "a2"), of("bob", "b1")]
            .map(|claims| server.peer_with(&token(&claims)));
        peers.iter_mut().for_each(assert_alive);
        files.write("revoked", "jti:a1\nuser:bob\n");
        server.reload();
        let [first, second, bob] = &mut peers;
        assert_ended(first);
        assert_ended(bob);
        assert_alive(second);
        assert_refused(&server, &token(&of("alice", "a1")));
        server.log.wait_for("disconnected reason=\"token revoked\"");

        // A broken file keeps what was.
        for broken in ["a2\nusr:alice\n", "\u{fffd}:"] {
            files.write("revoked", broken);
            server.reload();
            assert_alive(second);
            assert_refused(&server, &token(&of("bob", "b2")));
        }
        std::fs::remove_file(files.path("revoked")).unwrap();
        server.reload();
        assert_refused(&server, &token(&of("bob", "b2")));
        let log = server.log.text();
        for says in [
            format!("kept what was read before: the revocations {file} are not valid: line 2:"),
            format!("kept what was read before: could not read the revocations {file}"),
            "reloaded secrets=1 revoked=2 broken=1".to_owned(),
        ] {
            assert!(log.contains(&says), "{says}: {log}");
        }

        files.write("revoked", "a1\n");
        server.reload();
        server.assert_serving_with(&token(&of("bob", "b2")));
        assert_alive(second);
    }
}

#[test]
fn secrets_are_reloaded_and_end_connections() {
    for transport in BOTH {
        let files = Files::new();
        let file = files.write("secrets", OLD);
        let server = Setup::new(transport)
            .args(&["--jwt-secret-file", &file])
            .start();
        let mut first = server.peer_with(&signed(&of("alice", "a1"), OLD));
        files.write("secrets", &format!("{NEW}\n{OLD}\n"));
        server.reload();
        assert_alive(&mut first);
        let mut second = server.peer_with(&signed(&of("alice", "a2"), NEW));
        // A broken file keeps what was.
        files.write("secrets", "\n \n");
        server.reload();
        assert_alive(&mut first);
        server.log.wait_for(&format!(
            "kept what was read before: the JWT secret from {file} is empty"
        ));
        files.write("secrets", NEW);
        server.reload();
        assert_ended(&mut first);
        assert_alive(&mut second);
        assert_refused(&server, &signed(&of("alice", "a1"), OLD));
        let log = server.stop();
        assert!(!log.contains(OLD) && !log.contains(NEW), "{log}");
    }
}

/// What users may do; admins may do everything.
fn policy(allowed: &[&str], blocked: &[&str]) -> String {
    let user = json!({"allowedMethods": allowed, "blockedMethods": blocked});
    json!({"permissions": {"user": user, "admin": {"allowedMethods": ["*"]}}}).to_string()
}

/// A server with a policy of its own, and a peer with a session.
fn with_policy(transport: &'static str, files: &Files, text: &str) -> (TestServer, TestPeer) {
    let file = files.write("policy.json", text);
    let setup = Setup::new(transport)
        .secret()
        .args(&["--permissions-config", &file]);
    let server = setup.start();
    let mut peer = server.peer_with(&token(&of("alice", "a1")));
    peer.initialize();
    (server, peer)
}

#[test]
fn the_policy_is_reloaded_and_holds_for_the_next_message() {
    for transport in BOTH {
        let files = Files::new();
        let all = policy(&["*"], &[]);
        let (server, mut peer) = with_policy(transport, &files, &all);
        let allowed = |peer: &mut TestPeer| {
            let answer = peer.ask(1, "tools/call", json!({"name": "x"}));
            answer["result"].is_object()
        };
        assert!(allowed(&mut peer));
        files.write("policy.json", &policy(&["*"], &["tools/call"]));
        server.reload();
        assert!(!allowed(&mut peer));
        // A broken file keeps what was.
        for broken in ["{", r#"{"permissions": {"user": {"allowedMethods": "*"}}}"#] {
            files.write("policy.json", broken);
            server.reload();
            assert!(!allowed(&mut peer));
        }
        let file = files.path("policy.json").display().to_string();
        for says in [
            "is not valid: not JSON",
            "is not valid: role 'user', key 'allowedMethods'",
        ] {
            let line = server.log.wait_for(says);
            assert!(line.contains(&file) && line.contains("ERROR"), "{line}");
        }
        files.write("policy.json", &all);
        server.reload();
        assert!(allowed(&mut peer));
        files.write("policy.json", r#"{"permissions": {}}"#);
        server.reload();
        assert!(!allowed(&mut peer));
        let answer = peer.ask(2, "ping", json!({}));
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
    }
}

/// Bug: a session without a connection kept the rights that it had, and was told after its return of
/// what it may not know any more.
#[test]
fn a_session_that_waits_is_held_to_the_reloaded_policy() {
    for transport in BOTH {
        let files = Files::new();
        let rules = |allowed: &str| {
            json!({"permissions": {"user": {"allowedMethods": ["*"], "allowedResources": [allowed]}}})
                .to_string()
        };
        let (server, mut other) = with_policy(transport, &files, &rules("note:///*"));
        let mut client = server.peer_with(&token(&of("alice", "a2")));
        let session = client.resume(&Value::Null, 0)["params"]["session"].clone();
        client.initialize();
        for (id, uri) in [(1, "note:///secret"), (2, "note:///public")] {
            let answer = client.ask(id, "resources/subscribe", json!({"uri": uri}));
            assert_eq!(answer["id"], id, "{answer}");
        }
        drop(client);
        server.log.wait_for("waiting for the client to come back");
        files.write("policy.json", &rules("note:///public"));
        server.reload();
        let updated = |uri: &str| json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}});
        let both = format!(
            "{}\n{}\n",
            updated("note:///secret"),
            updated("note:///public")
        );
        other.initialize();
        assert!(other.ask(3, "x", json!({"print": both}))["result"].is_object());
        let mut client = server.peer_with(&token(&of("alice", "a2")));
        let resumed = client.resume(&session, 3);
        assert_eq!(resumed["params"]["resumed"], true, "{resumed}");
        assert_eq!(client.next(), updated("note:///public"), "{transport}");
        assert_eq!(client.ask(4, "ping", json!({}))["id"], 4, "{transport}");
    }
}

/// What is in flight was allowed, and is answered.
#[test]
fn a_reload_disturbs_nothing_in_flight() {
    let files = Files::new();
    let (server, mut peer) = with_policy("tcp", &files, &policy(&["*"], &[]));
    peer.send(&request(
        1,
        "tools/call",
        json!({"name": "x", "delayMs": 500}),
    ));
    server.wait_seen("delayMs");
    files.write("policy.json", &policy(&["*"], &["tools/call"]));
    server.reload();
    assert_eq!(peer.next()["result"]["method"], "tools/call");
}

#[test]
fn subscriptions_end_with_the_right_to_them() {
    let files = Files::new();
    let (server, mut peer) = with_policy("tcp", &files, &policy(&["*"], &[]));
    let mut other = server.peer_with(&token(&json!({"user": "root", "roles": ["admin"]})));
    other.initialize();
    for uri in ["file:///a", "file:///b"] {
        peer.ask(1, "resources/subscribe", json!({"uri": uri}));
    }
    other.ask(1, "resources/subscribe", json!({"uri": "file:///b"}));
    files.write("policy.json", &policy(&["*"], &["resources/subscribe"]));
    server.reload();
    let ended = server.wait_seen("resources/unsubscribe");
    assert!(ended.contains("file:///a"), "{ended}");
    // Somebody else still has the other.
    assert_alive(&mut peer);
    assert_eq!(server.seen().matches("resources/unsubscribe").count(), 1);
}

/// A modern subscription is one long request, so its end is an answer.
#[test]
fn listening_ends_with_the_right_to_it() {
    let files = Files::new();
    let file = files.write("policy.json", &policy(&["*"], &[]));
    let setup = Setup::new("tcp").secret().echo(&["--modern"]);
    let server = setup.args(&["--permissions-config", &file]).start();
    let mut peer = server.peer_with(&token(&of("alice", "a1")));
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let params =
        json!({"_meta": meta, "notifications": {"toolsListChanged": true}, "silent": true});
    peer.send(&request("listening", "subscriptions/listen", params));
    server.wait_seen("subscriptions/listen");
    files.write("policy.json", &policy(&["*"], &["subscriptions/*"]));
    server.reload();
    let answer = peer.next();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!("listening"), &json!(-32601))
    );
    server.wait_seen("notifications/cancelled");
}

#[test]
fn what_is_asked_of_peers_follows_the_policy() {
    let files = Files::new();
    for isolate in [false, true] {
        let file = files.write("policy.json", &policy(&["*"], &[]));
        let mut setup = Setup::new("tcp")
            .secret()
            .args(&["--permissions-config", &file]);
        if isolate {
            setup = setup.args(&["--isolate"]);
        }
        let server = setup.start();
        let mut peer = server.peer_with(&token(&of("alice", "a1")));
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "test", "version": "1"},
        });
        peer.ask("hello", "initialize", params);
        peer.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let asking = json!({"ask": "elicitation/create"});
        peer.send(&request(1, "ask", asking.clone()));
        let both = [peer.next(), peer.next()];
        assert!(
            both.iter()
                .any(|line| line["method"] == "elicitation/create"),
            "{both:?}"
        );
        files.write("policy.json", &policy(&["*"], &["elicitation/create"]));
        server.reload();
        assert_eq!(peer.ask(2, "ask", asking)["id"], 2);
        server.wait_seen("no connected client can take 'elicitation/create'");
    }
}

/// A client in the middle of its work is told why, and does not come back.
#[test]
fn a_client_whose_token_is_revoked_says_so_and_ends() {
    for transport in BOTH {
        let files = Files::new();
        let file = files.write("revoked", "");
        let server = Setup::new(transport)
            .secret()
            .args(&["--revoked", &file])
            .start();
        let token = token(&of("alice", "a1"));
        let mut client =
            TestClient::start(transport, server.port, &["--auto-reconnect"], Some(&token));
        client.ask(1, "ping", json!({}));
        client.send(&request(2, "slow", json!({"silent": true})));
        server.wait_seen("slow");
        files.write("revoked", "a1");
        server.reload();
        assert_eq!(client.next()["error"]["code"], -32603);
        assert_eq!(client.wait(), Some(1));
        client
            .log
            .wait_for("error: Authentication failed (Token revoked)");
    }
}

/// A session that waits for its client ends, too, and its requests with it.
#[test]
fn a_waiting_session_ends_with_its_token() {
    let files = Files::new();
    let file = files.write("revoked", "");
    let server = Setup::new("tcp")
        .secret()
        .args(&["--revoked", &file])
        .start();
    let mut peer = server.peer_with(&token(&of("alice", "a1")));
    peer.send(
        r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#,
    );
    assert_eq!(peer.next()["method"], "mcp-remote/resumed");
    peer.send(&request(1, "slow", json!({"silent": true})));
    server.wait_seen("slow");
    drop(peer);
    server.log.wait_for("waiting for the client to come back");
    server.reload();
    files.write("revoked", "user:alice");
    server.reload();
    server.log.wait_for("disconnected reason=\"token revoked\"");
    server.wait_seen("notifications/cancelled");
}

/// Somebody who floods its connection is no better off than others.
#[test]
fn a_busy_peer_is_ended_at_once() {
    let files = Files::new();
    let file = files.write("revoked", "");
    let server = Setup::new("tcp")
        .secret()
        .args(&["--revoked", &file])
        .start();
    let mut peer = server.peer_with(&token(&of("alice", "a1")));
    peer.drip(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/flood\"}\n");
    server.wait_seen("flood");
    files.write("revoked", "a1");
    let begin = Instant::now();
    server.reload();
    assert_ended(&mut peer);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn sighup_stops_no_server() {
    let mut server = TestServer::start("tcp");
    server.reload();
    server.assert_serving();
    // Nor one whose terminal is gone, and stderr with it.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = binary();
    command.args(["server", "tcp", "--port", "0", "--", "cat"]);
    command.stderr(writer).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = crate::process::lines_of(child.stdout.take().unwrap());
    let line = lines.recv_timeout(crate::process::PATIENCE).unwrap();
    let port = line.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
    drop((command, reader));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::HUP).unwrap();
    for _ in 0..2 {
        let mut peer = TestPeer::connect("tcp", port);
        peer.send("no message");
        assert_eq!(peer.next()["error"]["code"], -32700);
    }
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_new_token_has_a_name_of_its_own() {
    let make = |args: &[&str]| {
        let mut command = binary();
        command
            .args(["generate-token", "--user", "alice"])
            .args(args);
        run(command.env("MCP_REMOTE_JWT_SECRET", SECRET), b"").stdout
    };
    let text = make(&["--issuer", "us", "--audience", "notes"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines.len()), ("Generated JWT token:", 10));
    let id = lines[7].strip_prefix("- ID: ").expect(&text);
    assert_eq!(lines[8..], ["- Issuer: us", "- Audience: notes"]);
    let inspected = inspect(&[lines[1]], b"");
    assert!(
        inspected.stdout.contains(&format!("- ID: {id}\n")),
        "{inspected:?}"
    );
    assert_ne!(make(&["--quiet"]), make(&["--quiet"]));
}

fn inspect(args: &[&str], stdin: &[u8]) -> Outcome {
    run(binary().arg("inspect-token").args(args), stdin)
}

#[test]
fn a_token_is_shown_without_its_secret() {
    let (hour, day) = (3600, 86_400);
    let token = token(&json!({
        "user": "alice", "roles": ["admin", "user"], "jti": "a1", "iss": "us", "aud": ["x", "y"],
        "iat": now() - 3 * day, "nbf": now() - 3 * hour, "exp": now() + 3 * hour, "team": {"id": 7},
        "note": "\u{1b}[2Jx\n- Roles: root",
    }));
    let shown = inspect(&[&token], b"");
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""));
    for line in [
        "Algorithm: HS256",
        "- User: alice",
        "- Roles: admin, user",
        "- ID: a1",
        "- Issuer: us",
        "- Audience: x, y",
        "- team: {\"id\":7}",
        "- note: \"\\u001b[2Jx\\n- Roles: root\"",
        "Signature: NOT CHECKED, no secret was given; anybody can have written this",
    ] {
        assert!(
            shown.stdout.lines().any(|shown| shown == line),
            "{line}: {shown:?}"
        );
    }
    for (title, end) in [
        ("Issued", "Z (3d ago)"),
        ("Not before", "Z (3h ago)"),
        ("Expires", "Z (in 3h)"),
    ] {
        let found = shown
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("- {title}: 20")));
        assert!(
            found.is_some_and(|line| line.ends_with(end)),
            "{title}: {shown:?}"
        );
    }
    // From wherever it comes.
    let files = Files::new();
    let file = files.write("token", &format!("{token}\n"));
    let padded = format!("  {token}\r\n");
    let in_variable = run(
        binary()
            .arg("inspect-token")
            .env("MCP_REMOTE_JWT_TOKEN", &token),
        b"",
    );
    for outcome in [
        inspect(&[], padded.as_bytes()),
        inspect(&["-"], padded.as_bytes()),
        inspect(&["--jwt-token", &token], b""),
        inspect(&["--jwt-token-file", &file], b""),
        in_variable,
    ] {
        assert_eq!(
            (outcome.code, &outcome.stdout),
            (Some(0), &shown.stdout),
            "{outcome:?}"
        );
    }
    for bad in ["", "x", "a.b.c"] {
        assert_fails(&inspect(&["-"], bad.as_bytes()), 1, "this is no token");
    }
}

#[test]
fn a_token_is_judged_as_the_server_would() {
    let files = Files::new();
    let revoked = files.write("revoked", "a1\nuser:bob");
    let two = files.write("secrets", &format!("{NEW}\n{OLD}\n"));
    let with = |claims: &Value, algorithm| {
        let key = EncodingKey::from_secret(OLD.as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    };
    let plain = |claims: Value| with(&claims, Algorithm::HS256);
    let one = ["--jwt-secret", OLD];
    let unsigned = {
        let token = plain(json!({"user": "alice"}));
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{}.", token.split('.').nth(1).unwrap())
    };
    for (token, args, refusal) in [
        (plain(json!({"user": "alice"})), &one[..], None),
        (
            with(&json!({}), Algorithm::HS512),
            &["--jwt-secret-file", &two],
            None,
        ),
        (
            plain(of("alice", "a2")),
            &["--jwt-secret", OLD, "--revoked", &revoked],
            None,
        ),
        (
            plain(json!({})),
            &["--jwt-secret", NEW],
            Some("none of the secrets given has signed it"),
        ),
        (
            unsigned,
            &one,
            Some("the algorithm is none, not HS256, HS384 or HS512"),
        ),
        (
            plain(json!({"exp": now() - 7200})),
            &one,
            Some("it expired, exp is 20"),
        ),
        (
            plain(json!({"exp": now() - 7200})),
            &one,
            Some("Z (expired 2h ago)"),
        ),
        (plain(json!({"nbf": now() + 7200})), &one, Some("Z (in 2h)")),
        (
            plain(json!({"roles": "admin"})),
            &one,
            Some("claim 'roles' has the wrong type"),
        ),
        (
            plain(json!({})),
            &["--jwt-secret", OLD, "--jwt-issuer", "us"],
            Some("--jwt-issuer"),
        ),
        (
            plain(json!({})),
            &["--jwt-secret", OLD, "--jwt-audience", "us"],
            Some("--jwt-audience"),
        ),
        (
            plain(of("alice", "a1")),
            &["--jwt-secret", OLD, "--revoked", &revoked],
            Some("revoked"),
        ),
        (
            plain(of("bob", "b1")),
            &["--jwt-secret", OLD, "--revoked", &revoked],
            Some("revoked"),
        ),
    ] {
        let outcome = inspect(&[&[token.as_str()], args].concat(), b"");
        let verdict = outcome.stdout.lines().last().unwrap();
        match refusal {
            None => assert_eq!(
                (outcome.code, verdict, outcome.stderr.as_str()),
                (Some(0), "Accepted", "")
            ),
            Some(why) => {
                assert_eq!(outcome.code, Some(1), "{outcome:?}");
                let (out, err) = (verdict.strip_prefix("Refused: "), &outcome.stderr);
                assert!(out.is_some_and(|out| out.contains(why)), "{outcome:?}");
                assert!(
                    err.starts_with("error: the token is refused: ") && err.contains(why),
                    "{err}"
                );
            }
        }
        let all = outcome.stdout + &outcome.stderr;
        assert!(!all.contains(OLD) && !all.contains(NEW), "{all}");
    }
    let broken = files.write("revoked", "x y");
    let outcome = inspect(&["a.b.c", "--jwt-secret", OLD, "--revoked", &broken], b"");
    assert_fails(&outcome, 1, "this is no token");
}

#[test]
fn careless_secrets_earn_one_warning() {
    let good = ["--jwt-secret", SECRET];
    let public = "can be read in 'ps'";
    let short = "a secret is shorter than 256 bits";
    let told = |setup: Setup| {
        let server = setup.start();
        server.reload();
        let log = server.stop();
        [public, short].map(|text| log.matches(text).count())
    };
    let new = || Setup::new("tcp");
    let variable = |secret: &str| new().env("MCP_REMOTE_JWT_SECRET", secret);
    assert_eq!(told(new().args(&good)), [1, 0]);
    assert_eq!(
        told(new().args(&["--jwt-secret", "x", "--jwt-secret", "y"])),
        [1, 1]
    );
    assert_eq!(told(variable("hunter2")), [0, 1]);
    let made = |bits| {
        let outcome = run(binary().args(["generate-secret", "--bits", bits]), b"");
        outcome.stdout.trim_end().to_owned()
    };
    for (bits, warnings) in [("128", 1), ("256", 0), ("512", 0)] {
        assert_eq!(told(variable(&made(bits))), [0, warnings], "{bits}");
    }
    let server = Setup::new("tcp").secret().start();
    let token = token(&of("alice", "a1"));
    let mut client = TestClient::start("tcp", server.port, &["--jwt-token", &token], None);
    client.ask(1, "ping", json!({}));
    client.log.wait_for("--jwt-token can be read in 'ps'");
}

#[test]
fn a_token_in_a_url_is_refused() {
    let server = Setup::new("ws").secret().env("RUST_LOG", "trace").start();
    let token = token(&of("alice", "a1"));
    for query in ["token=", "a=b&access_token=", "jwt=", "Token="] {
        let mut peer = TestPeer::connect("tcp", server.port);
        peer.raw(
            format!(
                "GET /notes?{query}{token} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        );
        assert_eq!(
            peer.next_line().as_deref(),
            Some("HTTP/1.1 400 Bad Request\r"),
            "{query}"
        );
    }
    let log = server.stop();
    assert_eq!(log.matches("a token in the URL").count(), 4, "{log}");
    assert!(
        !log.contains(&token) && !log.contains(&token[..40]),
        "{log}"
    );
    for url in [
        "ws://x:secret@localhost:1/",
        "ws://localhost:1/?token=secret",
    ] {
        let outcome = run(binary().args(["client", "ws", "--url", url]), b"");
        assert_fails(&outcome, 2, "MCP_REMOTE_JWT_TOKEN");
        assert!(
            !outcome.stderr.contains("secret@") && !outcome.stderr.contains("=secret"),
            "{outcome:?}"
        );
    }
}
