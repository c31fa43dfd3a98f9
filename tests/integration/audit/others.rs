//! Sessions and tasks of other users, and sessions across several connections.

use super::*;
use crate::support::http::{Http, modern, with};

#[test]
fn a_session_is_named_over_all_its_connections() {
    let audit = Audit::new();
    for flags in [&[][..], &["--isolate"]] {
        let server = Setup::new("tcp")
            .secret()
            .args(flags)
            .args(&["--audit-log", &audit.flag("log"), "--audit-allowed"])
            .start();
        let resume = |session: &Value, received: u64| {
            let mut peer = server.peer_with(&token_with(&["user"]));
            let params = json!({"session": session, "received": received});
            let line = json!({"jsonrpc": "2.0", "method": "mcp-remote/resume", "params": params});
            peer.send(&line.to_string());
            let answer = peer.next()["params"].clone();
            peer.ask(received, "ping", json!({}));
            (peer, answer)
        };
        let (first, began) = resume(&Value::Null, 0);
        let (second, resumed) = resume(&began["session"], 1);
        assert_eq!(resumed["resumed"], true);
        drop(first);
        drop(second);
        server.stop();
        let key = began["session"].as_str().unwrap();
        let text = std::fs::read_to_string(audit.path("log")).unwrap();
        assert!(!text.contains(key), "the whole key: {text}");
        let lines = audit.lines("log");
        let find = |connection: u64, event: &str| {
            let same = |line: &&Value| line["connection"] == connection && line["event"] == event;
            lines
                .iter()
                .find(same)
                .unwrap_or_else(|| panic!("{event} of {connection}: {text}"))
        };
        for connection in [1, 2] {
            assert_eq!(find(connection, "allow")["session"], key[..8]);
            assert!(find(connection, "connect")["session"].is_null());
        }
        assert_eq!(
            find(1, "disconnect")["reason"],
            "its session goes on over another connection"
        );
        std::fs::remove_file(audit.path("log")).unwrap();
    }
}

/// A peer with another user's key got a new session, and it went unnoticed.
#[test]
fn who_asks_for_the_session_of_another_is_on_record() {
    let belongs = "the session that it names belongs to another user, other roles, other claims or another client certificate";
    for (transport, flags) in WAYS {
        let audit = Audit::new();
        let server = Setup::new(transport)
            .secret()
            .args(flags)
            .args(&["--audit-log", &audit.flag("log")])
            .start();
        let of = |user: &str, role: &str| {
            token(&json!({"user": user, "roles": [role], "exp": now() + 3600}))
        };
        let mut alice = server.peer_with(&of("alice", "user"));
        let session = alice.resume(&Value::Null, 0)["params"]["session"].clone();
        alice.ask(1, "ping", json!({}));
        // A key that belongs to no session is not reported.
        let mut lost = server.peer_with(&of("bob", "user"));
        let unknown = json!("0123456789abcdef0123456789abcdef");
        assert_eq!(lost.resume(&unknown, 0)["params"]["resumed"], false);
        lost.ask(1, "ping", json!({}));
        for (at, (user, role)) in [("bob", "user"), ("alice", "admin")]
            .into_iter()
            .enumerate()
        {
            let mut thief = server.peer_with(&of(user, role));
            let answer = thief.resume(&session, 1);
            assert_eq!(answer["params"]["resumed"], false, "{answer}");
            assert_ne!(answer["params"]["session"], session);
            let refused = eventually("it is on record", || {
                let lines = audit.lines("log");
                let mut refused = lines.into_iter().filter(|line| line["event"] == "refuse");
                refused.nth(at)
            });
            for (key, value) in [
                ("reason", json!(belongs)),
                ("user", json!(user)),
                ("roles", json!([role])),
                ("verdict", json!("refused")),
            ] {
                assert_eq!(refused[key], value, "{refused}");
            }
        }
        // It is still alice's.
        let mut back = server.peer_with(&of("alice", "user"));
        assert_eq!(back.resume(&session, 1)["params"]["resumed"], true);
        let log = server.stop();
        let key = session.as_str().unwrap();
        assert!(!log.contains(key), "the whole key: {log}");
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains(belongs)).collect();
        assert_eq!(warnings.len(), 2, "{log}");
        assert!(
            warnings[0].contains("WARN") && warnings[0].contains("user=\"bob\""),
            "{log}"
        );
        assert!(warnings[0].contains(&key[..8]), "{log}");
        assert_eq!(
            audit
                .lines("log")
                .iter()
                .filter(|line| line["event"] == "refuse")
                .count(),
            2
        );
    }
}

/// Bug: what was refused over HTTP for its headers or its length was on no record.
#[test]
fn what_is_refused_over_http_is_on_record() {
    let audit = Audit::new();
    let server = Setup::new("http")
        .secret()
        .args(&["--audit-log", &audit.flag("log")])
        .args(&["--max-message-size", "64KiB"])
        .start();
    let bearer = format!("Bearer {}", token_with(&["user"]));
    let (mut headers, body) = modern(7, "tools/call", json!({"name": "t"}));
    headers.push(("Authorization".to_owned(), bearer));
    let post = |name: &str, body: &str| {
        let headers = with(&headers, "Mcp-Name", name);
        Http::connect(server.port).post(&headers, body).status()
    };
    assert_eq!(post("other", &body), 400);
    let mismatch = "Header mismatch: Mcp-Name is not the name in the message";
    let too_long = "longer than --max-message-size";
    assert_eq!(post("t", &" ".repeat(100_000)), 413);
    for (at, reason, of_message) in [(0, mismatch, true), (1, too_long, false)] {
        let refused = eventually("it is on record", || {
            let lines = audit.lines("log");
            let mut refused = lines.into_iter().filter(|line| line["event"] == "refuse");
            refused.nth(at)
        });
        assert_documented(&refused);
        let given = |value: Value| if of_message { value } else { Value::Null };
        for (key, value) in [
            ("reason", json!(reason)),
            ("roles", json!(["user"])),
            ("kind", given(json!("request"))),
            ("method", given(json!("tools/call"))),
            ("tool", given(json!("t"))),
            ("id", given(json!(7))),
        ] {
            assert_eq!(refused[key], value, "{refused}");
        }
    }
    let log = server.stop();
    assert!(log.contains(mismatch) && log.contains(too_long), "{log}");
}

/// Others' tasks look nonexistent, and attempts to read them went unnoticed.
#[test]
fn who_names_the_task_of_another_is_on_record() {
    for transport in BOTH {
        let audit = Audit::new();
        let server = Setup::new(transport)
            .secret()
            .args(&["--audit-log", &audit.flag("log")])
            .start();
        let login = |user: &str| {
            let mut peer = server.peer_with(&token(&json!({"user": user, "exp": now() + 3600})));
            peer.initialize();
            peer
        };
        let (mut alice, mut bob) = (login("alice"), login("bob"));
        let made = r#"{"task":{"taskId":"of-alice","status":"working"}}"#;
        alice.ask(1, "tools/call", json!({"raw": made}));
        let unknown = bob.ask(2, "tasks/get", json!({"taskId": "of-nobody"}));
        let mut about = bob.ask(3, "tasks/get", json!({"taskId": "of-alice"}));
        about["id"] = json!(2);
        assert_eq!(about, unknown);
        let related =
            json!({"_meta": {"io.modelcontextprotocol/related-task": {"taskId": "of-alice"}}});
        assert_eq!(bob.ask(4, "tools/call", related)["error"]["code"], -32602);
        // A flood of them does not fill the log.
        for id in 5..60 {
            bob.ask(id, "tasks/cancel", json!({"taskId": "of-alice"}));
        }
        drop(bob);
        assert!(alice.ask(5, "tasks/get", json!({"taskId": "of-alice"}))["result"].is_object());
        let log = server.stop();
        let reason = "the task that it names belongs to another user";
        let refused: Vec<Value> = audit
            .lines("log")
            .into_iter()
            .filter(|line| line["event"] == "refuse" && line["reason"] == reason)
            .collect();
        for (at, id, method) in [(0, 3, "tasks/get"), (1, 4, "tools/call")] {
            let line = &refused[at];
            assert_eq!(
                (&line["user"], &line["id"], &line["method"]),
                (&json!("bob"), &json!(id), &json!(method)),
                "{line}"
            );
        }
        assert!(log.contains("WARN") && log.contains(reason), "{log}");
        let told = log.matches(reason).count();
        assert!((2..20).contains(&told), "{log}");
        // All are counted: those reported, and the rest in separate lines.
        let count = |line: &Value| line["count"].as_u64().unwrap_or(1);
        assert_eq!(refused.iter().map(count).sum::<u64>(), 57, "{refused:?}");
    }
}

/// A message that has been let pass and waits for its turn is refused when a reloaded policy forbids it: without this
/// line the log said that it had passed.
#[test]
fn what_a_reload_refuses_is_on_record() {
    for transport in BOTH {
        let audit = Audit::new();
        let policy = |blocked: &str| {
            let rules = json!({"allowedMethods": ["*"], "blockedTools": [blocked]});
            let policy = json!({"permissions": {"user": rules}});
            std::fs::write(audit.path("policy.json"), policy.to_string()).unwrap();
        };
        policy("nothing");
        let server = Setup::new(transport)
            .secret()
            .args(&["--permissions-config", &audit.flag("policy.json")])
            .args(&["--audit-log", &audit.flag("log"), "--audit-allowed"])
            .args(&["--max-in-flight", "1"])
            .start();
        let mut peer = server.peer_with(&token_with(&["user"]));
        peer.initialize();
        let silent = json!({"name": "x", "silent": true});
        peer.send(&request(1, "tools/call", silent));
        server.wait_seen("silent");
        peer.send(&request(2, "tools/call", json!({"name": "rm"})));
        let of_rm = |event: &str| {
            eventually(&format!("{event} of rm"), || {
                let lines = audit.lines("log");
                let is_it = |line: &Value| line["event"] == event && line["tool"] == "rm";
                lines.into_iter().find(is_it)
            })
        };
        let let_pass = of_rm("allow");
        policy("rm");
        server.reload();
        let refused = peer.next();
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&json!(2), &json!(-32601))
        );
        let blocked = of_rm("block");
        for key in ["connection", "user", "method", "id"] {
            assert_eq!(blocked[key], let_pass[key], "{key}");
        }
        assert_eq!(blocked["rule"], "role 'user', blockedTools 'rm' (line 1)");
        assert!(!server.seen().contains("\"rm\""));
    }
}
