//! Who is admitted and what they may do, which can change while peers are connected.

use super::key_refresh::KeyRefresh;
use super::refusals::log_denial;
use crate::audit::Trail;
use crate::auth::{Identity, TokenError};
use crate::handshake::{AuthRequirements, Refused};
use crate::hub::Session;
use crate::jsonrpc::Message;
use crate::permissions::{Pins, Policy, Rights};
use crate::router::Profile;
use crate::transport::tls::Acceptor;
use crate::utils::near::nearest;
use crate::utils::secret::Secret;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// The content of its files when they were last read. Whether there are requirements, and whether there is
/// TLS, never changes.
#[derive(Debug)]
pub struct Access {
    /// TLS under the transport; `None` for plain text.
    pub tls: Option<Acceptor>,
    /// What peers must show; `None` admits everyone.
    pub requirements: Option<AuthRequirements>,
    /// Fetches keys again; `None` if they do not come from a URL.
    pub key_refresh: Option<Arc<KeyRefresh>>,
    /// What roles may do; `None` allows everything.
    pub policy: Option<Arc<Policy>>,
    /// Tools as they were accepted; `None` for any.
    pub pins: Option<Arc<Pins>>,
}

impl Access {
    /// Warns if the policy gives rights to roles, and to none that this token has.
    pub(super) fn warn_without_roles(&self, identity: &Identity) {
        let (Some(requirements), Some(policy)) = (&self.requirements, &self.policy) else {
            return;
        };
        let (roles, claim) = (&identity.roles, requirements.verifier.roles_claim());
        if roles.is_empty() {
            tracing::warn!(
                "this token has no roles, so the policy denies all that it asks for: they are looked for in its claim '{claim}' (--roles-claim)"
            );
        } else if !roles.iter().any(|role| policy.has_role(role)) {
            let mut meant = roles
                .iter()
                .filter_map(|role| nearest(role, policy.role_names()));
            tracing::warn!(
                meant = meant.next(),
                "none of this token's roles is in the policy, so all that it asks for is denied: the policy has to name the roles as the claim '{claim}' does (--roles-claim)"
            );
        }
    }

    /// What a peer with this token may do.
    pub(super) fn rights(&self, identity: &Identity) -> Rights {
        let rights = match &self.policy {
            Some(policy) => policy.rights_of(&identity.roles, |name| identity.claim(name)),
            None => Rights::everything(),
        };
        rights.pinned(self.pins.clone())
    }
}

/// The identity of a token by the current requirements. A token of an unknown key waits until the keys have
/// been fetched again, within bounds. Cancel safe.
pub(super) async fn authenticate(
    access: &mut watch::Receiver<Arc<Access>>,
    token: &Secret,
) -> Result<Identity, Refused> {
    let holds = Arc::clone(&access.borrow_and_update());
    let Some(requirements) = &holds.requirements else {
        return Ok(Identity::default());
    };
    let checked = requirements.check(token, now());
    let (
        Some(refresh),
        Err(Refused::Token {
            error: TokenError::UnknownKey,
            ..
        }),
    ) = (&holds.key_refresh, &checked)
    else {
        return checked;
    };
    refresh.unknown_key().await;
    match &access.borrow_and_update().requirements {
        Some(requirements) => requirements.check(token, now()),
        None => checked,
    }
}

/// What one peer may do at present. Each clone is told of the changes of access since those that it has seen: to go on
/// with one that has seen more than the last, apply its rights, since nothing else will.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    access: watch::Receiver<Arc<Access>>,
    identity: Arc<Identity>,
    rights: Rights,
    /// Its token is revoked, by the latest change that it has seen.
    is_revoked: bool,
}

impl Authorization {
    /// `access` was marked as seen when the peer was admitted; changes since then are noticed.
    pub(super) fn new(access: watch::Receiver<Arc<Access>>, identity: Identity) -> Self {
        let rights = access.borrow().rights(&identity);
        Self {
            access,
            identity: Arc::new(identity),
            rights,
            is_revoked: false,
        }
    }

    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub(super) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// The role that this peer lacks for a message, if one that satisfies `is_meant` would suffice.
    pub(super) fn missing_role(
        &self,
        message: &Message,
        is_meant: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let access = Arc::clone(&self.access.borrow());
        let policy = access.policy.as_ref()?;
        let claim = |name: &str| self.identity.claim(name);
        let missing = policy.missing_role(&self.identity.roles, claim, message, is_meant);
        missing.map(str::to_owned)
    }

    /// What the router needs to know.
    pub(super) fn profile(&self) -> Profile {
        Profile {
            user: self.identity.user.clone(),
            rights: self.rights.clone(),
            is_own: false,
        }
    }

    /// Applies changes since the last call; cheap if there are none.
    ///
    /// # Errors
    /// The peer's token is no longer accepted.
    pub(super) fn renew(&mut self) -> Result<(), Invalidated> {
        if self.access.has_changed().unwrap_or(false) {
            return self.apply();
        }
        match self.is_revoked {
            true => Err(Invalidated::Revoked),
            false => Ok(()),
        }
    }

    /// True where this token holds without another look: nothing has changed, and it has not expired.
    pub(super) fn is_current(&self) -> bool {
        !self.access.has_changed().unwrap_or(true) && !self.is_revoked && !self.has_expired()
    }

    /// True while the peer's token is accepted. Applies changes, as `renew` does.
    pub(super) fn holds(&mut self) -> bool {
        self.check().is_ok()
    }

    /// The same, with why it is not accepted.
    pub(super) fn check(&mut self) -> Result<(), Invalidated> {
        self.renew()?;
        match self.has_expired() {
            true => Err(Invalidated::Expired),
            false => Ok(()),
        }
    }

    fn has_expired(&self) -> bool {
        self.identity
            .expires
            .is_some_and(|expires| now() >= expires)
    }

    /// Waits for the next change and applies it. Cancel safe.
    ///
    /// # Errors
    /// The peer's token is no longer accepted.
    pub(super) async fn renewed(&mut self) -> Result<(), Invalidated> {
        if self.is_revoked && !self.access.has_changed().unwrap_or(false) {
            return Err(Invalidated::Revoked);
        }
        if self.access.changed().await.is_err() {
            // The sender is gone, so nothing can change any more.
            return std::future::pending().await;
        }
        self.apply()
    }

    fn apply(&mut self) -> Result<(), Invalidated> {
        let access = Arc::clone(&self.access.borrow_and_update());
        self.rights = access.rights(&self.identity);
        self.is_revoked = false;
        let (Some(requirements), Some(token)) = (&access.requirements, &self.identity.token) else {
            return Ok(());
        };
        match requirements.check(token, now()) {
            Ok(_) => Ok(()),
            Err(Refused::Token {
                error: TokenError::Expired,
                ..
            }) => Err(Invalidated::Expired),
            Err(_) => {
                self.is_revoked = true;
                Err(Invalidated::Revoked)
            }
        }
    }
}

/// Why a token is no longer valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalidated {
    Expired,
    /// Revoked, or its secret is gone.
    Revoked,
}

impl Invalidated {
    /// The error for the peer.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Expired => "Token expired",
            Self::Revoked => "Token revoked",
        }
    }

    /// For the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Expired => "token expired",
            Self::Revoked => "token revoked",
        }
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Applies the rights of an authorization to a session. What that refuses or ends has been let pass before, and is
/// put on record.
pub(super) fn apply_rights(authorization: &Authorization, session: &Session, trail: &Trail) {
    for denial in session.set_rights(authorization.profile()) {
        log_denial(&denial);
        trail.blocked(&denial);
    }
}

/// Completes when the token is no longer valid; until then applies changed rights to the session, if there is
/// one. Cancel safe.
pub(super) async fn invalidated(
    authorization: &mut Authorization,
    session: Option<(&Session, &Trail)>,
) -> Invalidated {
    let mut expiry = std::pin::pin!(expiry(authorization.identity().expires));
    loop {
        let renewed = tokio::select! {
            () = &mut expiry => return Invalidated::Expired,
            renewed = authorization.renewed() => renewed,
        };
        if let Err(invalidated) = renewed {
            return invalidated;
        }
        if let Some((session, trail)) = session {
            apply_rights(authorization, session, trail);
        }
    }
}

/// Completes when the token is revoked. A session may wait for its client beyond the expiry of its token, but
/// current rights apply.
pub(super) async fn revoked(mut authorization: Authorization, session: Option<(&Session, &Trail)>) {
    while !matches!(authorization.renewed().await, Err(Invalidated::Revoked)) {
        if let Some((session, trail)) = session {
            apply_rights(&authorization, session, trail);
        }
    }
}

/// Completes when a token with this expiry, in seconds since 1970, expires; never if it does not.
pub(super) async fn expiry(expires: Option<u64>) {
    let Some(expires) = expires else {
        return std::future::pending().await;
    };
    loop {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let left = Duration::from_secs(expires).saturating_sub(elapsed);
        if left.is_zero() {
            return;
        }
        // In steps, so that a clock that jumps (a suspended machine) is noticed.
        tokio::time::sleep(left.min(Duration::from_secs(60))).await;
    }
}
