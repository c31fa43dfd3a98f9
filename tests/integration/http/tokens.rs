//! What ends with a token, when a session is used with several tokens of its owner.

use crate::common::{Setup, TestServer, now, token};
use crate::process::eventually;
use crate::support::http::{Http, Session, call, expect_stream, modern, unanswered};
use serde_json::json;
use std::path::PathBuf;
use tempfile::TempDir;

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// A list of revoked tokens that the server reads.
struct Revoked(TempDir);

impl Revoked {
    fn new() -> Self {
        let list = Self(tempfile::tempdir().unwrap());
        std::fs::write(list.path(), "").unwrap();
        list
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("revoked")
    }

    fn setup(&self) -> Setup {
        let path = self.path().display().to_string();
        // Without keepalives, a stream that wrongly stays open fails its test by a read timeout.
        let quiet = ["--keepalive-interval", "10m"];
        let setup = Setup::new("http").secret().args(&quiet);
        setup.args(&["--revoked", &path])
    }

    fn revoke(&self, server: &TestServer, id: &str) {
        std::fs::write(self.path(), format!("{id}\n")).unwrap();
        server.reload();
    }
}

/// A token for ann with these roles, valid for this many seconds.
fn of_ann(id: &str, roles: &[&str], seconds: u64) -> String {
    token(&json!({"user": "ann", "roles": roles, "jti": id, "exp": now() + seconds}))
}

/// The same session with another token.
fn with_token(session: &Session, token: &str) -> Session {
    Session {
        id: session.id.clone(),
        token: format!("Bearer {token}"),
        ..*session
    }
}

/// Bug: a stream continued after its token had expired or was revoked, as long as the session had another one.
#[test]
fn a_stream_ends_with_the_token_that_opened_it() {
    for expires in [true, false] {
        let list = Revoked::new();
        let server = list.setup().start();
        let seconds = if expires { 4 } else { 600 };
        let session = Session::begin_with(server.port, &of_ann("one", &["r"], seconds));
        let later = with_token(&session, &of_ann("two", &["r"], 900));
        let mut general = session.listen("");
        let mut posted = session.stream(&call(
            2,
            json!({"name": "x", "progress": 1, "silent": true, "_meta": {"progressToken": 1}}),
        ));
        let last_event = posted.event().unwrap().id.unwrap();
        assert!(posted.event().is_some());
        let json_only = [("Accept", "application/json")];
        let silent = call(3, json!({"name": "waits", "silent": true}));
        let mut pending = session.send("POST", &json_only, &silent);
        server.wait_seen("waits");
        let mut others = later.stream(&call(
            4,
            json!({"name": "x", "progress": 1, "silent": true, "_meta": {"progressToken": 2}}),
        ));
        assert!(others.event().is_some());
        if !expires {
            list.revoke(&server, "one");
        }
        assert_eq!(general.event(), None);
        assert_eq!(posted.event(), None);
        if !expires {
            assert_eq!(unanswered(&pending.answer()), "token-invalid");
        }
        assert_eq!(session.post(LIST).status(), 401);
        // The session continues, and so do the streams of its other token.
        assert_eq!(later.post(LIST).status(), 200);
        let mut resumed = later.listen(&last_event);
        assert_eq!(
            resumed.event().unwrap().data["method"],
            "notifications/progress"
        );
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}});
        assert_eq!(later.post(&cancel.to_string()).status(), 202);
        assert!(others.event().is_some(), "the progress");
        assert_eq!(others.event(), None);
    }
}

/// Bug: a call that nothing had come for was answered `token-invalid`, although the session had a newer token.
#[test]
fn a_call_outlives_its_token_if_the_session_has_a_newer_one() {
    for (renewed, revoked) in [(true, ""), (false, ""), (true, "one"), (true, "two")] {
        let list = Revoked::new();
        let server = list.setup().start();
        let one = of_ann("one", &["r"], 3);
        let session = Session {
            version: "2025-06-18",
            ..Session::begin_with(server.port, &one)
        };
        let slow = call(2, json!({"name": "slow", "delayMs": 7000}));
        let json_only = [("Accept", "application/json")];
        let mut pending = session.send("POST", &json_only, &slow);
        let slow = call(3, json!({"name": "slow", "delayMs": 7000}));
        let mut streamed = session.send("POST", &[], &slow);
        let later = with_token(&session, &of_ann("two", &["r"], 600));
        if renewed {
            assert_eq!(later.post(LIST).status(), 200);
        }
        eventually("the token expires", || {
            (session.post(LIST).status() == 401).then_some(())
        });
        if !revoked.is_empty() {
            list.revoke(&server, revoked);
        }
        expect_stream(&mut streamed);
        let answer = pending.answer();
        if renewed && revoked.is_empty() {
            assert!(answer.json()["result"].is_object(), "{answer:?}");
            assert_eq!(streamed.event().unwrap().data["id"], 3);
        } else {
            let reason = unanswered(&answer);
            // The other token ends the whole session.
            let ended = revoked == "two" && reason == "session-ended";
            assert!(ended || reason == "token-invalid", "{reason}");
        }
        assert_eq!(streamed.event(), None);
    }
}

/// Bug: a token that was revoked while the body of a request arrived was accepted once more: what the connection had seen
/// of the change was taken for approval.
#[test]
fn a_body_that_is_on_its_way_does_not_outlive_its_token() {
    for legacy in [true, false] {
        let list = Revoked::new();
        let setup = list.setup();
        let server = setup.echo(if legacy { &[] } else { &["--modern"] }).start();
        let token = of_ann("one", &["r"], 600);
        let (mut headers, body) = modern(1, "tools/call", json!({"name": "late"}));
        let mut body = body;
        if legacy {
            // The session goes on with another token.
            let session = Session::begin_with(server.port, &of_ann("two", &["r"], 900));
            headers = vec![("Mcp-Session-Id".to_owned(), session.id)];
            body = call(1, json!({"name": "late"}));
        }
        let more: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let length = body.len();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n{more}Content-Length: {length}\r\n\r\n"
        );
        let mut http = Http::connect(server.port);
        let authenticated = || server.log.text().matches("authenticated").count();
        let before = authenticated();
        http.raw(head.as_bytes());
        eventually("the sender is known", || {
            (authenticated() > before).then_some(())
        });
        list.revoke(&server, "one");
        http.raw(body.as_bytes());
        assert_eq!(http.answer().status(), 401, "legacy: {legacy}");
        assert!(!server.seen().contains("late"));
    }
}

/// Bug: a session ended with its token, before a client that learns of the expiry by a 401 could get a new one.
#[test]
fn a_session_waits_for_a_new_token() {
    for (window, roles, status) in [
        ("60s", &["r"][..], 200),
        ("60s", &["r", "w"], 200),
        ("100ms", &["r"], 404),
        ("0s", &["r"], 404),
    ] {
        let list = Revoked::new();
        let server = list.setup().args(&["--resume-window", window]).start();
        let session = Session::begin_with(server.port, &of_ann("one", &["r"], 3));
        eventually("the token expires", || {
            (session.post(LIST).status() == 401).then_some(())
        });
        let event = if status == 200 {
            "it waits for another one"
        } else {
            "session ends"
        };
        server.log.wait_for(event);
        let later = with_token(&session, &of_ann("two", roles, 600));
        assert_eq!(later.post(LIST).status(), status, "{window} {roles:?}");
        assert_eq!(session.post(LIST).status(), 401);
        let log = server.log.text();
        assert_eq!(log.contains("session ends"), status == 404, "{log}");
    }
}

/// Bug: the token counted as expired, and a client that came with another one continued the session.
#[test]
fn a_session_that_waits_for_a_new_token_ends_when_the_old_one_is_revoked() {
    let list = Revoked::new();
    let server = list.setup().start();
    let session = Session::begin_with(server.port, &of_ann("one", &["r"], 3));
    server.log.wait_for("it waits for another one");
    list.revoke(&server, "one");
    server.log.wait_for("session ends reason=\"token revoked\"");
    let later = with_token(&session, &of_ann("two", &["r"], 600));
    assert_eq!(later.post(LIST).status(), 404);
}

/// Bug: streams opened with a token with fewer roles got what only the other token may see.
#[test]
fn a_token_of_more_roles_ends_the_streams_of_the_former_one() {
    let list = Revoked::new();
    let server = list.setup().start();
    let session = Session::begin_with(server.port, &of_ann("narrow", &["r"], 600));
    let wide = with_token(&session, &of_ann("wide", &["r", "w"], 600));
    let mut general = session.listen("");
    let pending = session.send(
        "POST",
        &[],
        &call(2, json!({"name": "waits", "delayMs": 1000})),
    );
    server.wait_seen("waits");
    let json_only = [("Accept", "application/json")];
    let silent = call(3, json!({"name": "stays", "silent": true}));
    let mut unstreamed = session.send("POST", &json_only, &silent);
    server.wait_seen("stays");
    assert_eq!(wide.post(LIST).status(), 200);
    assert_eq!(general.event(), None);
    assert_eq!(unanswered(&unstreamed.answer()), "session-ended");
    // The request that was in flight is not lost: its client resumes the stream.
    let mut pending = pending;
    expect_stream(&mut pending);
    let last_event = pending.event().unwrap().id.unwrap();
    assert_eq!(pending.event(), None);
    assert_eq!(wide.listen(&last_event).event().unwrap().data["id"], 2);
}

/// Bug: a message that had waited for the rate limit restored the token with fewer roles, so that the session
/// did not end with its current token.
#[test]
fn a_late_message_does_not_bring_a_former_token_back() {
    let list = Revoked::new();
    let limit = ["--rate-limit", "1", "--rate-burst", "4"];
    let server = list.setup().args(&limit).start();
    let session = Session::begin_with(server.port, &of_ann("narrow", &["r"], 900));
    let wide = with_token(&session, &of_ann("wide", &["r", "w"], 600));
    let again = with_token(&session, &of_ann("again", &["r", "w"], 500));
    while !session.post(LIST).body.contains("rate-limited") {}
    let told = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    // The last of them waits for seconds.
    let waiting: Vec<_> = (0..4).map(|_| session.send("POST", &[], told)).collect();
    let mut general = wide.listen("");
    let statuses = waiting.into_iter().map(|mut http| http.answer().status());
    assert!(statuses.collect::<Vec<_>>().contains(&404));
    list.revoke(&server, "wide");
    assert_eq!(general.event(), None);
    assert_eq!(again.send("GET", &[], "").answer().status(), 404);
}

/// Bug: the process of one tenant served the token of another, with the same user and the same or more roles.
#[test]
fn a_session_is_not_that_of_a_token_with_another_environment() {
    let flags = ["--isolate", "--child-env", "TENANT={claim:/tenant}"];
    let server = Setup::new("http").secret().args(&flags).start();
    let of = |tenant: &str, roles: &[&str], more: u64| {
        let exp = now() + 600 + more;
        token(&json!({"user": "ann", "roles": roles, "tenant": tenant, "exp": exp}))
    };
    let session = Session::begin_with(server.port, &of("a", &["r"], 0));
    for (tenant, roles, status) in [
        ("b", &["r"][..], 404),
        ("c", &["r", "w"], 404),
        ("a", &["r"], 200),
        ("a", &["r", "w"], 200),
    ] {
        let shown = with_token(&session, &of(tenant, roles, 1));
        assert_eq!(shown.post(LIST).status(), status, "{tenant} {roles:?}");
    }
}

/// Bug: a token of the same user, but of another tenant, joined a session, whose messages were then judged by its claims.
#[test]
fn a_session_is_not_that_of_a_token_with_other_claims_for_the_rules() {
    let rule = json!({"arguments": {"/tenant": {"equals": {"claim": "tenant"}}}});
    let policy = json!({"permissions": {
        "r": {"allowedMethods": ["*"], "tools": {"x": rule}},
        "w": {"allowedMethods": ["tools/*"]},
    }});
    let server = Setup::new("http").policy(&policy).start();
    let of = |tenant: &str, roles: &[&str], more: u64| {
        let exp = now() + 600 + more;
        token(&json!({"user": "ann", "roles": roles, "tenant": tenant, "team": more, "exp": exp}))
    };
    let session = Session::begin_with(server.port, &of("a", &["r"], 0));
    for (tenant, roles, status) in [
        ("b", &["r"][..], 404),
        ("b", &["r", "w"], 404),
        // Other claims do not matter.
        ("a", &["r"], 200),
        ("a", &["r", "w"], 200),
    ] {
        let shown = with_token(&session, &of(tenant, roles, 1));
        assert_eq!(shown.post(LIST).status(), status, "{tenant} {roles:?}");
    }
}

/// R13: a client gets a token with one more scope, and continues.
#[test]
fn a_session_goes_on_with_a_token_of_more_roles() {
    let policy = json!({"permissions": {
        "read": {"allowedMethods": ["initialize", "tools/*"], "allowedTools": ["read"]},
        "write": {"allowedMethods": ["tools/call", "resources/subscribe"], "allowedTools": ["write"]},
    }});
    for isolate in ["--isolate=never", "--isolate=always"] {
        let server = Setup::new("http").policy(&policy).args(&[isolate]).start();
        let of = |user: &str, roles: &[&str]| {
            let claims = json!({"user": user, "roles": roles, "exp": now() + 600});
            format!("Bearer {}", token(&claims))
        };
        let narrow = of("ann", &["read"]);
        let session = Session::begin_with(server.port, narrow.trim_start_matches("Bearer "));
        let mut listener = session.listen("");
        let post = |bearer: &str, body: &str| {
            let named = [
                ("Mcp-Session-Id", session.id.as_str()),
                ("Authorization", bearer),
            ];
            Http::connect(server.port).post(&named, body)
        };
        let write = call(2, json!({"name": "write"}));
        let denied = post(&narrow, &write);
        assert_eq!((denied.status(), denied.code()), (200, -32601));
        // Neither another user's token with as many roles is accepted, nor one that lacks a role.
        for other in [
            of("bob", &["read", "write"]),
            of("ann", &["write", "admin"]),
        ] {
            assert_eq!(post(&other, &write).status(), 404);
        }
        let wide = of("ann", &["write", "read"]);
        for bearer in [&wide, &of("ann", &["read", "write", "read"])] {
            let answer = post(bearer, &write);
            assert_eq!((answer.status(), answer.code()), (200, 0), "{answer:?}");
        }
        assert_eq!(post(&narrow, &write).status(), 404);
        // The session has the rights of its new token, and the stream of the former one has ended.
        assert_eq!(listener.event(), None);
        let session = Session {
            id: session.id.clone(),
            token: wide.clone(),
            ..session
        };
        let mut listener = session.listen("");
        let subscribe =
            r#"{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"x:a"}}"#;
        assert_eq!(post(&wide, subscribe).code(), 0);
        let asks = json!({"name": "read", "notify": "notifications/tools/list_changed"});
        assert_eq!(post(&wide, &call(4, asks)).status(), 200);
        let told = listener.event().unwrap();
        assert_eq!(told.data["method"], "notifications/tools/list_changed");
        let named = [
            ("Mcp-Session-Id", session.id.as_str()),
            ("Authorization", &wide),
        ];
        let mut http = Http::connect(server.port);
        http.send("DELETE", &named, "");
        assert_eq!(http.answer().status(), 204);
        assert_eq!(post(&wide, &write).status(), 404);
    }
}
