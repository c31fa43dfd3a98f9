//! Small named things, one per file, that know nothing of MCP.

pub mod backoff;
pub mod secret;
pub mod size;
