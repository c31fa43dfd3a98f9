//! Tokens: who a peer is, and who says so.
//!
//! No clock: the time comes in as seconds since 1970.

use crate::revocations::Revocations;
use crate::utils::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The algorithms that are accepted: those of a shared secret.
pub const ALGORITHMS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// The members of a token's header or payload.
pub type Members = Map<String, Value>;

/// Who a peer is, as its token says.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The `user` claim, or `sub` where there is no `user`.
    pub user: Option<String>,
    /// The `roles` claim; empty when the token has none.
    pub roles: Vec<String>,
    /// When the token expires, in seconds since 1970; `None` for never.
    pub expires: Option<u64>,
    /// The `jti` claim, by which the token can be revoked.
    pub id: Option<String>,
    /// The token itself, to be checked again when secrets or revocations change; `None` where
    /// nobody had to show one.
    pub token: Option<Secret>,
}

impl Identity {
    fn read(claims: &Members, token: &Secret) -> Result<Self, TokenError> {
        let user = match text(claims, "user")? {
            Some(user) => Some(user),
            None => text(claims, "sub")?,
        };
        let roles = match claims.get("roles") {
            None => Vec::new(),
            Some(roles) => {
                serde_json::from_value(roles.clone()).map_err(|_| TokenError::Malformed("roles"))?
            }
        };
        Ok(Self {
            user,
            roles,
            expires: seconds(claims, "exp")?.map(|exp| exp.ceil() as u64),
            id: text(claims, "jti")?,
            token: Some(token.clone()),
        })
    }

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

fn text(claims: &Members, name: &'static str) -> Result<Option<String>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::Malformed(name)),
    }
}

fn seconds(claims: &Members, name: &'static str) -> Result<Option<f64>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(TokenError::Malformed(name)),
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
    /// Who says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// To whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// What this token is called.
    pub jti: String,
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
    /// `iss` is not the one that is required.
    #[error("not from the required issuer")]
    Issuer,
    /// `aud` does not name who is required.
    #[error("not for the required audience")]
    Audience,
    /// Called back, by its `jti` or its user.
    #[error("revoked")]
    Revoked,
}

/// What is required of a token beyond its signature.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// The `iss` claim.
    pub issuer: Option<String>,
    /// The `aud` claim, or one of them.
    pub audience: Option<String>,
}

/// Checks tokens against secrets.
pub struct Verifier {
    keys: Vec<DecodingKey>,
    validation: Validation,
    demands: Demands,
    revocations: Arc<Revocations>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl Verifier {
    /// Accepts HS256, HS384 and HS512 under any of `secrets`.
    #[must_use]
    pub fn new(secrets: &[Secret], demands: Demands, revocations: Arc<Revocations>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.algorithms = ALGORITHMS.to_vec();
        // The library only checks the signature; what the claims mean is decided below, once.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let key = |secret: &Secret| DecodingKey::from_secret(secret.expose().as_bytes());
        Self {
            keys: secrets.iter().map(key).collect(),
            validation,
            demands,
            revocations,
        }
    }

    /// Turns a token into an identity. `now` is in seconds since 1970; there is no leeway.
    ///
    /// # Errors
    /// Whatever makes the token unacceptable.
    pub fn verify(&self, token: &Secret, now: u64) -> Result<Identity, TokenError> {
        let claims = self.trusted_claims(token).ok_or(TokenError::Untrusted)?;
        let identity = Identity::read(&claims, token)?;
        if identity.expires.is_some_and(|exp| exp <= now) {
            return Err(TokenError::Expired);
        }
        if seconds(&claims, "nbf")?.is_some_and(|nbf| nbf > now as f64) {
            return Err(TokenError::NotYetValid);
        }
        self.check_demands(&claims)?;
        let (id, user) = (identity.id.as_deref(), identity.user.as_deref());
        if self.revocations.has(id, user) {
            return Err(TokenError::Revoked);
        }
        Ok(identity)
    }

    /// Whom a token that we have signed names, whether or not it is good now: for the record of who
    /// was refused.
    #[must_use]
    pub fn bearer(&self, token: &Secret) -> Option<Identity> {
        Identity::read(&self.trusted_claims(token)?, token).ok()
    }

    /// The claims, if one of the secrets has signed them. All secrets are tried, in order and
    /// whatever comes out, so that the time it takes does not tell which one it was.
    fn trusted_claims(&self, token: &Secret) -> Option<Members> {
        let mut trusted = None;
        for key in &self.keys {
            let decoded = jsonwebtoken::decode::<Members>(token.expose(), key, &self.validation);
            trusted = trusted.or(decoded.ok());
        }
        trusted.map(|data| data.claims)
    }

    fn check_demands(&self, claims: &Members) -> Result<(), TokenError> {
        let is = |claim: &Value, wanted: &str| claim.as_str() == Some(wanted);
        if let Some(issuer) = &self.demands.issuer {
            match claims.get("iss") {
                Some(claim) if is(claim, issuer) => {}
                None | Some(Value::String(_)) => return Err(TokenError::Issuer),
                Some(_) => return Err(TokenError::Malformed("iss")),
            }
        }
        if let Some(audience) = &self.demands.audience {
            match claims.get("aud") {
                Some(Value::Array(list)) if list.iter().any(|claim| !claim.is_string()) => {
                    return Err(TokenError::Malformed("aud"));
                }
                Some(Value::Array(list)) if list.iter().any(|claim| is(claim, audience)) => {}
                Some(claim) if is(claim, audience) => {}
                None | Some(Value::String(_) | Value::Array(_)) => {
                    return Err(TokenError::Audience);
                }
                Some(_) => return Err(TokenError::Malformed("aud")),
            }
        }
        Ok(())
    }
}

/// Header and claims of a token, whoever has signed it; `None` when it is no token at all.
#[must_use]
pub fn read_unverified(token: &Secret) -> Option<(Members, Members)> {
    let parts: Vec<&str> = token.expose().split('.').collect();
    let [header, claims, _signature] = parts[..] else {
        return None;
    };
    let read = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some((read(header)?, read(claims)?))
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

/// A fresh name for a token, for its `jti` claim: hexadecimal digits, easy to copy and to search.
#[must_use]
pub fn generate_id() -> String {
    format!("{:016x}", rand::random::<u64>())
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

    fn secret(text: &str) -> Secret {
        text.to_owned().into()
    }

    fn verifier(secrets: &[&str], demands: Demands, revoked: &str) -> Verifier {
        let secrets: Vec<Secret> = secrets.iter().map(|text| secret(text)).collect();
        let revocations = Revocations::parse(revoked).unwrap();
        Verifier::new(&secrets, demands, Arc::new(revocations))
    }

    fn verify(token: &str) -> Result<Identity, TokenError> {
        verifier(&["s3cret"], Demands::default(), "").verify(&secret(token), NOW)
    }

    #[test]
    fn debug_shows_neither_secret_nor_token() {
        let token = sign(&json!({"user": "alice"}), Algorithm::HS256, "s3cret");
        let verifier = verifier(&["s3cret"], Demands::default(), "");
        let identity = verifier.verify(&secret(&token), NOW).unwrap();
        let debug = format!("{verifier:?} {identity:?}");
        assert!(
            !debug.contains("s3cret") && !debug.contains(&token[..10]),
            "{debug}"
        );
    }

    #[test]
    fn any_of_the_secrets_will_do() {
        let verifier = verifier(&["new", "old", "old"], Demands::default(), "");
        let token = |key| secret(&sign(&json!({"user": "alice"}), Algorithm::HS384, key));
        for key in ["new", "old"] {
            let identity = verifier.verify(&token(key), NOW).unwrap();
            assert_eq!(identity.name(), "alice");
        }
        let error = verifier.verify(&token("older"), NOW).unwrap_err();
        assert_eq!(error, TokenError::Untrusted);
    }

    #[test]
    fn issuer_and_audience_are_required_where_asked_for() {
        use TokenError::{Audience, Issuer, Malformed};
        let some = |text: &str| Some(text.to_owned());
        let (none, issuer, audience, both) = (
            (None, None),
            (some("us"), None),
            (None, some("them")),
            (some("us"), some("them")),
        );
        for (demands, claims, outcome) in [
            (&none, json!({}), Ok(())),
            (&none, json!({"iss": 1, "aud": {"x": 1}}), Ok(())),
            (&issuer, json!({"iss": "us"}), Ok(())),
            (&issuer, json!({"iss": "us", "aud": 7}), Ok(())),
            (&issuer, json!({}), Err(Issuer)),
            (&issuer, json!({"iss": "Us"}), Err(Issuer)),
            (&issuer, json!({"iss": ["us"]}), Err(Malformed("iss"))),
            (&issuer, json!({"iss": null}), Err(Malformed("iss"))),
            (&audience, json!({"aud": "them"}), Ok(())),
            (&audience, json!({"aud": ["x", "them"]}), Ok(())),
            (&audience, json!({}), Err(Audience)),
            (&audience, json!({"aud": "themselves"}), Err(Audience)),
            (&audience, json!({"aud": []}), Err(Audience)),
            (&audience, json!({"aud": ["x"]}), Err(Audience)),
            (
                &audience,
                json!({"aud": ["them", 7]}),
                Err(Malformed("aud")),
            ),
            (
                &audience,
                json!({"aud": {"them": 1}}),
                Err(Malformed("aud")),
            ),
            (&both, json!({"iss": "us", "aud": "them"}), Ok(())),
            (&both, json!({"iss": "us"}), Err(Audience)),
            (&both, json!({"aud": "them"}), Err(Issuer)),
        ] {
            let demands = Demands {
                issuer: demands.0.clone(),
                audience: demands.1.clone(),
            };
            let token = secret(&sign(&claims, Algorithm::HS256, "s3cret"));
            let verified = verifier(&["s3cret"], demands, "").verify(&token, NOW);
            assert_eq!(verified.map(drop), outcome, "{claims}");
        }
    }

    #[test]
    fn revoked_tokens_are_refused() {
        let verifier = verifier(&["s3cret"], Demands::default(), "a1\nuser:mallory");
        for (claims, outcome) in [
            (json!({"user": "alice", "jti": "a2"}), Ok(())),
            (json!({"user": "a1"}), Ok(())),
            (json!({"jti": "mallory"}), Ok(())),
            (
                json!({"user": "alice", "jti": "a1"}),
                Err(TokenError::Revoked),
            ),
            (
                json!({"user": "mallory", "jti": "a2"}),
                Err(TokenError::Revoked),
            ),
            (json!({"sub": "mallory"}), Err(TokenError::Revoked)),
            (json!({"jti": 7}), Err(TokenError::Malformed("jti"))),
        ] {
            let token = secret(&sign(&claims, Algorithm::HS256, "s3cret"));
            let verified = verifier.verify(&token, NOW);
            assert_eq!(verified.map(drop), outcome, "{claims}");
        }
    }

    #[test]
    fn whom_a_refused_token_names_is_told_where_it_is_one_of_ours() {
        let verifier = verifier(&["s3cret"], Demands::default(), "a1");
        for claims in [
            json!({"user": "alice", "jti": "a1"}),
            json!({"user": "alice", "exp": NOW}),
            json!({"user": "alice", "nbf": NOW + 1}),
        ] {
            let token = |key| secret(&sign(&claims, Algorithm::HS256, key));
            assert!(verifier.verify(&token("s3cret"), NOW).is_err());
            let bearer = verifier.bearer(&token("s3cret")).unwrap();
            assert_eq!(bearer.name(), "alice");
            assert!(verifier.bearer(&token("other")).is_none());
        }
    }

    #[test]
    fn tokens_are_read_without_their_secret() {
        let token = sign(&json!({"user": "alice"}), Algorithm::HS512, "whatever");
        let (header, claims) = read_unverified(&secret(&token)).unwrap();
        assert_eq!(header["alg"], "HS512");
        assert_eq!(claims["user"], "alice");
        let (head, _) = token.rsplit_once('.').unwrap();
        let list = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode("[]"),
            URL_SAFE_NO_PAD.encode("{}")
        );
        for bad in ["", "..", "a.b.c", head, &format!("{token}."), &list] {
            assert!(read_unverified(&secret(bad)).is_none(), "{bad}");
        }
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
                verify(&sign(&claims, Algorithm::HS256, "s3cret")).unwrap_err(),
                error,
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
            assert_eq!(verify(bad).unwrap_err(), TokenError::Untrusted, "{bad}");
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
        assert_ne!(generate_id(), generate_id());
        assert_eq!(generate_id().len(), 16);
    }
}
