//! The keys of tokens: shared secrets, or the public keys of a JSON Web Key Set (RFC 7517).

use super::session_ids::SessionIdKeys;
use super::{ALGORITHMS, Members};
use crate::utils::secret::Secret;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// The most keys that a set may have: a token that names none of them is tried with each.
const MAX_KEYS: usize = 64;

/// Keys of one kind: all of them secrets, or all of them public. `Debug` shows how many.
pub struct Keys {
    keys: Vec<Key>,
    /// They are those of a set, so a token can name one that is missing.
    is_set: bool,
    session_ids: SessionIdKeys,
}

struct Key {
    /// `kid`, if it has one.
    id: Option<String>,
    /// It checks signatures of these algorithms only, whatever a token asks for.
    validation: Validation,
    key: DecodingKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keys").field(&self.len()).finish()
    }
}

/// Why a text is not a usable set of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is not JSON of the form `{"keys": […]}`.
    #[error("it is no JSON Web Key Set")]
    Malformed(#[from] serde_json::Error),
    /// It contains a secret: anyone who can read the set could forge tokens.
    #[error(
        "key {0} is a shared secret ('kty' is \"oct\"); a key set is public, use --jwt-secret-file"
    )]
    Secret(usize),
    /// No key of it is for signatures by RS, PS, ES or EdDSA algorithms.
    #[error("it has no key for signatures of RS256 to PS512, ES256, ES384 or EdDSA")]
    NoKey,
    /// It has too many.
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    /// Shared secrets, for HS256, HS384 and HS512. Empty ones are left out.
    #[must_use]
    pub fn of_secrets(secrets: &[Secret]) -> Self {
        let key = |secret: &Secret| {
            Some(Key {
                id: None,
                validation: validation(ALGORITHMS.to_vec()),
                key: DecodingKey::from_secret(secret.expose().as_bytes()).ok()?,
            })
        };
        Self {
            keys: secrets.iter().filter_map(key).collect(),
            is_set: false,
            session_ids: SessionIdKeys::of_secrets(secrets),
        }
    }

    /// The public keys of a JSON Web Key Set. Those of other uses and kinds are left out (RFC 7517
    /// section 5).
    ///
    /// # Errors
    /// What makes it unfit.
    pub fn of_set(text: &str) -> Result<Self, KeySetError> {
        let set: KeySet = serde_json::from_str(text)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut keys = Vec::new();
        for (at, value) in set.keys.into_iter().enumerate() {
            if value.get("kty").and_then(Value::as_str) == Some("oct") {
                return Err(KeySetError::Secret(at + 1));
            }
            let key = serde_json::from_value::<Jwk>(value).ok();
            keys.extend(key.as_ref().and_then(Key::public));
        }
        if keys.is_empty() {
            return Err(KeySetError::NoKey);
        }
        Ok(Self {
            keys,
            is_set: true,
            session_ids: SessionIdKeys::default(),
        })
    }

    /// A key set of which no key counts any more: every token is refused.
    #[must_use]
    pub fn none() -> Self {
        Self {
            keys: Vec::new(),
            is_set: true,
            session_ids: SessionIdKeys::default(),
        }
    }

    /// The keys of session ids; none if there are no secrets.
    #[must_use]
    pub fn session_ids(&self) -> &SessionIdKeys {
        &self.session_ids
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there are none, so that every token is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// True where this header names a public key that is not among them.
    pub(super) fn misses(&self, header: &Members) -> bool {
        let named = header.get("kid").and_then(Value::as_str);
        let has = |id: &str| self.keys.iter().any(|key| key.id.as_deref() == Some(id));
        self.is_set && named.is_some_and(|named| !has(named))
    }

    /// The key that has signed this token, whose header this is. All candidates are tried even after a match,
    /// so that timing does not reveal which one it was.
    pub(super) fn signer(&self, token: &str, header: &Members) -> Option<Signer<'_>> {
        let named = header.get("kid").and_then(Value::as_str);
        let may = |key: &Key| named.is_none() || key.id.is_none() || key.id.as_deref() == named;
        let mut signer = None;
        for (at, key) in self.keys.iter().enumerate().filter(|(_, key)| may(key)) {
            if jsonwebtoken::decode::<IgnoredAny>(token, &key.key, &key.validation).is_ok() {
                signer = Some(Signer {
                    number: at + 1,
                    id: key.id.as_deref(),
                });
            }
        }
        signer
    }
}

/// The key that has signed a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer<'a> {
    /// Its place, from 1.
    pub number: usize,
    /// Its `kid`.
    pub id: Option<&'a str>,
}

impl Key {
    fn public(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let is_for_signatures = match (&common.public_key_use, &common.key_operations) {
            (Some(purpose), _) => *purpose == PublicKeyUse::Signature,
            (None, Some(operations)) => operations.contains(&KeyOperations::Verify),
            (None, None) => true,
        };
        let algorithm = algorithm(jwk)?;
        is_for_signatures.then_some(())?;
        Some(Self {
            id: common.key_id.clone(),
            validation: validation(vec![algorithm]),
            key: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}

/// The one algorithm of a public key: the one that it names, else the usual one of its kind.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let named = match jwk.common.key_algorithm {
        Some(named) => Some(Algorithm::try_from(named).ok()?),
        None => None,
    };
    let (fits, usual): (&[Algorithm], _) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (&[RS256, RS384, RS512, PS256, PS384, PS512], RS256),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => (&[ES256], ES256),
            EllipticCurve::P384 => (&[ES384], ES384),
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => (&[EdDSA], EdDSA),
            _ => return None,
        },
        _ => return None,
    };
    let algorithm = named.unwrap_or(usual);
    fits.contains(&algorithm).then_some(algorithm)
}

/// The library only checks the signature; what the claims mean is decided by us.
fn validation(algorithms: Vec<Algorithm>) -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.algorithms = algorithms;
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

#[cfg(test)]
mod tests;
