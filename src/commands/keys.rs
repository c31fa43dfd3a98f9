//! What tokens are signed with: secrets, a key set in a file, or one at a URL.

use super::{Failure, read_secrets};
use crate::auth::{KeySetError, Keys};
use crate::cli::{DemandArgs, KeySetPlace, SecretArgs};
use crate::client::http::{FetchError, Place, Proxy, choose, fetch};
use crate::transport::tls::Connector;
use crate::utils::text;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The source of the keys that tokens are verified with.
#[derive(Debug)]
pub(super) struct KeySource {
    secret: SecretArgs,
    set: Option<Set>,
}

#[derive(Debug)]
enum Set {
    File(PathBuf),
    Url(Arc<Remote>),
}

/// A key set at a URL.
#[derive(Debug)]
pub(super) struct Remote {
    place: Place,
    tls: Connector,
    proxy: Option<Proxy>,
    /// How long its keys count after they have been fetched.
    pub max_age: Duration,
}

/// Why there are no keys from a URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoteError {
    #[error("could not fetch the key set {0}")]
    Fetch(String, #[source] FetchError),
    #[error("the key set {0} is not valid")]
    Set(String, #[source] KeySetError),
    #[error("the key set {0} is not UTF-8 text")]
    Text(String),
}

impl KeySource {
    /// # Errors
    /// A file of authorities that cannot be used, or flags that do not go together.
    pub(super) fn new(secret: SecretArgs, demands: &DemandArgs) -> Result<Self, Failure> {
        let set = match &demands.jwks {
            Some(KeySetPlace::Url(place)) => Some(Set::Url(Arc::new(Remote::new(place, demands)?))),
            _ if demands.jwks_ca.is_some() => {
                return Err(Failure::usage(
                    "--jwks-ca is for a --jwks that begins with https://",
                ));
            }
            Some(KeySetPlace::File(path)) => Some(Set::File(path.clone())),
            None => None,
        };
        Ok(Self { secret, set })
    }

    /// The source of the secrets, if any.
    pub(super) fn secrets(&self) -> &SecretArgs {
        &self.secret
    }

    /// The URL, if the keys come from one.
    pub(super) fn remote(&self) -> Option<&Arc<Remote>> {
        match &self.set {
            Some(Set::Url(remote)) => Some(remote),
            _ => None,
        }
    }

    /// The current keys; `None` if no token is required.
    ///
    /// # Errors
    /// A file or a URL that cannot be read or is not a key set; or both kinds of keys at once.
    pub(super) async fn read(&self) -> Result<Option<Arc<Keys>>, Failure> {
        match &self.set {
            Some(Set::Url(remote)) => {
                self.refuse_secrets()?;
                let document = remote.fetch().await?;
                Ok(Some(remote.keys(&document)?))
            }
            _ => self.read_files(),
        }
    }

    /// The same, but for keys from a URL.
    ///
    /// # Errors
    /// The same.
    pub(super) fn read_files(&self) -> Result<Option<Arc<Keys>>, Failure> {
        let Some(Set::File(path)) = &self.set else {
            let secrets = read_secrets(&self.secret)?;
            return Ok(secrets.map(|secrets| Keys::of_secrets(&secrets).into()));
        };
        self.refuse_secrets()?;
        read_set(path).map(|keys| Some(keys.into()))
    }

    fn refuse_secrets(&self) -> Result<(), Failure> {
        match read_secrets(&self.secret)? {
            None => Ok(()),
            Some(_) => Err(Failure::new(
                "there are a secret (MCP_REMOTE_JWT_SECRET) and --jwks; tokens are signed with one or the other",
            )),
        }
    }
}

fn read_set(path: &Path) -> Result<Keys, Failure> {
    let name = path.display();
    let text = text::read(path)
        .map_err(|err| Failure::caused(format!("could not read the key set {name}"), err))?;
    Keys::of_set(&text)
        .map_err(|err| Failure::caused(format!("the key set {name} is not valid"), err))
}

impl Remote {
    fn new(place: &Place, demands: &DemandArgs) -> Result<Self, Failure> {
        let ca = ("--jwks-ca", demands.jwks_ca.as_deref());
        let variable = |name: &str| std::env::var(name).ok();
        Ok(Self {
            tls: Connector::load(&place.host, ca, None)?,
            proxy: choose(place, variable).map_err(Failure::usage)?,
            place: place.clone(),
            max_age: demands.jwks_max_age,
        })
    }

    /// The URL for logs, without a query.
    fn name(&self) -> String {
        let path = self.place.target.path();
        format!("https://{}{path}", self.place.authority())
    }

    /// What is there now.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(super) async fn fetch(&self) -> Result<Bytes, RemoteError> {
        let fetched = fetch(&self.place, &self.tls, self.proxy.as_ref()).await;
        fetched.map_err(|err| RemoteError::Fetch(self.name(), err))
    }

    /// The keys in what was there.
    ///
    /// # Errors
    /// Why there are none that can be used.
    pub(super) fn keys(&self, document: &[u8]) -> Result<Arc<Keys>, RemoteError> {
        let text = std::str::from_utf8(document).map_err(|_| RemoteError::Text(self.name()))?;
        let keys = Keys::of_set(text).map_err(|err| RemoteError::Set(self.name(), err))?;
        Ok(keys.into())
    }
}
