//! Tokens: none is accepted without our signature, and with it only as the claims say.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mcp_remote::auth::{Demands, Keys, Verifier};
use mcp_remote::utils::secret::Secret;
use serde_json::Value;
use std::sync::Arc;

const SECRET: &str = "what the fuzzer signs with";
const NOW: u64 = 1_800_000_000;

/// The first byte selects: a token as it is, or claims to sign.
pub fn run(data: &[u8]) {
    let [kind, rest @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let secrets = ["an older secret", SECRET].map(|secret| Secret::from(secret.to_owned()));
    let verifier = Verifier::new(
        Keys::of_secrets(&secrets).into(),
        Demands::default(),
        Arc::default(),
    );
    let verify = |token: &str| verifier.verify(&Secret::from(token.to_owned()), NOW);
    if kind & 1 == 0 {
        // The fuzzer cannot sign.
        assert!(verify(text).is_err());
        return;
    }
    let Ok(claims) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let algorithm = match kind >> 1 & 3 {
        0 => Algorithm::HS384,
        1 => Algorithm::HS512,
        _ => Algorithm::HS256,
    };
    let sign = |secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).expect("HMAC does not fail")
    };
    let token = sign(SECRET);
    if let Ok(identity) = verify(&token) {
        let number = |name: &str| claims[name].as_f64();
        assert!(number("exp").is_none_or(|exp| exp > NOW as f64));
        assert!(number("nbf").is_none_or(|nbf| nbf <= NOW as f64));
        let roles = claims
            .get("roles")
            .map_or(0, |roles| roles.as_array().expect("a list").len());
        assert_eq!(identity.roles.len(), roles);
        assert!(identity.roles.iter().all(|role| {
            claims["roles"]
                .as_array()
                .is_some_and(|roles| roles.contains(&Value::from(role.as_str())))
        }));
    }
    assert!(verify(&sign("another secret")).is_err());
    let (head, signature) = token.rsplit_once('.').expect("three parts");
    let place = usize::from(*kind) % (signature.len() - 1);
    let other = if signature.as_bytes()[place] == b'A' {
        "B"
    } else {
        "A"
    };
    let forged = format!(
        "{head}.{}{other}{}",
        &signature[..place],
        &signature[place + 1..]
    );
    assert!(verify(&forged).is_err());
    assert!(verify(head).is_err());
}
