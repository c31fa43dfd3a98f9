//! The server as an OAuth resource server. The tests name the rules that they show:
//!
//! | rule | MCP authorization, RFC 9728, RFC 6750 |
//! |---|---|
//! | R1, R3 | metadata with an authorization server, at both well-known paths |
//! | R2, R12, R17 | the challenge of a 401 names them, and scopes; an error only where a token was shown |
//! | R4 | `resource` is the URL that clients use |
//! | R5 | metadata need no token, and web pages that may connect can read them |
//! | R6, R7 | the token stands in `Authorization`, in each request, and in no URL |
//! | R8, R9, R11 | a bad token, or one for another server, is 401 |
//! | R13 | too few roles at the door are 403 `insufficient_scope`, with the scopes |

use crate::common::{Setup, TestServer, now, token};
use crate::process::binary;
use crate::support::http::{Answer, Http};
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
