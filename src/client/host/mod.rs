//! The host's side: our stdin and stdout, and whether this machine was suspended.

mod input;
mod output;
mod watch;

pub(super) use input::{HostInput, Lines, MAX_QUEUED};
pub(super) use output::HostOutput;
pub(super) use watch::machine_slept;
