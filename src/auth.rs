//! Tokens and identities.
//!
//! No clock: the time comes in as seconds since 1970.

mod keys;
mod refetch;
mod session_ids;
mod shape;

pub use keys::{KeySetError, Keys, Signer};
pub use refetch::{Ended, Refetch, Step};
pub use session_ids::{Revivable, SessionIdKeys};
pub use shape::{expired_for, expires_at, mistake};

use crate::revocations::Revocations;
use crate::utils::secret::Secret;
use crate::utils::unique::Unique;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
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
    /// The token itself, to be checked again when secrets or revocations change; `None` if none was
    /// required.
    pub token: Option<Secret>,
}

impl Identity {
    fn read(claims: &Members, token: &Secret, names: &ClaimNames) -> Result<Self, TokenError> {
        let user = names.user_claim(claims);
        Ok(Self {
            user: text_of(claim(claims, user), user)?,
            roles: names.roles(claims)?,
            expires: seconds(claims, "exp")?.map(|exp| exp.ceil() as u64),
            id: text_of(claims.get("jti"), "jti")?,
            token: Some(token.clone()),
        })
    }

    /// The user for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("anonymous")
    }

    /// A claim of the token, named as [`claim`] takes it.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<Value> {
        let (_, claims) = read_unverified(self.token.as_ref()?).ok()?;
        claim(&claims, name).cloned()
    }

    /// True when one of `required` is among this identity's roles, or none is required.
    #[must_use]
    pub fn has_any_role(&self, required: &[String]) -> bool {
        required.is_empty() || required.iter().any(|role| self.roles.contains(role))
    }
}

/// A claim by its name, by a path of names with dots between them, or, if it begins with `/`, by a JSON
/// Pointer (RFC 6901).
#[must_use]
pub fn claim<'a>(claims: &'a Members, name: &str) -> Option<&'a Value> {
    let Some(pointer) = name.strip_prefix('/') else {
        let mut names = name.split('.');
        let first = claims.get(names.next()?)?;
        return names.try_fold(first, |value, name| value.get(name));
    };
    let (first, rest) = match pointer.split_once('/') {
        Some((first, _)) => (first, &pointer[first.len()..]),
        None => (pointer, ""),
    };
    let first = first.replace("~1", "/").replace("~0", "~");
    claims.get(&first)?.pointer(rest)
}

fn text_of(claim: Option<&Value>, name: &str) -> Result<Option<String>, TokenError> {
    match claim {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::Malformed(name.to_owned())),
    }
}

/// Where in a token user and roles stand; each as [`claim`] takes it.
#[derive(Clone, Debug, Default)]
pub struct ClaimNames {
    /// `None` for `user`, or `sub` where there is no `user`.
    pub user: Option<String>,
    /// `None` for `roles`.
    pub roles: Option<String>,
}

impl ClaimNames {
    /// The claim with the roles.
    #[must_use]
    pub fn roles_claim(&self) -> &str {
        self.roles.as_deref().unwrap_or("roles")
    }

    /// The claim that has the user in this token.
    #[must_use]
    pub fn user_claim(&self, claims: &Members) -> &str {
        let is_there = |name| claims.get(name).is_some_and(|value| !value.is_null());
        match &self.user {
            Some(name) => name,
            None if is_there("sub") && !is_there("user") => "sub",
            None => "user",
        }
    }

    /// The roles: a list of strings, or, under a name of the operator's, strings with blanks between them as
    /// OAuth's `scope` has them (RFC 9068, section 2.2.3).
    ///
    /// # Errors
    /// The claim has another type.
    pub fn roles(&self, claims: &Members) -> Result<Vec<String>, TokenError> {
        let name = self.roles_claim();
        let malformed = || TokenError::Malformed(name.to_owned());
        match claim(claims, name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) if self.roles.is_some() => {
                Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
            }
            Some(Value::Array(list)) => {
                let text = |role: &Value| role.as_str().map(str::to_owned);
                list.iter()
                    .map(text)
                    .collect::<Option<_>>()
                    .ok_or_else(malformed)
            }
            Some(_) => Err(malformed()),
        }
    }
}

fn seconds(claims: &Members, name: &'static str) -> Result<Option<f64>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_f64()
            .map(Some)
            .ok_or_else(|| TokenError::Malformed(name.to_owned())),
    }
}

/// What a token holds. Field order is the order in the token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// The issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// The id of this token.
    pub jti: String,
    /// When it was issued, in seconds since 1970.
    pub iat: u64,
    /// When it expires, in seconds since 1970.
    pub exp: u64,
}

/// Why a token is not accepted. For the server's own log: peers are never told which check failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT, wrong algorithm, or signed with another secret.
    #[error("not a token that one of our keys has signed")]
    Untrusted,
    /// Its header names a key that is not in the set.
    #[error("its header names a key ('kid') that the key set does not have")]
    UnknownKey,
    /// A member of its header or payload is duplicated: another program that checks the token may
    /// read the other one.
    #[error("a member of its header or its claims stands twice")]
    Repeated,
    /// Its header has `crit`, so programs that do not know the extensions named there must refuse
    /// it (RFC 7515, section 4.1.11), and we know none.
    #[error("its header asks for extensions that are not known here ('crit')")]
    Critical,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// The time in this claim, `nbf` or `iat`, is still to come.
    #[error(
        "not yet valid: the time in claim '{0}' is still to come; compare the clocks, or raise --jwt-leeway"
    )]
    NotYetValid(&'static str),
    /// A claim has the wrong type.
    #[error("claim '{0}' has the wrong type")]
    Malformed(String),
    /// `iss` is not the one that is required.
    #[error("not from the required issuer")]
    Issuer,
    /// `aud` does not name who is required.
    #[error("not for the required audience")]
    Audience,
    /// Revoked, by its `jti` or its user.
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
    /// How far the issuer's clock may be ahead of ours, in seconds. It applies to `nbf` and `iat`;
    /// `exp` is exact.
    pub leeway: u64,
    /// Where user and roles stand.
    pub names: ClaimNames,
}

/// Checks tokens against keys.
#[derive(Debug)]
pub struct Verifier {
    keys: Arc<Keys>,
    demands: Demands,
    revocations: Arc<Revocations>,
}

impl Verifier {
    /// Accepts what one of `keys` has signed.
    #[must_use]
    pub fn new(keys: Arc<Keys>, demands: Demands, revocations: Arc<Revocations>) -> Self {
        Self {
            keys,
            demands,
            revocations,
        }
    }

    /// Turns a token into an identity. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why the token is not accepted.
    pub fn verify(&self, token: &Secret, now: u64) -> Result<Identity, TokenError> {
        let claims = self.trusted_claims(token)?;
        let identity = Identity::read(&claims, token, &self.demands.names)?;
        // First, because a session may outlive a token that has merely expired.
        let (id, user) = (identity.id.as_deref(), identity.user.as_deref());
        if self.revocations.has(id, user) {
            return Err(TokenError::Revoked);
        }
        if identity.expires.is_some_and(|exp| exp <= now) {
            return Err(TokenError::Expired);
        }
        let latest = now.saturating_add(self.demands.leeway) as f64;
        // For compatibility, an `iat` that is not a number is ignored.
        let issued = claims.get("iat").and_then(Value::as_f64);
        for (claim, time) in [("nbf", seconds(&claims, "nbf")?), ("iat", issued)] {
            if time.is_some_and(|time| time > latest) {
                return Err(TokenError::NotYetValid(claim));
            }
        }
        self.check_demands(&claims)?;
        Ok(identity)
    }

    /// The keys of session ids.
    #[must_use]
    pub fn session_ids(&self) -> &SessionIdKeys {
        self.keys.session_ids()
    }

    /// The claim in which the roles are looked for.
    #[must_use]
    pub fn roles_claim(&self) -> &str {
        self.demands.names.roles_claim()
    }

    /// The identity in a token that our keys have signed, even if it is not valid now: to record
    /// who was refused.
    #[must_use]
    pub fn bearer(&self, token: &Secret) -> Option<Identity> {
        let claims = self.trusted_claims(token).ok()?;
        Identity::read(&claims, token, &self.demands.names).ok()
    }

    /// The claims, if one of the keys has signed them.
    fn trusted_claims(&self, token: &Secret) -> Result<Members, TokenError> {
        let (header, claims) = read_unverified(token)?;
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        match self.keys.signer(token.expose(), &header) {
            Some(_) => Ok(claims),
            None if self.keys.misses(&header) => Err(TokenError::UnknownKey),
            None => Err(TokenError::Untrusted),
        }
    }

    /// The key that has signed this token.
    #[must_use]
    pub fn signer(&self, token: &Secret) -> Option<Signer<'_>> {
        let (header, _) = read_unverified(token).ok()?;
        self.keys.signer(token.expose(), &header)
    }

    fn check_demands(&self, claims: &Members) -> Result<(), TokenError> {
        let is = |claim: &Value, wanted: &str| claim.as_str() == Some(wanted);
        let is_for =
            |claim: &Value, us: &str| claim.as_str().is_some_and(|aud| is_audience(aud, us));
        if let Some(issuer) = &self.demands.issuer {
            match claims.get("iss") {
                Some(claim) if is(claim, issuer) => {}
                None | Some(Value::String(_)) => return Err(TokenError::Issuer),
                Some(_) => return Err(TokenError::Malformed("iss".to_owned())),
            }
        }
        if let Some(audience) = &self.demands.audience {
            match claims.get("aud") {
                Some(Value::Array(list)) if list.iter().any(|claim| !claim.is_string()) => {
                    return Err(TokenError::Malformed("aud".to_owned()));
                }
                Some(Value::Array(list)) if list.iter().any(|claim| is_for(claim, audience)) => {}
                Some(claim) if is_for(claim, audience) => {}
                None | Some(Value::String(_) | Value::Array(_)) => {
                    return Err(TokenError::Audience);
                }
                Some(_) => return Err(TokenError::Malformed("aud".to_owned())),
            }
        }
        Ok(())
    }
}

/// Whether an audience is the one that is wanted. Of a URL, case does not count in the scheme and in the host
/// (RFC 3986, section 6.2.2.1).
fn is_audience(audience: &str, wanted: &str) -> bool {
    fn parts(text: &str) -> Option<(&str, &str)> {
        let host = text.find("://")? + 3;
        let path = text[host..].find('/').map_or(text.len(), |at| host + at);
        Some(text.split_at(path))
    }
    match (parts(audience), parts(wanted)) {
        (Some((origin, path)), Some((other, wanted))) => {
            origin.eq_ignore_ascii_case(other) && path == wanted
        }
        _ => audience == wanted,
    }
}

/// Header and claims of a token, without checking its signature.
///
/// # Errors
/// [`TokenError::Untrusted`] if it is not a token, [`TokenError::Repeated`] when it would not be
/// read by all programs in the same way.
pub fn read_unverified(token: &Secret) -> Result<(Members, Members), TokenError> {
    let parts: Vec<&str> = token.expose().split('.').collect();
    let [header, claims, _signature] = parts[..] else {
        return Err(TokenError::Untrusted);
    };
    Ok((read_part(header)?, read_part(claims)?))
}

fn read_part(part: &str) -> Result<Members, TokenError> {
    let text = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Untrusted)?;
    match serde_json::from_slice(&text) {
        Ok(Unique(Value::Object(members))) => Ok(members),
        Ok(_) => Err(TokenError::Untrusted),
        Err(_) if serde_json::from_slice::<Members>(&text).is_ok() => Err(TokenError::Repeated),
        Err(_) => Err(TokenError::Untrusted),
    }
}

/// Signs `claims` with HS256.
///
/// # Errors
/// The crypto library's, when the secret is empty.
pub fn issue(secret: &Secret, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
    let key = EncodingKey::from_secret(secret.expose().as_bytes())?;
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
mod tests;
