//! What the two kinds of `client` read from their arguments alike.

use super::Failure;
use crate::cli::ClientArgs;
use crate::client::Reconnect;
use crate::transport::tls::{Connector, Identity};
use crate::utils::secret::{Secret, Sources};
use std::time::Duration;

/// The token, if one is given in any way.
pub(super) fn token(args: &ClientArgs) -> Result<Option<Secret>, Failure> {
    let token = Sources {
        what: "JWT token",
        variable: "MCP_REMOTE_JWT_TOKEN",
        flags: args.token.jwt_token.as_slice(),
        file: args.token.jwt_token_file.as_deref(),
    };
    Ok(token.read()?)
}

/// How to reconnect, if at all.
pub(super) fn reconnect(args: &ClientArgs) -> Option<Reconnect> {
    args.auto_reconnect.then_some(Reconnect {
        max_attempts: args.max_attempts,
        delay: Duration::from_millis(args.reconnect_delay),
    })
}

/// TLS for a server of this name.
pub(super) fn connector(args: &ClientArgs, host: &str) -> Result<Connector, Failure> {
    let identity = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        _ => None,
    };
    Ok(Connector::load(host, args.tls_ca.as_deref(), identity)?)
}

/// Whoever names certificates means to be safe: better no connection than one in plain text.
pub(super) fn refuse_certificates(args: &ClientArgs, remedy: &str) -> Result<(), Failure> {
    if args.tls_ca.is_some() || args.tls_cert.is_some() || args.tls_key.is_some() {
        return Err(Failure::new(format!(
            "--tls-ca, --tls-cert and --tls-key are for TLS; {remedy}",
        )));
    }
    Ok(())
}
