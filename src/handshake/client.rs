//! The client's side.

use super::answer::{Answer, Welcome, refusal};
use super::notice::{read_notice, wants_tls, wrong_transport};
use crate::transport::Connection;
use crate::transport::line::LineError;
use crate::transport::tls::Mismatch;
use crate::utils::secret::Secret;
use std::io;

/// Why the client did not get in.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// The server said no; trying again will not help.
    #[error("authentication failed: {0}")]
    ByServer(String),
    /// The other end does not take tokens; without one it may let us in.
    #[error("{0}")]
    NotAsked(String),
    /// The connection failed; trying again may help.
    #[error("connection lost during authentication: {0}")]
    Lost(#[from] LineError),
}

/// Sends the token, alone, and waits for the answer. Gives whether the server
/// takes `mcp-remote/resume`.
///
/// # Errors
/// Why it did not work.
pub async fn present(connection: &mut Connection, token: &Secret) -> Result<bool, Rejected> {
    let line = format!("{}\n", token.expose().trim()).into_bytes();
    connection.send(line).await.map_err(LineError::from)?;
    let Some(line) = connection.next().await? else {
        let hung_up = io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up");
        return Err(LineError::from(hung_up).into());
    };
    // No MCP server has been reached yet, so even a refusal with an id is the proxy's.
    if let Some((_, refusal)) = refusal(&line) {
        return Err(Rejected::ByServer(refusal));
    }
    if wants_tls(&line) {
        return Err(LineError::Io(Mismatch.into()).into());
    }
    if let Some(wrong) = wrong_transport(&line) {
        return Err(LineError::Io(wrong.into()).into());
    }
    if let Some(notice) = read_notice(&line) {
        return Err(LineError::from(io::Error::other(notice)).into());
    }
    match serde_json::from_slice::<Answer>(&line) {
        Ok(Answer {
            result:
                Some(Welcome {
                    authenticated: true,
                    resume,
                    ..
                }),
            ..
        }) => Ok(resume),
        Ok(Answer {
            error: Some(error), ..
        }) => Err(Rejected::NotAsked(format!(
            "the server has no secret and takes no token (its answer is '{}'); leave the token out",
            error.message
        ))),
        _ => Err(Rejected::NotAsked(
            "the server does not answer the token as mcp-remote does; is it one, on this port?"
                .to_owned(),
        )),
    }
}
