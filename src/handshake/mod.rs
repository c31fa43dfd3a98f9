//! The token exchange, both sides: the client's first line is its token, the server answers one
//! line without an id.

mod answer;
mod client;
mod notice;
mod refused;
mod server;

pub use answer::read_refusal;
pub use client::{Rejected, present};
pub use notice::{read_limit, read_limit_of, read_notice, wants_tls, wrong_transport};
pub use refused::{Refused, authentication_failed, authentication_timeout};
pub use server::{AuthRequirements, Authenticator};

/// The longest first line that a peer may send before it is authenticated, in bytes.
pub const MAX_TOKEN_LINE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Identity;
    use std::time::Duration;

    /// Bug: an error from the MCP server without a request id, whose code was one of a refusal,
    /// ended the client.
    #[test]
    fn only_a_refusal_is_one() {
        let read = |line: Vec<u8>| read_refusal(&line.into());
        assert_eq!(
            read(authentication_failed("Token expired")).as_deref(),
            Some("Authentication failed (Token expired)")
        );
        assert_eq!(
            read(authentication_timeout(Duration::from_secs(10))).as_deref(),
            Some("Authentication timeout (10 seconds)")
        );
        let identity = Box::new(Identity::default());
        let required = vec!["a".to_owned(), "b".to_owned()];
        let roles = Refused::Roles { identity, required };
        assert_eq!(
            roles.to_line().and_then(read).as_deref(),
            Some("Insufficient roles (one of the roles a, b is required)")
        );
        for other in [
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32002,"message":"x","data":{"reason":"y"}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"x","data":{"reason":"y"}}}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Resource not found","data":{"uri":"file:///x"}}}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Request timeout"}}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"x","data":{"reason":"y"}}}"#,
        ] {
            assert_eq!(read(other.into()), None, "{other}");
        }
    }
}
