//! `--jwks`: tokens of an identity provider, signed with a private key.

use crate::common::{BOTH, Setup, TestServer, now, token};
use crate::process::{binary, eventually, run};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub struct Provider {
    key: EncodingKey,
    kid: &'static str,
}

impl Provider {
    pub fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        Self { key, kid }
    }

    pub fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = self.kid.into();
        jwk
    }

    pub fn token(&self, aud: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.to_owned());
        let claims = json!({"sub": "ann", "aud": aud, "scope": "user", "exp": now() + 600});
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}

fn write(folder: &Path, providers: &[&Provider]) -> PathBuf {
    let keys: Vec<Value> = providers.iter().map(|provider| provider.jwk()).collect();
    let path = folder.join("keys.json");
    std::fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
    path
}

fn start(path: &Path) -> TestServer {
    let policy = json!({"permissions": {"user": {"allowedMethods": ["*"]}}});
    let rules = path.with_file_name("policy.json");
    std::fs::write(&rules, policy.to_string()).unwrap();
    let (path, rules) = (path.to_str().unwrap(), rules.to_str().unwrap());
    let tokens = [
        "--jwks",
        path,
        "--jwt-audience",
        "mcp",
        "--roles-claim",
        "scope",
    ];
    let setup = Setup::new("tcp").args(&tokens);
    setup.args(&["--permissions-config", rules]).start()
}

pub fn refused(server: &TestServer, token: &str) -> bool {
    let answer = server.peer().login(token);
    answer["error"]["data"]["reason"] == "Invalid token"
}

#[test]
fn tokens_of_the_set_come_in_and_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Provider::new("old"), Provider::new("new"));
    let path = write(folder.path(), &[&old]);
    let server = start(&path);
    let mcp = json!("mcp");
    server.assert_serving_with(&old.token(&mcp));
    server.assert_serving_with(&old.token(&json!(["other", "mcp"])));
    let hmac = token(&json!({"sub": "ann", "aud": "mcp", "scope": "user"}));
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let none = old
        .token(&mcp)
        .split_once('.')
        .map(|(_, rest)| format!("{none}.{rest}"));
    for bad in [
        new.token(&mcp),
        old.token(&json!("mcp2")),
        old.token(&json!("mc")),
        old.token(&Value::Null),
        hmac,
        none.unwrap(),
    ] {
        assert!(refused(&server, &bad), "{bad}");
    }
    // The provider rotates its key, and both are valid for a while.
    write(folder.path(), &[&old, &new]);
    server.reload();
    server.assert_serving_with(&new.token(&mcp));
    server.assert_serving_with(&old.token(&mcp));
    std::fs::write(&path, "{").unwrap();
    server.reload();
    server
        .log
        .wait_for("reload failed, keeping the previous version: the key set");
    server.assert_serving_with(&new.token(&mcp));
}

#[test]
fn misuse_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &[&Provider::new("a")]);
    let path = path.to_str().unwrap();
    let start = |flags: &[&str], secret: Option<&str>| {
        let mut command = binary();
        command
            .args(["server", "tcp", "--port", "0"])
            .args(flags)
            .args(["--", "cat"]);
        if let Some(secret) = secret {
            command.env("MCP_REMOTE_JWT_SECRET", secret);
        }
        run(&mut command, b"")
    };
    for (flags, secret, code, part) in [
        (&["--jwks", path][..], None, 2, "--jwt-audience"),
        (
            &["--jwks", path, "--jwt-audience", "a", "--jwt-secret", "x"],
            None,
            2,
            "cannot be used with",
        ),
        (
            &["--jwks", path, "--jwt-audience", "a"],
            Some("x"),
            1,
            "one or the other",
        ),
        (
            &["--jwks", "/nowhere", "--jwt-audience", "a"],
            None,
            1,
            "could not read the key set /nowhere",
        ),
    ] {
        let outcome = start(flags, secret);
        assert_eq!(outcome.code, Some(code), "{flags:?}: {outcome:?}");
        assert!(outcome.stderr.contains(part), "{flags:?}: {outcome:?}");
    }
}

#[test]
fn inspect_token_says_which_key_fits() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, other) = (Provider::new("key-1"), Provider::new("key-2"));
    let path = write(folder.path(), &[&provider]);
    let inspect = |token: &str| {
        let mut command = binary();
        command.args(["inspect-token", token, "--jwt-audience", "mcp", "--jwks"]);
        run(command.arg(&path), b"")
    };
    let good = inspect(&provider.token(&json!("mcp")));
    assert!(
        good.stdout.contains("Signed with: key key-1\n") && good.stdout.ends_with("Accepted\n"),
        "{good:?}"
    );
    let bad = inspect(&other.token(&json!("mcp")));
    assert_eq!(bad.code, Some(1));
    assert!(
        bad.stdout
            .contains("its key, key-2, is not in the set of --jwks"),
        "{bad:?}"
    );
}

/// A token with any header and claims, signed by this provider with its own algorithm.
fn forged(header: &Value, claims: &Value, by: &Provider) -> String {
    let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = parts.join(".");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &by.key, Algorithm::ES256);
    format!("{message}.{}", signature.unwrap())
}

/// The same, with a shared secret.
fn with_secret(header: &Value, claims: &Value, secret: &str) -> String {
    let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = parts.join(".");
    let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.unwrap())
}

#[test]
fn attacks_on_a_key_set_are_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (own, stranger) = (Provider::new("own"), Provider::new("own"));
    let path = write(folder.path(), &[&own]);
    let flags = [
        "--jwks",
        path.to_str().unwrap(),
        "--jwt-audience",
        "mcp",
        "--jwt-issuer",
        "https://idp.example",
        "--roles-claim",
        "scope",
    ];
    // A key is never fetched from a URL in a token.
    let evil = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    evil.set_nonblocking(true).unwrap();
    let link = format!("http://{}/keys", evil.local_addr().unwrap());
    let good = json!({"sub": "ann", "iss": "https://idp.example", "aud": "mcp", "scope": "user", "exp": now() + 600});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let head = |extra: Value| {
        let mut header = json!({"alg": "ES256", "typ": "JWT", "kid": "own"});
        header
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        header
    };
    let plain = head(json!({}));
    let untrusted = "not a token that one of our keys has signed";
    let unknown = "its header names a key ('kid') that the key set does not have";
    let none = |signature: &str| {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        format!(
            "{header}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(good.to_string())
        )
    };
    let public = own.jwk().to_string();
    let hmac = json!({"alg": "HS256", "kid": "own"});
    let cases = [
        (with_secret(&hmac, &good, &public), untrusted),
        (
            with_secret(&hmac, &good, own.jwk()["x"].as_str().unwrap()),
            untrusted,
        ),
        (with_secret(&json!({"alg": "HS256"}), &good, "x"), untrusted),
        (none(""), untrusted),
        (none("x"), untrusted),
        (
            forged(&head(json!({"alg": "RS256"})), &good, &own),
            untrusted,
        ),
        (
            forged(&head(json!({"alg": "ES384"})), &good, &own),
            untrusted,
        ),
        (
            forged(&head(json!({"kid": "../../../etc/passwd"})), &good, &own),
            unknown,
        ),
        (
            forged(&head(json!({"kid": "own' OR '1'='1"})), &good, &own),
            unknown,
        ),
        (forged(&plain, &good, &stranger), untrusted),
        (
            forged(&head(json!({"jku": link, "x5u": link})), &good, &stranger),
            untrusted,
        ),
        (
            forged(&head(json!({"jwk": stranger.jwk()})), &good, &stranger),
            untrusted,
        ),
        (
            forged(&head(json!({"crit": ["exp"]})), &good, &own),
            "'crit'",
        ),
        (
            forged(
                &plain,
                &with("iss", json!("https://idp.example.evil")),
                &own,
            ),
            "issuer",
        ),
        (
            forged(&plain, &with("iss", json!("https://idp.example/")), &own),
            "issuer",
        ),
        (
            forged(
                &plain,
                &with("iss", json!(["https://idp.example", "https://evil"])),
                &own,
            ),
            "claim 'iss' has the wrong type",
        ),
        (forged(&plain, &with("aud", json!("mc")), &own), "audience"),
        (
            forged(&plain, &with("aud", json!("mcp2")), &own),
            "audience",
        ),
        (
            forged(&plain, &with("aud", json!("mcp other")), &own),
            "audience",
        ),
        (
            forged(&plain, &with("aud", json!(["mcp", 1])), &own),
            "claim 'aud' has the wrong type",
        ),
        (
            forged(&plain, &with("exp", json!(now() - 1)), &own),
            "expired",
        ),
        (
            forged(&plain, &with("exp", json!("soon")), &own),
            "claim 'exp' has the wrong type",
        ),
        (
            forged(&plain, &with("scope", json!(1)), &own),
            "claim 'scope' has the wrong type",
        ),
        (
            forged(&plain, &with("scope", json!({"user": true})), &own),
            "claim 'scope' has the wrong type",
        ),
        (
            forged(&plain, &with("scope", json!(["user", 1])), &own),
            "claim 'scope' has the wrong type",
        ),
        (
            forged(&plain, &with("sub", json!(["ann"])), &own),
            "invalid token",
        ),
    ];
    for transport in BOTH {
        let server = Setup::new(transport).args(&flags).start();
        server.assert_serving_with(&forged(&plain, &good, &own));
        // Links beside a valid signature change nothing.
        let linked = head(json!({"jku": link, "x5u": link, "jwk": stranger.jwk()}));
        server.assert_serving_with(&forged(&linked, &good, &own));
        for (token, why) in &cases {
            let before = server.log.text().len();
            assert!(refused(&server, token), "{why}: {token}");
            eventually(why, || {
                let log = server.log.text();
                log[before..].contains(*why).then_some(())
            });
            assert!(!server.log.text().contains(token));
        }
        server.assert_serving_with(&forged(&plain, &good, &own));
    }
    assert!(evil.accept().is_err(), "somebody followed a link");
}
