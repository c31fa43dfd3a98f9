//! The owner of a session.

use super::environment::Environment;
use crate::auth::Identity;
use crate::transport::tls::Holder;
use std::collections::BTreeSet;
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
    claims: Vec<Option<String>>,
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
    /// `environment` is that of isolated processes.
    pub(super) fn new(
        identity: &Identity,
        certificate: Option<Holder>,
        environment: &Environment,
    ) -> Self {
        Self(Arc::new(Traits {
            user: identity.user.clone(),
            roles: identity.roles.iter().cloned().collect(),
            certificate,
            claims: environment.claims_of(identity),
        }))
    }

    /// True where this is the same user with all roles of `other`, and more: a client has got itself a token with a
    /// further scope, say.
    pub(super) fn exceeds(&self, other: &Self) -> bool {
        let (own, other) = (&*self.0, &*other.0);
        own.user.is_some()
            && (&own.user, &own.certificate, &own.claims)
                == (&other.user, &other.certificate, &other.claims)
            && own.roles.len() > other.roles.len()
            && own.roles.is_superset(&other.roles)
    }

    /// As bytes, which are unique for each owner.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Traits {
            user,
            roles,
            certificate,
            claims,
        } = &*self.0;
        let certificate = certificate.as_ref().map(Holder::as_bytes);
        // Strings and numbers always serialize.
        serde_json::to_vec(&(user, roles, certificate, claims)).unwrap_or_default()
    }
}
