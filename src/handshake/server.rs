//! The server's side.

use super::answer::{Answer, Welcome};
use super::{MAX_TOKEN_LINE, Refused};
use crate::auth::{self, Identity, Verifier};
use crate::transport::Connection;
use crate::transport::foreign;
use crate::transport::line::LineError;
use crate::utils::secret::Secret;
use std::io;

/// What a server demands of a peer.
#[derive(Debug)]
pub struct AuthRequirements {
    /// Checks tokens.
    pub verifier: Verifier,
    /// One of these roles is needed; empty for none.
    pub required_roles: Vec<String>,
}

impl AuthRequirements {
    /// Who the bearer of this token is. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why the token is not accepted.
    pub fn check(&self, token: &Secret, now: u64) -> Result<Identity, Refused> {
        if let Some(mistake) = auth::mistake(token) {
            return Err(Refused::Mistake(mistake));
        }
        let verified = self.verifier.verify(token, now);
        let identity = verified.map_err(|error| Refused::Token {
            error,
            bearer: self.verifier.bearer(token).map(Box::new),
        })?;
        if identity.has_any_role(&self.required_roles) {
            Ok(identity)
        } else {
            Err(Refused::Roles {
                identity: Box::new(identity),
                required: self.required_roles.clone(),
            })
        }
    }
}

/// Admits peers.
#[derive(Debug)]
pub struct Authenticator<C> {
    /// Says whose a token is; `None` lets everybody in, without a word.
    pub check: Option<C>,
    /// Offers sessions that outlive their connection.
    pub resume: bool,
}

impl<C: AsyncFnOnce(&Secret) -> Result<Identity, Refused>> Authenticator<C> {
    /// Reads the token, or takes the one of the upgrade request, asks for a `place` inside, and
    /// answers. The caller limits the time.
    ///
    /// # Errors
    /// Why the peer does not come in; the caller tells it with [`Refused::to_line`].
    pub async fn admit<P>(
        self,
        connection: &mut Connection,
        bearer: Option<&Secret>,
        place: impl FnOnce(&Identity) -> Result<P, Refused>,
    ) -> Result<(Identity, P), Refused> {
        let enter = |identity: Identity| {
            let place = place(&identity)?;
            Ok((identity, place))
        };
        let Some(check) = self.check else {
            return enter(Identity::default());
        };
        if let Some(token) = bearer {
            return enter(check(token).await?);
        }
        let line = match connection.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return Err(Refused::HungUp),
            Err(LineError::TooLong { .. }) => return Err(Refused::NoToken("too long")),
            Err(err) => return Err(Refused::Gone(err)),
        };
        if line.len() > MAX_TOKEN_LINE {
            return Err(Refused::NoToken("too long"));
        }
        if matches!(connection, Connection::Line(..)) && foreign::is_http_request(&line) {
            return Err(Refused::Http);
        }
        if line.trim_ascii_start().starts_with(b"{") {
            return Err(Refused::Message);
        }
        let token = std::str::from_utf8(&line).map_err(|_| Refused::NoToken("not UTF-8"))?;
        let (identity, place) = enter(check(&token.trim().to_owned().into()).await?)?;
        let line = welcome(&identity, self.resume).map_err(|err| Refused::Gone(err.into()))?;
        let sent = connection.send(line).await;
        sent.map_err(|err| Refused::Gone(err.into()))?;
        Ok((identity, place))
    }
}

fn welcome(identity: &Identity, resume: bool) -> io::Result<Vec<u8>> {
    let welcome = Welcome {
        authenticated: true,
        user: identity.user.clone(),
        roles: identity.roles.clone(),
        resume,
    };
    let answer = Answer {
        jsonrpc: "2.0".to_owned(),
        result: Some(welcome),
        error: None,
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    Ok(line)
}
