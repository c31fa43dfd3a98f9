//! Whose session it is.

use crate::auth::Identity;
use crate::transport::tls::Holder;

/// Whose session it is: nobody else may go on with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    /// As they stand in the token.
    user: Option<String>,
    roles: Vec<String>,
    certificate: Option<Holder>,
}

impl Owner {
    pub(super) fn new(identity: &Identity, certificate: Option<Holder>) -> Self {
        Self {
            user: identity.user.clone(),
            roles: identity.roles.clone(),
            certificate,
        }
    }

    /// In bytes; those of no two owners are the same.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let certificate = self.certificate.as_ref().map(Holder::as_bytes);
        // Texts and numbers can always be written.
        serde_json::to_vec(&(&self.user, &self.roles, certificate)).unwrap_or_default()
    }
}
