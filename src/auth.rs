//! Tokens: who a peer is, and who says so.
//!
//! No clock: the time comes in as seconds since 1970.

use crate::utils::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who a peer is, as its token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The `user` claim, or `sub` where there is no `user`.
    pub user: Option<String>,
    /// The `roles` claim; empty when the token has none.
    pub roles: Vec<String>,
    /// When the token expires, in seconds since 1970; `None` for never.
    pub expires: Option<u64>,
}

impl Identity {
    /// The user for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("anonymous")
    }

    /// True when one of `required` is among this identity's roles, or none is required.
    #[must_use]
    pub fn has_any_role(&self, required: &[String]) -> bool {
        required.is_empty() || required.iter().any(|role| self.roles.contains(role))
    }
}

/// What a token holds. Field order is the order in the token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With which roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// Since when, in seconds since 1970.
    pub iat: u64,
    /// Until when, in seconds since 1970.
    pub exp: u64,
}

/// Why a token is not accepted. For the server's own log: peers are never told which check failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT, wrong algorithm, or signed with another secret.
    #[error("not a token signed with our secret")]
    Untrusted,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `nbf` is still to come.
    #[error("not yet valid")]
    NotYetValid,
    /// A claim has the wrong type.
    #[error("claim '{0}' has the wrong type")]
    Malformed(&'static str),
}

/// Checks tokens against a secret.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl Verifier {
    /// Accepts HS256, HS384 and HS512 under `secret`.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.algorithms = vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        // The library only checks the signature; what the claims mean is decided below, once.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self {
            key: DecodingKey::from_secret(secret.expose().as_bytes()),
            validation,
        }
    }

    /// Turns a token into an identity. `now` is in seconds since 1970; there is no leeway.
    ///
    /// # Errors
    /// Whatever makes the token unacceptable.
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, TokenError> {
        let data = jsonwebtoken::decode::<serde_json::Map<String, Value>>(
            token,
            &self.key,
            &self.validation,
        )
        .map_err(|_| TokenError::Untrusted)?;
        let claims = data.claims;
        let text = |name: &'static str| match claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(TokenError::Malformed(name)),
        };
        let seconds = |name: &'static str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(TokenError::Malformed(name)),
        };
        let user = match text("user")? {
            Some(user) => Some(user),
            None => text("sub")?,
        };
        let roles = match claims.get("roles") {
            None => Vec::new(),
            Some(roles) => {
                serde_json::from_value(roles.clone()).map_err(|_| TokenError::Malformed("roles"))?
            }
        };
        let expires = seconds("exp")?;
        if expires.is_some_and(|exp| exp <= now as f64) {
            return Err(TokenError::Expired);
        }
        if seconds("nbf")?.is_some_and(|nbf| nbf > now as f64) {
            return Err(TokenError::NotYetValid);
        }
        Ok(Identity {
            user,
            roles,
            expires: expires.map(|exp| exp.ceil() as u64),
        })
    }
}

/// Signs `claims` with HS256.
///
/// # Errors
/// The crypto library's, which does not happen with HMAC keys.
pub fn issue(secret: &Secret, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
}

/// A fresh secret of `bytes` random bytes, as base64url text without padding.
#[must_use]
pub fn generate_secret(bytes: usize) -> Secret {
    let mut random = vec![0; bytes];
    rand::fill(&mut random[..]);
    URL_SAFE_NO_PAD.encode(random).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn sign(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    fn verify(token: &str) -> Result<Identity, TokenError> {
        Verifier::new(&Secret::from("s3cret".to_owned())).verify(token, NOW)
    }

    #[test]
    fn claims_become_an_identity() {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let claims = json!({"user": "alice", "roles": ["a", "b"], "exp": NOW + 1, "nbf": NOW, "iat": NOW});
            let identity = verify(&sign(&claims, algorithm, "s3cret")).unwrap();
            assert_eq!(identity.user.as_deref(), Some("alice"));
            assert_eq!(identity.roles, ["a", "b"]);
            assert_eq!(identity.expires, Some(NOW + 1));
        }
        let bare = verify(&sign(
            &json!({"sub": "bob", "aud": "x"}),
            Algorithm::HS256,
            "s3cret",
        ))
        .unwrap();
        assert_eq!(
            (bare.name(), bare.roles.len(), bare.expires),
            ("bob", 0, None)
        );
    }

    #[test]
    fn bad_claims_are_refused() {
        for (claims, error) in [
            (json!({"exp": NOW}), TokenError::Expired),
            (json!({"exp": NOW - 1}), TokenError::Expired),
            (json!({"exp": "soon"}), TokenError::Malformed("exp")),
            (json!({"exp": null}), TokenError::Malformed("exp")),
            (json!({"nbf": NOW + 1}), TokenError::NotYetValid),
            (json!({"roles": "admin"}), TokenError::Malformed("roles")),
            (
                json!({"roles": ["admin", 7]}),
                TokenError::Malformed("roles"),
            ),
            (
                json!({"roles": {"admin": true}}),
                TokenError::Malformed("roles"),
            ),
            (json!({"roles": null}), TokenError::Malformed("roles")),
            (json!({"user": ["x"]}), TokenError::Malformed("user")),
        ] {
            assert_eq!(
                verify(&sign(&claims, Algorithm::HS256, "s3cret")),
                Err(error),
                "{claims}"
            );
        }
    }

    #[test]
    fn only_our_signature_counts() {
        let good = sign(&json!({"user": "alice"}), Algorithm::HS256, "s3cret");
        let other = sign(&json!({"user": "alice"}), Algorithm::HS256, "other");
        let body = good.split('.').nth(1).unwrap();
        let none = format!(
            "{}.{body}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#)
        );
        let rsa = format!(
            "{}.{body}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#),
            good.split('.').nth(2).unwrap()
        );
        let cut = &good[..good.len() - 4];
        for bad in [
            &other,
            &none,
            &rsa,
            cut,
            "",
            ".",
            "..",
            "garbage",
            "{}",
            &format!("{good} "),
        ] {
            assert_eq!(verify(bad), Err(TokenError::Untrusted), "{bad}");
        }
    }

    #[test]
    fn any_required_role_suffices() {
        let identity = Identity {
            roles: vec!["user".into()],
            ..Identity::default()
        };
        let required = |roles: &[&str]| {
            roles
                .iter()
                .map(|role| (*role).to_owned())
                .collect::<Vec<_>>()
        };
        assert!(identity.has_any_role(&[]));
        assert!(identity.has_any_role(&required(&["admin", "user"])));
        assert!(!identity.has_any_role(&required(&["admin"])));
    }

    #[test]
    fn secrets_have_the_asked_size() {
        for (bytes, length) in [(16, 22), (32, 43), (64, 86)] {
            assert_eq!(generate_secret(bytes).expose().len(), length);
        }
        assert_ne!(generate_secret(32).expose(), generate_secret(32).expose());
    }
}
