//! 2026-07-28, which has no sessions.

use crate::common::{Setup, TestServer, now, token, token_with};
use crate::process::eventually;
use crate::support::http::{Http, Session, VERSION, expect_stream, modern, unanswered, with};
use serde_json::json;

fn server() -> TestServer {
    Setup::new("http").echo(&["--modern"]).start()
}

/// N1, N5, N6, N13, N14, N15, N17, N18, N19, N23, N25, N28
#[test]
fn requests_stand_for_themselves() {
    let server = server();
    let (headers, body) = modern(1, "tools/list", json!({}));
    let (call_headers, call_body) = modern(1, "tools/call", json!({"name": "caf\u{e9}"}));
    let (ping_headers, ping) = modern(1, "ping", json!({}));
    let other = body.replace("2026-07-28", "2025-11-25");
    let unknown = body.replace("2026-07-28", "2099-01-01");
    let bare = body.replace("clientCapabilities", "client");
    let cases = [
        ("N6", with(&headers, "", ""), &body, 200, 0),
        (
            "N18",
            with(&headers, "MCP-METHOD", "tools/list"),
            &body,
            200,
            0,
        ),
        (
            "N18",
            with(&headers, "Mcp-Method", "Tools/List"),
            &body,
            400,
            -32020,
        ),
        ("N28", with(&headers, "Mcp-Session-Id", "x"), &body, 200, 0),
        ("N13", with(&headers, VERSION, ""), &body, 400, -32020),
        ("N13", with(&headers, "", ""), &other, 400, -32020),
        (
            "N14",
            with(&headers, VERSION, "2099-01-01"),
            &unknown,
            400,
            -32022,
        ),
        ("N15", with(&ping_headers, "", ""), &ping, 404, -32601),
        ("N17", with(&headers, "Mcp-Method", ""), &body, 400, -32020),
        (
            "N17",
            with(&headers, "Mcp-Method", "tools/call"),
            &body,
            400,
            -32020,
        ),
        (
            "N17",
            with(&call_headers, "Mcp-Name", ""),
            &call_body,
            400,
            -32020,
        ),
        (
            "N17",
            with(&call_headers, "Mcp-Name", "cafe"),
            &call_body,
            400,
            -32020,
        ),
        (
            "N19",
            with(&call_headers, "Mcp-Name", "=?base64?Y2Fmw6k=?="),
            &call_body,
            200,
            0,
        ),
        (
            "N19",
            with(&call_headers, "Mcp-Name", "=?base64?!?="),
            &call_body,
            400,
            -32020,
        ),
        ("N23", with(&headers, "", ""), &bare, 400, -32602),
    ];
    for (rule, headers, body, status, code) in cases {
        let answer = Http::connect(server.port).post(&headers, body);
        assert_eq!(
            (answer.status(), answer.code()),
            (status, code),
            "{rule}: {answer:?}"
        );
        assert_eq!(answer.json()["id"], 1, "N25: {rule}");
        assert_eq!(answer.head.header("mcp-session-id"), None, "N28");
        if rule == "N14" {
            let data = &answer.json()["error"]["data"];
            assert_eq!(
                (&data["requested"], &data["supported"][0]),
                (&json!("2099-01-01"), &json!("2026-07-28"))
            );
        }
    }
    let told = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    let version = (VERSION, "2026-07-28");
    let answer =
        Http::connect(server.port).post(&[version, ("Mcp-Method", "notifications/x")], told);
    assert_eq!((answer.status(), answer.body.as_str()), (202, ""), "N5");
    let answer =
        Http::connect(server.port).post(&[version], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(answer.status(), 400, "N4");
    for method in ["GET", "DELETE"] {
        let mut http = Http::connect(server.port);
        http.send(method, &[version], "");
        assert_eq!(http.answer().status(), 405, "N28: {method}");
    }
}

/// N7, N8, N11, N26, N30, N34
#[test]
fn both_eras_share_a_path() {
    let server = server();
    let session = Session::begin(server.port);
    let mut http = Http::connect(server.port);
    for id in 1..4 {
        let (headers, body) = modern(id, "server/discover", json!({}));
        let answer = http.post(&with(&headers, "", ""), &body);
        assert_eq!(
            (answer.status(), &answer.json()["id"]),
            (200, &json!(id)),
            "N26"
        );
        let list = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
        let own = [("Mcp-Session-Id", session.id.as_str())];
        assert_eq!(http.post(&own, &list).json()["id"], id, "N30, N34");
    }
    let params = json!({"name": "x", "progress": 2, "_meta": {"progressToken": "p"}});
    let (headers, body) = modern(9, "tools/call", params);
    http.send("POST", &with(&headers, "Last-Event-ID", "1-1"), &body);
    expect_stream(&mut http);
    let events = http.events();
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.id.is_none()), "N11");
    assert_eq!(events[1].data["params"]["progressToken"], "p", "N7, N8");
    assert_eq!(events[2].data["id"], 9, "N7");
}

/// N12
#[test]
fn who_hangs_up_cancels() {
    let server = server();
    for progress in [0, 1] {
        let before = server.seen().matches("notifications/cancelled").count();
        let params = json!({"name": "x", "silent": true, "progress": progress, "_meta": {"progressToken": progress}});
        let (headers, body) = modern(1, "tools/call", params);
        let mut http = Http::connect(server.port);
        http.send("POST", &with(&headers, "", ""), &body);
        if progress > 0 {
            expect_stream(&mut http);
            http.event();
        } else {
            server.wait_seen("tools/call");
        }
        drop(http);
        eventually("the request is cancelled", || {
            let now = server.seen().matches("notifications/cancelled").count();
            (now == before + 1).then_some(())
        });
    }
}

#[test]
fn denials_have_their_status() {
    let policy =
        json!({"permissions": {"user": {"allowedMethods": ["server/discover", "tools/list"]}}});
    let server = Setup::new("http")
        .policy(&policy)
        .echo(&["--modern"])
        .start();
    let bearer = format!("Bearer {}", token_with(&["user"]));
    for (method, status, code) in [("tools/list", 200, 0), ("resources/list", 404, -32601)] {
        let (headers, body) = modern(1, method, json!({}));
        let mut http = Http::connect(server.port);
        let answer = http.post(&with(&headers, "Authorization", &bearer), &body);
        assert_eq!(
            (answer.status(), answer.code()),
            (status, code),
            "{answer:?}"
        );
    }
    let (headers, body) = modern(1, "tools/list", json!({}));
    let answer = Http::connect(server.port).post(&with(&headers, "", ""), &body);
    assert_eq!(answer.status(), 401);
}

/// It was accepted on the same connection just before.
#[test]
fn a_token_that_has_expired_is_refused() {
    let server = Setup::new("http").secret().echo(&["--modern"]).start();
    let token = token(&json!({"user": "alice", "roles": ["user"], "exp": now() + 2}));
    let bearer = format!("Bearer {token}");
    let (headers, body) = modern(1, "tools/list", json!({}));
    let headers = with(&headers, "Authorization", &bearer);
    let mut http = Http::connect(server.port);
    assert_eq!(http.post(&headers, &body).status(), 200);
    eventually("it expires", || {
        let status = http.post(&headers, &body).status();
        assert!(status == 200 || status == 401, "{status}");
        (status == 401).then_some(())
    });
}

#[test]
fn a_request_ends_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("revoked");
    std::fs::write(&list, "").unwrap();
    let path = list.display().to_string();
    let setup = Setup::new("http").secret().args(&["--revoked", &path]);
    let server = setup.echo(&["--modern"]).start();
    let bearer = format!("Bearer {}", token_with(&["user"]));
    for progress in [1, 0] {
        let params = json!({"name": "x", "silent": true, "progress": progress, "_meta": {"progressToken": progress}});
        let (headers, body) = modern(1, "tools/call", params);
        let mut http = Http::connect(server.port);
        http.send("POST", &with(&headers, "Authorization", &bearer), &body);
        server.wait_seen(&format!("\"progress\":{progress}"));
        if progress > 0 {
            expect_stream(&mut http);
            assert!(http.event().is_some());
        }
        std::fs::write(&list, "user:alice\n").unwrap();
        server.reload();
        if progress > 0 {
            assert_eq!(http.event(), None);
        } else {
            assert_eq!(unanswered(&http.answer()), "token-invalid");
        }
        server.wait_seen("notifications/cancelled");
        std::fs::write(&list, "").unwrap();
        server.reload();
    }
}

#[test]
fn a_client_that_accepts_only_json_gets_only_the_response() {
    let server = server();
    let params = json!({"name": "x", "progress": 2, "_meta": {"progressToken": "p"}});
    let (headers, body) = modern(3, "tools/call", params);
    let mut http = Http::connect(server.port);
    let answer = http.post(&with(&headers, "Accept", "application/json"), &body);
    assert_eq!(answer.json()["id"], 3);
    let (headers, body) = modern(4, "tools/list", json!({}));
    let answer = http.post(&with(&headers, "Accept", "text/html"), &body);
    assert_eq!(answer.status(), 406);
}
