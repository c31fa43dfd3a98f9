//! Windows: job objects, console events. There are no Unix sockets, and files have no modes.

pub mod descriptors;
pub mod files;
pub mod inherited;
pub mod local;
pub mod orphans;
pub mod parent;
pub mod pipe;
pub mod process;
pub mod reaper;
pub mod signals;
pub mod standard;
pub mod supervisor;

/// The name of this machine in the network.
#[must_use]
pub fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "localhost".to_owned())
}
