//! The server as an OAuth resource server. The tests name the rules that they cover:
//!
//! | rule | MCP authorization, RFC 9728, RFC 6750 |
//! |---|---|
//! | R1, R3 | metadata with an authorization server, at both well-known paths |
//! | R2, R12, R17 | the challenge of a 401 names them, and scopes; an error only if a token was sent |
//! | R4 | `resource` is the URL that clients use |
//! | R5 | metadata need no token, and allowed web pages can read them |
//! | R6, R7 | the token is in `Authorization`, in each request, and in no URL |
//! | R8, R9, R11 | a bad token, or one for another server, is 401 |
//! | R10, R18 | the token is in no log, and nothing of it reaches the MCP server |
//! | R13, R14 | too few roles, at connection or for a message, are 403 `insufficient_scope`, with all required scopes |
//! | R15 | a role that allows more is as good as the named one |
//! | R20 | in the scheme and host of an audience, case does not matter |
//!
//! R16 (`offline_access` is in no challenge) is covered by the metadata's unit tests, R19 (a session belongs to its
//! user) by those of sessions.

use crate::common::{Setup, TestServer, now, token};
use crate::process::binary;
use crate::support::http::{Answer, Http, INITIALIZE, Session, modern};
use serde_json::{Value, json};

const AT: &str = "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\", scope=\"mcp:use\"";
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

fn start() -> TestServer {
    let flags = [
        "--public-url",
        "https://mcp.example.com",
        "--authorization-server",
        "https://login.example.com,https://other.example.com/realms/x",
        "--jwt-audience",
        "https://mcp.example.com/mcp",
        "--roles-claim",
        "scope",
        "--require-roles",
        "mcp:use",
    ];
    Setup::new("http").secret().args(&flags).start()
}

fn with(aud: &str, scope: &str) -> String {
    token(&json!({"sub": "ann", "aud": aud, "scope": scope, "exp": now() + 600}))
}

fn ask(server: &TestServer, method: &str, path: &str, headers: &str) -> Answer {
    let mut http = Http::connect(server.port);
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    http.raw(head.as_bytes());
    http.answer()
}

#[test]
fn r1_r3_r4_r5_metadata_are_there_without_a_token() {
    let server = start();
    let expected = json!({
        "resource": "https://mcp.example.com/mcp",
        "authorization_servers": ["https://login.example.com", "https://other.example.com/realms/x"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["mcp:use"],
    });
    let page = "Origin: https://mcp.example.com\r\n";
    for path in ["", "/mcp"] {
        let path = format!("/.well-known/oauth-protected-resource{path}");
        let answer = ask(&server, "GET", &path, page);
        assert_eq!((answer.status(), answer.json()), (200, expected.clone()));
        assert_eq!(answer.head.header("content-type"), Some("application/json"));
        let allowed = answer.head.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://mcp.example.com"));
        assert_eq!(ask(&server, "OPTIONS", &path, page).status(), 204);
        assert_eq!(ask(&server, "DELETE", &path, "").status(), 405);
    }
    for path in ["/other", "/mcp/x", "x"] {
        let path = format!("/.well-known/oauth-protected-resource{path}");
        assert_eq!(ask(&server, "GET", &path, "").status(), 404);
    }
    let silent = Setup::new("http").secret().start();
    let path = "/.well-known/oauth-protected-resource";
    assert_eq!(ask(&silent, "GET", path, "").status(), 404);
    let answer = ask(&silent, "GET", "/mcp", "");
    assert_eq!(answer.head.header("www-authenticate"), Some("Bearer"));
}

#[test]
fn r2_r6_r7_r8_r9_r11_r12_r13_r17_challenges_say_where_to_get_a_token() {
    let server = start();
    let own = "https://mcp.example.com/mcp";
    let expired = json!({"sub": "ann", "aud": own, "scope": "mcp:use", "exp": now() - 1});
    let invalid = format!("Bearer error=\"invalid_token\", {AT}");
    let narrow = format!("Bearer error=\"insufficient_scope\", {AT}");
    for method in ["GET", "POST", "DELETE"] {
        for (shown, status, challenge) in [
            (None, 401, format!("Bearer {AT}")),
            (Some("x".to_owned()), 401, invalid.clone()),
            (Some(token(&expired)), 401, invalid.clone()),
            (
                Some(with("https://mcp.example.com", "mcp:use")),
                401,
                invalid.clone(),
            ),
            (
                Some(with("https://mcp.example.com/mcp2", "mcp:use")),
                401,
                invalid.clone(),
            ),
            (Some(with(own, "mcp")), 403, narrow.clone()),
        ] {
            let shown = shown
                .map(|token| format!("Bearer {token}"))
                .unwrap_or_default();
            let mut http = Http::connect(server.port);
            let body = if method == "POST" { LIST } else { "" };
            http.send(method, &[("Authorization", &shown)], body);
            let answer = http.answer();
            assert_eq!(answer.status(), status, "{method} {challenge}: {answer:?}");
            let told = answer.head.header("www-authenticate");
            assert_eq!(told, Some(&*challenge), "{method}");
        }
    }
    let good = with(own, "other mcp:use");
    let query = format!("/mcp?access_token={good}");
    assert_eq!(ask(&server, "GET", &query, "").status(), 400);
    let bearer = format!("Bearer {good}");
    let initialize = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let body: Value =
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize});
    let mut http = Http::connect(server.port);
    http.send("POST", &[("Authorization", &bearer)], &body.to_string());
    assert_eq!(http.head().status, 200);
}

fn start_with_policy(claim: &str) -> TestServer {
    let methods = json!([
        "initialize",
        "notifications/*",
        "server/discover",
        "tools/*"
    ]);
    let policy = json!({"permissions": {
        "mcp:use": {"allowedMethods": methods, "allowedTools": ["read"]},
        "write": {"allowedMethods": ["tools/call"], "allowedTools": ["read", "write"]},
        "admin": {"allowedMethods": ["*"], "blockedTools": ["never"]},
        "two words": {"allowedMethods": ["prompts/list"]},
    }});
    let flags = [
        "--public-url",
        "https://mcp.example.com",
        "--authorization-server",
        "https://login.example.com",
        "--jwt-audience",
        "https://mcp.example.com/mcp",
        "--roles-claim",
        claim,
        "--require-roles",
        "mcp:use,admin",
    ];
    let setup = Setup::new("http").policy(&policy).args(&flags);
    let setup = setup.audited("audit").env("RUST_LOG", "trace");
    setup.echo(&["--modern"]).start()
}

#[test]
fn r13_r14_r15_what_a_message_needs_is_named_and_a_broad_scope_will_do() {
    const METADATA: &str =
        "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\"";
    let own = "https://mcp.example.com/mcp";
    let server = start_with_policy("scope");
    let ask = |scope: &str, method: &str, params: Value| {
        let (headers, body) = modern(1, method, params);
        let bearer = format!("Bearer {}", with(own, scope));
        let headers = headers.iter().map(|(name, value)| (&**name, &**value));
        let headers: Vec<_> = headers.chain([("Authorization", &*bearer)]).collect();
        Http::connect(server.port).post(&headers, &body)
    };
    let needs = |scopes: &str| {
        format!("Bearer error=\"insufficient_scope\", scope=\"mcp:use {scopes}\", {METADATA}")
    };
    let call = |name: &str| ("tools/call", json!({"name": name}));
    for (scope, (method, params), status, challenge) in [
        ("mcp:use", call("read"), 200, None),
        ("mcp:use", call("write"), 403, Some(needs("write"))),
        ("mcp:use write", call("write"), 200, None),
        ("mcp:use admin", call("write"), 200, None),
        ("admin", call("read"), 200, None),
        // One scope is as good as the two that grant access.
        (
            "mcp:use",
            call("delete"),
            403,
            Some(format!(
                "Bearer error=\"insufficient_scope\", scope=\"mcp:use admin\", {METADATA}"
            )),
        ),
        // No scope would be sufficient.
        ("mcp:use admin", call("never"), 404, None),
        (
            "mcp:use",
            ("prompts/list", json!({})),
            403,
            Some(format!(
                "Bearer error=\"insufficient_scope\", scope=\"mcp:use admin\", {METADATA}"
            )),
        ),
    ] {
        let answer = ask(scope, method, params.clone());
        let told = answer.head.header("www-authenticate");
        assert_eq!(
            (answer.status(), told),
            (status, challenge.as_deref()),
            "{scope} {params}: {answer:?}"
        );
        let text = answer.json()["error"]["message"].to_string();
        assert_eq!(text.contains("Access denied"), status != 200, "{text}");
        assert_eq!(answer.json()["id"], 1);
    }
    // Sessions of older revisions get the same.
    let session = Session::begin_with(server.port, &with(own, "mcp:use"));
    let answer = session.post(&super_call("write"));
    assert_eq!(answer.status(), 403);
    assert_eq!(
        answer.head.header("www-authenticate"),
        Some(&*needs("write"))
    );
    assert_eq!(session.post(&super_call("read")).status(), 200);
}

fn super_call(name: &str) -> String {
    crate::support::http::call(2, json!({"name": name}))
}

/// A client could not request roles that are in another claim.
#[test]
fn r13_roles_that_are_no_scopes_are_not_named() {
    let server = start_with_policy("groups");
    let claims = json!({"sub": "ann", "aud": "https://mcp.example.com/mcp", "groups": ["mcp:use"], "exp": now() + 600});
    let session = Session::begin_with(server.port, &token(&claims));
    let answer = session.post(&super_call("write"));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.header("www-authenticate"), None);
}

#[test]
fn r10_r18_the_token_goes_to_no_log_and_no_further() {
    let own = "https://mcp.example.com/mcp";
    let server = start_with_policy("scope");
    let tokens = [
        with(own, "mcp:use"),
        with(own, "other"),
        with("https://other.example.com/mcp", "mcp:use"),
    ];
    for (token, status) in tokens.iter().zip([200, 403, 401]) {
        let (headers, body) = modern(1, "tools/call", json!({"name": "read"}));
        let bearer = format!("Bearer {token}");
        let headers = headers.iter().map(|(name, value)| (&**name, &**value));
        let headers: Vec<_> = headers.chain([("Authorization", &*bearer)]).collect();
        assert_eq!(
            Http::connect(server.port).post(&headers, &body).status(),
            status
        );
    }
    let seen = server.wait_seen("tools/call");
    let audit = server.beside("audit");
    let log = server.stop();
    let audit = std::fs::read_to_string(&audit).unwrap_or_default();
    for token in &tokens {
        for part in token.split('.').skip(1) {
            for text in [&seen, &log, &audit] {
                assert!(!text.contains(part), "{text}");
            }
        }
    }
    assert!(log.contains("refused"));
}

#[test]
fn r20_case_does_not_count_in_the_host_of_an_audience() {
    let server = start();
    for (audience, status) in [
        ("HTTPS://MCP.Example.COM/mcp", 200),
        ("https://mcp.example.com/MCP", 401),
        ("https://mcp.example.com/mcp/", 401),
        ("https://mcp.example.com", 401),
    ] {
        let bearer = format!("Bearer {}", with(audience, "mcp:use"));
        let headers = [("Authorization", &*bearer)];
        let answer = Http::connect(server.port).post(&headers, INITIALIZE);
        assert_eq!(answer.status(), status, "{audience}");
    }
}

#[test]
fn misuse_is_told_at_start() {
    let audience = ["--jwt-audience", "x"];
    let public = ["--public-url", "https://mcp.example.com"];
    for (server, more, says) in [
        ("https://a.example", &public[..], "--jwt-audience"),
        ("https://a.example", &audience, "--public-url"),
        ("http://a.example", &public, "is needed"),
        ("a.example", &public, "is needed"),
        ("https://a.example?x", &public, "is needed"),
        ("https://a.example/\"", &public, "is needed"),
        ("https://", &public, "is needed"),
    ] {
        let mut command = binary();
        command.args([
            "server",
            "http",
            "--port",
            "0",
            "--authorization-server",
            server,
        ]);
        let outcome = crate::process::run(command.args(more).args(["--", "cat"]), b"");
        assert_eq!(outcome.code, Some(2), "{server}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{server}: {outcome:?}");
    }
}
