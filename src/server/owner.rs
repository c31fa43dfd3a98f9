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
}
