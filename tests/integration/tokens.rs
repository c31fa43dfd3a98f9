//! Tokens over their whole life: required claims, rotation, revocation, and changes
//! while peers are connected.

mod commands;
mod expiry;
mod reload;

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
    // Whatever the cause, the peer is not told.
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

/// Bug: a token from an issuer whose clock was two seconds ahead was refused for good.
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
    assert!(refused.stdout.contains("nbf is"), "{refused:?}");
}

/// Bug: roles in another claim caused "Access denied for method 'initialize'", with no
/// explanation.
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
    // If the operator configures that claim, they count.
    let elsewhere = Setup::new("tcp").policy(&policy);
    let server = elsewhere.args(&["--roles-claim", "org.groups"]).start();
    server.assert_serving_with(&token(&json!({"user": "bob", "org": {"groups": ["user"]}})));
    server.assert_serving_with(&token(&json!({"user": "bob", "org": {"groups": "x user"}})));
    assert!(!server.log.text().contains(warning));
    let mut peer = server.peer_with(&token(&json!({"user": "bob", "roles": ["user"]})));
    assert_eq!(peer.ask(1, "ping", json!({}))["error"]["code"], -32601);
    let line = server.log.wait_for(warning);
    assert!(line.contains("'org.groups'"), "{line}");
    // Roles that the policy does not know are none, too.
    let unknown = "none of this token's roles is in the policy";
    let server = Setup::new("tcp").policy(&policy).start();
    server.assert_serving_with(&token(&json!({"user": "bob", "roles": ["x", "user"]})));
    assert!(!server.log.text().contains(unknown));
    let mut peer = server.peer_with(&token(&json!({"user": "bob", "roles": ["x", "User"]})));
    assert_eq!(peer.ask(1, "ping", json!({}))["error"]["code"], -32601);
    let line = server.log.wait_for(unknown);
    for part in [
        "WARN",
        "bob",
        "roles=\"x,User\"",
        "meant=\"user\"",
        "'roles'",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // Without a policy, roles do not matter.
    let open = Setup::new("tcp").secret().start();
    open.assert_serving_with(&token(&json!({"user": "bob"})));
    assert!(!open.stop().contains(warning));
}

#[test]
fn user_and_roles_are_taken_from_the_claims_that_are_named() {
    let claims = json!({
        "sub": "subject", "user": "other", "email": "ann@example.com", "list": ["ann"],
        "org": {"id": "ann", "groups": ["user"]}, "https://example.com/id": "ann",
        "https://example.com/roles": "user admin",
    });
    let ann = (json!("ann"), json!(["user"]));
    for (user, roles, expected) in [
        ("org.id", "org.groups", ann.clone()),
        ("/org/id", "/org/groups", ann.clone()),
        (
            "email",
            "org.groups",
            (json!("ann@example.com"), ann.1.clone()),
        ),
        (
            "/https:~1~1example.com~1id",
            "/https:~1~1example.com~1roles",
            (ann.0.clone(), json!(["user", "admin"])),
        ),
        // No other claim replaces a missing one.
        ("no", "no.such", (Value::Null, json!([]))),
    ] {
        let flags = ["--user-claim", user, "--roles-claim", roles];
        let server = Setup::new("tcp").secret().args(&flags).start();
        let answer = TestPeer::connect("tcp", server.port).login(&token(&claims));
        let result = &answer["result"];
        let got = (result["user"].clone(), result["roles"].clone());
        assert_eq!(got, expected, "{user} {roles}: {answer}");
    }
    for (flag, claim) in [
        ("--user-claim", "list"),
        ("--user-claim", "org"),
        ("--roles-claim", "org"),
    ] {
        let server = Setup::new("tcp").secret().args(&[flag, claim]).start();
        assert_refused(&server, &token(&claims));
        let wrong = format!("claim '{claim}' has the wrong type");
        server.log.wait_for(&wrong);
    }
    for (flag, value) in [("--jwt-leeway", "soon"), ("--jwt-leeway", "-1s")] {
        let flag = format!("{flag}={value}");
        let outcome = Setup::new("tcp").secret().args(&[&flag]).run();
        assert_fails(&outcome, 2, "--jwt-leeway");
    }
}

/// Correctly signed, but in a form that `jsonwebtoken` does not produce.
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
        assert_fails(
            &outcome,
            1,
            &format!("the revocations in '{file}' are not valid: {says}"),
        );
    }
    let outcome = Setup::new("tcp")
        .secret()
        .args(&["--revoked", "/no/file"])
        .run();
    assert_fails(&outcome, 1, "could not read the revocations in '/no/file'");
}
