//! Descendants of MCP servers: the job object of each ends them with it, see [`super::process`].

use std::convert::Infallible;
use std::io;

/// Nothing has to be adopted.
pub fn adopt() {}

/// Never completes: job objects need no watching.
///
/// # Errors
/// None.
pub async fn watch() -> io::Result<Infallible> {
    std::future::pending().await
}

/// Nothing is left to wait for.
pub fn finish() {}
