//! The owner of a session.

use super::environment::Environment;
use crate::auth::Identity;
use crate::permissions::Rights;
use crate::transport::tls::Holder;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The owner of a session, who alone may resume it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Owner(Arc<Traits>);

/// What makes an owner the same.
#[derive(PartialEq, Eq, Hash)]
struct Traits {
    user: Option<String>,
    /// Each once, in order.
    roles: BTreeSet<String>,
    certificate: Option<Holder>,
    /// The claims that the environment of its MCP server is made of.
    of_environment: Vec<Option<String>>,
    /// Those that the rules of its roles use, by name: what one token may do is not judged by the claims of another.
    of_rules: BTreeMap<String, String>,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Claims may hold secrets.
        f.debug_struct("Owner")
            .field("user", &self.0.user)
            .field("roles", &self.0.roles)
            .finish_non_exhaustive()
    }
}

impl Owner {
    /// `rights` are those of its token, `environment` is that of isolated processes.
    pub(super) fn new(
        identity: &Identity,
        rights: &Rights,
        certificate: Option<Holder>,
        environment: &Environment,
    ) -> Self {
        Self(Arc::new(Traits {
            user: identity.user.clone(),
            roles: identity.roles.iter().cloned().collect(),
            certificate,
            of_environment: environment.claims_of(identity),
            of_rules: rights.claims(),
        }))
    }

    /// True where this is the same user with all roles of `other`, and more: a client has got itself a token with a
    /// further scope, say.
    pub(super) fn exceeds(&self, other: &Self) -> bool {
        let (own, other) = (&*self.0, &*other.0);
        let has = |(name, value): (&String, &String)| own.of_rules.get(name) == Some(value);
        own.user.is_some()
            && (&own.user, &own.certificate, &own.of_environment)
                == (&other.user, &other.certificate, &other.of_environment)
            && other.of_rules.iter().all(has)
            && own.roles.len() > other.roles.len()
            && own.roles.is_superset(&other.roles)
    }

    /// As bytes, which are unique for each owner.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Traits {
            user,
            roles,
            certificate,
            of_environment,
            of_rules,
        } = &*self.0;
        let certificate = certificate.as_ref().map(Holder::as_bytes);
        // Strings and numbers always serialize.
        serde_json::to_vec(&(user, roles, certificate, of_environment, of_rules))
            .unwrap_or_default()
    }
}
