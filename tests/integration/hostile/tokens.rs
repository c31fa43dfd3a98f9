//! Forged, expired and malformed tokens.

use super::*;

/// A token signed with another RSA key.
const RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyIjoibWFsbG9yeSIsInJvbGVzIjpbImFkbWluIl19.YBW5h0iOIBfXFXLb_GeHvWYraoSefDk2BjH2PqLkm9xOUo3AKs6CkMJ_y2RUifPOVJKYSu8tO-l3X283l4ErLCkGR1FhWSGWtM2XE3P5DxAq390WJ4cN5i_1xo1_cs7HZjY381VrXqPHFIw5AKzmQBMp1THlWA6SIuc5LJE2sEfIUALURyT4YspHyDVhRSlyx44xjb74_pVe-8_csmK7uoBhEJd_wy-yE5_fguSeBILSUAvbj5i31hyi8g3hZXe1DLya1BSkehVuuaCWp08WcS-H8u0euMD6ZUL7wgIychta4mhYv8K20CJIO8KD0yzUFSCts_-io8z55V4HDhRatg";

#[test]
fn unknown_role_in_token() {
    let policy = json!({"permissions": {"user": {"allowedMethods": ["*"]}}});
    for transport in BOTH {
        let server = Setup::new(transport).policy(&policy).start();
        let mut peer = server.peer_with(&token_with(&["wizard"]));
        let answer = peer.ask(1, "tools/list", json!({}));
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
        server.assert_serving_with(&token_with(&["user"]));
    }
}

/// Refused without a reason, and what follows the token is never read.
fn assert_token_refused(bad: &str) {
    for transport in BOTH {
        let server = Setup::new(transport).secret().start();
        let mut peer = server.peer();
        let behind = json!({"jsonrpc": "2.0", "id": 1, "method": "behind"});
        if transport == "tcp" {
            peer.raw(format!("{bad}\n{behind}\n").as_bytes());
        } else {
            peer.frame(TEXT, format!("{bad}\n{behind}\n").as_bytes());
        }
        assert_eq!(peer.next_line().as_deref(), Some(INVALID_TOKEN), "{bad}");
        peer.assert_closed();
        server.assert_serving_with(&token_with(&[]));
        assert!(!server.seen().contains("behind"));
    }
}

fn sign(secret: &str, header: &Header) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
    encode(
        header,
        &json!({"user": "mallory", "roles": ["admin"]}),
        &key,
    )
    .unwrap()
}

#[test]
fn wrong_secret() {
    assert_token_refused(&sign("another secret", &Header::default()));
}

#[test]
fn expired_token() {
    assert_token_refused(&token(&json!({"user": "alice", "exp": now() - 1})));
}

#[test]
fn token_of_the_future() {
    assert_token_refused(&token(&json!({"user": "alice", "nbf": now() + 600})));
}

#[test]
fn alg_none() {
    // {"alg":"none","typ":"JWT"}
    let head = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let signed = sign(SECRET, &Header::default());
    let body = signed.split('.').nth(1).unwrap();
    assert_token_refused(&format!("{head}.{body}."));
}

#[test]
fn rs256_token() {
    assert_token_refused(RS256);
    // The same claim over a signature made with our own secret.
    let signed = sign(SECRET, &Header::new(Algorithm::HS256));
    let parts: Vec<&str> = signed.split('.').collect();
    let head = RS256.split('.').next().unwrap();
    assert_token_refused(&format!("{head}.{}.{}", parts[1], parts[2]));
}

#[test]
fn roles_that_are_no_list_of_strings() {
    for roles in [json!("admin"), json!(["admin", 1]), json!({}), json!(null)] {
        assert_token_refused(&token(&json!({"user": "alice", "roles": roles})));
    }
}

#[test]
fn garbage_instead_of_a_token() {
    assert_token_refused("garbage");
    assert_token_refused("a.b.c");
    assert_token_refused(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#);
}

#[test]
fn garbage_without_end_instead_of_a_token() {
    let server = Setup::new("tcp").secret().start();
    let mut peer = server.peer();
    peer.raw(&[b'x'; 20_000]);
    assert_eq!(peer.next_line().as_deref(), Some(INVALID_TOKEN));
    peer.assert_closed();
    let mut peer = server.peer();
    peer.raw(b"\xff\xfe\n");
    assert_eq!(peer.next_line().as_deref(), Some(INVALID_TOKEN));
    server.assert_serving_with(&token_with(&[]));
}
