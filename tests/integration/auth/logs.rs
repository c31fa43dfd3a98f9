//! What logs contain, and what they keep secret.

use super::*;

/// Sends everything that must not be seen in a log, in all the places where it can occur.
pub fn talk_of(content: &str, ask: &mut dyn FnMut(&str)) {
    for line in [
        request(
            1,
            "tools/call",
            json!({"name": "x", "arguments": {"key": content}}),
        ),
        request(
            2,
            "tools/call",
            json!({"name": content, content: [content]}),
        ),
        request(
            3,
            "resources/read",
            json!({"uri": format!("file:///{content}")}),
        ),
        request(
            4,
            "resources/subscribe",
            json!({"uri": format!("file:///{content}")}),
        ),
        request(5, "logging/setLevel", json!({"level": content})),
        request(6, "tasks/get", json!({"taskId": content})),
        request(
            7,
            "x",
            json!({"print": format!("{{\"{content}\": {content}}}\n")}),
        ),
        request(8, "x", json!({"print": format!("no JSON but {content}\n")})),
        // None of this is accepted.
        format!(r#"{{"jsonrpc":"2.0","id":9,"method":"x","params":{{"{content}":{content}}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":10,"method":"x","params":"{content}"}}"#),
        format!("[\"{content}\"]"),
        content.to_owned(),
        request(11, "ping", json!({"_meta": {"progressToken": content}})),
    ] {
        ask(&line);
    }
}

/// None of this is in the log, nor a large part of it, nor its bytes as digits.
/// Except the beginning of a line from the MCP server that is not one message, at debug.
pub fn assert_unseen(log: &str, secrets: &[&str]) {
    let is_excerpt = |line: &&str| line.contains("DEBUG") && line.contains("is not one message");
    let lines = log.lines().filter(|line| !is_excerpt(line));
    let log = lines.collect::<Vec<_>>().join("\n");
    for secret in secrets {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let decimal = format!("{:?}", &secret.as_bytes()[..8]);
        let decimal = decimal.trim_matches(['[', ']']);
        let base64 = URL_SAFE_NO_PAD.encode(&secret.as_bytes()[..9]);
        for form in [*secret, &secret[..secret.len() / 2], &hex, decimal, &base64] {
            assert!(!log.contains(form), "{form} is in the log:\n{log}");
        }
    }
}

/// Whatever is logged, tokens, secrets and contents are not: at any level, by any library.
#[test]
fn nothing_secret_is_ever_logged() {
    let wrong = jsonwebtoken::encode(
        &Header::default(),
        &json!({"user": "mallory"}),
        &EncodingKey::from_secret(b"another secret").unwrap(),
    );
    let (good, wrong) = (token_with(&["user"]), wrong.unwrap());
    let content = "what-alice-asks-for";
    let policy = json!({"permissions": {"user": {
        "allowedMethods": ["*"], "blockedMethods": ["resources/read"]
    }}});
    for transport in BOTH {
        let server = Setup::new(transport)
            .policy(&policy)
            .env("RUST_LOG", "trace")
            .start();
        let mut client = TestClient::start_with(transport, server.port, |command| {
            command
                .env("MCP_REMOTE_JWT_TOKEN", &good)
                .env("RUST_LOG", "trace");
        });
        client.ask(1, "tools/call", json!({"key": content}));
        talk_of(content, &mut |line| client.send(line));
        let mut peer = server.peer_with(&good);
        talk_of(content, &mut |line| {
            peer.send(line);
            assert!(peer.next_line().is_some(), "{line}");
        });
        let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": content, "reason": content}});
        peer.send(&cancelled.to_string());
        peer.ask("last", "ping", json!({}));
        if transport == "ws" {
            peer.frame(
                CLOSE,
                &[&1000_u16.to_be_bytes()[..], content.as_bytes()].concat(),
            );
        }
        server.peer().login(&wrong);
        server.peer().login("garbage-that-is-no-token");
        if transport == "ws" {
            for token in [&good, &wrong] {
                let header = format!("Authorization: Bearer {token}\r\nX-Key: {content}\r\n");
                TestPeer::upgrade(server.port, &header).1.send("{}");
            }
        }
        client.close_stdin();
        while client.wait_line().is_some() {}
        client.wait();
        let log = server.stop() + &client.log.to_the_end();
        for said in ["authenticated", "refused", "blocked", "dropped a line"] {
            assert!(log.contains(said), "{said}: {log}");
        }
        assert_unseen(
            &log,
            &[SECRET, &good, &wrong, "garbage-that-is-no-token", content],
        );
    }
}

/// Bug: names and ids with spaces and quotes looked like further fields of a line.
#[test]
fn no_value_passes_for_another_field() {
    let forged = "x\" user=\"root\" roles=\"admin";
    for transport in BOTH {
        let server = Setup::new(transport)
            .secret()
            .args(&["--require-roles", "user"])
            .env("RUST_LOG", "debug")
            .start();
        let poor = token(&json!({"user": forged, "exp": now() + 3600}));
        server.peer().login(&poor);
        server.log.wait_for("none of the required roles");
        let mut peer = server.peer_with(&token_with(&["user"]));
        peer.ask(forged, "ping", json!({}));
        server.log.wait_for("passed on");
        if transport == "ws" {
            TestPeer::upgrade(server.port, &format!("Origin: {forged}\r\n"));
            server.log.wait_for("is not allowed");
        }
        let log = server.stop();
        assert!(log.contains(r#"user=\"root\""#), "{log}");
        assert!(!log.contains(r#" user="root""#), "{log}");
    }
}

#[test]
fn logs_can_be_json() {
    for transport in BOTH {
        let setup = Setup::new(transport)
            .secret()
            .shell("echo a plain line >&2");
        let server = setup
            .args(&["--log-format", "json"])
            .env("DEBUG", "true")
            .start();
        server.assert_serving_with(&token_with(&["user"]));
        server.peer().login("garbage");
        let log = server.stop();
        let lines: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        let find = |message: &str| {
            lines
                .iter()
                .find(|line| line["message"] == message)
                .expect(message)
        };
        assert_eq!(find("authenticated")["span"]["user"], "alice");
        assert_eq!(find("refused")["level"], "WARN");
        assert_eq!(find("a plain line")["target"], "child");
    }
}

#[test]
fn debug_and_rust_log_show_more_and_less() {
    let told = |setup: Setup| {
        let server = setup.start();
        let mut peer = server.peer();
        peer.send(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        peer.ask(1, "ping", json!({}));
        drop(peer);
        let log = server.stop();
        (log.contains(" INFO "), log.contains("DEBUG"))
    };
    let new = || Setup::new("tcp");
    assert_eq!(told(new()), (true, false));
    assert_eq!(told(new().env("DEBUG", "true")), (true, true));
    assert_eq!(told(new().env("RUST_LOG", "debug")), (true, true));
    assert_eq!(told(new().env("RUST_LOG", "error")), (false, false));
}
