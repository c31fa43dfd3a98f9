//! One message in, at most one message out, and the child sees only what the gate wrote.

use crate::common::{BOTH, Setup, TestServer, request, token_with};
use crate::wire::TestPeer;
use serde_json::{Value, json};

/// What the child received for this line of a peer, with its own id in place of `ID`.
fn passed_on(server: &TestServer, peer: &mut TestPeer, line: &str, marker: &str) -> String {
    peer.send(line);
    let seen = server.wait_seen(marker);
    let message: Value = serde_json::from_str(&seen).unwrap();
    match &message["id"] {
        Value::Null => seen,
        id => seen.replacen(&format!(r#""id":{id},"#), r#""id":ID,"#, 1),
    }
}

#[test]
fn the_child_gets_what_the_gate_wrote() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    let cases = [
        // White space and the order of members are the gate's own.
        (
            " { \"method\" : \"m1\" ,\t\"id\" : 1 , \"jsonrpc\":\"2.0\" } \r",
            "{\"jsonrpc\":\"2.0\",\"id\":ID,\"method\":\"m1\"}\n",
        ),
        // Unknown members are dropped.
        (
            r#"{"jsonrpc":"2.0","extra":{"method":"x"},"id":2,"method":"m2","params":{}}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":ID,\"method\":\"m2\",\"params\":{}}\n",
        ),
        // The payload is copied: order, numbers and escapes unchanged.
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"m3","params":{"b":1.10,"a":1.0E+2,"b":"\u0041\/","c":12345678901234567890}}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":ID,\"method\":\"m3\",\"params\":{\"b\":1.10,\"a\":1.0E+2,\"b\":\"\\u0041\\/\",\"c\":12345678901234567890}}\n",
        ),
        // Nothing in it ends a line for any reader.
        (
            "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"m4\",\"params\":{\r\"a\":\t\"\u{85}\u{2028}\u{2029}\u{20ac}\"}}",
            "{\"jsonrpc\":\"2.0\",\"id\":ID,\"method\":\"m4\",\"params\":{ \"a\": \"\\u0085\\u2028\\u2029\u{20ac}\"}}\n",
        ),
        // Escapes in names and in the method are decoded.
        (
            r#"{"jsonrpc":"2.0","\u0069d":5,"method":"m\u0035"}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":ID,\"method\":\"m5\"}\n",
        ),
        (
            r#"{"jsonrpc":"2.0","method":"m6","params":[1, "two"]}"#,
            "{\"jsonrpc\":\"2.0\",\"method\":\"m6\",\"params\":[1, \"two\"]}\n",
        ),
    ];
    for (at, (line, seen)) in cases.iter().enumerate() {
        let marker = format!("\"m{}\"", at + 1);
        assert_eq!(
            &passed_on(&server, &mut peer, line, &marker),
            seen,
            "{line}"
        );
    }
}

#[test]
fn what_is_no_message_is_refused_with_its_id() {
    const NULL: Option<&str> = None;
    let huge = format!(
        r#"{{"jsonrpc":"2.0","id":"{}","method":"x"}}"#,
        "i".repeat(2000)
    );
    let cases = [
        ("nonsense", -32700, NULL),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x"} {}"#,
            -32700,
            Some("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":NaN}}"#,
            -32700,
            Some("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":'b'}}"#,
            -32700,
            Some("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x",}"#,
            -32700,
            Some("1"),
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\u{1}\"}",
            -32700,
            Some("1"),
        ),
        (
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}",
            -32700,
            Some("1"),
        ),
        ("1", -32600, NULL),
        ("null", -32600, NULL),
        ("{}", -32600, NULL),
        ("[]", -32600, NULL),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#, -32600, NULL),
        (r#"{"id":0,"method":"x"}"#, -32600, Some("0")),
        (
            r#"{"jsonrpc":"1.0","id":"","method":"x"}"#,
            -32600,
            Some("\"\""),
        ),
        (
            r#"{"jsonrpc":2.0,"id":-1,"method":"x"}"#,
            -32600,
            Some("-1"),
        ),
        (r#"{"jsonrpc":"2.0","id":"0"}"#, -32600, Some("\"0\"")),
        (
            r#"{"jsonrpc":"2.0","id":9007199254740991,"method":1}"#,
            -32600,
            Some("9007199254740991"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":"é\"\u0000","method":null}"#,
            -32600,
            Some(r#""é\"\u0000""#),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":1}"#,
            -32600,
            Some("1"),
        ),
        (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, -32600, NULL),
        (r#"{"jsonrpc":"2.0","id":true,"method":"x"}"#, -32600, NULL),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"x"}"#, -32600, NULL),
        (&huge, -32600, NULL),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
            -32600,
            NULL,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"ID":2,"method":"x"}"#,
            -32600,
            NULL,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","method":"y"}"#,
            -32600,
            Some("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","m\u0065thod":"y"}"#,
            -32600,
            Some("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","Method":"y"}"#,
            -32600,
            Some("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","param\u017f":{}}"#,
            -32600,
            Some("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#,
            -32600,
            NULL,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
            -32600,
            Some("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#,
            -32600,
            Some("1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":1.5}}}"#,
            -32600,
            Some("1"),
        ),
    ];
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    peer.begin();
    for (line, code, id) in cases {
        peer.send(line);
        let answer = peer.next_line().unwrap();
        let id = id.unwrap_or("null");
        let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":""#);
        assert!(answer.starts_with(&head), "{line}: {answer}");
    }
    peer.ask("last", "ping", json!({}));
    // The child has seen the handshake and the ping, and none of the above.
    let seen = server.seen();
    let methods: Vec<Value> = seen
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["method"].take())
        .collect();
    assert_eq!(methods, ["initialize", "notifications/initialized", "ping"]);
}

#[test]
fn answers_that_nobody_asked_for_go_nowhere() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut peer = server.peer();
        peer.ask(0, "ping", json!({}));
        for id in ["1", "2", "0", "\"asked\"", "null"] {
            peer.send(
                &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"forged":true}}}}"#)
                    .replace("null", "3"),
            );
            peer.send(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"forged"}}}}"#
            ));
        }
        peer.ask(1, "ping", json!({}));
        assert!(!server.seen().contains("forged"));
    }
}

fn policy() -> Value {
    json!({"permissions": {
        "reader": {"allowedMethods": ["initialize", "tools/list", "resources/*"], "blockedMethods": ["resources/write"]},
        "caller": {"allowedMethods": ["initialize", "tools/*"]},
        "tame": {"allowedMethods": ["initialize"], "blockedMethods": ["tools/call"]},
        "admin": {"allowedMethods": ["*"], "blockedMethods": []},
    }})
}

#[test]
fn a_denial_carries_the_exact_id() {
    for transport in BOTH {
        let server = Setup::new(transport).policy(&policy()).start();
        let mut peer = server.peer_with(&token_with(&["reader"]));
        for id in [
            "0",
            "\"\"",
            "\"0\"",
            "-7",
            "9007199254740991",
            "\"é☃\"",
            "1",
        ] {
            peer.send(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"x"}}}}"#
            ));
            let says = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"Method not allowed: Access denied for method 'tools/call'"}}}}"#
            );
            assert_eq!(peer.next_line(), Some(says));
        }
        peer.ask(1, "tools/list", json!({}));
        assert!(!server.seen().contains("tools/call"));
        let blocked = server.log.wait_for("blocked");
        for part in ["alice", "reader", "tools/call", "id=\"0\""] {
            assert!(blocked.contains(part), "{part} is not in {blocked}");
        }
    }
}

#[test]
fn roles_add_up_and_every_block_wins() {
    let server = Setup::new("tcp").policy(&policy()).start();
    for (roles, method, allowed) in [
        (&["reader"][..], "tools/list", true),
        (&["reader"], "resources/templates/list", true),
        (&["reader"], "resources/write", false),
        (&["reader"], "prompts/list", false),
        (&["reader", "caller"], "tools/call", true),
        (&["caller", "tame"], "tools/call", false),
        (&["tame", "admin"], "tools/call", false),
        (&["admin", "tame"], "tools/call", false),
        (&["admin"], "made/up", true),
        (&["admin", "wizard"], "made/up", true),
        (&[], "initialize", false),
    ] {
        let answer = server
            .peer_with(&token_with(roles))
            .ask(0, method, json!({}));
        assert_eq!(
            answer.get("result").is_some(),
            allowed,
            "{roles:?} {method}: {answer}"
        );
    }
}

#[test]
fn forbidden_notifications_vanish() {
    let server = Setup::new("tcp").policy(&policy()).start();
    let mut peer = server.peer_with(&token_with(&["reader"]));
    peer.send(r#"{"jsonrpc":"2.0","method":"notifications/secret"}"#);
    peer.send(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"}}"#);
    assert_eq!(peer.ask(3, "tools/list", json!({}))["id"], 3);
    let seen = server.seen();
    assert!(
        !seen.contains("secret") && !seen.contains("tools/call"),
        "{seen}"
    );
    let mut peer = server.peer_with(&token_with(&["admin"]));
    peer.send(r#"{"jsonrpc":"2.0","method":"notifications/public"}"#);
    server.wait_seen("notifications/public");
}

/// Finishing the handshake or cancelling one's own requests needs no rule.
#[test]
fn the_handshake_and_cancelling_need_no_permission() {
    let server = Setup::new("tcp").policy(&policy()).start();
    let mut peer = server.peer_with(&token_with(&["caller"]));
    assert!(peer.initialize()["result"].is_object());
    server.wait_seen("notifications/initialized");
    peer.send(&request("slow", "tools/call", json!({"silent": true})));
    peer.send(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"slow"}}"#,
    );
    server.wait_seen("notifications/cancelled");
}

#[test]
fn the_example_permissions_and_those_of_the_seed_are_taken() {
    let seed = json!({"permissions": {
        "readonly": {
            "allowedMethods": ["ping", "initialize", "tools/list", "resources/list", "resources/read", "prompts/list", "prompts/get"],
            "blockedMethods": ["tools/call", "resources/write", "resources/delete"],
        },
        "user": {
            "allowedMethods": ["ping", "initialize", "tools/list", "tools/call", "resources/list", "resources/read", "prompts/list", "prompts/get", "notifications/initialized"],
            "blockedMethods": ["resources/write", "resources/delete"],
        },
        "admin": {"allowedMethods": ["*"], "blockedMethods": []},
    }});
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/permissions.example.json");
    for setup in [
        Setup::new("tcp").policy(&seed),
        Setup::new("tcp")
            .secret()
            .args(&["--permissions-config", example]),
    ] {
        let server = setup.start();
        for (role, method, allowed) in [
            ("readonly", "tools/list", true),
            ("readonly", "tools/call", false),
            ("user", "tools/call", true),
            ("admin", "anything/else", true),
        ] {
            let answer = server
                .peer_with(&token_with(&[role]))
                .ask(0, method, json!({}));
            assert_eq!(
                answer.get("result").is_some(),
                allowed,
                "{role} {method}: {answer}"
            );
        }
    }
}

#[test]
fn a_role_that_can_open_no_session_earns_a_warning() {
    let policy = json!({"permissions": {"mute": {"allowedMethods": ["tools/*"]}}});
    let server = Setup::new("tcp").policy(&policy).start();
    let warning = server.log.wait_for("WARN");
    assert!(
        warning.contains("mute") && warning.contains("server/discover"),
        "{warning}"
    );
}
