//! Tokens signed with private keys, and attacks on their verification.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use serde_json::json;

struct Issuer {
    algorithm: Algorithm,
    pair: KeyPair,
}

impl Issuer {
    fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        Self { algorithm, pair }
    }

    fn signing_key(&self) -> EncodingKey {
        let der = self.pair.serialize_der();
        match self.algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(&der),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&der),
            // The key itself, after the 26 bytes that identify it (PKCS #8).
            _ => EncodingKey::from_rsa_der(&der[26..]),
        }
    }

    fn jwk(&self) -> Value {
        if self.algorithm == Algorithm::EdDSA {
            let x = URL_SAFE_NO_PAD.encode(self.pair.public_key_raw());
            return json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        }
        let jwk = Jwk::from_encoding_key(&self.signing_key(), self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        // Some providers omit it.
        jwk.as_object_mut().unwrap().remove("alg");
        jwk
    }

    fn sign(&self, kid: Option<&str>) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(Into::into);
        jsonwebtoken::encode(&header, &json!({"sub": "ann"}), &self.signing_key()).unwrap()
    }
}

fn keys(set: &[Value]) -> Keys {
    Keys::of_set(&json!({"keys": set}).to_string()).unwrap()
}

fn signer(keys: &Keys, token: &str) -> Option<usize> {
    let header = token.split('.').next().unwrap();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap();
    let header = serde_json::from_slice(&header).unwrap();
    keys.signer(token, &header).map(|signer| signer.number)
}

#[test]
fn each_kind_of_key_checks_its_own_algorithm() {
    let kinds = [
        Algorithm::RS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];
    let issuers = kinds.map(Issuer::new);
    let set: Vec<Value> = issuers.iter().map(Issuer::jwk).collect();
    let keys = keys(&set);
    for (at, issuer) in issuers.iter().enumerate() {
        let token = issuer.sign(None);
        assert_eq!(
            signer(&keys, &token),
            Some(at + 1),
            "{:?}",
            issuer.algorithm
        );
        let stranger = Issuer::new(issuer.algorithm).sign(None);
        assert_eq!(signer(&keys, &stranger), None);
    }
    // An RSA key is for RS256, unless it says otherwise.
    let mut other = Issuer::new(Algorithm::RS256);
    let mut jwk = other.jwk();
    other.algorithm = Algorithm::PS512;
    assert_eq!(
        signer(
            &super::Keys::of_set(&json!({"keys": [jwk]}).to_string()).unwrap(),
            &other.sign(None)
        ),
        None
    );
    jwk["alg"] = "PS512".into();
    let set = json!({"keys": [jwk]}).to_string();
    assert_eq!(
        signer(&Keys::of_set(&set).unwrap(), &other.sign(None)),
        Some(1)
    );
}

#[test]
fn the_key_is_the_one_that_the_token_names() {
    let (one, two) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::ES256));
    let named = |issuer: &Issuer, kid: &str| {
        let mut jwk = issuer.jwk();
        jwk["kid"] = kid.into();
        jwk
    };
    let keys = keys(&[named(&one, "1"), named(&two, "2")]);
    for (token, by) in [
        (one.sign(Some("1")), Some(1)),
        (two.sign(Some("2")), Some(2)),
        (two.sign(None), Some(2)),
        (one.sign(Some("2")), None),
        (one.sign(Some("3")), None),
        (one.sign(Some("../1'\"")), None),
    ] {
        assert_eq!(signer(&keys, &token), by, "{token}");
    }
}

/// The public key as the secret of an HMAC, `none`, and HS256 of any kind.
#[test]
fn a_token_does_not_choose_the_algorithm() {
    let issuer = Issuer::new(Algorithm::RS256);
    let jwk = issuer.jwk();
    let keys = keys(std::slice::from_ref(&jwk));
    let public = issuer.pair.public_key_pem();
    let modulus = jwk["n"].as_str().unwrap().to_owned();
    for secret in [public, modulus, jwk.to_string(), String::from("x")] {
        let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &json!({}), &key).unwrap();
        assert_eq!(signer(&keys, &token), None);
    }
    let [_, claims, signature] = issuer
        .sign(None)
        .split('.')
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"RS512"}"#,
        r#"{"alg":"ES256"}"#,
    ] {
        for signature in ["", &signature] {
            let token = format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(signer(&keys, &token), None, "{header}");
        }
    }
    // Nor may it bring its own key.
    let mut header = Header::new(Algorithm::RS256);
    let stranger = Issuer::new(Algorithm::RS256);
    header.jwk = serde_json::from_value(stranger.jwk()).ok();
    header.jku = Some("https://evil.example/keys".to_owned());
    let token = jsonwebtoken::encode(&header, &json!({}), &stranger.signing_key()).unwrap();
    assert_eq!(signer(&keys, &token), None);
}

#[test]
fn what_is_no_set_of_public_keys_is_named() {
    let good = Issuer::new(Algorithm::ES256).jwk();
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    for (set, part) in [
        ("x".to_owned(), "it is no JSON Web Key Set"),
        ("[]".to_owned(), "it is no JSON Web Key Set"),
        (json!({"keys": []}).to_string(), "it has no key"),
        (
            json!({"keys": [with("use", "enc".into())]}).to_string(),
            "it has no key",
        ),
        (
            json!({"keys": [with("alg", "RS256".into())]}).to_string(),
            "it has no key",
        ),
        (
            json!({"keys": [with("alg", "none".into())]}).to_string(),
            "it has no key",
        ),
        (
            json!({"keys": [good, {"kty": "oct", "k": "c2VjcmV0"}]}).to_string(),
            "key 2 is a shared secret",
        ),
        (
            json!({"keys": vec![good.clone(); 65]}).to_string(),
            "more than 64 keys",
        ),
    ] {
        let error = Keys::of_set(&set).unwrap_err().to_string();
        assert!(error.contains(part), "{set}: {error}");
    }
    let mixed = json!({"keys": [{"kty": "new"}, 7, with("use", "sig".into())]});
    assert_eq!(Keys::of_set(&mixed.to_string()).unwrap().len(), 1);
}
