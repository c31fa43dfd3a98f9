//! The files of `server::Access`: secrets, revocations, the policy and certificates, and reloading
//! them.

use super::keys::{KeySource, Remote, RemoteError};
use super::{Failure, pins, read_policy, read_secrets, warn_of_readers};
use crate::audit;
use crate::auth::{ClaimNames, Demands, Ended, Keys, Step, Verifier};
use crate::cli::{DemandArgs, ServerArgs};
use crate::handshake::AuthRequirements;
use crate::metrics;
use crate::permissions::{PinnedTools, Pins, Policy, misspelt};
use crate::revocations::Revocations;
use crate::server::{Access, KeyRefresh};
use crate::transport::tls::{self, Acceptor};
use crate::utils::chain::Chain;
use crate::utils::lock::lock;
use crate::utils::near::nearest;
use crate::utils::text;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Signatures are as hard to forge as the secret is to guess, in bits (RFC 7518 section 3.2).
const ENOUGH: usize = 256;

/// The paths of the files, and settings that do not change while the server runs.
#[derive(Debug)]
struct Origins {
    keys: KeySource,
    /// When to fetch them again, if they come from a URL.
    refresh: Option<Arc<KeyRefresh>>,
    demands: Demands,
    required_roles: Vec<String>,
    revoked: Option<PathBuf>,
    policy: Option<PathBuf>,
    pins: Option<PathBuf>,
    /// Certificate and key.
    tls: Option<(PathBuf, PathBuf)>,
    client_ca: Option<PathBuf>,
}

/// The last valid content of each file.
#[derive(Debug)]
struct Parts {
    keys: Option<Arc<Keys>>,
    revocations: Arc<Revocations>,
    policy: Option<Arc<Policy>>,
    pins: Option<Arc<Pins>>,
    tls: Option<Acceptor>,
}

/// Reads the files again when asked to.
#[derive(Debug)]
pub(super) struct Reloader {
    origins: Origins,
    parts: Mutex<Parts>,
    access: watch::Sender<Arc<Access>>,
}

impl Reloader {
    /// Reads everything for the first time. Takes what it needs out of `args`.
    ///
    /// # Errors
    /// A file that is broken, or a setting that is meaningless without a secret.
    pub(super) async fn new(
        args: &mut ServerArgs,
        audit: &audit::Log,
    ) -> Result<(Self, watch::Receiver<Arc<Access>>), Failure> {
        let roles = std::mem::take(&mut args.require_roles).into_iter();
        let keys = KeySource::new(std::mem::take(&mut args.secret), &args.demands)?;
        let mut origins = Origins {
            keys,
            refresh: None,
            demands: demands(&args.demands),
            required_roles: roles
                .map(|role| role.trim().to_owned())
                .filter(|role| !role.is_empty())
                .collect(),
            revoked: args.demands.revoked.take(),
            policy: args.permissions_config.take(),
            pins: args.pin_tools.take(),
            tls: args.tls_cert.take().zip(args.tls_key.take()),
            client_ca: args.tls_client_ca.take(),
        };
        let keys = origins.keys.read().await?;
        let remote = origins.keys.remote();
        origins.refresh = remote.map(|remote| Arc::new(KeyRefresh::new(remote.max_age)));
        if keys.is_none() {
            origins.need_no_secret()?;
        }
        origins.warn()?;
        let parts = Parts {
            keys,
            revocations: read_revocations(origins.revoked.as_deref())?,
            policy: origins.read_policy()?,
            pins: origins
                .read_pins()?
                .map(|pinned| Pins::new(pinned, pins::tell(audit.clone())).into()),
            tls: origins.read_tls()?,
        };
        let (access, receiver) = watch::channel(Arc::new(parts.access(&origins)));
        let reloader = Self {
            origins,
            parts: Mutex::new(parts),
            access,
        };
        Ok((reloader, receiver))
    }

    /// Reads everything again and applies it to all peers. Files that are broken keep their last
    /// valid content, and are returned. Keys at a URL are fetched later.
    pub(super) fn reload(&self) -> Vec<&'static str> {
        let origins = &self.origins;
        let parts = &mut *lock(&self.parts);
        let keys = match &origins.refresh {
            None => origins.keys.read_files(),
            Some(refresh) => {
                refresh.demand();
                Ok(parts.keys.clone())
            }
        };
        let revocations = read_revocations(origins.revoked.as_deref());
        let pins = origins.read_pins().map(|pinned| {
            let renewed = parts.pins.as_ref().zip(pinned);
            renewed.map(|(pins, pinned)| Arc::new(pins.renewed(pinned)))
        });
        let taken = [
            ("secrets", take_over(&mut parts.keys, keys)),
            (
                "revocations",
                take_over(&mut parts.revocations, revocations),
            ),
            (
                "policy",
                take_over(&mut parts.policy, origins.read_policy()),
            ),
            ("pins", take_over(&mut parts.pins, pins)),
            ("tls", take_over(&mut parts.tls, origins.read_tls())),
        ];
        let broken = taken.into_iter().filter(|(_, taken)| !taken);
        let broken: Vec<&str> = broken.map(|(name, _)| name).collect();
        self.access.send_replace(Arc::new(parts.access(origins)));
        tracing::info!(
            secrets = parts.keys.as_ref().map(|keys| keys.len()),
            revoked = parts.revocations.len(),
            broken = broken.len(),
            policy_roles = parts
                .policy
                .as_ref()
                .map(|policy| policy.role_names().count()),
            "reloaded"
        );
        broken
    }
}

impl Reloader {
    /// Fetches the keys again whenever they may have changed, if they come from a URL. Cancel safe.
    pub(super) async fn refresh_keys(&self) -> std::convert::Infallible {
        let origins = &self.origins;
        let (Some(refresh), Some(remote)) = (&origins.refresh, origins.keys.remote()) else {
            return std::future::pending().await;
        };
        let mut last = Bytes::new();
        loop {
            if refresh.next().await == Step::GiveUp {
                tracing::error!(
                    "the key set could not be fetched for so long that its keys count no longer (--jwks-max-age): every token is refused until it can be fetched again"
                );
                last = Bytes::new();
                self.take_keys(Keys::none().into());
                continue;
            }
            let fetched = self.fetch_keys(remote, &mut last).await;
            match (refresh.ended(fetched.is_ok()), fetched) {
                (Ended::Failed, Err(err)) => {
                    tracing::warn!(
                        "the fetch of the keys failed, keeping the previous ones: {}",
                        Chain(&err)
                    );
                }
                (_, Err(err)) => {
                    tracing::debug!(
                        "the fetch of the keys failed, keeping the previous ones: {}",
                        Chain(&err)
                    )
                }
                (Ended::Recovered, Ok(())) => tracing::info!("the key set can be fetched again"),
                (_, Ok(())) => {}
            }
        }
    }

    /// Applies the keys at the URL, unless they are unchanged.
    async fn fetch_keys(&self, remote: &Remote, last: &mut Bytes) -> Result<(), RemoteError> {
        let document = remote.fetch().await?;
        if *last == document {
            return Ok(());
        }
        let keys = remote.keys(&document)?;
        tracing::info!(keys = keys.len(), "fetched the key set");
        self.take_keys(keys);
        *last = document;
        Ok(())
    }

    fn take_keys(&self, keys: Arc<Keys>) {
        let mut parts = lock(&self.parts);
        parts.keys = Some(keys);
        let access = parts.access(&self.origins);
        self.access.send_replace(Arc::new(access));
    }
}

/// False when the new one is broken.
fn take_over<T>(old: &mut T, new: Result<T, Failure>) -> bool {
    match new {
        Ok(new) => {
            *old = new;
            true
        }
        Err(fault) => {
            tracing::error!("reload failed, keeping the previous version: {fault}");
            false
        }
    }
}

impl Parts {
    fn access(&self, origins: &Origins) -> Access {
        let requirements = self.keys.as_ref().map(|keys| AuthRequirements {
            verifier: Verifier::new(
                Arc::clone(keys),
                origins.demands.clone(),
                Arc::clone(&self.revocations),
            ),
            required_roles: origins.required_roles.clone(),
        });
        Access {
            tls: self.tls.clone(),
            requirements,
            key_refresh: origins.refresh.clone(),
            policy: self.policy.clone(),
            pins: self.pins.clone(),
        }
    }
}

impl Origins {
    fn read_pins(&self) -> Result<Option<PinnedTools>, Failure> {
        self.pins.as_deref().map(pins::read).transpose()
    }

    fn read_policy(&self) -> Result<Option<Arc<Policy>>, Failure> {
        let Some(path) = &self.policy else {
            return Ok(None);
        };
        let policy = read_policy(path)?;
        for role in policy.mute_roles() {
            tracing::warn!(role, file = %path.display(), "this role can open no session: it allows neither 'initialize' (legacy clients) nor 'server/discover' (modern ones)");
        }
        for (rule, meant) in misspelt(&policy) {
            tracing::warn!(%rule, meant, file = %path.display(), "MCP has no such method: was another one meant?");
        }
        for role in self
            .required_roles
            .iter()
            .filter(|role| !policy.has_role(role))
        {
            let meant = nearest(role, policy.role_names());
            tracing::warn!(role, meant, file = %path.display(), "--require-roles names a role that the policy does not have");
        }
        Ok(Some(Arc::new(policy)))
    }

    fn read_tls(&self) -> Result<Option<Acceptor>, Failure> {
        let Some((certificate, key)) = &self.tls else {
            return Ok(None);
        };
        let identity = tls::Identity { certificate, key };
        let acceptor = Acceptor::load(identity, self.client_ca.as_deref())?;
        if let Some(metrics) = metrics::get() {
            metrics.certificate_end(tls::not_after_of(certificate)?);
        }
        Ok(Some(acceptor))
    }

    fn need_no_secret(&self) -> Result<(), Failure> {
        let useless = [
            ("--require-roles", !self.required_roles.is_empty()),
            ("--permissions-config", self.policy.is_some()),
            ("--jwt-issuer", self.demands.issuer.is_some()),
            ("--jwt-audience", self.demands.audience.is_some()),
            ("--user-claim", self.demands.names.user.is_some()),
            ("--roles-claim", self.demands.names.roles.is_some()),
            ("--revoked", self.revoked.is_some()),
        ];
        match useless.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Failure::usage(format!(
                "{flag} needs a secret, since it is about tokens and their roles; set MCP_REMOTE_JWT_SECRET"
            ))),
            None => Ok(()),
        }
    }

    fn warn(&self) -> Result<(), Failure> {
        let args = self.keys.secrets();
        let secret = args.jwt_secret_file.clone();
        let secret =
            secret.or_else(|| std::env::var_os("MCP_REMOTE_JWT_SECRET_FILE").map(Into::into));
        let key = self.tls.as_ref().map(|(_, key)| key);
        for file in secret.iter().chain(key) {
            warn_of_readers(file);
        }
        if !args.jwt_secret.is_empty() {
            tracing::warn!(
                "--jwt-secret can be read in 'ps' by every user of this machine: use MCP_REMOTE_JWT_SECRET or --jwt-secret-file"
            );
        }
        let secrets = read_secrets(args)?.unwrap_or_default();
        if secrets.iter().any(|secret| secret.bits() < ENOUGH) {
            tracing::warn!(
                "a secret is shorter than {ENOUGH} bits, so tokens may be forged by guessing it: make a better one with 'mcp-remote generate-secret'"
            );
        }
        Ok(())
    }
}

/// What is required of tokens.
pub(super) fn demands(args: &DemandArgs) -> Demands {
    Demands {
        issuer: args.jwt_issuer.clone(),
        audience: args.jwt_audience.clone(),
        leeway: args.jwt_leeway.as_secs(),
        names: ClaimNames {
            user: args.user_claim.clone(),
            roles: args.roles_claim.clone(),
        },
    }
}

/// The list in this file; an empty one if there is no file.
///
/// # Errors
/// A file that cannot be read or has a malformed line.
pub(super) fn read_revocations(path: Option<&Path>) -> Result<Arc<Revocations>, Failure> {
    let Some(path) = path else {
        return Ok(Arc::default());
    };
    let name = path.display();
    let text = text::read(path).map_err(|err| {
        Failure::caused(format!("could not read the revocations in '{name}'"), err)
    })?;
    let list = Revocations::parse(&text).map_err(|err| {
        Failure::caused(format!("the revocations in '{name}' are not valid"), err)
    })?;
    Ok(Arc::new(list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Deferred};
    use clap::Parser;

    #[test]
    fn what_was_read_does_not_show_the_secrets() {
        let typed =
            "mcp-remote server tcp --port 1 --jwt-secret hunter2 --jwt-secret swordfish -- x";
        let Command::Server(Deferred(mut args)) = Cli::parse_from(typed.split(' ')).command else {
            panic!("not a server");
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let (reloader, access) = runtime
            .unwrap()
            .block_on(Reloader::new(&mut args, &audit::Log::default()))
            .map_err(|failure| failure.to_string())
            .unwrap();
        let requirements = access.borrow().requirements.is_some();
        assert!(requirements);
        let debug = format!("{reloader:?} {access:?}");
        assert!(
            !debug.contains("hunter") && !debug.contains("sword"),
            "{debug}"
        );
    }
}
