//! The owner of a session.

use super::environment::Environment;
use crate::auth::Identity;
use crate::transport::tls::Holder;
use std::collections::BTreeSet;

/// The owner of a session, who alone may resume it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Owner {
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
            .field("user", &self.user)
            .field("roles", &self.roles)
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
        Self {
            user: identity.user.clone(),
            roles: identity.roles.iter().cloned().collect(),
            certificate,
            claims: environment.claims_of(identity),
        }
    }

    /// True where this is the same user with all roles of `other`, and more: a client has got itself a token with a
    /// further scope, say.
    pub(super) fn exceeds(&self, other: &Self) -> bool {
        self.user.is_some()
            && (&self.user, &self.certificate, &self.claims)
                == (&other.user, &other.certificate, &other.claims)
            && self.roles.len() > other.roles.len()
            && self.roles.is_superset(&other.roles)
    }

    /// As bytes, which are unique for each owner.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let certificate = self.certificate.as_ref().map(Holder::as_bytes);
        // Strings and numbers always serialize.
        serde_json::to_vec(&(&self.user, &self.roles, certificate, &self.claims))
            .unwrap_or_default()
    }
}
