//! Which peers are accepted, the errors for the others, and that secrets stay secret.

mod logs;

pub use logs::{assert_unseen, talk_of};

use crate::client::free_port;
use crate::common::{BOTH, SECRET, Setup, TestClient, TestServer, now, token, token_with};
use crate::common::{client_command, request};
use crate::process::{assert_fails, binary, run};
use crate::wire::{CLOSE, TEXT, TestPeer};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn guarded(transport: &'static str) -> TestServer {
    Setup::new(transport).secret().start()
}

const ALICE: &str = r#"{"jsonrpc":"2.0","result":{"authenticated":true,"user":"alice","roles":["user"],"resume":true}}"#;

#[test]
fn the_answer_to_a_token_is_one_line() {
    for transport in BOTH {
        let server = guarded(transport);
        for (claims, answer) in [
            (json!({"user": "alice", "roles": ["user"]}), ALICE),
            (json!({"sub": "alice", "roles": ["user"]}), ALICE),
            (
                json!({}),
                r#"{"jsonrpc":"2.0","result":{"authenticated":true,"roles":[],"resume":true}}"#,
            ),
        ] {
            let mut peer = server.peer();
            peer.send(&token(&claims));
            assert_eq!(peer.next_line().as_deref(), Some(answer));
            assert_eq!(peer.ask(0, "ping", json!({}))["id"], 0);
        }
    }
}

#[test]
fn three_algorithms_are_taken() {
    let server = guarded("tcp");
    let key = EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
    let claims = json!({"user": "alice", "roles": ["user"]});
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key);
        server.peer_with(&token.unwrap());
    }
}

#[test]
fn a_token_may_come_with_the_first_message_in_one_segment() {
    for transport in BOTH {
        let server = guarded(transport);
        let text = format!(
            "{}\n{}\n",
            token_with(&["user"]),
            request(0, "first", json!({}))
        );
        let mut peer = server.peer();
        match transport {
            "tcp" => peer.raw(text.as_bytes()),
            _ => peer.frame(TEXT, text.as_bytes()),
        }
        assert_eq!(peer.next_line().as_deref(), Some(ALICE));
        assert_eq!(peer.next()["result"]["method"], "first");
    }
}

#[test]
fn a_token_may_come_in_pieces_and_with_white_space() {
    let server = guarded("tcp");
    let token = token_with(&["user"]);
    let mut peer = server.peer();
    for byte in token.bytes() {
        peer.raw(&[byte]);
    }
    peer.raw(b"\r\n");
    assert_eq!(peer.next_line().as_deref(), Some(ALICE));
    for text in [
        format!("{token}\r\n"),
        format!("  {token}\t\n"),
        format!("{token}\n\n\n"),
    ] {
        let mut peer = server.peer();
        peer.raw(text.as_bytes());
        assert_eq!(peer.next_line().as_deref(), Some(ALICE), "{text:?}");
        assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
    }
    let server = guarded("ws");
    for text in [token.clone(), format!(" {token}\r\n")] {
        let mut peer = server.peer();
        peer.frame(TEXT, text.as_bytes());
        assert_eq!(peer.next_line().as_deref(), Some(ALICE), "{text:?}");
    }
    // One message in two fragments.
    let (head, tail) = token.split_at(20);
    let mut peer = server.peer();
    peer.fragment(TEXT, head.as_bytes());
    peer.fragment(0x80, tail.as_bytes());
    assert_eq!(peer.next_line().as_deref(), Some(ALICE));
}

#[test]
fn a_bearer_token_in_the_upgrade_request_needs_no_answer() {
    let server = guarded("ws");
    for scheme in ["Bearer", "bearer"] {
        let header = format!("Authorization: {scheme} {}\r\n", token_with(&["user"]));
        let (head, mut peer) = TestPeer::upgrade(server.port, &header);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(peer.ask(0, "ping", json!({}))["id"], 0);
    }
    let (_, mut peer) = TestPeer::upgrade(server.port, "Authorization: Bearer nonsense\r\n");
    let answer = peer.next();
    assert_eq!(
        answer["error"]["data"]["reason"], "Invalid token",
        "{answer}"
    );
    peer.assert_closed();
    // Another scheme is not ours: the token comes as the first frame.
    let (_, mut peer) = TestPeer::upgrade(server.port, "Authorization: Basic eDp5\r\n");
    assert_eq!(
        peer.login(&token_with(&[]))["result"]["authenticated"],
        true
    );
}

#[test]
fn one_of_the_required_roles_is_needed() {
    for transport in BOTH {
        let setup = Setup::new(transport).secret();
        let server = setup.args(&["--require-roles", "admin, user"]).start();
        server.assert_serving_with(&token_with(&["x", "user"]));
        let mut peer = server.peer();
        peer.send(&token_with(&["guest", "x"]));
        let says = r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Insufficient roles","data":{"required":["admin","user"],"provided":["guest","x"]}}}"#;
        assert_eq!(peer.next_line().as_deref(), Some(says));
        peer.assert_closed();
        let answer = server.peer().login(&token(&json!({"user": "bob"})));
        assert_eq!(answer["error"]["data"]["provided"], json!([]));
    }
}

#[test]
fn a_token_that_expires_ends_the_connection() {
    for transport in BOTH {
        let server = guarded(transport);
        let begin = Instant::now();
        let mut peer = server.peer_with(&token(&json!({"user": "alice", "exp": now() + 2})));
        assert_eq!(peer.ask(0, "ping", json!({}))["id"], 0);
        let says = r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Authentication failed","data":{"reason":"Token expired"}}}"#;
        assert_eq!(peer.next_line().as_deref(), Some(says));
        peer.assert_closed();
        assert!(begin.elapsed() < Duration::from_secs(4));
        server.log.wait_for("token expired");
        server.assert_serving_with(&token_with(&[]));
    }
}

/// The host's requests get an error, and reconnecting is pointless.
#[test]
fn a_client_whose_token_expires_says_so_and_ends() {
    for transport in BOTH {
        let server = guarded(transport);
        let token = token(&json!({"user": "alice", "exp": now() + 2}));
        let mut client =
            TestClient::start(transport, server.port, &["--auto-reconnect"], Some(&token));
        client.ask(1, "ping", json!({}));
        let answer = client.ask(2, "slow", json!({"silent": true}));
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(2), &json!(-32603))
        );
        assert_eq!(client.wait(), Some(1));
        client
            .log
            .wait_for("error: Authentication failed (Token expired)");
    }
}

#[test]
fn a_client_that_is_refused_says_why() {
    let port = |server: &TestServer| server.port;
    let server = Setup::new("tcp")
        .secret()
        .args(&["--require-roles", "admin"])
        .start();
    for (token, says) in [
        (
            Some("nonsense"),
            "error: Authentication failed (Invalid token); get a token for this server: its secret",
        ),
        (
            Some(&*token_with(&["user"])),
            "error: Insufficient roles (one of the roles admin is required); use a token with one of these roles\n",
        ),
        // Its first message is taken for the token.
        (
            None,
            "error: Authentication failed: the server wants a token",
        ),
    ] {
        let mut command = client_command("tcp", port(&server));
        command
            .arg("--auto-reconnect")
            .envs(token.map(|token| ("MCP_REMOTE_JWT_TOKEN", token)));
        let outcome = run(&mut command, request(0, "ping", json!({})).as_bytes());
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(says), "{outcome:?}");
        // Whether the request had been read by then depends on timing.
        let owed = outcome.stdout.lines().next().unwrap_or(r#"{"id":0}"#);
        let answer: Value = serde_json::from_str(owed).unwrap();
        assert_eq!(answer["id"], 0);
    }
    let open = TestServer::start("tcp");
    let mut command = client_command("tcp", port(&open));
    let outcome = run(command.env("MCP_REMOTE_JWT_TOKEN", "unasked"), b"");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    // Bug: the user was told to check the token's expiry and roles.
    let says = "has no secret and takes no token";
    assert!(outcome.stderr.contains(says), "{outcome:?}");
    assert!(
        outcome.stderr.ends_with("leave the token out\n"),
        "{outcome:?}"
    );
}

/// Bug: all of these were "Invalid token", after a connection, and the server's log said no more.
#[test]
fn what_is_no_token_is_named_before_anybody_is_asked() {
    let good = token_with(&["user"]);
    let expired = token(&json!({"user": "alice", "exp": now() - 3 * 3600}));
    // No listener there.
    let port = free_port();
    for (token, says) in [
        (
            format!("Bearer {good}"),
            "the token begins with 'Bearer'; remove that word",
        ),
        (format!("\"{good}\""), "the token has quotes around it"),
        (format!("'{good}'\n"), "the token has quotes around it"),
        ("${MCP_TOKEN}".to_owned(), "the name of a variable"),
        ("Bearer $TOKEN".to_owned(), "the name of a variable"),
        (format!("Generated JWT token:\n{good}"), "white space"),
        (expired, "the token expired 3h ago; get a new one"),
    ] {
        let mut command = client_command("tcp", port);
        command
            .arg("--auto-reconnect")
            .env("MCP_REMOTE_JWT_TOKEN", &token);
        let outcome = run(&mut command, request(7, "ping", json!({})).as_bytes());
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("error: the token "), "{outcome:?}");
        assert!(outcome.stderr.contains(says), "{outcome:?}");
        let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(
            (&answer["id"], &answer["error"]["data"]["executed"]),
            (&json!(7), &json!("no"))
        );
    }
    // Peers other than our client: only the log gets the reason.
    let server = guarded("tcp");
    let answer = server.peer().login(&format!("Bearer {good}"));
    assert_eq!(answer["error"]["data"], json!({"reason": "Invalid token"}));
    server.log.wait_for("the token begins with 'Bearer'");
    // Expired by our clock, but the server's may be behind.
    let skewed = token(&json!({"user": "alice", "exp": now() - 1}));
    let mut command = client_command("tcp", server.port);
    let outcome = run(command.env("MCP_REMOTE_JWT_TOKEN", skewed), b"");
    assert!(outcome.stderr.contains("Invalid token"), "{outcome:?}");
}

#[test]
fn a_secret_comes_from_flag_file_or_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (file, other) = (
        path("secret", &format!("{SECRET}\n")),
        path("other", "other"),
    );
    let new = || Setup::new("tcp");
    for setup in [
        new().args(&["--jwt-secret", SECRET]),
        new()
            .args(&["--jwt-secret", SECRET])
            .env("MCP_REMOTE_JWT_SECRET", "other"),
        new().args(&["--jwt-secret-file", &file]),
        new()
            .args(&["--jwt-secret-file", &file])
            .env("MCP_REMOTE_JWT_SECRET", "other"),
        new().env("MCP_REMOTE_JWT_SECRET", SECRET),
        new()
            .env("MCP_REMOTE_JWT_SECRET", SECRET)
            .env("MCP_REMOTE_JWT_SECRET_FILE", &other),
        new().env("MCP_REMOTE_JWT_SECRET_FILE", &file),
    ] {
        setup.start().assert_serving_with(&token_with(&[]));
    }
    let server = guarded("tcp");
    let token_file = path("token", &format!("{}\n", token_with(&[])));
    let args = ["--jwt-token-file", token_file.as_str()];
    let mut client = TestClient::start("tcp", server.port, &args, None);
    assert_eq!(client.ask(0, "ping", json!({}))["id"], 0);
    let signing = [
        &["generate-token", "--quiet", "--jwt-secret-file"][..],
        &[&file],
    ]
    .concat();
    let made = run(binary().args(signing), b"").stdout;
    server.assert_serving_with(made.trim_end());
}

/// A variable that cannot be read must not mean that anyone is accepted.
#[test]
#[cfg(unix)]
fn a_secret_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe\xfd");
    let mut command = binary();
    command
        .args(["server", "tcp", "--port", "0", "--", "cat"])
        .env("MCP_REMOTE_JWT_SECRET", odd);
    assert_fails(&run(&mut command, b""), 1, "MCP_REMOTE_JWT_SECRET");
}
