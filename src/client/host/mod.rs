//! The host's side: our own stdin and stdout, and whether the host and this machine are awake.

mod input;
mod output;
mod watch;

pub(super) use input::{HostInput, Lines, MAX_QUEUED};
pub(super) use output::HostOutput;
pub(super) use watch::machine_slept;
