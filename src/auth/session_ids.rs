//! Ids of HTTP sessions that outlive the server: an id contains what its session was begun with, under a
//! signature, so that a restarted server can begin it again.
//!
//! No clock: times come in as milliseconds since 1970.

use crate::utils::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use std::time::Duration;

/// What the key is for; no part of a token can read like this.
const PURPOSE: &[u8] = b"mcp-remote: session ids, version 1";

/// The longest that a session may have been begun with, in bytes: the id goes with every request.
const MAX_BEGIN: usize = 1024;

/// The keys of session ids, derived from the secrets that sign tokens. `Debug` shows how many.
#[derive(Default)]
pub struct SessionIdKeys(Vec<(EncodingKey, DecodingKey)>);

impl std::fmt::Debug for SessionIdKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SessionIdKeys").field(&self.0.len()).finish()
    }
}

/// When an id may be revived.
#[derive(Clone, Copy, Debug)]
pub struct Revivable {
    /// When this process began: what it has begun itself and does not know any more has ended.
    pub since: u64,
    /// The present.
    pub now: u64,
    /// How long a session can be revived after it was begun.
    pub lifetime: Duration,
}

impl SessionIdKeys {
    pub(super) fn of_secrets(secrets: &[Secret]) -> Self {
        let derived = |secret: &Secret| {
            let secret = EncodingKey::from_secret(secret.expose().as_bytes()).ok()?;
            let key = crypto::sign(PURPOSE, &secret, Algorithm::HS256).ok()?;
            let sign = EncodingKey::from_secret(key.as_bytes()).ok()?;
            Some((sign, DecodingKey::from_secret(key.as_bytes()).ok()?))
        };
        Self(secrets.iter().filter_map(derived).collect())
    }

    /// An id that says at what time and with what `owner` begins a session. Its first 32 characters are
    /// random, and enough to tell it from others. `None` without a secret, or for something too long.
    #[must_use]
    pub fn issue(&self, random: u128, owner: &[u8], at: u64, begin: &[u8]) -> Option<String> {
        let (key, _) = self.0.first()?;
        if begin.len() > MAX_BEGIN {
            return None;
        }
        let content = URL_SAFE_NO_PAD.encode([&at.to_be_bytes(), begin].concat());
        let id = format!("{random:032x}.{content}");
        let signature = crypto::sign(&signed(&id, owner), key, Algorithm::HS256).ok()?;
        Some(format!("{id}.{signature}"))
    }

    /// What `owner` has begun the session of this id with; `None` for an id that is not to be revived.
    #[must_use]
    pub fn read(&self, id: &str, owner: &[u8], when: Revivable) -> Option<Vec<u8>> {
        let (id, signature) = id.rsplit_once('.')?;
        let message = signed(id, owner);
        let is_ours = |(_, key): &(EncodingKey, DecodingKey)| {
            crypto::verify(signature, &message, key, Algorithm::HS256).unwrap_or(false)
        };
        if !self.0.iter().any(is_ours) {
            return None;
        }
        let (_, content) = id.split_once('.')?;
        let content = URL_SAFE_NO_PAD.decode(content).ok()?;
        let (at, begin) = content.split_first_chunk()?;
        let at = u64::from_be_bytes(*at);
        let age = when.now.checked_sub(at)?;
        (at < when.since && u128::from(age) < when.lifetime.as_millis()).then(|| begin.to_vec())
    }
}

/// What is signed: of an id and an owner, no other pair of them gives the same.
fn signed(id: &str, owner: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", owner].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHEN: Revivable = Revivable {
        since: 2000,
        now: 3000,
        lifetime: Duration::from_secs(60),
    };

    fn keys(secrets: &[&str]) -> SessionIdKeys {
        let secrets: Vec<Secret> = secrets
            .iter()
            .map(|text| (*text).to_owned().into())
            .collect();
        SessionIdKeys::of_secrets(&secrets)
    }

    #[test]
    fn an_id_is_revived_once_its_server_was_restarted() {
        let ours = keys(&["one"]);
        let id = ours.issue(7, b"alice", 1000, b"{}").unwrap();
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
        assert_eq!(&id[..33], "00000000000000000000000000000007.");
        assert_eq!(ours.read(&id, b"alice", WHEN).as_deref(), Some(&b"{}"[..]));
        let read = |keys: &SessionIdKeys, when| keys.read(&id, b"alice", when).is_some();
        // Rotated, removed, gone.
        assert!(read(&keys(&["two", "one"]), WHEN));
        assert!(!read(&keys(&["two"]), WHEN));
        assert!(!read(&keys(&[]), WHEN));
        // From this very process, expired, from the future.
        assert!(!read(
            &ours,
            Revivable {
                since: 1000,
                ..WHEN
            }
        ));
        assert!(read(
            &ours,
            Revivable {
                now: 60_999,
                ..WHEN
            }
        ));
        assert!(!read(
            &ours,
            Revivable {
                now: 61_000,
                ..WHEN
            }
        ));
        assert!(!read(&ours, Revivable { now: 999, ..WHEN }));
        assert_eq!(ours.issue(7, b"alice", 1000, &[b'x'; 1025]), None);
        assert_eq!(keys(&[]).issue(7, b"alice", 1000, b"{}"), None);
        assert_eq!(format!("{ours:?}"), "SessionIdKeys(1)");
    }

    proptest! {
        /// An id that differs from an issued one, or is shown by another user, is not revived.
        #[test]
        fn forged_altered_and_foreign_ids_are_not_revived(
            begin in prop::collection::vec(any::<u8>(), 0..80),
            owner in prop::collection::vec(any::<u8>(), 0..20),
            other in prop::collection::vec(any::<u8>(), 0..20),
            at in any::<prop::sample::Index>(),
            byte in 0x21u8..0x7f,
            random in any::<u128>(),
        ) {
            let ours = keys(&["one"]);
            let id = ours.issue(random, &owner, 1000, &begin).unwrap();
            prop_assert_eq!(ours.read(&id, &owner, WHEN), Some(begin.clone()));
            if other != owner {
                prop_assert_eq!(ours.read(&id, &other, WHEN), None);
            }
            let mut altered = id.clone().into_bytes();
            let at = at.index(altered.len());
            altered[at] = byte;
            let altered = String::from_utf8(altered).unwrap();
            if altered != id {
                prop_assert_eq!(ours.read(&altered, &owner, WHEN), None);
            }
            for forged in [&id[..at], &id[at..], &format!("{id}{}", byte as char)] {
                if forged != id {
                    prop_assert_eq!(ours.read(forged, &owner, WHEN), None);
                }
            }
            let foreign = keys(&["two"]).issue(random, &owner, 1000, &begin).unwrap();
            prop_assert_eq!(ours.read(&foreign, &owner, WHEN), None);
        }
    }
}
